// Lines in, Pusher's signed HTTP API out: a channel a user, and `everyone`. Sixteen kept-alive connections with a request
// under way each; a channel has one of them, so that its messages stay in order.
//   node pusher.js TEXT API SERVER APP KEY SECRET

import { createHash, createHmac } from 'node:crypto';
import http from 'node:http';

import { listen } from './ports.js';

const [text, api, port, app, key, secret] = process.argv.slice(2);
const connections = Array.from({ length: 16 }, () => new http.Agent({ keepAlive: true, maxSockets: 1 }));

function publish(channel, data, answer) {
  const body = JSON.stringify({ name: 'm', channel, data });
  const path = `/apps/${app}/events`;
  const query = `auth_key=${key}&auth_timestamp=${Math.floor(Date.now() / 1000)}&auth_version=1.0`
    + `&body_md5=${createHash('md5').update(body).digest('hex')}`;
  const signature = createHmac('sha256', secret).update(`POST\n${path}\n${query}`).digest('hex');
  const agent = connections[createHash('md5').update(channel).digest()[0] % connections.length];
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const target = { host: '127.0.0.1', port, method: 'POST', path: `${path}?${query}&auth_signature=${signature}`, agent, headers };
  http.request(target, (response) => {
    response.resume();
    response.on('end', () => answer(response.statusCode === 200));
  }).on('error', () => answer(false)).end(body);
}

listen(Number(text), Number(api), (line, answer) => publish(JSON.parse(line).uid, line, answer),
  (body, answer) => publish('everyone', body, answer));
