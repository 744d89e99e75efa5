//! Trailer sections on their way: collected whole, so that each field's name is known before any of
//! it crosses.
//!
//! In: the pieces of a section, as bodies' decoders find them. Out: the lines that may cross.
//! Blocks are few: trailers are rare, and short-lived. When none is left a section is dropped, as
//! an intermediary may do (RFC 9110 section 6.5.1).

use crate::limits::{Capacities, MAX_TRAILER_BLOCKS, MAX_TRAILER_BYTES};
use crate::stdx::Table;
use crate::wire::http1::trailer;

/// Where the trailers of one body are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trailers {
    /// Place in [`TrailerBlocks`] plus one; 0: there are none.
    place: u16,
    /// Bytes there.
    len: u16,
}

/// The pool.
#[derive(Debug)]
pub struct TrailerBlocks {
    blocks: Table<[u8; MAX_TRAILER_BYTES as usize], { MAX_TRAILER_BLOCKS as usize }>,
    /// Places that nobody has.
    free: Table<u16, { MAX_TRAILER_BLOCKS as usize }>,
}

crate::zeroed_struct!(TrailerBlocks {
    blocks: Table<[u8; MAX_TRAILER_BYTES as usize], { MAX_TRAILER_BLOCKS as usize }>,
    free: Table<u16, { MAX_TRAILER_BLOCKS as usize }>,
});

impl TrailerBlocks {
    /// Bytes at these capacities, for the memory plan.
    pub fn bytes(capacities: &Capacities) -> u64 {
        let each = MAX_TRAILER_BYTES as usize + size_of::<u16>();
        u64::from(capacities.max_trailer_blocks) * each as u64
    }

    /// Makes room; must be empty.
    pub fn init(&mut self, capacities: &Capacities) {
        let cap = capacities.max_trailer_blocks;
        assert!(self.blocks.is_empty());
        self.blocks.set_cap(cap);
        self.blocks.resize(cap, [0; MAX_TRAILER_BYTES as usize]).expect("within the cap");
        self.free.set_cap(cap);
        for place in (0..cap as u16).rev() {
            self.free.push(place).expect("within the cap");
        }
    }

    /// Takes the next piece of a section. `begins`: it is the first. False when there is no block:
    /// then none of the section is kept.
    pub fn collect(&mut self, trailers: &mut Trailers, piece: &[u8], begins: bool) -> bool {
        if trailers.place == 0 {
            // Most sections are but the empty line.
            if !begins || matches!(piece, [] | [b'\r', ..]) {
                return true;
            }
            let Some(place) = self.free.pop() else { return false };
            *trailers = Trailers { place: place + 1, len: 0 };
        }
        let block = &mut self.blocks[u32::from(trailers.place - 1)][usize::from(trailers.len)..];
        // Decoders refuse longer sections; what they do not count, the last CR, may be cut.
        let len = piece.len().min(block.len());
        block[..len].copy_from_slice(&piece[..len]);
        trailers.len += len as u16;
        true
    }

    /// The section is whole: drops the lines that may not cross.
    pub fn finish(&mut self, trailers: &mut Trailers) {
        if let Some(place) = trailers.place.checked_sub(1) {
            let block = &mut self.blocks[u32::from(place)][..usize::from(trailers.len)];
            trailers.len = trailer::keep_allowed(block) as u16;
        }
    }

    /// The lines of a finished section; empty when there are none.
    pub fn get(&self, trailers: Trailers) -> &[u8] {
        match trailers.place.checked_sub(1) {
            None => b"",
            Some(place) => &self.blocks[u32::from(place)][..usize::from(trailers.len)],
        }
    }

    /// Gives a place back.
    pub fn release(&mut self, trailers: &mut Trailers) {
        if let Some(place) = core::mem::take(trailers).place.checked_sub(1) {
            self.free.push(place).expect("as many as there are");
        }
    }

    /// Blocks in use, for tests.
    pub fn in_use(&self) -> u32 {
        self.blocks.len() - self.free.len()
    }
}
