//! The controller role: threads around [`crate::controller::Controller`].
//!
//! ```text
//! 8 watch threads ─▶ rings ─▶ controller thread ─▶ orders ─▶ status thread ─▶ API server
//!                                │   ▲      └─▶ pushes ─▶ routers
//!                                │   └──── reports ◀─ endpoint-sync thread ◀─ routers
//!                                └─▶ numbers ─▶ admin thread
//! ```

pub mod admin_pages;
pub mod endpoint_sync;
pub mod main_loop;
pub mod numbers;
pub mod router_socket;
pub mod status_writer;

use crate::controller::Controller;
use crate::kube::kind::Watched;
use crate::limits::{Capacities, MAX_ADMIN_CONNECTIONS, SLOT_RESERVE_BYTES};
use crate::reconcile::Settings;
use crate::resource::Kind;
use crate::shell::admin::Server;
use crate::shell::health;
use crate::shell::kube::access::Access;
use crate::shell::kube::api_client::ApiClient;
use crate::shell::kube::record::AsJson;
use crate::shell::kube::watch_thread::{Feed, WatchThread};
use crate::shell::memory::make_reserve;
use crate::shell::parse_slot;
use crate::shell::place::boxed_zeroed;
use crate::shell::threads::Crew;
use crate::shell::tls::rustls::certificates;
use crate::shell::{clock, entropy};
use crate::stdx::ring::Ring;
use crate::stdx::{Duration, Prng, Short};
use admin_pages::AdminPages;
use core::sync::atomic::{AtomicBool, Ordering};
use endpoint_sync::{EndpointSync, ReportProducer, RosterProducer};
use main_loop::MainLoop;
use mio::{Events, Poll, Token, Waker};
use numbers::Numbers;
use router_socket::{Identity, RouterSockets};
use status_writer::{Bell, StatusWriter};
use std::boxed::Box;
use std::format;
use std::net::SocketAddr;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

static_assertions::const_assert!(Kind::ALL.len() == Watched::ALL.len());

/// What the role needs to know.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// Capacities in force.
    pub capacities: Capacities,
    /// Settings of reconcile.
    pub settings: Settings,
    /// Admin ports of the routers; none when Settings::router_service names them.
    pub routers: Vec<SocketAddr>,
    /// The routers' admin token; empty for none.
    pub secret: String,
    /// Folder of the identity for mutual TLS with routers; empty: plain HTTP.
    pub identity: String,
    /// Kubeconfig; empty: in the cluster.
    pub kubeconfig: String,
    /// Where the Lease lies.
    pub lease_namespace: String,
    /// Own admin port.
    pub admin: SocketAddr,
    /// Plain port for probes and metrics.
    pub health: Option<SocketAddr>,
}

/// How the role is ended.
#[expect(missing_debug_implementations, reason = "wakers and feeds say nothing")]
pub struct Handle {
    stop: Arc<AtomicBool>,
    wakers: Vec<Arc<Waker>>,
    bell: Arc<Bell>,
    status: crate::shell::kube::api_client::Stop,
}

impl Handle {
    /// Asks all threads to return.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wakers.iter().for_each(|waker| drop(waker.wake()));
        self.bell.ring();
        self.status.stop();
    }
}

/// Builds everything and spawns the threads into `crew`; they wait for its start.
pub fn spawn(options: &ControllerOptions, crew: &mut Crew) -> Result<Handle, String> {
    let access = access(options)?;
    let prng = Prng::new(entropy::seed());
    let io = |error: std::io::Error| error.to_string();
    let poll = Poll::new().map_err(io)?;
    let notify = Arc::new(Waker::new(poll.registry(), Token(usize::MAX)).map_err(io)?);
    let stop = Arc::new(AtomicBool::new(false));
    let bell = Arc::new(Bell::default());
    let identities = (identity(options)?, identity(options)?);
    let until = identities.0.as_ref().map(Identity::until).unwrap_or_default();
    let numbers = Arc::new(Numbers { until, ..Numbers::default() });
    let feeds = spawn_watches(&access, &notify, &prng, crew)?;

    let orders = Box::leak(boxed_zeroed::<Ring<_>>()).split();
    let results = Box::leak(boxed_zeroed::<Ring<_>>()).split();
    let reports = Box::leak(boxed_zeroed::<Ring<_>>()).split();
    let short = |text: &str| Short::new(text).map_err(|_| format!("{text}: too long"));
    let writer = StatusWriter {
        client: ApiClient::new(access, &prng.child("writer"))?,
        orders: orders.1,
        results: results.0,
        notify: notify.clone(),
        bell: bell.clone(),
        stop: stop.clone(),
        controller: options.settings.controller,
        wanted: boxed_zeroed(),
        body: boxed_zeroed(),
        lease_namespace: Short::new(&options.lease_namespace).map_err(|_| "lease namespace")?,
        holder: short(&format!("serval-{:016x}", entropy::boot_id()))?,
    };
    let status = writer.client.stopper();
    spawn_status(writer, crew);
    let threads = (&notify, &stop);
    let sync = spawn_sync(reports.0, threads, (prng.child("sync"), identities.1), crew);
    let (rosters, sync) = sync.map_err(io)?;
    spawn_admin(options, &numbers, &stop, crew)?;

    let main = MainLoop {
        controller: controller(options)?,
        feeds,
        reports: reports.1,
        orders: orders.0,
        results: results.1,
        bell: bell.clone(),
        sockets: RouterSockets::new(identities.0),
        rosters,
        // No roster has this version: the first is sent, even an empty one.
        roster_sent: u64::MAX,
        sync: sync.clone(),
        numbers,
        poll,
        events: Events::with_capacity(256),
        stop: stop.clone(),
        document: boxed_zeroed(),
        prng: prng.child("push"),
        secret: Short::new(&options.secret).map_err(|_| "the admin token is too long")?,
    };
    crew.spawn("controller", move |gate| {
        parse_slot::prepare();
        gate.wait();
        main.run();
    });
    Ok(Handle { stop, wakers: std::vec![notify, sync], bell, status })
}

/// The machine, with the routers that were given.
fn controller(options: &ControllerOptions) -> Result<Box<Controller>, String> {
    let mut controller = boxed_zeroed::<Controller>();
    controller.init(options.settings, &options.capacities);
    certificates::prepare_vet();
    controller.set_vet(certificates::vet);
    for &router in &options.routers {
        if !controller.add_router(router, clock::now()) {
            return Err("more --router than --max-routers allows".to_string());
        }
    }
    Ok(controller)
}

fn access(options: &ControllerOptions) -> Result<Arc<Access>, String> {
    let access = match options.kubeconfig.as_str() {
        "" => Access::in_cluster(),
        path => Access::from_kubeconfig(path, ""),
    };
    access.map(Arc::new).map_err(|error| error.to_string())
}

/// Each thread that talks to routers has its own.
fn identity(options: &ControllerOptions) -> Result<Option<Identity>, String> {
    match options.identity.as_str() {
        "" => Ok(None),
        folder => Identity::new(folder, clock::now()).map(Some),
    }
}

fn spawn_status(writer: StatusWriter, crew: &mut Crew) {
    crew.spawn("status", move |gate| {
        parse_slot::prepare();
        gate.wait();
        writer.run();
    });
}

/// The way to send rosters to the endpoint-sync thread, and to wake it.
fn spawn_sync(
    reports: ReportProducer,
    (notify, stop): (&Arc<Waker>, &Arc<AtomicBool>),
    (prng, identity): (Prng, Option<Identity>),
    crew: &mut Crew,
) -> std::io::Result<(RosterProducer, Arc<Waker>)> {
    let rosters = Box::leak(boxed_zeroed::<Ring<_>>()).split();
    let is_secure = identity.is_some();
    let sync = EndpointSync::new(rosters.1, reports, notify.clone(), stop.clone(), prng, identity);
    let (sync, waker) = sync?;
    crew.spawn("endpoint-sync", move |gate| {
        if is_secure {
            make_reserve(SLOT_RESERVE_BYTES as usize);
        }
        gate.wait();
        sync.run();
    });
    Ok((rosters.0, waker))
}

fn spawn_watches(
    access: &Arc<Access>,
    notify: &Arc<Waker>,
    prng: &Prng,
    crew: &mut Crew,
) -> Result<Vec<Feed>, String> {
    let mut feeds = Vec::new();
    for kind in Watched::ALL {
        let name = kind.served().name;
        let (access, notify) = (access.clone(), notify.clone());
        let built = WatchThread::new(kind, access, AsJson, notify, prng.child(name))?;
        let (thread, feed) = built;
        feeds.push(feed);
        crew.spawn(name.get(..15).unwrap_or(name), move |gate| {
            parse_slot::prepare();
            gate.wait();
            thread.run();
        });
    }
    Ok(feeds)
}

fn spawn_admin(
    options: &ControllerOptions,
    numbers: &Arc<Numbers>,
    stop: &Arc<AtomicBool>,
    crew: &mut Crew,
) -> Result<(), String> {
    let server = <Server>::bind(options.admin, MAX_ADMIN_CONNECTIONS, false);
    let mut server = server.map_err(|error| format!("--admin {}: {error}", options.admin))?;
    let mut pages = AdminPages::new(numbers.clone(), options.capacities);
    if let Some(address) = options.health {
        health::spawn(address, pages.clone(), stop, crew)?;
    }
    let stop = stop.clone();
    crew.spawn("admin", move |gate| {
        gate.wait();
        while !stop.load(Ordering::Acquire) {
            server.turn(&mut pages, Duration::from_millis(500));
        }
    });
    Ok(())
}
