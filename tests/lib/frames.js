// RFC 6455 frames, written independently of the server's codec so that both cannot share a mistake.

import { randomBytes } from 'node:crypto';

export const TEXT = 0x1;
export const BINARY = 0x2;
export const CONTINUATION = 0x0;
export const CLOSE = 0x8;
export const PING = 0x9;
export const PONG = 0xa;

/** One frame as a client sends it; every field can be made wrong on purpose. */
export function frame(opcode, payload = '', { fin = true, rsv = 0, masked = true, length } = {}) {
  const body = Buffer.from(payload);
  const declared = length ?? body.length;
  const head = [((fin ? 0x80 : 0) | (rsv << 4) | opcode)];
  const maskBit = masked ? 0x80 : 0;
  if (declared < 126) {
    head.push(maskBit | Number(declared));
  } else if (declared < 65_536) {
    head.push(maskBit | 126, Number(declared) >> 8, Number(declared) & 0xff);
  } else {
    const wide = Buffer.alloc(8);
    wide.writeBigUInt64BE(BigInt(declared));
    head.push(maskBit | 127, ...wide);
  }
  if (!masked) return Buffer.concat([Buffer.from(head), body]);
  const key = randomBytes(4);
  const hidden = Buffer.from(body);
  for (let i = 0; i < hidden.length; i += 1) hidden[i] ^= key[i & 3];
  return Buffer.concat([Buffer.from(head), key, hidden]);
}

/** A Close frame's payload. */
export function closePayload(code, reason = '') {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(code);
  return Buffer.concat([head, Buffer.from(reason)]);
}

/** Takes whole frames off the front of `buffer`: `{ frames, rest }`. Headers are kept as they came. */
export function takeFrames(buffer) {
  const frames = [];
  let at = 0;
  for (;;) {
    const left = buffer.length - at;
    if (left < 2) break;
    let length = buffer[at + 1] & 0x7f;
    let headLength = 2;
    if (length === 126) {
      if (left < 4) break;
      length = buffer.readUInt16BE(at + 2);
      headLength = 4;
    } else if (length === 127) {
      if (left < 10) break;
      length = Number(buffer.readBigUInt64BE(at + 2));
      headLength = 10;
    }
    if (left < headLength + length) break;
    frames.push({
      head: buffer.subarray(at, at + headLength),
      fin: (buffer[at] & 0x80) !== 0,
      rsv: (buffer[at] >> 4) & 7,
      opcode: buffer[at] & 0xf,
      masked: (buffer[at + 1] & 0x80) !== 0,
      payload: buffer.subarray(at + headLength, at + headLength + length),
    });
    at += headLength + length;
  }
  return { frames, rest: buffer.subarray(at) };
}
