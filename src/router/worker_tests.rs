//! What a worker does, as scripts: one connection's conversation per test.

use super::io::{Close, End};
use super::script::{Rig, plain};
use crate::config::building::{self, MatchSpec};
use crate::config::snapshot::{POOL_INVALID, Snapshot};
use crate::limits::*;
use std::format;
use std::string::String;
use std::vec::Vec;

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const OURS: &str = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\
                    X-Forwarded-Host: h\r\nX-Forwarded-Port: 80\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn post(fields: &str, body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}")
}

fn forwarded(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}{OURS}")
}

fn status(response: &str) -> &str {
    response.get(9..12).unwrap_or("none")
}

#[test]
fn keep_alive_both_ways() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, GET);
    let backend = rig.backend();
    for _ in 0..3 {
        assert_eq!(rig.got(backend), forwarded("GET /a", ""));
        rig.send(backend, OK);
        assert_eq!(rig.got(client), OK);
        rig.assert_at_rest();
        rig.send(client, GET);
    }
    assert!(rig.io.opened.is_empty());
    assert_eq!(rig.worker.counters().reuses, 3);
}

#[test]
fn heads_byte_by_byte() {
    let mut rig = Rig::new();
    rig.step = 1;
    let client = rig.client();
    rig.send(client, GET);
    let backend = rig.backend();
    assert_eq!(rig.got(backend), forwarded("GET /a", ""));
    rig.send(backend, OK);
    assert_eq!(rig.got(client), OK);
    rig.assert_at_rest();
}

/// Pipelined requests are served one by one; a second response never overtakes the first.
#[test]
fn pipelining() {
    for step in [1, 7, usize::MAX] {
        let mut rig = Rig::new();
        rig.step = step;
        let client = rig.client();
        let body = post("Content-Length: 3\r\n", "abc");
        let chunked = post("Transfer-Encoding: chunked\r\n", "3\r\nxyz\r\n0\r\n\r\n");
        rig.send(client, format!("{GET}{body}{chunked}{GET}"));
        let backend = rig.backend();
        assert_eq!(rig.got(backend), forwarded("GET /a", ""));
        assert_eq!(rig.got(client), "");
        rig.send(backend, OK);
        let expected = forwarded("POST /a", "Content-Length: 3\r\n") + "abc";
        assert_eq!(rig.got(backend), expected, "step {step}");
        rig.send(backend, OK);
        let got = rig.got(backend);
        let head = forwarded("POST /a", "Transfer-Encoding: chunked\r\n");
        assert!(got.starts_with(&head) && got.ends_with("\r\n0\r\n\r\n"), "{got}");
        rig.send(backend, OK);
        assert_eq!(rig.got(backend), forwarded("GET /a", ""));
        rig.send(backend, OK);
        assert_eq!(rig.got(client), OK.repeat(4));
        rig.assert_at_rest();
    }
}

/// Answers of our own are in order too, and many in one read leave others their turn.
#[test]
fn pipelined_answers() {
    let mut rig = Rig::with(|_| ());
    rig.swap(|s| {
        let bind = building::bind(s, ([0, 0, 0, 0], 80).into());
        building::listener(s, "other", 80, &[bind]);
    });
    let client = rig.client();
    let count = 3 * MAX_REQUESTS_PER_INPUT as usize;
    rig.send(client, GET.repeat(count));
    let mut got = rig.got(client);
    assert_eq!(got.matches("404 Not Found\r\n").count(), MAX_REQUESTS_PER_INPUT as usize);
    rig.advance(200);
    rig.advance(200);
    got += &rig.got(client);
    assert_eq!(got.matches("404 Not Found\r\n").count(), count);
    rig.assert_at_rest();
}

#[test]
fn bodies_of_every_framing() {
    for (response, expected) in [
        (OK.into(), OK.into()),
        ("HTTP/1.1 204 No Content\r\n\r\n".into(), "HTTP/1.1 204 No Content\r\n\r\n".into()),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n".into(),
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n".into(),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\n\r\n"
                .into(),
            String::from(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\nT: x\r\n\r\n",
            ),
        ),
    ] as [(String, String); 4]
    {
        let mut rig = Rig::new();
        let client = rig.client();
        rig.send(client, GET);
        let backend = rig.backend();
        rig.send(backend, &response);
        assert_eq!(rig.got(client), expected);
        assert_eq!(rig.closed(backend), None);
        rig.assert_at_rest();
    }
}

#[test]
fn a_body_until_close_becomes_chunks() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, GET);
    let backend = rig.backend();
    rig.send(backend, "HTTP/1.1 200 OK\r\n\r\nabc");
    rig.send(backend, "de");
    rig.end(backend, End::Eof);
    let expected =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(rig.got(client), expected);
    assert!(rig.closed(backend).is_some() && rig.closed(client).is_none());
    rig.assert_at_rest();
}

/// HTTP/1.0 clients get no chunks and no interim responses, and the connection ends.
#[test]
fn old_clients() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, "GET /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n");
    let backend = rig.backend();
    rig.send(backend, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n");
    rig.send(backend, "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(rig.got(client), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc");
    assert!(rig.is_shut(client) && rig.closed(client).is_none());
    rig.end(client, End::Eof);
    assert_eq!(rig.closed(client), Some(Close::Now));
}

#[test]
fn head_has_no_body() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n");
    let backend = rig.backend();
    rig.send(backend, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    assert_eq!(rig.got(client), "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    // An answer of our own to HEAD has none either.
    rig.swap(|_| ());
    rig.send(client, "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n");
    let got = rig.got(client);
    assert!(got.contains("Content-Length: 14\r\n") && got.ends_with("\r\n\r\n"), "{got}");
}

#[test]
fn interim_responses_and_expectations() {
    for step in [1, usize::MAX] {
        let mut rig = Rig::new();
        rig.step = step;
        let client = rig.client();
        let head = "Expect: 100-continue\r\nContent-Length: 3\r\n";
        rig.send(client, post(head, ""));
        let backend = rig.backend();
        assert_eq!(rig.got(backend), forwarded("POST /a", head));
        rig.send(backend, "HTTP/1.1 100 Continue\r\nConnection: x\r\nX: 1\r\n\r\n");
        assert_eq!(rig.got(client), "HTTP/1.1 100 Continue\r\n\r\n");
        rig.send(client, "abc");
        assert_eq!(rig.got(backend), "abc");
        rig.send(backend, format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{OK}"));
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        assert_eq!(rig.got(client), format!("{hints}{OK}"));
        rig.assert_at_rest();
    }
}

#[test]
fn interim_responses_at_max_and_one_more() {
    for (count, expected) in [(MAX_INTERIM_RESPONSES, "200"), (MAX_INTERIM_RESPONSES + 1, "502")] {
        let mut rig = Rig::new();
        let client = rig.client();
        rig.send(client, GET);
        let backend = rig.backend();
        let interim = "HTTP/1.1 102 Processing\r\n\r\n";
        rig.send(backend, format!("{}{OK}", interim.repeat(count as usize)));
        let got = rig.got(client);
        assert_eq!(status(got.trim_start_matches(interim)), expected);
    }
}

#[test]
fn upgrades_do_not_cross() {
    let mut rig = Rig::new();
    let client = rig.client();
    let fields = "Connection: Upgrade\r\nUpgrade: h2c\r\n";
    rig.send(client, format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    let backend = rig.backend();
    assert_eq!(rig.got(backend), forwarded("GET /a", ""));
    rig.send(backend, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n");
    assert_eq!(status(&rig.got(client)), "502");
    assert!(rig.closed(backend).is_some());
}

/// A slow reader stops the backend; nothing piles up.
/// A refused request whose body is whole with its head costs nobody the connection.
#[test]
fn an_answer_to_a_request_without_body_bytes_keeps_the_connection() {
    let mut rig = Rig::with(|_| ());
    rig.swap(|s| {
        let bind = building::bind(s, ([0, 0, 0, 0], 80).into());
        building::listener(s, "other", 80, &[bind]);
    });
    let client = rig.client();
    for _ in 0..2 {
        rig.send(client, "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        let got = rig.got(client);
        assert!(got.starts_with("HTTP/1.1 404 ") && !got.contains("close"), "{got}");
    }
}

#[test]
fn back_pressure_towards_the_client() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, GET);
    let backend = rig.backend();
    rig.window(client, 10);
    let body = "x".repeat(300_000);
    rig.send(backend, format!("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n{body}"));
    assert!(rig.is_paused(backend));
    assert!(rig.unread(backend) > 200_000);
    rig.window(client, 20_000);
    assert!(rig.is_paused(backend));
    rig.window(client, usize::MAX);
    let got = rig.got(client);
    assert!(got.ends_with(&body));
    rig.assert_at_rest();
    assert!(!rig.is_paused(backend));
}

/// A slow backend stops the client.
#[test]
fn back_pressure_towards_the_backend() {
    let mut rig = Rig::new();
    let client = rig.client();
    let body = "y".repeat(300_000);
    rig.send(client, post("Content-Length: 300000\r\n", &body[..10]));
    let backend = rig.backend();
    rig.window(backend, 5);
    rig.send(client, &body[10..]);
    assert!(rig.is_paused(client) && rig.unread(client) > 200_000);
    rig.window(backend, usize::MAX);
    let got = rig.got(backend);
    assert!(got.ends_with(&body));
    rig.send(backend, OK);
    assert_eq!(rig.got(client), OK);
    rig.assert_at_rest();
}

/// A reused connection that closes before any byte of the response: one replay, on a fresh one.
#[test]
fn the_one_replay() {
    let mut rig = Rig::new();
    let (client, stale) = rig.warm_up();
    rig.send(client, GET);
    assert_eq!(rig.got(stale), forwarded("GET /a", ""));
    rig.end(stale, End::Reset);
    assert!(rig.closed(stale).is_some());
    let fresh = rig.backend();
    assert_eq!(rig.got(fresh), forwarded("GET /a", ""));
    rig.end(fresh, End::Eof);
    assert_eq!(status(&rig.got(client)), "502");
    assert!(rig.io.opened.is_empty());
    assert_eq!(rig.worker.counters().replays, 1);
    rig.assert_at_rest();
}

#[test]
fn no_replay_when_it_could_be_heard_twice() {
    // Not idempotent; a byte of the body sent; a byte of the response seen; a fresh connection.
    for (request, reply) in [
        (post("Content-Length: 0\r\n", ""), ""),
        ("PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc".into(), ""),
        (GET.into(), "HTTP/1.1 2"),
    ] {
        let mut rig = Rig::new();
        let (client, stale) = rig.warm_up();
        rig.send(client, request);
        rig.send(stale, reply);
        rig.end(stale, End::Reset);
        assert_eq!(status(&rig.got(client)), "502");
        assert!(rig.io.opened.is_empty());
    }
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, GET);
    let fresh = rig.backend();
    rig.end(fresh, End::Eof);
    assert_eq!(status(&rig.got(client)), "502");
    assert!(rig.io.opened.is_empty());
}

/// A head too long to be kept never risks a reused connection.
#[test]
fn long_heads_go_over_fresh_connections() {
    let overhead = forwarded("GET /a", "A: \r\n").len();
    for (len, is_fresh) in
        [(MAX_KEPT_HEAD_BYTES as usize, false), (MAX_KEPT_HEAD_BYTES as usize + 1, true)]
    {
        let mut rig = Rig::new();
        let (client, _) = rig.warm_up();
        let value = "v".repeat(len - overhead);
        rig.send(client, format!("GET /a HTTP/1.1\r\nHost: h\r\nA: {value}\r\n\r\n"));
        assert_eq!(!rig.io.opened.is_empty(), is_fresh);
    }
}

/// Idempotent with a body that was not sent yet: the replay carries on with the body.
#[test]
fn replay_before_the_body() {
    let mut rig = Rig::new();
    let (client, stale) = rig.warm_up();
    rig.send(client, "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n");
    rig.end(stale, End::Eof);
    let fresh = rig.backend();
    assert_eq!(rig.got(fresh), forwarded("PUT /a", "Content-Length: 3\r\n"));
    rig.send(client, "abc");
    assert_eq!(rig.got(fresh), "abc");
    rig.send(fresh, OK);
    assert_eq!(rig.got(client), OK);
    rig.assert_at_rest();
}

#[test]
fn a_failed_connect_tries_the_next_endpoint() {
    let mut rig = Rig::with(|s| plain(s, 6));
    let client = rig.client();
    rig.send(client, post("Content-Length: 3\r\n", "abc"));
    let mut tried = Vec::new();
    for _ in 0..MAX_ENDPOINT_CANDIDATES - 1 {
        let (handle, to) = rig.opening();
        tried.push(to);
        rig.refused(handle);
        assert!(rig.closed(handle).is_some());
    }
    let (last, to) = rig.opening();
    tried.push(to);
    tried.sort();
    tried.dedup();
    assert_eq!(tried.len(), MAX_ENDPOINT_CANDIDATES as usize, "each endpoint once");
    rig.connected(last);
    assert!(rig.got(last).ends_with("abc"));
    rig.send(last, OK);
    assert_eq!(rig.got(client), OK);
    rig.assert_at_rest();
}

#[test]
fn no_endpoint_answers() {
    // Refused, timed out, and no descriptor for a socket.
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, GET);
    let (handle, _) = rig.opening();
    rig.refused(handle);
    assert_eq!(status(&rig.got(client)), "503");
    rig.advance(u64::from(ENDPOINT_REST_MS) + 50);
    rig.send(client, GET);
    rig.advance(u64::from(CONNECT_TIMEOUT_MS) + 50);
    assert_eq!(status(&rig.got(client)), "504");
    rig.io.no_descriptors = true;
    rig.send(client, GET);
    assert_eq!(status(&rig.got(client)), "503");
    assert_eq!(rig.closed(client), None, "the request had no body: the connection goes on");
    rig.assert_at_rest();
}

fn with_backends(fill: impl Fn(&mut Snapshot, u32) -> Vec<(u32, u32)>) -> Rig {
    Rig::with(|s| {
        let bind = building::bind(s, ([0, 0, 0, 0], 80).into());
        let listener = building::listener(s, "h", 80, &[bind]);
        let pool = building::pool(s, "empty", &[]);
        let backends = fill(s, pool);
        let all = [MatchSpec::prefix("/a")];
        building::route(s, "r", &[(listener, "")], &all, &backends);
    })
}

#[test]
fn honest_answers() {
    for (backends, expected) in [
        (Vec::new(), "500"),
        (std::vec![(POOL_INVALID, 1)], "500"),
        (std::vec![(0, 0)], "500"),
        (std::vec![(0, 1)], "503"),
    ] {
        let mut rig = with_backends(|_, _| backends.clone());
        let client = rig.client();
        rig.send(client, GET);
        assert_eq!(status(&rig.got(client)), expected);
        rig.send(client, "GET /b HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(status(&rig.got(client)), "404");
        rig.send(client, "GET /a HTTP/1.1\r\nHost: other\r\n\r\n");
        assert_eq!(status(&rig.got(client)), "404");
        assert_eq!(rig.closed(client), None);
        // A body that nobody will read ends the connection, in order.
        rig.send(client, post("Content-Length: 5\r\n", "ab"));
        let got = rig.got(client);
        assert_eq!(status(&got), expected);
        assert!(got.contains("Connection: close\r\n") && rig.is_shut(client));
        rig.send(client, "cde");
        assert_eq!(rig.closed(client), None);
        rig.advance(u64::from(LINGER_TIMEOUT_MS) + 50);
        assert_eq!(rig.closed(client), Some(Close::Now));
        rig.assert_at_rest();
    }
}

#[test]
fn refusals_close() {
    for (request, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
        ("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", "501"),
        ("GET / HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n", "417"),
        ("\x16\x03\x01\x02", "400"),
    ] {
        for step in [1, usize::MAX] {
            let mut rig = Rig::new();
            rig.step = step;
            let client = rig.client();
            rig.send(client, request);
            let got = rig.got(client);
            assert_eq!(status(&got), expected, "{request:?}");
            assert!(got.contains("Connection: close") && rig.is_shut(client));
            rig.assert_at_rest();
        }
    }
}

#[test]
fn heads_that_are_too_long() {
    let target = "x".repeat(MAX_URI_BYTES as usize + 100);
    let field = "x".repeat(MAX_HEAD_BYTES as usize);
    for (request, expected) in [
        (format!("GET /{target}"), "414"),
        (format!("GET /{target} HTTP/1.1\r\nHost: h\r\n\r\n"), "414"),
        (format!("GET / HTTP/1.1\r\nHost: h\r\nA: {field}"), "431"),
        (format!("GET / HTTP/1.1\r\nHost: h\r\nA: {field}\r\n\r\n"), "431"),
    ] {
        for step in [1000, usize::MAX] {
            let mut rig = Rig::new();
            rig.step = step;
            let client = rig.client();
            rig.send(client, &request);
            assert_eq!(status(&rig.got(client)), expected);
            rig.assert_at_rest();
        }
    }
}

/// The largest head that is taken crosses, together with the first of its body.
#[test]
fn the_largest_head_crosses() {
    let frame = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 40000\r\nA: \r\n\r\n".len();
    let value = "x".repeat(MAX_HEAD_BYTES as usize - frame);
    let body = "b".repeat(40_000);
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, post(&format!("Content-Length: 40000\r\nA: {value}\r\n"), &body));
    let backend = rig.backend();
    assert!(rig.got(backend).ends_with(&body));
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 40000\r\nA: ";
    let value = "x".repeat(MAX_HEAD_BYTES as usize - head.len() - 4);
    let head = format!("{head}{value}");
    rig.send(backend, format!("{head}\r\n\r\n{body}"));
    let got = rig.got(client);
    assert_eq!(status(&got), "200");
    assert!(got.ends_with(&body));
    rig.assert_at_rest();
}

#[test]
fn bodies_at_max_and_one_more() {
    let max = 1 << 20;
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, post(&format!("Content-Length: {}\r\n", max + 1), ""));
    assert_eq!(status(&rig.got(client)), "413");
    let client = rig.client();
    rig.send(client, post(&format!("Content-Length: {max}\r\n"), &"x".repeat(max)));
    let backend = rig.backend();
    rig.send(backend, OK);
    assert_eq!(rig.got(client), OK);
    // Chunked: nobody said how long; it is cut when it has become too long.
    let client = rig.client();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(1 << 16));
    rig.send(client, post("Transfer-Encoding: chunked\r\n", &chunk.repeat(16)));
    assert_eq!(rig.got(client), "");
    rig.send(client, "1\r\nx\r\n");
    assert_eq!(status(&rig.got(client)), "413");
    rig.assert_at_rest();
}

/// What was cut short is never presented as complete.
#[test]
fn truncated_responses_break_visibly() {
    for (response, end) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", End::Eof),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", End::Reset),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", End::Eof),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", End::Eof),
        ("HTTP/1.1 200 OK\r\n\r\nabc", End::Reset),
    ] {
        for request in [GET, "GET /a HTTP/1.0\r\nHost: h\r\n\r\n"] {
            let mut rig = Rig::new();
            let client = rig.client();
            rig.send(client, request);
            let backend = rig.backend();
            rig.send(backend, response);
            rig.end(backend, end);
            assert!(!rig.got(client).contains("0\r\n\r\n"));
            assert_eq!(rig.closed(client), Some(Close::Reset), "{response:?}");
            assert_eq!(rig.worker.counters().truncated, 1);
            rig.assert_at_rest();
        }
    }
    // Chunk framing that breaks in the middle.
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, GET);
    let backend = rig.backend();
    rig.send(backend, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    rig.send(backend, "zz\r\n");
    assert_eq!(rig.closed(client), Some(Close::Reset));
}

#[test]
fn bad_responses_are_502() {
    for response in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
    ] {
        let mut rig = Rig::new();
        let client = rig.client();
        rig.send(client, GET);
        let backend = rig.backend();
        rig.send(backend, response);
        assert_eq!(status(&rig.got(client)), "502", "{response:?}");
        assert!(rig.closed(backend).is_some() && rig.closed(client).is_none());
        rig.assert_at_rest();
    }
}

/// Bytes behind a response belong to nobody: the connection is not pooled.
#[test]
fn a_response_too_many() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, GET);
    let backend = rig.backend();
    rig.send(backend, format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"));
    assert_eq!(rig.got(client), OK);
    assert!(rig.closed(backend).is_some());
    // The same, while idle in the pool.
    let (client, backend) = rig.warm_up();
    rig.send(backend, OK);
    assert!(rig.closed(backend).is_some());
    assert_eq!(rig.got(client), "");
    rig.assert_at_rest();
}

/// A response before the request is whole: told to the client, then both connections end.
#[test]
fn early_responses() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, post("Content-Length: 100\r\n", "abc"));
    let backend = rig.backend();
    rig.send(backend, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    let got = rig.got(client);
    assert_eq!(status(&got), "401");
    assert!(got.contains("Connection: close\r\n"));
    assert_eq!(rig.closed(backend), Some(Close::Now));
    assert!(rig.is_shut(client) && rig.closed(client).is_none());
    // The rest of the body is dropped, not taken for a request.
    rig.send(client, "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(rig.got(client), "");
    rig.end(client, End::Eof);
    assert_eq!(rig.closed(client), Some(Close::Now));
    rig.assert_at_rest();
}

/// The backend stops reading, but what it said first still comes through.
#[test]
fn a_deaf_backend_is_still_heard() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, post("Content-Length: 100000\r\n", "abc"));
    let backend = rig.backend();
    rig.window(backend, 0);
    rig.send(client, "x".repeat(1000));
    rig.fail_writes(backend);
    rig.send(client, "x".repeat(1000));
    rig.send(backend, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(status(&rig.got(client)), "413");
    assert!(rig.is_shut(client));
    rig.assert_at_rest();
}

#[test]
fn clients_that_leave() {
    // In the middle of a head, of a body, while waiting, in the middle of the response.
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, "GET / HT");
    rig.end(client, End::Eof);
    assert!(rig.closed(client).is_some());

    let client = rig.client();
    rig.send(client, post("Content-Length: 5\r\n", "abc"));
    let backend = rig.backend();
    rig.end(client, End::Eof);
    assert!(rig.closed(client).is_some() && rig.closed(backend).is_some());

    let client = rig.client();
    rig.send(client, GET);
    let backend = rig.backend();
    rig.fail_writes(client);
    assert!(rig.closed(client).is_some() && rig.closed(backend).is_some());

    let client = rig.client();
    rig.send(client, GET);
    let backend = rig.backend();
    rig.window(client, 1);
    rig.send(backend, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc");
    rig.fail_writes(client);
    assert!(rig.closed(client).is_some() && rig.closed(backend).is_some());
    rig.assert_at_rest();
    assert_eq!(rig.worker.counters().clients, 0);
    assert_eq!(rig.worker.counters().upstreams, 0);
}

/// Half-closed after a whole request: the response still goes out.
#[test]
fn half_closed_clients_are_answered() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, GET);
    let backend = rig.backend();
    rig.end(client, End::Eof);
    assert_eq!(rig.closed(client), None);
    rig.send(backend, OK);
    assert_eq!(rig.got(client), OK);
    assert_eq!(rig.closed(client), Some(Close::Now));
}
