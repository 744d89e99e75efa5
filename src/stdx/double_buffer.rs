//! Two slots, one writer, several readers, no locks and no waiting: what a configuration lives in.
//!
//! In: the writer fills the inactive slot and publishes it. Out: each reader loads the active slot
//! at the start of a turn and acknowledges once nothing of an older one is held any more.
//!
//! The generation is the whole protocol: slot `generation & 1` is active. `publish` raises it; a
//! reader that acknowledged generation g holds nothing older than g. The writer may touch the
//! inactive slot (of generation g - 1) only when every reader has acknowledged g. Both hand-overs
//! are one store with Release seen by one load with Acquire: content before generation, last use
//! before acknowledgement. No reader is ever waited for by a sleep: the writer asks again when it
//! is woken or has something to do. `loom` runs all orders of the stores (the tests below, built
//! with `RUSTFLAGS="--cfg loom"`; `scripts/loom`).
//!
//! Joining is the one place where a store must be seen before a later load: a reader says that it
//! is there, then loads the generation; the writer stores the generation, then looks who is there.
//! A fence between the two on either side makes at least one see the other. A reader leaves when it
//! is dropped; one that left counts as having acknowledged everything, and its seat is free.

#[cfg(loom)]
use loom::cell::UnsafeCell;
#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

#[cfg(not(loom))]
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// The acknowledgement of a reader that left.
const EVERYTHING: u64 = u64::MAX;

/// core's cell with loom's interface, so that loom can watch every access.
#[cfg(not(loom))]
#[derive(Debug)]
struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    const fn new(value: T) -> Self {
        UnsafeCell(core::cell::UnsafeCell::new(value))
    }
    fn get(&self) -> ConstPtr<T> {
        ConstPtr(self.0.get())
    }
    fn get_mut(&self) -> MutPtr<T> {
        MutPtr(self.0.get())
    }
}

#[cfg(not(loom))]
struct ConstPtr<T>(*const T);

#[cfg(not(loom))]
impl<T> ConstPtr<T> {
    /// # Safety
    /// As for a dereference: no writer for as long as the reference lives.
    unsafe fn deref(&self) -> &T {
        // SAFETY: the caller's promise; the pointer comes from a cell and is never null.
        unsafe { &*self.0 }
    }
}

#[cfg(not(loom))]
struct MutPtr<T>(*mut T);

#[cfg(not(loom))]
impl<T> MutPtr<T> {
    /// # Safety
    /// As for a dereference: nobody else reads or writes for as long as the reference lives.
    #[allow(clippy::mut_from_ref, reason = "loom's interface; the cell is what is borrowed")]
    unsafe fn deref(&self) -> &mut T {
        // SAFETY: the caller's promise; the pointer comes from a cell and is never null.
        unsafe { &mut *self.0 }
    }
}

/// The two slots. Readers and the writer are handles that borrow it.
#[derive(Debug)]
pub struct DoubleBuffer<T, const READERS: usize> {
    slots: [UnsafeCell<T>; 2],
    generation: AtomicU64,
    /// By seat; offset by one so that zeroed memory means "nobody sits here": 0 is
    /// as [`EVERYTHING`], n + 1 is generation n.
    acknowledged: [AtomicU64; READERS],
    writer_taken: AtomicBool,
}

// SAFETY: slots are shared by reference between threads (T: Sync) and written through a handle that
// may live on another thread (T: Send); the protocol above keeps the two apart.
unsafe impl<T: Send + Sync, const READERS: usize> Sync for DoubleBuffer<T, READERS> {}

#[cfg(not(loom))]
// SAFETY: cells of zeroed values and atomics of zero: generation 0, no seats, no writer.
unsafe impl<T: super::Zeroed, const READERS: usize> super::Zeroed for DoubleBuffer<T, READERS> {}

impl<T, const READERS: usize> DoubleBuffer<T, READERS> {
    /// Two slots at generation 0; the first is active. Large ones are built from zeroed memory.
    pub fn new(first: T, second: T) -> Self {
        DoubleBuffer {
            slots: [UnsafeCell::new(first), UnsafeCell::new(second)],
            generation: AtomicU64::new(0),
            acknowledged: core::array::from_fn(|_| AtomicU64::new(0)),
            writer_taken: AtomicBool::new(false),
        }
    }

    /// Both slots, before anybody shares them.
    #[cfg(not(loom))]
    pub fn slots_mut(&mut self) -> [&mut T; 2] {
        let [a, b] = &mut self.slots;
        [a.0.get_mut(), b.0.get_mut()]
    }

    /// The one writer; None when it is out already.
    pub fn writer(&self) -> Option<Writer<'_, T, READERS>> {
        if self.writer_taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(Writer { buffer: self, granted: 0 })
    }

    /// A reader at a seat of its own; None when all seats are taken.
    pub fn reader(&self) -> Option<Reader<'_, T, READERS>> {
        // It may lag behind a generation published meanwhile, and then only holds the writer up.
        let generation = self.generation.load(Ordering::Acquire);
        let sits = |seat: &AtomicU64, free| {
            let order = (Ordering::AcqRel, Ordering::Relaxed);
            seat.compare_exchange(free, generation + 1, order.0, order.1).is_ok()
        };
        let seat = self.acknowledged.iter().position(|s| sits(s, 0) || sits(s, EVERYTHING))?;
        fence(Ordering::SeqCst);
        Some(Reader { buffer: self, seat: seat as u32, held: generation })
    }

    /// The generation that is active.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether every reader has acknowledged the active generation.
    pub fn all_passed(&self) -> bool {
        let generation = self.generation.load(Ordering::Acquire);
        fence(Ordering::SeqCst);
        self.acknowledged.iter().all(|seat| {
            let value = seat.load(Ordering::Acquire);
            value == 0 || value == EVERYTHING || value > generation
        })
    }
}

/// Fills and publishes. There is one.
#[derive(Debug)]
pub struct Writer<'a, T, const READERS: usize> {
    buffer: &'a DoubleBuffer<T, READERS>,
    /// The generation that the inactive slot may be published as; then it is ours until that.
    granted: u64,
}

impl<T, const READERS: usize> Writer<'_, T, READERS> {
    /// The active generation.
    pub fn generation(&self) -> u64 {
        self.buffer.generation()
    }

    /// Whether every reader has acknowledged the active generation.
    pub fn all_passed(&self) -> bool {
        self.buffer.all_passed()
    }

    /// The active slot, which nobody writes while this borrow lives.
    #[cfg(not(loom))]
    pub fn active(&self) -> &T {
        let slot = &self.buffer.slots[(self.buffer.generation() & 1) as usize];
        // SAFETY: only this handle writes slots, through a `&mut self` that excludes this borrow.
        // The cell outlives the borrow: the buffer is borrowed for longer.
        unsafe { &*slot.get().0 }
    }

    /// The inactive slot; None while some reader may still hold it. Once given it stays given
    /// until [`Writer::publish`]: a reader that joins later loads the active one.
    #[cfg(not(loom))]
    pub fn inactive(&mut self) -> Option<&mut T> {
        self.try_fill(core::ptr::from_mut).map(|slot| {
            // SAFETY: just granted, and the borrow of `self` excludes another.
            unsafe { &mut *slot }
        })
    }

    /// The active slot to read and the inactive one to write; None as in [`Writer::inactive`].
    #[cfg(not(loom))]
    pub fn both(&mut self) -> Option<(&T, &mut T)> {
        let active = core::ptr::from_ref(self.active());
        // SAFETY: the two slots are apart; `self` stays borrowed for both borrows.
        self.inactive().map(|inactive| (unsafe { &*active }, inactive))
    }

    /// Runs `fill` on the inactive slot; None while some reader may still hold it.
    pub fn try_fill<R>(&mut self, fill: impl FnOnce(&mut T) -> R) -> Option<R> {
        let next = self.buffer.generation() + 1;
        if self.granted != next && !self.buffer.all_passed() {
            return None;
        }
        self.granted = next;
        let slot = self.buffer.slots[(next & 1) as usize].get_mut();
        // SAFETY: every reader has acknowledged the active generation, so none holds the inactive
        // slot, and none can load it until `publish`; there is one writer, borrowed mutably.
        Some(fill(unsafe { slot.deref() }))
    }

    /// Makes the slot that was given out the active one; its generation.
    pub fn publish(&mut self) -> u64 {
        let next = self.buffer.generation() + 1;
        assert!(self.granted == next, "published a slot that was not given out");
        self.buffer.generation.store(next, Ordering::Release);
        next
    }
}

impl<T, const READERS: usize> Drop for Writer<'_, T, READERS> {
    fn drop(&mut self) {
        self.buffer.writer_taken.store(false, Ordering::Release);
    }
}

/// Loads at the start of a turn, acknowledges at its end.
#[derive(Debug)]
pub struct Reader<'a, T, const READERS: usize> {
    buffer: &'a DoubleBuffer<T, READERS>,
    seat: u32,
    /// The generation loaded last.
    held: u64,
}

impl<T, const READERS: usize> Reader<'_, T, READERS> {
    /// Runs a turn on the active slot, given with its generation. Nothing of the slot outlives it.
    pub fn turn<R>(&mut self, turn: impl FnOnce(&T, u64) -> R) -> R {
        let generation = self.buffer.generation.load(Ordering::Acquire);
        assert!(generation >= self.held, "generations rise");
        self.held = generation;
        let slot = self.buffer.slots[(generation & 1) as usize].get();
        // SAFETY: this seat has acknowledged nothing newer than `generation`, so the writer leaves
        // the slot alone until `acknowledge`, which `&mut self` keeps out of the turn.
        turn(unsafe { slot.deref() }, generation)
    }

    /// Says that nothing older than the last turn's generation is held, nor will be.
    pub fn acknowledge(&mut self) {
        self.buffer.acknowledged[self.seat as usize].store(self.held + 1, Ordering::Release);
    }

    /// Whether a newer generation waits.
    pub fn is_behind(&self) -> bool {
        self.buffer.generation.load(Ordering::Acquire) != self.held
    }
}

impl<T, const READERS: usize> Drop for Reader<'_, T, READERS> {
    fn drop(&mut self) {
        self.buffer.acknowledged[self.seat as usize].store(EVERYTHING, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_writer_and_so_many_readers() {
        let buffer = DoubleBuffer::<u32, 2>::new(1, 2);
        let writer = buffer.writer().unwrap();
        assert!(buffer.writer().is_none());
        let one = buffer.reader().unwrap();
        let _two = buffer.reader().unwrap();
        assert!(buffer.reader().is_none());
        drop(one);
        // A reader that comes and goes, as the one of a save, never uses seats up.
        for _ in 0..10 {
            assert!(buffer.reader().is_some() && buffer.all_passed());
        }
        drop(writer);
        assert!(buffer.writer().is_some());
    }

    #[test]
    fn the_slot_is_free_when_all_have_passed() {
        let buffer = DoubleBuffer::<u32, 3>::new(0, 0);
        let mut writer = buffer.writer().unwrap();
        let (mut a, mut b) = (buffer.reader().unwrap(), buffer.reader().unwrap());
        assert_eq!(writer.try_fill(|slot| *slot = 10), Some(()));
        assert_eq!(writer.publish(), 1);
        assert_eq!(*writer.active(), 10);
        // Nobody has acknowledged generation 1: slot 0 may be held.
        assert_eq!(writer.try_fill(|_| ()), None);
        assert_eq!(a.turn(|slot, generation| (*slot, generation)), (10, 1));
        assert!(b.is_behind());
        a.acknowledge();
        assert_eq!(writer.try_fill(|_| ()), None);
        assert_eq!(b.turn(|slot, _| *slot), 10);
        b.acknowledge();
        assert!(buffer.all_passed());
        assert_eq!(writer.try_fill(|slot| *slot = 20), Some(()));
        // A reader that leaves holds nobody up.
        assert_eq!(writer.publish(), 2);
        a.turn(|slot, _| assert_eq!(*slot, 20));
        a.acknowledge();
        assert!(!buffer.all_passed());
        drop(b);
        assert!(buffer.all_passed());
    }
}

/// Every order of the stores, for two generations and two readers.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    type Pair = (u64, u64);

    fn read_turns(buffer: &DoubleBuffer<Pair, 2>, turns: usize) {
        let mut reader = buffer.reader().expect("a seat each");
        for _ in 0..turns {
            reader.turn(|slot, generation| {
                // Complete, and of exactly this generation.
                assert_eq!(*slot, (generation, generation * 7));
            });
            reader.acknowledge();
        }
    }

    fn write(buffer: &DoubleBuffer<Pair, 2>, generations: u64) -> u64 {
        let mut writer = buffer.writer().expect("one writer");
        let mut published = 0;
        for _ in 0..generations {
            let next = writer.generation() + 1;
            if writer.try_fill(|slot| *slot = (next, next * 7)).is_some() {
                published = writer.publish();
            }
        }
        published
    }

    #[test]
    fn loom_one_reader_three_generations() {
        loom::model(|| {
            let buffer = Arc::new(DoubleBuffer::<Pair, 2>::new((0, 0), (0, 0)));
            let reading = Arc::clone(&buffer);
            let reader = loom::thread::spawn(move || read_turns(&reading, 3));
            write(&buffer, 3);
            reader.join().unwrap();
        });
    }

    #[test]
    fn loom_two_readers_two_generations() {
        loom::model(|| {
            let buffer = Arc::new(DoubleBuffer::<Pair, 2>::new((0, 0), (0, 0)));
            let readers = [0, 1].map(|_| {
                let reading = Arc::clone(&buffer);
                loom::thread::spawn(move || read_turns(&reading, 2))
            });
            write(&buffer, 2);
            readers.into_iter().for_each(|r| r.join().unwrap());
        });
    }

    #[test]
    fn loom_a_seat_is_taken_again() {
        loom::model(|| {
            let buffer = Arc::new(DoubleBuffer::<Pair, 2>::new((0, 0), (0, 0)));
            let reading = Arc::clone(&buffer);
            let reader = loom::thread::spawn(move || {
                read_turns(&reading, 1);
                read_turns(&reading, 1);
            });
            write(&buffer, 2);
            reader.join().unwrap();
        });
    }
}
