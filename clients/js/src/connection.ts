// One connection to the server over all its links: opens them, falls back, comes back, renews the token.
//
// At most one link is current and at most one is a candidate. A candidate becomes current when it is welcomed, and
// only then is its predecessor closed, so that a change of transport or token leaves no hole.

import { backoff } from './backoff.js';
import type { Endpoint } from './endpoint.js';
import type { Environment } from './environment.js';
import type { Ladder } from './ladder.js';
import { Link, type LinkOwner } from './link.js';
import { subject, type Tokens } from './token.js';
import type { Ending, Opening, Welcome } from './transports/transport.js';
import type { CloseEvent, Message, Position, StateEvent, TransportName } from './types.js';

/** A link that lived this long was no failure: the next loss starts with a short wait again. */
const STABLE_MS = 5_000;
/** When a worse transport works, a better one is tried again after this, then after twice as long, and so on. */
const FIRST_UPGRADE_MS = 60_000;
const LAST_UPGRADE_MS = 3_600_000;
/** A renewal that failed is tried again after this; the server grants 25 s after the expiry. */
const RENEW_AGAIN_MS = 5_000;

export interface ConnectionOptions {
  endpoint: Endpoint;
  env: Environment;
  tokens: Tokens;
  ladder: Ladder;
  maxReconnectDelay: number;
  openTimeout: number;
}

/** Who hears of a connection. */
export interface ConnectionOwner {
  /** Where to go on; the uid is undefined while nobody can tell it. */
  resumePoint(uid: string | undefined): Position | undefined;
  settled(ms: number): Promise<boolean>;
  welcome(welcome: Welcome, transport: TransportName): void;
  message(message: Message): void;
  state(state: StateEvent): void;
  closed(close: CloseEvent): void;
  /** A new link beside a good one could not go on where it was to; the good one stays. */
  unrecovered?(): void;
}

/** What makes a wait pointless or a link doubtful. */
export type Wake = 'online' | 'offline' | 'visible';

export class Connection implements LinkOwner {
  private _running = false;
  /** Outdates everything that was begun before. */
  private _generation = 0;
  private _attempt = 0;
  private _current: Link | undefined;
  private _candidate: Link | undefined;
  private _queue: TransportName[] = [];
  private _epoch = '';
  private _token: string | undefined;
  private _tokenIsFresh = false;
  private _retryTimer: unknown;
  /** Whether the present wait may be cut short; one that the server asked for may not. */
  private _impatient = false;
  private _renewTimer: unknown;
  private _upgradeTimer: unknown;
  private _upgradeMs = FIRST_UPGRADE_MS;
  private _lastLoss: Ending | undefined;

  constructor(
    private readonly _options: ConnectionOptions,
    private readonly _owner: ConnectionOwner,
  ) {}

  start(): void {
    if (this._running) return;
    this._running = true;
    this._attempt = 0;
    this._owner.state({ state: 'connecting' });
    void this._round();
  }

  /** Ends everything without a further event. */
  stop(): void {
    const { env } = this._options;
    this._running = false;
    this._generation += 1;
    for (const timer of [this._retryTimer, this._renewTimer, this._upgradeTimer]) env.clearTimeout(timer);
    this._retryTimer = undefined;
    this._candidate?.close();
    this._current?.close();
    this._candidate = this._current = undefined;
  }

  ack(seq: number): void {
    this._current?.ack(seq);
  }

  wake(why: Wake): void {
    if (!this._running) return;
    if (this._current) {
      // Without a ping to send, a changed network is answered by a new link beside the doubtful one.
      if (!this._current.doubt() && why === 'online') this.relink();
    } else if (this._retryTimer !== undefined && this._impatient && why !== 'offline') {
      void this._round();
    }
  }

  /** Opens another link beside the current one, from wherever `resumePoint` now says. */
  relink(): void {
    if (this._current) this._open([this._current.name]);
  }

  linkWelcomed(link: Link, welcome: Welcome): void {
    if (link === this._candidate) {
      this._candidate = undefined;
      if (this._current && !welcome.recovered && welcome.epoch === this._epoch) {
        link.close();
        return this._owner.unrecovered?.();
      }
      // It was accepted; when it no longer is, another one may help.
      this._tokenIsFresh = false;
      this._queue = [];
      this._current?.close();
      this._current = link;
      this._options.ladder.opened(link.name);
      this._scheduleRenewal();
      this._scheduleUpgrade(link.name);
    }
    if (link !== this._current) return;
    this._epoch = welcome.epoch;
    this._owner.welcome(welcome, link.name);
    // The owner may have stopped the connection.
    if (link === this._current) this._owner.state({ state: 'open', transport: link.name });
  }

  linkMessage(link: Link, message: Message): void {
    if (link === this._current) this._owner.message(message);
  }

  linkEnded(link: Link, ending: Ending): void {
    if (link === this._candidate) {
      this._candidate = undefined;
      if (!ending.spoken) {
        this._options.ladder.failed(link.name);
        this._lastLoss = ending;
        this._openNext();
      } else if (!this._current) {
        this._lost(ending, false);
      }
    } else if (link === this._current) {
      this._current = undefined;
      if (this._options.env.now() - link.welcomedAt! >= STABLE_MS) this._attempt = 0;
      this._lost(ending, true);
    }
  }

  /** Begins an attempt: a token, then the transports one after another. */
  private async _round(): Promise<void> {
    const { env, tokens, ladder } = this._options;
    env.clearTimeout(this._retryTimer);
    this._retryTimer = undefined;
    const generation = (this._generation += 1);
    try {
      const { token, fresh } = await tokens.get();
      if (generation !== this._generation) return;
      this._token = token;
      this._tokenIsFresh = fresh;
    } catch (error) {
      if (generation === this._generation) this._retry({ code: 1006, reason: `no token: ${String(error)}` });
      return;
    }
    this._open(ladder.order());
  }

  private _open(names: TransportName[]): void {
    if (this._candidate) return;
    this._queue = names;
    this._openNext();
  }

  private _openNext(): void {
    const name = this._queue.shift();
    if (name === undefined) {
      if (!this._current) this._retry(this._lastLoss ?? { code: 1006, reason: 'no transport available' });
      return;
    }
    const { endpoint, env, openTimeout } = this._options;
    const uid = this._token === undefined ? undefined : subject(this._token);
    const handled = (): Position | undefined => this._owner.resumePoint(uid);
    const opening: Opening = {
      endpoint, env, token: this._token, resume: handled(), handled, settled: (ms) => this._owner.settled(ms),
    };
    this._candidate = new Link(name, opening, openTimeout, this);
  }

  /** A link ended, or the server refused one. */
  private _lost(ending: Ending, wasOpen: boolean): void {
    const { tokens } = this._options;
    let { code, reconnect = code < 3500 || code > 3999, retryAfterMs } = ending;
    if (code === 3002) {
      reconnect &&= tokens.renewable;
      tokens.invalidate();
      // A fresh token is all that was missing, unless fresh tokens are refused too.
      if (this._attempt === 0) retryAfterMs ??= 0;
    } else if (code === 3500 && tokens.renewable && !this._tokenIsFresh) {
      // This one was kept since an earlier connection; the next is new.
      tokens.invalidate();
      reconnect = true;
      retryAfterMs = 0;
    }
    const { reason } = ending;
    const generation = this._generation;
    if (wasOpen || !reconnect) this._owner.closed({ code, reason, reconnect });
    // The owner may have stopped the connection, or started it anew.
    if (generation !== this._generation) return;
    if (!reconnect) {
      this.stop();
      return this._owner.state({ state: 'closed', code, reason, reconnect });
    }
    // A candidate that is already on its way is the next attempt, unless the server just asked for patience.
    if (this._candidate && !ending.spoken) return;
    this._candidate?.close();
    this._candidate = undefined;
    this._retry(ending, retryAfterMs);
  }

  private _retry({ code, reason }: Ending, retryAfterMs?: number): void {
    const { env, maxReconnectDelay } = this._options;
    env.clearTimeout(this._renewTimer);
    env.clearTimeout(this._upgradeTimer);
    const retryInMs = retryAfterMs ?? backoff(this._attempt, maxReconnectDelay, env.random());
    this._attempt += 1;
    this._impatient = retryAfterMs === undefined;
    this._retryTimer = env.setTimeout(() => void this._round(), retryInMs);
    this._owner.state({ state: 'reconnecting', code, reason, reconnect: true, retryInMs });
  }

  private _scheduleRenewal(ms = this._options.tokens.renewInMs()): void {
    const { env } = this._options;
    env.clearTimeout(this._renewTimer);
    if (ms !== undefined) this._renewTimer = env.setTimeout(() => void this._renew(), ms);
  }

  private async _renew(): Promise<void> {
    const { tokens } = this._options;
    const generation = this._generation;
    // A timer has its longest run: this may only be a stage on the way.
    if (tokens.renewInMs() !== 0) return this._scheduleRenewal();
    let token: string;
    try {
      token = await tokens.renew();
    } catch {
      if (generation === this._generation) this._scheduleRenewal(RENEW_AGAIN_MS);
      return;
    }
    if (generation !== this._generation || !this._current) return;
    this._token = token;
    this._tokenIsFresh = true;
    if (!this._current.refresh(token)) this._open([this._current.name]);
    this._scheduleRenewal();
  }

  private _scheduleUpgrade(name: TransportName): void {
    const { env, ladder } = this._options;
    env.clearTimeout(this._upgradeTimer);
    const better = ladder.better(name);
    if (better.length === 0) {
      this._upgradeMs = FIRST_UPGRADE_MS;
      return;
    }
    this._upgradeTimer = env.setTimeout(() => {
      this._upgradeMs = Math.min(this._upgradeMs * 2, LAST_UPGRADE_MS);
      this._scheduleUpgrade(name);
      this._open(better);
    }, this._upgradeMs);
  }
}
