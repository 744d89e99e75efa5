//! The command line of vopr: which seeds, what to print, which exit code.

use serval::shell::clock;
use std::cell::RefCell;
use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vopr::faults::Fault;
use vopr::manifests;
use vopr::seed::Options;
use vopr::shrink::shrink;
use vopr::sim::{self, Summary};
use vopr::timeline::{Failure, Timeline};
use vopr::totals::Totals;

const HELP: &str = "\
usage: vopr --seeds N [--start S] [--canary]
       vopr --seed S [--verbose] [--canary] [--timeline FILE] [--without FAULT,...] [--until SECONDS]
       vopr --seed S --shrink
       vopr --manifests DIR [--seeds N] [--start S]

Simulates serval from seeds. Each seed runs twice and the two traces must be equal.
  --seeds N    N seeds, from --start (default 1)
  --seed S     one seed
  --verbose    print what happens
  --timeline FILE  write an HTML page of what happened, whether the seed is clean or not
  --shrink     find the fewest faults and the shortest time of faults that still fail
  --without F  these faults are off (their names: vopr/src/seed.rs, SWITCHES)
  --until S    faults and changes end after S seconds
  --canary     plant a failure: the exit code must not be 0
  --no-replay  run each seed once
  --manifests DIR  which requests to these Gateway API manifests would fail, when, and why; 3 seeds
                   if --seeds does not say otherwise
  --hash       print seed and hash of the trace, nothing else; implies --no-replay

But for --manifests, a library of the shape \"production\" is not simulated: vopr then runs itself again through cargo
(CARGO or `cargo`) with SERVAL_SHAPE=test_min and CARGO_TARGET_DIR=<workspace>/target/test_min
(or CARGO_TARGET_DIR/test_min), and returns that exit code.

Exit codes: 0 clean, 1 a checker's violation, 2 liveness (L1), 3 a crash (an assertion of the
product), 4 two runs of a seed differ, 5 clean, but something was met in too few seeds (of 500 and
more), 6 the page cannot be written, 64 usage. Of --manifests: 0 nothing would fail, 7 something would or
is not accepted, 8 the manifests cannot be tried.";

/// The seed that runs, for the panic hook.
static SEED: AtomicU64 = AtomicU64::new(0);
static CANARY: AtomicBool = AtomicBool::new(false);
/// The manifests that are tried, if any.
static MANIFESTS: OnceLock<String> = OnceLock::new();

thread_local! {
    /// The page that is wanted, for the panic hook too: a crash aborts the process.
    static PAGE: RefCell<Option<Page>> = const { RefCell::new(None) };
}

struct Page {
    file: String,
    timeline: Rc<RefCell<Timeline>>,
}

#[derive(Default)]
struct Arguments {
    start: u64,
    count: u64,
    verbose: bool,
    canary: bool,
    once: bool,
    hash: bool,
    timeline: Option<String>,
    manifests: Option<String>,
    shrink: bool,
    without: String,
    until_ms: Option<u64>,
}

impl Arguments {
    /// The options of a seed.
    fn options(&self, seed: u64) -> Option<Options> {
        let options = Options::of(seed, self.canary).without(&self.without)?;
        let until_ms = self.until_ms.unwrap_or(options.until_ms);
        Some(Options { until_ms, ..options })
    }
}

fn arguments() -> Option<Arguments> {
    let mut found = Arguments { start: 1, ..Arguments::default() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next()?.parse::<u64>().ok();
        match word.as_str() {
            "--seeds" => found.count = number()?,
            "--start" => found.start = number()?,
            "--seed" => (found.start, found.count) = (number()?, 1),
            "--manifests" => found.manifests = Some(words.next()?),
            "--timeline" => found.timeline = Some(words.next()?),
            "--verbose" => found.verbose = true,
            "--canary" => found.canary = true,
            "--no-replay" => found.once = true,
            "--hash" => (found.hash, found.once) = (true, true),
            "--shrink" => found.shrink = true,
            "--without" => found.without = words.next()?,
            "--until" => {
                let seconds = words.next()?.parse::<f64>().ok().filter(|s| *s >= 0.0)?;
                found.until_ms = Some((seconds * 1000.0) as u64);
            }
            _ => return None,
        }
    }
    found.options(1)?;
    if found.count == 0 && found.canary {
        found.count = 1;
    }
    if found.count == 0 && found.manifests.is_some() {
        found.count = 3;
    }
    let is_one = found.timeline.is_none() || found.count == 1;
    (found.count > 0 && is_one).then_some(found)
}

fn reproduce(seed: u64) -> String {
    let canary = if CANARY.load(Ordering::Relaxed) { " --canary" } else { "" };
    if let Some(folder) = MANIFESTS.get() {
        let words = format!("--manifests {folder} --seeds 1 --start {seed}");
        return format!("reproduce: cargo run --release -p vopr -- {words}");
    }
    format!("reproduce: cargo run --release -p vopr -- --seed {seed} --verbose{canary}")
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        println!("{HELP}");
        return ExitCode::from(64);
    };
    if serval::limits::SHAPE == "production" && arguments.manifests.is_none() {
        return run_again();
    }
    if let Some(folder) = &arguments.manifests {
        MANIFESTS.set(folder.clone()).expect("set once");
    }
    CANARY.store(arguments.canary, Ordering::Relaxed);
    std::panic::set_hook(Box::new(|info| {
        let seed = SEED.load(Ordering::Relaxed);
        // Not println: a pipe that is closed must not panic again.
        let what = format!("CRASH {info}");
        let text = format!("seed {seed}: {what}\n{}\n", reproduce(seed));
        let _ = std::io::stdout().write_all(text.as_bytes());
        let _ = write_page(seed, Some(what));
        std::process::exit(3);
    }));
    if arguments.shrink {
        let found = shrink(arguments.start, arguments.canary);
        println!("{}", found.as_deref().unwrap_or("it is clean"));
        return ExitCode::from(u8::from(found.is_some()));
    }
    match &arguments.manifests {
        Some(folder) => try_manifests(folder, &arguments),
        None => run(&arguments),
    }
}

fn try_manifests(folder: &str, arguments: &Arguments) -> ExitCode {
    let begins = |seed| SEED.store(seed, Ordering::Relaxed);
    let tried = manifests::run(folder, arguments.start, arguments.count, &begins);
    // A pipe that was closed is no error.
    let _ = std::io::stdout().write_all(tried.text.as_bytes());
    ExitCode::from(tried.code)
}

fn run(arguments: &Arguments) -> ExitCode {
    let mut totals = Totals::default();
    let mut code = 0;
    for seed in arguments.start..arguments.start + arguments.count {
        SEED.store(seed, Ordering::Relaxed);
        code = one(seed, arguments, &mut totals);
        if code != 0 {
            println!("{}", reproduce(seed));
            break;
        }
    }
    if !arguments.hash {
        print!("{}", totals.text());
    }
    let (lacking, holes) = (totals.lacking(), totals.holes());
    if !arguments.hash && arguments.count > 1 && !holes.is_empty() {
        println!("never met: {}", holes.join("; "));
    }
    if code == 0 && !lacking.is_empty() {
        println!("met in too few seeds: {}", lacking.join("; "));
        code = 5;
    }
    ExitCode::from(code)
}

/// Runs a seed, twice if it is clean; its exit code.
fn one(seed: u64, arguments: &Arguments, totals: &mut Totals) -> u8 {
    let options = arguments.options(seed).expect("they were looked at");
    let began = clock::process_cpu();
    let page = arguments.timeline.as_ref().map(|file| {
        let timeline = Rc::new(RefCell::new(Timeline::default()));
        PAGE.set(Some(Page { file: file.clone(), timeline: timeline.clone() }));
        timeline
    });
    let summary = sim::observe(options, arguments.verbose, page);
    totals.add(&options, &summary);
    totals.ran(&summary);
    match arguments.hash {
        true => println!("{seed} {:016x}", summary.hash),
        false => line(seed, &summary),
    }
    let mut code = 0;
    for violation in &summary.violations {
        println!("seed {seed}: {} {}", violation.checker, violation.text);
        code = code.max(if violation.checker == "L1" { 2 } else { 1 });
    }
    if code == 0 && !arguments.once {
        let again = sim::run(options, false);
        totals.ran(&again);
        if again.hash != summary.hash {
            println!("seed {seed}: M1 {:x} and {:x} differ", summary.hash, again.hash);
            code = 4;
        }
    }
    let what = summary.violations.first().map(|v| format!("{} {}", v.checker, v.text));
    if let Err(error) = write_page(seed, what) {
        println!("the timeline cannot be written: {error}");
        code = code.max(6);
    }
    totals.cpu_seconds += (clock::process_cpu().0 - began.0) as f64 / 1e9;
    code
}

/// Writes the page, if one is wanted.
fn write_page(seed: u64, failure: Option<String>) -> std::io::Result<()> {
    let Some(page) = PAGE.take() else { return Ok(()) };
    // An assertion of its own must not take the report of it.
    let Ok(timeline) = page.timeline.try_borrow() else { return Ok(()) };
    let failure = failure.map(|text| Failure { text, reproduce: reproduce(seed) });
    let verdict = if failure.is_some() { "failed" } else { "clean" };
    std::fs::write(
        page.file,
        timeline.page(&format!("vopr: seed {seed}, {verdict}"), failure.as_ref()),
    )
}

fn line(seed: u64, s: &Summary) {
    let share = s.sums.proxied * 100 / s.requests.max(1);
    println!(
        "seed {seed}: {} s, requests {}, proxied {} ({share} %), 2xx {}, swaps {}, crashes {}, \
         relists {}, refusals {}, pushes {}, faults {}, compared {}, events {}, hash {:016x}",
        s.seconds,
        s.requests,
        s.sums.proxied,
        s.sums.successes,
        s.swaps,
        s.crashes,
        s.relists,
        s.injected.of(Fault::OverCapacity),
        s.pushes,
        s.injected.sum(),
        s.compared,
        s.events,
        s.hash,
    );
}

/// Runs vopr again at the shape of the simulator.
fn run_again() -> ExitCode {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| format!("{root}/target"));
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = words.iter().position(|w| w == "--timeline")
        && let Some(file) = words.get_mut(at + 1)
        && let Ok(path) = std::path::absolute(&*file)
    {
        // It runs in another folder.
        *file = path.to_string_lossy().into_owned();
    }
    let status = Command::new(cargo)
        .args(["run", "--quiet", "--release", "-p", "vopr", "--"])
        .args(words)
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
