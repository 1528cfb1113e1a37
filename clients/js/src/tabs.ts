// One connection for all tabs of an origin that wait for the same uid.
//
// The tabs elect a leader by a Web Lock: it alone holds the connection, and repeats to a BroadcastChannel what comes
// over it. Every tab, the leader too, has an inbox of its own, so it does not matter how often something is repeated.
// What a tab has missed shows in the numbers: each message says which one came before it. A tab that is behind says
// so, and the leader opens its next link at that tab's place, so the server's mailbox is what catches up everybody.
//
// The lock passes on by itself when the leader closes, navigates away or crashes. A leader that is alive but does
// nothing any more (suspended without notice, stuck in a loop) is asked, does not answer, and loses the lock.

import { Connection, type ConnectionOptions, type ConnectionOwner, type Wake } from './connection.js';
import type { Welcome } from './transports/transport.js';
import type { CloseEvent, Message, Position, StateEvent, TransportName } from './types.js';

/** How long a leader may be silent before it is asked. Answering takes no timer, so a hidden tab answers too. */
const ASK_AFTER_MS = 4_000;
/** How long it may take to answer. A page that computes for some seconds is alive. */
const ANSWER_WITHIN_MS = 2_000;
/** Questions without an answer after which the lock is taken from it. */
const PATIENCE = 3;
/** Part of the names, so that a later version of this file does not talk to this one. */
const VERSION = 1;

/** Who hears of a shared connection. */
export interface TabsOwner extends ConnectionOwner {
  /** Up to where this tab's listeners have been told; undefined for a tab that begins. */
  seen(uid: string): Position | undefined;
}

/** What tabs say to each other. The leader says everything but `ask` and `behind`. */
type Note =
  | { kind: 'ask' }
  | { kind: 'behind'; place: Position }
  | { kind: 'lead'; state: StateEvent; welcome?: Greeting }
  | { kind: 'welcome'; welcome: Greeting }
  | { kind: 'message'; message: Message; epoch: string; after: number }
  | { kind: 'state'; state: StateEvent }
  | { kind: 'close'; close: CloseEvent };

interface Greeting extends Welcome {
  transport: TransportName;
}

export class Tabs {
  private readonly _name: string;
  private _channel: BroadcastChannel | undefined;
  /** Ends the wait for the lock. */
  private _queued: AbortController | undefined;
  /** Lets go of the lock. */
  private _release: (() => void) | undefined;
  private _connection: Connection | undefined;

  // As leader.
  private _state: StateEvent = { state: 'connecting' };
  private _greeting: Greeting | undefined;
  /** The number of the last message that came. */
  private _last = 0;
  /** The place of the tab that is furthest behind. */
  private _behind: Position | undefined;

  // As follower.
  private _watch: unknown;
  private _unanswered = 0;

  constructor(
    private readonly _uid: string,
    private readonly _options: ConnectionOptions,
    private readonly _owner: TabsOwner,
  ) {
    this._name = `doorbell ${VERSION} ${_options.endpoint.base} ${_uid}`;
  }

  start(): void {
    const channel = (this._channel = new this._options.env.BroadcastChannel!(this._name));
    channel.onmessage = ({ data }: MessageEvent<Note>) => {
      if (channel === this._channel) this._heard(data);
    };
    this._say({ kind: 'ask' });
    this._follow();
  }

  /** Leaves the others, who go on without this tab. */
  stop(): void {
    const { env } = this._options;
    env.clearTimeout(this._watch);
    this._queued?.abort();
    this._connection?.stop();
    this._release?.();
    this._channel?.close();
    this._queued = this._connection = this._release = this._channel = undefined;
  }

  ack(seq: number): void {
    this._connection?.ack(seq);
  }

  wake(why: Wake): void {
    if (this._connection) this._connection.wake(why);
    else if (why === 'visible') this._say({ kind: 'ask' });
  }

  /** Waits for the lock, and for signs that whoever has it is alive. */
  private _follow(): void {
    this._unanswered = 0;
    this._request({ signal: (this._queued = new AbortController()).signal });
    this._watchLeader();
  }

  private _request(options: LockOptions): void {
    const channel = this._channel;
    const held = (): Promise<void> | undefined => {
      if (channel !== this._channel || this._connection) return undefined;
      return new Promise((release) => {
        this._release = release;
        this._lead();
      });
    };
    this._options.env.locks!.request(this._name, options, held).catch((error: unknown) => {
      if ((error as Error).name !== 'AbortError') throw error;
      // The wait was ended, or another tab took the lock because this one seemed dead.
      if (channel !== this._channel || !this._connection || options.signal?.aborted) return;
      this._connection.stop();
      this._connection = this._release = undefined;
      this._say({ kind: 'ask' });
      this._follow();
    });
  }

  private _lead(): void {
    this._options.env.clearTimeout(this._watch);
    this._queued = undefined;
    this._state = { state: 'connecting' };
    this._greeting = this._behind = undefined;
    this._connection = new Connection(this._options, {
      resumePoint: (uid) => this._resumePoint(uid),
      settled: (ms) => this._owner.settled(ms),
      welcome: (welcome, transport) => this._welcomed(welcome, transport),
      message: (message) => this._repeat(message),
      state: (state) => this._changed(state),
      closed: (close) => {
        // A token that is not accepted is this tab's own trouble.
        if (close.reconnect || close.code !== 3500) this._say({ kind: 'close', close });
        this._owner.closed(close);
      },
      unrecovered: () => this._lostBehind(),
    });
    this._connection.start();
  }

  private _resumePoint(uid: string | undefined): Position | undefined {
    const own = this._owner.resumePoint(uid);
    const behind = this._behind;
    return own && behind && behind.epoch === own.epoch && behind.seq < own.seq ? behind : own;
  }

  private _welcomed(welcome: Welcome, transport: TransportName): void {
    this._greeting = { ...welcome, transport };
    this._last = welcome.seq;
    const { _behind: behind } = this;
    this._behind = undefined;
    this._say({ kind: 'welcome', welcome: this._greeting });
    this._owner.welcome(welcome, transport);
    if (behind && behind.epoch === welcome.epoch && behind.seq < welcome.seq) this._catchUp(behind);
  }

  /** To the others first: what they have, this tab's end cannot take from them. */
  private _repeat(message: Message): void {
    const { seq } = message;
    this._say({ kind: 'message', message, epoch: this._greeting?.epoch ?? '', after: this._last });
    if (seq !== undefined) this._last = Math.max(this._last, seq);
    this._owner.message(message);
  }

  private _changed(state: StateEvent): void {
    this._state = state;
    if (state.state !== 'closed') this._say({ kind: 'state', state });
    else if (state.code !== 3500) this._say({ kind: 'lead', state });
    this._owner.state(state);
  }

  /** The server no longer has what the tab that is behind lacks. */
  private _lostBehind(): void {
    this._behind = undefined;
    if (this._greeting) {
      this._say({ kind: 'welcome', welcome: { ...this._greeting, seq: this._last, recovered: false } });
    }
  }

  private _catchUp(place: Position): void {
    if (place.epoch !== this._greeting?.epoch || place.seq >= this._last) return;
    const { _behind: behind } = this;
    if (!behind || place.seq < behind.seq) this._behind = place;
    this._connection?.relink();
  }

  private _heard(note: Note): void {
    if (this._connection) {
      if (note.kind === 'ask') this._answer();
      else if (note.kind === 'behind') this._catchUp(note.place);
      return;
    }
    if (note.kind === 'ask' || note.kind === 'behind') return;
    this._unanswered = 0;
    this._watchLeader();
    switch (note.kind) {
      case 'lead':
        if (note.welcome) this._greeted(note.welcome);
        this._owner.state(note.state);
        break;
      case 'welcome':
        this._greeted(note.welcome);
        break;
      case 'message':
        this._passedOn(note.message, note.epoch, note.after);
        break;
      case 'state':
        this._owner.state(note.state);
        break;
      case 'close':
        this._owner.closed(note.close);
    }
  }

  private _answer(): void {
    const { _state: state, _greeting: greeting } = this;
    // What was said before this note has arrived before it, so `seq` is what everybody should have.
    const welcome = state.state === 'open' && greeting && { ...greeting, seq: this._last, recovered: true };
    this._say({ kind: 'lead', state, ...(welcome && { welcome }) });
  }

  private _greeted({ transport, ...welcome }: Greeting): void {
    const seen = this._owner.seen(this._uid);
    if (seen && seen.epoch !== welcome.epoch) welcome.recovered = false;
    if (seen && welcome.recovered && seen.seq < welcome.seq) this._say({ kind: 'behind', place: seen });
    this._owner.welcome(welcome, transport);
  }

  private _passedOn(message: Message, epoch: string, after: number): void {
    if (message.seq !== undefined) {
      const seen = this._owner.seen(this._uid);
      if (seen?.epoch !== epoch) return this._say({ kind: 'ask' });
      if (seen.seq < after) return this._say({ kind: 'behind', place: seen });
    }
    this._owner.message(message);
  }

  private _watchLeader(): void {
    const { env } = this._options;
    env.clearTimeout(this._watch);
    this._watch = env.setTimeout(() => {
      this._unanswered += 1;
      if (this._unanswered > PATIENCE) {
        this._queued?.abort();
        this._request({ steal: true });
      } else {
        this._say({ kind: 'ask' });
      }
      this._watchLeader();
      // Chance keeps the followers from all asking, or all stealing, at once.
    }, (this._unanswered > 0 ? ANSWER_WITHIN_MS : ASK_AFTER_MS) * (1 + env.random()));
  }

  private _say(note: Note): void {
    this._channel?.postMessage(note);
  }
}
