// A push server as one writes it with `ws`: a Map of who is there. A page's first message is its uid.
//   node ws.js PUBLIC TEXT API

import { WebSocketServer } from 'ws';

import { listen } from './ports.js';

const [port, text, api] = process.argv.slice(2).map(Number);
const users = new Map();
const server = new WebSocketServer({ host: '127.0.0.1', port });

server.on('connection', (ws) => {
  ws.once('message', (first) => {
    const uid = String(first);
    users.set(uid, ws);
    ws.on('close', () => {
      if (users.get(uid) === ws) users.delete(uid);
    });
  });
});

listen(text, api, (line, answer) => {
  const ws = users.get(JSON.parse(line).uid);
  ws?.send(line);
  answer(ws !== undefined);
}, (body, answer) => {
  for (const ws of server.clients) ws.send(body);
  answer(true);
});
