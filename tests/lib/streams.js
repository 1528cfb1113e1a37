// doorbell.v1 without WebSockets, as a page's library speaks it: event streams and long-polls.

import http from 'node:http';
import https from 'node:https';

import { until, within } from './until.js';

/** Opens a request to a listener or a proxy; `at.ca` makes it https. */
function ask(at, path, headers) {
  const { request } = at.ca ? https : http;
  return new Promise((resolve, reject) => {
    const asked = request({
      host: at.host, port: at.port, ca: at.ca, path, headers, agent: false,
    }, resolve);
    asked.once('error', reject).end();
  });
}

/** An event stream that is read as it comes. */
export class EventStream {
  /** Events that came: `{ event, id, data }`. */
  events = [];
  /** Comments that came: what keeps an idle stream alive. */
  comments = 0;

  #text = '';

  constructor(response) {
    this.response = response;
    this.ended = new Promise((resolve) => { response.once('close', resolve); });
    response.on('error', () => {});
    response.setEncoding('utf8').on('data', (text) => this.#take(text));
  }

  /** Opens one for a uid and waits for its welcome. `since` is the id of the last event it handled. */
  static async open(at, uid, since = undefined) {
    const headers = { Authorization: `Bearer ${uid}`, ...(since ? { 'Last-Event-ID': since } : {}) };
    const response = await within('the stream begins', ask(at, '/v1/events', headers));
    if (response.statusCode !== 200) throw new Error(`an event stream: ${response.statusCode}`);
    const stream = new EventStream(response);
    stream.welcome = await until('the welcome', () => stream.events.shift());
    return stream;
  }

  /** The next message. */
  next(ms = 10_000) {
    return until('a message', () => this.events.shift(), ms);
  }

  close() {
    this.response.destroy();
  }

  #take(text) {
    const blocks = (this.#text + text).split('\n\n');
    this.#text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split('\n').map((line) => line.split(/: ?(.*)/s)));
      if (fields.data === undefined) this.comments += 1;
      else this.events.push({ event: fields.event, id: fields.id, data: JSON.parse(fields.data) });
    }
  }
}

/** One long-poll: its answer. */
export async function poll(at, uid, { since = '', wait = 25, withinMs = (wait + 10) * 1000 } = {}) {
  const answer = (async () => {
    const response = await ask(at, `/v1/poll?since=${since}&wait=${wait}`, { Authorization: `Bearer ${uid}` });
    let text = '';
    for await (const part of response.setEncoding('utf8')) text += part;
    if (response.statusCode !== 200) throw new Error(`a poll: ${response.statusCode} ${text}`);
    return JSON.parse(text);
  })();
  return within('the poll is answered', answer, withinMs);
}
