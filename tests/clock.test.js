// T16: the wall clock steps by an hour in the middle of a login, and no deadline moves. libfaketime gives the process a
// wall clock of its own; the monotonic one stays the machine's.

import assert from 'node:assert/strict';
import { mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { call } from './lib/api.js';
import { startServer } from './lib/server.js';
import { until } from './lib/until.js';

/** Where Debian's libfaketime is, whatever the machine. */
async function library() {
  for (const machine of await readdir('/usr/lib')) {
    const folder = join('/usr/lib', machine, 'faketime');
    const found = (await readdir(folder).catch(() => [])).find((name) => name === 'libfaketimeMT.so.1');
    if (found) return join(folder, found);
  }
  throw new Error('no libfaketime: apt-get install faketime');
}

/** A server whose wall clock `step(seconds)` moves away from the machine's. */
async function startWithClock(t, login) {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-clock-'));
  t.after(() => rm(folder, { recursive: true }));
  const file = join(folder, 'clock');
  const write = async (seconds) => {
    // Put there whole: it is read all the time.
    await writeFile(`${file}.new`, `${seconds < 0 ? '' : '+'}${seconds}\n`);
    await rename(`${file}.new`, file);
  };
  await write(0);
  const server = await startServer({
    identity: 'token',
    config: `[login]\n${login}\n[[login.clients]]\nid = "tv"\nname = "TV"\n[providers.demo]\nkind = "demo"\n`,
    env: {
      LD_PRELOAD: await library(), FAKETIME_TIMESTAMP_FILE: file, FAKETIME_NO_CACHE: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1',
    },
    owner: t,
  });
  const step = async (seconds) => {
    await write(seconds);
    // What it dates a token with.
    await until('the server sees the step', async () => {
      const { body: { token } } = await call(server, 'POST', '/v1/tokens', { uid: 'clock' });
      const { iat } = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
      return Math.abs(iat - Date.now() / 1000 - seconds) < 60;
    });
  };
  return { server, step };
}

async function ask(server, method, path, body, bearer) {
  const response = await fetch(`http://${server.public.address}${path}`, {
    method,
    headers: { Accept: 'application/json', 'Content-Type': 'application/json', ...(bearer && { Authorization: `Bearer ${bearer}` }) },
    body: body && JSON.stringify(body),
  });
  return response.json();
}

const begin = (server) => ask(server, 'POST', '/v1/device_authorization', {
  client_id: 'tv', code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
});

test('T16: a login goes on over steps of an hour forth and back, with its deadlines where they were', async (t) => {
  const { server, step } = await startWithClock(t, '');
  const login = await begin(server);
  const look = () => ask(server, 'GET', '/v1/login', undefined, login.device_code);
  const within = ({ state, expires_in: left }, wanted, most) => {
    assert.equal(state, wanted);
    assert.ok(left > most - 30 && left <= most, `${left} s left`);
  };
  within(login, 'pending', 120);
  await step(3_600);
  within(await look(), 'pending', 120);
  assert.ok((await look()).rotate_in <= 30);

  const opened = await fetch(login.verification_uri_complete);
  const cookie = opened.headers.get('set-cookie').split(';')[0];
  const [, token] = (await opened.text()).match(/name="page_token" value="([^"]+)"/);
  const post = async (action, fields = {}) => {
    const body = new URLSearchParams({ page_token: token, ...fields });
    const posted = await fetch(`${login.verification_uri_complete}/${action}`, { method: 'POST', redirect: 'manual', headers: { cookie }, body });
    assert.equal(posted.status, 303, await posted.text());
  };
  await post('scan');
  await step(-3_600);
  within(await look(), 'scanned', 60);
  await post('approve', { provider: 'demo', name: 'Ada' });
  await step(0);
  within(await look(), 'approved', 60);
  const granted = await ask(server, 'POST', '/v1/token', {
    grant_type: 'urn:ietf:params:oauth:grant-type:device_code', device_code: login.device_code, client_id: 'tv',
    code_verifier: 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk',
  });
  assert.equal(granted.identity?.name, 'Ada', JSON.stringify(granted));
});

test('T16: a login that nobody scans expires by the time that passes, on a clock that was set back', async (t) => {
  const { server, step } = await startWithClock(t, 'created_ttl = "3s"');
  const login = await begin(server);
  await step(-3_600);
  await until('it expires', async () => {
    const { state } = await ask(server, 'GET', '/v1/login', undefined, login.device_code);
    return state === 'expired';
  }, 20_000);
});
