// examples/php-site, as it lies there, served by PHP's own web server.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { freePort } from './ports.js';
import { start, stop } from './process.js';
import { startServer } from './server.js';
import { until } from './until.js';

const FOLDER = fileURLToPath(new URL('../../examples/php-site/', import.meta.url));

/**
 * A server whose only client is the site, and the site: `{ server, address }`. Tests differ in the server's
 * configuration alone: `name` is the client's only provider and `settings` the lines of `[providers.<name>]`.
 */
export async function startPhpSite(owner, name, settings) {
  // Neither PHP nor `public.origins` takes a 0.
  const port = await freePort();
  const config = `
[public]
origins = ["http://127.0.0.1:${port}"]
[[login.clients]]
id = "php-site"
name = "A site in PHP"
providers = ["${name}"]
[providers.${name}]
${settings}
`;
  const server = await startServer({ identity: 'token', config, owner });
  const sessions = await mkdtemp(join(tmpdir(), 'doorbell-php-site-'));
  const php = start('php', ['-d', `session.save_path=${sessions}`, '-S', `127.0.0.1:${port}`, '-t', FOLDER], {
    env: {
      ...process.env,
      SITE_DOORBELL: `http://${server.public.address}`,
      SITE_DOORBELL_API: `http://${server.api.address}`,
      SITE_DOORBELL_KEY_FILE: join(server.data, 'api.key'),
    },
  });
  owner.after(async () => {
    await stop(php);
    await rm(sessions, { recursive: true });
  });
  const address = `http://127.0.0.1:${port}/`;
  await until('PHP serves', () => fetch(address).then(({ ok }) => ok, () => false));
  return { server, address };
}

/** Opens the site on a computer: the address in its QR code, from the server's answer to the page. */
export async function openSite({ page }, address) {
  const begins = page.waitForResponse((response) => response.url().endsWith('/v1/device_authorization') && response.status() === 200);
  await page.goto(address);
  return (await (await begins).json()).verification_uri_complete;
}
