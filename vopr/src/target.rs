//! What a client asks for: mostly something that its router serves, some near misses, some at
//! random.
//!
//! In: the model's table of what the router adopted last. Out: method, host, path, query, headers.
//! A guess only: what the answer must be is the checkers' matter.

use crate::client::{HOSTS, PATHS};
use crate::io::is_backend;
use crate::marks::sometimes;
use crate::model::lookup::matches_host;
use crate::model::table::{Served, ServedRule, Table};
use serval::stdx::Prng;
use std::net::SocketAddr;

const METHODS: [&str; 8] = ["GET", "GET", "GET", "POST", "POST", "HEAD", "PUT", "PUT"];
const QUERIES: [&str; 4] = ["", "", "v=1", "v=2&w=1"];

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Target {
    pub method: &'static str,
    pub host: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
}

fn of<T: Copy>(prng: &mut Prng, items: &[T]) -> T {
    items[prng.below(items.len() as u64) as usize]
}

/// Whether a rule has an endpoint.
pub fn is_healthy(rule: &ServedRule) -> bool {
    let serves = |pool: &Vec<SocketAddr>| pool.iter().any(is_backend);
    rule.backends.iter().any(|(pool, weight)| *weight > 0 && pool.iter().any(serves))
}

/// Whether a rule is served over HTTPS, by a Gateway with several such listeners.
pub fn is_secure(table: &Table, rule: &ServedRule) -> bool {
    rule.hosts.iter().any(|((gateway, section), _)| {
        let secure = table.listeners.iter();
        let secure: Vec<&Served> =
            secure.filter(|l| l.gateway == *gateway && !l.certificates.is_empty()).collect();
        secure.len() > 1 && secure.iter().any(|l| l.section == *section)
    })
}

/// The hosts that reach a rule at an address.
fn hosts(table: &Table, rule: &ServedRule, address: SocketAddr) -> Vec<&'static str> {
    let mut found = Vec::new();
    for ((gateway, section), pattern) in &rule.hosts {
        let here = table
            .listeners
            .iter()
            .find(|l| l.gateway == *gateway && l.section == *section && l.binds.contains(&address));
        let Some(listener) = here else { continue };
        let both = |h: &&str| matches_host(pattern, h) && matches_host(&listener.hostname, h);
        found.extend(HOSTS.into_iter().filter(both));
    }
    found
}

/// Whether something with endpoints is served at an address.
pub fn is_served(table: &Table, address: SocketAddr) -> bool {
    table.rules.iter().any(|r| is_healthy(r) && !hosts(table, r, address).is_empty())
}

/// A target at an address of a router that serves `table`.
pub fn pick(prng: &mut Prng, table: &Table, address: SocketAddr) -> Target {
    let mut target = random(prng);
    if prng.chance(1, 8) {
        return target;
    }
    let answers = |rule: &ServedRule| is_healthy(rule) || rule.filters.redirect.is_some();
    let served = |rule: &&ServedRule| answers(rule) && !hosts(table, rule, address).is_empty();
    let rules: Vec<&ServedRule> = table.rules.iter().filter(served).collect();
    if rules.is_empty() {
        return target;
    }
    let rule = of(prng, &rules);
    aim(prng, &mut target, rule, &hosts(table, rule, address));
    if prng.chance(1, 8) {
        miss(prng, &mut target);
    }
    target
}

fn random(prng: &mut Prng) -> Target {
    let mut headers = Vec::new();
    if prng.chance(1, 3) {
        for _ in 0..prng.range(1, 2) {
            headers.push(("X-Kind".to_string(), of(prng, &["red", "blue"]).to_string()));
        }
    }
    Target {
        method: of(prng, &METHODS),
        host: of(prng, &HOSTS).to_string(),
        path: of(prng, &PATHS).to_string(),
        query: of(prng, &QUERIES).to_string(),
        headers,
    }
}

/// Makes it match a rule.
fn aim(prng: &mut Prng, target: &mut Target, rule: &ServedRule, hosts: &[&str]) {
    target.host = of(prng, hosts).to_string();
    let wanted = &rule.matches[prng.below(rule.matches.len() as u64) as usize];
    target.path = match &wanted.path {
        Some((true, path)) => path.clone(),
        Some((false, prefix)) => {
            let more = of(prng, &["", "", "/", "/b", "/x/y"]);
            format!("{}{more}", prefix.trim_end_matches('/'))
        }
        None => of(prng, &PATHS).to_string(),
    };
    if target.path.is_empty() {
        target.path = "/".to_string();
    }
    if let Some(method) = wanted.method {
        target.method = method;
    }
    for (name, value) in &wanted.headers {
        target.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        match value.split_once(", ") {
            Some((first, second)) if prng.chance(2, 3) => {
                // Lines of a field, whose name may be written otherwise.
                sometimes("a field comes in several lines");
                target.headers.push((name.clone(), first.to_string()));
                target.headers.push((name.to_uppercase(), second.to_string()));
            }
            _ => target.headers.push((name.clone(), value.clone())),
        }
    }
    if let Some((name, value)) = wanted.queries.first() {
        target.query = format!("{name}={value}{}", of(prng, &["", "&w=1"]));
    }
}

/// Makes it just miss, or hit another rule.
fn miss(prng: &mut Prng, target: &mut Target) {
    match prng.below(6) {
        5 => target.headers.reverse(),
        0 => target.path.push('x'),
        1 => target.method = of(prng, &METHODS),
        2 => target.headers.clear(),
        3 => target.query = of(prng, &QUERIES).to_string(),
        _ => target.host = of(prng, &HOSTS).to_string(),
    }
}
