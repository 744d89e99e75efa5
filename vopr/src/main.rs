//! The command line of vopr: which seeds, what to print, which exit code.

use serval::shell::clock;
use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vopr::seed::Options;
use vopr::sim::{self, Summary};

const HELP: &str = "\
usage: vopr --seeds N [--start S] [--canary]
       vopr --seed S [--verbose] [--canary]

Simulates serval from seeds. Each seed runs twice and the two traces must be equal.
  --seeds N    N seeds, from --start (default 1)
  --seed S     one seed
  --verbose    print what happens
  --canary     plant a failure: the exit code must not be 0
  --no-replay  run each seed once

A library of the shape \"production\" is not simulated: vopr then runs itself again through cargo
(CARGO or `cargo`) with SERVAL_SHAPE=test_min and CARGO_TARGET_DIR=<workspace>/target/test_min
(or CARGO_TARGET_DIR/test_min), and returns that exit code.

Exit codes: 0 clean, 1 a checker's violation, 2 liveness (L1), 3 a crash (an assertion of the
product), 4 two runs of a seed differ, 64 usage.";

/// The seed that runs, for the panic hook.
static SEED: AtomicU64 = AtomicU64::new(0);
static CANARY: AtomicBool = AtomicBool::new(false);

struct Arguments {
    start: u64,
    count: u64,
    verbose: bool,
    canary: bool,
    once: bool,
}

fn arguments() -> Option<Arguments> {
    let mut found = Arguments { start: 1, count: 0, verbose: false, canary: false, once: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next()?.parse::<u64>().ok();
        match word.as_str() {
            "--seeds" => found.count = number()?,
            "--start" => found.start = number()?,
            "--seed" => (found.start, found.count) = (number()?, 1),
            "--verbose" => found.verbose = true,
            "--canary" => found.canary = true,
            "--no-replay" => found.once = true,
            _ => return None,
        }
    }
    if found.count == 0 && found.canary {
        found.count = 1;
    }
    (found.count > 0).then_some(found)
}

fn reproduce(seed: u64) -> String {
    let canary = if CANARY.load(Ordering::Relaxed) { " --canary" } else { "" };
    format!("reproduce: cargo run --release -p vopr -- --seed {seed} --verbose{canary}")
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        println!("{HELP}");
        return ExitCode::from(64);
    };
    if serval::limits::SHAPE == "production" {
        return run_again();
    }
    CANARY.store(arguments.canary, Ordering::Relaxed);
    std::panic::set_hook(Box::new(|info| {
        let seed = SEED.load(Ordering::Relaxed);
        // Not println: a pipe that is closed must not panic again.
        let text = format!("seed {seed}: CRASH {info}\n{}\n", reproduce(seed));
        let _ = std::io::stdout().write_all(text.as_bytes());
        std::process::exit(3);
    }));
    run(&arguments)
}

fn run(arguments: &Arguments) -> ExitCode {
    let began = clock::now().mono;
    let mut totals = Totals::default();
    let mut code = 0;
    for seed in arguments.start..arguments.start + arguments.count {
        SEED.store(seed, Ordering::Relaxed);
        let options = Options::of(seed, arguments.canary);
        let summary = sim::run(options, arguments.verbose);
        line(seed, &summary);
        totals.add(&summary);
        for violation in &summary.violations {
            println!("seed {seed}: {} {}", violation.checker, violation.text);
            code = code.max(if violation.checker == "L1" { 2 } else { 1 });
        }
        if !summary.violations.is_empty() {
            println!("{}", reproduce(seed));
            break;
        }
        if !arguments.once {
            let again = sim::run(options, false);
            if again.hash != summary.hash {
                println!("seed {seed}: M1 {:x} and {:x} differ", summary.hash, again.hash);
                println!("{}", reproduce(seed));
                code = 4;
                break;
            }
        }
    }
    let seconds = clock::now().mono.since(began).0 as f64 / 1e9;
    totals.print(seconds, if arguments.once { 1.0 } else { 2.0 });
    ExitCode::from(code)
}

fn line(seed: u64, s: &Summary) {
    println!(
        "seed {seed}: {} s, requests {}, proxied {}, swaps {}, crashes {}, relists {}, refusals {}, pushes {}, \
         faults {}, compared {}, events {}, hash {:016x}",
        s.seconds,
        s.requests,
        s.proxied,
        s.swaps,
        s.crashes,
        s.relists,
        s.refusals,
        s.pushes,
        s.faults,
        s.compared,
        s.events,
        s.hash,
    );
}

/// Sums, and how many seeds had each above 0.
#[derive(Default)]
struct Totals {
    seeds: u64,
    sums: [u64; 10],
    above: [u64; 10],
}

impl Totals {
    const NAMES: [&str; 10] = [
        "simulated seconds",
        "requests",
        "proxied",
        "swaps",
        "crashes",
        "relists",
        "refusals",
        "pushes",
        "faults",
        "compared",
    ];

    fn add(&mut self, s: &Summary) {
        self.seeds += 1;
        let values = [
            s.seconds, s.requests, s.proxied, s.swaps, s.crashes, s.relists, s.refusals, s.pushes,
            s.faults, s.compared,
        ];
        for (at, value) in values.into_iter().enumerate() {
            self.sums[at] += value;
            self.above[at] += u64::from(value > 0);
        }
    }

    fn print(&self, seconds: f64, runs: f64) {
        println!("{} seeds in {seconds:.1} s", self.seeds);
        for (at, name) in Self::NAMES.into_iter().enumerate() {
            let percent = self.above[at] * 100 / self.seeds.max(1);
            println!("  {name}: {} (above 0 in {percent} % of the seeds)", self.sums[at]);
        }
        let rate = self.sums[0] as f64 * runs / seconds;
        println!("  {rate:.0} simulated seconds per CPU second");
    }
}

/// Runs vopr again at the shape of the simulator.
fn run_again() -> ExitCode {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| format!("{root}/target"));
    let status = Command::new(cargo)
        .args(["run", "--quiet", "--release", "-p", "vopr", "--"])
        .args(std::env::args().skip(1))
        .current_dir(root)
        .env("SERVAL_SHAPE", "test_min")
        .env("CARGO_TARGET_DIR", format!("{target}/test_min"))
        .status();
    match status {
        Ok(status) => ExitCode::from(status.code().unwrap_or(3) as u8),
        Err(error) => {
            println!("cargo cannot be run: {error}");
            ExitCode::from(3)
        }
    }
}
