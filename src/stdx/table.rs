//! An array of fixed length with a soft cap below it, and spans (ranges by index) into it.
//!
//! The array's length `N` is the ceiling of limits.toml; the cap is the capacity set at start.

use super::Zeroed;
use super::touch::touch_first;

/// There is no room; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A range of a [`Table`]: `len` items from `start`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Index of the first item.
    pub start: u32,
    /// Number of items.
    pub len: u32,
}

crate::zeroed_struct!(Span { start: u32, len: u32 });

impl Span {
    /// The empty range.
    pub const EMPTY: Span = Span { start: 0, len: 0 };

    /// One past the last index.
    pub fn end(self) -> u32 {
        self.start + self.len
    }

    /// The indexes.
    pub fn range(self) -> core::ops::Range<usize> {
        self.start as usize..self.end() as usize
    }
}

/// At most `cap <= N` items in an array of length `N`; never allocates, never grows.
#[derive(Clone, Debug)]
pub struct Table<T, const N: usize> {
    cap: u32,
    items: heapless::Vec<T, N>,
}

// SAFETY: a heapless::Vec is a length and an uninitialised array: zero bytes are the empty one
// (tested below, since heapless does not promise it); `cap` zero admits nothing.
unsafe impl<T, const N: usize> Zeroed for Table<T, N> {}

/// The same items, whatever the caps.
impl<T: PartialEq, const N: usize> PartialEq for Table<T, N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<T, const N: usize> Table<T, N> {
    /// An empty table whose cap is its ceiling. For small tables; large ones are [`Zeroed`].
    pub const fn new() -> Self {
        assert!(N <= u32::MAX as usize);
        Table { cap: N as u32, items: heapless::Vec::new() }
    }

    /// Sets the soft cap of an empty table; where it rises, the pages up to it become resident.
    pub fn set_cap(&mut self, cap: u32) {
        assert!(cap as usize <= N, "cap above the ceiling");
        assert!(self.items.is_empty());
        if cap > self.cap {
            // The vector is its length and its items: a little more than the items themselves.
            touch_first(&mut self.items, cap as usize * size_of::<T>() + 64);
        }
        self.cap = cap;
    }

    /// Forgets all items and sets the soft cap.
    pub fn set_cap_cleared(&mut self, cap: u32) {
        self.items.clear();
        self.set_cap(cap);
    }

    /// The soft cap.
    pub fn cap(&self) -> u32 {
        self.cap
    }

    /// Number of items.
    #[inline]
    pub fn len(&self) -> u32 {
        self.items.len() as u32
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Appends and returns the index, or says that the cap is reached.
    pub fn push(&mut self, item: T) -> Result<u32, Full> {
        let index = self.len();
        if index >= self.cap {
            return Err(Full);
        }
        self.items.push(item).map_err(|_| Full)?;
        Ok(index)
    }

    /// Removes the last item.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop()
    }

    /// Puts an item at `at`, moving the later ones up.
    pub fn insert(&mut self, at: u32, item: T) -> Result<(), Full> {
        if self.len() >= self.cap {
            return Err(Full);
        }
        self.items.insert(at as usize, item).map_err(|_| Full)
    }

    /// Takes the item at `at` out, moving the later ones down.
    pub fn remove(&mut self, at: u32) -> T {
        self.items.remove(at as usize)
    }

    /// Keeps only the items for which `keep` says so.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.items.retain(keep);
    }

    /// Forgets all items after the first `len`.
    pub fn truncate(&mut self, len: u32) {
        assert!(len <= self.len());
        self.items.truncate(len as usize);
    }

    /// Forgets all items.
    pub fn clear(&mut self) {
        self.items.clear();
    }

    /// The item at `index`, if there is one.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        self.items.get(index as usize)
    }

    /// All items.
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        &self.items
    }

    /// All items.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.items
    }

    /// The items of a span, which must lie inside.
    #[inline]
    pub fn span(&self, span: Span) -> &[T] {
        &self.items[span.range()]
    }

    /// The span from `start` to the end.
    pub fn span_from(&self, start: u32) -> Span {
        assert!(start <= self.len());
        Span { start, len: self.len() - start }
    }

    /// Whether a span that came from outside lies inside.
    pub fn contains(&self, span: Span) -> bool {
        u64::from(span.start) + u64::from(span.len) <= u64::from(self.len())
    }
}

impl<T: Clone, const N: usize> Table<T, N> {
    /// Makes this table hold the same items; the caps may differ.
    pub fn copy_from(&mut self, other: &[T]) -> Result<(), Full> {
        if other.len() > self.cap as usize {
            return Err(Full);
        }
        self.items.clear();
        self.items.extend_from_slice(other).map_err(|_| Full)
    }

    /// Makes room for `len` items, filling with `item`.
    pub fn resize(&mut self, len: u32, item: T) -> Result<(), Full> {
        if len > self.cap {
            return Err(Full);
        }
        self.items.resize(len as usize, item).map_err(|_| Full)
    }
}

impl<T, const N: usize> core::ops::Index<u32> for Table<T, N> {
    type Output = T;
    #[inline]
    fn index(&self, index: u32) -> &T {
        &self.items[index as usize]
    }
}

impl<T, const N: usize> core::ops::IndexMut<u32> for Table<T, N> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.items[index as usize]
    }
}

impl<T, const N: usize> Default for Table<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::zeroed_in_place;
    use super::*;
    use core::mem::MaybeUninit;

    #[test]
    fn zero_bytes_are_the_empty_table() {
        let mut place = MaybeUninit::<Table<(u64, u8), 7>>::uninit();
        let table = zeroed_in_place(&mut place);
        assert!(table.is_empty());
        assert_eq!(table.push((1, 1)), Err(Full));
        table.set_cap(7);
        for i in 0..7 {
            assert_eq!(table.push((u64::from(i), 0)), Ok(i));
        }
        assert_eq!(table.push((9, 9)), Err(Full));
        assert_eq!(table[6], (6, 0));
    }

    #[test]
    fn soft_cap_below_the_ceiling() {
        let mut table = Table::<u8, 8>::new();
        table.set_cap(2);
        assert_eq!((table.push(1), table.push(2), table.push(3)), (Ok(0), Ok(1), Err(Full)));
        assert!(table.contains(Span { start: 1, len: 1 }));
        assert!(!table.contains(Span { start: u32::MAX, len: 2 }));
    }
}
