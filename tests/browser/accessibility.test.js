// axe-core in Chromium over every page of a sign-in, light and dark.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import { STATES, tour } from '../lib/tour.js';

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

for (const colorScheme of ['light', 'dark']) {
  test(`no page of a sign-in has a barrier that axe-core finds, in ${colorScheme}`, async (t) => {
    const seen = [];
    const violations = [];
    await tour(t, { onComputer: { colorScheme }, onPhone: { colorScheme } }, async (machine, state, page) => {
      seen.push(`${machine} ${state}`);
      await page.evaluate(AXE);
      const found = await page.evaluate(async () => (await window.axe.run()).violations.map(({ id, help, nodes }) => (
        `${id}: ${help}: ${nodes.map(({ html }) => html.slice(0, 200)).join(' | ')}`
      )));
      violations.push(...found.map((text) => `${machine} ${state}: ${text}`));
    });
    assert.deepEqual(violations, []);
    assert.deepEqual(seen.sort(), [...STATES].sort());
  });
}
