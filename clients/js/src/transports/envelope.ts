// Reads doorbell.v1 envelopes. Unknown fields and types are ignored.

import type { Message } from '../types.js';
import type { Ending, TransportEvents, Welcome } from './transport.js';

export type Fields = Record<string, unknown>;

/** Tells `events` what one envelope says; `kind` is its type where the transport carries that beside it. */
export function receive(text: string, events: TransportEvents, kind?: string): void {
  const value = parse(text);
  if (!value) return;
  switch (kind ?? value.type) {
    case 'welcome':
      events.welcome(welcome(value));
      break;
    case 'message':
      events.message(message(value));
      break;
    case 'bye':
      events.bye(bye(value));
  }
}

export function message(value: Fields): Message {
  const seq = number(value.seq);
  return { id: string(value.id) ?? '', ...(seq !== undefined && { seq }), data: value.data };
}

export function bye(value: Fields): Ending {
  return {
    code: number(value.code) ?? 1006,
    reason: string(value.reason) ?? '',
    spoken: true,
    ...(typeof value.reconnect === 'boolean' && { reconnect: value.reconnect }),
    ...(typeof value.retry_after_ms === 'number' && { retryAfterMs: value.retry_after_ms }),
  };
}

export function parse(text: string): Fields | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Fields) : undefined;
  } catch {
    return undefined;
  }
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' ? value : undefined;
}

function string(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function welcome(value: Fields): Welcome {
  return {
    uid: string(value.uid) ?? null,
    connection: string(value.connection) ?? null,
    epoch: string(value.epoch) ?? '',
    seq: number(value.seq) ?? 0,
    recovered: value.recovered !== false,
    ping_interval: number(value.ping_interval) ?? 25,
  };
}
