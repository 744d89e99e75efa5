//! What statuses must say of a Gateway, its listeners, and a route: Accepted, Conflicted,
//! ResolvedRefs, supportedKinds, attachedRoutes. What serves whom is `table`'s matter.
//!
//! In: objects, pairs, setup. Out: verdicts, with each reason that the Gateway API lets one say.

use super::object::*;
use super::placing::{Placed, flaws};
use super::secret::Pairs;
use super::table::{Served, Setup, World, by_age, derive_all, intersect, is_unsupported};
use std::rc::Rc;

/// Of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfGateway {
    /// Status and reason of Accepted.
    pub accepted: (bool, &'static str),
    /// Reason of Programmed, where it is not served for what it asks for.
    pub programmed: Option<&'static str>,
    pub listeners: Vec<OfListener>,
}

/// Of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfListener {
    pub section: String,
    /// Reasons of Accepted: one that is False may have several.
    pub accepted: Vec<&'static str>,
    /// HTTPRoute is among its supportedKinds, which are no others.
    pub takes_http_routes: bool,
    /// attachedRoutes. Whether one without a hostname in common counts is not said.
    pub attached: (usize, usize),
}

/// Of a route, for each of its own parents in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfRoute {
    pub parents: Vec<(Parent, &'static str)>,
    /// Reasons of ResolvedRefs: several, where several backendRefs have a problem.
    pub resolved: Vec<&'static str>,
}

fn name_of(object: &Object) -> (&str, &str) {
    (&object.key.1, &object.key.2)
}

/// Of a Gateway of ours; None when it is another's or not admitted.
pub fn of_gateway(
    objects: &[Rc<Object>],
    pairs: &Pairs,
    setup: Setup,
    name: (&str, &str),
) -> Option<OfGateway> {
    let by_age = by_age(objects);
    let world = World { objects: &by_age, pairs };
    let gateways = world.gateways(setup);
    let placed = gateways.iter().find(|p| name_of(&p.gateway) == name)?;
    let Spec::Gateway { listeners, .. } = &placed.gateway.spec else { return None };
    let served = world.listeners(&gateways);
    let of_listener = |l: &Listener| OfListener {
        section: l.name.clone(),
        accepted: world.accepted(&served, placed, l),
        takes_http_routes: l.takes_http_routes(),
        attached: (world.attached(placed, l, true), world.attached(placed, l, false)),
    };
    let listeners: Vec<OfListener> = listeners.iter().map(of_listener).collect();
    let valid = listeners.iter().filter(|l| l.accepted == ["Accepted"]).count();
    let accepted = match placed.problem {
        Some(problem @ ("InvalidParameters" | "UnsupportedAddress")) => (false, problem),
        _ if valid == listeners.len() => (true, "Accepted"),
        _ => (valid > 0, "ListenersNotValid"),
    };
    let programmed = placed.problem.map(|p| if accepted.1 == p { "Invalid" } else { p });
    Some(OfGateway { accepted, programmed, listeners })
}

/// Of a route; None when it is not admitted.
pub fn of_route(
    objects: &[Rc<Object>],
    pairs: &Pairs,
    setup: Setup,
    (namespace, name): (&str, &str),
) -> Option<OfRoute> {
    let by_age = by_age(objects);
    let world = World { objects: &by_age, pairs };
    let gateways = world.gateways(setup);
    let route = world.get(Kind::Route, namespace, name)?;
    let Spec::Route { parents, rules, .. } = &route.spec else { return None };
    let is_unfit = || derive_all(objects, pairs, setup).1.contains(&route.key);
    let mut said = Vec::new();
    for parent in parents {
        let of = (parent.namespace.as_deref().unwrap_or(namespace), parent.name.as_str());
        let Some(placed) = gateways.iter().find(|p| name_of(&p.gateway) == of) else { continue };
        let reason = match world.attachment(route, parent, placed) {
            "Accepted" if is_unsupported(rules) => "UnsupportedValue",
            "Accepted" if is_unfit() => "CapacityExceeded",
            reason => reason,
        };
        said.push((parent.clone(), reason));
    }
    let backends = rules.iter().flat_map(|r| &r.backends);
    let mut resolved: Vec<_> = backends.flat_map(|b| world.problems(namespace, b)).collect();
    if resolved.is_empty() {
        resolved.push("ResolvedRefs");
    }
    Some(OfRoute { parents: said, resolved })
}

fn selects(parent: &Parent, listener: &Listener) -> bool {
    parent.section.as_ref().is_none_or(|s| *s == listener.name)
        && parent.port.is_none_or(|p| p == listener.port)
}

fn meets(route: &Object, listener: &Listener) -> bool {
    let Spec::Route { hostnames, .. } = &route.spec else { return false };
    hostnames.is_empty() || hostnames.iter().any(|h| intersect(h, &listener.hostname))
}

impl World<'_> {
    /// Accepted of a listener, by itself, and beside the listeners of older Gateways.
    fn accepted(&self, served: &[Served], placed: &Placed, own: &Listener) -> Vec<&'static str> {
        let Spec::Gateway { listeners, .. } = &placed.gateway.spec else { return Vec::new() };
        let flaws = flaws(listeners, own);
        if !flaws.is_empty() {
            return flaws;
        }
        let needs = !own.certificates.is_empty();
        let (pairs, _) = self.certificates(&placed.gateway.key.1, own);
        if placed.problem.is_none() && !(needs && pairs.is_empty()) {
            let name = format!("{}/{}", placed.gateway.key.1, placed.gateway.key.2);
            if !served.iter().any(|s| s.gateway == name && s.section == own.name) {
                return vec!["PortUnavailable"];
            }
        }
        vec!["Accepted"]
    }

    fn allows(&self, route: &Object, placed: &Placed, listener: &Listener) -> bool {
        let namespace = &placed.gateway.key.1;
        listener.takes_http_routes() && self.is_allowed(listener, namespace, route)
    }

    /// Reason of Accepted for a parentRef to a Gateway.
    fn attachment(&self, route: &Object, parent: &Parent, placed: &Placed) -> &'static str {
        let Spec::Gateway { listeners, .. } = &placed.gateway.spec else { unreachable!() };
        let selected: Vec<_> = listeners.iter().filter(|l| selects(parent, l)).collect();
        let allowed: Vec<_> = selected.iter().filter(|l| self.allows(route, placed, l)).collect();
        match (selected.is_empty(), allowed.is_empty()) {
            (true, _) => "NoMatchingParent",
            (_, true) => "NotAllowedByListeners",
            _ if allowed.iter().any(|l| meets(route, l)) => "Accepted",
            _ => "NoMatchingListenerHostname",
        }
    }

    /// How many routes attach to a listener, whatever their own status and the listener's
    /// (ListenerStatus.attachedRoutes).
    fn attached(&self, placed: &Placed, listener: &Listener, must_meet: bool) -> usize {
        let (own_namespace, own_name) = name_of(&placed.gateway);
        let attaches = |route: &&Rc<Object>| {
            let Spec::Route { parents, .. } = &route.spec else { return false };
            let is_it = |p: &Parent| {
                let namespace = p.namespace.as_deref().unwrap_or(&route.key.1);
                (namespace, p.name.as_str()) == (own_namespace, own_name) && selects(p, listener)
            };
            parents.iter().any(is_it)
                && self.allows(route, placed, listener)
                && (!must_meet || meets(route, listener))
        };
        self.objects.iter().filter(attaches).count()
    }
}
