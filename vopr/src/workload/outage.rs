//! What people and controllers do to a route whose endpoints went: one edit, and other endpoints.

use super::*;
use crate::model::table::{Served, intersect};
use std::rc::Rc;

/// Addresses of a Service's pods end with 1 to this.
const PODS: u8 = 8;

/// The route of a rule `namespace/name/number`, and the number.
fn route_of(rule: &str) -> (Key, usize) {
    let mut parts = rule.split('/').map(str::to_string);
    let mut part = || parts.next().expect("three parts");
    ((Kind::Route, part(), part()), part().parse().expect("a number"))
}

impl Workload {
    /// One edit of a served rule's route: it moves to another listener, or what it does with
    /// headers changes. Whether there was one.
    pub fn edit_served(
        &mut self,
        served: &ServedRule,
        listeners: &[Served],
        api: &mut Api,
        now: Time,
    ) -> bool {
        let (key, number) = route_of(&served.name);
        let route = api.objects.get(&key).map(|o| o.spec.clone());
        let Some(Spec::Route { mut parents, hostnames, mut rules }) = route else { return false };
        let Some(rule) = rules.get_mut(number) else { return false };
        let value = self.of(&["four", "five", "six"]).to_string();
        let moved = self.prng.chance(1, 2).then(|| self.moved(served, listeners, &key.1, api));
        if let Some(moved) = moved.flatten() {
            sometimes("a route moves to another listener");
            parents = moved;
        } else if self.prng.chance(2, 3) {
            rule.filters.response = Some(Edit::Set(value));
        } else {
            rule.filters.request = Some(Edit::Set(value));
        }
        api.apply(key, Spec::Route { parents, hostnames, rules }, now);
        true
    }

    /// The parents of a rule's route with one listener in the place of another.
    fn moved(
        &mut self,
        served: &ServedRule,
        listeners: &[Served],
        own: &str,
        api: &Api,
    ) -> Option<Vec<Parent>> {
        let mut places: Vec<&(String, String)> = served.hosts.iter().map(|h| &h.0).collect();
        places.dedup();
        let left = self.of(&places);
        let hosts = || served.hosts.iter().filter(|h| h.0 == *left).map(|h| &h.1);
        let may = |to: &&Served| {
            let is_new = !places.iter().any(|p| (&p.0, &p.1) == (&to.gateway, &to.section));
            let allows = |l: &Listener| match &l.allowed {
                Allowed::All => true,
                Allowed::Same => to.gateway.split('/').next() == Some(own),
                Allowed::Label(..) => false,
            };
            let is_open = api.objects.values().any(|o| match &o.spec {
                Spec::Gateway { listeners, .. } => {
                    to.gateway == format!("{}/{}", o.key.1, o.key.2)
                        && listeners.iter().any(|l| l.name == to.section && allows(l))
                }
                _ => false,
            });
            is_new && is_open && hosts().all(|host| intersect(host, &to.hostname))
        };
        let free: Vec<&Served> = listeners.iter().filter(may).collect();
        if free.is_empty() {
            return None;
        }
        let to = self.of(&free);
        let parents = places.iter().map(|&place| {
            let (gateway, section) =
                if place == left { (&to.gateway, &to.section) } else { (&place.0, &place.1) };
            let (namespace, name) = gateway.split_once('/').expect("namespace/name");
            Parent {
                namespace: Some(namespace.to_string()).filter(|n| n != own),
                name: name.to_string(),
                section: Some(section.clone()),
                port: None,
            }
        });
        Some(parents.collect())
    }

    /// The Services of a rule get endpoints at other addresses than these.
    pub fn respawn(&mut self, rule: &str, dead: &[SocketAddr], api: &mut Api, now: Time) {
        let (key, number) = route_of(rule);
        let Some(Spec::Route { rules, .. }) = api.objects.get(&key).map(|o| o.spec.clone()) else {
            return;
        };
        for backend in rules.get(number).iter().flat_map(|r| &r.backends) {
            let namespace = backend.namespace.as_ref().unwrap_or(&key.1);
            let is_its = |o: &&Rc<Object>| {
                o.key.1 == *namespace
                    && matches!(&o.spec, Spec::Slice { service, .. } if *service == backend.name)
            };
            let slices: Vec<Rc<Object>> = api.objects.values().filter(is_its).cloned().collect();
            for slice in slices {
                let Spec::Slice { service, ports, .. } = &slice.spec else { continue };
                let (service, ports) = (service.clone(), ports.clone());
                let endpoints = self.others(&service, dead);
                api.apply(slice.key.clone(), Spec::Slice { service, ports, endpoints }, now);
            }
        }
    }

    /// One or two endpoints of a Service that are none of these.
    fn others(&mut self, service: &str, dead: &[SocketAddr]) -> Vec<Endpoint> {
        let number: u8 = service["service".len()..].parse().expect("serviceN");
        let [a, b] = BACKEND_NET;
        let all = (1..=PODS).map(|pod| Ipv4Addr::new(a, b, number, pod));
        let mut free: Vec<Ipv4Addr> =
            all.filter(|ip| !dead.iter().any(|d| d.ip() == IpAddr::V4(*ip))).collect();
        let mut endpoints = Vec::new();
        for _ in 0..self.prng.range(1, 2).min(free.len() as u64) {
            let address = free.swap_remove(self.below(free.len()));
            let (ready, serving, terminating) = (Some(true), Some(true), Some(false));
            endpoints.push(Endpoint { address, ready, serving, terminating });
        }
        endpoints
    }
}
