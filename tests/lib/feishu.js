// A stand-in Feishu: the page that asks, the token, the person. Codes work once, for their address.

import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';

export const APP_ID = 'cli_a1b2c3d4e5f6g7h8';
export const SECRET = 'feishuSecretOfTheTests';

/** Starts it; it stops with `owner`'s test. `faults` are statuses or bodies for the next calls of a path. */
export async function startFeishu(owner) {
  const codes = new Map();
  const tokens = new Set();
  const calls = {};
  const faults = [];
  const json = (response, status, body) => {
    response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8' }).end(JSON.stringify(body));
  };
  const routes = {
    'GET /open-apis/authen/v1/authorize': (request, response, url) => {
      const at = (name) => url.searchParams.get(name);
      if (at('client_id') !== APP_ID || at('response_type') !== 'code') return json(response, 400, { code: 20_001 });
      const code = randomBytes(16).toString('hex');
      codes.set(code, at('redirect_uri'));
      const back = (pairs) => `${at('redirect_uri')}?${new URLSearchParams({ ...pairs, state: at('state') })}`;
      response.writeHead(200, { 'Content-Type': 'text/html' }).end(
        `<a id=allow href="${back({ code }).replaceAll('&', '&amp;')}">Allow</a>`
        + `<a id=refuse href="${back({ error: 'access_denied' }).replaceAll('&', '&amp;')}">Refuse</a>`,
      );
    },
    'POST /open-apis/authen/v2/oauth/token': (request, response, url, body) => {
      const asked = JSON.parse(body);
      if (asked.client_id !== APP_ID || asked.client_secret !== SECRET) {
        return json(response, 400, { code: 20_002, error: 'invalid_client' });
      }
      if (asked.grant_type !== 'authorization_code' || codes.get(asked.code) !== asked.redirect_uri) {
        return json(response, 400, { code: 20_003, error: 'invalid_grant' });
      }
      codes.delete(asked.code);
      const token = randomBytes(16).toString('hex');
      tokens.add(token);
      return json(response, 200, { code: 0, access_token: token, expires_in: 7_200, token_type: 'Bearer' });
    },
    'GET /open-apis/authen/v1/user_info': (request, response) => {
      const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
      if (!tokens.has(token)) return json(response, 401, { code: 99_991_668, msg: 'invalid access token' });
      return json(response, 200, {
        code: 0, msg: 'success',
        data: { open_id: 'ou_1', union_id: 'on_1', name: '李雷', avatar_url: 'https://feishu.example/a.png' },
      });
    },
  };
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, 'http://feishu');
    calls[url.pathname] = (calls[url.pathname] ?? 0) + 1;
    let body = '';
    for await (const chunk of request) body += chunk;
    const fault = faults.findIndex(({ path }) => path === url.pathname);
    if (fault >= 0) {
      const [{ status, body: wrong }] = faults.splice(fault, 1);
      return json(response, status, wrong);
    }
    const route = routes[`${request.method} ${url.pathname}`];
    return route ? route(request, response, url, body) : json(response, 404, { code: 404 });
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  owner.after(() => { server.closeAllConnections(); server.close(); });
  return { base: `http://127.0.0.1:${server.address().port}`, calls, faults };
}
