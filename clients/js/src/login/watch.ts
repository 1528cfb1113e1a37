// Hears how a login goes: by WebSocket, else server-sent events, else long-poll. What it hears are hints (the whole
// state each time); whoever listens goes by the version.

import { backoff } from '../backoff.js';
import { EventStream } from '../transports/event-stream.js';
import { CallError, members, type LoginApi, type View } from './api.js';

const OPEN_WITHIN_MS = 5_000;
/** The server says something at least this often. */
const SILENCE_MS = 25_000;
const GRACE_MS = 10_000;
const POLL_SECONDS = 25;
const LONGEST_WAIT_MS = 20_000;

export interface Watcher {
  heard(view: View): void;
  /** The server knows no such login, or none of this browser. */
  gone(): void;
  /** Whether anything gets through. */
  reachable(is: boolean): void;
  /** What a long-poll waits to change. */
  version(): number;
}

/** Says whether it was of any use before it ended; throws a `CallError` when the server says when to come back. */
type Way = (signal: AbortSignal, alive: () => void) => Promise<boolean>;

export class Watch {
  private readonly _stop = new AbortController();
  private _wake: (() => void) | undefined;

  constructor(
    private readonly _api: LoginApi,
    private readonly _deviceCode: string,
    private readonly _watcher: Watcher,
  ) {
    void this._run();
  }

  stop(): void {
    this._stop.abort();
    this._wake?.();
  }

  /** There is reason to believe that the next attempt succeeds. */
  wake(): void {
    this._wake?.();
  }

  private async _run(): Promise<void> {
    const ways: Way[] = [(...to) => this._socket(...to), (...to) => this._events(...to), (...to) => this._poll(...to)];
    let failures = 0;
    for (let at = typeof WebSocket === 'function' ? 0 : 1; !this._stop.signal.aborted;) {
      const { worked, retryAfter } = await this._try(ways[at]!);
      if (this._stop.signal.aborted) return;
      if (worked) {
        failures = 0;
      } else {
        at = (at + 1) % ways.length;
        // The next way at once; after the last of them, or when the server asks for it, patience.
        if (at !== 0 && retryAfter === undefined) continue;
      }
      this._watcher.reachable(false);
      const random = Math.random();
      // Those who were turned away together do not come back together.
      await this._pause(
        retryAfter === undefined ? backoff(failures, LONGEST_WAIT_MS, random) : retryAfter * 1000 * (1 + random / 2),
      );
      failures += 1;
    }
  }

  /** Runs one way to its end, or until it is silent for too long. */
  private async _try(way: Way): Promise<{ worked: boolean; retryAfter?: number | undefined }> {
    const end = new AbortController();
    const abort = (): void => end.abort();
    this._stop.signal.addEventListener('abort', abort);
    let timer = setTimeout(abort, OPEN_WITHIN_MS);
    const alive = (): void => {
      clearTimeout(timer);
      timer = setTimeout(abort, SILENCE_MS + GRACE_MS);
    };
    try {
      return { worked: await way(end.signal, alive) };
    } catch (error) {
      if (!(error instanceof CallError)) return { worked: false };
      if (error.status === 404) this._gone();
      return { worked: false, retryAfter: error.retryAfter };
    } finally {
      clearTimeout(timer);
      this._stop.signal.removeEventListener('abort', abort);
    }
  }

  private _hear(view: View & { error?: string }): void {
    if (view.error === 'not_found') return this._gone();
    if (typeof view.version !== 'number') return;
    this._watcher.reachable(true);
    this._watcher.heard(view);
  }

  private _gone(): void {
    if (this._stop.signal.aborted) return;
    this.stop();
    this._watcher.gone();
  }

  private _socket(signal: AbortSignal, alive: () => void): Promise<boolean> {
    return new Promise((resolve, reject) => {
      let worked = false;
      const socket = new WebSocket(this._api.endpoint.websocket, 'doorbell.v1');
      const say = (message: object): void => socket.send(JSON.stringify(message));
      // A question that needs no timer of the server's: a page cannot see the pings of the protocol.
      const asking = setInterval(() => {
        if (worked) say({ type: 'ping' });
      }, SILENCE_MS);
      const end = (): void => {
        clearInterval(asking);
        signal.removeEventListener('abort', end);
        socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
        socket.close();
        resolve(worked);
      };
      signal.addEventListener('abort', end);
      socket.onopen = () => say({ type: 'login.watch', device_code: this._deviceCode });
      socket.onmessage = ({ data }) => {
        const message = read(data);
        if (message?.type === 'login' && typeof message.retry_after_ms === 'number') {
          reject(new CallError(503, String(message.error), '', message.retry_after_ms / 1000));
          end();
        } else if (message?.type === 'login') {
          worked = true;
          alive();
          this._hear(message as unknown as View);
        } else if (worked) {
          alive();
        }
      };
      socket.onclose = end;
    });
  }

  private async _events(signal: AbortSignal, alive: () => void): Promise<boolean> {
    let worked = false;
    try {
      const response = await fetch(this._api.endpoint.at('/v1/login/events'), {
        headers: { Authorization: `Bearer ${this._deviceCode}`, Accept: 'text/event-stream' },
        credentials: 'include',
        cache: 'no-store',
        signal,
      });
      if (!response.ok) throw CallError.of(response, await members(response));
      if (!response.body) return false;
      const decoder = new TextDecoder();
      const stream = new EventStream((kind, data) => {
        const message = kind === 'login' && read(data);
        if (!message) return;
        worked = true;
        this._hear(message as unknown as View);
      });
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return worked;
        stream.push(decoder.decode(value, { stream: true }));
        if (worked) alive();
      }
    } catch (error) {
      if (error instanceof CallError) throw error;
      return worked;
    }
  }

  private async _poll(signal: AbortSignal, alive: () => void): Promise<boolean> {
    let worked = false;
    try {
      for (;;) {
        const wait = worked ? POLL_SECONDS : 0;
        const view = await this._api.look(this._deviceCode, this._watcher.version(), wait, signal);
        worked = true;
        alive();
        this._hear(view);
      }
    } catch (error) {
      if (error instanceof CallError && (error.status === 404 || error.retryAfter !== undefined)) throw error;
      return worked;
    }
  }

  private _pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this._wake?.(), ms);
      this._wake = () => {
        clearTimeout(timer);
        this._wake = undefined;
        resolve();
      };
    });
  }
}

function read(data: unknown): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(String(data));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
