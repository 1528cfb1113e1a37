// What an application sees: options, events, states.

import type { Environment } from './environment.js';

/** A way to the server, best first. */
export type TransportName = 'websocket' | 'sse' | 'longpoll';

/** A connection token; with open identity, the uid. A function is asked again before the token expires. */
export type Token = string | (() => string | Promise<string>);

export interface DoorbellOptions {
  /** The server's public address, such as `https://push.example.com`; in a page it may be relative. */
  url: string;
  /** Who this is. Without one the connection waits until the backend binds it (WebSocket only). */
  token?: Token;
  /** What to try, in this order. Default: `['websocket', 'sse', 'longpoll']`. */
  transports?: readonly TransportName[];
  /** One connection for all tabs of an origin where the browser allows it. Default: `'auto'`. */
  sharedConnection?: 'auto' | 'off';
  /** Where the position is kept: `'session'` lets a reloaded page resume, `'memory'` does not. Default: `'session'`. */
  resume?: 'session' | 'memory';
  /** Connect right after construction. Default: true. */
  autoConnect?: boolean;
  /** Longest wait between attempts, in milliseconds. Default: 20,000. */
  maxReconnectDelay?: number;
  /** How long a transport may take to be welcomed, in milliseconds. Default: 5,000. */
  openTimeout?: number;
  /** Replaces parts of the surroundings: a `WebSocket` where there is none, a clock in tests. */
  environment?: Partial<Environment>;
}

/** Something that was pushed. */
export interface Message<T = unknown> {
  /** The message's name; empty when it has none. */
  id: string;
  /** Its number in the uid's sequence; none for a broadcast. */
  seq?: number;
  data: T;
}

/** The server let this page in. */
export interface WelcomeEvent {
  /** Whose page this is; null while the connection waits to be bound. */
  uid: string | null;
  /** The connection's name in the server's API; null on long-poll. */
  connection: string | null;
  /** Nothing is missing since where this page left off. */
  recovered: boolean;
  transport: TransportName;
}

/** Messages may be missing between the two places. */
export interface GapEvent {
  uid: string;
  from: Position;
  to: Position;
}

/** A place in a uid's sequence of messages. */
export interface Position {
  epoch: string;
  seq: number;
}

export type State = 'connecting' | 'open' | 'reconnecting' | 'closed';

export interface StateEvent {
  state: State;
  /** While open. */
  transport?: TransportName;
  /** While reconnecting or closed: the close code, 1006 for a loss without one. */
  code?: number;
  reason?: string;
  /** False only when closed for good. */
  reconnect?: boolean;
  /** While reconnecting: when the next attempt begins. */
  retryInMs?: number;
}

/** A connection that was open, or the whole client, came to its end. */
export interface CloseEvent {
  code: number;
  reason: string;
  /** Whether the client comes back by itself. */
  reconnect: boolean;
}

/** What `on` can listen to. A `message` listener may return a promise: the message is acknowledged when it settled. */
export interface DoorbellEvents {
  message: Message;
  welcome: WelcomeEvent;
  state: StateEvent;
  gap: GapEvent;
  close: CloseEvent;
}
