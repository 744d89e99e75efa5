//! Signals: SIGTERM and SIGINT ask to drain, SIGHUP to read files again; a second SIGTERM or SIGINT
//! leaves at once, whatever the threads are doing.
//!
//! In: [`Signals::install`] in main, before any thread: it blocks the signals, so that threads
//! inherit the mask; [`listen`] in the one thread that takes them. Out: a descriptor that
//! becomes readable (for mio's `SourceFd`), and what has come since.

use super::files::errno;
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::os::fd::RawFd;

static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);
static TERMINATED: AtomicU32 = AtomicU32::new(0);
static RELOAD: AtomicBool = AtomicBool::new(false);

const TAKEN: [c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Exit code of a process that a second signal ended: 128 + the signal, as shells say it.
pub const fn exit_code(signal: i32) -> i32 {
    128 + signal
}

/// What has come since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// SIGTERM or SIGINT came (it stays true).
    pub terminate: bool,
    /// SIGHUP came since the last look.
    pub reload: bool,
}

/// The taken signals. One per process.
#[derive(Debug)]
pub struct Signals {
    fd: RawFd,
}

impl Signals {
    /// Blocks the signals in this thread and those it starts, and installs the handler.
    pub fn install() -> Signals {
        // SAFETY: plain system calls; the handler only touches atomics, write(2) and _exit(2).
        unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            assert!(fd >= 0, "eventfd: errno {}", errno());
            let before = DESCRIPTOR.swap(fd, Ordering::SeqCst);
            assert!(before == -1, "signals are installed once");
            mask(libc::SIG_BLOCK);
            let mut action: libc::sigaction = core::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            for signal in TAKEN {
                let result = libc::sigaction(signal, &raw const action, core::ptr::null_mut());
                assert!(result == 0, "sigaction: errno {}", errno());
            }
            Signals { fd }
        }
    }

    /// Readable when something came: for `mio::unix::SourceFd`.
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// Sleeps until something comes.
    pub fn wait(&self) {
        let mut poll = libc::pollfd { fd: self.fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd; an interrupted call returns, and the caller looks again.
        unsafe { libc::poll(&raw mut poll, 1, -1) };
    }

    /// Empties the descriptor and says what came.
    pub fn take(&self) -> Taken {
        let mut count = [0u8; 8];
        // SAFETY: eight bytes to write to; the descriptor is open and does not block.
        let _ = unsafe { libc::read(self.fd, count.as_mut_ptr().cast(), 8) };
        Taken {
            terminate: TERMINATED.load(Ordering::SeqCst) > 0,
            reload: RELOAD.swap(false, Ordering::SeqCst),
        }
    }
}

/// From now on the calling thread takes the signals; call it in one thread, after the others were
/// started (they inherit the mask).
pub fn listen() {
    mask(libc::SIG_UNBLOCK);
}

fn mask(how: c_int) {
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut set: libc::sigset_t = core::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in TAKEN {
            libc::sigaddset(&raw mut set, signal);
        }
        let result = libc::pthread_sigmask(how, &raw const set, core::ptr::null_mut());
        assert!(result == 0, "pthread_sigmask");
    }
}

/// Only what signal-safety(7) allows.
extern "C" fn handle(signal: c_int) {
    if signal == libc::SIGHUP {
        RELOAD.store(true, Ordering::SeqCst);
    } else if TERMINATED.fetch_add(1, Ordering::SeqCst) > 0 {
        // SAFETY: _exit is async-signal-safe.
        unsafe { libc::_exit(exit_code(signal)) };
    }
    // SAFETY: write is async-signal-safe; errno is put back: the interrupted code may read it.
    unsafe {
        let location = libc::__errno_location();
        let before = *location;
        let one = 1u64.to_ne_bytes();
        let _ = libc::write(DESCRIPTOR.load(Ordering::SeqCst), one.as_ptr().cast(), 8);
        *location = before;
    }
}
