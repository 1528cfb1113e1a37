// The Autobahn TestSuite's cases, run by kosoku (PyPI) against `doorbell echo`.
//
// A case passes with OK or INFORMATIONAL, and with NON-STRICT only where it is listed here with its reason.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { run } from '../lib/process.js';
import { startEcho } from '../lib/server.js';

const KOSOKU = process.env.KOSOKU_BIN ?? fileURLToPath(new URL('../../target/kosoku-venv/bin/kosoku', import.meta.url));

const PASSES = new Set(['OK', 'INFORMATIONAL']);

/** Case id -> why NON-STRICT is right for us. */
const NON_STRICT = new Map([]);

// Cases that the sections hold, so that a case silently left out is noticed.
const RUNS = [
  { name: 'section 13 with --compression', sections: ['13'], cases: 126, args: ['--compression', '--max-message', '16MiB'] },
  { name: 'section 12 with --compression', sections: ['12'], cases: 90, args: ['--compression', '--max-message', '16MiB'] },
  { name: 'sections 1 to 7 and 10 with the default limits', sections: ['1', '2', '3', '4', '5', '6', '7', '10'], cases: 247, args: [] },
  { name: 'section 9 with --max-message 16MiB', sections: ['9'], cases: 54, args: ['--max-message', '16MiB'] },
];

const skip = existsSync(KOSOKU) ? false : `kosoku is not at ${KOSOKU}: cargo xtask test installs it`;

// Two at a time: kosoku is one process, whose own work takes longer than the server's.
describe('Autobahn', { concurrency: 2 }, () => {
  for (const { name, sections, cases, args } of RUNS) {
    test(name, { skip, timeout: 1_800_000 }, async (t) => {
      const echo = await startEcho(args, t);
      const reports = await mkdtemp(join(tmpdir(), 'doorbell-autobahn-'));
      t.after(() => rm(reports, { recursive: true, force: true }));
      const include = sections.flatMap((section) => ['--include', `${section}.*`]);
      const { stdout, stderr } = await run(KOSOKU, [
        `${echo.host}:${echo.port}`, ...include, '--parallelism', '4', '--outdir', reports,
      ], { withinMs: 1_790_000 });
      const index = JSON.parse(await readFile(join(reports, 'index.json'), 'utf8').catch(() => {
        throw new Error(`kosoku wrote no report: ${stdout}${stderr}`);
      }));
      const results = Object.entries(Object.values(index)[0]);
      for (const [id, { behavior, behaviorClose }] of results) {
        await t.test(`Autobahn ${id}`, () => {
          for (const verdict of [behavior, behaviorClose]) {
            assert.ok(PASSES.has(verdict) || (verdict === 'NON-STRICT' && NON_STRICT.has(id)), verdict);
          }
        });
      }
      assert.equal(results.length, cases);
    });
  }
});
