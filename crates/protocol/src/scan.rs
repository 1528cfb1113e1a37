//! A strict JSON scanner (RFC 8259): one pass, no tree, no allocation, no recursion.
//!
//! It is what the text port runs over every pushed line, so it only answers "is this JSON, and where does
//! this value lie". Its input is known to be UTF-8: what it has to look at are ASCII bytes alone.

/// The deepest nesting accepted, in levels of objects and arrays, the outermost one included.
///
/// PHP's `json_decode` refuses its 512th level, and lines were always parsed by it.
pub(crate) const MAX_DEPTH: usize = 511;

/// Why scanning stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScanError {
    /// The byte at this offset cannot stand there; the offset of the end when something is missing.
    Syntax { at: usize },
    /// There are more than [`MAX_DEPTH`] levels.
    TooDeep,
}

/// A value that has been scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    String(Text<'a>),
    /// A number without fraction and exponent, as written.
    Integer(&'a str),
    /// `true`, `false`, `null`, a number with fraction or exponent, an object or an array.
    Other,
}

/// A string that has been scanned, as written between its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text<'a> {
    pub(crate) raw: &'a str,
    /// Whether `raw` has escapes; without any it is the string itself.
    pub(crate) escaped: bool,
}

impl<'a> Text<'a> {
    /// Whether the string, its escapes decoded, is `other`.
    pub(crate) fn is(&self, other: &str) -> bool {
        if self.escaped { self.chars().eq(other.chars()) } else { self.raw == other }
    }

    /// The characters of the string, its escapes decoded.
    pub(crate) fn chars(&self) -> impl Iterator<Item = char> + 'a {
        let mut raw = self.raw.chars();
        std::iter::from_fn(move || match raw.next()? {
            '\\' => unescape(&mut raw),
            plain => Some(plain),
        })
    }
}

/// Decodes what follows a backslash. The scanner has accepted it, so `None` does not come up.
fn unescape(raw: &mut std::str::Chars<'_>) -> Option<char> {
    Some(match raw.next()? {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let unit = hex4(raw)?;
            if !(0xd800..0xdc00).contains(&unit) {
                return char::from_u32(unit);
            }
            raw.next()?;
            raw.next()?;
            let low = hex4(raw)?.checked_sub(0xdc00)?;
            char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + low)?
        }
        itself => itself,
    })
}

fn hex4(raw: &mut std::str::Chars<'_>) -> Option<u32> {
    let mut unit = 0;
    for _ in 0..4 {
        unit = unit << 4 | raw.next()?.to_digit(16)?;
    }
    Some(unit)
}

/// A position in a JSON text.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    /// Steps over `byte` if it comes next.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Steps over `byte`, which must come next.
    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), ScanError> {
        if self.eat(byte) { Ok(()) } else { Err(self.syntax()) }
    }

    /// Steps over whitespace, after which the text must end.
    pub(crate) fn expect_end(&mut self) -> Result<(), ScanError> {
        self.skip_whitespace();
        if self.at == self.text.len() { Ok(()) } else { Err(self.syntax()) }
    }

    /// Steps over a member's name, the colon, and the whitespace around it.
    pub(crate) fn name(&mut self) -> Result<Text<'a>, ScanError> {
        if self.peek() != Some(b'"') {
            return Err(self.syntax());
        }
        let name = self.string()?;
        self.skip_whitespace();
        self.expect(b':')?;
        self.skip_whitespace();
        Ok(name)
    }

    /// Steps over a value, which starts here, inside `depth` levels of others.
    pub(crate) fn value(&mut self, depth: usize) -> Result<Value<'a>, ScanError> {
        match self.peek() {
            Some(b'{' | b'[') => self.container(depth).map(|()| Value::Other),
            _ => self.scalar(),
        }
    }

    fn scalar(&mut self) -> Result<Value<'a>, ScanError> {
        match self.peek() {
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => Err(self.syntax()),
        }
    }

    fn literal(&mut self, literal: &str) -> Result<Value<'a>, ScanError> {
        for byte in literal.bytes() {
            self.expect(byte)?;
        }
        Ok(Value::Other)
    }

    fn number(&mut self) -> Result<Value<'a>, ScanError> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        let integer = &self.text[start..self.at];
        let mut value = Value::Integer(integer);
        if self.eat(b'.') {
            self.digits()?;
            value = Value::Other;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
            value = Value::Other;
        }
        Ok(value)
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.syntax()) }
    }

    /// Steps over a string, whose opening quote is here.
    fn string(&mut self) -> Result<Text<'a>, ScanError> {
        let start = self.at + 1;
        self.at = start;
        let mut escaped = false;
        loop {
            self.at = find_special(self.text.as_bytes(), self.at);
            match self.peek() {
                Some(b'"') => {
                    let raw = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(Text { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    self.escape()?;
                }
                // A raw control character, or the end of the text.
                _ => return Err(self.syntax()),
            }
        }
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                let start = self.at;
                let lone = ScanError::Syntax { at: start };
                match self.code_unit()? {
                    0xd800..0xdc00 => {
                        self.expect(b'\\')?;
                        if self.peek() != Some(b'u') {
                            return Err(self.syntax());
                        }
                        if (0xdc00..0xe000).contains(&self.code_unit()?) { Ok(()) } else { Err(lone) }
                    }
                    0xdc00..0xe000 => Err(lone),
                    _ => Ok(()),
                }
            }
            _ => Err(self.syntax()),
        }
    }

    /// Steps over the `u` that is here and its four digits: one UTF-16 code unit.
    fn code_unit(&mut self) -> Result<u32, ScanError> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit << 4 | digit.ok_or_else(|| self.syntax())?;
            self.at += 1;
        }
        Ok(unit)
    }

    /// Steps over an object or array, which starts here, inside `depth` levels of others.
    fn container(&mut self, depth: usize) -> Result<(), ScanError> {
        let mut open = Nesting { objects: [0; 8], depth };
        loop {
            // A value starts here.
            if self.eat(b'{') {
                open.push(true)?;
                self.skip_whitespace();
                if !self.eat(b'}') {
                    self.name()?;
                    continue;
                }
                open.depth -= 1;
            } else if self.eat(b'[') {
                open.push(false)?;
                self.skip_whitespace();
                if !self.eat(b']') {
                    continue;
                }
                open.depth -= 1;
            } else {
                self.scalar()?;
            }
            // A value has ended, and with it perhaps what it is in.
            while open.depth > depth {
                self.skip_whitespace();
                let in_object = open.in_object();
                if self.eat(b',') {
                    self.skip_whitespace();
                    if in_object {
                        self.name()?;
                    }
                    break;
                }
                self.expect(if in_object { b'}' } else { b']' })?;
                open.depth -= 1;
            }
            if open.depth == depth {
                return Ok(());
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    const fn syntax(&self) -> ScanError {
        ScanError::Syntax { at: self.at }
    }
}

/// What is open: one bit a level, set for an object, clear for an array.
struct Nesting {
    objects: [u64; (MAX_DEPTH + 1) / 64],
    depth: usize,
}

impl Nesting {
    fn push(&mut self, object: bool) -> Result<(), ScanError> {
        if self.depth == MAX_DEPTH {
            return Err(ScanError::TooDeep);
        }
        let bit = 1 << (self.depth % 64);
        let word = &mut self.objects[self.depth / 64];
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
        Ok(())
    }

    const fn in_object(&self) -> bool {
        let level = self.depth - 1;
        self.objects[level / 64] >> (level % 64) & 1 == 1
    }
}

/// The offset, from `at` on, of the next byte that means something inside a string: a quote, a backslash or
/// a control character. The length of `bytes` when there is none.
pub(crate) fn find_special(bytes: &[u8], mut at: usize) -> usize {
    const LOW: u64 = u64::MAX / 255; // 0x01 in every byte
    const HIGH: u64 = LOW << 7; // 0x80 in every byte

    // Sets the high bit of each byte below `limit`. A borrow can also set bits above such a byte, never
    // below, so the lowest bit set is right; bytes of 0x80 and more are excluded by `!word`.
    const fn below(word: u64, limit: u64) -> u64 {
        word.wrapping_sub(LOW * limit) & !word & HIGH
    }

    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*chunk);
        let quote = below(word ^ (LOW * b'"' as u64), 1);
        let backslash = below(word ^ (LOW * b'\\' as u64), 1);
        let found = quote | backslash | below(word, 0x20);
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..0x20) {
            break;
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Result<Value<'_>, ScanError> {
        let mut scanner = Scanner::new(text);
        scanner.skip_whitespace();
        let value = scanner.value(0)?;
        scanner.expect_end()?;
        Ok(value)
    }

    #[test]
    fn special_bytes_are_found_at_every_position() {
        for special in (0..0x20).chain([b'"', b'\\']) {
            for len in 1..40 {
                for at in 0..len {
                    let mut bytes = vec![b'a'; len];
                    bytes[at] = special;
                    // What follows must not be taken for it, nor bytes that are almost special.
                    bytes[..at]
                        .iter_mut()
                        .zip([b'!', b'#', b'[', b']', b' ', 0x7f, 0x80, 0x9f, 0xff].iter().cycle())
                        .for_each(|(byte, near)| *byte = *near);
                    assert_eq!(find_special(&bytes, 0), at);
                }
            }
        }
        assert_eq!(find_special(&[b' '; 21], 0), 21);
    }

    #[test]
    fn whitespace_is_allowed_between_tokens_only() {
        assert_eq!(scan(" \t\r\n{ \"a\" : [ 1 , { } , [ ] ] , \"b\" : null } "), Ok(Value::Other));
        assert_eq!(scan("1 2"), Err(ScanError::Syntax { at: 2 }));
        assert_eq!(scan("- 1"), Err(ScanError::Syntax { at: 1 }));
        assert_eq!(scan("\u{a0}1"), Err(ScanError::Syntax { at: 0 }));
    }

    #[test]
    fn numbers_follow_the_grammar() {
        for integer in ["0", "-0", "7", "-12", "123456789012345678901234567890"] {
            assert_eq!(scan(integer), Ok(Value::Integer(integer)));
        }
        for number in ["0.0", "-1.5", "1e0", "1E+9", "1.25e-400"] {
            assert_eq!(scan(number), Ok(Value::Other), "{number}");
        }
        for bad in ["007", "-", "+1", ".5", "1.", "1e", "1e+", "0x1", "-01", "NaN", "Infinity"] {
            assert!(matches!(scan(bad), Err(ScanError::Syntax { .. })), "{bad}");
        }
    }

    #[test]
    fn broken_structure_is_refused_where_it_breaks() {
        for (bad, at) in [
            ("", 0),
            ("[", 1),
            ("[1", 2),
            ("[1,]", 3),
            ("[,1]", 1),
            ("[1 2]", 3),
            ("{", 1),
            ("{,}", 1),
            ("{\"a\"}", 4),
            ("{\"a\":}", 5),
            ("{\"a\":1,}", 7),
            ("{\"a\":1]", 6),
            ("[1}", 2),
            ("{1:1}", 1),
            ("tru", 3),
            ("nulL", 3),
            ("\"abc", 4),
            ("\"a\nb\"", 2),
            ("\"\\x\"", 2),
            ("[]]", 2),
        ] {
            assert_eq!(scan(bad), Err(ScanError::Syntax { at }), "{bad}");
        }
    }

    #[test]
    fn escapes_are_decoded_and_lone_surrogates_refused() {
        let Ok(Value::String(text)) = scan(r#""\"\\\/\b\f\n\r\t\u00e9\uD83d\uDe00\u0000x微""#) else {
            panic!("a string")
        };
        assert_eq!(text.chars().collect::<String>(), "\"\\/\u{8}\u{c}\n\r\té😀\0x微");
        for lone in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800x""#,
            r#""\ud800\n""#,
            r#""\ud800\u0041""#,
            r#""\ud83d\ud83d""#,
        ] {
            assert!(matches!(scan(lone), Err(ScanError::Syntax { .. })), "{lone}");
        }
    }

    #[test]
    fn the_512th_level_is_too_deep() {
        let nested =
            |open: &str, close: &str, levels: usize| open.repeat(levels) + "0" + &close.repeat(levels);
        assert_eq!(scan(&nested("[", "]", 511)), Ok(Value::Other));
        assert_eq!(scan(&nested("[", "]", 512)), Err(ScanError::TooDeep));
        assert_eq!(scan(&nested("{\"a\":", "}", 511)), Ok(Value::Other));
        assert_eq!(scan(&nested("{\"a\":", "}", 512)), Err(ScanError::TooDeep));
        assert_eq!(scan(&"[".repeat(1 << 20)), Err(ScanError::TooDeep));
    }

    #[test]
    fn mixed_nesting_closes_what_it_opened() {
        let text = "[{\"a\":[[{\"b\":{}}],[]]},[{\"c\":1}]]";
        assert_eq!(scan(text), Ok(Value::Other));
        for (i, byte) in text.bytes().enumerate() {
            let swapped = match byte {
                b'}' => "]",
                b']' => "}",
                _ => continue,
            };
            let mut broken = text.to_owned();
            broken.replace_range(i..=i, swapped);
            assert!(scan(&broken).is_err(), "{broken}");
        }
    }
}
