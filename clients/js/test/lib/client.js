// The client under Node.js, with what happened to it written down.

import WebSocket from 'ws';

import { Doorbell } from '../../dist/esm/index.js';
import { call, connectionsOf } from '../../../../tests/lib/api.js';
import { until } from '../../../../tests/lib/until.js';

/** Starts a client; it is closed with the test. `got` collects the messages' data. */
export function listen(t, address, { environment = {}, hear = () => {}, ...options } = {}) {
  const client = new Doorbell({ url: `http://${address}`, environment: { WebSocket, ...environment }, ...options });
  const heard = { client, got: [], welcomes: [], states: [], gaps: [], closes: [] };
  client.on('message', (message) => {
    heard.got.push(message.data);
    return hear(message);
  });
  client.on('welcome', (welcome) => heard.welcomes.push(welcome));
  client.on('state', (state) => heard.states.push(state));
  client.on('gap', (gap) => heard.gaps.push(gap));
  client.on('close', (close) => heard.closes.push(close));
  t.after(() => client.close());
  heard.open = (transport) => until(`${transport ?? 'a transport'} is open`, () => (
    client.state === 'open' && (!transport || client.transport === transport)
  ), 20_000);
  return heard;
}

/** Surroundings in which time passes `factor` times as fast. */
export function faster(factor) {
  const start = Date.now();
  return {
    now: () => start + (Date.now() - start) * factor,
    setTimeout: (action, ms) => setTimeout(action, ms / factor),
    clearTimeout,
  };
}

/** Pushes, and answers what became of it. */
export async function push(server, uid, data, more = {}) {
  const { status, body } = await call(server, 'POST', '/v1/push', { uid, data, ...more });
  if (status !== 200) throw new Error(`push: ${status} ${JSON.stringify(body)}`);
  return body;
}

/** Pushes while the uid is there, which one that polls is not between two polls, and waits until it has acknowledged. */
export async function pushAcked(server, uid, data) {
  await until(`${uid} is there`, async () => await connectionsOf(server, uid) > 0);
  return (await push(server, uid, data, { wait: 'acked', timeout_ms: 10_000 })).acked;
}

/** Surroundings in which what the client does once a minute or less happens every second. */
export const hurried = { setTimeout: (action, ms) => setTimeout(action, ms < 60_000 ? ms : ms / 60) };

/** `from` to `to`, both included. */
export const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index);
