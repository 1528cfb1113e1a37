// Bytes in, bytes out, for what no client library would send.

import net from 'node:net';

import { within } from './until.js';

/**
 * Sends bytes and collects everything until the server closes: `{ text, how }`.
 *
 * `end` half-closes after sending.
 */
export async function exchange(address, bytes, { end = false, ms = 15_000 } = {}) {
  const socket = net.connect({ host: address.host, port: address.port, allowHalfOpen: true });
  const chunks = [];
  const over = new Promise((resolve) => {
    socket.once('end', () => resolve('end'));
    socket.once('error', (error) => resolve(error.code));
  });
  socket.on('error', () => {});
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.write(bytes);
  if (end) socket.end();
  try {
    const how = await within('the server closes', over, ms);
    return { text: Buffer.concat(chunks).toString('latin1'), how };
  } finally {
    socket.destroy();
  }
}

/** The number in an HTTP status line, or null when there is none. */
export function statusOf(text) {
  return Number(text.match(/^HTTP\/1\.[01] (\d{3})/)?.[1] ?? 0) || null;
}
