//! L1: once faults are healed and objects stop changing, all routers serve the model's Snapshot of
//! the final state, and stay; nothing is written or pushed any more.

use super::s3::{difference, normal, read};
use crate::api_server::Api;
use crate::capacities::ADMITTED;
use crate::model::object::{Kind, Object};
use crate::model::secret::Pairs;
use crate::model::table::{Setup, Table, derive};
use crate::router::{Process, Router};
use std::rc::Rc;

/// Of the API server's objects the first of each kind by age, as many as are admitted.
pub fn admitted(api: &Api) -> Vec<Rc<Object>> {
    let mut of_kinds = Kind::ALL.map(|_| Vec::new());
    for object in api.objects.values() {
        of_kinds[object.key.0 as usize].push(object);
    }
    let mut admitted = Vec::new();
    for (kind, mut of_kind) in Kind::ALL.into_iter().zip(of_kinds) {
        of_kind.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
        admitted.extend(of_kind.into_iter().take(ADMITTED[kind as usize] as usize).cloned());
    }
    admitted
}

/// What a table was worked out of, and the table: it is asked for more often than that changes.
pub type Found = Option<((u64, Setup, Pairs), Rc<Table>)>;

/// The table of the API server's state. `pairs`: what the controller keeps of Secrets that became
/// unusable.
pub fn wanted(api: &Api, pairs: Pairs) -> Rc<Table> {
    let of = (api.meanings, api.setup, pairs);
    if let Some((known, table)) = &*api.wanted.borrow()
        && *known == of
    {
        return table.clone();
    }
    let (admitted, mut pairs) = (admitted(api), of.2.clone());
    admitted.iter().for_each(|object| pairs.take(object));
    let table = Rc::new(normal(derive(&admitted, &pairs, api.setup)));
    *api.wanted.borrow_mut() = Some((of, table.clone()));
    table
}

/// What a router's process has published to its worker.
pub fn served(process: &Process) -> Table {
    normal(read(&process.writer.active().snapshot))
}

/// What a router lacks; None when it serves what it must.
pub fn lacks(router: &Router, wanted: &Table) -> Option<String> {
    let Some(process) = &router.process else { return Some("it does not run".into()) };
    if router.drain_ends().is_some() {
        return Some("it drains".into());
    }
    if !process.writer.all_passed() {
        return Some("its worker has not adopted the last Snapshot".into());
    }
    let got = served(process);
    (got != *wanted).then(|| difference(&got, wanted))
}
