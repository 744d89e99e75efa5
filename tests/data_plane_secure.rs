//! TLS in the data plane on real sockets: records cut anywhere, pools that run out, peers that
//! break off or lie. Clients are rustls' buffered ones, or bytes made by hand.

#![allow(clippy::disallowed_methods, reason = "tests have threads and clocks of their own")]

#[path = "support/any_certificate.rs"]
mod any_certificate;
#[path = "router/harness.rs"]
mod harness;
#[path = "support/tls_client.rs"]
mod tls_client;

use harness::building::{self, MatchSpec};
use harness::{Router, backend, echo, wait_for};
use rustls::ContentType;
use serval::config::snapshot::{Protocol, Snapshot};
use serval::stdx::Prng;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use tls_client::{RawClient, TLS12, TLS13, TlsClient, hello, refusal};

const SERVER: &str = include_str!("data/tls/server.crt");
const SERVER_KEY: &str = include_str!("data/tls/server.key");

/// An HTTPS listener with one route for everything.
fn secure(backend: SocketAddr) -> impl Fn(&mut Snapshot, u16) {
    move |s, port| {
        let bind = building::bind(s, SocketAddr::from(([127, 0, 0, 1], port)));
        s.binds[bind].is_tls = true;
        let certificate = s.add_certificate("ns/c", SERVER, SERVER_KEY).unwrap();
        let start = s.certificate_refs.len();
        s.certificate_refs.push(certificate).unwrap();
        let listener = building::listener(s, "", port, &[bind]);
        s.listeners[listener].protocol = Protocol::Https;
        s.listeners[listener].certificates = s.certificate_refs.span_from(start);
        let pool = building::pool(s, "p", &[backend]);
        building::route(s, "r", &[(listener, "")], &[MatchSpec::prefix("")], &[(pool, 1)]);
    }
}

fn connect(router: &Router) -> TlsClient {
    TlsClient::connect(router.address(), TLS13).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// The router still serves: nothing has brought its worker down.
fn check_alive(router: &Router) {
    let mut client = connect(router);
    client.send(get("/alive"));
    assert_eq!(client.response().status(), 200);
}

/// What a read of a raw connection came to: the end, however it came.
fn wait_for_end(socket: &mut TcpStream) {
    socket.set_read_timeout(Some(harness::DEADLINE)).unwrap();
    let mut piece = [0; 4096];
    while let Ok(len) = socket.read(&mut piece) {
        if len == 0 {
            return;
        }
    }
}

/// A worker that has paused a connection holds one chunk of it already. Two reads brought it
/// another when the first used up the ciphertext at hand exactly.
#[test]
fn a_paused_connection_brings_nothing_more() {
    let (go, gate) = mpsc::channel();
    let gate = std::sync::Mutex::new(gate);
    let slow = backend(move |mut client, _| {
        while let Some(request) = client.message(false) {
            if request.head.starts_with("GET /slow ") {
                gate.lock().unwrap().recv().unwrap();
            }
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let router = Router::secured(16, 16, 4, secure(slow));
    let mut client = connect(&router);
    client.send(get("/slow"));
    wait_for("the request is under way", || router.counter("requests") == 1);
    // While the connection is paused, as much gathers in the socket as one read takes, and more.
    let room = 65_536 - 1024 - serval::limits::IO_BUFFER_TAILROOM_BYTES as usize;
    let total = room - 5 * 22;
    let head = |len: usize| format!("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: {len}\r\n\r\n");
    let nexts = get("/next").repeat(2);
    // Both lengths have five digits.
    let body = total - head(total).len() - nexts.len();
    let all = [head(body).as_bytes(), &vec![b'b'; body], nexts.as_bytes()].concat();
    let mut wire = Vec::new();
    for piece in all[..4 * 12_100].chunks(12_100).chain([&all[4 * 12_100..]]) {
        wire.extend(client.encrypt(piece));
    }
    assert_eq!(wire.len(), room);
    wire.extend(client.encrypt(get("/next").as_bytes()));
    client.send_raw(&wire);
    go.send(()).unwrap();
    for _ in 0..5 {
        assert_eq!(client.response().status(), 200);
    }
    check_alive(&router);
    drop(client);
    router.finish();
}

/// More clients than there are sessions: who rests makes way, is told so, and comes again.
#[test]
fn more_clients_than_sessions() {
    let router = Router::secured(64, 32, 4, secure(echo("a")));
    let mut first: Vec<TlsClient> = (0..4).map(|_| connect(&router)).collect();
    for client in &mut first {
        client.send(get("/first"));
        assert_eq!(client.response().status(), 200);
    }
    std::thread::sleep(std::time::Duration::from_millis(1200));
    for round in 0..8u64 {
        let mut client = connect(&router);
        client.send(get("/more"));
        assert_eq!(client.response().status(), 200, "round {round}");
        assert_eq!(router.counter("idle_evictions"), round.min(3) + 1);
        if round >= 3 {
            // Until then the first four had rested; these have not.
            std::thread::sleep(std::time::Duration::from_millis(1100));
        } else {
            first.push(client);
        }
    }
    assert!(first.iter_mut().take(4).all(TlsClient::at_end), "told by TLS");
    router.finish();
}

/// Records of one byte make a hello longer than any buffer.
#[test]
fn a_hello_of_tiny_records_is_refused() {
    let router = Router::secured(16, 16, 4, secure(echo("a")));
    let mut socket = TcpStream::connect(router.address()).unwrap();
    let mut bytes = vec![22, 3, 1, 0, 4, 1, 0, 0x3f, 0];
    bytes.extend([22, 3, 1, 0, 1, 0].repeat(12_000));
    let _ = socket.write_all(&bytes);
    wait_for_end(&mut socket);
    check_alive(&router);
    router.finish();
}

/// A message of the handshake that no buffer holds: rustls would wait for its end.
#[test]
fn an_endless_handshake_message_is_refused() {
    for version in [TLS12, TLS13] {
        let router = Router::secured(16, 16, 4, secure(echo("a")));
        let mut socket = TcpStream::connect(router.address()).unwrap();
        socket.write_all(&hello(version)).unwrap();
        // ClientKeyExchange, and what it says is its length.
        let mut bytes = vec![22, 3, 3, 0, 4, 16, 0, 0xff, 0xff];
        bytes.extend([&[22, 3, 3, 0x40, 0][..], &[0; 16_384]].concat().repeat(5));
        let _ = socket.write_all(&bytes);
        wait_for_end(&mut socket);
        check_alive(&router);
        router.finish();
    }
}

fn post(path: &str, len: usize) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len}\r\n\r\n");
    [head.as_bytes(), &pattern(len)].concat()
}

/// Bytes that tell where they are from.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// Hellos and Finished over many records, each byte a segment; requests over many records, many in
/// one record; answers of many records.
#[test]
fn records_cut_anywhere() {
    let router = Router::secured(16, 16, 4, secure(echo("a")));
    for version in [TLS12, TLS13] {
        for (fragment, piece) in [(Some(32), 1), (Some(100), 7), (Some(4096), 1000), (None, 1)] {
            let mut client = TlsClient::begin(router.address(), version, fragment).unwrap();
            client.shake(piece).unwrap();
            let sizes = [0, 1, 5_000, 300_000];
            let all: Vec<u8> = sizes.iter().flat_map(|&len| post("/x", len)).collect();
            let records = client.encrypt(&all);
            let mut sender = client.socket.try_clone().unwrap();
            let step = piece.max(100);
            let sending = std::thread::spawn(move || {
                records.chunks(step).for_each(|piece| sender.write_all(piece).unwrap());
            });
            for len in sizes {
                let response = client.response();
                assert!(response.body.ends_with(&pattern(len)), "{fragment:?} {piece} {len}");
            }
            sending.join().unwrap();
            client.send(get("/1") + &get("/2") + &get("/3"));
            for n in 1..4 {
                assert_eq!(client.response().text(), format!("a GET /{n} HTTP/1.1\n"));
            }
        }
    }
    router.finish();
}

/// After each byte of a request the worker has had a turn: it has answered somebody else.
#[test]
fn pauses_inside_records() {
    let router = Router::secured(16, 16, 4, secure(echo("a")));
    let mut other = connect(&router);
    let mut client = TlsClient::begin(router.address(), TLS13, None).unwrap();
    client.shake(50).unwrap();
    for byte in client.encrypt(get("/slow").as_bytes()) {
        client.send_raw(&[byte]);
        other.send(get("/other"));
        assert_eq!(other.response().status(), 200);
    }
    assert_eq!(client.response().text(), "a GET /slow HTTP/1.1\n");
    // New keys, asked for in the same segment as a request, and with every request.
    for n in 0..20 {
        let update = client.key_update();
        let request = client.encrypt(get(&format!("/{n}")).as_bytes());
        client.send_raw(&[update, request].concat());
        assert_eq!(client.response().status(), 200);
    }
    drop((client, other));
    router.finish();
}

/// A peer that says it sends no more still gets its whole response, and then our end.
#[test]
fn close_notify_before_and_inside_a_response() {
    let router = Router::secured(16, 16, 4, secure(echo("a")));
    for version in [TLS12, TLS13] {
        let mut client = TlsClient::connect(router.address(), version).unwrap();
        let request = client.encrypt(&post("/x", 3_000_000));
        let end = client.close_notify();
        let mut sender = client.socket.try_clone().unwrap();
        let sending =
            std::thread::spawn(move || sender.write_all(&[request, end].concat()).unwrap());
        assert!(client.response().body.ends_with(&pattern(3_000_000)));
        sending.join().unwrap();
        assert!(client.at_end());
        // Behind its end nothing is read.
        let mut client = TlsClient::connect(router.address(), version).unwrap();
        let request = client.encrypt(get("/1").as_bytes());
        let end = client.close_notify();
        client.send_raw(&[&request[..], &end, &[0xff; 200]].concat());
        assert_eq!(client.response().status(), 200);
        assert!(client.at_end());
    }
    router.finish();
}

/// Cut after so many bytes of a conversation, by a reset or an end; or with bytes turned over.
/// Whatever becomes of it, buffers and slots come back.
#[test]
fn cut_and_bent_at_every_state() {
    let router = Router::secured(64, 32, 8, secure(echo("a")));
    let mut prng = Prng::new(7);
    for round in 0..400 {
        let version = if prng.below(2) == 0 { TLS12 } else { TLS13 };
        let mut client = TlsClient::begin(router.address(), version, None).unwrap();
        let shakes = round % 4 > 0;
        let mut bytes = if shakes {
            client.shake(usize::MAX).unwrap();
            let large = prng.below(100_000) as usize;
            client.encrypt(&[post("/x", large), get("/y").into_bytes()].concat())
        } else {
            hello(version)
        };
        if prng.below(2) == 0 {
            let at = prng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 + prng.below(255) as u8;
        }
        bytes.truncate(prng.below(bytes.len() as u64 + 1) as usize);
        if prng.below(4) == 0 {
            bytes.extend((0..prng.below(40_000)).map(|_| prng.below(256) as u8));
        }
        let _ = client.socket.write_all(&bytes);
        match prng.below(3) {
            0 => await_answer(&client.socket),
            1 => drop(client.socket.shutdown(std::net::Shutdown::Write)),
            _ => {}
        }
        drop(client);
    }
    wait_for("all slots are free again", || {
        let held: Vec<_> = (0..8).map(|_| TlsClient::connect(router.address(), TLS13)).collect();
        held.iter().all(Result::is_ok)
    });
    check_alive(&router);
    router.finish();
}

/// Waits a little for what will not be read: closing is a reset then.
fn await_answer(socket: &TcpStream) {
    socket.set_read_timeout(Some(std::time::Duration::from_millis(5))).unwrap();
    let _ = socket.peek(&mut [0]);
}

/// The alert goes out although all of the hello is used up.
#[test]
fn a_client_without_http_1_is_told_why() {
    let router = Router::secured(16, 16, 4, secure(echo("a")));
    let said = refusal(router.address(), b"h2");
    assert!(said.contains("NoApplicationProtocol"), "{said}");
    assert_eq!(refusal(router.address(), b"http/1.1"), "none");
    router.finish();
}

/// A client that has sent half a record holds a buffer although no request has begun: when there
/// is none left, it has to go.
#[test]
fn half_a_record_does_not_keep_a_buffer_for_ever() {
    let router = Router::secured(64, 8, 32, secure(echo("a")));
    let mut held: Vec<_> = (0..8)
        .map(|_| {
            let mut client = connect(&router);
            let record = client.encrypt(get("/half").as_bytes());
            client.send_raw(&record[..record.len() / 2]);
            client
        })
        .collect();
    wait_for("no buffer is left", || {
        let mut more = TcpStream::connect(router.address()).unwrap();
        more.write_all(&hello(TLS13)[..20]).unwrap();
        router.counter("exhausted") > 0
    });
    check_alive(&router);
    held.clear();
    router.finish();
}

/// What only a peer with keys can say: it is parsed before it is refused.
#[test]
fn handshake_messages_behind_the_handshake() {
    let router = Router::secured(32, 16, 4, secure(echo("a")));
    let message = |kind: u8, len: usize, body: &[u8]| {
        let len = (len as u32).to_be_bytes();
        [&[kind][..], &len[1..], body].concat()
    };
    let certificates = [&[0, 0, 0x3f, 0x00][..], &[0, 0, 1, 9, 0, 0].repeat(2_688)].concat();
    let update = message(24, 1, &[1]);
    let attacks = [
        message(11, certificates.len(), &certificates),
        vec![0; 16_384],
        [1, 0, 0, 0].repeat(4_096),
        message(24, 0xff_ff, &[0; 16_000]),
        message(24, 0xff_ff_ff, &[0; 16_000]),
        update[..3].to_vec(),
        update.repeat(1_000),
        message(1, 4, &[3, 3, 0, 0]),
        [&update[..], &update[..2]].concat(),
        vec![],
    ];
    let alert: &[u8] = &[1, 0];
    for (n, attack) in attacks.iter().enumerate() {
        for (typ, repeat) in [
            (ContentType::Handshake, 1),
            (ContentType::Handshake, 6),
            (ContentType::ChangeCipherSpec, 1),
            (ContentType::Alert, 1),
            (ContentType::Unknown(99), 1),
        ] {
            let mut raw = RawClient::of(connect(&router));
            let mut wire = raw.record(ContentType::ApplicationData, get("/first").as_bytes());
            (0..repeat).for_each(|_| wire.extend(raw.record(typ, attack)));
            wire.extend(raw.record(ContentType::ApplicationData, get("/second").as_bytes()));
            wire.extend(raw.record(ContentType::Alert, alert));
            if n % 2 == 0 {
                // The request first, so that its response is written in the middle of it.
                let _ = raw.socket.write_all(&wire[..90]);
                await_answer(&raw.socket);
                wire.drain(..90);
            }
            let _ = raw.socket.write_all(&wire);
            let _ = raw.socket.shutdown(std::net::Shutdown::Write);
            wait_for_end(&mut raw.socket);
        }
        check_alive(&router);
    }
    router.finish();
}

/// More hellos at once than there are buffers: each holds one and needs another for a moment.
#[test]
fn as_many_hellos_as_buffers_do_not_wait_for_each_other() {
    let router = Router::secured(64, 8, 32, secure(echo("a")));
    let begin = || TlsClient::begin(router.address(), TLS13, None).unwrap();
    for _ in 0..20 {
        let mut clients: Vec<_> = (0..32).map(|_| begin()).collect();
        wait_for("all are accepted", || router.counter("clients") >= 32);
        clients.iter_mut().for_each(TlsClient::send_hello);
        for client in &mut clients {
            client.shake(usize::MAX).unwrap();
            client.send(get("/x"));
            assert_eq!(client.response().status(), 200);
        }
        drop(clients);
        wait_for("all are gone", || router.counter("clients") == 0);
    }
    assert_eq!(router.counter("evictions"), 0);
    router.finish();
}

/// Eight buffers, and bodies of many buffers both ways: those that wait are not cut short.
#[test]
fn large_answers_with_few_buffers() {
    let router = Router::secured(64, 8, 16, secure(echo("a")));
    let len = 2_000_000;
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let mut client = connect(&router);
            std::thread::spawn(move || {
                for _ in 0..2 {
                    let mut sender = client.socket.try_clone().unwrap();
                    let records = client.encrypt(&post("/x", len));
                    let sending = std::thread::spawn(move || sender.write_all(&records).unwrap());
                    assert!(client.response().body.ends_with(&pattern(len)));
                    sending.join().unwrap();
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(router.counter("evictions"), 0);
    router.finish();
}
