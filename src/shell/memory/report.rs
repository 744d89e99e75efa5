//! The last words: a line on descriptor 2 without allocation, then abort.
//!
//! In: what happened. Out: `serval: <what>, thread <name>, from <addresses>`; the addresses are
//! relative to the executable's start (`addr2line -e serval 0x…`). Used by the allocator itself and
//! by the panic hook, so that nothing here may allocate, lock or panic.

use crate::stdx::text::Truncating;
use core::ffi::{c_int, c_void};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};
use std::boxed::Box;
use std::panic::PanicHookInfo;

/// Return addresses in a report.
const MAX_FRAMES: usize = 24;

/// Writes the line and aborts.
#[cold]
pub fn die(what: fmt::Arguments<'_>) -> ! {
    say(what);
    // SAFETY: abort does not return.
    unsafe { libc::abort() }
}

/// Writes the line.
#[cold]
pub fn say(what: fmt::Arguments<'_>) {
    let mut buffer = [0; 1024];
    let mut line = Truncating::new(&mut buffer);
    // A Truncating never fails.
    let _ = write!(line, "serval: {what}, thread {}, from", ThreadName::of_this());
    for address in Frames::of_caller().as_slice() {
        let _ = write!(line, " {:#x}", address.wrapping_sub(executable_start()));
    }
    write_line(line.finish().as_bytes());
}

fn write_line(text: &[u8]) {
    let newline = b"\n";
    let parts = [text, newline]
        .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
    // SAFETY: two parts that are slices; the kernel only reads them. One call, so that lines of
    // two threads do not mix; there is nobody to tell that it failed.
    let _ = unsafe { libc::writev(2, parts.as_ptr(), 2) };
}

/// The calling thread's name as the kernel has it.
struct ThreadName([u8; 16]);

impl ThreadName {
    fn of_this() -> ThreadName {
        let mut name = [0; 16];
        // SAFETY: PR_GET_NAME writes at most 16 bytes.
        let _ = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        ThreadName(name)
    }
}

impl fmt::Display for ThreadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.0.iter().position(|&b| b == 0).unwrap_or(16);
        f.write_str(core::str::from_utf8(&self.0[..len]).unwrap_or("?"))
    }
}

unsafe extern "C" {
    /// The unwinder that std brings (Itanium C++ ABI, level 1).
    fn _Unwind_Backtrace(
        trace: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
    /// The executable's first byte; the linker defines it.
    static __ehdr_start: u8;
}

/// Where the executable was loaded.
fn executable_start() -> usize {
    (&raw const __ehdr_start).addr()
}

/// Return addresses, innermost first.
struct Frames {
    count: usize,
    addresses: [usize; MAX_FRAMES],
}

impl Frames {
    #[inline(never)]
    fn of_caller() -> Frames {
        let mut frames = Frames { count: 0, addresses: [0; MAX_FRAMES] };
        // SAFETY: `trace` gets the pointer to `frames` back, which lives until the call is over.
        unsafe { _Unwind_Backtrace(trace, (&raw mut frames).cast()) };
        frames
    }

    fn as_slice(&self) -> &[usize] {
        // Without this function, say and die.
        self.addresses[..self.count].get(2..).unwrap_or(&[])
    }
}

extern "C" fn trace(context: *mut c_void, frames: *mut c_void) -> c_int {
    // SAFETY: `of_caller` passed a Frames, and nobody else refers to it now.
    let frames = unsafe { &mut *frames.cast::<Frames>() };
    // SAFETY: the context is the unwinder's.
    frames.addresses[frames.count] = unsafe { _Unwind_GetIP(context) };
    frames.count += 1;
    // _URC_NO_REASON goes on, _URC_END_OF_STACK stops.
    if frames.count < MAX_FRAMES { 0 } else { 5 }
}

/// Makes a panic say its place and message on descriptor 2 without allocation. First in main.
///
/// std formats the message before it calls the hook; after the seal into the emergency arena.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(on_panic));
}

fn on_panic(info: &PanicHookInfo<'_>) {
    static PANICS: AtomicU32 = AtomicU32::new(0);
    if PANICS.fetch_add(1, Ordering::SeqCst) > 8 {
        return;
    }
    let message = info.payload_as_str().unwrap_or("?");
    match info.location() {
        Some(at) => say(format_args!("panic at {}:{}: {message}", at.file(), at.line())),
        None => say(format_args!("panic: {message}")),
    }
    if super::is_sealed() {
        // SAFETY: abort does not return. What runs after a hook may allocate.
        unsafe { libc::abort() }
    }
}
