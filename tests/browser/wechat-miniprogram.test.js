// wechat-miniprogram: the computer shows WeChat's picture of a code, which opens the mini program of
// examples/miniprogram.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { refusedByReason } from '../lib/api.js';
import { openProgram } from '../lib/mini-program.js';
import { until } from '../lib/until.js';
import { computer, endsAs, site, stateByApi, withBrowser } from '../lib/wechat-site.js';
import { PROGRAM } from '../lib/wechat.js';

withBrowser();

const CODE_PATH = '/wxa/getwxacodeunlimit';
const SESSION_PATH = '/sns/jscode2session';

const says = (program, chinese, english) => until(`the mini program says ${chinese}`, () => program.data.said)
  .then((said) => assert.ok(said.includes(chinese) && said.includes(english), said));

const asks = (program) => until('the mini program asks', () => program.data.login);

test('wechat-miniprogram: the picture is shown, whoever agrees in the mini program is logged in', async (t) => {
  const { wechat, server } = await site(t, 'wechat-miniprogram', 'page = "pages/login/login"');
  const machine = await computer(t, server);
  const begun = await machine.begin();
  assert.deepEqual([begun.verification_uri_complete, begun.user_code, begun.rotate_in], [undefined, undefined, undefined]);
  assert.match(begun.verification_image, /^data:image\/jpeg;base64,/);
  assert.equal((await machine.look()).verification_image, undefined, 'it is in the first answer alone');
  const code = await wechat.lastProgramCode();
  assert.deepEqual([code.appid, code.page], [PROGRAM, 'pages/login/login']);
  assert.match(code.scene, /^[\w-]{22}$/);

  const program = await openProgram(wechat, server, 'xiaoming', code);
  const { site: { name }, computer: { address }, state } = await asks(program);
  assert.deepEqual([name, address, state], ['Example Shop', '127.0.0.1', 'scanned']);
  await endsAs(machine, server, 'scanned');
  await program.agree();
  assert.equal(program.data.login.state, 'approved');
  await endsAs(machine, server, 'approved');
  const { identity } = await machine.redeem();
  assert.deepEqual(Object.keys(identity).sort(), ['appid', 'id', 'provider', 'unionid']);
  assert.equal(identity.appid, PROGRAM);
  // What came of it ends when its owner says that it was not them.
  await program.revoke();
  assert.equal((await stateByApi(server, machine.begun.login)), 'consumed');
  assert.equal(program.data.said, '');
});

test('wechat-miniprogram: a refusal, someone who walks away, and a scene that is not known', async (t) => {
  const { wechat, server } = await site(t, 'wechat-miniprogram', '[login]\nscanned_ttl = "4s"');
  const machine = await computer(t, server);
  await machine.begin();
  const refusing = await openProgram(wechat, server, 'xiaoming', await wechat.lastProgramCode());
  await asks(refusing);
  await refusing.refuse();
  assert.equal(refusing.data.login.state, 'denied');
  await endsAs(machine, server, 'denied');

  await machine.begin();
  const away = await openProgram(wechat, server, 'xiaoming', await wechat.lastProgramCode());
  await asks(away);
  await endsAs(machine, server, 'expired');
  await away.agree();
  await says(away, '二维码已过期', 'too old');

  const calls = await wechat.calls(SESSION_PATH);
  const stray = await openProgram(wechat, server, 'xiaoming', { scene: 'A'.repeat(22) });
  await says(stray, '二维码已过期', 'too old');
  assert.equal(await wechat.calls(SESSION_PATH), calls, 'WeChat is not asked');
});

test('wechat-miniprogram: the first to scan has it, also when they scan again; others cannot answer', async (t) => {
  const { wechat, server } = await site(t, 'wechat-miniprogram');
  const machine = await computer(t, server);
  await machine.begin();
  const code = await wechat.lastProgramCode();
  const first = await openProgram(wechat, server, 'xiaoming', code);
  await asks(first);
  const again = await openProgram(wechat, server, 'xiaoming', code);
  await asks(again);
  assert.equal(again.visit, first.visit);
  const second = await openProgram(wechat, server, 'xiaohong', code);
  await says(second, '另一部手机', 'Another phone');
  // With another key of a visit, with none, and from a page of another site.
  const { version } = await machine.look();
  for (const headers of [
    { Authorization: `Bearer ${'A'.repeat(43)}` },
    {},
    { Authorization: `Bearer ${first.visit}`, Origin: 'https://evil.example', 'Sec-Fetch-Site': 'cross-site' },
  ]) {
    const { status } = await fetch(`http://${server.public.address}/s/${first.qr}/approve`, {
      method: 'POST', headers: { 'Content-Type': 'application/json', ...headers }, body: '{}',
    });
    assert.ok([403, 409].includes(status), String(status));
  }
  assert.equal((await machine.look()).version, version);
  await again.agree();
  await endsAs(machine, server, 'approved');
});

test('wechat-miniprogram: codes that are used, WeChat busy, held persons, and what is no mini program', async (t) => {
  const { wechat, server } = await site(t, 'wechat-miniprogram');
  const machine = await computer(t, server);
  await wechat.fault(CODE_PATH, { times: 9, what: { code: 41030 } });
  const refused = await machine.tryBegin();
  assert.deepEqual([refused.status, refused.body.error], [502, 'provider_unavailable']);
  assert.match(server.process.output.stdout + server.process.output.stderr, /no such published page/);
  await wechat.clearFaults();

  await wechat.fault(CODE_PATH, { times: 2, what: { code: -1 } });
  await machine.begin();
  const code = await wechat.lastProgramCode();
  const open = () => openProgram(wechat, server, 'xiaoming', code);
  await wechat.fault(SESSION_PATH, { what: { code: 40163 } });
  await says(await open(), '二维码已过期', 'too old');
  await wechat.fault(SESSION_PATH, { what: { code: 40226 } });
  await says(await open(), '暂不允许此帐号登录', 'does not allow this account');
  assert.equal((await refusedByReason(server))['public provider_unwelcome'], 1);
  const url = `http://${server.public.address}/v1/callback/wechat`;
  for (const request of [{}, { method: 'POST', body: '{' }, { method: 'POST', body: '{"scene":"x"}' }]) {
    assert.equal((await fetch(url, request)).status, 403);
  }
  await endsAs(machine, server, 'pending');

  await wechat.fault(SESSION_PATH, { times: 2, what: { code: -1 } });
  const program = await open();
  await asks(program);
  await program.agree();
  await endsAs(machine, server, 'approved');
});

test('wechat-miniprogram: the number that the computer shows is typed in the mini program', async (t) => {
  const { wechat, server } = await site(t, 'wechat-miniprogram', '', { client: 'number_match = "to_phone"' });
  const machine = await computer(t, server);
  await machine.begin();
  const program = await openProgram(wechat, server, 'xiaoming', await wechat.lastProgramCode());
  assert.equal((await asks(program)).number_match, 'to_phone');
  await program.agree();
  await says(program, '数字不对', 'not the number');
  program.typed({ detail: { value: (await machine.look()).number } });
  await program.agree();
  await endsAs(machine, server, 'approved');
});
