// Everything the client takes from outside: clock, chance, network, browser. Tests replace parts of it.

/** A constructor like the browser's `WebSocket`. */
export type WebSocketConstructor = new (url: string, protocols?: string | string[]) => WebSocket;

export interface Environment {
  /** Unix time in milliseconds. */
  now(): number;
  /** From 0 up to, not including, 1. */
  random(): number;
  setTimeout(action: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  WebSocket: WebSocketConstructor | undefined;
  fetch: typeof fetch | undefined;
  /** What survives a reload of the page. */
  storage: Pick<Storage, 'getItem' | 'setItem'> | undefined;
  locks: LockManager | undefined;
  BroadcastChannel: typeof BroadcastChannel | undefined;
  /** Where `online`, `offline`, `pagehide` and `pageshow` happen. */
  window: Pick<EventTarget, 'addEventListener' | 'removeEventListener'> | undefined;
  /** Where `visibilitychange` happens. */
  document: (Pick<EventTarget, 'addEventListener' | 'removeEventListener'> & { visibilityState: string }) | undefined;
  /** What relative addresses are relative to. */
  baseUrl: string | undefined;
}

export function environment(replaced: Partial<Environment> = {}): Environment {
  const page = typeof document === 'object' ? document : undefined;
  const found: Environment = {
    now: () => Date.now(),
    random: () => Math.random(),
    setTimeout: (action, ms) => setTimeout(action, ms),
    clearTimeout: (timer) => clearTimeout(timer as number),
    WebSocket: typeof WebSocket === 'function' ? WebSocket : undefined,
    fetch: typeof fetch === 'function' ? (input, init) => fetch(input, init) : undefined,
    storage: page && reachable(() => sessionStorage),
    locks: page && reachable(() => navigator.locks),
    BroadcastChannel: typeof BroadcastChannel === 'function' ? BroadcastChannel : undefined,
    window: page && window,
    document: page,
    baseUrl: page && page.baseURI,
  };
  return { ...found, ...replaced };
}

/** Sandboxed pages throw on the mere look at some of these. */
function reachable<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
