//! The routers as the controller knows them: who they are, what they serve, who is behind.
//!
//! In: addresses by flag or the endpoints of a Service, reports, refusals. Out: who is pushed to,
//! and whether every router serves a Gateway (Programmed).

use super::Controller;
use crate::config::codec::bind_name;
use crate::config::{Identity, Report, Snapshot, Source};
use crate::limits::{
    ADDRESS_SILENT_MS, MAX_MESSAGE_BYTES, MAX_ROUTERS, PUSH_RETRY_MIN_MS, ROUTER_SILENT_MS,
};
use crate::reconcile::status::{Rollout, Served};
use crate::resource::{EndpointSlice, Key};
use crate::stdx::{Duration, Instant, Now, Short, Table};
use core::net::{IpAddr, SocketAddr};

/// A router as the controller knows it.
#[derive(Clone, Debug)]
pub struct Router {
    /// Its admin address; port 0 for the router in this process.
    pub address: SocketAddr,
    /// Whether its endpoint is ready; one that was given, not found, is.
    pub endpoint_ready: bool,
    /// Its last report; None before the first one.
    pub report: Option<Report>,
    /// When it was last heard.
    pub heard: Instant,
    /// The identity of the last push that was refused, and the HTTP status, so that it is not
    /// repeated in a loop.
    pub refused: Option<(Identity, u16)>,
}

/// The name of a router's admin port in its Service, where that has several.
const ADMIN_PORT: &str = "admin";

impl Controller {
    /// The routers.
    pub fn routers(&self) -> &[Router] {
        self.routers.as_slice()
    }

    /// Rises when a router comes or goes.
    pub fn roster_version(&self) -> u64 {
        self.roster_version
    }

    /// A router to push to; false when there are MAX_ROUTERS already.
    pub fn add_router(&mut self, address: SocketAddr, now: Now) -> bool {
        if self.routers.as_slice().iter().any(|r| r.address == address) {
            return true;
        }
        self.statuses_due = true;
        self.roster_version += 1;
        let (heard, endpoint_ready) = (now.mono, true);
        let router = Router { address, endpoint_ready, report: None, heard, refused: None };
        self.routers.push(router).is_ok()
    }

    /// Follows the endpoints of Settings::router_service, ready or not (a router without a
    /// configuration is not ready); those that terminate are let go.
    pub(super) fn discover_routers(&mut self, now: Now) {
        let service = self.settings.router_service;
        let version = self.stores.slices.version();
        if service.name.is_empty() || !self.is_synced() || self.discovered == version {
            return;
        }
        self.discovered = version;
        let mut found = Table::<(SocketAddr, bool), { MAX_ROUTERS as usize }>::new();
        found.set_cap(self.routers.cap());
        let mut left_out = 0;
        let Controller { stores, work, .. } = self;
        for handle in stores.slices.by_age() {
            let key = &stores.slices.meta(handle).key;
            if stores.slices.tag(handle) != service.hash() || key.namespace != service.namespace {
                continue;
            }
            let slice = &mut work.decoder.slice;
            stores.slices.load(handle, slice, &mut work.decoder.scratch);
            for_each_router(slice, &service, |address, ready| {
                match found.as_mut_slice().iter_mut().find(|f| f.0 == address) {
                    Some(known) => known.1 |= ready,
                    None => left_out += u64::from(found.push((address, ready)).is_err()),
                }
            });
        }
        self.counters.routers_left_out = left_out;
        let before = self.routers.len();
        self.routers.retain(|r| found.as_slice().iter().any(|f| f.0 == r.address));
        if self.routers.len() < before {
            self.roster_version += 1;
            self.statuses_due = true;
        }
        for &(address, ready) in found.as_slice() {
            assert!(self.add_router(address, now), "as many as the table holds");
            let routers = self.routers.as_mut_slice();
            let router = routers.iter_mut().find(|r| r.address == address).expect("added");
            self.statuses_due |= router.endpoint_ready != ready;
            router.endpoint_ready = ready;
        }
    }

    /// Has the statuses looked at when a router falls silent, for its address or for Programmed, or
    /// is heard again: once, not for as long as it is.
    pub(super) fn notice_silence(&mut self, now: Now) {
        let passed = |r: &Router, ms: u32| {
            u64::from(now.mono.since(r.heard) >= Duration::from_millis(u64::from(ms)))
        };
        // A digit for each: no change of two gives the same number.
        let silence = self.routers.as_slice().iter().fold(0u64, |sum, r| {
            let level = passed(r, ADDRESS_SILENT_MS) + passed(r, ROUTER_SILENT_MS);
            sum.wrapping_mul(3).wrapping_add(level)
        });
        self.statuses_due |= silence != self.silence;
        self.silence = silence;
    }

    /// The addresses of all routers.
    pub(super) fn nodes(&self) -> Table<IpAddr, { MAX_ROUTERS as usize }> {
        let mut nodes = Table::new();
        for router in self.routers.as_slice() {
            nodes.push(router.address.ip()).expect("as many as routers");
        }
        nodes
    }

    /// A router reported.
    pub fn report(&mut self, address: SocketAddr, report: &Report, now: Now) {
        let routers = self.routers.as_mut_slice();
        let Some(router) = routers.iter_mut().find(|r| r.address == address) else { return };
        let same = router.report.as_ref().is_some_and(|r| {
            (r.boot_id, r.identity, r.ready) == (report.boot_id, report.identity, report.ready)
                && r.binds.as_slice() == report.binds.as_slice()
        });
        if router.report.as_ref().is_some_and(|r| r.boot_id != report.boot_id) {
            // Another process, perhaps with other capacities.
            router.refused = None;
        }
        router.report = Some(report.clone());
        router.heard = now.mono;
        self.statuses_due |= !same;
    }

    /// A router answered a push with 200; how long to leave it alone. Not at all when it serves
    /// what was pushed: the next generation may be there already.
    pub fn push_taken(
        &mut self,
        address: SocketAddr,
        pushed: Identity,
        report: Option<&Report>,
        now: Now,
    ) -> Duration {
        if let Some(report) = report {
            self.report(address, report, now);
        }
        let is_served = report.is_some_and(|report| report.identity == pushed);
        let pause = if is_served { 0 } else { PUSH_RETRY_MIN_MS };
        Duration::from_millis(u64::from(pause))
    }

    /// A router refused the push of this identity with this HTTP status. What lies in the Snapshot
    /// is not repeated unchanged to the same process; what is a matter of time (408: the push
    /// stalled, 409: another push runs, 503: the last swap's grace) is.
    pub fn push_refused(&mut self, address: SocketAddr, identity: Identity, status: u16) {
        if matches!(status, 408 | 409 | 503) {
            return;
        }
        if let Some(r) = self.routers.as_mut_slice().iter_mut().find(|r| r.address == address) {
            r.refused = Some((identity, status));
            self.statuses_due = true;
        }
    }

    /// Whether the router must be pushed to: it reported, and serves another Snapshot.
    pub fn is_behind(&self, address: SocketAddr) -> bool {
        let Some(published) = self.published() else { return false };
        let router = self.routers.as_slice().iter().find(|r| r.address == address);
        let Some(router) = router else { return false };
        let Some(report) = &router.report else { return false };
        let wanted = published.identity;
        let refused = router.refused.is_some_and(|(identity, _)| identity == wanted);
        report.identity.precedes(&wanted) && !refused && !self.stands_by
    }

    /// The highest epoch that any router reported. One that has our epoch by somebody else counts
    /// as one above it: an API server that was restored gave the epoch out twice.
    pub fn highest_epoch(&self) -> u64 {
        let reports = self.routers.as_slice().iter().filter_map(|r| r.report.as_ref());
        let epoch = |r: &Report| r.identity.epoch + u64::from(self.is_twin(&r.identity));
        reports.map(epoch).max().unwrap_or(0)
    }

    /// Whether an identity of our epoch is not of ours: no newer one, nor the newest otherwise.
    fn is_twin(&self, of: &Identity) -> bool {
        let own = self.published().map_or(Identity::default(), |p| p.identity);
        let is_newest = of.generation == own.generation;
        let is_ours = of.generation < own.generation || is_newest && of.checksum == own.checksum;
        own.epoch == self.epoch && of.epoch == self.epoch && self.epoch > 0 && !is_ours
    }
}

/// The admin addresses in a slice of the routers' Service, and whether they are ready: by
/// `serving`, since publishNotReadyAddresses makes every endpoint `ready`.
fn for_each_router(slice: &EndpointSlice, service: &Key, mut each: impl FnMut(SocketAddr, bool)) {
    if slice.text.get(slice.service) != service.name.as_str() {
        return;
    }
    let ports = slice.ports.as_slice();
    let named = ports.iter().find(|p| slice.text.get(p.name) == ADMIN_PORT);
    let Some(port) = named.or(ports.first().filter(|_| ports.len() == 1)) else { return };
    for endpoint in slice.endpoints.as_slice() {
        if !endpoint.terminating && port.port != 0 {
            each(SocketAddr::new(endpoint.ip(), port.port), endpoint.serving);
        }
    }
}

/// What the routers serve, for Programmed.
pub(super) struct Routers<'c> {
    pub(super) routers: &'c [Router],
    pub(super) snapshot: &'c Snapshot,
    pub(super) now: Now,
}

impl Rollout for Routers<'_> {
    /// Every router that reported within ROUTER_SILENT_MS counts.
    fn gateway(&self, key: &Key) -> Served {
        let silent = Duration::from_millis(u64::from(ROUTER_SILENT_MS));
        let counted = self.routers.iter().filter(|r| {
            r.report.as_ref().is_some_and(|p| p.ready) && self.now.mono.since(r.heard) < silent
        });
        let (mut any, mut waiting) = (false, false);
        let name = Short::<320>::truncated(format_args!("{key}"));
        for router in counted {
            any = true;
            let Some(report) = &router.report else { continue };
            if report.identity.checksum != self.snapshot.identity.checksum {
                waiting = true;
                if let Some((identity, status)) = router.refused
                    && identity == self.snapshot.identity
                {
                    return Served::Refused(refusal(router.address, status));
                }
            } else if let Some(message) = self.bind_failure(report, name.as_str(), router) {
                return Served::BindFailed(message);
            }
        }
        match (any, waiting) {
            (false, _) => Served::NoRouter,
            (true, true) => Served::Waiting,
            (true, false) => Served::Yes,
        }
    }

    /// A router is ready by its endpoint and by a report of a configuration, and not silent.
    fn next_node(&self, after: Option<IpAddr>) -> Option<IpAddr> {
        let silent = Duration::from_millis(u64::from(ADDRESS_SILENT_MS));
        let ready = self.routers.iter().filter(|r| {
            let configured = r.report.as_ref().is_some_and(|p| p.source != Source::None);
            r.endpoint_ready && configured && self.now.mono.since(r.heard) < silent
        });
        let addresses = ready.map(|r| r.address.ip()).filter(|&ip| after.is_none_or(|a| ip > a));
        addresses.min()
    }
}

impl Routers<'_> {
    fn bind_failure(
        &self,
        report: &Report,
        gateway: &str,
        router: &Router,
    ) -> Option<Short<{ MAX_MESSAGE_BYTES as usize }>> {
        let s = self.snapshot;
        let failed = report.binds.as_slice().iter().filter(|b| b.errno != 0);
        for bind in failed {
            let concerned = s.listeners.as_slice().iter().any(|l| {
                s.text.get(l.gateway) == gateway
                    && s.attachments
                        .span(l.binds)
                        .iter()
                        .any(|&b| bind_name(&s.binds[b]) == bind.id)
            });
            if concerned {
                let (id, errno, at) = (bind.id, bind.errno, router.address);
                let why = bind_hint(errno);
                let message = format_args!("router {at} cannot bind {id}: errno {errno}{why}");
                return Some(Short::truncated(message));
            }
        }
        None
    }
}

/// What an errno of bind(2) means here (Linux's numbers).
fn bind_hint(errno: u32) -> &'static str {
    match errno {
        13 => ", it may not bind ports below 1024 (CAP_NET_BIND_SERVICE)",
        98 => ", another process has the port",
        99 => ", the address is not one of its node",
        _ => "",
    }
}

fn refusal(router: SocketAddr, status: u16) -> Short<{ MAX_MESSAGE_BYTES as usize }> {
    let why = match status {
        507 => "it does not fit: raise the router's --max-config-* flags",
        401 => "the admin token is another one",
        _ => "its log says why",
    };
    Short::truncated(format_args!("router {router} refused the configuration ({status}): {why}"))
}
