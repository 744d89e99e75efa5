//! Where the calling thread's allocations go: into the slot of the innermost scope.
//!
//! ```text
//! let guard = scope::enter(slot);          // or: let (result, left) = scope::run(slot, || …);
//! connection.process_tls_records(input);   // allocates in the slot, then in the thread's reserve
//! if guard.leave().must_close() { … }      // drop the connection, inside its scope again, now
//! ```
//!
//! Where [`super::Allocator`] is not installed (unit tests, vopr) a scope does nothing.

use super::pool;
use super::slot::Slot;
use core::cell::Cell;
use core::marker::PhantomData;
use core::ptr;

std::thread_local! {
    // const: no lazy initialisation; a pointer: no destructor to register.
    static CURRENT: Cell<*const Slot> = const { Cell::new(ptr::null()) };
}

/// The innermost scope's slot of the calling thread.
pub(super) fn current() -> Option<&'static Slot> {
    // SAFETY: slots live as long as the program (Slot::make).
    unsafe { CURRENT.with(Cell::get).as_ref() }
}

/// Sends the calling thread's allocations into a slot until the guard goes. Scopes nest; another
/// thread inside the same slot is a bug and aborts. No slot (tests, before start is over): nothing
/// changes.
#[must_use = "the scope ends when the guard is dropped"]
pub fn enter(slot: impl Into<Option<&'static Slot>>) -> Guard {
    let slot = slot.into();
    let entered = slot.is_some_and(Slot::go_inside);
    let outer = CURRENT.with(Cell::get);
    if let Some(slot) = slot {
        slot.take_returned();
        CURRENT.with(|current| current.set(slot));
    }
    Guard { slot, outer, entered, reserve_before: pool::reserve_bytes(), not_send: PhantomData }
}

/// Runs `f` inside a slot.
pub fn run<T>(slot: impl Into<Option<&'static Slot>>, f: impl FnOnce() -> T) -> (T, Left) {
    let guard = enter(slot);
    let result = f();
    (result, guard.leave())
}

/// An entered scope. Guards are dropped in the reverse order of entering.
#[derive(Debug)]
pub struct Guard {
    slot: Option<&'static Slot>,
    outer: *const Slot,
    entered: bool,
    reserve_before: u32,
    not_send: PhantomData<*const ()>,
}

/// What a scope left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Bytes in the thread's reserve that were not there before: the slot was too small.
    pub reserve_bytes: u32,
    /// More is in use in the slot than its soft cap.
    pub over_cap: bool,
}

impl Left {
    /// Whether the owner of the slot must be dropped (inside its scope) before anything else runs.
    pub fn must_close(self) -> bool {
        self.reserve_bytes > 0 || self.over_cap
    }
}

impl Guard {
    /// Ends the scope and says what it left.
    pub fn leave(self) -> Left {
        let reserve_bytes = pool::reserve_bytes().saturating_sub(self.reserve_before);
        Left { reserve_bytes, over_cap: self.slot.is_some_and(Slot::is_over_cap) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        let current = CURRENT.with(|current| current.replace(self.outer));
        assert!(ptr::eq(current, slot), "scopes end in the reverse order");
        if self.entered {
            slot.go_outside();
        }
    }
}
