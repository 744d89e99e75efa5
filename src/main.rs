//! The binary: controller | router | run | check | limits.
//!
//! In: the command line. Out: an exit code (see `serval --help`). Everything is built and every
//! thread spawned before the allocator is sealed; what follows takes no memory.

mod cli;

use cli::{Command, EXIT_USAGE, Options};
use serval::config::Source;
use serval::controller::Controller;
use serval::limits::CLOCK_PLAUSIBLE_S;
use serval::plan::{self, Plan, Role};
use serval::reconcile::Settings;
use serval::shell::budget::{self, Wanted};
use serval::shell::controller::{self as control, ControllerOptions};
use serval::shell::identity::store::{Folders, Secrets};
use serval::shell::identity::{self};
use serval::shell::kube::access::Access;
use serval::shell::kube::api_client::ApiClient;
use serval::shell::memory::{self, Mode, image};
use serval::shell::place::boxed_zeroed;
use serval::shell::router::{self, Handle, RouterOptions};
use serval::shell::signals::{self, Signals};
use serval::shell::standalone::folder::Folder;
use serval::shell::standalone::main_loop::MainLoop;
use serval::shell::standalone::manifests::Reader;
use serval::shell::standalone::{self};
use serval::shell::threads::{self, Crew, Running};
use serval::shell::tls::rustls::certificates;
use serval::shell::{capabilities, clock, entropy, files, log::log, parse_slot};
use serval::stdx::{Duration, Prng, Short};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    memory::prepare_process();
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
    let role = match options.command {
        Command::Controller => Some(Role::Controller),
        Command::Router => Some(Role::Router),
        Command::Run => Some(Role::Standalone),
        Command::Check | Command::Limits | Command::Identity => None,
    };
    if let Some(role) = role {
        reserve(&options, role);
    }
    if role.is_some_and(Role::carries) {
        // Without it ports below 1024 stay unbound, which the report says.
        capabilities::raise_net_bind_service();
    }
    let code = match options.command {
        Command::Limits => limits(&options),
        Command::Check => check(&options),
        Command::Controller => controller(&options),
        Command::Router => router(&options),
        Command::Run => run(&options),
        Command::Identity => identity(&options),
    };
    threads::leave(code);
}

fn fail(code: i32, text: &str) -> ! {
    eprintln!("serval: {text}");
    std::process::exit(code);
}

/// Prints the memory plan before anything of it is taken, and refuses it when it does not fit.
fn reserve(options: &Options, role: Role) {
    let plan = memory_plan(options, role);
    let mut text = String::new();
    plan::print(&plan, &mut text).expect("a string takes all");
    eprint!("{text}");
    let available = budget::available(options.max_memory);
    if let Err(exceeded) = plan.check(available.bytes) {
        fail(EXIT_MEMORY, &format!("{exceeded}; the limit is {available}"));
    }
    image::make_resident();
}

fn memory_plan(options: &Options, role: Role) -> Plan {
    let keeps_state = !options.state_dir.is_empty();
    let (has_health, has_identity) = (options.health.is_some(), !options.identity.is_empty());
    let wanted = Wanted { role, keeps_state, has_health, has_identity };
    budget::plan(wanted, &options.capacities)
}

fn settings(options: &Options) -> Settings {
    let controller = Short::new(&options.controller_name).expect("the command line was checked");
    let standalone = matches!(options.command, Command::Run | Command::Check);
    Settings {
        controller,
        standalone,
        pool: options.pool,
        gateway_service: options.gateway_service,
        router_service: options.router_service,
    }
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
    let plan = memory_plan(options, Role::Standalone);
    let mut text = String::new();
    plan::print(&plan, &mut text).expect("a string takes all");
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
    let _ = writeln!(out, "\nmemory plan of `serval run`:\n{text}");
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

/// Makes or renews identities, and says what it did.
fn identity(options: &Options) -> i32 {
    match renew(options) {
        Ok(done) => {
            done.iter().for_each(|line| println!("{line}"));
            if done.is_empty() {
                println!("nothing is due");
            }
            0
        }
        Err(text) => fail(EXIT_UNAVAILABLE, &text),
    }
}

fn renew(options: &Options) -> Result<Vec<String>, String> {
    let now = clock::now().wall;
    if now.0 < u64::from(CLOCK_PLAUSIBLE_S) {
        return Err("this machine's clock is not set: certificates would not be valid".into());
    }
    if !options.out.is_empty() {
        return identity::renew_in(&mut Folders::new(&options.out), now);
    }
    let access = match options.kubeconfig.as_str() {
        "" => Access::in_cluster(),
        path => Access::from_kubeconfig(path, ""),
    };
    let access = Arc::new(access.map_err(|error| error.to_string())?);
    let namespace = match options.namespace.as_str() {
        "" => access.namespace.to_string(),
        given => given.to_string(),
    };
    let client = ApiClient::new(access, &Prng::new(entropy::seed()))?;
    identity::renew_in(&mut Secrets::new(client, &namespace), now)
}

fn controller(options: &Options) -> i32 {
    let signals = Signals::install();
    let mut crew = Crew::new();
    let control = ControllerOptions {
        capacities: options.capacities,
        settings: settings(options),
        routers: options.routers.iter().filter_map(|r| r.parse().ok()).collect(),
        secret: token(options),
        identity: options.identity.clone(),
        kubeconfig: options.kubeconfig.clone(),
        lease_namespace: options.lease_namespace.clone(),
        admin: options.admin,
        health: options.health,
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

fn router_options(options: &Options) -> RouterOptions {
    RouterOptions {
        capacities: options.capacities,
        admin: options.admin,
        health: options.health,
        token: token(options),
        identity: options.identity.clone(),
        state_dir: options.state_dir.clone(),
        listens: options.listens.clone(),
        // Where tenants name the endpoints, in a cluster, loopback is not theirs to reach.
        allow_loopback: options.command == Command::Run || !options.listens.is_empty(),
    }
}

fn router(options: &Options) -> i32 {
    let signals = Signals::install();
    let mut crew = Crew::new();
    let wanted = router_options(options);
    let spawned = router::configuration(&options.capacities, &options.state_dir)
        .and_then(|configuration| router::spawn(&wanted, configuration, true, &mut crew));
    let handle = match spawned {
        Ok((handle, _)) => handle,
        Err(text) => fail(EXIT_UNAVAILABLE, &text),
    };
    let running = start(crew);
    log!(Info, "main", "router admin=http://{}", options.admin);
    wait_for_signal(&signals);
    drain(options, &handle);
    let deadline = clock::now().mono + Duration::from_secs(5);
    i32::from(!running.wait_finished(deadline))
}

/// Both roles in one process: the folder's controller thread owns the configuration.
fn run(options: &Options) -> i32 {
    let signals = Signals::install();
    let mut crew = Crew::new();
    let wanted = router_options(options);
    let spawned = router::configuration(&options.capacities, &options.state_dir)
        .and_then(|configuration| router::spawn(&wanted, configuration, false, &mut crew));
    let (handle, writer) = match spawned {
        Ok((handle, Some(writer))) => (handle, writer),
        Ok((_, None)) => unreachable!("the writer was not given away"),
        Err(text) => fail(EXIT_UNAVAILABLE, &text),
    };
    let Some(folder) = Folder::new(&options.manifests, &options.capacities) else {
        fail(EXIT_USAGE, "--manifests: the path is too long")
    };
    let mut controller = boxed_zeroed::<Controller>();
    controller.init(settings(options), &options.capacities);
    certificates::prepare_vet();
    controller.set_vet(certificates::vet);
    controller.set_epoch(0);
    controller.set_generation(handle.shown.served.get().identity.generation);
    let stop = Arc::new(AtomicBool::new(false));
    let (reader, shown) = (Reader::new(), handle.shown.clone());
    let mut main = MainLoop {
        controller,
        folder,
        reader,
        writer,
        certificates: handle.certificates,
        shown,
        stop: stop.clone(),
    };
    first_manifests(&mut main, &handle);
    crew.spawn("controller", move |gate| {
        parse_slot::prepare_yaml();
        gate.wait();
        main.run();
    });
    let running = start(crew);
    log!(Info, "main", "serving {} admin=http://{}", options.manifests, options.admin);
    wait_for_signal(&signals);
    stop.store(true, Ordering::Release);
    drain(options, &handle);
    let deadline = clock::now().mono + Duration::from_secs(5);
    i32::from(!running.wait_finished(deadline))
}

/// Wrong at the very start: an exit code, unless the last good configuration can be served.
fn first_manifests(main: &mut MainLoop, handle: &Handle) {
    let has_saved = handle.shown.served.get().source != Source::None;
    let taken = main.first(&mut |complaint| eprintln!("{complaint}"));
    match taken {
        Ok(true) => {}
        Ok(false) if has_saved => eprintln!("serval: serving the last good configuration"),
        Ok(false) => fail(EXIT_MANIFESTS, "the manifests are wrong: nothing to serve"),
        Err(error) if has_saved => {
            eprintln!("serval: {error}: serving the last good configuration");
        }
        Err(error) => fail(EXIT_FILE, &error.to_string()),
    }
}

/// No new connections, what runs finishes, until the deadline.
fn drain(options: &Options, handle: &Handle) {
    log!(Info, "main", "draining for at most {} ms", options.drain_timeout_ms);
    handle.drain();
    let deadline = clock::now().mono + Duration::from_millis(options.drain_timeout_ms);
    while !handle.is_drained() && clock::now().mono < deadline {
        handle.shown.served.pause(20);
    }
    handle.stop();
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
