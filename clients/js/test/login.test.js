// <doorbell-login> in a real Chromium against the real server, with a phone that reads the code off the screen.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';

import { launch } from '../../../tests/lib/browser.js';
import { startServer } from '../../../tests/lib/server.js';
import { until } from '../../../tests/lib/until.js';
import { CONFIG, Phone, readQr, redeem, startLoginSite } from './lib/login.js';
import { startProxy } from './lib/proxy.js';

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let browser;
let server;
before(async () => {
  browser = await launch();
  server = await startServer({ config: CONFIG });
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

async function open(t, site, query = {}, options = {}) {
  const context = await browser.newContext(options);
  t.after(() => context.close().catch(() => {}));
  const tab = await context.newPage();
  tab.errors = [];
  tab.on('pageerror', (error) => tab.errors.push(error.message));
  await tab.goto(site.page(query));
  return tab;
}

/** Opens a login page of its own site. */
async function loginPage(t, query = {}, { on = server, at, ...options } = {}) {
  return open(t, await startLoginSite(t, on, { at }), query, options);
}

const state = (tab, wanted, ms = 20_000) => tab.waitForFunction(
  (name) => document.querySelector('doorbell-login')?.state === name, wanted, { timeout: ms },
);
const states = (tab) => tab.evaluate(() => heard.filter(([name]) => name === 'state').map(([, detail]) => detail.state));
const event = (tab, name) => tab.evaluate((wanted) => heard.find(([one]) => one === wanted)?.[1] ?? null, name);
const login = (tab) => tab.evaluate(() => document.querySelector('doorbell-login').login);
const text = (tab, part) => tab.locator(`doorbell-login [part="${part}"]`).textContent();

async function scanned(tab) {
  await state(tab, 'pending');
  const phone = await Phone.open(await readQr(tab));
  assert.equal((await phone.scan()).status, 200);
  await state(tab, 'scanned');
  return phone;
}

test('pending, scanned, approved: the page has the one-time code, and the backend redeems it with its verifier, once', async (t) => {
  const tab = await loginPage(t);
  await state(tab, 'pending');
  assert.equal(await text(tab, 'status'), 'Scan the code with your phone.');
  const phone = await scanned(tab);
  assert.equal(await text(tab, 'status'), 'Scanned. Confirm on your phone.');
  const agreed = performance.now();
  await phone.approve('Ada');
  await state(tab, 'approved');
  assert.ok(performance.now() - agreed < 2_000, 'soon');
  const approved = await event(tab, 'approved');
  assert.deepEqual(Object.keys(approved).sort(), ['code', 'code_verifier', 'login']);
  assert.deepEqual(await states(tab), ['starting', 'pending', 'scanned', 'approved']);
  assert.notEqual((await redeem(server, { ...approved, code_verifier: 'x'.repeat(43) })).status, 200, 'not without it');
  const redeemed = await redeem(server, approved);
  assert.deepEqual([redeemed.status, redeemed.body.identity.name], [200, 'Ada']);
  assert.equal((await redeem(server, approved)).status, 409);
  const secrets = [approved.code, approved.code_verifier];
  assert.ok(!secrets.some((secret) => tab.url().includes(secret)));
  assert.equal(await tab.evaluate(() => sessionStorage.length), 0, 'nothing of it is left behind');
  assert.deepEqual(tab.errors, []);
});

test('with an action the code goes to the backend as a form, so one tag makes a login page', async (t) => {
  const site = await startLoginSite(t, server);
  const tab = await open(t, site, { more: 'action="/after-login"' });
  await (await scanned(tab)).approve('Ben');
  await tab.waitForSelector('#who');
  assert.equal(await tab.textContent('#who'), '200 Ben');
  assert.deepEqual(Object.keys(site.posted[0]).sort(), ['code', 'code_verifier', 'login']);
});

test('a strict content security policy leaves it its looks; who comes back by the back button gets a fresh code', async (t) => {
  const tab = await loginPage(t);
  await state(tab, 'pending');
  const width = await tab.evaluate(() => getComputedStyle(document.querySelector('doorbell-login')).width);
  assert.equal(width, '320px');
  await (await scanned(tab)).approve('Ada');
  await state(tab, 'approved');
  const first = await login(tab);
  await tab.evaluate(() => { dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })); });
  await state(tab, 'pending');
  assert.notEqual(await login(tab), first);
});

test('a listener can keep the form back', async (t) => {
  const site = await startLoginSite(t, server);
  const tab = await open(t, site, { more: 'action="/after-login"' });
  await tab.evaluate(() => addEventListener('doorbell-login:approved', (approved) => approved.preventDefault()));
  await (await scanned(tab)).approve('Ben');
  await state(tab, 'approved');
  assert.deepEqual([await tab.title(), site.posted], ['Sign in', []]);
});

test('refused on the phone: the page says so, and one tap gives another code', async (t) => {
  const tab = await loginPage(t);
  const phone = await scanned(tab);
  const first = await login(tab);
  await phone.deny();
  await state(tab, 'denied');
  assert.equal(await text(tab, 'status'), 'The sign-in was refused on the phone.');
  assert.equal((await event(tab, 'denied')).login, first);
  await tab.locator('doorbell-login').getByRole('button', { name: 'New code' }).click();
  await (await scanned(tab)).approve('Ada');
  await state(tab, 'approved');
  assert.notEqual(await login(tab), first);
});

test('another login begins with nothing of the one before, and one that only moves goes on', async (t) => {
  const tab = await loginPage(t);
  // Each beginning, and no state: what lasts for a moment may be over before anyone looks.
  const beginnings = (count) => tab.waitForFunction(
    (wanted) => heard.filter(([, { state }]) => state === 'pending').length === wanted, count, { timeout: 20_000 },
  );
  await beginnings(1);
  const first = await login(tab);
  await tab.evaluate(() => { document.body.append(document.querySelector('doorbell-login')); });
  await beginnings(2);
  assert.equal(await login(tab), first, 'moved');
  await tab.evaluate(() => document.querySelector('doorbell-login').renew());
  await beginnings(3);
  const second = await login(tab);
  await tab.evaluate(() => document.querySelector('doorbell-login').setAttribute('client-id', 'shop-to-phone'));
  await beginnings(4);
  assert.match(await text(tab, 'number'), /^\d\d$/, 'it is the other client\'s');
  const logins = await tab.evaluate(() => heard.map(([, { state, login, version }]) => [state, login ?? null, version ?? null]));
  const third = await login(tab);
  assert.equal(new Set([first, second, third]).size, 3);
  const begun = (login) => [['starting', null, null], ['pending', login, 1]];
  assert.deepEqual(logins, [first, first, second, third].flatMap(begun));
});

test('nobody comes: it expires, and one tap renews it', async (t) => {
  const quick = await startServer({ config: `${CONFIG}[login]\ncreated_ttl = "10s"\nrotate = "4s"\nrotate_grace = "1s"\n`, owner: t });
  const tab = await loginPage(t, {}, { on: quick });
  await state(tab, 'pending');
  const before = await readQr(tab);
  const spoken = await text(tab, 'status');
  await until('the code changed silently', async () => await readQr(tab) !== before, 8_000);
  assert.equal(await text(tab, 'status'), spoken);
  await state(tab, 'expired', 20_000);
  assert.ok(await event(tab, 'expired'));
  await tab.locator('doorbell-login').getByRole('button', { name: 'New code' }).click();
  await (await scanned(tab)).approve('Ada');
  await state(tab, 'approved');
});

test('reloaded in the middle it goes on, before and after the scan, with nothing in the address', async (t) => {
  const tab = await loginPage(t);
  await state(tab, 'pending');
  const first = await login(tab);
  const address = tab.url();
  await tab.reload();
  await state(tab, 'pending');
  assert.equal(await login(tab), first);
  const phone = await scanned(tab);
  await tab.reload();
  await state(tab, 'scanned');
  assert.equal(await login(tab), first);
  await phone.approve('Ada');
  await state(tab, 'approved');
  assert.equal((await redeem(server, await event(tab, 'approved'))).status, 200);
  assert.equal(tab.url(), address);
});

test('a duplicated tab begins a login of its own', async (t) => {
  const tab = await loginPage(t);
  await state(tab, 'pending');
  const copying = tab.context().waitForEvent('page');
  await tab.evaluate(() => { open(location.href); });
  const copy = await copying;
  await state(copy, 'pending');
  assert.equal(await copy.evaluate(() => sessionStorage.length), 1);
  assert.notEqual(await login(copy), await login(tab));
});

test('to_phone: the page shows two digits; only who types them on the phone can agree', async (t) => {
  const tab = await loginPage(t, { client: 'shop-to-phone' });
  const phone = await scanned(tab);
  const number = await text(tab, 'number');
  assert.match(number, /^\d\d$/);
  const wrong = String((Number(number) + 1) % 100).padStart(2, '0');
  assert.equal((await phone.approve('Ada', { number: wrong })).status, 400);
  assert.equal((await phone.approve('Ada', { number })).status, 200);
  await state(tab, 'approved');
  assert.ok((await event(tab, 'approved')).code);
});

test('to_browser: the page asks for the six digits of the phone, says when they are wrong, and goes on with the right', async (t) => {
  const tab = await loginPage(t, { client: 'shop-to-browser' });
  const phone = await scanned(tab);
  const { digits } = (await phone.approve('Ada')).body;
  assert.match(digits, /^\d{6}$/);
  await state(tab, 'approved');
  const box = tab.getByLabel('Number on your phone');
  await box.waitFor();
  assert.ok(await box.evaluate((input) => input.getRootNode().activeElement === input), 'it has the focus');
  await box.fill('12');
  await box.press('Enter');
  assert.match(await text(tab, 'error'), /six digits/);
  await box.fill(String((Number(digits) + 1) % 1_000_000).padStart(6, '0'));
  await box.press('Enter');
  await tab.waitForFunction(() => /Tries left: 2/.test(document.querySelector('doorbell-login').shadowRoot.querySelector('[part=error]').textContent));
  assert.equal(await event(tab, 'approved'), null);
  await box.fill(digits);
  await box.press('Enter');
  await until('it has the code', () => event(tab, 'approved'));
  assert.equal((await redeem(server, await event(tab, 'approved'))).status, 200);
});

test('three wrong numbers and it is refused', async (t) => {
  const tab = await loginPage(t, { client: 'shop-to-browser' });
  const phone = await scanned(tab);
  const { digits } = (await phone.approve('Ada')).body;
  const box = tab.getByLabel('Number on your phone');
  for (const n of [1, 2, 3]) {
    await box.fill(String((Number(digits) + n) % 1_000_000).padStart(6, '0'));
    await box.press('Enter');
    if (n < 3) await tab.waitForFunction((left) => document.querySelector('doorbell-login').shadowRoot.querySelector('[part=error]').textContent.includes(left), `left: ${3 - n}`);
  }
  await state(tab, 'denied');
  assert.equal(await event(tab, 'approved'), null);
});

for (const [blocked, way] of [[['websocket'], 'sse'], [['websocket', 'sse'], 'longpoll']]) {
  test(`${blocked.join(' and ')} blocked: the same page by ${way}`, async (t) => {
    const proxy = await startProxy(t, server.public);
    blocked.forEach((one) => proxy.refused.add(one));
    const tab = await loginPage(t, {}, { at: proxy });
    const phone = await scanned(tab);
    await phone.approve('Ada');
    await state(tab, 'approved');
    assert.equal(proxy.seen.websocket, 0);
  });
}

test('turned away when it wants to be told, it waits as asked, and polls', async (t) => {
  const full = await startServer({ config: `${CONFIG}[login]\nopening = 0\n`, owner: t });
  const tab = await loginPage(t, {}, { on: full });
  const answers = [];
  tab.on('response', (response) => {
    const { pathname } = new URL(response.url());
    if (pathname.startsWith('/v1/login')) answers.push([pathname, response.status()]);
  });
  const phone = await scanned(tab);
  await phone.approve('Ada');
  await state(tab, 'approved');
  assert.equal((await redeem(full, await event(tab, 'approved'))).status, 200);
  // Once, not again and again: the server had said when.
  assert.deepEqual(answers.filter(([, status]) => status === 503), [['/v1/login/events', 503]]);
});

test('offline and back: it says so, and what happened meanwhile is there', async (t) => {
  const proxy = await startProxy(t, server.public);
  const tab = await loginPage(t, {}, { at: proxy });
  const phone = await scanned(tab);
  proxy.down = true;
  proxy.cut();
  await tab.context().setOffline(true);
  await tab.waitForFunction(() => /offline/.test(document.querySelector('doorbell-login').shadowRoot.querySelector('[part=link]').textContent));
  // The phone has a network of its own.
  phone.address = phone.address.replace(proxy.address, server.public.address);
  assert.equal((await phone.approve('Ada')).status, 200);
  proxy.down = false;
  await tab.context().setOffline(false);
  await state(tab, 'approved');
  assert.equal(await text(tab, 'link'), '');
  assert.equal((await redeem(server, await event(tab, 'approved'))).status, 200);
});

test('a server that was restarted: a fresh code without a word', async (t) => {
  const first = await startServer({ config: CONFIG });
  const tab = await loginPage(t, {}, { on: first });
  await state(tab, 'pending');
  const before = await login(tab);
  first.process.child.kill('SIGKILL');
  await first.process.exited;
  const second = await startServer({ config: CONFIG, ports: { public: first.public.address }, owner: t });
  await tab.waitForFunction((old) => {
    const { login: now, state: shown } = document.querySelector('doorbell-login');
    return shown === 'pending' && now !== old;
  }, before, { timeout: 40_000 });
  await (await scanned(tab)).approve('Ada');
  await state(tab, 'approved');
  assert.equal((await redeem(second, await event(tab, 'approved'))).status, 200);
});

test('in a local network without https, where browsers have no WebCrypto and no locks', async (t) => {
  const lan = await launch(['--host-resolver-rules=MAP *.lan.test 127.0.0.1']);
  t.after(() => lan.close());
  const config = `${CONFIG}[public]\norigins = ["*"]\n`;
  const named = await startServer({ config, owner: t });
  const site = await startLoginSite(t, named, { at: { ...named.public, name: 'push.lan.test' }, name: 'www.lan.test' });
  const tab = await lan.newPage();
  await tab.goto(site.page());
  await state(tab, 'pending');
  assert.equal(await tab.evaluate(() => isSecureContext), false);
  const shown = await readQr(tab);
  const phone = await Phone.open(shown.replace('push.lan.test', '127.0.0.1'));
  await phone.scan();
  await phone.approve('Ada');
  await state(tab, 'approved');
  assert.equal((await redeem(named, await event(tab, 'approved'))).status, 200);
});

test('what the server refuses is an error with its reason', async (t) => {
  const tab = await loginPage(t, { client: 'nobody' });
  await state(tab, 'error');
  const { error, status } = await event(tab, 'error');
  assert.deepEqual([error, status], ['invalid_client', 401]);
  assert.equal(await text(tab, 'status'), 'Signing in does not work right now.');
});

test('a logo leaves the code readable', async (t) => {
  const logo = '<svg slot="logo" viewBox="0 0 1 1" width="40" height="40"><rect width="1" height="1" fill="%23d33"/></svg>'.replace('%23', '#');
  const tab = await loginPage(t, { inner: logo });
  await state(tab, 'pending');
  assert.match(await readQr(tab), /\/s\/[\w-]{43}$/);
});

test('Chinese by the lang attribute, and by the browser where the page has none', async (t) => {
  const tab = await loginPage(t, { lang: 'zh-CN' });
  await state(tab, 'pending');
  assert.equal(await text(tab, 'status'), '请用手机扫描二维码。');
  await tab.evaluate(() => document.querySelector('doorbell-login').setAttribute('lang', 'en'));
  assert.equal(await text(tab, 'status'), 'Scan the code with your phone.');
});

test('a binding message is on both screens', async (t) => {
  const tab = await loginPage(t, { more: 'binding-message="Order 4711"' });
  const phone = await scanned(tab);
  assert.equal(await text(tab, 'binding'), 'Order 4711');
  const response = await fetch(phone.address, { headers: { Accept: 'application/json', Cookie: phone.cookie } });
  assert.equal((await response.json()).binding_message, 'Order 4711');
});

test('the typed code is there for who cannot scan', async (t) => {
  const tab = await loginPage(t);
  await state(tab, 'pending');
  await tab.getByText('Cannot scan?').click();
  assert.match(await text(tab, 'user-code'), /^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/);
  assert.equal(await tab.locator('doorbell-login [part=instead] a').getAttribute('href'), `http://${server.public.address}/s`);
});

test('on a phone a link leads to what the code says, and the page goes on when its owner comes back', async (t) => {
  const tab = await loginPage(t, {}, { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true });
  await state(tab, 'pending');
  const address = await tab.evaluate(() => document.querySelector('doorbell-login').address);
  assert.equal(address, await readQr(tab));
  const opening = tab.context().waitForEvent('page');
  await tab.getByText('Open on this device').click();
  const other = await opening;
  assert.equal(other.url(), address);
  await other.click('#approve button');
  await state(tab, 'approved');
  assert.ok((await event(tab, 'approved')).code);
  assert.equal(await tab.evaluate(() => document.querySelector('doorbell-login').address), null);

  const desktop = await loginPage(t);
  await state(desktop, 'pending');
  assert.equal(await desktop.getByText('Open on this device').isVisible(), false);
});

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing in any state, ${colorScheme}`, async (t) => {
    const findings = [];
    const look = async (tab, name) => {
      // By way of the debugger, which the site's content security policy does not bind.
      await tab.evaluate(axe);
      const { violations, passes } = await tab.evaluate(() => window.axe.run(document, { resultTypes: ['violations', 'passes'] }));
      assert.ok(passes.some(({ id }) => id === 'color-contrast'), `${name}: contrast was looked at`);
      findings.push(...violations.map(({ id, nodes }) => `${name}: ${id}: ${nodes.map(({ html }) => html).join(' ')}`));
    };
    const options = { colorScheme };
    const tab = await loginPage(t, {}, options);
    await state(tab, 'pending');
    await tab.getByText('Cannot scan?').click();
    await look(tab, 'pending');
    const phone = await scanned(tab);
    await look(tab, 'scanned');
    await phone.deny();
    await state(tab, 'denied');
    await look(tab, 'denied');
    const digits = await loginPage(t, { client: 'shop-to-browser', lang: 'zh' }, options);
    await (await scanned(digits)).approve('Ada');
    await digits.locator('doorbell-login input').waitFor();
    await digits.keyboard.press('Enter');
    await look(digits, 'asks for the number');
    const number = await loginPage(t, { client: 'shop-to-phone' }, options);
    await scanned(number);
    await look(number, 'shows the number');
    const error = await loginPage(t, { client: 'nobody' }, options);
    await state(error, 'error');
    await look(error, 'error');
    const done = await loginPage(t, {}, options);
    await (await scanned(done)).approve('Ada');
    await state(done, 'approved');
    await look(done, 'approved');
    const cancelled = await loginPage(t, {}, options);
    await state(cancelled, 'pending');
    await cancelled.evaluate(() => document.querySelector('doorbell-login').cancel());
    await state(cancelled, 'cancelled');
    await look(cancelled, 'cancelled');
    const quick = await startServer({ config: `${CONFIG}[login]\ncreated_ttl = "10s"\n`, owner: t });
    const expired = await loginPage(t, {}, { on: quick, ...options });
    await state(expired, 'expired', 30_000);
    await look(expired, 'expired');
    const proxy = await startProxy(t, server.public);
    const away = await loginPage(t, {}, { at: proxy, ...options });
    await state(away, 'pending');
    proxy.down = true;
    proxy.cut();
    await away.waitForFunction(() => document.querySelector('doorbell-login').shadowRoot.querySelector('[part=link]').textContent !== '');
    await look(away, 'reconnecting');
    assert.deepEqual(findings, []);
  });
}
