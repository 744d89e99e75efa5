//! Values as bytes, for stores that keep objects in blocks: little-endian, lengths first.
//! Only this process writes and reads them; it is no wire format.

use super::table::{Full, Span, Table};
use super::text::{Arena, Text};

/// Appends to a byte slice.
#[derive(Debug)]
pub struct Packer<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> Packer<'a> {
    /// Writes into `bytes` from its start.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Packer { bytes, len: 0 }
    }

    /// Appends raw bytes.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.len + bytes.len();
        self.bytes.get_mut(self.len..end).ok_or(Full)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Appends a string with its length.
    pub fn put_str(&mut self, text: &str) -> Result<(), Full> {
        let start = self.len;
        let len = u16::try_from(text.len()).map_err(|_| Full)?;
        let put = len.pack(self).and_then(|()| self.put(text.as_bytes()));
        // Whole or not at all.
        put.inspect_err(|Full| self.len = start)
    }

    /// Forgets all bytes after the first `len`.
    pub fn truncate(&mut self, len: usize) {
        assert!(len <= self.len);
        self.len = len;
    }

    /// Number of bytes written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Reads what a [`Packer`] wrote. Reading past the end is a bug of ours and panics.
#[derive(Debug)]
pub struct Unpacker<'a> {
    bytes: &'a [u8],
}

impl<'a> Unpacker<'a> {
    /// Reads `bytes` from the start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Unpacker { bytes }
    }

    /// The next `len` bytes.
    #[inline]
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.bytes.split_at(len);
        self.bytes = rest;
        head
    }

    /// A string that [`Packer::put_str`] wrote.
    pub fn take_str(&mut self) -> &'a str {
        let mut len = 0u16;
        len.unpack(self);
        core::str::from_utf8(self.take(usize::from(len))).expect("packed from a string")
    }

    /// Bytes not read yet.
    pub fn rest(&self) -> usize {
        self.bytes.len()
    }
}

/// A value that packs into bytes and comes back the same.
pub trait Pack: Sized {
    /// Appends the value.
    fn pack(&self, out: &mut Packer<'_>) -> Result<(), Full>;
    /// Reads the value into place.
    fn unpack(&mut self, from: &mut Unpacker<'_>);
}

macro_rules! pack_int {
    ($($int:ty),*) => {$(
        impl Pack for $int {
            #[inline]
            fn pack(&self, out: &mut Packer<'_>) -> Result<(), Full> {
                out.put(&self.to_le_bytes())
            }
            #[inline]
            fn unpack(&mut self, from: &mut Unpacker<'_>) {
                let mut bytes = [0; size_of::<$int>()];
                bytes.copy_from_slice(from.take(size_of::<$int>()));
                *self = <$int>::from_le_bytes(bytes);
            }
        }
    )*};
}
pack_int!(u8, u16, u32, u64, i64);

impl Pack for bool {
    fn pack(&self, out: &mut Packer<'_>) -> Result<(), Full> {
        u8::from(*self).pack(out)
    }
    fn unpack(&mut self, from: &mut Unpacker<'_>) {
        *self = from.take(1)[0] != 0;
    }
}

impl<const N: usize> Pack for [u8; N] {
    fn pack(&self, out: &mut Packer<'_>) -> Result<(), Full> {
        out.put(self)
    }
    fn unpack(&mut self, from: &mut Unpacker<'_>) {
        self.copy_from_slice(from.take(N));
    }
}

impl Pack for Text {
    fn pack(&self, out: &mut Packer<'_>) -> Result<(), Full> {
        self.offset.pack(out)?;
        self.len.pack(out)
    }
    fn unpack(&mut self, from: &mut Unpacker<'_>) {
        self.offset.unpack(from);
        self.len.unpack(from);
    }
}

impl Pack for Span {
    fn pack(&self, out: &mut Packer<'_>) -> Result<(), Full> {
        self.start.pack(out)?;
        self.len.pack(out)
    }
    fn unpack(&mut self, from: &mut Unpacker<'_>) {
        self.start.unpack(from);
        self.len.unpack(from);
    }
}

impl<T: Pack + Default, const N: usize> Pack for Table<T, N> {
    fn pack(&self, out: &mut Packer<'_>) -> Result<(), Full> {
        self.len().pack(out)?;
        self.as_slice().iter().try_for_each(|item| item.pack(out))
    }
    fn unpack(&mut self, from: &mut Unpacker<'_>) {
        let mut len = 0u32;
        len.unpack(from);
        self.set_cap_cleared(N as u32);
        for _ in 0..len {
            let mut item = T::default();
            item.unpack(from);
            self.push(item).expect("packed from a table of the same type");
        }
    }
}

impl<const N: usize> Pack for Arena<N> {
    fn pack(&self, out: &mut Packer<'_>) -> Result<(), Full> {
        self.len().pack(out)?;
        out.put(self.as_bytes())
    }
    fn unpack(&mut self, from: &mut Unpacker<'_>) {
        let mut len = 0u32;
        len.unpack(from);
        self.set_cap_cleared(N as u32);
        self.copy_from(from.take(len as usize)).expect("packed from an arena of the same type");
    }
}

/// Implements [`Pack`] for a struct, field by field.
#[macro_export]
macro_rules! pack_struct {
    ($name:ty { $($field:ident),* $(,)? }) => {
        impl $crate::stdx::pack::Pack for $name {
            fn pack(
                &self,
                out: &mut $crate::stdx::pack::Packer<'_>,
            ) -> Result<(), $crate::stdx::Full> {
                $($crate::stdx::pack::Pack::pack(&self.$field, out)?;)*
                Ok(())
            }
            fn unpack(&mut self, from: &mut $crate::stdx::pack::Unpacker<'_>) {
                $($crate::stdx::pack::Pack::unpack(&mut self.$field, from);)*
            }
        }
    };
}

/// Implements [`Pack`] for a field-less enum by a table of its variants.
#[macro_export]
macro_rules! pack_enum {
    ($name:ident { $($variant:ident),* $(,)? }) => {
        impl $crate::stdx::pack::Pack for $name {
            fn pack(
                &self,
                out: &mut $crate::stdx::pack::Packer<'_>,
            ) -> Result<(), $crate::stdx::Full> {
                out.put(&[*self as u8])
            }
            fn unpack(&mut self, from: &mut $crate::stdx::pack::Unpacker<'_>) {
                let byte = from.take(1)[0];
                *self = [$($name::$variant),*]
                    .into_iter()
                    .find(|v| *v as u8 == byte)
                    .expect("packed from the same enum");
            }
        }
    };
}
