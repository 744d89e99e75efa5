//! The server against rustls' own buffered client, in memory, cut anywhere.

use super::*;
use crate::config::snapshot::{Listener, Protocol, Snapshot};
use crate::limits::Capacities;
use crate::shell::place::boxed_zeroed;
use crate::shell::tls::rustls::certificates::Certificates;
use ::rustls::pki_types::pem::PemObject;
use ::rustls::pki_types::{CertificateDer, ServerName};
use ::rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};
use std::io::{Read, Write};
use std::string::String;
use std::sync::OnceLock;
use std::vec::Vec;

const AUTHORITY: &[u8] = include_bytes!("../../../../tests/data/tls/authority.crt");
const SERVER: &str = include_str!("../../../../tests/data/tls/server.crt");
const SERVER_KEY: &str = include_str!("../../../../tests/data/tls/server.key");

/// Made once: each set of certificates has a region of its own for good.
fn certificate() -> Arc<CertifiedKey> {
    static MADE: OnceLock<Arc<CertifiedKey>> = OnceLock::new();
    MADE.get_or_init(make_certificate).clone()
}

fn make_certificate() -> Arc<CertifiedKey> {
    let mut snapshot = boxed_zeroed::<Snapshot>();
    snapshot.set_caps(&Capacities::DEFAULT);
    let index = snapshot.add_certificate("ns/server", SERVER, SERVER_KEY).unwrap();
    snapshot.certificate_refs.push(index).unwrap();
    let text = snapshot.text.push("x").unwrap();
    let listener = Listener {
        gateway: text,
        section: text,
        hostname: crate::stdx::Text::EMPTY,
        port: 443,
        protocol: Protocol::Https,
        binds: crate::stdx::Span::EMPTY,
        certificates: snapshot.certificate_refs.span_from(0),
    };
    snapshot.listeners.push(listener).unwrap();
    let certificates = Certificates::new(4);
    certificates.load(&snapshot, &snapshot).unwrap();
    certificates.choose(&snapshot, 0, b"localhost").unwrap()
}

/// Both ends, and a wire that cuts.
struct Pair {
    setup: ServerSetup,
    server: TlsServer,
    client: ClientConnection,
    piece: usize,
    /// Ciphertext that the server has not consumed.
    input: Vec<u8>,
    /// What the server decrypted.
    plain: Vec<u8>,
    client_error: Option<String>,
    /// What the client decrypted.
    got: Vec<u8>,
}

impl Pair {
    fn new(versions: &[&'static SupportedProtocolVersion], piece: usize) -> Pair {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(AUTHORITY).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let (setup, mut server) = (ServerSetup::new(), TlsServer::new());
        server.begin(&setup, None, certificate());
        let (input, plain) = (Vec::new(), Vec::new());
        let got = Vec::new();
        Pair { setup, server, client, piece, input, plain, client_error: None, got }
    }

    fn advance(&mut self) -> bool {
        let (mut output, mut plain) = (vec![0; FLIGHT_BYTES], vec![0; RECORD_PLAIN_BYTES]);
        let done = self.server.advance(&self.setup, &mut self.input, &mut output, &mut plain);
        self.input.drain(..done.consumed);
        self.plain.extend(&plain[..done.plain]);
        self.give_client(&output[..done.output]);
        done != Progress::default()
    }

    fn give_client(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.client_error.is_none() {
            let (piece, _) = bytes.split_at(bytes.len().min(self.piece));
            let taken = self.client.read_tls(&mut &*piece).unwrap();
            bytes = &bytes[taken..];
            if let Err(error) = self.client.process_new_packets() {
                self.client_error = Some(std::format!("{error}"));
            }
            let mut piece = [0; 4096];
            // WouldBlock: no more for now.
            while let Ok(len @ 1..) = self.client.reader().read(&mut piece) {
                self.got.extend(&piece[..len]);
            }
        }
    }

    /// Moves ciphertext until nothing moves.
    fn run(&mut self) {
        loop {
            let mut sent = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut sent).unwrap();
            }
            let mut moved = !sent.is_empty();
            for piece in sent.chunks(self.piece) {
                self.input.extend(piece);
                while self.advance() {}
            }
            moved |= self.advance();
            if !moved {
                return;
            }
        }
    }

    fn write(&mut self, plain: &[u8]) {
        let mut output = vec![0; encrypted_bytes(plain.len())];
        let len = self.server.write(plain, &mut output).expect("open");
        self.give_client(&output[..len]);
    }

    fn read(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.got)
    }
}

const BOTH: [&[&SupportedProtocolVersion]; 2] = [&[&version::TLS13], &[&version::TLS12]];

#[test]
fn data_both_ways_however_it_is_cut() {
    for versions in BOTH {
        for piece in [1, 7, 300, 1 << 20] {
            let mut pair = Pair::new(versions, piece);
            pair.run();
            assert_eq!(pair.server.state(), TlsState::Open, "{}", pair.server.error());
            let big: Vec<u8> = (0..100_000u32).map(|i| (i * 7) as u8).collect();
            for part in big.chunks(30_000) {
                pair.client.writer().write_all(part).unwrap();
                pair.run();
            }
            assert!(pair.plain == big, "{versions:?} {piece}");
            pair.write(&big);
            assert!(pair.read() == big, "{versions:?} {piece}");
            assert!(pair.input.is_empty());
        }
    }
}

/// A request that waits, not decrypted, does not keep a response from being sent.
#[test]
fn writes_while_records_wait() {
    for versions in BOTH {
        let mut pair = Pair::new(versions, 1 << 20);
        pair.run();
        pair.client.writer().write_all(b"GET /later").unwrap();
        let mut waiting = Vec::new();
        pair.client.write_tls(&mut waiting).unwrap();
        pair.write(b"response");
        assert_eq!(pair.read(), b"response");
        pair.input.extend(waiting);
        pair.run();
        assert_eq!(pair.plain, b"GET /later");
    }
}

#[test]
fn ends_are_told_in_both_directions() {
    for versions in BOTH {
        let mut pair = Pair::new(versions, 1 << 20);
        pair.run();
        pair.client.send_close_notify();
        pair.run();
        assert_eq!(pair.server.state(), TlsState::PeerClosed);
        pair.write(b"the rest");
        let mut output = [0; 256];
        let len = pair.server.write_end(&mut output);
        assert!(len > 0);
        pair.give_client(&output[..len]);
        let mut more = Vec::new();
        assert!(pair.client.reader().read_to_end(&mut more).is_ok(), "no truncation");
        assert_eq!((pair.read().as_slice(), more.len()), (&b"the rest"[..], 0));
    }
}

#[test]
fn a_flipped_bit_ends_it_with_an_alert() {
    let mut pair = Pair::new(BOTH[0], 1 << 20);
    pair.run();
    pair.client.writer().write_all(b"hello").unwrap();
    let mut sent = Vec::new();
    pair.client.write_tls(&mut sent).unwrap();
    let last = sent.len() - 1;
    sent[last] ^= 1;
    pair.input.extend(sent);
    pair.run();
    assert_eq!(pair.server.state(), TlsState::Failed);
    assert_eq!(pair.plain, b"");
    let error = pair.client_error.expect("an alert came");
    assert!(error.contains("BadRecordMac"), "{error}");
}

#[test]
fn a_record_larger_than_tls_allows_is_refused_before_it_is_read() {
    let mut pair = Pair::new(BOTH[0], 1 << 20);
    pair.input.extend([22, 3, 1, 0xff, 0xff]);
    pair.run();
    assert_eq!(pair.server.state(), TlsState::Failed);
    assert_eq!(pair.server.error(), "a record larger than TLS allows");
}

/// Cut short anywhere, and garbage: no panic, and nothing is taken for data.
#[test]
fn hostile_bytes() {
    let mut hello = Vec::new();
    let mut pair = Pair::new(BOTH[0], 1 << 20);
    pair.client.write_tls(&mut hello).unwrap();
    let mut prng = crate::stdx::Prng::new(3);
    for _ in 0..500 {
        let mut pair = Pair::new(BOTH[0], 1 << 20);
        let mut bytes = hello.clone();
        for _ in 0..prng.range(1, 3) {
            let at = prng.below(bytes.len() as u64) as usize;
            bytes[at] = prng.below(256) as u8;
        }
        bytes.truncate(prng.below(bytes.len() as u64 + 1) as usize);
        pair.input.extend(bytes);
        pair.run();
        assert_eq!(pair.plain, b"");
        assert_ne!(pair.server.state(), TlsState::Open);
    }
}
