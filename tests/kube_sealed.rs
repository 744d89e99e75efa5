//! The whole client sealed: eight watch threads and the writer against a real API server.
//!
//! The child process builds everything, seals its memory (an allocation outside a slot aborts it),
//! and is put through what allocates most: a refused certificate, another CA, TLS handshakes, all
//! states, an API server that is killed and started, Lease writes. To be run like kube_client.rs:
//!
//!     scripts/cluster exec cargo test --test kube_sealed
#![allow(clippy::disallowed_methods, reason = "the parent, and the child before its seal")]

use mio::{Events, Poll, Token, Waker};
use serval::kube::kind::Watched;
use serval::kube::lease::Look;
use serval::shell::kube::access::Access;
use serval::shell::kube::api_client::ApiClient;
use serval::shell::kube::record::{AsJson, Record};
use serval::shell::kube::watch_thread::{Feed, WatchThread};
use serval::shell::memory::{Allocator, Mode, seal, statistics};
use serval::shell::threads::{Crew, leave};
use serval::shell::{clock, parse_slot};
use serval::stdx::{Duration, Prng};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

const CHILD: &str = "SERVAL_SEALED_CHILD";

/// Epochs taken by the writer thread.
static EPOCHS: AtomicU64 = AtomicU64::new(0);

fn main() {
    match std::env::var(CHILD) {
        Ok(config) => child(&config),
        Err(_) => parent(),
    }
}

fn child(config: &str) -> ! {
    let access = Arc::new(Access::from_kubeconfig(config, "").unwrap());
    let mut poll = Poll::new().unwrap();
    let notify = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
    let mut crew = Crew::new();
    let mut feeds: Vec<Feed> = Vec::new();
    for kind in Watched::ALL {
        let name = kind.served().name;
        let prng = Prng::new(5).child(name);
        let built = WatchThread::new(kind, access.clone(), AsJson, notify.clone(), prng);
        let (thread, feed) = built.unwrap();
        feeds.push(feed);
        crew.spawn(name, move |gate| {
            parse_slot::prepare();
            gate.wait();
            thread.run();
        });
    }
    let mut client = ApiClient::new(access, &Prng::new(6)).unwrap();
    crew.spawn("writer", move |gate| {
        parse_slot::prepare();
        gate.wait();
        loop {
            let look = Look { take: true, ..Look::default() };
            if client.look_at_lease(("serval-system", "kc-sealed"), "child", look).is_ok() {
                EPOCHS.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    });
    let mut events = Events::with_capacity(8);
    let running = crew.start(2, || seal(Mode::Abort));
    let (mut synced, mut last_seen) = ([false; 8], false);
    let deadline = clock::now().mono + Duration::from_secs(100);
    while clock::now().mono < deadline {
        for (feed, synced) in feeds.iter_mut().zip(&mut synced) {
            while let Some(record) = feed.peek() {
                match record {
                    Record::Synced => *synced = true,
                    // The parent's last object.
                    Record::Upsert { object } => {
                        last_seen |= object.windows(13).any(|part| part == b"\"sealed-last\"");
                    }
                    _ => {}
                }
                feed.pop();
            }
        }
        if last_seen && synced.iter().all(|&synced| synced) {
            feeds.iter().for_each(Feed::stop);
            let epochs = EPOCHS.load(Ordering::Relaxed);
            // Frees of memory from before the seal are counted; nothing else may leak.
            eprintln_fixed(format_args!("epochs {epochs}, {:?}\n", statistics()));
            assert!(epochs > 0 && running.spawned() == 9);
            leave(0);
        }
        let _ = poll.poll(&mut events, Some(std::time::Duration::from_millis(200)));
    }
    leave(3);
}

/// Without a heap.
fn eprintln_fixed(arguments: std::fmt::Arguments<'_>) {
    let mut buffer = [0; 1024];
    let mut out = serval::stdx::text::Truncating::new(&mut buffer);
    let _ = std::fmt::Write::write_fmt(&mut out, arguments);
    let text = out.finish();
    // SAFETY: the pointer covers the text.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: see tests/kube_client.rs"))
}

fn shell(script: &str) {
    let root = env!("CARGO_MANIFEST_DIR");
    let script = format!("set -e; cd {root}; {script}");
    let status = Command::new("bash").args(["-c", &script]).stdout(Stdio::null()).status();
    assert!(status.unwrap().success(), "{script}");
}

fn pause(seconds: u64) {
    std::thread::sleep(std::time::Duration::from_secs(seconds));
}

fn parent() {
    let original = variable("SERVAL_KUBECONFIG");
    let folder = std::env::temp_dir().join(format!("serval-sealed-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let text = std::fs::read_to_string(&original).unwrap();
    let (before, rest) = text.split_once("certificate-authority-data: ").expect("inline data");
    let end = rest.find(['}', ',', '\n']).unwrap();
    let config = folder.join("config");
    // The CA in a file beside it, at first a wrong one.
    std::fs::write(&config, format!("{before}certificate-authority: ca{}", &rest[end..])).unwrap();
    let wrong = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/other-authority.crt");
    std::fs::copy(wrong, folder.join("ca")).unwrap();
    shell(
        "kubectl delete namespace kc-sealed --ignore-not-found; kubectl create namespace kc-sealed",
    );
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = command.env(CHILD, &config).spawn().unwrap();
    pause(2);
    let right = format!("{}/ca.crt", original.rsplit_once('/').unwrap().0);
    std::fs::copy(right, folder.join("ca")).unwrap();
    pause(8);
    for turn in 0..2 {
        shell("scripts/cluster api-stop");
        pause(2);
        shell("scripts/cluster api-start");
        shell(&format!(
            "for i in $(seq 20); do
                echo \"{{apiVersion: v1, kind: Service, metadata: {{name: s-{turn}-$i,
                    namespace: kc-sealed, annotations: {{escaped: \\\"a \\\\\\\"quoted\\\\\\\" text\\\"}}}},
                    spec: {{ports: [{{port: 80}}]}}}}\"
                echo ---
            done | kubectl apply -f -"
        ));
    }
    shell("kubectl create service clusterip sealed-last -n kc-sealed --tcp=80");
    let status = child.wait().unwrap();
    shell("kubectl delete namespace kc-sealed --wait=false");
    shell("kubectl delete lease kc-sealed -n serval-system");
    std::fs::remove_dir_all(folder).unwrap();
    assert!(status.success(), "the sealed client ended with {status}");
    println!("sealed: ok");
}
