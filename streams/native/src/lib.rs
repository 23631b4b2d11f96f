//! The hot path of a drain, for what is usual. Python beside it is the reference, and does all the rest.
//!
//! What comes from Kafka may be anything: every read of it is checked, and where there is a fault all the same (an
//! overflow is one), Python does the work.

#![deny(unsafe_op_in_unsafe_fn)]

mod batch;
mod fetch;
mod json;
mod mover;
mod time;
mod transform;
mod wire;

use pyo3::prelude::*;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// What the work gives; none, where it has a fault: what it has half done must not be used. Python does it then.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

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
