//! TLS over rustls' unbuffered API: with its submodules the only place that names rustls. Here is
//! the client; [`server`] and [`certificates`] are the router's side, [`peer`] is mutual TLS.
//!
//! In: ciphertext from a socket, plaintext to send. Out: plaintext, ciphertext to send, or an error
//! as text. Buffers are fixed: what a peer can make rustls allocate is bounded by the input buffer
//! (shared/tls-memory.md §1). The server's certificate is always verified; there is no resumption
//! (its store is shared between connections, so its memory would escape from theirs, §5).

pub mod certificates;
pub mod peer;
pub mod server;

use crate::limits::{
    KUBE_CERTIFICATES, KUBE_TLS_SLOT_BYTES, KUBE_TLS_SLOT_SOFT_CAP_BYTES, TLS_ERROR_BYTES,
    TLS_INPUT_BYTES, TLS_OUTPUT_BYTES, TLS_PLAIN_BYTES,
};
use crate::shell::memory::scope::{self, Left};
use crate::shell::memory::{Slot, SlotPool};
use crate::shell::place::boxed_zeroed;
use crate::shell::tls::buffer::Buffer;
use crate::shell::tls::source::Parts;
use crate::stdx::text::Truncating;
use crate::stdx::{Full, Inline};
use crate::wire::pem::{Blocks, Label, PemError};
use ::rustls::client::{Resumption, UnbufferedClientConnection};
use ::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
    ServerName,
};
use ::rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use ::rustls::{ClientConfig, Error, RootCertStore};
use core::fmt::Write;
use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

/// Text of an error, formatted and cut; the error itself is dropped at once, since it may hold
/// kilobytes of its connection's memory.
pub type ErrorText = Inline<{ TLS_ERROR_BYTES as usize }>;

/// Room in the output buffer kept free of our own data, for what the protocol itself must say
/// while data flows: alerts, key updates.
const RESERVE_BYTES: usize = 1024;

/// Record header, nonce, padding and tag around one record's plaintext.
const OVERHEAD_BYTES: usize = 64;

/// The fixed region that rustls' allocations of one owner go to; None in tests.
pub type TlsSlot = Option<&'static Slot>;

/// A slot for one client thread: its connection and its identity, during a rotation two of those.
/// Before the seal. The thread needs a reserve too (`parse_slot::prepare` gives it one).
pub fn make_client_slot() -> TlsSlot {
    // It lives as long as the process, like its thread.
    let pool = SlotPool::new(1, KUBE_TLS_SLOT_BYTES as usize, KUBE_TLS_SLOT_SOFT_CAP_BYTES);
    let pool = Box::leak(Box::new(pool));
    pool.take().map(|handle| pool.slot(handle))
}

/// The one place where work of rustls gets its allocation scope: every call into rustls, and every
/// drop of what it made, runs in here. What is left may say that its owner must be dropped.
fn in_scope<T>(slot: TlsSlot, work: impl FnOnce() -> T) -> (T, Left) {
    scope::run(slot, work)
}

const TOO_MUCH_MEMORY: &str = "TLS took more memory than its slot has";

fn text_of(error: &impl core::fmt::Display) -> ErrorText {
    let mut buffer = [0; TLS_ERROR_BYTES as usize];
    let mut out = Truncating::new(&mut buffer);
    // Truncating cuts instead of failing.
    let _ = write!(out, "{error}");
    let mut text = ErrorText::new();
    let _ = text.set(out.finish().as_bytes());
    text
}

/// What a client trusts, who it is, and the name that it expects: built from PEM, then immutable.
#[derive(Debug)]
pub struct ClientIdentity {
    slot: TlsSlot,
    config: Option<Arc<ClientConfig>>,
    name: ServerName<'static>,
}

impl ClientIdentity {
    /// From a CA bundle, a certificate chain with its key (if the client has one), and the name or
    /// address that the server's certificate must have. PEM blocks of other kinds are ignored; each
    /// is decoded into `scratch`.
    pub fn new(
        slot: TlsSlot,
        parts: Parts<'_>,
        name: &str,
        scratch: &mut [u8],
    ) -> Result<ClientIdentity, ErrorText> {
        ClientIdentity::build(slot, name, || client_config(parts, scratch))
    }

    fn build(
        slot: TlsSlot,
        name: &str,
        config: impl FnOnce() -> Result<ClientConfig, ErrorText>,
    ) -> Result<ClientIdentity, ErrorText> {
        let (made, left) = in_scope(slot, || {
            let name = ServerName::try_from(name).map_err(|error| text_of(&error))?.to_owned();
            Ok(ClientIdentity { slot, config: Some(Arc::new(config()?)), name })
        });
        // Dropping it is its own work in the scope.
        let made = made?;
        if left.must_close() { Err(text_of(&TOO_MUCH_MEMORY)) } else { Ok(made) }
    }
}

impl Drop for ClientIdentity {
    fn drop(&mut self) {
        let ((), _) = in_scope(self.slot, || {
            drop(self.config.take());
            // The name may own its text.
            self.name = ServerName::IpAddress(core::net::Ipv4Addr::LOCALHOST.into());
        });
    }
}

fn authorities(pem: &[u8], scratch: &mut [u8]) -> Result<RootCertStore, ErrorText> {
    let mut roots = RootCertStore::empty();
    certificates(pem, "certificate authority", scratch, |der| {
        roots.add(CertificateDer::from(der)).map_err(|error| text_of(&error))
    })?;
    Ok(roots)
}

fn client_config(parts: Parts<'_>, scratch: &mut [u8]) -> Result<ClientConfig, ErrorText> {
    let roots = authorities(parts.authority, scratch)?;
    let provider = Arc::new(::rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| text_of(&error))?
        .with_root_certificates(roots);
    let mut config = match parts.own {
        None => builder.with_no_client_auth(),
        Some((pem, key)) => {
            let mut chain = Vec::new();
            certificates(pem, "client certificate", scratch, |der| {
                chain.push(CertificateDer::from(der.to_vec()));
                Ok(())
            })?;
            let key = private_key(key, scratch)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| text_of(&error))?
        }
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(config)
}

/// Decodes PEM blocks, one after the other into `scratch`.
fn blocks(
    pem: &[u8],
    scratch: &mut [u8],
    mut take: impl FnMut(Label, &[u8]) -> Result<(), ErrorText>,
) -> Result<(), ErrorText> {
    let mut blocks = Blocks::new(pem);
    while let Some(block) = blocks.next_into(scratch) {
        let (label, len) = block.map_err(|error| text_of(&PemText(error)))?;
        take(label, &scratch[..len])?;
    }
    Ok(())
}

struct PemText(PemError);

impl core::fmt::Display for PemText {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self.0 {
            PemError::Unfinished => "PEM: a block without its end",
            PemError::Base64 => "PEM: not base64",
            PemError::Encrypted => "PEM: an encrypted key; encrypted keys are not supported",
            PemError::Full => "PEM: a block is too large",
        })
    }
}

fn certificates(
    pem: &[u8],
    what: &str,
    scratch: &mut [u8],
    mut take: impl FnMut(&[u8]) -> Result<(), ErrorText>,
) -> Result<(), ErrorText> {
    let mut count = 0;
    blocks(pem, scratch, |label, der| {
        if label != Label::Certificate {
            return Ok(());
        }
        count += 1;
        if count > KUBE_CERTIFICATES {
            return Err(text_of(&format_args!("{what}: more than {KUBE_CERTIFICATES}")));
        }
        take(der)
    })?;
    if count == 0 {
        return Err(text_of(&format_args!("{what}: no CERTIFICATE block")));
    }
    Ok(())
}

fn private_key(pem: &[u8], scratch: &mut [u8]) -> Result<PrivateKeyDer<'static>, ErrorText> {
    let mut key = None;
    let read = blocks(pem, scratch, |label, der| {
        let found: PrivateKeyDer<'static> = match label {
            Label::Pkcs8Key => PrivatePkcs8KeyDer::from(der.to_vec()).into(),
            Label::Pkcs1Key => PrivatePkcs1KeyDer::from(der.to_vec()).into(),
            Label::Sec1Key => PrivateSec1KeyDer::from(der.to_vec()).into(),
            Label::EncryptedKey => return Err(text_of(&PemText(PemError::Encrypted))),
            Label::Certificate | Label::Other => return Ok(()),
        };
        key.get_or_insert(found);
        Ok(())
    });
    // The key stays nowhere but in rustls.
    scratch.fill(0);
    read?;
    key.ok_or_else(|| text_of(&"client key: no PRIVATE KEY block"))
}

#[derive(Debug)]
struct Buffers {
    input: Buffer<{ TLS_INPUT_BYTES as usize }>,
    output: Buffer<{ TLS_OUTPUT_BYTES as usize }>,
    plain: Buffer<{ TLS_PLAIN_BYTES as usize }>,
}

crate::zeroed_struct!(Buffers {
    input: Buffer<{ TLS_INPUT_BYTES as usize }>,
    output: Buffer<{ TLS_OUTPUT_BYTES as usize }>,
    plain: Buffer<{ TLS_PLAIN_BYTES as usize }>,
});

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsState {
    /// No connection.
    Idle,
    /// The handshake runs.
    Handshake,
    /// Data may flow.
    Open,
    /// The peer said that it sends no more (close_notify).
    PeerClosed,
    /// It failed; the text says why.
    Failed,
}

/// One client connection at a time, with buffers for ever.
#[expect(missing_debug_implementations, reason = "rustls' connection has none")]
pub struct TlsClient {
    slot: TlsSlot,
    state: TlsState,
    connection: Option<UnbufferedClientConnection>,
    buffers: Box<Buffers>,
    error: ErrorText,
}

impl TlsClient {
    /// No connection yet; `slot` is for all of its connections, one at a time.
    pub fn new(slot: TlsSlot) -> TlsClient {
        let (state, error) = (TlsState::Idle, ErrorText::new());
        TlsClient { slot, state, connection: None, buffers: boxed_zeroed(), error }
    }

    /// Bytes of its buffers, for the memory plan; what rustls takes is in the slot.
    pub fn bytes() -> u64 {
        size_of::<Buffers>() as u64
    }

    /// Begins a handshake on a new connection; `advance` makes its first bytes.
    pub fn begin(&mut self, identity: &ClientIdentity) {
        self.end();
        let config = identity.config.clone().expect("only Drop takes it");
        // A name that is no address owns its text: cloning it allocates.
        let (made, left) = in_scope(self.slot, || {
            match UnbufferedClientConnection::new(config, identity.name.clone()) {
                Ok(connection) => Ok(connection),
                Err(error) => Err(text_of(&error)),
            }
        });
        match made {
            Ok(connection) => {
                (self.connection, self.state) = (Some(connection), TlsState::Handshake);
            }
            Err(text) => (self.error, self.state) = (text, TlsState::Failed),
        }
        self.close_if_over(left);
    }

    /// A connection that holds more than its slot has is dropped before anything else runs
    /// (shared/tls-memory.md §1); what it wanted to say is not sent.
    fn close_if_over(&mut self, left: Left) {
        if left.must_close() {
            let ((), _) = in_scope(self.slot, || drop(self.connection.take()));
            (self.state, self.error) = (TlsState::Failed, text_of(&TOO_MUCH_MEMORY));
        }
    }

    /// Forgets the connection.
    pub fn end(&mut self) {
        let ((), _) = in_scope(self.slot, || drop(self.connection.take()));
        self.state = TlsState::Idle;
        self.buffers.input.clear();
        self.buffers.output.clear();
        // The plaintext of a connection is not for the next one.
        self.buffers.plain.clear();
        self.error.clear();
    }

    /// How far it is.
    pub fn state(&self) -> TlsState {
        self.state
    }

    /// Why it failed.
    pub fn error(&self) -> &str {
        self.error.as_str()
    }

    /// Room for ciphertext from the socket; say how much came by `received`.
    pub fn room(&mut self) -> &mut [u8] {
        self.buffers.input.free()
    }

    /// `count` bytes were put into `room`.
    pub fn received(&mut self, count: usize) {
        let input = &mut self.buffers.input;
        assert!(count <= TLS_INPUT_BYTES as usize - input.end);
        input.end += count;
    }

    /// Plaintext that has come.
    pub fn plaintext(&self) -> &[u8] {
        self.buffers.plain.filled()
    }

    /// `count` bytes of it were taken.
    pub fn consume(&mut self, count: usize) {
        self.buffers.plain.take(count);
    }

    /// Ciphertext to be sent.
    pub fn ciphertext(&self) -> &[u8] {
        self.buffers.output.filled()
    }

    /// `count` bytes of it were sent.
    pub fn sent(&mut self, count: usize) {
        self.buffers.output.take(count);
    }

    /// Works on the ciphertext that is there, until plaintext waits, or more of either kind is
    /// needed. Whether anything changed.
    pub fn advance(&mut self) -> bool {
        let Some(connection) = self.connection.as_mut() else { return false };
        let (buffers, state) = (&mut *self.buffers, self.state);
        let ((worked, next), left) = in_scope(self.slot, || advance(connection, buffers, state));
        match next {
            Ok(next) => self.state = next,
            Err(text) => (self.state, self.error) = (TlsState::Failed, text),
        }
        self.close_if_over(left);
        worked
    }

    /// Encrypts some of `plain`: how much. 0 when the output is full, or while plaintext that came
    /// waits to be taken.
    pub fn write(&mut self, plain: &[u8]) -> usize {
        if self.state != TlsState::Open || !self.buffers.plain.is_empty() || plain.is_empty() {
            return 0;
        }
        let Some(connection) = self.connection.as_mut() else { return 0 };
        let buffers = &mut *self.buffers;
        let room = buffers.output.free().len();
        let take = plain.len().min(room.saturating_sub(RESERVE_BYTES + OVERHEAD_BYTES));
        if take == 0 {
            return 0;
        }
        let (taken, left) = in_scope(self.slot, || encrypt(connection, buffers, &plain[..take]));
        self.close_if_over(left);
        taken
    }
}

impl Drop for TlsClient {
    fn drop(&mut self) {
        self.end();
    }
}

fn encrypt(
    connection: &mut UnbufferedClientConnection,
    buffers: &mut Buffers,
    plain: &[u8],
) -> usize {
    let Buffer { start, end, bytes } = &mut buffers.input;
    // The same bytes again, as the contract wants it; nothing of them is decrypted if it answers
    // with WriteTraffic.
    let UnbufferedStatus { discard, state, .. } =
        connection.process_tls_records(&mut bytes[*start..*end]);
    let taken = match state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            let room = buffers.output.free();
            let written = traffic.encrypt(plain, room).unwrap_or(0);
            buffers.output.end += written;
            if written > 0 { plain.len() } else { 0 }
        }
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            // It had a record ready after all: keep it, write later.
            let _ = take_records(&mut traffic, &mut buffers.plain);
            0
        }
        // Everything else is `advance`'s affair; an error comes again there.
        _ => 0,
    };
    buffers.input.take(discard);
    taken
}

fn take_records(
    traffic: &mut ::rustls::unbuffered::ReadTraffic<'_, '_, ::rustls::client::ClientConnectionData>,
    plain: &mut Buffer<{ TLS_PLAIN_BYTES as usize }>,
) -> Result<(), Full> {
    while let Some(record) = traffic.next_record() {
        let Ok(record) = record else { return Err(Full) };
        let len = record.payload.len();
        plain.free().get_mut(..len).ok_or(Full)?.copy_from_slice(record.payload);
        plain.end += len;
    }
    Ok(())
}

/// What one state of rustls led to.
enum Step {
    Again,
    Stop,
    Failed(ErrorText),
}

fn advance(
    connection: &mut UnbufferedClientConnection,
    buffers: &mut Buffers,
    mut state: TlsState,
) -> (bool, Result<TlsState, ErrorText>) {
    let mut worked = false;
    // Each turn takes bytes, makes bytes, or is the last but one.
    loop {
        if matches!(state, TlsState::Idle | TlsState::Failed | TlsState::PeerClosed) {
            return (worked, Ok(state));
        }
        // A record must have room; so must what the handshake, or the protocol itself, says.
        let needed =
            if state == TlsState::Handshake { TLS_OUTPUT_BYTES as usize } else { RESERVE_BYTES };
        if !buffers.plain.is_empty() || buffers.output.free().len() < needed {
            return (worked, Ok(state));
        }
        let before = buffers.input.filled().len();
        let (step, discard) = turn(connection, buffers, &mut state);
        buffers.input.take(discard);
        worked |= discard > 0 || !matches!(step, Step::Stop);
        match step {
            Step::Again => {}
            Step::Failed(text) => {
                fetch_alert(connection, buffers);
                return (true, Err(text));
            }
            Step::Stop if before - discard == TLS_INPUT_BYTES as usize => {
                return (true, Err(text_of(&"a TLS message larger than its buffer")));
            }
            Step::Stop => return (worked, Ok(state)),
        }
    }
}

/// One call of rustls and what its state asks for; how many bytes of the input are done with.
fn turn(
    connection: &mut UnbufferedClientConnection,
    buffers: &mut Buffers,
    state: &mut TlsState,
) -> (Step, usize) {
    let Buffer { start, end, bytes } = &mut buffers.input;
    let UnbufferedStatus { discard, state: next, .. } =
        connection.process_tls_records(&mut bytes[*start..*end]);
    let step = match next {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            match take_records(&mut traffic, &mut buffers.plain) {
                Ok(()) => Step::Again,
                Err(Full) => Step::Failed(text_of(&"a TLS record larger than its buffer")),
            }
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => match data.encode(buffers.output.free()) {
            Ok(written) => {
                buffers.output.end += written;
                Step::Again
            }
            Err(error) => Step::Failed(text_of(&error)),
        },
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // The bytes stand in the output buffer, in order: that is as good as sent.
            data.done();
            Step::Again
        }
        Ok(ConnectionState::BlockedHandshake) => Step::Stop,
        Ok(ConnectionState::WriteTraffic(_)) => {
            *state = TlsState::Open;
            Step::Stop
        }
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
            *state = TlsState::PeerClosed;
            Step::Stop
        }
        Ok(_) => Step::Failed(text_of(&"an unexpected TLS state")),
        Err(error) => Step::Failed(describe(&error)),
    };
    (step, discard)
}

/// rustls' own words; for certificates with a hint at who is meant.
fn describe(error: &Error) -> ErrorText {
    match error {
        Error::InvalidCertificate(cause) => {
            text_of(&format_args!("the server's certificate is refused: {cause}"))
        }
        Error::AlertReceived(alert) => {
            text_of(&format_args!("the server ended TLS with the alert {alert:?}"))
        }
        other => text_of(other),
    }
}

/// After an error: the alert that tells the peer. With the same remaining bytes, and never with
/// none: rustls panics on an empty slice while handshake messages are pending (tls-memory.md §9).
fn fetch_alert(connection: &mut UnbufferedClientConnection, buffers: &mut Buffers) {
    let Buffer { start, end, bytes } = &mut buffers.input;
    if *start == *end {
        return;
    }
    let status = connection.process_tls_records(&mut bytes[*start..*end]);
    if let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state {
        let written = data.encode(buffers.output.free()).unwrap_or(0);
        buffers.output.end += written;
    }
}

#[cfg(test)]
mod tests;
