//! The workload: creates, changes and deletes objects at random, valid ones, at the capacities and
//! above them. Mostly what refers to others refers to what is there, so that most routes serve.
//!
//! In: the API server's objects. Out: changes of them.

use crate::api_server::Api;
use crate::capacities::ADMITTED;
use crate::checkers::l1;
use crate::client::HOSTS;
use crate::io::BACKEND_NET;
use crate::marks::sometimes;
use crate::model::lookup::matches_host;
use crate::model::object::*;
use crate::model::roster::SERVICE;
use crate::model::secret::{Flaw, Pairs};
use crate::model::table::{POOL, ServedRule};
use crate::model::timeouts::Timeouts;
use crate::network::Time;
use crate::router::{ADMIN_PORT, admin_address};
use crate::target;
use serval::stdx::Prng;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

mod outage;
mod strange;

/// The controllerName that is ours.
pub const CONTROLLER: &str = "serval.dev/gateway-controller";

const NAMESPACES: [&str; 4] = ["red", "blue", "green", "grey"];
/// Secrets are in so many of them, two in each.
const SECRET_NAMESPACES: usize = 3;
/// Rules with endpoints that there are mostly at least.
const SERVED: usize = 3;
/// Names of Services in a namespace.
const SERVICES: usize = 6;

/// Ports of listeners.
pub const PORTS: [u16; 3] = [80, 8080, 443];

/// Whether listeners of a port are HTTPS: each port has one protocol.
pub fn is_tls_port(port: u16) -> bool {
    port == 443
}

/// Where no endpoint may lead to.
const NOWHERE: [[u8; 4]; 7] = [
    [127, 0, 0, 1],
    [169, 254, 169, 254],
    [224, 0, 0, 1],
    [239, 1, 2, 3],
    [0, 0, 0, 0],
    [0, 1, 2, 3],
    [255, 255, 255, 255],
];

/// Makes objects.
#[derive(Debug)]
pub struct Workload {
    prng: Prng,
    over_capacity: bool,
    pub changes: u64,
}

impl Workload {
    /// With these numbers.
    pub fn new(prng: Prng, over_capacity: bool) -> Workload {
        Workload { prng, over_capacity, changes: 0 }
    }

    fn below(&mut self, n: usize) -> usize {
        self.prng.below(n as u64) as usize
    }

    fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    fn namespace(&mut self) -> String {
        let n = self.below(NAMESPACES.len());
        // Mostly one, so that references meet.
        NAMESPACES[if self.prng.chance(1, 2) { 0 } else { n }].to_string()
    }

    /// What there is at the start.
    pub fn seed(&mut self, api: &mut Api, now: Time) {
        for (name, controller, parameters) in [
            ("serval", CONTROLLER, false),
            ("other", "example.com/other", false),
            // Ours, but asks for what is not supported.
            ("tuned", CONTROLLER, true),
        ] {
            let class = Spec::Class { controller: controller.into(), parameters };
            api.apply((Kind::Class, String::new(), name.into()), class, now);
        }
        for name in &NAMESPACES[..3] {
            let spec = self.spec(Kind::Namespace, "", api);
            api.apply((Kind::Namespace, String::new(), name.to_string()), spec, now);
        }
        for kind in [Kind::Gateway, Kind::Service, Kind::Service, Kind::Slice, Kind::Slice] {
            self.put(kind, api, now);
        }
        for _ in 0..if self.over_capacity { 110 } else { 40 } {
            self.change(api, now);
        }
    }

    /// Makes a route that serves, mostly out of objects that are there: old ones are admitted.
    fn mend(&mut self, is_tls: bool, api: &mut Api, now: Time) {
        let mut places = Vec::new();
        for (key, object) in &api.objects {
            if let Spec::Gateway { class, listeners, wants } = &object.spec
                && class == "serval"
                && *wants == Wants::default()
                && (!is_tls || listeners.iter().filter(|l| is_tls_port(l.port)).count() > 1)
            {
                let plain = listeners.iter().filter(|l| strange::is_plain(listeners, l));
                places.extend(plain.map(|l| (key.clone(), l.clone())));
            }
        }
        places.retain(|(_, l)| {
            !matches!(l.allowed, Allowed::Label(..)) && l.certificates.is_empty() != is_tls
        });
        if places.is_empty() {
            return self.put_plain(is_tls, api, now);
        }
        let (gateway, listener) = self.of(&places);
        let own = gateway.1.clone();
        let is_near = |r: &&SecretRef| {
            r.namespace.is_none() && NAMESPACES[..SECRET_NAMESPACES].contains(&own.as_str())
        };
        for reference in listener.certificates.iter().filter(is_near) {
            let secret = Spec::Secret { serial: self.below(1 << 20) as u32, flaw: None };
            api.apply((Kind::Secret, own.clone(), reference.name.clone()), secret, now);
        }
        let mut key = |kind, name: &str| match self.live(kind, Some(&own), api) {
            Some(key) => key,
            None => (kind, own.clone(), name.to_string()),
        };
        let service = key(Kind::Service, "service0");
        let (slice, route) = (key(Kind::Slice, "slice0"), key(Kind::Route, "route0"));
        let Spec::Route { mut parents, rules, .. } = self.route(&own, api) else { return };
        parents.truncate(1);
        let (namespace, section) = (None, Some(listener.name));
        parents.push(Parent { namespace, name: gateway.2, section, port: None });
        let hosts = HOSTS.into_iter().filter(|h| matches_host(&listener.hostname, h));
        let hosts: Vec<&str> = hosts.collect();
        let hostnames = vec![self.of(&hosts).to_string()];
        let mut rules = rules;
        rules.truncate(1);
        for rule in &mut rules {
            rule.filters.redirect = None;
            rule.matches.iter_mut().for_each(|m| m.regex = false);
            rule.backends = vec![Backend {
                kind: "Service",
                namespace: None,
                name: service.2.clone(),
                port: 80,
                weight: 1,
                filters: self.backend_filters(&rule.matches),
            }];
        }
        rules.push(self.beside(&own, api));
        let slice_spec = self.slice_of(&service.2, 3);
        let ports = vec![Port::tcp("http", 80)];
        for (key, spec) in [
            (service, Spec::Service { ports }),
            (slice, slice_spec),
            (route, Spec::Route { parents, hostnames, rules }),
        ] {
            let count = api.objects.keys().filter(|k| k.0 == key.0).count() as u32;
            if api.objects.contains_key(&key) || count < self.most(key.0) {
                api.apply(key, spec, now);
            }
        }
    }

    /// A rule that may redirect, mostly where no other comes before it.
    fn beside(&mut self, own: &str, api: &Api) -> Rule {
        let mut beside = self.rule(own, api);
        beside.matches.iter_mut().for_each(|m| m.regex = false);
        if beside.matches.is_empty() || self.prng.chance(1, 2) {
            let path = self.of(&["/b", "/deep/er"]).to_string();
            beside.matches = vec![Match { path: Some((false, path)), ..Match::default() }];
        }
        if beside.filters.redirect.is_none() && self.prng.chance(1, 3) {
            beside.filters.redirect = Some(self.redirect(&beside.matches));
            (beside.filters.rewrite, beside.backends) = (None, Vec::new());
        }
        beside
    }

    /// Makes a Gateway with two plain listeners, of HTTPS or HTTP, out of one that is there.
    fn put_plain(&mut self, is_tls: bool, api: &mut Api, now: Time) {
        let own = self.of(&NAMESPACES[..SECRET_NAMESPACES]).to_string();
        let key = self.live(Kind::Gateway, Some(&own), api);
        let key = key.unwrap_or((Kind::Gateway, own, "gateway0".to_string()));
        let count = api.objects.keys().filter(|k| k.0 == Kind::Gateway).count() as u32;
        if !api.objects.contains_key(&key) && count >= self.most(Kind::Gateway) {
            return;
        }
        let (port, protocol) = if is_tls { (443, "HTTPS") } else { (80, "HTTP") };
        let mut certificates = vec![SecretRef { namespace: None, name: "secret0".to_string() }];
        certificates.retain(|_| is_tls);
        let hostnames = [self.of(&["", "*.example.com"]), self.of(&["a.example.com", "other.org"])];
        let listener = |(index, hostname): (usize, &str)| Listener {
            name: format!("l{index}"),
            port,
            protocol,
            hostname: hostname.to_string(),
            allowed: Allowed::All,
            kinds: Vec::new(),
            certificates: certificates.clone(),
        };
        let listeners = hostnames.into_iter().enumerate().map(listener).collect();
        let wants = Wants::default();
        api.apply(key, Spec::Gateway { class: "serval".into(), listeners, wants }, now);
    }

    /// Now and then another pair in a Secret of a Gateway's own namespace, or one that cannot be
    /// used where there is a good one.
    pub fn rotate(&mut self, api: &mut Api, now: Time) {
        if !self.prng.chance(1, 8) {
            return;
        }
        let mut keys = Vec::new();
        for (key, object) in &api.objects {
            let Spec::Gateway { listeners, .. } = &object.spec else { continue };
            let refs = listeners.iter().flat_map(|l| &l.certificates);
            let own = refs.filter(|r| r.namespace.is_none());
            keys.extend(own.map(|r| (Kind::Secret, key.1.clone(), r.name.clone())));
        }
        keys.retain(|key| NAMESPACES[..SECRET_NAMESPACES].contains(&key.1.as_str()));
        if keys.is_empty() {
            return self.put_plain(true, api, now);
        }
        let key = self.of(&keys);
        let before = api.objects.get(&key).map(|o| o.spec.clone());
        let is_good = matches!(before, Some(Spec::Secret { flaw: None, .. }));
        let flaw = self.of(&Flaw::ALL);
        let flaw = Some(flaw).filter(|_| is_good && self.prng.chance(2, 3));
        if self.prng.chance(1, 6) {
            // Another object of the same name.
            api.delete(&key);
        }
        let serial = self.below(1 << 20) as u32;
        api.apply(key, Spec::Secret { serial, flaw }, now);
    }

    /// The last changes: mostly something is served over HTTPS in the end.
    pub fn finish(&mut self, api: &mut Api, now: Time) {
        self.ask_too_much(api, now);
        for _ in 0..6 {
            let table = l1::wanted(api, Pairs::default());
            let mut healthy = table.rules.iter().filter(|r| target::is_healthy(r));
            if !healthy.any(|r| target::is_secure(&table, r)) {
                self.mend(true, api, now);
            }
        }
        self.make_room(api);
        for key in api.huge() {
            api.annotate(&key, false);
        }
    }

    /// A route that is served may get what is not supported, so that its status names a field.
    fn ask_too_much(&mut self, api: &mut Api, now: Time) {
        let served = l1::admitted(api).into_iter().filter(|o| o.key.0 == Kind::Route);
        let served: Vec<_> = served.collect();
        if served.is_empty() || !self.prng.chance(1, 2) {
            return;
        }
        let route = self.of(&served);
        let mut spec = route.spec.clone();
        let Spec::Route { rules, .. } = &mut spec else { return };
        let headers = vec![("x-kind".to_string(), "r.*".to_string())];
        rules[0].matches = vec![Match { headers, regex: true, ..Match::default() }];
        api.apply(route.key.clone(), spec, now);
    }

    /// The last route that is admitted goes, where another one waits for its place.
    fn make_room(&mut self, api: &mut Api) {
        let admitted = l1::admitted(api).into_iter().filter(|o| o.key.0 == Kind::Route);
        let admitted: Vec<Key> = admitted.map(|o| o.key.clone()).collect();
        let routes = api.objects.keys().filter(|k| k.0 == Kind::Route).count();
        if let (Some(last), true) = (admitted.last(), routes > admitted.len())
            && self.prng.chance(1, 2)
        {
            api.delete(last);
        }
    }

    /// Makes a Secret that is served unusable.
    pub fn spoil(&mut self, api: &mut Api, now: Time) {
        let table = l1::wanted(api, Pairs::default());
        if !table.certificates.is_empty() {
            let name = self.of(&table.certificates).name;
            let (namespace, name) = name.split_once('/').expect("namespace/name");
            let flaw = Some(self.of(&Flaw::ALL));
            let key = (Kind::Secret, namespace.to_string(), name.to_string());
            api.apply(key, Spec::Secret { serial: 0, flaw }, now);
        }
    }

    /// One change.
    pub fn change(&mut self, api: &mut Api, now: Time) {
        self.changes += 1;
        let table = l1::wanted(api, Pairs::default());
        let healthy: Vec<&ServedRule> =
            table.rules.iter().filter(|r| target::is_healthy(r)).collect();
        if !healthy.iter().any(|r| target::is_secure(&table, r)) && self.prng.chance(1, 2) {
            return self.mend(true, api, now);
        }
        if healthy.len() < SERVED && self.prng.chance(1, 2) {
            return self.mend(false, api, now);
        }
        if self.prng.chance(1, 4) {
            return self.retouch(api, now);
        }
        if self.prng.chance(1, 12) {
            return self.replace(api, now);
        }
        if self.prng.chance(1, 40) {
            return self.annotate(api);
        }
        let kind = self.of(&[
            Kind::Gateway,
            Kind::Route,
            Kind::Route,
            Kind::Route,
            Kind::Route,
            Kind::Service,
            Kind::Service,
            Kind::Slice,
            Kind::Slice,
            Kind::Slice,
            Kind::Secret,
            Kind::Secret,
            Kind::Grant,
            Kind::Grant,
            Kind::Namespace,
        ]);
        let count = api.objects.keys().filter(|k| k.0 == kind).count() as u32;
        let most = self.most(kind);
        if self.prng.chance(1, 5) || count >= most && self.prng.chance(1, 2) {
            let fits = |k: &&Key| k.0 == kind && k.1 != SERVICE.0;
            let keys: Vec<Key> = api.objects.keys().filter(fits).cloned().collect();
            let first = kind == Kind::Gateway && count <= 1;
            if !keys.is_empty() && !first {
                let key = self.of(&keys);
                api.delete(&key);
            }
            return;
        }
        self.put(kind, api, now);
    }

    /// Changes what a rule does with requests, or where its route is attached, and where its
    /// endpoints are, and nothing else: who is on the way meanwhile is served as before, or as
    /// after.
    fn retouch(&mut self, api: &mut Api, now: Time) {
        let Some(key) = self.live(Kind::Route, None, api) else { return };
        let Some(Spec::Route { mut parents, hostnames, mut rules }) =
            api.objects.get(&key).map(|o| o.spec.clone())
        else {
            return;
        };
        let index = self.below(rules.len());
        let rule = &mut rules[index];
        let (filters, timeouts) = (self.filters(&rule.matches), self.timeouts());
        let value = self.of(&["one", "two", "three"]).to_string();
        if self.prng.chance(1, 3) {
            sometimes("a route is attached elsewhere");
            if let Spec::Route { parents: others, .. } = self.route(&key.1, api) {
                parents = others;
            }
        } else if rule.filters.redirect.is_none() && filters.redirect.is_none() {
            match self.below(5) {
                0 => rule.timeouts = timeouts,
                2 => rule.filters.request = filters.request,
                1 => rule.filters.rewrite = filters.rewrite,
                _ => rule.filters.response = Some(Edit::Set(value)),
            }
            if self.prng.chance(1, 4) {
                let own = self.backend_filters(&rule.matches);
                if let Some(backend) = rule.backends.first_mut() {
                    backend.filters = own;
                }
            }
        }
        for backend in rules[index].backends.clone() {
            let namespace = backend.namespace.unwrap_or_else(|| key.1.clone());
            let is_its = |o: &&std::rc::Rc<Object>| {
                o.key.1 == namespace
                    && matches!(&o.spec, Spec::Slice { service, .. } if *service == backend.name)
            };
            let slices: Vec<Key> =
                api.objects.values().filter(is_its).map(|o| o.key.clone()).collect();
            for slice in slices {
                let spec = self.slice_of(&backend.name, 2);
                api.apply(slice, spec, now);
            }
        }
        api.apply(key, Spec::Route { parents, hostnames, rules }, now);
    }

    /// An object goes, and another one gets its name at once, as by `kubectl replace --force`.
    fn replace(&mut self, api: &mut Api, now: Time) {
        let kind = self.of(&[Kind::Gateway, Kind::Route, Kind::Route]);
        let Some(key) = self.live(kind, None, api) else { return };
        let Some(spec) = api.objects.get(&key).map(|o| o.spec.clone()) else { return };
        sometimes("an object is made anew");
        api.delete(&key);
        api.apply(key, spec, now);
    }

    /// Somebody writes a novel into an annotation; who did so before takes theirs out.
    fn annotate(&mut self, api: &mut Api) {
        let before = api.huge();
        for key in before {
            api.annotate(&key, false);
        }
        let kind = self.of(&[Kind::Gateway, Kind::Route, Kind::Route, Kind::Service, Kind::Slice]);
        if let Some(key) = self.live(kind, None, api).filter(|key| key.1 != SERVICE.0) {
            api.annotate(&key, true);
        }
    }

    /// Creates an object, or changes it.
    fn put(&mut self, kind: Kind, api: &mut Api, now: Time) {
        let names = match kind {
            Kind::Gateway => 4,
            Kind::Route => 10,
            Kind::Service => SERVICES,
            Kind::Slice => 8,
            Kind::Secret => 2,
            _ => 3,
        };
        let name = format!("{}{}", format!("{kind:?}").to_lowercase(), self.below(names));
        let (namespace, name) = match kind {
            Kind::Namespace => (String::new(), self.of(&NAMESPACES).to_string()),
            Kind::Slice => (self.place_of(Kind::Service, api), name),
            // Never more than are admitted.
            Kind::Secret => (self.of(&NAMESPACES[..SECRET_NAMESPACES]).to_string(), name),
            _ => (self.namespace(), name),
        };
        let count = api.objects.keys().filter(|k| k.0 == kind).count() as u32;
        let key = (kind, namespace.clone(), name);
        if !api.objects.contains_key(&key) && count >= self.most(kind) {
            return;
        }
        let spec = self.spec(kind, &namespace, api);
        api.apply(key, spec, now);
    }

    /// Objects of a kind that there may be.
    fn most(&self, kind: Kind) -> u32 {
        ADMITTED[kind as usize] + if self.over_capacity { 4 } else { 0 }
    }

    /// Mostly one that is there: its key. Sometimes none.
    fn live(&mut self, kind: Kind, namespace: Option<&str>, api: &Api) -> Option<Key> {
        let fits = |k: &&Key| k.0 == kind && namespace.is_none_or(|n| n == k.1);
        let keys: Vec<Key> = api.objects.keys().filter(fits).cloned().collect();
        if keys.is_empty() || self.prng.chance(1, 8) { None } else { Some(self.of(&keys)) }
    }

    /// The namespace of something that is there, or any.
    fn place_of(&mut self, kind: Kind, api: &Api) -> String {
        match self.live(kind, None, api) {
            Some(key) => key.1,
            None => self.namespace(),
        }
    }

    fn spec(&mut self, kind: Kind, namespace: &str, api: &Api) -> Spec {
        match kind {
            Kind::Gateway => self.gateway(namespace, api),
            Kind::Route => self.route(namespace, api),
            Kind::Service => Spec::Service { ports: self.ports() },
            Kind::Slice => self.slice(namespace, api),
            Kind::Secret => {
                let flaw = self.of(&Flaw::ALL);
                let flaw = Some(flaw).filter(|_| self.prng.chance(1, 3));
                Spec::Secret { serial: self.below(1 << 20) as u32, flaw }
            }
            Kind::Grant if self.prng.chance(1, 2) => {
                let to = format!("service{}", self.below(SERVICES));
                let to = Some(to).filter(|_| self.prng.chance(1, 2));
                Spec::Grant { of: Referrer::Routes, from: self.place_of(Kind::Route, api), to }
            }
            Kind::Grant => {
                let to = format!("secret{}", self.below(2));
                let to = Some(to).filter(|_| self.prng.chance(1, 2));
                Spec::Grant { of: Referrer::Gateways, from: self.place_of(Kind::Gateway, api), to }
            }
            _ => {
                let tier = self.of(&["front", "front", "back", ""]).to_string();
                let labels = vec![("tier".to_string(), tier)];
                Spec::Namespace { labels: labels.into_iter().filter(|l| !l.1.is_empty()).collect() }
            }
        }
    }

    /// certificateRefs of a listener; mostly to Secrets that are there.
    fn certificates(&mut self, own: &str, most: u64, api: &Api) -> Vec<SecretRef> {
        let mut refs = Vec::new();
        for _ in 0..self.prng.range(1, most) {
            let place = if self.prng.chance(1, 3) { None } else { Some(own) };
            let (namespace, name) = match self.live(Kind::Secret, place, api) {
                Some((_, namespace, name)) => (namespace, name),
                None => (own.to_string(), format!("secret{}", self.below(2))),
            };
            refs.push(SecretRef { namespace: Some(namespace).filter(|n| n != own), name });
        }
        refs
    }

    fn gateway(&mut self, own: &str, api: &Api) -> Spec {
        let mut listeners: Vec<Listener> = Vec::new();
        // All Gateways' together fit a Snapshot.
        let mut refs_left = 3;
        let mut ports: Vec<u16> = Vec::new();
        for index in 0..self.prng.range(1, 3) {
            let wild = self.of(&["*.example.com", "*.example.com", "*.y.example.com"]);
            let hostname = self.of(&["", "", wild, "a.example.com", "other.org"]);
            let (hostname, port) = (hostname.to_string(), self.of(&[80, 80, 8080, 443, 443]));
            // At most two ports, so that all binds fit a Snapshot.
            let is_third = ports.len() > 1 && !ports.contains(&port);
            if is_third || listeners.iter().any(|l| l.hostname == hostname && l.port == port) {
                continue;
            }
            ports.push(port);
            ports.dedup();
            let allowed = match self.below(4) {
                0 => Allowed::Same,
                1 => Allowed::Label("tier".into(), "front".into()),
                _ => Allowed::All,
            };
            let certificates = match is_tls_port(port) {
                true if refs_left == 0 => continue,
                true => self.certificates(own, refs_left.min(2), api),
                false => Vec::new(),
            };
            refs_left -= certificates.len() as u64;
            listeners.push(Listener {
                name: format!("l{index}"),
                port,
                protocol: if is_tls_port(port) { "HTTPS" } else { "HTTP" },
                hostname,
                allowed,
                kinds: self.kinds(),
                certificates,
            });
        }
        self.add_intruder(&mut listeners, refs_left);
        let class = if self.prng.chance(1, 10) { self.of(&["other", "tuned"]) } else { "serval" };
        Spec::Gateway { class: class.into(), listeners, wants: self.wants(api.setup.in_nodes) }
    }

    fn route(&mut self, own: &str, api: &Api) -> Spec {
        let mut parents = Vec::new();
        let sections = self.prng.range(0, 2);
        for _ in 0..sections.max(1) {
            let (namespace, name) = match self.live(Kind::Gateway, None, api) {
                Some((_, namespace, name)) => (namespace, name),
                None => (self.namespace(), format!("gateway{}", self.below(4))),
            };
            let namespace = Some(namespace).filter(|n| n != own || self.prng.chance(1, 2));
            let section = format!("l{}", self.below(3));
            let parent = Parent {
                namespace,
                name,
                section: Some(section).filter(|_| sections > 0),
                port: Some(80).filter(|_| self.prng.chance(1, 10)),
            };
            if !parents.contains(&parent) {
                parents.push(parent);
            }
        }
        // At most four hosts of a route, so that a full store fits a Snapshot.
        let most = if sections > 0 { 3 } else { 2 };
        let mut hostnames: Vec<String> = Vec::new();
        for _ in 0..self.below(most) {
            let wild = self.of(&["*.example.com", "*.y.example.com", "*.org"]);
            let host = self.of(&HOSTS);
            let host = if self.prng.chance(1, 3) { wild } else { host };
            if !hostnames.iter().any(|h| h == host) {
                hostnames.push(host.to_string());
            }
        }
        let rules = (0..self.prng.range(1, 2)).map(|_| self.rule(own, api)).collect();
        Spec::Route { parents, hostnames, rules }
    }

    fn rule(&mut self, own: &str, api: &Api) -> Rule {
        let mut matches = Vec::new();
        for _ in 0..self.below(3) {
            let mut m = Match::default();
            if self.prng.chance(4, 5) {
                let path = self.of(&["/", "/a", "/a/", "/a/b", "/b", "/deep/er", "/ab"]);
                m.path = Some((self.prng.chance(1, 3), path.to_string()));
            }
            if self.prng.chance(1, 5) {
                m.method = Some(self.of(&["GET", "POST"]));
            }
            if self.prng.chance(1, 5) {
                let value = self.of(&["red", "blue", "red, blue", "blue, red"]);
                m.headers.push(("x-kind".into(), value.into()));
                m.regex = self.prng.chance(1, 16);
            }
            // One condition a match: a full store must fit a Snapshot.
            if m.headers.is_empty() && self.prng.chance(1, 5) {
                m.queries.push(("v".into(), self.of(&["1", "2"]).into()));
            }
            matches.push(m);
        }
        let mut backends = Vec::new();
        for place_of in 0..self.prng.range(1, 2) {
            let place = if self.prng.chance(1, 3) { None } else { Some(own) };
            let (namespace, name) = match self.live(Kind::Service, place, api) {
                Some((_, namespace, name)) => (namespace, name),
                None => (self.namespace(), format!("service{}", self.below(SERVICES))),
            };
            // One of a rule's: all filters fit a Snapshot.
            let filters = match place_of {
                0 => self.backend_filters(&matches),
                _ => Filters::default(),
            };
            backends.push(Backend {
                kind: if self.prng.chance(1, 30) { "ConfigMap" } else { "Service" },
                namespace: Some(namespace).filter(|n| n != own),
                name,
                port: self.of(&[80, 80, 80, 81]),
                weight: self.of(&[1, 1, 2, 0]),
                filters,
            });
        }
        let filters = self.filters(&matches);
        if filters.redirect.is_some() || self.prng.chance(1, 24) {
            backends.clear();
        }
        let timeouts = self.timeouts();
        Rule { matches, backends, filters, timeouts }
    }

    /// Shorter and longer than what a router has of its own; in half of the rules none.
    fn timeouts(&mut self) -> Timeouts {
        if self.prng.chance(1, 2) {
            return Timeouts::default();
        }
        let request = self.of(&[None, Some(0), Some(1500), Some(4000), Some(11_000), Some(61_500)]);
        let backend = self.of(&[None, None, Some(0), Some(1500), Some(4000), Some(11_000)]);
        // The CRD's rule.
        let fits = |ms: &u32| request.is_none_or(|whole| whole == 0 || *ms <= whole);
        Timeouts { request, backend: backend.filter(fits) }
    }

    fn edit(&mut self) -> Option<Edit> {
        let value = self.of(&["one", "two"]).to_string();
        match self.below(8) {
            0 => Some(Edit::Set(value)),
            1 => Some(Edit::Add(value)),
            2 => Some(Edit::Remove),
            _ => None,
        }
    }

    /// What takes the place of a path: its whole, or the prefix of the rule's one match.
    fn new_path(&mut self, matches: &[Match]) -> Option<NewPath> {
        let one_prefix = matches!(matches, [Match { path: Some((false, _)), .. }]);
        match self.below(4) {
            0 => Some(NewPath::Full(self.of(&["/", "/new", "/new/er/"]).to_string())),
            1 | 2 if one_prefix => {
                Some(NewPath::Prefix(self.of(&["", "/", "/new", "/new/"]).to_string()))
            }
            _ => None,
        }
    }

    fn redirect(&mut self, matches: &[Match]) -> Redirect {
        Redirect {
            scheme: self.of(&[None, None, Some("http"), Some("https")]).map(str::to_string),
            hostname: self.of(&[None, Some("else.org")]).map(str::to_string),
            port: self.of(&[None, None, Some(80), Some(443), Some(8080)]),
            status: self.of(&[301, 302, 303, 307, 308]),
            path: self.new_path(matches),
        }
    }

    fn filters(&mut self, matches: &[Match]) -> Filters {
        let (request, response) = (self.edit(), self.edit());
        let mut filters = Filters { request, response, ..Filters::default() };
        match self.below(4) {
            0 => {
                filters.redirect = Some(self.redirect(matches));
            }
            1 | 2 => {
                let hostname =
                    self.of(&[None, Some("inner.svc"), Some("x.net")]).map(str::to_string);
                let path = self.new_path(matches);
                let does_something = hostname.is_some() || path.is_some();
                filters.rewrite = does_something.then_some(Rewrite { hostname, path });
            }
            _ => {}
        }
        filters
    }

    fn slice(&mut self, own: &str, api: &Api) -> Spec {
        let service = match self.live(Kind::Service, Some(own), api) {
            Some((_, _, name)) => name["service".len()..].parse().expect("serviceN"),
            None => self.below(SERVICES),
        };
        let most = self.prng.range(0, 3);
        let mut spec = self.slice_of(&format!("service{service}"), most);
        if self.prng.chance(1, 8) {
            self.make_hostile(&mut spec);
        }
        spec
    }

    /// Lets a slice lead to where a tenant must not, among its own endpoints or in place of them.
    fn make_hostile(&mut self, spec: &mut Spec) {
        let Spec::Slice { ports, endpoints, .. } = spec else { return };
        let address = if self.prng.chance(1, 2) {
            // Where routers listen themselves.
            let IpAddr::V4(node) = admin_address(self.below(2), self.below(2) as u8).ip() else {
                unreachable!("nodes have IPv4")
            };
            let port = self.of(&[80, 80, 8080, 443, ADMIN_PORT]);
            *ports = vec![Port::tcp("http", port), Port::tcp("alt", 80)];
            if self.prng.chance(1, 2) { node } else { self.of(&POOL) }
        } else {
            Ipv4Addr::from(self.of(&NOWHERE))
        };
        sometimes("a slice leads astray");
        if self.prng.chance(1, 2) {
            endpoints.clear();
        }
        let (ready, serving, terminating) = (Some(true), Some(true), Some(false));
        endpoints.push(Endpoint { address, ready, serving, terminating });
    }

    /// Endpoints of a Service.
    fn slice_of(&mut self, service: &str, most: u64) -> Spec {
        let ports = self.slice_ports();
        let number: u8 = service["service".len()..].parse().expect("serviceN");
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for _ in 0..most {
            let [a, b] = BACKEND_NET;
            let address = Ipv4Addr::new(a, b, number, 1 + self.below(4) as u8);
            let endpoint = self.endpoint(address);
            if !endpoints.iter().any(|e| e.address == address) {
                endpoints.push(endpoint);
            }
        }
        Spec::Slice { service: service.to_string(), ports, endpoints }
    }
}
