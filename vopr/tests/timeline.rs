//! `vopr --timeline`: a page of a run that changes nothing in the run. What a browser makes of the
//! page: tests/timeline.

#![allow(clippy::disallowed_methods, reason = "nothing is sealed here")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn vopr(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vopr"));
    command.args(arguments).output().expect("vopr runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).to_string()
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn a_timeline_does_not_change_the_run() {
    for seed in ["2", "3"] {
        let page = file(&format!("hash-{seed}.html"));
        let without = vopr(&["--seed", seed, "--hash"]);
        let with = vopr(&["--seed", seed, "--hash", "--timeline", page.to_str().expect("a path")]);
        assert!(with.status.success(), "{}", text(&with));
        assert_eq!(text(&with), text(&without));
        let page = std::fs::read_to_string(page).expect("the page was written");
        for part in [
            r#""failure":null"#,
            r#""router 1""#,
            "swaps to ",
            "push to router 0 begins",
            "status of ",
            "a push was taken",
            "connections in tiny pieces",
            "GET http:80",
        ] {
            assert!(page.contains(part), "{part}");
        }
    }
}

#[test]
fn a_failure_is_on_the_page() {
    let page = file("canary.html");
    let canary = vopr(&["--canary", "--timeline", page.to_str().expect("a path")]);
    assert_eq!(canary.status.code(), Some(1), "{}", text(&canary));
    let page = std::fs::read_to_string(page).expect("the page was written");
    let failure = page.split("\"failure\":").nth(1).and_then(|rest| rest.split('\n').next());
    let failure = failure.expect("a line of its own");
    assert!(failure.starts_with(r#"{"text":"D3 "#), "{failure}");
    assert!(failure.contains("--seed 1 --verbose --canary"), "{failure}");
    // Two marks are failing: what the checker said, and the request.
    let marks = page.split("\"marks\":[").nth(1).and_then(|rest| rest.split(']').next());
    let marks: Vec<&str> = marks.expect("marks").split(',').collect();
    assert_eq!(marks.iter().skip(5).step_by(6).filter(|m| **m == "1").count(), 2);
}

#[test]
fn a_page_that_cannot_be_written_and_pages_of_many_seeds_are_refused() {
    let nowhere = vopr(&["--seed", "3", "--no-replay", "--timeline", "/nowhere/at/all.html"]);
    assert_eq!(nowhere.status.code(), Some(6), "{}", text(&nowhere));
    assert!(text(&nowhere).contains("the timeline cannot be written"), "{}", text(&nowhere));
    assert_eq!(vopr(&["--seeds", "3", "--timeline", "x.html"]).status.code(), Some(64));
}
