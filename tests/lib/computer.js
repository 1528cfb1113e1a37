// A page that wants to log in: what a site's page and its backend ask, from a real browser of the server's own origin;
// and how a phone answers.

import { until } from './until.js';

/** The button of the phone's page that posts an answer. */
export const answer = (page, what) => page.locator(`form[action$="/${what}"] button`).first();

/** Opens what a QR code says and goes as far as the question. */
export async function openQuestion(page, address) {
  await page.goto(address);
  await page.waitForSelector('form[action$="/scan"], form[action$="/approve"]');
  if (await page.locator('form[action$="/scan"]').count() > 0) {
    // The page's own script may be faster.
    await Promise.all([
      page.waitForSelector('form[action$="/approve"]'),
      answer(page, 'scan').click({ timeout: 2_000 }).catch(() => {}),
    ]);
  }
}

export class Computer {
  constructor(context, page, server) {
    Object.assign(this, { context, page, server, begun: null, verifier: null });
  }

  /** A page of the server, from which everything is asked. */
  static async open(context, server) {
    const page = await context.newPage();
    await page.goto(`http://${server.public.address}/s`);
    return new Computer(context, page, server);
  }

  /** Asks as the page: `{ status, body }`. */
  async ask(method, path, body, bearer = this.begun?.device_code) {
    return this.page.evaluate(async ([method, path, body, bearer]) => {
      const headers = { Accept: 'application/json' };
      if (bearer) headers.Authorization = `Bearer ${bearer}`;
      if (body) headers['Content-Type'] = 'application/json';
      const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
      const text = await response.text();
      try { return { status: response.status, body: JSON.parse(text) }; } catch { return { status: response.status, body: text }; }
    }, [method, path, body, bearer]);
  }

  async post(path, body) {
    const answer = await this.ask('POST', path, body);
    if (answer.status !== 200) throw new Error(`${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  /** Begins a login, whatever the answer. */
  async tryBegin(more = {}) {
    const { verifier, challenge } = await this.page.evaluate(async () => {
      const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
      const verifier = base64url(crypto.getRandomValues(new Uint8Array(32)));
      const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier));
      return { verifier, challenge: base64url(new Uint8Array(hash)) };
    });
    const body = { client_id: 'shop', code_challenge: challenge, code_challenge_method: 'S256', ...more };
    const answer = await this.ask('POST', '/v1/device_authorization', body, null);
    return { ...answer, verifier };
  }

  /** Begins one of several logins. */
  async beginRaw(more = {}) {
    const { status, body, verifier } = await this.tryBegin(more);
    if (status !== 200) throw new Error(`device_authorization: ${status} ${JSON.stringify(body)}`);
    return { ...body, verifier };
  }

  /** Begins the login that the rest is about. */
  async begin(more = {}) {
    const { verifier, ...begun } = await this.beginRaw(more);
    Object.assign(this, { begun, verifier });
    return begun;
  }

  async look() {
    return (await this.ask('GET', '/v1/login')).body;
  }

  /** Waits for a state. */
  async reaches(state, ms = 15_000) {
    let last;
    await until(`the login is ${state}`, async () => { last = await this.look(); return last.state === state; }, ms)
      .catch((error) => { throw new Error(`${error.message}; it is ${JSON.stringify(last)}`); });
    return last;
  }

  /** The site's backend fetches the result: `{ access_token, identity }`. */
  async redeem() {
    return this.post('/v1/token', {
      grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
      device_code: this.begun.device_code, client_id: 'shop', code_verifier: this.verifier,
    });
  }

  async redeemCode(code, more = {}) {
    return this.post('/v1/token', {
      grant_type: 'authorization_code', code, client_id: 'shop', code_verifier: this.verifier, ...more,
    });
  }

  /** The site's backend is told why there is no result. */
  async isRefused(error) {
    const { status, body } = await this.ask('POST', '/v1/token', {
      grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
      device_code: this.begun.device_code, client_id: 'shop', code_verifier: this.verifier,
    });
    if (status !== 400 || body.error !== error) throw new Error(`expected ${error}: ${status} ${JSON.stringify(body)}`);
  }
}
