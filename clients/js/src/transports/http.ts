// What SSE and long-poll share: requests that carry the token, and what refusals mean.

import { lost, type Ending, type Opening } from './transport.js';

export class Requests {
  /** Ends every request. */
  readonly abort = new AbortController();

  constructor(
    private readonly _opening: Opening,
    public token: string | undefined,
  ) {}

  send(path: string, headers: Record<string, string> = {}, body?: object): Promise<Response> {
    const { env, endpoint } = this._opening;
    return env.fetch!(endpoint.at(path), {
      method: body ? 'POST' : 'GET',
      headers: {
        // The token is never in a URL: those end up in logs.
        ...(this.token !== undefined && { Authorization: `Bearer ${this.token}` }),
        ...(body && { 'Content-Type': 'application/json' }),
        ...headers,
      },
      ...(body && { body: JSON.stringify(body) }),
      cache: 'no-store',
      signal: this.abort.signal,
    });
  }
}

/** What an answer other than 200 means. */
export function refusal({ status, headers }: Response): Ending {
  const reason = `HTTP ${status}`;
  if (status === 401) return { code: 3500, reason, spoken: true };
  const seconds = Number(headers.get('Retry-After') ?? NaN);
  if (seconds >= 0 && (status === 429 || status === 503)) {
    return { code: 1006, reason, spoken: true, retryAfterMs: seconds * 1000 };
  }
  return lost(reason);
}

/** Sends acks one at a time, each for the newest place. */
export function acks(requests: Requests): (seq: number) => void {
  let wanted = 0;
  let sent = 0;
  let busy = false;
  const send = async (): Promise<void> => {
    busy = true;
    while (wanted > sent) {
      sent = wanted;
      try {
        await requests.send('/v1/ack', {}, { seq: sent });
      } catch {
        // The next ack, or the next resume, says it again.
      }
    }
    busy = false;
  };
  return (seq) => {
    wanted = Math.max(wanted, seq);
    if (!busy) void send();
  };
}
