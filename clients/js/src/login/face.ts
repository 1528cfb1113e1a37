// The element's shadow tree: built once, then changed in place, so that focus and what a screen reader has read stay.

import type { View } from './api.js';
import { qrSvg } from './qr.js';
import { STYLE } from './style.js';
import type { Texts } from './texts.js';

/** What is going on, as the page is shown it. */
export interface Shown {
  phase: 'starting' | 'error' | View['state'];
  view: View | undefined;
  /** A provider's picture in the place of a QR code. */
  image: string | undefined;
  /** The provider's own page with a QR code. */
  page: string | undefined;
  /** Nothing gets through at the moment. */
  link: 'good' | 'offline' | 'reconnecting';
  /** What was wrong with the typed digits. */
  wrong: { left: number | undefined } | undefined;
  /** What the phone shows, too, so that one can compare. */
  binding: string;
  texts: Texts;
}

export interface FaceOwner {
  renew(): void;
  typed(number: string): void;
}

const ICONS = {
  busy: 'M12 3a9 9 0 1 0 9 9',
  phone: 'M8 3h8a1 1 0 0 1 1 1v16a1 1 0 0 1-1 1H8a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1zM11 18h2',
  done: 'M4 12l5 5L20 6',
  stop: 'M6 6l12 12M18 6L6 18',
  clock: 'M12 7v5l3 3M12 3a9 9 0 1 0 .01 0z',
};

const ICON_OF: Record<Exclude<Shown['phase'], 'pending'>, keyof typeof ICONS> = {
  starting: 'busy', error: 'stop', scanned: 'phone', approved: 'done', consumed: 'done', denied: 'stop', expired: 'clock',
  cancelled: 'stop',
};

/** What shows a code. */
const CODES = 'svg, img[part], iframe';

const SVG = 'http://www.w3.org/2000/svg';

function make<K extends keyof HTMLElementTagNameMap>(
  tag: K, properties: Record<string, string> = {}, ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export class Face {
  private readonly _title = make('slot', { name: 'title' });
  private readonly _logoSlot = make('slot', { name: 'logo' });
  private readonly _logo = make('div', { part: 'logo' }, this._logoSlot);
  private readonly _qr = make('div', { part: 'qr', role: 'img' }, this._logo);
  private readonly _cover = make('div', { part: 'cover', 'aria-hidden': 'true' });
  private readonly _status = make('p', { part: 'status', role: 'status', tabindex: '-1' });
  private readonly _link = make('p', { part: 'link', role: 'status' });
  private readonly _open = make('a', { part: 'open', rel: 'noreferrer', target: '_blank' });
  private readonly _binding = make('p', { part: 'binding' });
  private readonly _number = make('p', { part: 'number' });
  private readonly _numberLabel = make('p', { part: 'number-label' });
  private readonly _label = make('label', { for: 'digits' });
  private readonly _input = make('input', {
    part: 'input', id: 'digits', inputmode: 'numeric', autocomplete: 'one-time-code', maxlength: '6',
    'aria-describedby': 'wrong',
  });
  private readonly _error = make('p', { part: 'error', id: 'wrong', role: 'alert' });
  private readonly _submit = make('button', { part: 'button', type: 'submit' });
  private readonly _form = make('form', { part: 'form', novalidate: '' }, this._label, this._input, this._error, this._submit);
  private readonly _renew = make('button', { part: 'button renew', type: 'button' });
  private readonly _cannot = make('summary', { part: 'summary' });
  private readonly _instead = make('p', { part: 'instead' });
  private readonly _code = make('code', { part: 'user-code' });
  private readonly _fallback = make('details', { part: 'fallback' }, this._cannot, this._instead, this._code);
  private _drawn = '';
  private _icon = '';

  constructor(private readonly _root: ShadowRoot, owner: FaceOwner) {
    const heading = make('h2', { part: 'title', id: 'title' }, this._title);
    const stage = make('div', { part: 'stage' }, this._qr, this._cover);
    dress(_root);
    _root.append(make(
      'div', { part: 'box', role: 'group', 'aria-labelledby': 'title' },
      heading, stage, this._status, this._open, this._binding, this._numberLabel, this._number, this._form, this._renew, this._fallback, this._link,
    ));
    this._logoSlot.addEventListener('slotchange', () => {
      this._logo.hidden = this._logoSlot.assignedElements().length === 0;
      if (this._qr.querySelector('svg')) this._draw(this._drawn, true);
    });
    this._logo.hidden = true;
    this._renew.addEventListener('click', () => owner.renew());
    this._form.addEventListener('submit', (event) => {
      event.preventDefault();
      owner.typed(this._input.value);
    });
  }

  show(shown: Shown): void {
    const { phase, view, link, texts } = shown;
    const held = this._root.activeElement;
    const code = view?.verification_uri_complete;
    const pending = phase === 'pending' && (code ?? shown.image ?? shown.page) !== undefined;
    const asks = phase === 'approved' && view?.asks_number === true;
    const number = phase === 'pending' || phase === 'scanned' ? view?.number : undefined;

    put(this._title, texts.title);
    this._qr.hidden = !pending;
    this._qr.setAttribute('aria-label', texts.qr);
    if (pending && code !== undefined) this._draw(code);
    else if (pending) this._put(shown.image, shown.page, texts.qr);
    const isPage = pending && (code ?? shown.image) === undefined;
    this._qr.parentElement!.toggleAttribute('data-page', isPage);
    // What is inside an image is not read out.
    this._qr.setAttribute('role', isPage ? 'group' : 'img');
    this._cover.hidden = pending;
    if (!pending) this._show(phase === 'pending' ? 'busy' : ICON_OF[phase]);
    put(this._status, status(shown));
    put(this._link, link === 'offline' ? texts.offline : link === 'reconnecting' ? texts.reconnecting : '');

    // A provider's own code is for its app's camera alone: no link opens it, and nothing is typed at our address instead.
    const ours = pending && code?.startsWith(`${view?.verification_uri}/`) === true;
    this._open.hidden = !ours;
    put(this._open, texts.open);
    if (ours) this._open.href = code;

    this._binding.hidden = shown.binding === '' || !(pending || phase === 'scanned');
    put(this._binding, shown.binding);
    this._number.hidden = this._numberLabel.hidden = number === undefined;
    put(this._numberLabel, texts.number);
    put(this._number, number ?? '');

    const formOpens = asks && this._form.hidden === true;
    this._form.hidden = !asks;
    if (!asks) this._input.value = '';
    put(this._label, texts.digits);
    put(this._submit, texts.continue);
    const { wrong } = shown;
    put(this._error, !wrong ? '' : wrong.left === undefined ? texts.malformed : texts.wrong.replace('{left}', String(wrong.left)));
    this._error.hidden = !wrong;
    this._input.setAttribute('aria-invalid', String(Boolean(wrong)));

    this._renew.hidden = !['denied', 'expired', 'cancelled', 'error'].includes(phase);
    put(this._renew, phase === 'error' ? texts.retry : texts.renew);

    this._fallback.hidden = !ours || view?.user_code === undefined;
    if (ours) {
      put(this._cannot, texts.cannot);
      this._explain(texts.instead, view?.verification_uri ?? '');
      put(this._code, view?.user_code ?? '');
    }
    this._keepFocus(held, formOpens);
  }

  /** Puts the cursor where the digits go. */
  correct(): void {
    this._input.focus();
    this._input.select();
  }

  private _draw(text: string, again = false): void {
    if (text === this._drawn && !again) return;
    this._drawn = text;
    this._qr.querySelector(CODES)?.remove();
    this._qr.prepend(qrSvg(text, !this._logo.hidden));
  }

  /** Shows what cannot be drawn here: a provider's picture, or its page. */
  private _put(image: string | undefined, page: string | undefined, name: string): void {
    const src = image ?? page ?? '';
    if (src === this._drawn) return;
    this._drawn = src;
    this._qr.querySelector(CODES)?.remove();
    const shown = image === undefined ? make('iframe', { part: 'page', title: name }) : make('img', { part: 'image', alt: '' });
    shown.src = src;
    this._qr.prepend(shown);
  }

  private _show(icon: keyof typeof ICONS): void {
    if (icon === this._icon) return;
    this._icon = icon;
    const svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('viewBox', '0 0 24 24');
    svg.dataset.kind = icon;
    const path = document.createElementNS(SVG, 'path');
    path.setAttribute('d', ICONS[icon]);
    svg.append(path);
    this._cover.replaceChildren(svg);
  }

  private _explain(text: string, uri: string): void {
    if (this._instead.dataset.for === text + uri) return;
    this._instead.dataset.for = text + uri;
    const [before = '', after = ''] = text.split('{uri}');
    const link = make('a', { href: uri, rel: 'noreferrer', target: '_blank' }, uri.replace(/^https?:\/\//, ''));
    this._instead.replaceChildren(before, link, after);
  }

  /** Who was in here with the keyboard stays in here; nobody else is drawn in, but for the digits that are asked for. */
  private _keepFocus(held: Element | null, opens: boolean): void {
    const elsewhere = document.activeElement;
    const free = elsewhere === null || elsewhere === document.body;
    if (opens && (held || free)) return this._input.focus();
    const lost = held instanceof HTMLElement && held.getClientRects().length === 0;
    if (!lost) return;
    if (!this._renew.hidden) this._renew.focus();
    else this._status.focus();
  }
}

/** A constructed sheet, because a site's content security policy may forbid `<style>`. */
function dress(root: ShadowRoot): void {
  if (!('adoptedStyleSheets' in root)) return (root as ShadowRoot).append(make('style', {}, STYLE));
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLE);
  root.adoptedStyleSheets = [sheet];
}

function status({ phase, view, texts }: Shown): string {
  if (phase === 'scanned') return view?.name ? texts.scannedBy.replace('{name}', view.name) : texts.scanned;
  if (phase === 'approved' && view?.asks_number) return texts.asks;
  return phase === 'consumed' ? texts.approved : texts[phase];
}

/** A live region is read when it changes, so it is changed only when it says something else. */
function put(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}
