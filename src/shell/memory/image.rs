//! The program itself in memory: code, constants and statics of the executable and its libraries.
//!
//! In: nothing. Out: all of it resident, and how much that is. Otherwise the first use of each page
//! of code would be a page fault long after start, and the plan would not be what is used.

use super::region::page_bytes;
use crate::stdx::touch;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ops::Range;

/// Bytes of the loaded segments, rounded up to pages.
pub fn bytes() -> u64 {
    let mut total = 0;
    each_object(&mut |object| {
        total += object.loaded().map(|s| pages(&s).len() as u64).sum::<u64>()
    });
    total
}

/// Makes every page of it resident; pages of statics are made this process's own.
pub fn make_resident() {
    each_object(&mut |object| {
        let (read_only, page) = (object.read_only_after_start(), page_bytes());
        for segment in object.loaded() {
            let range = pages(&segment);
            for at in range.step_by(page) {
                if segment.p_flags & libc::PF_W != 0 && !read_only.contains(&at) {
                    // SAFETY: a page of a writable segment; bytes are written as they were read.
                    // Other threads do not run yet (the caller's promise: before threads).
                    touch(unsafe { &mut *core::ptr::with_exposed_provenance_mut::<Byte>(at) });
                } else if segment.p_flags & libc::PF_R != 0 {
                    // SAFETY: a page of a readable segment.
                    unsafe { core::ptr::with_exposed_provenance::<Byte>(at).read_volatile() };
                }
            }
        }
    });
}

type Byte = MaybeUninit<u8>;

/// The pages a segment lies in.
fn pages(segment: &Segment) -> Range<usize> {
    let page = page_bytes();
    let start = segment.start / page * page;
    start..(segment.start + segment.bytes).next_multiple_of(page)
}

struct Segment {
    start: usize,
    bytes: usize,
    p_flags: u32,
}

/// The executable or a library, as the loader mapped it.
struct Object<'a> {
    base: usize,
    headers: &'a [libc::Elf64_Phdr],
}

impl Object<'_> {
    fn loaded(&self) -> impl Iterator<Item = Segment> + '_ {
        self.headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_memsz > 0).map(|h| {
            Segment {
                start: self.base + h.p_vaddr as usize,
                bytes: h.p_memsz as usize,
                p_flags: h.p_flags,
            }
        })
    }

    /// PT_GNU_RELRO: writable while the loader works, read-only afterwards. Rounded up: the page
    /// after it may be left out, never one of it written.
    fn read_only_after_start(&self) -> Range<usize> {
        let page = page_bytes();
        let header = self.headers.iter().find(|h| h.p_type == libc::PT_GNU_RELRO);
        header.map_or(0..0, |h| {
            let start = self.base + h.p_vaddr as usize;
            start / page * page..(start + h.p_memsz as usize).next_multiple_of(page)
        })
    }
}

fn each_object(each: &mut dyn FnMut(&Object<'_>)) {
    unsafe extern "C" fn call(info: *mut libc::dl_phdr_info, _: usize, each: *mut c_void) -> c_int {
        // SAFETY: the loader's info, and the pointer that was passed below.
        unsafe {
            let each = &mut *each.cast::<&mut dyn FnMut(&Object<'_>)>();
            let info = &*info;
            let headers = core::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
            each(&Object { base: info.dlpi_addr as usize, headers });
        }
        0
    }
    let mut each = each;
    // SAFETY: `call` gets back the pointer to `each`, which lives until the call is over.
    unsafe { libc::dl_iterate_phdr(Some(call), (&raw mut each).cast()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    static mut WRITTEN: [u8; 3 * 4096] = [1; 3 * 4096];

    #[test]
    fn counts_this_program_and_leaves_it_as_it_is() {
        let before = bytes();
        // This test alone has more than a megabyte of code, and libc is there too.
        assert!((1 << 20..1 << 30).contains(&before), "{before}");
        make_resident();
        assert_eq!(bytes(), before);
        // SAFETY: nobody else refers to it.
        assert!(unsafe { WRITTEN }.iter().all(|&b| b == 1));
    }
}
