// What a load balancer is told at /readyz when there is no room for more connections, and when there is again.

import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';

import { Page } from './lib/page.js';
import { run } from './lib/process.js';
import { startServer } from './lib/server.js';
import { until, within } from './lib/until.js';

/** After the last refusal the server is not ready for five seconds. */
const READY_AGAIN_MS = 15_000;

/** Asks on a connection that is kept, as load balancers do: it needs no descriptor that is not there. */
function operator(server, t) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const ask = (path) => within(`${path} is answered`, new Promise((resolve, reject) => {
    http.get({ host: server.api.host, port: server.api.port, path, agent }, async (response) => {
      let text = '';
      for await (const part of response.setEncoding('utf8')) text += part;
      resolve({ status: response.statusCode, text });
    }).once('error', reject);
  }));
  return {
    /** `ready`, or the reason why it is not. */
    async readiness() {
      const { status, text } = await ask('/readyz');
      if (status === 200) return text.trim();
      assert.equal(status, 503, text);
      return JSON.parse(text).type.replace('urn:doorbell:', '');
    },
    async lives() {
      assert.equal((await ask('/healthz')).status, 200, 'it lives');
    },
  };
}

test('a server whose places are taken is not ready, and is again when they are free', async (t) => {
  const server = await startServer({ owner: t, descriptors: 200 });
  const { readiness, lives } = operator(server, t);
  assert.equal(await readiness(), 'ready');
  const pages = [];
  for (let full = false; !full && pages.length < 200;) {
    try {
      pages.push(await Page.as(server, `u${pages.length}`));
    } catch {
      full = true;
    }
  }
  assert.ok(pages.length > 50 && pages.length < 200, `${pages.length} let in`);
  assert.equal(await readiness(), 'capacity');
  await lives();
  await Promise.all(pages.map((page) => page.reset()));
  await until('it is ready', async () => await readiness() === 'ready', READY_AGAIN_MS);
});

test('a server that has no descriptor to accept with is not ready, and takes who waited once it has', async (t) => {
  const server = await startServer({ owner: t });
  const { readiness, lives } = operator(server, t);
  assert.equal(await readiness(), 'ready');
  const allow = async (limits) => {
    const { code, stderr } = await run('prlimit', ['--pid', String(server.pid), `--nofile=${limits}`]);
    assert.equal(code, 0, stderr);
  };
  const { stdout } = await run('prlimit', ['--pid', String(server.pid), '--nofile', '--output', 'SOFT', '--noheadings']);
  const before = stdout.trim();
  assert.match(before, /^\d+$/);
  // Below what is open already: the soft limit alone, so that it can be raised again.
  await allow('3:');
  const waiting = Page.as(server, 'u');
  waiting.catch(() => {});
  await until('it says so', async () => await readiness() === 'descriptors');
  await lives();
  await allow(`${before}:`);
  const page = await waiting;
  t.after(() => page.socket.destroy());
  await until('it is ready', async () => await readiness() === 'ready', READY_AGAIN_MS);
});
