//! Certificates as they are made: a CA of our own, and one certificate for each role.
//!
//! ECDSA on P-256: small, quick to sign with, and everybody takes it. A controller's certificate
//! may only be shown by a client, a router's only by a server (extended key usage).

use super::{AUTHORITY_S, BACKDATE_S, LEAF_S};
use crate::shell::tls::rustls::peer::Role;
use crate::stdx::Wall;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::string::{String, ToString};
use std::vec;

/// What was made, as PEM.
#[expect(missing_debug_implementations, reason = "keys are never printed")]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key (PKCS #8).
    pub key: String,
}

/// A CA of its own.
pub fn authority(now: Wall) -> Result<Issued, String> {
    let make = || {
        let key = KeyPair::generate()?;
        let certificate = authority_params(now)?.self_signed(&key)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    };
    make().map_err(|error: rcgen::Error| error.to_string())
}

/// A certificate for a role, by a CA with this key (PEM).
pub fn leaf(role: Role, authority_key: &str, now: Wall) -> Result<Issued, String> {
    let make = || {
        let issuer = Issuer::new(authority_params(now)?, KeyPair::from_pem(authority_key)?);
        let mut params = CertificateParams::new(vec![role.name().to_string()])?;
        set_validity(&mut params, now, LEAF_S);
        params.distinguished_name.push(DnType::CommonName, role.name());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match role {
            Role::Controller => ExtendedKeyUsagePurpose::ClientAuth,
            Role::Router => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    };
    make().map_err(|error: rcgen::Error| error.to_string())
}

/// Every CA has the same name: which one signed is found by trying.
fn authority_params(now: Wall) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![])?;
    set_validity(&mut params, now, AUTHORITY_S);
    params.distinguished_name.push(DnType::CommonName, super::AUTHORITY);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, now: Wall, lifetime_s: u64) {
    let at = |seconds| date_time_ymd(1970, 1, 1) + core::time::Duration::from_secs(seconds);
    params.not_before = at(now.0.saturating_sub(BACKDATE_S));
    params.not_after = at(now.0 + lifetime_s);
}
