//! Secrets of type kubernetes.io/tls: pairs of certificate and key that only say whose they are,
//! what can be wrong with them, and which pair stays when the newest cannot be used.
//!
//! In: a Secret's name, serial and flaw. Out: its JSON; the pair to serve.

use super::object::{Key, Object, Spec};
use std::collections::BTreeMap;

/// In every key, and nowhere else: who shows it shows a private key.
pub const CANARY: &str = "canary-of-a-private-key";

/// What is wrong with a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    NoCertificate,
    NoKey,
    NotBase64,
    NotPem,
    KeyOfAnother,
    KeyOfNoKind,
    TooLarge,
}

impl Flaw {
    pub const ALL: [Flaw; 7] = [
        Flaw::NoCertificate,
        Flaw::NoKey,
        Flaw::NotBase64,
        Flaw::NotPem,
        Flaw::KeyOfAnother,
        Flaw::KeyOfNoKind,
        Flaw::TooLarge,
    ];
}

/// A certificate and its key, in the simulator's own words in place of PEM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// `namespace/name`.
    pub name: String,
    pub chain: String,
    pub key: String,
}

impl Pair {
    fn of(key: &Key, serial: u32) -> Pair {
        let name = format!("{}/{}", key.1, key.2);
        let (chain, key) = (format!("certificate {serial}"), format!("{CANARY} {serial}"));
        Pair { chain: format!("{chain} {name}"), key: format!("{key} {name}"), name }
    }
}

/// The members of a Secret beside metadata.
pub(super) fn json(key: &Key, serial: u32, flaw: Option<Flaw>) -> String {
    let Pair { mut chain, key: mut private, .. } = Pair::of(key, serial);
    match flaw {
        Some(Flaw::NotPem) => chain = format!("nonsense {serial}"),
        Some(Flaw::KeyOfAnother) => private = Pair::of(key, serial + 1).key,
        Some(Flaw::KeyOfNoKind) => private = format!("odd {private}"),
        Some(Flaw::TooLarge) => chain += &" and more".repeat(300),
        _ => {}
    }
    let (mut chain, private) = (base64(chain.as_bytes()), base64(private.as_bytes()));
    if flaw == Some(Flaw::NotBase64) {
        chain = format!("*{chain}");
    }
    let chain = format!(r#""tls.crt":"{chain}""#);
    let private = format!(r#""tls.key":"{private}""#);
    let data = match flaw {
        Some(Flaw::NoCertificate) => private,
        Some(Flaw::NoKey) => chain,
        _ => format!("{chain},{private}"),
    };
    format!(r#","type":"kubernetes.io/tls","data":{{{data}}}"#)
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0usize, |n, &b| n << 8 | usize::from(b));
        let number = number << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = number >> (18 - 6 * place) & 63;
            out.push(if place > group.len() { '=' } else { char::from(ALPHABET[digit]) });
        }
    }
    out
}

/// The pairs to serve, by namespace and name, each with the uid of its Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    pairs: BTreeMap<(String, String), (String, Pair)>,
}

impl Pairs {
    /// Takes a Secret in a new version: its pair if that can be used. Else the last one of the same
    /// object stays.
    pub fn take(&mut self, object: &Object) {
        let Spec::Secret { serial, flaw } = object.spec else { return };
        let (_, namespace, name) = &object.key;
        let place = (namespace.clone(), name.clone());
        match flaw {
            None => {
                let pair = Pair::of(&object.key, serial);
                self.pairs.insert(place, (object.uid.clone(), pair));
            }
            Some(_) if self.pairs.get(&place).is_some_and(|(uid, _)| *uid == object.uid) => {}
            Some(_) => drop(self.pairs.remove(&place)),
        }
    }

    /// The Secret is gone.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        self.pairs.remove(&(namespace.to_string(), name.to_string()));
    }

    /// Only these stay.
    pub fn retain(&mut self, stays: impl Fn(&(String, String)) -> bool) {
        self.pairs.retain(|place, _| stays(place));
    }

    /// The pair of a Secret.
    pub fn of(&self, namespace: &str, name: &str) -> Option<&Pair> {
        self.pairs.get(&(namespace.to_string(), name.to_string())).map(|(_, pair)| pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        for (plain, encoded) in
            [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
