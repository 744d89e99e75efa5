//! `serval run` and `serval check` as an operator meets them: the real binary, a copy of
//! docs/example, real sockets.
//!
//! In: edits of the folder. Out: where requests go, how soon, what the log and the exit codes say.

#![allow(clippy::disallowed_methods, reason = "tests have files and clocks of their own")]

#[path = "support/folder.rs"]
mod folder;
#[path = "router/harness.rs"]
mod harness;
#[path = "support/process.rs"]
mod process;

use folder::Folder;
use harness::{Client, echo, free_port, wait_for};
use process::{Process, SERVAL};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

/// What the README promises of an edit.
const LIVE_WITHIN: Duration = Duration::from_secs(1);

/// docs/example, with these ports in place of 8080, 3001 and 3002.
fn example(name: &str, port: u16, red: SocketAddr, blue: SocketAddr) -> Folder {
    let folder = Folder::new(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/example");
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        let text = text
            .replace("port: 8080", &format!("port: {port}"))
            .replace("port: 3001", &format!("port: {}", red.port()))
            .replace("port: 3002", &format!("port: {}", blue.port()));
        fs::write(folder.0.join(entry.file_name()), text).unwrap();
    }
    folder
}

/// `serval run`.
struct Serval {
    process: Process,
    port: u16,
    admin: u16,
}

impl Serval {
    fn start(folder: &Folder, port: u16, more: &[&str]) -> Serval {
        let admin = free_port();
        let at = format!("127.0.0.1:{admin}");
        let own = ["run", "--manifests", folder.path(), "--admin", &at];
        let mut process = Process::start(&[&own, more].concat());
        wait_for("serval listens", || {
            process.runs() && TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Serval { process, port, admin }
    }

    /// The backend that answers, or the status.
    fn who(&self, path: &str) -> String {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        who(&mut Client::connect(address), path)
    }

    fn goes_live(&self, what: &str, path: &str, backend: &str) {
        let from = Instant::now();
        wait_for(what, || self.who(path) == backend);
        let took = from.elapsed();
        assert!(took < LIVE_WITHIN, "{what}: after {took:?}");
    }

    fn logs(&self, part: &str) -> bool {
        self.process.logs(part)
    }

    fn generation(&self) -> String {
        let mut admin = Client::connect(SocketAddr::from(([127, 0, 0, 1], self.admin)));
        let report = admin.get("/status");
        let rest = report.text().split_once("\"generation\":").expect("a report").1;
        rest.split(',').next().unwrap().to_string()
    }

    fn end(self) -> Option<i32> {
        self.process.end()
    }
}

fn who(client: &mut Client, path: &str) -> String {
    let answer = client.get(path);
    match answer.status() {
        200 => answer.text().split(' ').next().unwrap().to_string(),
        status => status.to_string(),
    }
}

/// One client on one kept connection that asks for /blue all the time, and must get it.
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Traffic {
    fn start(port: u16) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let thread = spawn(move || {
            let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], port)));
            let mut asked = 0;
            while !ends.load(Ordering::SeqCst) {
                assert_eq!(who(&mut client, "/blue"), "blue", "request {asked}");
                asked += 1;
            }
            asked
        });
        Traffic { stop, thread }
    }

    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("no request failed")
    }
}

/// The number of the first line with this text.
fn line_of(text: &str, part: &str) -> usize {
    text.lines().position(|line| line.contains(part)).expect("the text is there") + 1
}

#[test]
fn edits_go_live_and_mistakes_change_nothing() {
    let port = free_port();
    let folder = example("edits", port, echo("red"), echo("blue"));
    let serval = Serval::start(&folder, port, &[]);
    assert_eq!((serval.who("/red").as_str(), serval.who("/blue").as_str()), ("red", "blue"));
    let both: Vec<String> = (0..200).map(|_| serval.who("/")).collect();
    let reds = both.iter().filter(|name| *name == "red").count();
    assert!((100..200).contains(&reds) && both.iter().all(|n| n == "red" || n == "blue"));
    let traffic = Traffic::start(port);

    let first = serval.generation();
    let routes = folder.read("routes.yaml");
    let red_to_blue = routes.replacen("- {name: red, port: 80}", "- {name: blue, port: 80}", 1);
    folder.write("routes.yaml", &red_to_blue);
    serval.goes_live("an edit", "/red", "blue");

    // A mistake in a field, one in the syntax, one in an object of a file that is new.
    let bad_port = routes.replacen("- {name: red, port: 80}", "- {name: red, port: eighty}", 1);
    let bad_port_at = format!("routes.yaml:{}", line_of(&bad_port, "eighty"));
    let bad_syntax = routes.replacen("  rules:", "  rules: [", 1);
    let bad_new = "kind: HTTPRoute\napiVersion: gateway.networking.k8s.io/v1\nspec: {}\n";
    let mistakes = [
        ("routes.yaml", bad_port.as_str(), bad_port_at.as_str()),
        ("routes.yaml", bad_syntax.as_str(), "routes.yaml:"),
        ("new.yaml", bad_new, "new.yaml:"),
    ];
    // It is told a moment after it is served.
    wait_for("the edit is told", || serval.generation() != first);
    let before = serval.generation();
    for (file, text, named) in mistakes {
        folder.write(file, text);
        wait_for(named, || serval.logs(named));
        assert_eq!(serval.who("/red"), "blue", "{named}: what is served stays");
        assert_eq!(serval.generation(), before, "{named}");
    }

    fs::remove_file(folder.0.join("new.yaml")).unwrap();
    folder.write("routes.yaml", &routes);
    serval.goes_live("mended", "/red", "red");
    assert!(traffic.finish() > 100);
    assert_eq!(serval.end(), Some(0));
}

#[test]
fn wrong_at_the_start_is_an_exit_code_unless_there_is_a_last_good_one() {
    let port = free_port();
    let (folder, state) = (example("start", port, echo("red"), echo("blue")), Folder::new("state"));
    let gateway = folder.read("gateway.yaml");
    let broken = gateway.replace(&format!("port: {port}"), "port: http");
    let named = format!("gateway.yaml:{}", line_of(&broken, "port: http"));
    folder.write("gateway.yaml", &broken);
    let admin = format!("127.0.0.1:{}", free_port());
    let refused = run(&["run", "--manifests", folder.path(), "--admin", &admin]);
    assert_eq!(refused.status.code(), Some(65));
    assert!(text(&refused.stderr).contains(&named), "{}", text(&refused.stderr));

    folder.write("gateway.yaml", &gateway);
    let more = ["--state-dir", state.path()];
    let serval = Serval::start(&folder, port, &more);
    wait_for("the last good configuration is saved", || state.0.join("snapshot.jsonl").exists());
    let generation: u64 = serval.generation().parse().unwrap();
    assert_eq!(serval.end(), Some(0));

    folder.write("gateway.yaml", &broken);
    let serval = Serval::start(&folder, port, &more);
    assert!(serval.logs(&named), "not in the log: {named}");
    assert_eq!((serval.who("/red").as_str(), serval.who("/blue").as_str()), ("red", "blue"));
    let routes = folder.read("routes.yaml");
    folder.write("gateway.yaml", &gateway);
    folder.write("routes.yaml", &routes.replacen("value: /red", "value: /rouge", 1));
    serval.goes_live("mended", "/rouge", "red");
    wait_for("generations go on", || serval.generation() == (generation + 1).to_string());
    assert_eq!(serval.end(), Some(0));
}

/// A backend that answers with the head it got.
fn mirror() -> SocketAddr {
    harness::backend(|mut client, _| {
        while let Some(request) = client.message(false) {
            let length = format!("Content-Length: {}", request.head.len());
            client.send(format!(
                "HTTP/1.1 200 OK\r\nServer: mirror\r\n{length}\r\n\r\n{}",
                request.head
            ));
        }
    })
}

const FILTERS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: filters}
spec:
  parentRefs: [{name: edge}]
  rules:
  - matches: [{path: {value: /old}}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set: [{name: X-Set, value: one}]
        add: [{name: X-Add, value: two}]
        remove: [x-gone]
    - type: URLRewrite
      urlRewrite:
        hostname: inside.example
        path: {type: ReplacePrefixMatch, replacePrefixMatch: /new/}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {remove: [Server], set: [{name: X-By, value: serval}]}
    backendRefs:
    - name: red
      port: 80
      filters:
      - type: RequestHeaderModifier
        requestHeaderModifier: {set: [{name: X-Backend, value: red}]}
  - matches: [{path: {value: /go}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {scheme: https, port: 8443, statusCode: 308}
  - matches: [{path: {value: /ext}}]
    filters:
    - type: ExtensionRef
      extensionRef: {group: example.org, kind: Nothing, name: at-all}
    backendRefs: [{name: red, port: 80}]
";

#[test]
fn filters_from_yaml_to_the_wire() {
    let port = free_port();
    let folder = example("filters", port, mirror(), mirror());
    folder.write("filters.yaml", FILTERS);
    let serval = Serval::start(&folder, port, &[]);
    let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    let mut ask = |target: &str| {
        let fields = "Host: outside:1\r\nx-add: zero\r\nX-Gone: 1\r\nx-set: zero\r\n";
        client.send(format!("GET {target} HTTP/1.1\r\n{fields}\r\n"));
        client.response()
    };
    let answer = ask("/old/path?q=1");
    assert_eq!(answer.status(), 200, "{}", answer.head);
    assert_eq!((answer.field("Server"), answer.field("X-By")), (None, Some("serval")));
    let expected = format!(
        "GET /new/path?q=1 HTTP/1.1\r\nHost: inside.example\r\nx-add: zero\r\n\
         X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: outside:1\r\nX-Forwarded-Port: {port}\r\n\
         X-Set: one\r\nX-Add: two\r\nX-Backend: red\r\n\r\n"
    );
    assert_eq!(answer.text(), expected);
    // The redirect is on the same connection, and no backend has seen it.
    let answer = ask("/go/on?q");
    assert_eq!((answer.status(), answer.field("Connection")), (308, None));
    assert_eq!(answer.field("Location"), Some("https://outside:8443/go/on?q"));
    assert_eq!(ask("/ext").status(), 500, "a filter that does not resolve is not skipped");

    let mistake = FILTERS.replace("name: X-Set", "name: Content-Length");
    folder.write("filters.yaml", &mistake);
    let named = format!("filters.yaml:{}", line_of(&mistake, "Content-Length"));
    wait_for(&named, || serval.logs(&named));
    assert_eq!(ask("/go").status(), 308, "what is served stays");
    assert_eq!(serval.end(), Some(0));
    let checked = run(&["check", "--manifests", folder.path()]);
    assert_eq!(checked.status.code(), Some(65));
    folder.write("filters.yaml", FILTERS);
    let checked = run(&["check", "--manifests", folder.path()]);
    let said = text(&checked.stdout);
    assert!(said.contains("ExtensionRef Nothing.example.org at-all does not resolve"), "{said}");
}

fn run(arguments: &[&str]) -> Output {
    Command::new(SERVAL).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn check_says_by_its_exit_code_what_is_wrong() {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 3001));
    let folder = example("check", 8080, anywhere, anywhere);
    let check = || run(&["check", "--manifests", folder.path()]);
    let good = check();
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    let statuses = text(&good.stdout);
    assert!(statuses.lines().any(|l| l.contains("HTTPRoute") && l.contains("colours")));
    for condition in ["Accepted", "Programmed", "ResolvedRefs"] {
        let is = |status| format!(r#""type":"{condition}","status":"{status}""#);
        assert!(statuses.contains(&is("True")) && !statuses.contains(&is("False")), "{statuses}");
    }

    let routes = folder.read("routes.yaml");
    folder.write("routes.yaml", &routes.replacen("{name: red,", "{name: nobody,", 1));
    let refused = check();
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
    assert!(text(&refused.stdout).contains("BackendNotFound"), "{}", text(&refused.stdout));

    let wrong = routes.replacen("type: PathPrefix", "type: PathSuffix", 1);
    folder.write("routes.yaml", &wrong);
    let refused = check();
    assert_eq!(refused.status.code(), Some(65));
    let named = format!("routes.yaml:{}", line_of(&wrong, "PathSuffix"));
    assert!(text(&refused.stderr).contains(&named), "{}", text(&refused.stderr));
    assert!(refused.stdout.is_empty(), "nothing is said of what would not be served");

    assert_eq!(run(&["check", "--manifests", "/nowhere/at/all"]).status.code(), Some(66));
    assert_eq!(run(&["check"]).status.code(), Some(64));
}
