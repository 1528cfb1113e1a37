// Connections cut at random while messages come, on all three ways: exactly once and in order, whatever happens.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { startServer } from '../../../tests/lib/server.js';
import { eachOf, until } from '../../../tests/lib/until.js';
import { listen, numbers, push } from './lib/client.js';
import { startProxy } from './lib/proxy.js';

const CLIENTS_PER_WAY = 8;
const MESSAGES = 150;
const CUT_EVERY_MS = 200;

const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 32));

/** mulberry32 */
function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

test(`cut at random: every message once and in order (SEED=${SEED})`, async (t) => {
  const chance = random(SEED);
  const server = await startServer({ owner: t, config: '[mailbox]\nmessages = 1000\n' });
  const proxies = {};
  const clients = [];
  for (const way of ['websocket', 'sse', 'longpoll']) {
    proxies[way] = await startProxy(t, server.public);
    for (let n = 0; n < CLIENTS_PER_WAY; n += 1) {
      const uid = `${way}-${n}`;
      const client = listen(t, proxies[way].address, {
        token: uid,
        transports: [way],
        environment: { random: chance },
        // Some listeners take their time, so that acks and cuts meet.
        hear: (message) => (message.seq % 7 === 0 ? new Promise((resolve) => { setTimeout(resolve, 30); }) : undefined),
      });
      clients.push({ uid, ...client });
    }
  }
  for (const { open } of clients) await open();
  let cuts = 0;
  const cutting = setInterval(() => {
    const way = ['websocket', 'sse', 'longpoll'][Math.floor(chance() * 3)];
    const proxy = proxies[way];
    cuts += proxy.cut();
    proxy.down = chance() < 0.5;
    setTimeout(() => { proxy.down = false; }, 100);
  }, CUT_EVERY_MS);
  try {
    await eachOf(clients, clients.length, async ({ uid }) => {
      for (const n of numbers(1, MESSAGES)) await push(server, uid, n);
    });
    await until('some more cuts', () => cuts > 50, 60_000);
  } finally {
    clearInterval(cutting);
  }
  for (const proxy of Object.values(proxies)) proxy.down = false;
  for (const { uid, got, gaps } of clients) {
    await until(`${uid} has all (it has ${got.length})`, () => got.length >= MESSAGES, 60_000);
    assert.deepEqual(got, numbers(1, MESSAGES), uid);
    assert.deepEqual(gaps, [], uid);
  }
});
