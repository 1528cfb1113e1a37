// Makes screenshots small without a loss: flat pages have few colours, and a palette says each in a byte.

import { crc32, deflateSync, inflateSync } from 'node:zlib';

const SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex');
const MOST_COLOURS = 256;

/** The same picture in as few bytes as this can do; `png` is what Chromium makes, 8-bit RGB or RGBA and opaque. */
export function smaller(png) {
  const { width, height, channels, rows } = decoded(png);
  const palette = new Map();
  const indexed = Buffer.alloc(height * (width + 1));
  const plain = Buffer.alloc(height * (width * 3 + 1));
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = (y * width + x) * channels;
      const colour = rows.readUIntBE(at, 3);
      if (palette.size <= MOST_COLOURS && !palette.has(colour)) palette.set(colour, palette.size);
      indexed[y * (width + 1) + 1 + x] = palette.get(colour) ?? 0;
      plain.writeUIntBE(colour, y * (width * 3 + 1) + 1 + x * 3, 3);
    }
  }
  const few = palette.size <= MOST_COLOURS;
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, few ? 3 : 2, 0, 0, 0], 8);
  const colours = Buffer.alloc(palette.size * 3);
  [...palette.keys()].forEach((colour, index) => colours.writeUIntBE(colour, index * 3, 3));
  const made = Buffer.concat([
    SIGNATURE,
    chunk('IHDR', header),
    ...(few ? [chunk('PLTE', colours)] : []),
    chunk('IDAT', deflateSync(few ? indexed : filtered(plain, width * 3), { level: 9, memLevel: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ]);
  return made.length < png.length ? made : png;
}

function chunk(type, data) {
  const made = Buffer.alloc(12 + data.length);
  made.writeUInt32BE(data.length, 0);
  made.write(type, 4, 'latin1');
  data.copy(made, 8);
  made.writeUInt32BE(crc32(made.subarray(4, 8 + data.length)), 8 + data.length);
  return made;
}

/** Each line as its difference from the one above where that is easier to say (PNG specification, section 9.2). */
function filtered(rows, length) {
  const made = Buffer.from(rows);
  const weight = (line) => line.reduce((sum, byte) => sum + Math.min(byte, 256 - byte), 0);
  for (let y = rows.length / (length + 1) - 1; y > 0; y -= 1) {
    const at = y * (length + 1) + 1;
    const line = rows.subarray(at, at + length);
    const above = rows.subarray(at - length - 1, at - 1);
    const up = line.map((byte, x) => byte - above[x]);
    if (weight(up) <= weight(line)) {
      made[at - 1] = 2;
      made.set(up, at);
    }
  }
  return made;
}

function decoded(png) {
  if (!png.subarray(0, 8).equals(SIGNATURE)) throw new Error('no PNG');
  const parts = [];
  let header;
  for (let at = 8; at < png.length;) {
    const length = png.readUInt32BE(at);
    const type = png.toString('latin1', at + 4, at + 8);
    const data = png.subarray(at + 8, at + 8 + length);
    if (type === 'IHDR') header = data;
    if (type === 'IDAT') parts.push(data);
    at += length + 12;
  }
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const channels = { 2: 3, 6: 4 }[header[9]];
  if (header[8] !== 8 || channels === undefined || header[12] !== 0) throw new Error('a PNG of another kind');
  const raw = inflateSync(Buffer.concat(parts));
  const length = width * channels;
  const rows = Buffer.alloc(height * length);
  for (let y = 0; y < height; y += 1) {
    const filter = raw[y * (length + 1)];
    for (let x = 0; x < length; x += 1) {
      const left = x >= channels ? rows[y * length + x - channels] : 0;
      const up = y > 0 ? rows[(y - 1) * length + x] : 0;
      const corner = x >= channels && y > 0 ? rows[(y - 1) * length + x - channels] : 0;
      const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
      rows[y * length + x] = raw[y * (length + 1) + 1 + x] + guess;
    }
  }
  return { width, height, channels, rows };
}

function paeth(left, up, corner) {
  const [a, b, c] = [left, up, corner].map((value) => Math.abs(left + up - corner - value));
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}
