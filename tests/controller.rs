//! The controller's process: it ends as asked, also while no API server answers.

#![allow(clippy::disallowed_methods, reason = "tests have files and clocks of their own")]

#[path = "support/process.rs"]
mod process;

use process::Process;
use std::time::{Duration, Instant};

/// Threads that watch are told to return too, or every end takes five seconds and says 1.
#[test]
fn ends_at_once_and_well() {
    let name = format!("serval-controller-{}.kubeconfig", std::process::id());
    let path = std::env::temp_dir().join(name);
    // Nobody listens at port 1.
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/authority.crt");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: \
         {{cluster: c, user: u}}\nclusters:\n- name: c\n  cluster: {{server: \
         'https://127.0.0.1:1', certificate-authority: {authority}}}\nusers:\n- name: u\n  user: \
         {{token: t}}\n"
    );
    std::fs::write(&path, text).unwrap();
    let kubeconfig = path.to_str().unwrap();
    let mut process = Process::start(&[
        "controller",
        "--kubeconfig",
        kubeconfig,
        "--router",
        "127.0.0.1:1",
        "--admin",
        "127.0.0.1:0",
    ]);
    let began = Instant::now();
    while !process.logs("kind=Gateway ") {
        assert!(process.runs() && began.elapsed() < Duration::from_secs(30), "it watches");
        std::thread::yield_now();
    }
    let asked = Instant::now();
    assert_eq!(process.end(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    std::fs::remove_file(&path).unwrap();
}
