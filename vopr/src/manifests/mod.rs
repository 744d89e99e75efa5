//! `vopr --manifests`: which requests of a user's own configuration would fail, when, and why.
//!
//! In: a folder of Gateway API manifests, as `serval run --manifests` takes it. Out: a report, the
//! same for the same folder and seeds. Controller, routers and Kubernetes are those of the
//! simulator; endpoints and clients are made here from what the manifests say.

pub mod askers;
pub mod events;
pub mod pods;
pub mod read;
pub mod report;
pub mod requests;
pub mod world;

use crate::workload::CONTROLLER;
use events::What;
use read::Manifests;
use report::Report;
use serval::limits::{Capacities, LIMITS, SHAPE};
use serval::shell::standalone::check::CheckError;
use serval::shell::tls::rustls::certificates;
use world::World;

/// Nothing would fail.
pub const EXIT_FINE: u8 = 0;
/// A request would fail, or something is not accepted.
pub const EXIT_FAILS: u8 = 7;
/// The manifests cannot be tried.
pub const EXIT_UNTRIED: u8 = 8;

/// So many errors of manifests are shown.
const MOST_ERRORS: usize = 10;

/// What came of it.
#[derive(Debug)]
pub struct Tried {
    pub text: String,
    pub code: u8,
}

/// The capacities of the processes: as they are by default, but for one worker with few buffers; of
/// the small shape all that there may be.
pub fn capacities() -> Capacities {
    let mut capacities = Capacities::DEFAULT;
    if SHAPE != "production" {
        for limit in LIMITS.iter().filter(|l| l.kind == "capacity") {
            capacities.set(limit.name, limit.max).expect("its own maximum");
        }
    }
    for (name, most) in [("MAX_WORKERS", 1), ("MAX_CONNECTIONS", 256), ("MAX_IO_BUFFERS", 128)] {
        let limit = LIMITS.iter().find(|l| l.name == name).expect("a limit");
        capacities.set(name, limit.max.min(most)).expect("within its bounds");
    }
    capacities
}

/// Says how much this build can hold, when the manifests are more than that.
fn too_small(capacities: &Capacities) -> String {
    if SHAPE == "production" {
        return String::new();
    }
    format!(
        "This vopr is built small (SERVAL_SHAPE={SHAPE}: {} Gateways, {} HTTPRoutes, {} Services, \
         {} EndpointSlices). If that is why, build it as serval is:\n\
         SERVAL_SHAPE=production cargo run --release -p vopr -- --manifests DIR\n",
        capacities.max_gateways,
        capacities.max_routes,
        capacities.max_services,
        capacities.max_endpoint_slices,
    )
}

/// The first errors and the sum, which is the last line.
fn shortened(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    if lines.len() <= MOST_ERRORS + 1 {
        return said.to_string();
    }
    format!("{}\n…\n{}\n", lines[..MOST_ERRORS].join("\n"), lines[lines.len() - 1])
}

/// Tries a folder with so many seeds; `begins` is told of each.
pub fn run(folder: &str, first: u64, seeds: u64, begins: &dyn Fn(u64)) -> Tried {
    let capacities = capacities();
    let checked = read::check(folder, CONTROLLER, &capacities);
    let mut text = String::new();
    match checked.result {
        Ok(true) => {}
        Ok(false) => {
            text += &format!("serval check: {}{}\n", checked.said, checked.refused.join("\n"));
            if checked.refused.iter().any(|line| line.contains("CapacityExceeded")) {
                text += &too_small(&capacities);
                return Tried { text, code: EXIT_UNTRIED };
            }
        }
        Err(error) => {
            text += &shortened(&checked.said);
            if error == CheckError::Manifests {
                text += &too_small(&capacities);
            }
            return Tried { text, code: EXIT_UNTRIED };
        }
    }
    certificates::prepare_vet();
    let mut report = Report::default();
    for seed in first..first + seeds {
        begins(seed);
        if let Err(lacks) = one(seed, folder, &capacities, &mut report) {
            text += &format!("seed {seed}: {lacks}\n{}", too_small(&capacities));
            return Tried { text, code: EXIT_UNTRIED };
        }
    }
    let is_fine = checked.result == Ok(true) && !report.fails();
    text += &report.text(folder, seeds);
    Tried { text, code: if is_fine { EXIT_FINE } else { EXIT_FAILS } }
}

fn one(
    seed: u64,
    folder: &str,
    capacities: &Capacities,
    report: &mut Report,
) -> Result<(), String> {
    let mut world = World::new(seed, Manifests::read(folder, capacities), capacities);
    world.settle()?;
    let published = world.controller.as_ref().and_then(|c| c.controller.published());
    world.askers.requests = requests::of(published.expect("it has settled"));
    if world.askers.requests.is_empty() {
        return Err("no listener is served: there is nothing to ask for".into());
    }
    let events = events::of(&world);
    let with_endpoints = |what: &What| {
        let endpoints = what.service().map_or(0, |s| events::endpoints(&world, s));
        (what.clone(), endpoints)
    };
    report.events = events.iter().map(with_endpoints).collect();
    for (index, what) in events.iter().enumerate() {
        events::happen(&mut world, index, what)?;
        if *what == What::Nothing {
            world.askers.leave_out_redundant();
        }
    }
    report.requests.clone_from(&world.askers.requests);
    // What only a bug could be: of the simulator's own checks.
    if let Some(found) = world.net.trace.violations.first() {
        return Err(format!("{} {}", found.checker, found.text));
    }
    report.take(&world.askers.answers);
    Ok(())
}
