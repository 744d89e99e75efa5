//! What a table says about a request: which backends may answer it.

use super::object::{Edit, Filters, Match, NewPath, Redirect};
use super::table::{Served, ServedRule, Table, intersect};
use super::timeouts::Timeouts;
use crate::io::is_backend;
use crate::ledger::Request;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Who may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No listener or no rule: 404.
    NotFound,
    /// The certificate of another listener was shown: 421 (GEP-3567).
    Misdirected,
    /// No backend resolves, or none has a weight: 500.
    Failed,
    /// One of these ways; or, when a share of the requests goes to a reference that does not
    /// resolve, 500; or, when a share goes to a Service without endpoints, 503.
    Backends { ways: Vec<Way>, may_500: bool, may_503: bool },
    /// The rule sends the client elsewhere.
    Redirect { status: u16, location: String },
}

/// A backend of the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its endpoints.
    pub names: Vec<String>,
    pub edits: Edits,
    pub url: Url,
    /// It has filters, and its rule too.
    pub is_filtered_twice: bool,
}

/// The values of the edited field, joined: what a backend sees of what a client sends, and the
/// other way round. None: the field is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edits {
    pub request: Option<String>,
    pub response: Option<String>,
}

/// What a backend is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub host: String,
    /// Path and query.
    pub target: String,
}

/// What clients send as the edited field.
pub const FROM_CLIENT: &str = "client";
/// What backends send as the edited field.
pub const FROM_BACKEND: &str = "backend";

/// HTTPHeaderFilter: set overwrites, add appends to what is there, remove removes. One filter after
/// the other: what the last one sets or removes, an earlier one has not added.
fn edited(original: &str, edits: [&Option<Edit>; 2]) -> Option<String> {
    let mut value = Some(original.to_string());
    for edit in edits.into_iter().flatten() {
        value = match edit {
            Edit::Set(value) => Some(value.clone()),
            Edit::Add(more) => Some(value.map_or(more.clone(), |v| format!("{v},{more}"))),
            Edit::Remove => None,
        };
    }
    value
}

/// HTTPRequestRedirectFilter: where a request is sent.
fn location(redirect: &Redirect, rule: &ServedRule, request: &Request) -> String {
    let own = if request.secured.is_some() { "https" } else { "http" };
    let scheme = redirect.scheme.as_deref().unwrap_or(own);
    let host = redirect.hostname.as_deref().unwrap_or(&request.host);
    let well_known = if scheme == "https" { 443 } else { 80 };
    // The port of the listener, when neither port nor scheme is given.
    let port = match (redirect.port, &redirect.scheme) {
        (Some(port), _) => port,
        (None, Some(_)) => well_known,
        (None, None) => request.address.port(),
    };
    let port = if port == well_known { String::new() } else { format!(":{port}") };
    let target = target(&redirect.path, rule, request);
    format!("{scheme}://{host}{port}{target}")
}

/// HTTPPathModifier: the path with what takes its place, or that of the prefix which the rule's one
/// match names (without its trailing slash, as the replacement); an empty one is `/`. The query
/// stays.
fn target(new: &Option<NewPath>, rule: &ServedRule, request: &Request) -> String {
    let mut path = request.path.clone();
    match (new, rule.matches.as_slice()) {
        (Some(NewPath::Full(full)), _) => path = full.clone(),
        (Some(NewPath::Prefix(new)), [Match { path: Some((false, old)), .. }]) => {
            let rest = &path[old.trim_end_matches('/').len()..];
            path = format!("{}{rest}", new.trim_end_matches('/'));
        }
        _ => {}
    }
    if path.is_empty() {
        path = "/".to_string();
    }
    let mark = if request.query.is_empty() { "" } else { "?" };
    format!("{path}{mark}{}", request.query)
}

impl Table {
    /// The most specific listener for a host, at an address: only that one counts.
    pub fn listener(&self, address: SocketAddr, host: &str) -> Option<&Served> {
        let on_bind = self.listeners.iter().filter(|l| l.binds.contains(&address));
        let allowing = on_bind.filter(|l| matches_host(&l.hostname, host));
        allowing.max_by_key(|l| specificity(&l.hostname))
    }

    /// The answer to a request.
    pub fn answer(&self, request: &Request) -> Answer {
        match self.rule(request) {
            Ok(rule) => rule.answer(request),
            Err(answer) => answer,
        }
    }

    /// Of a million such requests, how many go to each endpoint; empty if some go to none.
    pub fn shares(&self, request: &Request) -> Vec<(String, u64)> {
        let Ok(rule) = self.rule(request) else { return Vec::new() };
        let weights: u64 = rule.backends.iter().map(|b| u64::from(b.1)).sum();
        let mut shares: BTreeMap<String, u64> = BTreeMap::new();
        for (pool, weight) in rule.backends.iter().filter(|b| b.1 > 0) {
            let pool = pool.as_ref().map_or(&[][..], Vec::as_slice);
            if pool.is_empty() || !pool.iter().all(is_backend) {
                return Vec::new();
            }
            let share = 1_000_000 * u64::from(*weight) / weights / pool.len() as u64;
            pool.iter().for_each(|a| *shares.entry(a.to_string()).or_default() += share);
        }
        shares.into_iter().collect()
    }

    /// The timeouts of the rule for a request, when backends are to answer it.
    pub fn timeouts(&self, request: &Request) -> Option<Timeouts> {
        let rule = self.rule(request).ok()?;
        matches!(rule.answer(request), Answer::Backends { .. }).then_some(rule.timeouts)
    }

    /// The rule for a request, or the answer when there is none.
    fn rule(&self, request: &Request) -> Result<&ServedRule, Answer> {
        let Some(listener) = self.listener(request.address, &request.host) else {
            return Err(Answer::NotFound);
        };
        let id = (listener.gateway.clone(), listener.section.clone());
        if request.secured.as_ref().is_some_and(|secured| *secured != id) {
            return Err(Answer::Misdirected);
        }
        let candidates = self.candidates(&id, request);
        // The first of the highest rank: later rules never win among equals.
        let best = candidates.iter().map(|c| c.0).max();
        let first = candidates.into_iter().find(|c| Some(c.0) == best);
        first.map(|(_, rule)| rule).ok_or(Answer::NotFound)
    }

    /// The answers of all rules that match, whether they come first or not.
    pub fn answers(&self, request: &Request) -> Vec<Answer> {
        let listener = self.listener(request.address, &request.host);
        let id = listener.map(|l| (l.gateway.clone(), l.section.clone()));
        let matching = id.into_iter().flat_map(|id| self.candidates(&id, request));
        matching.map(|(_, rule)| rule.answer(request)).collect()
    }

    fn candidates(&self, id: &(String, String), request: &Request) -> Vec<(Rank, &ServedRule)> {
        let mut candidates = Vec::new();
        for (order, rule) in self.rules.iter().enumerate() {
            for (place, hostname) in &rule.hosts {
                if place != id || !matches_host(hostname, &request.host) {
                    continue;
                }
                for m in rule.matches.iter().filter(|m| matches(m, request)) {
                    candidates.push((rank(hostname, m, order), rule));
                }
            }
        }
        candidates
    }
}

impl ServedRule {
    /// What becomes of a request that it matches.
    fn answer(&self, request: &Request) -> Answer {
        let rule = self;
        if let Some(redirect) = &rule.filters.redirect {
            let (status, location) = (redirect.status, location(redirect, rule, request));
            return Answer::Redirect { status, location };
        }
        let weighted = || rule.backends.iter().filter(|b| b.1 > 0);
        let may_500 = weighted().any(|b| b.0.is_none());
        // Where there is no backend nobody answers, or the router itself, whom it does not ask.
        let is_odd = |pool: &Vec<SocketAddr>| pool.is_empty() || !pool.iter().all(is_backend);
        let may_503 = weighted().any(|b| b.0.as_ref().is_some_and(is_odd));
        if weighted().all(|b| b.0.is_none()) {
            return Answer::Failed;
        }
        let ways = rule.backends.iter().zip(&rule.backend_filters).filter(|(b, _)| b.1 > 0);
        let ways = ways.filter_map(|((pool, _), own)| Some(rule.way(pool.as_ref()?, own, request)));
        Answer::Backends { ways: ways.collect(), may_500, may_503 }
    }

    /// To a backend with these endpoints and filters. Of a backend's rewrite each part that it has
    /// comes before the rule's.
    fn way(&self, pool: &[SocketAddr], own: &Filters, request: &Request) -> Way {
        let edits = Edits {
            request: edited(FROM_CLIENT, [&self.filters.request, &own.request]),
            response: edited(FROM_BACKEND, [&self.filters.response, &own.response]),
        };
        let rewrites = || [&own.rewrite, &self.filters.rewrite].into_iter().flatten();
        let host = rewrites().find_map(|r| r.hostname.clone());
        let path = rewrites().find_map(|r| r.path.clone());
        let url = Url {
            host: host.unwrap_or_else(|| request.host.clone()),
            target: target(&path, self, request),
        };
        let none = Filters::default();
        let is_filtered_twice = *own != none && self.filters != none;
        let names = pool.iter().map(|a| a.to_string()).collect();
        Way { names, edits, url, is_filtered_twice }
    }
}

/// Larger wins: hostname, exact path, length of the path, method, headers, queries, age.
type Rank = ((u32, usize), bool, usize, bool, usize, usize, core::cmp::Reverse<usize>);

fn rank(hostname: &str, m: &Match, order: usize) -> Rank {
    let (exact, path) = m.path.as_ref().map_or((false, "/"), |(exact, path)| (*exact, path));
    let path = if exact { path } else { path.trim_end_matches('/') };
    (
        specificity(hostname),
        exact,
        path.len(),
        m.method.is_some(),
        m.headers.len(),
        m.queries.len(),
        core::cmp::Reverse(order),
    )
}

/// Exact before wildcard before any; among wildcards the longest.
fn specificity(hostname: &str) -> (u32, usize) {
    match hostname {
        "" => (0, 0),
        wild if wild.starts_with("*.") => (1, wild.len()),
        exact => (2, exact.len()),
    }
}

/// Whether a hostname of a listener or route is for a host.
pub fn matches_host(pattern: &str, host: &str) -> bool {
    // No host is for those alone that are for all.
    if host.is_empty() {
        return pattern.is_empty();
    }
    pattern == host || (pattern.is_empty() || pattern.starts_with("*.")) && intersect(pattern, host)
}

fn matches(m: &Match, request: &Request) -> bool {
    let path = match &m.path {
        None => true,
        Some((true, path)) => request.path == *path,
        Some((false, prefix)) => {
            let prefix = prefix.trim_end_matches('/');
            let rest = request.path.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    // RFC 9110, 5.3: the lines of a field are one value, joined by a comma and a blank.
    let header = |(name, value): &(String, String)| {
        let lines = request.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let lines: Vec<&str> = lines.map(|(_, v)| v.as_str()).collect();
        !lines.is_empty() && lines.join(", ") == *value
    };
    let query = |(name, value): &(String, String)| {
        let found = request.query.split('&').filter_map(|p| p.split_once('='));
        let mut found = found.filter(|(n, _)| n == name);
        found.next().is_some_and(|(_, v)| v == value)
    };
    path && m.method.is_none_or(|method| method == request.method)
        && m.headers.iter().all(header)
        && m.queries.iter().all(query)
}
