// Webhooks over https, verified as PHP receivers verify them.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { Page } from './lib/page.js';
import { run } from './lib/process.js';
import { startServer } from './lib/server.js';
import { until } from './lib/until.js';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';

const VERIFY = `
$key = base64_decode(substr($argv[1], 6));
$signed = $argv[2] . '.' . $argv[3] . '.' . $argv[5];
$expected = 'v1,' . base64_encode(hash_hmac('sha256', $signed, $key, true));
echo hash_equals($expected, $argv[4]) ? 'genuine' : 'forged';
`;

async function selfSigned(t, name) {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-webhooks-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const made = await run('openssl', [
    'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', `/CN=${name}`,
    '-addext', 'subjectAltName=IP:127.0.0.1', '-addext', 'basicConstraints=critical,CA:FALSE', '-keyout', key, '-out', cert,
  ]);
  assert.equal(made.code, 0, made.stderr);
  return { folder, certFile: cert, key: await readFile(key), cert: await readFile(cert) };
}

async function receiver(t, { key, cert }) {
  const got = [];
  const server = https.createServer({ key, cert }, async (request, response) => {
    const body = Buffer.concat(await request.toArray()).toString();
    got.push({ headers: request.headers, path: request.url, body });
    response.writeHead(204).end();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => { server.closeAllConnections(); server.close(); });
  return { got, url: `https://127.0.0.1:${server.address().port}/hook` };
}

test('an https receiver gets what PHP takes for genuine; one that cannot be trusted gets nothing', async (t) => {
  const trusted = await selfSigned(t, 'trusted');
  const good = await receiver(t, trusted);
  const bad = await receiver(t, await selfSigned(t, 'impostor'));
  const secret = join(trusted.folder, 'webhooks.key');
  await writeFile(secret, `${SECRET}\n`);
  const server = await startServer({
    owner: t,
    config: `[webhooks]\nurls = ["${good.url}", "${bad.url}"]\nsecret_file = "${secret}"\noffline_after = "0s"\n`,
    env: { SSL_CERT_FILE: trusted.certFile, SSL_CERT_DIR: trusted.folder },
  });
  const page = await Page.as(server, 'uid1');
  const online = await until('the webhook arrives', () => good.got[0]);
  assert.equal(online.path, '/hook');
  assert.match(online.body, /^\{"type":"user\.online","timestamp":\d+,"data":\{"uid":"uid1"\}\}$/);
  const { 'webhook-id': id, 'webhook-timestamp': time, 'webhook-signature': signature } = online.headers;
  const verify = async (...words) => (await run('php', ['-r', VERIFY, '--', SECRET, ...words])).stdout;
  assert.equal(await verify(id, time, signature, online.body), 'genuine');
  assert.equal(await verify(id, time, signature, online.body.replace('uid1', 'uid2')), 'forged');
  await page.reset();
  const offline = await until('the other arrives', () => good.got[1]);
  assert.match(offline.body, /"user\.offline"/);
  assert.equal(bad.got.length, 0);
  await until('the log says so', () => /a webhook was not taken/.test(server.process.output.stderr));
  assert.doesNotMatch(server.process.output.stderr, /MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw/);
});
