//! TLS as a client: any certificate is taken, but which leaf is shown is looked at.
//!
//! In: a server name, and the leaves that may be shown. Out: connections, each judged by its leaf.

use crate::any_certificate::AnyCertificate;
use crate::expected::{Expected, Rotation};
use crate::http::{Broken, TIMEOUT, Wire};
use crate::summary::Failure;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// A TLS connection.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// How to connect, and what may be shown.
#[derive(Debug)]
pub struct Tls {
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    leaves: Vec<CertificateDer<'static>>,
    expected: Expected,
}

impl Tls {
    /// `leaves` are PEM files; leaf i is called i. Without any, every leaf may be shown.
    pub fn new(name: &str, leaves: &[String], is_rotating: bool) -> Result<Tls, String> {
        let provider = rustls::crypto::ring::default_provider();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider.clone()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        let of = |file: &String| {
            CertificateDer::from_pem_file(file).map_err(|error| format!("{file}: {error}"))
        };
        let names = (0..leaves.len()).map(|index| index.to_string()).collect();
        Ok(Tls {
            name: ServerName::try_from(name.to_string()).map_err(|e| format!("{name}: {e}"))?,
            config: Arc::new(config),
            leaves: leaves.iter().map(of).collect::<Result<_, String>>()?,
            expected: match is_rotating {
                true => Expected::Rotating(Rotation::new(names)),
                false => Expected::Any(names),
            },
        })
    }

    /// A hello for TLS 1.2 as it goes over the wire.
    pub fn hello(&self) -> Vec<u8> {
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(self.config.crypto_provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]);
        let config = builder
            .expect("ring has it")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let client = ClientConnection::new(Arc::new(config), self.name.clone());
        let mut bytes = Vec::new();
        client.expect("a client").write_tls(&mut bytes).expect("into memory");
        bytes
    }

    /// Its generations, if they change.
    pub fn rotation(&self) -> Option<&Rotation> {
        match &self.expected {
            Expected::Rotating(rotation) => Some(rotation),
            Expected::Any(_) => None,
        }
    }

    /// A connection whose handshake is done, and whose leaf may be shown now.
    pub fn connect(&self, address: SocketAddr) -> Result<Wire, Failure> {
        let sent = self.expected.send();
        let mut stream = self.stream(address).map_err(Failure::Connect)?;
        let shown = stream.conn.peer_certificates().and_then(|chain| chain.first());
        let leaf = self.leaves.iter().position(|leaf| Some(leaf) == shown);
        let leaf = leaf.map_or("unknown".to_string(), |index| index.to_string());
        if !self.leaves.is_empty() && !sent.allows(&leaf) {
            return Err(Failure::Leaf(leaf));
        }
        stream.conn.set_buffer_limit(None);
        Ok(Wire::secure(stream))
    }

    /// A connection with its handshake done, whatever leaf was shown.
    pub fn stream(&self, address: SocketAddr) -> Result<TlsStream, Broken> {
        let mut socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        socket.set_nodelay(true)?;
        let client = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let mut client = client.map_err(|_| Broken::Malformed("TLS client"))?;
        while client.is_handshaking() {
            client.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(client, socket))
    }
}
