//! Scripts against the watch machine: a client with virtual time, a server that is the test.

extern crate std;

use super::*;
use crate::limits::{
    BACKOFF_ERROR_FIRST_MS, BACKOFF_ERROR_MAX_MS, BACKOFF_SILENT_MAX_MS, MAX_LINE_SIZE_BYTES,
};
use crate::shell::{json, place::boxed_zeroed};
use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// The machine, its driver's document, and what it did.
struct Client {
    watch: Box<Watch>,
    document: Box<Document>,
    now: Now,
    /// What it did since the last look.
    log: Vec<String>,
    /// Connections are made at once.
    reachable: bool,
    connected: bool,
}

impl Client {
    fn new(kind: Watched) -> Client {
        let mut watch = boxed_zeroed::<Watch>();
        let settings = Settings { kind, authority: "a:1", prefix: "", token: b"t0" };
        watch.start(settings, Prng::new(7)).unwrap();
        let mut client = Client {
            watch,
            document: boxed_zeroed(),
            now: Now { mono: Instant(1), wall: Default::default() },
            log: Vec::new(),
            reachable: true,
            connected: false,
        };
        client.tick();
        client
    }

    fn input(&mut self, input: Input<'_>) -> usize {
        let used = self.watch.input(input, self.now).expect("no outputs wait");
        self.drain();
        used
    }

    fn drain(&mut self) {
        enum Then {
            Nothing,
            Parsed,
            Refused,
            Connected,
            Unreachable,
        }
        loop {
            let Some(output) = self.watch.poll_output(&self.document) else { return };
            let mut then = Then::Nothing;
            let text = match output {
                Output::Connect if self.reachable => {
                    then = Then::Connected;
                    "connect".into()
                }
                Output::Connect => {
                    then = Then::Unreachable;
                    "connect".into()
                }
                Output::Disconnect => {
                    self.connected = false;
                    "disconnect".into()
                }
                Output::Send(bytes) => {
                    let text = String::from_utf8(bytes.to_vec()).unwrap();
                    assert!(text.ends_with("\r\n\r\n"));
                    text.split(" HTTP/1.1").next().unwrap().to_string()
                }
                Output::ReadToken => "token".into(),
                Output::Parse(line) => {
                    let parsed = json::parse(line, &mut self.document);
                    then = if parsed.is_ok() { Then::Parsed } else { Then::Refused };
                    String::new()
                }
                Output::Event(event) => describe(event),
            };
            if !text.is_empty() {
                self.log.push(text);
            }
            let input = match then {
                Then::Nothing => continue,
                Then::Parsed => Input::Parsed(&self.document),
                Then::Refused => Input::Refused,
                Then::Connected => {
                    self.connected = true;
                    Input::Connected
                }
                Then::Unreachable => Input::Closed(Trouble::Unreachable),
            };
            assert!(self.watch.poll_output(&self.document).is_none());
            self.watch.input(input, self.now).expect("answers are taken");
        }
    }

    /// Sends bytes of the server in pieces.
    fn receive(&mut self, bytes: &[u8], piece: usize) {
        for mut chunk in bytes.chunks(piece) {
            while !chunk.is_empty() {
                let used = self.input(Input::Bytes(chunk));
                chunk = &chunk[used..];
            }
        }
    }

    fn receive_all(&mut self, text: &str) {
        self.receive(text.as_bytes(), 1 << 30);
    }

    fn close(&mut self) {
        self.connected = false;
        self.input(Input::Closed(Trouble::Closed));
    }

    fn tick(&mut self) {
        self.watch.tick(self.now);
        self.drain();
    }

    /// Time goes on; timers fire at their moments.
    fn wait(&mut self, ms: u64) {
        let until = self.now.mono + Duration::from_millis(ms);
        while let Some(at) = self.watch.timeout().filter(|&at| at <= until) {
            self.now.mono = self.now.mono.max(at);
            self.tick();
        }
        self.now.mono = until;
    }

    /// What it did since the last look.
    fn take(&mut self) -> Vec<String> {
        core::mem::take(&mut self.log)
    }

    fn expect(&mut self, expected: &[&str]) {
        assert_eq!(self.take(), expected);
    }

    /// Waits until it asks; returns the request line.
    fn next_request(&mut self, within_ms: u64) -> String {
        let mut passed = 0;
        loop {
            let log = self.take();
            if let Some(line) = log.iter().rev().find(|l| l.starts_with("GET ")) {
                return line.clone();
            }
            assert!(passed < within_ms, "no request within {within_ms} ms");
            self.wait(10);
            passed += 10;
        }
    }
}

fn describe(event: Event<'_>) -> String {
    match event {
        Event::ResyncBegin { epoch } => format!("begin {epoch}"),
        Event::Upsert { object } => {
            let of = |name| object.at(&["metadata", name]).and_then(Value::str).unwrap_or("");
            format!("upsert {}/{}@{}", of("namespace"), of("name"), of("resourceVersion"))
        }
        Event::Delete { namespace, name, uid } => format!("delete {namespace}/{name} {uid}"),
        Event::ResyncEnd { epoch, complete } => format!("end {epoch} {complete}"),
        Event::Synced => "synced".into(),
        Event::Bookmark => "bookmark".into(),
        Event::Skipped { why, namespace, name, size } => {
            format!("skipped {why:?} {namespace}/{name} {size}")
        }
        Event::Served { version } => format!("served {version}"),
        Event::Absent => "absent".into(),
        Event::Vanished => "vanished".into(),
        Event::Retrying { trouble, .. } => format!("retry {trouble:?}"),
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn event(kind: &str, name: &str, version: &str) -> String {
    format!(
        r#"{{"type":"{kind}","object":{{"metadata":{{"name":"{name}","namespace":"ns",
        "uid":"u-{name}","resourceVersion":"{version}"}}}}}}"#
    )
    .replace('\n', " ")
        + "\n"
}

fn initial_end(version: &str) -> String {
    format!(
        r#"{{"type":"BOOKMARK","object":{{"metadata":{{"resourceVersion":"{version}",
        "annotations":{{"k8s.io/initial-events-end":"true"}}}}}}}}"#
    )
    .replace('\n', " ")
        + "\n"
}

fn answer(status: u16, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} x\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn status(code: u16, reason: &str) -> String {
    let body = format!(r#"{{"kind":"Status","code":{code},"reason":"{reason}"}}"#);
    answer(code, "", &body)
}

/// A client whose first state {a@3} is whole, at version 10.
fn synced(kind: Watched) -> Client {
    let mut client = Client::new(kind);
    client.receive_all(CHUNKED);
    client.receive_all(&chunk(&event("ADDED", "a", "3")));
    client.receive_all(&chunk(&initial_end("10")));
    assert!(client.watch.is_synced());
    client.take();
    client
}

const PATH: &str = "GET /apis/gateway.networking.k8s.io/v1/httproutes";

fn without_timeout(line: &str) -> String {
    let Some((before, after)) = line.split_once("timeoutSeconds=") else { return line.into() };
    before.to_string() + after.trim_start_matches(|c: char| c.is_ascii_digit())
}

fn seconds(line: &str) -> u64 {
    let after = line.split_once("timeoutSeconds=").unwrap().1;
    after.split('&').next().unwrap().parse().unwrap()
}

const STREAM: &str = "?watch=1&allowWatchBookmarks=true&\
    &sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
const WATCH: &str = "?watch=1&allowWatchBookmarks=true&";

#[test]
fn state_then_events_cut_at_every_position() {
    let text = [
        CHUNKED.into(),
        chunk(&event("ADDED", "a", "9")),
        chunk(&event("ADDED", "ä", "4")),
        chunk(&initial_end("10")),
        chunk(&(event("MODIFIED", "a", "11") + &event("DELETED", "ä", "12"))),
        chunk("\n"),
        chunk("{\"type\":\"LATER\",\"object\":{}}\n"),
        chunk("{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"13\"}}}\n"),
        chunk(r#"{"type":"ADDED","object":{"metadata":{"name":"cut"#),
    ]
    .concat();
    for piece in (1..200).chain([text.len()]) {
        let mut client = Client::new(Watched::HttpRoute);
        let log = client.take();
        assert_eq!(log[0], "connect");
        assert_eq!(without_timeout(&log[1]), format!("{PATH}{STREAM}"));
        assert!((300..=600).contains(&seconds(&log[1])));
        client.receive(text.as_bytes(), piece);
        client.expect(&[
            "served v1",
            "begin 1",
            "upsert ns/a@9",
            "upsert ns/ä@4",
            "end 1 true",
            "synced",
            "upsert ns/a@11",
            "delete ns/ä u-ä",
            "bookmark",
        ]);
        // The cut line is not applied; the next watch goes on after the last bookmark.
        client.close();
        client.expect(&["retry Closed"]);
        let line = client.next_request(150);
        assert_eq!(without_timeout(&line), format!("{PATH}{WATCH}&resourceVersion=13"));
        assert_eq!(seconds(&line), 90);
    }
}

#[test]
fn a_server_without_watchlist_is_listed_in_pages() {
    let mut client = Client::new(Watched::Secret);
    client.take();
    client.receive_all(&status(422, "Invalid"));
    let list = "GET /api/v1/secrets?limit=500&fieldSelector=type%3Dkubernetes.io%2Ftls"
        .replace("500", &KUBE_LIST_PAGE.to_string());
    assert_eq!(client.next_request(10), list);
    let page = |token: &str, items: &str| {
        let meta = format!(r#"{{"resourceVersion":"20","continue":"{token}"}}"#);
        answer(200, "", &format!(r#"{{"metadata":{meta},"items":[{items}]}}"#))
    };
    client.receive(page("x+/=", r#"{"metadata":{"name":"a"}}"#).as_bytes(), 7);
    client.expect(&["served v1", "begin 1", "upsert /a@"]);
    client.wait(10);
    client.expect(&[&format!("{list}&continue=x%2B%2F%3D")]);
    client.receive(page("", r#"{"metadata":{"name":"b"}}, {"metadata":{}}"#).as_bytes(), 7);
    client.expect(&["upsert /b@", "skipped Malformed / 15", "end 1 false", "synced"]);
    let line = client.next_request(10);
    assert!(line.ends_with("&resourceVersion=20") && line.contains("watch=1"), "{line}");
}

#[test]
fn a_server_that_ignores_watchlist_is_listed() {
    let mut client = Client::new(Watched::HttpRoute);
    client.receive_all(CHUNKED);
    client.receive_all(&chunk(&event("ADDED", "a", "3")));
    client.take();
    client.wait(59_000);
    client.expect(&[]);
    client.wait(1_100);
    client.expect(&["disconnect", "connect", &format!("{PATH}?limit={KUBE_LIST_PAGE}")]);
}

#[test]
fn expired_as_event_then_as_status() {
    let mut client = synced(Watched::HttpRoute);
    let gone = r#"{"type":"ERROR","object":{"code":410,"reason":"Expired"}}"#;
    client.receive_all(&chunk(&format!("{gone}\n")));
    client.expect(&["disconnect", "retry Status(410)"]);
    let line = client.next_request(1000);
    assert_eq!(without_timeout(&line), format!("{PATH}{STREAM}&resourceVersion=10"));
    // Not even a state not older than ours: then any.
    client.receive_all(&status(410, "Gone"));
    client.expect(&["disconnect", "retry Status(410)"]);
    let line = client.next_request(2000);
    assert_eq!(without_timeout(&line), format!("{PATH}{STREAM}"));
    client.receive_all(CHUNKED);
    client.receive_all(&chunk(&initial_end("99")));
    client.expect(&["begin 2", "end 2 true"]);
}

#[test]
fn expired_behind_errors_is_relisted_soon_and_again_and_again_ever_later() {
    let mut client = synced(Watched::HttpRoute);
    client.receive_all("0\r\n\r\n");
    client.next_request(200);
    for _ in 0..10 {
        client.receive_all(&status(500, "InternalError"));
        client.expect(&["disconnect", "retry Status(500)"]);
        client.next_request(u64::from(BACKOFF_ERROR_MAX_MS));
    }
    let gone = r#"{"type":"ERROR","object":{"code":410,"reason":"Expired"}}"#;
    let mut relists = 0;
    let began = client.now.mono;
    while client.now.mono.since(began) < Duration::from_secs(300) {
        client.receive_all(CHUNKED);
        client.receive_all(&chunk(&format!("{gone}\n")));
        client.take();
        let within = if relists == 0 { BACKOFF_ERROR_FIRST_MS } else { BACKOFF_ERROR_MAX_MS };
        client.next_request(u64::from(within));
        // The state is given whole each time, and the watch behind it expires at once.
        client.receive_all(CHUNKED);
        client.receive_all(&chunk(&initial_end("99")));
        client.take();
        client.receive_all(&chunk(&format!("{gone}\n")));
        client.take();
        client.next_request(u64::from(BACKOFF_ERROR_MAX_MS));
        relists += 1;
    }
    assert!(relists < 15, "no busy loop: {relists}");
}

#[test]
fn a_server_restored_to_an_older_state() {
    let mut client = synced(Watched::HttpRoute);
    // It cannot know our version: the watch stays silent for its whole, short, term.
    client.close();
    let line = client.next_request(200);
    assert_eq!(seconds(&line), 90);
    client.receive_all(CHUNKED);
    client.wait(89_900);
    client.receive_all("0\r\n\r\n");
    let line = client.next_request(200);
    assert_eq!(without_timeout(&line), format!("{PATH}{STREAM}&resourceVersion=10"));
    let body = r#"{"kind":"Status","code":504,"reason":"Timeout","details":{"causes":[
        {"reason":"ResourceVersionTooLarge"}],"retryAfterSeconds":1}}"#;
    client.receive_all(&answer(504, "", body));
    let line = client.next_request(2000);
    assert_eq!(without_timeout(&line), format!("{PATH}{STREAM}"));
}

#[test]
fn a_version_the_server_does_not_understand() {
    let mut client = synced(Watched::HttpRoute);
    client.receive_all("0\r\n\r\n");
    client.next_request(200);
    client.receive_all(&status(400, "BadRequest"));
    let line = client.next_request(1000);
    assert_eq!(without_timeout(&line), format!("{PATH}{STREAM}"));
}

#[test]
fn an_expired_continue_token_begins_the_list_anew() {
    let mut client = Client::new(Watched::Service);
    client.next_request(0);
    client.receive_all(&status(400, "BadRequest"));
    client.next_request(10);
    let body = r#"{"metadata":{"resourceVersion":"2","continue":"c"},"items":[]}"#;
    client.receive_all(&answer(200, "", body));
    assert!(client.next_request(10).ends_with("&continue=c"));
    client.receive_all(&status(410, "Expired"));
    let line = client.next_request(1000);
    assert_eq!(line, format!("GET /api/v1/services?limit={KUBE_LIST_PAGE}"));
    let body = r#"{"metadata":{"resourceVersion":"3"},"items":[]}"#;
    client.receive_all(&answer(200, "", body));
    client.expect(&["begin 2", "end 2 true", "synced"]);
}

#[test]
fn a_continue_token_too_long_to_send_back() {
    let mut client = Client::new(Watched::Service);
    client.next_request(0);
    client.receive_all(&status(400, "BadRequest"));
    client.next_request(10);
    let token = "t".repeat(crate::limits::KUBE_CONTINUE_BYTES as usize + 1);
    let body =
        format!(r#"{{"metadata":{{"resourceVersion":"2","continue":"{token}"}},"items":[]}}"#);
    client.receive_all(&answer(200, "", &body));
    assert_eq!(client.next_request(10), "GET /api/v1/services?limit=0");
}

#[test]
fn an_oversized_object_is_named_and_the_stream_goes_on() {
    let mut client = synced(Watched::HttpRoute);
    let fill = "x".repeat(MAX_LINE_SIZE_BYTES as usize);
    let big = |kind: &str| {
        event(kind, "big", "11").replace("\"uid\"", &format!("\"fill\":\"{fill}\",\"uid\""))
    };
    client.receive(chunk(&big("MODIFIED")).as_bytes(), 16_384);
    client.receive_all(&chunk(&event("ADDED", "b", "12")));
    let size = big("MODIFIED").len() - 1;
    client.expect(&[&format!("skipped TooLarge ns/big {size}"), "upsert ns/b@12"]);
    // A deletion needs only the name.
    client.receive(chunk(&big("DELETED")).as_bytes(), 16_384);
    client.expect(&["delete ns/big u-big"]);
    // One that no document takes.
    let version = r#""resourceVersion":"13""#;
    let deep = format!(
        r#"{{"type":"ADDED","object":{{"x":{}{},"metadata":{{"name":"deep",{version}}}}}}}"#,
        "[".repeat(64),
        "]".repeat(64)
    );
    client.receive_all(&chunk(&format!("{deep}\n")));
    client.expect(&[&format!("skipped Refused /deep {}", deep.len())]);
    client.receive_all(&chunk("{\"type\":\"ADDED\",\"object\":{}}\nnot json\n"));
    client.expect(&["skipped Malformed / 28", "skipped Refused / 8"]);
    client.receive_all("0\r\n\r\n");
    assert!(client.next_request(200).ends_with("resourceVersion=13"));
}

#[test]
fn items_larger_than_any_buffer() {
    let mut client = Client::new(Watched::Service);
    client.next_request(0);
    client.receive_all(&status(400, "BadRequest"));
    client.next_request(10);
    let fill = "x".repeat(MAX_LINE_SIZE_BYTES as usize);
    let item =
        |n: usize| format!(r#"{{"metadata":{{"name":"n{n}","namespace":"ns"}},"x":"{fill}"}}"#);
    let items: Vec<String> = (0..5).map(item).collect();
    let small = r#"{"metadata":{"name":"small","namespace":"ns"}}"#;
    let body = format!(
        r#"{{"items":[{},{small}],"metadata":{{"resourceVersion":"2"}}}}"#,
        items.join(",")
    );
    client.receive(answer(200, "", &body).as_bytes(), 10_007);
    let skipped = |n: usize| format!("skipped TooLarge ns/n{n} {}", items[0].len());
    let log = client.take();
    assert_eq!(log[2..7], [skipped(0), skipped(1), skipped(2), skipped(3), skipped(4)]);
    assert_eq!(log[7..], ["upsert ns/small@", "end 1 true", "synced"]);
}

#[test]
fn the_token_is_read_again_once() {
    let mut client = Client::new(Watched::HttpRoute);
    client.take();
    client.receive_all(&status(401, "Unauthorized"));
    client.expect(&["token"]);
    client.input(Input::Token(b"t1"));
    client.next_request(10);
    client.receive_all(&status(401, "Unauthorized"));
    client.expect(&["disconnect", "retry Status(401)"]);
    client.next_request(1000);
    client.receive_all(&status(401, "Unauthorized"));
    client.expect(&["token"]);
    // Nobody answers: it goes on all the same.
    client.next_request(1100);
}

#[test]
fn an_optional_kind_comes_goes_and_comes() {
    let path = |version| format!("GET /apis/gateway.networking.k8s.io/{version}/referencegrants?");
    let mut client = Client::new(Watched::ReferenceGrant);
    assert!(client.next_request(10).starts_with(&path("v1")));
    client.receive_all(&answer(404, "", "404 page not found\n"));
    assert!(client.next_request(10).starts_with(&path("v1beta1")));
    client.receive_all(&answer(404, "", "404 page not found\n"));
    client.expect(&["absent", "synced"]);
    // Polled, both versions; no second word about it.
    assert!(client.next_request(10_100).starts_with(&path("v1")));
    client.receive_all(&answer(404, "", ""));
    assert!(client.next_request(10).starts_with(&path("v1beta1")));
    client.receive_all(CHUNKED);
    client.receive_all(&chunk(&(event("ADDED", "g", "5") + &initial_end("6"))));
    client.expect(&["served v1beta1", "begin 1", "upsert ns/g@5", "end 1 true"]);
    // The CRD goes: the last state is kept, no deletions are made up.
    client.receive_all("0\r\n\r\n");
    client.next_request(200);
    client.receive_all(&answer(404, "", ""));
    client.expect(&["vanished"]);
    let line = client.next_request(10_100);
    assert!(line.starts_with(&path("v1")) && !line.contains("resourceVersion="), "{line}");
    client.receive_all(CHUNKED);
    client.receive_all(&chunk(&initial_end("9")));
    client.expect(&["served v1", "begin 2", "end 2 true"]);
}

#[test]
fn a_required_kind_that_is_not_served_is_never_synced() {
    let mut client = Client::new(Watched::Gateway);
    for _ in 0..20 {
        client.next_request(u64::from(BACKOFF_ERROR_MAX_MS));
        client.receive_all(&answer(404, "", ""));
        client.expect(&["disconnect", "retry Status(404)"]);
    }
    assert!(!client.watch.is_synced());
    client.next_request(u64::from(BACKOFF_ERROR_MAX_MS));
    client.receive_all(CHUNKED);
    client.receive_all(&chunk(&initial_end("9")));
    client.expect(&["served v1", "begin 1", "end 1 true", "synced"]);
}

#[test]
fn too_many_requests_keeps_the_watch() {
    let mut client = synced(Watched::HttpRoute);
    client.receive_all("0\r\n\r\n");
    client.next_request(200);
    client.receive_all(&answer(429, "Retry-After: 7\r\n", ""));
    client.expect(&["disconnect", "retry Status(429)"]);
    client.wait(6_900);
    client.expect(&[]);
    assert!(client.next_request(200).ends_with("&resourceVersion=10"));
}

#[test]
fn nobody_answers_for_an_hour() {
    let mut client = synced(Watched::HttpRoute);
    client.reachable = false;
    client.close();
    client.take();
    client.wait(3_600_000);
    let attempts = client.take().iter().filter(|line| *line == "connect").count();
    let fewest = 3_600_000 / BACKOFF_SILENT_MAX_MS as usize;
    assert!((fewest..fewest * 3).contains(&attempts), "{attempts}");
    client.reachable = true;
    // No relist: the same version goes on.
    let line = client.next_request(u64::from(BACKOFF_SILENT_MAX_MS));
    assert!(line.ends_with("&resourceVersion=10"));
}

#[test]
fn a_server_that_does_not_speak() {
    let mut client = Client::new(Watched::HttpRoute);
    client.take();
    client.wait(30_100);
    let log = client.take();
    assert_eq!(log[..3], ["disconnect", "retry AnswerTimeout", "connect"]);
    // One that answers with something else.
    client.receive_all("SSH-2.0-OpenSSH_9.9\r\n\r\n");
    client.expect(&["disconnect", "retry BadAnswer"]);
}

#[test]
fn an_idle_connection_that_was_closed_is_made_anew_at_once() {
    let mut client = synced(Watched::HttpRoute);
    client.receive_all("0\r\n\r\n");
    client.next_request(200);
    client.close();
    client.wait(0);
    let log = client.take();
    assert_eq!((log.len(), log[0].as_str()), (2, "connect"), "no failure, no wait: {log:?}");
}

#[test]
fn short_watches_back_off_and_terms_end() {
    let mut client = synced(Watched::HttpRoute);
    client.receive_all("0\r\n\r\n");
    for _ in 0..10 {
        client.next_request(u64::from(BACKOFF_ERROR_MAX_MS));
        client.receive_all(&format!("{CHUNKED}0\r\n\r\n"));
        client.expect(&["disconnect", "retry ShortWatch"]);
    }
    client.next_request(u64::from(BACKOFF_ERROR_MAX_MS));
    client.receive_all(CHUNKED);
    client.receive_all(&chunk(&event("ADDED", "z", "70")));
    client.take();
    // The server's close never comes: our own deadline, 30 s after the term.
    client.wait(119_000);
    client.expect(&[]);
    client.wait(1_500);
    let log = client.take();
    assert_eq!(log[0], "disconnect");
    assert!(log[2].ends_with("&resourceVersion=70"), "{log:?}");
}

#[test]
fn outputs_that_wait_push_back() {
    let mut client = Client::new(Watched::HttpRoute);
    let text = CHUNKED.to_string() + &chunk(&event("ADDED", "a", "3"));
    let now = client.now;
    let used = client.watch.input(Input::Bytes(text.as_bytes()), now).unwrap();
    assert!(used < text.len(), "it stops at the first event");
    let rest = &text.as_bytes()[used..];
    assert_eq!(client.watch.input(Input::Bytes(rest), now), Err(Full));
    assert_eq!(client.watch.input(Input::Closed(Trouble::Closed), now), Err(Full));
    assert_eq!(client.watch.timeout(), None);
    client.take();
    client.drain();
    client.receive(rest, 1000);
    client.expect(&["served v1", "begin 1", "upsert ns/a@3"]);
}

/// Whatever the server sends, in whatever pieces: no panic, and it syncs when the server heals.
#[test]
fn chaos_then_health() {
    let big = "x".repeat(3000);
    let snippets: Vec<String> = std::vec![
        CHUNKED.into(),
        "0\r\n\r\n".into(),
        chunk(&event("ADDED", "a", "3")),
        chunk(&event("DELETED", "a", "4")),
        chunk(&initial_end("10")),
        chunk("{\"type\":\"ERROR\",\"object\":{\"code\":410}}\n"),
        chunk("{\"type\":\"ERROR\",\"object\":null}\n"),
        chunk("{\"type\":1,\"object\":[]}\n[]\n\"x\"\nnull\n"),
        chunk(&big),
        big.clone(),
        status(410, "Gone"),
        status(404, "NotFound"),
        status(401, "Unauthorized"),
        status(422, "Invalid"),
        status(500, "InternalError"),
        status(301, "Moved"),
        answer(200, "", r#"{"metadata":{"resourceVersion":"2","continue":"c"},"items":[{}]}"#),
        answer(200, "", r#"{"metadata":{"resourceVersion":"2"},"items":[]}"#),
        answer(503, "Connection: close\r\nRetry-After: 1\r\n", "later"),
        "\u{0}\u{1}".into(),
    ];
    for seed in 0..300 {
        let mut prng = Prng::new(seed);
        let mut client = Client::new(Watched::ALL[prng.below(8) as usize]);
        for _ in 0..60 {
            client.reachable = prng.chance(9, 10);
            match prng.below(10) {
                0 if client.connected => client.close(),
                1 => {
                    client.input(Input::Token(b"t"));
                }
                2 | 3 => client.wait(prng.below(40_000)),
                _ if client.connected => {
                    let snippet = &snippets[prng.below(snippets.len() as u64) as usize];
                    client.receive(snippet.as_bytes(), prng.range(1, 5000) as usize);
                }
                _ => client.wait(2_500),
            }
            client.take();
        }
        heal(&mut client, seed);
    }
}

fn heal(client: &mut Client, seed: u64) {
    client.reachable = true;
    if client.connected {
        client.close();
    }
    // The longest wait is a Retry-After or the error cap; then every answer is right.
    for _ in 0..8 {
        let line = client.next_request(130_000);
        client.take();
        if line.contains("limit=") {
            let body = r#"{"metadata":{"resourceVersion":"90"},"items":[]}"#;
            client.receive_all(&answer(200, "", body));
        } else if line.contains("sendInitialEvents") {
            client.receive_all(CHUNKED);
            client.receive_all(&chunk(&initial_end("91")));
        } else {
            client.receive_all(CHUNKED);
            client.receive_all(&chunk(&event("ADDED", "live", "92")));
            assert_eq!(client.take().last().map(String::as_str), Some("upsert ns/live@92"));
            assert!(client.watch.is_synced());
            return;
        }
        if client.watch.body == Body::Live {
            client.take();
            client.close();
        }
    }
    panic!("seed {seed}: not synced");
}

#[test]
fn after_a_resync_that_broke_only_the_newest_state_will_do() {
    let mut client = synced(Watched::HttpRoute);
    client.input(Input::Relist);
    let line = client.next_request(1000);
    assert_eq!(without_timeout(&line), format!("{PATH}{STREAM}&resourceVersion=10"));
    client.receive_all(CHUNKED);
    client.receive_all(&chunk(&event("ADDED", "a", "20")));
    client.close();
    // A server that lags might have a state of version 12 for "not older than 10".
    let line = client.next_request(5000);
    assert_eq!(without_timeout(&line), format!("{PATH}{STREAM}"));
}

#[test]
fn a_watch_that_cannot_begin_keeps_its_version() {
    let mut client = Client::new(Watched::HttpRoute);
    client.take();
    client.receive_all(&status(422, "Invalid"));
    client.next_request(1000);
    let items = r#"{"metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a"}}]}"#;
    client.receive_all(&answer(200, "", items));
    let line = client.next_request(1000);
    assert_eq!(without_timeout(&line), format!("{PATH}{WATCH}&resourceVersion=7"));
    client.receive_all(&status(500, "InternalError"));
    let line = client.next_request(5000);
    assert_eq!(without_timeout(&line), format!("{PATH}{WATCH}&resourceVersion=7"));
}
