// wechat-web: our QR code, our question in WeChat's browser, then WeChat's authorization.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { refusedByReason } from '../lib/api.js';
import { answer, openQuestion } from '../lib/computer.js';
import { until } from '../lib/until.js';
import {
  TOKEN_PATH, computer, endsAs, phone, says, showsOnPhone, site, withBrowser,
} from '../lib/wechat-site.js';
import { OFFICIAL } from '../lib/wechat.js';

withBrowser();

test('wechat-web: whoever agrees in WeChat is logged in, by openid alone', async (t) => {
  const { wechat, server } = await site(t, 'wechat-web');
  const machine = await computer(t, server);
  const { verification_uri_complete: address } = await machine.begin();
  const page = await phone(t, wechat);
  await openQuestion(page, address);
  await machine.reaches('scanned');
  await answer(page, 'approve').click();
  await endsAs(machine, server, 'approved', page, address);
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
  const { wechat, server } = await site(t, 'wechat-web', 'scope = "userinfo"\n[login]\nscanned_ttl = "5s"');
  const machine = await computer(t, server);
  const page = await phone(t, wechat);
  const { verification_uri_complete: first } = await machine.begin();
  await openQuestion(page, first);
  await answer(page, 'deny').click();
  await endsAs(machine, server, 'denied', page, first);

  const { verification_uri_complete: second } = await machine.begin();
  await openQuestion(page, second);
  await answer(page, 'approve').click();
  await page.click('#refuse');
  await page.waitForSelector('#closed');
  await endsAs(machine, server, 'expired', page, second);
});

test('wechat-web: whoever walks away lets the login expire', async (t) => {
  const { wechat, server } = await site(t, 'wechat-web', '[login]\nscanned_ttl = "4s"');
  const machine = await computer(t, server);
  const page = await phone(t, wechat);
  const { verification_uri_complete: address } = await machine.begin();
  await openQuestion(page, address);
  await page.close();
  await endsAs(machine, server, 'expired', page, address);
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
  await endsAs(machine, server, 'approved', first, address);
  await showsOnPhone(second, address, 'taken');

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
  await endsAs(machine, server, 'scanned', page, address);
  assert.equal((await refusedByReason(server))['public provider_unwelcome'], 1);
  // With the full service the same phone may agree.
  await wechat.person('xiaoming');
  await openQuestion(page, address);
  await answer(page, 'approve').click();
  await endsAs(machine, server, 'approved', page, address);
});

test('wechat-web: a code that is too old, and an address that comes back twice', async (t) => {
  const { wechat, server } = await site(t, 'wechat-web', 'scope = "userinfo"');
  const machine = await computer(t, server);
  const page = await phone(t, wechat);
  const { verification_uri_complete: address } = await machine.begin();
  await openQuestion(page, address);
  await answer(page, 'approve').click();
  // The phone has the code, and comes back with it after its five minutes.
  await page.route('**/connect/oauth2/decide', async (route) => {
    const response = await route.fetch({ maxRedirects: 0 });
    await wechat.order('clock', { seconds: 301 });
    await route.fulfill({ response });
  }, { times: 1 });
  await page.click('#allow');
  await says(page, '已用过或已过期', 'used or too old');
  await endsAs(machine, server, 'scanned', page, address);

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

test('wechat-web: WeChat busy twice is not noticed', async (t) => {
  const { wechat, server } = await site(t, 'wechat-web');
  const machine = await computer(t, server);
  const page = await phone(t, wechat);
  await wechat.fault(TOKEN_PATH, { times: 2, what: { code: -1 } });
  const { verification_uri_complete: address } = await machine.begin();
  await openQuestion(page, address);
  await answer(page, 'approve').click();
  await endsAs(machine, server, 'approved', page, address);
  assert.equal(await wechat.calls(TOKEN_PATH), 3);
});
