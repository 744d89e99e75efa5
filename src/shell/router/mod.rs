//! The router role: traffic threads, the admin thread, the file thread.
//!
//! ```text
//! controller ─▶ admin thread ─▶ ConfigStorage ─▶ N traffic threads ─▶ backends
//!                    └─▶ served ─▶ file thread ─▶ --state-dir
//! ```

pub mod pages;
pub mod served;
pub mod state_file;

use crate::config::local::Change;
use crate::config::storage::Writer;
use crate::config::{ConfigStorage, Source};
use crate::limits::{Capacities, MAX_ADMIN_CONNECTIONS, SLOT_RESERVE_BYTES};
use crate::router::update::{UpdateError, Updater};
use crate::router::{Options, Worker};
use crate::shell::admin::{Identity, Server};
use crate::shell::files::Folder;
use crate::shell::health;
use crate::shell::log::log;
use crate::shell::memory::make_reserve;
use crate::shell::net::{Traffic, run_worker};
use crate::shell::place::boxed_zeroed;
use crate::shell::threads::Crew;
use crate::shell::tls::rustls::certificates::Certificates;
use crate::shell::{clock, entropy, json, parse_slot};
use crate::stdx::{Duration, Short};
use core::sync::atomic::{AtomicBool, Ordering};
use pages::{Pages, Shown};
use served::ServedCell;
use state_file::FileThread;
use std::boxed::Box;
use std::format;
use std::net::SocketAddr;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

/// What the role needs to know.
#[derive(Clone, Debug)]
pub struct RouterOptions {
    /// Capacities in force.
    pub capacities: Capacities,
    /// Admin port.
    pub admin: SocketAddr,
    /// Plain port for probes and metrics.
    pub health: Option<SocketAddr>,
    /// Token that a push needs; empty: none.
    pub token: String,
    /// Folder of the identity for mutual TLS on the admin port; empty: plain HTTP.
    pub identity: String,
    /// Where the last good configuration is kept; empty: nowhere.
    pub state_dir: String,
    /// Where a router that no controller owns listens; its routes and pools come by the admin port.
    pub listens: Vec<SocketAddr>,
    /// Endpoints on loopback may be connected to: standalone, and routers without a controller.
    pub allow_loopback: bool,
}

/// A router whose threads are spawned.
#[derive(Debug)]
pub struct Handle {
    /// What other threads know of it.
    pub shown: Shown,
    /// The loaded certificates.
    pub certificates: &'static Certificates,
    stop: Arc<AtomicBool>,
}

impl Handle {
    /// Begins to drain: no new connections, what runs finishes.
    pub fn drain(&self) {
        self.shown.controls.iter().for_each(|control| control.drain());
    }

    /// Whether every worker has drained.
    pub fn is_drained(&self) -> bool {
        self.shown.controls.iter().all(|control| control.status().has_ended())
    }

    /// Ends all threads.
    pub fn stop(&self) {
        self.shown.controls.iter().for_each(|control| control.stop());
        self.shown.served.end();
        self.stop.store(true, Ordering::Release);
    }
}

/// The configuration's storage, and what was loaded into it.
#[derive(Debug)]
pub struct Configuration {
    /// The storage.
    pub storage: &'static ConfigStorage,
    /// Its writer.
    pub writer: Writer<'static>,
    /// Knows what is served.
    pub updater: Box<Updater>,
    /// The loaded certificates.
    pub certificates: &'static Certificates,
    folder: Option<Folder>,
}

/// Builds the storage and takes the saved configuration.
pub fn configuration(capacities: &Capacities, state_dir: &str) -> Result<Configuration, String> {
    let storage = Box::leak(boxed_zeroed::<ConfigStorage>());
    storage.set_caps(capacities);
    let storage: &'static ConfigStorage = storage;
    let mut writer = storage.writer().expect("the first to ask");
    let mut updater = boxed_zeroed::<Updater>();
    let certificates: &'static Certificates =
        Box::leak(Box::new(Certificates::new(capacities.max_config_certificates)));
    if state_dir.is_empty() {
        return Ok(Configuration { storage, writer, updater, certificates, folder: None });
    }
    let folder = Folder::open(state_dir.as_bytes());
    let folder = folder.map_err(|error| format!("--state-dir {state_dir}: {error}"))?;
    match state_file::load(&folder, &mut updater, &mut writer, certificates) {
        Ok(true) => {
            let identity = updater.served().0;
            let (epoch, generation) = (identity.epoch, identity.generation);
            log!(Info, "state", "loaded epoch={epoch} generation={generation}");
        }
        Ok(false) => {}
        Err(error) => log!(Warn, "state", "{state_dir}/snapshot.jsonl passed over: {error}"),
    }
    Ok(Configuration { storage, writer, updater, certificates, folder: Some(folder) })
}

/// Makes the local configuration listen where `--listen` says, unless a controller's was saved.
fn listen(options: &RouterOptions, configuration: &mut Configuration) -> Result<(), String> {
    let Configuration { writer, updater, .. } = configuration;
    let change = Change::Listen(&options.listens);
    let parse = |line: &[u8], document: &mut _| json::parse(line, document).is_ok();
    match updater.change(&change, b"", parse, writer, clock::now()) {
        Ok(_) => Ok(()),
        Err(UpdateError::Owned) => {
            log!(
                Warn,
                "state",
                "--listen: a controller's configuration was saved, which goes first"
            );
            Ok(())
        }
        Err(error) => Err(format!("--listen: {error}")),
    }
}

/// Spawns workers, admin thread and file thread into `crew`. With `own_writer` the admin port takes
/// pushes; else the writer is given back, for whoever owns the configuration.
pub fn spawn(
    options: &RouterOptions,
    configuration: Configuration,
    own_writer: bool,
    crew: &mut Crew,
) -> Result<(Handle, Option<Writer<'static>>), String> {
    let mut configuration = configuration;
    if !options.listens.is_empty() {
        listen(options, &mut configuration)?;
    }
    let Configuration { storage, writer, updater, certificates, folder } = configuration;
    let served = Arc::new(ServedCell::default());
    let (identity, source) = updater.served();
    if source != Source::None {
        served.set(identity, source);
    }
    let mut controls = Vec::new();
    for index in 0..options.capacities.max_workers {
        let made = spawn_worker(options, (storage, certificates), index, crew);
        controls.push(made.map_err(|error| format!("worker {index}: {error}"))?);
    }
    let mut server = admin_server(options)?;
    let (boot_id, admin) = (entropy::boot_id(), server.seen());
    let shown = Shown { storage, controls, served: served.clone(), boot_id, admin };
    if let Some(folder) = folder {
        let saved = served.get().change;
        let thread = FileThread::new(folder, storage, served);
        crew.spawn("file", move |gate| {
            gate.wait();
            thread.run(saved);
        });
    }
    let token = Short::new(&options.token).map_err(|_| "the admin token is too long")?;
    let (own, given) = if own_writer { (Some(writer), None) } else { (None, Some(writer)) };
    let mut pages = Pages::new(shown.clone(), own, updater, token, options, certificates);
    let stop = Arc::new(AtomicBool::new(false));
    if let Some(address) = options.health {
        health::spawn(address, shown.clone(), &stop, crew)?;
    }
    let stopped = stop.clone();
    crew.spawn("admin", move |gate| {
        parse_slot::prepare();
        gate.wait();
        while !stopped.load(Ordering::Acquire) {
            server.turn(&mut pages, Duration::from_millis(200));
        }
    });
    Ok((Handle { shown, certificates, stop }, given))
}

fn admin_server(options: &RouterOptions) -> Result<Server, String> {
    let server = <Server>::bind(options.admin, MAX_ADMIN_CONNECTIONS, false);
    let mut server = server.map_err(|error| format!("--admin {}: {error}", options.admin))?;
    if !options.identity.is_empty() {
        server.secure(Identity::new(&options.identity, clock::now())?);
    }
    Ok(server)
}

/// What workers are told. A health port on any address is reached where the admin port is.
fn chosen(options: &RouterOptions) -> Options {
    let health = options.health.map(|health| match health.ip().is_unspecified() {
        true => SocketAddr::new(options.admin.ip(), health.port()),
        false => health,
    });
    Options { allow_loopback: options.allow_loopback, own: [Some(options.admin), health] }
}

fn spawn_worker(
    options: &RouterOptions,
    (storage, certificates): (&'static ConfigStorage, &'static Certificates),
    index: u32,
    crew: &mut Crew,
) -> std::io::Result<Arc<crate::shell::net::Control>> {
    let (mut traffic, control) = Traffic::new(&options.capacities, Some(certificates))?;
    let control = Arc::new(control);
    let mut worker = boxed_zeroed::<Worker>();
    let chosen = chosen(options);
    worker.init(&options.capacities, chosen, entropy::seed(), clock::now().mono);
    let mut reader = storage.reader().expect("a seat for every worker");
    let orders = control.clone();
    crew.spawn(&format!("worker-{index}"), move |gate| {
        // What a hostile handshake needs beyond its slot, inside one call.
        make_reserve(SLOT_RESERVE_BYTES as usize);
        gate.wait();
        run_worker(&mut traffic, &mut worker, &mut reader, &orders);
    });
    Ok(control)
}
