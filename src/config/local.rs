//! Local changes: a router that no controller owns is configured through its own admin port.
//!
//! In: the Snapshot that is served, and one change of it. Out: the whole next Snapshot, to be
//! validated and published like any other. Here routes name their pools, and hosts hold on every
//! listener (`serval router --listen`):
//!
//! ```text
//! {"name":"r","hosts":["a.example"],"matches":[{"prefix":"/x"}],
//!  "backends":[{"pool":"p","weight":1}]}
//! {"name":"p","upstreams":["10.0.0.1:3000"]}
//! ```

use super::codec::{
    Fault, items, keep, no_room, read_match, unsigned, write_matches, write_timeouts,
};
use super::filter::{read_filter, write_filter};
use super::identity::Source;
use super::snapshot::*;
use crate::resource::document::{Kind, Value};
use crate::stdx::{Short, Span, Text};
use crate::wire::json::JsonWriter;
use core::fmt;
use core::net::SocketAddr;

/// What a path of the admin port means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'p> {
    /// `/routes`.
    Routes,
    /// `/routes/{name}`; a name may hold slashes.
    Route(&'p str),
    /// `/pools`.
    Pools,
    /// `/pools/{name}`.
    Pool(&'p str),
    /// `/pools/{name}/upstreams`.
    Upstreams(&'p str),
    /// `/pools/{name}/upstreams/{address:port}`.
    Upstream(&'p str, SocketAddr),
}

impl<'p> Target<'p> {
    /// Reads a path; None when it is none of these.
    pub fn parse(path: &'p str) -> Option<Target<'p>> {
        match path {
            "/routes" => return Some(Target::Routes),
            "/pools" => return Some(Target::Pools),
            _ => {}
        }
        if let Some(name) = path.strip_prefix("/routes/") {
            return Some(Target::Route(name)).filter(|_| !name.is_empty());
        }
        let rest = path.strip_prefix("/pools/").filter(|rest| !rest.is_empty())?;
        if let Some(pool) = rest.strip_suffix("/upstreams") {
            return Some(Target::Upstreams(pool));
        }
        match rest.rsplit_once("/upstreams/") {
            Some((pool, address)) => Some(Target::Upstream(pool, address.parse().ok()?)),
            None => Some(Target::Pool(rest)),
        }
    }
}

/// A change of a Snapshot; what the body says comes beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'c> {
    /// These are the addresses to listen on, each a listener for all hosts.
    Listen(&'c [SocketAddr]),
    /// A new route, named in the body.
    PostRoute,
    /// A route, new or replaced.
    PutRoute(&'c str),
    /// No route of that name.
    DeleteRoute(&'c str),
    /// A new pool, named in the body.
    PostPool,
    /// A pool, new or replaced.
    PutPool(&'c str),
    /// No pool of that name; no route may use it.
    DeletePool(&'c str),
    /// A new upstream of a pool: `{"address":"10.0.0.1:3000"}`.
    PostUpstream(&'c str),
    /// An upstream of a pool.
    PutUpstream(&'c str, SocketAddr),
    /// No such upstream of a pool.
    DeleteUpstream(&'c str, SocketAddr),
}

/// Why a change was not made. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalError {
    /// There is no such route, pool or upstream.
    NotFound(&'static str),
    /// There is one of that name already.
    Exists(&'static str),
    /// A route uses the pool.
    InUse,
    /// The router listens nowhere.
    NoListener,
    /// The body is not understood.
    Bad(&'static str),
    /// The body has a member that means nothing here.
    Unknown(Short<64>),
    /// A table is full: the capacity to raise.
    Full(&'static str),
}

impl LocalError {
    /// The HTTP status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            LocalError::NotFound(_) => 404,
            LocalError::Exists(_) | LocalError::InUse | LocalError::NoListener => 409,
            LocalError::Bad(_) | LocalError::Unknown(_) => 400,
            LocalError::Full(_) => 507,
        }
    }
}

impl fmt::Display for LocalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalError::NotFound(what) => write!(f, "there is no such {what}"),
            LocalError::Exists(what) => write!(f, "the {what} is there already: PUT replaces it"),
            LocalError::InUse => f.write_str("a route uses the pool: change the route first"),
            LocalError::NoListener => {
                f.write_str("the router listens nowhere: start it with --listen ADDRESS:PORT")
            }
            LocalError::Bad(what) => f.write_str(what),
            LocalError::Unknown(member) => write!(f, "{member}: no such member here"),
            LocalError::Full(capacity) => write!(f, "more than {capacity} allows here"),
        }
    }
}

impl From<Fault> for LocalError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Bad(what) => LocalError::Bad(what),
            Fault::Full(capacity) => LocalError::Full(capacity),
        }
    }
}

/// Fills `into` with the Snapshot that `from` becomes by a change. `body`: what came with it.
pub fn apply(
    change: &Change<'_>,
    body: Value<'_>,
    from: &Snapshot,
    into: &mut Snapshot,
) -> Result<(), LocalError> {
    into.clear();
    into.source = Source::Local;
    match change {
        Change::Listen(addresses) => listen(addresses, into)?,
        _ => copy_listeners(from, into)?,
    }
    let removed = pools(change, body, from, into)?;
    routes(change, body, (from, removed), into)
}

// ---------------------------------------------------------------- listeners

fn listen(addresses: &[SocketAddr], into: &mut Snapshot) -> Result<(), LocalError> {
    for address in addresses {
        let (ip, port) = (address.ip(), address.port());
        let bind = Bind { transport: Transport::Tcp, address: ip, port, is_tls: false };
        let bind = into.binds.push(bind).map_err(no_room("MAX_CONFIG_BINDS"))?;
        let start = into.attachments.len();
        into.attachments.push(bind).map_err(no_room("MAX_CONFIG_ATTACHMENTS"))?;
        let listener = Listener {
            gateway: keep(into, "local")?,
            section: into
                .text
                .push_fmt(format_args!("{address}"))
                .map_err(no_room("MAX_CONFIG_TEXT_BYTES"))?,
            hostname: Text::EMPTY,
            port: address.port(),
            protocol: Protocol::Http,
            binds: into.attachments.span_from(start),
            certificates: Span::EMPTY,
        };
        into.listeners.push(listener).map_err(no_room("MAX_CONFIG_LISTENERS"))?;
    }
    Ok(())
}

fn copy_listeners(from: &Snapshot, into: &mut Snapshot) -> Result<(), LocalError> {
    let copied = into.binds.copy_from(from.binds.as_slice());
    copied.map_err(no_room("MAX_CONFIG_BINDS"))?;
    let copied = into.attachments.copy_from(from.attachments.as_slice());
    copied.map_err(no_room("MAX_CONFIG_ATTACHMENTS"))?;
    for listener in from.listeners.as_slice() {
        let copy = Listener {
            gateway: keep(into, from.text.get(listener.gateway))?,
            section: keep(into, from.text.get(listener.section))?,
            hostname: keep(into, from.text.get(listener.hostname))?,
            ..*listener
        };
        into.listeners.push(copy).map_err(no_room("MAX_CONFIG_LISTENERS"))?;
    }
    Ok(())
}

// ---------------------------------------------------------------- pools

/// All pools after the change; the index of the one that is gone.
fn pools(
    change: &Change<'_>,
    body: Value<'_>,
    from: &Snapshot,
    into: &mut Snapshot,
) -> Result<Option<u32>, LocalError> {
    let wanted = match change {
        Change::PostPool => Some(body.text("name")),
        Change::PutPool(name) | Change::DeletePool(name) => Some(*name),
        Change::PostUpstream(pool)
        | Change::PutUpstream(pool, _)
        | Change::DeleteUpstream(pool, _) => Some(*pool),
        _ => None,
    };
    let (mut found, mut removed) = (None, None);
    for (index, pool) in (0..).zip(from.pools.as_slice()) {
        let name = from.text.get(pool.name);
        if wanted != Some(name) {
            push_pool(name, from.upstreams.span(pool.upstreams), into)?;
            continue;
        }
        found = Some(index);
        match change {
            Change::PostPool => return Err(LocalError::Exists("pool")),
            Change::DeletePool(_) if is_used(from, index) => return Err(LocalError::InUse),
            Change::DeletePool(_) => removed = Some(index),
            Change::PutPool(_) => read_pool(name, body, into)?,
            _ => change_upstreams(change, body, (from, pool), into)?,
        }
    }
    match (wanted, change) {
        (Some(name), Change::PostPool | Change::PutPool(_)) if found.is_none() => {
            read_pool(name, body, into)?;
        }
        (Some(_), _) if found.is_none() => return Err(LocalError::NotFound("pool")),
        _ => {}
    }
    Ok(removed)
}

fn is_used(from: &Snapshot, pool: u32) -> bool {
    let routes = from.routes.as_slice().iter();
    routes.flat_map(|r| from.backends.span(r.backends)).any(|b| b.pool == pool)
}

fn push_pool(name: &str, upstreams: &[Upstream], into: &mut Snapshot) -> Result<(), LocalError> {
    let (name, start) = (keep(into, name)?, into.upstreams.len());
    for &upstream in upstreams {
        into.upstreams.push(upstream).map_err(no_room("MAX_CONFIG_UPSTREAMS"))?;
    }
    let pool = Pool { name, upstreams: into.upstreams.span_from(start) };
    into.pools.push(pool).map_err(no_room("MAX_CONFIG_POOLS"))?;
    Ok(())
}

fn read_pool(name: &str, body: Value<'_>, into: &mut Snapshot) -> Result<(), LocalError> {
    known(body, name, &["name", "upstreams"])?;
    let (name, start) = (keep(into, name)?, into.upstreams.len());
    for item in items(body, "upstreams") {
        push_upstream(address_of(item)?, start, into)?;
    }
    let pool = Pool { name, upstreams: into.upstreams.span_from(start) };
    into.pools.push(pool).map_err(no_room("MAX_CONFIG_POOLS"))?;
    Ok(())
}

fn address_of(value: Value<'_>) -> Result<SocketAddr, LocalError> {
    let address = value.str().and_then(|text| text.parse().ok());
    address.ok_or(LocalError::Bad("an upstream must be \"ADDRESS:PORT\""))
}

/// Adds an upstream to the pool that begins at `start`, unless it is there.
fn push_upstream(address: SocketAddr, start: u32, into: &mut Snapshot) -> Result<(), LocalError> {
    let pool = &into.upstreams.as_slice()[start as usize..];
    if pool.iter().all(|u| u.address != address) {
        let pushed = into.upstreams.push(Upstream { address });
        pushed.map_err(no_room("MAX_CONFIG_UPSTREAMS"))?;
    }
    Ok(())
}

fn change_upstreams(
    change: &Change<'_>,
    body: Value<'_>,
    (from, pool): (&Snapshot, &Pool),
    into: &mut Snapshot,
) -> Result<(), LocalError> {
    let before = from.upstreams.span(pool.upstreams);
    push_pool(from.text.get(pool.name), before, into)?;
    let start = into.upstreams.len() - before.len() as u32;
    match change {
        Change::PostUpstream(_) => {
            known(body, "", &["address"])?;
            let address = address_of(body.get("address").unwrap_or(body.nothing()))?;
            if before.iter().any(|u| u.address == address) {
                return Err(LocalError::Exists("upstream"));
            }
            push_upstream(address, start, into)?;
        }
        Change::PutUpstream(_, address) => push_upstream(*address, start, into)?,
        Change::DeleteUpstream(_, address) => {
            let at = before.iter().position(|u| u.address == *address);
            let at = at.ok_or(LocalError::NotFound("upstream"))?;
            into.upstreams.remove(start + at as u32);
        }
        _ => unreachable!("only changes of upstreams come here"),
    }
    let last = into.pools.len() - 1;
    into.pools[last].upstreams = into.upstreams.span_from(start);
    Ok(())
}

// ---------------------------------------------------------------- routes

fn routes(
    change: &Change<'_>,
    body: Value<'_>,
    (from, removed): (&Snapshot, Option<u32>),
    into: &mut Snapshot,
) -> Result<(), LocalError> {
    let wanted = match change {
        Change::PostRoute => Some(body.text("name")),
        Change::PutRoute(name) | Change::DeleteRoute(name) => Some(*name),
        _ => None,
    };
    let mut found = false;
    for route in from.routes.as_slice() {
        let name = from.text.get(route.name);
        if wanted != Some(name) {
            copy_route((from, route), removed, into)?;
            continue;
        }
        found = true;
        match change {
            Change::PostRoute => return Err(LocalError::Exists("route")),
            Change::PutRoute(_) => read_route(name, body, into)?,
            _ => {}
        }
    }
    match (wanted, change) {
        (Some(_), Change::DeleteRoute(_)) if !found => Err(LocalError::NotFound("route")),
        (Some(name), Change::PostRoute | Change::PutRoute(_)) if !found => {
            read_route(name, body, into)
        }
        _ => Ok(()),
    }
}

fn copy_route(
    (from, route): (&Snapshot, &Route),
    removed: Option<u32>,
    into: &mut Snapshot,
) -> Result<(), LocalError> {
    let name = keep(into, from.text.get(route.name))?;
    let (start, own) = (into.hosts.len(), from.hosts.span(route.hosts));
    for host in own {
        push_host(from.text.get(host.hostname), start, into)?;
    }
    let hosts = into.hosts.span_from(start);
    let start = into.matches.len();
    for m in from.matches.span(route.matches) {
        let path = keep(into, from.text.get(m.path))?;
        let headers = copy_conditions(from, m.headers, into)?;
        let queries = copy_conditions(from, m.queries, into)?;
        let copy = Match { path, headers, queries, ..*m };
        into.matches.push(copy).map_err(no_room("MAX_CONFIG_MATCHES"))?;
    }
    let matches = into.matches.span_from(start);
    let start = into.backends.len();
    for backend in from.backends.span(route.backends) {
        let behind = removed.is_some_and(|r| backend.pool != POOL_INVALID && backend.pool > r);
        let filter = into.copy_filter(from, backend.filter)?;
        let copy = Backend { pool: backend.pool - u32::from(behind), filter, ..*backend };
        into.backends.push(copy).map_err(no_room("MAX_CONFIG_BACKENDS"))?;
    }
    let backends = into.backends.span_from(start);
    let filter = into.copy_filter(from, route.filter)?;
    let copy = Route { name, hosts, matches, backends, filter, ..*route };
    into.routes.push(copy).map_err(no_room("MAX_CONFIG_ROUTES"))?;
    Ok(())
}

fn copy_conditions(from: &Snapshot, span: Span, into: &mut Snapshot) -> Result<Span, LocalError> {
    let start = into.conditions.len();
    for condition in from.conditions.span(span) {
        let name = keep(into, from.text.get(condition.name))?;
        let value = keep(into, from.text.get(condition.value))?;
        let pushed = into.conditions.push(Condition { name, value });
        pushed.map_err(no_room("MAX_CONFIG_CONDITIONS"))?;
    }
    Ok(into.conditions.span_from(start))
}

/// Adds a host of the route whose hosts begin at `start`, on every listener, unless it is there.
fn push_host(hostname: &str, start: u32, into: &mut Snapshot) -> Result<(), LocalError> {
    let own = &into.hosts.as_slice()[start as usize..];
    if own.iter().any(|h| into.text.get(h.hostname) == hostname) {
        return Ok(());
    }
    let hostname = keep(into, hostname)?;
    for listener in 0..into.listeners.len() {
        let pushed = into.hosts.push(RouteHost { listener, hostname });
        pushed.map_err(no_room("MAX_CONFIG_HOSTS"))?;
    }
    Ok(())
}

fn read_route(name: &str, body: Value<'_>, into: &mut Snapshot) -> Result<(), LocalError> {
    const MEMBERS: [&str; 7] = [
        "name",
        "hosts",
        "matches",
        "backends",
        "filter",
        "request_timeout_ms",
        "backend_timeout_ms",
    ];
    known(body, name, &MEMBERS)?;
    if into.listeners.is_empty() {
        return Err(LocalError::NoListener);
    }
    let (name, start) = (keep(into, name)?, into.hosts.len());
    for host in items(body, "hosts") {
        push_host(host.str().ok_or(LocalError::Bad("hosts must be strings"))?, start, into)?;
    }
    if into.hosts.len() == start {
        push_host("", start, into)?;
    }
    let hosts = into.hosts.span_from(start);
    let matches = read_matches(body, into)?;
    let start = into.backends.len();
    for item in items(body, "backends") {
        known(item, "", &["pool", "weight", "filter"])?;
        let wanted = item.text("pool");
        let pools = into.pools.as_slice();
        let pool = pools.iter().position(|p| into.text.get(p.name) == wanted);
        let pool = pool.ok_or(LocalError::Bad("backends: there is no pool of that name"))? as u32;
        let weight = match item.get("weight") {
            None => 1,
            Some(_) => {
                unsigned(item, "weight").ok_or(LocalError::Bad("weight must be 0 or more"))?
            }
        };
        let filter = read_filter(item, into)?;
        let pushed = into.backends.push(Backend { pool, weight, filter });
        pushed.map_err(no_room("MAX_CONFIG_BACKENDS"))?;
    }
    let backends = into.backends.span_from(start);
    let timeout = |member: &str| match body.get(member) {
        None => Ok(0),
        Some(_) => unsigned(body, member).ok_or(LocalError::Bad("timeouts are milliseconds")),
    };
    let request_timeout_ms = timeout("request_timeout_ms")?;
    let backend_timeout_ms = timeout("backend_timeout_ms")?;
    let filter = read_filter(body, into)?;
    let route =
        Route { name, hosts, matches, backends, filter, request_timeout_ms, backend_timeout_ms };
    into.routes.push(route).map_err(no_room("MAX_CONFIG_ROUTES"))?;
    Ok(())
}

/// The matches of a body; without one, all paths.
fn read_matches(body: Value<'_>, into: &mut Snapshot) -> Result<Span, LocalError> {
    let start = into.matches.len();
    for item in items(body, "matches") {
        known(item, "", &["exact", "prefix", "method", "headers", "queries"])?;
        let mut m = read_match(item, into)?;
        if m.path_kind == PathKind::Prefix && into.text.get(m.path).ends_with('/') {
            // As in the API: a trailing slash of a prefix does not count.
            m.path.len -= 1;
        }
        into.matches.push(m).map_err(no_room("MAX_CONFIG_MATCHES"))?;
    }
    if into.matches.len() == start {
        let all = Match {
            path_kind: PathKind::Prefix,
            path: Text::EMPTY,
            method: Method::Any,
            headers: Span::EMPTY,
            queries: Span::EMPTY,
        };
        into.matches.push(all).map_err(no_room("MAX_CONFIG_MATCHES"))?;
    }
    Ok(into.matches.span_from(start))
}

/// That a body is an object, has no member but these, and no other name than the path's.
fn known(body: Value<'_>, name: &str, members: &[&str]) -> Result<(), LocalError> {
    if body.kind() != Kind::Object || body.items().next().is_none() {
        return Err(LocalError::Bad("must be a JSON object with a member"));
    }
    let unknown = body.items().find(|member| !members.contains(&member.name()));
    if let Some(member) = unknown {
        return Err(LocalError::Unknown(Short::truncated(format_args!("{}", member.name()))));
    }
    let own = body.get("name").map_or(name, |_| body.text("name"));
    match members.contains(&"name") && (own.is_empty() || own != name) {
        true => Err(LocalError::Bad("name must be a string, and the path's if it is there")),
        false => Ok(()),
    }
}

// ---------------------------------------------------------------- answers

/// Writes a route as a body of `PUT /routes/{name}` has it.
pub fn write_route(s: &Snapshot, route: &Route, json: &mut JsonWriter<'_>) {
    json.begin_object().member("name", s.text.get(route.name)).key("hosts").begin_array();
    let hosts = s.hosts.span(route.hosts);
    for (place, host) in hosts.iter().enumerate() {
        let name = s.text.get(host.hostname);
        let before = hosts[..place].iter().any(|h| s.text.get(h.hostname) == name);
        if !name.is_empty() && !before {
            json.string(name);
        }
    }
    json.end_array();
    write_matches(s, route.matches, json);
    json.key("backends").begin_array();
    for backend in s.backends.span(route.backends) {
        json.begin_object();
        if backend.pool != POOL_INVALID {
            json.member("pool", s.text.get(s.pools[backend.pool].name));
        }
        json.key("weight").number(backend.weight);
        write_filter(s, backend.filter, json);
        json.end_object();
    }
    json.end_array();
    write_filter(s, route.filter, json);
    write_timeouts(route, json);
    json.end_object();
}

/// Writes an upstream.
pub fn write_upstream(upstream: &Upstream, json: &mut JsonWriter<'_>) {
    json.begin_object().key("address").format(format_args!("{}", upstream.address)).end_object();
}
