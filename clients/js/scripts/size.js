// Fails when a <script> file outgrows its budget.

import { readFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';

const KIB = 1024;
const BUDGETS = { 'doorbell.min.js': 8 * KIB, 'doorbell-login.min.js': 14 * KIB };

for (const [name, budget] of Object.entries(BUDGETS)) {
  const file = await readFile(new URL(`../dist/${name}`, import.meta.url));
  const bytes = gzipSync(file, { level: 9 }).length;
  console.log(`dist/${name}: ${file.length} bytes, ${bytes} gzipped, budget ${budget}`);
  if (bytes > budget) {
    console.error(`over the budget by ${bytes - budget} bytes`);
    process.exitCode = 1;
  }
}
