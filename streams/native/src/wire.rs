//! Record batches of format 2 (KIP-98).

pub const ENVELOPE: &[u8] = b"envelope";
pub const HEAD: usize = 61;
pub const CHECKED: usize = 21;
/// Bytes up to the end of the length, which it does not count.
pub const BEFORE_LENGTH: usize = 12;

pub fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// A signed number as protocol buffers write it.
pub fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut found = 0u64;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        found |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((found >> 1) as i64 ^ -((found & 1) as i64));
        }
    }
    None
}

pub fn put_varint(number: i64, out: &mut Vec<u8>) {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

fn varint_length(number: i64) -> usize {
    let zigzag = ((number << 1) ^ (number >> 63)) as u64;
    (70 - (zigzag | 1).leading_zeros() as usize) / 7
}

/// A field with its length in front, -1 for null.
pub fn field<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint(bytes)?;
    if length == -1 {
        return Some(None);
    }
    let (found, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(Some(found))
}

pub fn put_field(content: Option<&[u8]>, out: &mut Vec<u8>) {
    put_varint(content.map_or(-1, |content| content.len() as i64), out);
    out.extend_from_slice(content.unwrap_or(b""));
}

/// A record; `before` and `after` are the headers around the envelope's, as they are.
pub struct Record<'a> {
    pub since_ms: i64,
    pub delta: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub header_count: i64,
    pub headers: &'a [u8],
    pub before: &'a [u8],
    pub envelope: Option<&'a [u8]>,
    pub after: &'a [u8],
    pub envelopes: usize,
}

/// The record of exactly these bytes; none, where another reader might see another one.
pub fn parse(mut bytes: &[u8]) -> Option<Record<'_>> {
    let rest = &mut bytes;
    if rest.first()? & 0x80 != 0 {
        return None;
    }
    *rest = &rest[1..];
    let (since_ms, delta) = (varint(rest)?, varint(rest)?);
    let (key, value, header_count) = (field(rest)?, field(rest)?, varint(rest)?);
    let headers = *rest;
    let (mut before, mut after, mut envelope, mut envelopes) = (headers, headers, None, 0);
    if header_count < 0 {
        return None;
    }
    for _ in 0..header_count {
        let start = headers.len() - rest.len();
        let (name, content) = (field(rest)??, field(rest)?);
        if name == ENVELOPE {
            (before, after, envelope) = (&headers[..start], *rest, content);
            envelopes += 1;
        }
    }
    if !rest.is_empty() {
        return None;
    }
    Some(Record { since_ms, delta, key, value, header_count, headers, before, envelope, after, envelopes })
}

/// What stands in front of a batch's records.
pub struct Head {
    pub base: i64,
    pub attributes: i16,
    pub last: i32,
    pub first_ms: i64,
    pub latest_ms: i64,
    pub producer: i64,
    pub count: usize,
}

impl Head {
    pub fn next(&self) -> Option<i64> {
        self.base.checked_add(i64::from(self.last))?.checked_add(1)
    }
}

/// Where the batch ends that begins there: an error, where not all of it has come; none, where that can't be told.
pub fn end_of(bytes: &[u8], at: usize) -> Result<Option<usize>, ()> {
    let length = number(bytes, at + 8).map(i32::from_be_bytes).ok_or(())?;
    let Ok(length) = usize::try_from(length) else { return Ok(None) };
    let end = at + BEFORE_LENGTH + length;
    if end <= bytes.len() {
        Ok(Some(end))
    } else {
        Err(())
    }
}

/// The head of a whole batch; none, where it is of another format or corrupt.
pub fn head(batch: &[u8]) -> Option<Head> {
    if batch.len() < HEAD
        || batch[16] != 2
        || u32::from_be_bytes(number(batch, 17)?) != crc32c::crc32c(&batch[CHECKED..])
    {
        return None;
    }
    Some(Head {
        base: i64::from_be_bytes(number(batch, 0)?),
        attributes: i16::from_be_bytes(number(batch, 21)?),
        last: i32::from_be_bytes(number(batch, 23)?),
        first_ms: i64::from_be_bytes(number(batch, 27)?),
        latest_ms: i64::from_be_bytes(number(batch, 35)?),
        producer: i64::from_be_bytes(number(batch, 43)?),
        count: usize::try_from(i32::from_be_bytes(number(batch, 57)?)).ok()?,
    })
}

/// What a new record is made of; `headers` are ready, in pieces, without their number.
pub struct New<'a> {
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub header_count: i64,
    pub headers: &'a [&'a [u8]],
}

/// A batch that is being built: its head comes last.
pub struct Building {
    pub bytes: Vec<u8>,
    pub count: i32,
    first_ms: i64,
    latest_ms: i64,
}

impl Building {
    pub fn new() -> Self {
        Building { bytes: vec![0; HEAD], count: 0, first_ms: 0, latest_ms: 0 }
    }

    /// Add a record; its bytes, or none where it does not fit: the first one always does.
    pub fn add(&mut self, new: &New, limit: usize) -> Option<usize> {
        let is_first = self.count == 0;
        let since_ms = if is_first { 0 } else { new.timestamp.wrapping_sub(self.first_ms) }; // as all readers reckon
        let offset = i64::from(self.count);
        let length_of = |field: Option<&[u8]>| (field.map_or(-1, |f| f.len() as i64), field.map_or(0, <[u8]>::len));
        let ((key, key_bytes), (value, value_bytes)) = (length_of(new.key), length_of(new.value));
        let lengths = [since_ms, offset, key, value, new.header_count].map(varint_length).iter().sum::<usize>();
        let length = 1 + lengths + key_bytes + value_bytes + new.headers.iter().map(|h| h.len()).sum::<usize>();
        let size = varint_length(length as i64) + length;
        if !is_first && self.bytes.len() + size >= limit {
            return None; // aiokafka leaves a byte free, too
        }
        if is_first {
            self.first_ms = new.timestamp;
        }
        self.latest_ms = if is_first { new.timestamp } else { self.latest_ms.max(new.timestamp) };
        let out = &mut self.bytes;
        out.reserve(size);
        put_varint(length as i64, out);
        out.push(0);
        put_varint(since_ms, out);
        put_varint(offset, out);
        put_field(new.key, out);
        put_field(new.value, out);
        put_varint(new.header_count, out);
        new.headers.iter().for_each(|header| out.extend_from_slice(header));
        self.count += 1;
        Some(size)
    }

    /// Write the head; `attributes` hold the codec.
    pub fn finish(&mut self, attributes: i16, producer: (i64, i16, i32)) -> Option<()> {
        let length = i32::try_from(self.bytes.len() - BEFORE_LENGTH).ok()?;
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(&0i64.to_be_bytes());
        head.extend_from_slice(&length.to_be_bytes());
        head.extend_from_slice(&(-1i32).to_be_bytes());
        head.extend_from_slice(&[2, 0, 0, 0, 0]);
        head.extend_from_slice(&attributes.to_be_bytes());
        head.extend_from_slice(&(self.count - 1).to_be_bytes());
        head.extend_from_slice(&self.first_ms.to_be_bytes());
        head.extend_from_slice(&self.latest_ms.to_be_bytes());
        head.extend_from_slice(&producer.0.to_be_bytes());
        head.extend_from_slice(&producer.1.to_be_bytes());
        head.extend_from_slice(&producer.2.to_be_bytes());
        head.extend_from_slice(&self.count.to_be_bytes());
        self.bytes[..HEAD].copy_from_slice(&head);
        let crc = crc32c::crc32c(&self.bytes[CHECKED..]);
        self.bytes[17..CHECKED].copy_from_slice(&crc.to_be_bytes());
        Some(())
    }
}
