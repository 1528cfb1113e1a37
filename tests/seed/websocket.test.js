// The WebSocket layer by its bytes: strict RFC 6455, with the handshakes and answers that pages rely on.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { BINARY, CLOSE, closePayload, CONTINUATION, frame, PING, PONG, TEXT } from '../lib/frames.js';
import { Page, upgradeRequest } from '../lib/page.js';
import { exchange, statusOf } from '../lib/raw.js';
import { startServer } from '../lib/server.js';
import { pushTo } from '../lib/text-port.js';

let server;
let bystander;
before(async () => {
  server = await startServer();
  bystander = await Page.as(server, 'bystander');
});
after(() => server?.stop());

const header = (head, name) => head.match(new RegExp(`^${name}: *(.*?)\r$`, 'im'))?.[1] ?? null;

test('the handshake answers the key of RFC 6455', async () => {
  const page = await Page.connect(server, { headers: { 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' } });
  assert.equal(page.head.split('\r\n')[0], 'HTTP/1.1 101 Switching Protocols');
  assert.equal(header(page.head, 'Sec-WebSocket-Accept'), 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
  assert.match(header(page.head, 'Upgrade'), /^websocket$/i);
  assert.match(header(page.head, 'Connection'), /^upgrade$/i);
});

for (const path of ['/', '/?a=b&uid=c', '/ws', '/ws?x']) {
  test(`upgrades on ${path}`, async () => {
    await (await Page.connect(server, { path })).close();
  });
}

test('header names and values in any case', async () => {
  await Page.connect(server, { headers: { Upgrade: null, Connection: null, upgrade: 'WebSocket', connection: 'keep-alive, UPGRADE' } });
});

test('no subprotocol and no extension is selected from what it does not speak', async () => {
  const page = await Page.connect(server, {
    headers: { 'Sec-WebSocket-Protocol': 'chat, superchat', 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' },
  });
  assert.equal(header(page.head, 'Sec-WebSocket-Protocol'), null);
  assert.equal(header(page.head, 'Sec-WebSocket-Extensions'), null);
});

for (const [name, headers, statuses] of [
  ['a key that is not 16 bytes', { 'Sec-WebSocket-Key': 'abc' }, [400]],
  ['no key', { 'Sec-WebSocket-Key': null }, [400]],
  ['version 8', { 'Sec-WebSocket-Version': '8' }, [426]],
  ['no version', { 'Sec-WebSocket-Version': null }, [400, 426]],
  ['no Upgrade header', { Upgrade: null }, [400, 404, 426]],
  ['no Connection header', { Connection: null }, [400, 404, 426]],
  ['no Host', { Host: null }, [400]],
]) {
  test(`a handshake with ${name} is refused with ${statuses.join(' or ')}`, async () => {
    // Connection: close lets the exchange end with the answer.
    const extra = 'Connection' in headers || 'Upgrade' in headers ? { Connection: 'close' } : {};
    const { text } = await exchange(server.public, upgradeRequest(server, { headers: { ...headers, ...extra } }));
    assert.ok(statuses.includes(statusOf(text)), text);
    if ('Sec-WebSocket-Version' in headers) assert.equal(header(text, 'Sec-WebSocket-Version'), '13');
  });
}

for (const [name, bytes] of [
  ['a plain GET', 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'],
  ['a POST', 'POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello'],
  ['a TLS ClientHello', Buffer.from('16030100c2010000be0303' + 'ab'.repeat(189), 'hex')],
  ['garbage', 'garbage\r\n\r\n'],
  ['a WebSocket frame without a handshake', Buffer.concat([frame(TEXT, 'bystander'), frame(TEXT, 'x'.repeat(200))])],
  ['a head beyond 8 KiB', `GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(9000)}\r\n\r\n`],
  ['an upgrade with a head beyond 8 KiB', undefined],
]) {
  test(`${name} is answered with an error and closed`, async () => {
    const big = () => upgradeRequest(server, { headers: { Cookie: 'c'.repeat(9000) } });
    const { text } = await exchange(server.public, bytes ?? big());
    const status = statusOf(text);
    assert.ok(status === null || (status >= 400 && status < 500), text);
  });
}

for (const [origin, status] of [
  [null, 101], ['null', 101], ['http://localhost:3000', 101], ['http://127.0.0.1', 101], ['https://[::1]:8443', 101],
  ['https://evil.example', 403], ['http://localhost.evil.example', 403], ['http://127.0.0.1.evil.example', 403], ['', 403],
]) {
  test(`with open identity, origin ${JSON.stringify(origin)} gets ${status}`, async () => {
    const page = Page.dial(server, { headers: { Origin: origin } });
    await page.opened.catch(() => {});
    assert.equal(statusOf(page.head ?? ''), status, page.head);
    page.socket.destroy();
  });
}

test('the page of its own host is welcome', async () => {
  const headers = { Host: 'push.example:8443', Origin: 'https://push.example:8443' };
  await Page.connect(server, { headers });
});

test('Pings get Pongs with the same payload, in order', async () => {
  const page = await Page.connect(server);
  const payloads = ['hi', '', 'p'.repeat(125)];
  page.socket.write(Buffer.concat(payloads.map((payload) => frame(PING, payload))));
  await page.settled();
  const pongs = page.frames.filter(({ opcode }) => opcode === PONG).map(({ payload }) => payload.toString());
  assert.deepEqual(pongs.slice(0, 3), payloads);
  assert.deepEqual(page.frames[0].head, Buffer.of(0x8a, 0x02));
});

test('an unasked Pong is ignored', async () => {
  const page = await Page.connect(server);
  page.send('unasked', PONG);
  page.send('', PONG);
  await page.settled();
});

test('a Ping between fragments is answered and changes nothing', async () => {
  const page = await Page.connect(server);
  page.socket.write(Buffer.concat([
    frame(TEXT, 'be', { fin: false }), frame(PING, 'now'), frame(CONTINUATION, 'tween'),
  ]));
  await page.settled();
  assert.equal(page.frames[0].payload.toString(), 'now');
  assert.equal(await pushTo(server, 'between'), 'ok\n');
});

for (const [name, payload] of [
  ['1000', closePayload(1000)], ['1001', closePayload(1001, 'leaving')], ['4000', closePayload(4000, 'own')], ['no code', ''],
]) {
  test(`a Close with ${name} is answered with Close 1000 and the end`, async () => {
    const page = await Page.connect(server);
    page.send(payload, CLOSE);
    assert.equal(await page.closeCodeWithin(), 1000);
  });
}

test('what follows a Close is ignored', async () => {
  const page = await Page.connect(server);
  page.socket.write(Buffer.concat([frame(CLOSE, closePayload(1000)), frame(TEXT, 'after-close')]));
  assert.equal(await page.closeCodeWithin(), 1000);
  assert.equal(await pushTo(server, 'after-close'), 'fail\n');
});

const VIOLATIONS = [
  ['an unmasked frame', [frame(TEXT, 'x', { masked: false })], [1002]],
  ...[3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf].map((opcode) => [`opcode ${opcode}`, [frame(opcode, 'x')], [1002]]),
  ...[1, 2, 4].map((rsv) => [`RSV bits ${rsv}`, [frame(TEXT, 'x', { rsv })], [1002]]),
  ['RSV1 on something that looks deflated', [frame(TEXT, Buffer.from('f248cdc9c90700', 'hex'), { rsv: 4 })], [1002]],
  ['a Ping of 126 bytes', [frame(PING, 'p'.repeat(126))], [1002]],
  ['a Ping of 200 bytes', [frame(PING, 'p'.repeat(200))], [1002]],
  ['a fragmented Ping', [frame(PING, 'p', { fin: false })], [1002]],
  ['a fragmented Close', [frame(CLOSE, closePayload(1000), { fin: false })], [1002]],
  ['a continuation of nothing', [frame(CONTINUATION, 'x')], [1002]],
  ['a new message inside a fragmented one', [frame(TEXT, 'ui', { fin: false }), frame(TEXT, 'd1')], [1002]],
  ['a Close of one byte', [frame(CLOSE, 'x')], [1002]],
  ['a Close with code 1005', [frame(CLOSE, closePayload(1005))], [1002]],
  ['a Close with code 999', [frame(CLOSE, closePayload(999))], [1002]],
  ['a Close whose reason is not UTF-8', [frame(CLOSE, closePayload(1000, Buffer.of(0xff)))], [1007]],
  ['text that is not UTF-8', [frame(TEXT, Buffer.of(0xc3, 0x28))], [1007]],
  ['text whose fragments are not UTF-8', [frame(TEXT, Buffer.of(0xe4), { fin: false }), frame(CONTINUATION, 'x')], [1007]],
  ['a message of 64 KiB and a byte', [frame(BINARY, Buffer.alloc(65_537))], [1009]],
  ['fragments of 64 KiB and a byte', [frame(BINARY, Buffer.alloc(65_536), { fin: false }), frame(CONTINUATION, 'x')], [1009]],
  ['a declared length of 2^40', [frame(BINARY, 'x', { length: 2n ** 40n })], [1009]],
  ['a declared length of 2^63', [frame(BINARY, 'x', { length: 2n ** 63n })], [1002, 1009]],
  ['a length of 5 in the long form', [Buffer.concat([Buffer.of(0x81, 0xfe, 0, 5, 0, 0, 0, 0), Buffer.from('hello')])], [1002]],
];

for (const [name, bytes, codes] of VIOLATIONS) {
  test(`${name} is closed with ${codes.join(' or ')}, and nobody else notices`, async () => {
    const page = await Page.as(server, 'violator');
    page.socket.write(Buffer.concat(bytes));
    const code = await page.closeCodeWithin();
    assert.ok(codes.includes(code), `closed with ${code}`);
    await bystander.settled();
    assert.deepEqual(bystander.messages, []);
  });
}

test('a message of exactly 64 KiB is within the limit', async () => {
  const page = await Page.as(server, 'at-the-limit');
  page.send(Buffer.alloc(65_536), BINARY);
  page.send(Buffer.alloc(65_000), BINARY, { fin: false });
  page.send(Buffer.alloc(536), CONTINUATION);
  await page.settled();
});

test('bytes that were a message on one connection are nothing on another without a handshake', async () => {
  const victim = await Page.connect(server);
  const bytes = frame(TEXT, 'replayed');
  victim.socket.write(bytes);
  await victim.settled();
  await exchange(server.public, bytes, { end: true });
  assert.equal(await pushTo(server, 'replayed'), 'ok\n');
  assert.match(await victim.next(), /"replayed"/);
});
