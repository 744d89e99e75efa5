//! The client against rustls' own buffered server, in memory, cut anywhere.

use super::*;
use ::rustls::pki_types::pem::PemObject;
use ::rustls::server::WebPkiClientVerifier;
use ::rustls::{ServerConfig, ServerConnection};
use std::io::{Read, Write as _};
use std::vec;

const AUTHORITY: &[u8] = include_bytes!("../../../../tests/data/tls/authority.crt");
const OTHER: &[u8] = include_bytes!("../../../../tests/data/tls/other-authority.crt");
const SERVER: &[u8] = include_bytes!("../../../../tests/data/tls/server.crt");
const SERVER_KEY: &[u8] = include_bytes!("../../../../tests/data/tls/server.key");
const CLIENT: &[u8] = include_bytes!("../../../../tests/data/tls/client.crt");
const CLIENT_KEY: &[u8] = include_bytes!("../../../../tests/data/tls/client.key");
const CLIENT_SEC1: &[u8] = include_bytes!("../../../../tests/data/tls/client-sec1.key");

fn server(wants_client: bool, versions: &[&'static ::rustls::SupportedProtocolVersion]) -> Pair {
    let provider = Arc::new(::rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap();
    let builder = if wants_client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(AUTHORITY).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let chain = vec![CertificateDer::from_pem_slice(SERVER).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(SERVER_KEY).unwrap();
    let config = builder.with_single_cert(chain, key).unwrap();
    Pair {
        client: TlsClient::new(None),
        server: ServerConnection::new(Arc::new(config)).unwrap(),
        piece: 1 << 20,
        server_error: None,
    }
}

/// Both ends, and a wire that cuts.
struct Pair {
    client: TlsClient,
    server: ServerConnection,
    piece: usize,
    server_error: Option<Error>,
}

impl Pair {
    fn connect(&mut self, identity: &ClientIdentity) -> TlsState {
        self.client.begin(identity);
        self.run();
        self.client.state()
    }

    /// Moves ciphertext until nothing moves.
    fn run(&mut self) {
        loop {
            let mut moved = self.client.advance();
            let out = self.client.ciphertext();
            if !out.is_empty() {
                let mut some = &out[..out.len().min(self.piece)];
                let count = self.server.read_tls(&mut some).unwrap();
                self.client.sent(count);
                if let Err(error) = self.server.process_new_packets() {
                    self.server_error = Some(error);
                }
                moved = true;
            }
            if self.server.wants_write() {
                let piece = self.piece;
                let room = self.client.room();
                let len = room.len().min(piece);
                let mut place = &mut room[..len];
                if len > 0 {
                    let count = self.server.write_tls(&mut place).unwrap();
                    self.client.received(count);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }
}

fn identity(authority: &[u8], client: Option<(&[u8], &[u8])>, name: &str) -> ClientIdentity {
    ClientIdentity::new(None, Parts { authority, own: client }, name, &mut [0; 2048])
        .map_err(|e| e.as_str().len())
        .unwrap()
}

const BOTH: &[&::rustls::SupportedProtocolVersion] =
    &[&::rustls::version::TLS13, &::rustls::version::TLS12];

#[test]
fn data_both_ways_in_pieces_of_any_size() {
    for versions in [BOTH, &BOTH[1..]] {
        for piece in [1, 7, 100, 1000, 16_384, 1 << 20] {
            let mut pair = server(true, versions);
            pair.piece = piece;
            let us = identity(AUTHORITY, Some((CLIENT, CLIENT_KEY)), "127.0.0.1");
            assert_eq!(pair.connect(&us), TlsState::Open, "{}", pair.client.error());
            assert_eq!(pair.server.peer_certificates().map(<[_]>::len), Some(1));

            let question = vec![b'q'; 40_000];
            let mut rest = &question[..];
            let mut heard = vec![];
            while heard.len() < question.len() {
                rest = &rest[pair.client.write(rest)..];
                pair.run();
                let mut some = vec![0; 50_000];
                heard.extend_from_slice(&some[..0]);
                if let Ok(count) = pair.server.reader().read(&mut some) {
                    heard.extend_from_slice(&some[..count]);
                }
            }
            assert_eq!(heard, question);

            let answer: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
            let mut sent = 0;
            let mut read = vec![];
            while read.len() < answer.len() {
                sent += pair.server.writer().write(&answer[sent..]).unwrap();
                pair.run();
                // Taken in bites, as a machine does.
                let bite = pair.client.plaintext().len().div_ceil(2);
                read.extend_from_slice(&pair.client.plaintext()[..bite]);
                pair.client.consume(bite);
            }
            assert_eq!(read, answer);

            pair.server.send_close_notify();
            pair.run();
            assert_eq!(pair.client.state(), TlsState::PeerClosed);
        }
    }
}

#[test]
fn one_client_many_connections() {
    let us = identity(AUTHORITY, None, "localhost");
    let mut pair = server(false, BOTH);
    for _ in 0..3 {
        assert_eq!(pair.connect(&us), TlsState::Open);
        let fresh = server(false, BOTH);
        pair.server = fresh.server;
    }
}

#[test]
fn certificates_that_are_not_to_be_trusted() {
    for (us, expected) in [
        (identity(OTHER, None, "127.0.0.1"), "the server's certificate is refused: "),
        (identity(AUTHORITY, None, "127.0.0.2"), "the server's certificate is refused: "),
        (identity(AUTHORITY, None, "other"), "the server's certificate is refused: "),
    ] {
        let mut pair = server(false, BOTH);
        assert_eq!(pair.connect(&us), TlsState::Failed);
        let text = pair.client.error();
        assert!(text.starts_with(expected) && text.len() > expected.len(), "{text}");
        // The server was told why.
        assert!(matches!(pair.server_error, Some(Error::AlertReceived(_))));
        assert_eq!(pair.client.write(b"secret"), 0);
    }
}

#[test]
fn a_server_that_wants_a_certificate_and_gets_none() {
    let us = identity(AUTHORITY, None, "127.0.0.1");
    let mut pair = server(true, BOTH);
    assert_eq!(pair.connect(&us), TlsState::Failed);
    assert!(pair.client.error().contains("CertificateRequired"), "{}", pair.client.error());
}

#[test]
fn keys_of_both_forms_and_bad_pem() {
    let made = |authority: &[u8], client: Option<(&[u8], &[u8])>, name: &str| {
        let made =
            ClientIdentity::new(None, Parts { authority, own: client }, name, &mut [0; 2048]);
        made.map(|_| ()).map_err(|text| std::string::String::from(text.as_str()))
    };
    assert_eq!(made(AUTHORITY, Some((CLIENT, CLIENT_SEC1)), "a"), Ok(()));
    assert!(made(b"", None, "a").unwrap_err().contains("no CERTIFICATE"));
    assert!(made(b"-----BEGIN CERTIFICATE-----", None, "a").unwrap_err().contains("PEM"));
    assert!(made(AUTHORITY, Some((CLIENT, CLIENT)), "a").unwrap_err().contains("no PRIVATE KEY"));
    let other_key = made(AUTHORITY, Some((CLIENT, SERVER_KEY)), "a").unwrap_err();
    assert!(other_key.contains("KeyMismatch") || other_key.contains("inconsistent"), "{other_key}");
    assert!(made(AUTHORITY, None, "not a name").is_err());
    let many = AUTHORITY.repeat(KUBE_CERTIFICATES as usize + 1);
    assert!(made(&many, None, "a").unwrap_err().contains("more than"));
    assert_eq!(made(&many[AUTHORITY.len()..], None, "a"), Ok(()));
}

#[test]
fn garbage_and_flipped_bytes_never_panic() {
    let us = identity(AUTHORITY, None, "127.0.0.1");
    let mut prng = crate::stdx::Prng::new(3);
    for seed in 0..400u32 {
        let mut pair = server(false, BOTH);
        pair.client.begin(&us);
        let mut budget = 60;
        while budget > 0 && pair.client.state() != TlsState::Failed {
            budget -= 1;
            pair.client.advance();
            let out = pair.client.ciphertext().to_vec();
            pair.client.sent(out.len());
            let _ = pair.server.read_tls(&mut &out[..]);
            let _ = pair.server.process_new_packets();
            let mut bytes = vec![];
            if seed % 2 == 0 {
                let _ = pair.server.write_tls(&mut bytes);
            } else {
                bytes = (0..prng.below(200)).map(|_| prng.next_u64() as u8).collect();
                if let Some(first) = bytes.first_mut() {
                    *first = [20, 21, 22, 23, *first][prng.below(5) as usize];
                }
            }
            if !bytes.is_empty() && prng.chance(1, 3) {
                let at = prng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << prng.below(8);
            }
            let room = pair.client.room();
            let count = bytes.len().min(room.len());
            room[..count].copy_from_slice(&bytes[..count]);
            pair.client.received(count);
            let waiting = pair.client.plaintext().len();
            pair.client.consume(waiting);
            pair.client.write(b"x");
        }
    }
}

#[test]
fn a_message_larger_than_the_buffer() {
    let us = identity(AUTHORITY, None, "127.0.0.1");
    let mut client = TlsClient::new(None);
    client.begin(&us);
    client.advance();
    client.sent(client.ciphertext().len());
    // A ServerHello of 60,000 bytes, in records of 16,384: it never ends within the buffer.
    let mut bytes = vec![];
    let mut body = vec![2, 0, 0xea, 0x60];
    body.resize(60_004, 0);
    for part in body.chunks(16_384) {
        bytes.extend_from_slice(&[22, 3, 3, (part.len() >> 8) as u8, part.len() as u8]);
        bytes.extend_from_slice(part);
    }
    let mut rest = &bytes[..];
    while client.state() == TlsState::Handshake && !rest.is_empty() {
        let room = client.room();
        let count = rest.len().min(room.len());
        room[..count].copy_from_slice(&rest[..count]);
        client.received(count);
        rest = &rest[count..];
        client.advance();
    }
    assert_eq!(client.state(), TlsState::Failed);
    assert!(client.error().contains("larger"), "{}", client.error());
}
