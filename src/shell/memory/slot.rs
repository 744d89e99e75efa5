//! A slot: a fixed range of memory for one piece of work of code that allocates (a TLS connection,
//! a decoder), with a [`Heap`] in it.
//!
//! Only the thread inside (see [`super::scope`]) takes memory of a slot. Anybody may free it: the
//! thread inside at once, others by putting the block on a list without locks that the next one
//! inside empties.

use super::heap::{Heap, Usage};
use super::report::die;
use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// Control of a slot; lies at the start of the slot's own bytes.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    /// First byte that may be handed out.
    start: usize,
    /// One past the last.
    end: usize,
    /// The thread inside (see [`token`]); 0: nobody.
    inside: AtomicUsize,
    /// Blocks freed by threads that were not inside; each begins with the next one's address.
    returned: AtomicPtr<u8>,
    /// More than this in use at the end of a call: the connection is to be closed.
    soft_cap: u32,
    /// Allocations that the slot was too full for and the thread's reserve took.
    overflows: AtomicU32,
    /// Only the thread inside touches it.
    heap: UnsafeCell<Heap>,
}

// SAFETY: `heap` is only touched by the thread whose token is in `inside`; the rest is atomic or
// never changes.
unsafe impl Sync for Slot {}

/// A number of the calling thread: not 0, and no other living thread's.
pub(super) fn token() -> usize {
    std::thread_local! {
        static TOKEN: u8 = const { 0 };
    }
    TOKEN.with(|byte| ptr::from_ref(byte).addr())
}

impl Slot {
    /// Makes a slot of `bytes` bytes, control counted, at `place`.
    ///
    /// # Safety
    /// `place` is aligned to 64; the range is memory nobody else uses, and lives as long as the
    /// program.
    pub(super) unsafe fn make(place: NonNull<u8>, bytes: usize, soft_cap: u32) -> &'static Slot {
        assert!(bytes > 2 * size_of::<Slot>(), "a slot of {bytes} bytes");
        assert!(place.addr().get().is_multiple_of(align_of::<Slot>()));
        // SAFETY: the caller's promise; the control and the heap share the range without overlap.
        unsafe {
            let base = place.add(size_of::<Slot>());
            let room = bytes - size_of::<Slot>();
            let slot = place.cast::<Slot>();
            slot.write(Slot {
                start: base.addr().get(),
                end: base.addr().get() + room,
                inside: AtomicUsize::new(0),
                returned: AtomicPtr::new(ptr::null_mut()),
                soft_cap,
                overflows: AtomicU32::new(0),
                heap: UnsafeCell::new(Heap::new(base, room)),
            });
            slot.as_ref()
        }
    }

    /// Whether an address lies in it.
    pub(super) fn holds(&self, pointer: *const u8) -> bool {
        (self.start..self.end).contains(&pointer.addr())
    }

    /// Whether the calling thread is inside.
    pub(super) fn is_inside(&self) -> bool {
        self.inside.load(Ordering::Relaxed) == token()
    }

    /// Goes inside; false when the calling thread already was. Another thread inside is a bug.
    pub(super) fn go_inside(&self) -> bool {
        if self.is_inside() {
            return false;
        }
        let taken = self.inside.compare_exchange(0, token(), Ordering::Acquire, Ordering::Relaxed);
        if taken.is_err() {
            die(format_args!("two threads inside one slot"));
        }
        true
    }

    /// Leaves what [`Slot::go_inside`] entered.
    pub(super) fn go_outside(&self) {
        debug_assert!(self.is_inside());
        self.inside.store(0, Ordering::Release);
    }

    /// Runs `f` on the heap.
    fn with_heap<T>(&self, f: impl FnOnce(&mut Heap) -> T) -> T {
        debug_assert!(self.is_inside());
        // SAFETY: this thread is inside, so nobody else touches the heap; Heap's methods call
        // nothing that comes back here.
        f(unsafe { &mut *self.heap.get() })
    }

    /// Runs `f` on the heap, inside for that long if need be, after taking in what was returned.
    fn visit<T>(&self, f: impl FnOnce(&mut Heap) -> T) -> T {
        let entered = self.go_inside();
        self.take_returned();
        let result = self.with_heap(f);
        if entered {
            self.go_outside();
        }
        result
    }

    /// Frees what others have returned. Inside only.
    pub(super) fn take_returned(&self) {
        if self.returned.load(Ordering::Relaxed).is_null() {
            return;
        }
        let mut next = self.returned.swap(ptr::null_mut(), Ordering::Acquire);
        while let Some(block) = NonNull::new(next) {
            // SAFETY: `free` stored the next one's address in this block.
            next = unsafe { block.cast::<*mut u8>().read() };
            self.with_heap(|heap| heap.give(block));
        }
    }

    /// Memory of this slot. Inside only.
    pub(super) fn take(&self, size: usize, align: usize) -> Option<NonNull<u8>> {
        self.with_heap(|heap| heap.take(size, align))
    }

    /// Whether a block of `size` bytes aligned to 16 can be taken. Inside only.
    pub(super) fn has_room(&self, size: usize) -> bool {
        self.with_heap(|heap| heap.has_room(size))
    }

    /// Makes a block hold `size` bytes where it lies, if possible. Inside only.
    pub(super) fn resize(&self, pointer: NonNull<u8>, size: usize) -> bool {
        self.with_heap(|heap| heap.resize(pointer, size))
    }

    /// Frees a block of this slot, from wherever.
    pub(super) fn free(&self, block: NonNull<u8>) {
        if self.is_inside() {
            return self.with_heap(|heap| heap.give(block));
        }
        let mut head = self.returned.load(Ordering::Relaxed);
        loop {
            // SAFETY: the block is this slot's, at least 8 bytes, and its owner has given it up.
            unsafe { block.cast::<*mut u8>().write(head) };
            let pushed = self.returned.compare_exchange_weak(
                head,
                block.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            );
            match pushed {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    pub(super) fn count_overflow(&self) {
        self.overflows.fetch_add(1, Ordering::Relaxed);
    }

    /// How it is filled. Nobody else may be inside.
    pub fn usage(&self) -> Usage {
        self.visit(|heap| heap.usage())
    }

    /// Whether nothing of it is in use. Nobody else may be inside.
    pub fn is_empty(&self) -> bool {
        self.usage().blocks == 0
    }

    /// Whether more is in use than the soft cap. Nobody else may be inside.
    pub fn is_over_cap(&self) -> bool {
        self.usage().bytes > self.soft_cap
    }

    /// Allocations that went to the reserve because the slot was too full.
    pub fn overflows(&self) -> u32 {
        self.overflows.load(Ordering::Relaxed)
    }

    /// Bytes that may be handed out at once when empty.
    pub fn capacity(&self) -> usize {
        self.visit(|heap| heap.capacity())
    }

    /// Forgets all blocks in use.
    ///
    /// # Safety
    /// Nobody refers to memory of this slot any more, and nobody will free any.
    pub unsafe fn reset(&self) {
        self.visit(Heap::reset);
    }
}
