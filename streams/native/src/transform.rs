//! A message's new envelope and its log record: `streams/domain/envelope.py` and `log_record.py` for what is sound.
//!
//! Whatever is not is an `Err` with a word for the metric; Python then does the message, and says what is wrong.

use crate::json::{write_string, Field, Floats, Json, Read, Span};
use crate::time;
use std::io::Write;

const META: &[u8] = b"meta";
const SAVED: &[u8] = b"xfer_queue_info";
const QUEUE: &[u8] = b"queue";
const PARTS: [&[u8]; 4] = [QUEUE, b"routing_domain", b"tenant", b"campaign"];
const ATTEMPTS: &[u8] = b"num_attempts";
const DUE: &[u8] = b"due";
const SCHEDULE: &[u8] = b"schedule";
const NULL: &[u8] = b"null";
const XFER_SUFFIX: &[u8] = b".xfer.kumomta.internal";
const LONGEST_NAME: usize = 1024;
const NOT_SOUND: &str = "not_sound";
const NAME: &str = "name";

/// What is the same for all messages of a claim; the texts as they stand in JSON.
pub struct Fixed {
    pub saves: bool,
    /// Without quotes.
    pub from_queue: Vec<u8>,
    /// With them.
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
    fields: Vec<Field>,
    buffer: Vec<u8>,
    meta: Vec<u8>,
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

/// An object, with the ways of a dict: values as JSON, in the order of their keys.
struct Dict<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Dict<'a> {
    /// The object at that depth, within that part of the text.
    fn read(text: &'a [u8], fields: &[Field], depth: usize, within: &Span) -> Self {
        let of_it = fields.iter().filter(|field| field.depth == depth && within.contains(&field.key.start));
        Dict(of_it.map(|field| (&text[field.key.clone()], &text[field.value.clone()])).collect())
    }

    fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// None for null, too.
    fn value(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.get(name).filter(|value| *value != NULL)
    }

    /// The value, which begins like that.
    fn of_kind(&self, name: &[u8], kind: u8) -> Read<&'a [u8]> {
        self.get(name).filter(|value| value[0] == kind).ok_or(NOT_SOUND)
    }

    fn set(&mut self, name: &'a [u8], value: &'a [u8]) {
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some(found) => found.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// Set it, if it is there.
    fn replace(&mut self, name: &'a [u8], value: &'a [u8]) {
        if self.get(name).is_some() {
            self.set(name, value);
        }
    }

    fn pop(&mut self, name: &[u8]) {
        self.0.retain(|(key, _)| *key != name);
    }

    fn attempts(&self) -> Read<Option<&'a [u8]>> {
        let found = self.get(ATTEMPTS);
        let number = found.map(|value| std::str::from_utf8(value).ok().and_then(|text| text.parse::<u16>().ok()));
        if number == Some(None) {
            Err(NOT_SOUND)
        } else {
            Ok(found)
        }
    }

    /// The fields that both an envelope and the saved info have: when it is due has to be a time.
    fn schedule(&self) -> Read<Option<&'a [u8]>> {
        if self.value(DUE).is_some_and(|due| as_text(due).and_then(time::parse).is_none()) {
            return Err("time");
        }
        let found = self.value(SCHEDULE);
        if found.is_some_and(|value| value[0] != b'{') {
            Err(NOT_SOUND)
        } else {
            Ok(found)
        }
    }

    /// The parts of a queue's name.
    fn parts(&self) -> Read<[Option<&'a [u8]>; 4]> {
        let found = PARTS.map(|name| self.value(name));
        if found.iter().flatten().any(|part| part[0] != b'"') {
            Err(NOT_SOUND)
        } else {
            Ok(found)
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut before: &[u8] = b"{\"";
        for (key, value) in &self.0 {
            for part in [before, key, b"\":", value] {
                out.extend_from_slice(part);
            }
            before = b",\"";
        }
        out.extend_from_slice(if self.0.is_empty() { b"{}" } else { b"}" });
    }
}

fn as_text(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
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

type Due<'f> = &'f mut dyn FnMut(&[u8]) -> Read<Vec<u8>>;

/// An envelope, with what is asked of each (`parse_envelope` in `streams/domain/envelope.py`).
struct Envelope<'a> {
    top: Dict<'a>,
    meta: Dict<'a>,
    info: Dict<'a>,
    sender: &'a [u8],
    recipient: &'a [u8],
    recipients: &'a [u8],
    tries: &'a [u8],
    created: time::Time,
    schedule: Option<&'a [u8]>,
}

impl<'a> Envelope<'a> {
    fn read(text: &'a [u8], fields: &[Field]) -> Read<Self> {
        let all = 0..text.len();
        let top = Dict::read(text, fields, 0, &all);
        let meta_at = place(text, fields, 0, &all, META);
        let (recipient, recipients) = recipients(top.get(b"recipient").ok_or(NOT_SOUND)?)?;
        top.of_kind(META, b'{')?;
        Ok(Envelope {
            sender: top.of_kind(b"sender", b'"')?,
            recipient,
            recipients,
            tries: top.attempts()?.ok_or(NOT_SOUND)?,
            created: as_text(top.of_kind(b"created", b'"')?).and_then(time::parse).ok_or("time")?,
            schedule: top.schedule()?,
            info: Dict::read(text, fields, 2, &place(text, fields, 1, &meta_at, SAVED)),
            meta: Dict::read(text, fields, 1, &meta_at),
            top,
        })
    }

    /// See `save` in `streams/domain/envelope.py`.
    fn save(&mut self, fixed: &'a Fixed, buffer: &'a mut Vec<u8>, due: Due<'_>) -> Read<()> {
        if !fixed.from_queue.ends_with(XFER_SUFFIX) {
            let mut info = Dict(Vec::with_capacity(8));
            for (name, part) in PARTS.iter().zip(self.meta.parts()?) {
                part.inspect(|part| info.set(name, part));
                self.meta.pop(name);
            }
            if let Some(schedule) = self.schedule {
                due(schedule)?;
                info.set(SCHEDULE, schedule);
            }
            info.set(ATTEMPTS, self.tries);
            self.top.value(DUE).inspect(|due| info.set(DUE, due));
            info.write(buffer);
            self.meta.set(SAVED, buffer);
            self.top.replace(SCHEDULE, NULL);
        }
        self.top.replace(DUE, NULL);
        self.meta.set(QUEUE, &fixed.xfer_queue);
        Ok(())
    }

    /// See `restore` there; `queue` gets the name of the queue.
    fn restore(
        &mut self,
        fixed: &Fixed,
        now: &'a [u8],
        queue: &mut Vec<u8>,
        buffer: &'a mut Vec<u8>,
        due: Due<'_>,
    ) -> Read<()> {
        self.meta.of_kind(SAVED, b'{')?;
        self.meta.pop(SAVED);
        let parts = self.info.parts()?;
        for (name, part) in PARTS.iter().zip(parts) {
            match part {
                Some(part) => self.meta.set(name, part),
                None => self.meta.pop(name),
            }
        }
        self.tries = self.info.attempts()?.unwrap_or(b"0");
        write_name(parts.map(|part| part.and_then(as_text)), self.recipient, queue)?;
        if queue.ends_with(XFER_SUFFIX) || *queue == fixed.from_queue {
            return Err(NOT_SOUND);
        }
        self.top.set(ATTEMPTS, self.tries);
        match self.info.schedule()? {
            Some(schedule) => {
                *buffer = due(schedule)?;
                self.top.set(DUE, buffer);
                self.top.set(SCHEDULE, schedule);
            }
            None => {
                self.top.set(DUE, now);
                self.top.replace(SCHEDULE, NULL);
            }
        }
        Ok(())
    }

    /// The log's record: see `rebind_record` in `streams/domain/log_record.py`.
    fn log(&self, message: &Message, fixed: &Fixed, moment: &Moment, queue: &[u8], log: &mut Vec<u8>) -> Read<()> {
        let id = std::str::from_utf8(message.key.unwrap_or(b"")).map_err(|_| "key")?;
        log.extend_from_slice(b"{\"type\":\"AdminRebind\",\"id\":");
        write_string(id, log);
        for part in [b",\"sender\":", self.sender, b",\"recipient\":", self.recipients, b",\"queue\":\"", queue] {
            log.extend_from_slice(part);
        }
        // Writing to a Vec can't fail.
        let _ = write!(log, "\",\"site\":\"\",\"size\":{},\"response\":", message.size);
        let (head, tail) = (&fixed.response_head[..], &fixed.response_tail[..]);
        for part in [head, queue, tail, b",\"peer_address\":null,", &moment.log_times, b","] {
            log.extend_from_slice(part);
        }
        self.created.write_created(log);
        log.extend_from_slice(b",\"num_attempts\":");
        log.extend_from_slice(self.tries);
        log.extend_from_slice(
            b",\"bounce_classification\":\"Uncategorized\",\"egress_pool\":null,\"egress_source\":null,\
              \"source_address\":null,\"feedback_report\":null,\"meta\":",
        );
        carried(&self.meta, &fixed.log_meta).write(log);
        let protocol = self.meta.of_kind(b"reception_protocol", b'"').unwrap_or(NULL);
        log.extend_from_slice(b",\"headers\":");
        log.extend_from_slice(message.headers);
        log.extend_from_slice(b",\"delivery_protocol\":null,\"reception_protocol\":");
        for part in [protocol, b",\"nodeid\":", &fixed.node_id, b"}"] {
            log.extend_from_slice(part);
        }
        Ok(())
    }
}

/// Where the value of a field is, of an object at that depth in that part of the text; nowhere, if there is none.
fn place(text: &[u8], fields: &[Field], depth: usize, within: &Span, name: &[u8]) -> Span {
    let mut of_it = fields.iter().filter(|field| field.depth == depth && within.contains(&field.key.start));
    of_it.find(|field| text[field.key.clone()] == *name).map_or(0..0, |field| field.value.clone())
}

/// Fill `scratch` for one message; `due` tells when a schedule permits it, as JSON, or that it is none.
pub fn rebind(message: &Message, fixed: &Fixed, moment: &Moment, scratch: &mut Scratch, due: Due<'_>) -> Read<()> {
    let Scratch { text, fields, buffer, meta, envelope, log, queue } = scratch;
    for made in [&mut *buffer, &mut *meta, &mut *envelope, &mut *log, &mut *queue] {
        made.clear();
    }
    Json::read(message.envelope, text, fields, fixed.floats)?;
    let mut found = Envelope::read(text, fields)?;
    if fixed.saves {
        queue.extend_from_slice(&fixed.xfer_queue[1..fixed.xfer_queue.len() - 1]);
        found.save(fixed, buffer, due)?;
    } else {
        found.restore(fixed, &moment.now, queue, buffer, due)?;
    }
    found.log(message, fixed, moment, queue, log)?;
    found.meta.write(meta);
    found.top.set(META, meta);
    found.top.write(envelope);
    Ok(())
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

/// See `_carried` in `streams/domain/log_record.py`.
fn carried<'a>(meta: &Dict<'a>, names: &[(Vec<u8>, bool)]) -> Dict<'a> {
    let mut found = Dict(Vec::new());
    for (name, is_prefix) in names {
        for (key, value) in &meta.0 {
            if if *is_prefix { key.starts_with(name) } else { key == name && *value != NULL } {
                found.set(key, value);
            }
        }
    }
    found
}
