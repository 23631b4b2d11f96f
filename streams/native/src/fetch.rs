//! What one fetch has brought, read in place: `streams/kafka/wire/records.py` for batches as most are.

use crate::batch::encode_headers;
use crate::guarded;
use crate::wire::{self, put_field, put_varint, Record};
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySet, PySlice};
use std::sync::Arc;

const CODEC: i16 = 0x07;
const APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

#[derive(Clone)]
struct Place {
    start: usize,
    end: usize,
    is_own: bool,
    offset: i64,
    timestamp: i64,
    timestamp_type: u8,
}

struct Memory {
    data: Py<PyBytes>,
    own: Vec<u8>,
    topic: Py<PyAny>,
    partition: i32,
    make: Py<PyAny>,
}

/// Reads batches as far as they are plain; the others are Python's, which adds their records.
#[pyclass(module = "streams.native._native")]
pub struct Fetch {
    data: Py<PyBytes>,
    own: Vec<u8>,
    places: Vec<Place>,
    at: usize,
    most_records: usize,
}

impl Fetch {
    /// Read the batch that ends there; the offset to go on at, or up to where it is Python's: nothing has changed then.
    fn read_batch(
        &mut self,
        bytes: &[u8],
        end: usize,
        next: i64,
        aborted: &Bound<'_, PyList>,
        aborting: &Bound<'_, PySet>,
    ) -> PyResult<Result<i64, usize>> {
        let batch = &bytes[self.at..end];
        let Some((head, after)) = wire::head(batch).and_then(|head| head.next().map(|after| (head, after))) else {
            return Ok(Err(bytes.len()));
        };
        if head.attributes & CODEC != 0 {
            return Ok(Err(end));
        }
        let is_large = usize::try_from(head.last).map_or(true, |last| last >= self.most_records);
        let is_control = head.attributes & CONTROL != 0;
        let is_abort = if is_control { guarded(|| abort_marker(batch)).flatten() } else { None };
        let places = self.places.len();
        if is_large
            || if is_control {
                is_abort.is_none()
            } else {
                !guarded(|| self.read_records(batch, &head, next)).unwrap_or(false)
            }
        {
            self.places.truncate(places);
            return Ok(Err(bytes.len()));
        }
        while let Ok(first) = aborted.get_item(0) {
            let (producer, first): (i64, i64) = first.extract()?;
            if first > head.base {
                break;
            }
            aborting.add(producer)?;
            aborted.del_item(0)?;
        }
        if is_abort == Some(true) {
            aborting.discard(head.producer)?;
        }
        if head.attributes & TRANSACTIONAL != 0 && aborting.contains(head.producer)? {
            self.places.truncate(places);
        }
        Ok(Ok(after))
    }

    /// The records of a batch that are not below `next`; whether all of it can be read.
    fn read_records(&mut self, batch: &[u8], head: &wire::Head, next: i64) -> bool {
        let mut rest = &batch[wire::HEAD..];
        let (mut next, mut before) = (next, -1);
        for _ in 0..head.count {
            let Some(length) = wire::varint(&mut rest).and_then(|length| usize::try_from(length).ok()) else {
                return false;
            };
            let Some((bytes, behind)) = rest.split_at_checked(length) else { return false };
            let start = self.at + batch.len() - rest.len();
            rest = behind;
            let Some(record) = wire::parse(bytes) else { return false };
            // Kafka does not look at the offsets in here: Python counts the records where they are not in order.
            if record.delta <= before || record.delta > i64::from(head.last) {
                return false;
            }
            before = record.delta;
            let is_append_time = head.attributes & APPEND_TIME != 0;
            let of_record = head.first_ms.wrapping_add(record.since_ms);
            let timestamp = if is_append_time { head.latest_ms } else { of_record };
            let Some(offset) = head.base.checked_add(record.delta) else { return false };
            if offset < next {
                continue;
            }
            let Some(behind) = offset.checked_add(1) else { return false };
            next = behind;
            let timestamp_type = u8::from(is_append_time);
            self.places.push(Place { start, end: start + length, is_own: false, offset, timestamp, timestamp_type });
        }
        rest.is_empty()
    }
}

/// Whether a control batch says that a transaction was aborted; none, where it says something else than its end.
fn abort_marker(batch: &[u8]) -> Option<bool> {
    let mut rest = &batch[wire::HEAD..];
    let length = usize::try_from(wire::varint(&mut rest)?).ok()?;
    let record = wire::parse(rest.get(..length)?)?;
    match record.key? {
        _ if record.header_count != 0 => None,
        [0, 0, 0, kind @ (0 | 1)] => Some(*kind == 0),
        _ => None,
    }
}

#[pymethods]
impl Fetch {
    /// `most_records` is how many records a batch may have, and all of them together.
    #[new]
    fn new(data: Py<PyBytes>, most_records: usize) -> Self {
        Fetch { data, own: Vec::new(), places: Vec::new(), at: 0, most_records }
    }

    /// Where in the data the next batch begins.
    #[getter]
    fn at(&self) -> usize {
        self.at
    }

    fn __len__(&self) -> usize {
        self.places.len()
    }

    /// Read from here as far as possible, from the offset `next` on: the offset behind it, and where what is
    /// left to Python ends, if there is any. `aborted` and `aborting` go on as aiokafka's.
    fn read(
        &mut self,
        py: Python<'_>,
        mut next: i64,
        aborted: &Bound<'_, PyList>,
        aborting: &Bound<'_, PySet>,
    ) -> PyResult<(i64, Option<usize>)> {
        let data = self.data.clone_ref(py);
        let bytes = data.as_bytes(py);
        while self.places.len() < self.most_records {
            let Ok(end) = wire::end_of(bytes, self.at) else { break };
            let Some(end) = end else { return Ok((next, Some(bytes.len()))) };
            match self.read_batch(bytes, end, next, aborted, aborting)? {
                Ok(after) => (next, self.at) = (after, end),
                Err(stop) => return Ok((next, Some(stop))),
            }
        }
        Ok((next, None))
    }

    /// Pass over what Python has read.
    fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    /// Add a record that Python has read.
    fn add(&mut self, record: &Bound<'_, PyAny>) -> PyResult<()> {
        let start = self.own.len();
        let headers: Vec<(Bound<'_, PyAny>, Option<Bound<'_, PyBytes>>)> =
            record.getattr("headers")?.try_iter()?.map(|header| header?.extract()).collect::<PyResult<_>>()?;
        let encoded = encode_headers(&headers)?;
        let (key, value): (Option<Bound<'_, PyBytes>>, Option<Bound<'_, PyBytes>>) =
            (record.getattr("key")?.extract()?, record.getattr("value")?.extract()?);
        self.own.extend_from_slice(&[0, 0, 0]);
        put_field(key.as_ref().map(|key| key.as_bytes()), &mut self.own);
        put_field(value.as_ref().map(|value| value.as_bytes()), &mut self.own);
        put_varint(headers.len() as i64, &mut self.own);
        self.own.extend_from_slice(&encoded);
        self.places.push(Place {
            start,
            end: self.own.len(),
            is_own: true,
            offset: record.getattr("offset")?.extract()?,
            timestamp: record.getattr("timestamp")?.extract()?,
            timestamp_type: record.getattr("timestamp_type").and_then(|t| t.extract()).unwrap_or(0),
        });
        Ok(())
    }

    /// All that was read so far, as records of this partition; `make` makes one for Python.
    fn take(&mut self, py: Python<'_>, topic: Py<PyAny>, partition: i32, make: Py<PyAny>) -> Run {
        let memory =
            Memory { data: self.data.clone_ref(py), own: std::mem::take(&mut self.own), topic, partition, make };
        Run { memory: Arc::new(memory), places: std::mem::take(&mut self.places) }
    }
}

/// Records of one partition in their order, of which Python sees one when it asks for it.
#[pyclass(frozen, sequence, module = "streams.native._native")]
pub struct Run {
    memory: Arc<Memory>,
    places: Vec<Place>,
}

impl Run {
    pub fn partition(&self) -> i32 {
        self.memory.partition
    }

    /// One record and its timestamp; none behind the last.
    pub fn get<'py>(&'py self, py: Python<'py>, index: usize) -> Option<(Record<'py>, i64)> {
        let place = self.places.get(index)?;
        let memory = if place.is_own { &self.memory.own } else { self.memory.data.as_bytes(py) };
        Some((wire::parse(memory.get(place.start..place.end)?)?, place.timestamp))
    }
}

#[pymethods]
impl Run {
    fn __len__(&self) -> usize {
        self.places.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let length = self.places.len() as isize;
        if let Ok(slice) = index.cast::<PySlice>() {
            let indices = slice.indices(length)?;
            if indices.step != 1 {
                return Err(PyValueError::new_err("only steps of 1"));
            }
            let places = self.places.get(indices.start as usize..indices.stop as usize).unwrap_or_default();
            let run = Run { memory: self.memory.clone(), places: places.to_vec() };
            return Ok(Bound::new(py, run)?.into_any());
        }
        let index: isize = index.extract().map_err(|_| PyTypeError::new_err("an index or a slice"))?;
        let index = if index < 0 { index + length } else { index } as usize;
        let Some((record, timestamp)) = self.get(py, index) else {
            return Err(PyIndexError::new_err("no such record"));
        };
        let mut rest = record.headers;
        let headers = PyList::empty(py);
        while !rest.is_empty() {
            let (Some(Some(name)), Some(content)) = (wire::field(&mut rest), wire::field(&mut rest)) else { break };
            headers.append((PyBytes::new(py, name), content.map(|content| PyBytes::new(py, content))))?;
        }
        let bytes = |field: Option<&[u8]>| field.map(|field| PyBytes::new(py, field));
        let place = &self.places[index];
        let memory = &self.memory;
        memory.make.bind(py).call1((
            &memory.topic,
            memory.partition,
            place.offset,
            timestamp,
            place.timestamp_type,
            bytes(record.key),
            bytes(record.value),
            headers,
        ))
    }

    /// The first of these runs, and those behind it that are of the same fetch, as one.
    #[staticmethod]
    fn joined(runs: Vec<Bound<'_, Run>>) -> PyResult<Run> {
        let first = runs.first().ok_or_else(|| PyValueError::new_err("no run"))?.get();
        let alike = runs.iter().map(|run| run.get()).take_while(|run| Arc::ptr_eq(&run.memory, &first.memory));
        Ok(Run { memory: first.memory.clone(), places: alike.flat_map(|run| run.places.iter().cloned()).collect() })
    }
}
