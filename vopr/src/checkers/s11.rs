//! S11: a status says of a Gateway, its listeners and a route what the Gateway API asks for:
//! Accepted, Conflicted, ResolvedRefs, supportedKinds, attachedRoutes, and for each parent; that a
//! generation is programmed only when each router that is heard serves it.

use crate::marks::sometimes;
use crate::model::object::{Object, Parent};
use crate::model::secret::Pairs;
use crate::model::table::Setup;
use crate::model::verdicts::{OfListener, of_gateway, of_route};
use crate::network::{Network, SECOND, Time};
use crate::parsed::Parsed;
use crate::workload::CONTROLLER;
use serval::resource::document::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

/// A router counts that was heard within so long (limits.toml, ROUTER_SILENT_MS, with time to
/// spare).
const HEARD: Time = 12 * SECOND;

/// What a controller knows.
pub type Told<'t> = (&'t [Rc<Object>], &'t Pairs, Setup);

/// What routers last said that they serve: when, the checksum, whether they are ready.
#[derive(Debug, Default)]
pub struct Reports(BTreeMap<SocketAddr, (Time, [u8; 32], bool)>);

impl Reports {
    /// A router reported.
    pub fn heard(&mut self, router: SocketAddr, serves: [u8; 32], is_ready: bool, now: Time) {
        self.0.insert(router, (now, serves, is_ready));
    }

    /// Those that are gone do not count.
    pub fn keep(&mut self, is_there: impl Fn(&SocketAddr) -> bool) {
        self.0.retain(|router, _| is_there(router));
    }

    /// A router that does not serve this.
    pub fn without(&self, checksum: [u8; 32], now: Time) -> Option<SocketAddr> {
        let mut heard = self.0.iter().filter(|(_, r)| r.2 && now - r.0 < HEARD);
        heard.find(|(_, r)| r.1 != checksum).map(|(router, _)| *router)
    }
}

/// Status, reason and generation of a condition.
fn condition<'v>(owner: Value<'v>, kind: &str) -> (&'v str, &'v str, u64) {
    let conditions = owner.get("conditions");
    let found = conditions.iter().flat_map(|c| c.items()).find(|c| c.text("type") == kind);
    let Some(found) = found else { return ("", "", 0) };
    let generation = found.get("observedGeneration").and_then(Value::int).unwrap_or(0);
    (found.text("status"), found.text("reason"), generation as u64)
}

fn word(holds: bool) -> &'static str {
    if holds { "True" } else { "False" }
}

/// A status of a Gateway is on its way, worked out from this.
pub fn of_a_gateway(
    (namespace, name): (&str, &str),
    body: &str,
    told: Told<'_>,
    net: &mut Network,
) {
    let document = Parsed::of(body.as_bytes()).expect("statuses are JSON");
    let root = document.root();
    // What is refused for its number other things are said of: S8.
    let Some(wanted) = of_gateway(told.0, told.1, told.2, (namespace, name)) else { return };
    let (status, reason, _) = condition(root, "Accepted");
    let mut wrong = Vec::new();
    if (status, reason) != (word(wanted.accepted.0), wanted.accepted.1) {
        wrong.push(format!("Accepted {status} {reason}, wanted {:?}", wanted.accepted));
    }
    let (status, reason, _) = condition(root, "Programmed");
    if wanted.programmed.is_some_and(|wanted| (status, reason) != ("False", wanted)) {
        // Nodes: without a router nobody has the addresses to say more.
        let is_without = told.2.in_nodes && reason == "NoResources";
        if !is_without {
            wrong.push(format!("Programmed {status} {reason}, wanted {:?}", wanted.programmed));
        }
    }
    let listeners = root.get("listeners");
    let listeners: Vec<Value<'_>> = listeners.iter().flat_map(|l| l.items()).collect();
    if listeners.len() != wanted.listeners.len() {
        wrong.push(format!("{} listeners", listeners.len()));
    }
    for (listener, wanted) in listeners.into_iter().zip(&wanted.listeners) {
        if !of_a_listener(listener, wanted) {
            let of = |kind| condition(listener, kind);
            let attached = listener.get("attachedRoutes").and_then(Value::int);
            let (accepted, conflicted) = (of("Accepted"), of("Conflicted"));
            wrong.push(format!("{accepted:?}, {conflicted:?}, {attached:?}, wanted {wanted:?}"));
        }
    }
    for wrong in wrong {
        net.trace.violated(net.now, "S11", format!("Gateway {namespace}/{name}: {wrong}"));
    }
}

fn of_a_listener(listener: Value<'_>, wanted: &OfListener) -> bool {
    let (status, reason, _) = condition(listener, "Accepted");
    let holds = wanted.accepted == ["Accepted"];
    let (conflicts, why, _) = condition(listener, "Conflicted");
    let is_conflict = matches!(reason, "HostnameConflict" | "ProtocolConflict");
    let kinds = listener.get("supportedKinds");
    let mut kinds = kinds.iter().flat_map(|k| k.items()).map(|k| k.text("kind"));
    let takes = kinds.next();
    let attached = listener.get("attachedRoutes").and_then(Value::int).unwrap_or(-1);
    let (least, most) = wanted.attached;
    listener.text("name") == wanted.section
        && status == word(holds)
        && wanted.accepted.contains(&reason)
        && conflicts == word(is_conflict)
        && why == if is_conflict { reason } else { "NoConflicts" }
        && takes == wanted.takes_http_routes.then_some("HTTPRoute")
        && kinds.next().is_none()
        && (least as i64..=most as i64).contains(&attached)
}

/// A status of a route is on its way.
pub fn of_a_route((namespace, name): (&str, &str), body: &str, told: Told<'_>, net: &mut Network) {
    let document = Parsed::of(body.as_bytes()).expect("statuses are JSON");
    let Some(wanted) = of_route(told.0, told.1, told.2, (namespace, name)) else { return };
    let parents = document.root().get("parents");
    let parents = parents.iter().flat_map(|p| p.items());
    let own: Vec<Value<'_>> = parents.filter(|p| p.text("controllerName") == CONTROLLER).collect();
    let is_it = |said: &Value<'_>, (parent, accepted): &(Parent, &str)| {
        let (status, reason, _) = condition(*said, "Accepted");
        let (resolves, why, _) = condition(*said, "ResolvedRefs");
        is_parent(*said, parent)
            && (status, reason) == (word(*accepted == "Accepted"), *accepted)
            && resolves == word(wanted.resolved == ["ResolvedRefs"])
            && wanted.resolved.contains(&why)
    };
    let is_right = own.len() == wanted.parents.len()
        && own.iter().zip(&wanted.parents).all(|(said, wanted)| is_it(said, wanted));
    if wanted.parents.iter().any(|p| p.1 == "CapacityExceeded") {
        sometimes("a route does not fit a Snapshot");
    }
    if !is_right {
        let said = own.iter().map(|&p| (condition(p, "Accepted"), condition(p, "ResolvedRefs")));
        let said: Vec<_> = said.collect();
        let text = format!("route {namespace}/{name}: {said:?}, wanted {wanted:?}");
        net.trace.violated(net.now, "S11", text);
    }
}

fn is_parent(said: Value<'_>, parent: &Parent) -> bool {
    let of = |name| said.at(&["parentRef", name]).and_then(Value::str);
    let port = said.at(&["parentRef", "port"]).and_then(Value::int);
    of("name") == Some(&parent.name)
        && of("namespace") == parent.namespace.as_deref()
        && of("sectionName") == parent.section.as_deref()
        && port == parent.port.map(i64::from)
}

/// A status of a Gateway is on its way, where a router does not serve what was published for it: of
/// the Gateway as it is no more is programmed than was said before.
pub fn waits(gateway: &Object, body: &str, router: SocketAddr, net: &mut Network) {
    sometimes("routers do not serve yet what a status is written for");
    let (before, after) = (programmed(&gateway.status), programmed(body));
    for (section, generation) in after {
        let is_new = generation >= gateway.generation;
        if is_new && before.get(&section).is_none_or(|&before| before < generation) {
            let name = format!("{}/{}", gateway.key.1, gateway.key.2);
            let text = format!(
                "{name} {section}: generation {generation} is programmed, but not at {router}"
            );
            net.trace.violated(net.now, "S11", text);
        }
    }
}

/// The generations of a Gateway (as the listener "") and its listeners that are programmed.
fn programmed(status: &str) -> BTreeMap<String, u64> {
    let mut programmed = BTreeMap::new();
    let Some(document) = Parsed::of(status.as_bytes()) else { return programmed };
    let root = document.root();
    let listeners = root.get("listeners");
    for owner in listeners.iter().flat_map(|l| l.items()).chain([root]) {
        if let ("True", _, generation) = condition(owner, "Programmed") {
            programmed.insert(owner.text("name").to_string(), generation);
        }
    }
    programmed
}
