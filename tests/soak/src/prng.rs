//! A random source that is the same for the same seed: splitmix64.
//!
//! In: a seed. Out: numbers.

/// The state.
#[derive(Clone, Debug)]
pub struct Prng(u64);

impl Prng {
    /// Streams of different names are independent, though their seed is the same.
    pub fn new(seed: u64, name: &str) -> Prng {
        let of = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Prng(name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, of))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `low..high`.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        assert!(low < high, "an empty range");
        low + self.next() % (high - low)
    }

    /// In another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.range(0, last as u64 + 1) as usize);
        }
    }
}
