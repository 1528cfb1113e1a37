// The least a proxy can be: HTTP/1.0 on both sides, as RFC 1945 has it, and as old appliances still are. It knows no
// chunks, no keep-alive and no upgrade: a request goes out on a connection of its own, and its answer ends with that.

import net from 'node:net';

const HOP_BY_HOP = /^(connection|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade):/i;

/** Starts one in front of a server's public listener: `{ host, port, address }`. It stops with the test. */
export async function startOldProxy(server, owner) {
  const sockets = new Set();
  const keep = (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket)).on('error', () => socket.destroy());
    return socket;
  };
  const proxy = net.createServer({ allowHalfOpen: true }, (client) => {
    keep(client);
    let head = Buffer.alloc(0);
    const collect = (bytes) => {
      head = Buffer.concat([head, bytes]);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      client.off('data', collect);
      pass(client, head.subarray(0, end).toString('latin1'), head.subarray(end + 4));
    };
    client.on('data', collect);
  });
  const pass = (client, head, body) => {
    const [request, ...headers] = head.split('\r\n');
    const [method, target] = request.split(' ');
    const kept = headers.filter((line) => !HOP_BY_HOP.test(line));
    const upstream = keep(net.connect(server.public.port, server.public.host));
    upstream.write(`${method} ${target} HTTP/1.0\r\n${kept.join('\r\n')}\r\n\r\n`);
    upstream.write(body);
    client.on('data', (bytes) => upstream.write(bytes)).on('close', () => upstream.destroy());
    let answered = false;
    upstream.on('data', (bytes) => {
      // The status line in its own version; the rest as it comes, with the end of the connection as its end.
      client.write(answered ? bytes : Buffer.from(bytes.toString('latin1').replace(/^HTTP\/1\.1/, 'HTTP/1.0'), 'latin1'));
      answered = true;
    });
    upstream.on('end', () => client.end()).on('close', () => client.destroy());
  };
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  owner.after(() => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  const { port } = proxy.address();
  return { host: '127.0.0.1', port, address: `127.0.0.1:${port}` };
}
