// A small <doorbell-login>: begins a sign-in, shows its code and what becomes of it, and hands over the one-time code.
'use strict';

customElements.define('doorbell-login', (() => {
  const TEXTS = {
    en: {
      code: 'QR code: scan it with your phone',
      pending: 'Scan with your phone’s camera',
      typed: (code) => `or type ${code} at`,
      scanned: (name) => (name ? `${name} has scanned the code. Agree on the phone.` : 'Scanned. Agree on the phone.'),
      approved: 'Agreed',
      denied: 'Refused on the phone',
      expired: 'The code has expired',
      cancelled: 'Cancelled',
      consumed: 'Signed in',
      offline: 'No connection. Trying again …',
      renew: 'New code',
      digits: 'Type the number that the phone shows',
      send: 'Continue',
      wrong: 'That is not the number.',
      number: 'Type this number on the phone',
    },
    zh: {
      code: '二维码：请用手机扫描',
      pending: '请用手机相机扫描',
      typed: (code) => `或者输入 ${code}，网址`,
      scanned: (name) => (name ? `${name} 已扫描，请在手机上同意。` : '已扫描，请在手机上同意。'),
      approved: '已同意',
      denied: '手机上已拒绝',
      expired: '二维码已过期',
      cancelled: '已取消',
      consumed: '已登录',
      offline: '连接中断，正在重试……',
      renew: '换一个二维码',
      digits: '输入手机上显示的数字',
      send: '继续',
      wrong: '数字不对。',
      number: '在手机上输入这个数字',
    },
  };
  const OVER = ['denied', 'expired', 'cancelled', 'consumed'];
  const RETRY_MS = 1000;

  const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');

  // crypto.subtle is for secure contexts, and a page at http://192.168.… is none.
  function sha256(text) {
    const k = [];
    const h = [];
    for (let n = 2; k.length < 64; n += 1) {
      let prime = true;
      for (let d = 2; d * d <= n; d += 1) if (n % d === 0) prime = false;
      if (!prime) continue;
      if (h.length < 8) h.push(Math.floor((n ** 0.5 % 1) * 2 ** 32) | 0);
      k.push(Math.floor((n ** (1 / 3) % 1) * 2 ** 32) | 0);
    }
    const bytes = [...new TextEncoder().encode(text)];
    const bits = bytes.length * 8;
    bytes.push(0x80);
    while (bytes.length % 64 !== 56) bytes.push(0);
    bytes.push(0, 0, 0, 0, bits >>> 24, bits >>> 16 & 255, bits >>> 8 & 255, bits & 255);
    const turn = (x, n) => x >>> n | x << 32 - n;
    for (let at = 0; at < bytes.length; at += 64) {
      const w = [];
      for (let i = 0; i < 64; i += 1) {
        if (i < 16) {
          const b = at + i * 4;
          w[i] = bytes[b] << 24 | bytes[b + 1] << 16 | bytes[b + 2] << 8 | bytes[b + 3];
        } else {
          const s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >>> 3;
          const s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >>> 10;
          w[i] = w[i - 16] + s0 + w[i - 7] + s1 | 0;
        }
      }
      let [a, b, c, d, e, f, g, z] = h;
      for (let i = 0; i < 64; i += 1) {
        const t1 = z + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (e & f ^ ~e & g) + k[i] + w[i] | 0;
        const t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + (a & b ^ a & c ^ b & c) | 0;
        [z, g, f, e, d, c, b, a] = [g, f, e, d + t1 | 0, c, b, a, t1 + t2 | 0];
      }
      [a, b, c, d, e, f, g, z].forEach((value, i) => { h[i] = h[i] + value | 0; });
    }
    return h.flatMap((value) => [value >>> 24, value >>> 16 & 255, value >>> 8 & 255, value & 255]);
  }

  return class extends HTMLElement {
    static observedAttributes = ['lang'];

    connectedCallback() {
      this.innerHTML = '';
      for (const [name, tag] of Object.entries({ picture: 'img', state: 'p', typed: 'p', number: 'p', form: 'form', renewal: 'button' })) {
        this[name] = document.createElement(tag);
        this[name].className = `login-${name}`;
        this.append(this[name]);
      }
      this.state.setAttribute('role', 'status');
      this.renewal.type = 'button';
      this.renewal.addEventListener('click', () => this.renew());
      this.input = document.createElement('input');
      Object.assign(this.input, { id: 'login-digits', inputMode: 'numeric', autocomplete: 'off', maxLength: 6, required: true });
      const label = document.createElement('label');
      label.htmlFor = this.input.id;
      this.form.append(label, this.input, document.createElement('button'));
      this.form.addEventListener('submit', (event) => { event.preventDefault(); this.send(); });
      this.kept = `doorbell-login-${this.getAttribute('client-id')}`;
      const kept = (() => { try { return JSON.parse(sessionStorage.getItem(this.kept)); } catch { return null; } })();
      this.show();
      if (kept) this.follow(kept);
      else this.renew();
    }

    disconnectedCallback() {
      this.run = null;
    }

    attributeChangedCallback() {
      if (this.state) this.show();
    }

    /** What the QR code says. */
    get address() {
      return this.now?.verification_uri_complete ?? null;
    }

    /** Begins anew. */
    async renew() {
      const verifier = base64url(crypto.getRandomValues(new Uint8Array(32)));
      const run = this.run = {};
      this.now = null;
      this.offline = false;
      this.show();
      while (this.run === run) {
        try {
          const response = await fetch('/v1/device_authorization', {
            method: 'POST',
            body: new URLSearchParams({
              client_id: this.getAttribute('client-id'),
              code_challenge: base64url(sha256(verifier)),
              code_challenge_method: 'S256',
            }),
          });
          if (!response.ok) throw new Error(`HTTP ${response.status}`);
          const { device_code: deviceCode } = await response.json();
          if (this.run === run) this.follow({ deviceCode, verifier });
          return;
        } catch {
          if (this.run !== run) return;
          this.offline = true;
          this.show();
          await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        }
      }
    }

    async follow(attempt) {
      const run = this.run = {};
      this.attempt = attempt;
      try { sessionStorage.setItem(this.kept, JSON.stringify(attempt)); } catch { /* private window */ }
      while (this.run === run) {
        try {
          const since = this.now && !this.offline ? `?since=${this.now.version}&wait=25` : '';
          // Not by the cache: it would keep this waiting behind an earlier poll of the same address.
          const response = await fetch(`/v1/login${since}`, {
            headers: { Authorization: `Bearer ${attempt.deviceCode}` }, cache: 'no-store',
          });
          if (this.run !== run) return;
          if (response.status === 404) return this.renew();
          if (!response.ok) throw new Error(`HTTP ${response.status}`);
          this.offline = false;
          this.take(await response.json(), attempt);
          if (OVER.includes(this.now.state) || this.now.code) return;
        } catch {
          if (this.run !== run) return;
          this.offline = true;
          this.show();
          await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        }
      }
    }

    take(next, attempt) {
      const changed = this.now?.version !== next.version;
      this.now = next;
      this.show();
      if (changed) this.dispatchEvent(new CustomEvent('doorbell-change', { detail: { state: next.state, version: next.version } }));
      if (next.code || OVER.includes(next.state)) {
        try { sessionStorage.removeItem(this.kept); } catch { /* private window */ }
      }
      if (next.code) {
        this.dispatchEvent(new CustomEvent('doorbell-approved', { detail: { code: next.code, verifier: attempt.verifier } }));
      }
    }

    async send() {
      const response = await fetch('/v1/login/number', {
        method: 'POST',
        headers: { Authorization: `Bearer ${this.attempt.deviceCode}` },
        body: new URLSearchParams({ number: this.input.value }),
      });
      this.wrong = !response.ok;
      this.input.value = '';
      this.show();
    }

    show() {
      const texts = TEXTS[this.getAttribute('lang') === 'zh' ? 'zh' : 'en'];
      const now = this.now;
      const state = now?.state ?? 'pending';
      this.dataset.state = this.offline ? 'offline' : now ? state : 'loading';
      this.picture.alt = texts.code;
      this.picture.hidden = !this.address;
      if (this.address && this.picture.dataset.for !== this.address) {
        this.picture.dataset.for = this.address;
        this.picture.src = `/demo/qr?${new URLSearchParams({ text: this.address })}`;
      }
      const words = texts[state];
      this.state.textContent = this.offline ? texts.offline : now === null ? '' : typeof words === 'function' ? words(now?.name) : words;
      this.typed.hidden = state !== 'pending' || !now?.user_code;
      this.typed.textContent = now?.user_code ? `${texts.typed(now.user_code)} ${now.verification_uri}` : '';
      this.number.hidden = !now?.number;
      this.number.textContent = now?.number ? `${texts.number}: ` : '';
      if (now?.number) this.number.append(Object.assign(document.createElement('b'), { textContent: now.number }));
      this.form.hidden = !now?.asks_number;
      this.form.querySelector('label').textContent = this.wrong ? `${texts.wrong} ${texts.digits}` : texts.digits;
      this.form.querySelector('button').textContent = texts.send;
      this.renewal.hidden = !OVER.includes(state);
      this.renewal.textContent = texts.renew;
    }
  };
})());
