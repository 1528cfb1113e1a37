// The same with Socket.IO: a room a user, WebSocket only. A page says its uid as it connects.
//   node socketio.js PUBLIC TEXT API

import http from 'node:http';

import { Server } from 'socket.io';

import { listen } from './ports.js';

const [port, text, api] = process.argv.slice(2).map(Number);
const web = http.createServer();
const server = new Server(web, { transports: ['websocket'], serveClient: false });
const { rooms } = server.of('/').adapter;

// What its documentation advises for memory: the request of the handshake is not kept.
server.engine.on('connection', (raw) => { raw.request = null; });
server.on('connection', (socket) => socket.join(socket.handshake.auth.uid));
web.listen(port, '127.0.0.1');

listen(text, api, (line, answer) => {
  const message = JSON.parse(line);
  const there = rooms.has(message.uid);
  if (there) server.to(message.uid).emit('m', message);
  answer(there);
}, (body, answer) => {
  server.emit('m', JSON.parse(body));
  answer(true);
});
