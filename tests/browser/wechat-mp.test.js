// wechat-mp: a parametric QR code of an official account, whose scan the account's chat answers with a link.

import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { call } from '../lib/api.js';
import { answer, openQuestion } from '../lib/computer.js';
import {
  QR_PATH, TOKEN_PATH, computer, endsAs, phone, says, serverFor, showsOnPhone, site, withBrowser,
} from '../lib/wechat-site.js';
import {
  OFFICIAL, OTHER_AES_KEY, WEBSITE, deliver, delivery, linkTo, scanEvent, startWeChat,
} from '../lib/wechat.js';

withBrowser();

const FOLLOWER_PATH = '/cgi-bin/user/info';

/** The text with another letter in one place. */
const changedAt = (text, place) => {
  const at = Math.floor(place);
  return text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1);
};

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
    const link = await linkTo(wechat, 'xiaoming');
    await openQuestion(page, link);
    await answer(page, 'approve').click();
    await endsAs(machine, server, 'approved', page, link);
    const { identity } = await machine.redeem();
    assert.deepEqual(Object.keys(identity).sort(), ['appid', 'id', 'provider', 'unionid']);
    assert.equal(identity.appid, OFFICIAL);
    assert.match(identity.id, /^o[\w-]{27}$/);
    assert.match(identity.unionid, /^o[\w-]{27}$/);
  });
}

test('wechat-mp: a refusal by the link', async (t) => {
  const { wechat, server } = await site(t, 'wechat-mp');
  const machine = await computer(t, server);
  await wechat.scan('xiaoming', (await machine.begin()).verification_uri_complete);
  const page = await phone(t, wechat);
  const link = await linkTo(wechat, 'xiaoming');
  await openQuestion(page, link);
  await answer(page, 'deny').click();
  await endsAs(machine, server, 'denied', page, link);
});

test('wechat-mp: whoever never opens the link lets the login expire', async (t) => {
  const { wechat, server } = await site(t, 'wechat-mp', '[login]\nscanned_ttl = "2s"');
  const machine = await computer(t, server);
  await wechat.scan('xiaoming', (await machine.begin()).verification_uri_complete);
  await endsAs(machine, server, 'scanned');
  await endsAs(machine, server, 'expired', await phone(t, wechat), await linkTo(wechat, 'xiaoming'));
});

test('wechat-mp: a code that is too old tells nobody, and the link of an approved login agrees to nothing more', async (t) => {
  const { wechat, server } = await site(t, 'wechat-mp');
  const machine = await computer(t, server);
  const begun = await machine.begin();
  // Its life is the login's and a minute more.
  await wechat.order('clock', { seconds: 120 + 61 });
  assert.deepEqual(await wechat.scan('xiaoming', begun.verification_uri_complete), { kind: 'expired' });
  await endsAs(machine, server, 'pending');

  await wechat.scan('xiaoming', (await machine.begin()).verification_uri_complete);
  const page = await phone(t, wechat);
  const link = await linkTo(wechat, 'xiaoming');
  await openQuestion(page, link);
  await answer(page, 'approve').click();
  await endsAs(machine, server, 'approved', page, link);
  const { version } = await machine.look();
  await page.goto(link);
  assert.equal(await page.locator('form[action$="/approve"]').count(), 0);
  assert.equal((await machine.look()).version, version);
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
  await endsAs(machine, server, 'approved', page, first);
  await showsOnPhone(late, late.url(), 'taken');
});

test('wechat-mp: a scan alone logs in only where the operator says so', async (t) => {
  const { wechat, server } = await site(t, 'wechat-mp', 'scan_is_consent = true');
  const machine = await computer(t, server);
  const { delivery } = await wechat.scan('xiaoming', (await machine.begin()).verification_uri_complete);
  await endsAs(machine, server, 'approved');
  assert.match(delivery.reply, /已在电脑上登录.*logged in/s);
  assert.match((await machine.redeem()).identity.unionid, /^o[\w-]{27}$/);

  // Who they are in full is not known in the five seconds that WeChat waits: they are asked after all.
  await wechat.fault(FOLLOWER_PATH, { delay_ms: 10_000 });
  const { delivery: late } = await wechat.scan('xiaoming', (await machine.begin()).verification_uri_complete);
  assert.equal(late.status, 200);
  await endsAs(machine, server, 'scanned');
  const page = await phone(t, wechat);
  await openQuestion(page, await linkTo(wechat, 'xiaoming'));
  await answer(page, 'approve').click();
  await endsAs(machine, server, 'approved');
});

test('wechat-mp: nobody is logged in without the unionid that WeChat owes, and with none where it gives none', async (t) => {
  const { wechat, server } = await site(t, 'wechat-mp');
  const machine = await computer(t, server);
  await wechat.scan('xiaoming', (await machine.begin()).verification_uri_complete);
  const page = await phone(t, wechat);
  const link = await linkTo(wechat, 'xiaoming');
  await openQuestion(page, link);
  await wechat.fault(FOLLOWER_PATH, { what: { code: 45011 } });
  await answer(page, 'approve').click();
  await says(page, '没有回应', 'No answer');
  await endsAs(machine, server, 'scanned', page, link);

  const none = {
    'no Open Platform account': (other) => other.person('xiaoming', { no_unionid: true }),
    'no right to ask': (other) => other.fault(FOLLOWER_PATH, { what: { code: 48001 } }),
  };
  for (const [why, arrange] of Object.entries(none)) {
    const other = await site(t, 'wechat-mp');
    const theirs = await computer(t, other.server);
    await arrange(other.wechat);
    await other.wechat.scan('xiaoming', (await theirs.begin()).verification_uri_complete);
    const phoneOfTheirs = await phone(t, other.wechat);
    await openQuestion(phoneOfTheirs, await linkTo(other.wechat, 'xiaoming'));
    await answer(phoneOfTheirs, 'approve').click();
    await endsAs(theirs, other.server, 'approved');
    assert.equal((await theirs.redeem()).identity.unionid, undefined, why);
  }
});

test('wechat-mp: with userinfo the link leads through WeChat\'s authorization, for the person who scanned alone', async (t) => {
  const { wechat, server } = await site(t, 'wechat-mp', 'scope = "userinfo"');
  const machine = await computer(t, server);
  await wechat.scan('xiaoming', (await machine.begin()).verification_uri_complete);
  const link = await linkTo(wechat, 'xiaoming');
  // Whoever is sent the link is not who scanned.
  const other = await phone(t, wechat, { person: 'xiaohong' });
  await openQuestion(other, link);
  await answer(other, 'approve').click();
  await other.click('#allow');
  await says(other, '二维码已被另一部手机扫描', '');
  await endsAs(machine, server, 'scanned');

  await wechat.person('xiaoming', { snapshot: true, follows: [OFFICIAL] });
  const page = await phone(t, wechat);
  await openQuestion(page, link);
  await answer(page, 'approve').click();
  await page.click('#allow');
  await says(page, '使用完整服务', 'Use full service');
  await endsAs(machine, server, 'scanned', page, link);

  await wechat.order('people', { id: 'xiaoming', nickname: '小明', follows: [OFFICIAL] });
  await openQuestion(page, link);
  await answer(page, 'approve').click();
  await page.click('#allow');
  await endsAs(machine, server, 'approved', page, link);
  const { identity } = await machine.redeem();
  assert.equal(identity.name, '小明');
  assert.match(identity.picture, /^https:\/\/thirdwx\.qlogo\.cn\//);
  assert.match(identity.unionid, /^o[\w-]{27}$/);
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
