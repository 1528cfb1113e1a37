// One opened transport and its watchdog: a link is welcomed in time, heard now and then, and ends exactly once.

import { openLongPoll } from './transports/longpoll.js';
import { openSse } from './transports/sse.js';
import { lost, type Ending, type Opening, type OpenTransport, type Transport, type Welcome } from './transports/transport.js';
import { openWebSocket } from './transports/websocket.js';
import type { Message, TransportName } from './types.js';

const OPEN: Record<TransportName, OpenTransport> = {
  websocket: openWebSocket,
  sse: openSse,
  longpoll: openLongPoll,
};

/** How long after the server's own interval, or after a question, silence means loss. */
const GRACE_MS = 10_000;
/** The same when there is a reason to doubt: the network changed, the page was shown again. */
const DOUBT_MS = 5_000;

/** Who hears of a link. */
export interface LinkOwner {
  linkWelcomed(link: Link, welcome: Welcome): void;
  linkMessage(link: Link, message: Message): void;
  linkEnded(link: Link, ending: Ending): void;
}

export class Link {
  /** When it was first welcomed; undefined before. */
  welcomedAt: number | undefined;

  private readonly _transport: Transport | undefined;
  private _over = false;
  private _bye: Ending | undefined;
  private _timer: unknown;
  private _silenceMs = 0;
  private _lastHeard: number;
  /** When the watchdog asked for a sign of life, if nothing came since. */
  private _askedAt: number | undefined;

  constructor(
    readonly name: TransportName,
    readonly opening: Opening,
    openTimeoutMs: number,
    private readonly _owner: LinkOwner,
  ) {
    const { env } = opening;
    this._lastHeard = env.now();
    this._timer = env.setTimeout(() => this._end(lost('not welcomed in time')), openTimeoutMs);
    try {
      this._transport = OPEN[name](opening, {
        welcome: (welcome) => this._welcome(welcome),
        message: (message) => {
          if (!this._over) _owner.linkMessage(this, message);
        },
        bye: (ending) => {
          this._bye = ending;
          // Its Close frame may never come through.
          this._end(ending);
        },
        heard: () => {
          this._lastHeard = env.now();
          this._askedAt = undefined;
        },
        ended: (ending) => this._end(ending),
      });
    } catch (error) {
      // Such as an insecure WebSocket on a secure page.
      queueMicrotask(() => this._end(lost(String(error))));
    }
  }

  ack(seq: number): void {
    this._transport?.ack(seq);
  }

  refresh(token: string): boolean {
    return this._transport?.refresh(token) ?? false;
  }

  /** Asks for a sign of life, with less patience than usual; false when this transport cannot ask. */
  doubt(): boolean {
    if (this._over || this.welcomedAt === undefined) return true;
    const asked = this._transport?.ping() ?? false;
    if (asked && this._askedAt === undefined) this._expect(DOUBT_MS);
    return asked;
  }

  /** Ends it without telling the owner. */
  close(): void {
    if (this._over) return;
    this._over = true;
    this.opening.env.clearTimeout(this._timer);
    this._transport?.close();
  }

  private _welcome(welcome: Welcome): void {
    if (this._over) return;
    this.welcomedAt ??= this.opening.env.now();
    this._silenceMs = welcome.ping_interval * 1000;
    this._watch(this._silenceMs);
    this._owner.linkWelcomed(this, welcome);
  }

  private _watch(ms: number): void {
    const { env } = this.opening;
    env.clearTimeout(this._timer);
    this._timer = env.setTimeout(() => {
      const silent = env.now() - this._lastHeard;
      if (silent < this._silenceMs) return this._watch(this._silenceMs - silent);
      // Timers of hidden and sleeping pages come late: only a question without an answer says that nobody is there.
      this._transport?.ping();
      this._expect(GRACE_MS);
    }, ms);
  }

  private _expect(ms: number): void {
    const { env } = this.opening;
    this._askedAt = env.now();
    env.clearTimeout(this._timer);
    this._timer = env.setTimeout(() => {
      if (this._askedAt === undefined) this._watch(this._silenceMs);
      else this._end(lost('silent'));
    }, ms);
  }

  private _end(ending: Ending): void {
    if (this._over) return;
    this.close();
    this._owner.linkEnded(this, this._bye ?? ending);
  }
}
