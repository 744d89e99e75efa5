//! HTTPS listeners on the real binary and real sockets, with a TLS client of another make (rustls'
//! buffered one) beside.
//!
//! In: manifests with certificates, edits of them. Out: which certificate is shown for which name,
//! what is answered, what `serval check` says of bad pairs.

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
use harness::{echo, free_port, wait_for};
use process::{Process, SERVAL};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const SERVER: &str = include_str!("data/tls/server.crt");
const SERVER_KEY: &str = include_str!("data/tls/server.key");
const CLIENT: &str = include_str!("data/tls/client.crt");
const CLIENT_KEY: &str = include_str!("data/tls/client.key");

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A TLS connection with this server name, handshake done; or what went wrong.
fn connect(port: u16, name: &str) -> Result<Stream, String> {
    let provider = rustls::crypto::ring::default_provider();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from(name.to_string()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
    socket.set_read_timeout(Some(harness::DEADLINE)).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut socket).map_err(|error| error.to_string())?;
    }
    Ok(StreamOwned::new(client, socket))
}

/// The PEM whose leaf a connection was shown.
fn shown(stream: &Stream) -> &'static str {
    use rustls::pki_types::pem::PemObject;
    let leaf = &stream.conn.peer_certificates().expect("certificates")[0];
    [SERVER, CLIENT]
        .into_iter()
        .find(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap() == *leaf)
        .expect("one of ours")
}

fn ask(stream: &mut Stream, host: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream.flush().unwrap();
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let head_len = seen.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head_len) = head_len {
            let head = String::from_utf8_lossy(&seen[..head_len]).to_string();
            let status = head[9..12].parse().unwrap();
            let len = head.lines().find_map(|l| l.strip_prefix("Content-Length: "));
            let len: usize = len.map_or(0, |l| l.trim().parse().unwrap());
            if seen.len() >= head_len + len {
                return (status, seen[head_len..head_len + len].to_vec());
            }
        }
        let len = stream.read(&mut piece).expect("an answer");
        assert!(len > 0, "the connection ended: {}", String::from_utf8_lossy(&seen));
        seen.extend(&piece[..len]);
    }
}

fn indented(pem: &str) -> String {
    pem.lines().map(|line| format!("    {line}\n")).collect()
}

fn secret(name: &str, chain: &str, key: &str) -> String {
    let (chain, key) = (indented(chain), indented(key));
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\n\
         stringData:\n  tls.crt: |\n{chain}  tls.key: |\n{key}---\n"
    )
}

/// A Gateway with HTTPS listeners (name, hostname, Secret) on one port, and a route to a backend.
fn gateway(port: u16, listeners: &[(&str, &str, &str)], backend: SocketAddr) -> String {
    let mut text = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\n\
                    metadata: {name: serval}\n\
                    spec: {controllerName: serval.dev/gateway-controller}\n---\n\
                    apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
                    metadata: {name: gw}\nspec:\n  gatewayClassName: serval\n\
                    \x20 addresses: [{value: 127.0.0.1}]\n  listeners:\n"
        .to_string();
    for (name, hostname, secret) in listeners {
        text += &format!(
            "  - name: {name}\n    port: {port}\n    protocol: HTTPS\n    hostname: {hostname}\n\
             \x20   tls: {{certificateRefs: [{{name: {secret}}}]}}\n"
        );
    }
    let port = backend.port();
    text + &format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\n\
         spec:\n  parentRefs: [{{name: gw}}]\n  rules:\n  - backendRefs: [{{name: b, port: 80}}]\n\
         ---\napiVersion: v1\nkind: Service\nmetadata: {{name: b}}\nspec: {{ports: [{{port: 80}}]}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: b, labels: {{kubernetes.io/service-name: b}}}}\naddressType: IPv4\n\
         ports: [{{port: {port}}}]\nendpoints: [{{addresses: [127.0.0.1]}}]\n---\n"
    )
}

fn start(folder: &Folder, port: u16, more: &[&str]) -> (Process, u16) {
    let admin = free_port();
    let at = format!("127.0.0.1:{admin}");
    let own = ["run", "--manifests", folder.path(), "--admin", &at];
    let mut process = Process::start(&[&own, more].concat());
    wait_for("serval listens", || {
        process.runs() && TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    (process, admin)
}

/// What serval's own admin port answers.
fn admin(port: u16, path: &str) -> String {
    let mut client = harness::Client::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    client.get(path).text().to_string()
}

#[test]
fn requests_over_tls_by_server_name() {
    let (folder, port) = (Folder::new("names"), free_port());
    let listeners = [("a", "localhost", "one"), ("b", "'*.example.com'", "two")];
    folder.write("a.yaml", &gateway(port, &listeners, echo("red")));
    let secrets = secret("one", SERVER, SERVER_KEY) + &secret("two", CLIENT, CLIENT_KEY);
    folder.write("b.yaml", &secrets);
    let (process, admin_port) = start(&folder, port, &[]);
    let mut one = connect(port, "localhost").unwrap();
    assert_eq!((shown(&one) == SERVER, one.conn.alpn_protocol()), (true, Some(&b"http/1.1"[..])));
    for size in [0, 1, 20_000, 300_000] {
        let body: Vec<u8> = (0..size).map(|i| (i * 31) as u8).collect();
        let (status, answer) = ask(&mut one, "localhost", "/x", &body);
        assert_eq!(status, 200);
        assert!(answer.ends_with(&body[body.len().saturating_sub(1000)..]), "{size}");
    }
    // Another listener has that host: its certificate was not shown. No listener has this one.
    assert_eq!(ask(&mut one, "a.example.com", "/", b"").0, 421);
    assert_eq!(ask(&mut one, "nobody.org", "/", b"").0, 404);
    assert_eq!(ask(&mut one, "localhost", "/", b"").0, 200, "the connection goes on");
    let two = connect(port, "a.example.com").unwrap();
    assert!(shown(&two) == CLIENT);
    let error = connect(port, "nobody.org").map(|_| ()).unwrap_err();
    assert!(error.contains("UnrecognisedName"), "{error}");
    let mut plain = TcpStream::connect(("127.0.0.1", port)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let ended = plain.read_to_end(&mut rest);
    assert!(
        rest.is_empty() && ended.map_or_else(|e| e.kind() == ErrorKind::ConnectionReset, |_| true)
    );
    // The key is nowhere to be seen.
    for page in ["/config", "/status", "/metrics", "/limits"] {
        let text = admin(admin_port, page);
        let key = SERVER_KEY.lines().nth(1).unwrap();
        assert!(!text.contains(key) && !text.contains("PRIVATE"), "{page}");
    }
    assert!(admin(admin_port, "/config").contains("BEGIN CERTIFICATE"));
    assert!(!process.logs("PRIVATE"));
    assert_eq!(process.end(), Some(0));
}

/// A rotation reaches new connections; old ones go on; a bad pair changes nothing and says so.
#[test]
fn certificates_rotate_and_a_bad_one_changes_nothing() {
    let (folder, port) = (Folder::new("rotation"), free_port());
    folder.write("a.yaml", &gateway(port, &[("a", "localhost", "one")], echo("red")));
    folder.write("b.yaml", &secret("one", SERVER, SERVER_KEY));
    let (process, _) = start(&folder, port, &[]);
    let mut old = connect(port, "localhost").unwrap();
    assert!(shown(&old) == SERVER);
    folder.write("b.yaml", &secret("one", CLIENT, CLIENT_KEY));
    wait_for("the new certificate is shown", || {
        shown(&connect(port, "localhost").unwrap()) == CLIENT
    });
    assert_eq!(ask(&mut old, "localhost", "/", b"x").0, 200, "the old connection goes on");
    folder.write("b.yaml", &secret("one", SERVER, CLIENT_KEY));
    // Something else that changes with the same edit tells that it was read.
    folder.write("a.yaml", &gateway(port, &[("a", "localhost", "one")], echo("blue")));
    let who = || {
        let mut stream = connect(port, "localhost").unwrap();
        assert!(shown(&stream) == CLIENT, "the last good one stays");
        String::from_utf8(ask(&mut stream, "localhost", "/", b"").1).unwrap()
    };
    wait_for("the edit is live", || who().starts_with("blue"));
    assert_eq!(process.end(), Some(0));
}

#[test]
fn check_says_what_is_wrong_with_a_pair() {
    let backend = SocketAddr::from(([127, 0, 0, 1], 9));
    let cases = [
        (secret("one", SERVER, SERVER_KEY), "all references resolve", 0),
        (secret("one", SERVER, CLIENT_KEY), "has a key that is not the certificate's", 1),
        (secret("one", "nothing", SERVER_KEY), "is not base64 of PEM", 1),
        (secret("other", SERVER, SERVER_KEY), "is not there, or not of type kubernetes.io/tls", 1),
    ];
    for (number, (secret, expected, code)) in cases.into_iter().enumerate() {
        let folder = Folder::new(&format!("check{number}"));
        folder.write("a.yaml", &gateway(8443, &[("a", "localhost", "one")], backend));
        folder.write("b.yaml", &secret);
        let done =
            Command::new(SERVAL).args(["check", "--manifests", folder.path()]).output().unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        assert!(said.contains(expected), "{expected}: {said}");
        assert_eq!(done.status.code(), Some(code), "{said}");
        assert!(!said.contains("PRIVATE"));
    }
}

/// One more than there are slots is refused, and served once another is gone; hellos that stop
/// half way, garbage and cuts take no slot for good.
#[test]
fn slots_come_back() {
    let (folder, port) = (Folder::new("slots"), free_port());
    folder.write("a.yaml", &gateway(port, &[("a", "localhost", "one")], echo("red")));
    folder.write("b.yaml", &secret("one", SERVER, SERVER_KEY));
    let flags = ["--max-tls-connections", "4", "--max-workers", "1"];
    let (mut process, _) = start(&folder, port, &flags);
    let mut held: Vec<_> = (0..4).map(|_| connect(port, "localhost").unwrap()).collect();
    assert!(connect(port, "localhost").is_err(), "no slot is left");
    held.pop();
    wait_for("a slot is free again", || connect(port, "localhost").is_ok());
    drop(held);
    let mut hello = Vec::new();
    let name = ServerName::try_from("localhost").unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    client.write_tls(&mut hello).unwrap();
    for cut in (0..hello.len()).step_by(7) {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.write_all(&hello[..cut]).unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut bad = hello.clone();
        bad[cut] ^= 0x55;
        socket.write_all(&bad).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let _ = socket.read(&mut [0; 100]);
    }
    wait_for("all slots are free again", || {
        process.runs();
        let held: Vec<_> = (0..4).map(|_| connect(port, "localhost")).collect();
        held.iter().all(Result::is_ok)
    });
    assert!(!process.logs("slot not empty"));
    assert_eq!(process.end(), Some(0));
}
