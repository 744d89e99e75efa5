//! The slot that the calling thread's JSON and YAML parsers allocate in.
//!
//! Every thread that parses calls [`prepare`] before the seal. Without it (tests, before the seal)
//! the parsers use the heap.

use super::memory::scope;
use super::memory::{Slot, SlotPool, make_reserve};
use crate::limits::{JSON_SLOT_BYTES, SLOT_RESERVE_BYTES, YAML_SLOT_BYTES};
use core::cell::Cell;
use std::boxed::Box;

std::thread_local! {
    static SLOT: Cell<Option<&'static Slot>> = const { Cell::new(None) };
}

/// Gives the calling thread a slot for JSON.
pub fn prepare() {
    take(JSON_SLOT_BYTES);
}

/// Gives the calling thread a slot for YAML and JSON.
pub fn prepare_yaml() {
    take(YAML_SLOT_BYTES);
}

fn take(bytes: u32) {
    // Both live as long as the process.
    let pool = Box::leak(Box::new(SlotPool::new(1, bytes as usize, bytes)));
    let handle = pool.take().expect("one slot");
    SLOT.with(|slot| slot.set(Some(pool.slot(handle))));
    make_reserve(SLOT_RESERVE_BYTES as usize);
}

/// Runs a parser inside the slot.
pub fn run<T>(f: impl FnOnce() -> T) -> T {
    match SLOT.with(Cell::get) {
        Some(slot) => scope::run(slot, f).0,
        None => f(),
    }
}
