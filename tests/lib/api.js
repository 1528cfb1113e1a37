// The HTTP API and what it tells about the server.

/** Calls the API with the server's own key: `{ status, headers, body }`. */
export async function call(server, method, path, body = undefined, headers = {}) {
  const response = await fetch(`http://${server.api.address}${path}`, {
    method,
    headers: {
      Authorization: `Bearer ${server.key}`,
      ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  let parsed;
  try { parsed = JSON.parse(text); } catch { parsed = text; }
  return { status: response.status, headers: response.headers, body: parsed };
}

/** How many connections a uid has. */
export async function connectionsOf(server, uid) {
  const { status, body } = await call(server, 'GET', `/v1/users/${encodeURIComponent(uid)}`);
  if (status === 404) return 0;
  if (status !== 200) throw new Error(`GET /v1/users answered ${status}: ${JSON.stringify(body)}`);
  return Array.isArray(body.connections) ? body.connections.length : body.connections;
}

/** Every sample of /metrics: `[{ name, labels, value }]`. */
export async function metrics(server) {
  const { body } = await call(server, 'GET', '/metrics');
  return [...String(body).matchAll(/^([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})? (\S+)/gm)].map(([, name, labels, value]) => ({
    name,
    labels: Object.fromEntries([...(labels ?? '').matchAll(/(\w+)="([^"]*)"/g)].map(([, key, text]) => [key, text])),
    value: Number(value),
  }));
}

/** What was refused so far, by `listener reason`. */
export async function refusedByReason(server) {
  const samples = (await metrics(server)).filter(({ name }) => name === 'doorbell_refused_total');
  return Object.fromEntries(samples.map(({ labels, value }) => [`${labels.listener} ${labels.reason}`, value]));
}

/** What was refused so far, in all. */
export async function refused(server) {
  return Object.values(await refusedByReason(server)).reduce((sum, count) => sum + count, 0);
}

/** Messages that were promised to a connection and never reached it. */
export async function dropped(server) {
  return (await metrics(server))
    .filter(({ name }) => name === 'doorbell_messages_dropped_total')
    .reduce((sum, { value }) => sum + value, 0);
}
