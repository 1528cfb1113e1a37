// Certificates made for a test.

import { join } from 'node:path';

import { run } from './process.js';

/**
 * Writes a self-signed certificate for `localhost` and `127.0.0.1`, and its key, into a folder; answers both files' paths.
 * `kind` is what openssl calls the key.
 */
export async function makeCertificate(folder, { certificate = 'cert.pem', key = 'key.pem', kind = ['rsa:2048'] } = {}) {
  const files = { certificate: join(folder, certificate), key: join(folder, key) };
  const made = await run('openssl', [
    'req', '-x509', '-newkey', ...kind, '-nodes', '-days', '2', '-subj', '/CN=localhost',
    '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost', '-keyout', files.key, '-out', files.certificate,
  ]);
  if (made.code !== 0) throw new Error(`openssl: ${made.stderr}`);
  return files;
}

/** The key that a public listener should have: signing with it costs a fraction of RSA. */
export const ECDSA = ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
