// Sign-in by a scan in two real browsers with profiles of their own: the demonstration's page on a computer, and the
// server's page on a phone.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { asClient, code, computer, heading, inState, part, phone, scan } from '../lib/login.js';
import { Page } from '../lib/page.js';
import { startServer } from '../lib/server.js';
import { until } from '../lib/until.js';

const CLIENTS = `
[[login.clients]]
id = "numbers"
name = "Numbers"
providers = ["demo"]
number_match = "to_phone"
[[login.clients]]
id = "digits"
name = "Digits"
providers = ["demo"]
number_match = "to_browser"
`;

/** The demonstration with a `[login]` section and a few clients more. */
async function demo(t, login = '') {
  const server = await startServer({ command: 'demo', config: `[login]\n${login}\n${CLIENTS}`, owner: t });
  return { server, address: `http://${server.public.address}/` };
}

/** The demonstration's page for another client. */
async function withClient(t, address, client, options) {
  const it = await computer(t, address, options);
  await asClient(it.page, client);
  return it;
}

test('agree: the phone shows the computer, and within a second the page has its code and knows who it is', async (t) => {
  const { address } = await demo(t);
  const { page, complaints } = await computer(t, address);
  const mobile = await phone(t);
  await page.evaluate(() => {
    document.querySelector('doorbell-login').addEventListener('doorbell-login:approved', () => { window.approvedAt = Date.now(); });
  });
  await scan(mobile, await code(page));
  await inState(page, 'scanned');
  assert.equal(await heading(mobile.page), 'Sign in to Doorbell demo?');
  const shown = await mobile.page.textContent('main');
  for (const part of ['Chrome on Linux', '127.0.0.1', 'just now']) assert.ok(shown.includes(part), `${part}: ${shown}`);

  await mobile.page.check('input[value="Bob"]', { force: true });
  const agreedAt = await mobile.page.evaluate(() => {
    const at = Date.now();
    document.querySelector('#approve button').click();
    return at;
  });
  await page.waitForSelector('#signed-in:not([hidden])');
  assert.equal(await page.textContent('#who'), 'Signed in as Bob');
  const took = await page.evaluate(() => window.approvedAt) - agreedAt;
  assert.ok(took <= 1_000, `the page had its code after ${took} ms`);

  // The phone hears the end of it, too, and can take it back.
  await mobile.page.waitForFunction(() => document.querySelector('h1').textContent.startsWith('You are signed in to'));
  assert.match(await mobile.page.textContent('main'), /Signed in on\s+Chrome on Linux/);
  await mobile.page.click('text=That was not me');
  await page.waitForSelector('#signed-out:not([hidden])');
  assert.equal(await page.textContent('#ended'), 'Signed out: the phone ended it.');
  assert.equal(await heading(mobile.page), 'Signed out');
  assert.deepEqual([...complaints, ...mobile.complaints], []);
});

test('refuse: both sides say so, and a new code is one click away', async (t) => {
  const { address } = await demo(t);
  const { page } = await computer(t, address);
  const mobile = await phone(t);
  const first = await code(page);
  await scan(mobile, first);
  await mobile.page.click('#deny button');
  await inState(page, 'denied');
  await mobile.page.waitForFunction(() => document.querySelector('h1').textContent === 'Refused');
  await page.evaluate(() => document.querySelector('doorbell-login').renew());
  await scan(mobile, await code(page, first));
  await mobile.page.click('#approve button');
  await page.waitForSelector('#signed-in:not([hidden])');
});

test('walk away: expired on both sides, before the scan and after it', async (t) => {
  const { address } = await demo(t, 'created_ttl = "10s"\nscanned_ttl = "5s"');
  const { page } = await computer(t, address);
  const mobile = await phone(t);
  const first = await code(page);
  await inState(page, 'expired', 30_000);
  await mobile.page.goto(first);
  assert.equal(await heading(mobile.page), 'This code has expired');

  await page.evaluate(() => document.querySelector('doorbell-login').renew());
  await scan(mobile, await code(page, first));
  await inState(page, 'expired', 30_000);
  await mobile.page.waitForFunction(() => document.querySelector('h1').textContent === 'This code has expired');
});

test('a page that is reloaded in the middle goes on', async (t) => {
  const { address } = await demo(t);
  const { page } = await computer(t, address);
  const mobile = await phone(t);
  await scan(mobile, await code(page));
  await inState(page, 'scanned');
  await page.reload();
  await inState(page, 'scanned');
  await mobile.page.click('#approve button');
  await page.waitForSelector('#signed-in:not([hidden])');
  assert.equal(await page.textContent('#who'), 'Signed in as Alice');
});

test('two phones: the second is told that the code is taken, and the first goes on', async (t) => {
  const { address } = await demo(t);
  const { page } = await computer(t, address);
  const [first, second] = [await phone(t), await phone(t)];
  const shown = await code(page);
  await scan(first, shown);
  await second.page.goto(shown);
  await second.page.waitForFunction(() => document.querySelector('h1').textContent === 'Another phone has this code');
  await first.page.click('#approve button');
  await page.waitForSelector('#signed-in:not([hidden])');
});

test('a renewed code: the old one says so, and the new one works', async (t) => {
  const { address } = await demo(t, 'rotate = "2s"\nrotate_grace = "0s"');
  const { page } = await computer(t, address);
  const mobile = await phone(t);
  const old = await code(page);
  const fresh = await code(page, old);
  await mobile.page.goto(old);
  assert.equal(await heading(mobile.page), 'The code was renewed');
  await scan(mobile, await code(page) ?? fresh);
});

test('a computer that gives up is told on the phone', async (t) => {
  const { address } = await demo(t);
  const { page } = await computer(t, address);
  const mobile = await phone(t);
  await scan(mobile, await code(page));
  await page.evaluate(() => document.querySelector('doorbell-login').cancel());
  await mobile.page.waitForFunction(() => document.querySelector('h1').textContent === 'The computer gave up');
});

test('the number of the computer: three wrong ones refuse, a right one goes on', async (t) => {
  const { address } = await demo(t);
  const { page } = await withClient(t, address, 'numbers');
  const mobile = await phone(t);
  const first = await code(page);
  await scan(mobile, first);
  const right = await part(page, 'number').textContent();
  assert.match(right, /^\d\d$/);
  assert.ok(!(await mobile.page.content()).replace(/<style>[\s\S]*?<\/style>|<script>[\s\S]*?<\/script>/g, '').includes(`>${right}<`));
  const wrong = String((Number(right) + 1) % 100).padStart(2, '0');
  for (const left of ['2 tries are left', 'One try is left']) {
    await mobile.page.fill('#number', wrong);
    await mobile.page.click('#approve button');
    await mobile.page.waitForFunction((text) => document.body.textContent.includes(text), left);
  }
  await mobile.page.fill('#number', wrong);
  await mobile.page.click('#approve button');
  await mobile.page.waitForFunction(() => document.querySelector('h1').textContent === 'Refused: wrong number');
  await inState(page, 'denied');

  await page.evaluate(() => document.querySelector('doorbell-login').renew());
  await scan(mobile, await code(page, first));
  await mobile.page.fill('#number', await part(page, 'number').textContent());
  await mobile.page.click('#approve button');
  await inState(page, 'approved');
});

test('the digits of the phone: the page gets its code only once they were typed there', async (t) => {
  const { address } = await demo(t);
  const { page } = await withClient(t, address, 'digits');
  await page.evaluate(() => {
    window.codes = 0;
    document.querySelector('doorbell-login').addEventListener('doorbell-login:approved', () => { window.codes += 1; });
  });
  const mobile = await phone(t);
  await scan(mobile, await code(page));
  await mobile.page.click('#approve button');
  const digits = await mobile.page.getAttribute('.digits', 'aria-label');
  assert.match(digits, /^\d{6}$/);
  const type = async (number) => {
    await part(page, 'input').fill(number);
    await part(page, 'input').press('Enter');
  };
  await type(digits === '000000' ? '000001' : '000000');
  await part(page, 'error').getByText('not the number').waitFor();
  assert.equal(await page.evaluate(() => window.codes), 0);
  await type(digits);
  await page.waitForFunction(() => window.codes === 1);
});

test('without JavaScript the phone needs one tap more, and only POST does anything', async (t) => {
  const { address } = await demo(t);
  const { page } = await computer(t, address);
  const mobile = await phone(t, { javaScriptEnabled: false });
  await mobile.page.goto(await code(page));
  await mobile.page.reload();
  assert.equal(await page.evaluate(() => document.querySelector('doorbell-login').state), 'pending');
  await mobile.page.click('#scan button');
  await inState(page, 'scanned');
  // The computer is told before the phone has its next page, and a page on its way cannot be reloaded.
  await mobile.page.waitForSelector('#approve button');
  await mobile.page.reload();
  await mobile.page.click('#approve button');
  assert.match(await heading(mobile.page), /Agreed|You are signed in/);
  await page.waitForSelector('#signed-in:not([hidden])');
});

test('a code typed on the phone leads to the same question', async (t) => {
  const { address } = await demo(t);
  const { page } = await computer(t, address);
  const mobile = await phone(t);
  await code(page);
  const typed = await part(page, 'user-code').textContent();
  await mobile.page.goto(`${address}s`);
  await mobile.page.fill('#code', 'BBBB-BBBB');
  await mobile.page.click('button');
  await mobile.page.waitForSelector('#wrong');
  await mobile.page.fill('#code', typed.toLowerCase());
  await mobile.page.click('button');
  await mobile.page.waitForSelector('#approve');
});

test('the phone speaks Chinese to those who read it', async (t) => {
  const { address } = await demo(t);
  const { page } = await computer(t, address);
  const mobile = await phone(t, { locale: 'zh-CN' });
  await scan(mobile, await code(page));
  assert.equal(await heading(mobile.page), '登录 Doorbell demo？');
  assert.equal((await mobile.page.textContent('#deny button')).trim(), '拒绝');
});

test('the phone page is strict: nothing from elsewhere, no frame, no referrer, not kept', async (t) => {
  const { address } = await demo(t);
  const { page } = await computer(t, address);
  const response = await fetch(await code(page));
  const headers = Object.fromEntries(response.headers);
  assert.match(headers['content-security-policy'], /default-src 'none'.*frame-ancestors 'none'/);
  assert.doesNotMatch(headers['content-security-policy'], /unsafe/);
  for (const [name, value] of [
    ['referrer-policy', 'no-referrer'], ['cache-control', 'no-store'], ['x-frame-options', 'DENY'], ['x-content-type-options', 'nosniff'],
  ]) assert.equal(headers[name], value);
  assert.doesNotMatch(await response.text(), /(?:src|href)="(?:https?:)?\/\//);
});

test('signing out ends the token on the server, and the phone is told', async (t) => {
  const { server, address } = await demo(t);
  const { page, complaints } = await computer(t, address);
  const mobile = await phone(t);
  await scan(mobile, await code(page));
  await mobile.page.click('#approve button');
  await page.waitForSelector('#signed-in:not([hidden])');
  const { token } = JSON.parse(await page.evaluate(() => sessionStorage.getItem('doorbell-demo-session')));
  // Another of the person's pages, such as one whose token was stolen.
  const other = await Page.as(server, token);
  await page.click('#sign-out');
  assert.equal(await other.closeCodeWithin(), 3500);
  await page.waitForSelector('#signed-out:not([hidden])');
  assert.equal(await page.textContent('#ended'), 'Signed out.');
  const late = await Page.connect(server);
  late.send(token);
  assert.equal(await late.closeCodeWithin(), 3500);
  await mobile.page.waitForFunction(() => document.querySelector('h1').textContent === 'Signed out');
  await code(page);
  assert.deepEqual([...complaints, ...mobile.complaints], []);
});

test('a page that is loaded anew while somebody is signed in begins no login', async (t) => {
  const { address } = await demo(t);
  const { page } = await computer(t, address);
  const mobile = await phone(t);
  await scan(mobile, await code(page));
  await mobile.page.click('#approve button');
  await page.waitForSelector('#signed-in:not([hidden])');
  const asked = [];
  page.on('request', (request) => asked.push(new URL(request.url()).pathname));
  await page.reload({ waitUntil: 'networkidle' });
  assert.equal(await page.textContent('#who'), 'Signed in as Alice');
  assert.ok(!asked.includes('/v1/device_authorization'), asked.join(' '));
});

test('others in the network may sign in to the demonstration and not push', async (t) => {
  const server = await startServer({ command: 'demo', args: ['--lan'], owner: t });
  const address = `http://${server.public.address}`;
  const { page } = await computer(t, `${address}/`);
  const mobile = await phone(t);
  await scan(mobile, await code(page));
  await mobile.page.click('#approve button');
  await page.waitForSelector('#signed-in:not([hidden])');
  // This machine may push, with a token the page asks for.
  await page.goto(`${address}/push`);
  await page.click('#connect-button');
  await page.waitForSelector('[data-state="connected"]');
  await page.click('#push-button');
  await page.waitForSelector('#push-result[data-outcome="heard"]');
  await until('the message', async () => await page.locator('#messages li').count() === 1);
});
