// A login page on a site of its own, and a phone without a browser.

import http from 'node:http';
import { createRequire } from 'node:module';

import { call } from '../../../../tests/lib/api.js';

const require = createRequire(import.meta.url);

/** What a server needs for the login pages of these tests. */
export const CONFIG = `
[providers.demo]
kind = "demo"
[[login.clients]]
id = "shop"
name = "Example Shop"
[[login.clients]]
id = "shop-to-phone"
name = "Example Shop"
number_match = "to_phone"
[[login.clients]]
id = "shop-to-browser"
name = "Example Shop"
number_match = "to_browser"
`;

/** A site with one login page and the place its form posts to, which redeems the code as a backend does. */
export async function startLoginSite(t, server, { at = server.public, name = '127.0.0.1' } = {}) {
  const site = { posted: [] };
  const page = (query) => `<!doctype html><html lang="${query.get('lang') ?? 'en'}"><head><meta charset="utf-8"><title>Sign in</title>
<script src="http://${at.name ?? at.host}:${at.port}/doorbell-login.js"></script>
<script nonce="own">
  window.heard = [];
  for (const name of ['state', 'approved', 'denied', 'expired', 'error']) {
    addEventListener('doorbell-login:' + name, ({ detail }) => heard.push([name, detail]));
  }
</script></head><body><main><h1>Example Shop</h1>
<doorbell-login client-id="${query.get('client') ?? 'shop'}" ${query.get('more') ?? ''}>${query.get('inner') ?? ''}</doorbell-login>
</main></body></html>`;
  const listener = http.createServer(async (request, response) => {
    const url = new URL(request.url, 'http://site');
    response.setHeader('Content-Type', 'text/html; charset=utf-8');
    if (request.method !== 'POST') {
      // What a careful site allows, and no more.
      const there = `${at.name ?? at.host}:${at.port}`;
      response.setHeader('Content-Security-Policy', `default-src 'none'; script-src 'nonce-own' http://${there}; style-src 'self'; connect-src http://${there} ws://${there}; form-action 'self'`);
      return response.end(page(url.searchParams));
    }
    let body = '';
    for await (const chunk of request) body += chunk;
    const fields = Object.fromEntries(new URLSearchParams(body));
    site.posted.push(fields);
    const redeemed = await redeem(server, fields);
    response.end(`<!doctype html><title>In</title><h1 id="who">${redeemed.status} ${redeemed.body.identity?.name}</h1>`);
  });
  await new Promise((resolve) => { listener.listen(0, '127.0.0.1', resolve); });
  t.after(() => {
    listener.closeAllConnections();
    listener.close();
  });
  const { port } = listener.address();
  site.origin = `http://${name}:${port}`;
  site.page = (query = {}) => `${site.origin}/?${new URLSearchParams(query)}`;
  return site;
}

export function redeem(server, { code, code_verifier }) {
  return call(server, 'POST', '/v1/redeem', { code, code_verifier });
}

/** Reads the QR code off the screen. */
export async function readQr(tab) {
  const picture = await tab.locator('doorbell-login').screenshot();
  const reader = await tab.context().browser().newPage();
  try {
    await reader.addScriptTag({ path: require.resolve('jsqr') });
    return await reader.evaluate(async (base64) => {
      const image = new Image();
      image.src = `data:image/png;base64,${base64}`;
      await image.decode();
      const canvas = Object.assign(document.createElement('canvas'), { width: image.width, height: image.height });
      const context = canvas.getContext('2d');
      context.drawImage(image, 0, 0);
      const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
      return jsQR(data, width, height)?.data ?? null;
    }, picture.toString('base64'));
  } finally {
    await reader.close();
  }
}

/** A phone that has opened the address of a QR code. */
export class Phone {
  static async open(address) {
    const response = await fetch(address);
    const html = await response.text();
    if (response.status !== 200) throw new Error(`${address}: ${response.status} ${html}`);
    const phone = new Phone();
    phone.address = address;
    phone.cookie = response.headers.getSetCookie().map((cookie) => cookie.split(';')[0]).join('; ');
    [, phone.token] = html.match(/name="page_token" value="([^"]*)"/);
    return phone;
  }

  async #post(action, fields = {}) {
    const response = await fetch(`${this.address}/${action}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json', Cookie: this.cookie },
      body: JSON.stringify({ page_token: this.token, ...fields }),
    });
    return { status: response.status, body: await response.json() };
  }

  scan() { return this.#post('scan'); }

  approve(name, more = {}) { return this.#post('approve', { name, ...more }); }

  deny() { return this.#post('deny'); }
}
