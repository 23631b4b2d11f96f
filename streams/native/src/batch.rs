//! The batches that go out, with the interface of aiokafka's BatchBuilder.

use crate::wire::{put_field, Building, New, HEAD};
use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::ffi::c_int;
use std::time::{SystemTime, UNIX_EPOCH};

const TRANSACTIONAL: i16 = 0x10;

/// A header as Python has it; its name is a `str`, perhaps one with the bytes that were read (`UndecodedName`).
type Header<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyBytes>>);

pub fn encode_headers(headers: &[Header<'_>]) -> PyResult<Vec<u8>> {
    let mut out = Vec::new();
    for (name, content) in headers {
        let name: Bound<'_, PyBytes> = name.call_method0("encode")?.extract()?;
        put_field(Some(name.as_bytes()), &mut out);
        put_field(content.as_ref().map(|content| content.as_bytes()), &mut out);
    }
    Ok(out)
}

/// Records for one partition of one topic, in a transaction.
#[pyclass(module = "streams.native._native")]
pub struct Batch {
    building: Building,
    limit: usize,
    codec: i16,
    pack: Option<Py<PyAny>>,
    producer: (i64, i16, i32),
    closed: bool,
    built: Option<Py<Built>>,
}

impl Batch {
    pub fn add(&mut self, new: &New) -> Option<usize> {
        if self.closed {
            return None;
        }
        let size = self.building.add(new, self.limit);
        self.closed = size.is_none();
        size
    }
}

#[pymethods]
impl Batch {
    /// Of at most `limit` bytes before `pack` has compressed it with the codec of that number.
    #[new]
    #[pyo3(signature = (limit, codec=0, pack=None))]
    fn new(limit: usize, codec: i16, pack: Option<Py<PyAny>>) -> Self {
        Batch { building: Building::new(), limit, codec, pack, producer: (-1, -1, 0), closed: false, built: None }
    }

    /// Add a record; its bytes, or None where it does not fit any more.
    #[pyo3(signature = (*, timestamp, key, value, headers=vec![]))]
    fn append(
        &mut self,
        timestamp: Option<i64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Vec<Header<'_>>,
    ) -> PyResult<Option<usize>> {
        let timestamp = match timestamp {
            Some(ms) => ms,
            None => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                now.ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
            }
        };
        let encoded = encode_headers(&headers)?;
        let header_count = headers.len() as i64;
        Ok(self.add(&New { timestamp, key, value, header_count, headers: &[&encoded] }))
    }

    /// Bytes so far, before compression.
    fn size(&self) -> usize {
        self.built.as_ref().map_or(self.building.bytes.len(), |built| built.get().size)
    }

    fn record_count(&self) -> i32 {
        self.building.count
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn closed(&self) -> bool {
        self.closed
    }

    fn _set_producer_state(&mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> PyResult<()> {
        if self.built.is_some() {
            return Err(PyRuntimeError::new_err("the batch is built"));
        }
        self.producer = (producer_id, producer_epoch, base_sequence);
        Ok(())
    }

    /// The whole batch, compressed if that makes it smaller.
    fn _build(&mut self, py: Python<'_>) -> PyResult<Py<Built>> {
        if let Some(built) = &self.built {
            return Ok(built.clone_ref(py));
        }
        self.closed = true;
        let mut attributes = TRANSACTIONAL;
        let size = self.building.bytes.len();
        if let Some(pack) = &self.pack {
            let packed = pack.bind(py).call1((PyBytes::new(py, &self.building.bytes[HEAD..]),))?;
            let packed: Vec<u8> = packed.extract()?;
            if packed.len() < size - HEAD {
                self.building.bytes.truncate(HEAD);
                self.building.bytes.extend_from_slice(&packed);
                attributes |= self.codec;
            }
        }
        if self.building.finish(attributes, self.producer).is_none() {
            return Err(PyValueError::new_err("the batch is larger than 2 GiB"));
        }
        let built = Py::new(py, Built { bytes: std::mem::take(&mut self.building.bytes), size })?;
        self.built = Some(built.clone_ref(py));
        Ok(built)
    }
}

/// A batch that is built: bytes that never change.
#[pyclass(frozen, module = "streams.native._native")]
pub struct Built {
    bytes: Vec<u8>,
    size: usize,
}

#[pymethods]
impl Built {
    fn __len__(&self) -> usize {
        self.bytes.len()
    }

    /// # Safety
    /// Python calls this with a `view` that it owns. The memory that it gets is that of `bytes`: it is there as long as
    /// the object, to which the view holds a reference, and nothing writes to it, as the class is frozen and the view
    /// read-only.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = &slf.get().bytes;
        let length = ffi::Py_ssize_t::try_from(bytes.len()).map_err(|_| PyBufferError::new_err("too large"))?;
        let (start, readonly) = (bytes.as_ptr().cast_mut().cast(), 1);
        // SAFETY: see above; PyBuffer_FillInfo sets the exception where it returns -1.
        if unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, readonly, flags) } == -1 {
            return Err(PyErr::fetch(slf.py()));
        }
        Ok(())
    }
}
