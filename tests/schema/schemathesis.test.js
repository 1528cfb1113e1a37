// The API against its own description: schemathesis (PyPI) asks what /openapi.json allows and what it does not, and
// checks status, type and shape of every answer.

import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { metrics } from '../lib/api.js';
import { Page } from '../lib/page.js';
import { run } from '../lib/process.js';
import { startServer } from '../lib/server.js';

const here = fileURLToPath(new URL('.', import.meta.url));
const SCHEMATHESIS = process.env.SCHEMATHESIS_BIN
  ?? fileURLToPath(new URL('../../target/schemathesis-venv/bin/schemathesis', import.meta.url));

/** Fuzzing and stateful testing repeat until this has passed. */
const SECONDS = 60;
const WAITING_PAGES = 10;
/** So that a red run is due to a change; SCHEMATHESIS_SEED=random looks further. */
const SEED = '1';

const skip = existsSync(SCHEMATHESIS) ? false : `schemathesis is not at ${SCHEMATHESIS}: cargo xtask test installs it`;

/** A page that waits to be bound, and comes back when it was closed, so that there always is a connection to ask about. */
async function keepWaiting(server, stopped) {
  while (!stopped.aborted) {
    const page = await Page.connect(server, { headers: { 'Sec-WebSocket-Protocol': 'doorbell.v1' } });
    page.send('{"type":"hello"}');
    const stop = () => page.socket.destroy();
    stopped.addEventListener('abort', stop);
    await page.closed;
    stopped.removeEventListener('abort', stop);
  }
}

test('the API answers as it is described, whatever it is asked', { skip }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-schemathesis-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const server = await startServer({ owner: t, identity: 'token' });
  const stopped = new AbortController();
  const pages = Array.from({ length: WAITING_PAGES }, () => keepWaiting(server, stopped.signal));
  t.after(() => stopped.abort());
  const asked = process.env.SCHEMATHESIS_SEED ?? SEED;
  const seed = asked === 'random' ? String(randomInt(2 ** 31)) : asked;
  t.diagnostic(`seed ${seed}`);
  // From a file: a description that it has fetched itself is a call it leaves out.
  const description = await (await fetch(`http://${server.api.address}/openapi.json`)).text();
  await writeFile(join(folder, 'openapi.json'), description);
  const { code, stdout, stderr } = await run(SCHEMATHESIS, [
    '--config-file', join(here, 'schemathesis.toml'),
    'run', 'openapi.json', '--url', `http://${server.api.address}`,
    '--header', `Authorization: Bearer ${server.key}`,
    '--max-time', String(SECONDS), '--seed', seed, '--continue-on-failure',
  ], { cwd: folder, withinMs: (SECONDS + 120) * 1000, env: { ...process.env, NO_COLOR: '1', PYTHONPATH: here, SCHEMATHESIS_HOOKS: 'hooks' } });
  assert.equal(code, 0, `seed ${seed}\n${stdout.slice(-8000)}\n${stderr}`);
  const [, tested] = stdout.match(/Tested: (\d+)/) ?? [];
  const [, cases] = stdout.match(/(\d+) generated/) ?? [];
  t.diagnostic(`${cases} cases for ${tested} calls`);
  assert.ok(Number(cases) > 200, stdout);
  const calls = Object.values(JSON.parse(description).paths);
  assert.equal(Number(tested), calls.reduce((sum, item) => sum + Object.keys(item).length, 0), `a call was left out\n${stdout}`);
  // The waiting pages were closed and bound, so the calls about connections did more than answer 404.
  const closed = (await metrics(server)).find(({ name, labels }) => name === 'doorbell_websocket_closed_total' && labels.code === '3501');
  assert.ok(closed?.value > 0, 'a listed connection was closed by its name');
  stopped.abort();
  await Promise.all(pages);
});
