//! The data plane on real sockets: mio driver, worker, ConfigStorage; clients and backends are
//! threads with a reader of their own.

#![allow(clippy::disallowed_methods, reason = "tests have threads and clocks of their own")]

#[path = "router/harness.rs"]
mod harness;

use harness::building::{self, MatchSpec};
use harness::{Client, Router, backend, echo, free_port, plain, wait_for};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::spawn;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Bytes that tell where they are from.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn keep_alive_and_pipelining() {
    let router = Router::start(1, plain(&[echo("a")]));
    let mut client = router.connect();
    for n in 0..50 {
        let response = client.get(&format!("/{n}"));
        assert_eq!(response.text(), format!("a GET /{n} HTTP/1.1\n"));
    }
    let requests: String =
        (0..50).map(|n| format!("GET /p{n} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    client.send(requests);
    for n in 0..50 {
        assert_eq!(client.response().text(), format!("a GET /p{n} HTTP/1.1\n"));
    }
    assert_eq!(router.counter("connects"), 1);
    drop(client);
    router.finish();
}

#[test]
fn bodies_of_a_mebibyte_both_ways() {
    let router = Router::start(1, plain(&[echo("a")]));
    let mut client = router.connect();
    for len in [0, 1, 16_384, 64_239, 64_240, 64_241, 1 << 20] {
        let body = pattern(len);
        let head = format!("POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: {len}\r\n\r\n");
        client.send([head.as_bytes(), &body].concat());
        assert!(client.response().body.ends_with(&body), "{len}");
        // The same in chunks of sizes that do not fit any buffer.
        client.send("POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in body.chunks(10_007) {
            let open = format!("{:X};x=y\r\n", piece.len());
            client.send([open.as_bytes(), piece, b"\r\n"].concat());
        }
        client.send("0\r\nTrailer: x\r\n\r\n");
        assert!(client.response().body.ends_with(&body), "{len} chunked");
    }
    drop(client);
    router.finish();
}

#[test]
fn responses_in_chunks_and_until_close() {
    let body = pattern(300_000);
    let sent = body.clone();
    let address = backend(move |mut client, _| {
        while let Some(request) = client.message(false) {
            if request.head.starts_with("GET /close ") {
                client.send("HTTP/1.1 200 OK\r\n\r\n");
                client.send(&sent);
                return;
            }
            client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in sent.chunks(12_345) {
                let open = format!("{:x}\r\n", piece.len());
                client.send([open.as_bytes(), piece, b"\r\n"].concat());
            }
            client.send("0\r\n\r\n");
        }
    });
    let router = Router::start(1, plain(&[address]));
    let mut client = router.connect();
    for path in ["/chunked", "/close", "/chunked", "/close"] {
        let response = client.get(path);
        assert_eq!(response.field("Transfer-Encoding"), Some("chunked"));
        assert!(response.body == body, "{path}");
    }
    // HTTP/1.0: until the end of the connection.
    client.send("GET /chunked HTTP/1.0\r\nHost: h\r\n\r\n");
    let response = client.response();
    assert_eq!(response.field("Transfer-Encoding"), None);
    assert!(response.body == body && client.at_end());
    drop(client);
    router.finish();
}

/// A client that reads nothing stops its backend, not the others.
#[test]
fn a_slow_reader() {
    let body = pattern(8 << 20);
    let sent = body.clone();
    let written = Arc::new(AtomicUsize::new(0));
    let progress = Arc::clone(&written);
    let slow = backend(move |mut client, _| {
        client.message(false);
        client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len()));
        for piece in sent.chunks(1 << 14) {
            client.send(piece);
            progress.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    let quick = echo("quick");
    let router = Router::start(1, |s, port| {
        let bind = building::bind(s, SocketAddr::from(([127, 0, 0, 1], port)));
        let listener = building::listener(s, "", port, &[bind]);
        let pools = [building::pool(s, "slow", &[slow]), building::pool(s, "quick", &[quick])];
        for (path, pool) in ["/slow", "/quick"].into_iter().zip(pools) {
            let matches = [MatchSpec::prefix(path)];
            building::route(s, path, &[(listener, "")], &matches, &[(pool, 1)]);
        }
    });
    let mut reader = router.connect();
    reader.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut other = router.connect();
    // Until the sockets are full; meanwhile others are served.
    let mut before = usize::MAX;
    wait_for("back-pressure", || {
        (0..200).for_each(|_| assert_eq!(other.get("/quick").status(), 200));
        let now = written.load(Ordering::SeqCst);
        now > 0 && std::mem::replace(&mut before, now) == now
    });
    assert!(before < 6 << 20, "{before} bytes are somewhere");
    assert!(reader.response().body == body);
    drop((reader, other));
    router.finish();
}

/// A backend that closes a kept connection just as a request comes: one replay, no error.
#[test]
fn a_backend_that_closes_kept_connections() {
    let address = backend(|mut client, _| {
        // One answer; the second request is read and never answered.
        client.message(false);
        client.send(OK);
        client.message(false);
    });
    let router = Router::start(1, plain(&[address]));
    let mut client = router.connect();
    for n in 0..20 {
        assert_eq!(client.get(&format!("/{n}")).text(), "ok");
    }
    assert!(router.counter("replays") >= 18, "{}", router.counter("replays"));
    // What is not idempotent is not sent twice.
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status(), 502);
    drop(client);
    router.finish();
}

#[test]
fn a_backend_that_dies_in_mid_body() {
    for head in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let address = backend(move |mut client, _| {
            client.message(false);
            client.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n"));
        });
        let router = Router::start(1, plain(&[address]));
        let mut client = router.connect();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.message(false), None, "never taken for complete");
        wait_for("the count", || router.counter("truncated") == 1);
        router.finish();
    }
}

#[test]
fn head_and_expect_continue() {
    let address = backend(|mut client, _| {
        while let Some(head) = client.head() {
            if head.head.starts_with("HEAD ") {
                client.send("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n");
                continue;
            }
            assert_eq!(head.field("Expect"), Some("100-continue"));
            if head.head.starts_with("PUT /no ") {
                client.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            client.send("HTTP/1.1 100 Continue\r\n\r\n");
            let mut body = [0; 5];
            client.stream.read_exact(&mut body).unwrap();
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
            client.send(body);
        }
    });
    let router = Router::start(1, plain(&[address]));
    let mut client = router.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.message(true).unwrap().field("Content-Length"), Some("12345"));
    let expect = "Host: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    client.send(format!("PUT /yes HTTP/1.1\r\n{expect}"));
    assert_eq!(client.response().status(), 100);
    client.send("hello");
    assert_eq!(client.response().text(), "hello");
    client.send(format!("PUT /no HTTP/1.1\r\n{expect}"));
    let refusal = client.response();
    assert_eq!(refusal.status(), 403);
    assert_eq!(refusal.field("Connection"), Some("close"));
    assert!(client.at_end());
    drop(client);
    router.finish();
}

/// Trailers from a client through the router to a backend, and the backend's back.
#[test]
fn trailers() {
    let address = backend(|mut client, _| {
        let request = client.head().expect("a request");
        assert_eq!(request.field("Trailer"), Some("X-Sum"));
        let mut read = client.rest().into_bytes();
        while !read.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.stream.read_exact(&mut byte).unwrap();
            read.push(byte[0]);
        }
        let got = String::from_utf8(read).unwrap();
        assert!(got.ends_with("\r\n0\r\nX-Sum: 5\r\n\r\n"), "{got}");
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n");
        client.send("X-Status: 0\r\nSet-Cookie: a=b\r\n\r\n");
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let router = Router::start(1, plain(&[address]));
    let mut client = router.connect();
    let fields = "Host: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nConnection: close\r\n";
    client.send(format!("POST / HTTP/1.1\r\n{fields}\r\n5\r\nhello\r\n"));
    client.send("0\r\nX-Sum: 5\r\nAuthorization: none\r\n");
    client.send("\r\n");
    assert_eq!(client.head().expect("an answer").status(), 200);
    let mut rest = String::new();
    client.stream.read_to_string(&mut rest).unwrap();
    let rest = client.rest() + &rest;
    assert!(rest.ends_with("ok\r\n0\r\nX-Status: 0\r\n\r\n"), "{rest}");
    drop(client);
    router.finish();
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\n";

/// A megabyte through a WebSocket and back, written while nobody reads: both ways are full at
/// once. Then the client's end reaches the backend, and the backend's the client.
#[test]
fn websocket() {
    let ended = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&ended);
    let echo = backend(move |mut client, _| {
        let request = client.head().expect("a request");
        assert_eq!(request.field("Upgrade"), Some("websocket"));
        assert_eq!(request.field("Connection"), Some("Upgrade"));
        client.send(SWITCH);
        let (mut read, mut write) = (client.stream.try_clone().unwrap(), client.stream);
        assert!(std::io::copy(&mut read, &mut write).is_ok());
        seen.fetch_add(1, Ordering::SeqCst);
    });
    let router = Router::start(1, plain(&[echo]));
    let mut client = router.connect();
    let fields = "Host: h\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n";
    client.send(format!("GET /ws HTTP/1.1\r\n{fields}\r\n"));
    let answer = client.head().expect("an answer");
    assert_eq!((answer.status(), answer.field("Sec-WebSocket-Accept")), (101, Some("a")));
    assert_eq!(answer.field("Upgrade"), Some("websocket"));
    let sent = pattern(1 << 20);
    let (mut writer, bytes) = (client.stream.try_clone().unwrap(), sent.clone());
    let writes = spawn(move || {
        writer.write_all(&bytes).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    client.stream.read_to_end(&mut got).unwrap();
    assert!(got == sent, "{} of {} bytes came back", got.len(), sent.len());
    writes.join().unwrap();
    wait_for("the backend's end", || ended.load(Ordering::SeqCst) == 1);
    assert_eq!((router.counter("tunnels"), router.counter("truncated")), (1, 0));
    router.finish();
}

#[test]
fn timeouts_of_the_route() {
    let silent = backend(|mut client, _| {
        client.message(false);
        client.message(false);
    });
    let router = Router::start(1, |s, port| {
        plain(&[silent])(s, port);
        s.routes.as_mut_slice()[0].request_timeout_ms = 150;
    });
    let mut client = router.connect();
    for _ in 0..3 {
        let begun = std::time::Instant::now();
        assert_eq!(client.get("/").status(), 504);
        let took = begun.elapsed().as_millis();
        assert!((150..2_000).contains(&took), "{took} ms");
    }
    drop(client);
    router.finish();
}

#[test]
fn endpoints_that_refuse() {
    let gone = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let router = Router::start(1, plain(&[gone]));
    let mut client = router.connect();
    assert_eq!(client.get("/").status(), 503);
    drop(router);
    let router = Router::start(1, plain(&[gone, echo("a"), gone]));
    let mut client = router.connect();
    for _ in 0..50 {
        assert_eq!(client.get("/").status(), 200);
    }
    drop(client);
    router.finish();
}

/// Load: requests over kept and new connections, with and without a body, until told to stop.
fn load(address: SocketAddr, stop: Arc<AtomicBool>, kept: bool) -> usize {
    let mut client = Client::connect(address);
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        if !kept {
            client = Client::connect(address);
        }
        let (expected, request) = if count % 2 == 0 {
            ("", format!("GET /{count} HTTP/1.1\r\nHost: h\r\n\r\n"))
        } else {
            ("body", format!("POST /{count} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"))
        };
        client.send(request);
        let response = client.response();
        assert_eq!(response.status(), 200, "{}", response.head);
        let name = &response.text()[..1];
        assert!(name == "a" || name == "b");
        let line = format!("/{count} HTTP/1.1\n{expected}");
        assert!(response.text().ends_with(&line), "{}", response.text());
        count += 1;
    }
    count
}

/// 200 swaps under load, each to the other pool: no request fails, each is answered by one of two.
#[test]
fn swaps_under_load() {
    let backends = [echo("a"), echo("b")];
    let mut router = Router::start(2, plain(&backends[..1]));
    let port = router.port;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = [true, false, true, false]
        .into_iter()
        .map(|kept| {
            let (stop, address) = (Arc::clone(&stop), router.address());
            spawn(move || load(address, stop, kept))
        })
        .collect();
    for n in 1..=200 {
        let now = &backends[n % 2..=n % 2];
        router.swap(|s| plain(now)(s, port));
        // Each generation sees requests.
        let before = router.counter("requests");
        wait_for("requests", || router.counter("requests") > before + 5);
    }
    stop.store(true, Ordering::Relaxed);
    let count: usize = clients.into_iter().map(|c| c.join().unwrap()).sum();
    assert!(count >= 1_000, "{count}");
    assert_eq!(router.counter("responses_5xx") + router.counter("responses_4xx"), 0);
    router.finish();
}

#[test]
fn a_removed_bind_closes_and_a_new_one_opens() {
    let address = echo("a");
    let mut router = Router::start(2, plain(&[address]));
    let old = router.address();
    let mut kept = router.connect();
    assert_eq!(kept.get("/").status(), 200);
    router.port = free_port();
    let port = router.port;
    router.swap(|s| plain(&[address])(s, port));
    assert_eq!(router.connect().get("/").status(), 200);
    wait_for("the old port is closed", || TcpStream::connect(old).is_err());
    let response = kept.get("/");
    assert_eq!((response.status(), response.field("Connection")), (404, Some("close")));
    assert!(kept.at_end());
    drop(kept);
    router.finish();
}

#[test]
fn a_bind_that_is_taken_is_reported_and_retried() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = taken.local_addr().unwrap();
    let address = echo("a");
    let router = Router::start(1, |s, port| {
        plain(&[address])(s, port);
        building::bind(s, other);
    });
    let status = router.controls[0].status();
    assert_eq!(status.bind(0), Ok(()));
    assert_eq!(status.bind(1).unwrap_err().0, 98);
    assert_eq!(router.connect().get("/").status(), 200);
    drop(taken);
    wait_for("the retry", || status.bind(1).is_ok());
    router.finish();
}

#[test]
fn drain_finishes_what_runs() {
    let (told, hears) = std::sync::mpsc::channel();
    let hears = std::sync::Mutex::new(hears);
    let address = backend(move |mut client, _| {
        while client.message(false).is_some() {
            hears.lock().unwrap().recv().unwrap();
            client.send(OK);
        }
    });
    let router = Router::start(1, plain(&[address]));
    let mut running = router.connect();
    running.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    wait_for("the request is out", || router.counter("upstream_bytes_out") > 0);
    router.controls[0].drain();
    wait_for("nothing is accepted", || TcpStream::connect(router.address()).is_err());
    told.send(()).unwrap();
    let response = running.response();
    assert_eq!((response.text(), response.field("Connection")), ("ok", Some("close")));
    assert!(running.at_end());
    drop(running);
    router.finish();
}

/// More clients than there are slots: those that do not fit wait in the backlog, then are served.
#[test]
fn more_clients_than_slots() {
    let router = Router::sized(1, 16, 16, plain(&[echo("a")]));
    let mut clients: Vec<_> = (0..40).map(|_| router.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    }
    for mut client in clients {
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(router.counter("accepted"), 40);
    router.finish();
}

/// Slow heads take all buffers; an honest client is served nevertheless.
#[test]
fn slow_heads_cannot_hold_all_buffers() {
    let router = Router::sized(1, 256, 16, plain(&[echo("a")]));
    let mut slow: Vec<_> = (0..40).map(|_| router.connect()).collect();
    slow.iter_mut().for_each(|client| client.send("GET / HT"));
    wait_for("all buffers are taken", || router.counter("exhausted") > 0);
    assert_eq!(router.connect().get("/").status(), 200);
    assert!(router.counter("evictions") > 0);
    drop(slow);
    router.finish();
}

/// curl's own idea of HTTP, when it is here.
#[test]
fn curl_agrees() {
    let Ok(version) = std::process::Command::new("curl").arg("--version").output() else {
        return;
    };
    assert!(version.status.success());
    let router = Router::start(1, plain(&[echo("a")]));
    let file = std::env::temp_dir().join(format!("serval-curl-{}", router.port));
    std::fs::File::create(&file).unwrap().write_all(&pattern(1 << 20)).unwrap();
    let url = format!("http://{}/x", router.address());
    let run = |arguments: &[&str]| {
        let mut curl = std::process::Command::new("curl");
        let out = curl.args(["-sS", "-m", "20"]).args(arguments).arg(&url).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    assert_eq!(run(&[]), b"a GET /x HTTP/1.1\n");
    assert_eq!(run(&["-0"]), b"a GET /x HTTP/1.1\n");
    let upload = format!("@{}", file.display());
    let got = run(&["-X", "POST", "--data-binary", &upload]);
    assert!(got.ends_with(&pattern(1 << 20)));
    let got = run(&["-T", &upload[1..], "-H", "Transfer-Encoding: chunked"]);
    assert!(got.ends_with(&pattern(1 << 20)));
    assert!(run(&["-I"]).starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: "));
    std::fs::remove_file(&file).unwrap();
    router.finish();
}
