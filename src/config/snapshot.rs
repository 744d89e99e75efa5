//! The Snapshot: one whole routing configuration in fixed tables, strings in one arena.
//!
//! reconcile fills it in the controller, `codec` carries it, a router's `storage` keeps two. The
//! order of routes is their precedence among equals: creationTimestamp, then namespace/name, then
//! rule (Gateway API, HTTPRouteRule.matches). Hostnames and header names are in lower case.
//!
//! Architecture invariant: a Snapshot that passed [`Snapshot::validate`] can be served without
//! another check: every index, span and string lies inside.

pub use super::filter::NO_FILTER;
use super::filter::{Filter, HeaderEdit};
use super::identity::{Checksum, Identity, Source};
use crate::limits::*;
use crate::stdx::{Arena, Full, Span, Table, Text};
use core::net::{IpAddr, SocketAddr};
use sha2::{Digest as _, Sha256};

/// What a bind carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// A TCP socket.
    #[default]
    Tcp,
}

/// An address and port a router listens on. The unspecified address means any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Transport protocol.
    pub transport: Transport,
    /// Literal, or `::`/`0.0.0.0` for any.
    pub address: IpAddr,
    /// Port to bind; not always the listener's port (service mode).
    pub port: u16,
    /// Every connection begins with a TLS handshake.
    pub is_tls: bool,
}

/// Listener.protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Cleartext HTTP/1.1.
    #[default]
    Http,
    /// HTTP/1.1 over TLS, terminated here.
    Https,
}

impl Protocol {
    /// As in Listener.protocol.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Http => "HTTP",
            Protocol::Https => "HTTPS",
        }
    }

    /// Reads what [`Protocol::name`] gives.
    pub fn parse(name: &str) -> Option<Protocol> {
        [Protocol::Http, Protocol::Https].into_iter().find(|p| p.name() == name)
    }

    /// Whether its binds are [`Bind::is_tls`].
    pub fn is_tls(self) -> bool {
        self == Protocol::Https
    }
}

/// A listener of a Gateway (Gateway.spec.listeners[]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `namespace/name` of the Gateway.
    pub gateway: Text,
    /// Listener.name.
    pub section: Text,
    /// Listener.hostname in lower case: exact, `*.suffix`, or empty for all.
    pub hostname: Text,
    /// Listener.port: port matching, redirects and X-Forwarded-Port use it.
    pub port: u16,
    /// Listener.protocol.
    pub protocol: Protocol,
    /// Span of [`Snapshot::attachments`]: the binds it is served on.
    pub binds: Span,
    /// Span of [`Snapshot::certificate_refs`]: its certificates, in the order of preference.
    pub certificates: Span,
}

/// A certificate chain with its key (a Secret of type kubernetes.io/tls).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// `namespace/name` of the Secret.
    pub name: Text,
    /// The chain, leaf first, as PEM: in [`Snapshot::pem`].
    pub chain: Text,
    /// The private key as PEM: in [`Snapshot::pem`]. Never shown.
    pub key: Text,
    /// Over chain and key: tells whether it is another one.
    pub digest: Checksum,
}

/// A hostname under which a route is reachable on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteHost {
    /// Index of the listener.
    pub listener: u32,
    /// The route's *own* hostname: exact, `*.suffix`, or empty for all. Its length is the
    /// precedence; whether the listener admits the host was decided when the listener was chosen.
    pub hostname: Text,
}

/// One rule of an HTTPRoute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Unique: `namespace/name/rule-index` from a controller, any name through the admin interface.
    pub name: Text,
    /// Span of [`Snapshot::hosts`].
    pub hosts: Span,
    /// Span of [`Snapshot::matches`]; never empty.
    pub matches: Span,
    /// Span of [`Snapshot::backends`]; empty answers 500 (GEP: no valid backendRef).
    pub backends: Span,
    /// Index into [`Snapshot::filters`], or [`NO_FILTER`].
    pub filter: u32,
    /// From the request's head to the response's end; 0: the router's default, `u32::MAX`: none.
    pub request_timeout_ms: u32,
    /// From the request sent to a backend to its response's head; 0 and `u32::MAX` as above.
    pub backend_timeout_ms: u32,
}

/// HTTPPathMatch.type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathKind {
    /// The whole path.
    Exact,
    /// Whole path elements; a trailing slash of the value does not count.
    #[default]
    Prefix,
}

/// HTTPRouteMatch.method; [`Method::Any`] when absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the methods themselves (RFC 9110, RFC 5789)")]
pub enum Method {
    #[default]
    Any,
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

impl Method {
    const ALL: [Method; 9] = [
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Connect,
        Method::Options,
        Method::Trace,
        Method::Patch,
    ];

    /// As in a request line; empty for [`Method::Any`].
    pub fn name(self) -> &'static str {
        match self {
            Method::Any => "",
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
        }
    }

    /// Reads a method the Gateway API can match on.
    pub fn parse(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|m| m.name() == name)
    }
}

/// HTTPRouteMatch: all of its conditions must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// How `path` compares.
    pub path_kind: PathKind,
    /// Begins with `/`; a prefix is kept without its trailing slash, so that `/` is `""`.
    pub path: Text,
    /// Method, or any.
    pub method: Method,
    /// Span of [`Snapshot::conditions`]: header fields.
    pub headers: Span,
    /// Span of [`Snapshot::conditions`]: query parameters.
    pub queries: Span,
}

/// A header field or query parameter that must be present with exactly this value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Header names in lower case.
    pub name: Text,
    /// Compared byte by byte.
    pub value: Text,
}

/// The pool index of a backendRef that does not resolve: its share of requests is answered 500.
pub const POOL_INVALID: u32 = u32::MAX;

/// A weighted backend (HTTPBackendRef).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Index into [`Snapshot::pools`], or [`POOL_INVALID`].
    pub pool: u32,
    /// Share of requests; 0 gets none.
    pub weight: u32,
    /// Index into [`Snapshot::filters`], or [`NO_FILTER`]: what only its requests undergo.
    pub filter: u32,
}

/// The endpoints of one Service port; empty answers 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Unique: `namespace/service/port`.
    pub name: Text,
    /// Span of [`Snapshot::upstreams`].
    pub upstreams: Span,
}

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Where to connect.
    pub address: SocketAddr,
}

/// One whole configuration. Megabytes: only ever built in place ([`crate::stdx::Zeroed`]).
#[derive(Debug)]
pub struct Snapshot {
    /// Epoch, generation, checksum.
    pub identity: Identity,
    /// Who made it.
    pub source: Source,
    /// Addresses and ports to listen on.
    pub binds: Table<Bind, { MAX_CONFIG_BINDS as usize }>,
    /// Listeners.
    pub listeners: Table<Listener, { MAX_CONFIG_LISTENERS as usize }>,
    /// Bind indexes, by listener.
    pub attachments: Table<u32, { MAX_CONFIG_ATTACHMENTS as usize }>,
    /// Certificates.
    pub certificates: Table<Certificate, { MAX_CONFIG_CERTIFICATES as usize }>,
    /// Certificate indexes, by listener.
    pub certificate_refs: Table<u32, { MAX_CONFIG_CERTIFICATE_REFS as usize }>,
    /// Routes in order of precedence.
    pub routes: Table<Route, { MAX_CONFIG_ROUTES as usize }>,
    /// Route hostnames, by route.
    pub hosts: Table<RouteHost, { MAX_CONFIG_HOSTS as usize }>,
    /// Matches, by route.
    pub matches: Table<Match, { MAX_CONFIG_MATCHES as usize }>,
    /// Header and query conditions, by match.
    pub conditions: Table<Condition, { MAX_CONFIG_CONDITIONS as usize }>,
    /// Filters of routes and backends that have some.
    pub filters: Table<Filter, { MAX_CONFIG_FILTERS as usize }>,
    /// Header edits, by filter.
    pub edits: Table<HeaderEdit, { MAX_CONFIG_EDITS as usize }>,
    /// Weighted backends, by route.
    pub backends: Table<Backend, { MAX_CONFIG_BACKENDS as usize }>,
    /// Pools.
    pub pools: Table<Pool, { MAX_CONFIG_POOLS as usize }>,
    /// Upstreams, by pool.
    pub upstreams: Table<Upstream, { MAX_CONFIG_UPSTREAMS as usize }>,
    /// All strings but PEM.
    pub text: Arena<{ MAX_CONFIG_TEXT_BYTES as usize }>,
    /// Chains and keys.
    pub pem: Arena<{ MAX_CONFIG_PEM_BYTES as usize }>,
}

crate::zeroed_struct!(Snapshot {
    identity: Identity,
    source: Source,
    binds: Table<Bind, { MAX_CONFIG_BINDS as usize }>,
    listeners: Table<Listener, { MAX_CONFIG_LISTENERS as usize }>,
    attachments: Table<u32, { MAX_CONFIG_ATTACHMENTS as usize }>,
    certificates: Table<Certificate, { MAX_CONFIG_CERTIFICATES as usize }>,
    certificate_refs: Table<u32, { MAX_CONFIG_CERTIFICATE_REFS as usize }>,
    routes: Table<Route, { MAX_CONFIG_ROUTES as usize }>,
    hosts: Table<RouteHost, { MAX_CONFIG_HOSTS as usize }>,
    matches: Table<Match, { MAX_CONFIG_MATCHES as usize }>,
    conditions: Table<Condition, { MAX_CONFIG_CONDITIONS as usize }>,
    filters: Table<Filter, { MAX_CONFIG_FILTERS as usize }>,
    edits: Table<HeaderEdit, { MAX_CONFIG_EDITS as usize }>,
    backends: Table<Backend, { MAX_CONFIG_BACKENDS as usize }>,
    pools: Table<Pool, { MAX_CONFIG_POOLS as usize }>,
    upstreams: Table<Upstream, { MAX_CONFIG_UPSTREAMS as usize }>,
    text: Arena<{ MAX_CONFIG_TEXT_BYTES as usize }>,
    pem: Arena<{ MAX_CONFIG_PEM_BYTES as usize }>,
});

/// What is wrong with a Snapshot that came from outside: where (table and index) and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// `listener`, `route`, `pool`, …
    pub table: &'static str,
    /// Index in that table.
    pub index: u32,
    /// What must hold and does not.
    pub what: &'static str,
}

impl Snapshot {
    /// Sets the soft caps of all tables; the Snapshot must be empty.
    pub fn set_caps(&mut self, capacities: &Capacities) {
        self.binds.set_cap(capacities.max_config_binds);
        self.listeners.set_cap(capacities.max_config_listeners);
        self.attachments.set_cap(capacities.max_config_attachments);
        self.certificates.set_cap(capacities.max_config_certificates);
        self.certificate_refs.set_cap(capacities.max_config_certificate_refs);
        self.routes.set_cap(capacities.max_config_routes);
        self.hosts.set_cap(capacities.max_config_hosts);
        self.matches.set_cap(capacities.max_config_matches);
        self.conditions.set_cap(capacities.max_config_conditions);
        self.filters.set_cap(capacities.max_config_filters);
        self.edits.set_cap(capacities.max_config_edits);
        self.backends.set_cap(capacities.max_config_backends);
        self.pools.set_cap(capacities.max_config_pools);
        self.upstreams.set_cap(capacities.max_config_upstreams);
        self.text.set_cap(capacities.max_config_text_bytes);
        self.pem.set_cap(capacities.max_config_pem_bytes);
    }

    /// Bytes of the tables at these capacities: the line of the memory plan for one Snapshot.
    pub fn bytes(capacities: &Capacities) -> u64 {
        let of = |count: u32, size: usize| u64::from(count) * size as u64;
        of(capacities.max_config_binds, size_of::<Bind>())
            + of(capacities.max_config_listeners, size_of::<Listener>())
            + of(capacities.max_config_attachments, size_of::<u32>())
            + of(capacities.max_config_certificates, size_of::<Certificate>())
            + of(capacities.max_config_certificate_refs, size_of::<u32>())
            + of(capacities.max_config_routes, size_of::<Route>())
            + of(capacities.max_config_hosts, size_of::<RouteHost>())
            + of(capacities.max_config_matches, size_of::<Match>())
            + of(capacities.max_config_conditions, size_of::<Condition>())
            + of(capacities.max_config_filters, size_of::<Filter>())
            + of(capacities.max_config_edits, size_of::<HeaderEdit>())
            + of(capacities.max_config_backends, size_of::<Backend>())
            + of(capacities.max_config_pools, size_of::<Pool>())
            + of(capacities.max_config_upstreams, size_of::<Upstream>())
            + u64::from(capacities.max_config_text_bytes)
            + u64::from(capacities.max_config_pem_bytes)
    }

    /// Empties all tables and forgets the identity.
    pub fn clear(&mut self) {
        self.identity = Identity::default();
        self.source = Source::None;
        self.binds.clear();
        self.listeners.clear();
        self.attachments.clear();
        self.certificates.clear();
        self.certificate_refs.clear();
        self.routes.clear();
        self.hosts.clear();
        self.matches.clear();
        self.conditions.clear();
        self.filters.clear();
        self.edits.clear();
        self.backends.clear();
        self.pools.clear();
        self.upstreams.clear();
        self.text.clear();
        self.pem.clear();
    }

    /// Adds a certificate; whole or not at all.
    pub fn add_certificate(&mut self, name: &str, chain: &str, key: &str) -> Result<u32, Full> {
        let (text, pem) = (self.text.len(), self.pem.len());
        let mut hash = Sha256::new();
        hash.update((chain.len() as u64).to_le_bytes());
        hash.update(chain);
        hash.update(key);
        let added = (|| {
            let name = self.text.push(name)?;
            let (chain, key) = (self.pem.push(chain)?, self.pem.push(key)?);
            let digest = Checksum(hash.finalize().into());
            self.certificates.push(Certificate { name, chain, key, digest })
        })();
        if added.is_err() {
            self.text.truncate(text);
            self.pem.truncate(pem);
        }
        added
    }

    /// Whether it was built of the same items in the same order, whoever made it: what says the
    /// same in other places is not found.
    pub fn has_content_of(&self, other: &Snapshot) -> bool {
        // By name, so that a new field cannot be forgotten.
        let Snapshot {
            identity: _,
            source: _,
            binds,
            listeners,
            attachments,
            certificates,
            certificate_refs,
            routes,
            hosts,
            matches,
            conditions,
            filters,
            edits,
            backends,
            pools,
            upstreams,
            text,
            pem,
        } = self;
        let same = *binds == other.binds
            && *listeners == other.listeners
            && *attachments == other.attachments
            && *certificates == other.certificates
            && *certificate_refs == other.certificate_refs
            && *routes == other.routes
            && *hosts == other.hosts
            && *matches == other.matches
            && *conditions == other.conditions
            && *filters == other.filters
            && *edits == other.edits
            && *backends == other.backends
            && *pools == other.pools
            && *upstreams == other.upstreams;
        same && text.as_bytes() == other.text.as_bytes() && pem.as_bytes() == other.pem.as_bytes()
    }

    /// Becomes a copy of `other`, whose handles then hold here too.
    pub fn copy_from(&mut self, other: &Snapshot) -> Result<(), Full> {
        self.identity = other.identity;
        self.source = other.source;
        self.binds.copy_from(other.binds.as_slice())?;
        self.listeners.copy_from(other.listeners.as_slice())?;
        self.attachments.copy_from(other.attachments.as_slice())?;
        self.certificates.copy_from(other.certificates.as_slice())?;
        self.certificate_refs.copy_from(other.certificate_refs.as_slice())?;
        self.pem.copy_from(other.pem.as_bytes())?;
        self.routes.copy_from(other.routes.as_slice())?;
        self.hosts.copy_from(other.hosts.as_slice())?;
        self.matches.copy_from(other.matches.as_slice())?;
        self.conditions.copy_from(other.conditions.as_slice())?;
        self.filters.copy_from(other.filters.as_slice())?;
        self.edits.copy_from(other.edits.as_slice())?;
        self.backends.copy_from(other.backends.as_slice())?;
        self.pools.copy_from(other.pools.as_slice())?;
        self.upstreams.copy_from(other.upstreams.as_slice())?;
        self.text.copy_from(other.text.as_bytes())
    }

    /// Checks every index, span and string, and the rules of the fields.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.validate_certificates()?;
        self.validate_listeners()?;
        self.validate_routes()?;
        self.validate_pools()
    }

    fn validate_certificates(&self) -> Result<(), Invalid> {
        for (index, certificate) in (0..).zip(self.certificates.as_slice()) {
            let fail = |what| Err(Invalid { table: "certificate", index, what });
            if !self.text.contains(certificate.name) || certificate.name.is_empty() {
                return fail("name must not be empty");
            }
            for pem in [certificate.chain, certificate.key] {
                if !self.pem.contains(pem) || pem.is_empty() {
                    return fail("chain and key must not be empty");
                }
            }
        }
        Ok(())
    }

    fn validate_listeners(&self) -> Result<(), Invalid> {
        for (index, bind) in (0..).zip(self.binds.as_slice()) {
            let fail = |what| Err(Invalid { table: "bind", index, what });
            if bind.port == 0 {
                return fail("port must be 1-65535");
            }
            if self.binds.as_slice()[..index as usize].contains(bind) {
                return fail("must be there once");
            }
        }
        for (index, listener) in (0..).zip(self.listeners.as_slice()) {
            let fail = |what| Err(Invalid { table: "listener", index, what });
            if !self.attachments.contains(listener.binds) {
                return fail("binds out of range");
            }
            let binds = self.attachments.span(listener.binds);
            if binds.iter().any(|&b| b >= self.binds.len()) {
                return fail("names a bind that is not there");
            }
            let is_tls = listener.protocol.is_tls();
            if binds.iter().any(|&b| self.binds[b].is_tls != is_tls) {
                return fail("TLS must be on all of its binds, or on none, by its protocol");
            }
            if !self.certificate_refs.contains(listener.certificates)
                || (listener.certificates.len > 0) != is_tls
            {
                return fail("needs certificates for HTTPS, and none for HTTP");
            }
            let certificates = self.certificate_refs.span(listener.certificates);
            if certificates.iter().any(|&c| c >= self.certificates.len()) {
                return fail("names a certificate that is not there");
            }
            if ![listener.gateway, listener.section, listener.hostname]
                .iter()
                .all(|&t| self.text.contains(t))
            {
                return fail("string out of range");
            }
            if !hostname_valid(self.text.get(listener.hostname)) {
                return fail("hostname must be empty, exact or *.suffix, in lower case");
            }
        }
        Ok(())
    }

    fn validate_routes(&self) -> Result<(), Invalid> {
        for (index, route) in (0..).zip(self.routes.as_slice()) {
            let fail = |what| Err(Invalid { table: "route", index, what });
            if !self.hosts.contains(route.hosts)
                || !self.matches.contains(route.matches)
                || !self.backends.contains(route.backends)
                || !self.text.contains(route.name)
            {
                return fail("reference out of range");
            }
            if route.name.is_empty() {
                return fail("name must not be empty");
            }
            if route.matches.len == 0 {
                return fail("matches must not be empty");
            }
            for host in self.hosts.span(route.hosts) {
                if host.listener >= self.listeners.len() {
                    return fail("names a listener that is not there");
                }
                if !self.text.contains(host.hostname)
                    || !hostname_valid(self.text.get(host.hostname))
                {
                    return fail("hostname must be empty, exact or *.suffix, in lower case");
                }
            }
            for backend in self.backends.span(route.backends) {
                if backend.pool != POOL_INVALID && backend.pool >= self.pools.len() {
                    return fail("names a pool that is not there");
                }
                if backend.weight > MAX_WEIGHT {
                    return fail("weight must be at most 1000000");
                }
            }
            for m in self.matches.span(route.matches) {
                if let Err(what) = self.validate_match(m) {
                    return fail(what);
                }
            }
            if let Err(what) = self.validate_filters(route) {
                return fail(what);
            }
        }
        Ok(())
    }

    fn validate_match(&self, m: &Match) -> Result<(), &'static str> {
        if !self.text.contains(m.path) {
            return Err("path out of range");
        }
        let path = self.text.get(m.path);
        match m.path_kind {
            PathKind::Exact if !path.starts_with('/') => return Err("path must begin with /"),
            PathKind::Prefix if !path.is_empty() && !path.starts_with('/') => {
                return Err("path must begin with /");
            }
            PathKind::Prefix if path.ends_with('/') => {
                return Err("a prefix is kept without its trailing slash");
            }
            _ => {}
        }
        if !self.conditions.contains(m.headers) || !self.conditions.contains(m.queries) {
            return Err("conditions out of range");
        }
        for span in [m.headers, m.queries] {
            for condition in self.conditions.span(span) {
                if !self.text.contains(condition.name) || !self.text.contains(condition.value) {
                    return Err("condition out of range");
                }
                if condition.name.is_empty() {
                    return Err("a condition's name must not be empty");
                }
            }
        }
        for header in self.conditions.span(m.headers) {
            if self.text.bytes(header.name).iter().any(u8::is_ascii_uppercase) {
                return Err("header names must be in lower case");
            }
        }
        Ok(())
    }

    fn validate_pools(&self) -> Result<(), Invalid> {
        for (index, pool) in (0..).zip(self.pools.as_slice()) {
            let fail = |what| Err(Invalid { table: "pool", index, what });
            if !self.text.contains(pool.name) || pool.name.is_empty() {
                return fail("name must not be empty");
            }
            if !self.upstreams.contains(pool.upstreams) {
                return fail("upstreams out of range");
            }
            for upstream in self.upstreams.span(pool.upstreams) {
                if upstream.address.port() == 0 {
                    return fail("an upstream's port must be 1-65535");
                }
                if upstream.address.ip().is_unspecified() || upstream.address.ip().is_multicast() {
                    return fail("an upstream's address must be unicast");
                }
            }
        }
        Ok(())
    }
}

/// Empty, `*.suffix` or exact; lower case letters, digits, `-`, `.`; at most 253 bytes.
pub fn hostname_valid(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    if name.is_empty() {
        return true;
    }
    name.len() <= MAX_NAME_BYTES as usize
        && rest.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= MAX_LABEL_BYTES as usize
                && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::place::boxed_zeroed;

    #[test]
    fn content_is_compared_without_who_made_it() {
        let mut snapshots = [boxed_zeroed::<Snapshot>(), boxed_zeroed::<Snapshot>()];
        for (generation, snapshot) in (1..).zip(&mut snapshots) {
            snapshot.set_caps(&Capacities::DEFAULT);
            snapshot.add_certificate("ns/n", "chain", "key").unwrap();
            snapshot.identity.generation = generation;
        }
        assert!(snapshots[0].has_content_of(&snapshots[1]));
        snapshots[1].pem.push("more").unwrap();
        assert!(!snapshots[0].has_content_of(&snapshots[1]));
        snapshots[0].pem.push("MORE").unwrap();
        assert!(!snapshots[0].has_content_of(&snapshots[1]));
    }

    #[test]
    fn hostnames() {
        for good in ["", "a", "a.b", "*.b.c", "xn--bcher-kva.example", "127.0.0.1"] {
            assert!(hostname_valid(good), "{good}");
        }
        for bad in ["*", "*.", ".", "a.", ".a", "A.b", "a*.b", "a.*.b", "-a", "a-", "a_b", "a b"] {
            assert!(!hostname_valid(bad), "{bad}");
        }
    }
}
