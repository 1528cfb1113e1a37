// A server that logs people in with WeChat, the stand-in it asks, and the two machines of somebody who does.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';

import { call } from './api.js';
import { launch } from './browser.js';
import { Computer } from './computer.js';
import { startServer } from './server.js';
import { until } from './until.js';
import {
  AES_KEY, MICRO_MESSENGER, OFFICIAL, PROGRAM, TOKEN, WEBSITE, secretOf, startWeChat,
} from './wechat.js';

export const TOKEN_PATH = '/sns/oauth2/access_token';
export const QR_PATH = '/cgi-bin/qrcode/create';

let browser;

/** One Chromium for the tests of a file. */
export function withBrowser() {
  before(async () => { browser = await launch(); });
  after(() => browser?.close());
}

/** A server with WeChat in one of its ways, and the WeChat it asks. */
export async function site(t, kind, more = '', options = {}) {
  const wechat = await startWeChat(t);
  return { wechat, server: await serverFor(wechat, t, kind, more, options) };
}

/** A server with WeChat in one of its ways. */
export async function serverFor(wechat, t, kind, more = '', { env = {}, data, client = '', ports } = {}) {
  const appid = { 'wechat-open': WEBSITE, 'wechat-miniprogram': PROGRAM }[kind] ?? OFFICIAL;
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

/** A computer whose browser has nothing of others. */
export async function computer(t, server) {
  const context = await browser.newContext();
  t.after(() => context.close());
  return Computer.open(context, server);
}

/** A phone whose browser is WeChat's. */
export async function phone(t, wechat, { person = 'xiaoming', locale = 'zh-CN', userAgent = MICRO_MESSENGER } = {}) {
  const context = await browser.newContext({ userAgent, locale, isMobile: true, hasTouch: true, viewport: { width: 390, height: 700 } });
  t.after(() => context.close());
  await context.addCookies([{ name: 'standin_person', value: person, url: wechat.base }]);
  return context.newPage();
}

/** Opens WeChat's own page in the computer's browser: `{ page, text, uuid }`. */
export async function wechatPage(machine) {
  const { authorization_uri: address } = await machine.post('/v1/login/provider', { provider: 'wechat' });
  const page = await machine.context.newPage();
  await page.goto(address);
  const text = await page.getAttribute('#qr', 'data-text');
  return { page, text, uuid: new URL(text).searchParams.get('uuid') };
}

/** Waits until the page says it, in both languages: messages that come from a provider are not of one alone. */
export async function says(page, chinese, english) {
  const text = await until(`the page says ${chinese}`, async () => {
    const text = await page.textContent('body').catch(() => '');
    return text.includes(chinese) ? text : null;
  });
  assert.ok(text.includes(english), text);
}

/** What the phone's page is headed, by the login's state. */
const HEADINGS = {
  scanned: ['登录 Example Shop？', 'Sign in to Example Shop?'],
  approved: ['已同意', 'Agreed'],
  denied: ['已拒绝', 'Refused'],
  expired: ['二维码已过期', 'This code has expired'],
  taken: ['二维码已被另一部手机扫描', 'Another phone has this code'],
};

/** The phone, which may be at any address, shows a state in the language of whoever holds it. */
export async function showsOnPhone(page, address, state) {
  for (const [index, language] of ['zh-CN', 'en'].entries()) {
    const response = await page.context().request.get(address, { headers: { 'Accept-Language': language } });
    const html = await response.text();
    const heading = /<h1[^>]*>\s*([^<]*?)\s*<\/h1>/.exec(html)?.[1];
    assert.equal(heading, HEADINGS[state][index], html);
  }
}

/** The login's state, as those who look after the server see it. */
export async function stateByApi(server, login) {
  const { status, body } = await call(server, 'GET', `/v1/logins/${login}`);
  assert.equal(status, 200, JSON.stringify(body));
  return body.state;
}

/** What the site's backend is told of a login that gives nothing. */
const TOLD = { denied: 'access_denied', expired: 'expired_token' };

/** The computer's page, the API, what the site's backend is told and, where it is given, the phone agree. */
export async function endsAs(machine, server, state, ...onPhone) {
  await machine.reaches(state);
  assert.equal(await stateByApi(server, machine.begun.login), state);
  if (TOLD[state]) await machine.isRefused(TOLD[state]);
  if (onPhone.length > 0) await showsOnPhone(...onPhone, state);
}
