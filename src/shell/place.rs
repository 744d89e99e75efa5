//! Large values on the heap, built in place from zeroed pages (before the seal).

use crate::stdx::Zeroed;
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::boxed::Box;

/// A value of zero bytes on the heap; it never passes through the stack.
pub fn boxed_zeroed<T: Zeroed>() -> Box<T> {
    let layout = Layout::new::<T>();
    assert!(layout.size() > 0);
    // SAFETY: the layout has a size; the pointer is checked and owns zero bytes, which T: Zeroed
    // says are a value.
    unsafe {
        let pointer = alloc_zeroed(layout).cast::<T>();
        if pointer.is_null() {
            handle_alloc_error(layout);
        }
        Box::from_raw(pointer)
    }
}
