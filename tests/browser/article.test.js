// The article's step 3 with a real browser and a real PHP: connect, push from PHP, see it on the page.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { connectionsOf } from '../lib/api.js';
import { launch } from '../lib/browser.js';
import { run } from '../lib/process.js';
import { seedFolder, startServer } from '../lib/server.js';
import { until } from '../lib/until.js';

const OUR_PAGE = new URL('page.html', import.meta.url);
const OUR_PUSH = fileURLToPath(new URL('../php/push.php', import.meta.url));

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

const said = (uid) => `{"uid":"${uid}","percent":"88%"}`;

async function php(...args) {
  const { code, stdout, stderr } = await run('php', args);
  assert.equal(code, 0, stderr);
  return stdout;
}

async function bound(server, uid, count) {
  await until(`${uid} has ${count} connections`, async () => await connectionsOf(server, uid) === count);
}

/** Opens our page in a new tab, connected as `uid`. */
async function openTab(server, uid) {
  const count = await connectionsOf(server, uid);
  const tab = await browser.newPage();
  await tab.goto(`${OUR_PAGE}?ws=${server.public.address}&uid=${uid}`);
  await tab.click('#connect');
  await bound(server, uid, count + 1);
  return tab;
}

const shows = (tab, text) => tab.waitForFunction((wanted) => document.getElementById('value').textContent === wanted, text);
const shown = (tab) => tab.textContent('#value');

test('a page opened from a file shows what PHP pushes, and PHP prints ok', async (t) => {
  const server = await startServer({ owner: t });
  assert.equal(await php(OUR_PUSH, server.text.address), 'fail\n');
  const tab = await openTab(server, 'uid1');
  assert.equal(await php(OUR_PUSH, server.text.address), 'ok\n');
  await shows(tab, said('uid1'));
  await tab.click('#send');
  assert.equal(await php(OUR_PUSH, server.text.address), 'ok\n');
  await tab.click('#close');
  await tab.waitForFunction(() => document.getElementById('state').textContent === 'closed 1000');
  await bound(server, 'uid1', 0);
  assert.equal(await php(OUR_PUSH, server.text.address), 'fail\n');
});

test('several tabs of two uids each get only their own', async (t) => {
  const server = await startServer({ owner: t });
  const tabs = { uid1: [], uid2: [] };
  for (const uid of ['uid1', 'uid2', 'uid1', 'uid2']) tabs[uid].push(await openTab(server, uid));
  assert.equal(await php(OUR_PUSH, server.text.address, 'uid1'), 'ok\n');
  for (const tab of tabs.uid1) await shows(tab, said('uid1'));
  assert.equal(await php(OUR_PUSH, server.text.address, 'uid2'), 'ok\n');
  for (const tab of tabs.uid2) await shows(tab, said('uid2'));
  for (const tab of tabs.uid1) assert.equal(await shown(tab), said('uid1'));
});

test('closing the older tab, or reloading it, changes nothing for the newer', async (t) => {
  const server = await startServer({ owner: t });
  const older = await openTab(server, 'uid1');
  const newer = await openTab(server, 'uid1');
  await older.reload();
  await bound(server, 'uid1', 1);
  assert.equal(await php(OUR_PUSH, server.text.address), 'ok\n');
  await shows(newer, said('uid1'));
  const third = await openTab(server, 'uid1');
  await newer.close();
  await bound(server, 'uid1', 1);
  assert.equal(await php(OUR_PUSH, server.text.address), 'ok\n');
  await shows(third, said('uid1'));
});

const original = (name) => join(seedFolder, name);
const seedMissing = existsSync(original('client.html')) && existsSync(original('push.php'))
  ? false
  : `the article's own files are not at ${seedFolder}`;

test("the article's own client.html and push.php, unmodified, on its ports", { skip: seedMissing }, async (t) => {
  const server = await startServer({
    ports: { public: '127.0.0.1:19999', text: '127.0.0.1:10002' }, owner: t,
  });
  assert.equal(await php(original('push.php')), 'fail\n');
  const tab = await browser.newPage();
  const errors = [];
  tab.on('pageerror', (error) => errors.push(error.message));
  await tab.goto(pathToFileURL(original('client.html')).href);
  await tab.click('#btConnect');
  await bound(server, 'uid1', 1);
  assert.equal(await php(original('push.php')), 'ok\n');
  await tab.waitForFunction((wanted) => document.getElementById('val').textContent === wanted, said('uid1'));
  await tab.click('#btSendAndReceive');

  // A second tab, then the older one closes: the newer goes on.
  const newer = await browser.newPage();
  await newer.goto(pathToFileURL(original('client.html')).href);
  await newer.click('#btConnect');
  await bound(server, 'uid1', 2);
  await tab.click('#btClose');
  await bound(server, 'uid1', 1);
  assert.equal(await php(original('push.php')), 'ok\n');
  await newer.waitForFunction((wanted) => document.getElementById('val').textContent === wanted, said('uid1'));
  await newer.click('#btClose');
  await bound(server, 'uid1', 0);
  assert.equal(await php(original('push.php')), 'fail\n');
  assert.deepEqual(errors, []);
});
