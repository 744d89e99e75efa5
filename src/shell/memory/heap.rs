//! An allocator over one fixed range of memory: O(1) to take and to give back, neighbours merged.
//!
//! Two-level segregated fit (Masmano, Ripoll, Crespo, Real: "TLSF", ECRTS 2004): free blocks lie in
//! lists by size class, two bitmaps find the first list that is large enough. Blocks are multiples
//! of 16 bytes with a header of 8 (own size and state, size of the block before), so that what is
//! handed out is aligned to 16; larger alignments cut a free block off the front.
//!
//! It runs below the allocator: nothing here may panic or allocate. A block that cannot be ours
//! (freed twice, or overwritten) ends the process with a line that says so.

use super::report::die;
use core::ptr::NonNull;

/// Blocks are multiples of this; what is handed out is aligned to it.
const GRAIN: u32 = 16;
/// Bytes before what is handed out.
const HEADER: u32 = 8;
/// In a header's size: the block is free.
const FREE: u32 = 1;
/// Offset of the first header: 8 below a multiple of 16.
const FIRST_HEADER: u32 = GRAIN - HEADER;
/// No block.
const NONE: u32 = u32::MAX;
/// Lists per power of two.
const SECOND: usize = 8;
/// Powers of two: the first covers blocks below 8 x 16 bytes, the last those up to 4 MiB.
const FIRST: usize = 16;
/// Largest range.
pub const MAX_BYTES: usize = 4 << 20;

/// State of the allocator; the blocks lie in the range it was given.
#[derive(Debug)]
pub struct Heap {
    base: NonNull<u8>,
    /// Offset of the last header, a block of size 0 that is never free.
    end: u32,
    /// Bit f: some list of power f is not empty.
    first: u32,
    /// Bit s of [f]: list (f, s) is not empty.
    second: [u8; FIRST],
    /// Offset of the first free block of each list.
    heads: [[u32; SECOND]; FIRST],
    used: u32,
    peak: u32,
    blocks: u32,
}

/// How a heap is filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in use, headers and rounding counted.
    pub bytes: u32,
    /// Most bytes ever in use.
    pub peak_bytes: u32,
    /// Blocks in use.
    pub blocks: u32,
}

/// The list of a block of `size` bytes.
fn class(size: u32) -> (usize, usize) {
    let units = size / GRAIN;
    if units < SECOND as u32 {
        return (0, units as usize);
    }
    let log = units.ilog2();
    ((log - 2) as usize, (units >> (log - 3)) as usize & (SECOND - 1))
}

/// The first list all of whose blocks have at least `size` bytes.
fn class_above(size: u32) -> (usize, usize) {
    let units = size / GRAIN;
    if units < SECOND as u32 {
        return class(size);
    }
    let step = 1 << (units.ilog2() - 3);
    class((units + step - 1) * GRAIN)
}

/// Bytes of the block that holds `size` bytes; None when no heap could.
fn block_bytes(size: usize) -> Option<u32> {
    (size <= MAX_BYTES).then(|| (size as u32 + HEADER).next_multiple_of(GRAIN))
}

impl Heap {
    /// A heap over `bytes` bytes from `base`.
    ///
    /// # Safety
    /// The range is readable and writable memory aligned to 16 that nobody else uses as long as
    /// the heap is in use.
    pub unsafe fn new(base: NonNull<u8>, bytes: usize) -> Heap {
        let bytes = bytes / GRAIN as usize * GRAIN as usize;
        assert!(base.addr().get().is_multiple_of(GRAIN as usize));
        assert!((4 * GRAIN as usize..=MAX_BYTES).contains(&bytes));
        let mut heap = Heap {
            base,
            end: bytes as u32 - HEADER,
            first: 0,
            second: [0; FIRST],
            heads: [[NONE; SECOND]; FIRST],
            used: 0,
            peak: 0,
            blocks: 0,
        };
        heap.reset();
        heap
    }

    /// Forgets all blocks.
    pub fn reset(&mut self) {
        (self.first, self.second) = (0, [0; FIRST]);
        self.heads = [[NONE; SECOND]; FIRST];
        (self.used, self.peak, self.blocks) = (0, 0, 0);
        let size = self.end - FIRST_HEADER;
        self.set(self.end, 0, size);
        self.set(FIRST_HEADER, size | FREE, 0);
        self.link(FIRST_HEADER, size);
    }

    /// How it is filled.
    pub fn usage(&self) -> Usage {
        Usage { bytes: self.used, peak_bytes: self.peak, blocks: self.blocks }
    }

    /// Bytes it can hand out in one block when empty.
    pub fn capacity(&self) -> usize {
        (self.end - FIRST_HEADER - HEADER) as usize
    }

    /// Whether `size` bytes aligned to 16 can be taken.
    pub fn has_room(&self, size: usize) -> bool {
        block_bytes(size).is_some_and(|need| self.find(need).is_some())
    }

    /// `size` bytes at a multiple of `align` (a power of two); None when there is no such block.
    pub fn take(&mut self, size: usize, align: usize) -> Option<NonNull<u8>> {
        let need = block_bytes(size)?;
        let wide = align > GRAIN as usize;
        let search = if wide { need.checked_add(u32::try_from(align).ok()?)? } else { need };
        let mut block = self.find(search)?;
        let mut have = self.size(block) & !FREE;
        self.unlink(block, have);
        if wide {
            // The part in front is a multiple of 16, thus a block of its own.
            let at = self.pointer(block + HEADER).addr().get();
            let front = (at.next_multiple_of(align) - at) as u32;
            if front > 0 {
                self.set_size(block, front | FREE);
                self.link(block, front);
                block += front;
                have -= front;
                self.set(block, have, front);
                self.set_before(block + have, have);
            }
        }
        self.set_size(block, have);
        self.trim(block, have, need);
        self.used += self.size(block);
        self.blocks += 1;
        self.peak = self.peak.max(self.used);
        Some(self.pointer(block + HEADER))
    }

    /// Gives a block back.
    pub fn give(&mut self, pointer: NonNull<u8>) {
        let (mut block, mut size) = self.block_of(pointer);
        self.used -= size;
        self.blocks -= 1;
        let next = self.size(block + size);
        if next & FREE != 0 {
            self.unlink(block + size, next & !FREE);
            size += next & !FREE;
        }
        let before = self.before(block);
        if before != 0 && self.size(block - before) & FREE != 0 {
            block -= before;
            self.unlink(block, before);
            size += before;
        }
        self.set_size(block, size | FREE);
        self.set_before(block + size, size);
        self.link(block, size);
    }

    /// Makes a block hold `size` bytes where it lies, if that is possible.
    pub fn resize(&mut self, pointer: NonNull<u8>, size: usize) -> bool {
        let Some(need) = block_bytes(size) else { return false };
        let (block, old) = self.block_of(pointer);
        let mut have = old;
        let next = self.size(block + have);
        if next & FREE != 0 && (need > have || have > need) {
            let next_size = next & !FREE;
            if have + next_size < need {
                return false;
            }
            self.unlink(block + have, next_size);
            have += next_size;
            self.set_size(block, have);
            self.set_before(block + have, have);
        } else if have < need {
            return false;
        }
        self.trim(block, have, need);
        self.used = self.used - old + self.size(block);
        self.peak = self.peak.max(self.used);
        true
    }

    /// Cuts a block in use down to `need` bytes; what is behind becomes free. The block behind it
    /// is in use.
    fn trim(&mut self, block: u32, have: u32, need: u32) {
        let rest = have - need;
        if rest == 0 {
            return;
        }
        self.set_size(block, need);
        self.set(block + need, rest | FREE, need);
        self.set_before(block + have, rest);
        self.link(block + need, rest);
    }

    /// A free block of at least `size` bytes.
    fn find(&self, size: u32) -> Option<u32> {
        let (first, second) = class_above(size);
        if first < FIRST {
            let lists = self.second[first] & (u8::MAX << second);
            if lists != 0 {
                return Some(self.heads[first][lists.trailing_zeros() as usize]);
            }
            let above = u64::from(self.first) & (u64::MAX << (first + 1));
            if above != 0 {
                let first = above.trailing_zeros() as usize;
                return Some(self.heads[first][self.second[first].trailing_zeros() as usize]);
            }
        }
        // The class of the size itself holds smaller and larger ones: its first may do.
        let (first, second) = class(size);
        let head = *self.heads.get(first)?.get(second)?;
        (head != NONE && self.size(head) & !FREE >= size).then_some(head)
    }

    fn link(&mut self, block: u32, size: u32) {
        let (first, second) = class(size);
        let head = self.heads[first][second];
        self.write(block + HEADER, head);
        self.write(block + HEADER + 4, NONE);
        if head != NONE {
            self.write(head + HEADER + 4, block);
        }
        self.heads[first][second] = block;
        self.second[first] |= 1 << second;
        self.first |= 1 << first;
    }

    fn unlink(&mut self, block: u32, size: u32) {
        let (first, second) = class(size);
        let (next, previous) = (self.read(block + HEADER), self.read(block + HEADER + 4));
        if next != NONE {
            self.write(next + HEADER + 4, previous);
        }
        if previous != NONE {
            self.write(previous + HEADER, next);
            return;
        }
        if self.heads[first][second] != block {
            die(format_args!("a slot's free list is overwritten"));
        }
        self.heads[first][second] = next;
        if next == NONE {
            self.second[first] &= !(1 << second);
            if self.second[first] == 0 {
                self.first &= !(1 << first);
            }
        }
    }

    /// The block in use that was handed out as `pointer`, and its size.
    fn block_of(&self, pointer: NonNull<u8>) -> (u32, u32) {
        let offset = pointer.addr().get().wrapping_sub(self.base.addr().get());
        let inside = offset >= GRAIN as usize && offset < self.end as usize;
        if !inside || !offset.is_multiple_of(GRAIN as usize) {
            die(format_args!("a pointer that no slot handed out"));
        }
        let block = offset as u32 - HEADER;
        let size = self.size(block);
        let fits = size >= GRAIN && size <= self.end - block;
        if !fits || size & FREE != 0 || self.before(block + size) != size {
            die(format_args!("a slot's block is freed twice or overwritten"));
        }
        (block, size)
    }

    fn pointer(&self, offset: u32) -> NonNull<u8> {
        // SAFETY: callers pass offsets of headers and what follows them, inside the range.
        unsafe { self.base.add(offset as usize) }
    }

    fn read(&self, offset: u32) -> u32 {
        if offset > self.end + 4 {
            die(format_args!("a slot's header is overwritten"));
        }
        // SAFETY: inside the range (checked), aligned to 4, written by reset, set or link.
        unsafe { self.pointer(offset).cast::<u32>().read() }
    }

    fn write(&mut self, offset: u32, value: u32) {
        if offset > self.end + 4 {
            die(format_args!("a slot's header is overwritten"));
        }
        // SAFETY: inside the range (checked), aligned to 4; the heap's own bytes.
        unsafe { self.pointer(offset).cast::<u32>().write(value) };
    }

    fn size(&self, block: u32) -> u32 {
        self.read(block)
    }

    fn set_size(&mut self, block: u32, size: u32) {
        self.write(block, size);
    }

    fn before(&self, block: u32) -> u32 {
        self.read(block + 4)
    }

    fn set_before(&mut self, block: u32, size: u32) {
        self.write(block + 4, size);
    }

    fn set(&mut self, block: u32, size: u32, before: u32) {
        self.set_size(block, size);
        self.set_before(block, before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::Prng;
    use std::collections::BTreeMap;
    use std::vec;
    use std::vec::Vec;

    /// Memory for a heap, aligned to 64.
    #[repr(align(64))]
    #[derive(Clone)]
    struct Line(#[expect(dead_code, reason = "only its place")] [u8; 64]);

    fn heap(memory: &mut [Line]) -> Heap {
        let bytes = size_of_val(memory);
        // SAFETY: the memory outlives the heap in each test, and nobody else uses it.
        unsafe { Heap::new(NonNull::from(&mut *memory).cast(), bytes) }
    }

    impl Heap {
        /// Walks all blocks: sizes meet, neighbours know each other, no two free ones side by side,
        /// lists and bitmaps hold exactly the free ones. Returns (used, free) blocks.
        fn check(&self) -> (u32, u32) {
            let (mut used, mut free, mut used_bytes) = (0, 0, 0);
            let (mut at, mut before, mut was_free) = (FIRST_HEADER, 0, false);
            while at != self.end {
                let (size, is_free) = (self.size(at) & !FREE, self.size(at) & FREE != 0);
                assert!(size >= GRAIN && size.is_multiple_of(GRAIN), "size {size} at {at}");
                assert_eq!(self.before(at), before);
                assert!(!(is_free && was_free), "two free blocks side by side");
                if is_free {
                    free += 1;
                    assert!(self.listed(at, size), "a free block in no list");
                } else {
                    (used, used_bytes) = (used + 1, used_bytes + size);
                }
                (at, before, was_free) = (at + size, size, is_free);
            }
            assert_eq!((used, used_bytes), (self.blocks, self.used));
            assert_eq!(self.lists(), free);
            (used, free)
        }

        fn listed(&self, block: u32, size: u32) -> bool {
            let (first, second) = class(size);
            let mut at = self.heads[first][second];
            while at != NONE && at != block {
                at = self.read(at + HEADER);
            }
            at == block
        }

        fn lists(&self) -> u32 {
            let mut count = 0;
            for first in 0..FIRST {
                assert_eq!(self.first >> first & 1 != 0, self.second[first] != 0);
                for second in 0..SECOND {
                    let mut at = self.heads[first][second];
                    assert_eq!(self.second[first] >> second & 1 != 0, at != NONE);
                    while at != NONE {
                        count += 1;
                        assert!(self.size(at) & FREE != 0);
                        at = self.read(at + HEADER);
                    }
                }
            }
            count
        }
    }

    #[test]
    fn classes_are_in_order_and_the_class_above_is_large_enough() {
        let mut last = (0, 0);
        for size in (16..=200_000).step_by(16) {
            let this = class(size);
            assert!(this >= last && this.0 < FIRST && this.1 < SECOND);
            last = this;
            // All blocks of the class above have the size: its smallest neighbour does not.
            let above = class_above(size);
            assert!(above >= this, "{size}");
            if size > 16 {
                assert!(class(size - 16) < above, "{size}");
            }
        }
        assert_eq!(class(MAX_BYTES as u32).0, FIRST);
        assert_eq!(class(MAX_BYTES as u32 - 16).0, FIRST - 1);
    }

    #[test]
    fn the_whole_and_one_byte_more() {
        let mut memory = vec![Line([0; 64]); 64];
        let mut heap = heap(&mut memory);
        let all = heap.capacity();
        assert_eq!(all, 4096 - 24);
        assert_eq!(heap.take(all + 1, 1), None);
        assert_eq!(heap.take(usize::MAX, 16), None);
        assert_eq!(heap.take(16, 1 << 40), None);
        let whole = heap.take(all, 16).unwrap();
        assert_eq!((heap.take(1, 1), heap.check()), (None, (1, 0)));
        assert!(!heap.resize(whole, all + 1));
        assert!(heap.resize(whole, 1));
        assert_eq!(heap.check(), (1, 1));
        assert!(heap.resize(whole, all));
        heap.give(whole);
        assert_eq!((heap.check(), heap.usage().bytes), ((0, 1), 0));
        assert_eq!(heap.usage().peak_bytes as usize, all + 8);
    }

    /// What the heap must do: blocks that are apart, aligned, and keep what was written.
    #[derive(Default)]
    struct Model {
        blocks: BTreeMap<usize, (usize, u8)>,
    }

    impl Model {
        fn insert(&mut self, pointer: NonNull<u8>, size: usize, align: usize, fill: u8) {
            let at = pointer.addr().get();
            assert!(at.is_multiple_of(align.max(16)), "{size} bytes aligned to {align}");
            if let Some((&other, &(len, _))) = self.blocks.range(..at).next_back() {
                assert!(other + len <= at, "overlaps the block before");
            }
            if let Some((&other, _)) = self.blocks.range(at..).next() {
                assert!(at + size <= other, "overlaps the block behind");
            }
            // SAFETY: just handed out with this size.
            unsafe { pointer.write_bytes(fill, size) };
            self.blocks.insert(at, (size, fill));
        }

        fn remove(&mut self, pointer: NonNull<u8>) -> (usize, u8) {
            let (size, fill) = self.blocks.remove(&pointer.addr().get()).unwrap();
            Self::holds(pointer, size, fill);
            (size, fill)
        }

        fn holds(pointer: NonNull<u8>, size: usize, fill: u8) {
            // SAFETY: handed out with at least this size and written then.
            let bytes = unsafe { core::slice::from_raw_parts(pointer.as_ptr(), size) };
            assert!(bytes.iter().all(|&b| b == fill), "somebody wrote into the block");
        }
    }

    fn random_size(prng: &mut Prng) -> usize {
        match prng.below(20) {
            0..10 => prng.range(1, 64),
            10..17 => prng.range(1, 600),
            17..19 => prng.range(1, 5000),
            _ => prng.range(1, 40_000),
        }
        .try_into()
        .unwrap()
    }

    /// One random step; whether the heap was full.
    fn step(heap: &mut Heap, model: &mut Model, live: &mut Vec<NonNull<u8>>, p: &mut Prng) -> bool {
        let pick = |live: &Vec<NonNull<u8>>, p: &mut Prng| p.below(live.len() as u64) as usize;
        match p.below(10) {
            0..5 => {
                let align = if p.chance(1, 10) { 1 << p.below(9) } else { 1 << p.below(5) };
                let size = random_size(p);
                let Some(pointer) = heap.take(size, align) else { return true };
                model.insert(pointer, size, align, p.next_u64() as u8);
                live.push(pointer);
            }
            5..9 if !live.is_empty() => {
                let pointer = live.swap_remove(pick(live, p));
                model.remove(pointer);
                heap.give(pointer);
            }
            _ if !live.is_empty() => {
                let pointer = live[pick(live, p)];
                let (old, fill) = model.remove(pointer);
                let new = random_size(p);
                let done = heap.resize(pointer, new);
                assert!(done || new > old, "a block can always shrink");
                Model::holds(pointer, if done { old.min(new) } else { old }, fill);
                model.insert(pointer, if done { new } else { old }, 1, fill);
            }
            _ => {}
        }
        false
    }

    #[test]
    fn random_against_a_model() {
        for seed in 0..40 {
            let mut memory = vec![Line([0; 64]); if seed % 4 == 0 { 100 } else { 1024 }];
            let (mut heap, mut model) = (heap(&mut memory), Model::default());
            let (mut prng, mut live, mut full) = (Prng::new(seed), Vec::new(), 0);
            for n in 0..3000 {
                full += u32::from(step(&mut heap, &mut model, &mut live, &mut prng));
                if n % 16 == 0 {
                    assert_eq!(heap.check().0 as usize, live.len(), "seed {seed}");
                }
            }
            assert!(full > 0 && heap.usage().peak_bytes > 0, "the heap was never full");
            while let Some(pointer) = live.pop() {
                model.remove(pointer);
                heap.give(pointer);
            }
            // Whatever the order: one free block again, all of it.
            assert_eq!(heap.check(), (0, 1));
            let whole = heap.take(heap.capacity(), 16).unwrap();
            heap.give(whole);
        }
    }
}
