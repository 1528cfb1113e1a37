// Where a line on the text port begins and ends, and in which order answers come.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { refused } from '../lib/api.js';
import { Page } from '../lib/page.js';
import { exchange } from '../lib/raw.js';
import { startServer } from '../lib/server.js';
import { pushLine, TextPort } from '../lib/text-port.js';

const MIB = 1024 * 1024;

let server;
before(async () => { server = await startServer(); });
after(() => server?.stop());

const line = (uid, n) => `{"uid":"${uid}","n":${n}}`;

async function open(t, uid) {
  const page = await Page.as(server, uid);
  const port = new TextPort(server.text);
  t.after(() => port.close());
  return { page, port };
}

test('three lines in one segment: three answers, three messages in order', async (t) => {
  const { page, port } = await open(t, 'three');
  port.write([1, 2, 3].map((n) => `${line('three', n)}\n`).join(''));
  assert.equal(await port.answers(3), 'ok\nok\nok\n');
  await page.heard(3);
  assert.deepEqual(page.messages, [1, 2, 3].map((n) => line('three', n)));
});

test('one line in many segments: one answer, one message', async (t) => {
  const { page, port } = await open(t, 'pieces');
  const whole = `${line('pieces', 1)}\n`;
  for (let at = 0; at < whole.length; at += 5) {
    await new Promise((written) => port.socket.write(whole.slice(at, at + 5), written));
  }
  assert.equal(await port.answers(1), 'ok\n');
  assert.equal(await page.next(), line('pieces', 1));
});

test('one and a half lines, the rest later', async (t) => {
  const { page, port } = await open(t, 'half');
  port.write(`${line('half', 1)}\n${line('half', 2).slice(0, 9)}`);
  assert.equal(await port.answers(1), 'ok\n');
  port.write(`${line('half', 2).slice(9)}\n`);
  assert.equal(await port.answers(1), 'ok\n');
  await page.heard(2);
  assert.deepEqual(page.messages, [line('half', 1), line('half', 2)]);
});

test('a half-close after a line still gets its answer, then the end', async () => {
  const page = await Page.as(server, 'fin');
  assert.deepEqual(await exchange(server.text, `${line('fin', 1)}\n`, { end: true }), { text: 'ok\n', how: 'end' });
  assert.equal(await page.next(), line('fin', 1));
});

test('text without its line end, then a half-close: no answer, no message', async () => {
  const page = await Page.as(server, 'unfinished');
  assert.deepEqual(await exchange(server.text, line('unfinished', 1), { end: true }), { text: '', how: 'end' });
  await page.settled();
  assert.deepEqual(page.messages, []);
});

test('answers come in the order of the lines', async (t) => {
  const { port } = await open(t, 'mixed');
  port.write(`${line('mixed', 1)}\n${line('nobody', 1)}\nhello\n${line('mixed', 2)}\n`);
  assert.equal(await port.answers(4), 'ok\nfail\nfail\nok\n');
});

test('2,000 pipelined lines: 2,000 answers, 2,000 messages, strictly in order', async (t) => {
  const { page, port } = await open(t, 'many');
  const lines = Array.from({ length: 2000 }, (_, n) => line('many', n));
  port.write(`${lines.join('\n')}\n`);
  assert.equal(await port.answers(2000), 'ok\n'.repeat(2000));
  await page.heard(2000);
  assert.deepEqual(page.messages, lines);
});

for (const [name, ending] of [['\\n', '\n'], ['\\r\\n', '\r\n'], ['\\r\\r\\n', '\r\r\n'], ['\\r\\r\\r\\n', '\r\r\r\n']]) {
  test(`a line may end in ${name}, and none of it is forwarded`, async (t) => {
    const { page, port } = await open(t, 'endings');
    port.write(`${line('endings', 1)}${ending}`);
    assert.equal(await port.answers(1), 'ok\n');
    assert.equal(await page.next(), line('endings', 1));
  });
}

test('a carriage return inside a line is a space of JSON, not an end', async (t) => {
  const { page, port } = await open(t, 'inner');
  port.write('{"uid":\r"inner"}\n');
  assert.equal(await port.answers(1), 'ok\n');
  assert.equal(await page.next(), '{"uid":\r"inner"}');
});

test('a line of exactly 1 MiB with its line end is taken, and the connection goes on', async (t) => {
  const { port } = await open(t, 'exact');
  const start = '{"uid":"nobody","pad":"';
  const longest = `${start}${'p'.repeat(MIB - start.length - 3)}"}\n`;
  assert.equal(longest.length, MIB);
  port.write(longest);
  assert.equal(await port.answers(1), 'fail\n');
  assert.equal(await port.ask(line('exact', 1)), 'ok\n');
});

test('a message of a million bytes is delivered whole', async () => {
  const page = await Page.as(server, 'large');
  const large = `{"uid":"large","pad":"${'p'.repeat(1_000_000)}"}`;
  assert.equal(await pushLine(server, large), 'ok\n');
  assert.ok(await page.next() === large, 'the same bytes');
});

test('a longer line gets one fail, is counted, and the connection is closed', async () => {
  const page = await Page.as(server, 'too-long');
  const before = await refused(server);
  const start = '{"uid":"too-long","pad":"';
  const { text } = await exchange(server.text, `${start}${'p'.repeat(MIB - start.length - 2)}"}\n`);
  assert.equal(text, 'fail\n');
  await page.settled();
  assert.deepEqual(page.messages, []);
  assert.ok(await refused(server) > before);
});

test('12 MiB without a line end end the connection', async () => {
  const { text } = await exchange(server.text, Buffer.alloc(12 * MIB, 'x'));
  // The reset that follows unread bytes may overtake the answer.
  assert.ok(['fail\n', ''].includes(text), text);
});

test('an HTTP request gets one fail and the connection is closed: its body is not pushed', async () => {
  const page = await Page.as(server, 'http');
  const before = await refused(server);
  const body = `${line('http', 1)}\n`;
  for (const first of ['POST / HTTP/1.1', 'GET / HTTP/1.0', 'OPTIONS * HTTP/1.1', 'PUT /v1/push HTTP/1.1']) {
    const request = `${first}\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    assert.equal((await exchange(server.text, request)).text, 'fail\n', first);
  }
  await page.settled();
  assert.deepEqual(page.messages, []);
  assert.equal(await refused(server) - before, 4);
});
