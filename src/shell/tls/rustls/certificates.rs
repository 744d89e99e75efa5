//! Certificates with their keys, loaded: what TLS servers show.
//!
//! In: Snapshots, whose certificates are PEM. Out: the loaded key of a listener for a server name;
//! whether a pair can be used at all ([`vet`]). Loading is told apart by the digest of the PEM, so
//! that a Snapshot that changes one certificate loads one. A key is dropped when neither the
//! Snapshot that is served nor the next one has it; connections that use it still hold it.
//!
//! All of it lies in one slot of its own, apart from connections.

use super::{TlsSlot, certificates, in_scope, private_key};
use crate::config::Checksum;
use crate::config::snapshot::Snapshot;
use crate::limits::{CERTIFICATE_ROOM_BYTES, MAX_CERTIFICATE_DER_BYTES};
use crate::resource::secret::PairProblem;
use crate::router::update::BadCertificate;
use crate::shell::log::log;
use crate::shell::memory::SlotPool;
use ::rustls::client::verify_server_name;
use ::rustls::crypto::ring;
use ::rustls::pki_types::{CertificateDer, ServerName};
use ::rustls::server::ParsedCertificate;
use ::rustls::sign::CertifiedKey;
use ::rustls::{Error, InconsistentKeys};
use std::boxed::Box;
use std::sync::{Arc, Mutex, OnceLock};
use std::vec::Vec;

type Scratch = [u8; MAX_CERTIFICATE_DER_BYTES as usize];

#[derive(Debug)]
struct Entry {
    digest: Checksum,
    key: Arc<CertifiedKey>,
}

/// The loaded certificates of a process. Made before the seal.
#[derive(Debug)]
pub struct Certificates {
    slot: TlsSlot,
    entries: Mutex<Box<[Option<Entry>]>>,
}

/// A slot for `count` certificates, twice: the old ones and the new ones while they change.
fn room(count: u32) -> TlsSlot {
    let bytes = room_bytes(count) as usize;
    // It lives as long as the process.
    let pool = Box::leak(Box::new(SlotPool::new(1, bytes, bytes as u32)));
    pool.take().map(|handle| pool.slot(handle))
}

/// Bytes of the slot for so many certificates: a line of the memory plan.
pub const fn room_bytes(count: u32) -> u64 {
    2 * count as u64 * CERTIFICATE_ROOM_BYTES as u64 + VET_BYTES
}

/// While one is built and judged.
const VET_BYTES: u64 = 64 << 10;

impl Certificates {
    /// Room for the certificates of Snapshots of `count` at most.
    pub fn new(count: u32) -> Certificates {
        let entries = (0..2 * count).map(|_| None).collect::<Vec<_>>().into_boxed_slice();
        Certificates { slot: room(count), entries: Mutex::new(entries) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Box<[Option<Entry>]>> {
        self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Loads what `next` needs and forgets what neither it nor `served` has.
    pub fn load(&self, next: &Snapshot, served: &Snapshot) -> Result<(), BadCertificate> {
        let mut entries = self.lock();
        let of =
            |s: &Snapshot, digest| s.certificates.as_slice().iter().any(|c| c.digest == digest);
        for entry in entries.iter_mut() {
            let is_wanted = |e: &Entry| of(next, e.digest) || of(served, e.digest);
            if entry.as_ref().is_some_and(|e| !is_wanted(e)) {
                let ((), _) = in_scope(self.slot, || drop(entry.take()));
            }
        }
        for (index, certificate) in (0..).zip(next.certificates.as_slice()) {
            let digest = certificate.digest;
            if entries.iter().flatten().any(|e| e.digest == digest) {
                continue;
            }
            let free = entries.iter().position(Option::is_none).expect("twice as many as wanted");
            let pair = (next.pem.get(certificate.chain), next.pem.get(certificate.key));
            let key = self.build(pair).map_err(|problem| {
                let (name, text) = (next.text.get(certificate.name), problem.text());
                log!(Error, "tls", "certificate {name} {text}");
                BadCertificate { index, problem }
            })?;
            entries[free] = Some(Entry { digest, key });
        }
        Ok(())
    }

    fn build(&self, (chain, key): (&str, &str)) -> Result<Arc<CertifiedKey>, PairProblem> {
        let (built, left) = in_scope(self.slot, || build(chain, key).map(Arc::new));
        if left.must_close() {
            let ((), _) = in_scope(self.slot, || drop(built));
            return Err(PairProblem::TooLarge);
        }
        built
    }

    /// The certificate of a listener to show for a server name: the first that has the name, else
    /// the first. None: it is not loaded, which is a bug of ours or a race with a swap.
    pub fn choose(&self, s: &Snapshot, listener: u32, name: &[u8]) -> Option<Arc<CertifiedKey>> {
        let refs = s.certificate_refs.span(s.listeners[listener].certificates);
        let entries = self.lock();
        let loaded = |index: &u32| {
            let digest = s.certificates[*index].digest;
            entries.iter().flatten().find(|e| e.digest == digest).map(|e| &e.key)
        };
        let named = || refs.iter().filter_map(loaded).find(|key| has_name(self.slot, key, name));
        let named = if refs.len() > 1 { named() } else { None };
        named.or_else(|| refs.iter().find_map(loaded)).cloned()
    }
}

/// Whether the leaf is valid for a name.
fn has_name(slot: TlsSlot, key: &CertifiedKey, name: &[u8]) -> bool {
    in_scope(slot, || {
        let name = core::str::from_utf8(name).ok().and_then(|n| ServerName::try_from(n).ok());
        let leaf = key.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        let (Some(name), Some(leaf)) = (name, leaf) else { return false };
        verify_server_name(&leaf, &name).is_ok()
    })
    .0
}

fn build(chain: &str, key: &str) -> Result<CertifiedKey, PairProblem> {
    let mut scratch: Scratch = [0; MAX_CERTIFICATE_DER_BYTES as usize];
    let mut ders = Vec::new();
    let read = certificates(chain.as_bytes(), "tls.crt", &mut scratch, |der| {
        ders.push(CertificateDer::from(der.to_vec()));
        Ok(())
    });
    read.map_err(|_| PairProblem::Malformed)?;
    let key = private_key(key.as_bytes(), &mut scratch).map_err(|text| {
        let is_encrypted = text.as_str().contains("encrypted");
        if is_encrypted { PairProblem::UnsupportedKey } else { PairProblem::Malformed }
    })?;
    let leaf = ders.first().ok_or(PairProblem::Malformed)?;
    if ParsedCertificate::try_from(leaf).is_err() {
        return Err(PairProblem::Malformed);
    }
    CertifiedKey::from_der(ders, key, &ring::default_provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => PairProblem::KeyMismatch,
        _ => PairProblem::UnsupportedKey,
    })
}

static VET_ROOM: OnceLock<TlsSlot> = OnceLock::new();

/// Makes room for [`vet`]: before the seal.
pub fn prepare_vet() {
    VET_ROOM.get_or_init(|| room(0));
}

/// Bytes of [`prepare_vet`]: a line of the memory plan.
pub const fn vet_bytes() -> u64 {
    room_bytes(0)
}

/// Whether chain and key can be loaded: the same judgement that a router makes when it loads them.
/// One thread at a time.
pub fn vet(chain: &str, key: &str) -> PairProblem {
    let slot = VET_ROOM.get().copied().flatten();
    let (problem, left) = in_scope(slot, || build(chain, key).err());
    match problem {
        _ if left.must_close() => PairProblem::TooLarge,
        Some(problem) => problem,
        None => PairProblem::None,
    }
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
