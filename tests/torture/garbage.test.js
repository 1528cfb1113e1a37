// Garbage on every port: memory stays bounded, nobody else is disturbed, every refusal is counted by its reason.
//
// DOORBELL_TORTURE=full makes it a minute and 10,000 silent connections.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { test } from 'node:test';

import { call, refused, refusedByReason } from '../lib/api.js';
import { closePayload, CLOSE, frame, TEXT } from '../lib/frames.js';
import { Page, upgradeRequest } from '../lib/page.js';
import { exchange } from '../lib/raw.js';
import { residentBytes, startServer } from '../lib/server.js';
import { TextPort } from '../lib/text-port.js';
import { until, within } from '../lib/until.js';

const FULL = process.env.DOORBELL_TORTURE === 'full';
const FOR_MS = FULL ? 60_000 : 6_000;
const SILENT = FULL ? 10_000 : 2_000;
// What the silent connections and 40 heads in flight may cost, generously; a leak of the million-byte heads
// alone would pass it within a second.
const MEMORY_BOUND_BYTES = 96 * 1024 * 1024;
const SLOWEST_PUSH_MS = 2_000;

const TLS_HELLO = Buffer.concat([Buffer.from('16030100c2010000be0303', 'hex'), randomBytes(189)]);
const REQUEST = 'GET /v1/push HTTP/1.1\r\nHost: x\r\n';
const MILLION = Buffer.concat([Buffer.from(`${REQUEST}X: `), Buffer.alloc(1_000_000, 'x')]);

// How each kind is sent; `counted` says that each one must raise a refusal.
const KINDS = [
  { name: 'random bytes', port: 'public', bytes: () => randomBytes(1 + Math.random() * 4000), counted: false },
  { name: 'random lines', port: 'public', bytes: () => Buffer.concat([randomBytes(100), Buffer.from('\r\n\r\n')]), counted: true },
  { name: 'half a request', port: 'public', bytes: () => upgradeRequest({ public: { address: 'x' } }).slice(0, 60), counted: false },
  { name: 'a TLS hello', port: 'public', bytes: () => TLS_HELLO, counted: true },
  { name: 'a million-byte head', port: 'public', bytes: () => MILLION, counted: true },
  { name: 'no key', port: 'public', bytes: () => `GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n`, counted: true },
  { name: 'random bytes', port: 'text', bytes: () => randomBytes(1 + Math.random() * 4000), counted: false },
  { name: 'HTTP', port: 'text', bytes: () => `POST / HTTP/1.1\r\nHost: x\r\n\r\n{"uid":"bystander"}\n`, counted: true },
  { name: 'a TLS hello', port: 'text', bytes: () => TLS_HELLO, counted: false },
  { name: 'an endless line', port: 'text', bytes: () => Buffer.alloc(2_000_000, 'x'), counted: true },
  { name: 'random bytes', port: 'api', bytes: () => randomBytes(1 + Math.random() * 4000), counted: false },
  { name: 'a TLS hello', port: 'api', bytes: () => TLS_HELLO, counted: true },
  { name: 'a million-byte head', port: 'api', bytes: () => MILLION, counted: true },
  { name: 'no key', port: 'api', bytes: () => `POST /v1/push HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}`, counted: true },
];

/** Connects and says nothing. */
function openSilent(address) {
  const socket = net.connect({ host: address.host, port: address.port }).resume();
  socket.on('error', () => {});
  return { socket, closed: new Promise((resolve) => socket.once('close', resolve)) };
}

/** Pushes to a page all the while; answers how many arrived and the slowest round trip. */
async function bystand(server, page, running) {
  const port = new TextPort(server.text);
  let count = 0;
  let slowest = 0;
  while (running()) {
    const began = performance.now();
    assert.equal(await port.ask(`{"uid":"bystander","n":${count}}`), 'ok\n');
    assert.equal(await page.next(), `{"uid":"bystander","n":${count}}`);
    slowest = Math.max(slowest, performance.now() - began);
    count += 1;
  }
  port.close();
  return { count, slowest };
}

test('garbage on every port disturbs nobody, holds no memory, and is counted', { timeout: FOR_MS + 120_000 }, async (t) => {
  const server = await startServer({ config: '[limits]\nhead_timeout = "3s"\n', owner: t });
  const page = await Page.as(server, 'bystander');
  const memoryBefore = await residentBytes(server.pid);
  const refusedBefore = await refused(server);

  const silent = Array.from({ length: SILENT }, (_, n) => openSilent(n % 10 === 0 ? server.api : server.public));
  t.after(() => silent.forEach(({ socket }) => socket.destroy()));
  const deadline = performance.now() + FOR_MS;
  const running = () => performance.now() < deadline;

  let sent = 0;
  let mustBeCounted = 0;
  const throwGarbage = async (first) => {
    for (let n = first; running(); n += 1) {
      const kind = KINDS[n % KINDS.length];
      await exchange(server[kind.port], kind.bytes(), { end: !kind.counted });
      sent += 1;
      if (kind.counted) mustBeCounted += 1;
    }
  };
  let most = 0;
  const watchMemory = async () => {
    await until('the time is over', async () => {
      most = Math.max(most, await residentBytes(server.pid));
      return !running();
    }, FOR_MS + 30_000);
  };
  const [bystander] = await Promise.all([
    bystand(server, page, running), watchMemory(), ...Array.from({ length: 40 }, (_, lane) => throwGarbage(lane)),
  ]);
  await within('the silent connections are closed', Promise.all(silent.map(({ closed }) => closed)), 30_000);

  const reasons = await refusedByReason(server);
  t.diagnostic(`${sent} pieces of garbage, ${SILENT} silent connections; a bystander heard ${bystander.count} pushes, `
    + `the slowest after ${bystander.slowest.toFixed(0)} ms; memory ${memoryBefore >> 20} -> at most ${most >> 20} MiB`);
  t.diagnostic(`refusals: ${JSON.stringify(reasons)}`);
  assert.ok(bystander.count > 20);
  assert.ok(bystander.slowest < SLOWEST_PUSH_MS, `a push took ${bystander.slowest} ms`);
  assert.ok(most - memoryBefore < MEMORY_BOUND_BYTES, `memory grew by ${(most - memoryBefore) >> 20} MiB`);
  const counted = await refused(server) - refusedBefore;
  assert.ok(counted >= mustBeCounted + SILENT, `${counted} counted of ${mustBeCounted} + ${SILENT}`);
  assert.ok(Object.keys(reasons).every((reason) => /^(public|text|api) [a-z_]+$/.test(reason)), Object.keys(reasons).join());
  assert.equal((await call(server, 'GET', '/healthz')).status, 200);
});

test('every kind of garbage alone is refused under a reason of its own listener', async (t) => {
  const server = await startServer({ owner: t });
  for (const kind of KINDS.filter(({ counted }) => counted)) {
    const before = await refusedByReason(server);
    await exchange(server[kind.port], kind.bytes());
    const after = await refusedByReason(server);
    const raised = Object.keys(after).filter((reason) => after[reason] !== (before[reason] ?? 0));
    assert.equal(raised.length, 1, `${kind.name} on ${kind.port}: ${raised}`);
    assert.equal(raised[0].split(' ')[0], kind.port);
    assert.equal(after[raised[0]] - (before[raised[0]] ?? 0), 1, `${kind.name} on ${kind.port}`);
  }
});

test('random frames after a real handshake end only their own connection', async (t) => {
  const server = await startServer({ owner: t });
  const page = await Page.as(server, 'bystander');
  for (let round = 0; round < 200; round += 1) {
    const rogue = await Page.connect(server);
    rogue.send(`rogue-${round}`);
    rogue.socket.write(randomBytes(1 + Math.random() * 2000));
    rogue.socket.write(Buffer.concat([frame(TEXT, randomBytes(50)), frame(CLOSE, closePayload(1000))]));
    rogue.socket.end();
    await rogue.closed;
  }
  const port = new TextPort(server.text);
  t.after(() => port.close());
  assert.equal(await port.ask('{"uid":"bystander"}'), 'ok\n');
  assert.equal(await page.next(), '{"uid":"bystander"}');
});
