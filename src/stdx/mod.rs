//! What `no_std` lacks, in fixed capacity: tables, text arenas, time, randomness, hashes.
//!
//! Nothing here knows what serval is. `unsafe` is allowed here (and in `shell`), each with a
//! reason.

pub mod double_buffer;
pub mod fnv;
pub mod hash_index;
pub mod inline;
pub mod instant;
pub mod marks;
pub mod pack;
pub mod prng;
pub mod ring;
pub mod short;
pub mod table;
pub mod text;
pub mod touch;

pub use inline::Inline;
pub use instant::{Duration, Instant, Now, Wall};
pub use prng::Prng;
pub use short::Short;
pub use table::{Full, Span, Table};
pub use text::{Arena, Text};
pub use touch::{touch, touch_first};

use core::mem::MaybeUninit;

/// Types for which all bytes zero is a valid, empty value.
///
/// Large tables are built in place from zeroed memory: `Table::new()` by value would pass through
/// the stack, and pages nobody touches stay untouched.
///
/// # Safety
/// All-zero bytes must be a valid value of the type.
pub unsafe trait Zeroed: Sized {}

/// Makes an uninitialised place hold its empty value.
pub fn zeroed_in_place<T: Zeroed>(place: &mut MaybeUninit<T>) -> &mut T {
    // SAFETY: the pointer covers exactly one T, and T: Zeroed says that zero bytes are a value.
    unsafe {
        core::ptr::write_bytes(place.as_mut_ptr(), 0, 1);
        place.assume_init_mut()
    }
}

/// A value of zero bytes on the heap, never on the stack: how vopr, the bench and tests make the
/// large ones. Pages nobody touches stay untouched (`Box::new_zeroed` would write them all).
#[cfg(any(feature = "std", test))]
pub fn zeroed_box<T: Zeroed>() -> std::boxed::Box<T> {
    use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
    let layout = Layout::new::<T>();
    assert!(layout.size() > 0);
    // SAFETY: the layout has a size; the pointer is checked and owns zero bytes, which T: Zeroed
    // says are a value.
    unsafe {
        let pointer = alloc_zeroed(layout).cast::<T>();
        if pointer.is_null() {
            handle_alloc_error(layout);
        }
        std::boxed::Box::from_raw(pointer)
    }
}

macro_rules! zeroed_ints {
    ($($int:ty),*) => {$(
        // SAFETY: an integer of zero bytes is 0.
        unsafe impl Zeroed for $int {}
    )*};
}
zeroed_ints!(u8, u16, u32, u64, u128, usize, i64);

// SAFETY: an atomic has the representation of its integer, and 0 is one.
unsafe impl Zeroed for core::sync::atomic::AtomicU32 {}

// SAFETY: false is the byte 0.
unsafe impl Zeroed for bool {}

// SAFETY: each item is valid when zero.
unsafe impl<T: Zeroed, const N: usize> Zeroed for [T; N] {}

/// Implements [`Zeroed`] for a struct all of whose fields are; a field left out does not build.
/// Lengths that the struct is generic over stand behind its name: `Store<N, BLOCKS> { … }`.
#[macro_export]
macro_rules! zeroed_struct {
    ($name:ident { $($field:tt: $kind:ty),* $(,)? }) => {
        $crate::zeroed_struct!($name<> { $($field: $kind),* });
    };
    ($name:ident<$($length:ident),*> { $($field:tt: $kind:ty),* $(,)? }) => {
        // SAFETY: every field is Zeroed: the function below does not compile otherwise.
        unsafe impl<$(const $length: usize),*> $crate::stdx::Zeroed for $name<$($length),*> {}
        const _: () = {
            fn _zeroed<T: $crate::stdx::Zeroed>(_: &T) {}
            #[allow(dead_code, reason = "only type-checked")]
            fn _all<$(const $length: usize),*>(value: &$name<$($length),*>) {
                let $name { $($field: _),* } = value;
                $(let field: &$kind = &value.$field; _zeroed(field);)*
            }
        };
    };
}

// SAFETY: None of an optional function pointer is the null pointer (core::option: Representation).
unsafe impl<A: ?Sized, B: ?Sized, R> Zeroed for Option<fn(&A, &B) -> R> {}

/// Implements [`Zeroed`] for a field-less enum whose named variant has the value 0.
#[macro_export]
macro_rules! zeroed_enum {
    ($name:ident { $first:ident }) => {
        const _: () = assert!($name::$first as u8 == 0 && size_of::<$name>() == 1);
        // SAFETY: the enum is one byte and the variant above has the value 0.
        unsafe impl $crate::stdx::Zeroed for $name {}
    };
}
