// How long to wait before the next attempt.

/** Shortest wait; with chance added, a herd of clients spreads from the first attempt on. */
const MIN_MS = 500;

/** Full jitter between 0.5 s and `maxMs`: the part that chance decides doubles with each attempt. */
export function backoff(attempt: number, maxMs: number, random: number): number {
  return Math.min(maxMs, MIN_MS + Math.floor(random * Math.min(maxMs, MIN_MS * 2 ** attempt)));
}
