// A proxy between page and server that does to connections what networks do.

import net from 'node:net';

const HEAD_END = '\r\n\r\n';

/** Which way to the server a request head asks for. */
function wayOf(head) {
  if (/^upgrade: *websocket/im.test(head)) return 'websocket';
  const path = head.split(' ')[1] ?? '';
  if (path.startsWith('/v1/events')) return 'sse';
  if (path.startsWith('/v1/poll')) return 'longpoll';
  return 'other';
}

/** Starts a proxy in front of `target` (`{ host, port }`); it ends with the test `t`. */
export async function startProxy(t, target) {
  const open = new Set();
  const proxy = {
    /** Ways that are refused, as a filtering proxy does: with 403. */
    refused: new Set(),
    /** Ways that are swallowed: the request is taken and never answered. */
    swallowed: new Set(),
    /** No way is open: connections are reset as soon as they come. */
    down: false,
    /** Bytes are taken and go nowhere, in either direction: a cable that was pulled. */
    dark: false,
    /** How often each way was let through. */
    seen: { websocket: 0, sse: 0, longpoll: 0, other: 0 },
    target,
    /** Resets connections of these ways (all, when none is named); answers how many. */
    cut(...ways) {
      let count = 0;
      for (const { way, client, server } of open) {
        if (ways.length > 0 && !ways.includes(way)) continue;
        client.resetAndDestroy();
        server?.destroy();
        count += 1;
      }
      return count;
    },
    /** Connections open now, by way. */
    count: (way) => [...open].filter((one) => one.way === way && one.server).length,
  };

  const listener = net.createServer((client) => {
    if (proxy.down) return client.resetAndDestroy();
    const one = { way: undefined, client, server: undefined };
    open.add(one);
    client.on('error', () => {});
    client.once('close', () => {
      open.delete(one);
      one.server?.destroy();
    });
    let head = '';
    const read = (bytes) => {
      head += bytes.toString('latin1');
      if (!head.includes(HEAD_END)) return;
      client.off('data', read);
      one.way = wayOf(head);
      if (proxy.swallowed.has(one.way)) return;
      if (proxy.refused.has(one.way)) {
        return client.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
      }
      proxy.seen[one.way] += 1;
      one.server = net.connect(proxy.target);
      one.server.on('error', () => {});
      one.server.once('close', () => client.destroy());
      one.server.write(Buffer.from(head, 'latin1'));
      client.on('data', (more) => { if (!proxy.dark) one.server.write(more); });
      one.server.on('data', (more) => { if (!proxy.dark) client.write(more); });
    };
    client.on('data', read);
  });
  await new Promise((resolve) => { listener.listen(0, '127.0.0.1', resolve); });
  const { port } = listener.address();
  t.after(() => {
    proxy.cut();
    return new Promise((resolve) => { listener.close(resolve); });
  });
  return Object.assign(proxy, { host: '127.0.0.1', port, address: `127.0.0.1:${port}` });
}
