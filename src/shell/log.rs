//! The log: each thread writes lines into a ring of its own and never waits; one log thread writes
//! them to descriptor 2. A descriptor that blocks blocks the log thread and nobody else.
//!
//! In: `log!(Info, "area", "message key={}", value)`. Out: lines on descriptor 2. Before
//! [`register`] (in main, in tests) a line goes to descriptor 2 directly.

use crate::limits::{MAX_LOG_LINE_BYTES, MAX_THREADS};
use crate::log_ring::{Level, LogReader, LogRing, LogWriter, format_line};
use crate::shell::clock;
use crate::shell::place::boxed_zeroed;
use core::cell::Cell;
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use std::boxed::Box;
use std::sync::Mutex;

/// Writes a line: `log!(Warn, "watch", "gone kind={}", kind)`. Formats into a fixed buffer, does
/// not allocate, does not wait.
#[macro_export]
macro_rules! log {
    ($level:ident, $area:expr, $($message:tt)+) => {
        $crate::shell::log::write(
            $crate::log_ring::Level::$level, $area, core::format_args!($($message)+))
    };
}
pub use crate::log;

std::thread_local! {
    // const: no lazy initialisation; a pointer: no destructor to register.
    static WRITER: Cell<*mut LogWriter<'static>> = const { Cell::new(ptr::null_mut()) };
}

/// The readers' ends until the log thread takes them.
static READERS: Mutex<heapless::Vec<LogReader<'static>, { MAX_THREADS as usize }>> =
    Mutex::new(heapless::Vec::new());
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);
/// The log thread's eventfd; -1 while there is none.
static WAKE: AtomicI32 = AtomicI32::new(-1);
/// The log thread sleeps and wants to be woken.
static ASLEEP: AtomicBool = AtomicBool::new(false);
/// Times the log thread found all rings empty.
static IDLE: AtomicU64 = AtomicU64::new(0);
/// Lines that no ring took.
static DROPPED: AtomicU32 = AtomicU32::new(0);

/// Lines above this level are not written.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Gives the calling thread a ring. Before the seal, once per thread; `threads` does it.
pub fn register() {
    let (writer, reader) = Box::leak(boxed_zeroed::<LogRing>()).split();
    let writer = Box::leak(Box::new(writer));
    let mut readers = READERS.lock().unwrap_or_else(|e| e.into_inner());
    assert!(readers.push(reader).is_ok(), "more than MAX_THREADS threads");
    WRITER.with(|cell| {
        assert!(cell.get().is_null(), "registered once");
        cell.set(writer);
    });
}

/// Writes a line; see [`log!`](crate::log).
pub fn write(level: Level, area: &str, message: fmt::Arguments<'_>) {
    if level as u8 > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let wall = clock::now().wall;
    let writer = WRITER.with(Cell::take);
    if writer.is_null() {
        // No ring: before the threads, or a message whose arguments log themselves.
        let mut line = [0; MAX_LOG_LINE_BYTES as usize];
        let len = format_line(&mut line, wall, level, area, message);
        write_descriptor(2, &line[..len]);
        return;
    }
    // SAFETY: the writer was leaked, is this thread's alone, and the cell is empty while in use.
    unsafe { (*writer).write(wall, level, area, message) };
    WRITER.with(|cell| cell.set(writer));
    wake();
}

fn wake() {
    // The line was stored before the flag is read; the log thread does it the other way round.
    fence(Ordering::SeqCst);
    if ASLEEP.load(Ordering::SeqCst) && ASLEEP.swap(false, Ordering::SeqCst) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes to read from; an eventfd that does not block.
        let _ = unsafe { libc::write(WAKE.load(Ordering::SeqCst), one.as_ptr().cast(), 8) };
    }
}

/// Writes bytes to a descriptor, waiting if it must; gives up on an error (there is nobody to
/// tell).
fn write_descriptor(fd: i32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: pointer and length are those of a slice we may read.
        let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(n) {
            Ok(n) => bytes = &bytes[n..],
            Err(_) if super::files::errno() == libc::EINTR => {}
            // A non-blocking descriptor (shared with somebody who made it so): wait for it.
            Err(_) if super::files::errno() == libc::EAGAIN => poll(fd, libc::POLLOUT, -1),
            Err(_) => return,
        }
    }
}

fn poll(fd: i32, events: i16, timeout_ms: i32) {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one pollfd.
    let _ = unsafe { libc::poll(&raw mut poll, 1, timeout_ms) };
}

/// The log thread's work: owns the reading ends.
#[derive(Debug)]
pub struct Drain {
    readers: heapless::Vec<LogReader<'static>, { MAX_THREADS as usize }>,
    descriptor: i32,
    wake: i32,
}

impl Drain {
    /// For the log thread, after all threads have registered.
    pub fn new(descriptor: i32) -> Drain {
        let mut readers = READERS.lock().unwrap_or_else(|e| e.into_inner());
        // SAFETY: a plain system call.
        let wake = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        assert!(wake >= 0, "eventfd: errno {}", super::files::errno());
        WAKE.store(wake, Ordering::SeqCst);
        Drain { readers: core::mem::take(&mut readers), descriptor, wake }
    }

    /// Writes all that is there, a line of each thread at a time; whether there was something.
    pub fn drain(&mut self) -> bool {
        let mut any = false;
        let mut again = true;
        while again {
            again = false;
            for reader in &mut self.readers {
                again |= reader.next(|line| write_descriptor(self.descriptor, line));
            }
            any |= again;
        }
        let dropped: u32 = self.readers.iter().map(LogReader::take_dropped).sum();
        if dropped > 0 {
            DROPPED.fetch_add(dropped, Ordering::Relaxed);
            let mut line = [0; MAX_LOG_LINE_BYTES as usize];
            let message = format_args!("lines dropped, the log's reader was slow count={dropped}");
            let len = format_line(&mut line, clock::now().wall, Level::Warn, "log", message);
            write_descriptor(self.descriptor, &line[..len]);
        }
        any
    }

    /// Drains and sleeps, for ever.
    pub fn run(mut self) -> ! {
        loop {
            self.drain();
            ASLEEP.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            // What came before the flag was seen would otherwise wait.
            if self.drain() {
                continue;
            }
            IDLE.fetch_add(1, Ordering::SeqCst);
            poll(self.wake, libc::POLLIN, 1000);
            let mut count = [0u8; 8];
            // SAFETY: eight bytes to write to; the descriptor does not block.
            let _ = unsafe { libc::read(self.wake, count.as_mut_ptr().cast(), 8) };
        }
    }
}

/// Lines dropped since the start, for metrics.
pub fn dropped() -> u32 {
    DROPPED.load(Ordering::Relaxed)
}

/// Waits until the log thread has written everything, or the time is over. Before leaving.
pub fn flush(timeout_ms: u64) {
    if WAKE.load(Ordering::SeqCst) < 0 {
        return;
    }
    let deadline = clock::now().mono + crate::stdx::Duration::from_millis(timeout_ms);
    // Twice: the first may have looked before the last line came.
    let target = IDLE.load(Ordering::SeqCst) + 2;
    while IDLE.load(Ordering::SeqCst) < target && clock::now().mono < deadline {
        wake();
        poll(-1, 0, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::string::String;

    fn pipe() -> (std::fs::File, OwnedFd) {
        let mut fds = [0; 2];
        // SAFETY: room for two descriptors, which are then owned here alone.
        unsafe {
            assert_eq!(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC), 0);
            libc::fcntl(fds[1], libc::F_SETPIPE_SZ, 4096);
            (std::fs::File::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
        }
    }

    #[test]
    fn a_reader_that_does_not_read_stops_the_log_thread_alone() {
        let (mut read_end, write_end) = pipe();
        let (mut writer, reader) = Box::leak(boxed_zeroed::<LogRing>()).split();
        let mut readers = heapless::Vec::new();
        assert!(readers.push(reader).is_ok());
        let mut drain = Drain { readers, descriptor: write_end.as_raw_fd(), wake: -1 };
        const LINES: u32 = 5000;
        let text = std::thread::scope(|threads| {
            // Blocks: the pipe holds a page, and nobody reads until all lines are written.
            threads.spawn(move || {
                while write_end.as_raw_fd() >= 0 && DONE.load(Ordering::SeqCst) == 0 {
                    drain.drain();
                }
                drain.drain();
            });
            static DONE: AtomicU32 = AtomicU32::new(0);
            for n in 0..LINES {
                writer.write(clock::now().wall, Level::Info, "test", format_args!("n={n}."));
            }
            DONE.store(1, Ordering::SeqCst);
            let mut text = String::new();
            read_end.read_to_string(&mut text).unwrap();
            text
        });
        let dropped: u32 =
            text.lines().filter_map(|line| line.split_once("count=")?.1.parse::<u32>().ok()).sum();
        let written = text.lines().filter(|line| line.contains(" test: n=")).count();
        assert!(dropped > 0 && text.starts_with("20") && text.contains("n=0.\n"));
        assert_eq!(written + dropped as usize, LINES as usize);
    }
}
