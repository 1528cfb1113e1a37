// Sixteen holes that a push server of this kind can have, each closed here. Every name says what this server does.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { call, connectionsOf, dropped, refused } from './lib/api.js';
import { launch } from './lib/browser.js';
import { closePayload, CLOSE, frame, TEXT } from './lib/frames.js';
import { Page, upgradeRequest } from './lib/page.js';
import { exchange, statusOf } from './lib/raw.js';
import { doorbell, residentBytes, runBinary, startServer, tokenFor } from './lib/server.js';
import { pushLine, pushTo, TextPort } from './lib/text-port.js';
import { startTlsProxy } from './lib/tls-proxy.js';
import { until } from './lib/until.js';

const MIB = 1024 * 1024;

async function dialledStatus(server, headers) {
  const page = Page.dial(server, { headers });
  await page.opened.catch(() => {});
  page.socket.destroy();
  return statusOf(page.head ?? '');
}

test('hole 1: a uid is proved by a token, and claiming one takes nothing from its owner', async (t) => {
  const server = await startServer({ identity: 'token', owner: t });
  const owner = await Page.as(server, await tokenFor(server, 'uid1'));
  const attacker = await Page.connect(server);
  attacker.send('uid1');
  assert.equal(await attacker.closeCodeWithin(), 3500);
  const forged = (await tokenFor(server, 'uid2')).split('.');
  forged[1] = Buffer.from(JSON.stringify({ sub: 'uid1', exp: 9_999_999_999 })).toString('base64url');
  for (const token of [forged.join('.'), `${Buffer.from('{"alg":"none"}').toString('base64url')}.${forged[1]}.`]) {
    const forger = await Page.connect(server);
    forger.send(token);
    assert.equal(await forger.closeCodeWithin(), 3500);
  }
  assert.equal(await pushTo(server, 'uid1', { code: 'SECRET' }), 'ok\n');
  assert.equal(await owner.next(), '{"uid":"uid1","code":"SECRET"}');
  assert.deepEqual(attacker.messages, []);

  // Where identity is open by choice, a second claim adds a receiver and removes none.
  const open = await startServer({ owner: t });
  const first = await Page.as(open, 'uid1');
  await Page.as(open, 'uid1');
  assert.equal(await pushTo(open, 'uid1'), 'ok\n');
  assert.equal(await first.next(), '{"uid":"uid1","percent":"88%"}');
});

test('hole 2: whoever leaves takes only its own connection along', async (t) => {
  const server = await startServer({ owner: t });
  const stays = await Page.as(server, 'uid1');
  const passerBy = await Page.as(server, 'uid1');
  await passerBy.close();
  await until('one connection is left', async () => await connectionsOf(server, 'uid1') === 1);
  assert.equal(await pushTo(server, 'uid1'), 'ok\n');
  assert.equal(await stays.next(), '{"uid":"uid1","percent":"88%"}');
});

test('hole 3: nobody can be the empty uid, and a line without a uid reaches nobody', async (t) => {
  const server = await startServer({ owner: t });
  const listener = await Page.connect(server);
  listener.send('');
  assert.equal(await listener.closeCodeWithin(), 3500);
  const page = await Page.as(server, 'uid1');
  for (const line of ['hello', '', '{}', '{"uuid":"uid1"}', '{"uid":""}', '{"uid":null}', '{"uid":"uid1"']) {
    assert.equal(await pushLine(server, line), 'fail\n', line);
  }
  await page.settled();
  assert.deepEqual([...page.messages, ...listener.messages], []);
});

test('hole 4: pushing is for those inside: loopback only, or a key; never a web page', async (t) => {
  const server = await startServer({ owner: t });
  assert.deepEqual([server.text.host, server.api.host], ['127.0.0.1', '127.0.0.1']);
  for (const port of ['text', 'public']) {
    const flags = { public: '127.0.0.1:0', text: '127.0.0.1:0', api: '127.0.0.1:0', [port]: '0.0.0.0:0' };
    const refusal = await runBinary(
      'serve', '--identity', 'open', '--data-dir', server.data,
      ...Object.entries(flags).flatMap(([name, address]) => [`--${name}`, address]),
    );
    assert.equal(refusal.code, 64, `${port} on all interfaces: ${refusal.stderr}`);
    assert.match(refusal.stderr, port === 'text' ? /key/ : /open/);
  }

  const page = await Page.as(server, 'uid1');
  const line = '{"uid":"uid1","from":"a web page"}\n';
  const post = `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: ${line.length}\r\n\r\n${line}`;
  assert.equal((await exchange(server.text, post)).text, 'fail\n');
  const browser = await launch();
  t.after(() => browser.close());
  const evil = await browser.newPage();
  await evil.goto('data:text/html,<p>another origin');
  await evil.evaluate(([url, body]) => fetch(url, { method: 'POST', mode: 'no-cors', body }).catch(() => {}), [
    `http://${server.text.address}/`, `\n${line}`,
  ]);
  const { status } = await call(server, 'POST', '/v1/push', { uid: 'uid1', data: 1 }, { Authorization: '' });
  assert.equal(status, 401);
  await page.settled();
  assert.deepEqual(page.messages, []);

  const key = 'a-key-of-the-text-port';
  const locked = await startServer({ config: `[text]\nkey = "${key}"\n`, ports: { text: '0.0.0.0:0' }, owner: t });
  const inside = { ...locked, text: { host: '127.0.0.1', port: locked.text.port } };
  await Page.as(inside, 'uid1');
  assert.equal((await exchange(inside.text, `AUTH wrong-${key}\n${line}`)).text, 'fail\n');
  assert.equal((await exchange(inside.text, line)).text, 'fail\n');
  const backend = new TextPort(inside.text);
  t.after(() => backend.close());
  assert.equal(await backend.ask(`AUTH ${key}`), 'ok\n');
  assert.equal(await backend.ask(line.trim()), 'ok\n');
});

test('hole 5: the demo page shows markup as text', async (t) => {
  const server = await startServer({ command: 'demo', owner: t });
  const browser = await launch();
  t.after(() => browser.close());
  const page = await browser.newPage();
  const dialogs = [];
  page.on('dialog', (dialog) => { dialogs.push(dialog.message()); dialog.dismiss(); });
  await page.goto(`http://${server.public.address}/push`);
  await page.click('#connect-button');
  await page.waitForSelector('[data-state="connected"]');
  await until('the page is bound', async () => await connectionsOf(server, 'uid1') === 1);
  const payloads = [
    '<img src=x onerror=alert(1)>', '<script>alert(2)</script>', '<svg onload=alert(3)>', '"><b>x</b>', 'javascript:alert(4)',
  ];
  for (const m of payloads) assert.equal(await pushTo(server, 'uid1', { m }), 'ok\n');
  await page.waitForFunction((count) => document.querySelectorAll('#messages li').length === count, payloads.length);
  assert.deepEqual(await page.$$eval('#messages pre', (shown) => shown.map((pre) => JSON.parse(pre.textContent).m)), [...payloads].reverse());
  assert.equal(await page.locator('#messages :is(img, script, svg, b, a)').count(), 0);
  assert.deepEqual(dialogs, []);
});

test('hole 6: a page of another origin cannot open a WebSocket', async (t) => {
  const server = await startServer({ identity: 'token', owner: t });
  const before = await refused(server);
  assert.equal(await dialledStatus(server, { Origin: 'https://evil.example' }), 403);
  assert.equal(await dialledStatus(server, { Origin: 'null' }), 403);
  assert.equal(await dialledStatus(server, { Origin: 'http://localhost:3000' }), 403);
  assert.equal(await refused(server) - before, 3);
  assert.equal(await dialledStatus(server, { Origin: `http://${server.public.address}` }), 101);
  assert.equal(await dialledStatus(server, {}), 101);
  const listed = await startServer({
    identity: 'token', config: '[public]\norigins = ["https://app.example"]\n', owner: t,
  });
  assert.equal(await dialledStatus(listed, { Origin: 'https://app.example' }), 101);
  assert.equal(await dialledStatus(listed, { Origin: 'https://evil.example' }), 403);
});

test('hole 7: no line on the text port disturbs the server or a page', async (t) => {
  const server = await startServer({ owner: t });
  const page = await Page.as(server, 'uid1');
  for (const line of [
    '"abc"', '""', '{"uid":[]}', '{"uid":["a"]}', '{"uid":{"a":1}}', '{"uid":{}}', '[[[[', '\0', '{"uid":1e999999}',
    '['.repeat(900_000), '{"":'.repeat(200_000), '\\', '\ufeff', '{"uid":"\\ud800"}',
  ]) {
    assert.equal(await pushLine(server, line), 'fail\n', line.slice(0, 40));
  }
  assert.equal(await pushTo(server, 'uid1'), 'ok\n');
  assert.equal(await page.next(), '{"uid":"uid1","percent":"88%"}');
  assert.equal(server.process.child.exitCode, null);
});

test('hole 8: no frame from a page disturbs the server or another page', async (t) => {
  const server = await startServer({ owner: t });
  const page = await Page.as(server, 'uid1');
  for (const bytes of [
    frame(TEXT, 'x', { rsv: 4 }), frame(TEXT, Buffer.from('f248cdc9c90700', 'hex'), { rsv: 4 }),
    frame(TEXT, Buffer.alloc(1000, 0xff), { rsv: 7 }), frame(0xf, ''), frame(CLOSE, closePayload(1006)),
    frame(TEXT, 'x', { length: 2n ** 63n }), frame(TEXT, 'x', { length: 2n ** 64n - 1n }),
  ]) {
    const bad = await Page.connect(server);
    bad.socket.write(bytes);
    assert.ok([1002, 1007, 1009].includes(await bad.closeCodeWithin()), bytes.toString('hex').slice(0, 40));
  }
  assert.equal(await pushTo(server, 'uid1'), 'ok\n');
  assert.equal(await page.next(), '{"uid":"uid1","percent":"88%"}');
  assert.equal(server.process.child.exitCode, null);
});

test('hole 9: a reload, whose new socket comes before the old one goes, loses nothing', async (t) => {
  const server = await startServer({ owner: t });
  let current = await Page.as(server, 'uid1');
  for (let round = 0; round < 50; round += 1) {
    const next = await Page.as(server, 'uid1');
    const leaving = [() => current.close(), () => current.end(), () => current.reset()][round % 3]();
    assert.equal(await pushTo(server, 'uid1', { round }), 'ok\n');
    assert.equal(await next.next(), JSON.stringify({ uid: 'uid1', round }));
    await leaving;
    current = next;
  }
});

test('hole 10: ok is only said for what the page can still get; the rest fails and is counted', async (t) => {
  const server = await startServer({ owner: t });
  const page = await Page.as(server, 'slow');
  page.socket.pause();
  const port = new TextPort(server.text);
  t.after(() => port.close());
  const answers = [];
  while (answers.at(-1) !== 'fail\n' && answers.length < 1000) {
    answers.push(await port.ask(`{"uid":"slow","pad":"${'p'.repeat(65_000)}"}`));
  }
  assert.equal(answers.pop(), 'fail\n', 'a page that does not read is given up');
  page.socket.resume();
  assert.equal(await page.closeCodeWithin(), 3008);
  assert.equal(answers.length - page.messages.length, await dropped(server));
  assert.equal(await connectionsOf(server, 'slow'), 0);
});

test('hole 11: a push to an absent page says so: fail, written 0, exit code 1', async (t) => {
  const server = await startServer({ owner: t });
  assert.equal(await pushTo(server, 'absent'), 'fail\n');
  const { status, body } = await call(server, 'POST', '/v1/push', { uid: 'absent', data: { percent: '88%' } });
  assert.equal(status, 200);
  assert.deepEqual([body.connections, body.written], [0, 0]);
  const { code } = await doorbell(server, 'push', 'absent', 'hello');
  assert.equal(code, 1);
  const page = await Page.as(server, 'absent');
  assert.equal((await doorbell(server, 'push', 'absent', 'hello')).code, 0);
  assert.equal(await page.next(), 'hello');
});

test('hole 12: a head has a size and a time, a first message has a time, and memory a bound', async (t) => {
  const server = await startServer({ config: '[limits]\nhead_timeout = "1s"\nfirst_message = "1s"\n', owner: t });
  const before = await refused(server);
  const memory = await residentBytes(server.pid);
  const start = 'GET / HTTP/1.1\r\nHost: x\r\nX: ';
  const heads = Array.from({ length: 20 }, () => exchange(server.public, start + 'x'.repeat(MIB)));
  const pauses = ['', 'GET', start, `${upgradeRequest(server).slice(0, -2)}`].map((bytes) => exchange(server.public, bytes));
  const mute = await Page.connect(server);
  const answers = await Promise.all([...heads, ...pauses]);
  for (const { text } of answers) assert.ok([null, 400, 408, 431].includes(statusOf(text)), text);
  assert.equal(await mute.closeCodeWithin(), 3502);
  assert.ok(await refused(server) - before >= heads.length + pauses.length, 'each is counted');
  assert.ok(await residentBytes(server.pid) - memory < 16 * MIB);
});

test('hole 13: a uid has a length, an address and a uid have so many connections', async (t) => {
  const server = await startServer({
    config: `
      [public]
      trusted_proxies = ["127.0.0.0/8"]
      [limits]
      connections_per_ip = 3
      connections_per_uid = 2
      exempt = []
    `,
    owner: t,
  });
  const from = (address) => ({ headers: { 'X-Forwarded-For': address } });
  const long = await Page.connect(server, from('203.0.113.9'));
  long.send('u'.repeat(1_000));
  assert.equal(await long.closeCodeWithin(), 3500);

  const pages = [];
  for (const uid of ['a', 'b', 'c']) pages.push(await Page.as(server, uid, from('203.0.113.1')));
  assert.ok([403, 429, 503].includes(await dialledStatus(server, from('203.0.113.1').headers)), 'a fourth is refused');
  assert.ok([403, 429, 503].includes(await dialledStatus(server, from('1.2.3.4, 203.0.113.1').headers)), 'whatever it claims');
  pages.push(await Page.as(server, 'd', from('203.0.113.2')));
  pages.push(await Page.as(server, 'd', from('203.0.113.3')));
  const third = await Page.connect(server, from('203.0.113.4'));
  third.send('d');
  assert.ok(await third.closeCodeWithin() >= 1000, 'a third connection of one uid is closed');
  await Promise.all(pages.map((page) => page.settled()));
  await pages[0].close();
  await until('the place is free again', () => Page.as(server, 'e', from('203.0.113.1')).catch(() => null));
});

test('hole 14: an https page waits over wss, with nginx ending TLS and its client still known', async (t) => {
  const server = await startServer({
    command: 'demo', config: '[public]\ntrusted_proxies = ["127.0.0.0/8"]\n', owner: t,
  });
  const proxy = await startTlsProxy(server.public.address, t);
  const browser = await launch();
  t.after(() => browser.close());
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  const sockets = [];
  page.on('websocket', (socket) => sockets.push(socket.url()));
  await page.goto(`https://${proxy}/push`);
  await page.click('#connect-button');
  await page.waitForSelector('[data-state="connected"]');
  await until('the page is bound', async () => await connectionsOf(server, 'uid1') === 1);
  assert.equal(await pushTo(server, 'uid1'), 'ok\n');
  await page.waitForSelector('#messages li');
  assert.deepEqual(JSON.parse(await page.textContent('#messages pre')), { uid: 'uid1', percent: '88%' });
  assert.deepEqual(sockets, [`wss://${proxy}/`]);
});

test('hole 15: the page comes back by itself, and a pusher is told when the server is down', async (t) => {
  const first = await startServer({ command: 'demo', owner: t });
  const browser = await launch();
  t.after(() => browser.close());
  const page = await browser.newPage();
  await page.goto(`http://${first.public.address}/push`);
  await page.click('#connect-button');
  await page.waitForSelector('[data-state="connected"]');
  first.process.child.kill('SIGKILL');
  await first.process.exited;
  await page.waitForSelector('[data-state="reconnecting"]');

  const { code, stderr } = await doorbell(first, 'push', 'uid1', 'hello');
  assert.equal(code, 2);
  assert.ok(stderr.includes(first.api.address), stderr);

  const second = await startServer({ command: 'demo', ports: { public: first.public.address }, owner: t });
  await page.waitForSelector('[data-state="connected"]', { timeout: 30_000 });
  await until('the page is bound again', async () => await connectionsOf(second, 'uid1') === 1);
  assert.equal(await pushTo(second, 'uid1'), 'ok\n');
  await page.waitForSelector('#messages li');
});

test('hole 16: what names a uid expires, before it is used and while it is used', async (t) => {
  const server = await startServer({ identity: 'token', owner: t });
  const token = await tokenFor(server, 'uid1', '2s');
  const page = await Page.as(server, token);
  assert.equal(await pushTo(server, 'uid1'), 'ok\n');
  assert.equal(await page.closeCodeWithin(10_000), 3002);
  assert.equal(await pushTo(server, 'uid1'), 'fail\n');
  const late = await Page.connect(server);
  late.send(token);
  assert.equal(await late.closeCodeWithin(), 3500);
});
