//! Codes as JPEG pictures, as WeChat gives them for mini programs.
//!
//! A module of the code is one block of eight by eight pixels of one shade, so a block has a DC coefficient and nothing
//! else: the whole of what is written here of ITU T.81, with Huffman tables of its annex K.

use fast_qr::{ECL, QRBuilder};

/// Blocks around the code.
const MARGIN: usize = 4;

/// The picture of a QR code that says this.
pub(crate) fn jpeg(text: &str) -> Option<Vec<u8>> {
    let code = QRBuilder::new(text).ecl(ECL::M).build().ok()?;
    let side = code.size + 2 * MARGIN;
    let dark = |row: usize, column: usize| {
        let inside = |at: usize| at.checked_sub(MARGIN).filter(|at| *at < code.size);
        inside(row).zip(inside(column)).is_some_and(|(row, column)| code[row][column].value())
    };
    let pixels = u16::try_from(side * 8).ok()?.to_be_bytes();
    let mut out = vec![0xff, 0xd8];
    // A quantiser of 8 throughout: a DC step is then one shade.
    segment(&mut out, 0xdb, &[&[0][..], &[8; 64]].concat());
    segment(&mut out, 0xc0, &[8, pixels[0], pixels[1], pixels[0], pixels[1], 1, 1, 0x11, 0]);
    // Table K.3, and one with the end of a block alone.
    let dc: [u8; 16] = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
    segment(&mut out, 0xc4, &[&[0][..], &dc, &(0..12).collect::<Vec<u8>>()].concat());
    segment(&mut out, 0xc4, &[&[0x10][..], &[1], &[0; 15], &[0]].concat());
    segment(&mut out, 0xda, &[1, 1, 0, 0, 63, 0]);
    let mut bits = Bits::default();
    let mut before = 0;
    for row in 0..side {
        for column in 0..side {
            let shade = if dark(row, column) { -128 } else { 127 };
            bits.difference(shade - before);
            bits.put(0, 1);
            before = shade;
        }
    }
    out.extend(bits.end());
    out.extend([0xff, 0xd9]);
    Some(out)
}

fn segment(out: &mut Vec<u8>, marker: u8, body: &[u8]) {
    let length = u16::try_from(body.len() + 2).unwrap_or_default();
    out.extend([0xff, marker]);
    out.extend(length.to_be_bytes());
    out.extend(body);
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits {
    fn put(&mut self, bits: u32, count: u32) {
        for at in (0..count).rev() {
            self.held = self.held << 1 | (bits >> at & 1);
            self.count += 1;
            if self.count == 8 {
                let byte = u8::try_from(self.held).unwrap_or_default();
                self.bytes.push(byte);
                if byte == 0xff {
                    self.bytes.push(0);
                }
                (self.held, self.count) = (0, 0);
            }
        }
    }

    /// A DC difference: the code of its size, then its bits (T.81 F.1.2.1).
    fn difference(&mut self, difference: i32) {
        /// Of sizes 0 to 8 in table K.3: the code and its length.
        const CODES: [(u32, u32); 9] =
            [(0, 2), (2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (14, 4), (30, 5), (62, 6)];
        let size = 32 - difference.unsigned_abs().leading_zeros();
        let (code, length) = CODES[usize::try_from(size).unwrap_or_default()];
        self.put(code, length);
        let bits = if difference < 0 { difference - 1 } else { difference };
        self.put(bits.cast_unsigned() & ((1 << size) - 1), size);
    }

    fn end(mut self) -> Vec<u8> {
        while self.count != 0 {
            self.put(1, 1);
        }
        self.bytes
    }
}
