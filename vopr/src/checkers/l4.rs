//! L4: one that stands by neither pushes nor writes a status; at rest exactly one controller
//! reigns, all routers have its epoch, and only it writes the Lease, each LEASE_RENEW_PERIOD_MS.
//! The Lease is written as the API server takes it. Who stands by takes over when LEASE_STALE_LOOKS
//! looks in a row found it unchanged, and the API server answered each; it is so still.

use crate::api_server::Api;
use crate::controller::Process;
use crate::lease_api::{Lease, version_in};
use crate::lease_client::word;
use crate::network::{MS, Network, Time};
use crate::router::Router;
use serval::kube::request::Method;
use serval::limits::{LEASE_RENEW_PERIOD_MS, LEASE_STALE_LOOKS};

/// A controller begins a push or orders a status.
pub fn acts(process: &Process, what: &str, net: &mut Network) {
    if !process.lease.reigns {
        let text = format!("{} {what} while another one reigns", process.lease.holder);
        net.trace.violated(net.now, "L4", text);
    }
}

/// A request at the Lease. A Lease that is made names no version of one that was (the API server
/// takes none), and one is changed only as it was read: else two take it at once.
pub fn asks(holder: &str, method: Method, body: &[u8], net: &mut Network) {
    let wants = match method {
        Method::Post => false,
        Method::Put => true,
        Method::Get | Method::Patch => return,
    };
    let version = version_in(body);
    if version.is_some() != wants {
        let text = format!("{holder}: {} names version {version:?}", word(method));
        net.trace.violated(net.now, "L4", text);
    }
}

/// What one that stands by found at the Lease, look by look, and when; None: the API server did not
/// say.
#[derive(Debug, Default)]
pub struct Looks(Vec<(Time, Option<Lease>)>);

impl Looks {
    /// One more look.
    pub fn add(&mut self, found: Option<Lease>, now: Time) {
        self.0.push((now, found));
    }

    /// It is about to take over from who has the Lease in `found`; it had taken `epoch` itself. One
    /// that is alive has renewed it, unless nobody could: so looks in a row, each a period behind
    /// the other, must have found it just as it is now.
    pub fn takes(&self, holder: &str, epoch: u64, found: Option<&Lease>, net: &mut Network) {
        let Some(found) = found.filter(|l| l.holder != holder && l.transitions > epoch) else {
            // Its own, or one of a restored API server.
            return;
        };
        let is_same = |look: &&(Time, Option<Lease>)| look.1.as_ref() == Some(found);
        let run = self.0.iter().rev().take_while(is_same).count();
        let (others, run) = self.0.split_at(self.0.len() - run);
        // The first of them found it unchanged if the one before did find it so.
        let before = others.iter().rev().find_map(|look| look.1.as_ref());
        let unchanged = run.len() - usize::from(before != Some(found)).min(run.len());
        let lasted = run.first().map_or(0, |first| net.now - first.0);
        let period = Time::from(LEASE_RENEW_PERIOD_MS) * MS;
        let least = Time::from(LEASE_STALE_LOOKS - 1) * period;
        if unchanged < LEASE_STALE_LOOKS as usize || lasted < least {
            let looks: Vec<Option<u64>> =
                self.0.iter().map(|look| Some(look.1.as_ref()?.version)).collect();
            let text = format!("{holder} takes over from {found:?}, after {looks:?}");
            net.trace.violated(net.now, "L4", text);
        }
    }
}

/// What the reign lacks; None when one reigns.
pub fn lacks<'p>(
    processes: impl Iterator<Item = &'p Process>,
    routers: &[Router],
    api: &Api,
) -> Option<String> {
    let reigning: Vec<&Process> = processes.filter(|p| p.lease.reigns).collect();
    let [process] = reigning[..] else {
        return Some(format!("{} controllers reign", reigning.len()));
    };
    let (holder, epoch) = (&process.lease.holder, process.controller.epoch());
    let lease = api.leases.lease.as_ref().map(|l| (&l.holder, l.transitions));
    if lease != Some((holder, epoch)) {
        return Some(format!("{holder} reigns at {epoch}, but the Lease is {lease:?}"));
    }
    let running = routers.iter().filter_map(|r| r.process.as_ref());
    let epochs: Vec<u64> = running.map(|p| p.updater.served().0.epoch).collect();
    let is_behind = epochs.iter().any(|&e| e != epoch);
    is_behind.then(|| format!("{holder} reigns at {epoch}, routers are at {epochs:?}"))
}

/// The writes since the final state was reached are the renewals of one; for `missed` of the time
/// there was no API server.
pub fn renewed(since: Time, reigning: &Process, api: &Api, missed: Time, net: &mut Network) {
    let writes = api.leases.writes.iter().filter(|w| w.0 > since);
    let count = writes.clone().count() as u64;
    let others = writes.filter(|w| w.1 != reigning.lease.holder).count();
    let period = Time::from(LEASE_RENEW_PERIOD_MS) * MS;
    let (periods, lost) = ((net.now - since) / period, missed.div_ceil(period));
    if others > 0 || count > periods + 1 || count + lost + 2 < periods {
        let text = format!("{count} writes of the Lease in {periods} periods, {others} by others");
        net.trace.violated(net.now, "L4", text);
    }
}
