//! The server's side of a TLS connection: records in, records out, in buffers of the caller's.
//!
//! In: ciphertext, and the certificate to show. Out: plaintext, ciphertext to send, how far the
//! connection is. rustls is shown one record after the other: what it has not seen cannot stand
//! between a request that came and the response to another (its unbuffered interface encrypts
//! nothing while a decrypted record waits), and a peer can only make it work on one record a call.
//! There is no resumption: tickets would need keys that live apart from every connection's slot.

use super::{ErrorText, TOO_MUCH_MEMORY, TlsSlot, TlsState, in_scope, text_of};
use ::rustls::server::danger::ClientCertVerifier;
use ::rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ResolvesServerCert, ServerConnectionData,
    UnbufferedServerConnection,
};
use ::rustls::sign::CertifiedKey;
use ::rustls::unbuffered::{ConnectionState, ReadTraffic, UnbufferedStatus};
use ::rustls::{ServerConfig, crypto::ring};
use std::sync::{Arc, Mutex};
use std::vec;

/// Plaintext of one record (RFC 8446 §5.1): there must be room for one.
pub const RECORD_PLAIN_BYTES: usize = 1 << 14;
/// What a call may say besides data: the server's flight with a long chain.
pub const FLIGHT_BYTES: usize = 24 << 10;
/// Header, nonce, padding and tag around the plaintext of each record.
const RECORD_OVERHEAD_BYTES: usize = 64;
const RECORD_HEADER_BYTES: usize = 5;
/// Ciphertext of one record: TLS 1.2 allows 2,048 bytes of expansion (RFC 5246 §6.2.3).
const RECORD_CIPHER_BYTES: usize = RECORD_PLAIN_BYTES + 2048;

/// A fatal alert in the clear: `unrecognized_name` (RFC 6066 §3), before any handshake.
pub const ALERT_UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Bytes that `plain` bytes become.
pub const fn encrypted_bytes(plain: usize) -> usize {
    plain + (plain / RECORD_PLAIN_BYTES + 1) * RECORD_OVERHEAD_BYTES
}

/// What all servers of one thread share. Made before the seal.
#[derive(Debug)]
pub struct ServerSetup {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
}

/// The certificate for the connection that is being worked on: rustls asks for it inside a call.
#[derive(Debug, Default)]
struct Shown(Mutex<Option<Arc<CertifiedKey>>>);

impl Shown {
    fn set(&self, certificate: Option<Arc<CertifiedKey>>) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = certificate;
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl ServerSetup {
    /// TLS 1.2 and 1.3 with ring's ciphers, HTTP/1.1, no resumption.
    pub fn new() -> ServerSetup {
        ServerSetup::verifying(Arc::new(NoClientAuth))
    }

    /// The same, with clients judged by a verifier.
    pub(super) fn verifying(verifier: Arc<dyn ClientCertVerifier>) -> ServerSetup {
        let shown = Arc::new(Shown::default());
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("ring has them");
        let builder = builder.with_client_cert_verifier(verifier);
        let mut config = builder.with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        ServerSetup { config: Arc::new(config), shown }
    }
}

impl Default for ServerSetup {
    fn default() -> Self {
        Self::new()
    }
}

/// What a call did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Bytes of ciphertext put into the output.
    pub output: usize,
    /// Bytes of plaintext put into the room for it.
    pub plain: usize,
}

/// One server connection at a time.
#[expect(missing_debug_implementations, reason = "rustls' connection has none")]
pub struct TlsServer {
    slot: TlsSlot,
    state: TlsState,
    connection: Option<UnbufferedServerConnection>,
    /// Until the handshake is through.
    certificate: Option<Arc<CertifiedKey>>,
    /// Bytes at the front of the input that rustls has been shown: records of a message whose rest
    /// is to come. It knows places in them, and must be shown them again.
    shown: usize,
    error: ErrorText,
}

impl Default for TlsServer {
    fn default() -> Self {
        Self::new()
    }
}

impl TlsServer {
    /// No connection yet.
    pub fn new() -> TlsServer {
        let (state, error) = (TlsState::Idle, ErrorText::new());
        TlsServer { slot: None, state, connection: None, certificate: None, shown: 0, error }
    }

    /// A connection begins, in this slot, and will show this certificate.
    pub fn begin(&mut self, setup: &ServerSetup, slot: TlsSlot, certificate: Arc<CertifiedKey>) {
        assert!(self.connection.is_none() && self.state == TlsState::Idle);
        (self.slot, self.shown) = (slot, 0);
        self.error.clear();
        let config = setup.config.clone();
        let (made, left) = in_scope(slot, || {
            UnbufferedServerConnection::new(config).map_err(|error| text_of(&error))
        });
        match made {
            Ok(connection) => {
                (self.connection, self.state) = (Some(connection), TlsState::Handshake);
                self.certificate = Some(certificate);
            }
            Err(text) => (self.error, self.state) = (text, TlsState::Failed),
        }
        self.close_if_over(left.must_close());
    }

    /// Forgets the connection; its slot is empty then.
    pub fn end(&mut self) {
        let ((), _) = in_scope(self.slot, || drop(self.connection.take()));
        (self.slot, self.state, self.certificate) = (None, TlsState::Idle, None);
    }

    /// How far it is.
    pub fn state(&self) -> TlsState {
        self.state
    }

    /// Why it failed.
    pub fn error(&self) -> &str {
        self.error.as_str()
    }

    fn close_if_over(&mut self, is_over: bool) {
        if is_over {
            let ((), _) = in_scope(self.slot, || drop(self.connection.take()));
            (self.state, self.error) = (TlsState::Failed, text_of(&TOO_MUCH_MEMORY));
        }
    }

    /// Works on ciphertext, record by record, as long as there is room: `output` must have
    /// FLIGHT_BYTES, `plain` room for a record. What is not consumed must come again, with more
    /// behind it.
    pub fn advance(
        &mut self,
        setup: &ServerSetup,
        input: &mut [u8],
        output: &mut [u8],
        plain: &mut [u8],
    ) -> Progress {
        assert!(output.len() >= FLIGHT_BYTES && plain.len() >= RECORD_PLAIN_BYTES);
        // After an error rustls must not be asked again: it asserts that it sent one alert only.
        let is_over = !matches!(self.state, TlsState::Handshake | TlsState::Open);
        let connection = self.connection.as_mut().filter(|_| !is_over);
        let Some(connection) = connection else { return Progress::default() };
        setup.shown.set(self.certificate.clone());
        let (state, shown, done) = (self.state, self.shown, Progress::default());
        assert!(shown <= input.len(), "what is not consumed comes again");
        let mut work = Work { connection, state, shown, input, output, plain, done };
        let (result, left) = in_scope(self.slot, || work.run());
        let done = work.done;
        (self.state, self.shown) = (work.state, work.shown);
        setup.shown.set(None);
        if let Err(text) = result {
            (self.state, self.error) = (TlsState::Failed, text);
        }
        if self.state != TlsState::Handshake {
            self.certificate = None;
        }
        self.close_if_over(left.must_close());
        done
    }

    /// Encrypts all of `plain` into `output`, which must have [`encrypted_bytes`] of it; how many
    /// bytes it became. None: the connection is not open.
    pub fn write(&mut self, plain: &[u8], output: &mut [u8]) -> Option<usize> {
        if !matches!(self.state, TlsState::Open | TlsState::PeerClosed) {
            return None;
        }
        let connection = self.connection.as_mut()?;
        let (written, left) = in_scope(self.slot, || {
            let UnbufferedStatus { state, .. } = connection.process_tls_records(&mut []);
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    traffic.encrypt(plain, output).ok()
                }
                _ => None,
            }
        });
        self.close_if_over(left.must_close());
        written
    }

    /// Says that nothing more is sent: how many bytes were put into `output`.
    pub fn write_end(&mut self, output: &mut [u8]) -> usize {
        if !matches!(self.state, TlsState::Open | TlsState::PeerClosed) {
            return 0;
        }
        let Some(connection) = self.connection.as_mut() else { return 0 };
        let (written, left) = in_scope(self.slot, || {
            let UnbufferedStatus { state, .. } = connection.process_tls_records(&mut []);
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    traffic.queue_close_notify(output).unwrap_or(0)
                }
                _ => 0,
            }
        });
        self.close_if_over(left.must_close());
        written
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// What one state of rustls led to.
enum Step {
    /// It may have more to say about the same bytes.
    Again,
    /// It wants another record.
    More,
    Stop,
}

/// One call of [`TlsServer::advance`].
struct Work<'w> {
    connection: &'w mut UnbufferedServerConnection,
    state: TlsState,
    /// Bytes behind what is consumed that rustls has been shown.
    shown: usize,
    input: &'w mut [u8],
    output: &'w mut [u8],
    plain: &'w mut [u8],
    done: Progress,
}

impl Work<'_> {
    fn run(&mut self) -> Result<(), ErrorText> {
        if !self.show_next()? {
            return Ok(());
        }
        // Each turn takes bytes, makes bytes, or is the last but one.
        loop {
            let has_room = self.plain.len() - self.done.plain >= RECORD_PLAIN_BYTES
                && self.output.len() - self.done.output >= FLIGHT_BYTES / 2;
            if !has_room && self.shown == 0 {
                return Ok(());
            }
            match self.turn()? {
                Step::Again => {}
                Step::Stop => return Ok(()),
                Step::More if self.shown > 0 && self.state == TlsState::Open => {
                    // Legal, but nobody does it; it would stand between us and writing.
                    return Err(text_of(&"a message after the handshake in several records"));
                }
                Step::More if !has_room || !self.show_next()? => return Ok(()),
                Step::More => {}
            }
        }
    }

    /// Lets rustls see one record more; false when it is not whole.
    fn show_next(&mut self) -> Result<bool, ErrorText> {
        let next = self.next_record(self.shown)?;
        self.shown += next.unwrap_or(0);
        Ok(next.is_some())
    }

    /// The length of the record behind what was shown; None when it is not whole.
    fn next_record(&self, shown: usize) -> Result<Option<usize>, ErrorText> {
        let rest = &self.input[self.done.consumed + shown..];
        let Some(header) = rest.get(..RECORD_HEADER_BYTES) else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if len > RECORD_CIPHER_BYTES {
            return Err(text_of(&"a record larger than TLS allows"));
        }
        let whole = RECORD_HEADER_BYTES + len;
        Ok(Some(whole).filter(|&whole| whole <= rest.len()))
    }

    /// One call of rustls and what its state asks for.
    fn turn(&mut self) -> Result<Step, ErrorText> {
        let Work { connection, state, shown, input, output, plain, done } = self;
        let input = &mut input[done.consumed..done.consumed + *shown];
        let UnbufferedStatus { mut discard, state: next, .. } =
            connection.process_tls_records(input);
        let step = match next {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                discard += take_records(&mut traffic, plain, &mut done.plain)?;
                Step::Again
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                let written = data.encode(&mut output[done.output..]);
                done.output += written.map_err(|error| text_of(&error))?;
                Step::Again
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // The bytes stand in the output, in order: that is as good as sent.
                data.done();
                Step::Again
            }
            Ok(ConnectionState::BlockedHandshake) => Step::More,
            Ok(ConnectionState::WriteTraffic(_)) => {
                *state = TlsState::Open;
                Step::More
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                *state = TlsState::PeerClosed;
                Step::Stop
            }
            Ok(_) => return Err(text_of(&"an unexpected TLS state")),
            Err(error) => {
                let text = text_of(&error);
                drop(error);
                (done.consumed, *shown) = (done.consumed + discard, *shown - discard);
                self.fetch_alert();
                return Err(text);
            }
        };
        (done.consumed, *shown) = (done.consumed + discard, *shown - discard);
        Ok(step)
    }

    /// After an error: the alert that tells the peer. Only when there is one: rustls would look at
    /// the records again else, and must never be shown less than before.
    fn fetch_alert(&mut self) {
        let Work { connection, shown, input, output, done, .. } = self;
        let input = &mut input[done.consumed..done.consumed + *shown];
        while connection.wants_write() {
            let status = connection.process_tls_records(input);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state else { return };
            let Ok(written) = data.encode(&mut output[done.output..]) else { return };
            done.output += written;
        }
    }
}

/// Copies decrypted records; how many more bytes of the input are done with.
fn take_records(
    traffic: &mut ReadTraffic<'_, '_, ServerConnectionData>,
    plain: &mut [u8],
    filled: &mut usize,
) -> Result<usize, ErrorText> {
    let mut discard = 0;
    while let Some(record) = traffic.next_record() {
        let record = record.map_err(|error| text_of(&error))?;
        let len = record.payload.len();
        let room = plain.get_mut(*filled..*filled + len);
        let room = room.ok_or_else(|| text_of(&"a record larger than its buffer"))?;
        room.copy_from_slice(record.payload);
        (*filled, discard) = (*filled + len, discard + record.discard);
    }
    Ok(discard)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
