//! Where an identity's PEM comes from, and whether it changed: files that rotate, or text.
//!
//! In: CA, certificate chain and key, each inline or a file. Out: their bytes as they are now, and
//! a number that changes with them. Files are read whole, never kept open: a mounted Secret is
//! replaced by another folder.

use super::rustls::ErrorText;
use crate::shell::files;
use crate::stdx::fnv::Fnv;
use core::fmt;
use std::boxed::Box;

/// PEM text that is inline or in a file.
#[derive(Clone)]
pub enum Source {
    /// The text itself.
    Inline(Box<[u8]>),
    /// A path.
    File(Box<[u8]>),
}

// Keys are never printed.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Inline(_) => f.write_str("inline"),
            Source::File(path) => write!(f, "{:?}", core::str::from_utf8(path)),
        }
    }
}

/// Whom one end trusts, and who it is.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Certificates of the authorities.
    pub authority: Source,
    /// Certificate chain and key; None: it shows none.
    pub own: Option<(Source, Source)>,
}

/// What was read; empty without an own certificate.
#[derive(Clone, Copy, Default)]
#[expect(missing_debug_implementations, reason = "keys are never printed")]
pub struct Parts<'b> {
    /// Certificates of the authorities, PEM.
    pub authority: &'b [u8],
    /// Certificate chain and key, PEM.
    pub own: Option<(&'b [u8], &'b [u8])>,
}

impl Sources {
    /// The files that every mounted Secret of an identity has, as cert-manager names them too.
    pub fn of_folder(folder: &str) -> Sources {
        let file = |name: &str| Source::File(std::format!("{folder}/{name}").into_bytes().into());
        Sources { authority: file("ca.crt"), own: Some((file("tls.crt"), file("tls.key"))) }
    }

    /// Reads everything, into one buffer for each part: the parts and their number, never 0; None
    /// when that is `known`.
    pub fn read<'b>(
        &'b self,
        [authority, chain, key]: [&'b mut [u8]; 3],
        known: u64,
    ) -> Result<Option<(Parts<'b>, u64)>, ErrorText> {
        let authority = load(&self.authority, authority)?;
        let own = match &self.own {
            Some((chain_source, key_source)) => {
                Some((load(chain_source, chain)?, load(key_source, key)?))
            }
            None => None,
        };
        let mut hash = Fnv::new();
        let (chain, key) = own.unwrap_or_default();
        for part in [authority, chain, key] {
            hash.write_u32(part.len() as u32);
            hash.write(part);
        }
        let number = hash.finish().max(1);
        Ok((number != known).then_some((Parts { authority, own }, number)))
    }
}

fn load<'b>(source: &'b Source, buffer: &'b mut [u8]) -> Result<&'b [u8], ErrorText> {
    match source {
        Source::Inline(bytes) => Ok(bytes),
        Source::File(path) => files::read(path, buffer).map_err(|error| {
            let mut text = ErrorText::new();
            let name = core::str::from_utf8(path).unwrap_or("?");
            // What does not fit is cut.
            let _ = fmt::Write::write_fmt(&mut text, format_args!("{error}: {name}"));
            text
        }),
    }
}
