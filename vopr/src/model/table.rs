//! What must be served for a set of objects: listeners, routes, backends.
//!
//! In: objects. Out: a table that can be compared with a published Snapshot, and that answers
//! requests (`lookup`). Written from the Gateway API's text; every rule stands here once.

use super::object::*;
use super::room::Room;
use super::secret::{Pair, Pairs};
use super::timeouts::Timeouts;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

/// The addresses that Gateways may get.
pub const POOL: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 240, 0, 1), Ipv4Addr::new(10, 240, 0, 2), Ipv4Addr::new(10, 240, 0, 3)];

/// A listener that is served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Served {
    /// `namespace/name`.
    pub gateway: String,
    pub section: String,
    pub hostname: String,
    pub binds: Vec<SocketAddr>,
    /// HTTPS when there are some.
    pub certificates: Vec<Pair>,
}

/// One rule of a route, where some listener serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedRule {
    /// `namespace/name/rule`.
    pub name: String,
    /// (gateway, section) and the route's own hostname.
    pub hosts: Vec<((String, String), String)>,
    pub matches: Vec<Match>,
    /// Endpoints (None: the reference does not resolve) and weight.
    pub backends: Vec<(Option<Vec<SocketAddr>>, u32)>,
    pub filters: Filters,
    pub timeouts: Timeouts,
    /// Those of each backend, behind the rule's.
    pub backend_filters: Vec<Filters>,
}

/// All of it; rules in order of precedence among equals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub listeners: Vec<Served>,
    /// All that there are in it, by name.
    pub certificates: Vec<Pair>,
    pub rules: Vec<ServedRule>,
}

/// How a controller is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Its controllerName.
    pub controller: &'static str,
    /// Gateways have the addresses of the nodes with a ready router, else each has one of [`POOL`].
    pub in_nodes: bool,
    /// The objects are a user's: the model, which knows its own only, does not judge.
    pub is_foreign: bool,
    /// For routes in a Snapshot.
    pub room: Room,
}

pub(super) struct World<'w> {
    pub(super) objects: &'w [Rc<Object>],
    pub(super) pairs: &'w Pairs,
}

/// The oldest first.
pub(super) fn by_age(objects: &[Rc<Object>]) -> Vec<Rc<Object>> {
    let mut by_age: Vec<Rc<Object>> = objects.to_vec();
    by_age.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
    by_age
}

/// Works out the table. `objects`: those that are admitted; the pairs of Secrets.
pub fn derive(objects: &[Rc<Object>], pairs: &Pairs, setup: Setup) -> Table {
    derive_all(objects, pairs, setup).0
}

/// The same, and the routes that there is no room for.
pub fn derive_all(objects: &[Rc<Object>], pairs: &Pairs, setup: Setup) -> (Table, Vec<Key>) {
    let by_age = by_age(objects);
    let world = World { objects: &by_age, pairs };
    let gateways = world.gateways(setup);
    let listeners = world.listeners(&gateways);
    let (mut rules, mut room, mut unfit) = (Vec::new(), setup.room, Vec::new());
    for object in by_age.iter().filter(|o| o.key.0 == Kind::Route) {
        let own = world.rules(object, &listeners);
        match room.take(&own) {
            true => rules.extend(own),
            false => unfit.push(object.key.clone()),
        }
    }
    let mut certificates: Vec<Pair> =
        listeners.iter().flat_map(|l| l.certificates.iter().cloned()).collect();
    certificates.sort();
    certificates.dedup();
    (Table { listeners, certificates, rules }, unfit)
}

/// The Gateways of the controller among those admitted.
pub fn ours(objects: &[Rc<Object>], setup: Setup) -> Vec<Rc<Object>> {
    let (by_age, pairs) = (by_age(objects), Pairs::default());
    let world = World { objects: &by_age, pairs: &pairs };
    world.gateways(setup).into_iter().map(|placed| placed.gateway).collect()
}

/// Whether an endpoint may lie there: tenants must not lead a router to where only it can go.
pub fn may_be_reached(ip: IpAddr) -> bool {
    let IpAddr::V4(ip) = ip else { return true };
    match ip.octets() {
        [0 | 127, ..] | [169, 254, ..] | [255, 255, 255, 255] => false,
        // Multicast.
        [first, ..] => !(224..240).contains(&first),
    }
}

impl Table {
    /// Whether some rule has this endpoint.
    pub fn has_endpoint(&self, address: &SocketAddr) -> bool {
        let mut pools = self.rules.iter().flat_map(|rule| &rule.backends);
        pools.any(|(pool, _)| pool.as_ref().is_some_and(|pool| pool.contains(address)))
    }
}

impl World<'_> {
    pub(super) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Rc<Object>> {
        let key = (kind, namespace, name);
        self.objects.iter().find(|o| (o.key.0, o.key.1.as_str(), o.key.2.as_str()) == key)
    }

    /// The rules of a route, where some listener serves it.
    fn rules(&self, object: &Object, listeners: &[Served]) -> Vec<ServedRule> {
        let mut out = Vec::new();
        let Spec::Route { parents, hostnames, rules } = &object.spec else { return out };
        if is_unsupported(rules) {
            return out;
        }
        let any = vec![String::new()];
        let hostnames = if hostnames.is_empty() { &any } else { hostnames };
        let mut hosts = Vec::new();
        for parent in parents {
            for served in listeners.iter().filter(|l| self.attaches(object, parent, l)) {
                for hostname in hostnames.iter().filter(|h| intersect(h, &served.hostname)) {
                    let listener = (served.gateway.clone(), served.section.clone());
                    let host = (listener, hostname.clone());
                    if !hosts.contains(&host) {
                        hosts.push(host);
                    }
                }
            }
        }
        if hosts.is_empty() {
            return out;
        }
        for (index, rule) in rules.iter().enumerate() {
            let mut matches = rule.matches.clone();
            if matches.is_empty() {
                matches.push(Match::default());
            }
            let backend = |b: &Backend| (self.endpoints(&object.key.1, b), b.weight);
            out.push(ServedRule {
                name: format!("{}/{}/{index}", object.key.1, object.key.2),
                hosts: hosts.clone(),
                matches,
                backends: rule.backends.iter().map(backend).collect(),
                filters: rule.filters.clone(),
                timeouts: rule.timeouts,
                backend_filters: rule.backends.iter().map(|b| b.filters.clone()).collect(),
            });
        }
        out
    }

    fn attaches(&self, route: &Object, parent: &Parent, served: &Served) -> bool {
        let namespace = parent.namespace.as_ref().unwrap_or(&route.key.1);
        if served.gateway.split_once('/') != Some((namespace.as_str(), parent.name.as_str()))
            || parent.section.as_ref().is_some_and(|s| *s != served.section)
            || parent.port.is_some_and(|p| p != served.binds[0].port())
        {
            return false;
        }
        let Some(gateway) = self.get(Kind::Gateway, namespace, &parent.name) else { return false };
        let Spec::Gateway { listeners, .. } = &gateway.spec else { return false };
        let Some(listener) = listeners.iter().find(|l| l.name == served.section) else {
            return false;
        };
        listener.takes_http_routes() && self.is_allowed(listener, namespace, route)
    }

    /// allowedRoutes.namespaces of a listener of a Gateway in a namespace.
    pub(super) fn is_allowed(&self, listener: &Listener, namespace: &str, route: &Object) -> bool {
        match &listener.allowed {
            Allowed::Same => *namespace == route.key.1,
            Allowed::All => true,
            Allowed::Label(k, v) => self.get(Kind::Namespace, "", &route.key.1).is_some_and(|n| {
                let wanted = (k.clone(), v.clone());
                matches!(&n.spec, Spec::Namespace { labels } if labels.contains(&wanted))
            }),
        }
    }

    /// ReferenceGrant: whether objects of a namespace may refer to this one.
    pub(super) fn permits(
        &self,
        of: Referrer,
        from: &str,
        (namespace, name): (&str, &str),
    ) -> bool {
        let permits = |o: &Rc<Object>| {
            o.key.1 == namespace
                && matches!(&o.spec, Spec::Grant { of: o, from: f, to }
                    if *o == of && f == from && to.as_ref().is_none_or(|t| *t == name))
        };
        namespace == from || self.objects.iter().any(permits)
    }

    /// Why a backendRef does not resolve: each reason that may be said.
    pub(super) fn problems(&self, from: &str, backend: &Backend) -> Vec<&'static str> {
        if backend.kind != "Service" {
            return vec!["InvalidKind"];
        }
        let namespace = backend.namespace.as_deref().unwrap_or(from);
        if !self.permits(Referrer::Routes, from, (namespace, &backend.name)) {
            return vec!["RefNotPermitted"];
        }
        match self.port(namespace, backend) {
            None => vec!["BackendNotFound"],
            Some(Port { app: Some("kubernetes.io/h2c"), .. }) => vec!["UnsupportedProtocol"],
            Some(_) => Vec::new(),
        }
    }

    /// HTTP goes over TCP: a Service's port of another protocol is none.
    fn port(&self, namespace: &str, backend: &Backend) -> Option<&Port> {
        let service = self.get(Kind::Service, namespace, &backend.name)?;
        let Spec::Service { ports } = &service.spec else { return None };
        ports.iter().find(|p| p.number == backend.port && p.protocol == "TCP")
    }

    /// The endpoints of a backendRef; None when it does not resolve.
    fn endpoints(&self, from: &str, backend: &Backend) -> Option<Vec<SocketAddr>> {
        if !self.problems(from, backend).is_empty() {
            return None;
        }
        let namespace = backend.namespace.as_deref().unwrap_or(from);
        let port_name = &self.port(namespace, backend)?.name;
        let mut found = self.addresses(namespace, &backend.name, port_name, Endpoint::is_ready);
        if found.is_empty() {
            let last = |e: &Endpoint| e.is_serving() && e.is_terminating();
            found = self.addresses(namespace, &backend.name, port_name, last);
        }
        found.sort();
        found.dedup();
        Some(found)
    }

    fn addresses(
        &self,
        namespace: &str,
        name: &str,
        port_name: &str,
        wanted: impl Fn(&Endpoint) -> bool,
    ) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        for object in self.objects.iter().filter(|o| o.key.1 == namespace) {
            let Spec::Slice { service, ports, endpoints } = &object.spec else { continue };
            let is_it = |p: &&Port| p.name == port_name && p.protocol == "TCP";
            let Some(port) = ports.iter().find(is_it) else { continue };
            if service == name {
                let may = |e: &&Endpoint| wanted(e) && may_be_reached(IpAddr::V4(e.address));
                let all = endpoints.iter().filter(may);
                found.extend(all.map(|e| SocketAddr::new(IpAddr::V4(e.address), port.number)));
            }
        }
        found
    }
}

/// Whether serval has no support for something in the rules: then it serves nothing of them.
pub(super) fn is_unsupported(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| rule.matches.iter().any(|m| m.regex))
}

/// Whether two hostnames have a host in common: `*.` stands for one or more labels.
pub fn intersect(a: &str, b: &str) -> bool {
    if a.is_empty() || b.is_empty() || a == b {
        return true;
    }
    let is_below = |host: &str, domain: &str| {
        host.strip_suffix(domain).is_some_and(|labels| labels.ends_with('.'))
    };
    match (a.strip_prefix("*."), b.strip_prefix("*.")) {
        (Some(x), Some(y)) => is_below(x, y) || is_below(y, x),
        (Some(x), None) => is_below(b, x),
        (None, Some(y)) => is_below(a, y),
        (None, None) => false,
    }
}
