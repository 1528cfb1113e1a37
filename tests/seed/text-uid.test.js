// Which uid a line on the text port means. The line itself reaches the page as it was sent.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Page } from '../lib/page.js';
import { startServer } from '../lib/server.js';
import { TextPort } from '../lib/text-port.js';

let server;
let port;
const pages = new Map();

const BIG = '12345678901234567890123456789012345678901234567890';
const UIDS = [
  'uid1', '1', '0', '-5', '01', '1.0', ' 1', '-0', 'true', 'null', 'Array', '1e30',
  '9223372036854775807', '9223372036854775808', '-9223372036854775809', '12345678901234567890', BIG, '😀', 'a"b\\c/',
];

before(async () => {
  server = await startServer();
  for (const uid of UIDS) pages.set(uid, await Page.as(server, uid));
  port = new TextPort(server.text);
});
after(async () => {
  port?.close();
  await server?.stop();
});

const counts = () => [...pages].map(([uid, page]) => [uid, page.messages.length]);

async function settled() {
  await Promise.all([...pages.values()].map((page) => page.settled()));
}

const nested = (levels) => `{"uid":"uid1","n":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}}`;

const REACHES = [
  ['uid1', '{"uid":"uid1","percent":"88%"}'],
  ['uid1', '{ "z":1 ,\t"uid" : "uid1", "m":"\\u5fae\\u4fe1 \\/ 微" }  '],
  ['uid1', ' \t {"uid":"uid1"}'],
  ['uid1', '{"\\u0075id":"\\u0075id1"}'],
  ['uid1', '{"uid":"nobody","uid":"uid1"}'],
  ['uid1', '{"uid":["x"],"uid":"uid1"}'],
  ['uid1', '{"data":{"uid":"nobody"},"uid":"uid1"}'],
  ['uid1', '{"UID":"nobody","uid":"uid1","Uid":"nobody"}'],
  ['uid1', '{"uid":"uid1","n":[1,-0.5e-7,true,false,null,{"":""}]}'],
  ['uid1', '{"uid":"uid1","n":123456789012345678901234567890}'],
  ['uid1', '{"uid":"uid1","n":1e999}'],
  ['uid1', '{"uid":"uid1","a":1,"a":2}'],
  ['uid1', '{"uid":"uid1","m":"\\ud83d\\ude00"}'],
  ['uid1', '{"uid":"uid1","m":"<img src=x onerror=alert(1)>"}'],
  ['uid1', nested(511)],
  ['1', '{"uid":1}'],
  ['1', '{"uid":"1"}'],
  ['0', '{"uid":0}'],
  ['-5', '{"uid":-5}'],
  ['-5', '{"uid":"-5"}'],
  ['01', '{"uid":"01"}'],
  ['1.0', '{"uid":"1.0"}'],
  [' 1', '{"uid":" 1"}'],
  ['-0', '{"uid":"-0"}'],
  ['true', '{"uid":"true"}'],
  ['null', '{"uid":"null"}'],
  ['9223372036854775807', '{"uid":9223372036854775807}'],
  ['9223372036854775808', '{"uid":9223372036854775808}'],
  ['-9223372036854775809', '{"uid":-9223372036854775809}'],
  ['12345678901234567890', '{"uid":12345678901234567890}'],
  ['12345678901234567890', '{"uid":"12345678901234567890"}'],
  [BIG, `{"uid":${BIG}}`],
  ['😀', '{"uid":"\\ud83d\\ude00"}'],
  ['😀', '{"uid":"😀"}'],
  ['a"b\\c/', '{"uid":"a\\"b\\\\c\\/"}'],
];

for (const [uid, line] of REACHES) {
  test(`reaches ${uid.slice(0, 24)} and nobody else: ${line.slice(0, 60)}`, async () => {
    const before = counts();
    assert.equal(await port.ask(line), 'ok\n');
    await settled();
    assert.deepEqual(counts(), before.map(([name, count]) => [name, name === uid ? count + 1 : count]));
    assert.equal(pages.get(uid).messages.at(-1), line);
  });
}

const FAILS = [
  '{"uid":"nobody"}',
  // No uid at the top level.
  '{"UID":"uid1"}', '{"data":{"uid":"uid1"}}', '[{"uid":"uid1"}]', '{}', '[]',
  // No JSON object.
  'hello', '{"uid":"uid1"', "{'uid':'uid1'}", '{uid:"uid1"}', '{"uid":"uid1"}{"uid":"uid1"}', '{"uid":"uid1"} x',
  '{"uid":"uid1",}', '', '\r', ' ', '123', 'true', 'null', '"abc"', '""', '"uid1"', '-', '{', '}', '{"uid"', '{"uid":',
  '\ufeff{"uid":"uid1"}',
  Buffer.from('{"uid":"uid1","m":"\xff"}', 'latin1'),
  Buffer.from('{"uid":"uid1","\xc0\xaf":1}', 'latin1'),
  Buffer.from([0xed, 0xa0, 0x80]),
  '{"uid":"uid1","m":"a\0b"}', '{"uid":"uid1","m":"\t"}', '\0{"uid":"uid1"}',
  '{"uid":"uid1","m":"\\ud800"}', '{"uid":"uid1","m":"\\udc00\\ud800"}', '{"uid":"uid1","\\ud800":1}',
  '{"uid":"uid1","m":"\\x41"}', '{"uid":"uid1","m":"\\u00g0"}',
  '{"uid":"uid1","n":007}', '{"uid":"uid1","n":+1}', '{"uid":"uid1","n":.5}', '{"uid":"uid1","n":1.}',
  '{"uid":"uid1","n":NaN}', '{"uid":"uid1","n":Infinity}', '{"uid":"uid1","n":0x10}',
  '{"uid":01}',
  nested(512), nested(100_000), '['.repeat(500_000), '{"uid":'.repeat(100_000),
  // A uid that is no string and no integer, or an impossible one.
  '{"uid":null}', '{"uid":""}', '{"uid":true}', '{"uid":false}', '{"uid":1.0}', '{"uid":1.9}', '{"uid":1e0}',
  '{"uid":1E0}', '{"uid":-0.0}', '{"uid":-5.9}', '{"uid":1e30}', '{"uid":["uid1"]}', '{"uid":{"a":1}}', '{"uid":[]}',
  '{"uid":{}}', `{"uid":"${'u'.repeat(129)}"}`, `{"uid":${'1'.repeat(129)}}`,
  // The last of several uids decides, also when it is no uid.
  '{"uid":"uid1","uid":"nobody"}', '{"uid":"uid1","uid":null}', '{"uid":"uid1","uid":1.5}', '{"uid":"uid1","uid":[]}',
];

for (const line of FAILS) {
  test(`fails and reaches nobody: ${JSON.stringify(line.toString('latin1')).slice(0, 60)}`, async () => {
    const before = counts();
    assert.equal(await port.ask(line), 'fail\n');
    await settled();
    assert.deepEqual(counts(), before);
  });
}

test('after all that, the same connection still pushes', async () => {
  assert.equal(await port.ask('{"uid":"uid1","last":true}'), 'ok\n');
});
