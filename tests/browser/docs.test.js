// /docs in a real browser: the page shows what /openapi.json describes, and needs nobody else for it.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { launch } from '../lib/browser.js';
import { startServer } from '../lib/server.js';

let browser;
let server;
before(async () => {
  browser = await launch();
  server = await startServer();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

test('/docs shows every call, asks nobody but the server, and breaks no rule of its policy', async (t) => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const asked = [];
  const complaints = [];
  page.on('request', (request) => asked.push(request.url()));
  page.on('pageerror', (error) => complaints.push(error.message));
  // Chromium says in its console what a policy has blocked. It looks for an icon by itself; that there is none is no
  // fault of the page.
  page.on('console', (message) => {
    if (message.type() === 'error' && !message.location().url.endsWith('/favicon.ico')) complaints.push(message.text());
  });
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.effectiveDirective} ${event.blockedURI}`));
  });
  const home = `http://${server.api.address}`;
  const response = await page.goto(`${home}/docs`);
  assert.equal(response.status(), 200);
  await page.waitForSelector('#calls article');

  const { paths } = await (await fetch(`${home}/openapi.json`)).json();
  const described = Object.entries(paths).flatMap(([path, item]) => Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`));
  assert.ok(described.length > 20, described.join());
  for (const list of ['#calls article > h3', '#contents a']) {
    const shown = await page.locator(list).evaluateAll((found) => found.map((element) => element.textContent.trim()));
    assert.deepEqual(shown.toSorted(), described.toSorted(), list);
  }
  // A call's own link leads to it, with the name and the type of what it takes.
  await page.click('#contents a:text-is("POST /v1/push")');
  const push = page.locator('article[id="post-/v1/push"]');
  await push.waitFor({ state: 'visible' });
  assert.match(await push.innerText(), /ttl/);
  assert.match(await push.innerText(), /Authorization: Bearer \$KEY/);
  const styled = await page.evaluate(() => document.styleSheets.length === 1 && document.styleSheets[0].cssRules.length > 0);
  assert.ok(styled, 'its style is allowed');

  assert.ok(asked.includes(`${home}/openapi.json`), asked.join());
  assert.deepEqual(asked.filter((url) => !url.startsWith(`${home}/`)), [], 'nobody else is asked');
  assert.deepEqual(await page.evaluate('violations'), []);
  assert.deepEqual(complaints, []);

  // The policy is in force: what it does not allow is blocked, and then said.
  await page.evaluate(() => { document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = true' })); });
  assert.equal(await page.evaluate('window.ran'), undefined);
  assert.equal(await page.evaluate('violations.length'), 1);
});
