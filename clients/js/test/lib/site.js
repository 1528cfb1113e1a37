// A site whose pages use the one-file client as the server gives it out.

import http from 'node:http';

/**
 * Serves one page on another port than the server's, as a site does. In it `listen(uid, options)` starts a client
 * whose story is in `heard`.
 */
export async function startSite(t, doorbell) {
  const page = `<!doctype html><meta charset="utf-8"><title>A page</title>
<script src="http://${doorbell.address}/doorbell.js"></script>
<script>
  window.heard = { got: [], states: [], welcomes: [], gaps: [], closes: [] };
  window.listen = (token, options = {}) => {
    const client = window.client = new Doorbell({ url: 'http://' + (options.at ?? '${doorbell.address}'), token, ...options });
    client.on('message', ({ data }) => heard.got.push(data));
    client.on('state', (state) => heard.states.push(state));
    client.on('welcome', (welcome) => heard.welcomes.push(welcome));
    client.on('gap', (gap) => heard.gaps.push(gap));
    client.on('close', (close) => heard.closes.push(close));
  };
  const wanted = new URLSearchParams(location.search);
  if (wanted.has('uid')) listen(wanted.get('uid'), JSON.parse(wanted.get('options') ?? '{}'));
</script>`;
  const listener = http.createServer((request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' }).end(page);
  });
  await new Promise((resolve) => { listener.listen(0, '127.0.0.1', resolve); });
  t.after(() => {
    listener.closeAllConnections();
    listener.close();
  });
  const { port } = listener.address();
  return {
    /** The address of a page that listens for `uid`. */
    page: (uid, options = {}) => (
      `http://127.0.0.1:${port}/?uid=${encodeURIComponent(uid)}&options=${encodeURIComponent(JSON.stringify(options))}`
    ),
  };
}
