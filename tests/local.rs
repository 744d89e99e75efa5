//! A router that no controller owns, configured through its admin port: the real binary on real
//! sockets.
//!
//! In: changes of routes, pools and upstreams. Out: where requests go, what the admin port says.

#![allow(clippy::disallowed_methods, reason = "tests have files and clocks of their own")]

#[path = "router/harness.rs"]
mod harness;
#[path = "support/process.rs"]
mod process;

use harness::{Client, echo, free_port, wait_for};
use process::Process;
use std::net::{SocketAddr, TcpStream};

struct Router {
    process: Process,
    traffic: SocketAddr,
    admin: SocketAddr,
    state: std::path::PathBuf,
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Router {
    fn start(name: &str) -> Router {
        let name = format!("serval-local-{name}-{}", std::process::id());
        let state = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&state);
        std::fs::create_dir_all(&state).unwrap();
        Router::start_in(state, loopback(free_port()))
    }

    fn start_in(state: std::path::PathBuf, traffic: SocketAddr) -> Router {
        let admin = loopback(free_port());
        let mut process = Process::start(&[
            "router",
            "--listen",
            &traffic.to_string(),
            "--admin",
            &admin.to_string(),
            "--state-dir",
            state.to_str().unwrap(),
        ]);
        wait_for("the router listens", || {
            process.runs()
                && TcpStream::connect(traffic).is_ok()
                && TcpStream::connect(admin).is_ok()
        });
        Router { process, traffic, admin, state }
    }

    /// Asks the admin port: the status and the body.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut client = Client::connect(self.admin);
        let len = body.len();
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: admin\r\nContent-Length: {len}\r\n\r\n{body}"
        ));
        let answer = client.response();
        (answer.status(), answer.text().trim().to_string())
    }

    fn done(&self, method: &str, path: &str, body: &str) {
        let (status, text) = self.ask(method, path, body);
        let expected = if method == "POST" { 201 } else { 200 };
        assert_eq!(status, expected, "{method} {path}: {text}");
        assert!(text.contains(r#""source":"local","ready":true"#), "{text}");
    }

    fn refused(&self, request: (&str, &str, &str), expected: (u16, &str)) {
        let (method, path, body) = request;
        let (status, text) = self.ask(method, path, body);
        assert_eq!((status, text.as_str()), expected, "{method} {path} {body}");
    }

    /// Who answers at a host and path: the backend's name, or the status.
    fn who(&self, host: &str, path: &str) -> String {
        let mut client = Client::connect(self.traffic);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let answer = client.response();
        match answer.status() {
            200 => answer.text().split(' ').next().unwrap().to_string(),
            status => status.to_string(),
        }
    }
}

#[test]
fn a_route_from_nothing_to_nothing() {
    let router = Router::start("life");
    let (red, blue) = (echo("red"), echo("blue"));
    assert_eq!(router.who("h", "/"), "404");
    assert_eq!(router.ask("GET", "/routes", ""), (200, "[]".into()));
    // Over several lines, as people and tools write JSON.
    router.done(
        "POST",
        "/pools",
        &format!("{{\n \"name\": \"p\",\n \"upstreams\": [\"{red}\"]\n}}"),
    );
    router.done("PUT", "/pools/q", &format!(r#"{{"upstreams":["{blue}"]}}"#));
    let route = r#"{"name":"r","hosts":["a.example"],"matches":[{"prefix":"/x/"}],"backends":[{"pool":"p"}]}"#;
    router.done("POST", "/routes", route);
    assert_eq!(router.who("a.example", "/x/y"), "red");
    assert_eq!(router.who("b.example", "/x/y"), "404");
    let shown = r#"{"name":"r","hosts":["a.example"],"matches":[{"prefix":"/x"}],"backends":[{"pool":"p","weight":1}]}"#;
    assert_eq!(router.ask("GET", "/routes/r", ""), (200, shown.into()));
    assert_eq!(router.ask("GET", "/routes", ""), (200, format!("[{shown}]")));
    // What is shown can be put again, and changes nothing.
    let before = router.ask("GET", "/status", "");
    router.done("PUT", "/routes/r", shown);
    assert_eq!(router.ask("GET", "/status", ""), before);
    router.done("PUT", "/routes/r", r#"{"backends":[{"pool":"q","weight":2}]}"#);
    assert_eq!(router.who("b.example", "/"), "blue");
    router.done("DELETE", "/pools/p", "");
    assert_eq!(router.who("b.example", "/"), "blue", "the pools after it moved up");
    router.done("DELETE", "/routes/r", "");
    assert_eq!(router.who("b.example", "/"), "404");
    let pools = format!(r#"[{{"name":"q","upstreams":["{blue}"]}}]"#);
    assert_eq!(router.ask("GET", "/pools", ""), (200, pools));
    assert_eq!(router.process.end(), Some(0));
}

#[test]
fn upstreams_come_and_go_one_by_one() {
    let router = Router::start("upstreams");
    let (red, blue) = (echo("red"), echo("blue"));
    router.done("POST", "/pools", r#"{"name":"a/b/80"}"#);
    router.done("PUT", "/routes/all", r#"{"backends":[{"pool":"a/b/80"}]}"#);
    assert_eq!(router.who("h", "/"), "503", "no endpoint");
    let one = format!(r#"{{"address":"{red}"}}"#);
    router.done("POST", "/pools/a/b/80/upstreams", &one);
    assert_eq!(router.who("h", "/"), "red");
    router.refused(
        ("POST", "/pools/a/b/80/upstreams", &one),
        (409, "the upstream is there already: PUT replaces it"),
    );
    router.done("PUT", &format!("/pools/a/b/80/upstreams/{blue}"), "");
    router.done("DELETE", &format!("/pools/a/b/80/upstreams/{red}"), "");
    assert_eq!(router.who("h", "/"), "blue");
    let listed = format!(r#"[{{"address":"{blue}"}}]"#);
    assert_eq!(router.ask("GET", "/pools/a/b/80/upstreams", ""), (200, listed));
    let gone = format!("/pools/a/b/80/upstreams/{red}");
    router.refused(("DELETE", &gone, ""), (404, "there is no such upstream"));
}

#[test]
fn routes_have_filters() {
    let router = Router::start("filters");
    let red = echo("red");
    router.done("POST", "/pools", &format!(r#"{{"name":"p","upstreams":["{red}"]}}"#));
    let filter = r#""filter":{"request":[["set","X-A","1"]],"rewrite":{"full":"/there"}}"#;
    let shown = format!(
        r#"{{"name":"r","hosts":[],"matches":[{{"prefix":""}}],"backends":[{{"pool":"p","weight":1,{filter}}}],{filter}}}"#
    );
    router.done("POST", "/routes", &shown);
    router.done("PUT", "/routes/go", r#"{"matches":[{"prefix":"/go"}],"backends":[],"filter":{"redirect":{"hostname":"a.example","status":307}}}"#);
    assert_eq!(router.ask("GET", "/routes/r", ""), (200, shown.clone()), "copied whole");
    let mut client = Client::connect(router.traffic);
    assert!(client.get("/here").text().starts_with("red GET /there HTTP/1.1\n"));
    let answer = client.get("/go/on");
    let port = router.traffic.port();
    let location = format!("http://a.example:{port}/go/on");
    assert_eq!((answer.status(), answer.field("Location")), (307, Some(location.as_str())));
    router.refused(
        ("PUT", "/routes/r", r#"{"backends":[],"filter":{"request":[["set","X-A"]]}}"#),
        (400, "an edit must be [\"set\" or \"add\", name, value] or [\"remove\", name]"),
    );
    assert_eq!(router.process.end(), Some(0));
}

#[test]
fn mistakes_change_nothing_and_are_named() {
    let router = Router::start("mistakes");
    let red = echo("red");
    router.done("POST", "/pools", &format!(r#"{{"name":"p","upstreams":["{red}"]}}"#));
    router.done("PUT", "/routes/r", r#"{"backends":[{"pool":"p"}]}"#);
    let before = router.ask("GET", "/status", "");
    for (request, expected) in [
        (("POST", "/routes", "{"), (400, "line 0 is not JSON")),
        (("POST", "/routes", "[1]"), (400, "must be a JSON object with a member")),
        (("POST", "/routes", "{}"), (400, "must be a JSON object with a member")),
        (
            ("POST", "/routes", r#"{"backends":[]}"#),
            (400, "name must be a string, and the path's if it is there"),
        ),
        (
            ("PUT", "/routes/r", r#"{"name":"s","backends":[]}"#),
            (400, "name must be a string, and the path's if it is there"),
        ),
        (("PUT", "/routes/r", r#"{"filters":[]}"#), (400, "filters: no such member here")),
        (
            ("PUT", "/routes/r", r#"{"backends":[{"pool":"none"}]}"#),
            (400, "backends: there is no pool of that name"),
        ),
        (("PUT", "/routes/r", r#"{"matches":[{"path":"/"}]}"#), (400, "path: no such member here")),
        (
            ("PUT", "/pools/p", r#"{"upstreams":["here"]}"#),
            (400, "an upstream must be \"ADDRESS:PORT\""),
        ),
        (("DELETE", "/pools/p", ""), (409, "a route uses the pool: change the route first")),
        (("DELETE", "/pools/none", ""), (404, "there is no such pool")),
        (("DELETE", "/routes/none", ""), (404, "there is no such route")),
        (("DELETE", "/routes", ""), (405, "no such method here")),
        (("POST", "/nothing", ""), (404, "no such page")),
    ] {
        router.refused(request, expected);
    }
    let (status, text) =
        router.ask("PUT", "/routes/r", r#"{"hosts":["A b"],"backends":[{"pool":"p"}]}"#);
    assert_eq!(status, 400, "{text}");
    let long = format!(r#"{{"upstreams":["{}"]}}"#, "x".repeat(70_000));
    let (status, text) = router.ask("PUT", "/pools/p", &long);
    assert_eq!(status, 413, "{text}");
    assert_eq!(router.ask("GET", "/status", ""), before);
    assert_eq!(router.who("h", "/"), "red");
}

#[test]
fn a_restart_keeps_the_local_configuration_and_may_listen_elsewhere() {
    let router = Router::start("restart");
    let red = echo("red");
    router.done("POST", "/pools", &format!(r#"{{"name":"p","upstreams":["{red}"]}}"#));
    router.done("PUT", "/routes/r", r#"{"backends":[{"pool":"p"}]}"#);
    let saved = router.state.join("snapshot.jsonl");
    wait_for("the configuration is saved", || {
        std::fs::read_to_string(&saved).is_ok_and(|text| text.contains(r#""name":"r""#))
    });
    let (traffic, state) = (router.traffic, router.state.clone());
    assert_eq!(router.process.end(), Some(0));
    let again = Router::start_in(state.clone(), loopback(free_port()));
    assert_ne!(again.traffic, traffic);
    assert_eq!(again.who("h", "/"), "red");
    again.done("DELETE", "/routes/r", "");
    assert_eq!(again.who("h", "/"), "404");
    drop(again);
    std::fs::remove_dir_all(state).unwrap();
}

/// What could not be saved is saved later, though nothing changes any more.
#[test]
fn a_configuration_that_could_not_be_saved_is_saved_later() {
    let router = Router::start("unsaved");
    // Where the file is written before it is renamed: as good as a full disk.
    let obstacle = router.state.join(".snapshot.jsonl.new");
    let saved = router.state.join("snapshot.jsonl");
    let is_saved = |name: &str| {
        let name = format!(r#""name":"{name}""#);
        std::fs::read_to_string(&saved).is_ok_and(|text| text.contains(&name))
    };
    router.done("POST", "/pools", r#"{"name":"p","upstreams":["127.0.0.1:1"]}"#);
    wait_for("the first is saved", || is_saved("p"));
    std::fs::create_dir(&obstacle).unwrap();
    router.done("PUT", "/routes/late", r#"{"backends":[{"pool":"p"}]}"#);
    wait_for("a save has failed", || router.process.logs("not saved"));
    assert!(!is_saved("late"));
    std::fs::remove_dir(&obstacle).unwrap();
    wait_for("the second is saved", || is_saved("late"));
}
