//! The hot path of a drain, for what is usual. Python beside it is the reference, and does all the rest.
//!
//! What comes from Kafka may be anything: every read of it is checked, arithmetic overflows are errors, and a panic
//! would be an exception in Python.

#![deny(unsafe_op_in_unsafe_fn)]

mod batch;
mod fetch;
mod json;
mod mover;
mod time;
mod transform;
mod wire;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    /// Another number where Python sees something else of this.
    #[pymodule_export]
    const INTERFACE: u32 = 2;
    #[pymodule_export]
    use crate::batch::{Batch, Built};
    #[pymodule_export]
    use crate::fetch::{Fetch, Run};
    #[pymodule_export]
    use crate::mover::{float_text, Mover, Slots};
}
