// Logging in with WeChat, whatever the way: who is one person, what is silent, and what is in the log.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { answer, openQuestion } from '../lib/computer.js';
import { openProgram } from '../lib/mini-program.js';
import { startServer } from '../lib/server.js';
import { until } from '../lib/until.js';
import {
  QR_PATH, TOKEN_PATH, computer, endsAs, phone, says, site, wechatPage, withBrowser,
} from '../lib/wechat-site.js';
import { AES_KEY, OFFICIAL, PROGRAM, TOKEN, WEBSITE, linkTo, secretOf, startWeChat } from '../lib/wechat.js';

withBrowser();

// The three ways at once, since each waits as long as a person may be made to.
test('WeChat silent for ten seconds is said in time, and can be tried again', async (t) => {
  const withinPatience = async (what, saying) => {
    const started = performance.now();
    await saying;
    assert.ok(performance.now() - started < 9_000, `${what}: within the patience of a person`);
  };
  const web = async () => {
    const { wechat, server } = await site(t, 'wechat-web');
    const machine = await computer(t, server);
    const page = await phone(t, wechat);
    const { verification_uri_complete: address } = await machine.begin();
    await wechat.fault(TOKEN_PATH, { delay_ms: 10_000 });
    await openQuestion(page, address);
    await answer(page, 'approve').click();
    await withinPatience('web', says(page, '没有回应', 'No answer'));
    await endsAs(machine, server, 'scanned', page, address);
    await openQuestion(page, address);
    await answer(page, 'approve').click();
    await endsAs(machine, server, 'approved', page, address);
  };
  const open = async () => {
    const { wechat, server } = await site(t, 'wechat-open');
    const machine = await computer(t, server);
    await machine.begin();
    await wechat.fault(TOKEN_PATH, { delay_ms: 10_000 });
    for (const state of ['pending', 'approved']) {
      const { page, text, uuid } = await wechatPage(machine);
      await wechat.scan('xiaoming', text);
      await wechat.order('agree', { uuid, person: 'xiaoming' });
      if (state === 'pending') await withinPatience('open', says(page, '没有回应', 'No answer'));
      await endsAs(machine, server, state);
    }
  };
  const mp = async () => {
    const { wechat, server } = await site(t, 'wechat-mp');
    const machine = await computer(t, server);
    await wechat.fault(QR_PATH, { delay_ms: 10_000 });
    let refused;
    await withinPatience('mp', machine.tryBegin().then((answer) => { refused = answer; }));
    assert.deepEqual([refused.status, refused.body.error], [502, 'provider_unavailable']);
    await wechat.scan('xiaoming', (await machine.begin()).verification_uri_complete);
    await endsAs(machine, server, 'scanned');
  };
  await Promise.all([web(), open(), mp()]);
});

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
  for (const kind of ['wechat-web', 'wechat-open', 'wechat-mp', 'wechat-miniprogram']) {
    const { wechat, server } = await site(t, kind, kind === 'wechat-web' ? 'scope = "userinfo"' : '', { env });
    const keys = [];
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
    } else if (kind === 'wechat-miniprogram') {
      const code = await wechat.lastProgramCode();
      const program = await openProgram(wechat, server, 'xiaoming', code);
      await until('the mini program asks', () => program.data.login);
      await program.agree();
      keys.push(code.scene, program.visit);
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
    const mine = [begun.device_code, machine.verifier, granted.access_token, secretOf(WEBSITE), secretOf(OFFICIAL), secretOf(PROGRAM),
      TOKEN, AES_KEY, ...keys];
    for (const secret of [...secrets, ...mine]) {
      assert.ok(!said.includes(secret), `${kind}: a secret is logged: ${said.split('\n').find((line) => line.includes(secret))}`);
    }
  }
});
