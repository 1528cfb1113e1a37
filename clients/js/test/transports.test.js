// Every way to the real server, and the change from one to another.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';

import { call, connectionsOf } from '../../../tests/lib/api.js';
import { startServer, tokenFor } from '../../../tests/lib/server.js';
import { until } from '../../../tests/lib/until.js';
import { faster, hurried, listen, numbers, push, pushAcked } from './lib/client.js';
import { startProxy } from './lib/proxy.js';

const WAYS = ['websocket', 'sse', 'longpoll'];

let server;
before(async () => { server = await startServer(); });
test.after(() => server.stop());

for (const way of WAYS) {
  test(`${way}: messages arrive in order and are acknowledged`, async (t) => {
    const uid = `order-${way}`;
    const { open, got, welcomes } = listen(t, server.public.address, { token: uid, transports: [way] });
    await open(way);
    assert.equal(welcomes[0].uid, uid);
    for (const n of numbers(1, 20)) await push(server, uid, n);
    await until('all came', () => got.length === 20);
    assert.equal(await pushAcked(server, uid, 21), 1);
    assert.deepEqual(got, numbers(1, 21));
  });

  test(`${way}: what is pushed while the connection is cut arrives once and in order`, async (t) => {
    const uid = `cut-${way}`;
    const proxy = await startProxy(t, server.public);
    const { open, got, gaps } = listen(t, proxy.address, { token: uid, transports: [way] });
    await open(way);
    await push(server, uid, 1, { wait: 'acked', timeout_ms: 10_000 });
    proxy.down = true;
    proxy.cut();
    await until('the server knows', async () => await connectionsOf(server, uid) === 0);
    for (const n of numbers(2, 9)) await push(server, uid, n);
    proxy.down = false;
    await until('the rest came', () => got.length >= 9, 30_000);
    assert.deepEqual(got, numbers(1, 9));
    assert.deepEqual(gaps, []);
  });

  test(`${way}: what came before the page is there when it comes`, async (t) => {
    const uid = `early-${way}`;
    await push(server, uid, 'early');
    const { got } = listen(t, server.public.address, { token: uid, transports: [way] });
    await until('it came', () => got.length > 0);
    assert.deepEqual(got, ['early']);
  });

  test(`${way}: nothing is acknowledged before its listener is done`, async (t) => {
    const uid = `slow-${way}`;
    let finish;
    const done = new Promise((resolve) => { finish = resolve; });
    const { open, got } = listen(t, server.public.address, { token: uid, transports: [way], hear: () => done });
    await open(way);
    const early = await push(server, uid, 1, { wait: 'acked', timeout_ms: 1_000 });
    // Between two long-polls it waits for the next.
    assert.deepEqual([early.written + early.held, early.acked], [1, 0]);
    await until('it is heard', () => got.length === 1);
    finish();
    await until('the next is acknowledged', async () => await pushAcked(server, uid, 2) === 1, 20_000);
  });

  test(`${way}: being kicked is final and says so`, async (t) => {
    const uid = `kick-${way}`;
    const { open, client, closes, states } = listen(t, server.public.address, { token: uid, transports: [way] });
    await open(way);
    await until('it is there', async () => await connectionsOf(server, uid) === 1);
    await call(server, 'DELETE', `/v1/users/${uid}/connections`);
    await until('it is closed', () => client.state === 'closed');
    assert.deepEqual(closes.map(({ code, reconnect }) => [code, reconnect]), [[3501, false]]);
    assert.equal(states.at(-1).code, 3501);
    client.connect();
    await open(way);
  });
}

test('WebSocket refused: SSE; that refused, too: long-poll; and back up once it is possible', async (t) => {
  const uid = 'ladder';
  const proxy = await startProxy(t, server.public);
  proxy.refused.add('websocket');
  const { open, got } = listen(t, proxy.address, { token: uid, environment: hurried });
  await open('sse');
  await push(server, uid, 1);
  proxy.refused.add('sse');
  proxy.cut();
  await open('longpoll');
  await push(server, uid, 2);
  await until('both came', () => got.length === 2);
  proxy.refused.clear();
  await open('websocket');
  await push(server, uid, 3);
  await until('all came', () => got.length === 3);
  assert.deepEqual(got, [1, 2, 3]);
  await until('one connection is left', async () => await connectionsOf(server, uid) === 1);
});

test('a WebSocket that is swallowed instead of refused falls back, too', async (t) => {
  const proxy = await startProxy(t, server.public);
  proxy.swallowed.add('websocket');
  const { open } = listen(t, proxy.address, { token: 'swallowed', openTimeout: 300 });
  await open('sse');
});

test('a cable that was pulled is noticed, and nothing is missed', async (t) => {
  const uid = 'cable';
  const proxy = await startProxy(t, server.public);
  const { open, got, client } = listen(t, proxy.address, { token: uid, environment: faster(20) });
  await open('websocket');
  await push(server, uid, 1, { wait: 'acked' });
  proxy.dark = true;
  await push(server, uid, 2);
  await until('it is noticed', () => client.state === 'reconnecting');
  proxy.dark = false;
  await until('it came', () => got.length === 2);
  assert.deepEqual(got, [1, 2]);
});

test('tokens: renewed in place before they expire, refused ones are final', async (t) => {
  const strict = await startServer({ identity: 'token', owner: t });
  let asked = 0;
  const token = () => {
    asked += 1;
    return tokenFor(strict, 'renewed', '3s');
  };
  const { open, welcomes, closes } = listen(t, strict.public.address, { token });
  await open('websocket');
  await until('two more tokens were asked for', () => asked >= 3, 20_000);
  assert.equal(welcomes.length, 1, 'it is the same connection');
  assert.deepEqual(closes, []);
  const refused = listen(t, strict.public.address, { token: 'nonsense' });
  await until('it is refused', () => refused.client.state === 'closed');
  assert.deepEqual(refused.closes.map(({ code, reconnect }) => [code, reconnect]), [[3500, false]]);
});

test('a token function that fails is asked again', async (t) => {
  let asked = 0;
  const token = () => {
    asked += 1;
    if (asked < 3) throw new Error('not now');
    return 'patient';
  };
  const { open, states } = listen(t, server.public.address, { token, environment: faster(10) });
  await open('websocket');
  assert.match(states.find(({ state }) => state === 'reconnecting').reason, /not now/);
});

test('a token for somebody else ends what was for the one before', async (t) => {
  const strict = await startServer({ identity: 'token', owner: t });
  let who = 'first';
  const { open, client, got } = listen(t, strict.public.address, { token: () => tokenFor(strict, who, '3s') });
  await open('websocket');
  assert.equal(client.uid, 'first');
  who = 'second';
  await until('it is the other one', () => client.uid === 'second', 20_000);
  await until('only the other one is there', async () => await connectionsOf(strict, 'first') === 0);
  await push(strict, 'second', 'hello');
  await until('it came', () => got.length === 1);
  assert.deepEqual(got, ['hello']);
});

test('a stopping server says when to come back; the next one says that its memory is another', async (t) => {
  const first = await startServer({ config: '[limits]\ndrain = "3s"\n' });
  const uid = 'restart';
  const { open, got, gaps, closes, states } = listen(t, first.public.address, { token: uid });
  await open('websocket');
  await push(first, uid, 1, { wait: 'acked' });
  await first.stop();
  await until('it was told', () => closes.length === 1);
  assert.deepEqual([closes[0].code, closes[0].reconnect], [3001, true]);
  const told = Number(/come back in (\d+) ms/.exec(closes[0].reason)[1]);
  assert.equal(states.find(({ state }) => state === 'reconnecting').retryInMs, told);
  const second = await startServer({ ports: { public: first.public.address }, owner: t });
  await until('it is back', async () => await connectionsOf(second, uid) === 1, 40_000);
  await push(second, uid, 2);
  await until('it came', () => got.length === 2);
  assert.deepEqual(got, [1, 2]);
  assert.equal(gaps.length, 1);
  assert.equal(gaps[0].uid, uid);
});

test('a broadcast arrives without a number', async (t) => {
  const { open, client } = listen(t, server.public.address, { token: 'crowd' });
  const heard = [];
  client.on('message', (message) => heard.push(message));
  await open('websocket');
  await call(server, 'POST', '/v1/broadcast', { data: 'all' });
  await until('it came', () => heard.length === 1);
  assert.equal(heard[0].data, 'all');
  assert.equal('seq' in heard[0], false);
});

test('a listener that fails disturbs nobody', async (t) => {
  const reported = [];
  t.mock.method(console, 'error', (error) => reported.push(error));
  const { open, client, got } = listen(t, server.public.address, { token: 'fails', hear: () => { throw new Error('mine'); } });
  const stop = client.on('message', () => got.push('second'));
  await open('websocket');
  assert.equal((await push(server, 'fails', 1, { wait: 'acked' })).acked, 1);
  assert.deepEqual(got, [1, 'second']);
  assert.equal(reported.length, 1);
  stop();
  await push(server, 'fails', 2, { wait: 'acked' });
  assert.deepEqual(got, [1, 'second', 2]);
});

test('a server that is not there is asked again after 0.5 s to 20 s, by chance', async (t) => {
  for (const [chance, expected] of [[0, (ms) => ms === 500], [0.999, (ms, n) => ms > Math.min(19_000, 400 * 2 ** n)]]) {
    const { states } = listen(t, '127.0.0.1:1', {
      token: 'nobody', environment: { random: () => chance, setTimeout: (action, ms) => setTimeout(action, ms / 200) },
    });
    const waits = () => states.filter(({ state }) => state === 'reconnecting').map(({ retryInMs }) => retryInMs);
    await until('ten attempts', () => waits().length >= 10, 30_000);
    waits().forEach((ms, n) => {
      assert.ok(ms >= 500 && ms <= 20_000, `${ms}`);
      assert.ok(expected(ms, n), `attempt ${n} after ${ms} ms with chance ${chance}`);
    });
  }
});

test('without a token it waits until the backend says who it is', async (t) => {
  const { open, client, welcomes, got } = listen(t, server.public.address);
  await open('websocket');
  assert.equal(client.uid, null);
  const { status } = await call(server, 'POST', `/v1/connections/${client.connectionId}/bind`, { uid: 'bound' });
  assert.equal(status, 200);
  await until('it is told', () => client.uid === 'bound');
  await push(server, 'bound', 'hello');
  await until('it came', () => got.length === 1);
  assert.deepEqual(welcomes.map(({ uid }) => uid), [null, 'bound']);
});

test('revoked tokens: the page is closed, and comes back only with a newer one', async (t) => {
  const strict = await startServer({ identity: 'token', owner: t });
  const token = await tokenFor(strict, 'revoked');
  const fixed = listen(t, strict.public.address, { token });
  await fixed.open('websocket');
  await call(strict, 'POST', '/v1/users/revoked/revoke', {});
  await until('it is closed for good', () => fixed.client.state === 'closed', 2_000);
  assert.equal(fixed.closes[0].reconnect, false);
});
