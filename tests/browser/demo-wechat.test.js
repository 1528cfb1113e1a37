// `doorbell demo --wechat`: the sign-in of the demonstration, by WeChat.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { launch } from '../lib/browser.js';
import { Computer, answer, openQuestion } from '../lib/computer.js';
import { startServer } from '../lib/server.js';
import { until } from '../lib/until.js';

test('the demonstration signs in with WeChat, and its stand-in ends with it, even when it is killed', async (t) => {
  const browser = await launch();
  t.after(() => browser.close());
  const server = await startServer({ command: 'demo', args: ['--wechat'], owner: t });
  const phone = await until('the phone', () => server.process.output.stdout.match(/http:\S+\/phone/)?.[0]);
  const machine = await Computer.open(await browser.newContext({ locale: 'zh-CN' }), server);
  await machine.begin({ client_id: 'demo' });
  const window = await machine.context.newPage();
  await openQuestion(window, machine.begun.verification_uri_complete);
  await answer(window, 'approve').click();
  await window.click('#allow');
  const { name } = await machine.reaches('approved');
  assert.equal(name, '小*');

  assert.equal((await fetch(phone)).status, 200);
  process.kill(server.pid, 'SIGKILL');
  await server.process.exited;
  await until('the stand-in ends', () => fetch(phone).then(() => false, () => true));
});
