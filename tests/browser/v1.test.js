// doorbell.v1 in a real browser: the README's own page.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';

import { call, connectionsOf } from '../lib/api.js';
import { launch } from '../lib/browser.js';
import { startServer } from '../lib/server.js';
import { until } from '../lib/until.js';

let browser;
let server;
before(async () => {
  browser = await launch();
  server = await startServer({ command: 'demo', args: ['--identity', 'open'] });
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** The page of README.md, with its messages collected in place of logged, and a site that says it is `uid`'s. */
async function readmePage(t, uid) {
  const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
  const [, file, script] = readme.match(/```html\n<script src="([^"]*)"><\/script>\n<script>\n([\s\S]*?)<\/script>/);
  const here = (text) => text.replaceAll('https://push.example.com', `http://${server.public.address}`);
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.route('**/doorbell-token.php', (route) => route.fulfill({ body: uid }));
  await page.goto(here('https://push.example.com/'));
  // Keeps hold of its sockets, so that the test can break one.
  await page.evaluate('window.got = []; window.sockets = []; window.WebSocket = class extends WebSocket { constructor(...a) { super(...a); sockets.push(this); } }; undefined');
  await page.addScriptTag({ url: here(file) });
  await page.evaluate(`${here(script).replace('console.log(data)', 'got.push(data)')}; undefined`);
  await until('the page is bound', async () => await connectionsOf(server, uid) === 1);
  return page;
}

test('the page of the README gets what is pushed, acknowledges it, and misses nothing while it is away', async (t) => {
  const page = await readmePage(t, 'reader');
  const push = async (body) => (await call(server, 'POST', '/v1/push', { uid: 'reader', ...body })).body;
  const first = await push({ data: { n: 1 }, wait: 'acked', timeout_ms: 10_000 });
  assert.deepEqual([first.written, first.acked], [1, 1]);
  await page.evaluate('sockets.at(-1).close()');
  await until('the page is away', async () => await connectionsOf(server, 'reader') === 0);
  for (const n of [2, 3]) assert.equal((await push({ data: { n } })).held, 1);
  await until('the page is back', async () => await connectionsOf(server, 'reader') === 1);
  const last = await push({ data: { n: 4 }, wait: 'acked', timeout_ms: 10_000 });
  assert.equal(last.acked, 1);
  assert.deepEqual(await page.evaluate('got'), [1, 2, 3, 4].map((n) => ({ n })));
});
