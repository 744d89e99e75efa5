//! Shrinking: of a seed that fails, the fewest faults and the shortest time of faults with which
//! the same checker still finds something.
//!
//! In: a seed. Out: one command line. Each try is a process of its own, since a crash ends it.

use crate::seed::{Options, SWITCHES};
use std::process::Command;

/// Tries of another end.
const STEPS: u32 = 7;

/// What is tried: faults that are off, and when faults end, in milliseconds.
#[derive(Clone, Debug)]
struct Try {
    without: Vec<&'static str>,
    until_ms: u64,
    /// One run shows it: it is not for D14 or M1, which compare two.
    once: bool,
}

impl Try {
    fn arguments(&self, seed: u64, canary: bool) -> Vec<String> {
        let mut words = vec!["--seed".to_string(), seed.to_string()];
        if !self.without.is_empty() {
            words.extend(["--without".to_string(), self.without.join(",")]);
        }
        let until = format!("{}", self.until_ms as f64 / 1000.0);
        words.extend(["--until".to_string(), until]);
        words.extend(canary.then(|| "--canary".to_string()));
        words
    }

    /// The checker that finds something, if any.
    fn found(&self, seed: u64, canary: bool) -> Option<String> {
        let vopr = std::env::current_exe().expect("this process has a file");
        let arguments = self.arguments(seed, canary);
        let once = self.once.then_some("--no-replay");
        let output = Command::new(vopr).args(arguments).args(once).output().ok()?;
        let (text, head) = (String::from_utf8_lossy(&output.stdout), format!("seed {seed}: "));
        let lines = text.lines().filter_map(|line| line.strip_prefix(&head));
        let mut words = lines.filter_map(|line| line.split(' ').next());
        let is_checker = |word: &&str| word.starts_with(|c: char| c.is_ascii_uppercase());
        words.rfind(is_checker).map(str::to_string)
    }
}

/// The command line, or None when the seed is clean.
pub fn shrink(seed: u64, canary: bool) -> Option<String> {
    let options = Options::of(seed, canary);
    let until_ms = options.until_ms;
    let mut best = Try { without: Vec::new(), until_ms, once: true };
    best.once = best.found(seed, canary).is_some();
    let checker = best.found(seed, canary)?;
    let fails = |t: &Try| t.found(seed, canary).as_ref() == Some(&checker);
    let drop_faults = |best: &mut Try| {
        for (name, switch) in SWITCHES {
            let (mut off, mut next) = (options, best.clone());
            let before = format!("{off:?}");
            switch(&mut off);
            next.without.push(name);
            if before != format!("{off:?}") && !best.without.contains(name) && fails(&next) {
                *best = next;
            }
        }
    };
    drop_faults(&mut best);
    let (mut clean, mut fails_at) = (0, best.until_ms);
    for _ in 0..STEPS {
        let middle = (clean + fails_at) / 2;
        match fails(&Try { until_ms: middle, ..best.clone() }) {
            true => fails_at = middle,
            false => clean = middle,
        }
    }
    best.until_ms = fails_at;
    drop_faults(&mut best);
    let words = best.arguments(seed, canary).join(" ");
    Some(format!("{checker}: cargo run --release -p vopr -- {words} --verbose"))
}
