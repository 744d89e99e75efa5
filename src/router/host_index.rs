//! Hostnames of one scope (a bind's listeners, a listener's routes): which kinds there are, and how
//! they hash.
//!
//! In: hostnames of the configuration (exact, `*.suffix`, empty for any). Out: the suffixes of a
//! request's host that are worth looking up, longest first. Letters hash without their case.

use crate::stdx::fnv::Fnv;

/// Which kinds of hostnames a scope has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostScope {
    /// Bit d, in two halves: some wildcard whose suffix has d labels. A name of 253 bytes has at
    /// most 127.
    wildcards: [u64; 2],
    /// Some exact name.
    pub exact: bool,
    /// The empty name.
    pub any: bool,
}

crate::zeroed_struct!(HostScope { wildcards: [u64; 2], exact: bool, any: bool });

impl HostScope {
    /// Notes a hostname of the configuration.
    pub fn add(&mut self, name: &[u8]) {
        match name.strip_prefix(b"*.") {
            _ if name.is_empty() => self.any = true,
            Some(suffix) => {
                let depth = labels(suffix);
                self.wildcards[depth / 64] |= 1 << (depth % 64);
            }
            None => self.exact = true,
        }
    }

    fn has_wildcard(&self, depth: usize) -> bool {
        self.wildcards[depth / 64] >> (depth % 64) & 1 == 1
    }

    fn has_wildcards(&self) -> bool {
        self.wildcards != [0, 0]
    }
}

/// Number of labels, at most 127.
pub fn labels(name: &[u8]) -> usize {
    (name.iter().filter(|&&b| b == b'.').count() + 1).min(127)
}

/// The proper suffixes of a host, longest first, whose depth some wildcard of the scope has.
pub fn wildcard_suffixes<'a>(
    scope: &HostScope,
    host: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let scope = *scope;
    let depth = if scope.has_wildcards() { labels(host) } else { 0 };
    let mut rest = host;
    (1..depth).rev().filter_map(move |depth| {
        let dot = rest.iter().position(|&b| b == b'.')?;
        rest = &rest[dot + 1..];
        if scope.has_wildcard(depth) { Some(rest) } else { None }
    })
}

/// The hash of a name, without regard to case; [`scoped`] makes it a key.
pub fn name_hash(seed: u64, name: &[u8]) -> u64 {
    let mut hash = Fnv::of_family(seed);
    name.iter().for_each(|byte| hash.write_byte(byte.to_ascii_lowercase()));
    hash.finish()
}

/// The hash of an exact or empty hostname of one scope, of its name's hash.
pub fn scoped(name_hash: u64, scope: u32) -> u64 {
    mix(name_hash, scope << 1)
}

/// The hash of `*.suffix` of one scope, of the suffix's hash.
pub fn scoped_wildcard(suffix_hash: u64, scope: u32) -> u64 {
    mix(suffix_hash, scope << 1 | 1)
}

/// The hash of a hostname of the configuration in one scope.
pub fn hash_host(seed: u64, scope: u32, name: &[u8]) -> u64 {
    match name.strip_prefix(b"*.") {
        Some(suffix) => scoped_wildcard(name_hash(seed, suffix), scope),
        None => scoped(name_hash(seed, name), scope),
    }
}

fn mix(hash: u64, scope: u32) -> u64 {
    let z = (hash ^ u64::from(scope)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z ^ (z >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn suffixes_of_depths_that_exist() {
        let mut scope = HostScope::default();
        let of = |scope: &HostScope, host: &'static str| -> Vec<&str> {
            wildcard_suffixes(scope, host.as_bytes())
                .map(|s| core::str::from_utf8(s).unwrap())
                .collect()
        };
        assert_eq!(of(&scope, "a.b.c.d"), Vec::<&str>::new());
        scope.add(b"*.x.y.z");
        scope.add(b"*.z");
        assert_eq!(of(&scope, "a.b.c.d"), ["b.c.d", "d"]);
        assert_eq!(of(&scope, "b.c.d"), ["d"]);
        assert_eq!(of(&scope, "d"), Vec::<&str>::new());
        assert!(!scope.any && !scope.exact);
    }

    #[test]
    fn the_deepest_name_fits() {
        let name = "a.".repeat(126) + "a";
        assert_eq!((name.len(), labels(name.as_bytes())), (253, 127));
        let mut scope = HostScope::default();
        scope.add(std::format!("*.{}", &name[2..]).as_bytes());
        assert_eq!(wildcard_suffixes(&scope, name.as_bytes()).count(), 1);
        assert_eq!(hash_host(1, 2, b"*.A.b"), scoped_wildcard(name_hash(1, b"a.B"), 2));
        assert_ne!(hash_host(1, 2, b"a.b"), hash_host(1, 2, b"*.a.b"));
    }
}
