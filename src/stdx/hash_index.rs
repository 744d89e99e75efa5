//! An open-addressing index from hashes to numbers (of items in some table) in a fixed array.
//!
//! In: a hash and a number. Out: the numbers under a hash; the caller compares the keys, which the
//! index does not hold. Only as many slots are in use as the number of items asks for, so that a
//! small configuration has a small, warm index and untouched pages stay untouched.

use super::Zeroed;
use super::table::Full;
use super::touch::touch_first;

/// A slot: the number plus one (0: empty), and the low half of the hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    number: u32,
    tag: u32,
}

/// `N` slots, a power of two; at most half of those in use are filled.
#[derive(Debug)]
pub struct HashIndex<const N: usize> {
    /// Slots in use less one; 0 in the zeroed index, which holds nothing.
    mask: u32,
    len: u32,
    slots: [Slot; N],
}

// SAFETY: integers only; zero is the index without items.
unsafe impl<const N: usize> Zeroed for HashIndex<N> {}

/// Slots that an index of at most `items` items needs.
pub const fn slots_for(items: u32) -> usize {
    let items = if items < 8 { 8 } else { items };
    (items as usize * 2).next_power_of_two()
}

impl<const N: usize> HashIndex<N> {
    /// Makes the pages resident that an index of at most `items` items uses.
    pub fn set_cap(&mut self, items: u32) {
        touch_first(self, Self::bytes(items) as usize);
    }

    /// Bytes in use at most `items` items, for the memory plan.
    pub const fn bytes(items: u32) -> u64 {
        (size_of::<HashIndex<0>>() + slots_for(items) * size_of::<Slot>()) as u64
    }

    /// Empties the index and makes it as large as `items` items ask for.
    pub fn reset(&mut self, items: u32) {
        let slots = slots_for(items);
        assert!(N.is_power_of_two() && slots <= N, "index smaller than its table");
        self.slots[..slots].fill(Slot::default());
        self.mask = slots as u32 - 1;
        self.len = 0;
    }

    /// Number of items.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a number under a hash; the caller has looked that its key is not there yet.
    pub fn insert(&mut self, hash: u64, number: u32) -> Result<(), Full> {
        assert!(number < u32::MAX);
        if (self.len + 1) * 2 > self.mask + 1 {
            return Err(Full);
        }
        let mut at = self.home(hash as u32);
        while self.slots[at].number != 0 {
            at = self.next(at);
        }
        self.slots[at] = Slot { number: number + 1, tag: hash as u32 };
        self.len += 1;
        Ok(())
    }

    /// The first number under this hash that `equal` accepts.
    #[inline]
    pub fn find(&self, hash: u64, mut equal: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.home(hash as u32);
        // Bounded: at least half of the slots are empty.
        loop {
            let slot = self.slots[at];
            if slot.number == 0 {
                return None;
            }
            if slot.tag == hash as u32 && equal(slot.number - 1) {
                return Some(slot.number - 1);
            }
            at = self.next(at);
        }
    }

    /// Removes a number that is there; later slots of its run move up, so that no gap splits it.
    pub fn remove(&mut self, hash: u64, number: u32) {
        let wanted = Slot { number: number + 1, tag: hash as u32 };
        let mut gap = self.home(hash as u32);
        while self.slots[gap] != wanted {
            assert!(self.slots[gap].number != 0, "removing what is not there");
            gap = self.next(gap);
        }
        let mut at = self.next(gap);
        while self.slots[at].number != 0 {
            let home = self.home(self.slots[at].tag);
            // The item may fill the gap when its home does not lie between the gap and itself.
            let distance = |from: usize, to: usize| (to.wrapping_sub(from)) & self.mask as usize;
            if distance(home, at) >= distance(gap, at) {
                self.slots[gap] = self.slots[at];
                gap = at;
            }
            at = self.next(at);
        }
        self.slots[gap] = Slot::default();
        self.len -= 1;
    }

    fn home(&self, tag: u32) -> usize {
        (tag & self.mask) as usize
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & self.mask as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::{Prng, zeroed_in_place};
    use core::mem::MaybeUninit;
    use std::collections::BTreeMap;

    #[test]
    fn zeroed_is_empty_and_full_is_an_error() {
        let mut place = MaybeUninit::<HashIndex<16>>::uninit();
        let index = zeroed_in_place(&mut place);
        assert_eq!(index.find(0, |_| true), None);
        assert_eq!(index.insert(1, 1), Err(Full));
        index.reset(8);
        for number in 0..8 {
            assert_eq!(index.insert(7, number), Ok(()));
        }
        assert_eq!(index.insert(7, 8), Err(Full));
        assert_eq!(index.find(7, |n| n == 5), Some(5));
    }

    /// Against a map, with hashes that collide often.
    #[test]
    fn random_inserts_and_removes() {
        let mut place = MaybeUninit::<HashIndex<64>>::uninit();
        let index = zeroed_in_place(&mut place);
        index.reset(32);
        let mut model = BTreeMap::new();
        let mut prng = Prng::new(11);
        for _ in 0..50_000 {
            let number = prng.below(40) as u32;
            let hash = u64::from(number % 13) * 61;
            let there = index.find(hash, |n| n == number).is_some();
            assert_eq!(there, model.contains_key(&number));
            if there {
                index.remove(hash, number);
                model.remove(&number);
            } else if model.len() < 32 {
                index.insert(hash, number).unwrap();
                model.insert(number, ());
            }
            assert_eq!(index.len() as usize, model.len());
        }
    }
}
