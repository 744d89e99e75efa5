//! `serval identity`: makes and renews what controller and routers prove themselves with.
//!
//! In: what a [`Store`] holds (Secrets of a namespace, or a folder), the time. Out: the same, with
//! all of it valid for a good while; what was done, in words. To be run again and again: by a Job
//! at first, then by a CronJob.
//!
//! | name | holds | who reads it |
//! |---|---|---|
//! | `serval-authority` | the CA, its key, all CAs that are trusted | this command alone |
//! | `serval-controller` | certificate, key, CAs | the controller |
//! | `serval-router` | certificate, key, CAs | the routers |
//!
//! **Without a gap.** Both ends read their files again within seconds, but a Secret reaches a pod
//! up to two minutes later. So a new CA is trusted by both for [`OVERLAP_S`] before anything is
//! signed with it, and an old one is trusted until it expires.

pub mod issue;
pub mod store;

use crate::shell::tls::rustls::peer::{Role, is_accepted};
use crate::shell::tls::source::Parts;
use crate::stdx::Wall;
use crate::wire::pem::Blocks;
use crate::wire::x509::Validity;
use issue::{Issued, authority, leaf};
use std::format;
use std::string::String;
use std::vec::Vec;
use store::{Store, StoreError};

/// The name under which the CA is kept.
pub const AUTHORITY: &str = "serval-authority";

const DAY_S: u64 = 24 * 3600;
/// How long a CA is valid.
pub const AUTHORITY_S: u64 = 3650 * DAY_S;
/// How long a certificate is valid.
pub const LEAF_S: u64 = 365 * DAY_S;
/// What is new is valid from so long before it is made: clocks of nodes differ.
pub const BACKDATE_S: u64 = 3600;
/// A new CA signs nothing before both ends have trusted it for so long.
pub const OVERLAP_S: u64 = 3600;
/// CAs that are trusted at once at most; the newest stay.
const AUTHORITIES: usize = 8;

/// A certificate with its key, and the CAs that the other end's is checked by; PEM.
#[derive(Clone, Default, PartialEq, Eq)]
#[expect(missing_debug_implementations, reason = "keys are never printed")]
pub struct Pair {
    /// `tls.crt`.
    pub certificate: String,
    /// `tls.key`.
    pub key: String,
    /// `ca.crt`.
    pub authorities: String,
}

/// Tries that meet somebody else's writes, at most.
const ATTEMPTS: u32 = 5;

/// Renews what is due, again when somebody else wrote meanwhile; what was done, line by line.
pub fn renew_in(store: &mut impl Store, now: Wall) -> Result<Vec<String>, String> {
    for _ in 0..ATTEMPTS {
        match renew(store, now) {
            Ok(done) => return Ok(done),
            Err(StoreError::Conflict) => {}
            Err(StoreError::Failed(text)) => return Err(text),
        }
    }
    Err(format!("others wrote the same Secrets {ATTEMPTS} times meanwhile"))
}

/// Renews what is due, once.
fn renew(store: &mut impl Store, now: Wall) -> Result<Vec<String>, StoreError> {
    let mut done = Vec::new();
    let roles = [Role::Controller, Role::Router];
    let held = store.read(AUTHORITY)?;
    let leaves = [store.read(roles[0].name())?, store.read(roles[1].name())?];
    let known: Vec<&str> =
        leaves.iter().chain([&held]).flatten().map(|p| &*p.authorities).collect();
    let trusted = trusted(&known, now);

    let ca = match held {
        Some(ca) if has_third_left(&ca.certificate, AUTHORITY_S, now) => ca,
        _ => {
            let Issued { certificate, key } = authority(now).map_err(StoreError::Failed)?;
            // The newest first.
            let authorities = format!("{certificate}{trusted}");
            let ca = Pair { certificate, key, authorities };
            store.write(AUTHORITY, &ca)?;
            done.push(format!("{AUTHORITY}: new, {}", valid(&ca.certificate)));
            ca
        }
    };
    let authorities = match trusted.contains(&*ca.certificate) {
        true => trusted,
        false => format!("{}{trusted}", ca.certificate),
    };
    let from = validity(&ca.certificate).map_or(now.0, |v| v.from.0);
    let may_sign = now.0 >= from + BACKDATE_S + OVERLAP_S;
    for (role, held) in roles.into_iter().zip(leaves) {
        let accepts = |pair: &Pair, authorities| {
            let own = Some((pair.certificate.as_bytes(), pair.key.as_bytes()));
            is_accepted(role, Parts { authority: str::as_bytes(authorities), own }, now)
        };
        let works = held.as_ref().is_some_and(|pair| accepts(pair, &*authorities));
        let is_due = held.as_ref().is_none_or(|pair| {
            !has_third_left(&pair.certificate, LEAF_S, now) || !accepts(pair, &*ca.certificate)
        });
        let fresh = if works && !(is_due && may_sign) {
            Pair { authorities: authorities.clone(), ..held.clone().unwrap_or_default() }
        } else {
            let made = leaf(role, &ca.key, now).map_err(StoreError::Failed)?;
            let Issued { certificate, key } = made;
            Pair { certificate, key, authorities: authorities.clone() }
        };
        if held.as_ref() == Some(&fresh) {
            continue;
        }
        store.write(role.name(), &fresh)?;
        let what = match held.is_some_and(|held| held.certificate == fresh.certificate) {
            true => String::from("the trusted CAs changed"),
            false => format!("new, {}", valid(&fresh.certificate)),
        };
        done.push(format!("{}: {what}", role.name()));
    }
    Ok(done)
}

const END: &str = "-----END CERTIFICATE-----\n";

/// The CAs of all bundles that are still valid, each once.
fn trusted(bundles: &[&str], now: Wall) -> String {
    let mut found: Vec<&str> = Vec::new();
    for certificate in bundles.iter().flat_map(|bundle| bundle.split_inclusive(END)) {
        let is_valid = validity(certificate).is_some_and(|v| v.until >= now);
        if is_valid && !found.contains(&certificate) {
            found.push(certificate);
        }
    }
    found.sort_by_key(|c| core::cmp::Reverse(validity(c).map(|v| v.from)));
    found.truncate(AUTHORITIES - 1);
    found.concat()
}

fn validity(pem: &str) -> Option<Validity> {
    let mut der = std::vec![0; pem.len()];
    let (_, len) = Blocks::new(pem.as_bytes()).next_into(&mut der)?.ok()?;
    Validity::of(&der[..len]).ok()
}

/// Whether a third of a lifetime is left.
fn has_third_left(certificate: &str, lifetime_s: u64, now: Wall) -> bool {
    validity(certificate).is_some_and(|v| v.until.0 >= now.0 + lifetime_s / 3)
}

fn valid(certificate: &str) -> String {
    let until = validity(certificate).map_or([b'?'; 20], |v| v.until.rfc3339());
    format!("valid until {}", core::str::from_utf8(&until).unwrap_or("?"))
}

#[cfg(test)]
mod tests;
