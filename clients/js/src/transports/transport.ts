// What every way to the server has in common.

import type { Endpoint } from '../endpoint.js';
import type { Environment } from '../environment.js';
import type { Message, Position } from '../types.js';

/** `welcome` on the wire. */
export interface Welcome {
  uid: string | null;
  connection: string | null;
  epoch: string;
  /** Everything up to here the page has, or will not get. */
  seq: number;
  recovered: boolean;
  /** Seconds. */
  ping_interval: number;
}

/** Why a transport ended, or never opened. */
export interface Ending {
  code: number;
  reason: string;
  /** The server's own word on whether to come back; by the code when it said nothing. */
  reconnect?: boolean;
  retryAfterMs?: number;
  /** The server said this, not the network: another transport would hear the same. */
  spoken?: boolean;
}

/** What a transport needs to open. */
export interface Opening {
  endpoint: Endpoint;
  env: Environment;
  token: string | undefined;
  resume: Position | undefined;
  /** The place up to which everything was handled by now. */
  handled(): Position | undefined;
  /** Whether the listeners were done with everything within `ms`. */
  settled(ms: number): Promise<boolean>;
}

/** What a transport reports. Nothing it says after `ended` or `close()` is listened to. */
export interface TransportEvents {
  welcome(welcome: Welcome): void;
  message(message: Message): void;
  /** The connection is about to end for this reason. */
  bye(ending: Ending): void;
  /** Something, whatever it was, came from the server. */
  heard(): void;
  ended(ending: Ending): void;
}

export interface Transport {
  /** Everything up to `seq` was handled. */
  ack(seq: number): void;
  /** Asks for a sign of life; false when it cannot. */
  ping(): boolean;
  /** Uses another token from now on; false when it has to be opened anew for that. */
  refresh(token: string): boolean;
  close(): void;
}

export type OpenTransport = (opening: Opening, events: TransportEvents) => Transport;

/** A loss without a word from the server. */
export function lost(reason: string): Ending {
  return { code: 1006, reason };
}
