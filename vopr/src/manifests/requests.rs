//! The requests that manifests speak of: one for each listener, hostname and match of a rule, and
//! for each listener one that nothing should take.
//!
//! In: the Snapshot that was published for them. Out: requests, and which Services answer them.

use serval::config::Snapshot;
use serval::config::snapshot::{Listener, Match, POOL_INVALID, PathKind, Protocol, Route};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `namespace/name` of the HTTPRoute and the rule's number; empty: none should take it.
    pub route: String,
    /// `namespace/name` of Services with a share of it.
    pub services: Vec<String>,
    /// A backendRef with a share of it does not resolve.
    pub is_unresolved: bool,
    pub is_secure: bool,
    /// Where routers listen for it.
    pub port: u16,
    pub method: String,
    pub host: String,
    /// Path and query.
    pub target: String,
    pub fields: Vec<(String, String)>,
    /// As a person would write it.
    pub url: String,
    /// None should take it, but one takes all: known when it was asked at rest.
    pub is_redundant: bool,
}

/// All requests of a Snapshot, each once.
pub fn of(s: &Snapshot) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    for route in s.routes.as_slice() {
        for host in s.hosts.span(route.hosts) {
            let listener = &s.listeners[host.listener];
            let host = host_of(s.text.get(host.hostname), s.text.get(listener.hostname));
            for wanted in s.matches.span(route.matches) {
                requests.push(of_match(s, (listener, &host), route, wanted));
            }
        }
    }
    for listener in s.listeners.as_slice() {
        let host = host_of("", s.text.get(listener.hostname));
        let target = "/nothing-takes-this".to_string();
        let fields = Vec::new();
        requests.push(plain(s, (listener, &host), ("GET", target, fields)));
    }
    let mut seen: Vec<Request> = Vec::new();
    for request in requests {
        if !seen.iter().any(|s| (&s.url, &s.fields) == (&request.url, &request.fields)) {
            seen.push(request);
        }
    }
    seen
}

/// A host that both let in: the exact one, else the longer, with something for the asterisk.
fn host_of(route: &str, listener: &str) -> String {
    let is_exact = |h: &&str| !h.is_empty() && !h.starts_with('*');
    let exact = [route, listener].into_iter().find(is_exact);
    let longer = if route.len() >= listener.len() { route } else { listener };
    match exact.unwrap_or(longer) {
        "" => "any.example".to_string(),
        host => host.replacen('*', "any", 1),
    }
}

fn of_match(
    s: &Snapshot,
    (listener, host): (&Listener, &str),
    route: &Route,
    wanted: &Match,
) -> Request {
    let text = |t| s.text.get(t).to_string();
    let pairs = |span| s.conditions.span(span).iter().map(|c| (text(c.name), text(c.value)));
    let mut target = match (wanted.path_kind, s.text.get(wanted.path)) {
        (PathKind::Prefix, "") => "/".to_string(),
        (_, path) => path.to_string(),
    };
    let queries: Vec<String> = pairs(wanted.queries).map(|(n, v)| format!("{n}={v}")).collect();
    if !queries.is_empty() {
        target += &format!("?{}", queries.join("&"));
    }
    let method = match wanted.method.name() {
        "" => "GET",
        method => method,
    };
    let plain = plain(s, (listener, host), (method, target, pairs(wanted.headers).collect()));
    let backends = s.backends.span(route.backends).iter().filter(|b| b.weight > 0);
    let mut services: Vec<String> = Vec::new();
    let mut is_unresolved = false;
    for backend in backends {
        match backend.pool {
            POOL_INVALID => is_unresolved = true,
            pool => {
                let name = s.text.get(s.pools[pool].name);
                services.push(name.rsplit_once('/').map_or(name, |n| n.0).to_string());
            }
        }
    }
    services.sort();
    services.dedup();
    Request { route: text(route.name), services, is_unresolved, ..plain }
}

fn plain(
    s: &Snapshot,
    (listener, host): (&Listener, &str),
    (method, target, fields): (&str, String, Vec<(String, String)>),
) -> Request {
    let is_secure = listener.protocol == Protocol::Https;
    let (scheme, usual) = if is_secure { ("https", 443) } else { ("http", 80) };
    let port = match listener.port {
        port if port == usual => String::new(),
        port => format!(":{port}"),
    };
    let verb = if method == "GET" { String::new() } else { format!("{method} ") };
    let with: Vec<String> = fields.iter().map(|(n, v)| format!(" {n}: {v}")).collect();
    let bind = s.attachments.span(listener.binds).first().map(|&b| s.binds[b].port);
    Request {
        route: String::new(),
        services: Vec::new(),
        is_unresolved: false,
        is_secure,
        port: bind.unwrap_or(listener.port),
        method: method.to_string(),
        host: host.to_string(),
        url: format!("{verb}{scheme}://{host}{port}{target}{}", with.join(",")),
        target,
        fields,
        is_redundant: false,
    }
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn a_host_that_both_let_in() {
        for (route, listener, host) in [
            ("", "", "any.example"),
            ("a.example", "", "a.example"),
            ("", "a.example", "a.example"),
            ("*.b.example", "*.example", "any.b.example"),
            ("*.example", "a.b.example", "a.b.example"),
            ("a.example", "*.example", "a.example"),
        ] {
            assert_eq!(host_of(route, listener), host);
        }
    }
}
