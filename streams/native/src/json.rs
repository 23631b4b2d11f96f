//! JSON of any encoder, written as orjson writes it: one pass that checks, copies and notes where the fields are.
//!
//! What orjson refuses, and the few things that it changes, are an `Err` with a word for the metric: Python's, then.

use std::fmt::Write;
use std::ops::Range;

pub type Span = Range<usize>;
pub type Read<T> = Result<T, &'static str>;

const DEPTH: usize = 64;
const FIELDS: usize = 256;
/// The fields of objects down to there are kept: the envelope's, its metadata's, those of the saved info.
const NOTED: usize = 3;
const INVALID: &str = "invalid_json";

/// A field of an object at that depth, as it was written: its key without the quotes, its value with them.
pub struct Field {
    pub depth: usize,
    pub key: Span,
    pub value: Span,
}

/// How the installed orjson writes floats.
#[derive(Clone, Copy)]
pub struct Floats {
    pub plus: bool,
}

pub struct Json<'a> {
    from: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
    floats: Option<Floats>,
    /// In their order, what is within a field behind it.
    fields: &'a mut Vec<Field>,
}

impl<'a> Json<'a> {
    /// Of `from`, an object, into `out`, with its fields; without `floats` there may be none.
    pub fn read(from: &'a [u8], out: &'a mut Vec<u8>, fields: &'a mut Vec<Field>, floats: Option<Floats>) -> Read<()> {
        std::str::from_utf8(from).map_err(|_| INVALID)?;
        out.clear();
        fields.clear();
        out.reserve(from.len());
        let mut json = Json { from, at: 0, out, floats, fields };
        json.next();
        json.object(0)?;
        if json.next().is_none() {
            Ok(())
        } else {
            Err(INVALID)
        }
    }

    fn peek(&self) -> Option<u8> {
        self.from.get(self.at).copied()
    }

    /// The next character that is no white space.
    fn next(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    fn take(&mut self, c: u8) -> Read<()> {
        if self.next() != Some(c) {
            return Err(INVALID);
        }
        self.at += 1;
        self.out.push(c);
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Read<()> {
        match self.next() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &[u8]) -> Read<()> {
        if !self.from[self.at..].starts_with(word) {
            return Err(INVALID);
        }
        self.at += word.len();
        self.out.extend_from_slice(word);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Read<()> {
        self.take(b'[')?;
        if depth >= DEPTH {
            return Err("nested_deeply");
        }
        if self.next() != Some(b']') {
            self.value(depth + 1)?;
            while self.next() == Some(b',') {
                self.take(b',')?;
                self.value(depth + 1)?;
            }
        }
        self.take(b']')
    }

    fn object(&mut self, depth: usize) -> Read<()> {
        self.take(b'{')?;
        if depth >= DEPTH {
            return Err("nested_deeply");
        }
        let first = self.fields.len();
        if self.next() != Some(b'}') {
            self.field(depth, first)?;
            while self.next() == Some(b',') {
                self.take(b',')?;
                self.field(depth, first)?;
            }
        }
        if depth >= NOTED {
            self.fields.truncate(first);
        }
        self.take(b'}')
    }

    /// A field of an object whose first one that is.
    fn field(&mut self, depth: usize, first: usize) -> Read<()> {
        if self.next() != Some(b'"') {
            return Err(INVALID);
        }
        let key = self.string()?;
        let text = &self.out[key.clone()];
        let mut alike = self.fields[first..].iter().filter(|field| field.depth == depth);
        // orjson keeps the first place and the last value of a key that comes twice: rare enough for Python.
        if alike.clone().any(|field| field.key.len() == text.len() && &self.out[field.key.clone()] == text) {
            return Err("duplicate_key");
        }
        if alike.nth(FIELDS).is_some() {
            return Err("many_keys");
        }
        self.take(b':')?;
        let (number, start) = (self.fields.len(), self.out.len());
        self.fields.push(Field { depth, key, value: start..start });
        self.value(depth + 1)?;
        self.fields[number].value.end = self.out.len();
        Ok(())
    }

    /// The string at hand; its span without the quotes.
    fn string(&mut self) -> Read<Span> {
        self.take(b'"')?;
        let start = self.out.len();
        loop {
            let plain = plain_length(&self.from[self.at..]);
            self.out.extend_from_slice(&self.from[self.at..self.at + plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                _ => return Err(INVALID),
            }
        }
        let end = self.out.len();
        self.take(b'"')?;
        Ok(start..end)
    }

    fn escape(&mut self) -> Read<()> {
        let code = *self.from.get(self.at + 1).ok_or(INVALID)?;
        self.at += 2;
        let c = match code {
            b'"' | b'\\' | b'/' => char::from(code),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode()?,
            _ => return Err(INVALID),
        };
        write_char(c, self.out);
        Ok(())
    }

    /// What stands behind `\u`, perhaps with the second half of a pair.
    fn unicode(&mut self) -> Read<char> {
        let mut code = self.hex()?;
        if (0xd800..0xdc00).contains(&code) && self.from[self.at..].starts_with(b"\\u") {
            self.at += 2;
            let low = self.hex()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(INVALID);
            }
            code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        char::from_u32(code).ok_or(INVALID)
    }

    fn hex(&mut self) -> Read<u32> {
        let digits = self.from.get(self.at..self.at + 4).ok_or(INVALID)?;
        self.at += 4;
        digits.iter().try_fold(0, |n, &c| Ok(n * 16 + char::from(c).to_digit(16).ok_or(INVALID)?))
    }

    fn digits(&mut self) -> Read<usize> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start {
            Ok(self.at - start)
        } else {
            Err(INVALID)
        }
    }

    fn number(&mut self) -> Read<()> {
        let start = self.at;
        let is_negative = self.peek() == Some(b'-');
        self.at += usize::from(is_negative);
        let leads_with_zero = self.peek() == Some(b'0');
        if self.digits()? > 1 && leads_with_zero {
            return Err(INVALID);
        }
        let mut is_float = false;
        if self.peek() == Some(b'.') {
            is_float = true;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            is_float = true;
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let text = std::str::from_utf8(&self.from[start..self.at]).map_err(|_| INVALID)?;
        if is_float {
            let floats = self.floats.ok_or("float")?;
            let number: f64 = text.parse().map_err(|_| INVALID)?;
            if !number.is_finite() {
                return Err("infinite");
            }
            write_float(number, floats, self.out);
        } else if text == "-0" {
            self.out.push(b'0');
        } else if if is_negative { text.parse::<i64>().is_err() } else { text.parse::<u64>().is_err() } {
            return Err("large_integer");
        } else {
            self.out.extend_from_slice(text.as_bytes());
        }
        Ok(())
    }
}

/// How many bytes there are before the first quote, backslash or control character: eight at a time.
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    for chunk in bytes.chunks_exact(8) {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        let x = u64::from_le_bytes(eight);
        let (quote, slash) = (x ^ (ONES * 0x22), x ^ (ONES * 0x5c));
        let found = (quote.wrapping_sub(ONES) & !quote)
            | (slash.wrapping_sub(ONES) & !slash)
            | (x.wrapping_sub(ONES * 0x20) & !x);
        if found & HIGH != 0 {
            // The lowest one is right; what lies above it may be a borrow.
            return at + ((found & HIGH).trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|&&c| c >= 0x20 && c != b'"' && c != b'\\').count()
}

fn write_char(c: char, out: &mut Vec<u8>) {
    let short = match c {
        '"' | '\\' => c,
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\0'..='\u{1f}' => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let code = c as usize;
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[code >> 4], HEX[code & 15]]);
            return;
        }
        _ => return out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    };
    out.extend_from_slice(&[b'\\', short as u8]);
}

/// A text with its quotes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    if plain_length(text.as_bytes()) == text.len() {
        out.extend_from_slice(text.as_bytes());
    } else {
        text.chars().for_each(|c| write_char(c, out));
    }
    out.push(b'"');
}

/// The shortest digits that give this number, laid out as orjson does.
pub fn write_float(number: f64, floats: Floats, out: &mut Vec<u8>) {
    if number == 0.0 {
        return out.extend_from_slice(if number.is_sign_negative() { b"-0.0" } else { b"0.0" });
    }
    let mut text = String::new();
    // Of a String this can't fail; what is not written would show in the comparison at the start.
    let _ = write!(text, "{:e}", number.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    if number < 0.0 {
        out.push(b'-');
    }
    if (0..16).contains(&exponent) {
        let whole = exponent as usize + 1;
        out.extend((0..whole).map(|n| digits.get(n).copied().unwrap_or(b'0')));
        out.push(b'.');
        out.extend_from_slice(digits.get(whole..).filter(|rest| !rest.is_empty()).unwrap_or(b"0"));
    } else if (-5..0).contains(&exponent) {
        out.extend_from_slice(b"0.");
        out.extend((1..-exponent).map(|_| b'0'));
        out.extend_from_slice(&digits);
    } else {
        out.extend_from_slice(mantissa.as_bytes());
        out.push(b'e');
        if floats.plus && exponent > 0 {
            out.push(b'+');
        }
        out.extend_from_slice(exponent.to_string().as_bytes());
    }
}
