//! What happens to a user's configuration: each event alone, while clients ask.
//!
//! In: a world that has settled. Out: the same world after each event, settled again; the askers
//! have written down what was answered meanwhile.

use super::askers::Outcome;
use super::read::Endpoint;
use super::world::World;
use crate::network::{MS, Node, SECOND, Time};
use crate::sim::ROUTERS;
use std::collections::BTreeSet;

/// A request that an event concerns is asked so often; at most one every [`LEAST_PAUSE`].
const PAUSE: Time = 100 * MS;
const LEAST_PAUSE: Time = 2 * MS;
/// Of the others, one for so many of these.
const OTHERS: usize = 10;
/// At rest requests are asked for so long, or once each.
const REST: Time = 4 * SECOND;
/// Endpoints of a Service that are replaced, at most.
const REPLACED: usize = 3;
/// An endpoint that is told to end in order goes on for so long.
const GRACE: Time = SECOND;
/// An endpoint that is replaced without overlap is not there for so long.
pub const GAP_MS: u64 = 800;
/// For the moment in which an endpoint ends at once one may wait so long.
const WORST_MOMENT_MS: u64 = 1000;
/// The loss of an endpoint is noticed after so long, and made good after so long.
pub const NOTICED: Time = 2 * SECOND;
pub const MADE_GOOD: Time = 4 * SECOND;
/// The API server is away for so long, the controller too.
pub const API_AWAY: Time = 6 * SECOND;
pub const CONTROLLER_AWAY: Time = 2 * SECOND;

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Nothing,
    /// Endpoints are replaced, each by one that is ready before.
    Overlap(String),
    /// Endpoints are replaced, each by one that is ready only after it went.
    Gap(String),
    /// An endpoint is gone, and nobody says so at first.
    Lost(String),
    Routers,
    Controller,
    Api,
    ApplyAgain,
}

impl What {
    /// The Service that it happens to.
    pub fn service(&self) -> Option<&str> {
        match self {
            What::Overlap(service) | What::Gap(service) | What::Lost(service) => Some(service),
            _ => None,
        }
    }
}

/// All events of a world, in the order that they happen in.
pub fn of(world: &World) -> Vec<What> {
    let mut all = vec![What::Nothing];
    let asked: BTreeSet<&String> = world.askers.requests.iter().flat_map(|r| &r.services).collect();
    for service in asked.into_iter().filter(|s| endpoints(world, s) > 0) {
        let service = || service.clone();
        all.extend([What::Overlap(service()), What::Gap(service()), What::Lost(service())]);
    }
    all.extend([What::Routers, What::Controller, What::Api, What::ApplyAgain]);
    all
}

/// Endpoints of a Service that are ready.
pub fn endpoints(world: &World, service: &str) -> usize {
    let slices = world.manifests.slices.iter().filter(|s| s.service == service);
    slices.flat_map(|s| &s.endpoints).filter(|e| e.ready).count()
}

/// Lets it happen while clients ask; what does not settle afterwards.
pub fn happen(world: &mut World, index: usize, what: &What) -> Result<(), String> {
    world.askers.event = index;
    let (plan, pause) = plan(world, what);
    let round = plan.len() as u64 * pause;
    world.askers.ask(plan, pause, &mut world.net);
    world.run_for(300 * MS);
    let done = match what {
        What::Nothing => {
            // Each at least once, though pauses are of no one length.
            world.run_for(REST.max(2 * round));
            Ok(())
        }
        What::Overlap(service) => replace(world, service, overlap),
        What::Gap(service) => replace(world, service, gap),
        What::Lost(service) => lose(world, service),
        What::Routers => restart_routers(world),
        What::Controller => {
            world.stop_controller();
            world.run_for(CONTROLLER_AWAY);
            world.start_controller();
            world.settle()
        }
        What::Api => {
            world.api.stop(&mut world.net);
            world.run_for(API_AWAY);
            world.api.start(&mut world.net);
            world.settle()
        }
        What::ApplyAgain => {
            world.apply_again("again");
            world.settle()
        }
    };
    world.run_for(300 * MS);
    world.askers.ask(Vec::new(), SECOND, &mut world.net);
    while world.askers.waiting() > 0 {
        world.run_for(100 * MS);
    }
    done
}

/// Which requests are asked in turn, and how often.
fn plan(world: &World, what: &What) -> (Vec<usize>, Time) {
    let requests = &world.askers.requests;
    let is_concerned = |&i: &usize| {
        what.service().is_none_or(|s| requests[i].services.iter().any(|other| other == s))
    };
    let all = (0..requests.len()).filter(|&i| !requests[i].is_redundant);
    let (near, far): (Vec<usize>, Vec<usize>) = all.partition(is_concerned);
    let pause = (PAUSE / near.len().max(1) as u64).max(LEAST_PAUSE);
    let mut plan = Vec::new();
    let mut turns = near.iter().cycle();
    for other in far {
        plan.extend(turns.by_ref().take(OTHERS));
        plan.push(other);
    }
    if plan.is_empty() { (near, pause) } else { (plan, pause) }
}

/// Where a Service's ready endpoints are: slice and place.
fn ready(world: &World, service: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (number, slice) in world.manifests.slices.iter().enumerate() {
        if slice.service == service {
            let ready = slice.endpoints.iter().enumerate().filter(|e| e.1.ready);
            found.extend(ready.map(|(place, _)| (number, place)));
        }
    }
    found
}

type Place = (usize, usize);

fn replace(world: &mut World, service: &str, one: fn(&mut World, Place)) -> Result<(), String> {
    for place in ready(world, service).into_iter().take(REPLACED) {
        one(world, place);
        world.run_for(300 * MS);
    }
    world.settle()
}

fn end_pod(world: &mut World, (slice, place): Place) {
    let slice = &world.manifests.slices[slice];
    let address = slice.endpoints[place].address.into();
    world.pods.end(address, &slice.ports, &mut world.net);
}

/// Waits until a request is under way there, best one that must not be sent to another: an endpoint
/// that ends at once does so in the worst moment.
fn await_request(world: &mut World, (slice, place): Place) {
    let address = world.manifests.slices[slice].endpoints[place].address.into();
    for step in 0..WORST_MOMENT_MS {
        let (any, unsafe_one) = world.pods.under_way(address);
        if unsafe_one || any && step > WORST_MOMENT_MS / 2 {
            return;
        }
        world.run_for(MS);
    }
}

/// Another one is ready, then it is told to end and does so after its grace.
fn overlap(world: &mut World, (slice, place): Place) {
    let address = world.manifests.next_address();
    let endpoints = &mut world.manifests.slices[slice].endpoints;
    endpoints.push(Endpoint { address, ready: true, terminating: false });
    world.apply_slice(slice);
    world.run_for(400 * MS);
    let old = &mut world.manifests.slices[slice].endpoints[place];
    (old.ready, old.terminating) = (false, true);
    world.apply_slice(slice);
    world.run_for(GRACE);
    end_pod(world, (slice, place));
    // The new one takes its place.
    world.manifests.slices[slice].endpoints.swap_remove(place);
    world.apply_slice(slice);
}

/// It ends at once, its slice says so a little later, and another one is ready then.
fn gap(world: &mut World, place: Place) {
    let noticed = world.prng.range(50, 300);
    go_and_come(world, place, noticed * MS, GAP_MS * MS);
}

/// It is gone; its slice says so late, and another one is ready later.
fn lose(world: &mut World, service: &str) -> Result<(), String> {
    let lost = ready(world, service)[0];
    go_and_come(world, lost, NOTICED, MADE_GOOD);
    world.settle()
}

fn go_and_come(world: &mut World, (slice, place): Place, noticed: Time, replaced: Time) {
    assert!(noticed < replaced);
    await_request(world, (slice, place));
    end_pod(world, (slice, place));
    world.run_for(noticed);
    world.manifests.slices[slice].endpoints[place].ready = false;
    world.apply_slice(slice);
    world.run_for(replaced - noticed);
    let address = world.manifests.next_address();
    let endpoint = Endpoint { address, ready: true, terminating: false };
    world.manifests.slices[slice].endpoints[place] = endpoint;
    world.apply_slice(slice);
}

/// One after the other, in order, as a rolling update does.
fn restart_routers(world: &mut World) -> Result<(), String> {
    for router in 0..ROUTERS {
        world.routers[router].drain(&mut world.net);
        for _ in 0..50 {
            let process = world.routers[router].process.as_ref();
            if process.is_none_or(|p| p.worker.is_drained()) {
                break;
            }
            world.run_for(100 * MS);
        }
        world.routers[router].crash(&mut world.net);
        world.write_routers();
        world.run_for(500 * MS);
        world.start_router(router);
        world.settle()?;
    }
    assert!(world.net.listening(Node::Router(0)).len() > 1, "it listens again");
    Ok(())
}

/// In words, for a line.
impl core::fmt::Display for Outcome {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Outcome::Status(status) => write!(f, "were answered {status}"),
            Outcome::Closed => f.write_str("got a closed connection"),
            Outcome::Silence => f.write_str("got no answer in 10 s"),
            Outcome::NoRouter => f.write_str("found no router that listens"),
        }
    }
}
