//! HTTPRoute (gateway.networking.k8s.io/v1).

use super::decode::{
    self, Problem, array, duration_ms, int, invalid, invalid_member, keep, keep_lower, port,
    required, string, too_large,
};
use super::digest;
use super::document::Value;
use super::route_filter::Filters;
use super::{Kind, Meta, Object};
use crate::config::filter::{Filter, HeaderEdit};
use crate::config::snapshot::{Method, PathKind, hostname_valid};
use crate::limits::*;
use crate::stdx::pack::{Pack, Packer, Unpacker};
use crate::stdx::{Arena, Full, Short, Span, Table, Text};

/// spec.parentRefs[].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParentRef {
    /// group; defaulted.
    pub group: Text,
    /// kind; defaulted.
    pub kind: Text,
    /// namespace as written; empty: the route's own.
    pub namespace: Text,
    /// name.
    pub name: Text,
    /// sectionName; empty: all listeners.
    pub section: Text,
    /// port; 0: any.
    pub port: u16,
}

/// spec.rules[].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Span of [`HttpRoute::matches`]; never empty (the default is the prefix `/`).
    pub matches: Span,
    /// Span of [`HttpRoute::backends`].
    pub backends: Span,
    /// Index into [`HttpRoute::filters`], or `NO_FILTER`.
    pub filter: u32,
    /// A filter of it is an ExtensionRef: its requests are answered 500.
    pub is_broken: bool,
    /// timeouts.request in ms; 0: not set; `u32::MAX`: none (`0s`).
    pub request_timeout_ms: u32,
    /// timeouts.backendRequest in ms, likewise.
    pub backend_timeout_ms: u32,
}

/// spec.rules[].matches[].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteMatch {
    /// path.type.
    pub path_kind: PathKind,
    /// path.value; a prefix without its trailing slash.
    pub path: Text,
    /// method.
    pub method: Method,
    /// Span of [`HttpRoute::headers`].
    pub headers: Span,
    /// Span of [`HttpRoute::queries`].
    pub queries: Span,
}

/// A header or query parameter match of type Exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameValue {
    /// name; header names in lower case.
    pub name: Text,
    /// value.
    pub value: Text,
}

/// spec.rules[].backendRefs[].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendRef {
    /// group; empty: core.
    pub group: Text,
    /// kind; defaulted to Service.
    pub kind: Text,
    /// namespace as written; empty: the route's own.
    pub namespace: Text,
    /// name.
    pub name: Text,
    /// port; 0 when absent.
    pub port: u16,
    /// weight; 1 when absent.
    pub weight: u32,
    /// Index into [`HttpRoute::filters`], or `NO_FILTER`.
    pub filter: u32,
    /// A filter of it is an ExtensionRef: its requests are answered 500.
    pub is_broken: bool,
}

crate::pack_enum!(PathKind { Exact, Prefix });
crate::pack_enum!(Method { Any, Get, Head, Post, Put, Delete, Connect, Options, Trace, Patch });
crate::pack_struct!(ParentRef { group, kind, namespace, name, section, port });
crate::pack_struct!(Rule {
    matches,
    backends,
    filter,
    is_broken,
    request_timeout_ms,
    backend_timeout_ms,
});
crate::pack_struct!(RouteMatch { path_kind, path, method, headers, queries });
crate::pack_struct!(NameValue { name, value });
crate::pack_struct!(BackendRef { group, kind, namespace, name, port, weight, filter, is_broken });

/// What serval reads of an HTTPRoute.
#[derive(Debug)]
pub struct HttpRoute {
    /// Who it is.
    pub meta: Meta,
    /// spec.parentRefs.
    pub parents: Table<ParentRef, { MAX_PARENTS_PER_ROUTE as usize }>,
    /// spec.hostnames, in lower case.
    pub hostnames: Table<Text, { MAX_HOSTNAMES_PER_ROUTE as usize }>,
    /// spec.rules.
    pub rules: Table<Rule, { MAX_RULES_PER_ROUTE as usize }>,
    /// Matches of all rules.
    pub matches: Table<RouteMatch, { MAX_MATCHES_PER_ROUTE as usize }>,
    /// Header matches of all matches.
    pub headers: Table<NameValue, { MAX_HEADER_MATCHES_PER_ROUTE as usize }>,
    /// Query parameter matches of all matches.
    pub queries: Table<NameValue, { MAX_QUERY_MATCHES_PER_ROUTE as usize }>,
    /// backendRefs of all rules.
    pub backends: Table<BackendRef, { MAX_BACKENDS_PER_ROUTE as usize }>,
    /// Filters of rules and backendRefs that have some.
    pub filters: Table<Filter, { MAX_FILTERS_PER_ROUTE as usize }>,
    /// Header edits of all filters.
    pub edits: Table<HeaderEdit, { MAX_HEADER_EDITS_PER_ROUTE as usize }>,
    /// The first ExtensionRef; empty when there is none.
    pub extension: Short<160>,
    /// Path of the first field that serval cannot serve yet; empty when there is none.
    pub unsupported: Short<160>,
    /// Digest of the own status.
    pub observed: u64,
    /// Strings.
    pub text: Arena<{ MAX_OBJECT_TEXT_BYTES as usize }>,
}

crate::pack_struct!(HttpRoute {
    meta,
    parents,
    hostnames,
    rules,
    matches,
    headers,
    queries,
    backends,
    filters,
    edits,
    extension,
    unsupported,
    observed,
    text,
});
crate::zeroed_struct!(HttpRoute {
    meta: Meta,
    parents: Table<ParentRef, { MAX_PARENTS_PER_ROUTE as usize }>,
    hostnames: Table<Text, { MAX_HOSTNAMES_PER_ROUTE as usize }>,
    rules: Table<Rule, { MAX_RULES_PER_ROUTE as usize }>,
    matches: Table<RouteMatch, { MAX_MATCHES_PER_ROUTE as usize }>,
    headers: Table<NameValue, { MAX_HEADER_MATCHES_PER_ROUTE as usize }>,
    queries: Table<NameValue, { MAX_QUERY_MATCHES_PER_ROUTE as usize }>,
    backends: Table<BackendRef, { MAX_BACKENDS_PER_ROUTE as usize }>,
    filters: Table<Filter, { MAX_FILTERS_PER_ROUTE as usize }>,
    edits: Table<HeaderEdit, { MAX_HEADER_EDITS_PER_ROUTE as usize }>,
    extension: Short<160>,
    unsupported: Short<160>,
    observed: u64,
    text: Arena<{ MAX_OBJECT_TEXT_BYTES as usize }>,
});

impl HttpRoute {
    fn clear(&mut self) {
        self.meta = Meta::default();
        self.parents.set_cap_cleared(MAX_PARENTS_PER_ROUTE);
        self.hostnames.set_cap_cleared(MAX_HOSTNAMES_PER_ROUTE);
        self.rules.set_cap_cleared(MAX_RULES_PER_ROUTE);
        self.matches.set_cap_cleared(MAX_MATCHES_PER_ROUTE);
        self.headers.set_cap_cleared(MAX_HEADER_MATCHES_PER_ROUTE);
        self.queries.set_cap_cleared(MAX_QUERY_MATCHES_PER_ROUTE);
        self.backends.set_cap_cleared(MAX_BACKENDS_PER_ROUTE);
        self.filters.set_cap_cleared(MAX_FILTERS_PER_ROUTE);
        self.edits.set_cap_cleared(MAX_HEADER_EDITS_PER_ROUTE);
        self.extension = Short::EMPTY;
        (self.unsupported, self.observed) = (Short::EMPTY, 0);
        self.text.set_cap_cleared(MAX_OBJECT_TEXT_BYTES);
    }

    /// Whether the parentRef refers to a Gateway at all.
    pub fn refers_to_gateway(&self, parent: &ParentRef) -> bool {
        self.text.get(parent.group) == Kind::Gateway.group()
            && self.text.get(parent.kind) == Kind::Gateway.name()
    }

    fn pack_parent(&self, parent: &ParentRef, out: &mut Packer<'_>) -> Result<(), Full> {
        for text in [parent.namespace, parent.name, parent.section] {
            out.put_str(self.text.get(text))?;
        }
        parent.port.pack(out)
    }

    pub(super) fn unsupported(&mut self, value: Value<'_>) {
        if self.unsupported.is_empty() {
            self.unsupported = Short::truncated(format_args!("{}", value.path()));
        }
    }

    fn parent(&mut self, item: Value<'_>) -> Result<(), Problem> {
        let group = string(item, "group")?.unwrap_or(Kind::Gateway.group());
        let parent = ParentRef {
            group: keep(&mut self.text, group)?,
            kind: keep(&mut self.text, string(item, "kind")?.unwrap_or("Gateway"))?,
            namespace: keep(&mut self.text, string(item, "namespace")?.unwrap_or(""))?,
            name: keep(&mut self.text, required(item, "name")?)?,
            section: keep(&mut self.text, string(item, "sectionName")?.unwrap_or(""))?,
            port: port(item, "port")?.unwrap_or(0),
        };
        let pushed = self.parents.push(parent);
        pushed.map(|_| ()).map_err(too_large("MAX_PARENTS_PER_ROUTE"))
    }

    fn rule(&mut self, item: Value<'_>) -> Result<(), Problem> {
        for feature in ["retry", "sessionPersistence"] {
            if let Some(found) = item.get(feature) {
                self.unsupported(found);
            }
        }
        let start = self.matches.len();
        for value in array(item, "matches", MAX_MATCHES_PER_RULE)? {
            self.route_match(value)?;
        }
        if self.matches.len() == start {
            let pushed = self.matches.push(RouteMatch::default());
            pushed.map_err(too_large("MAX_MATCHES_PER_ROUTE"))?;
        }
        let matches = self.matches.span_from(start);
        let start = self.backends.len();
        for value in array(item, "backendRefs", MAX_BACKENDS_PER_RULE)? {
            self.backend(value)?;
        }
        let backends = self.backends.span_from(start);
        let timeouts = item.get("timeouts").unwrap_or(item.nothing());
        let request_timeout_ms = timeout(timeouts, "request")?;
        let backend_timeout_ms = timeout(timeouts, "backendRequest")?;
        if request_timeout_ms != 0
            && request_timeout_ms != u32::MAX
            && backend_timeout_ms != u32::MAX
            && backend_timeout_ms > request_timeout_ms
        {
            let what = "must not be longer than the request timeout";
            return Err(invalid_member(timeouts, "backendRequest", what));
        }
        let Filters { index: filter, is_broken } = self.filters(item)?;
        self.check_filters(item, filter, (matches, backends))?;
        let rule =
            Rule { matches, backends, filter, is_broken, request_timeout_ms, backend_timeout_ms };
        self.rules.push(rule).map(|_| ()).map_err(too_large("MAX_RULES_PER_ROUTE"))
    }

    fn route_match(&mut self, item: Value<'_>) -> Result<(), Problem> {
        let mut route_match = RouteMatch::default();
        if let Some(path) = item.get("path") {
            (route_match.path_kind, route_match.path) = self.path(path)?;
        }
        if let Some(method) = string(item, "method")? {
            let what = "must be one of the methods of HTTPMethod";
            let parsed = Method::parse(method);
            route_match.method = parsed.ok_or_else(|| invalid_member(item, "method", what))?;
        }
        let start = self.headers.len();
        for header in array(item, "headers", MAX_HEADERS_PER_MATCH)? {
            self.name_value(header, true)?;
        }
        route_match.headers = self.headers.span_from(start);
        let start = self.queries.len();
        for query in array(item, "queryParams", MAX_QUERIES_PER_MATCH)? {
            self.name_value(query, false)?;
        }
        route_match.queries = self.queries.span_from(start);
        self.matches.push(route_match).map(|_| ()).map_err(too_large("MAX_MATCHES_PER_ROUTE"))
    }

    fn path(&mut self, path: Value<'_>) -> Result<(PathKind, Text), Problem> {
        let value = string(path, "value")?.unwrap_or("/");
        let kind = match string(path, "type")? {
            None | Some("PathPrefix") => PathKind::Prefix,
            Some("Exact") => PathKind::Exact,
            Some("RegularExpression") => {
                self.unsupported(path);
                return Ok((PathKind::Prefix, Text::EMPTY));
            }
            Some(_) => {
                let what = "must be Exact, PathPrefix or RegularExpression";
                return Err(invalid_member(path, "type", what));
            }
        };
        if let Err(what) = path_valid(value) {
            return Err(invalid_member(path, "value", what));
        }
        let value = match kind {
            PathKind::Exact => value,
            PathKind::Prefix => value.strip_suffix('/').unwrap_or(value),
        };
        Ok((kind, keep(&mut self.text, value)?))
    }

    fn name_value(&mut self, item: Value<'_>, is_header: bool) -> Result<(), Problem> {
        match string(item, "type")? {
            None | Some("Exact") => {}
            Some("RegularExpression") => self.unsupported(item),
            Some(_) => {
                let what = "must be Exact or RegularExpression";
                return Err(invalid_member(item, "type", what));
            }
        }
        let name = required(item, "name")?;
        if name.len() > 256 || !name.bytes().all(is_token) {
            return Err(invalid_member(item, "name", "must be a token (RFC 9110) of 256 bytes"));
        }
        let value = string(item, "value")?.unwrap_or("");
        if is_header {
            let name = keep_lower(&mut self.text, name)?;
            let value = keep(&mut self.text, value)?;
            let pushed = self.headers.push(NameValue { name, value });
            return pushed.map(|_| ()).map_err(too_large("MAX_HEADER_MATCHES_PER_ROUTE"));
        }
        let name = keep(&mut self.text, name)?;
        let value = keep(&mut self.text, value)?;
        let pushed = self.queries.push(NameValue { name, value });
        pushed.map(|_| ()).map_err(too_large("MAX_QUERY_MATCHES_PER_ROUTE"))
    }

    fn backend(&mut self, item: Value<'_>) -> Result<(), Problem> {
        let Filters { index: filter, is_broken } = self.filters(item)?;
        let backend = BackendRef {
            group: keep(&mut self.text, string(item, "group")?.unwrap_or(""))?,
            kind: keep(&mut self.text, string(item, "kind")?.unwrap_or("Service"))?,
            namespace: keep(&mut self.text, string(item, "namespace")?.unwrap_or(""))?,
            name: keep(&mut self.text, required(item, "name")?)?,
            port: port(item, "port")?.unwrap_or(0),
            weight: int(item, "weight", 0, i64::from(MAX_WEIGHT))?.unwrap_or(1) as u32,
            filter,
            is_broken,
        };
        if self.text.get(backend.kind) == "Service" && backend.group.is_empty() && backend.port == 0
        {
            return Err(invalid_member(item, "port", "must be set when the backend is a Service"));
        }
        let pushed = self.backends.push(backend);
        pushed.map(|_| ()).map_err(too_large("MAX_BACKENDS_PER_ROUTE"))
    }
}

fn timeout(timeouts: Value<'_>, member: &str) -> Result<u32, Problem> {
    match string(timeouts, member)?.map(duration_ms) {
        None => Ok(0),
        Some(Some(0)) => Ok(u32::MAX),
        Some(Some(ms)) => Ok(ms),
        Some(None) => {
            Err(invalid_member(timeouts, member, "must be a duration like 1h30m or 100ms"))
        }
    }
}

/// A byte of a token (RFC 9110 §5.6.2).
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The CRD's rules for HTTPPathMatch.value of type Exact and PathPrefix.
fn path_valid(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("must begin with /");
    }
    if path.len() > MAX_PATH_MATCH_BYTES as usize {
        return Err("must be at most 1024 bytes");
    }
    for bad in ["//", "/./", "/../", "%2f", "%2F", "#"] {
        if path.contains(bad) {
            return Err("must not contain //, /./, /../, %2f, %2F or #");
        }
    }
    if path.ends_with("/..") || path.ends_with("/.") {
        return Err("must not end with /. or /..");
    }
    let bytes = path.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let hex = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_hexdigit);
        let plain = byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&byte);
        let escape = byte == b'%' && hex(at + 1) && hex(at + 2);
        if !(plain || escape) {
            return Err("must hold only path characters of RFC 3986 and %XX");
        }
    }
    Ok(())
}

impl Object for HttpRoute {
    const KIND: Kind = Kind::HttpRoute;

    fn decode(&mut self, value: Value<'_>, controller: &str) -> Result<(), Problem> {
        self.clear();
        self.meta = decode::meta(value, false)?;
        let status = value.get("status").unwrap_or(value.nothing());
        self.observed = digest::of_status(Self::KIND, status, controller);
        let spec = value.get("spec").ok_or_else(|| invalid_member(value, "spec", "is required"))?;
        for item in array(spec, "parentRefs", MAX_PARENTS_PER_ROUTE)? {
            self.parent(item)?;
        }
        for item in array(spec, "hostnames", MAX_HOSTNAMES_PER_ROUTE)? {
            let hostname = item.str().unwrap_or("*");
            if hostname.is_empty() || !hostname_valid(hostname) {
                return Err(invalid(item, "must be exact or *.suffix, in lower case"));
            }
            let hostname = keep(&mut self.text, hostname)?;
            self.hostnames.push(hostname).map_err(too_large("MAX_HOSTNAMES_PER_ROUTE"))?;
        }
        for item in array(spec, "rules", MAX_RULES_PER_ROUTE)? {
            self.rule(item)?;
        }
        if spec.get("rules").is_none() {
            self.rule(spec.nothing())?;
        }
        Ok(())
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }

    fn observed(&self) -> u64 {
        self.observed
    }

    fn pack_outline(&self, out: &mut Packer<'_>) {
        for parent in self.parents.as_slice() {
            // Others get no status from us.
            if self.refers_to_gateway(parent) {
                let start = out.len();
                if self.pack_parent(parent, out).is_err() {
                    return out.truncate(start);
                }
            }
        }
    }

    fn unpack_outline(&mut self, from: &mut Unpacker<'_>) {
        self.clear();
        for _ in 0..MAX_PARENTS_PER_ROUTE {
            if from.rest() == 0 {
                break;
            }
            let mut keep = |text| self.text.push(text).expect("packed from one");
            let (group, kind) = (keep(Kind::Gateway.group()), keep(Kind::Gateway.name()));
            let (namespace, name) = (keep(from.take_str()), keep(from.take_str()));
            let (section, mut port) = (keep(from.take_str()), 0);
            port.unpack(from);
            let parent = ParentRef { group, kind, namespace, name, section, port };
            self.parents.push(parent).expect("packed from one");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for good in ["/", "/a/b", "/a%20b", "/a/", "/...", "/a;b=c"] {
            assert_eq!(path_valid(good), Ok(()), "{good}");
        }
        for bad in ["", "a", "//", "/a/../b", "/a/..", "/a%2Fb", "/a%2", "/a b", "/a#b", "/ä"] {
            assert!(path_valid(bad).is_err(), "{bad}");
        }
    }
}
