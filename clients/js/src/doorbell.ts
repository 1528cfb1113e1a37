// What an application holds: one page's ear, whoever keeps the connection behind it.

import { backoff } from './backoff.js';
import { Connection, type ConnectionOptions, type Wake } from './connection.js';
import { Emitter, type Listener } from './emitter.js';
import { Endpoint } from './endpoint.js';
import { environment, type Environment } from './environment.js';
import { Inbox, type InboxOwner } from './inbox.js';
import { Ladder } from './ladder.js';
import { Tabs, type TabsOwner } from './tabs.js';
import { subject, Tokens } from './token.js';
import type { Welcome } from './transports/transport.js';
import type { DoorbellEvents, DoorbellOptions, State, StateEvent, TransportName } from './types.js';

/** Receives what the server pushes to one uid. */
export class Doorbell {
  private readonly _env: Environment;
  private readonly _emitter = new Emitter<DoorbellEvents>();
  private readonly _tokens: Tokens;
  private readonly _inbox: Inbox;
  private readonly _connection: ConnectionOptions;
  private readonly _shares: boolean;
  private _source: Connection | Tabs | undefined;
  /** Whom the token names; undefined before there was one. */
  private _subject: string | undefined;
  /** Outdates a start that still waits for its token. */
  private _start = 0;
  private _wanted = false;
  /** The page is frozen or put aside by its browser. */
  private _suspended = false;
  private _state: StateEvent = { state: 'closed' };
  private _welcome: { uid: string | null; connection: string | null } = { uid: null, connection: null };
  private _unlisten: (() => void) | undefined;

  constructor(options: DoorbellOptions) {
    const env = (this._env = environment(options.environment));
    const endpoint = new Endpoint(options.url, env.baseUrl);
    const key = `doorbell ${endpoint.base} `;
    this._tokens = new Tokens(options.token, env);
    this._tokens.onToken = (token) => this._named(token);
    this._inbox = new Inbox(env, this._inboxOwner(), options.resume === 'memory' ? undefined : key);
    this._connection = {
      endpoint,
      env,
      tokens: this._tokens,
      ladder: new Ladder(options.transports ?? ['websocket', 'sse', 'longpoll'], env, `${key}transport`),
      maxReconnectDelay: options.maxReconnectDelay ?? 20_000,
      openTimeout: options.openTimeout ?? 5_000,
    };
    this._shares = Boolean(
      options.sharedConnection !== 'off' && options.token !== undefined && env.locks && env.BroadcastChannel,
    );
    if (options.autoConnect !== false) this.connect();
  }

  /** What the connection is doing. */
  get state(): State {
    return this._wanted && this._state.state === 'closed' ? 'connecting' : this._state.state;
  }

  /** How the server is reached; undefined while it is not. */
  get transport(): TransportName | undefined {
    return this._state.transport;
  }

  /** Whose page this is, as the server said; null before the first welcome, and while waiting to be bound. */
  get uid(): string | null {
    return this._welcome.uid;
  }

  /** The connection's name in the server's API, for a backend that binds it; null on long-poll. */
  get connectionId(): string | null {
    return this._welcome.connection;
  }

  /** Listens; the answer is a function that stops it. */
  on<K extends keyof DoorbellEvents>(name: K, listener: Listener<DoorbellEvents[K]>): () => void {
    this._emitter.on(name, listener);
    return () => this._emitter.off(name, listener);
  }

  /** Stops listening. */
  off<K extends keyof DoorbellEvents>(name: K, listener: Listener<DoorbellEvents[K]>): void {
    this._emitter.off(name, listener);
  }

  /** Connects, unless it is connected or on its way; the only way back after `close()` or a final close. */
  connect(): void {
    if (this._wanted) return;
    this._wanted = true;
    this._listen();
    // Listeners that are added right after construction hear of the first state, too.
    queueMicrotask(() => this._begin());
  }

  /** Leaves for good: no further message, no way back but `connect()`. */
  close(): void {
    if (!this._wanted) return;
    this._is({ state: 'closed', code: 1000, reason: 'closed by the page', reconnect: false });
  }

  /** What the connection, this page's own or the one of all tabs, tells. */
  private _owner(): TabsOwner {
    return {
      resumePoint: (uid) => this._inbox.resumePoint(uid),
      seen: (uid) => this._inbox.seenBy(uid),
      settled: (ms) => this._inbox.settled(ms),
      welcome: (welcome, transport) => this._welcomed(welcome, transport),
      message: (message) => this._inbox.accept(message),
      state: (state) => this._is(state),
      closed: (close) => void this._emitter.emit('close', close),
    };
  }

  private _inboxOwner(): InboxOwner {
    return {
      deliver: (message) => this._emitter.emit('message', message),
      gap: (gap) => void this._emitter.emit('gap', gap),
      handled: (seq) => this._source?.ack(seq),
    };
  }

  private _welcomed(welcome: Welcome, transport: TransportName): void {
    const { uid, connection, recovered } = welcome;
    const known = this._welcome.uid === uid && this._welcome.connection === connection && this.state === 'open';
    this._welcome = { uid, connection };
    this._inbox.welcome(welcome);
    // A renewed token is no news to the application.
    if (!known) void this._emitter.emit('welcome', { uid, connection, recovered, transport });
  }

  private _is(state: StateEvent): void {
    if (state.state === 'closed') this._leave();
    const same = state.state === this._state.state && state.transport === this._state.transport;
    this._state = state;
    if (!same || state.state === 'reconnecting') void this._emitter.emit('state', state);
  }

  private _begin(): void {
    if (!this._wanted || this._suspended || this._source) return;
    if (!this._shares) {
      this._source = new Connection(this._connection, this._owner());
      this._source.start();
      return;
    }
    this._is({ state: 'connecting' });
    void this._share((this._start += 1));
  }

  /** Which tabs belong together is known only with a token. */
  private async _share(start: number): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const { token } = await this._tokens.get();
        if (start !== this._start || token === undefined) return;
        const uid = (this._subject = subject(token));
        this._source = new Tabs(uid, this._connection, this._owner());
        return this._source.start();
      } catch (error) {
        if (start !== this._start) return;
        const retryInMs = backoff(attempt, this._connection.maxReconnectDelay, this._env.random());
        const reason = `no token: ${String(error)}`;
        this._is({ state: 'reconnecting', code: 1006, reason, reconnect: true, retryInMs });
        await new Promise<void>((resolve) => void this._env.setTimeout(resolve, retryInMs));
        if (start !== this._start) return;
      }
    }
  }

  /** A token came. One for somebody else ends everything that was for the one before. */
  private _named(token: string): void {
    const before = this._subject;
    this._subject = subject(token);
    if (before === undefined || before === this._subject || !this._source) return;
    this._stop();
    this._begin();
  }

  private _leave(): void {
    this._wanted = false;
    this._unlisten?.();
    this._unlisten = undefined;
    this._stop();
  }

  private _stop(): void {
    this._start += 1;
    const source = this._source;
    this._source = undefined;
    source?.stop();
    this._welcome = { uid: null, connection: null };
  }

  /** What the browser tells a page about itself. */
  private _listen(): void {
    const { window, document } = this._env;
    const wake = (why: Wake) => () => this._source?.wake(why);
    const aside = (): void => {
      this._suspended = true;
      this._stop();
    };
    const back = (): void => {
      if (!this._suspended) return;
      this._suspended = false;
      this._begin();
    };
    const heard: [Pick<EventTarget, 'addEventListener' | 'removeEventListener'> | undefined, string, () => void][] = [
      [window, 'online', wake('online')],
      [window, 'offline', wake('offline')],
      [window, 'pagehide', aside],
      [window, 'pageshow', back],
      [document, 'freeze', aside],
      [document, 'resume', back],
      [document, 'visibilitychange', () => {
        if (document?.visibilityState === 'visible') this._source?.wake('visible');
      }],
    ];
    for (const [target, name, listener] of heard) target?.addEventListener(name, listener);
    this._suspended = false;
    this._unlisten = () => {
      for (const [target, name, listener] of heard) target?.removeEventListener(name, listener);
    };
  }
}
