// `doorbell demo`: the page a newcomer meets first, and the commands it shows, run as shown.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { connectionsOf } from '../lib/api.js';
import { launch } from '../lib/browser.js';
import { Page } from '../lib/page.js';
import { shell, startServer, tokenFor } from '../lib/server.js';
import { until } from '../lib/until.js';

let browser;
let server;
before(async () => {
  browser = await launch();
  server = await startServer({ command: 'demo' });
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Opens the demo page; whatever the browser complains about fails the test. */
async function openDemo(t, { locale = 'en-US', query = '', on = server } = {}) {
  const context = await browser.newContext({ locale, permissions: ['clipboard-read', 'clipboard-write'] });
  t.after(() => context.close());
  const page = await context.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (line) => line.type() === 'error' && complaints.push(line.text()));
  t.after(() => assert.deepEqual(complaints.filter((text) => !/ERR_CONNECTION|WebSocket connection/.test(text)), []));
  const response = await page.goto(`http://${on.public.address}/push${query}`);
  assert.equal(response.status(), 200);
  return { page, response };
}

async function connectAs(page, uid, on = server) {
  const count = await connectionsOf(on, uid);
  await page.fill('#uid', uid);
  await page.click('#connect-button');
  await page.waitForSelector('[data-state="connected"]');
  await until('the page is bound', async () => await connectionsOf(on, uid) === count + 1);
}

const newest = (page) => page.locator('#messages li').first().locator('pre').getAttribute('data-raw');
const count = (page, wanted) => page.waitForFunction(
  (number) => document.querySelectorAll('#messages li').length === number, wanted,
);

test('the page comes with a strict content policy and loads nothing from elsewhere', async (t) => {
  const { page, response } = await openDemo(t);
  assert.match(response.headers()['content-security-policy'] ?? '', /default-src 'none'/);
  assert.doesNotMatch(response.headers()['content-security-policy'], /unsafe/);
  const origins = await page.evaluate(() => performance.getEntriesByType('resource').map(({ name }) => new URL(name).origin));
  assert.deepEqual([...new Set(origins)], [`http://${server.public.address}`]);
});

test('whoever reads the output, and is no terminal, gets the addresses and nothing that changes', async () => {
  const { stdout } = server.process.output;
  for (const path of ['', 'push']) assert.ok(stdout.includes(`http://${server.public.address}/${path}\n`), stdout);
  assert.doesNotMatch(stdout, /[█▀▄\u{1b}]/u);
});

test('?uid= fills in who waits and who is rung', async (t) => {
  const { page } = await openDemo(t, { query: '?uid=%E5%B0%8F%E6%98%8E' });
  assert.equal(await page.inputValue('#uid'), '小明');
  assert.equal(await page.inputValue('#push-uid'), '小明');
});

test('a push from the form arrives on top, and says how many heard it', async (t) => {
  const { page } = await openDemo(t);
  await page.click('#push-button');
  await page.waitForSelector('#push-result[data-outcome="unheard"]');
  await connectAs(page, 'uid1');
  await page.click('#push-button');
  await page.waitForSelector('#push-result[data-outcome="heard"]');
  await count(page, 1);
  assert.equal(await newest(page), '{"percent":"88%"}');
  await page.fill('#push-data', 'second');
  await page.click('#push-button');
  await count(page, 2);
  assert.equal(await newest(page), 'second');
  await page.click('#disconnect-button');
  await page.waitForSelector('[data-state="closed"]');
});

test('the form cannot be used by another origin', async () => {
  const page = await Page.as(server, await tokenFor(server, 'guarded'));
  const body = JSON.stringify({ uid: 'guarded', data: 'x' });
  const post = (headers) => fetch(`http://${server.public.address}/demo/push`, { method: 'POST', headers, body });
  assert.ok((await post({ 'Content-Type': 'application/json', Origin: 'https://evil.example' })).status >= 400);
  assert.ok((await post({ 'Content-Type': 'text/plain', Origin: 'null' })).status >= 400);
  await page.settled();
  assert.deepEqual(page.messages, []);
});

test('the shown commands push what the form says: command line, PHP, curl', async (t) => {
  const { page } = await openDemo(t);
  await connectAs(page, 'shown');
  await page.fill('#push-uid', 'shown');
  let heard = 0;
  const runShown = async (id) => {
    const result = await shell(await page.textContent(id));
    assert.equal(result.code, 0, `${id}: ${result.stderr}`);
    heard += 1;
    await count(page, heard);
    return result.stdout;
  };
  await runShown('#command-cli');
  assert.equal(await newest(page), '{"percent":"88%"}');
  assert.equal(await runShown('#command-php'), 'ok\n');
  assert.equal(await newest(page), '{"uid":"shown","percent":"88%"}');
  assert.equal(JSON.parse(await runShown('#command-curl')).written, 1);
  assert.equal(await newest(page), '{"percent":"88%"}');

  // Quoting holds whatever the form says.
  const nasty = `it's "$HOME" \`id\` $(id) \\ 微信 !`;
  await page.fill('#push-data', nasty);
  await runShown('#command-cli');
  assert.equal(await newest(page), nasty);
  await runShown('#command-php');
  assert.equal(JSON.parse(await newest(page)).data, nasty);
  await runShown('#command-curl');
  assert.equal(await newest(page), nasty);
});

test('a copy button copies its command', async (t) => {
  const { page } = await openDemo(t);
  await page.click('[data-copies="command-php"]');
  const copied = await until('the clipboard', () => page.evaluate(() => navigator.clipboard.readText()));
  assert.equal(copied, await page.textContent('#command-php'));
});

test('markup in a message or a uid stays text', async (t) => {
  const { page } = await openDemo(t);
  const dialogs = [];
  page.on('dialog', (dialog) => { dialogs.push(dialog.message()); dialog.dismiss(); });
  const uid = '<img src=x onerror=alert(1)>';
  await connectAs(page, uid);
  await page.fill('#push-uid', uid);
  for (const data of [uid, `{"m":"${uid}"}`]) {
    await page.fill('#push-data', data);
    await page.click('#push-button');
    await page.waitForSelector('#push-result[data-outcome="heard"]');
  }
  await count(page, 2);
  assert.equal(await page.locator('img').count(), 0);
  assert.match(await page.textContent('#messages'), /<img src=x onerror=alert\(1\)>/);
  assert.match(await page.textContent('#status-text'), /<img src=x onerror=alert\(1\)>/);
  assert.deepEqual(dialogs, []);
});

test('the page reconnects as the same uid when its server is restarted on the same port', async (t) => {
  const first = await startServer({ command: 'demo', config: '[limits]\ndrain = "1s"\n', owner: t });
  const { page } = await openDemo(t, { on: first });
  await connectAs(page, 'faithful', first);
  assert.equal((await first.stop()).code, 0);
  await page.waitForSelector('[data-state="reconnecting"]');
  const second = await startServer({ command: 'demo', ports: { public: first.public.address }, owner: t });
  await page.waitForSelector('[data-state="connected"]', { timeout: 30_000 });
  await until('the page is bound again', async () => await connectionsOf(second, 'faithful') === 1);
  await page.fill('#push-uid', 'faithful');
  await page.click('#push-button');
  await count(page, 1);
});

test('the page speaks the language of the browser, and the other one on request', async (t) => {
  for (const [locale, lang, title, other] of [
    ['zh-CN', 'zh-CN', 'Doorbell 演示', 'Doorbell demo'], ['en-GB', 'en', 'Doorbell demo', 'Doorbell 演示'],
  ]) {
    const { page } = await openDemo(t, { locale });
    assert.equal(await page.textContent('h1'), title);
    assert.equal(await page.getAttribute('html', 'lang'), lang);
    await page.click('#language');
    assert.equal(await page.textContent('h1'), other);
    await page.reload();
    assert.equal(await page.textContent('h1'), other, 'remembered');
  }
});

test('the page fits a phone', async (t) => {
  const context = await browser.newContext({ viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true });
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(`http://${server.public.address}/push`);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'no sideways scrolling');
  for (const control of await page.locator('button:visible, input:visible').all()) {
    assert.ok((await control.boundingBox()).height >= 44, await control.getAttribute('id'));
  }
});
