// Which transport to try, in what order, and what is remembered about it.

import type { Environment } from './environment.js';
import type { TransportName } from './types.js';

/** What worked is tried alone this often before the others get another chance: a restarting server is no broken path. */
const LOYAL_ATTEMPTS = 2;
/** What a worse transport's success is worth after a reload: a laptop moves from one network to another. */
const REMEMBERED_MS = 600_000;

export class Ladder {
  private _worked: TransportName | undefined;
  private _failures = 0;
  private readonly _names: TransportName[];

  constructor(
    names: readonly TransportName[],
    private readonly _env: Environment,
    private readonly _key: string,
  ) {
    this._names = names.filter((name) => (name === 'websocket' ? _env.WebSocket : _env.fetch));
    const [name, at] = (_env.storage?.getItem(_key) ?? '').split(' ');
    if (this._names.includes(name as TransportName) && _env.now() - Number(at) < REMEMBERED_MS) {
      this._worked = name as TransportName;
    }
  }

  /** What to try in this round. */
  order(): TransportName[] {
    const worked = this._worked;
    if (!worked) return [...this._names];
    if (this._failures < LOYAL_ATTEMPTS) return [worked];
    return [worked, ...this._names.filter((name) => name !== worked)];
  }

  /** What would be better than `name`. */
  better(name: TransportName): TransportName[] {
    return this._names.slice(0, Math.max(0, this._names.indexOf(name)));
  }

  opened(name: TransportName): void {
    this._worked = name;
    this._failures = 0;
    try {
      this._env.storage?.setItem(this._key, `${name} ${this._env.now()}`);
    } catch {
      // A full storage costs a memory, nothing else.
    }
  }

  failed(name: TransportName): void {
    if (name === this._worked) this._failures += 1;
  }
}
