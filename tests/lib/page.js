// A page as the server sees one: a WebSocket on a raw socket, with nothing hidden.

import { createHash, randomBytes } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';

import { CLOSE, closePayload, frame, PING, PONG, takeFrames, TEXT } from './frames.js';
import { within } from './until.js';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** An upgrade request; `headers` replace or (when null) remove the usual ones. */
export function upgradeRequest(server, { path = '/', headers = {} } = {}) {
  const all = {
    Host: server.public.address,
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    'Sec-WebSocket-Version': '13',
    ...headers,
  };
  const lines = Object.entries(all).filter(([, value]) => value !== null).map(([name, value]) => `${name}: ${value}`);
  return `GET ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`;
}

/** The accept header that answers a key. */
export function acceptFor(key) {
  return createHash('sha1').update(key + GUID).digest('base64');
}

export class Page {
  /** Frames that arrived: `{ opcode, payload, head, … }`. */
  frames = [];
  /** The HTTP response's head, once it came. */
  head = null;
  /** The code of the server's Close frame, 1005 without one in it, or null. */
  closeCode = null;

  #buffer = Buffer.alloc(0);
  #waiting = [];
  #taken = 0;
  #pongs = [];

  constructor(socket) {
    this.socket = socket;
    this.closed = new Promise((resolve) => {
      socket.once('close', () => resolve({ code: this.closeCode, head: this.head }));
    });
    this.opened = new Promise((resolve, reject) => {
      this.onHead = resolve;
      socket.once('close', () => reject(new Error(`the socket closed; head: ${this.head}`)));
    });
    this.opened.catch(() => {});
    socket.on('error', () => {});
    socket.on('data', (bytes) => this.#received(bytes));
    socket.once('close', () => this.#wake());
  }

  /** Connects, by TLS where `at.ca` is there, and sends the upgrade, without waiting for the answer. */
  static dial(server, options = {}) {
    const { port, host, ca } = options.at ?? server.public;
    const reach = { port, host, allowHalfOpen: false, noDelay: true };
    const socket = ca ? tls.connect({ ...reach, ca }) : net.connect(reach);
    const page = new Page(socket);
    const preface = options.preface ?? '';
    socket.write(Buffer.concat([
      Buffer.from(preface + upgradeRequest(server, options)),
      options.sameSegment ?? Buffer.alloc(0),
    ]));
    return page;
  }

  /** Connects, and fails unless the server switches protocols. */
  static async connect(server, options = {}) {
    const page = Page.dial(server, options);
    const head = await within('the handshake is answered', page.opened);
    if (!head.startsWith('HTTP/1.1 101 ')) throw new Error(`not upgraded: ${head}`);
    return page;
  }

  /** Connects and names its uid; when this returns the server knows it. */
  static async as(server, uid, options = {}) {
    const page = await Page.connect(server, options);
    page.send(uid);
    await page.settled();
    return page;
  }

  send(payload, opcode = TEXT, options = {}) {
    this.socket.write(frame(opcode, payload, options));
  }

  /** Frames are handled in order, so a Pong says that everything sent before its Ping was. */
  async settled() {
    const payload = randomBytes(8);
    const answered = new Promise((resolve, reject) => {
      this.#pongs.push((pong) => pong.equals(payload) && (resolve(), true));
      this.socket.once('close', () => reject(new Error(`closed with ${this.closeCode} before the Pong`)));
    });
    this.send(payload, PING);
    await within('the Pong', answered, 20_000);
  }

  /** Text and binary messages that came so far, as strings. */
  get messages() {
    return this.frames.filter(({ opcode }) => opcode < CLOSE).map(({ payload }) => payload.toString());
  }

  /** The next message not yet taken. */
  async next(ms = 10_000) {
    await within('a message', this.#until(() => this.messages.length > this.#taken), ms);
    const message = this.messages[this.#taken];
    this.#taken += 1;
    return message;
  }

  /** Resolves when `count` messages arrived in all, or the socket closed. */
  async heard(count, ms = 20_000) {
    await within(`${count} messages (have ${this.messages.length})`, this.#until(() => this.messages.length >= count), ms);
  }

  /** The code with which the server closes. */
  async closeCodeWithin(ms = 10_000) {
    return (await within('the server closes', this.closed, ms)).code;
  }

  /** Closes as a browser does. */
  async close(code = 1000) {
    this.send(closePayload(code), CLOSE);
    await within('the server answers the Close', this.closed);
  }

  /** Vanishes with a RST. */
  async reset() {
    this.socket.resetAndDestroy();
    await this.closed;
  }

  /** Goes away with a bare FIN. */
  async end() {
    this.socket.end();
    await within('the server closes after FIN', this.closed);
  }

  #until(condition) {
    return new Promise((resolve, reject) => {
      const check = () => {
        if (condition()) return resolve(), true;
        if (this.socket.destroyed) return reject(new Error(`closed with ${this.closeCode}`)), true;
        return false;
      };
      if (!check()) this.#waiting.push(check);
    });
  }

  #wake() {
    this.#waiting = this.#waiting.filter((check) => !check());
  }

  #received(bytes) {
    this.#buffer = this.#buffer.length === 0 ? bytes : Buffer.concat([this.#buffer, bytes]);
    if (this.head === null) {
      const end = this.#buffer.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.head = this.#buffer.subarray(0, end + 4).toString('latin1');
      this.#buffer = this.#buffer.subarray(end + 4);
      this.onHead(this.head);
    }
    if (!this.head.startsWith('HTTP/1.1 101 ')) return;
    const { frames, rest } = takeFrames(this.#buffer);
    this.#buffer = rest;
    for (const one of frames) this.#take(one);
    if (frames.length > 0) this.#wake();
  }

  #take(one) {
    if (one.opcode === PONG) {
      this.#pongs = this.#pongs.filter((answers) => !answers(one.payload));
    } else if (one.opcode === PING) {
      this.send(one.payload, PONG);
    } else if (one.opcode === CLOSE) {
      this.closeCode = one.payload.length >= 2 ? one.payload.readUInt16BE() : 1005;
      this.socket.end();
    }
    this.frames.push(one);
  }
}
