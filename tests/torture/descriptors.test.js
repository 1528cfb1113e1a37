// Descriptors run out: those who are connected notice nothing, newcomers are told, and places come back.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { call, refused } from '../lib/api.js';
import { Page, upgradeRequest } from '../lib/page.js';
import { exchange, statusOf } from '../lib/raw.js';
import { startServer } from '../lib/server.js';
import { pushTo } from '../lib/text-port.js';
import { until } from '../lib/until.js';

test('with 200 descriptors and 400 newcomers the rest goes on, and places come back', async (t) => {
  const server = await startServer({ owner: t, descriptors: 200 });
  const first = await Page.as(server, 'first');
  const pages = [];
  let turnedAway = 0;
  while (pages.length + turnedAway < 400) {
    try {
      pages.push(await Page.as(server, `u${pages.length}`));
    } catch {
      turnedAway += 1;
    }
  }
  assert.ok(pages.length > 50 && turnedAway > 100, `${pages.length} let in, ${turnedAway} turned away`);
  const { text } = await exchange(server.public, upgradeRequest(server));
  // The server has no descriptor to linger with, so a reset may overtake its answer.
  assert.ok([503, null].includes(statusOf(text)), text);
  assert.ok((await refused(server)) > turnedAway, 'each is counted');
  assert.match(server.process.output.stderr, /no room for more connections/);

  assert.equal(await pushTo(server, 'first').catch(() => 'fail\n'), 'fail\n', 'backends that come now are told so, too');
  const answer = await call(server, 'POST', '/v1/push', { uid: 'first', data: 'still here' });
  assert.equal(answer.body.written, 1, 'the API has descriptors of its own');
  assert.equal(await first.next(), 'still here');

  await Promise.all(pages.map((page) => page.reset()));
  await until('a place to be free', async () => (await pushTo(server, 'first').catch(() => 'fail\n')) === 'ok\n');
  assert.match(await first.next(), /88%/);
});
