//! What a hostile or careless peer sends, as a table: each line is a class of attack
//! (shared/security.md), with what becomes of it. Then what good heads are rendered to.

use super::render::{self, Delivery, Forwarded};
use super::*;
use crate::limits::{MAX_HEAD_BYTES, MAX_HEADER_FIELDS, MAX_NAME_BYTES, MAX_URI_BYTES};
use crate::stdx::Prng;
use crate::wire::http1::field::FieldError;
use crate::wire::url::UrlError;
use std::format;
use std::string::{String, ToString};
use std::vec;

/// Parses a request; its rendering, None when bytes are missing, or the refusal.
fn request(bytes: &[u8]) -> Result<Option<String>, Refusal> {
    let (mut space, mut scratch) = (field_space(), vec![0; MAX_URI_BYTES as usize]);
    let Some(head) = RequestHead::parse(bytes, &mut space, &mut scratch)? else {
        return Ok(None);
    };
    let forwarded = Forwarded { client: b"9.9.9.9", proto: b"http", port: 80 };
    let mut out = vec![0; 2 * MAX_HEAD_BYTES as usize];
    let len = render::request(&head, &forwarded, &mut out).expect("room");
    // Growth is bounded as the headroom assumes.
    let most = head.len + render::REQUEST_GROWTH_BYTES + head.authority.len();
    assert!(len <= most, "{len} > {most}");
    Ok(Some(String::from_utf8_lossy(&out[..len]).into_owned()))
}

fn refused(text: &str, refusal: Refusal) {
    assert_eq!(request(text.as_bytes()), Err(refusal), "{text:?}");
}

const OURS: &str = "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: http\r\n\
                    X-Forwarded-Host: h\r\nX-Forwarded-Port: 80\r\n\r\n";

fn crosses_as(text: &str, expected: &str) {
    let got = request(text.as_bytes()).unwrap().unwrap();
    assert_eq!(got, format!("{expected}{OURS}"), "{text:?}");
}

#[test]
fn smuggling() {
    use FieldError as F;
    let field = |f| Refusal::Field(f);
    for (fields, refusal) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", field(F::Ambiguous)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", field(F::Ambiguous)),
        ("Content-Length: 5\r\nContent-Length: 5", field(F::ContentLength)),
        ("Content-Length: 5\r\nContent-Length: 6", field(F::ContentLength)),
        ("Content-Length: 5, 5", field(F::ContentLength)),
        ("Content-Length: +5", field(F::ContentLength)),
        ("Content-Length: -1", field(F::ContentLength)),
        ("Content-Length: 0x5", field(F::ContentLength)),
        ("Content-Length: 5 5", field(F::ContentLength)),
        ("Content-Length:", field(F::ContentLength)),
        ("Content-Length: 99999999999999999999", field(F::ContentLength)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", field(F::TransferEncoding)),
        ("Transfer-Encoding: identity", field(F::TransferEncoding)),
        ("Transfer-Encoding: gzip, chunked", field(F::TransferEncoding)),
        ("Transfer-Encoding: chunked, identity", field(F::TransferEncoding)),
        ("Transfer-Encoding: \"chunked\"", field(F::TransferEncoding)),
        ("Transfer-Encoding: xchunked", field(F::TransferEncoding)),
        ("Transfer-Encoding: chunked;q=1", field(F::TransferEncoding)),
        ("Transfer-Encoding:", field(F::TransferEncoding)),
        ("Transfer-Encoding: \x0bchunked", Refusal::Syntax),
        ("Transfer-Encoding : chunked", Refusal::Syntax),
        ("Content-Length : 5", Refusal::Syntax),
        (" Content-Length: 5", Refusal::Syntax),
        ("A: b\r\n folded", Refusal::Syntax),
        ("A: b\r\n\tfolded: x", Refusal::Syntax),
        ("A: b\rc", Refusal::Syntax),
        ("A: b\r\r\nc: d", Refusal::Syntax),
        ("A: b\0", Refusal::Syntax),
        ("A\0: b", Refusal::Syntax),
        (": b", Refusal::Syntax),
        ("A", Refusal::Syntax),
        ("A(b): c", Refusal::Syntax),
        ("A: b\nContent-Length: 5", field(F::LineEnd)),
        ("A: b\n\r\nGET / HTTP/1.1\r\nB: c", field(F::LineEnd)),
        ("Connection: close, (", field(F::Connection)),
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
        refused(&text, refusal);
        // The same before Host.
        if !fields.contains("\n\r\n") && !fields.starts_with(' ') {
            refused(&format!("POST / HTTP/1.1\r\n{fields}\r\nHost: h\r\n\r\n"), refusal);
        }
    }
    refused("POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::OldCoding);
}

#[test]
fn request_lines() {
    let bad_url = |e| Refusal::Url(e);
    for (line, refusal) in [
        ("GET / HTTP/1.1\n", Refusal::Field(FieldError::LineEnd)),
        ("GET  / HTTP/1.1\r\n", Refusal::Syntax),
        ("GET /  HTTP/1.1\r\n", Refusal::Version),
        ("GET /\r\n", Refusal::Syntax),
        ("GET / HTTP/1.2\r\n", Refusal::Version),
        ("GET / HTTP/2.0\r\n", Refusal::Version),
        ("GET / http/1.1\r\n", Refusal::Version),
        ("GET / HTTP/1.1 \r\n", Refusal::Syntax),
        ("GET\t/ HTTP/1.1\r\n", Refusal::Syntax),
        ("G@T / HTTP/1.1\r\n", Refusal::Syntax),
        (" GET / HTTP/1.1\r\n", Refusal::Syntax),
        ("\nGET / HTTP/1.1\r\n", Refusal::Syntax),
        ("\r\r\nGET / HTTP/1.1\r\n", Refusal::Syntax),
        ("CONNECT h:80 HTTP/1.1\r\n", Refusal::Connect),
        ("GET h HTTP/1.1\r\n", bad_url(UrlError::Form)),
        ("GET https://h/ HTTP/1.1\r\n", bad_url(UrlError::Form)),
        ("GET /a\\b HTTP/1.1\r\n", bad_url(UrlError::Byte)),
        ("GET /%2e%2e/x HTTP/1.1\r\n", bad_url(UrlError::DotSegment)),
        ("GET /%zz HTTP/1.1\r\n", bad_url(UrlError::Escape)),
        ("GET /#f HTTP/1.1\r\n", bad_url(UrlError::Byte)),
        ("GET /\u{e4} HTTP/1.1\r\n", bad_url(UrlError::Byte)),
        ("GET http://u@h/ HTTP/1.1\r\n", Refusal::Host),
        ("GET http://other/ HTTP/1.1\r\n", Refusal::Host),
        ("GET http:/// HTTP/1.1\r\n", Refusal::Host),
    ] {
        refused(&format!("{line}Host: h\r\n\r\n"), refusal);
    }
    crosses_as("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n");
}

#[test]
fn authorities() {
    refused("GET / HTTP/1.1\r\n\r\n", Refusal::Host);
    refused("GET / HTTP/1.0\r\n\r\n", Refusal::Host);
    refused("GET http://h/ HTTP/1.1\r\n\r\n", Refusal::Host);
    refused("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", Refusal::Field(FieldError::Host));
    for host in ["", "a b", "u@h", "h/x", "h:x", "h:99999", "a,b", "*.h", "h\u{7f}"] {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(request(text.as_bytes()).map_err(Refusal::status), Err(400), "{host:?}");
    }
    crosses_as("GET http://H?q HTTP/1.1\r\nhost: h\r\n\r\n", "GET /?q HTTP/1.1\r\nHost: h\r\n")
}

#[test]
fn what_crosses() {
    crosses_as(
        "POST /a%2f%7e?x=%zz HTTP/1.1\r\nhost: h\r\nB:  c \t\r\nEmpty:\r\nCONTENT-length: 007\r\n\
         Connection: keep-alive, X-Gone,,close\r\nx-gone: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n\
         Trailer: x\r\nUpgrade: h2c\r\nHTTP2-Settings: a\r\nProxy-Connection: x\r\n\
         Proxy-Authorization: x\r\nForwarded: for=1\r\nX-Forwarded-For: 1\r\nx_forwarded_for: 1\r\n\
         Content_Length: 9\r\nD: e\r\n\r\n",
        "POST /a%2F~?x=%zz HTTP/1.1\r\nHost: h\r\nB: c\r\nEmpty: \r\nD: e\r\nContent-Length: 7\r\n",
    );
    // Connection cannot take away what we write ourselves.
    crosses_as(
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: Host, Content-Length\r\n\
         Content-Length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n",
    );
    crosses_as(
        "POST / HTTP/1.1\r\nHost: h\r\ntransfer-encoding: Chunked\r\nExpect: 100-Continue\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nTransfer-Encoding: chunked\r\n",
    );
    // An HTTP/1.0 client's Expect is ignored.
    crosses_as(
        "POST / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n",
    );
    refused("GET / HTTP/1.1\r\nHost: h\r\nExpect: 42\r\n\r\n", Refusal::Expectation);
}

#[test]
fn limits_at_max_and_one_more() {
    let uri = |n: u32| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(n as usize - 1));
    assert!(request(uri(MAX_URI_BYTES).as_bytes()).unwrap().is_some());
    refused(&uri(MAX_URI_BYTES + 1), Refusal::UriTooLong);

    let fields = |n: u32| {
        let others: String = (1..n).map(|i| format!("a{i}:\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: h\r\n{others}\r\n")
    };
    assert!(request(fields(MAX_HEADER_FIELDS).as_bytes()).unwrap().is_some());
    refused(&fields(MAX_HEADER_FIELDS + 1), Refusal::HeadTooLarge);

    let frame = "GET / HTTP/1.1\r\nHost: h\r\nA: \r\n\r\n".len();
    let head = |n: u32| {
        let value = "x".repeat(n as usize - frame);
        format!("GET / HTTP/1.1\r\nHost: h\r\nA: {value}\r\n\r\n")
    };
    assert!(request(head(MAX_HEAD_BYTES).as_bytes()).unwrap().is_some());
    refused(&head(MAX_HEAD_BYTES + 1), Refusal::HeadTooLarge);

    let host = |n: u32| {
        let name = format!("{}.a", "a".repeat(n as usize - 2));
        format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n")
    };
    assert!(request(host(MAX_NAME_BYTES).as_bytes()).unwrap().is_some());
    refused(&host(MAX_NAME_BYTES + 1), Refusal::Url(UrlError::Authority));

    // Connection options at max and one more.
    let options = |n: u32| {
        let list: std::vec::Vec<_> = (0..n).map(|i| format!("x{i}")).collect();
        format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: {}\r\n\r\n", list.join(","))
    };
    let most = crate::limits::MAX_CONNECTION_OPTIONS;
    assert!(request(options(most).as_bytes()).unwrap().is_some());
    refused(&options(most + 1), Refusal::Field(FieldError::Connection));
}

/// Cut anywhere, a good head is never refused and never taken for whole; too long is told early.
#[test]
fn heads_in_pieces() {
    let text = "POST /x HTTP/1.1\r\nHost: h\r\nA:  b \r\nContent-Length: 3\r\n\r\n";
    for cut in 0..text.len() {
        assert_eq!(request(&text.as_bytes()[..cut]), Ok(None), "{cut}");
        assert!(cut < 2 || !is_worth_parsing(&text.as_bytes()[..cut], cut - 1));
    }
    for scanned in 0..text.len() {
        assert!(is_worth_parsing(text.as_bytes(), scanned));
    }
    let long = "GET /".to_string() + &"a".repeat(MAX_URI_BYTES as usize + 64);
    refused(&long, Refusal::UriTooLong);
    assert!(is_worth_parsing(long.as_bytes(), request::TARGET_END));
    let long = "GET / HTTP/1.1\r\nA: ".to_string() + &"a".repeat(MAX_HEAD_BYTES as usize);
    refused(&long, Refusal::HeadTooLarge);
}

/// Bytes near a head, at random: whatever is taken, its rendering is taken too and renders to
/// itself, but for the X-Forwarded fields.
#[test]
fn rendering_is_a_fixed_point() {
    let mut prng = Prng::new(42);
    let parts = [
        "GET ",
        "POST ",
        "/",
        "%2e",
        "a",
        "?",
        " HTTP/1.1",
        " HTTP/1.0",
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        "Host: h",
        "Host",
        ":",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "X: y",
        "Connection: x",
        "\r\n\r\n",
        "\0",
        "Expect: 100-continue",
    ];
    let mut taken = 0;
    for _ in 0..100_000 {
        let mut text = String::from("GET / HTTP/1.1\r\nHost: h\r\n");
        if prng.chance(1, 2) {
            text.clear();
        }
        for _ in 0..prng.range(1, 10) {
            text += parts[prng.below(parts.len() as u64) as usize];
        }
        text += "\r\n\r\n";
        if let Ok(Some(once)) = request(text.as_bytes()) {
            let twice = request(once.as_bytes()).unwrap().unwrap();
            assert_eq!(once, twice, "{text:?}");
            taken += 1;
        }
    }
    assert!(taken > 1_000, "{taken}");
}

fn response(text: &str, to_head: bool) -> Result<Option<(u16, Framing, bool)>, ResponseError> {
    let mut space = field_space();
    let head = ResponseHead::parse(
        text.as_bytes(),
        &mut space,
        Asked { head: to_head, websocket: false },
    )?;
    Ok(head.map(|h| (h.status, h.framing, h.persistent)))
}

#[test]
fn response_framing() {
    let ok = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    for (text, to_head, expected) in [
        (ok("Content-Length: 5\r\n"), false, (200, Framing::Length(5), true)),
        (ok("Content-Length: 5\r\n"), true, (200, Framing::None, true)),
        (ok("Transfer-Encoding: chunked\r\n"), false, (200, Framing::Chunked, true)),
        (ok("Transfer-Encoding: chunked\r\n"), true, (200, Framing::None, true)),
        (ok("Connection: close\r\nContent-Length: 0\r\n"), false, (200, Framing::Length(0), false)),
        (ok(""), false, (200, Framing::UntilClose, false)),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n".into(),
            false,
            (200, Framing::Length(1), false),
        ),
        ("HTTP/1.1 204\r\n\r\n".into(), false, (204, Framing::None, true)),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n".into(),
            false,
            (304, Framing::None, true),
        ),
        ("HTTP/1.1 100 Continue\r\n\r\n".into(), false, (100, Framing::None, true)),
    ] {
        assert_eq!(response(&text, to_head), Ok(Some(expected)), "{text:?}");
    }
}

#[test]
fn hostile_responses() {
    use FieldError as F;
    for (text, error) in [
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", ResponseError::Syntax),
        ("HTTP/2.0 200 OK\r\n\r\n", ResponseError::Syntax),
        ("HTTP/1.1 20 OK\r\n\r\n", ResponseError::Syntax),
        ("HTTP/1.1 099 OK\r\n\r\n", ResponseError::Syntax),
        ("HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n", ResponseError::Upgrade),
        ("HTTP/1.1 200 OK\n\r\n", ResponseError::Field(F::LineEnd)),
        ("HTTP/1.1 200 OK\r\nA: b\n\r\n", ResponseError::Field(F::LineEnd)),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", ResponseError::Syntax),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            ResponseError::Field(F::Ambiguous),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            ResponseError::Field(F::ContentLength),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            ResponseError::Field(F::TransferEncoding),
        ),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ResponseError::OldCoding),
    ] {
        assert_eq!(response(text, false), Err(error), "{text:?}");
    }
}

/// Which requests ask for WebSocket, and which answers give it.
#[test]
fn upgrades() {
    for (line, fields, expected) in [
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", true),
        ("GET / HTTP/1.1", "Connection: keep-alive, UPGRADE\r\nUpgrade: h2c, WebSocket\r\n", true),
        ("GET / HTTP/1.1", "Upgrade: websocket\r\n", false),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\n", false),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: h2c\r\n", false),
        ("GET / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websockets\r\n", false),
        ("POST / HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", false),
        ("GET / HTTP/1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n", false),
        (
            "GET / HTTP/1.1",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n",
            false,
        ),
    ] {
        let text = format!("{line}\r\nHost: h\r\n{fields}\r\n");
        let (mut space, mut path, mut out) = (field_space(), [0; MAX_URI_BYTES as usize], [0; 512]);
        let head = RequestHead::parse(text.as_bytes(), &mut space, &mut path).unwrap().unwrap();
        assert_eq!(head.websocket, expected, "{text:?}");
        let forwarded = Forwarded { client: b"c", proto: b"http", port: 80 };
        let len = render::request(&head, &forwarded, &mut out).unwrap();
        let rendered = core::str::from_utf8(&out[..len]).unwrap();
        assert_eq!(rendered.contains("pgrade"), expected, "{rendered}");
    }
    let both = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (version, fields, websocket, expected) in [
        ("1.1", both, true, true),
        ("1.1", both, false, false),
        ("1.0", both, true, false),
        ("1.1", "Upgrade: websocket\r\n", true, false),
        ("1.1", "Connection: Upgrade\r\nUpgrade: h2c\r\n", true, false),
        ("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n", true, false),
    ] {
        let text = format!("HTTP/{version} 101 Switching Protocols\r\n{fields}\r\n");
        let (mut space, asked) = (field_space(), Asked { head: false, websocket });
        let head = ResponseHead::parse(text.as_bytes(), &mut space, asked);
        match head {
            Ok(Some(head)) => {
                assert!(expected && head.switches && !head.persistent, "{text:?}");
                assert_eq!(head.framing, Framing::UntilClose);
            }
            other => assert!(!expected && other.is_err(), "{text:?}"),
        }
    }
}

#[test]
fn responses_rendered() {
    let text = "HTTP/1.1 304 Not Modified\r\nA: b\r\nConnection: x\r\nX: 1\r\nContent-Length: 9\r\n\
                X-Forwarded-For: kept\r\n\r\n";
    let (mut space, mut out) = (field_space(), [0; 256]);
    let head = ResponseHead::parse(text.as_bytes(), &mut space, Asked::default()).unwrap().unwrap();
    let delivery = Delivery::None(head.described_length);
    let len = render::response(&head, delivery, true, &mut out).unwrap();
    let expected = "HTTP/1.1 304 Not Modified\r\nA: b\r\nX-Forwarded-For: kept\r\n\
                    Content-Length: 9\r\nConnection: close\r\n\r\n";
    assert_eq!(core::str::from_utf8(&out[..len]), Ok(expected));
    // No room is told, not cut.
    assert_eq!(render::response(&head, delivery, true, &mut out[..len - 1]), None);
    let len = render::answer(404, "Not Found", false, true, &mut out).unwrap();
    let expected = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n\
                    Content-Length: 14\r\n\r\n\
                    404 Not Found\n";
    assert_eq!(core::str::from_utf8(&out[..len]), Ok(expected));
}
