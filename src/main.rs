//! The binary: controller | router | run | check | limits.
//!
//! In: the command line. Out: an exit code (see `serval --help`). Everything is built and every
//! thread spawned before the allocator is sealed; what follows takes no memory.

mod cli;

use cli::{Command, EXIT_USAGE, Options};
use serval::controller::Controller;
use serval::reconcile::Settings;
use serval::shell::controller::{self as control, ControllerOptions};
use serval::shell::memory::{self, Mode};
use serval::shell::signals::{self, Signals};
use serval::shell::standalone;
use serval::shell::threads::{self, Crew, Running};
use serval::shell::{clock, files, log::log};
use serval::stdx::{Duration, Short};
use std::io::Write as _;

#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

/// `check`: something is not accepted.
const EXIT_NOT_ACCEPTED: i32 = 1;
/// Manifests are wrong (sysexits' EX_DATAERR).
const EXIT_MANIFESTS: i32 = 65;
/// No access to a file (EX_NOINPUT).
const EXIT_FILE: i32 = 66;
/// A port or the API server's configuration cannot be used (EX_UNAVAILABLE).
const EXIT_UNAVAILABLE: i32 = 69;
/// The memory plan is larger than it may be (EX_OSERR).
const EXIT_MEMORY: i32 = 71;

fn main() {
    memory::install_panic_hook();
    let options = match cli::parse() {
        Ok(options) => options,
        Err(text) if text.starts_with("serval") => {
            print!("{text}");
            std::process::exit(0);
        }
        Err(text) => fail(EXIT_USAGE, &format!("{text}\n\nserval --help says more")),
    };
    if serval::limits::SHAPE != "production" {
        fail(EXIT_USAGE, "built with SERVAL_SHAPE other than production: only for the simulator");
    }
    let code = match options.command {
        Command::Limits => limits(&options),
        Command::Check => check(&options),
        Command::Controller => controller(&options),
        Command::Router | Command::Run => fail(EXIT_UNAVAILABLE, "not yet"),
    };
    threads::leave(code);
}

fn fail(code: i32, text: &str) -> ! {
    eprintln!("serval: {text}");
    std::process::exit(code);
}

fn settings(options: &Options) -> Settings {
    let controller = Short::new(&options.controller_name).expect("the command line was checked");
    let standalone = matches!(options.command, Command::Run | Command::Check);
    Settings { controller, standalone, pool: options.pool }
}

/// The token in `--admin-token-file`, without the white space around it.
fn token(options: &Options) -> String {
    let path = &options.admin_token_file;
    if path.is_empty() {
        return String::new();
    }
    let mut buffer = [0u8; 512];
    match files::read(path.as_bytes(), &mut buffer) {
        Ok(text) => String::from_utf8_lossy(text).trim().to_string(),
        Err(error) => fail(EXIT_FILE, &format!("--admin-token-file {path}: {error}")),
    }
}

fn limits(options: &Options) -> i32 {
    let mut out = std::io::stdout().lock();
    // A pipe that was closed (`| head`) is no error.
    let _ = writeln!(out, "{:<28} {:>12} {:>8} {:>12}  why", "limit", "value", "min", "max");
    for limit in serval::limits::LIMITS {
        let value = options.capacities.get(limit.name).unwrap_or(limit.default);
        let name = match limit.kind {
            "capacity" => format!("--{}", limit.name.to_lowercase().replace('_', "-")),
            _ => limit.name.to_string(),
        };
        let (min, max, why, unit) = (limit.min, limit.max, limit.why, limit.unit);
        let _ = writeln!(out, "{name:<28} {value:>12} {min:>8} {max:>12}  {why} ({unit})");
    }
    0
}

fn check(options: &Options) -> i32 {
    let mut checked = standalone::check::Check::new(settings(options), &options.capacities);
    match checked.run(&options.manifests, &mut std::io::stdout(), &mut std::io::stderr()) {
        Ok(true) => 0,
        Ok(false) => EXIT_NOT_ACCEPTED,
        Err(standalone::check::CheckError::Folder) => EXIT_FILE,
        Err(standalone::check::CheckError::Manifests) => EXIT_MANIFESTS,
    }
}

fn controller(options: &Options) -> i32 {
    let signals = Signals::install();
    let mut crew = Crew::new();
    let control = ControllerOptions {
        capacities: options.capacities,
        settings: settings(options),
        routers: options.routers.iter().filter_map(|r| r.parse().ok()).collect(),
        secret: token(options),
        kubeconfig: options.kubeconfig.clone(),
        lease_namespace: options.lease_namespace.clone(),
        admin: options.admin,
    };
    let handle = match control::spawn(&control, &mut crew) {
        Ok(handle) => handle,
        Err(text) => fail(EXIT_UNAVAILABLE, &text),
    };
    let running = start(crew);
    log!(Info, "main", "controller admin=http://{}", options.admin);
    wait_for_signal(&signals);
    log!(Info, "main", "ending");
    handle.stop();
    let deadline = clock::now().mono + Duration::from_secs(5);
    i32::from(!running.wait_finished(deadline))
}

/// Lets all threads go, sealed.
fn start(crew: Crew) -> Running {
    crew.start(2, || memory::seal(Mode::from_environment()))
}

/// Sleeps until SIGTERM or SIGINT. A second one ends the process at once (signals.rs).
fn wait_for_signal(signals: &Signals) {
    signals::listen();
    while !signals.take().terminate {
        signals.wait();
    }
}

/// So that the size of the largest machine is known here: it is never on a stack.
const _: () = assert!(size_of::<Controller>() > 1 << 20);
