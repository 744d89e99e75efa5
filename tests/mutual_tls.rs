//! The admin port of the real binary with `--identity`: who is let in, who is not, and rotations.
//!
//! In: identities by `serval identity --out`, a TLS client of another make (rustls' buffered one).
//! Out: answers to the controller's certificate, none to any other peer, and no gap.

#![allow(clippy::disallowed_methods, reason = "tests have files and clocks of their own")]

#[path = "support/any_certificate.rs"]
mod any_certificate;
#[path = "support/folder.rs"]
mod folder;
#[path = "router/harness.rs"]
mod harness;
#[path = "support/process.rs"]
mod process;

use any_certificate::AnyCertificate;
use folder::Folder;
use harness::{free_port, wait_for};
use process::{Process, SERVAL};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Makes or renews identities in a folder.
fn identity(out: &Path) -> String {
    let made = Command::new(SERVAL).args(["identity", "--out"]).arg(out).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap()
}

struct Router {
    port: u16,
    health: u16,
    process: Process,
}

fn router(identity: &Path) -> Router {
    let (port, health) = (free_port(), free_port());
    let process = Process::start(&[
        "router",
        "--admin",
        &format!("127.0.0.1:{port}"),
        "--health",
        &format!("127.0.0.1:{health}"),
        "--identity",
        identity.to_str().unwrap(),
    ]);
    wait_for("the port", || TcpStream::connect(("127.0.0.1", health)).is_ok());
    Router { port, health, process }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A connection with this identity's certificate (None: without one), handshake done.
fn connect(port: u16, own: Option<&Path>) -> std::io::Result<Stream> {
    let provider = rustls::crypto::ring::default_provider();
    let builder = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)));
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(folder) => {
            let chain = CertificateDer::pem_file_iter(folder.join("tls.crt")).unwrap();
            let key = PrivateKeyDer::from_pem_file(folder.join("tls.key")).unwrap();
            builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
        }
    };
    let name = ServerName::try_from("serval-router").unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(harness::DEADLINE))?;
    while client.is_handshaking() {
        client.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(client, socket))
}

/// What a request is answered with; an error when the connection ends before.
fn ask(stream: &mut Stream, request: &str, body: &[u8]) -> std::io::Result<String> {
    let len = body.len();
    write!(stream, "{request} HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n")?;
    stream.write_all(body)?;
    stream.flush()?;
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&seen).to_string();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let len = head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).unwrap();
            if body.len() >= len.parse().unwrap() {
                return Ok(text);
            }
        }
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            len => seen.extend(&piece[..len]),
        }
    }
}

fn status(port: u16, own: Option<&Path>) -> std::io::Result<String> {
    ask(&mut connect(port, own)?, "GET /status", b"")
}

fn metric(router: &Router, name: &str) -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", router.health)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).expect(name);
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The certificate that a connection was shown.
fn shown(stream: &Stream) -> CertificateDer<'static> {
    stream.conn.peer_certificates().expect("certificates")[0].clone().into_owned()
}

#[test]
fn only_the_controllers_certificate_opens_the_port() {
    let (ours, theirs) = (Folder::new("mtls-ours"), Folder::new("mtls-theirs"));
    assert_eq!(identity(&ours.0).lines().count(), 3);
    assert_eq!(identity(&ours.0), "nothing is due\n");
    identity(&theirs.0);
    let mut router = router(&ours.0.join("serval-router"));

    let controller = ours.0.join("serval-controller");
    let answer = status(router.port, Some(&controller)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"boot_id\""), "{answer}");
    let before = metric(&router, "serval_router_admin_refused_total");
    let others = [
        None,
        Some(ours.0.join("serval-router")),
        Some(theirs.0.join("serval-controller")),
        Some(ours.0.join("serval-authority")),
    ];
    for other in &others {
        let refused = status(router.port, other.as_deref()).unwrap_err();
        assert!(!refused.to_string().is_empty(), "{other:?}");
    }
    // Plain HTTP is no way in: not a byte of an answer but TLS's alert.
    let mut plain = TcpStream::connect(("127.0.0.1", router.port)).unwrap();
    plain.write_all(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut seen = Vec::new();
    let _ = plain.read_to_end(&mut seen);
    assert!(seen.len() <= 7 && !seen.starts_with(b"HTTP"), "{seen:?}");

    wait_for("all counted", || metric(&router, "serval_router_admin_refused_total") == before + 5);
    assert!(router.process.logs("a peer is refused: "));
    let year = 365 * 24 * 3600;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let until = metric(&router, "serval_identity_valid_until_seconds");
    assert!((now + year - 60..=now + year).contains(&until), "{until}");
    assert!(router.process.runs());
    assert_eq!(router.process.end(), Some(0));
}

/// Megabytes of body in, in records as they come; then the next request on the same connection.
#[test]
fn large_bodies_and_kept_connections() {
    let folder = Folder::new("mtls-large");
    identity(&folder.0);
    let router = router(&folder.0.join("serval-router"));
    let mut stream = connect(router.port, Some(&folder.0.join("serval-controller"))).unwrap();
    let body = format!("{{\"x\":\"{}\"}}\n", "y".repeat(60_000));
    for _ in 0..3 {
        let answer = ask(&mut stream, "GET /limits", b"").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.len() > 10_000);
    }
    let answer = ask(&mut stream, "POST /routes/update", body.as_bytes()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(router.process.end(), Some(0));
}

/// Whoever says nothing, or half a handshake, keeps nobody out.
#[test]
fn silent_peers_make_way() {
    let folder = Folder::new("mtls-silent");
    identity(&folder.0);
    let mut router = router(&folder.0.join("serval-router"));
    let controller = folder.0.join("serval-controller");
    let mut silent = Vec::new();
    for round in 0..5 {
        for _ in 0..20 {
            let mut peer = TcpStream::connect(("127.0.0.1", router.port)).unwrap();
            let _ = peer.write_all(&[22, 3, 1, 2, 0, 1]);
            silent.push(peer);
        }
        let begun = Instant::now();
        status(router.port, Some(&controller)).unwrap_or_else(|e| panic!("round {round}: {e}"));
        assert!(begun.elapsed() < Duration::from_secs(2), "round {round}: {:?}", begun.elapsed());
    }
    assert!(router.process.runs());
    assert_eq!(router.process.end(), Some(0));
}

/// A new certificate is shown soon; connections from before go on; a pair that does not fit leaves
/// the old one; no request fails.
#[test]
fn rotation_without_a_gap() {
    let (folder, other) = (Folder::new("mtls-rotation"), Folder::new("mtls-other"));
    identity(&folder.0);
    identity(&other.0);
    let mut router = router(&folder.0.join("serval-router"));
    let controller = folder.0.join("serval-controller");
    let mut kept = connect(router.port, Some(&controller)).unwrap();
    let first = shown(&kept);

    // Of another CA: its key does not fit our certificate.
    let key = folder.0.join("serval-router/tls.key");
    std::fs::copy(other.0.join("serval-router/tls.key"), &key).unwrap();
    wait_for("said", || {
        status(router.port, Some(&controller)).unwrap();
        ask(&mut kept, "GET /status", b"").unwrap();
        router.process.logs("the old one stays: ")
    });
    assert_eq!(shown(&connect(router.port, Some(&controller)).unwrap()), first);
    // The tool repairs it.
    assert!(identity(&folder.0).starts_with("serval-router: new, valid until "));
    wait_for("the new certificate", || {
        let mut stream = connect(router.port, Some(&controller)).unwrap();
        ask(&mut stream, "GET /status", b"").unwrap();
        ask(&mut kept, "GET /status", b"").unwrap();
        shown(&stream) != first
    });
    for _ in 0..20 {
        std::fs::remove_dir_all(folder.0.join("serval-router")).unwrap();
        identity(&folder.0);
        std::thread::sleep(Duration::from_millis(50));
        status(router.port, Some(&controller)).unwrap();
    }
    assert!(router.process.runs());
    assert_eq!(router.process.end(), Some(0));
}

#[test]
fn what_is_wrong_with_an_identity_is_said_at_start() {
    let folder = Folder::new("mtls-wrong");
    identity(&folder.0);
    let path = folder.0.join("serval-router");
    let run = |path: &Path| {
        let port = format!("127.0.0.1:{}", free_port());
        let arguments = ["router", "--admin", &port, "--identity", path.to_str().unwrap()];
        let out = Command::new(SERVAL).args(arguments).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).to_string())
    };
    let (code, text) = run(&folder.0);
    assert!(code == Some(69) && text.contains("no such file") && text.contains("ca.crt"), "{text}");
    std::fs::write(path.join("tls.crt"), "nonsense").unwrap();
    let (code, text) = run(&path);
    assert!(code == Some(69) && text.contains("tls.crt: no CERTIFICATE block"), "{text}");
    let out = Command::new(SERVAL).args(["router", "--admin", "192.0.2.1:9901"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(64) && text.contains("an identity is needed"), "{text}");
}
