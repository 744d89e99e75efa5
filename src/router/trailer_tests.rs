//! Trailers as scripts: what crosses, in pieces of any size, and what happens at the limits.

use super::io::End;
use super::script::{Handle, Rig};
use crate::limits::*;
use std::format;
use std::string::String;

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn post(rig: &mut Rig, body: &str) -> (Handle, Handle, String) {
    let client = rig.client();
    rig.send(client, format!("POST /a HTTP/1.1\r\nHost: h\r\nTrailer: T\r\n{CHUNKED}\r\n{body}"));
    let backend = rig.backend();
    let got = rig.got(backend);
    (client, backend, got)
}

/// The chunks of a body as a reader sees them: payload, then the trailer section.
fn parts(message: &str) -> (String, String) {
    let (mut rest, mut payload) =
        (message.split_once("\r\n\r\n").expect("a head").1, String::new());
    loop {
        let (size, data) = rest.split_once("\r\n").expect("a chunk");
        let len = usize::from_str_radix(size, 16).expect("its size");
        if len == 0 {
            return (payload, data.into());
        }
        payload += &data[..len];
        rest = data[len..].strip_prefix("\r\n").expect("its end");
    }
}

#[test]
fn allowed_trailers_cross_both_ways() {
    let body = "3\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\nHost: evil\r\nU:y\r\nContent-Length: 3\r\n\r\n";
    for step in [1, 2, 3, 7, 50, usize::MAX] {
        let mut rig = Rig::new();
        rig.step = step;
        let (client, backend, got) = post(&mut rig, body);
        assert!(got.contains("\r\nTrailer: T\r\n"), "{got}");
        assert_eq!(parts(&got), ("abcde".into(), "T: x\r\nU:y\r\n\r\n".into()), "step {step}");
        rig.send(backend, format!("HTTP/1.1 200 OK\r\nTrailer: T\r\n{CHUNKED}\r\n{body}{OK}"));
        let got = rig.got(client);
        assert!(got.contains("\r\nTrailer: T\r\n"), "{got}");
        assert_eq!(parts(&got), ("abcde".into(), "T: x\r\nU:y\r\n\r\n".into()), "step {step}");
        assert_eq!(rig.worker.exchanges.trailers_in_use(), 0);
        rig.assert_at_rest();
        // The connection goes on, and nothing of the section is taken for a request.
        rig.send(client, "GET /b HTTP/1.1\r\nHost: h\r\nTrailer: T\r\n\r\n");
        let next = rig.backend();
        let got = rig.got(next);
        assert!(got.starts_with("GET /b HTTP/1.1\r\n") && !got.contains("Trailer"), "{got}");
    }
}

#[test]
fn pipelined_behind_trailers() {
    for step in [1, 11, usize::MAX] {
        let mut rig = Rig::new();
        rig.step = step;
        let next = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
        let (client, backend, got) = post(&mut rig, &format!("0\r\nA: 1\r\n\r\n{next}"));
        assert_eq!(parts(&got), (String::new(), "A: 1\r\n\r\n".into()));
        rig.send(backend, OK);
        assert_eq!(rig.got(client), OK);
        assert!(rig.got(backend).starts_with("GET /next HTTP/1.1\r\n"), "step {step}");
        rig.send(backend, OK);
        assert_eq!(rig.got(client), OK);
        rig.assert_at_rest();
    }
}

/// An HTTP/1.0 client gets the payload; a length leaves no room for trailers.
#[test]
fn dropped_where_nobody_could_read_them() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, "GET /a HTTP/1.0\r\nHost: h\r\n\r\n");
    let backend = rig.backend();
    rig.got(backend);
    rig.send(backend, format!("HTTP/1.1 200 OK\r\n{CHUNKED}\r\n1\r\na\r\n0\r\nT: x\r\n\r\n"));
    assert!(rig.got(client).ends_with("\r\n\r\na"));
    rig.end(client, End::Eof);
    rig.assert_at_rest();
}

#[test]
fn sections_at_max_and_one_more() {
    for (more, fits) in [(0, true), (1, false)] {
        let mut rig = Rig::new();
        // The name, the colon, the value and the line's CRLF count.
        let value = "v".repeat(MAX_TRAILER_BYTES as usize - 4 + more);
        let line = format!("T:{value}\r\n");
        let client = rig.client();
        let head = format!("POST /a HTTP/1.1\r\nHost: h\r\n{CHUNKED}\r\n");
        rig.send(client, format!("{head}1\r\na\r\n"));
        let backend = rig.backend();
        rig.got(backend);
        rig.send(client, format!("0\r\n{line}\r\n"));
        if fits {
            assert_eq!(rig.got(backend), format!("0\r\n{line}\r\n"));
        } else {
            assert!(rig.got(client).starts_with("HTTP/1.1 400 "));
            assert!(rig.closed(backend).is_some());
        }
    }
}

/// Without a block a section is dropped whole, never in part.
#[test]
fn more_sections_than_blocks() {
    let blocks = Capacities::DEFAULT.max_trailer_blocks;
    let mut rig = Rig::sized(2 * blocks + 8, 4 * blocks as usize + 24, |s| {
        super::script::plain(s, 1);
    });
    let mut waiting = std::vec::Vec::new();
    for _ in 0..=blocks {
        let (client, backend, _) = post(&mut rig, "0\r\nT: be");
        waiting.push((client, backend));
    }
    assert_eq!(rig.worker.exchanges.trailers_in_use(), blocks);
    let exhausted = rig.worker.counters().exhausted;
    assert!(exhausted >= 1);
    for (place, (client, backend)) in waiting.into_iter().enumerate() {
        rig.send(client, "gun\r\n\r\n");
        let last = if place < blocks as usize { "T: begun\r\n" } else { "" };
        assert_eq!(rig.got(backend), format!("0\r\n{last}\r\n"));
        rig.send(backend, OK);
        assert_eq!(rig.got(client), OK);
    }
    rig.assert_at_rest();
    assert_eq!(rig.worker.exchanges.trailers_in_use(), 0);
}
