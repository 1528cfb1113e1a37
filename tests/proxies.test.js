// Pages behind proxies: the nginx of examples/nginx, the Caddy of examples/caddy, and one that speaks HTTP/1.0 and no more.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import tls from 'node:tls';

import { call } from './lib/api.js';
import { startCaddy } from './lib/caddy.js';
import { PING } from './lib/frames.js';
import { startNginx } from './lib/nginx.js';
import { startOldProxy } from './lib/old-proxy.js';
import { Page, upgradeRequest } from './lib/page.js';
import { startServer } from './lib/server.js';
import { EventStream, poll } from './lib/streams.js';
import { until, within } from './lib/until.js';

/** A server that breaks the silence four times a second, behind a proxy that cuts after two: a busy machine may be late. */
const IMPATIENT = [['proxy_read_timeout 75s;', 'proxy_read_timeout 2s;']];
const config = '[limits]\nping_interval = "250ms"\n[public]\ntrusted_proxies = ["127.0.0.1"]\n';
/** Breaks of the silence after which the proxy would have cut: each comes after 200 ms at the earliest. */
const LONG = 14;

const push = async (server, uid, data) => {
  const { status, body } = await call(server, 'POST', '/v1/push', { uid, data });
  assert.equal(status, 200, JSON.stringify(body));
  return body;
};
const sayHello = (uid, resume) => JSON.stringify({ type: 'hello', token: uid, resume });
const later = async (page) => JSON.parse(await page.next());

/** Waits out a long silence on pages and streams of which none may be cut off. */
function silence({ pages = [], streams = [] }) {
  const breaks = () => [
    ...pages.map(({ frames }) => frames.filter(({ opcode }) => opcode === PING).length),
    ...streams.map(({ comments }) => comments),
  ];
  return until('a long silence', () => {
    assert.ok(pages.every(({ socket }) => !socket.destroyed), `a page was cut off; silence was broken ${breaks()} times`);
    assert.ok(streams.every(({ response }) => !response.destroyed), `a stream was cut off; silence was broken ${breaks()} times`);
    return breaks().every((count) => count >= LONG);
  }, 30_000);
}

/** A doorbell.v1 page that came through a proxy's TLS; `welcome` is what it was told first. */
async function pageThrough(proxy, server, uid, resume) {
  const socket = tls.connect({ host: proxy.host, port: proxy.port, ca: proxy.ca, ALPNProtocols: ['http/1.1'] });
  const page = new Page(socket);
  const headers = { Host: proxy.address, 'Sec-WebSocket-Protocol': 'doorbell.v1', Origin: `https://${proxy.address}` };
  socket.write(upgradeRequest(server, { headers }));
  assert.match(await within('the handshake is answered', page.opened), /^HTTP\/1\.1 101 /);
  page.send(sayHello(uid, resume));
  page.welcome = await later(page);
  return page;
}

test('a WebSocket through nginx: pushes, a long silence, the address of the client', async (t) => {
  const server = await startServer({ owner: t, config });
  const nginx = await startNginx(server, t, { changes: IMPATIENT });
  const page = await pageThrough(nginx, server, 'u');
  t.after(() => page.socket.destroy());
  assert.equal(page.welcome.uid, 'u');
  await push(server, 'u', 1);
  assert.equal((await later(page)).data, 1);
  await silence({ pages: [page] });
  assert.equal((await push(server, 'u', 2)).written, 1);
  assert.equal((await later(page)).data, 2);
  const { body } = await call(server, 'GET', '/v1/users/u');
  assert.equal(body.connections[0].address, '127.0.0.1');
});

test('server-sent events through nginx: at once, with its buffering on or off, and over a long silence', async (t) => {
  const server = await startServer({ owner: t, config });
  const buffering = [...IMPATIENT, ['proxy_buffering off;', 'proxy_buffering on;']];
  const through = async (changes, uid) => {
    const nginx = await startNginx(server, t, { changes });
    const stream = await EventStream.open(nginx, uid);
    await push(server, uid, 'one');
    assert.equal((await stream.next()).data.data, 'one');
    await silence({ streams: [stream] });
    await push(server, uid, 'two');
    assert.equal((await stream.next()).data.data, 'two');
    stream.close();
    await until('the server knows that it has gone', async () => !(await call(server, 'GET', `/v1/users/${uid}`)).body.online);
  };
  await Promise.all([through(IMPATIENT, 'off'), through(buffering, 'on')]);
});

test('long-polls through nginx: answered by a message, or empty when their time is over', async (t) => {
  const server = await startServer({ owner: t, config });
  const nginx = await startNginx(server, t);
  const empty = await poll(nginx, 'u', { wait: 1 });
  assert.deepEqual(empty.messages, []);
  const waiting = poll(nginx, 'u', { since: empty.next });
  await until('the poll waits', async () => (await call(server, 'GET', '/v1/users/u')).body.online);
  await push(server, 'u', 'now');
  const answer = await waiting;
  assert.deepEqual(answer.messages.map(({ data }) => data), ['now']);
  assert.equal(answer.recovered, true);
});

/** Pages of each kind lose the proxy, which is away while they are pushed to, and come back through it. */
async function missNothing(proxy, server, t) {
  const page = await pageThrough(proxy, server, 'socket');
  const stream = await EventStream.open(proxy, 'stream');
  const polled = await poll(proxy, 'poll', { wait: 0 });
  const uids = ['socket', 'stream', 'poll'];
  for (const uid of uids) await push(server, uid, 'before');
  const last = await later(page);
  const before = await stream.next();
  const first = await poll(proxy, 'poll', { since: polled.next });
  assert.deepEqual([last.data, before.data.data, first.messages[0].data], ['before', 'before', 'before']);

  const restarted = proxy.restart();
  await within('the page is cut off', page.closed);
  await within('the stream is cut off', stream.ended);
  for (const uid of uids) for (const data of ['while 1', 'while 2']) await push(server, uid, data);
  await restarted;

  const again = await pageThrough(proxy, server, 'socket', { epoch: page.welcome.epoch, seq: last.seq });
  t.after(() => again.socket.destroy());
  const resumed = await EventStream.open(proxy, 'stream', before.id);
  t.after(() => resumed.close());
  const missed = await poll(proxy, 'poll', { since: first.next });
  for (const uid of uids.slice(0, 2)) await push(server, uid, 'after');
  assert.equal(again.welcome.recovered, true);
  assert.equal(resumed.welcome.data.recovered, true);
  assert.equal(missed.recovered, true);
  const heard = {
    socket: [await later(again), await later(again), await later(again)].map(({ data }) => data),
    stream: [await resumed.next(), await resumed.next(), await resumed.next()].map(({ data }) => data.data),
    poll: missed.messages.map(({ data }) => data),
  };
  assert.deepEqual(heard, {
    socket: ['while 1', 'while 2', 'after'],
    stream: ['while 1', 'while 2', 'after'],
    poll: ['while 1', 'while 2'],
  });
}

test('nobody misses anything while nginx restarts', async (t) => {
  const server = await startServer({ owner: t, config });
  await missNothing(await startNginx(server, t), server, t);
});

test('the three transports through Caddy: at once, over a long silence, with the address of the client', async (t) => {
  const server = await startServer({ owner: t, config });
  const caddy = await startCaddy(server, t);
  const page = await pageThrough(caddy, server, 'socket');
  t.after(() => page.socket.destroy());
  const stream = await EventStream.open(caddy, 'stream');
  const empty = await poll(caddy, 'poll', { wait: 1 });
  assert.deepEqual(empty.messages, []);
  const waiting = poll(caddy, 'poll', { since: empty.next });
  await until('the poll waits', async () => (await call(server, 'GET', '/v1/users/poll')).body.online);
  for (const uid of ['socket', 'stream', 'poll']) assert.equal((await push(server, uid, 'one')).written, 1, uid);
  assert.equal((await later(page)).data, 'one');
  assert.equal((await stream.next()).data.data, 'one');
  assert.deepEqual((await waiting).messages.map(({ data }) => data), ['one']);

  await silence({ pages: [page], streams: [stream] });
  for (const uid of ['socket', 'stream']) await push(server, uid, 'two');
  assert.equal((await later(page)).data, 'two');
  assert.equal((await stream.next()).data.data, 'two');
  const { body } = await call(server, 'GET', '/v1/users/socket');
  assert.equal(body.connections[0].address, '127.0.0.1');
  stream.close();
  await until('the server knows that it has gone', async () => !(await call(server, 'GET', '/v1/users/stream')).body.online);
});

test('nobody misses anything while Caddy restarts', async (t) => {
  const server = await startServer({ owner: t, config });
  await missNothing(await startCaddy(server, t), server, t);
});

test('event streams and long-polls pass a proxy that speaks HTTP/1.0 and no more', async (t) => {
  const server = await startServer({ owner: t, config });
  const proxy = await startOldProxy(server, t);
  const stream = await EventStream.open(proxy, 'u');
  assert.equal(stream.response.httpVersion, '1.0');
  assert.equal(stream.response.headers['transfer-encoding'], undefined);
  await push(server, 'u', 'one');
  const one = await stream.next();
  assert.equal(one.data.data, 'one');
  await silence({ streams: [stream] });
  stream.close();
  await until('the server knows that it has gone', async () => !(await call(server, 'GET', '/v1/users/u')).body.online);
  await push(server, 'u', 'missed');
  const again = await EventStream.open(proxy, 'u', one.id);
  assert.equal(again.welcome.data.recovered, true);
  assert.equal((await again.next()).data.data, 'missed');
  again.close();

  const place = await poll(proxy, 'p', { wait: 0 });
  const waiting = poll(proxy, 'p', { since: place.next });
  await until('the poll waits', async () => (await call(server, 'GET', '/v1/users/p')).body.online);
  await push(server, 'p', 'polled');
  const answer = await waiting;
  assert.deepEqual(answer.messages.map(({ data }) => data), ['polled']);
  await push(server, 'p', 'between');
  assert.deepEqual((await poll(proxy, 'p', { since: answer.next })).messages.map(({ data }) => data), ['between']);
});
