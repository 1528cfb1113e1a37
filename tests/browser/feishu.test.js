// Logging in with Feishu: a provider of another kind, whose refusals are told.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { launch } from '../lib/browser.js';
import { Computer, answer, openQuestion } from '../lib/computer.js';
import { APP_ID, SECRET, startFeishu } from '../lib/feishu.js';
import { startServer } from '../lib/server.js';
import { until } from '../lib/until.js';

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

const TOKEN_PATH = '/open-apis/authen/v2/oauth/token';

async function site(t, secret = SECRET) {
  const feishu = await startFeishu(t);
  const server = await startServer({
    identity: 'token',
    owner: t,
    config: `
[[login.clients]]
id = "shop"
name = "Example Shop"
providers = ["feishu"]
[providers.feishu]
kind = "feishu"
appid = "${APP_ID}"
secret = "${secret}"
api_base = "${feishu.base}"
open_base = "${feishu.base}"
`,
  });
  const contexts = [await browser.newContext(), await browser.newContext({ isMobile: true })];
  t.after(() => Promise.all(contexts.map((context) => context.close())));
  const machine = await Computer.open(contexts[0], server);
  return { feishu, server, machine, phone: await contexts[1].newPage() };
}

async function agree(machine, phone) {
  await openQuestion(phone, machine.begun.verification_uri_complete);
  await answer(phone, 'approve').click();
}

test('feishu: whoever allows it is logged in, with name, picture and both ids', async (t) => {
  const { machine, phone } = await site(t);
  await machine.begin();
  await agree(machine, phone);
  await phone.click('#allow');
  await machine.reaches('approved');
  assert.deepEqual((await machine.redeem()).identity, {
    provider: 'feishu', appid: APP_ID, id: 'ou_1', unionid: 'on_1', name: '李雷', picture: 'https://feishu.example/a.png',
  });
});

test('feishu: a refusal there is a refusal here', async (t) => {
  const { machine, phone, feishu } = await site(t);
  await machine.begin();
  await agree(machine, phone);
  await phone.click('#refuse');
  await machine.reaches('denied');
  await machine.isRefused('access_denied');
  assert.equal(feishu.calls[TOKEN_PATH], undefined);
});

test('feishu: a spent code, an odd answer and a wrong secret log nobody in, and the phone says so', async (t) => {
  const { machine, phone, feishu } = await site(t);
  await machine.begin();
  for (const [fault, said] of [
    [{ status: 400, body: { code: 20_003 } }, 'used or too old'],
    [{ status: 500, body: {} }, 'No answer'],
    [{ status: 200, body: { code: 0 } }, 'No answer'],
    [{ status: 200, body: [] }, 'No answer'],
  ]) {
    feishu.faults.push({ path: TOKEN_PATH, ...fault });
    await agree(machine, phone);
    await phone.click('#allow');
    await until(`the phone says ${said}`, async () => (await phone.textContent('body')).includes(said));
    assert.equal((await machine.look()).state, 'scanned');
  }
  await agree(machine, phone);
  await phone.click('#allow');
  await machine.reaches('approved');

  const other = await site(t, 'wrongSecretOfTheTests');
  await other.machine.begin();
  await agree(other.machine, other.phone);
  await other.phone.click('#allow');
  await until('the phone says so', async () => (await other.phone.textContent('body')).includes('No answer'));
  const { stdout, stderr } = other.server.process.output;
  assert.match(stdout + stderr, /20002/);
  assert.ok(!(stdout + stderr).includes('wrongSecret'));
});
