//! S8: of each kind those objects are admitted that are first by (creationTimestamp, namespace,
//! name), as many as the store takes; one that is not is refused whole, and its status says so. The
//! store knows each that is there, as one or the other, and none that is gone.
//! Of Secrets S9 says which are kept.

use crate::api_server::Api;
use crate::capacities::ADMITTED;
use crate::marks::sometimes;
use crate::model::object::{Kind, Object, Parent, Spec};
use crate::model::room::Room;
use crate::model::table::ours;
use crate::network::Network;
use crate::router::parse;
use serval::config::Snapshot;
use serval::resource::document::{Document, Value};
use serval::resource::{Key, Stores};
use serval::stdx::zeroed_box;
use std::rc::Rc;

/// Namespace and name.
type Name = (String, String);

/// The kinds that are looked at.
pub const KINDS: [Kind; 7] = [
    Kind::Class,
    Kind::Gateway,
    Kind::Route,
    Kind::Service,
    Kind::Slice,
    Kind::Namespace,
    Kind::Grant,
];

/// What a store knows of a kind.
#[derive(Debug, Default)]
struct Known {
    /// The oldest first.
    admitted: Vec<Name>,
    refused: Vec<Name>,
    /// Refused ones whose names had no room.
    uncounted: u32,
}

fn stored(stores: &Stores, kind: Kind) -> Known {
    macro_rules! names {
        ($store:expr) => {{
            let text = |k: Key| (k.namespace.as_str().to_string(), k.name.as_str().to_string());
            let admitted = $store.by_age().map(|handle| text($store.meta(handle).key)).collect();
            let (stubs, uncounted) = $store.refused();
            let refused = stubs.iter().map(|stub| text(stub.meta.key)).collect();
            Known { admitted, refused, uncounted }
        }};
    }
    match kind {
        Kind::Class => names!(stores.classes),
        Kind::Gateway => names!(stores.gateways),
        Kind::Route => names!(stores.routes),
        Kind::Service => names!(stores.services),
        Kind::Slice => names!(stores.slices),
        Kind::Secret => names!(stores.secrets),
        Kind::Namespace => names!(stores.namespaces),
        Kind::Grant => names!(stores.grants),
    }
}

/// All of a kind, the first ones first.
fn in_order<'o>(objects: impl Iterator<Item = &'o Rc<Object>>, kind: Kind) -> Vec<&'o Rc<Object>> {
    let mut found: Vec<&Rc<Object>> = objects.filter(|o| o.key.0 == kind).collect();
    found.sort_by_key(|o| (o.created, o.key.1.clone(), o.key.2.clone()));
    found
}

fn name(object: &Object) -> Name {
    (object.key.1.clone(), object.key.2.clone())
}

/// What the stores admit, by kind.
#[derive(Debug)]
pub struct Admitted([Known; 8]);

impl Admitted {
    /// Of a controller's stores.
    pub fn of(stores: &Stores) -> Admitted {
        Admitted(Kind::ALL.map(|kind| stored(stores, kind)))
    }

    /// Looks at the store of a kind that was told of `objects`. `is_whole`: none went since the
    /// last relist while others were refused; else it may hold fewer. `is_listing`: a relist runs.
    pub fn check<'o>(
        &self,
        kind: Kind,
        objects: impl Iterator<Item = &'o Rc<Object>>,
        (is_whole, is_listing): (bool, bool),
        net: &mut Network,
    ) {
        let known = &self.0[kind as usize];
        let (got, most) = (&known.admitted, ADMITTED[kind as usize] as usize);
        let told: Vec<Name> = in_order(objects, kind).into_iter().map(|o| name(o)).collect();
        let first = &told[..told.len().min(most)];
        let is_some_of = got.len() <= most && got.iter().all(|n| told.contains(n));
        if got != first && (is_whole || !is_some_of) {
            let text = format!("of {kind:?} {got:?} are admitted, the first {most} are {first:?}");
            net.trace.violated(net.now, "S8", text);
        }
        let mut all: Vec<&Name> = got.iter().chain(&known.refused).collect();
        all.sort();
        let is_each_once = all.windows(2).all(|two| two[0] != two[1]);
        let is_told = all.iter().all(|name| told.contains(name));
        // Without room for all their names some are not known, and how many is counted anew by each
        // relist.
        let is_whole = is_listing || known.uncounted > 0 || all.len() == told.len();
        if !is_each_once || !is_told || !is_whole {
            let text = format!("of {kind:?} {known:?} are known, {told:?} are there");
            net.trace.violated(net.now, "S8", text);
        }
    }

    /// A Snapshot has nothing of a Gateway, route or Service that is not admitted.
    pub fn published(&self, snapshot: &Snapshot, net: &mut Network) {
        let text = |t| snapshot.text.get(t);
        let listeners = snapshot.listeners.as_slice().iter();
        let gateways = listeners.map(|l| (Kind::Gateway, text(l.gateway)));
        let routes = snapshot.routes.as_slice().iter().map(|r| (Kind::Route, text(r.name)));
        let pools = snapshot.pools.as_slice().iter().map(|p| (Kind::Service, text(p.name)));
        for (kind, full) in gateways.chain(routes).chain(pools) {
            let mut parts = full.split('/').map(str::to_string);
            let name = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            if !self.0[kind as usize].admitted.contains(&name) {
                let text = format!("{kind:?} {full} is served, but not admitted");
                net.trace.violated(net.now, "S8", text);
            }
        }
    }
}

/// The final state, where nothing is on its way any more: what is refused is told so by its status,
/// and nobody else is.
pub fn told(api: &Api, net: &mut Network) {
    let admitted = super::l1::admitted(api);
    let gateways = ours(&admitted, api.setup);
    for kind in [Kind::Gateway, Kind::Route] {
        let most = ADMITTED[kind as usize] as usize;
        for (place, object) in in_order(api.objects.values(), kind).into_iter().enumerate() {
            let is_refused = place >= most;
            let said = said(object);
            let wrong = match &object.spec {
                Spec::Gateway { class, .. } if class == "serval" => {
                    said.len() != 1 || said[0].1 != is_refused
                }
                Spec::Route { parents, .. } => {
                    let is_ours = |p: &&Parent| {
                        let namespace = p.namespace.as_ref().unwrap_or(&object.key.1);
                        gateways.iter().any(|g| (&g.key.1, &g.key.2) == (namespace, &p.name))
                    };
                    let wanted = parents.iter().filter(is_ours).count();
                    // Which do not fit a Snapshot S11 says.
                    let fits = |s: &(String, bool)| {
                        s.1 == is_refused || s.1 && api.setup.room != Room::LARGE
                    };
                    said.len() != wanted || !said.iter().all(fits)
                }
                _ => continue,
            };
            if is_refused && !said.is_empty() {
                sometimes("an object is refused in the end");
            }
            if wrong {
                let text = format!("{:?} is number {place}, its status says {said:?}", object.key);
                net.trace.violated(net.now, "S8", text);
            }
        }
    }
}

/// Of a Gateway or each own parent of a route: the reason of Accepted, and whether that says that
/// the object is refused.
fn said(object: &Object) -> Vec<(String, bool)> {
    let mut document = zeroed_box::<Document>();
    if object.status.is_empty() {
        return Vec::new();
    }
    assert!(parse(object.status.as_bytes(), &mut document), "a status is JSON");
    let root = document.root();
    let accepted = |owner: Value<'_>| {
        let conditions = owner.get("conditions");
        let found =
            conditions.iter().flat_map(|c| c.items()).find(|c| c.text("type") == "Accepted");
        found.map(|c| {
            let reason = c.text("reason").to_string();
            let is_refused = c.text("status") == "False" && reason == "CapacityExceeded";
            (reason, is_refused)
        })
    };
    match object.key.0 {
        Kind::Route => {
            let parents = root.get("parents");
            let parents = parents.iter().flat_map(|p| p.items());
            let own = parents.filter(|p| p.text("controllerName") == crate::workload::CONTROLLER);
            own.filter_map(accepted).collect()
        }
        _ => accepted(root).into_iter().collect(),
    }
}
