// What is answered is what happened: under load, with a reader that does not read, and while everybody reconnects.

import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { test } from 'node:test';

import { connectionsOf, dropped } from '../lib/api.js';
import { Page } from '../lib/page.js';
import { start, stop } from '../lib/process.js';
import { startServer } from '../lib/server.js';
import { pushLine, TextPort } from '../lib/text-port.js';
import { eachOf, until } from '../lib/until.js';

/** Keeps every core busy until the test ends. */
function occupyCores(t) {
  for (let core = 0; core < availableParallelism(); core += 1) {
    const busy = start(process.execPath, ['-e', 'for (;;);']);
    t.after(() => stop(busy));
  }
}

test('200 pushes to one uid, each on a new connection, with all cores busy: 200 ok, 200 delivered', async (t) => {
  const server = await startServer({ owner: t });
  const page = await Page.as(server, 'uid1');
  occupyCores(t);
  const lines = Array.from({ length: 200 }, (_, n) => `{"uid":"uid1","n":${n}}`);
  const answers = [];
  await eachOf(lines, 8, async (line) => answers.push(await pushLine(server, line)));
  assert.deepEqual(answers, lines.map(() => 'ok\n'));
  await page.heard(200);
  assert.deepEqual([...page.messages].sort(), [...lines].sort());
});

test('1 push to each of 200 uids, each on a new connection, with all cores busy: everyone hears it', async (t) => {
  const server = await startServer({ owner: t });
  const uids = Array.from({ length: 200 }, (_, n) => `user-${n}`);
  const pages = await Promise.all(uids.map((uid) => Page.as(server, uid)));
  occupyCores(t);
  const answers = [];
  await eachOf(uids, 8, async (uid) => answers.push(await pushLine(server, `{"uid":"${uid}"}`)));
  assert.deepEqual(answers, uids.map(() => 'ok\n'));
  await Promise.all(pages.map((page) => page.heard(1)));
  assert.deepEqual(pages.map(({ messages }) => messages), uids.map((uid) => [`{"uid":"${uid}"}`]));
});

const KIB_64 = 64 * 1024;

function bigLine(uid, n) {
  const start = `{"uid":"${uid}","n":${n},"pad":"`;
  return `${start}${'p'.repeat(KIB_64 - start.length - 2)}"}`;
}

/** Checks that a page which was promised `ok` messages got them, or was closed with 3008 and they were counted. */
async function assertNothingVanished(server, page, uid, answers) {
  const ok = answers.lastIndexOf('ok\n') + 1;
  assert.deepEqual(answers.slice(0, ok), Array(ok).fill('ok\n'), 'no fail before the last ok');
  page.socket.resume();
  if (ok === answers.length) {
    await page.heard(ok, 60_000);
    assert.equal(await dropped(server), 0);
  } else {
    assert.equal(await page.closeCodeWithin(), 3008);
    assert.equal(await connectionsOf(server, uid), 0);
    assert.equal(await dropped(server), ok - page.messages.length);
  }
  const expected = page.messages.map((_, n) => bigLine(uid, n));
  assert.ok(page.messages.every((message, n) => message === expected[n]), 'a whole prefix, in order');
  return ok;
}

test('1,000 pushes of 64 KiB to a page that does not read: delivered, or closed with 3008 and the rest fail', async (t) => {
  const server = await startServer({ owner: t });
  const witness = await Page.as(server, 'witness');
  const page = await Page.as(server, 'still');
  page.socket.pause();
  const port = new TextPort(server.text);
  t.after(() => port.close());
  const answers = [];
  for (let n = 0; n < 1000; n += 1) answers.push(await port.ask(bigLine('still', n)));
  const ok = await assertNothingVanished(server, page, 'still', answers);
  assert.ok(ok >= 16, `the queue's own MiB counts (${ok})`);
  assert.ok(ok < 1000, 'a page that never reads has a bound');
  assert.equal(await port.ask('{"uid":"witness"}'), 'ok\n');
  assert.equal(await witness.next(), '{"uid":"witness"}');
});

test('1,000 pipelined pushes of 64 KiB to a page that reads: each ok is delivered', async (t) => {
  const server = await startServer({ owner: t });
  const page = await Page.as(server, 'busy');
  const port = new TextPort(server.text);
  t.after(() => port.close());
  const answers = [];
  // A window of a quarter of the queue: this one process is pusher and page, and must get to its own reading.
  for (let n = 0; n < 1000; n += 4) {
    port.write([n, n + 1, n + 2, n + 3].map((each) => `${bigLine('busy', each)}\n`).join(''));
    answers.push(...(await port.answers(4)).match(/[^\n]*\n/g));
  }
  assert.equal(answers.length, 1000);
  await assertNothingVanished(server, page, 'busy', answers);
});

test('a page that stops reading is given up even when nothing more is pushed to it', async (t) => {
  const server = await startServer({
    config: '[limits]\nping_interval = "500ms"\npong_timeout = "500ms"\n', owner: t,
  });
  const page = await Page.as(server, 'gone');
  page.socket.pause();
  await until('the silent connection is closed', async () => await connectionsOf(server, 'gone') === 0, 15_000);
  assert.equal(await pushLine(server, '{"uid":"gone"}'), 'fail\n');
});

const CHURN_UIDS = 5_000;
const CHURN_MS = 5_000;

test('5,000 uids reconnect with overlapping sockets for some seconds: a sweep reaches every page', async (t) => {
  const server = await startServer({ owner: t });
  const pages = new Map();
  const uids = Array.from({ length: CHURN_UIDS }, (_, n) => `churn-${n}`);
  await eachOf(uids, 100, async (uid) => { pages.set(uid, await Page.as(server, uid)); });

  const leave = [(page) => page.close(), (page) => page.end(), (page) => page.reset()];
  const deadline = performance.now() + CHURN_MS;
  let churned = 0;
  const lane = async (first) => {
    for (let n = first; performance.now() < deadline; n = (n + 97) % CHURN_UIDS) {
      const uid = uids[n - (n % 100) + first];
      const older = pages.get(uid);
      pages.set(uid, await Page.as(server, uid));
      await leave[churned % leave.length](older);
      churned += 1;
    }
  };
  // A lane owns the uids whose number ends in its own, so that no two lanes replace the same page.
  await Promise.all(Array.from({ length: 100 }, (_, first) => lane(first)));
  t.diagnostic(`${churned} reconnects`);
  assert.ok(churned > 500, `${churned} reconnects`);

  const before = new Map([...pages].map(([uid, page]) => [uid, page.messages.length]));
  const port = new TextPort(server.text);
  t.after(() => port.close());
  port.write(uids.map((uid) => `{"uid":"${uid}","sweep":true}\n`).join(''));
  const answers = await port.answers(CHURN_UIDS, 30_000);
  assert.equal(answers.match(/fail/g)?.length ?? 0, 0, 'unreached pages');
  await eachOf(uids, 100, (uid) => pages.get(uid).heard(before.get(uid) + 1));
  for (const uid of uids) {
    assert.deepEqual(pages.get(uid).messages.slice(before.get(uid)), [`{"uid":"${uid}","sweep":true}`]);
  }
});
