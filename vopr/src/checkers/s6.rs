//! S6: each thing that a published Snapshot refers to was allowed by what its controller had been
//! told: a backend or certificate of another namespace by a ReferenceGrant there, the attachment of
//! a route by parentRef, allowedRoutes and hostnames. And an answer of a backend comes by a rule of
//! the most specific listener.
//!
//! Written from the specification's text beside the model, whose flaws it must not share: it looks
//! at the objects as told and the Snapshot as published, one reference at a time.

use crate::ledger::{Arrival, Request};
use crate::model::object::*;
use crate::network::{Network, Time};
use crate::router::Router;
use crate::tables::Tables;
use serval::config::Snapshot;
use serval::config::snapshot::POOL_INVALID;
use std::rc::Rc;

/// What a controller was told, admitted or not.
type Told<'t> = &'t [Rc<Object>];

/// A Snapshot was published by a controller that was told this.
pub fn published(snapshot: &Snapshot, told: Told<'_>, net: &mut Network) {
    let mut wrong = Vec::new();
    for listener in snapshot.listeners.as_slice() {
        let text = |t| snapshot.text.get(t);
        let place = (text(listener.gateway), text(listener.section));
        for &index in snapshot.certificate_refs.span(listener.certificates) {
            let name = text(snapshot.certificates[index].name);
            wrong.extend(certificate(told, place, name).err());
        }
    }
    for route in snapshot.routes.as_slice() {
        let text = |t| snapshot.text.get(t);
        let name = text(route.name);
        for host in snapshot.hosts.span(route.hosts) {
            let listener = &snapshot.listeners[host.listener];
            let place = (text(listener.gateway), text(listener.section));
            wrong.extend(attachment(told, name, place, text(host.hostname)).err());
        }
        let backends = snapshot.backends.span(route.backends).iter();
        for backend in backends.filter(|b| b.pool != POOL_INVALID) {
            wrong.extend(service(told, name, text(snapshot.pools[backend.pool].name)).err());
        }
    }
    let (epoch, generation) = (snapshot.identity.epoch, snapshot.identity.generation);
    for wrong in wrong {
        net.trace.violated(net.now, "S6", format!("{epoch}.{generation}: {wrong}"));
    }
}

fn find<'t>(told: Told<'t>, kind: Kind, namespace: &str, name: &str) -> Option<&'t Object> {
    let is_it = |o: &&Rc<Object>| o.key.0 == kind && o.key.1 == namespace && o.key.2 == name;
    told.iter().find(is_it).map(Rc::as_ref)
}

/// ReferenceGrant: one in the namespace referred to names who refers from where, and to what.
fn granted(told: Told<'_>, who: Referrer, from: &str, (to, name): (&str, &str)) -> bool {
    told.iter().filter(|o| o.key.0 == Kind::Grant && o.key.1 == to).any(|grant| {
        let Spec::Grant { of, from: granted, to: named } = &grant.spec else { return false };
        *of == who && granted == from && named.as_deref().unwrap_or(name) == name
    })
}

/// A listener has the certificate of a Secret.
fn certificate(
    told: Told<'_>,
    (gateway, section): (&str, &str),
    secret: &str,
) -> Result<(), String> {
    let what = format!("listener {gateway} {section} has the certificate of {secret}");
    let (own, name) = gateway.split_once('/').unwrap_or_default();
    let (namespace, secret) = secret.split_once('/').unwrap_or_default();
    let listener = listener(told, own, name, section).ok_or(format!("{what}, but is not told"))?;
    let names =
        |r: &SecretRef| r.name == secret && r.namespace.as_deref().unwrap_or(own) == namespace;
    if !listener.certificates.iter().any(names) {
        return Err(format!("{what}, which it does not refer to"));
    }
    if namespace != own && !granted(told, Referrer::Gateways, own, (namespace, secret)) {
        return Err(format!("{what} without a ReferenceGrant in {namespace}"));
    }
    Ok(())
}

fn listener<'t>(
    told: Told<'t>,
    namespace: &str,
    gateway: &str,
    section: &str,
) -> Option<&'t Listener> {
    match &find(told, Kind::Gateway, namespace, gateway)?.spec {
        Spec::Gateway { listeners, .. } => listeners.iter().find(|l| l.name == section),
        _ => None,
    }
}

/// The route of a Snapshot's rule `namespace/name/number`: namespace, parents, hostnames, the rule.
fn route<'t>(
    told: Told<'t>,
    rule: &str,
) -> Option<(&'t str, &'t [Parent], &'t [String], &'t Rule)> {
    let mut parts = rule.split('/');
    let route = find(told, Kind::Route, parts.next()?, parts.next()?)?;
    let Spec::Route { parents, hostnames, rules } = &route.spec else { return None };
    let rule = rules.get(parts.next()?.parse::<usize>().ok()?)?;
    Some((&route.key.1, parents, hostnames, rule))
}

/// A rule goes to a Service's pool.
fn service(told: Told<'_>, rule: &str, pool: &str) -> Result<(), String> {
    let what = format!("rule {rule} has the backend {pool}");
    let Some((own, .., rule)) = route(told, rule) else {
        return Err(format!("{what}, but is not told"));
    };
    let mut parts = pool.split('/');
    let (namespace, name) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let port = parts.next().and_then(|p| p.parse::<u16>().ok());
    let names = |b: &Backend| {
        b.name == name && Some(b.port) == port && b.namespace.as_deref().unwrap_or(own) == namespace
    };
    if !rule.backends.iter().any(names) {
        return Err(format!("{what}, which it does not refer to"));
    }
    if namespace != own && !granted(told, Referrer::Routes, own, (namespace, name)) {
        return Err(format!("{what} without a ReferenceGrant in {namespace}"));
    }
    Ok(())
}

/// A rule is attached to a listener under a hostname of its route.
fn attachment(
    told: Told<'_>,
    rule: &str,
    (gateway, section): (&str, &str),
    hostname: &str,
) -> Result<(), String> {
    let what = format!("rule {rule} is attached to {gateway} {section} as {hostname:?}");
    let (namespace, name) = gateway.split_once('/').unwrap_or_default();
    let to = listener(told, namespace, name, section);
    let (Some((own, parents, hostnames, _)), Some(to)) = (route(told, rule), to) else {
        return Err(format!("{what}, but one of them is not told"));
    };
    let names = |p: &Parent| {
        p.name == name
            && p.namespace.as_deref().unwrap_or(own) == namespace
            && p.section.as_deref().unwrap_or(section) == section
            && p.port.unwrap_or(to.port) == to.port
    };
    if !parents.iter().any(names) {
        return Err(format!("{what}, which no parentRef says"));
    }
    let is_allowed = match &to.allowed {
        Allowed::All => true,
        Allowed::Same => own == namespace,
        Allowed::Label(key, value) => match find(told, Kind::Namespace, "", own).map(|n| &n.spec) {
            Some(Spec::Namespace { labels }) => labels.iter().any(|(k, v)| k == key && v == value),
            _ => false,
        },
    };
    if !is_allowed {
        return Err(format!("{what}, whose allowedRoutes are {:?}", to.allowed));
    }
    let is_own = match hostname {
        "" => hostnames.is_empty(),
        hostname => hostnames.iter().any(|h| h == hostname),
    };
    if !is_own || !meet(hostname, &to.hostname) {
        let listens = &to.hostname;
        return Err(format!("{what}: the route has {hostnames:?}, the listener {listens:?}"));
    }
    Ok(())
}

/// Whether some host is in both hostnames, label by label from the right. A wildcard stands for one
/// label or more.
fn meet(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.rsplit('.'), b.rsplit('.'));
    loop {
        match (a.next(), b.next()) {
            (Some(""), _) | (_, Some("")) | (None, None) => return true,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => return true,
            (x, y) if x == y => {}
            _ => return false,
        }
    }
}

/// Whether a hostname takes a request for a host; without a host only one for all does.
fn takes(hostname: &str, host: &str) -> bool {
    if host.is_empty() { hostname.is_empty() } else { meet(hostname, host) }
}

/// Listener isolation: what a backend gets is by a rule that is attached to the listener which is
/// the most specific for the request's host, in some generation that was served meanwhile.
pub fn arrived(
    arrival: &Arrival,
    request: &Request,
    router: &Router,
    tables: &Tables,
    net: &mut Network,
) {
    let backend = &arrival.backend;
    let mut seen = Vec::new();
    for (at, entry) in router.adopted.iter().enumerate() {
        let until = router.adopted.get(at + 1).map_or(Time::MAX, |next| next.0);
        let (Some(checksum), true) = (entry.1, until >= request.sent_at) else { continue };
        let Some(table) = tables.of(&checksum) else { return };
        let here = table.listeners.iter().filter(|l| l.binds.contains(&request.address));
        let here = here.filter(|l| takes(&l.hostname, &request.host));
        // One that says the host itself, or the longest wildcard, or any.
        let Some(listener) = here.max_by_key(|l| (l.hostname == request.host, l.hostname.len()))
        else {
            continue;
        };
        let place = (&listener.gateway, &listener.section);
        let attached = table.rules.iter().filter(|r| {
            r.hosts.iter().any(|((g, s), host)| (g, s) == place && takes(host, &request.host))
        });
        let mut pools = attached.flat_map(|r| &r.backends).filter_map(|b| b.0.as_ref());
        if pools.any(|pool| pool.iter().any(|a| a.to_string() == *backend)) {
            return;
        }
        seen.push(place.0.clone() + " " + place.1);
    }
    let (index, stamp, host) = (router.index, &request.stamp, &request.host);
    let text = format!(
        "router {index}: {stamp} for {host:?} at {} went to {backend}, which no rule has at its \
         listener {seen:?}",
        request.address
    );
    net.trace.violated(net.now, "S6", text);
}

#[cfg(test)]
mod tests {
    use super::meet;

    #[test]
    fn hostnames_that_meet() {
        for (a, b) in [("", "a.b"), ("a.b", "a.b"), ("*.b", "x.a.b"), ("*.a.b", "*.b")] {
            assert!(meet(a, b) && meet(b, a), "{a} {b}");
        }
        for (a, b) in
            [("a.b", "b"), ("*.b", "b"), ("*.a.b", "*.c.b"), ("*.b", "ab"), ("a.b", "c.b")]
        {
            assert!(!meet(a, b) && !meet(b, a), "{a} {b}");
        }
    }
}
