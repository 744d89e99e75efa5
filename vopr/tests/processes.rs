//! The binary as a process: two of them make one trace of a seed, and the canary fails.

use std::process::{Command, Output};

fn vopr(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vopr"));
    command.args(arguments).output().expect("vopr runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).to_string()
}

#[test]
fn two_processes_make_one_trace() {
    for seed in ["3", "17"] {
        let (one, two) = (vopr(&["--seed", seed, "--hash"]), vopr(&["--seed", seed, "--hash"]));
        assert!(one.status.success() && two.status.success(), "{}", text(&one));
        assert_eq!(text(&one), text(&two));
        let hash = text(&one).trim().strip_prefix(&format!("{seed} ")).map(str::to_string);
        assert_eq!(hash.map(|h| h.len()), Some(16), "{}", text(&one));
    }
    let (one, two) = (vopr(&["--seed", "3", "--hash"]), vopr(&["--seed", "4", "--hash"]));
    assert_ne!(text(&one).split(' ').nth(1), text(&two).split(' ').nth(1));
}

#[test]
fn the_canary_fails() {
    let canary = vopr(&["--canary"]);
    assert_eq!(canary.status.code(), Some(1), "{}", text(&canary));
    assert!(text(&canary).contains("\nseed 1: D3 "), "{}", text(&canary));
    assert!(text(&canary).contains("--seed 1 --verbose --canary"), "how to do it again");
}

#[test]
fn a_seed_that_fails_is_shrunk_to_a_command() {
    let shrunk = vopr(&["--seed", "1", "--canary", "--shrink"]);
    assert_eq!(shrunk.status.code(), Some(1), "{}", text(&shrunk));
    let text = text(&shrunk);
    // The canary needs no fault at all.
    assert!(text.starts_with("D3: ") && text.contains("stalls,"), "{text}");
    let (_, command) = text.trim().split_once(" -- ").expect("a command line");
    let again = vopr(&command.split(' ').collect::<Vec<&str>>());
    assert_eq!(again.status.code(), Some(1), "{command}");
    assert_eq!(vopr(&["--seed", "1", "--without", "nonsense"]).status.code(), Some(64));
}

#[test]
fn what_cannot_be_understood_is_usage() {
    assert_eq!(vopr(&["--seeds"]).status.code(), Some(64));
    assert_eq!(vopr(&[]).status.code(), Some(64));
}
