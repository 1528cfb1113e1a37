// What one page received: its place in the uid's sequence, no message twice, and what its listeners are done with.
//
// Two numbers matter. `seen` is the last message handed to the listeners; whatever is not beyond it is a duplicate.
// `position.seq` is the last one before which all listeners are done; that is acknowledged, kept over a reload, and
// where a new connection resumes.

import type { Environment } from './environment.js';
import type { Welcome } from './transports/transport.js';
import type { GapEvent, Message, Position } from './types.js';

/** Broadcasts have no number; two links that overlap for a moment may both bring one. */
const REMEMBERED_IDS = 100;

export type Place = Position & { uid: string };

/** Who hears of an inbox. */
export interface InboxOwner {
  /** Hands a message to the listeners; the promise, if any, says when they are done. */
  deliver(message: Message): Promise<unknown> | undefined;
  gap(gap: GapEvent): void;
  /** Everything up to `seq` was handled. */
  handled(seq: number): void;
}

export class Inbox {
  /** Everything up to here was handled. */
  private _position: Place | undefined;
  /** The number of the last message handed over, or of the last before the first. */
  private _seen = 0;

  private readonly _ids: string[] = [];
  private _pending: { seq: number | undefined; done: boolean }[] = [];
  private _waiting: (() => void)[] = [];

  constructor(
    private readonly _env: Environment,
    private readonly _owner: InboxOwner,
    /** The prefix under which positions survive a reload; undefined keeps them in memory. */
    private readonly _key: string | undefined,
  ) {}

  /** Where `uid` left off; for a uid that nobody knows yet, where whoever was here left off. */
  resumePoint(uid: string | undefined): Position | undefined {
    if (uid !== undefined && this._position?.uid !== uid) this._restore(uid);
    const position = this._position;
    return position && { epoch: position.epoch, seq: position.seq };
  }

  /** Up to where `uid`'s messages were handed to the listeners; undefined for a page that begins. */
  seenBy(uid: string): Position | undefined {
    return this.resumePoint(uid) && { epoch: this._position!.epoch, seq: this._seen };
  }

  /** Takes note of what the server, or the tab that holds the connection, says of the place. */
  welcome({ uid, epoch, seq, recovered }: Pick<Welcome, 'uid' | 'epoch' | 'seq' | 'recovered'>): void {
    if (uid === null) return;
    const before = this._position?.uid === uid ? this._position : undefined;
    const from = this._seen;
    if (before?.epoch === epoch) {
      // Whatever the server forgot, this page may have it.
      if (recovered || from >= seq) return;
      this._moveTo({ uid, epoch, seq });
    } else {
      this._moveTo({ uid, epoch, seq });
      if (!before || recovered) return;
    }
    this._owner.gap({ uid, from: { epoch: before.epoch, seq: from }, to: { epoch, seq } });
  }

  /** Whether the message was not here before. */
  private _isNew({ seq, id }: Message): boolean {
    return seq === undefined ? id === '' || !this._ids.includes(id) : seq > this._seen;
  }

  /** Hands a message to the listeners unless it was here before. */
  accept(message: Message): void {
    if (!this._isNew(message)) return;
    const { seq, id } = message;
    if (seq !== undefined) this._seen = seq;
    else if (this._ids.push(id) > REMEMBERED_IDS) this._ids.shift();
    const entry = { seq, done: false };
    this._pending.push(entry);
    const listeners = this._owner.deliver(message);
    const done = (): void => {
      entry.done = true;
      this._advance();
    };
    if (listeners) void listeners.then(done);
    else done();
  }

  /** Whether the listeners are done with everything within `ms`. */
  settled(ms: number): Promise<boolean> {
    if (this._pending.length === 0) return Promise.resolve(true);
    return new Promise((resolve) => {
      const timer = this._env.setTimeout(() => resolve(false), ms);
      this._waiting.push(() => {
        this._env.clearTimeout(timer);
        resolve(true);
      });
    });
  }

  private _advance(): void {
    let handled: number | undefined;
    while (this._pending[0]?.done) handled = this._pending.shift()!.seq ?? handled;
    if (handled !== undefined && this._position) {
      this._position.seq = handled;
      this._save();
      this._owner.handled(handled);
    }
    if (this._pending.length === 0) this._waiting.splice(0).forEach((resolve) => resolve());
  }

  private _moveTo(place: Place): void {
    this._position = { ...place };
    this._seen = place.seq;
    // Those in progress belong to the place before; their end says nothing about this one.
    this._pending = [];
    this._waiting.splice(0).forEach((resolve) => resolve());
    this._save();
  }

  private _restore(uid: string): void {
    this._position = undefined;
    this._pending = [];
    const kept = this._key && this._env.storage?.getItem(this._key + uid);
    const [, seq, epoch] = /^(\d+) (.+)$/.exec(kept ?? '') ?? [];
    if (epoch === undefined) return;
    this._seen = Number(seq);
    this._position = { uid, epoch, seq: this._seen };
  }

  private _save(): void {
    if (!this._key || !this._position) return;
    const { uid, epoch, seq } = this._position;
    try {
      this._env.storage?.setItem(this._key + uid, `${seq} ${epoch}`);
    } catch {
      // A full storage costs a reload its resume, nothing else.
    }
  }
}
