// Takes a picture of every page of a sign-in: `node screens.js ALL [KEPT]`.
//
// ALL gets each state of both machines, at desktop and at phone width, light and dark. KEPT gets the few that the
// documentation shows.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { smaller } from './lib/png.js';
import { STATES, tour } from './lib/tour.js';

const WIDTHS = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };
const KEPT = [
  'computer-pending-desktop-light', 'computer-pending-desktop-dark', 'computer-pending-phone-light', 'computer-scanned-desktop-light',
  'computer-signed-in-desktop-light', 'phone-consent-phone-light', 'phone-consent-phone-dark', 'phone-elsewhere-phone-light',
  'phone-number-phone-light', 'phone-digits-phone-dark', 'phone-signed-in-phone-light', 'phone-refused-phone-dark',
  'phone-consent-desktop-light',
];

const [all, kept] = process.argv.slice(2);
if (all === undefined) throw new Error('usage: node screens.js ALL [KEPT]');
const cleanups = [];
const owner = { after: (cleanup) => cleanups.push(cleanup) };
const taken = new Set();
await Promise.all([all, kept].filter(Boolean).map((folder) => mkdir(folder, { recursive: true })));
try {
  for (const colorScheme of ['light', 'dark']) {
    const options = { colorScheme, reducedMotion: 'reduce' };
    await tour(owner, { onComputer: options, onPhone: options }, async (machine, state, page) => {
      const before = page.viewportSize();
      for (const [width, viewport] of Object.entries(WIDTHS)) {
        await page.setViewportSize(viewport);
        const name = `${machine}-${state}-${width}-${colorScheme}`;
        const picture = smaller(await page.screenshot({ animations: 'disabled', caret: 'hide' }));
        await writeFile(join(all, `${name}.png`), picture);
        if (kept && KEPT.includes(name)) await writeFile(join(kept, `${name}.png`), picture);
        taken.add(name);
      }
      if (before) await page.setViewportSize(before);
    });
  }
} finally {
  for (const cleanup of cleanups.reverse()) await cleanup();
}
const missing = KEPT.filter((name) => !taken.has(name));
if (missing.length > 0) throw new Error(`not taken: ${missing.join(', ')}`);
console.log(`${taken.size} pictures of ${STATES.length} states`);
