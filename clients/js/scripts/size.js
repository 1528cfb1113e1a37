// Fails when the <script> file outgrows its budget.

import { readFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';

const BUDGET_BYTES = 8 * 1024;

const file = await readFile(new URL('../dist/doorbell.min.js', import.meta.url));
const bytes = gzipSync(file, { level: 9 }).length;
console.log(`dist/doorbell.min.js: ${file.length} bytes, ${bytes} gzipped, budget ${BUDGET_BYTES}`);
if (bytes > BUDGET_BYTES) {
  console.error(`over the budget by ${bytes - BUDGET_BYTES} bytes`);
  process.exitCode = 1;
}
