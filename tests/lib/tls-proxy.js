// A real nginx that ends TLS in front of the public listener, configured as our users do it.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { makeCertificate } from './certificate.js';
import { freePort, reachable } from './ports.js';
import { start, stop } from './process.js';
import { until } from './until.js';

const NGINX = process.env.NGINX_BIN ?? '/usr/sbin/nginx';

const config = (port, upstream, folder) => `
daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_certificate ${folder}/cert.pem;
    ssl_certificate_key ${folder}/key.pem;
    location / {
      proxy_pass http://${upstream};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_read_timeout 60s;
    }
  }
}
`;

/** Starts the proxy; answers its address `host:port`. It stops with the test. */
export async function startTlsProxy(upstream, owner) {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-nginx-'));
  owner.after(() => rm(folder, { recursive: true, force: true }));
  await makeCertificate(folder);
  const port = await freePort();
  const file = join(folder, 'nginx.conf');
  await writeFile(file, config(port, upstream, folder));
  const nginx = start(NGINX, ['-p', folder, '-c', file]);
  owner.after(() => stop(nginx));
  await until(`nginx listens (${nginx.output.stderr})`, () => reachable(port));
  return `127.0.0.1:${port}`;
}
