// RFC 8628 by a client library of others: openid-client, unmodified.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as client from 'openid-client';

import { startServer } from './lib/server.js';

const SECRET = 'shop-secret-0123456789';

const CONFIG = `
[[login.clients]]
id = "shop"
name = "Example Shop"
secret = "${SECRET}"

[[login.clients]]
id = "tv"
name = "Example TV"

[login]
interval = "1s"

[providers.demo]
kind = "demo"
`;

async function begin(t, id, authentication, parameters = {}, env = {}) {
  const server = await startServer({ owner: t, identity: 'token', config: CONFIG, env });
  const issuer = new URL(`http://${server.public.address}`);
  const configuration = await client.discovery(issuer, id, undefined, authentication, {
    algorithm: 'oauth2',
    execute: [client.allowInsecureRequests],
  });
  const login = await client.initiateDeviceAuthorization(configuration, { scope: 'login', ...parameters });
  return { server, configuration, login };
}

/** A phone without scripts: opens the QR code's page, goes on, and answers. */
async function phone(address, answer, fields = {}) {
  const opened = await fetch(address);
  assert.equal(opened.status, 200);
  const cookie = opened.headers.get('set-cookie').split(';')[0];
  const input = (await opened.text()).match(/<input[^>]*name="page_token"[^>]*>/)[0];
  const token = input.match(/value="([^"]+)"/)[1];
  for (const [action, more] of [['scan', {}], [answer, fields]]) {
    const posted = await fetch(`${address}/${action}`, {
      method: 'POST',
      redirect: 'manual',
      headers: { cookie },
      body: new URLSearchParams({ page_token: token, ...more }),
    });
    assert.equal(posted.status, 303, await posted.text());
  }
}

test('openid-client completes the device flow', async (t) => {
  const { configuration, login } = await begin(t, 'shop', client.ClientSecretPost(SECRET));
  assert.match(login.user_code, /^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/);
  assert.equal(login.interval, 1);
  const polling = client.pollDeviceAuthorizationGrant(configuration, login);
  await phone(login.verification_uri_complete, 'approve', { provider: 'demo', name: 'Ada' });
  const tokens = await polling;
  assert.equal(tokens.token_type, 'bearer');
  assert.deepEqual(tokens.identity, { provider: 'demo', id: 'ada', name: 'Ada' });
  assert.equal(tokens.access_token.split('.').length, 3);
});

test('openid-client authenticates by Basic as well, and is told of a refusal', async (t) => {
  const { configuration, login } = await begin(t, 'shop', client.ClientSecretBasic(SECRET));
  const polling = client.pollDeviceAuthorizationGrant(configuration, login);
  await Promise.all([
    assert.rejects(polling, { error: 'access_denied' }),
    phone(login.verification_uri_complete, 'deny'),
  ]);
});

test('openid-client is told that nobody came', async (t) => {
  const authentication = client.ClientSecretPost(SECRET);
  const { configuration, login } = await begin(t, 'shop', authentication, {}, { DOORBELL_LOGIN_CREATED_TTL: '2s' });
  assert.equal(login.expires_in, 2);
  // The library gives up by its own clock, which is right; a poll after that is told why.
  await assert.rejects(client.pollDeviceAuthorizationGrant(configuration, login));
  const { device_code } = login;
  const poll = client.genericGrantRequest(configuration, 'urn:ietf:params:oauth:grant-type:device_code', { device_code });
  await assert.rejects(poll, { error: 'expired_token' });
});

test('a client without a secret uses PKCE', async (t) => {
  const verifier = client.randomPKCECodeVerifier();
  const challenge = await client.calculatePKCECodeChallenge(verifier);
  const { configuration, login } = await begin(t, 'tv', client.None(), {
    code_challenge: challenge,
    code_challenge_method: 'S256',
  });
  await phone(login.verification_uri_complete, 'approve', { provider: 'demo', name: 'Ada' });
  await assert.rejects(
    client.pollDeviceAuthorizationGrant(configuration, login, { code_verifier: 'x'.repeat(43) }),
    { error: 'invalid_grant' },
  );
  const tokens = await client.pollDeviceAuthorizationGrant(configuration, login, { code_verifier: verifier });
  assert.equal(tokens.identity.id, 'ada');
});
