// The calls a login page makes (docs/PROTOCOL.md). The device code is never in an address.

import type { Endpoint } from '../endpoint.js';

export type LoginState = 'pending' | 'scanned' | 'approved' | 'denied' | 'expired' | 'cancelled' | 'consumed';

/** Where a login stands, as every way to ask says it. */
export interface View {
  /** Its public name. */
  login: string;
  state: LoginState;
  /** Which change this is: what is older than what one has says nothing. */
  version: number;
  /** Seconds. */
  expires_in: number;
  verification_uri?: string;
  verification_uri_complete?: string;
  user_code?: string;
  /** Seconds. */
  rotate_in?: number;
  /** What the phone has to type. */
  number?: string;
  /** Who scanned, masked. */
  name?: string;
  /** The one-time code. */
  code?: string;
  /** The phone shows digits that are to be typed here. */
  asks_number?: boolean;
}

/** A login of this page, and what only this page has of it. */
export interface Attempt {
  device_code: string;
  code_verifier: string;
  /** A provider's picture in the place of a QR code, as a `data:` address. */
  verification_image?: string | undefined;
}

/** The server's answer when it is not what was asked for; `status` 0 when there was none. */
export class CallError extends Error {
  constructor(
    readonly status: number,
    readonly error: string,
    description: string,
    /** Seconds. */
    readonly retryAfter?: number,
    readonly triesLeft?: number,
  ) {
    super(description);
  }

  /** What the server answered that was not what was asked for. */
  static of(response: Response, answer: Record<string, unknown>): CallError {
    const retryAfter = Number(response.headers.get('Retry-After') ?? NaN);
    return new CallError(
      response.ok ? 0 : response.status,
      String(answer.error ?? response.status),
      String(answer.error_description ?? answer.detail ?? response.status),
      retryAfter >= 0 ? retryAfter : undefined,
      typeof answer.tries_left === 'number' ? answer.tries_left : undefined,
    );
  }
}

/** The members of an answer; none of what is no JSON. */
export async function members(response: Response): Promise<Record<string, unknown>> {
  return (await response.json().catch(() => ({}))) as Record<string, unknown>;
}

/** An answer that takes longer than this, beyond what it was asked to wait, does not come. */
const ANSWER_WITHIN_MS = 15_000;

export class LoginApi {
  constructor(readonly endpoint: Endpoint) {}

  /** `POST /v1/device_authorization` */
  begin(fields: Record<string, string>): Promise<View & { device_code: string; verification_image?: string }> {
    return this._call('POST', '/v1/device_authorization', undefined, fields);
  }

  /** `POST /v1/login/provider`: where the provider's own page with a QR code is. */
  async page(deviceCode: string): Promise<string> {
    const { authorization_uri } = await this._call<{ authorization_uri: string }>('POST', '/v1/login/provider', deviceCode, {});
    return authorization_uri;
  }

  /** `GET /v1/login`; waits up to `wait` seconds for another version than `since`. */
  look(deviceCode: string, since?: number, wait = 0, signal?: AbortSignal): Promise<View> {
    const query = since === undefined ? '' : `?since=${since}&wait=${wait}`;
    return this._call('GET', `/v1/login${query}`, deviceCode, undefined, wait, signal);
  }

  /** `POST /v1/login/rotate` */
  rotate(deviceCode: string): Promise<View> {
    return this._call('POST', '/v1/login/rotate', deviceCode, {});
  }

  /** `POST /v1/login/number` */
  number(deviceCode: string, number: string): Promise<View> {
    return this._call('POST', '/v1/login/number', deviceCode, { number });
  }

  /** `DELETE /v1/login` */
  cancel(deviceCode: string): Promise<View> {
    return this._call('DELETE', '/v1/login', deviceCode);
  }

  private async _call<T = View>(
    method: string, path: string, deviceCode?: string, body?: object, wait = 0, signal?: AbortSignal,
  ): Promise<T> {
    const abort = new AbortController();
    const end = (): void => abort.abort();
    signal?.addEventListener('abort', end);
    const timer = setTimeout(end, wait * 1000 + ANSWER_WITHIN_MS);
    try {
      const response = await fetch(this.endpoint.at(path), {
        method,
        headers: {
          ...(deviceCode !== undefined && { Authorization: `Bearer ${deviceCode}` }),
          ...(body && { 'Content-Type': 'application/json' }),
        },
        ...(body && { body: JSON.stringify(body) }),
        // The cookie that binds the login to this browser.
        credentials: 'include',
        cache: 'no-store',
        signal: abort.signal,
      });
      const answer = await members(response);
      if (response.ok && (typeof answer.version === 'number' || typeof answer.authorization_uri === 'string')) return answer as T;
      throw CallError.of(response, answer);
    } catch (error) {
      throw error instanceof CallError ? error : new CallError(0, 'network', String(error));
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
    }
  }
}
