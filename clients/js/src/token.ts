// Tokens: who they name, when they expire, and when to ask for the next one.

import type { Environment } from './environment.js';
import type { Token } from './types.js';

/** A token function that does not answer within this is treated as having failed. */
const ANSWER_WITHIN_MS = 20_000;
/** A token is renewed this long before it expires, or a fifth of its life before when that is shorter. */
const RENEW_BEFORE_MS = 60_000;
/** Browsers run timers beyond 24.8 days at once. */
const LONGEST_TIMER_MS = 86_400_000;

interface Claims {
  sub?: unknown;
  exp?: unknown;
  iat?: unknown;
}

/** The claims of a JWT, unverified; undefined for anything else. */
export function claims(token: string): Claims | undefined {
  const parts = token.split('.');
  if (parts.length !== 3) return undefined;
  try {
    const bytes = atob(parts[1]!.replace(/-/g, '+').replace(/_/g, '/'));
    const text = new TextDecoder().decode(Uint8Array.from(bytes, (char) => char.charCodeAt(0)));
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Whom a token names: its `sub`, or with open identity the token itself. */
export function subject(token: string): string {
  const sub = claims(token)?.sub;
  return typeof sub === 'string' ? sub : token;
}

export class Tokens {
  /** Told whenever a token was obtained. */
  onToken: ((token: string) => void) | undefined;

  private _token: string | undefined;
  private _obtainedAt = 0;
  private _asking: Promise<string> | undefined;

  constructor(
    private readonly _source: Token | undefined,
    private readonly _env: Environment,
  ) {}

  /** Whether another token can be had. */
  get renewable(): boolean {
    return typeof this._source === 'function';
  }

  /** The token to use now; `fresh` when it was asked for because of this call. Undefined when there is none at all. */
  async get(): Promise<{ token: string | undefined; fresh: boolean }> {
    if (typeof this._source !== 'function') return { token: this._source, fresh: true };
    if (this._token !== undefined && this.renewInMs() !== 0) return { token: this._token, fresh: false };
    return { token: await this.renew(), fresh: true };
  }

  /** Asks for a new token; those who ask meanwhile share the answer. */
  renew(): Promise<string> {
    this._asking ??= this._ask().finally(() => {
      this._asking = undefined;
    });
    return this._asking;
  }

  /** The server would not have it any more. */
  invalidate(): void {
    this._token = undefined;
  }

  /** Milliseconds until the token should be renewed; undefined when it need not or cannot be. */
  renewInMs(): number | undefined {
    if (!this.renewable || this._token === undefined) return undefined;
    const { exp, iat } = claims(this._token) ?? {};
    if (typeof exp !== 'number') return undefined;
    const leftAtFirst = exp * 1000 - this._obtainedAt;
    const life = typeof iat === 'number' && exp > iat ? (exp - iat) * 1000 : leftAtFirst;
    // A token that was dead on arrival or outlives its own life says that this machine's clock is wrong.
    const left = leftAtFirst > 0 ? Math.min(leftAtFirst, life) : Math.max(life, RENEW_BEFORE_MS) / 2;
    const due = this._obtainedAt + left - Math.min(RENEW_BEFORE_MS, left / 5);
    return Math.min(Math.max(0, due - this._env.now()), LONGEST_TIMER_MS);
  }

  private async _ask(): Promise<string> {
    let timer: unknown;
    const late = new Promise<never>((_, reject) => {
      timer = this._env.setTimeout(() => reject(new Error('the token function did not answer')), ANSWER_WITHIN_MS);
    });
    try {
      const token: unknown = await Promise.race([(this._source as () => string | Promise<string>)(), late]);
      if (typeof token !== 'string' || token === '') throw new Error('the token function returned no token');
      this._token = token;
      this._obtainedAt = this._env.now();
      this.onToken?.(token);
      return token;
    } finally {
      this._env.clearTimeout(timer);
    }
  }
}
