//! FNV-1a with a final mix: a fast hash for tables whose keys the configuration chooses.
//! Not for keys that a hostile peer chooses, and not for identity (that is SHA-256).

/// The running hash.
#[derive(Clone, Copy, Debug)]
pub struct Fnv(u64);

impl Fnv {
    /// The empty hash.
    pub const fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    /// The empty hash of a family: hashes of different families have nothing in common.
    pub const fn of_family(family: u64) -> Self {
        Fnv(0xcbf2_9ce4_8422_2325 ^ family.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Adds one byte.
    #[inline]
    pub fn write_byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }

    /// Adds bytes.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Adds a number.
    pub fn write_u32(&mut self, value: u32) {
        self.write(&value.to_le_bytes());
    }

    /// The hash, with its high bits mixed down so that it can be masked.
    pub fn finish(self) -> u64 {
        let mut z = self.0;
        z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        z ^ (z >> 32)
    }
}

impl Default for Fnv {
    fn default() -> Self {
        Self::new()
    }
}

/// The hash of some bytes.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut fnv = Fnv::new();
    fnv.write(bytes);
    fnv.finish()
}
