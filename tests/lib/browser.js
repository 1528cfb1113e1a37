// A real Chromium.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

const CHROMIUM = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';

const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

/** Starts one; `flags` are further command-line switches. */
export function launch(flags = []) {
  return chromium.launch({ executablePath: CHROMIUM, args: [...FLAGS, ...flags] });
}

/**
 * A browser with a profile of its own, as on a machine of its own. It closes with the test.
 *
 * Of `options` see Playwright's `launchPersistentContext`.
 */
export async function launchProfile(owner, options = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'doorbell-profile-'));
  const context = await chromium.launchPersistentContext(folder, { executablePath: CHROMIUM, args: FLAGS, ...options });
  owner.after(async () => {
    await context.close();
    await rm(folder, { recursive: true, force: true });
  });
  return context;
}
