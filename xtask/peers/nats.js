// Lines in, NATS out: a subject a user, and `everyone`. With `verbose` the server answers each publish with +OK, in order.
//   node nats.js TEXT API SERVER

import net from 'node:net';

import { listen } from './ports.js';

const [text, api, port] = process.argv.slice(2).map(Number);
const server = net.connect({ host: '127.0.0.1', port, noDelay: true });
// The first +OK is for the CONNECT.
const waiting = [() => listen(text, api, (line, answer) => publish(JSON.parse(line).uid, line, answer),
  (body, answer) => publish('everyone', body, answer))];

function publish(subject, message, answer) {
  waiting.push(answer);
  server.write(`PUB ${subject} ${Buffer.byteLength(message)}\r\n${message}\r\n`);
}

let rest = '';
server.setEncoding('utf8');
server.on('data', (data) => {
  const lines = (rest + data).split('\r\n');
  rest = lines.pop();
  for (const line of lines) {
    if (line === 'PING') server.write('PONG\r\n');
    else if (line === '+OK') waiting.shift()(true);
    else if (line.startsWith('-ERR')) waiting.shift()(false);
  }
});
server.on('close', () => process.exit(1));
server.write('CONNECT {"verbose":true,"pedantic":false}\r\n');
