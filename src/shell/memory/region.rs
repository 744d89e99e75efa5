//! Memory taken from the system before the seal and never given back: mapped, zeroed, small pages.
//!
//! In: a size. Out: a [`Region`], or a large value built in place ([`place`]). Each region is a
//! mapping of its own and asks for no huge pages, so that what is resident is what was touched.

use crate::stdx::{Zeroed, touch};
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The page size, read from the system.
pub fn page_bytes() -> usize {
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    let known = PAGE.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: a plain call.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).expect("a page size");
    assert!(page.is_power_of_two() && page >= 4096);
    PAGE.store(page, Ordering::Relaxed);
    page
}

/// Makes what is resident be what was touched, of stacks and of libc's heap too. First in main.
pub fn prepare_process() {
    // SAFETY: plain calls. Kernels without huge pages refuse the first, which is as good; a libc
    // that does not know an option passes it over.
    unsafe {
        let _ = libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
        #[cfg(target_env = "gnu")]
        {
            // One arena, not one per thread that allocates before the seal.
            let _ = libc::mallopt(libc::M_ARENA_MAX, 1);
            // Large blocks are mappings of their own: freed before the seal, they are given back.
            let _ = libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        }
    }
}

/// From this size on a block of libc's is a mapping of its own.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: core::ffi::c_int = 32 * 1024;

/// Zeroed memory for ever. Not given back when dropped.
#[derive(Debug)]
pub struct Region {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a region is memory nobody else refers to.
unsafe impl Send for Region {}

impl Region {
    /// Maps `bytes`, rounded up to pages. No page is resident yet.
    pub fn map(bytes: usize) -> Region {
        assert!(bytes > 0);
        let bytes = bytes.next_multiple_of(page_bytes());
        // SAFETY: a fresh anonymous mapping, nobody else's memory; the advice is about it alone.
        let start = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let start = libc::mmap(core::ptr::null_mut(), bytes, protection, flags, -1, 0);
            assert!(start != libc::MAP_FAILED, "mmap: errno {}", crate::shell::files::errno());
            libc::madvise(start, bytes, libc::MADV_NOHUGEPAGE);
            start
        };
        let start = NonNull::new(start.cast()).expect("mmap does not return null");
        Region { start, bytes }
    }

    /// First byte.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Size: whole pages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the first `bytes` resident.
    pub fn touch(&mut self, bytes: usize) {
        assert!(bytes <= self.bytes);
        let pages = NonNull::slice_from_raw_parts(self.start.cast::<MaybeUninit<u8>>(), bytes);
        // SAFETY: inside the region, which is ours alone as long as nothing was placed in it.
        touch(unsafe { &mut *pages.as_ptr() });
    }
}

/// A value of zero bytes in a region of its own, for ever.
pub fn place<T: Zeroed>() -> &'static mut T {
    assert!(size_of::<T>() > 0 && align_of::<T>() <= page_bytes());
    let region = Region::map(size_of::<T>());
    // SAFETY: mapped, zeroed, aligned to a page, never unmapped, and nobody else's; T: Zeroed says
    // that zero bytes are a value.
    unsafe { &mut *region.start.as_ptr().cast::<T>() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident(region: &Region) -> usize {
        let mut pages = [0u8; 64];
        let count = region.bytes() / page_bytes();
        assert!(count <= pages.len());
        let start = region.start().as_ptr().cast();
        // SAFETY: the region is mapped; one byte per page fits.
        assert_eq!(unsafe { libc::mincore(start, region.bytes(), pages.as_mut_ptr()) }, 0);
        pages.iter().filter(|&&p| p & 1 != 0).count()
    }

    #[test]
    fn resident_is_what_was_touched() {
        let mut region = Region::map(20 * page_bytes() - 5);
        assert_eq!((region.bytes(), resident(&region)), (20 * page_bytes(), 0));
        region.touch(3 * page_bytes() + 1);
        assert_eq!(resident(&region), 4);
        region.touch(region.bytes());
        assert_eq!(resident(&region), 20);
    }

    #[test]
    fn places_are_zero_and_apart() {
        let (a, b) = (place::<[u64; 5000]>(), place::<[u64; 5000]>());
        assert!(a.iter().all(|&x| x == 0));
        a[4999] = 7;
        assert_eq!(b[4999], 0);
    }
}
