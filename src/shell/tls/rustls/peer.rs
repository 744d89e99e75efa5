//! Mutual TLS between controller and routers: each end trusts one authority *and* one name.
//!
//! In: the PEM parts of an identity. Out: what a server or a client of the admin port is built
//! from. A certificate of the right authority with the other role's name is refused, and so is one
//! for the wrong use (extended key usage): a router's key opens no other router.
//!
//! A clock before CLOCK_PLAUSIBLE_S was never set, on boards without an RTC until the network is
//! there: validity in time then says nothing, and a certificate is judged as of its own first day.

use super::server::ServerSetup;
use super::{
    ClientIdentity, ErrorText, TOO_MUCH_MEMORY, TlsSlot, authorities, certificates, client_config,
    in_scope, private_key, text_of,
};
use crate::limits::{CLOCK_PLAUSIBLE_S, IDENTITY_PEM_BYTES};
use crate::shell::tls::identity::Built;
use crate::shell::tls::source::Parts;
use crate::stdx::Wall;
use crate::wire::x509::Validity;
use ::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use ::rustls::client::{WebPkiServerVerifier, verify_server_name};
use ::rustls::crypto::ring;
use ::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use ::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use ::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use ::rustls::sign::CertifiedKey;
use ::rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::Arc;
use std::vec::Vec;

/// Who shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the roles' own names")]
pub enum Role {
    Controller,
    Router,
}

impl Role {
    /// The name (a DNS SAN) in its certificate; of its Secret too.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Controller => "serval-controller",
            Role::Router => "serval-router",
        }
    }
}

/// Whether the other end would take this identity at this time, if it trusted these authorities.
/// For `serval identity`: it allocates.
pub fn is_accepted(role: Role, parts: Parts<'_>, now: Wall) -> bool {
    let judge = || -> Result<(), ErrorText> {
        let mut scratch = std::vec![0; IDENTITY_PEM_BYTES as usize];
        let (chain, key, _) = own(parts, &mut scratch)?;
        let now = UnixTime::since_unix_epoch(core::time::Duration::from_secs(now.0));
        let (leaf, rest) = chain.split_first().ok_or_else(|| text_of(&"no certificate"))?;
        let judged = match role {
            Role::Controller => {
                controller_verifier(parts, &mut scratch)?.verify_client_cert(leaf, rest, now).err()
            }
            Role::Router => {
                let name = server_name(Role::Router)?;
                let verifier = router_verifier(parts, &mut scratch)?;
                verifier.verify_server_cert(leaf, rest, &name, &[], now).err()
            }
        };
        judged.map_or(Ok(()), |error| Err(text_of(&error)))?;
        let loaded = CertifiedKey::from_der(chain, key, &ring::default_provider());
        loaded.map(drop).map_err(|error| text_of(&error))
    };
    judge().is_ok()
}

fn server_name(role: Role) -> Result<ServerName<'static>, ErrorText> {
    ServerName::try_from(role.name()).map_err(|error| text_of(&error))
}

fn controller_verifier(
    parts: Parts<'_>,
    scratch: &mut [u8],
) -> Result<ControllerVerifier, ErrorText> {
    let roots = Arc::new(authorities(parts.authority, scratch)?);
    let provider = Arc::new(ring::default_provider());
    let inner = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
    let inner = inner.map_err(|error| text_of(&error))?;
    Ok(ControllerVerifier { inner, name: server_name(Role::Controller)? })
}

fn router_verifier(parts: Parts<'_>, scratch: &mut [u8]) -> Result<RouterVerifier, ErrorText> {
    let roots = Arc::new(authorities(parts.authority, scratch)?);
    let provider = Arc::new(ring::default_provider());
    let inner = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
    Ok(RouterVerifier(inner.map_err(|error| text_of(&error))?))
}

/// When a certificate is judged.
fn judged_at(now: UnixTime, leaf: &CertificateDer<'_>) -> UnixTime {
    if now.as_secs() >= u64::from(CLOCK_PLAUSIBLE_S) {
        return now;
    }
    let validity = Validity::of(leaf);
    let from = |v: Validity| UnixTime::since_unix_epoch(core::time::Duration::from_secs(v.from.0));
    validity.map_or(now, from)
}

/// The controller's certificate, seen by a router.
#[derive(Debug)]
struct ControllerVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    name: ServerName<'static>,
}

impl ClientCertVerifier for ControllerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(leaf, chain, judged_at(now, leaf))?;
        verify_server_name(&ParsedCertificate::try_from(leaf)?, &self.name)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A router's certificate, seen by the controller.
#[derive(Debug)]
struct RouterVerifier(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for RouterVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify_server_cert(leaf, chain, name, ocsp, judged_at(now, leaf))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What a router's admin port shows, and whom it lets in: the controller alone. It lies in its
/// slot, with the [`Arc`] around it.
#[derive(Debug)]
pub struct RouterIdentity {
    slot: TlsSlot,
    made: Option<(ServerSetup, Arc<CertifiedKey>)>,
    until: Wall,
}

impl Built for Arc<RouterIdentity> {
    fn build(slot: TlsSlot, parts: Parts<'_>, scratch: &mut [u8]) -> Result<Self, ErrorText> {
        let (made, left) = in_scope(slot, || {
            let (made, until) = server_parts(parts, scratch)?;
            Ok(Arc::new(RouterIdentity { slot, made: Some(made), until }))
        });
        // Dropping it is its own work in the scope.
        let made = made?;
        if left.must_close() { Err(text_of(&TOO_MUCH_MEMORY)) } else { Ok(made) }
    }

    fn until(&self) -> Wall {
        self.until
    }
}

impl RouterIdentity {
    /// What a connection begins with.
    pub(in crate::shell::tls) fn parts(&self) -> &(ServerSetup, Arc<CertifiedKey>) {
        self.made.as_ref().expect("only Drop takes it")
    }
}

impl Drop for RouterIdentity {
    fn drop(&mut self) {
        let ((), _) = in_scope(self.slot, || drop(self.made.take()));
    }
}

type ServerParts = ((ServerSetup, Arc<CertifiedKey>), Wall);

fn server_parts(parts: Parts<'_>, scratch: &mut [u8]) -> Result<ServerParts, ErrorText> {
    let (chain, key, until) = own(parts, scratch)?;
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider());
    let key = Arc::new(key.map_err(|error| text_of(&error))?);
    let setup = ServerSetup::verifying(Arc::new(controller_verifier(parts, scratch)?));
    Ok(((setup, key), until))
}

type Own = (Vec<CertificateDer<'static>>, ::rustls::pki_types::PrivateKeyDer<'static>, Wall);

/// Chain and key, and the leaf's last second.
fn own(parts: Parts<'_>, scratch: &mut [u8]) -> Result<Own, ErrorText> {
    let (pem, key) = parts.own.ok_or_else(|| text_of(&"an identity has a certificate"))?;
    let mut chain = Vec::new();
    certificates(pem, "tls.crt", scratch, |der| {
        chain.push(CertificateDer::from(der.to_vec()));
        Ok(())
    })?;
    let until = chain.first().and_then(|leaf| Validity::of(leaf).ok()).map(|v| v.until);
    let until = until.ok_or_else(|| text_of(&"tls.crt: not an X.509 certificate"))?;
    Ok((chain, private_key(key, scratch)?, until))
}

/// Who the controller is to routers, and whom it takes for one.
#[derive(Debug)]
pub struct ControllerIdentity {
    client: ClientIdentity,
    until: Wall,
}

impl Built for ControllerIdentity {
    fn build(slot: TlsSlot, parts: Parts<'_>, scratch: &mut [u8]) -> Result<Self, ErrorText> {
        let (until, _) = in_scope(slot, || own(parts, scratch).map(|(.., until)| until));
        let until = until?;
        let client = ClientIdentity::build(slot, Role::Router.name(), || {
            let mut config = client_config(parts, scratch)?;
            let verifier = Arc::new(router_verifier(parts, scratch)?);
            config.dangerous().set_certificate_verifier(verifier);
            Ok(config)
        })?;
        Ok(ControllerIdentity { client, until })
    }

    fn until(&self) -> Wall {
        self.until
    }
}

impl ControllerIdentity {
    /// What a connection begins with.
    pub fn client(&self) -> &ClientIdentity {
        &self.client
    }
}
