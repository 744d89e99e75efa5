//! The watch threads over real sockets against an API server that misbehaves on purpose.
//!
//! The server is the test: it accepts, reads a request, and sends what the script says. No TLS
//! (kubeconfigs may say http:// for this machine only); TLS is tested in src/shell/tls, and with a
//! real API server in tests/kube_client.rs.
#![allow(clippy::disallowed_methods, reason = "tests run before and beside any seal")]

mod kube_support;

use kube_support::Kubernetes;
use serval::kube::kind::Watched;
use serval::limits::MAX_LINE_SIZE_BYTES;
use serval::shell::kube::access::Access;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The server's side: a listener whose connections the test serves by hand.
struct Model {
    listener: TcpListener,
    config: std::path::PathBuf,
}

impl Model {
    fn new(user: &str) -> Model {
        Model::on(TcpListener::bind("127.0.0.1:0").unwrap(), user)
    }

    fn on(listener: TcpListener, user: &str) -> Model {
        let port = listener.local_addr().unwrap().port();
        let config =
            std::env::temp_dir().join(format!("serval-model-{}-{port}", std::process::id()));
        let text = format!(
            "current-context: a\ncontexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n"
        );
        std::fs::write(&config, text).unwrap();
        Model { listener, config }
    }

    fn access(&self) -> Access {
        Access::from_kubeconfig(self.config.to_str().unwrap(), "").unwrap()
    }

    fn accept(&self) -> Connection {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection { stream }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.config);
    }
}

struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// The next request's head.
    fn request(&mut self) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte).expect("a request");
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn chunk(&mut self, text: &str) {
        self.send(&format!("{:x}\r\n{text}\r\n", text.len()));
    }

    /// Answers a WatchList with these objects, then version 10.
    fn serve_state(&mut self, names: &[&str]) {
        let request = self.request();
        assert!(request.contains("sendInitialEvents=true"), "{request}");
        self.send(CHUNKED);
        for name in names {
            self.chunk(&event("ADDED", name, "5"));
        }
        self.chunk(INITIAL_END);
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const INITIAL_END: &str = "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\
    \"10\",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}}}}\n";

fn event(kind: &str, name: &str, version: &str) -> String {
    format!(
        "{{\"type\":\"{kind}\",\"object\":{{\"metadata\":{{\"name\":\"{name}\",\"uid\":\"u\",\
         \"resourceVersion\":\"{version}\"}}}}}}\n"
    )
}

fn answer(status: u16, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} x\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

const KIND: Watched = Watched::Service;

fn start(model: &Model) -> Kubernetes {
    Kubernetes::start(model.access(), &[KIND])
}

#[test]
fn a_watch_cut_in_a_character_goes_on_where_it_was() {
    let model = Model::new("token: t");
    let mut kubernetes = start(&model);
    let mut connection = model.accept();
    connection.serve_state(&["a"]);
    let text = event("ADDED", "ä", "11") + &event("ADDED", "ö", "12");
    let cut = text.rfind('ö').unwrap() + 1;
    // Byte by byte, the last one the first half of a character.
    connection.send(&format!("{:x}\r\n", text.len()));
    for byte in &text.as_bytes()[..cut] {
        connection.stream.write_all(&[*byte]).unwrap();
    }
    kubernetes.until("the whole line", 5, |k| k.state(KIND).objects.contains_key("/ä"));
    drop(connection);
    let mut connection = model.accept();
    let request = connection.request();
    assert!(request.contains("resourceVersion=11") && !request.contains("sendInitial"));
    assert!(request.contains("\r\nAuthorization: Bearer t\r\n"));
    connection.send(CHUNKED);
    connection.chunk(&event("ADDED", "ö", "12"));
    kubernetes.until("the line again", 5, |k| k.state(KIND).objects.contains_key("/ö"));
    assert_eq!(kubernetes.state(KIND).upserts, 3);
}

#[test]
fn deletions_missed_while_disconnected_are_swept() {
    let model = Model::new("token: t");
    let mut kubernetes = start(&model);
    let mut connection = model.accept();
    connection.serve_state(&["a", "b"]);
    kubernetes.until("synced", 5, |k| k.state(KIND).synced);
    connection.chunk("{\"type\":\"ERROR\",\"object\":{\"code\":410,\"reason\":\"Expired\"}}\n");
    drop(connection);
    let mut connection = model.accept();
    // In its place: b and c. Until the end of the state nothing is taken away.
    let request = connection.request();
    assert!(request.contains("resourceVersionMatch=NotOlderThan&resourceVersion=10"));
    connection.send(CHUNKED);
    connection.chunk(&event("ADDED", "b", "5"));
    connection.chunk(&event("ADDED", "c", "6"));
    kubernetes.until("c", 5, |k| k.state(KIND).objects.contains_key("/c"));
    assert!(kubernetes.state(KIND).objects.contains_key("/a"));
    connection.chunk(INITIAL_END);
    kubernetes.until("a swept", 5, |k| !k.state(KIND).objects.contains_key("/a"));
    assert_eq!(kubernetes.state(KIND).objects.len(), 2);
}

#[test]
fn retry_after_is_kept_and_the_watch_is_not_relisted() {
    let model = Model::new("token: t");
    let mut kubernetes = start(&model);
    let mut connection = model.accept();
    connection.serve_state(&[]);
    connection.send("0\r\n\r\n");
    connection.request();
    connection.send(&answer(429, "Retry-After: 2\r\n", "slow down"));
    let began = Instant::now();
    drop(connection);
    let mut connection = model.accept();
    assert!(connection.request().contains("&resourceVersion=10 "));
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
    connection.send(CHUNKED);
    connection.chunk(&event("ADDED", "x", "20"));
    kubernetes.until("x", 5, |k| k.state(KIND).objects.contains_key("/x"));
    assert!(!kubernetes.state(KIND).log.iter().any(|line| line == "begin 2"));
}

#[test]
fn an_oversized_object_is_named_and_passed_by() {
    let model = Model::new("token: t");
    let mut kubernetes = start(&model);
    let mut connection = model.accept();
    connection.serve_state(&["big"]);
    let fill = "x".repeat(4 * MAX_LINE_SIZE_BYTES as usize);
    let big =
        event("MODIFIED", "big", "11").replace("\"uid\"", &format!("\"f\":\"{fill}\",\"uid\""));
    connection.chunk(&big);
    connection.chunk(&event("ADDED", "after", "12"));
    kubernetes.until("after", 5, |k| k.state(KIND).objects.contains_key("/after"));
    let state = kubernetes.state(KIND);
    let expected = format!("skip TooLarge /big {}", big.len() - 1);
    assert!(state.log.contains(&expected), "{:?}", state.log);
    assert!(state.objects.contains_key("/big"), "its last version is kept");
    assert_eq!(kubernetes.feeds[0].counters().skipped.load(Ordering::Relaxed), 1);
}

/// 60 MB of list through buffers of less than 2 MB, with a consumer that sleeps.
#[test]
fn a_huge_list_and_a_slow_consumer() {
    const ITEMS: usize = 15_000;
    let model = Model::new("token: t");
    let mut kubernetes = start(&model);
    let mut connection = model.accept();
    connection.request();
    connection.send(&answer(422, "", "{}"));
    let request = connection.request();
    assert!(request.contains("?limit="), "{request}");
    let server = std::thread::spawn(move || {
        connection.send(CHUNKED);
        connection.chunk("{\"kind\":\"ServiceList\",\"items\":[");
        let fill = "é".repeat(2000);
        for n in 0..ITEMS {
            let comma = if n > 0 { "," } else { "" };
            connection.chunk(&format!(
                "{comma}{{\"metadata\":{{\"name\":\"n{n}\",\"uid\":\"u\"}},\"f\":\"{fill}\"}}"
            ));
        }
        connection.chunk("],\"metadata\":{\"resourceVersion\":\"9\"}}");
        connection.send("0\r\n\r\n");
        assert!(connection.request().contains("&resourceVersion=9 "));
        connection
    });
    // The ring fills, the thread stops reading, TCP pushes back on the server.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!server.is_finished());
    kubernetes.until("all of it", 60, |k| k.state(KIND).synced);
    assert_eq!(kubernetes.state(KIND).objects.len(), ITEMS);
    assert!(kubernetes.feeds[0].counters().ring_full.load(Ordering::Relaxed) > 0);
    let mut connection = server.join().unwrap();
    connection.send(CHUNKED);
    connection.chunk(&event("ADDED", "live", "10"));
    kubernetes.until("live", 5, |k| k.state(KIND).objects.contains_key("/live"));
}

#[test]
fn a_server_that_comes_back_is_found_within_two_seconds() {
    let model = Model::new("token: t");
    let address = model.listener.local_addr().unwrap();
    let mut kubernetes = start(&model);
    let mut connection = model.accept();
    connection.serve_state(&["a"]);
    kubernetes.until("synced", 5, |k| k.state(KIND).synced);
    drop(connection);
    drop(model);
    kubernetes.pass(Duration::from_secs(5));
    let attempts = kubernetes.state(KIND).log.iter().filter(|l| l.contains("Unreachable")).count();
    assert!(attempts >= 4, "{:?}", kubernetes.state(KIND).log);
    assert!(kubernetes.state(KIND).objects.contains_key("/a"), "an outage changes nothing");
    let listener = TcpListener::bind(address).unwrap();
    let began = Instant::now();
    let model = Model::on(listener, "token: t");
    let mut connection = model.accept();
    assert!(began.elapsed() <= Duration::from_millis(2100), "{:?}", began.elapsed());
    assert!(connection.request().contains("&resourceVersion=10 "));
    connection.send(CHUNKED);
    connection.chunk(&event("ADDED", "b", "11"));
    kubernetes.until("b", 5, |k| k.state(KIND).objects.contains_key("/b"));
}

#[test]
fn the_token_file_is_read_again_on_401() {
    let token = std::env::temp_dir().join(format!("serval-model-token-{}", std::process::id()));
    std::fs::write(&token, "old").unwrap();
    let model = Model::new(&format!("tokenFile: {}", token.to_str().unwrap()));
    let mut kubernetes = start(&model);
    let mut connection = model.accept();
    assert!(connection.request().contains("Bearer old\r\n"));
    std::fs::write(&token, "new\n").unwrap();
    connection.send(&answer(401, "", "{\"code\":401}"));
    assert!(connection.request().contains("Bearer new\r\n"));
    connection.send(CHUNKED);
    connection.chunk(INITIAL_END);
    kubernetes.until("synced", 5, |k| k.state(KIND).synced);
    std::fs::remove_file(token).unwrap();
}

#[test]
fn garbage_answers_are_survived() {
    let model = Model::new("token: t");
    let mut kubernetes = start(&model);
    for garbage in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "\0\0\0\0\n\n",
        "",
    ] {
        let mut connection = model.accept();
        connection.request();
        connection.send(garbage);
    }
    let mut connection = model.accept();
    connection.serve_state(&["a"]);
    kubernetes.until("synced", 20, |k| k.state(KIND).synced);
}
