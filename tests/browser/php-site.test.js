// examples/php-site in real browsers: a computer that signs in to it and a phone that agrees or refuses, first by the
// built-in demo provider, then with WeChat, for which nothing of the site changes.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';

import { answer, openQuestion } from '../lib/computer.js';
import { computer, heading, phone, scan } from '../lib/login.js';
import { openProgram } from '../lib/mini-program.js';
import { openSite, startPhpSite } from '../lib/php-site.js';
import { until } from '../lib/until.js';
import {
  AES_KEY, MICRO_MESSENGER, OFFICIAL, PROGRAM, TOKEN, WEBSITE, linkTo, secretOf, startWeChat,
} from '../lib/wechat.js';

/** The site with the demo provider, a computer on it and a phone: `{ server, address, page, mobile, shown }`. */
async function site(t) {
  const { server, address } = await startPhpSite(t, 'demo', 'kind = "demo"');
  const machine = await computer(t, 'about:blank');
  const mobile = await phone(t);
  const shown = await openSite(machine, address);
  return { server, address, ...machine, mobile, shown };
}

/** Waits for what the site itself says, once it knows who it is. */
async function signedIn(page) {
  await page.waitForSelector('#who');
  return page.textContent('#who');
}

async function agree(mobile, shown) {
  await scan(mobile, shown);
  await mobile.page.click('#approve button');
}

const inState = (page, state) => page.waitForFunction(
  (wanted) => document.querySelector('doorbell-login')?.state === wanted, state, { timeout: 10_000 },
);

const sessionCookie = async (context) => (await context.cookies()).find(({ name }) => name === 'PHPSESSID');

test('agree: the PHP session says who, keeps it over a reload, and signing out ends what came of the login', async (t) => {
  const { server, address, context, page, complaints, mobile, shown } = await site(t);
  const before = await sessionCookie(context);
  await scan(mobile, shown);
  assert.equal(await heading(mobile.page), 'Sign in to A site in PHP?');
  await inState(page, 'scanned');
  await mobile.page.check('input[value="Bob"]', { force: true });
  await mobile.page.click('#approve button');
  assert.equal(await signedIn(page), 'Signed in as Bob');
  assert.match(await page.getAttribute('#who', 'data-user'), /^demo::/);
  assert.equal(page.url(), address, 'no code in an address');
  const after = await sessionCookie(context);
  assert.notEqual(after.value, before.value, 'a session known before the login is none of it');
  assert.deepEqual([after.httpOnly, after.sameSite], [true, 'Lax']);
  await page.reload();
  assert.equal(await signedIn(page), 'Signed in as Bob');

  // What had the session's id before has nothing now.
  const stranger = await fetch(address, { headers: { Cookie: `PHPSESSID=${before.value}` } });
  assert.doesNotMatch(await stranger.text(), /Signed in/);

  await page.click('text=Sign out');
  await page.waitForSelector('doorbell-login');
  assert.equal((await page.textContent('#notice')), '');
  await mobile.page.waitForFunction(() => document.querySelector('h1').textContent === 'Signed out');
  await page.reload();
  assert.equal(await page.locator('#who').count(), 0);
  assert.deepEqual(complaints, []);
  assert.match(await (await fetch(`http://${server.api.address}/metrics`)).text(), /doorbell_logins_total\{[^}]*step="revoked"[^}]*\} 1/);
});

test('refuse: the page says so, and a new code signs in', async (t) => {
  const { page, mobile, shown } = await site(t);
  await scan(mobile, shown);
  await mobile.page.click('#deny button');
  await inState(page, 'denied');
  await page.getByText(/refused/i).first().waitFor();
  assert.equal(await page.locator('#who').count(), 0);
  const begins = page.waitForResponse((response) => response.url().endsWith('/v1/device_authorization'));
  await page.evaluate(() => document.querySelector('doorbell-login').renew());
  await agree(mobile, (await (await begins).json()).verification_uri_complete);
  assert.equal(await signedIn(page), 'Signed in as Alice');
});

test('a posted code works once, in the visit it belongs to, and not from elsewhere', async (t) => {
  const { address, context, page, mobile, shown } = await site(t);
  // The form that the page posts is held back, so that others can try it first.
  let held;
  await page.route((url) => url.searchParams.has('token'), async (route) => {
    const request = route.request();
    held = { url: request.url(), body: request.postData() };
    await route.abort();
  });
  const posts = page.waitForEvent('requestfailed', (request) => request.method() === 'POST' && request.url().startsWith(address));
  await agree(mobile, shown);
  await posts;
  const post = async (url, cookie, body = held.body) => {
    const response = await fetch(url, {
      method: 'POST', redirect: 'manual', body,
      headers: { 'Content-Type': 'application/x-www-form-urlencoded', ...(cookie && { Cookie: cookie }) },
    });
    assert.equal(response.status, 303);
    const cookies = response.headers.getSetCookie().map((line) => line.split(';')[0]);
    const next = await fetch(address, { headers: { Cookie: cookies.at(-1) ?? cookie } });
    return next.text();
  };
  /** Another visitor's session, and where its page posts to. */
  const visit = async () => {
    const response = await fetch(address);
    const [cookie] = response.headers.getSetCookie()[0].split(';');
    return { cookie, url: new URL(/action="(\?token=\w+)"/.exec(await response.text())[1], address).href };
  };
  const { value } = await sessionCookie(context);
  const own = `PHPSESSID=${value}`;
  const other = await visit();

  // As from a page of another site: the browser sends no cookie, or one whose token that page does not know.
  assert.match(await post(held.url), /from an old page/);
  assert.match(await post(address, own), /from an old page/);
  assert.match(await post(held.url, other.cookie), /from an old page/);
  assert.match(await post(`${address}?token[]=`, own), /from an old page/);

  // None of it used the code up.
  assert.match(await post(held.url, own), /Signed in as Alice/);
  // The same again, as it was and as a visitor with a token of its own.
  assert.doesNotMatch(await post(held.url, own), /Signed in/);
  const replayed = await post(other.url, other.cookie);
  assert.match(replayed, /no longer good/);
  assert.doesNotMatch(replayed, /Signed in/);
});

test('a code without the verifier of its tab, or no code at all, signs nobody in', async (t) => {
  const { address, page, mobile, shown } = await site(t);
  await page.evaluate(() => {
    document.addEventListener('doorbell-login:approved', (event) => {
      event.preventDefault();
      window.approved = event.detail;
    });
  });
  await agree(mobile, shown);
  const { code } = await (await page.waitForFunction(() => window.approved)).jsonValue();
  for (const fields of [{ code, code_verifier: 'x'.repeat(43) }, { code }, {}, { 'code[]': code, 'code_verifier[]': 'x' }]) {
    await page.goto(address);
    await page.evaluate((fields) => {
      const form = document.createElement('form');
      Object.assign(form, { method: 'post', action: document.querySelector('doorbell-login').getAttribute('action') });
      for (const [name, value] of Object.entries(fields)) {
        form.append(Object.assign(document.createElement('input'), { name, value }));
      }
      document.body.append(form);
      form.submit();
    }, fields);
    await page.waitForFunction(() => document.querySelector('#notice')?.textContent !== '');
    assert.equal(await page.locator('#who').count(), 0);
  }
});

test('a server that is away is said, and the page stays', async (t) => {
  const { server, page, mobile, shown, address } = await site(t);
  await agree(mobile, shown);
  await signedIn(page);
  await server.stop();
  await page.click('text=Sign out');
  await page.waitForFunction(() => document.querySelector('#notice')?.textContent.startsWith('Doorbell could not be asked'));
  assert.equal(page.url(), address);
  assert.equal(await page.locator('#who').count(), 0, 'signed out here all the same');
});

test('the site is one file of less than 60 lines', async () => {
  const text = await readFile(new URL('../../examples/php-site/index.php', import.meta.url), 'utf8');
  assert.ok(text.split('\n').length - 1 < 60);
});

/** How somebody agrees whose WeChat scans what the page shows: a code of the server's, a text, a page or a picture of WeChat's. */
const AGREES = {
  async 'wechat-web'({ shown, mobile }) {
    await openQuestion(mobile, shown);
    await answer(mobile, 'approve').click();
    await mobile.click('#allow');
  },
  async 'wechat-mp'({ wechat, shown, mobile }) {
    await wechat.scan('xiaoming', shown);
    await openQuestion(mobile, await linkTo(wechat, 'xiaoming'));
    await answer(mobile, 'approve').click();
  },
  async 'wechat-open'({ wechat, page }) {
    const code = page.frameLocator('doorbell-login iframe').locator('#qr');
    const text = await code.getAttribute('data-text');
    // Without a click there no browser lets a frame take the window, unless both are of one domain.
    await code.click();
    await wechat.scan('xiaoming', text);
    await wechat.order('agree', { uuid: new URL(text).searchParams.get('uuid'), person: 'xiaoming' });
  },
  async 'wechat-miniprogram'({ wechat, server, page }) {
    const picture = page.locator('doorbell-login img');
    await picture.waitFor();
    const [width, complaint] = await picture.evaluate((image) => image.decode().then(() => [image.naturalWidth], (error) => [0, String(error)]));
    assert.ok(width > 200, complaint);
    // A reload goes on with the same login and the same picture.
    const source = await picture.getAttribute('src');
    await page.reload();
    await picture.waitFor();
    assert.equal(await picture.getAttribute('src'), source);
    const program = await openProgram(wechat, server, 'xiaoming', await wechat.lastProgramCode());
    await until('the mini program asks', () => program.data.login);
    await program.agree();
  },
};

for (const [kind, agrees] of Object.entries(AGREES)) {
  test(`with WeChat, by ${kind}: only the server's configuration is another`, async (t) => {
    const wechat = await startWeChat(t);
    const appid = { 'wechat-open': WEBSITE, 'wechat-miniprogram': PROGRAM }[kind] ?? OFFICIAL;
    const callback = { token: TOKEN, encoding_aes_key: AES_KEY };
    const more = {
      'wechat-web': 'scope = "userinfo"',
      'wechat-mp': Object.entries(callback).map(([name, value]) => `${name} = "${value}"`).join('\n'),
    };
    const { server, address } = await startPhpSite(t, 'wechat', `
kind = "${kind}"
appid = "${appid}"
secret = "${secretOf(appid)}"
api_base = "${wechat.base}"
open_base = "${wechat.base}"
${more[kind] ?? ''}
`);
    await wechat.callback(OFFICIAL, { url: `http://${server.public.address}/v1/callback/wechat`, ...callback });
    const machine = await computer(t, 'about:blank');
    const shown = await openSite(machine, address);
    const { context, page: mobile } = await phone(t, { userAgent: MICRO_MESSENGER, locale: 'zh-CN' });
    await context.addCookies([{ name: 'standin_person', value: 'xiaoming', url: wechat.base }]);
    await agrees({ wechat, server, shown, mobile, page: machine.page });
    const who = await signedIn(machine.page);
    assert.equal(machine.page.url(), address);
    assert.match(await machine.page.getAttribute('#who', 'data-user'), new RegExp(`^wechat:${appid}:o[\\w-]{27}$`));
    if (['wechat-web', 'wechat-open'].includes(kind)) assert.equal(who, 'Signed in as 小明');
  });
}
