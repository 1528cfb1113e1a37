// How a page says who it is (plain dialect, open identity), and what its leaving means.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { connectionsOf } from '../lib/api.js';
import { BINARY, CLOSE, CONTINUATION, frame, TEXT } from '../lib/frames.js';
import { Page } from '../lib/page.js';
import { startServer } from '../lib/server.js';
import { pushTo } from '../lib/text-port.js';
import { until } from '../lib/until.js';

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

async function assertHears(page, uid) {
  const data = { n: Math.random() };
  assert.equal(await pushTo(server, uid, data), 'ok\n');
  assert.equal(await page.next(), JSON.stringify({ uid, ...data }));
}

test('the first text message is the uid, and nothing is answered to it', async () => {
  const page = await Page.as(server, 'text-uid');
  assert.deepEqual(page.messages, []);
  await assertHears(page, 'text-uid');
});

test('the first binary message is the uid', async () => {
  const page = await Page.connect(server);
  page.send('binary-uid', BINARY);
  await page.settled();
  await assertHears(page, 'binary-uid');
});

test('a first message in fragments is the uid', async () => {
  const page = await Page.connect(server);
  page.send('frag', TEXT, { fin: false });
  page.send('', CONTINUATION, { fin: false });
  page.send('ments', CONTINUATION);
  await page.settled();
  await assertHears(page, 'fragments');
});

test('a first message in the same segment as the handshake is the uid', async () => {
  const page = await Page.connect(server, { sameSegment: frame(TEXT, 'same-segment') });
  await page.settled();
  await assertHears(page, 'same-segment');
});

test('a first message that arrives byte by byte is the uid', async () => {
  const page = await Page.connect(server);
  for (const byte of frame(TEXT, 'byte-by-byte')) {
    await new Promise((written) => page.socket.write(Buffer.of(byte), written));
  }
  await page.settled();
  await assertHears(page, 'byte-by-byte');
});

for (const [name, uid, other] of [
  ['a trailing line feed', 'trim1\n', 'trim1'],
  ['surrounding spaces', ' trim2 ', 'trim2'],
  ['letter case', 'Trim3', 'trim3'],
  ['a leading zero', '01', '1'],
  ['a NUL', 'trim\0four', 'trim'],
]) {
  test(`a uid is taken byte for byte: ${name}`, async () => {
    const page = await Page.as(server, uid);
    assert.equal(await pushTo(server, other), 'fail\n');
    await assertHears(page, uid);
  });
}

test('a uid beyond ASCII works', async () => {
  const page = await Page.as(server, '用户🔔');
  await assertHears(page, '用户🔔');
});

test('a uid of 128 bytes works', async () => {
  const uid = 'u'.repeat(128);
  await assertHears(await Page.as(server, uid), uid);
});

for (const [name, payload, opcode, codes] of [
  ['of 129 bytes', 'u'.repeat(129), TEXT, [3500]],
  ['that is empty', '', TEXT, [3500]],
  ['that is empty and binary', '', BINARY, [3500]],
  ['in a text frame that is not UTF-8', Buffer.of(0xff, 0xfe), TEXT, [1007]],
  ['in a binary frame that is not UTF-8', Buffer.of(0xff, 0xfe), BINARY, [3500, 1007]],
  ['beyond 64 KiB', 'u'.repeat(65_537), TEXT, [1009]],
]) {
  test(`a uid ${name} is refused with ${codes.join(' or ')}`, async () => {
    const page = await Page.connect(server);
    page.send(payload, opcode);
    const code = await page.closeCodeWithin();
    assert.ok(codes.includes(code), `closed with ${code}`);
  });
}

test('later messages are ignored in silence', async () => {
  const page = await Page.as(server, 'chatty');
  page.send('Hello Server');
  page.send(Buffer.alloc(1000, 7), BINARY);
  page.send('');
  page.send('x'.repeat(65_536));
  await page.settled();
  assert.deepEqual(page.messages, []);
  await assertHears(page, 'chatty');
});

test('a second uid does not rebind', async () => {
  const page = await Page.as(server, 'first-name');
  page.send('second-name');
  await page.settled();
  assert.equal(await pushTo(server, 'second-name'), 'fail\n');
  await assertHears(page, 'first-name');
});

test('a page that never spoke hears nothing, and is closed with 3502 in time', async (t) => {
  const strict = await startServer({ config: '[limits]\nfirst_message = "1s"\n', owner: t });
  const page = await Page.connect(strict);
  assert.equal(await pushTo(strict, ''), 'fail\n');
  assert.equal(await page.closeCodeWithin(), 3502);
  assert.deepEqual(page.messages, []);
});

test('two pages with the same uid both hear every push', async () => {
  const older = await Page.as(server, 'two-tabs');
  const newer = await Page.as(server, 'two-tabs');
  await assertHears(older, 'two-tabs');
  assert.equal(await newer.next(), older.messages[0]);
});

for (const [name, leave] of [
  ['a Close frame', (page) => page.close()],
  ['a bare FIN', (page) => page.end()],
  ['a RST', (page) => page.reset()],
]) {
  for (const who of ['older', 'newer']) {
    test(`the ${who} of two tabs leaves with ${name}: the other goes on`, async () => {
      const uid = `leave-${who}-${name.replaceAll(' ', '-')}`;
      const tabs = { older: await Page.as(server, uid), newer: await Page.as(server, uid) };
      const stays = tabs[who === 'older' ? 'newer' : 'older'];
      await leave(tabs[who]);
      await until('one connection is left', async () => await connectionsOf(server, uid) === 1);
      await assertHears(stays, uid);
      await leave(stays);
      await until('nobody is left', async () => await connectionsOf(server, uid) === 0);
      assert.equal(await pushTo(server, uid), 'fail\n');
    });
  }
}

test('from its Close frame on, a page is unreachable', async () => {
  const page = await Page.as(server, 'closing');
  await page.close();
  assert.equal(await pushTo(server, 'closing'), 'fail\n');
});

test('a stopping server tells its pages to come back with 3001, and ends with 0', async () => {
  const stopping = await startServer({ config: '[limits]\ndrain = "1s"\n' });
  const pages = await Promise.all(['a', 'b', 'c'].map((uid) => Page.as(stopping, uid)));
  const [end, ...codes] = await Promise.all([stopping.stop(), ...pages.map((page) => page.closeCodeWithin())]);
  assert.deepEqual(codes, [3001, 3001, 3001]);
  assert.equal(end.code, 0);
});

test('what a page hears is one unmasked, unfragmented text frame with the shortest header', async () => {
  const page = await Page.as(server, 'sizes');
  for (const [size, head] of [
    [125, '817d'], [126, '817e007e'], [65_535, '817effff'], [65_536, '817f0000000000010000'],
  ]) {
    const start = '{"uid":"sizes","pad":"';
    const line = `${start}${'p'.repeat(size - start.length - 2)}"}`;
    assert.equal(await pushTo(server, 'sizes', { pad: 'p'.repeat(size - start.length - 2) }), 'ok\n');
    assert.equal(await page.next(), line);
    const last = page.frames.filter(({ opcode }) => opcode < CLOSE).at(-1);
    assert.equal(last.head.toString('hex'), head);
  }
});
