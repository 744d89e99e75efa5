//! A seeded generator (xoshiro256++): the only randomness the machines have, handed in.

/// Deterministic; not for secrets.
#[derive(Clone, Debug)]
pub struct Prng {
    state: [u64; 4],
}

// Zero bytes are a generator that gives only zeros: a place to be overwritten.
crate::zeroed_struct!(Prng { state: [u64; 4] });

impl Prng {
    /// Any seed gives a good state (SplitMix64 spreads it).
    pub fn new(seed: u64) -> Self {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Prng { state: [next(), next(), next(), next()] }
    }

    /// A generator of its own for a subsystem, named so that others do not shift its numbers.
    pub fn child(&self, name: &str) -> Prng {
        let mut hash = super::fnv::Fnv::new();
        hash.write(name.as_bytes());
        for word in self.state {
            hash.write(&word.to_le_bytes());
        }
        Prng::new(hash.finish())
    }

    /// 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in `0..bound`; the bias is below `bound` / 2^64.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0);
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in `low..=high`.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high && high - low < u64::MAX);
        low + self.below(high - low + 1)
    }

    /// True in `numerator` of `denominator` cases.
    #[inline]
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_numbers_and_children_are_apart() {
        let (mut a, mut b) = (Prng::new(7), Prng::new(7));
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
        let (mut x, mut y) = (a.child("x"), a.child("y"));
        assert_ne!(x.next_u64(), y.next_u64());
        let mut seen = [0u32; 10];
        (0..10_000).for_each(|_| seen[a.below(10) as usize] += 1);
        assert!(seen.iter().all(|&n| (850..1150).contains(&n)), "{seen:?}");
    }
}
