//! The outline of an object: the little that the status of a refused one needs.
//!
//! In: an object that was decoded. Out: bytes that its stub keeps when the store does not, enough
//! to say on the object itself that it is refused. A stored object's packed form begins with its
//! outline, so that an evicted one leaves it behind.

use super::Object;
use crate::stdx::Full;
use crate::stdx::pack::{Pack, Packer, Unpacker};

/// At most `N` bytes; what does not fit is left out, item by item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline<const N: usize> {
    len: u16,
    bytes: [u8; N],
}

impl<const N: usize> Default for Outline<N> {
    fn default() -> Self {
        Outline { len: 0, bytes: [0; N] }
    }
}

impl<const N: usize> Outline<N> {
    /// Bytes of the largest one, packed.
    pub const PACKED_BYTES: usize = size_of::<u16>() + N;

    /// The outline of an object.
    pub fn of<T: Object>(object: &T) -> Self {
        assert!(N <= usize::from(u16::MAX));
        let mut outline = Self::default();
        let mut packer = Packer::new(&mut outline.bytes);
        object.pack_outline(&mut packer);
        outline.len = packer.len() as u16;
        outline
    }

    /// Fills an object, cleared before, with what the outline holds.
    pub fn load<T: Object>(&self, into: &mut T) {
        let mut unpacker = Unpacker::new(&self.bytes[..usize::from(self.len)]);
        into.unpack_outline(&mut unpacker);
        assert!(unpacker.rest() == 0, "unpacked all that was packed");
    }
}

impl<const N: usize> Pack for Outline<N> {
    fn pack(&self, out: &mut Packer<'_>) -> Result<(), Full> {
        self.len.pack(out)?;
        out.put(&self.bytes[..usize::from(self.len)])
    }
    fn unpack(&mut self, from: &mut Unpacker<'_>) {
        self.len.unpack(from);
        let len = usize::from(self.len);
        self.bytes[..len].copy_from_slice(from.take(len));
    }
}
