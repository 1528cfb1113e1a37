// <doorbell-login>: a login page's QR code, from the first request to the one-time code.

import { backoff } from '../backoff.js';
import { Endpoint } from '../endpoint.js';
import { CallError, LoginApi, type Attempt, type View } from './api.js';
import { Face, type Shown } from './face.js';
import { challenge, verifier } from './pkce.js';
import { texts } from './texts.js';
import { Watch } from './watch.js';

/** What `doorbell-login:approved` carries: what the site's backend redeems, once. */
export interface Approved {
  code: string;
  code_verifier: string;
  /** The login's public name. */
  login: string;
}

/** How long the page before a reload may take to let go of its login. */
const HANDOVER_MS = 1_000;
/** The server acts on its own clock; this late, something was missed. */
const LATE_MS = 2_000;
const LONGEST_WAIT_MS = 20_000;

// A server that renders pages has no elements; the module can still be imported there.
const Base = (typeof HTMLElement === 'function' ? HTMLElement : class {}) as typeof HTMLElement;

let defaultServer: string | undefined;

/** Where the server is for elements that do not say. */
export function setDefaultServer(url: string): void {
  defaultServer = url;
}

export class DoorbellLogin extends Base {
  static readonly observedAttributes = ['server', 'client-id', 'provider', 'redirect-uri', 'binding-message', 'lang'];

  private _face: Face | undefined;
  private _api: LoginApi | undefined;
  private _attempt: Attempt | undefined;
  private _watch: Watch | undefined;
  /** Outdates what was begun before. */
  private _generation = 0;
  private _phase: Shown['phase'] = 'starting';
  private _view: View | undefined;
  /** The provider's own page with a QR code; null while it is asked for. */
  private _page: string | null | undefined;
  private _link: Shown['link'] = 'good';
  private _wrong: Shown['wrong'];
  private _handedOver = false;
  private _timer: ReturnType<typeof setTimeout> | undefined;
  private _unlock: (() => void) | undefined;

  /** What is shown: `starting`, `pending`, `scanned`, `approved`, `denied`, `expired`, `cancelled`, `consumed` or `error`. */
  get state(): string {
    return this._phase;
  }

  /** The login's public name, for logs and support; null before there is one. */
  get login(): string | null {
    return this._view?.login ?? null;
  }

  /** What the QR code says: where a phone answers, and what a link for this very device leads to; null while there is none. */
  get address(): string | null {
    return (this._phase === 'pending' && this._view?.verification_uri_complete) || null;
  }

  /** Begins anew with another QR code. */
  renew(): void {
    this._end();
    this._forget();
    void this._begin();
  }

  /** Gives the login up; the phone is told. */
  async cancel(): Promise<void> {
    const { _attempt: attempt, _api: api } = this;
    if (!attempt || !api) return;
    try {
      this._heard(await api.cancel(attempt.device_code));
    } catch (error) {
      this._failed(error);
    }
  }

  connectedCallback(): void {
    this._face ??= new Face(this.shadowRoot ?? this.attachShadow({ mode: 'open' }), {
      renew: () => this.renew(),
      typed: (number) => void this._typed(number),
    });
    window.addEventListener('online', this._wake);
    window.addEventListener('offline', this._wake);
    window.addEventListener('pageshow', this._shown);
    document.addEventListener('visibilitychange', this._wake);
    void this._start();
  }

  /** The login stays: an element that is moved, and a page that is reloaded, go on. */
  disconnectedCallback(): void {
    window.removeEventListener('online', this._wake);
    window.removeEventListener('offline', this._wake);
    window.removeEventListener('pageshow', this._shown);
    document.removeEventListener('visibilitychange', this._wake);
    this._end();
  }

  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (!this.isConnected || !this._face || before === after) return;
    if (name === 'lang') return this._render();
    this._end();
    void this._start();
  }

  private readonly _wake = (): void => {
    if (!navigator.onLine) return this._reachable(false);
    this._watch?.wake();
    if (this._link !== 'good') this._reachable(false);
    // A page that slept may have missed a change of the code; the state itself is asked for, not waited for.
    if (document.visibilityState === 'visible') void this._refresh();
  };

  /** Who comes back to this page by the browser's back button wants to sign in again. */
  private readonly _shown = ({ persisted }: PageTransitionEvent): void => {
    if (!persisted) return;
    if (this._handedOver) return this.renew();
    // The browser was there, and what brings it back works once.
    if (this._page) this._page = undefined;
    void this._openPage();
  };

  private get _key(): string {
    return `doorbell-login ${this._api!.endpoint.base} ${this.getAttribute('client-id') ?? ''}`;
  }

  /** Goes on with the login this tab had before a reload, or begins one. */
  private async _start(): Promise<void> {
    const generation = (this._generation += 1);
    const server = this.getAttribute('server') ?? defaultServer ?? location.href;
    this._api = new LoginApi(new Endpoint(server, document.baseURI));
    this._blank();
    const kept = this._kept();
    if (kept && (await this._claim(kept.login)) && generation === this._generation) {
      this._attempt = kept;
      return this._follow();
    }
    if (generation === this._generation) await this._begin();
  }

  /** Nothing of the login before is known any more, so nothing of it is shown, told, or compared with. */
  private _blank(): void {
    this._view = this._attempt = this._wrong = this._page = undefined;
    this._handedOver = false;
    this._is('starting');
  }

  private async _begin(): Promise<void> {
    const generation = (this._generation += 1);
    const api = this._api!;
    this._blank();
    const code_verifier = verifier();
    const fields: Record<string, string> = {
      client_id: this.getAttribute('client-id') ?? '',
      code_challenge: challenge(code_verifier),
      code_challenge_method: 'S256',
    };
    for (const name of ['redirect-uri', 'provider', 'binding-message', 'scope']) {
      const value = this.getAttribute(name);
      if (value) fields[name.replace('-', '_')] = value;
    }
    // A provider whose page takes this window brings it back here.
    if (location.origin !== 'null') fields.return_to = location.href.replace(/#.*/s, '');
    for (let failures = 0; ; failures += 1) {
      try {
        const { device_code, verification_image, ...view } = await api.begin(fields);
        if (generation !== this._generation) return;
        this._attempt = { device_code, code_verifier, verification_image };
        this._keep(view.login);
        void this._claim(view.login);
        this._reachable(true);
        this._heard(view);
        return this._follow();
      } catch (error) {
        if (generation !== this._generation) return;
        const { status, retryAfter } = error as CallError;
        // What the server refuses it refuses again; what is overloaded or away comes back.
        if (status >= 400 && status < 500 && status !== 429) return this._failed(error);
        this._reachable(false);
        const wait = retryAfter === undefined ? backoff(failures, LONGEST_WAIT_MS, Math.random()) : retryAfter * 1000;
        await this._pause(wait);
        if (generation !== this._generation) return;
      }
    }
  }

  private _follow(): void {
    const { device_code } = this._attempt!;
    this._watch = new Watch(this._api!, device_code, {
      heard: (view) => this._heard(view),
      gone: () => this._gone(),
      reachable: (is) => this._reachable(is),
      version: () => this._view?.version ?? 0,
    });
  }

  /** The one place where a state is taken: whatever is older than what is shown says nothing (I10). */
  private _heard(view: View): void {
    const before = this._view;
    if (before && (before.login !== view.login || before.version > view.version)) return;
    this._view = view;
    this._schedule(view);
    if (before?.version === view.version && before.code === view.code) return this._render();
    if (before?.state !== view.state) this._wrong = undefined;
    this._is(view.state);
    void this._openPage();
    switch (view.state) {
      case 'approved':
        if (view.code !== undefined) this._handOver(view.code);
        break;
      case 'denied':
      case 'expired':
        this._over();
        this._tell(view.state, { login: view.login });
        break;
      case 'cancelled':
      case 'consumed':
        this._over();
    }
  }

  /** Where there is no code to draw, and no picture of one, it is on the provider's own page. */
  private async _openPage(): Promise<void> {
    const { _attempt: attempt, _view: view, _generation: generation } = this;
    const elsewhere = view?.state === 'pending' && view.verification_uri_complete === undefined;
    if (!attempt || !elsewhere || attempt.verification_image !== undefined || this._page !== undefined) return;
    this._page = null;
    try {
      const page = await this._api!.page(attempt.device_code);
      if (generation !== this._generation) return;
      this._page = page;
      this._render();
    } catch (error) {
      if (generation === this._generation && this._view?.state === 'pending') this._failed(error);
    }
  }

  private _handOver(code: string): void {
    const attempt = this._attempt;
    if (this._handedOver || !attempt) return;
    this._handedOver = true;
    const approved: Approved = { code, code_verifier: attempt.code_verifier, login: this._view!.login };
    // From here on the result is in other hands; handed over twice it would be redeemed twice, which revokes it.
    this._over();
    const goesOn = this._tell('approved', approved);
    const action = this.getAttribute('action');
    if (goesOn && action !== null) post(action, { ...approved });
  }

  /** The server knows this login no more: it was restarted, or it was not this browser's. */
  private _gone(): void {
    const was = this._phase;
    this._over();
    if (was === 'starting' || was === 'pending') return this.renew();
    const login = this.login;
    this._is('expired');
    this._tell('expired', { login });
  }

  private _failed(error: unknown): void {
    const { error: name = 'internal', message = String(error), status = 0 } = error as CallError;
    this._over();
    this._is('error');
    this._tell('error', { error: name, error_description: message, status });
  }

  private async _typed(text: string): Promise<void> {
    const number = text.replace(/\D/g, '');
    const { _attempt: attempt, _generation: generation } = this;
    if (!attempt) return;
    if (number.length !== 6) {
      this._wrong = { left: undefined };
    } else {
      try {
        const view = await this._api!.number(attempt.device_code, number);
        if (generation === this._generation) this._heard(view);
        return;
      } catch (error) {
        if (generation !== this._generation) return;
        const { triesLeft, status } = error as CallError;
        if (triesLeft === undefined || triesLeft === 0) {
          if (status === 0) this._reachable(false);
          return this._refresh();
        }
        this._wrong = { left: triesLeft };
      }
    }
    this._render();
    this._face!.correct();
  }

  /** Asks for the state as it is. */
  private async _refresh(): Promise<void> {
    const { _attempt: attempt, _generation: generation } = this;
    if (!attempt || this._handedOver) return;
    try {
      let view = await this._api!.look(attempt.device_code);
      // Nobody followed for a while, so nobody renewed the code.
      if (view.rotate_in === 0) view = await this._api!.rotate(attempt.device_code);
      if (generation !== this._generation) return;
      this._reachable(true);
      this._heard(view);
    } catch (error) {
      if (generation === this._generation && (error as CallError).status === 404) this._gone();
      // Anything else the watch finds out as well, and deals with.
    }
  }

  /** Looks by itself when the next change is overdue: pushes are hints. */
  private _schedule({ state, rotate_in, expires_in }: View): void {
    clearTimeout(this._timer);
    if (state !== 'pending' && state !== 'scanned' && state !== 'approved') return;
    const seconds = Math.min(expires_in, rotate_in ?? expires_in);
    this._timer = setTimeout(() => void this._refresh().then(() => {
      if (this._view && this._link !== 'good') this._schedule({ ...this._view, rotate_in: 5 });
    }), seconds * 1000 + LATE_MS);
  }

  private _reachable(is: boolean): void {
    const link = is ? 'good' : navigator.onLine ? 'reconnecting' : 'offline';
    if (link === this._link) return;
    this._link = link;
    this._render();
  }

  private _is(phase: Shown['phase']): void {
    this._phase = phase;
    this._render();
    if (this.getAttribute('state') === phase) return;
    this.setAttribute('state', phase);
    const { login, version, expires_in, name } = this._view ?? {};
    this._tell('state', { state: phase, login, version, expires_in, name });
  }

  private _render(): void {
    const { _phase: phase, _view: view, _link: link, _wrong: wrong, _page: page } = this;
    const language = this.lang || this.closest('[lang]')?.getAttribute('lang') || navigator.language;
    const binding = this.getAttribute('binding-message') ?? '';
    const image = this._attempt?.verification_image;
    this._face?.show({ phase, view, image, page: page ?? undefined, link, wrong, binding, texts: texts(language) });
  }

  /** Says whether nobody prevented what comes next. */
  private _tell(what: string, detail: object): boolean {
    return this.dispatchEvent(
      new CustomEvent(`doorbell-login:${what}`, { detail, bubbles: true, composed: true, cancelable: what === 'approved' }),
    );
  }

  /** Nothing more is expected of this login. */
  private _over(): void {
    this._end();
    this._forget();
  }

  private _end(): void {
    this._generation += 1;
    this._watch?.stop();
    this._watch = undefined;
    clearTimeout(this._timer);
    this._unlock?.();
    this._unlock = undefined;
    this._link = 'good';
  }

  private _pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      clearTimeout(this._timer);
      this._timer = setTimeout(resolve, ms);
      window.addEventListener('online', () => resolve(), { once: true });
    });
  }

  // A reload in the middle goes on with what is in the session storage, which no other tab and no server sees. A tab
  // that was duplicated has a copy; the lock says that the login is still in the hands of the first.

  private _keep(login: string): void {
    try {
      sessionStorage.setItem(this._key, JSON.stringify({ ...this._attempt, login }));
    } catch {
      // Without it a reload begins anew, nothing else.
    }
  }

  private _kept(): (Attempt & { login: string }) | undefined {
    try {
      const kept: unknown = JSON.parse(sessionStorage.getItem(this._key) ?? 'null');
      const { device_code, code_verifier, verification_image, login } = kept as Attempt & { login: string };
      return device_code && code_verifier && login ? { device_code, code_verifier, verification_image, login } : undefined;
    } catch {
      return undefined;
    }
  }

  private _forget(): void {
    try {
      sessionStorage.removeItem(this._key);
    } catch {
      // Then it was not kept either.
    }
  }

  private _claim(login: string): Promise<boolean> {
    const { locks } = navigator;
    if (!locks) return Promise.resolve(true);
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), HANDOVER_MS);
    return new Promise((claimed) => {
      locks.request(`doorbell-login ${login}`, { signal: late.signal }, () => {
        clearTimeout(timer);
        claimed(true);
        return new Promise<void>((release) => {
          this._unlock?.();
          this._unlock = release;
        });
      }).catch(() => claimed(false));
    });
  }
}

/** A real form, so that the browser goes where the site's backend sends it. */
function post(action: string, fields: Record<string, string>): void {
  const form = document.createElement('form');
  form.method = 'post';
  form.action = action;
  form.hidden = true;
  for (const [name, value] of Object.entries(fields)) {
    const input = document.createElement('input');
    Object.assign(input, { type: 'hidden', name, value });
    form.append(input);
  }
  document.body.append(form);
  HTMLFormElement.prototype.submit.call(form);
}

/** Makes `<doorbell-login>` known to the page, unless it is. */
export function defineDoorbellLogin(): void {
  if (typeof customElements === 'object' && !customElements.get('doorbell-login')) {
    customElements.define('doorbell-login', DoorbellLogin);
  }
}

declare global {
  interface HTMLElementTagNameMap {
    'doorbell-login': DoorbellLogin;
  }
}
