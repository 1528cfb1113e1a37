// A real Caddy with the configuration of examples/caddy: the site's name and the upstream are replaced, and what would
// leave this machine (a public certificate, the administration port) is switched off.

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';

import { freePort } from './ports.js';
import { run, start, stop } from './process.js';
import { until } from './until.js';

const CADDY = process.env.CADDY_BIN ?? '/usr/bin/caddy';
const EXAMPLE = new URL('../../examples/caddy/Caddyfile', import.meta.url);

/** Certificates of Caddy's own authority, which is not put among those this machine trusts; no port but the site's. */
const OPTIONS = `
	admin off
	auto_https disable_redirects
	local_certs
	skip_install_trust
`;

/** The example as it stands in the repository, for this upstream and port. Fails when a line it replaces is not there. */
async function exampleFor(upstream, port) {
  let text = await readFile(EXAMPLE, 'utf8');
  const replacements = [
    [/^\{$/m, `{${OPTIONS}`],
    ['grace_period 5s', 'grace_period 1s'],
    [/^push\.example\.com \{$/m, `https://127.0.0.1:${port} {\n\tbind 127.0.0.1`],
    [/^(\treverse_proxy )127\.0\.0\.1:19999/m, `$1${upstream}`],
  ];
  for (const [from, to] of replacements) {
    const replaced = text.replace(from, to);
    if (replaced === text) throw new Error(`examples/caddy has no ${from}`);
    text = replaced;
  }
  return text;
}

/** Whether a TLS client that trusts this authority is let in. */
function shakesHands(port, ca) {
  return new Promise((resolve) => {
    const socket = tls.connect({ host: '127.0.0.1', port, ca });
    socket.once('secureConnect', () => { socket.destroy(); resolve(true); });
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
  });
}

/** Starts Caddy in front of a server's public listener: `{ host, port, address, ca, restart }`. It stops with the test. */
export async function startCaddy(server, owner) {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-caddy-'));
  owner.after(() => rm(folder, { recursive: true, force: true }));
  const port = await freePort();
  const file = join(folder, 'Caddyfile');
  await writeFile(file, await exampleFor(server.public.address, port));
  const words = ['--config', file, '--adapter', 'caddyfile'];
  const env = { ...process.env, HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder };
  const checked = await run(CADDY, ['validate', ...words], { env });
  if (checked.code !== 0) throw new Error(`caddy validate: ${checked.stderr}`);
  const root = join(folder, 'caddy/pki/authorities/local/root.crt');
  let caddy;
  const begin = async () => {
    caddy = start(CADDY, ['run', ...words], { env });
    // It listens before it has made its certificate.
    await until('caddy has its certificate', async () => {
      if (caddy.child.exitCode !== null) throw new Error(`caddy ended: ${caddy.output.stderr}`);
      const ca = await readFile(root).catch(() => null);
      return ca !== null && shakesHands(port, ca);
    }, 20_000);
  };
  await begin();
  owner.after(() => stop(caddy));
  return {
    host: '127.0.0.1',
    port,
    address: `127.0.0.1:${port}`,
    ca: await readFile(root),
    async restart() {
      await stop(caddy);
      await begin();
    },
  };
}
