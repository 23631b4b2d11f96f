//! Many records into the batches of one transaction, up to one that is unusual.

use crate::batch::Batch;
use crate::fetch::Run;
use crate::guarded;
use crate::json::{write_float, Floats, Read};
use crate::transform::{rebind, Fixed, Message, Moment, Scratch};
use crate::wire::{put_field, put_varint, New, Record, ENVELOPE};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use std::collections::HashMap;

/// How many are remembered, and how long they are at most.
const SCHEDULES: usize = 4096;
const LONGEST_SCHEDULE: usize = 1024;

enum Slot {
    /// Its place, as Python has it, and the batch that was filled last.
    Known(Py<PyAny>, Option<Py<Batch>>),
    /// A topic that is not known yet.
    Unknown(Py<PyAny>),
    /// One that has turned something down: what it takes is Python's to judge.
    Limited,
}

/// Where the messages of one transaction go, by their queues: what its `TransactionBatch` was asked already.
#[pyclass(module = "streams.native._native")]
#[derive(Default)]
pub struct Slots {
    partition: i32,
    log: Option<Slot>,
    by_queue: HashMap<Vec<u8>, Slot>,
}

#[pymethods]
impl Slots {
    #[new]
    fn new() -> Self {
        Slots::default()
    }
}

impl Slots {
    /// The slots of a queue and of the log.
    fn of(&mut self, transaction: &Bound<'_, PyAny>, partition: i32, queue: &[u8]) -> PyResult<(&mut Slot, &mut Slot)> {
        if partition != self.partition {
            *self = Slots { partition, ..Slots::default() };
        }
        let find = |queue: Option<&str>| -> PyResult<Slot> {
            let found = transaction.call_method1("find", (queue, partition))?;
            Ok(match found.is_instance_of::<PyString>() {
                _ if found.is_none() => Slot::Limited,
                true => Slot::Unknown(found.unbind()),
                false => Slot::Known(found.unbind(), None),
            })
        };
        if !self.by_queue.contains_key(queue) {
            self.by_queue.insert(queue.to_vec(), find(Some(&String::from_utf8_lossy(queue)))?);
        }
        if self.log.is_none() {
            self.log = Some(find(None)?);
        }
        self.by_queue.get_mut(queue).zip(self.log.as_mut()).ok_or_else(|| PyRuntimeError::new_err("no slot"))
    }
}

/// Add a record to a batch; Python opens one where there is none or it is full, or knows of one opened meanwhile.
fn add(transaction: &Bound<'_, PyAny>, place: &Py<PyAny>, batch: &mut Option<Py<Batch>>, new: &New) -> PyResult<()> {
    let py = transaction.py();
    loop {
        if let Some(open) = batch {
            if open.bind(py).try_borrow_mut()?.add(new).is_some() {
                return Ok(());
            }
        }
        *batch = Some(transaction.call_method1("open", (place, &*batch))?.cast_into::<Batch>()?.unbind());
    }
}

/// The claim's: what it does with each record is `streams/drain/strategy.py`'s.
#[pyclass(module = "streams.native._native")]
pub struct Mover {
    fixed: Fixed,
    moment: Moment,
    scratch: Scratch,
    /// The log's headers but for the last one's content; how many there are.
    log_headers: Vec<u8>,
    log_header_count: i64,
    /// `due(schedule)`: as JSON when it permits something; an error where it never does or is no schedule.
    due: Py<PyAny>,
    dues: HashMap<Vec<u8>, Vec<u8>>,
    /// `headers(value)`: those that the log carries, as JSON.
    headers: Option<Py<PyAny>>,
    header: Vec<u8>,
}

/// What one call has come to: where it stopped, how many were moved, the bytes of their values, which ones wait for
/// which topics, and why it stopped before the end.
type Moved = (usize, usize, usize, Vec<(usize, Py<PyAny>)>, Option<&'static str>);

#[pymethods]
impl Mover {
    #[new]
    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (
        *, saves, from_queue, xfer_queue, response_head, response_tail, node_id, log_meta, plus, log_headers, due, headers
    ))]
    fn new(
        saves: bool,
        from_queue: Vec<u8>,
        xfer_queue: Vec<u8>,
        response_head: Vec<u8>,
        response_tail: Vec<u8>,
        node_id: Vec<u8>,
        log_meta: Vec<(Vec<u8>, bool)>,
        plus: Option<bool>,
        log_headers: Vec<(Vec<u8>, Vec<u8>)>,
        due: Py<PyAny>,
        headers: Option<Py<PyAny>>,
    ) -> Self {
        let floats = plus.map(|plus| Floats { plus });
        let mut encoded = Vec::new();
        for (name, content) in &log_headers {
            put_field(Some(name), &mut encoded);
            put_field(Some(content), &mut encoded);
        }
        put_field(Some(b"destination"), &mut encoded);
        Mover {
            fixed: Fixed { saves, from_queue, xfer_queue, response_head, response_tail, node_id, log_meta, floats },
            moment: Moment::default(),
            scratch: Scratch::default(),
            log_headers: encoded,
            log_header_count: log_headers.len() as i64 + 1,
            due,
            dues: HashMap::new(),
            headers,
            header: Vec::new(),
        }
    }

    /// From now on it is that time: as JSON, as the log has it, and in ms.
    fn set_time(&mut self, now: Vec<u8>, log_times: Vec<u8>, ms: i64) {
        if now != self.moment.now {
            self.dues.clear();
        }
        self.moment = Moment { now, log_times, ms };
    }

    /// Move the records from this one on, up to one that Python has to move, into a `TransactionBatch`.
    #[pyo3(name = "move")]
    fn move_(
        &mut self,
        run: &Bound<'_, Run>,
        from: usize,
        slots: &mut Slots,
        transaction: &Bound<'_, PyAny>,
        may_wait: bool,
    ) -> PyResult<Moved> {
        let (py, run) = (run.py(), run.get());
        let (mut moved, mut bytes, mut waiting) = (0, 0, Vec::new());
        let mut index = from;
        let why = loop {
            let Some((record, timestamp)) = run.get(py, index) else { break None };
            let log_bytes = match self.transform(py, &record)? {
                Ok(log_bytes) => log_bytes,
                Err(why) => break Some(why),
            };
            let Scratch { envelope, log, queue, .. } = &self.scratch;
            match slots.of(transaction, run.partition(), queue)? {
                (Slot::Unknown(_), _) if !may_wait => break Some("unknown"),
                (Slot::Unknown(topic), _) => waiting.push((index, topic.clone_ref(py))),
                (Slot::Known(place, batch), Slot::Known(log_place, log_batch)) => {
                    let head = &mut self.header;
                    head.clear();
                    put_field(Some(ENVELOPE), head);
                    put_varint(envelope.len() as i64, head);
                    let Record { key, value, header_count, before, after, .. } = record;
                    let headers: &[&[u8]] = &[before, head, envelope, after];
                    add(transaction, place, batch, &New { timestamp, key, value, header_count, headers })?;
                    head.clear();
                    put_varint(queue.len() as i64, head);
                    let headers: &[&[u8]] = &[&self.log_headers, head, queue];
                    let (timestamp, value, header_count) = (self.moment.ms, Some(&**log), self.log_header_count);
                    add(transaction, log_place, log_batch, &New { timestamp, key, value, header_count, headers })?;
                    moved += 1;
                    bytes += record.value.map_or(0, <[u8]>::len) + log_bytes;
                }
                _ => break Some("limits"),
            }
            index += 1;
        };
        Ok((index, moved, bytes, waiting, why))
    }
}

impl Mover {
    /// Into `scratch`; the bytes of the log's record, or why it is Python's.
    fn transform(&mut self, py: Python<'_>, record: &Record) -> PyResult<Read<usize>> {
        let Some(envelope) = record.envelope.filter(|_| record.envelopes == 1) else { return Ok(Err("no_envelope")) };
        let logged: Vec<u8>;
        let headers = match (&self.headers, record.value) {
            (Some(headers), Some(value)) => {
                logged = headers.bind(py).call1((PyBytes::new(py, value),))?.extract()?;
                &logged[..]
            }
            _ => b"{}",
        };
        let size = record.value.map_or(0, <[u8]>::len);
        let message = Message { envelope, key: record.key, size, headers };
        let (due, dues) = (&self.due, &mut self.dues);
        let mut permitted = |schedule: &[u8]| {
            if let Some(found) = dues.get(schedule) {
                return Ok(found.clone());
            }
            // An error comes again where Python moves the record.
            let asked = due.bind(py).call1((PyBytes::new(py, schedule),));
            let found: Vec<u8> = asked.and_then(|found| found.extract()).map_err(|_| "schedule")?;
            if schedule.len() <= LONGEST_SCHEDULE {
                if dues.len() >= SCHEDULES {
                    dues.clear();
                }
                dues.insert(schedule.to_vec(), found.clone());
            }
            Ok(found)
        };
        let (fixed, moment, scratch) = (&self.fixed, &self.moment, &mut self.scratch);
        let done = guarded(|| rebind(&message, fixed, moment, scratch, &mut permitted)).unwrap_or(Err("fault"));
        Ok(done.map(|()| self.scratch.log.len()))
    }
}

/// A float as an orjson of that kind writes it.
#[pyfunction]
pub fn float_text(number: f64, plus: bool) -> String {
    let mut out = Vec::new();
    write_float(number, Floats { plus }, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
