//! A message's new envelope and its log record: `streams/domain/envelope.py` and `log_record.py` for what is sound.
//!
//! Whatever is not is an `Err` with a word for the metric; Python then does the message, and says what is wrong.

use crate::json::{Field, Floats, Json, Read, Span, write_string};
use crate::time;
use std::io::Write;

const PARTS: [&[u8]; 4] = [b"queue", b"routing_domain", b"tenant", b"campaign"];
const SAVED: &[u8] = b"xfer_queue_info";
const XFER_SUFFIX: &[u8] = b".xfer.kumomta.internal";
const LONGEST_NAME: usize = 1024;
const NOT_SOUND: &str = "not_sound";
const NAME: &str = "name";

/// What is the same for all messages of a claim; the texts as they stand in JSON, without quotes.
pub struct Fixed {
    pub saves: bool,
    pub from_queue: Vec<u8>,
    pub xfer_queue: Vec<u8>,
    pub response_head: Vec<u8>,
    pub response_tail: Vec<u8>,
    pub node_id: Vec<u8>,
    /// Metadata that the log carries: a name, and whether it stands for all that begin like it.
    pub log_meta: Vec<(Vec<u8>, bool)>,
    pub floats: Option<Floats>,
}

/// What is the same for all that are worked on at the same moment: as JSON.
#[derive(Default)]
pub struct Moment {
    pub now: Vec<u8>,
    pub log_times: Vec<u8>,
    pub ms: i64,
}

/// Filled again for each message; `envelope`, `log` and `queue` are the results.
#[derive(Default)]
pub struct Scratch {
    text: Vec<u8>,
    top: Vec<Field>,
    meta: Vec<Field>,
    info: Vec<Field>,
    new_meta: Vec<Field>,
    pub envelope: Vec<u8>,
    pub log: Vec<u8>,
    pub queue: Vec<u8>,
}

pub struct Message<'a> {
    pub envelope: &'a [u8],
    pub key: Option<&'a [u8]>,
    pub size: usize,
    /// Its headers for the log, as JSON.
    pub headers: &'a [u8],
}

/// What was read of an envelope, in its canonical text.
struct Found<'a> {
    text: &'a [u8],
    top: &'a [Field],
    meta: &'a [Field],
    info: &'a [Field],
}

impl<'a> Found<'a> {
    fn of(&self, span: &Span) -> &'a [u8] {
        &self.text[span.clone()]
    }

    /// The value of a field as JSON; none of null.
    fn find(&self, fields: &[Field], name: &[u8]) -> Option<&'a [u8]> {
        let field = fields.iter().find(|field| self.of(&field.key) == name)?;
        Some(self.of(&field.value)).filter(|value| *value != b"null")
    }

    fn created(&self) -> Read<time::Time> {
        self.find(self.top, b"created").and_then(as_text).and_then(time::parse).ok_or("time")
    }

    fn require_time(&self, fields: &[Field]) -> Read<()> {
        match self.find(fields, b"due") {
            Some(due) => as_text(due).and_then(time::parse).map(drop).ok_or("time"),
            None => Ok(()),
        }
    }

    fn schedule(&self, fields: &[Field]) -> Read<Option<&'a [u8]>> {
        let found = self.find(fields, b"schedule");
        if found.is_some_and(|value| value[0] != b'{') { Err(NOT_SOUND) } else { Ok(found) }
    }

    /// The parts of a queue's name in these fields, with their quotes.
    fn parts(&self, fields: &[Field]) -> Read<[Option<&'a [u8]>; 4]> {
        let found = PARTS.map(|name| self.find(fields, name));
        if found.iter().flatten().any(|part| part[0] != b'"') { Err(NOT_SOUND) } else { Ok(found) }
    }
}

fn as_text(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// A whole number from 0 to 65535.
fn attempts(value: &[u8]) -> Read<&[u8]> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u16>().ok());
    if number.is_some() { Ok(value) } else { Err(NOT_SOUND) }
}

/// The first recipient, and what the log has: the only one by itself, or all of them.
fn recipients(value: &[u8]) -> Read<(&[u8], &[u8])> {
    if let Some(only) = as_text(value) {
        return Ok((only, value));
    }
    let mut rest = value.strip_prefix(b"[").ok_or(NOT_SOUND)?;
    let mut first = None;
    loop {
        let inner = rest.strip_prefix(b"\"").ok_or(NOT_SOUND)?;
        let mut end = 0;
        while inner[end] != b'"' {
            end += if inner[end] == b'\\' { 2 } else { 1 };
        }
        let is_first = first.is_none();
        let first = *first.get_or_insert(&inner[..end]);
        rest = match inner[end + 1..].split_first() {
            Some((b',', rest)) => rest,
            _ if is_first => return Ok((first, &value[1..value.len() - 1])),
            _ => return Ok((first, value)),
        };
    }
}

/// Writes one JSON object.
struct Object<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Object<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Object { out }
    }

    fn key(&mut self, name: &[u8]) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b"\":");
    }

    fn add(&mut self, name: &[u8], value: &[u8]) {
        self.key(name);
        self.out.extend_from_slice(value);
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

/// The new metadata, whose fields are noted for the log.
struct Meta<'a, 'b> {
    object: Object<'a>,
    fields: &'b mut Vec<Field>,
}

impl Meta<'_, '_> {
    fn add_by(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.object.key(name);
        let start = self.object.out.len();
        write(self.object.out);
        let key = start - 2 - name.len()..start - 2;
        self.fields.push(Field { key, value: start..self.object.out.len() });
    }

    fn add(&mut self, name: &[u8], value: &[u8]) {
        self.add_by(name, |out| out.extend_from_slice(value));
    }
}

/// Fill `scratch` for one message; `due` tells when a schedule permits it, as JSON, or that it is none.
pub fn rebind(
    message: &Message,
    fixed: &Fixed,
    moment: &Moment,
    scratch: &mut Scratch,
    due: &mut dyn FnMut(&[u8]) -> Read<Vec<u8>>,
) -> Read<()> {
    let Scratch { text, top, meta, info, new_meta, envelope, log, queue } = scratch;
    for buffer in [&mut *envelope, &mut *log, &mut *queue] {
        buffer.clear();
    }
    for fields in [&mut *top, &mut *meta, &mut *info, &mut *new_meta] {
        fields.clear();
    }
    let mut json = Json::new(message.envelope, text, fixed.floats)?;
    json.fields(0, &mut [(b"", top), (b"meta", meta), (SAVED, info)])?;
    json.end()?;
    let found = Found { text, top, meta, info };
    // What `parse_envelope` asks for.
    let sender = found.find(top, b"sender").filter(|value| value[0] == b'"').ok_or(NOT_SOUND)?;
    let (recipient, recipients) = recipients(found.find(top, b"recipient").ok_or(NOT_SOUND)?)?;
    found.find(top, b"meta").filter(|value| value[0] == b'{').ok_or(NOT_SOUND)?;
    let tries = attempts(found.find(top, b"num_attempts").ok_or(NOT_SOUND)?)?;
    let created = found.created()?;
    found.require_time(top)?;
    let schedule = found.schedule(top)?;
    let tries = if fixed.saves {
        queue.extend_from_slice(&fixed.xfer_queue);
        save(&found, fixed, schedule, tries, envelope, new_meta, due)?;
        tries
    } else {
        restore(&found, fixed, moment, recipient, queue, envelope, new_meta, due)?
    };
    // The log record.
    let id = std::str::from_utf8(message.key.unwrap_or(b"")).map_err(|_| "key")?;
    log.extend_from_slice(b"{\"type\":\"AdminRebind\",\"id\":");
    write_string(id, log);
    for part in [b",\"sender\":", sender, b",\"recipient\":", recipients, b",\"queue\":\"", queue] {
        log.extend_from_slice(part);
    }
    // Writing to a Vec can't fail.
    let _ = write!(log, "\",\"site\":\"\",\"size\":{},\"response\":", message.size);
    let (head, tail) = (&fixed.response_head, &fixed.response_tail);
    for part in [head, &*queue, tail, &b",\"peer_address\":null,"[..], &moment.log_times, b","] {
        log.extend_from_slice(part);
    }
    created.write_created(log);
    log.extend_from_slice(b",\"num_attempts\":");
    log.extend_from_slice(tries);
    log.extend_from_slice(
        b",\"bounce_classification\":\"Uncategorized\",\"egress_pool\":null,\"egress_source\":null,\
          \"source_address\":null,\"feedback_report\":null,\"meta\":",
    );
    write_carried(&fixed.log_meta, envelope, new_meta, log);
    let protocol = found.find(meta, b"reception_protocol").filter(|value| value[0] == b'"');
    for part in [
        b",\"headers\":",
        message.headers,
        b",\"delivery_protocol\":null,\"reception_protocol\":",
        protocol.unwrap_or(b"null"),
        b",\"nodeid\":",
        &fixed.node_id,
        b"}",
    ] {
        log.extend_from_slice(part);
    }
    Ok(())
}

/// See `restore` in `streams/domain/envelope.py`; the number of attempts.
#[allow(clippy::too_many_arguments)]
fn restore<'a>(
    found: &Found<'a>,
    fixed: &Fixed,
    moment: &Moment,
    recipient: &[u8],
    queue: &mut Vec<u8>,
    out: &mut Vec<u8>,
    new_meta: &mut Vec<Field>,
    due: &mut dyn FnMut(&[u8]) -> Read<Vec<u8>>,
) -> Read<&'a [u8]> {
    found.find(found.meta, SAVED).filter(|value| value[0] == b'{').ok_or(NOT_SOUND)?;
    let parts = found.parts(found.info)?;
    let tries = match found.info.iter().find(|field| found.of(&field.key) == b"num_attempts") {
        Some(field) => attempts(found.of(&field.value))?,
        None => b"0",
    };
    found.require_time(found.info)?;
    let schedule = found.schedule(found.info)?;
    write_name(parts.map(|part| part.and_then(as_text)), recipient, queue)?;
    if queue.ends_with(XFER_SUFFIX) || *queue == fixed.from_queue {
        return Err(NOT_SOUND);
    }
    let due = match schedule {
        Some(schedule) => due(schedule)?,
        None => moment.now.clone(),
    };
    let mut object = Object::new(out);
    let (mut has_due, mut has_schedule) = (false, false);
    for field in found.top {
        let (name, value) = (found.of(&field.key), found.of(&field.value));
        match name {
            b"meta" => {
                object.key(name);
                let mut meta = Meta { object: Object::new(object.out), fields: new_meta };
                let mut left = parts;
                for field in found.meta {
                    let (name, value) = (found.of(&field.key), found.of(&field.value));
                    if let Some(part) = PARTS.iter().position(|part| *part == name) {
                        if let Some(value) = left[part].take() {
                            meta.add(name, value);
                        }
                    } else if name != SAVED {
                        meta.add(name, value);
                    }
                }
                for (name, value) in PARTS.iter().zip(left) {
                    if let Some(value) = value {
                        meta.add(name, value);
                    }
                }
                meta.object.end();
            }
            b"num_attempts" => object.add(name, tries),
            b"due" => {
                has_due = true;
                object.add(name, &due);
            }
            b"schedule" => {
                has_schedule = true;
                object.add(name, schedule.unwrap_or(b"null"));
            }
            _ => object.add(name, value),
        }
    }
    if !has_due {
        object.add(b"due", &due);
    }
    if let (false, Some(schedule)) = (has_schedule, schedule) {
        object.add(b"schedule", schedule);
    }
    object.end();
    Ok(tries)
}

/// The name of the queue: see `_queue` in `streams/domain/envelope.py`.
fn write_name(parts: [Option<&[u8]>; 4], recipient: &[u8], queue: &mut Vec<u8>) -> Read<()> {
    let [name, routing_domain, tenant, campaign] = parts;
    let domain = if let Some(name) = name {
        queue.extend_from_slice(name);
        memchr::memchr(b'@', name).map_or(name, |at| &name[at + 1..])
    } else {
        let at = memchr::memrchr(b'@', recipient).ok_or(NOT_SOUND)?;
        let domain = &recipient[at + 1..];
        if !domain.is_ascii() {
            return Err(NAME);
        }
        if let Some(campaign) = campaign {
            queue.extend_from_slice(campaign);
            queue.push(b':');
        }
        if tenant.is_some() || campaign.is_some() {
            queue.extend_from_slice(tenant.unwrap_or(b""));
            queue.push(b'@');
        }
        queue.extend(domain.iter().map(u8::to_ascii_lowercase));
        if let Some(routing_domain) = routing_domain {
            queue.push(b'!');
            queue.extend_from_slice(routing_domain);
        }
        domain
    };
    if memchr::memchr(b'\\', queue).is_some() {
        return Err(NAME); // not as it stands in JSON
    }
    if domain.is_empty() || domain[0] == b'!' || queue.len() > LONGEST_NAME {
        return Err(NOT_SOUND);
    }
    Ok(())
}

/// See `save` in `streams/domain/envelope.py`.
fn save(
    found: &Found,
    fixed: &Fixed,
    schedule: Option<&[u8]>,
    tries: &[u8],
    out: &mut Vec<u8>,
    new_meta: &mut Vec<Field>,
    due: &mut dyn FnMut(&[u8]) -> Read<Vec<u8>>,
) -> Read<()> {
    let is_transferred = fixed.from_queue.ends_with(XFER_SUFFIX);
    let parts = if is_transferred { [None; 4] } else { found.parts(found.meta)? };
    if let (false, Some(schedule)) = (is_transferred, schedule) {
        due(schedule)?;
    }
    let write_info = |out: &mut Vec<u8>| {
        let mut info = Object::new(out);
        for (name, value) in PARTS.iter().zip(parts) {
            if let Some(value) = value {
                info.add(name, value);
            }
        }
        if let Some(schedule) = schedule {
            info.add(b"schedule", schedule);
        }
        info.add(b"num_attempts", tries);
        if let Some(due) = found.find(found.top, b"due") {
            info.add(b"due", due);
        }
        info.end();
    };
    let write_queue = |out: &mut Vec<u8>| {
        out.push(b'"');
        out.extend_from_slice(&fixed.xfer_queue);
        out.push(b'"');
    };
    let mut object = Object::new(out);
    for field in found.top {
        let (name, value) = (found.of(&field.key), found.of(&field.value));
        match name {
            b"meta" => {
                object.key(name);
                let mut meta = Meta { object: Object::new(object.out), fields: new_meta };
                let (mut has_info, mut has_queue) = (is_transferred, false);
                for field in found.meta {
                    let (name, value) = (found.of(&field.key), found.of(&field.value));
                    if is_transferred && name == PARTS[0] {
                        has_queue = true;
                        meta.add_by(name, write_queue);
                    } else if !is_transferred && name == SAVED {
                        has_info = true;
                        meta.add_by(name, write_info);
                    } else if is_transferred || !PARTS.contains(&name) {
                        meta.add(name, value);
                    }
                }
                if !has_info {
                    meta.add_by(SAVED, write_info);
                }
                if !has_queue {
                    meta.add_by(PARTS[0], write_queue);
                }
                meta.object.end();
            }
            b"due" => object.add(name, b"null"),
            b"schedule" if !is_transferred => object.add(name, b"null"),
            _ => object.add(name, value),
        }
    }
    object.end();
    Ok(())
}

/// See `_carried` in `streams/domain/log_record.py`.
fn write_carried(names: &[(Vec<u8>, bool)], envelope: &[u8], meta: &[Field], out: &mut Vec<u8>) {
    let mut object = Object::new(out);
    let mut carried: Vec<&Span> = Vec::new();
    for (name, is_prefix) in names {
        for field in meta {
            let (key, value) = (&envelope[field.key.clone()], &envelope[field.value.clone()]);
            let is_meant = if *is_prefix { key.starts_with(name) } else { key == name && value != b"null" };
            if is_meant && !carried.contains(&&field.key) {
                carried.push(&field.key);
                object.add(key, value);
            }
        }
    }
    object.end();
}
