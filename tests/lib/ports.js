// Ports of this machine.

import { randomInt } from 'node:crypto';
import net from 'node:net';

/**
 * A port that nobody listens on now, for programs that take no 0. It lies below those that the system gives out by itself
 * (from 32768 on Linux), so that no connection made meanwhile takes it before the program does.
 */
export function freePort() {
  return new Promise((resolve, reject) => {
    const probe = net.createServer();
    probe.on('error', (error) => {
      if (error.code !== 'EADDRINUSE') return reject(error);
      probe.listen(randomInt(10_000, 32_000), '127.0.0.1');
    });
    probe.listen(randomInt(10_000, 32_000), '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

/** Whether somebody listens on a port. */
export function reachable(port) {
  return new Promise((resolve) => {
    const socket = net.connect({ host: '127.0.0.1', port });
    socket.once('connect', () => { socket.destroy(); resolve(true); });
    socket.once('error', () => resolve(false));
  });
}
