//! What one thread proves itself with: identity and token, read again as they rotate.
//!
//! In: the shared [`Access`], time. Out: the identity to connect with, the token to send, and
//! whether they changed: the token each KUBE_TOKEN_PERIOD_MS and when the server says 401, CA and
//! certificate each KUBE_IDENTITY_PERIOD_MS and when TLS fails (shared/kube-client.md, 16 and 17).

use super::access::{Access, TokenText};
use crate::limits::{KUBE_IDENTITY_PERIOD_MS, KUBE_TOKEN_PERIOD_MS};
use crate::shell::place::boxed_zeroed;
use crate::shell::tls::rustls::{ClientIdentity, TlsSlot};
use crate::stdx::{Duration, Instant, Now};
use std::boxed::Box;
use std::format;
use std::string::String;
use std::sync::Arc;

/// Owned by one thread.
#[derive(Debug)]
pub struct Credentials {
    /// Where to connect.
    pub access: Arc<Access>,
    slot: TlsSlot,
    identity: Option<ClientIdentity>,
    /// Changes with the identity's files.
    number: u64,
    identity_due: Instant,
    token_due: Instant,
    token: Box<TokenText>,
    fresh: Box<TokenText>,
}

impl Credentials {
    /// Reads everything for the first time; what is wrong is said.
    pub fn new(access: Arc<Access>, slot: TlsSlot, now: Now) -> Result<Credentials, String> {
        let identity = access.identity(slot, 0);
        let identity = identity.map_err(|text| String::from(text.as_str()))?;
        let (identity, number) = identity.map_or((None, 0), |(i, n)| (Some(i), n));
        let mut token = boxed_zeroed::<TokenText>();
        access.token(&mut token).map_err(|error| format!("token: {error}"))?;
        Ok(Credentials {
            access,
            slot,
            identity,
            number,
            identity_due: now.mono + Duration::from_millis(KUBE_IDENTITY_PERIOD_MS.into()),
            token_due: now.mono + Duration::from_millis(KUBE_TOKEN_PERIOD_MS.into()),
            token,
            fresh: boxed_zeroed(),
        })
    }

    /// Bytes it holds: a line of the memory plan.
    pub fn bytes() -> u64 {
        2 * size_of::<TokenText>() as u64
    }

    /// The identity to connect with; None without TLS.
    pub fn identity(&self) -> Option<&ClientIdentity> {
        self.identity.as_ref()
    }

    /// The token to send; empty for none.
    pub fn token(&self) -> &[u8] {
        self.token.as_bytes()
    }

    /// When something is to be read again.
    pub fn due(&self) -> Instant {
        self.identity_due.min(self.token_due)
    }

    /// TLS failed: perhaps the CA has changed.
    pub fn suspect_identity(&mut self) {
        self.identity_due = Instant(0);
    }

    /// Reads the token again; whether it changed. One that cannot be read stays as it was.
    pub fn read_token(&mut self) -> bool {
        if self.access.token(&mut self.fresh).is_err() {
            return false;
        }
        core::mem::swap(&mut self.token, &mut self.fresh);
        self.token.as_bytes() != self.fresh.as_bytes()
    }

    /// Reads the token again when it is time; whether it changed.
    pub fn refresh_token(&mut self, now: Now) -> bool {
        if now.mono < self.token_due {
            return false;
        }
        self.token_due = now.mono + Duration::from_millis(KUBE_TOKEN_PERIOD_MS.into());
        self.access.token_changes() && self.read_token()
    }

    /// Reads CA and certificate again when it is time; whether they changed: then connections are
    /// to be made anew. Files that do not fit together (a rotation at work) leave the old identity.
    pub fn refresh_identity(&mut self, now: Now) -> bool {
        if now.mono < self.identity_due {
            return false;
        }
        self.identity_due = now.mono + Duration::from_millis(KUBE_IDENTITY_PERIOD_MS.into());
        match self.access.identity(self.slot, self.number) {
            Ok(Some((identity, number))) => {
                (self.identity, self.number) = (Some(identity), number);
                true
            }
            Ok(None) | Err(_) => false,
        }
    }
}
