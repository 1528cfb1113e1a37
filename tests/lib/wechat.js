// A stand-in WeChat: its control API, and callbacks made by hand for what WeChat itself would never send.

import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { dirname, join } from 'node:path';

import { start, stop } from './process.js';
import { binary } from './server.js';
import { until } from './until.js';

export const OFFICIAL = 'wx00000000000000a1';
export const WEBSITE = 'wx00000000000000b2';
export const PROGRAM = 'wx00000000000000c3';
export const secretOf = (appid) => `standin-secret-of-${appid}`;

export const TOKEN = 'tokenOfTheCallback';
/** Two keys whose last character has spare bits that are not zero. */
export const AES_KEY = 'jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C';
export const OTHER_AES_KEY = 'kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR';

/** The phone's WeChat browser. */
export const MICRO_MESSENGER =
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 MicroMessenger/8.0.50';

const program = process.env.DOORBELL_WECHAT_STANDIN_BIN ?? join(dirname(binary), 'doorbell-wechat-standin');

/** Starts the stand-in; it stops with `owner`'s test. */
export async function startWeChat(owner = undefined) {
  const standin = start(program, ['--listen', '127.0.0.1:0']);
  const address = await until('the stand-in says where it listens',
    () => standin.output.stdout.match(/^listening wechat=(\S+)$/m)?.[1], 15_000);
  const base = `http://${address}`;
  const ask = async (method, what, body) => {
    const response = await fetch(`${base}/_control/${what}`, {
      method,
      headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${what}: ${response.status} ${text}`);
    return JSON.parse(text);
  };
  const wechat = {
    base,
    process: standin,
    order: (what, body = {}) => ask('POST', what, body),
    state: () => ask('GET', 'state'),
    clearFaults: () => ask('DELETE', 'faults'),
    calls: async (path) => (await ask('GET', 'state')).calls[path] ?? 0,
    person: (id, more = {}) => ask('POST', 'people', { id, nickname: id, ...more }),
    scan: (person, text, more = {}) => ask('POST', 'scan', { person, text, ...more }),
    fault: (path, fault) => ask('POST', 'faults', { path, ...fault }),
    /** Sets an account's callback, with everything else as it is. */
    async callback(appid, callback) {
      const { accounts } = await ask('GET', 'state');
      await ask('POST', 'accounts', { ...accounts[appid], callback });
    },
    /** The scene of a code that an account has made, by what the code says. */
    async sceneOf(text) {
      const { tickets } = await ask('GET', 'state');
      return tickets.find(({ url }) => url === text)?.scene;
    },
    /** The code that a mini program's account has made last: `{ appid, scene, page }`, as a scan has it. */
    async lastProgramCode() {
      const { program_codes: codes } = await ask('GET', 'state');
      const { kind, ...code } = await ask('POST', 'scan', { person: 'xiaoming', text: `${base}/a/${codes.at(-1).id}` });
      return code;
    },
    stop: () => stop(standin),
  };
  owner?.after(() => wechat.stop());
  return wechat;
}

/** The last link an account has sent somebody. */
export function linkTo(wechat, person) {
  return until('the link', async () => {
    const { chats } = await wechat.state();
    return (chats[person] ?? []).map(([, text]) => /https?:\/\/\S+/.exec(text)?.[0]).filter(Boolean).at(-1);
  });
}

export function signed(...parts) {
  const sorted = parts.map((part) => Buffer.from(part)).sort(Buffer.compare);
  return createHash('sha1').update(Buffer.concat(sorted)).digest('hex');
}

/** Encrypts as WeChat does, padded to 32. */
export function sealed(plain, { key = AES_KEY, appid = OFFICIAL } = {}) {
  const bytes = Buffer.from(`${key}=`, 'base64');
  const message = Buffer.from(plain);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(message.length);
  const body = Buffer.concat([randomBytes(16), length, message, Buffer.from(appid)]);
  const pad = 32 - (body.length % 32);
  const cipher = createCipheriv('aes-256-cbc', bytes, bytes.subarray(0, 16)).setAutoPadding(false);
  return Buffer.concat([cipher.update(Buffer.concat([body, Buffer.alloc(pad, pad)])), cipher.final()]).toString('base64');
}

export function scanEvent({ openid, scene, ticket = 'T', time = Math.floor(Date.now() / 1000), event = 'SCAN' }) {
  const key = event === 'subscribe' ? `qrscene_${scene}` : scene;
  return `<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[${openid}]]></FromUserName>`
    + `<CreateTime>${time}</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[${event}]]></Event>`
    + `<EventKey><![CDATA[${key}]]></EventKey><Ticket><![CDATA[${ticket}]]></Ticket></xml>`;
}

/** A delivery as WeChat makes it: `{ query, body }`; every part can be changed before it is sent. */
export function delivery(plain, { token = TOKEN, key, appid, nonce = randomBytes(4).readUInt32BE().toString(), time = Math.floor(Date.now() / 1000) } = {}) {
  const encrypted = sealed(plain, { key, appid });
  const timestamp = String(time);
  return {
    query: {
      signature: signed(token, timestamp, nonce), timestamp, nonce, openid: 'o',
      encrypt_type: 'aes', msg_signature: signed(token, timestamp, nonce, encrypted),
    },
    body: `<xml><ToUserName><![CDATA[gh_1]]></ToUserName><Encrypt><![CDATA[${encrypted}]]></Encrypt></xml>`,
  };
}

/** Posts a delivery: `{ status, text, ms }`. */
export async function deliver(url, { query, body }) {
  const started = performance.now();
  const response = await fetch(`${url}?${new URLSearchParams(query)}`, {
    method: 'POST', headers: { 'Content-Type': 'text/xml' }, body,
  });
  return { status: response.status, text: await response.text(), ms: performance.now() - started };
}
