//! The binary's global allocator: libc's before the seal, slots only after it.
//!
//! | | before the seal | after the seal |
//! |---|---|---|
//! | allocate in a scope | its slot, then the thread's reserve | the same |
//! | allocate outside | libc, counted | abort (counting mode: libc, counted, reported) |
//! | free of a slot's or reserve's memory | there, from any thread | the same |
//! | free of libc's memory | libc | nothing: leaked on purpose, counted |
//!
//! While a panic is under way after the seal, std formats its message: that goes to a small static
//! arena, since the process ends.

use super::report::{die, say};
use super::slot::Slot;
use super::{pool, scope};
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::alloc::System;

/// The global allocator: `#[global_allocator] static ALLOCATOR: Allocator = Allocator;`
#[derive(Clone, Copy, Debug)]
pub struct Allocator;

/// What the seal does with an allocation outside a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Abort.
    Abort,
    /// Let it pass, count it, report the first ones on descriptor 2. For tests that look for them.
    Count,
}

impl Mode {
    /// [`Mode::Count`] when SERVAL_SEAL=count is in the environment.
    pub fn from_environment() -> Mode {
        let count = std::env::var_os("SERVAL_SEAL").is_some_and(|value| value == "count");
        if count { Mode::Count } else { Mode::Abort }
    }
}

const OPEN: u8 = 0;
const COUNTING: u8 = 1;
const SEALED: u8 = 2;
static SEAL: AtomicU8 = AtomicU8::new(OPEN);

/// How many escapes the counting mode reports; it counts all.
const MAX_REPORTS: u64 = 32;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE_BYTES: AtomicU64 = AtomicU64::new(0);
static PEAK_BYTES: AtomicU64 = AtomicU64::new(0);
static ESCAPES: AtomicU64 = AtomicU64::new(0);
static ESCAPED_BYTES: AtomicU64 = AtomicU64::new(0);
static LEAKS: AtomicU64 = AtomicU64::new(0);
static LEAKED_BYTES: AtomicU64 = AtomicU64::new(0);

/// What was counted. All zero where the allocator is not installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Allocations from libc before the seal.
    pub start_allocations: u64,
    /// Bytes of them that were not freed before the seal: the plan's line "heap".
    pub start_bytes: u64,
    /// Most bytes at one time before the seal.
    pub start_peak_bytes: u64,
    /// Allocations outside a scope after the seal (counting mode; else the first one aborts).
    pub escapes: u64,
    /// Bytes of them.
    pub escaped_bytes: u64,
    /// Frees after the seal of memory from before it; it stays.
    pub leaks: u64,
    /// Bytes of them.
    pub leaked_bytes: u64,
}

/// What was counted so far.
pub fn statistics() -> Statistics {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Statistics {
        start_allocations: get(&ALLOCATIONS),
        start_bytes: get(&LIVE_BYTES),
        start_peak_bytes: get(&PEAK_BYTES),
        escapes: get(&ESCAPES),
        escaped_bytes: get(&ESCAPED_BYTES),
        leaks: get(&LEAKS),
        leaked_bytes: get(&LEAKED_BYTES),
    }
}

/// From now on nothing is allocated outside scopes. Once; all threads exist and wait.
pub fn seal(mode: Mode) {
    let state = if mode == Mode::Count { COUNTING } else { SEALED };
    let before = SEAL.swap(state, Ordering::SeqCst);
    assert!(before == OPEN, "sealed once");
}

/// Whether [`seal`] was called.
pub fn is_sealed() -> bool {
    SEAL.load(Ordering::Relaxed) != OPEN
}

// SAFETY: memory comes from System, from slots or from the emergency arena, each of which keeps the
// contract; a free finds its origin by address. Nothing here unwinds.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(block) = take_fixed(layout) {
            return block.as_ptr();
        }
        before_system(layout.size());
        // SAFETY: the caller's layout.
        unsafe { if is_mapped(layout) { map(layout) } else { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if let Some(block) = take_fixed(layout) {
            // SAFETY: just taken with this size.
            unsafe { block.write_bytes(0, layout.size()) };
            return block.as_ptr();
        }
        before_system(layout.size());
        // SAFETY: the caller's layout.
        unsafe { if is_mapped(layout) { map(layout) } else { System.alloc_zeroed(layout) } }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match slot_of(pointer) {
            Some(slot) => free_fixed(slot, pointer),
            // SAFETY: not of a slot, so System's, or left alone.
            None => unsafe { free_system(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let slot = slot_of(pointer);
        let open = SEAL.load(Ordering::Relaxed) == OPEN && scope::current().is_none();
        if slot.is_none() && open && layout.align() <= MALLOC_ALIGN {
            before_system(size);
            freed(layout.size());
            // SAFETY: outside scopes before the seal what is not of a slot is System's.
            return unsafe { System.realloc(pointer, layout, size) };
        }
        if let (Some(slot), Some(block)) = (slot, NonNull::new(pointer))
            && slot.is_inside()
            && !comes_home(slot, size)
            && slot.resize(block, size)
        {
            return pointer;
        }
        // SAFETY: the new layout is the caller's alignment with the size he asks for; the old block
        // has layout.size() bytes, the new one at least `size`, and they are apart.
        unsafe {
            let layout_new = Layout::from_size_align_unchecked(size, layout.align());
            let new = self.alloc(layout_new);
            if !new.is_null() {
                ptr::copy_nonoverlapping(pointer, new, layout.size().min(size));
                self.dealloc(pointer, layout);
            }
            new
        }
    }
}

/// What libc's malloc aligns to.
const MALLOC_ALIGN: usize = 16;

/// Large blocks of a larger alignment are mapped: libc would take them by aligned_alloc and write
/// zeros to every page, though most of a table above its capacity is never touched.
fn is_mapped(layout: Layout) -> bool {
    layout.align() > MALLOC_ALIGN && layout.align() <= 4096 && layout.size() >= 1 << 16
}

/// # Safety
/// The contract of [`GlobalAlloc::alloc_zeroed`], for a layout that [`is_mapped`].
unsafe fn map(layout: Layout) -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh anonymous mapping of zero pages, aligned to a page.
    unsafe {
        let start = libc::mmap(ptr::null_mut(), layout.size(), protection, flags, -1, 0);
        if start == libc::MAP_FAILED { ptr::null_mut() } else { start.cast() }
    }
}

/// Memory that is not libc's: None before the seal outside a scope (and in counting mode).
fn take_fixed(layout: Layout) -> Option<NonNull<u8>> {
    let (size, align) = (layout.size(), layout.align());
    let sealed = SEAL.load(Ordering::Relaxed);
    if sealed != OPEN && std::thread::panicking() {
        return Some(emergency(layout));
    }
    if let Some(slot) = scope::current() {
        return Some(slot.take(size, align).unwrap_or_else(|| pool::overflow(slot, size, align)));
    }
    match sealed {
        OPEN => None,
        COUNTING => {
            let count = ESCAPES.fetch_add(1, Ordering::Relaxed);
            ESCAPED_BYTES.fetch_add(size as u64, Ordering::Relaxed);
            if count < MAX_REPORTS {
                say(format_args!("sealed: allocation of {size} bytes outside a scope (counted)"));
            }
            None
        }
        _ => die(format_args!("sealed: allocation of {size} bytes outside a scope")),
    }
}

/// Whether a block of the reserve shall move into the current slot, which has room again.
fn comes_home(slot: &Slot, size: usize) -> bool {
    let Some(current) = scope::current() else { return false };
    pool::is_reserve(slot) && !ptr::eq(current, slot) && current.has_room(size)
}

/// The slot a pointer lies in; the current scope's is looked at first.
fn slot_of(pointer: *mut u8) -> Option<&'static Slot> {
    scope::current().filter(|slot| slot.holds(pointer)).or_else(|| pool::find(pointer))
}

fn free_fixed(slot: &Slot, pointer: *mut u8) {
    if let Some(block) = NonNull::new(pointer) {
        slot.free(block);
    }
}

/// Frees what is not of a slot.
///
/// # Safety
/// The contract of [`GlobalAlloc::dealloc`].
unsafe fn free_system(pointer: *mut u8, layout: Layout) {
    match SEAL.load(Ordering::Relaxed) {
        SEALED => {
            LEAKS.fetch_add(1, Ordering::Relaxed);
            LEAKED_BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        }
        _ if is_emergency(pointer) => {}
        state => {
            if state == OPEN {
                freed(layout.size());
            }
            // SAFETY: not of a slot, not of the emergency arena: System's.
            unsafe {
                if is_mapped(layout) {
                    libc::munmap(pointer.cast(), layout.size());
                } else {
                    System.dealloc(pointer, layout);
                }
            };
        }
    }
}

fn before_system(size: usize) {
    if SEAL.load(Ordering::Relaxed) == OPEN {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        let live = LIVE_BYTES.fetch_add(size as u64, Ordering::Relaxed) + size as u64;
        PEAK_BYTES.fetch_max(live, Ordering::Relaxed);
    }
}

fn freed(size: usize) {
    LIVE_BYTES.fetch_sub(size as u64, Ordering::Relaxed);
}

/// What a panic's message is formatted into after the seal; never given back.
#[repr(align(64))]
struct Emergency(UnsafeCell<[u8; 16 * 1024]>);

// SAFETY: `emergency` hands out each byte once.
unsafe impl Sync for Emergency {}

static EMERGENCY: Emergency = Emergency(UnsafeCell::new([0; 16 * 1024]));
static EMERGENCY_USED: AtomicUsize = AtomicUsize::new(0);

fn is_emergency(pointer: *const u8) -> bool {
    pointer.addr().wrapping_sub(EMERGENCY.0.get().addr()) < size_of::<Emergency>()
}

fn emergency(layout: Layout) -> NonNull<u8> {
    let bytes = layout.size() + layout.align();
    let offset = EMERGENCY_USED.fetch_add(bytes, Ordering::Relaxed);
    if offset + bytes > size_of::<Emergency>() {
        die(format_args!("panic with a long message"));
    }
    // SAFETY: inside the arena; fetch_add gave these bytes to nobody else.
    unsafe {
        let start = EMERGENCY.0.get().cast::<u8>().add(offset);
        NonNull::new_unchecked(start.add(start.align_offset(layout.align())))
    }
}
