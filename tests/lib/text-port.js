// The line protocol a backend speaks.

import net from 'node:net';

import { within } from './until.js';

export class TextPort {
  received = Buffer.alloc(0);
  #waiting = [];
  #taken = 0;

  constructor(address) {
    this.socket = net.connect({ ...address, allowHalfOpen: true, noDelay: true });
    this.ended = new Promise((resolve) => {
      this.socket.once('end', () => resolve('end'));
      this.socket.once('error', () => resolve('reset'));
    });
    this.socket.on('error', () => {});
    this.socket.on('data', (bytes) => {
      this.received = Buffer.concat([this.received, bytes]);
      this.#wake();
    });
    this.ended.then(() => {
      this.over = true;
      this.socket.end();
      this.#wake();
    });
  }

  write(bytes) {
    this.socket.write(bytes);
  }

  /** The next `count` answers, as one string with their line endings; less when the server closed. */
  async answers(count = 1, ms = 20_000) {
    const whole = () => this.received.subarray(this.#taken).toString('latin1').match(/[^\n]*\n/g) ?? [];
    await within(`${count} answers`, new Promise((resolve) => {
      const check = () => {
        const done = this.over || whole().length >= count;
        if (done) resolve();
        return done;
      };
      if (!check()) this.#waiting.push(check);
    }), ms);
    const taken = whole().slice(0, count).join('');
    this.#taken += taken.length;
    return taken;
  }

  /** Sends one line and waits for its answer. */
  ask(line) {
    this.write(Buffer.concat([Buffer.from(line), Buffer.from('\n')]));
    return this.answers();
  }

  close() {
    this.socket.destroy();
  }

  #wake() {
    this.#waiting = this.#waiting.filter((check) => !check());
  }
}

/** Pushes one line on a connection of its own, as push.php does. */
export async function pushLine(server, line) {
  const port = new TextPort(server.text);
  try {
    return await port.ask(line);
  } finally {
    port.close();
  }
}

/** Pushes an object to a uid, as PHP's json_encode would write it. */
export function pushTo(server, uid, rest = { percent: '88%' }) {
  return pushLine(server, JSON.stringify({ uid, ...rest }));
}
