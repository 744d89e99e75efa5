//! Large values on the heap, built in place from zeroed pages (before the seal).
//!
//! Up to a megabyte a value is resident at once: buffers, rings, single objects are used whole.
//! Larger ones are tables with soft caps below their ceilings: `set_cap` makes resident what the
//! cap allows to use (or [`crate::stdx::touch`] all of it), the rest costs nothing.

use crate::stdx::{Zeroed, touch};
use core::sync::atomic::{AtomicU64, Ordering};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::boxed::Box;

/// Values up to this size are touched whole.
const WHOLE_BYTES: usize = 1 << 20;

static PLACED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Bytes of all values placed so far, ceilings counted: what of the heap is not small things.
pub fn placed_bytes() -> u64 {
    PLACED_BYTES.load(Ordering::Relaxed)
}

/// A value of zero bytes on the heap; it never passes through the stack.
pub fn boxed_zeroed<T: Zeroed>() -> Box<T> {
    let layout = Layout::new::<T>();
    assert!(layout.size() > 0);
    PLACED_BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
    // SAFETY: the layout has a size; the pointer is checked and owns zero bytes, which T: Zeroed
    // says are a value.
    let mut value = unsafe {
        let pointer = alloc_zeroed(layout).cast::<T>();
        if pointer.is_null() {
            handle_alloc_error(layout);
        }
        Box::from_raw(pointer)
    };
    if layout.size() <= WHOLE_BYTES {
        touch(&mut *value);
    }
    value
}
