//! ResourceStore: the admitted objects of one kind, in fixed memory.
//!
//! In: objects from a watch or a folder. Out: objects in order of age for reconcile, the refused
//! ones, and whether a relist could admit more. Objects lie packed in chains of blocks, so that
//! the memory follows their real size; capacity counts objects.
//!
//! Architecture invariant: the admitted set depends on the set of live objects only, never on the
//! order in which they came: oldest first by (creationTimestamp, namespace/name), each one that
//! fits beside the older ones. (While a refused one waits for its relist, the set is behind.)

use super::outline::Outline;
use super::{Key, Meta, Object};
use crate::limits::{MAX_OBJECT_PACKED_BYTES, STORE_BLOCK_BYTES, STUB_OUTLINE_BYTES};
use crate::limits::{MAX_STUBS_PER_STORE, MIN_STUBS_PER_STORE};
use crate::stdx::marks::{Mark, sometimes};
use crate::stdx::pack::{Pack, Packer, Unpacker};
use crate::stdx::{Full, Table};

const NONE: u32 = u32::MAX;
const MAX_OUTLINE_PACKED_BYTES: usize = Outline::<{ STUB_OUTLINE_BYTES as usize }>::PACKED_BYTES;
const BLOCK: usize = STORE_BLOCK_BYTES as usize;

/// Why an object is not served although it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// The store holds as many (or as large) older objects as it can.
    #[default]
    Capacity,
    /// The object alone is larger than an object may be.
    TooLarge,
    /// The object breaks a rule that the API server should have held.
    Invalid,
}

/// What is remembered of a refused object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stub<const OUTLINE: usize> {
    /// Who it is.
    pub meta: Meta,
    /// Why it is refused.
    pub refusal: Refusal,
    /// Digest of its own status.
    pub observed: u64,
    /// What its status needs.
    outline: Outline<OUTLINE>,
    /// Blocks it would need; 0 when unknown.
    blocks: u32,
    epoch: u32,
}

impl<const OUTLINE: usize> Stub<OUTLINE> {
    /// Fills an object with what is remembered of it: who it is, and its outline.
    pub fn load<T: Object>(&self, into: &mut T) {
        self.outline.load(into);
        *into.meta_mut() = self.meta;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    meta: Meta,
    used: bool,
    /// First block.
    head: u32,
    /// Packed bytes.
    size: u32,
    /// The resync in which it was last seen.
    epoch: u32,
    tag: u64,
    observed: u64,
    /// Next slot in the same bucket of the key index, or next free slot.
    next: u32,
}

/// What an upsert did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upserted {
    /// It is stored and differs from before (or is new).
    Changed,
    /// It is stored and equal to before.
    Same,
    /// It is not served; a stub tells (unless the stubs are full too).
    Refused(Refusal),
}

/// At most `N` objects of one kind in `BLOCKS` blocks; of a refused one at most `OUTLINE` bytes
/// for its status.
#[derive(Debug)]
pub struct ResourceStore<const N: usize, const BLOCKS: usize, const OUTLINE: usize> {
    slots: Table<Slot, N>,
    /// Heads of the buckets, by key hash.
    buckets: Table<u32, N>,
    /// Slots in use, oldest first.
    order: Table<u32, N>,
    free_slot: u32,
    blocks: Table<[u8; BLOCK], BLOCKS>,
    next_block: Table<u32, BLOCKS>,
    free_block: u32,
    free_blocks: u32,
    stubs: Table<Stub<OUTLINE>, { MAX_STUBS_PER_STORE as usize }>,
    /// Refused objects that found no stub, since the last resync.
    uncounted: u32,
    /// The oldest of those for which there was no room, and its blocks (0: there is none).
    waits: Meta,
    waits_blocks: u32,
    epoch: u32,
    resyncing: bool,
    /// Rises with each change that reconcile must see.
    version: u64,
}

// `init` must come first, which every use asserts by the caps being above zero.
crate::zeroed_struct!(ResourceStore<N, BLOCKS, OUTLINE> {
    slots: Table<Slot, N>,
    buckets: Table<u32, N>,
    order: Table<u32, N>,
    free_slot: u32,
    blocks: Table<[u8; BLOCK], BLOCKS>,
    next_block: Table<u32, BLOCKS>,
    free_block: u32,
    free_blocks: u32,
    stubs: Table<Stub<OUTLINE>, { MAX_STUBS_PER_STORE as usize }>,
    uncounted: u32,
    waits: Meta,
    waits_blocks: u32,
    epoch: u32,
    resyncing: bool,
    version: u64,
});

/// Refused objects that a store of this capacity remembers.
fn stubs(capacity: u32) -> u32 {
    capacity.clamp(MIN_STUBS_PER_STORE, MAX_STUBS_PER_STORE)
}

impl<const N: usize, const BLOCKS: usize, const OUTLINE: usize> ResourceStore<N, BLOCKS, OUTLINE> {
    /// Sets the capacity of a zeroed store.
    pub fn init(&mut self, capacity: u32, blocks: u32) {
        assert!(capacity > 0 && self.slots.is_empty());
        assert!(blocks >= MAX_OBJECT_PACKED_BYTES / STORE_BLOCK_BYTES, "one object must fit");
        self.slots.set_cap(capacity);
        self.buckets.set_cap(capacity);
        self.order.set_cap(capacity);
        self.blocks.set_cap(blocks);
        self.next_block.set_cap(blocks);
        self.stubs.set_cap(stubs(capacity));
        self.buckets.resize(capacity, NONE).expect("the cap was just set");
        for index in 0..capacity {
            let slot = Slot {
                next: if index + 1 < capacity { index + 1 } else { NONE },
                ..Slot::default()
            };
            self.slots.push(slot).expect("the cap was just set");
        }
        for index in 0..blocks {
            self.blocks.push([0; BLOCK]).expect("the cap was just set");
            let next = if index + 1 < blocks { index + 1 } else { NONE };
            self.next_block.push(next).expect("the cap was just set");
        }
        (self.free_slot, self.free_block, self.free_blocks) = (0, 0, blocks);
    }

    /// Bytes at this capacity: the line of the memory plan.
    pub fn bytes(capacity: u32, blocks: u32) -> u64 {
        u64::from(capacity) * (size_of::<Slot>() + 8) as u64
            + u64::from(blocks) * (BLOCK + 4) as u64
            + u64::from(stubs(capacity)) * size_of::<Stub<OUTLINE>>() as u64
    }

    /// Number of admitted objects.
    pub fn len(&self) -> u32 {
        self.order.len()
    }

    /// Whether none is admitted.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The capacity in objects.
    pub fn capacity(&self) -> u32 {
        self.slots.cap()
    }

    /// Rises with each change of the admitted or refused objects.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The refused objects that are remembered, and how many are not.
    pub fn refused(&self) -> (&[Stub<OUTLINE>], u32) {
        (self.stubs.as_slice(), self.uncounted)
    }

    /// Begins a resync: what is not seen until [`Self::resync_end`] is gone.
    pub fn resync_begin(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.resyncing = true;
        (self.uncounted, self.waits_blocks) = (0, 0);
    }

    /// Marks an object as seen, if it is there.
    pub fn mark(&mut self, key: &Key) {
        if let Some(Handle(slot)) = self.find(key) {
            self.slots[slot].epoch = self.epoch;
        }
    }

    /// Ends a resync: removes what was not seen since it began, unless it was not `complete`.
    pub fn resync_end(&mut self, complete: bool) {
        assert!(self.resyncing, "resync_end without resync_begin");
        self.resyncing = false;
        if !complete {
            return;
        }
        let mut at = 0;
        while at < self.order.len() {
            let slot = self.order[at];
            if self.slots[slot].epoch == self.epoch {
                at += 1;
            } else {
                self.release(at);
            }
        }
        let epoch = self.epoch;
        self.stubs.retain(|stub| stub.epoch == epoch);
        self.version += 1;
    }

    /// Whether a refused object could be admitted now, so that a relist is worth it: there is
    /// room, or a younger object has its place (an object was replaced by a younger one). And
    /// whether one whose name is not kept could be told so by its status, since a stub is free.
    pub fn wants_relist(&self) -> bool {
        let waiting = |s: &Stub<OUTLINE>| {
            s.refusal == Refusal::Capacity && self.evictions(&s.meta, s.blocks.max(1)).is_some()
        };
        if self.resyncing {
            return false;
        }
        let wants = self.stubs.as_slice().iter().any(waiting)
            || self.uncounted > 0 && self.stubs.len() < self.stubs.cap()
            || self.waits_blocks > 0 && self.evictions(&self.waits, self.waits_blocks).is_some();
        if wants {
            sometimes(Mark::RelistWanted);
        }
        wants
    }

    /// Stores an object, or refuses it whole. `scratch` holds the packed object for a moment.
    pub fn upsert<T: Object>(&mut self, object: &T, scratch: &mut Scratch) -> Upserted {
        let meta = *object.meta();
        let mut packer = Packer::new(&mut scratch.0);
        let packed = Outline::<OUTLINE>::of(object).pack(&mut packer);
        if packed.and_then(|()| object.pack(&mut packer)).is_err() {
            return self.refuse(object, Refusal::TooLarge);
        }
        let size = packer.len();
        let bytes = &scratch.0[..size];
        if let Some(at) = self.position(&meta.key) {
            let slot = self.order[at];
            self.slots[slot].epoch = self.epoch;
            if self.slots[slot].meta == meta && self.equals(slot, bytes) {
                return Upserted::Same;
            }
            self.release(at);
        }
        self.forget_stub(&meta.key);
        self.version += 1;
        let needed = size.div_ceil(BLOCK) as u32;
        if !self.make_room(&meta, needed) {
            sometimes(Mark::ObjectRefused);
            let stub = self.stub_of(object, Refusal::Capacity);
            return self.remember(Stub { blocks: needed, ..stub });
        }
        self.insert(object, bytes);
        Upserted::Changed
    }

    /// Remembers an object that is not served. Replaces what was stored under its key.
    pub fn refuse<T: Object>(&mut self, object: &T, refusal: Refusal) -> Upserted {
        self.remember(self.stub_of(object, refusal))
    }

    fn stub_of<T: Object>(&self, object: &T, refusal: Refusal) -> Stub<OUTLINE> {
        let (meta, observed) = (*object.meta(), object.observed());
        let outline = Outline::of(object);
        Stub { meta, refusal, observed, outline, blocks: 0, epoch: self.epoch }
    }

    fn remember(&mut self, stub: Stub<OUTLINE>) -> Upserted {
        if let Some(at) = self.position(&stub.meta.key) {
            self.release(at);
        }
        self.forget_stub(&stub.meta.key);
        self.version += 1;
        let Stub { refusal, meta, blocks, .. } = stub;
        if self.stubs.push(stub) == Err(Full) {
            sometimes(Mark::StubsFull);
            self.uncounted += 1;
            let is_first = self.waits_blocks == 0 || meta.age() < self.waits.age();
            if refusal == Refusal::Capacity && is_first {
                (self.waits, self.waits_blocks) = (meta, blocks.max(1));
            }
        }
        Upserted::Refused(refusal)
    }

    /// Removes an object; whether it was there (admitted or refused).
    pub fn remove(&mut self, key: &Key) -> bool {
        let stub = self.forget_stub(key);
        let admitted = self.position(key);
        if let Some(at) = admitted {
            self.release(at);
        }
        let found = stub || admitted.is_some();
        self.version += u64::from(found);
        found
    }

    /// The handle of an admitted object.
    pub fn find(&self, key: &Key) -> Option<Handle> {
        self.find_by_hash(key.hash(), |k| k == key)
    }

    /// The handle of the admitted object with these parts of a key.
    pub fn find_parts(&self, namespace: &str, name: &str) -> Option<Handle> {
        self.find_by_hash(Key::hash_of(namespace, name), |k| {
            k.namespace.as_str() == namespace && k.name.as_str() == name
        })
    }

    fn find_by_hash(&self, hash: u64, is: impl Fn(&Key) -> bool) -> Option<Handle> {
        let mut slot = self.buckets[self.bucket(hash)];
        while slot != NONE {
            if is(&self.slots[slot].meta.key) {
                return Some(Handle(slot));
            }
            slot = self.slots[slot].next;
        }
        None
    }

    /// Handles of all admitted objects, oldest first.
    pub fn by_age(&self) -> impl Iterator<Item = Handle> + '_ {
        self.order.as_slice().iter().map(|&slot| Handle(slot))
    }

    /// Who the object is.
    pub fn meta(&self, handle: Handle) -> &Meta {
        &self.slots[handle.0].meta
    }

    /// The object's tag ([`Object::tag`]).
    pub fn tag(&self, handle: Handle) -> u64 {
        self.slots[handle.0].tag
    }

    /// Digest of the object's own status as observed.
    pub fn observed(&self, handle: Handle) -> u64 {
        self.slots[handle.0].observed
    }

    /// Unpacks an object.
    pub fn load<T: Object>(&self, handle: Handle, into: &mut T, scratch: &mut Scratch) {
        let size = self.slots[handle.0].size as usize;
        self.copy(handle.0, &mut scratch.0[..size]);
        let mut unpacker = Unpacker::new(&scratch.0[..size]);
        Outline::<OUTLINE>::default().unpack(&mut unpacker);
        into.unpack(&mut unpacker);
        assert!(unpacker.rest() == 0, "unpacked all that was packed");
    }

    /// The outline of a stored object: its packed form begins with it.
    fn outline(&self, slot: u32) -> Outline<OUTLINE> {
        let mut buffer = [0; MAX_OUTLINE_PACKED_BYTES];
        let size = (self.slots[slot].size as usize).min(Outline::<OUTLINE>::PACKED_BYTES);
        self.copy(slot, &mut buffer[..size]);
        let mut outline = Outline::default();
        outline.unpack(&mut Unpacker::new(&buffer[..size]));
        outline
    }

    /// Copies the first bytes of a stored object's packed form.
    fn copy(&self, slot: u32, into: &mut [u8]) {
        let slot = &self.slots[slot];
        assert!(slot.used && into.len() <= slot.size as usize);
        let mut block = slot.head;
        for chunk in into.chunks_mut(BLOCK) {
            chunk.copy_from_slice(&self.blocks[block][..chunk.len()]);
            block = self.next_block[block];
        }
    }

    fn bucket(&self, hash: u64) -> u32 {
        (hash % u64::from(self.buckets.len())) as u32
    }

    fn position(&self, key: &Key) -> Option<u32> {
        let Handle(slot) = self.find(key)?;
        let age = self.slots[slot].meta;
        let at = self.order_position(&age);
        assert!(self.order[at] == slot, "the order holds every slot in use");
        Some(at)
    }

    /// Where in the order an object of this age stands or would stand.
    fn order_position(&self, meta: &Meta) -> u32 {
        let slots = &self.slots;
        self.order.as_slice().partition_point(|&s| slots[s].meta.age() < meta.age()) as u32
    }

    fn equals(&self, slot: u32, bytes: &[u8]) -> bool {
        if self.slots[slot].size as usize != bytes.len() {
            return false;
        }
        let mut block = self.slots[slot].head;
        bytes.chunks(BLOCK).all(|chunk| {
            let here = block;
            block = self.next_block[block];
            &self.blocks[here][..chunk.len()] == chunk
        })
    }

    /// How many of the youngest objects must go so that this one fits; None when only older ones
    /// are left and it still does not.
    fn evictions(&self, meta: &Meta, needed: u32) -> Option<u32> {
        let (mut len, mut free) = (self.order.len(), self.free_blocks);
        let mut evict = 0;
        while len >= self.slots.cap() || free < needed {
            let &slot = self.order.as_slice().iter().rev().nth(evict as usize)?;
            if self.slots[slot].meta.age() < meta.age() {
                return None;
            }
            evict += 1;
            len -= 1;
            free += self.slots[slot].size.div_ceil(STORE_BLOCK_BYTES);
        }
        Some(evict)
    }

    /// Evicts younger objects until there is room, unless all of them together do not make it.
    fn make_room(&mut self, meta: &Meta, needed: u32) -> bool {
        let Some(evict) = self.evictions(meta, needed) else { return false };
        for _ in 0..evict {
            sometimes(Mark::ObjectEvicted);
            let slot = self.order[self.order.len() - 1];
            let Slot { meta, observed, size, epoch, .. } = self.slots[slot];
            let outline = self.outline(slot);
            let (refusal, blocks) = (Refusal::Capacity, size.div_ceil(STORE_BLOCK_BYTES));
            self.remember(Stub { meta, refusal, observed, outline, blocks, epoch });
        }
        true
    }

    fn insert<T: Object>(&mut self, object: &T, bytes: &[u8]) {
        let meta = *object.meta();
        let slot = self.free_slot;
        assert!(slot != NONE && !self.slots[slot].used);
        self.free_slot = self.slots[slot].next;
        let mut head = NONE;
        for chunk in bytes.chunks(BLOCK).rev() {
            let block = self.free_block;
            assert!(block != NONE, "make_room counted the blocks");
            self.free_block = self.next_block[block];
            self.free_blocks -= 1;
            self.blocks[block][..chunk.len()].copy_from_slice(chunk);
            self.next_block[block] = head;
            head = block;
        }
        let bucket = self.bucket(meta.key.hash());
        self.slots[slot] = Slot {
            meta,
            used: true,
            head,
            size: bytes.len() as u32,
            epoch: self.epoch,
            tag: object.tag(),
            observed: object.observed(),
            next: self.buckets[bucket],
        };
        self.buckets[bucket] = slot;
        let at = self.order_position(&meta);
        self.order.insert(at, slot).expect("as many as slots");
    }

    /// Frees the slot at this place of the order, with its blocks.
    fn release(&mut self, at: u32) {
        let slot = self.order.remove(at);
        let Slot { meta, mut head, used, .. } = self.slots[slot];
        assert!(used);
        while head != NONE {
            let next = self.next_block[head];
            self.next_block[head] = self.free_block;
            self.free_block = head;
            self.free_blocks += 1;
            head = next;
        }
        let bucket = self.bucket(meta.key.hash());
        let after = self.slots[slot].next;
        if self.buckets[bucket] == slot {
            self.buckets[bucket] = after;
        } else {
            let mut before = self.buckets[bucket];
            while self.slots[before].next != slot {
                before = self.slots[before].next;
            }
            self.slots[before].next = after;
        }
        self.slots[slot] = Slot { next: self.free_slot, ..Slot::default() };
        self.free_slot = slot;
        assert!(self.free_blocks <= self.blocks.len());
    }

    fn forget_stub(&mut self, key: &Key) -> bool {
        let before = self.stubs.len();
        self.stubs.retain(|stub| stub.meta.key != *key);
        self.stubs.len() < before
    }
}

/// An admitted object of a store, until the store changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(u32);

/// Room for one packed object, shared by all stores of a thread.
#[derive(Debug)]
pub struct Scratch([u8; MAX_OBJECT_PACKED_BYTES as usize]);

crate::zeroed_struct!(Scratch { 0: [u8; MAX_OBJECT_PACKED_BYTES as usize] });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{GatewayClass, Secret};
    use crate::shell::place::boxed_zeroed;
    use crate::stdx::Prng;
    use std::boxed::Box;
    use std::format;
    use std::vec::Vec;

    type Store = ResourceStore<8, 2048, 0>;

    fn secret(name: &str, created: u64) -> Box<Secret> {
        let key = Key::new("ns", name).unwrap();
        let mut secret = boxed_zeroed::<Secret>();
        secret.meta = Meta { key, created, ..Meta::default() };
        secret
    }

    fn store(capacity: u32) -> (Box<Store>, Box<Scratch>) {
        let mut store = boxed_zeroed::<Store>();
        store.init(capacity, 2048);
        (store, boxed_zeroed())
    }

    fn names(store: &Store) -> Vec<std::string::String> {
        store.by_age().map(|h| format!("{}", store.meta(h).key.name)).collect()
    }

    #[test]
    fn oldest_first_whatever_the_order() {
        let (mut store, mut scratch) = store(2);
        for (name, created) in [("c", 3), ("b", 2), ("z", 1), ("a", 4)] {
            store.upsert(&*secret(name, created), &mut scratch);
        }
        assert_eq!(names(&store), ["z", "b"]);
        assert_eq!(store.refused().0.len(), 2);
        assert!(!store.wants_relist());
        assert!(store.remove(&Key::new("ns", "b").unwrap()));
        assert!(store.wants_relist());
        store.resync_begin();
        for (name, created) in [("a", 4), ("c", 3), ("z", 1)] {
            store.upsert(&*secret(name, created), &mut scratch);
        }
        store.resync_end(true);
        assert_eq!(names(&store), ["z", "c"]);
    }

    /// Refused objects of which not even the name is kept are not forgotten when younger ones take
    /// the places that become free, nor when only stubs do.
    #[test]
    fn a_refused_object_without_a_stub_is_asked_for_again() {
        let (mut store, mut scratch) = store(2);
        let stubs = stubs(2);
        store.upsert(&*secret("oldest", 1), &mut scratch);
        store.upsert(&*secret("goes", 2), &mut scratch);
        // All stubs are taken by younger ones.
        for n in 0..stubs {
            store.upsert(&*secret(&format!("young{n}"), 100), &mut scratch);
        }
        let bad = secret("bad", 0);
        assert_eq!(store.refuse(&*bad, Refusal::Invalid), Upserted::Refused(Refusal::Invalid));
        assert!(!store.wants_relist());
        store.upsert(&*secret("waits", 3), &mut scratch);
        assert_eq!(store.refused().1, 2);
        assert!(!store.wants_relist(), "older ones have the places");
        store.remove(&Key::new("ns", "goes").unwrap());
        assert!(store.wants_relist(), "a place is free");
        store.upsert(&*secret("younger", 4), &mut scratch);
        assert!(store.wants_relist(), "a younger one has its place");
        store.resync_begin();
        let young = (0..stubs).map(|n| (format!("young{n}"), 100));
        let older = [("younger", 4), ("waits", 3), ("oldest", 1)];
        for (name, created) in young.chain(older.map(|(name, at)| (name.into(), at))) {
            store.upsert(&*secret(&name, created), &mut scratch);
        }
        store.resync_end(true);
        assert_eq!((names(&store).join(" ").as_str(), store.refused().1), ("oldest waits", 1));
        assert!(!store.wants_relist());
        store.remove(&Key::new("ns", "young0").unwrap());
        assert!(store.wants_relist(), "its status can say so now");
    }

    #[test]
    fn load_gives_back_what_was_stored() {
        let (mut store, mut scratch) = store(3);
        assert_eq!(store.upsert(&*secret("a", 1), &mut scratch), Upserted::Changed);
        assert_eq!(store.upsert(&*secret("a", 1), &mut scratch), Upserted::Same);
        let mut other = secret("", 0);
        let handle = store.find_parts("ns", "a").unwrap();
        store.load(handle, &mut *other, &mut scratch);
        assert_eq!(other.meta, secret("a", 1).meta);
    }

    /// Refused at once or evicted later: the outline stays.
    #[test]
    fn a_refused_object_leaves_its_outline() {
        let mut store = boxed_zeroed::<ResourceStore<8, 2048, 64>>();
        store.init(1, 2048);
        let mut scratch = boxed_zeroed();
        for (name, created) in [("b", 2), ("c", 3), ("a", 1)] {
            let mut class = GatewayClass::default();
            class.meta.key = Key::new("", name).unwrap();
            class.meta.created = created;
            class.controller = class.text.push(&format!("example.com/{name}")).unwrap();
            store.upsert(&class, &mut scratch);
        }
        let mut class = GatewayClass::default();
        let mut controllers = Vec::new();
        for stub in store.refused().0 {
            stub.load(&mut class);
            let (name, controller) = (class.meta.key.name, class.text.get(class.controller));
            controllers.push(format!("{name} {controller}"));
        }
        assert_eq!(controllers, ["c example.com/c", "b example.com/b"]);
    }

    /// The admitted set after a resync is the first N of the live objects, for any history.
    #[test]
    fn admitted_set_against_a_naive_model() {
        let mut prng = Prng::new(1);
        for _ in 0..200 {
            let (mut store, mut scratch) = store(4);
            let mut live: Vec<(u64, usize)> = Vec::new();
            for _ in 0..60 {
                let id = prng.below(12) as usize;
                let name = format!("n{id:02}");
                live.retain(|&(_, i)| i != id);
                if prng.chance(1, 3) {
                    store.remove(&Key::new("ns", &name).unwrap());
                } else {
                    let created = prng.below(6);
                    live.push((created, id));
                    store.upsert(&*secret(&name, created), &mut scratch);
                }
                if store.wants_relist() {
                    store.resync_begin();
                    for &(created, id) in &live {
                        store.upsert(&*secret(&format!("n{id:02}"), created), &mut scratch);
                    }
                    store.resync_end(true);
                }
                live.sort_unstable();
                let expected: Vec<_> =
                    live.iter().take(4).map(|(_, id)| format!("n{id:02}")).collect();
                assert_eq!(names(&store), expected);
                assert_eq!(store.refused().0.len(), live.len().saturating_sub(4));
            }
        }
    }
}
