// Waiting with a deadline. Nothing in these tests sleeps and hopes.

import { setTimeout as pause } from 'node:timers/promises';

const POLL_EVERY_MS = 10;

/** Asks `condition` until it answers something truthy, and returns that. */
export async function until(what, condition, withinMs = 10_000) {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`);
    await pause(POLL_EVERY_MS);
  }
}

/** The promise's outcome, or an error that says what did not happen in time. */
export function within(what, promise, ms = 10_000) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Runs `work(item)` over all items, at most `width` at a time. */
export async function eachOf(items, width, work) {
  const source = items[Symbol.iterator]();
  const lane = async () => {
    for (let next = source.next(); !next.done; next = source.next()) await work(next.value);
  };
  await Promise.all(Array.from({ length: width }, lane));
}
