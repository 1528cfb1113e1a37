// Revocations outlive the process, however it ends.

import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { call, metrics } from './lib/api.js';
import { Page } from './lib/page.js';
import { startServer, tokenFor } from './lib/server.js';

const BAD_TOKEN = 3500;

/** Servers that follow one another on one data directory; each but the last ends by SIGKILL. */
async function inSuccession(t, ...turns) {
  const data = await mkdtemp(join(tmpdir(), 'doorbell-revocation-'));
  t.after(() => rm(data, { recursive: true, force: true }));
  for (const turn of turns) {
    const server = await startServer({ identity: 'token', data, owner: t });
    await turn(server);
    server.process.child.kill('SIGKILL');
    await server.process.exited;
  }
}

const mint = async (server, uid) => (await call(server, 'POST', '/v1/tokens', { uid })).body;

const revoke = async (server, uid, body = {}) => {
  const { status, body: answer } = await call(server, 'POST', `/v1/users/${uid}/revoke`, body);
  assert.equal(status, 200, JSON.stringify(answer));
  return answer;
};

async function assertRefused(server, token) {
  const page = await Page.connect(server);
  page.send(token);
  assert.equal(await page.closeCodeWithin(), BAD_TOKEN);
}

async function assertWelcome(server, token) {
  const page = await Page.as(server, token);
  await page.close();
}

test('a revoked token is refused after kill -9, and others work', async (t) => {
  let all;
  let lost;
  let kept;
  let later;
  await inSuccession(t, async (server) => {
    all = await tokenFor(server, 'all');
    [lost, kept] = [await mint(server, 'one'), await mint(server, 'one')];
    await assertWelcome(server, all);
    assert.equal((await revoke(server, 'all')).durable, true);
    // Killed right after the answer.
    assert.equal((await revoke(server, 'one', { token_id: lost.id })).durable, true);
  }, async (server) => {
    await assertRefused(server, all);
    await assertRefused(server, lost.token);
    await assertWelcome(server, kept.token);
    later = (await mint(server, 'all')).token;
    await assertWelcome(server, later);
    await revoke(server, 'all');
  }, async (server) => {
    await assertRefused(server, later);
    await assertWelcome(server, (await mint(server, 'all')).token);
    const count = (await metrics(server)).find(({ name }) => name === 'doorbell_revocations');
    assert.equal(count.value, 2);
    assert.equal((await stat(join(server.data, 'revocations.jsonl'))).mode & 0o777, 0o600);
  });
});

test('a line that was not written to its end is cut off, with a warning, and costs no other', async (t) => {
  let tokens;
  await inSuccession(t, async (server) => {
    tokens = await Promise.all(['u1', 'u2'].map((uid) => tokenFor(server, uid)));
    await revoke(server, 'u1');
    await appendFile(join(server.data, 'revocations.jsonl'), '{"uid":"u2","before":99999');
  }, async (server) => {
    assert.match(server.process.output.stderr, /revocations that cannot be read are left out/);
    await assertRefused(server, tokens[0]);
    await assertWelcome(server, tokens[1]);
    await revoke(server, 'u2');
    assert.equal((await readFile(join(server.data, 'revocations.jsonl'), 'utf8')).match(/\n/g).length, 2);
  }, async (server) => {
    for (const token of tokens) await assertRefused(server, token);
  });
});

test('a second server on the same directory says that its revocations end with it', async (t) => {
  const first = await startServer({ identity: 'token', owner: t });
  await revoke(first, 'u1');
  const second = await startServer({ identity: 'token', data: first.data, owner: t });
  assert.match(second.process.output.stderr, /another server keeps its revocations here/);
  const token = await tokenFor(second, 'u2');
  assert.equal((await revoke(second, 'u2')).durable, false);
  await assertRefused(second, token);
  await first.process.child.kill('SIGKILL');
  await first.process.exited;
  assert.equal((await revoke(second, 'u2')).durable, true, 'it has taken over');
});
