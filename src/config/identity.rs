//! Who a Snapshot is: epoch, generation, checksum. See docs/IDENTITY.md.

use core::fmt;

/// SHA-256 over the canonical content records of a Snapshot: content only, no identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checksum(pub [u8; 32]);

impl Checksum {
    /// Reads 64 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Checksum> {
        let bytes = text.as_bytes();
        let mut out = [0u8; 32];
        if bytes.len() != 64 {
            return None;
        }
        for (place, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
            *place = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Some(Checksum(out))
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Orders Snapshots: first by epoch (which controller's reign), then by generation.
///
/// A router applies only what is newer; equal content under a new identity is adopted without a
/// swap; an older epoch is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// From the Lease, raised at each controller start; 0 in standalone.
    pub epoch: u64,
    /// Rises with each different Snapshot of an epoch.
    pub generation: u64,
    /// Over the content.
    pub checksum: Checksum,
}

crate::zeroed_struct!(Identity { epoch: u64, generation: u64, checksum: Checksum });
crate::zeroed_struct!(Checksum { 0: [u8; 32] });
crate::zeroed_enum!(Source { None });

impl Identity {
    /// Whether a router that serves `self` may take `other`.
    pub fn precedes(&self, other: &Identity) -> bool {
        (self.epoch, self.generation) < (other.epoch, other.generation)
    }
}

/// Where a router's configuration came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// None yet: the router answers 404 to nothing, it has no binds.
    #[default]
    None,
    /// A controller pushed it.
    Controller,
    /// The folder of manifests of `serval run`.
    Standalone,
    /// The router's own admin interface (CRUD).
    Local,
    /// The saved file of an earlier run.
    File,
}

impl Source {
    /// As `/status` and the push header spell it.
    pub fn name(self) -> &'static str {
        match self {
            Source::None => "none",
            Source::Controller => "controller",
            Source::Standalone => "standalone",
            Source::Local => "local",
            Source::File => "file",
        }
    }

    /// Reads what [`Source::name`] gives.
    pub fn parse(name: &str) -> Option<Source> {
        [Source::None, Source::Controller, Source::Standalone, Source::Local, Source::File]
            .into_iter()
            .find(|s| s.name() == name)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn checksum_as_text_and_back() {
        let sum = Checksum(core::array::from_fn(|i| i as u8 * 7));
        assert_eq!(Checksum::parse(&sum.to_string()), Some(sum));
        assert_eq!(Checksum::parse("00"), None);
        assert_eq!(Checksum::parse(&"0G".repeat(32)), None);
    }

    #[test]
    fn epoch_goes_before_generation() {
        let of = |epoch, generation| Identity { epoch, generation, checksum: Checksum::default() };
        assert!(of(1, 9).precedes(&of(2, 1)));
        assert!(of(1, 9).precedes(&of(1, 10)));
        assert!(!of(2, 1).precedes(&of(1, 10)));
        assert!(!of(1, 1).precedes(&of(1, 1)));
    }
}
