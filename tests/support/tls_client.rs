//! A TLS client for tests on real sockets: rustls' buffered one, any certificate taken.
//!
//! In: plaintext, or bytes as they are. Out: plaintext, read as HTTP/1.1; records to send by hand.

#![allow(dead_code, reason = "each test binary needs some of it")]

use crate::any_certificate::AnyCertificate;
use crate::harness::{DEADLINE, Message};
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion,
    SupportedProtocolVersion, version,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

pub const TLS12: &SupportedProtocolVersion = &version::TLS12;
pub const TLS13: &SupportedProtocolVersion = &version::TLS13;

fn config(version: &'static SupportedProtocolVersion, fragment: Option<usize>) -> ClientConfig {
    let provider = rustls::crypto::ring::default_provider();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.max_fragment_size = fragment;
    config.enable_secret_extraction = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn client(version: &'static SupportedProtocolVersion, fragment: Option<usize>) -> ClientConnection {
    let config = config(version, fragment);
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    client.set_buffer_limit(None);
    client
}

/// A ClientHello as it goes over the wire.
pub fn hello(version: &'static SupportedProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    client(version, None).write_tls(&mut bytes).unwrap();
    bytes
}

/// Why a client that speaks only this protocol inside TLS gets no connection.
pub fn refusal(address: SocketAddr, protocol: &[u8]) -> String {
    let mut config = config(TLS13, None);
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    loop {
        match tls.complete_io(&mut socket) {
            Err(error) => return error.to_string(),
            Ok(_) if !tls.is_handshaking() => return "none".into(),
            Ok(_) => {}
        }
    }
}

pub struct TlsClient {
    tls: ClientConnection,
    pub socket: TcpStream,
    seen: Vec<u8>,
}

impl TlsClient {
    /// Connects; the handshake is done.
    pub fn connect(
        address: SocketAddr,
        version: &'static SupportedProtocolVersion,
    ) -> std::io::Result<TlsClient> {
        let mut made = TlsClient::begin(address, version, None)?;
        made.shake(usize::MAX)?;
        Ok(made)
    }

    /// Connects; nothing is sent. `fragment`: bytes of its largest record.
    pub fn begin(
        address: SocketAddr,
        version: &'static SupportedProtocolVersion,
        fragment: Option<usize>,
    ) -> std::io::Result<TlsClient> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        socket.set_nodelay(true)?;
        Ok(TlsClient { tls: client(version, fragment), socket, seen: Vec::new() })
    }

    /// Sends the hello, and waits for nothing.
    pub fn send_hello(&mut self) {
        let bytes = self.pending();
        self.send_raw(&bytes);
    }

    /// Goes through the handshake, sending pieces of so many bytes.
    pub fn shake(&mut self, piece: usize) -> std::io::Result<()> {
        while self.tls.is_handshaking() || self.tls.wants_write() {
            if self.tls.wants_write() {
                let bytes = self.pending();
                for piece in bytes.chunks(piece) {
                    self.socket.write_all(piece)?;
                }
            } else {
                self.receive()?;
            }
        }
        Ok(())
    }

    fn pending(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn receive(&mut self) -> std::io::Result<usize> {
        let len = self.tls.read_tls(&mut self.socket)?;
        let state = self.tls.process_new_packets();
        state.map_err(|error| std::io::Error::other(error.to_string()))?;
        if len == 0 && self.tls.is_handshaking() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(len)
    }

    /// These bytes as records: one for up to 16 KiB.
    pub fn encrypt(&mut self, plain: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(plain).unwrap();
        self.pending()
    }

    pub fn send(&mut self, plain: impl AsRef<[u8]>) {
        let bytes = self.encrypt(plain.as_ref());
        self.send_raw(&bytes);
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Our close_notify as a record.
    pub fn close_notify(&mut self) -> Vec<u8> {
        self.tls.send_close_notify();
        self.pending()
    }

    /// A request for new keys as a record (TLS 1.3).
    pub fn key_update(&mut self) -> Vec<u8> {
        self.tls.refresh_traffic_keys().unwrap();
        self.pending()
    }

    /// Reads more plaintext; false at the end that close_notify tells.
    fn fill(&mut self) -> std::io::Result<bool> {
        let mut piece = [0; 1 << 14];
        loop {
            match self.tls.reader().read(&mut piece) {
                Ok(len) => {
                    self.seen.extend_from_slice(&piece[..len]);
                    return Ok(len > 0);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.receive()?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A whole response with Content-Length, or what is in its way.
    pub fn try_response(&mut self) -> std::io::Result<Message> {
        let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let len = loop {
            if let Some(at) = self.seen.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill()? {
                return Err(cut());
            }
        };
        let head = String::from_utf8(self.seen.drain(..len).collect()).unwrap();
        let mut message = Message { head, body: Vec::new() };
        let len: usize = message.field("Content-Length").map_or(0, |l| l.trim().parse().unwrap());
        while self.seen.len() < len {
            if !self.fill()? {
                return Err(cut());
            }
        }
        message.body = self.seen.drain(..len).collect();
        Ok(message)
    }

    pub fn response(&mut self) -> Message {
        self.try_response().expect("a whole response")
    }

    /// Whether the other side has ended with close_notify, and nothing is left unread.
    pub fn at_end(&mut self) -> bool {
        self.seen.is_empty() && !self.fill().expect("an end that TLS tells")
    }
}

/// The keys of a client whose handshake is done (TLS 1.3): records of any type, with any content.
pub struct RawClient {
    pub socket: TcpStream,
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl RawClient {
    pub fn of(client: TlsClient) -> RawClient {
        let suite = client.tls.negotiated_cipher_suite().unwrap().tls13().unwrap();
        let (sequence, secrets) = client.tls.dangerous_extract_secrets().unwrap().tx;
        let (key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
            _ => unreachable!("ring has three"),
        };
        let encrypter = suite.aead_alg.encrypter(key, iv);
        RawClient { socket: client.socket, encrypter, sequence }
    }

    /// One record.
    pub fn record(&mut self, typ: ContentType, content: &[u8]) -> Vec<u8> {
        let payload = OutboundChunks::Single(content);
        let message = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload };
        self.sequence += 1;
        self.encrypter.encrypt(message, self.sequence - 1).unwrap().encode()
    }
}
