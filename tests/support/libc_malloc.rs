//! Counts the calls of libc's malloc family, from whomever they come.
//!
//! Linked into tests/seal.rs as a module; built as a cdylib and loaded with LD_PRELOAD it counts
//! for any program linked to glibc, into the file (8 bytes) that SERVAL_MALLOC_COUNT names.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

static OWN: AtomicU64 = AtomicU64::new(0);
static COUNTER: AtomicPtr<AtomicU64> = AtomicPtr::new((&raw const OWN).cast_mut());

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(pointer: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_memalign(align: usize, size: usize) -> *mut c_void;
    fn __libc_free(pointer: *mut c_void);
    fn getenv(name: *const u8) -> *const u8;
    fn open(path: *const u8, flags: c_int, ...) -> c_int;
    fn mmap(at: *mut c_void, bytes: usize, a: c_int, b: c_int, fd: c_int, o: i64) -> *mut c_void;
}

/// Calls so far.
#[allow(dead_code, reason = "the cdylib has no reader of its own")]
pub fn calls() -> u64 {
    // SAFETY: the pointer is to a static, or to a mapping that is never unmapped.
    unsafe { (*COUNTER.load(Ordering::SeqCst)).load(Ordering::SeqCst) }
}

fn count() {
    // SAFETY: as above.
    unsafe { (*COUNTER.load(Ordering::Relaxed)).fetch_add(1, Ordering::SeqCst) };
}

/// Runs before main: counts into the shared file from then on.
#[used]
#[unsafe(link_section = ".init_array")]
static SHARE: extern "C" fn() = share;

extern "C" fn share() {
    // SAFETY: terminated names; 8 bytes of a file that whoever set the variable made are mapped.
    unsafe {
        let path = getenv(c"SERVAL_MALLOC_COUNT".as_ptr().cast());
        if path.is_null() {
            return;
        }
        const O_RDWR: c_int = 2;
        const PROT_READ_WRITE: c_int = 3;
        const MAP_SHARED: c_int = 1;
        let fd = open(path, O_RDWR);
        let at = mmap(std::ptr::null_mut(), 8, PROT_READ_WRITE, MAP_SHARED, fd, 0);
        if fd >= 0 && at.addr() != usize::MAX {
            COUNTER.store(at.cast(), Ordering::SeqCst);
        }
    }
}

macro_rules! counted {
    ($($name:ident($($arg:ident: $kind:ty),*) $(-> $result:ty)? = $call:expr;)*) => {$(
        /// libc's, counted.
        ///
        /// # Safety
        /// As libc's.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $kind),*) $(-> $result)? {
            count();
            // SAFETY: handed on as it came.
            unsafe { $call }
        }
    )*};
}

counted! {
    malloc(size: usize) -> *mut c_void = __libc_malloc(size);
    calloc(count: usize, size: usize) -> *mut c_void = __libc_calloc(count, size);
    realloc(pointer: *mut c_void, size: usize) -> *mut c_void = __libc_realloc(pointer, size);
    free(pointer: *mut c_void) = __libc_free(pointer);
    memalign(align: usize, size: usize) -> *mut c_void = __libc_memalign(align, size);
    aligned_alloc(align: usize, size: usize) -> *mut c_void = __libc_memalign(align, size);
}

/// libc's, counted.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    count();
    // SAFETY: `out` is the caller's place for the result.
    unsafe {
        *out = __libc_memalign(align, size);
        if (*out).is_null() { 12 } else { 0 }
    }
}
