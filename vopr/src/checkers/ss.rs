//! SS, static stability: with the control plane gone for good a router serves its last Snapshot,
//! all its listeners among it, after its own restart too.

use super::l3;
use super::s3::{difference, normal, read};
use crate::client::Outcome;
use crate::model::table::Table;
use crate::network::{Network, Node, Time};
use crate::router::Router;
use crate::tables::Tables;
use serval::config::Identity;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;

/// What a router served last.
#[derive(Clone, Debug)]
pub struct Last {
    identity: Identity,
    pub table: Rc<Table>,
}

/// What a router serves that is neither away nor in mid-swap, nor has a push to take or something
/// to save.
pub fn last(router: &Router, tables: &Tables) -> Option<Last> {
    let process = router.process.as_ref()?;
    let is_quiet = process.writer.all_passed() && process.is_saved();
    let is_quiet = is_quiet && process.is_left_alone();
    let (identity, _) = process.updater.served();
    let table = tables.adopted(router);
    (is_quiet && router.drain_ends().is_none()).then_some(Last { identity, table })
}

/// Looks whether a router serves what it served last. `is_listening`: it had the time to listen.
pub fn serves(router: &Router, last: &Last, is_listening: bool, net: &mut Network) {
    if let Some(wrong) = lacks(router, last, is_listening, net) {
        let text = format!("router {}, without a control plane: {wrong}", router.index);
        net.trace.violated(net.now, "SS", text);
    }
}

fn lacks(router: &Router, last: &Last, is_listening: bool, net: &Network) -> Option<String> {
    let Some(process) = &router.process else { return Some("it does not run".into()) };
    let (identity, _) = process.updater.served();
    if identity != last.identity {
        return Some(format!("it served {:?}, and now {identity:?}", last.identity));
    }
    let got = normal(read(&process.writer.active().snapshot));
    if got != *last.table {
        return Some(difference(&got, &last.table));
    }
    let listening = net.listening(Node::Router(router.index));
    let wanted: BTreeSet<SocketAddr> = got.listeners.into_iter().flat_map(|l| l.binds).collect();
    let closed: Vec<_> = wanted.iter().filter(|at| !listening.contains(at)).collect();
    (is_listening && !closed.is_empty()).then(|| format!("it does not listen at {closed:?}"))
}

/// A client's request came to its end, of a router that was left alone since then; whether it had
/// to succeed.
pub fn answered(outcome: &Outcome, last: &Last, since: Time, net: &mut Network) -> bool {
    let (is_owed, failure) = l3::judge(outcome, &last.table, since);
    if let Some(text) = failure {
        net.trace.violated(net.now, "SS", text);
    }
    is_owed
}
