//! What filters do to requests and responses, as scripts.

use super::io::End;
use super::script::{Rig, endpoint, plain};
use crate::config::building::{self, MatchSpec};
use crate::config::filter::{PathChange, Scheme, UrlAction, UrlFilter};
use crate::config::snapshot::{NO_FILTER, Snapshot};
use crate::limits::*;
use crate::wire::http1::edit::Action::{self, Add, Remove, Set};
use core::net::SocketAddr;
use std::format;
use std::string::String;

type Edits<'a> = &'a [(Action, &'a str, &'a str)];

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What a route's filters are, in a script's words.
#[derive(Clone, Copy, Default)]
struct Spec<'a> {
    request: Edits<'a>,
    response: Edits<'a>,
    url: Url<'a>,
    backend: Option<(Edits<'a>, Edits<'a>, Url<'a>)>,
}

#[derive(Clone, Copy, Default)]
struct Url<'a> {
    action: UrlAction,
    scheme: Scheme,
    port: u16,
    status: u16,
    hostname: &'a str,
    path: Option<(PathChange, &'a str)>,
}

fn filter(s: &mut Snapshot, request: Edits<'_>, response: Edits<'_>, url: &Url<'_>) -> u32 {
    let (path_change, path) = url.path.unwrap_or_default();
    let row = UrlFilter {
        action: url.action,
        scheme: url.scheme,
        path_change,
        status: url.status,
        port: url.port,
        hostname: building::string(s, url.hostname),
        path: building::string(s, path),
    };
    building::filter(s, request, response, row)
}

/// One listener at a port, one route for a prefix with these filters.
fn filtered(s: &mut Snapshot, port: u16, prefix: &str, spec: &Spec<'_>) {
    let bind = building::bind(s, SocketAddr::from(([0, 0, 0, 0], port)));
    let listener = building::listener(s, "", port, &[bind]);
    let pool = building::pool(s, "p", &[endpoint(1)]);
    let redirects = spec.url.action == UrlAction::Redirect;
    let backends: &[_] = if redirects { &[] } else { &[(pool, 1)] };
    let route = building::route(s, "r", &[(listener, "")], &[MatchSpec::prefix(prefix)], backends);
    s.routes[route].filter = filter(s, spec.request, spec.response, &spec.url);
    if let Some((request, response, url)) = spec.backend {
        let backend = s.routes[route].backends.start;
        s.backends[backend].filter = filter(s, request, response, &url);
    }
}

fn rig(spec: Spec<'_>) -> Rig {
    Rig::with(|s| filtered(s, 80, "", &spec))
}

fn ours(host: &str) -> String {
    format!(
        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: {host}\r\n\
         X-Forwarded-Port: 80\r\n"
    )
}

/// What the backend gets of a request.
fn sent(rig: &mut Rig, request: &str) -> String {
    let client = rig.client();
    rig.send(client, request);
    let backend = rig.backend();
    let got = rig.got(backend);
    rig.send(backend, OK);
    assert_eq!(rig.got(client), OK);
    rig.assert_at_rest();
    got
}

#[test]
fn request_fields_are_set_added_and_removed() {
    let request: Edits<'_> = &[(Set, "X-Set", "new"), (Add, "X-Add", "b"), (Remove, "x-gone", "")];
    let mut rig = rig(Spec { request, ..Spec::default() });
    let got = sent(
        &mut rig,
        "GET /a HTTP/1.1\r\nHost: h\r\nx-set: old\r\nX-ADD: a\r\nX-Gone: 1\r\nX-SET: older\r\n\
         x-gone: 2\r\nKeep: k\r\n\r\n",
    );
    let expected = format!(
        "GET /a HTTP/1.1\r\nHost: h\r\nX-ADD: a\r\nKeep: k\r\n{}X-Set: new\r\nX-Add: b\r\n\r\n",
        ours("h")
    );
    assert_eq!(got, expected);
}

#[test]
fn what_the_router_says_of_the_client_can_be_edited() {
    let request: Edits<'_> = &[
        (Set, "X-Forwarded-Proto", "https"),
        (Remove, "x-forwarded-for", ""),
        (Add, "X-Forwarded-Host", "other"),
    ];
    let mut rig = rig(Spec { request, ..Spec::default() });
    let got = sent(&mut rig, "GET /a HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
    let expected = "GET /a HTTP/1.1\r\nHost: h\r\nX-Forwarded-Host: h\r\nX-Forwarded-Port: 80\r\n\
                    X-Forwarded-Proto: https\r\nX-Forwarded-Host: other\r\n\r\n";
    assert_eq!(got, expected);
}

#[test]
fn response_fields_are_edited_framing_is_not() {
    let response: Edits<'_> = &[(Set, "Server", "s"), (Add, "Vary", "b"), (Remove, "X-Gone", "")];
    let mut rig = rig(Spec { response, ..Spec::default() });
    let client = rig.client();
    for round in 0..3 {
        rig.send(client, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
        if round == 0 {
            rig.backend();
        }
        assert_eq!(rig.worker.exchanges.edits_in_use(), 1);
        let backend = 1;
        assert!(rig.got(backend).starts_with("GET /a HTTP/1.1\r\n"));
        // An interim response is passed on as it is.
        rig.send(backend, "HTTP/1.1 103 Early Hints\r\nVary: a\r\n\r\n");
        assert_eq!(rig.got(client), "HTTP/1.1 103 Early Hints\r\nVary: a\r\n\r\n");
        rig.send(
            backend,
            "HTTP/1.1 200 OK\r\nserver: t\r\nVary: a\r\nx-gone: 1\r\nContent-Length: 2\r\n\r\nok",
        );
        assert_eq!(
            rig.got(client),
            "HTTP/1.1 200 OK\r\nVary: a\r\nContent-Length: 2\r\nServer: s\r\nVary: b\r\n\r\nok"
        );
        rig.assert_at_rest();
        assert_eq!(rig.worker.exchanges.edits_in_use(), 0);
    }
}

/// The edits of the configuration that decided hold, though another one is in force by now.
#[test]
fn response_edits_outlive_their_configuration() {
    let mut rig = rig(Spec { response: &[(Set, "X-V", "1")], ..Spec::default() });
    let old = rig.client();
    rig.send(old, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    let old_backend = rig.backend();
    let second = Spec { response: &[(Set, "X-V", "2")], ..Spec::default() };
    rig.swap(|s| filtered(s, 80, "", &second));
    let new = rig.client();
    rig.send(new, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    let new_backend = rig.backend();
    assert_eq!(rig.worker.exchanges.edits_in_use(), 2);
    rig.swap(|s| plain(s, 1));
    for (client, backend, value) in [(old, old_backend, "1"), (new, new_backend, "2")] {
        rig.send(backend, OK);
        let expected = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-V: {value}\r\n\r\nok");
        assert_eq!(rig.got(client), expected);
    }
    assert_eq!(rig.worker.exchanges.edits_in_use(), 0);
    rig.assert_at_rest();
}

/// One configuration more than there are lists, each with a request on its way.
#[test]
fn more_lists_than_there_are_get_503_and_count() {
    let lists = Capacities::DEFAULT.max_response_edits;
    let mut rig = Rig::sized(2 * lists + 8, 4 * lists as usize + 24, |s| plain(s, 1));
    let mut waiting = std::vec::Vec::new();
    for round in 0..=lists {
        let value = format!("{round}");
        let spec = Spec { response: &[(Set, "X-V", &value)], ..Spec::default() };
        rig.swap(|s| filtered(s, 80, "", &spec));
        let client = rig.client();
        rig.send(client, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
        if round < lists {
            waiting.push((client, rig.backend(), value));
        } else {
            assert!(rig.got(client).starts_with("HTTP/1.1 503 "));
            assert_eq!(rig.worker.counters().edits_exhausted, 1);
        }
    }
    for (client, backend, value) in waiting {
        rig.send(backend, OK);
        assert!(rig.got(client).contains(&format!("\r\nX-V: {value}\r\n")));
    }
    rig.assert_at_rest();
}

/// The table of HTTPPathModifier.replacePrefixMatch; the replacement as it is kept.
#[test]
fn prefixes_are_replaced_as_the_api_says() {
    for (path, prefix, replacement, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/bar?q=/foo&r", "/foo", "/xyz", "/xyz/bar?q=/foo&r"),
        ("/%66oo/b%2fr", "/foo", "/xyz", "/xyz/b%2Fr"),
        ("/bar", "", "/xyz", "/xyz/bar"),
        ("/", "", "/xyz", "/xyz/"),
    ] {
        let path_change = Some((PathChange::Prefix, replacement));
        let rewrite = Url { action: UrlAction::Rewrite, path: path_change, ..Url::default() };
        let spec = Spec { url: rewrite, ..Spec::default() };
        let mut rig = Rig::with(|s| filtered(s, 80, prefix, &spec));
        let got = sent(&mut rig, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(got.lines().next(), Some(&*format!("GET {expected} HTTP/1.1")), "{path}");
        let status = 302;
        let redirect = Url { action: UrlAction::Redirect, status, ..rewrite };
        let spec = Spec { url: redirect, ..Spec::default() };
        let mut rig = Rig::with(|s| filtered(s, 80, prefix, &spec));
        let client = rig.client();
        rig.send(client, format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let got = rig.got(client);
        assert_eq!(got.lines().nth(1), Some(&*format!("Location: http://h{expected}")), "{path}");
    }
}

#[test]
fn a_rewritten_request_says_what_was_asked_for() {
    let url = Url {
        action: UrlAction::Rewrite,
        hostname: "new.example",
        path: Some((PathChange::Full, "/one")),
        ..Url::default()
    };
    let mut rig = rig(Spec { url, ..Spec::default() });
    let got = sent(&mut rig, "POST /a/b?q HTTP/1.1\r\nHost: old:81\r\nContent-Length: 1\r\n\r\nx");
    let expected = format!(
        "POST /one?q HTTP/1.1\r\nHost: new.example\r\nContent-Length: 1\r\n{}\r\nx",
        ours("old:81")
    );
    assert_eq!(got, expected);
}

/// HTTPRequestRedirectFilter.port, case by case: (listener, scheme, port) to the authority.
#[test]
fn where_redirects_lead() {
    for (listener, scheme, port, expected) in [
        (80, Scheme::Same, 0, "http://h"),
        (80, Scheme::Same, 80, "http://h"),
        (80, Scheme::Same, 8080, "http://h:8080"),
        (80, Scheme::Https, 0, "https://h"),
        (80, Scheme::Https, 443, "https://h"),
        (80, Scheme::Https, 8443, "https://h:8443"),
        (80, Scheme::Http, 443, "http://h:443"),
        (8080, Scheme::Same, 0, "http://h:8080"),
        (8080, Scheme::Same, 80, "http://h"),
        (8080, Scheme::Http, 0, "http://h"),
        (8080, Scheme::Https, 0, "https://h"),
        (443, Scheme::Same, 0, "http://h:443"),
    ] {
        let url = Url { action: UrlAction::Redirect, scheme, port, status: 301, ..Url::default() };
        let spec = Spec { url, ..Spec::default() };
        let mut rig = Rig::with(|s| filtered(s, listener, "", &spec));
        let client = rig.client_at(listener).unwrap();
        // The Host's own port says nothing about where the client is sent.
        rig.send(client, "GET /a/b?c=d HTTP/1.1\r\nHost: h:99\r\n\r\n");
        let body = "Content-Type: text/plain\r\nContent-Length: 22\r\n\r\n301 Moved Permanently\n";
        let location = format!("Location: {expected}/a/b?c=d");
        let expected = format!("HTTP/1.1 301 Moved Permanently\r\n{location}\r\n{body}");
        assert_eq!(rig.got(client), expected);
        rig.assert_at_rest();
    }
}

#[test]
fn redirects_keep_the_connection_and_head_gets_no_body() {
    for (status, phrase) in [
        (301, "Moved Permanently"),
        (302, "Found"),
        (303, "See Other"),
        (307, "Temporary Redirect"),
        (308, "Permanent Redirect"),
    ] {
        let url = Url {
            action: UrlAction::Redirect,
            status,
            hostname: "example.org",
            path: Some((PathChange::Full, "/full")),
            ..Url::default()
        };
        let response: Edits<'_> = &[(Set, "Cache-Control", "no-store")];
        let mut rig = rig(Spec { response, url, ..Spec::default() });
        let client = rig.client();
        let get = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
        rig.send(client, format!("{}{get}", get.replace("GET", "HEAD")));
        let got = rig.got(client);
        let line = format!("HTTP/1.1 {status} {phrase}\r\nLocation: http://example.org/full\r\n");
        assert!(got.starts_with(&line), "{got}");
        assert_eq!(got.matches(&line).count(), 2, "{got}");
        assert_eq!(got.matches(&format!("\n{status} {phrase}\n")).count(), 1, "{got}");
        assert_eq!(got.matches("Cache-Control: no-store\r\n").count(), 2);
        assert!(rig.closed(client).is_none() && rig.io.opened.is_empty());
        // What follows a body that nobody reads cannot be told from it.
        rig.send(client, "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
        assert!(rig.got(client).contains("\r\nConnection: close\r\n"));
        assert!(rig.is_shut(client));
        rig.end(client, End::Eof);
        rig.assert_at_rest();
    }
}

/// Edits that make a head longer than the headroom: it goes out alone, the body after it.
#[test]
fn edits_longer_than_the_headroom() {
    let long = "v".repeat((MAX_EDIT_BYTES as usize - 5 - "x-long".len()).min(4096));
    let edits: Edits<'_> = &[(Set, "X-Long", &long)];
    for body in ["", "abc", &"z".repeat(300)] {
        for step in [1, 17, usize::MAX] {
            let mut rig = rig(Spec { request: edits, response: edits, ..Spec::default() });
            rig.step = step;
            let client = rig.client();
            let length = format!("Content-Length: {}\r\n", body.len());
            let post = format!("POST /a HTTP/1.1\r\nHost: h\r\n{length}\r\n{body}");
            rig.send(client, format!("{post}{post}"));
            let backend = rig.backend();
            for _ in 0..2 {
                let got = rig.got(backend);
                assert!(got.contains(&format!("X-Long: {long}\r\n")) && got.ends_with(body));
                assert_eq!(got.matches("POST ").count(), 1, "{got}");
                rig.send(backend, format!("HTTP/1.1 200 OK\r\n{length}\r\n{body}"));
                let got = rig.got(client);
                let expected = format!("HTTP/1.1 200 OK\r\n{length}X-Long: {long}\r\n\r\n{body}");
                assert_eq!(got, expected, "step {step}");
            }
            rig.assert_at_rest();
        }
    }
}

#[test]
fn a_backends_filters_come_after_its_routes() {
    let route: Edits<'_> = &[(Set, "X-A", "route"), (Set, "X-B", "route")];
    let backend: Edits<'_> = &[(Remove, "x-a", ""), (Add, "X-B", "backend"), (Set, "X-C", "1")];
    let rewrite = Url {
        action: UrlAction::Rewrite,
        hostname: "b.example",
        path: Some((PathChange::Full, "/b")),
        ..Url::default()
    };
    let url = Url { hostname: "r.example", path: None, ..rewrite };
    let backend = Some((backend, backend, rewrite));
    let mut rig = rig(Spec { request: route, response: route, url, backend });
    let client = rig.client();
    rig.send(client, "GET /a HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n\r\n");
    let to = rig.backend();
    let fields = "X-B: route\r\nX-B: backend\r\nX-C: 1\r\n\r\n";
    let expected = format!("GET /b HTTP/1.1\r\nHost: b.example\r\n{}{fields}", ours("h"));
    assert_eq!(rig.got(to), expected);
    rig.send(to, OK);
    let expected = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{fields}ok");
    assert_eq!(rig.got(client), expected);
}

#[test]
fn a_backend_may_redirect() {
    let redirect =
        Url { action: UrlAction::Redirect, status: 302, scheme: Scheme::Https, ..Url::default() };
    let mut rig = rig(Spec { backend: Some((&[], &[], redirect)), ..Spec::default() });
    let client = rig.client();
    rig.send(client, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(rig.got(client).starts_with("HTTP/1.1 302 Found\r\nLocation: https://h/a\r\n"));
    assert!(rig.io.opened.is_empty());
}

/// A change of endpoints costs a rewritten request nothing: it is routed again by its rule, not by
/// the path that it has now, and undergoes its filters once.
#[test]
fn a_rewritten_request_finds_its_rule_again() {
    let rewrite = |s: &mut Snapshot, n: u8| {
        let url = Url {
            action: UrlAction::Rewrite,
            path: Some((PathChange::Prefix, "/new")),
            ..Url::default()
        };
        let spec = Spec { request: &[(Add, "X-A", "1")], url, ..Spec::default() };
        filtered(s, 80, "/old", &spec);
        let pool = s.routes[0].backends.start;
        let upstreams = s.pools[s.backends[pool].pool].upstreams;
        s.upstreams.as_mut_slice()[upstreams.range()][0].address = endpoint(n);
    };
    let mut rig = Rig::with(|s| rewrite(s, 1));
    let client = rig.client();
    rig.send(client, "GET /old/a HTTP/1.1\r\nHost: h\r\n\r\n");
    let (first, to) = rig.opening();
    assert_eq!(to, endpoint(1));
    rig.swap(|s| rewrite(s, 2));
    rig.refused(first);
    let (second, to) = rig.opening();
    assert_eq!(to, endpoint(2));
    rig.connected(second);
    let got = rig.got(second);
    assert!(got.starts_with("GET /new/a HTTP/1.1\r\n"), "{got}");
    assert_eq!(got.matches("X-A: 1\r\n").count(), 1, "{got}");
    rig.send(second, OK);
    assert_eq!(rig.got(client), OK);
}

/// A request that filters changed is routed again where only endpoints are others. Whatever else
/// changed, matches, filters or the host that the rule is for, the request might go elsewhere now.
#[test]
fn a_request_that_is_routed_again_gets_one_configuration() {
    let rule = |s: &mut Snapshot, n: u8, [path, request, response, host]: [&str; 4]| {
        let spec = Spec {
            request: &[(Set, "X-A", request)],
            response: &[(Set, "X-B", response)],
            ..Spec::default()
        };
        filtered(s, 80, path, &spec);
        let pool = s.routes[0].backends.start;
        let upstreams = s.pools[s.backends[pool].pool].upstreams;
        s.upstreams.as_mut_slice()[upstreams.range()][0].address = endpoint(n);
        s.hosts.as_mut_slice()[0].hostname = s.text.push(host).unwrap();
    };
    let again = |changed: [&str; 4]| {
        let mut rig = Rig::with(|s| rule(s, 1, ["/p", "1", "1", ""]));
        let client = rig.client();
        rig.send(client, "GET /p/a HTTP/1.1\r\nHost: h\r\n\r\n");
        let (first, _) = rig.opening();
        rig.swap(|s| rule(s, 2, changed));
        rig.refused(first);
        if !rig.io.opened.is_empty() {
            let (second, to) = rig.opening();
            assert_eq!(to, endpoint(2));
            rig.connected(second);
            rig.send(second, OK);
        }
        let got = rig.got(client);
        assert_eq!(rig.worker.exchanges.edits_in_use(), 0);
        got
    };
    let got = again(["/p", "1", "1", ""]);
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.contains("X-B: 1\r\n"), "{got}");
    for changed in [
        ["/other", "1", "1", ""],
        ["/p", "2", "1", ""],
        ["/p", "1", "2", ""],
        ["/p", "1", "1", "o.net"],
    ] {
        let got = again(changed);
        assert!(got.starts_with("HTTP/1.1 503 "), "{changed:?}: {got}");
    }
}

#[test]
fn filters_that_a_snapshot_may_not_have() {
    let redirect = Url { action: UrlAction::Redirect, status: 302, ..Url::default() };
    let rewrite = Url { action: UrlAction::Rewrite, ..Url::default() };
    let full = |path| Url { path: Some((PathChange::Full, path)), ..rewrite };
    let prefix = |path| Url { path: Some((PathChange::Prefix, path)), ..rewrite };
    // Two edits of one-byte names, as large as a list may be, and one byte more.
    let half = "v".repeat(MAX_EDIT_BYTES as usize / 2 - 6);
    let rest = "v".repeat(MAX_EDIT_BYTES as usize - half.len() - 12);
    let long = format!("{rest}v");
    let invalid = |request: Edits<'_>, url: Url<'_>| {
        let mut snapshot = crate::stdx::zeroed_box::<Snapshot>();
        snapshot.set_caps(&Capacities::DEFAULT);
        filtered(&mut snapshot, 80, "/p", &Spec { request, url, ..Spec::default() });
        snapshot.validate().is_err()
    };
    assert!(!invalid(&[(Set, "a", &half), (Set, "b", &rest)], Url::default()));
    assert!(invalid(&[(Set, "a", &half), (Set, "b", &long)], Url::default()));
    for edits in [
        [(Set, "Host", "x"), (Set, "b", "x")],
        [(Add, "content-length", "3"), (Set, "b", "x")],
        [(Remove, "Transfer-Encoding", ""), (Set, "b", "x")],
        [(Set, "Connection", "close"), (Set, "b", "x")],
        [(Set, "a", "x\r\nEvil: 1"), (Set, "b", "x")],
        [(Set, "a", "x\0"), (Set, "b", "x")],
        [(Set, "a b", "x"), (Set, "b", "x")],
        [(Set, "A", "x"), (Remove, "a", "")],
        [(Remove, "a", "x"), (Set, "b", "x")],
        [(Set, "a", ""), (Set, "b", "x")],
    ] {
        assert!(invalid(&edits, Url::default()), "{edits:?}");
        assert!(!invalid(&edits[..0], Url::default()));
    }
    for url in [redirect, full("/a"), prefix(""), prefix("/a/b"), Url { port: 1, ..redirect }] {
        assert!(!invalid(&[], url));
    }
    for url in [
        Url { status: 200, ..redirect },
        Url { hostname: "*.a", ..redirect },
        Url { hostname: "A", ..rewrite },
        Url { port: 1, ..rewrite },
        Url { hostname: "a", ..Url::default() },
        full(""),
        full("a"),
        full("//a"),
        full("/a?b"),
        full("/a b"),
        full("/a\r\n"),
        full("/../a"),
        full("/%61"),
        prefix("/a/"),
    ] {
        assert!(invalid(&[], url), "{:?} {:?}", url.hostname, url.path);
    }
    assert_eq!(NO_FILTER, u32::MAX);
}
