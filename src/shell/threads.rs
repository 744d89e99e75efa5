//! All threads of the process: spawned before the seal, named, on stacks of fixed size whose pages
//! are touched; they begin their work together, after the seal, and never end.
//!
//! In: bodies. Each prepares what it needs (this may still allocate), calls [`Gate::wait`], works,
//! and returns when it has drained. Out: [`Running`], which knows how many have returned. A thread
//! that has returned sleeps until the process leaves: the end of a thread would give memory back.

use super::{clock, log};
use crate::limits::{MAX_THREADS, THREAD_STACK_BYTES};
use crate::stdx::{Duration, Instant};
use core::hint::black_box;
use core::mem::MaybeUninit;
use std::boxed::Box;
use std::string::ToString;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::Builder;

#[derive(Debug, Default)]
struct State {
    arrived: u32,
    open: bool,
    finished: u32,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes the state and waits until `done` holds.
    fn update_and_wait(&self, update: impl FnOnce(&mut State), done: impl Fn(&State) -> bool) {
        let mut state = self.lock();
        update(&mut state);
        self.changed.notify_all();
        while !done(&state) {
            state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

/// Threads that are being started.
#[derive(Debug)]
pub struct Crew {
    shared: &'static Shared,
    spawned: u32,
}

/// What a thread waits at before it works.
#[derive(Debug)]
pub struct Gate {
    shared: &'static Shared,
}

impl Gate {
    /// Says that this thread is prepared, and waits until all are and memory is sealed.
    pub fn wait(self) {
        log::register();
        self.shared.update_and_wait(|s| s.arrived += 1, |s| s.open);
    }
}

impl Crew {
    /// No thread yet. Once per process; what it needs stays for ever.
    pub fn new() -> Crew {
        Crew { shared: Box::leak(Box::default()), spawned: 0 }
    }

    /// Starts a thread. The name (at most 15 bytes, as the kernel keeps it) is in logs and `ps`.
    pub fn spawn(&mut self, name: &str, body: impl FnOnce(Gate) + Send + 'static) {
        assert!(name.len() <= 15, "the kernel keeps 15 bytes of a thread's name");
        // One place is the log thread's, one the main thread's.
        assert!(self.spawned + 2 < MAX_THREADS, "more than MAX_THREADS threads");
        self.spawned += 1;
        let shared = self.shared;
        let run = move || {
            touch_stack();
            body(Gate { shared });
            shared.update_and_wait(|s| s.finished += 1, |_| false);
        };
        let builder = Builder::new().name(name.to_string()).stack_size(STACK);
        // Nothing waits for the handle: the thread does not end.
        drop(builder.spawn(run).expect("a thread can be started"));
    }

    /// Waits until all threads are prepared, starts the log thread, calls `seal`, and lets all go.
    pub fn start(self, log_descriptor: i32, seal: impl FnOnce()) -> Running {
        let Crew { shared, spawned } = self;
        log::register();
        touch_main_stack();
        shared.update_and_wait(|_| (), |s| s.arrived + s.finished == spawned);
        let run = move || {
            touch_stack();
            let drain = log::Drain::new(log_descriptor);
            shared.update_and_wait(|s| s.arrived += 1, |s| s.open);
            drain.run()
        };
        let builder = Builder::new().name("log".to_string()).stack_size(STACK);
        drop(builder.spawn(run).expect("a thread can be started"));
        shared.update_and_wait(|_| (), |s| s.arrived + s.finished == spawned + 1);
        seal();
        shared.update_and_wait(|s| s.open = true, |_| true);
        Running { shared, spawned }
    }
}

impl Default for Crew {
    fn default() -> Self {
        Self::new()
    }
}

/// Threads at work.
#[derive(Debug)]
pub struct Running {
    shared: &'static Shared,
    spawned: u32,
}

impl Running {
    /// How many threads were started (the log thread and main not counted).
    pub fn spawned(&self) -> u32 {
        self.spawned
    }

    /// How many have returned.
    pub fn finished(&self) -> u32 {
        self.shared.lock().finished
    }

    /// Waits until all have returned or the deadline is there; whether all have.
    pub fn wait_finished(&self, deadline: Instant) -> bool {
        let mut state = self.shared.lock();
        while state.finished < self.spawned {
            let left = deadline.since(clock::now().mono);
            if left == Duration::ZERO {
                return false;
            }
            let left = core::time::Duration::from_nanos(left.0);
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        true
    }
}

/// Leaves the process: the log is written (for at most 200 ms), nothing is freed, nothing is run.
pub fn leave(code: i32) -> ! {
    log::flush(200);
    // SAFETY: _exit does not return.
    unsafe { libc::_exit(code) }
}

/// What a thread is started with: its stack, and the pages that std and libc put on top.
const STACK: usize = THREAD_STACK_BYTES as usize;

/// Makes the kernel give this thread's whole stack now, so that the plan is what is used.
///
/// Only for threads that libc started: their stack is one mapping with a guard below it.
fn touch_stack() {
    let page = super::memory::region::page_bytes();
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut bottom, mut len, mut guard) = (core::ptr::null_mut(), 0, 0);
    // SAFETY: the attributes are initialised by the first call and destroyed by the last; the out
    // pointers are to locals.
    unsafe {
        let result = libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr());
        assert!(result == 0, "pthread_getattr_np: errno {result}");
        libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut bottom, &raw mut len);
        libc::pthread_attr_getguardsize(attributes.as_ptr(), &raw mut guard);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
    }
    let here = (&raw const len).addr();
    let bottom: *mut u8 = bottom.cast();
    assert!((bottom.addr()..bottom.addr() + len).contains(&here), "not on this stack");
    // Not the pages in use (this frame and what is close), and not the guard, which some versions
    // of libc count as part of the stack.
    let end = (here - bottom.addr()).saturating_sub(4 * page);
    for offset in (guard..end).step_by(page) {
        // SAFETY: below the frames in use and above the guard, in a mapping that is this thread's
        // alone and that nobody refers to; signals are blocked in threads.
        unsafe { bottom.add(offset).write_volatile(0) };
    }
}

/// What of the main thread's stack is resident from the start, and more than it uses: its frames,
/// environment and arguments included.
pub const MAIN_STACK_BYTES: usize = 144 * 1024;

/// The main thread's stack grows by itself; what main may use from here on is touched by a frame.
#[inline(never)]
fn touch_main_stack() {
    #[expect(clippy::large_stack_arrays, reason = "its purpose")]
    let mut frame = [0u8; MAIN_STACK_BYTES - 16 * 1024];
    black_box(&mut frame);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn prepares_seals_works_finishes() {
        static PREPARED: AtomicU32 = AtomicU32::new(0);
        static SEALED_AT: AtomicU32 = AtomicU32::new(0);
        static WORKED: AtomicU32 = AtomicU32::new(0);
        let mut crew = Crew::new();
        for name in ["one", "two", "three"] {
            crew.spawn(name, |gate| {
                PREPARED.fetch_add(1, Ordering::SeqCst);
                gate.wait();
                assert_eq!(SEALED_AT.load(Ordering::SeqCst), 3);
                WORKED.fetch_add(1, Ordering::SeqCst);
            });
        }
        // A thread that finds nothing to do holds nobody up.
        crew.spawn("idle", drop);
        let running = crew.start(2, || {
            assert_eq!(WORKED.load(Ordering::SeqCst), 0);
            SEALED_AT.store(PREPARED.load(Ordering::SeqCst), Ordering::SeqCst);
        });
        assert!(running.wait_finished(clock::now().mono + Duration::from_secs(30)));
        assert_eq!((running.finished(), WORKED.load(Ordering::SeqCst)), (4, 3));
        log::flush(1000);
    }
}
