// Logging in with WeChat, each of the three ways, with a real browser as the computer and one as the phone, against the
// stand-in.

import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { call, refusedByReason } from '../lib/api.js';
import { launch } from '../lib/browser.js';
import { Computer, answer, openQuestion } from '../lib/computer.js';
import { startServer } from '../lib/server.js';
import { until } from '../lib/until.js';
import {
  AES_KEY, MICRO_MESSENGER, OFFICIAL, OTHER_AES_KEY, TOKEN, WEBSITE, deliver, delivery, linkTo, scanEvent,
  secretOf, startWeChat,
} from '../lib/wechat.js';

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

const TOKEN_PATH = '/sns/oauth2/access_token';
const QR_PATH = '/cgi-bin/qrcode/create';

/** A server with WeChat in one of the three ways, and the WeChat it asks. */
async function site(t, kind, more = '', { env = {}, data, client = '' } = {}) {
  const wechat = await startWeChat(t);
  const server = await serverFor(wechat, t, kind, more, { env, data, client });
  return { wechat, server };
}

async function serverFor(wechat, t, kind, more, { env = {}, data, client = '', ports } = {}) {
  const appid = kind === 'wechat-open' ? WEBSITE : OFFICIAL;
  const callback = kind === 'wechat-mp' ? `token = "${TOKEN}"\nencoding_aes_key = "${AES_KEY}"\n` : '';
  const config = `
[[login.clients]]
id = "shop"
name = "Example Shop"
providers = ["wechat"]
${client}
[providers.wechat]
kind = "${kind}"
appid = "${appid}"
secret = "${secretOf(appid)}"
api_base = "${wechat.base}"
open_base = "${wechat.base}"
${callback}${more}
`;
  const server = await startServer({ identity: 'token', config, env, data, ports, owner: t });
  if (kind === 'wechat-mp') {
    await wechat.callback(OFFICIAL, {
      url: `http://${server.public.address}/v1/callback/wechat`, token: TOKEN, encoding_aes_key: AES_KEY,
    });
  }
  return server;
}

async function computer(t, server) {
  const context = await browser.newContext();
  t.after(() => context.close());
  return Computer.open(context, server);
}

/** A phone whose browser is WeChat's. */
async function phone(t, wechat, { person = 'xiaoming', locale = 'zh-CN', userAgent = MICRO_MESSENGER } = {}) {
  const context = await browser.newContext({ userAgent, locale, isMobile: true, hasTouch: true, viewport: { width: 390, height: 700 } });
  t.after(() => context.close());
  await context.addCookies([{ name: 'standin_person', value: person, url: wechat.base }]);
  return context.newPage();
}

/** The text with another letter in one place. */
const changedAt = (text, place) => {
  const at = Math.floor(place);
  return text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1);
};

/** What the page says, in the two languages of its messages. */
async function says(page, chinese, english) {
  const text = await until(`the page says ${chinese}`, async () => {
    const text = await page.textContent('body').catch(() => '');
    return text.includes(chinese) || text.includes(english) ? text : null;
  });
  assert.ok(text.includes(chinese) || text.includes(english), text);
}

async function stateByApi(server, login) {
  const { status, body } = await call(server, 'GET', `/v1/logins/${login}`);
  assert.equal(status, 200, JSON.stringify(body));
  return body.state;
}

/** The page, the API and what the site's backend is told agree. */
async function endsAs(machine, server, state) {
  await machine.reaches(state);
  assert.equal(await stateByApi(server, machine.begun.login), state);
}

// --- wechat-web -------------------------------------------------------------------------------------------------------

test('wechat-web: whoever agrees in WeChat is logged in, by openid alone', async (t) => {
  const { wechat, server } = await site(t, 'wechat-web');
  const machine = await computer(t, server);
  const { verification_uri_complete: address } = await machine.begin();
  const page = await phone(t, wechat);
  await openQuestion(page, address);
  await machine.reaches('scanned');
  await answer(page, 'approve').click();
  await endsAs(machine, server, 'approved');
  const { identity } = await machine.redeem();
  assert.deepEqual(Object.keys(identity).sort(), ['appid', 'id', 'provider']);
  assert.deepEqual([identity.provider, identity.appid], ['wechat', OFFICIAL]);
  assert.match(identity.id, /^o[\w-]{27}$/);
});

test('wechat-web: with userinfo WeChat asks, and name, picture and unionid come too', async (t) => {
  const { wechat, server } = await site(t, 'wechat-web', 'scope = "userinfo"');
  const machine = await computer(t, server);
  const page = await phone(t, wechat);
  await openQuestion(page, (await machine.begin()).verification_uri_complete);
  await answer(page, 'approve').click();
  await page.click('#allow');
  await endsAs(machine, server, 'approved');
  const { identity } = await machine.redeem();
  assert.equal(identity.name, '小明');
  assert.match(identity.picture, /^https:\/\/thirdwx\.qlogo\.cn\//);
  assert.match(identity.unionid, /^o[\w-]{27}$/);

  // Without a unionid there is none, and the login works.
  await wechat.person('xiaohong', { no_unionid: true });
  const second = await phone(t, wechat, { person: 'xiaohong' });
  await openQuestion(second, (await machine.begin()).verification_uri_complete);
  await answer(second, 'approve').click();
  await second.click('#allow');
  await machine.reaches('approved');
  const other = (await machine.redeem()).identity;
  assert.equal(other.unionid, undefined);
  assert.notEqual(other.id, identity.id);
});

test('wechat-web: a refusal on our page is seen at once; one on WeChat\'s page by time-out', async (t) => {
  const { wechat, server } = await site(t, 'wechat-web', 'scope = "userinfo"\n[login]\nscanned_ttl = "3s"');
  const machine = await computer(t, server);
  const page = await phone(t, wechat);
  await openQuestion(page, (await machine.begin()).verification_uri_complete);
  await answer(page, 'deny').click();
  await endsAs(machine, server, 'denied');
  await machine.isRefused('access_denied');

  await openQuestion(page, (await machine.begin()).verification_uri_complete);
  await answer(page, 'approve').click();
  await page.click('#refuse');
  await page.waitForSelector('#closed');
  await endsAs(machine, server, 'expired');
});

test('wechat-web: whoever walks away lets the login expire', async (t) => {
  const { wechat, server } = await site(t, 'wechat-web', '[login]\nscanned_ttl = "2s"');
  const machine = await computer(t, server);
  const page = await phone(t, wechat);
  await openQuestion(page, (await machine.begin()).verification_uri_complete);
  await page.close();
  await endsAs(machine, server, 'expired');
  await machine.isRefused('expired_token');
});

test('wechat-web: the second phone is told that another was first, and no other browser is let in', async (t) => {
  const { wechat, server } = await site(t, 'wechat-web');
  const machine = await computer(t, server);
  const { verification_uri_complete: address } = await machine.begin();
  const first = await phone(t, wechat);
  await openQuestion(first, address);
  const second = await phone(t, wechat, { person: 'xiaohong' });
  const response = await second.goto(address);
  assert.ok(response.status() < 500);
  assert.equal(await second.locator('form[action$="/approve"]').count(), 0);
  await answer(first, 'approve').click();
  await endsAs(machine, server, 'approved');

  const outside = await phone(t, wechat, { userAgent: 'Mozilla/5.0 (Linux; Android 15) Chrome/130.0.0.0 Mobile' });
  await machine.begin();
  await outside.goto(machine.begun.verification_uri_complete);
  const scan = answer(outside, 'scan');
  if (await scan.count() > 0) await scan.click({ timeout: 2_000 }).catch(() => {});
  await outside.waitForLoadState();
  assert.equal(await outside.locator('form[action$="/approve"] button').count(), 0);
  assert.notEqual((await machine.look()).state, 'approved');
});

test('wechat-web: a snapshot user is not logged in and reads what to do', async (t) => {
  const { wechat, server } = await site(t, 'wechat-web');
  await wechat.person('xiaoming', { snapshot: true });
  const machine = await computer(t, server);
  const page = await phone(t, wechat);
  const { verification_uri_complete: address } = await machine.begin();
  await openQuestion(page, address);
  await answer(page, 'approve').click();
  await says(page, '使用完整服务', 'Use full service');
  assert.equal((await machine.look()).state, 'scanned');
  assert.equal(await stateByApi(server, machine.begun.login), 'scanned');
  assert.equal((await refusedByReason(server))['public provider_unwelcome'], 1);
  // With the full service the same phone may agree.
  await wechat.person('xiaoming');
  await openQuestion(page, address);
  await answer(page, 'approve').click();
  await endsAs(machine, server, 'approved');
});

test('wechat-web: a code that is too old, and an address that comes back twice', async (t) => {
  const { wechat, server } = await site(t, 'wechat-web', 'scope = "userinfo"');
  const machine = await computer(t, server);
  const page = await phone(t, wechat);
  const { verification_uri_complete: address } = await machine.begin();
  await openQuestion(page, address);
  await answer(page, 'approve').click();
  await page.waitForSelector('#allow');
  await wechat.fault(TOKEN_PATH, { what: { code: 42003 } });
  await page.click('#allow');
  await says(page, '已用过或已过期', 'used or too old');
  assert.equal((await machine.look()).state, 'scanned');

  await openQuestion(page, address);
  await answer(page, 'approve').click();
  await page.waitForSelector('#allow');
  let back;
  page.on('request', (request) => { if (request.url().includes('/v1/callback/')) back = request.url(); });
  await page.click('#allow');
  await endsAs(machine, server, 'approved');
  const again = await page.goto(back);
  assert.equal(again.status(), 400);
  assert.equal((await machine.look()).state, 'approved');
  // Nobody else can use it either: the state belongs to the phone's visit.
  const calls = await wechat.calls(TOKEN_PATH);
  const stranger = await phone(t, wechat);
  assert.equal((await stranger.goto(back)).status(), 400);
  assert.equal(await wechat.calls(TOKEN_PATH), calls, 'no code is sent on for a state that is not good');
});

test('wechat-web: the states of two visits cannot be swapped', async (t) => {
  const { wechat, server } = await site(t, 'wechat-web', 'scope = "userinfo"');
  const machines = [await computer(t, server), await computer(t, server)];
  const phones = [await phone(t, wechat), await phone(t, wechat, { person: 'xiaohong' })];
  const returns = [];
  for (const [index, page] of phones.entries()) {
    // WeChat says where to return to; the phone does not go there.
    await page.route('**/connect/oauth2/decide', async (route) => {
      const response = await route.fetch({ maxRedirects: 0 });
      returns[index] = response.headers().location;
      await route.fulfill({ status: 200, body: 'held' });
    });
    await openQuestion(page, (await machines[index].begin()).verification_uri_complete);
    await answer(page, 'approve').click();
    await page.click('#allow');
    await until('the return', () => returns[index]);
  }
  for (const [index, page] of phones.entries()) {
    assert.equal((await page.goto(returns[1 - index])).status(), 400);
    assert.equal((await machines[index].look()).state, 'scanned');
  }
});

test('wechat-web: WeChat busy twice is not noticed; WeChat silent is said in time, and can be tried again', async (t) => {
  const { wechat, server } = await site(t, 'wechat-web');
  const machine = await computer(t, server);
  const page = await phone(t, wechat);
  await wechat.fault(TOKEN_PATH, { times: 2, what: { code: -1 } });
  await openQuestion(page, (await machine.begin()).verification_uri_complete);
  await answer(page, 'approve').click();
  await endsAs(machine, server, 'approved');
  assert.equal(await wechat.calls(TOKEN_PATH), 3);

  const { verification_uri_complete: address } = await machine.begin();
  await wechat.fault(TOKEN_PATH, { delay_ms: 10_000 });
  await openQuestion(page, address);
  const started = performance.now();
  await answer(page, 'approve').click();
  await says(page, '没有回应', 'No answer');
  assert.ok(performance.now() - started < 9_000, 'within the patience of a person');
  assert.equal((await machine.look()).state, 'scanned');
  await openQuestion(page, address);
  await answer(page, 'approve').click();
  await endsAs(machine, server, 'approved');
});

// --- wechat-open ------------------------------------------------------------------------------------------------------

/** Opens WeChat's own page in the computer's browser: `{ page, uuid text }`. */
async function wechatPage(machine) {
  const { authorization_uri: address } = await machine.post('/v1/login/provider', { provider: 'wechat' });
  const page = await machine.context.newPage();
  await page.goto(address);
  const text = await page.getAttribute('#qr', 'data-text');
  return { page, text, uuid: new URL(text).searchParams.get('uuid') };
}

test('wechat-open: whoever confirms in WeChat is logged in; the state works once', async (t) => {
  const { wechat, server } = await site(t, 'wechat-open');
  const machine = await computer(t, server);
  await machine.begin();
  const { page, text, uuid } = await wechatPage(machine);
  assert.equal((await wechat.scan('xiaoming', text)).kind, 'confirm');
  await says(page, '扫描成功', 'Scanned');
  let back;
  page.on('request', (request) => { if (request.url().includes('/v1/callback/')) back = request.url(); });
  await wechat.order('agree', { uuid, person: 'xiaoming' });
  await endsAs(machine, server, 'approved');
  const { identity } = await machine.redeem();
  assert.deepEqual([identity.appid, identity.name], [WEBSITE, '小明']);
  assert.match(identity.unionid, /^o[\w-]{27}$/);
  assert.equal((await page.goto(back)).status(), 400);
});

test('wechat-open: a site that redirects gets its visitor back with the one-time code', async (t) => {
  const { wechat, server } = await site(t, 'wechat-open', '', {
    client: 'redirect_uris = ["http://127.0.0.1:9/after?x=1"]',
  });
  const machine = await computer(t, server);
  await machine.begin({ redirect_uri: 'http://127.0.0.1:9/after?x=1' });
  const { page, text, uuid } = await wechatPage(machine);
  const arrived = page.waitForRequest((request) => request.url().startsWith('http://127.0.0.1:9/after?x=1&code='));
  await wechat.scan('xiaoming', text);
  await wechat.order('agree', { uuid, person: 'xiaoming' });
  const code = new URL((await arrived).url()).searchParams.get('code');
  const granted = await machine.redeemCode(code, { redirect_uri: 'http://127.0.0.1:9/after?x=1' });
  assert.equal(granted.identity.appid, WEBSITE);
});

test('wechat-open: embedded, WeChat takes the top window back', async (t) => {
  const { wechat, server } = await site(t, 'wechat-open');
  const machine = await computer(t, server);
  await machine.begin();
  const { authorization_uri: address } = await machine.post('/v1/login/provider', { provider: 'wechat' });
  // A page of the site with WeChat's in a frame.
  const embedding = createServer((_, response) => response.setHeader('Content-Type', 'text/html')
    .end(`<iframe src="${address.replaceAll('&', '&amp;')}" width=300 height=400></iframe>`));
  await new Promise((listening) => embedding.listen(0, '127.0.0.1', listening));
  t.after(() => embedding.close());
  const outer = await machine.context.newPage();
  await outer.goto(`http://127.0.0.1:${embedding.address().port}/`);
  const text = await outer.frameLocator('iframe').locator('#qr').getAttribute('data-text');
  await outer.mouse.click(5, 5);
  await wechat.scan('xiaoming', text);
  await wechat.order('agree', { uuid: new URL(text).searchParams.get('uuid'), person: 'xiaoming' });
  await endsAs(machine, server, 'approved');
});

test('wechat-open: a refusal is seen by time-out, or by a return without a code', async (t) => {
  const { wechat, server } = await site(t, 'wechat-open', '[login]\ncreated_ttl = "10s"');
  const machine = await computer(t, server);
  await machine.begin();
  const first = await wechatPage(machine);
  await wechat.scan('xiaoming', first.text);
  await wechat.order('refuse', { uuid: first.uuid });
  await says(first.page, '你已取消', 'cancelled');
  assert.equal((await machine.look()).state, 'pending');
  await machine.reaches('expired', 20_000);
  assert.equal(await stateByApi(server, machine.begun.login), 'expired');

  await wechat.order('settings', { refusal_redirects: true });
  await machine.begin();
  const second = await wechatPage(machine);
  await wechat.scan('xiaoming', second.text);
  await wechat.order('refuse', { uuid: second.uuid });
  await endsAs(machine, server, 'denied');
});

test('wechat-open: another browser cannot bring the code back', async (t) => {
  const { wechat, server } = await site(t, 'wechat-open');
  const machine = await computer(t, server);
  await machine.begin();
  const { page, text, uuid } = await wechatPage(machine);
  let back;
  await page.route('**/v1/callback/**', (route) => { back = route.request().url(); return route.abort(); });
  await wechat.scan('xiaoming', text);
  await wechat.order('agree', { uuid, person: 'xiaoming' });
  await until('the return', () => back);
  const victim = await computer(t, server);
  await victim.begin();
  const response = await victim.page.goto(back);
  assert.equal(response.status(), 400);
  assert.equal((await machine.look()).state, 'pending');
});

// --- wechat-mp --------------------------------------------------------------------------------------------------------

for (const follows of [false, true]) {
  test(`wechat-mp: ${follows ? 'a follower' : 'someone who follows by the scan'} agrees by the link in the chat`, async (t) => {
    const { wechat, server } = await site(t, 'wechat-mp');
    await wechat.person('xiaoming', { follows: follows ? [OFFICIAL] : [] });
    const machine = await computer(t, server);
    const begun = await machine.begin();
    assert.ok(begun.verification_uri_complete.startsWith(`${wechat.base}/q/02`), begun.verification_uri_complete);
    assert.equal(begun.rotate_in, undefined);
    const { delivery } = await wechat.scan('xiaoming', begun.verification_uri_complete);
    assert.deepEqual([delivery.status, delivery.event], [200, follows ? 'SCAN' : 'subscribe']);
    assert.ok(delivery.ms < 5_000);
    await machine.reaches('scanned');
    const page = await phone(t, wechat);
    await openQuestion(page, await linkTo(wechat, 'xiaoming'));
    await answer(page, 'approve').click();
    await endsAs(machine, server, 'approved');
    const { identity } = await machine.redeem();
    assert.deepEqual([identity.appid, identity.unionid], [OFFICIAL, undefined]);
    assert.match(identity.id, /^o[\w-]{27}$/);
  });
}

test('wechat-mp: a refusal by the link, and someone who never opens it', async (t) => {
  const { wechat, server } = await site(t, 'wechat-mp', '[login]\nscanned_ttl = "3s"');
  const machine = await computer(t, server);
  await wechat.scan('xiaoming', (await machine.begin()).verification_uri_complete);
  const page = await phone(t, wechat);
  await openQuestion(page, await linkTo(wechat, 'xiaoming'));
  await answer(page, 'deny').click();
  await endsAs(machine, server, 'denied');

  await wechat.scan('xiaoming', (await machine.begin()).verification_uri_complete);
  await machine.reaches('scanned');
  await endsAs(machine, server, 'expired');
});

test('wechat-mp: the first scan counts, and the link is no use for another login', async (t) => {
  const { wechat, server } = await site(t, 'wechat-mp');
  const machine = await computer(t, server);
  const begun = await machine.begin();
  await wechat.scan('xiaoming', begun.verification_uri_complete);
  await wechat.scan('xiaohong', begun.verification_uri_complete);
  const late = await phone(t, wechat, { person: 'xiaohong' });
  await late.goto(await linkTo(wechat, 'xiaohong'));
  assert.equal(await late.locator('form[action$="/approve"]').count(), 0);
  const first = await linkTo(wechat, 'xiaoming');
  // Its visit is for the pages of this login alone.
  const page = await phone(t, wechat);
  await page.goto(first);
  const cookies = (await page.context().cookies()).filter(({ name }) => name === 'doorbell_visit' );
  const bound = cookies.filter(({ path }) => path.startsWith('/s/'));
  assert.equal(bound.length, 1, JSON.stringify(cookies.map(({ path }) => path)));
  await openQuestion(page, first);
  await answer(page, 'approve').click();
  await endsAs(machine, server, 'approved');
});

test('wechat-mp: a scan alone logs in only where the operator says so', async (t) => {
  const { wechat, server } = await site(t, 'wechat-mp', 'scan_is_consent = true');
  const machine = await computer(t, server);
  const { delivery } = await wechat.scan('xiaoming', (await machine.begin()).verification_uri_complete);
  await endsAs(machine, server, 'approved');
  assert.match(delivery.reply, /已在电脑上登录.*logged in/s);
});

test('wechat-mp: without a code of WeChat\'s the login does not begin, and says so', async (t) => {
  const { wechat, server } = await site(t, 'wechat-mp');
  const machine = await computer(t, server);
  await wechat.fault(QR_PATH, { times: 9, what: { code: 48001 } });
  const refused = await machine.tryBegin();
  assert.deepEqual([refused.status, refused.body.error], [502, 'provider_unavailable']);
  await wechat.clearFaults();
  await wechat.fault(QR_PATH, { times: 2, what: { code: -1 } });
  await machine.begin();
});

test('wechat-mp: what is forged, replayed, downgraded or tampered with gets 403, empty, and changes nothing', async (t) => {
  const { wechat, server } = await site(t, 'wechat-mp');
  const machine = await computer(t, server);
  const scene = await wechat.sceneOf((await machine.begin()).verification_uri_complete);
  const url = `http://${server.public.address}/v1/callback/wechat`;
  const openid = `o${'A'.repeat(27)}`;
  const event = () => scanEvent({ openid, scene });
  const changed = (change) => { const good = delivery(event()); change(good); return good; };
  const now = Math.floor(Date.now() / 1000);
  const cases = {
    'another token': delivery(event(), { token: 'guessed' }),
    'another key': delivery(event(), { key: OTHER_AES_KEY }),
    'another appid': delivery(event(), { appid: WEBSITE }),
    'too old': delivery(event(), { time: now - 400 }),
    'from the future': delivery(event(), { time: now + 400 }),
    'plaintext': { query: {}, body: event() },
    'plaintext, rightly signed': changed((d) => { delete d.query.msg_signature; delete d.query.encrypt_type; d.body = event(); }),
    'raw': changed((d) => { d.query.encrypt_type = 'raw'; }),
    'no msg_signature': changed((d) => { delete d.query.msg_signature; }),
    'another ciphertext': changed((d) => { d.body = delivery(event()).body; }),
    'a changed letter': changed((d) => { d.body = changedAt(d.body, d.body.length / 2); }),
    'a DTD': changed((d) => { d.body = `<!DOCTYPE x [<!ENTITY e "x">]>${d.body}`; }),
    'another nonce': changed((d) => { d.query.nonce += '1'; }),
    'not XML': changed((d) => { d.body = 'hello'; }),
    'too long': changed((d) => { d.body += ' '.repeat(70_000); }),
  };
  for (const [name, forged] of Object.entries(cases)) {
    const { status, text } = await deliver(url, forged);
    assert.deepEqual([status, text], [403, ''], name);
    assert.equal((await machine.look()).state, 'pending', name);
  }
  const check = await fetch(`${url}?signature=${'0'.repeat(40)}&timestamp=${now}&nonce=1&echostr=hello`);
  assert.deepEqual([check.status, await check.text()], [403, '']);

  const good = delivery(event());
  assert.equal((await deliver(url, good)).status, 200);
  const scanned = await machine.look();
  assert.equal(scanned.state, 'scanned');
  // WeChat delivers three times at most; what comes more often, or with another body, is not from there.
  assert.equal((await deliver(url, good)).status, 200);
  assert.equal((await deliver(url, good)).status, 200);
  assert.deepEqual(await deliver(url, good).then(({ status, text }) => [status, text]), [403, '']);
  const other = delivery(event());
  const swapped = { query: { ...good.query }, body: other.body };
  assert.equal((await deliver(url, swapped)).status, 403);
  assert.equal((await machine.look()).version, scanned.version);
});

test('wechat-mp: a burst with duplicates and out of order gives each transition once, each in five seconds, while the API is slow', async (t) => {
  const { wechat, server } = await site(t, 'wechat-mp', '', { client: '' });
  const machine = await computer(t, server);
  const scenes = [];
  for (let n = 0; n < 50; n += 1) {
    const begun = await machine.beginRaw();
    scenes.push({ scene: await wechat.sceneOf(begun.verification_uri_complete), begun });
  }
  for (const path of [QR_PATH, TOKEN_PATH, '/cgi-bin/stable_token']) {
    await wechat.fault(path, { times: 1_000, delay_ms: 4_000 });
  }
  const slow = machine.tryBegin();
  const url = `http://${server.public.address}/v1/callback/wechat`;
  const deliveries = [];
  for (const [index, { scene }] of scenes.entries()) {
    const openid = `o${String(index).padStart(27, 'A')}`;
    // The same event signed anew, the same delivery again, and another person's scan of the same code.
    const plain = scanEvent({ openid, scene });
    for (let n = 0; n < 9; n += 1) {
      const one = delivery(plain);
      deliveries.push(one, one);
    }
    deliveries.push(delivery(scanEvent({ openid, scene, event: 'subscribe' })), delivery(plain));
  }
  assert.equal(deliveries.length, 1_000);
  for (let at = deliveries.length - 1; at > 0; at -= 1) {
    const other = Math.floor(Math.random() * (at + 1));
    [deliveries[at], deliveries[other]] = [deliveries[other], deliveries[at]];
  }
  const lanes = Array.from({ length: 20 }, (_, lane) => deliveries.filter((_, index) => index % 20 === lane));
  const results = (await Promise.all(lanes.map(async (lane) => {
    const answers = [];
    for (const one of lane) answers.push(await deliver(url, one));
    return answers;
  }))).flat();
  assert.deepEqual([...new Set(results.map(({ status }) => status))], [200]);
  const slowest = Math.max(...results.map(({ ms }) => ms));
  assert.ok(slowest < 5_000, `the slowest took ${slowest} ms`);
  t.diagnostic(`1,000 callbacks, the slowest in ${Math.round(slowest)} ms`);
  for (const { begun } of scenes) {
    const { body } = await call(server, 'GET', `/v1/logins/${begun.login}`);
    assert.equal(body.state, 'scanned');
    const steps = JSON.stringify(body).match(/"scanned"/g) ?? [];
    const scans = (body.audit ?? body.history ?? []).filter((record) => record.step === 'scanned');
    assert.ok(scans.length === 1, `${steps.length} mentions; ${JSON.stringify(body)}`);
  }
  await slow;
});

test('wechat-mp: one account token serves everyone, is kept over a kill, and is renewed once when refused', async (t) => {
  const wechat = await startWeChat(t);
  const data = await mkdtemp(join(tmpdir(), 'doorbell-test-'));
  t.after(() => rm(data, { recursive: true }));
  const first = await serverFor(wechat, t, 'wechat-mp', '', { data });
  const machine = await computer(t, first);
  await Promise.all(Array.from({ length: 20 }, () => machine.beginRaw()));
  assert.equal(await wechat.calls('/cgi-bin/stable_token'), 1);
  await wechat.order('tokens/invalidate', { appid: OFFICIAL });
  await Promise.all(Array.from({ length: 40 }, () => machine.beginRaw()));
  assert.equal(await wechat.calls('/cgi-bin/stable_token'), 2);
  process.kill(first.pid, 'SIGKILL');
  await first.process.exited;
  const second = await serverFor(wechat, t, 'wechat-mp', '', { data });
  await (await computer(t, second)).begin();
  assert.equal(await wechat.calls('/cgi-bin/stable_token'), 2, 'no new token after a restart');
  const { mode } = await stat(join(data, 'wechat.account-token'));
  assert.equal(mode & 0o777, 0o600);
});

// --- all --------------------------------------------------------------------------------------------------------------

test('one person by two ways is one uid only where a unionid says so', async (t) => {
  const wechat = await startWeChat(t);
  const section = (name, kind, appid) => `
[providers.${name}]
kind = "${kind}"
appid = "${appid}"
secret = "${secretOf(appid)}"
api_base = "${wechat.base}"
open_base = "${wechat.base}"
`;
  const server = await startServer({
    identity: 'token',
    owner: t,
    config: `
[[login.clients]]
id = "shop"
name = "Example Shop"
uid = "{account}"
${section('web', 'wechat-web', OFFICIAL)}scope = "userinfo"
${section('open', 'wechat-open', WEBSITE)}`,
  });
  const machine = await computer(t, server);
  const uidOf = ({ access_token: token }) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url')).sub;
  const byBoth = async () => {
    const page = await phone(t, wechat);
    await openQuestion(page, (await machine.begin({ provider: 'web' })).verification_uri_complete);
    await answer(page, 'approve').click();
    await page.click('#allow');
    await machine.reaches('approved');
    const web = await machine.redeem();
    await machine.begin({ provider: 'open' });
    const { authorization_uri: address } = await machine.post('/v1/login/provider', {});
    const own = await machine.context.newPage();
    await own.goto(address);
    const text = await own.getAttribute('#qr', 'data-text');
    await wechat.scan('xiaoming', text);
    await wechat.order('agree', { uuid: new URL(text).searchParams.get('uuid'), person: 'xiaoming' });
    await machine.reaches('approved');
    const open = await machine.redeem();
    assert.notEqual(web.identity.id, open.identity.id, 'the openids always differ');
    return [uidOf(web), uidOf(open)];
  };
  const [web, open] = await byBoth();
  assert.equal(web, open);
  await wechat.person('xiaoming', { no_unionid: true });
  const [webAlone, openAlone] = await byBoth();
  assert.notEqual(webAlone, openAlone);
  assert.equal(new Set([web, webAlone, openAlone]).size, 3);
});

test('no secret, code or token is in any log at trace level', async (t) => {
  const env = { DOORBELL_LOG_LEVEL: 'trace' };
  for (const kind of ['wechat-web', 'wechat-open', 'wechat-mp']) {
    const { wechat, server } = await site(t, kind, kind === 'wechat-web' ? 'scope = "userinfo"' : '', { env });
    const machine = await computer(t, server);
    const begun = await machine.begin();
    const page = await phone(t, wechat);
    if (kind === 'wechat-web') {
      await openQuestion(page, begun.verification_uri_complete);
      await answer(page, 'approve').click();
      await wechat.fault(TOKEN_PATH, { what: { code: 40125 } });
      await page.click('#allow');
      await says(page, '没有回应', 'No answer');
      await openQuestion(page, begun.verification_uri_complete);
      await answer(page, 'approve').click();
      await page.click('#allow');
    } else if (kind === 'wechat-open') {
      const { text, uuid } = await wechatPage(machine);
      await wechat.scan('xiaoming', text);
      await wechat.order('agree', { uuid, person: 'xiaoming' });
    } else {
      await wechat.scan('xiaoming', begun.verification_uri_complete);
      await openQuestion(page, await linkTo(wechat, 'xiaoming'));
      await answer(page, 'approve').click();
    }
    await machine.reaches('approved');
    const granted = await machine.redeem();
    await server.stop();
    const { stdout, stderr } = server.process.output;
    const said = stdout + stderr;
    assert.match(said, /TRACE|DEBUG/, 'the log is verbose');
    const { secrets } = await wechat.state();
    assert.ok(secrets.length > 0);
    const mine = [begun.device_code, machine.verifier, granted.access_token, secretOf(WEBSITE), secretOf(OFFICIAL), TOKEN, AES_KEY];
    for (const secret of [...secrets, ...mine]) {
      assert.ok(!said.includes(secret), `${kind}: a secret is logged: ${said.split('\n').find((line) => line.includes(secret))}`);
    }
  }
});
