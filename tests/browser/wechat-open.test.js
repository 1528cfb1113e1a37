// wechat-open: WeChat's own page draws the QR code and brings the computer's browser back.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';

import { call } from '../lib/api.js';
import { until } from '../lib/until.js';
import {
  TOKEN_PATH, computer, endsAs, says, site, wechatPage, withBrowser,
} from '../lib/wechat-site.js';
import { WEBSITE } from '../lib/wechat.js';

withBrowser();

/** Opens WeChat's page, and has somebody confirm there: the page. */
async function confirmed(wechat, machine, person = 'xiaoming') {
  const { page, text, uuid } = await wechatPage(machine);
  await wechat.scan(person, text);
  await wechat.order('agree', { uuid, person });
  return page;
}

/** What the page that WeChat has led back to is headed, in the language of the browser. */
function headed(page, chinese, english) {
  return until(`the page is headed ${english}`, async () => [chinese, english].includes(await page.textContent('h1').catch(() => '')));
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

test('wechat-open: nothing is shown that could be scanned but WeChat\'s page, and no backend can begin', async (t) => {
  const { server } = await site(t, 'wechat-open');
  const machine = await computer(t, server);
  const begun = await machine.begin();
  assert.deepEqual(
    [begun.verification_uri, begun.verification_uri_complete, begun.user_code, begun.rotate_in],
    [undefined, undefined, undefined, undefined],
  );
  // Nobody's browser could be brought back to it.
  const response = await fetch(`http://${server.public.address}/v1/device_authorization`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ client_id: 'shop', code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM' }),
  });
  const { error, error_description: why } = await response.json();
  assert.deepEqual([response.status, error], [400, 'invalid_request']);
  assert.match(why, /a page in that browser has to begin the login/);
  assert.equal((await call(server, 'GET', '/metrics')).body.match(/doorbell_logins_total\{[^}]*step="created"[^}]*\} (\d+)/)?.[1], '1');
});

test('wechat-open: the browser is brought back to the page that began, and to no other', async (t) => {
  const { wechat, server } = await site(t, 'wechat-open');
  const machine = await computer(t, server);
  const own = `http://${server.public.address}/s?from=here`;
  for (const return_to of ['http://127.0.0.1:9/', `${own}#fragment`]) {
    const { status, body } = await machine.tryBegin({ return_to });
    assert.deepEqual([status, body.error], [400, 'invalid_request'], return_to);
  }
  await machine.begin({ return_to: own });
  const page = await confirmed(wechat, machine);
  await page.waitForURL(own);
  await endsAs(machine, server, 'approved');
});

test('wechat-open: a refusal is seen by time-out, or by a return without a code', async (t) => {
  const { wechat, server } = await site(t, 'wechat-open', '[login]\ncreated_ttl = "6s"');
  const machine = await computer(t, server);
  await wechat.order('settings', { refusal_redirects: true });
  await machine.begin();
  const first = await wechatPage(machine);
  await wechat.scan('xiaoming', first.text);
  await wechat.order('refuse', { uuid: first.uuid });
  await endsAs(machine, server, 'denied');
  await headed(first.page, '已拒绝', 'Refused');

  await wechat.order('settings', {});
  await machine.begin();
  const second = await wechatPage(machine);
  await wechat.scan('xiaoming', second.text);
  await wechat.order('refuse', { uuid: second.uuid });
  await says(second.page, '你已取消', 'cancelled');
  await endsAs(machine, server, 'pending');
  await endsAs(machine, server, 'expired');
});

test('wechat-open: whoever walks away lets the login expire, and is told so when they confirm too late', async (t) => {
  const { wechat, server } = await site(t, 'wechat-open', '[login]\ncreated_ttl = "3s"');
  const machine = await computer(t, server);
  await machine.begin();
  const { page, text, uuid } = await wechatPage(machine);
  await wechat.scan('xiaoming', text);
  await endsAs(machine, server, 'expired');
  await wechat.order('agree', { uuid, person: 'xiaoming' });
  await page.waitForURL('**/v1/callback/**');
  await headed(page, '没有这个二维码', 'This code is not known');
  await endsAs(machine, server, 'expired');
  assert.equal(await wechat.calls(TOKEN_PATH), 0, 'nobody is asked who it was');
});

test('wechat-open: of two who scan WeChat\'s code the first to confirm is logged in', async (t) => {
  const { wechat, server } = await site(t, 'wechat-open');
  const machine = await computer(t, server);
  await machine.begin();
  const { text, uuid } = await wechatPage(machine);
  for (const person of ['xiaoming', 'xiaohong']) assert.equal((await wechat.scan(person, text)).kind, 'confirm');
  assert.deepEqual(await wechat.order('agree', { uuid, person: 'xiaohong' }), { ok: true });
  assert.deepEqual(await wechat.order('agree', { uuid, person: 'xiaoming' }), { ok: false });
  await endsAs(machine, server, 'approved');
  assert.equal((await machine.redeem()).identity.name, '小红');
});

test('wechat-open: a code that is too old logs nobody in, and WeChat\'s page can be opened again', async (t) => {
  const { wechat, server } = await site(t, 'wechat-open');
  const machine = await computer(t, server);
  await machine.begin();
  const { page, text, uuid } = await wechatPage(machine);
  // The browser has the code, and comes back with it after its ten minutes.
  await page.route('**/v1/callback/**', async (route) => {
    await wechat.order('clock', { seconds: 601 });
    await route.continue();
  });
  await wechat.scan('xiaoming', text);
  await wechat.order('agree', { uuid, person: 'xiaoming' });
  await says(page, '已用过或已过期', 'used or too old');
  await endsAs(machine, server, 'pending');
  await confirmed(wechat, machine);
  await endsAs(machine, server, 'approved');
});

test('wechat-open: WeChat busy twice is not noticed', async (t) => {
  const { wechat, server } = await site(t, 'wechat-open');
  const machine = await computer(t, server);
  await machine.begin();
  await wechat.fault(TOKEN_PATH, { times: 2, what: { code: -1 } });
  const page = await confirmed(wechat, machine);
  await endsAs(machine, server, 'approved');
  await headed(page, '已同意', 'Agreed');
  assert.equal(await wechat.calls(TOKEN_PATH), 3);
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
