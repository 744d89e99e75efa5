//! HTTPRoutes into routes of the Snapshot: one per rule, oldest first.

use super::attach::{
    Attachment, hostnames_intersect, namespace_allowed, parent_key, route_intersects, selects,
};
use super::gateways::GatewayState;
use super::resolve::{PoolIndex, RefProblem, Resolver};
use super::{Settings, Work};
use crate::config::Snapshot;
use crate::config::snapshot::{Backend, Condition, Match, Route, RouteHost};
use crate::config::snapshot::{NO_FILTER, POOL_INVALID};
use crate::resource::Stores;
use crate::resource::http_route::{HttpRoute, NameValue, ParentRef, Rule};
use crate::stdx::{Full, Span, Table, Text};

/// Translates all routes, counting the attached ones at their listeners.
pub fn routes(stores: &Stores, settings: &Settings, work: &mut Work, out: &mut Snapshot) {
    work.overflowed.clear();
    for handle in stores.routes.by_age() {
        stores.routes.load(handle, &mut work.decoder.route, &mut work.decoder.scratch);
        let mark = Mark::of(out);
        let fits = translate(stores, settings, work, out).is_ok();
        if !fits {
            mark.undo(&mut work.pools, out);
        }
        count_attached(stores, work);
        work.overflowed.push(!fits).expect("as many as the store holds");
    }
}

/// The lengths of the tables before a route, to take it back whole.
struct Mark {
    routes: u32,
    hosts: u32,
    matches: u32,
    conditions: u32,
    backends: u32,
    filters: u32,
    edits: u32,
    pools: u32,
    upstreams: u32,
    text: u32,
}

impl Mark {
    fn of(out: &Snapshot) -> Mark {
        Mark {
            routes: out.routes.len(),
            hosts: out.hosts.len(),
            matches: out.matches.len(),
            conditions: out.conditions.len(),
            backends: out.backends.len(),
            filters: out.filters.len(),
            edits: out.edits.len(),
            pools: out.pools.len(),
            upstreams: out.upstreams.len(),
            text: out.text.len(),
        }
    }

    /// Nothing of the route is left: it takes no room, and nobody is led to its endpoints.
    fn undo(&self, pools: &mut PoolIndex, out: &mut Snapshot) {
        pools.forget_from(self.pools);
        out.pools.truncate(self.pools);
        out.upstreams.truncate(self.upstreams);
        out.text.truncate(self.text);
        out.routes.truncate(self.routes);
        out.hosts.truncate(self.hosts);
        out.matches.truncate(self.matches);
        out.conditions.truncate(self.conditions);
        out.backends.truncate(self.backends);
        out.filters.truncate(self.filters);
        out.edits.truncate(self.edits);
    }
}

fn translate(
    stores: &Stores,
    settings: &Settings,
    work: &mut Work,
    out: &mut Snapshot,
) -> Result<(), Full> {
    if !work.decoder.route.unsupported.is_empty() {
        return Ok(());
    }
    let hosts = add_hosts(stores, work, out)?;
    if hosts.len == 0 {
        return Ok(());
    }
    for index in 0..work.decoder.route.rules.len() {
        let rule = work.decoder.route.rules[index];
        let route = &work.decoder.route;
        let key = &route.meta.key;
        let name = out.text.push_fmt(format_args!("{key}/{index}"))?;
        let matches = add_matches(route, &rule, out)?;
        let backends = add_backends(stores, settings, work, &rule, out)?;
        // A filter that does not resolve must not be skipped: nothing of the rule is done.
        let filter = if rule.is_broken { NO_FILTER } else { rule.filter };
        let filter = add_filter(&work.decoder.route, filter, out)?;
        out.routes.push(Route {
            name,
            hosts,
            matches,
            backends,
            filter,
            request_timeout_ms: rule.request_timeout_ms,
            backend_timeout_ms: rule.backend_timeout_ms,
        })?;
    }
    Ok(())
}

/// The hostnames of the loaded route on each listener that serves it, without doubles.
fn add_hosts(stores: &Stores, work: &mut Work, out: &mut Snapshot) -> Result<Span, Full> {
    let start = out.hosts.len();
    for index in 0..work.decoder.route.parents.len() {
        let parent = work.decoder.route.parents[index];
        let mut attached = Table::<(u32, Text), 64>::new();
        attached_listeners(stores, work, &parent, |work, offset, state| {
            let listener = &work.decoder.gateway.listeners[offset];
            if let Some(index) = work.listeners[state.listeners.start + offset].index {
                // At most as many as a Gateway has listeners.
                let _ = attached.push((index, listener.hostname));
            }
        });
        let Work { decoder, .. } = work;
        for &(listener, hostname) in attached.as_slice() {
            let hostname = decoder.gateway.text.get(hostname);
            add_listener_hosts(&decoder.route, listener, hostname, start, out)?;
        }
    }
    Ok(out.hosts.span_from(start))
}

fn add_listener_hosts(
    route: &HttpRoute,
    listener: u32,
    listener_hostname: &str,
    start: u32,
    out: &mut Snapshot,
) -> Result<(), Full> {
    let all = [Text::EMPTY];
    let hostnames = if route.hostnames.is_empty() { &all[..] } else { route.hostnames.as_slice() };
    for &hostname in hostnames {
        let hostname = route.text.get(hostname);
        if !hostnames_intersect(hostname, listener_hostname) {
            continue;
        }
        let known = out.hosts.as_slice()[start as usize..]
            .iter()
            .any(|h| h.listener == listener && out.text.get(h.hostname) == hostname);
        if !known {
            let hostname = out.text.push(hostname)?;
            out.hosts.push(RouteHost { listener, hostname })?;
        }
    }
    Ok(())
}

fn add_matches(route: &HttpRoute, rule: &Rule, out: &mut Snapshot) -> Result<Span, Full> {
    let start = out.matches.len();
    for m in route.matches.span(rule.matches) {
        let headers = add_conditions(route, route.headers.span(m.headers), out)?;
        let queries = add_conditions(route, route.queries.span(m.queries), out)?;
        let path = out.text.push(route.text.get(m.path))?;
        let entry = Match { path_kind: m.path_kind, path, method: m.method, headers, queries };
        out.matches.push(entry)?;
    }
    Ok(out.matches.span_from(start))
}

/// Of names that are equal only the first counts (HTTPHeaderMatch.name).
fn add_conditions(
    route: &HttpRoute,
    wanted: &[NameValue],
    out: &mut Snapshot,
) -> Result<Span, Full> {
    let start = out.conditions.len();
    for condition in wanted {
        let name = route.text.get(condition.name);
        let known = out.conditions.as_slice()[start as usize..]
            .iter()
            .any(|c| out.text.get(c.name) == name);
        if known {
            continue;
        }
        let name = out.text.push(name)?;
        let value = out.text.push(route.text.get(condition.value))?;
        out.conditions.push(Condition { name, value })?;
    }
    Ok(out.conditions.span_from(start))
}

/// The filters of a rule or backendRef, when it has some.
fn add_filter(route: &HttpRoute, index: u32, out: &mut Snapshot) -> Result<u32, Full> {
    match route.filters.get(index) {
        None => Ok(NO_FILTER),
        Some(filter) => out.add_filter(filter, route.edits.as_slice(), |t| route.text.get(t)),
    }
}

/// Without backends a rule answers 500, which is what a filter that does not resolve asks for.
fn add_backends(
    stores: &Stores,
    settings: &Settings,
    work: &mut Work,
    rule: &Rule,
    out: &mut Snapshot,
) -> Result<Span, Full> {
    let start = out.backends.len();
    if rule.is_broken {
        return Ok(out.backends.span_from(start));
    }
    let Work { decoder, pools, slices, .. } = work;
    let crate::resource::Decoder { route, service, slice, grant, scratch, .. } = decoder;
    let mut resolver = Resolver { stores, settings, service, slice, grant, scratch };
    for backend in route.backends.span(rule.backends) {
        let pool = match resolver.pool(route, backend, pools, slices, out) {
            Ok(_) if backend.is_broken => POOL_INVALID,
            Ok(pool) => pool,
            Err(RefProblem::CapacityExceeded) => return Err(Full),
            Err(_) => POOL_INVALID,
        };
        let filter = add_filter(route, backend.filter, out)?;
        out.backends.push(Backend { pool, weight: backend.weight, filter })?;
    }
    Ok(out.backends.span_from(start))
}

/// The state of the Gateway a parentRef means, when it is ours; it is loaded then.
pub fn our_gateway(stores: &Stores, work: &mut Work, parent: &ParentRef) -> Option<GatewayState> {
    let route = &work.decoder.route;
    if !route.refers_to_gateway(parent) {
        return None;
    }
    let (namespace, name) = parent_key(route, parent);
    let handle = stores.gateways.find_parts(namespace, name)?;
    let state = *work.gateways.as_slice().iter().find(|g| g.handle == handle)?;
    stores.gateways.load(handle, &mut work.decoder.gateway, &mut work.decoder.scratch);
    Some(state)
}

/// Calls `each` for every listener that the loaded route attaches to through this parentRef, and
/// says what the parentRef's Accepted condition is; None when it is not ours.
pub fn attached_listeners(
    stores: &Stores,
    work: &mut Work,
    parent: &ParentRef,
    mut each: impl FnMut(&mut Work, u32, &GatewayState),
) -> Option<Attachment> {
    let state = our_gateway(stores, work, parent)?;
    let (mut selected, mut allowed, mut attached) = (false, false, false);
    for offset in 0..state.listeners.len {
        let takes = work.listeners[state.listeners.start + offset].takes_http_routes;
        let crate::resource::Decoder { route, gateway, namespace, scratch, .. } = &mut work.decoder;
        let listener = gateway.listeners[offset];
        if !selects(route, parent, gateway, &listener) {
            continue;
        }
        selected = true;
        let own = route.meta.key.namespace;
        if !takes
            || !namespace_allowed(stores, gateway, &listener, own.as_str(), namespace, scratch)
        {
            continue;
        }
        allowed = true;
        if route_intersects(route, gateway, &listener) {
            attached = true;
            each(work, offset, &state);
        }
    }
    Some(match (selected, allowed, attached) {
        (_, _, true) if !work.decoder.route.unsupported.is_empty() => Attachment::UnsupportedValue,
        (_, _, true) => Attachment::Accepted,
        (_, true, false) => Attachment::NoMatchingListenerHostname,
        (true, false, _) => Attachment::NotAllowedByListeners,
        (false, ..) => Attachment::NoMatchingParent,
    })
}

/// attachedRoutes: routes that attach, whether they and the listeners are accepted or not
/// (ListenerStatus.attachedRoutes).
fn count_attached(stores: &Stores, work: &mut Work) {
    let mut counted = Table::<u32, 512>::new();
    for index in 0..work.decoder.route.parents.len() {
        let parent = work.decoder.route.parents[index];
        attached_listeners(stores, work, &parent, |work, offset, state| {
            let listener = state.listeners.start + offset;
            // A route counts once, by however many parentRefs it attaches.
            if !counted.as_slice().contains(&listener) && counted.push(listener).is_ok() {
                work.listeners[listener].attached += 1;
            }
        });
    }
}
