//! Secret (v1) of type kubernetes.io/tls: a certificate chain and its key, as PEM.
//!
//! Only what a Gateway refers to is kept ([`crate::controller`]). A pair that cannot be used says
//! why, and the store keeps the last one that could.

use super::decode::{self, Problem};
use super::document::Value;
use super::{Kind, Meta, Object};
use crate::limits::{MAX_CERTIFICATE_CHAIN_BYTES, MAX_CERTIFICATE_KEY_BYTES};
use crate::stdx::{Arena, Text};
use crate::wire::base64;

/// Why a pair of certificate and key is not used, or is used although something is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PairProblem {
    /// Nothing is wrong.
    #[default]
    None,
    /// tls.crt or tls.key is missing or empty.
    Missing,
    /// tls.crt or tls.key is larger than MAX_CERTIFICATE_CHAIN_BYTES or MAX_CERTIFICATE_KEY_BYTES.
    TooLarge,
    /// Not base64, not PEM, or no certificate or key in it.
    Malformed,
    /// The key is of a kind that cannot be used, or encrypted.
    UnsupportedKey,
    /// The key is not the certificate's.
    KeyMismatch,
    /// The certificate's time is over (or not yet come): served if there is no better one.
    OutOfDate,
}

crate::zeroed_enum!(PairProblem { None });
crate::pack_enum!(PairProblem {
    None,
    Missing,
    TooLarge,
    Malformed,
    UnsupportedKey,
    KeyMismatch,
    OutOfDate,
});

impl PairProblem {
    /// For people: what is wrong.
    pub fn text(self) -> &'static str {
        match self {
            PairProblem::None => "is usable",
            PairProblem::Missing => "lacks tls.crt or tls.key",
            PairProblem::TooLarge => "has a tls.crt or tls.key that is too large (serval limits)",
            PairProblem::Malformed => "has a tls.crt or tls.key that is not base64 of PEM",
            PairProblem::UnsupportedKey => "has a key of a kind that is not supported",
            PairProblem::KeyMismatch => "has a key that is not the certificate's",
            PairProblem::OutOfDate => "has a certificate that has expired or is not valid yet",
        }
    }
}

/// Bytes of a pair.
const PAIR_BYTES: usize = (MAX_CERTIFICATE_CHAIN_BYTES + MAX_CERTIFICATE_KEY_BYTES) as usize;

/// What serval reads of a Secret.
#[derive(Debug)]
pub struct Secret {
    /// Who it is.
    pub meta: Meta,
    /// data["tls.crt"]: the chain, leaf first, as PEM; empty when there is none to use.
    pub chain: Text,
    /// data["tls.key"], as PEM; empty when there is none to use.
    pub key: Text,
    /// What is wrong with what the API server has; then chain and key may be of an earlier one.
    pub problem: PairProblem,
    /// Strings.
    pub text: Arena<PAIR_BYTES>,
}

crate::pack_struct!(Secret { meta, chain, key, problem, text });
crate::zeroed_struct!(Secret {
    meta: Meta,
    chain: Text,
    key: Text,
    problem: PairProblem,
    text: Arena<PAIR_BYTES>,
});

impl Secret {
    /// Whether there is a pair to serve.
    pub fn is_usable(&self) -> bool {
        !self.chain.is_empty() && !self.key.is_empty()
    }

    /// Chain and key as PEM.
    pub fn pair(&self) -> (&str, &str) {
        (self.text.get(self.chain), self.text.get(self.key))
    }

    /// Notes what is wrong; what cannot be served at all is dropped.
    pub fn judge(&mut self, problem: PairProblem) {
        self.problem = problem;
        if !matches!(problem, PairProblem::None | PairProblem::OutOfDate) {
            (self.chain, self.key) = (Text::EMPTY, Text::EMPTY);
            self.text.clear();
        }
    }

    /// Serves the pair of an earlier version; the own problem stays said.
    pub fn keep_pair_of(&mut self, earlier: &Secret) {
        let copied = self.text.copy_from(earlier.text.as_bytes());
        copied.expect("an arena of the same type");
        (self.chain, self.key) = (earlier.chain, earlier.key);
    }

    fn read(&mut self, value: Value<'_>, name: &str, max: u32) -> Result<Text, PairProblem> {
        let of = |part: &str| value.at(&[part, name]).and_then(Value::str);
        // stringData is only of manifests: the API server turns it into data.
        let (text, is_plain) = match (of("stringData"), of("data")) {
            (Some(plain), _) => (plain, true),
            (None, Some(encoded)) => (encoded, false),
            (None, None) => return Err(PairProblem::Missing),
        };
        if text.is_empty() {
            return Err(PairProblem::Missing);
        }
        // Base64 makes four bytes of three.
        let most = if is_plain { max as usize } else { (max as usize).div_ceil(3) * 4 };
        if text.len() > most {
            return Err(PairProblem::TooLarge);
        }
        let pushed = match is_plain {
            true => self.text.push(text).ok(),
            false => self.text.push_with(|room| base64::decode(text.as_bytes(), room).ok()),
        };
        pushed.filter(|t| !t.is_empty()).ok_or(PairProblem::Malformed)
    }
}

impl Object for Secret {
    const KIND: Kind = Kind::Secret;

    fn decode(&mut self, value: Value<'_>, _controller: &str) -> Result<(), Problem> {
        self.text.set_cap_cleared(self.text.ceiling());
        (self.chain, self.key, self.problem) = (Text::EMPTY, Text::EMPTY, PairProblem::None);
        self.meta = decode::meta(value, false)?;
        let chain = self.read(value, "tls.crt", MAX_CERTIFICATE_CHAIN_BYTES);
        let key = self.read(value, "tls.key", MAX_CERTIFICATE_KEY_BYTES);
        match (chain, key) {
            (Ok(chain), Ok(key)) => (self.chain, self.key) = (chain, key),
            (Err(problem), _) | (_, Err(problem)) => self.judge(problem),
        }
        Ok(())
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }
}
