//! What a table says about a request: which backends may answer it.

use super::object::Match;
use super::table::{ServedRule, Table, intersect};
use crate::ledger::Request;

/// Who may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No listener or no rule: 404.
    NotFound,
    /// No backend resolves, or none has a weight: 500.
    Failed,
    /// One of `names`; or, when a share of the requests goes to a reference that does not resolve,
    /// 500; or, when a share goes to a Service without endpoints, 503.
    Backends { names: Vec<String>, may_500: bool, may_503: bool },
}

impl Table {
    /// The answer to a request.
    pub fn answer(&self, request: &Request) -> Answer {
        let on_bind = self.listeners.iter().filter(|l| l.binds.contains(&request.address));
        let allowing = on_bind.filter(|l| matches_host(&l.hostname, &request.host));
        // Only the most specific listener counts.
        let Some(listener) = allowing.max_by_key(|l| specificity(&l.hostname)) else {
            return Answer::NotFound;
        };
        let id = (listener.gateway.clone(), listener.section.clone());
        let mut candidates: Vec<(Rank, &ServedRule)> = Vec::new();
        for (order, rule) in self.rules.iter().enumerate() {
            for (place, hostname) in &rule.hosts {
                if *place != id || !matches_host(hostname, &request.host) {
                    continue;
                }
                for m in rule.matches.iter().filter(|m| matches(m, request)) {
                    candidates.push((rank(hostname, m, order), rule));
                }
            }
        }
        // The first of the highest rank: later rules never win among equals.
        let best = candidates.iter().map(|c| c.0).max();
        let Some((_, rule)) = candidates.into_iter().find(|c| Some(c.0) == best) else {
            return Answer::NotFound;
        };
        let weighted = || rule.backends.iter().filter(|b| b.1 > 0);
        let mut names = Vec::new();
        for addresses in weighted().filter_map(|b| b.0.as_ref()) {
            names.extend(addresses.iter().map(|a| a.to_string()));
        }
        let may_500 = weighted().any(|b| b.0.is_none());
        let may_503 = weighted().any(|b| b.0.as_ref().is_some_and(Vec::is_empty));
        if weighted().all(|b| b.0.is_none()) {
            return Answer::Failed;
        }
        Answer::Backends { names, may_500, may_503 }
    }
}

/// Larger wins: hostname, exact path, length of the path, method, headers, queries, age.
type Rank = ((u32, usize), bool, usize, bool, usize, usize, core::cmp::Reverse<usize>);

fn rank(hostname: &str, m: &Match, order: usize) -> Rank {
    let (exact, path) = m.path.clone().unwrap_or((false, "/".into()));
    let path = if exact { path.as_str() } else { path.trim_end_matches('/') };
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
    pattern == host || (pattern.is_empty() || pattern.starts_with("*.")) && intersect(pattern, host)
}

fn matches(m: &Match, request: &Request) -> bool {
    let path = match &m.path {
        None => true,
        Some((true, path)) => request.path == *path,
        Some((false, prefix)) => {
            let prefix = prefix.trim_end_matches('/');
            request.path == prefix || request.path.starts_with(&format!("{prefix}/"))
        }
    };
    let header = |(name, value): &(String, String)| {
        let found = request.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.is_some_and(|(_, v)| v == value)
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
