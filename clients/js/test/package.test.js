// What is published and what the server gives out are the same build.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import * as esm from 'doorbell-client';

const at = (path) => new URL(path, import.meta.url);

for (const name of ['doorbell', 'doorbell-login']) {
  test(`the server's ${name}.js is the one that is built from here; \`npm run embed\` writes it`, async () => {
    const [built, given] = await Promise.all([
      readFile(at(`../dist/${name}.min.js`), 'utf8'),
      readFile(at(`../../../crates/server/assets/client/${name}.js`), 'utf8'),
    ]);
    assert.equal(given, built);
  });
}

test('the package is the same by import and by require', () => {
  const cjs = createRequire(import.meta.url)('doorbell-client');
  assert.deepEqual(Object.keys(cjs), Object.keys(esm));
  assert.equal(typeof cjs.Doorbell, 'function');
});
