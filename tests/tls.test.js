// The public listener with a certificate of its own: Node's TLS, curl and Chromium.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

import { connectionsOf, metrics } from './lib/api.js';
import { launch } from './lib/browser.js';
import { ECDSA, makeCertificate } from './lib/certificate.js';
import { Page } from './lib/page.js';
import { run } from './lib/process.js';
import { runBinary, startServer, tokenFor } from './lib/server.js';
import { pushTo } from './lib/text-port.js';
import { until } from './lib/until.js';

async function certificate(t, kind) {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-tls-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const files = await makeCertificate(folder, { kind });
  const config = `[public]\ntls_cert = "${files.certificate}"\ntls_key = "${files.key}"\n`;
  return { ...files, config, ca: await readFile(files.certificate) };
}

/** Passes bytes on to a listener, and keeps all that went by. */
async function wiretap(t, to) {
  const heard = [];
  const relay = net.createServer((client) => {
    const server = net.connect({ host: to.host, port: to.port });
    for (const [from, into] of [[client, server], [server, client]]) {
      from.on('error', () => into.destroy());
      from.on('data', (bytes) => { heard.push(bytes); into.write(bytes); });
      from.on('end', () => into.end());
    }
  });
  await new Promise((resolve) => { relay.listen(0, '127.0.0.1', resolve); });
  t.after(() => relay.close());
  return { at: { host: '127.0.0.1', port: relay.address().port }, bytes: () => Buffer.concat(heard) };
}

for (const [name, kind] of [['ECDSA', ECDSA], ['RSA', ['rsa:2048']]]) {
  test(`with an ${name} key a page gets its pushes, and whoever listens on the way reads nothing`, async (t) => {
    const { config, ca } = await certificate(t, kind);
    const server = await startServer({ identity: 'token', config, owner: t });
    const tap = await wiretap(t, server.public);
    const token = await tokenFor(server, 'uid1');
    const page = await Page.as(server, token, { at: { ...tap.at, ca } });
    assert.equal(await pushTo(server, 'uid1'), 'ok\n');
    assert.deepEqual(JSON.parse(await page.next()), { uid: 'uid1', percent: '88%' });
    await page.close();
    const bytes = tap.bytes();
    assert.ok(bytes.length > 500, `${bytes.length} bytes went by`);
    for (const secret of [token, token.slice(0, 20), 'uid1', '88%', 'Sec-WebSocket']) {
      assert.equal(bytes.includes(secret), false, `${secret} went by in the clear`);
    }
  });
}

test('an https page of the server itself waits over wss', async (t) => {
  const { config } = await certificate(t, ECDSA);
  const server = await startServer({ command: 'demo', config, owner: t });
  const browser = await launch();
  t.after(() => browser.close());
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  const sockets = [];
  page.on('websocket', (socket) => sockets.push(socket.url()));
  await page.goto(`https://${server.public.address}/push`);
  await page.click('#connect-button');
  await page.waitForSelector('[data-state="connected"]');
  await until('the page is bound', async () => await connectionsOf(server, 'uid1') === 1);
  assert.equal(await pushTo(server, 'uid1'), 'ok\n');
  await page.waitForSelector('#messages li');
  assert.deepEqual(JSON.parse(await page.textContent('#messages pre')), { uid: 'uid1', percent: '88%' });
  assert.deepEqual(sockets, [`wss://${server.public.address}/`]);
  const resumed = (await metrics(server)).find(({ labels }) => labels.handshake === 'resumed');
  assert.ok(resumed?.value > 0, 'what the page loads resumes its first session');
  assert.match(server.process.output.stdout, new RegExp(`https://${server.public.address}/`));
});

test('curl trusts the certificate, and is told to use https where it does not', async (t) => {
  const files = await certificate(t, ECDSA);
  const server = await startServer({ config: files.config, owner: t });
  const curl = (...args) => run('curl', ['-sS', '--max-time', '20', ...args]);
  const page = await curl('--cacert', files.certificate, '-i', `https://${server.public.address}/`);
  assert.match(page.stdout, /^HTTP\/1\.1 426 /, page.stderr);
  const old = await curl('--cacert', files.certificate, '--tls-max', '1.1', `https://${server.public.address}/`);
  assert.notEqual(old.code, 0);
  const plain = await curl('-i', `http://${server.public.address}/`);
  assert.match(plain.stdout, /^HTTP\/1\.1 400 [^]*use https:\/\/ and wss:\/\/ here/);
});

test('check-config names the file and what is wrong with it', async (t) => {
  const files = await certificate(t, ECDSA);
  const other = await certificate(t, ECDSA);
  const check = async (cert, key) => {
    const file = join(dirname(files.key), 'doorbell.toml');
    await writeFile(file, `[public]\ntls_cert = "${cert}"\ntls_key = "${key}"\n`);
    return runBinary('check-config', '--config', file);
  };
  assert.equal((await check(files.certificate, files.key)).code, 0);
  for (const [cert, key, said] of [
    ['/nonexistent.pem', files.key, 'cannot read /nonexistent.pem'],
    [files.key, files.key, `${files.key} holds no certificate`],
    [files.certificate, other.key, `is not the key's in ${other.key}`],
  ]) {
    const { code, stderr } = await check(cert, key);
    assert.equal(code, 64, stderr);
    assert.ok(stderr.includes(said), stderr);
  }
});
