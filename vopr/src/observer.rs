//! Looks at a run for its timeline: what changed at each node since the last event.
//!
//! In: the nodes after an event, outcomes of requests. Out: marks. It only reads, so that a run
//! with a timeline is the run without.

use crate::api_server::Api;
use crate::client::Outcome;
use crate::faults::{Fault, Injected};
use crate::ledger::{Arrival, Request};
use crate::network::{Event, Network, Time};
use crate::router::Router;
use crate::timeline::{Kind, Lane, Timeline};
use std::cell::RefCell;
use std::rc::Rc;

/// What was seen so far.
#[derive(Debug)]
pub struct Observer {
    timeline: Rc<RefCell<Timeline>>,
    /// Of network, API server, backends and clients.
    injected: [Injected; 4],
    swaps: Vec<u64>,
    changes: usize,
    status_writes: u64,
    relists: u64,
}

/// The lanes of those whose faults are counted apart.
const LANES: [Lane; 4] = [Lane::Faults, Lane::Api, Lane::Backends, Lane::Clients];

impl Observer {
    /// Nothing was seen.
    pub fn new(timeline: Rc<RefCell<Timeline>>) -> Observer {
        Observer {
            timeline,
            injected: [Injected::default(); 4],
            swaps: Vec::new(),
            changes: 0,
            status_writes: 0,
            relists: 0,
        }
    }

    /// An event comes.
    pub fn begin(&mut self, event: Event, net: &Network) {
        let node = match event {
            Event::Socket(end, _) => net.owner(end),
            Event::Timer(node, _) => Some(node),
            _ => None,
        };
        let mut timeline = self.timeline.borrow_mut();
        (timeline.now, timeline.speaker) = (net.now, node.map(Lane::of));
    }

    /// An event is over: faults of network, API server, backends, clients, then the nodes.
    pub fn look(
        &mut self,
        now: Time,
        injected: [Injected; 4],
        (routers, api, relists): (&[Router], &Api, u64),
    ) {
        let timeline = &mut *self.timeline.borrow_mut();
        for ((lane, before), after) in LANES.into_iter().zip(&self.injected).zip(&injected) {
            for fault in Fault::ALL.into_iter().filter(|&f| after.of(f) > before.of(f)) {
                let text = match after.of(fault) - before.of(fault) {
                    1 => fault.name().to_string(),
                    times => format!("{}: {times}", fault.name()),
                };
                timeline.mark(lane, Kind::Fault, now, &text);
            }
        }
        self.injected = injected;
        self.swaps.resize(routers.len(), 0);
        for (router, swaps) in routers.iter().zip(&mut self.swaps) {
            if router.swaps > *swaps {
                let served = router.process.as_ref().map(|p| p.updater.served().0);
                let served = served.unwrap_or_default();
                let text = format!("swaps to {}.{}", served.epoch, served.generation);
                timeline.mark(Lane::Router(router.index), Kind::Swapped, now, &text);
            }
            *swaps = router.swaps;
        }
        let is_status = api.status_writes > self.status_writes;
        self.status_writes = api.status_writes;
        let changes = api.changed_since(&mut self.changes);
        // Of status writes the trace speaks.
        for text in changes.iter().filter(|_| !is_status) {
            timeline.mark(Lane::Api, Kind::Change, now, text);
        }
        if relists > self.relists {
            let lane = timeline.speaker.unwrap_or(Lane::Faults);
            timeline.mark(lane, Kind::Relist, now, "a kind is listed anew");
        }
        self.relists = relists;
    }

    /// A request got what it got.
    pub fn answered(&mut self, outcome: &Outcome, now: Time, is_failing: bool) {
        let Outcome { request, response, .. } = outcome;
        let status = response.as_ref().map(|r| r.status);
        let what = match response {
            None => "no whole answer".to_string(),
            Some(r) => format!("{} by {}", r.status, r.backend.as_deref().unwrap_or("the router")),
        };
        let text = format!("{}: {what}", said(request));
        let times = (request.sent_at, now);
        let kind = Kind::of_status(status);
        self.timeline.borrow_mut().span(Lane::Clients, kind, times, &text, is_failing);
    }

    /// A request came to a backend.
    pub fn arrived(&mut self, arrival: &Arrival, now: Time) {
        let Arrival { stamp, backend, url, .. } = arrival;
        let text = format!("{stamp} at {backend}: {} for {}", url.target, url.host);
        self.timeline.borrow_mut().mark(Lane::Backends, Kind::Attempt, now, &text);
    }

    /// The run ends; these requests have no end.
    pub fn end<'r>(&mut self, open: impl Iterator<Item = &'r Request>) {
        for request in open {
            let text = format!("{}: nobody waits for the answer any more", said(request));
            let at = request.sent_at;
            self.timeline.borrow_mut().mark(Lane::Clients, Kind::NoAnswer, at, &text);
        }
    }
}

fn said(request: &Request) -> String {
    let Request { stamp, router, method, host, path, address, .. } = request;
    let scheme = if request.secured.is_some() { "https" } else { "http" };
    let port = address.port();
    format!("{stamp} to router {router}: {method} {scheme}:{port} {host}{path}")
}
