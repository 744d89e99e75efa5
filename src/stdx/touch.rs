//! Makes memory resident: what is planned is taken from the system at start, not at the first use.
//!
//! In: a value, or the part of it that its soft cap allows to use. Out: the same bytes, in pages
//! that the kernel has really given.

use core::mem::MaybeUninit;

/// The smallest page of any system this runs on.
const PAGE: usize = 4096;

/// Touches every page of a value; it keeps its bytes.
pub fn touch<T: ?Sized>(value: &mut T) {
    touch_first(value, usize::MAX);
}

/// Touches the pages of the first `bytes` bytes of a value (or of all of it).
pub fn touch_first<T: ?Sized>(value: &mut T, bytes: usize) {
    let bytes = bytes.min(size_of_val(value));
    let start = (&raw mut *value).cast::<MaybeUninit<u8>>();
    // It may begin inside a page: each step lands in the next one, the last byte in the last.
    for offset in (0..bytes).step_by(PAGE).chain(bytes.checked_sub(1)) {
        // SAFETY: inside the value, which is borrowed alone; a byte is written as it was read.
        unsafe {
            let byte = start.add(offset);
            byte.write_volatile(byte.read_volatile());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_every_byte() {
        let mut bytes = [0u8; 9000];
        (0..).zip(&mut bytes).for_each(|(i, b): (u32, &mut u8)| *b = i as u8);
        let before = bytes;
        touch(&mut bytes[1..]);
        touch(&mut bytes[..0]);
        touch_first(&mut bytes, 5000);
        assert!(before == bytes);
    }
}
