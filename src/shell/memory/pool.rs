//! Slots side by side in one region, and the table by which a free finds its slot.
//!
//! In: how many, how large. Out: slots by handle; one that comes back not empty is put into
//! quarantine, counted, and only used again when it has become empty.

use super::region::Region;
use super::report::die;
use super::slot::Slot;
use core::cell::Cell;
use core::fmt;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::vec::Vec;

/// Regions of slots in one process: TLS slots of each worker, decoders, reserves.
const MAX_POOLS: usize = 256;

/// Where slots lie; written once each, read by every free that is not of the current scope.
struct Registered {
    start: AtomicPtr<u8>,
    bytes: AtomicUsize,
    stride: AtomicUsize,
}

static POOLS: [Registered; MAX_POOLS] = [const {
    Registered {
        start: AtomicPtr::new(ptr::null_mut()),
        bytes: AtomicUsize::new(0),
        stride: AtomicUsize::new(1),
    }
}; MAX_POOLS];
static POOL_COUNT: AtomicU32 = AtomicU32::new(0);

/// The slot an address lies in.
pub(super) fn find(pointer: *const u8) -> Option<&'static Slot> {
    let count = POOL_COUNT.load(Ordering::Acquire) as usize;
    POOLS.iter().take(count).find_map(|pool| {
        let start = pool.start.load(Ordering::Acquire);
        let offset = pointer.addr().wrapping_sub(start.addr());
        let inside = !start.is_null() && offset < pool.bytes.load(Ordering::Relaxed);
        inside.then(|| {
            let stride = pool.stride.load(Ordering::Relaxed);
            // SAFETY: a registered region holds a slot at each multiple of its stride, for ever.
            unsafe { &*start.add(offset / stride * stride).cast::<Slot>() }
        })
    })
}

fn register(region: &Region, bytes: usize, stride: usize) {
    let index = POOL_COUNT.fetch_add(1, Ordering::AcqRel) as usize;
    let Some(pool) = POOLS.get(index) else { die(format_args!("more than {MAX_POOLS} pools")) };
    pool.bytes.store(bytes, Ordering::Relaxed);
    pool.stride.store(stride, Ordering::Relaxed);
    pool.start.store(region.start().as_ptr(), Ordering::Release);
}

/// A slot taken from a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotHandle {
    index: u32,
    generation: u32,
}

/// A slot came back with memory in use: it is in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotEmpty {
    /// Bytes in use.
    pub bytes: u32,
    /// Blocks in use.
    pub blocks: u32,
}

impl fmt::Display for NotEmpty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot not empty bytes={} blocks={}", self.bytes, self.blocks)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Taken,
    Quarantined,
}

#[derive(Debug)]
struct Entry {
    slot: &'static Slot,
    generation: u32,
    state: State,
}

/// Slots of one size, owned by one thread. Made before the seal.
#[derive(Debug)]
pub struct SlotPool {
    entries: Vec<Entry>,
    free: Vec<u32>,
    strict: bool,
    quarantined: u32,
    peak_bytes: u32,
}

impl SlotPool {
    /// `count` slots of `slot_bytes` bytes (a multiple of 64), resident at once. More than
    /// `soft_cap` bytes in use at the end of a call asks for the owner to be closed.
    pub fn new(count: u32, slot_bytes: usize, soft_cap: u32) -> SlotPool {
        assert!(count > 0 && slot_bytes.is_multiple_of(64));
        let bytes = count as usize * slot_bytes;
        let mut region = Region::map(bytes);
        region.touch(bytes);
        let slot = |index: u32| {
            // SAFETY: inside the region, which is never unmapped and nobody else's; apart from the
            // other slots; a multiple of 64 from its page-aligned start.
            unsafe {
                let place = region.start().add(index as usize * slot_bytes);
                Slot::make(place, slot_bytes, soft_cap)
            }
        };
        let entry = |index| Entry { slot: slot(index), generation: 0, state: State::Free };
        let entries = (0..count).map(entry).collect();
        register(&region, bytes, slot_bytes);
        let free = (0..count).rev().collect();
        SlotPool { entries, free, strict: false, quarantined: 0, peak_bytes: 0 }
    }

    /// Bytes of a pool: its line of the memory plan.
    pub const fn bytes(count: u32, slot_bytes: usize) -> u64 {
        count as u64 * slot_bytes as u64
    }

    /// A slot that comes back not empty aborts: for tests and soak.
    pub fn set_strict(&mut self, strict: bool) {
        self.strict = strict;
    }

    /// A free slot; None when all are taken.
    pub fn take(&mut self) -> Option<SlotHandle> {
        let index = self.free.pop()?;
        let entry = &mut self.entries[index as usize];
        assert!(entry.state == State::Free);
        entry.state = State::Taken;
        entry.generation = entry.generation.wrapping_add(1);
        Some(SlotHandle { index, generation: entry.generation })
    }

    /// The slot of a handle, to enter.
    pub fn slot(&self, handle: SlotHandle) -> &'static Slot {
        let entry = &self.entries[handle.index as usize];
        assert!(entry.state == State::Taken && entry.generation == handle.generation);
        entry.slot
    }

    /// Gives a slot back. All that was allocated in it must have been freed.
    pub fn give_back(&mut self, handle: SlotHandle) -> Result<(), NotEmpty> {
        let usage = self.slot(handle).usage();
        self.peak_bytes = self.peak_bytes.max(usage.peak_bytes);
        let entry = &mut self.entries[handle.index as usize];
        if usage.blocks == 0 {
            entry.state = State::Free;
            self.free.push(handle.index);
            return Ok(());
        }
        let error = NotEmpty { bytes: usage.bytes, blocks: usage.blocks };
        if self.strict {
            die(format_args!("{error}"));
        }
        entry.state = State::Quarantined;
        self.quarantined += 1;
        Err(error)
    }

    /// Takes slots out of quarantine that have become empty (another thread freed the rest).
    pub fn recheck(&mut self) {
        if self.quarantined == 0 {
            return;
        }
        for (index, entry) in (0..).zip(&mut self.entries) {
            if entry.state == State::Quarantined && entry.slot.is_empty() {
                entry.state = State::Free;
                self.quarantined -= 1;
                self.free.push(index);
            }
        }
    }

    /// Slots in all.
    pub fn count(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Slots that are taken.
    pub fn taken(&self) -> u32 {
        self.count() - self.free.len() as u32 - self.quarantined
    }

    /// Slots in quarantine; at 5 % of all the process is not ready any more.
    pub fn quarantined(&self) -> u32 {
        self.quarantined
    }

    /// Whether so many slots are in quarantine that readiness must fail.
    pub fn is_ailing(&self) -> bool {
        u64::from(self.quarantined) * 20 >= u64::from(self.count())
    }

    /// Most bytes that any slot given back ever had in use.
    pub fn peak_bytes(&self) -> u32 {
        self.peak_bytes
    }
}

std::thread_local! {
    static RESERVE: Cell<*const Slot> = const { Cell::new(ptr::null()) };
}

/// The calling thread's reserve.
pub(super) fn reserve() -> Option<&'static Slot> {
    // SAFETY: slots live as long as the program.
    unsafe { RESERVE.with(Cell::get).as_ref() }
}

pub(super) fn is_reserve(slot: &Slot) -> bool {
    ptr::eq(RESERVE.with(Cell::get), slot)
}

/// Gives the calling thread a reserve of `bytes`: what its slots are too small for goes there.
/// Before the seal, once per thread that enters scopes.
pub fn make_reserve(bytes: usize) {
    assert!(RESERVE.with(Cell::get).is_null(), "one reserve per thread");
    let mut region = Region::map(bytes);
    region.touch(bytes);
    // SAFETY: a region of its own, never unmapped.
    let slot = unsafe { Slot::make(region.start(), bytes, u32::MAX) };
    register(&region, bytes, bytes);
    // The thread is inside for life: nobody else takes from its reserve.
    slot.go_inside();
    RESERVE.with(|reserve| reserve.set(slot));
}

/// Bytes in use in the calling thread's reserve; 0 between calls, or a connection must go.
pub fn reserve_bytes() -> u32 {
    reserve().map_or(0, |slot| slot.usage().bytes)
}

/// Most bytes ever in use in the calling thread's reserve.
pub fn reserve_peak_bytes() -> u32 {
    reserve().map_or(0, |slot| slot.usage().peak_bytes)
}

/// Memory of the reserve for a slot that is full, or the end.
pub(super) fn overflow(slot: &Slot, size: usize, align: usize) -> NonNull<u8> {
    slot.count_overflow();
    let Some(reserve) = reserve() else {
        die(format_args!("a slot is full and its thread has no reserve, bytes={size}"))
    };
    reserve.take_returned();
    match reserve.take(size, align) {
        Some(block) => block,
        None => die(format_args!("a slot and the thread's reserve are full, bytes={size}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scope;
    use super::*;

    #[test]
    fn takes_all_and_one_more_and_old_handles_are_refused() {
        let mut pool = SlotPool::new(3, 4096, 1024);
        let handles = [(); 3].map(|()| pool.take().unwrap());
        assert_eq!((pool.take(), pool.taken()), (None, 3));
        assert_eq!(pool.give_back(handles[1]), Ok(()));
        let again = pool.take().unwrap();
        assert_eq!(again.index, handles[1].index);
        assert_ne!(again, handles[1]);
        let look = std::panic::AssertUnwindSafe(|| pool.slot(handles[1]).capacity());
        let old = std::panic::catch_unwind(look);
        assert!(old.is_err());
    }

    #[test]
    fn slots_are_apart_and_found_by_address() {
        let mut pool = SlotPool::new(3, 4096, 1024);
        let handles = [(); 3].map(|()| pool.take().unwrap());
        let slots = handles.map(|handle| pool.slot(handle));
        let mut blocks = std::vec![];
        for slot in slots {
            let (block, left) = scope::run(slot, || slot.take(slot.capacity(), 16).unwrap());
            assert!(left.over_cap && left.must_close() && !slot.is_empty());
            // SAFETY: the block was handed out with this size.
            unsafe { block.write_bytes(0xff, slot.capacity()) };
            blocks.push(block);
        }
        for (slot, block) in slots.into_iter().zip(blocks) {
            assert!(ptr::eq(find(block.as_ptr()).unwrap(), slot));
            slot.free(block);
            assert!(slot.is_empty());
        }
        let mine = 0u8;
        assert!(find(&raw const mine).is_none() && find(ptr::null()).is_none());
    }

    #[test]
    fn not_empty_is_quarantined_until_it_is() {
        let mut pool = SlotPool::new(30, 4096, 1024);
        let handle = pool.take().unwrap();
        let slot = pool.slot(handle);
        let (block, left) = scope::run(slot, || slot.take(100, 8).unwrap());
        assert!(!left.must_close());
        assert_eq!(pool.give_back(handle), Err(NotEmpty { bytes: 112, blocks: 1 }));
        assert_eq!((pool.quarantined(), pool.taken(), pool.peak_bytes()), (1, 0, 112));
        assert!(!pool.is_ailing());
        let others: Vec<_> = (0..29).map(|_| pool.take().unwrap()).collect();
        assert!(pool.take().is_none());
        pool.recheck();
        assert_eq!(pool.quarantined(), 1);
        // Another thread gives the block back, without being inside.
        let block = block.as_ptr().expose_provenance();
        std::thread::scope(|threads| {
            let free = || slot.free(NonNull::new(ptr::with_exposed_provenance_mut(block)).unwrap());
            threads.spawn(free);
        });
        pool.recheck();
        assert_eq!((pool.quarantined(), pool.taken()), (0, 29));
        assert!(pool.take().is_some());
        drop(others);
    }

    #[test]
    fn ailing_at_five_percent() {
        let mut pool = SlotPool::new(20, 4096, 1024);
        let handle = pool.take().unwrap();
        let slot = pool.slot(handle);
        let _ = scope::run(slot, || slot.take(1, 1).unwrap());
        assert!(!pool.is_ailing() && pool.give_back(handle).is_err() && pool.is_ailing());
    }

    #[test]
    fn scopes_nest_and_restore() {
        let mut pool = SlotPool::new(2, 4096, 1024);
        let slots = [(); 2].map(|()| {
            let handle = pool.take().unwrap();
            pool.slot(handle)
        });
        let is = |slot: Option<&'static Slot>| match (scope::current(), slot) {
            (Some(a), Some(b)) => ptr::eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let outer = scope::enter(slots[0]);
        let inner = scope::enter(slots[1]);
        let again = scope::enter(slots[0]);
        assert!(is(Some(slots[0])) && slots[1].is_inside());
        drop(again);
        assert!(is(Some(slots[1])) && slots[0].is_inside());
        let _ = inner.leave();
        assert!(is(Some(slots[0])) && !slots[1].is_inside());
        let _ = outer.leave();
        assert!(is(None) && !slots[0].is_inside());
    }
}
