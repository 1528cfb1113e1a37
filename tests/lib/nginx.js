// A real nginx with the configuration of examples/nginx: the port, the upstream and the certificate's folder are replaced.

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { makeCertificate } from './certificate.js';
import { run, start, stop } from './process.js';
import { freePort, reachable } from './ports.js';
import { until } from './until.js';

const NGINX = process.env.NGINX_BIN ?? '/usr/sbin/nginx';
const EXAMPLE = new URL('../../examples/nginx/doorbell.conf', import.meta.url);

/** What Debian's nginx.conf has around the example. */
const config = (example, folder) => `
daemon off;
pid ${folder}/nginx.pid;
error_log stderr warn;
worker_processes 1;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  ${example}
}
`;

/** The example as it stands in the repository, for this upstream and port. Fails when a line it replaces is not there. */
async function exampleFor(upstream, port, folder, changes) {
  let text = await readFile(EXAMPLE, 'utf8');
  const replacements = [
    ['listen 443 ssl;', `listen 127.0.0.1:${port} ssl;`],
    [/\/etc\/ssl\/push\.example\.com\//g, `${folder}/`],
    ['http://127.0.0.1:19999', `http://${upstream}`],
    ...changes,
  ];
  for (const [from, to] of replacements) {
    const replaced = text.replace(from, to);
    if (replaced === text) throw new Error(`examples/nginx has no ${from}`);
    text = replaced;
  }
  return text;
}

/**
 * Starts nginx in front of a server's public listener: `{ host, port, address, ca, restart }`. It stops with the test.
 * `changes` are further replacements in the example.
 */
export async function startNginx(server, owner, { changes = [] } = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-nginx-'));
  owner.after(() => rm(folder, { recursive: true, force: true }));
  const { certificate } = await makeCertificate(folder, { certificate: 'fullchain.pem', key: 'privkey.pem' });
  const port = await freePort();
  const file = join(folder, 'nginx.conf');
  await writeFile(file, config(await exampleFor(server.public.address, port, folder, changes), folder));
  const checked = await run(NGINX, ['-t', '-p', folder, '-c', file]);
  if (checked.code !== 0) throw new Error(`nginx -t: ${checked.stderr}`);
  let nginx;
  const begin = async () => {
    nginx = start(NGINX, ['-p', folder, '-c', file]);
    await until('nginx listens', () => {
      if (nginx.child.exitCode !== null) throw new Error(`nginx ended: ${nginx.output.stderr}`);
      return reachable(port);
    });
  };
  await begin();
  owner.after(() => stop(nginx));
  return {
    host: '127.0.0.1',
    port,
    address: `127.0.0.1:${port}`,
    ca: await readFile(certificate),
    async restart() {
      await stop(nginx);
      await begin();
    },
  };
}
