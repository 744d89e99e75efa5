//! The client against a real API server (scripts/cluster), over TLS.
//!
//! To be run in the cluster's network, as root:
//!
//!     eval "$(scripts/cluster env)"
//!     scripts/cluster exec cargo test --test kube_client
//!
//! SERVAL_KUBECONFIG names the client certificate's kubeconfig, SERVAL_TOKEN_KUBECONFIG the
//! token's; without them the test fails, it is never skipped silently (Cargo.toml leaves it out of
//! a plain `cargo test`). Objects are made by the cluster's own kubectl.
#![allow(clippy::disallowed_methods, reason = "tests run before and beside any seal")]

mod kube_support;

use kube_support::Kubernetes;
use serval::kube::kind::Watched;
use serval::kube::lease::{Held, Look};
use serval::kube::status_patch::Written;
use serval::resource::document::Value;
use serval::shell::kube::access::Access;
use serval::shell::kube::api_client::{ApiClient, Computed, Target};
use serval::stdx::Prng;
use serval::wire::json::JsonWriter;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// One test at a time: some stop the API server.
static ONE: Mutex<()> = Mutex::new(());

fn one() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: see tests/kube_client.rs"))
}

fn access() -> Access {
    Access::from_kubeconfig(&variable("SERVAL_KUBECONFIG"), "").unwrap()
}

fn run(mut command: Command, input: &str) -> String {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn kubectl(arguments: &str, input: &str) -> String {
    let mut command = Command::new("kubectl");
    command.args(arguments.split_whitespace());
    run(command, input)
}

fn cluster(command: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cluster");
    let mut process = Command::new(script);
    process.arg(command);
    run(process, "");
}

/// A namespace of this name, empty and new.
fn namespace(name: &str) {
    let _ = Command::new("kubectl")
        .args(["delete", "namespace", name, "--ignore-not-found", "--wait=true"])
        .stdout(Stdio::null())
        .status();
    kubectl(&format!("create namespace {name}"), "");
}

fn service(namespace: &str, name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{ports: [{{port: {port}}}], selector: {{app: none}}}}\n"
    )
}

fn route(namespace: &str, name: &str, host: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  parentRefs: [{{name: g}}]\n  \
         hostnames: [{host}]\n  rules: [{{backendRefs: [{{name: s, port: 80}}]}}]\n"
    )
}

fn has(kind: Watched, key: &str) -> impl Fn(&Kubernetes) -> bool {
    move |kubernetes: &Kubernetes| kubernetes.state(kind).objects.contains_key(key)
}

fn all_synced(kubernetes: &Kubernetes) -> bool {
    kubernetes.states.iter().all(|state| state.synced)
}

fn soon(what: &str, took: Duration, most: Duration) {
    eprintln!("    {what}: {} ms", took.as_millis());
    assert!(took <= most, "{what}: {took:?}");
}

#[test]
fn eight_kinds_sync_and_follow() {
    let _one = one();
    namespace("kc-live");
    let mut kubernetes = Kubernetes::start(access(), &Watched::ALL);
    let took = kubernetes.until("all synced", 10, all_synced);
    soon("first barrier, 8 kinds", took, Duration::from_secs(5));
    assert!(has(Watched::Namespace, "/kc-live")(&kubernetes));
    assert!(has(Watched::Service, "default/kubernetes")(&kubernetes));

    let manifest = [
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: kc}\n\
         spec: {controllerName: example.com/kc}\n",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
         metadata: {name: g, namespace: kc-live}\nspec:\n  gatewayClassName: kc\n  \
         listeners: [{name: http, port: 80, protocol: HTTP}]\n",
        &route("kc-live", "r", "a.example"),
        &service("kc-live", "s", 80),
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {name: e, namespace: kc-live}\naddressType: IPv4\n\
         endpoints: [{addresses: [10.0.0.1]}]\nports: [{port: 80}]\n",
        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n\
         metadata: {name: rg, namespace: kc-live}\nspec:\n  \
         from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: x}]\n  \
         to: [{group: '', kind: Service}]\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: opaque, namespace: kc-live}\n\
         type: Opaque\nstringData: {x: z}\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: tls, namespace: kc-live}\n\
         type: kubernetes.io/tls\nstringData: {tls.crt: abc, tls.key: def}\n",
    ]
    .join("---\n");
    kubectl("apply -f -", &manifest);
    let took = kubernetes.until("all objects", 5, |k| {
        has(Watched::GatewayClass, "/kc")(k)
            && has(Watched::Gateway, "kc-live/g")(k)
            && has(Watched::HttpRoute, "kc-live/r")(k)
            && has(Watched::Service, "kc-live/s")(k)
            && has(Watched::EndpointSlice, "kc-live/e")(k)
            && has(Watched::ReferenceGrant, "kc-live/rg")(k)
            && has(Watched::Secret, "kc-live/tls")(k)
    });
    soon("events after kubectl apply returned", took, Duration::from_secs(1));
    let kubectl_patch =
        "patch httproute r -n kc-live --type=merge -p {\"spec\":{\"hostnames\":[\"b.example\"]}}";
    kubectl(kubectl_patch, "");
    let took = kubernetes.until("the change", 5, |k| {
        let route = &k.state(Watched::HttpRoute).objects["kc-live/r"];
        assert!(route.json["metadata"].get("managedFields").is_none(), "pruned");
        route.json["spec"]["hostnames"][0] == "b.example"
    });
    soon("change", took, Duration::from_secs(1));

    // The same name, another object.
    let uid = kubernetes.state(Watched::Service).objects["kc-live/s"].uid.clone();
    kubectl("delete service s -n kc-live", "");
    kubectl("apply -f -", &service("kc-live", "s", 81));
    kubernetes.until("the new service", 5, |k| {
        let found = k.state(Watched::Service).objects.get("kc-live/s");
        found.is_some_and(|s| s.uid != uid && s.json["spec"]["ports"][0]["port"] == 81)
    });

    kubectl("delete namespace kc-live", "");
    kubectl("delete gatewayclass kc", "");
    kubernetes.until("all deleted", 20, |k| {
        !has(Watched::GatewayClass, "/kc")(k)
            && k.states.iter().all(|s| !s.objects.keys().any(|key| key.starts_with("kc-live/")))
    });
    let log = &kubernetes.state(Watched::Secret).log;
    assert!(!log.iter().any(|line| line.contains("opaque")), "only TLS secrets are watched");
    assert!(log.contains(&"delete kc-live/tls".into()));
}

#[test]
fn a_token_is_as_good_as_a_certificate() {
    let _one = one();
    let path = variable("SERVAL_TOKEN_KUBECONFIG");
    let access = Access::from_kubeconfig(&path, "").unwrap();
    assert!(access.token_changes());
    let mut kubernetes = Kubernetes::start(access, &Watched::ALL);
    kubernetes.until("all synced", 10, all_synced);
    assert!(has(Watched::Namespace, "/kube-system")(&kubernetes));
}

/// A copy of the kubeconfig with the CA in a file of ours.
fn config_with_authority(authority: &str) -> String {
    let text = std::fs::read_to_string(variable("SERVAL_KUBECONFIG")).unwrap();
    let (before, rest) = text.split_once("certificate-authority-data: ").expect("inline data");
    let end = rest.find(['}', ',', '\n']).unwrap();
    let path = std::env::temp_dir().join(format!("serval-kube-config-{}", std::process::id()));
    std::fs::write(&path, format!("{before}certificate-authority: {authority}{}", &rest[end..]))
        .unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn another_ca_is_refused_and_a_rotated_one_found() {
    let _one = one();
    let wrong = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/other-authority.crt");
    let file = std::env::temp_dir().join(format!("serval-kube-ca-{}", std::process::id()));
    std::fs::copy(wrong, &file).unwrap();
    let path = config_with_authority(file.to_str().unwrap());
    let access = Access::from_kubeconfig(&path, "").unwrap();
    let mut kubernetes = Kubernetes::start(access, &[Watched::Namespace]);
    kubernetes.pass(Duration::from_secs(3));
    let state = kubernetes.state(Watched::Namespace);
    assert!(!state.synced && state.upserts == 0);
    let refused = "the server's certificate is refused: ";
    assert!(
        state.log.iter().any(|line| line.starts_with("retry Tls") && line.contains(refused)),
        "{:?}",
        state.log
    );
    // The right one, in the same file.
    let right = variable("SERVAL_KUBECONFIG");
    let right = format!("{}/ca.crt", right.rsplit_once('/').unwrap().0);
    std::fs::copy(&right, &file).unwrap();
    let took = kubernetes.until("synced", 20, all_synced);
    eprintln!("    after the CA was replaced: {} ms", took.as_millis());
    std::fs::remove_file(file).unwrap();
}

#[test]
fn killed_and_started_again() {
    let _one = one();
    namespace("kc-kill");
    kubectl("apply -f -", &service("kc-kill", "before", 80));
    let mut kubernetes = Kubernetes::start(access(), &Watched::ALL);
    kubernetes.until("all synced", 10, all_synced);
    kubernetes.until("before", 5, has(Watched::Service, "kc-kill/before"));
    let count = |k: &Kubernetes| k.states.iter().map(|s| s.objects.len()).sum::<usize>();
    let (objects, began) = (count(&kubernetes), Instant::now());
    cluster("api-stop");
    kubernetes.pass(Duration::from_secs(15));
    assert_eq!(count(&kubernetes), objects, "an outage changes nothing");
    cluster("api-start");
    eprintln!("    API server gone for {} ms", began.elapsed().as_millis());
    kubectl("apply -f -", &service("kc-kill", "after", 80));
    let took = kubernetes.until("after", 10, has(Watched::Service, "kc-kill/after"));
    soon("change after the API server's /readyz", took, Duration::from_secs(5));
    // Every kind is alive again, not only the one that was lucky.
    kubectl("create namespace kc-kill-2", "");
    kubectl("apply -f -", &route("kc-kill", "r", "a.example"));
    kubernetes.until("other kinds", 5, |k| {
        has(Watched::Namespace, "/kc-kill-2")(k) && has(Watched::HttpRoute, "kc-kill/r")(k)
    });
    let expired: usize = kubernetes
        .states
        .iter()
        .map(|state| state.log.iter().filter(|l| l.starts_with("retry Status(410)")).count())
        .sum();
    let relists: u64 = (kubernetes.feeds.iter())
        .map(|feed| feed.counters().resyncs.load(Ordering::Relaxed) - 1)
        .sum();
    eprintln!("    410 answers: {expired}, relists: {relists}");
    for state in &kubernetes.states {
        let lost = state.log.iter().find(|l| l.starts_with("swept") || l.starts_with("delete"));
        assert!(!lost.is_some_and(|l| l.contains("kc-kill/")), "{lost:?}");
    }
    kubectl("delete namespace kc-kill kc-kill-2 --wait=false", "");
}

#[test]
fn stopped_for_a_minute() {
    let _one = one();
    namespace("kc-pause");
    let mut kubernetes = Kubernetes::start(access(), &Watched::ALL);
    kubernetes.until("all synced", 10, all_synced);
    cluster("api-pause");
    let objects: usize = kubernetes.states.iter().map(|s| s.objects.len()).sum();
    kubernetes.pass(Duration::from_secs(60));
    assert_eq!(objects, kubernetes.states.iter().map(|s| s.objects.len()).sum::<usize>());
    cluster("api-resume");
    let ready = Instant::now();
    let mut probe = Command::new("kubectl");
    probe.args(["get", "--raw=/readyz"]);
    run(probe, "");
    eprintln!("    ready after {} ms", ready.elapsed().as_millis());
    kubectl("apply -f -", &service("kc-pause", "after", 80));
    let took = kubernetes.until("after", 10, has(Watched::Service, "kc-pause/after"));
    soon("change after SIGCONT and /readyz", took, Duration::from_secs(5));
    kubectl("delete namespace kc-pause --wait=false", "");
}

#[test]
fn status_writes_keep_foreign_entries() {
    let _one = one();
    namespace("kc-status");
    kubectl("apply -f -", &route("kc-status", "r", "a.example"));
    let foreign = r#"{"status":{"parents":[{"controllerName":"example.com/other",
        "parentRef":{"name":"g"},"conditions":[{"type":"Accepted","status":"True",
        "reason":"Accepted","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}]}}"#;
    let mut command = Command::new("kubectl");
    command.args("patch httproute r -n kc-status --subresource=status --type=merge -p".split(' '));
    command.arg(foreign);
    run(command, "");

    let mut client = ApiClient::new(Arc::new(access()), &Prng::new(1)).unwrap();
    let (kind, namespace, name, uid) = (Watched::HttpRoute, "kc-status", "r", "");
    let target = Target { kind, namespace, name, uid };
    let mut calls = 0;
    let written = client.patch_status(target, |object, json| {
        calls += 1;
        if calls == 1 {
            // Somebody writes between our GET and our PATCH.
            kubectl("label httproute r -n kc-status changed=yes", "");
        }
        own_entry(object, json)
    });
    assert_eq!((written, calls), (Ok(Written::Patched), 2), "a conflict, then a second try");
    let names =
        kubectl("get httproute r -n kc-status -o jsonpath={.status.parents[*].controllerName}", "");
    assert_eq!(names, "example.com/other example.com/kc");
    assert_eq!(client.patch_status(target, own_entry), Ok(Written::Unchanged));
    let gone = Target { name: "none", ..target };
    assert_eq!(client.patch_status(gone, own_entry), Ok(Written::Gone));
    let other = Target { uid: "another", ..target };
    assert_eq!(client.patch_status(other, own_entry), Ok(Written::Gone));
    // What the CRD's schema refuses is permanent.
    let refused = client.patch_status(target, |_, json| {
        json.begin_object().key("parents").number(1).end_object();
        Computed::Status
    });
    eprintln!("    refused: {refused:?}");
    assert!(matches!(refused, Err(serval::kube::status_patch::WriteError::Permanent(_))));
    kubectl("delete namespace kc-status --wait=false", "");
}

/// All entries of others as they are, then ours.
fn own_entry(object: Value<'_>, json: &mut JsonWriter<'_>) -> Computed {
    let parents = object.at(&["status", "parents"]);
    let is_ours = |entry: &Value<'_>| {
        entry.get("controllerName").and_then(Value::str) == Some("example.com/kc")
    };
    if parents.is_some_and(|p| p.items().any(|entry| is_ours(&entry))) {
        return Computed::Equal;
    }
    json.begin_object().key("parents").begin_array();
    for entry in parents.into_iter().flat_map(Value::items) {
        entry.write_json(json);
    }
    json.begin_object().member("controllerName", "example.com/kc");
    json.key("parentRef").begin_object().member("name", "g").end_object();
    json.key("conditions").begin_array().begin_object().member("type", "Accepted");
    json.member("status", "True").member("reason", "Accepted").member("message", "");
    json.member("lastTransitionTime", "2026-11-23T00:00:00Z").end_object().end_array();
    json.end_object().end_array().end_object();
    Computed::Status
}

#[test]
fn epochs_rise_and_are_taken_once() {
    let _one = one();
    let lease = ("serval-system", "kc-epoch");
    let _ = Command::new("kubectl")
        .args(["delete", "lease", lease.1, "-n", lease.0, "--ignore-not-found"])
        .status();
    let client = |seed| ApiClient::new(Arc::new(access()), &Prng::new(seed)).unwrap();
    let look = |held, given, take| Look { held, given, take, stale: 0 };
    let take = move |given| look(0, given, true);
    assert_eq!(client(1).look_at_lease(lease, "one", take(0)), Ok(Held::Own(1)));
    assert_eq!(client(1).look_at_lease(lease, "one", take(0)), Ok(Held::Own(2)));
    let mut two = client(1);
    assert_eq!(two.look_at_lease(lease, "two", take(40)), Ok(Held::Own(41)));
    // The first has been overtaken; it sees whether the second renews.
    let first = |client: &mut ApiClient| client.look_at_lease(lease, "one", look(2, 41, false));
    let seen = first(&mut client(1));
    assert!(matches!(seen, Ok(Held::Others(_))), "{seen:?}");
    assert_eq!(first(&mut client(1)), seen);
    // Within a second a renewal says nothing new.
    let mut renewed = seen;
    while renewed == seen {
        assert_eq!(two.look_at_lease(lease, "two", look(41, 41, false)), Ok(Held::Own(41)));
        renewed = first(&mut client(1));
    }
    let Ok(Held::Others(version)) = renewed else { panic!("{renewed:?}") };
    // Taken only as it was when it grew stale.
    let grown = |stale| Look { stale, ..take(41) };
    assert_eq!(client(1).look_at_lease(lease, "one", grown(version ^ 2)), renewed);
    assert_eq!(client(1).look_at_lease(lease, "one", grown(version)), Ok(Held::Own(42)));
    // Four at once, five each: twenty different ones.
    let takers: Vec<_> = (0..4)
        .map(|seed| {
            std::thread::spawn(move || {
                let mut client = ApiClient::new(Arc::new(access()), &Prng::new(seed)).unwrap();
                (0..5).map(|_| client.look_at_lease(lease, "many", take(0))).collect::<Vec<_>>()
            })
        })
        .collect();
    let taken = takers.into_iter().flat_map(|t| t.join().unwrap()).map(|held| match held {
        Ok(Held::Own(epoch)) => epoch,
        other => panic!("{other:?}"),
    });
    let mut epochs: Vec<u64> = taken.collect();
    epochs.sort();
    assert_eq!(epochs, (43..63).collect::<Vec<_>>());
    kubectl("delete lease kc-epoch -n serval-system", "");
}
