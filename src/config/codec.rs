//! The push format: a Snapshot as JSON lines, one bounded record a line.
//!
//! ```text
//! {"snapshot":1,"epoch":3,"generation":17,"source":"controller"}      header
//! {"bind":{...}} {"certificate":{...}} {"listener":{...}}               content, in this order
//! {"pool":{...}} {"route":{...}}
//! {"end":{"records":42,"checksum":"sha256 of the content lines"}}      trailer
//! ```
//!
//! Out: [`Encoder`] writes line by line into a fixed buffer. In: [`Builder`] takes parsed lines
//! into an empty Snapshot; [`Builder::finish`] validates it whole and compares the checksum, which
//! is computed by encoding again what was understood: what a router serves is what was meant.

use super::filter::{read_filter, write_filter};
use super::identity::{Checksum, Identity, Source};
use super::snapshot::*;
use crate::limits::{MAX_CONFIG_BINDS, MAX_RECORD_SIZE_BYTES};
use crate::resource::document::Value;
use crate::stdx::{Full, Short, Span, Text};
use crate::wire::json::JsonWriter;
use core::fmt;
use sha2::{Digest as _, Sha256};

/// The version of the format.
pub const VERSION: i64 = 1;

/// Upstreams in one pool record; a larger pool goes on in `upstreams` records.
const UPSTREAMS_PER_RECORD: u32 = MAX_RECORD_SIZE_BYTES / 128;

/// What an encoder is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Header,
    Bind,
    Certificate,
    Listener,
    Pool,
    Route,
    End,
    Done,
}

/// Writes a Snapshot line by line. It must stay the same meanwhile (same identity).
#[derive(Clone, Copy, Debug, Default)]
pub struct Encoder {
    stage: Stage,
    /// In the stage's table.
    index: u32,
    /// Upstreams of the pool at `index` already written.
    upstreams: u32,
    records: u32,
    /// For the header and trailer; without it the Snapshot's own.
    identity: Identity,
    has_identity: bool,
    /// For people's eyes: no private keys.
    hides_keys: bool,
}

crate::zeroed_enum!(Stage { Header });
crate::zeroed_struct!(Encoder {
    stage: Stage,
    index: u32,
    upstreams: u32,
    records: u32,
    identity: Identity,
    has_identity: bool,
    hides_keys: bool,
});

impl Encoder {
    /// Begins with the header.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins with the header of another identity: one that was adopted for equal content.
    pub fn with_identity(identity: Identity) -> Self {
        Encoder { identity, has_identity: true, ..Self::default() }
    }

    /// Writes what may be shown: without private keys, so that it cannot be pushed.
    pub fn hiding_keys(self) -> Self {
        Encoder { hides_keys: true, ..self }
    }

    fn identity(&self, s: &Snapshot) -> Identity {
        if self.has_identity { self.identity } else { s.identity }
    }

    /// Writes the next line (with its newline) into `out`, which must be able to hold
    /// MAX_RECORD_SIZE_BYTES; None after the trailer. Full: the record is larger than a line.
    pub fn next_line<'o>(
        &mut self,
        snapshot: &Snapshot,
        out: &'o mut [u8],
    ) -> Option<Result<&'o [u8], Full>> {
        self.skip_finished(snapshot);
        if self.stage == Stage::Done {
            return None;
        }
        let room = out.len().min(MAX_RECORD_SIZE_BYTES as usize);
        let mut json = JsonWriter::new(&mut out[..room - 1]);
        self.write(snapshot, &mut json);
        let len = match json.finish() {
            Ok(text) => text.len(),
            Err(full) => return Some(Err(full)),
        };
        out[len] = b'\n';
        Some(Ok(&out[..=len]))
    }

    fn begin(&mut self, stage: Stage) {
        (self.stage, self.index, self.upstreams) = (stage, 0, 0);
    }

    /// Goes on to the next table when one is at its end.
    fn skip_finished(&mut self, s: &Snapshot) {
        if self.stage == Stage::Bind && self.index == s.binds.len() {
            self.begin(Stage::Certificate);
        }
        if self.stage == Stage::Certificate && self.index == s.certificates.len() {
            self.begin(Stage::Listener);
        }
        if self.stage == Stage::Listener && self.index == s.listeners.len() {
            self.begin(Stage::Pool);
        }
        if self.stage == Stage::Pool && self.index == s.pools.len() {
            self.begin(Stage::Route);
        }
        if self.stage == Stage::Route && self.index == s.routes.len() {
            self.begin(Stage::End);
        }
    }

    fn write(&mut self, s: &Snapshot, json: &mut JsonWriter<'_>) {
        json.begin_object();
        let index = self.index;
        match self.stage {
            Stage::Header => {
                let identity = self.identity(s);
                json.key("snapshot").number(VERSION).key("epoch").number(identity.epoch);
                json.key("generation").number(identity.generation);
                json.member("source", s.source.name());
                self.begin(Stage::Bind);
            }
            Stage::Bind => {
                write_bind(&s.binds[index], json.key("bind"));
                self.advance();
            }
            Stage::Certificate => {
                let certificate = &s.certificates[index];
                write_certificate(s, certificate, self.hides_keys, json.key("certificate"));
                self.advance();
            }
            Stage::Listener => {
                write_listener(s, &s.listeners[index], json.key("listener"));
                self.advance();
            }
            Stage::Pool => self.write_pool(s, json),
            Stage::Route => {
                write_route(s, &s.routes[index], json.key("route"));
                self.advance();
            }
            Stage::End => {
                json.key("end").begin_object().key("records").number(self.records);
                let checksum = self.identity(s).checksum;
                json.key("checksum").format(format_args!("{checksum}")).end_object();
                self.begin(Stage::Done);
            }
            Stage::Done => unreachable!("next_line returned before"),
        }
        json.end_object();
    }

    /// The pool's name with its first upstreams, or more of them.
    fn write_pool(&mut self, s: &Snapshot, json: &mut JsonWriter<'_>) {
        let pool = s.pools[self.index];
        if self.upstreams == 0 {
            json.key("pool").begin_object().member("name", s.text.get(pool.name));
        } else {
            json.key("more").begin_object().key("pool").number(self.index);
        }
        self.upstreams = write_upstreams(s, pool.upstreams, self.upstreams, json);
        json.end_object();
        if self.upstreams < pool.upstreams.len {
            self.records += 1;
        } else {
            self.advance();
        }
    }

    /// One record of the table is written.
    fn advance(&mut self) {
        self.index += 1;
        self.upstreams = 0;
        self.records += 1;
    }
}

/// The checksum of a Snapshot's content. `buffer` holds one record.
pub fn checksum(snapshot: &Snapshot, buffer: &mut [u8]) -> Result<Checksum, Full> {
    let mut encoder = Encoder { stage: Stage::Bind, ..Encoder::default() };
    let mut hash = Sha256::new();
    loop {
        encoder.skip_finished(snapshot);
        if encoder.stage == Stage::End {
            return Ok(Checksum(hash.finalize().into()));
        }
        if let Some(line) = encoder.next_line(snapshot, buffer) {
            hash.update(line?);
        }
    }
}

/// Writes one bind.
pub fn write_bind(bind: &Bind, json: &mut JsonWriter<'_>) {
    let Transport::Tcp = bind.transport;
    json.begin_object().member("transport", "tcp");
    json.key("address").format(format_args!("{}", bind.address));
    json.key("port").number(bind.port);
    if bind.is_tls {
        json.key("tls").bool(true);
    }
    json.end_object();
}

fn write_certificate(
    s: &Snapshot,
    certificate: &Certificate,
    hides_key: bool,
    json: &mut JsonWriter<'_>,
) {
    json.begin_object().member("name", s.text.get(certificate.name));
    json.member("chain", s.pem.get(certificate.chain));
    json.member("key", if hides_key { "" } else { s.pem.get(certificate.key) });
    json.end_object();
}

fn write_listener(s: &Snapshot, listener: &Listener, json: &mut JsonWriter<'_>) {
    json.begin_object().member("gateway", s.text.get(listener.gateway));
    json.member("section", s.text.get(listener.section));
    json.member("protocol", listener.protocol.name());
    json.key("port").number(listener.port).member("hostname", s.text.get(listener.hostname));
    json.key("binds").begin_array();
    s.attachments.span(listener.binds).iter().for_each(|&b| {
        json.number(b);
    });
    json.end_array();
    if listener.certificates.len > 0 {
        json.key("certificates").begin_array();
        s.certificate_refs.span(listener.certificates).iter().for_each(|&c| {
            json.number(c);
        });
        json.end_array();
    }
    json.end_object();
}

/// Writes `"upstreams":[…]` from one on; returns how many of the span are written then.
fn write_upstreams(s: &Snapshot, span: Span, from: u32, json: &mut JsonWriter<'_>) -> u32 {
    let to = span.len.min(from + UPSTREAMS_PER_RECORD);
    json.key("upstreams").begin_array();
    for upstream in &s.upstreams.span(span)[from as usize..to as usize] {
        json.format(format_args!("{}", upstream.address));
    }
    json.end_array();
    to
}

/// Writes one pool with all its upstreams (admin interface).
pub fn write_pool(s: &Snapshot, pool: &Pool, json: &mut JsonWriter<'_>) {
    json.begin_object().member("name", s.text.get(pool.name)).key("upstreams").begin_array();
    for upstream in s.upstreams.span(pool.upstreams) {
        json.format(format_args!("{}", upstream.address));
    }
    json.end_array().end_object();
}

/// Writes one route.
pub fn write_route(s: &Snapshot, route: &Route, json: &mut JsonWriter<'_>) {
    let text = |t| s.text.get(t);
    json.begin_object().member("name", text(route.name)).key("hosts").begin_array();
    for host in s.hosts.span(route.hosts) {
        json.begin_object().key("listener").number(host.listener);
        json.member("hostname", text(host.hostname)).end_object();
    }
    json.end_array();
    write_matches(s, route.matches, json);
    json.key("backends").begin_array();
    for backend in s.backends.span(route.backends) {
        json.begin_object();
        if backend.pool != POOL_INVALID {
            json.key("pool").number(backend.pool);
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

/// Writes the timeouts that a route has.
pub(super) fn write_timeouts(route: &Route, json: &mut JsonWriter<'_>) {
    for (key, ms) in [
        ("request_timeout_ms", route.request_timeout_ms),
        ("backend_timeout_ms", route.backend_timeout_ms),
    ] {
        if ms != 0 {
            json.key(key).number(ms);
        }
    }
}

/// Writes `"matches":[…]`.
pub(super) fn write_matches(s: &Snapshot, matches: Span, json: &mut JsonWriter<'_>) {
    json.key("matches").begin_array();
    for m in s.matches.span(matches) {
        let kind = if m.path_kind == PathKind::Exact { "exact" } else { "prefix" };
        json.begin_object().member(kind, s.text.get(m.path));
        json.member_unless_empty("method", m.method.name());
        write_conditions(s, "headers", m.headers, json);
        write_conditions(s, "queries", m.queries, json);
        json.end_object();
    }
    json.end_array();
}

fn write_conditions(s: &Snapshot, key: &str, span: Span, json: &mut JsonWriter<'_>) {
    if span.len == 0 {
        return;
    }
    json.key(key).begin_array();
    for condition in s.conditions.span(span) {
        json.begin_array().string(s.text.get(condition.name));
        json.string(s.text.get(condition.value)).end_array();
    }
    json.end_array();
}

/// Why a pushed Snapshot was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// A record is not understood: its number (0: the header) and what must hold.
    Record {
        /// Counted from 0.
        number: u32,
        /// What must hold and does not.
        what: &'static str,
    },
    /// A table of this router is full: the capacity to raise.
    Full {
        /// The capacity's name in limits.toml.
        capacity: &'static str,
    },
    /// The Snapshot as a whole is not valid.
    Invalid(Invalid),
    /// The content is not what the trailer's checksum says.
    Checksum,
    /// The trailer is missing.
    Truncated,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Record { number, what } => write!(f, "record {number}: {what}"),
            CodecError::Full { capacity } => write!(f, "more than {capacity} allows here"),
            CodecError::Invalid(Invalid { table, index, what }) => {
                write!(f, "{table} {index}: {what}")
            }
            CodecError::Checksum => f.write_str("the checksum does not match the content"),
            CodecError::Truncated => f.write_str("the end record is missing"),
        }
    }
}

fn full(capacity: &'static str) -> impl Fn(Full) -> CodecError {
    move |Full| CodecError::Full { capacity }
}

/// Builds a Snapshot from parsed lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Builder {
    records: u32,
    identity: Identity,
    has_header: bool,
    has_end: bool,
}

crate::zeroed_struct!(Builder {
    records: u32,
    identity: Identity,
    has_header: bool,
    has_end: bool,
});

impl Builder {
    /// Begins; the Snapshot that `record` fills must be cleared.
    pub fn new() -> Self {
        Self::default()
    }

    /// The identity of the header (its checksum only after the trailer).
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether the header was taken.
    pub fn has_header(&self) -> bool {
        self.has_header
    }

    /// Takes one parsed line.
    pub fn record(&mut self, value: Value<'_>, into: &mut Snapshot) -> Result<(), CodecError> {
        let number = self.records;
        let bad = |what| CodecError::Record { number, what };
        if self.has_end {
            return Err(bad("nothing may follow the end record"));
        }
        if !self.has_header {
            return self.header(value, into);
        }
        let Some(member) = value.items().next() else { return Err(bad("must be an object")) };
        self.records += 1;
        let taken = match member.name() {
            "bind" => read_bind(member, into),
            "certificate" => read_certificate(member, into),
            "listener" => read_listener(member, into),
            "pool" => read_pool(member, into),
            "more" => read_more(member, into),
            "route" => read_route(member, into),
            "end" => self.end(member),
            _ => Err(Fault::Bad("must be bind, certificate, listener, pool, more, route or end")),
        };
        taken.map_err(|fault| match fault {
            Fault::Bad(what) => bad(what),
            Fault::Full(capacity) => CodecError::Full { capacity },
        })
    }

    fn header(&mut self, value: Value<'_>, into: &mut Snapshot) -> Result<(), CodecError> {
        let bad = |what| CodecError::Record { number: 0, what };
        let number = |name| value.get(name).and_then(Value::int);
        if number("snapshot") != Some(VERSION) {
            return Err(bad("the first record must be the header of snapshot version 1"));
        }
        let unsigned = |name| number(name).and_then(|n| u64::try_from(n).ok());
        let (epoch, generation) = (unsigned("epoch"), unsigned("generation"));
        let (Some(epoch), Some(generation)) = (epoch, generation) else {
            return Err(bad("epoch and generation must be integers from 0"));
        };
        let source = Source::parse(value.text("source")).ok_or(bad("source is not known"))?;
        self.identity = Identity { epoch, generation, checksum: Checksum::default() };
        into.source = source;
        self.has_header = true;
        Ok(())
    }

    fn end(&mut self, value: Value<'_>) -> Result<(), Fault> {
        let records = value.get("records").and_then(Value::int);
        if records != Some(i64::from(self.records - 1)) {
            return Err(Fault::Bad("the end record counts other records"));
        }
        let checksum = Checksum::parse(value.text("checksum"));
        self.identity.checksum = checksum.ok_or(Fault::Bad("checksum must be 64 hex digits"))?;
        self.has_end = true;
        Ok(())
    }

    /// Validates the whole and compares the checksum; sets the Snapshot's identity.
    /// `buffer` holds one record.
    pub fn finish(self, into: &mut Snapshot, buffer: &mut [u8]) -> Result<(), CodecError> {
        if !self.has_end {
            return Err(CodecError::Truncated);
        }
        into.validate().map_err(CodecError::Invalid)?;
        let checksum = checksum(into, buffer).map_err(full("MAX_RECORD_SIZE_BYTES"))?;
        if checksum != self.identity.checksum {
            return Err(CodecError::Checksum);
        }
        into.identity = self.identity;
        Ok(())
    }
}

/// Why a record is not taken.
pub(super) enum Fault {
    /// What must hold and does not.
    Bad(&'static str),
    /// The capacity that is full.
    Full(&'static str),
}

pub(super) fn no_room(capacity: &'static str) -> impl Fn(Full) -> Fault {
    move |Full| Fault::Full(capacity)
}

pub(super) fn keep(into: &mut Snapshot, text: &str) -> Result<Text, Fault> {
    into.text.push(text).map_err(no_room("MAX_CONFIG_TEXT_BYTES"))
}

pub(super) fn unsigned(value: Value<'_>, member: &str) -> Option<u32> {
    value.get(member).and_then(Value::int).and_then(|n| u32::try_from(n).ok())
}

pub(super) fn items<'d>(value: Value<'d>, member: &str) -> impl Iterator<Item = Value<'d>> {
    value.get(member).into_iter().flat_map(|m| m.items())
}

fn port(value: Value<'_>) -> Result<u16, Fault> {
    let port = unsigned(value, "port").and_then(|p| u16::try_from(p).ok());
    port.ok_or(Fault::Bad("port must be 1-65535"))
}

fn read_bind(value: Value<'_>, into: &mut Snapshot) -> Result<(), Fault> {
    if value.text("transport") != "tcp" {
        return Err(Fault::Bad("transport must be tcp"));
    }
    let address = value.text("address").parse().map_err(|_| Fault::Bad("address must be an IP"))?;
    let is_tls = value.get("tls").and_then(Value::bool).unwrap_or(false);
    let bind = Bind { transport: Transport::Tcp, address, port: port(value)?, is_tls };
    into.binds.push(bind).map(|_| ()).map_err(no_room("MAX_CONFIG_BINDS"))
}

fn read_certificate(value: Value<'_>, into: &mut Snapshot) -> Result<(), Fault> {
    let (name, chain, key) = (value.text("name"), value.text("chain"), value.text("key"));
    let added = into.add_certificate(name, chain, key);
    added.map(|_| ()).map_err(no_room("MAX_CONFIG_CERTIFICATES or MAX_CONFIG_PEM_BYTES"))
}

fn read_listener(value: Value<'_>, into: &mut Snapshot) -> Result<(), Fault> {
    let protocol = Protocol::parse(value.text("protocol"));
    let protocol = protocol.ok_or(Fault::Bad("protocol must be HTTP or HTTPS"))?;
    let start = into.attachments.len();
    for bind in items(value, "binds").take(MAX_CONFIG_BINDS as usize) {
        let index = bind.int().and_then(|b| u32::try_from(b).ok());
        let index = index.ok_or(Fault::Bad("binds must be indexes"))?;
        into.attachments.push(index).map_err(no_room("MAX_CONFIG_ATTACHMENTS"))?;
    }
    let binds = into.attachments.span_from(start);
    let start = into.certificate_refs.len();
    for item in items(value, "certificates") {
        let index = item.int().and_then(|c| u32::try_from(c).ok());
        let index = index.ok_or(Fault::Bad("certificates must be indexes"))?;
        into.certificate_refs.push(index).map_err(no_room("MAX_CONFIG_CERTIFICATE_REFS"))?;
    }
    let listener = Listener {
        gateway: keep(into, value.text("gateway"))?,
        section: keep(into, value.text("section"))?,
        hostname: keep(into, value.text("hostname"))?,
        port: port(value)?,
        protocol,
        binds,
        certificates: into.certificate_refs.span_from(start),
    };
    into.listeners.push(listener).map(|_| ()).map_err(no_room("MAX_CONFIG_LISTENERS"))
}

/// Reads one upstream: `address:port`.
pub fn read_upstream(value: Value<'_>) -> Option<Upstream> {
    Some(Upstream { address: value.str()?.parse().ok()? })
}

fn read_upstreams(value: Value<'_>, into: &mut Snapshot) -> Result<(), Fault> {
    for item in items(value, "upstreams") {
        let upstream = read_upstream(item).ok_or(Fault::Bad("an upstream must be address:port"))?;
        into.upstreams.push(upstream).map_err(no_room("MAX_CONFIG_UPSTREAMS"))?;
    }
    Ok(())
}

/// Reads one pool into the Snapshot's tables.
fn read_pool(value: Value<'_>, into: &mut Snapshot) -> Result<(), Fault> {
    let start = into.upstreams.len();
    let name = keep(into, value.text("name"))?;
    read_upstreams(value, into)?;
    let pool = Pool { name, upstreams: into.upstreams.span_from(start) };
    into.pools.push(pool).map(|_| ()).map_err(no_room("MAX_CONFIG_POOLS"))
}

fn read_more(value: Value<'_>, into: &mut Snapshot) -> Result<(), Fault> {
    let last = into.pools.len().checked_sub(1);
    if last.is_none() || unsigned(value, "pool") != last {
        return Err(Fault::Bad("more must go on with the last pool"));
    }
    read_upstreams(value, into)?;
    let index = last.unwrap_or(0);
    let start = into.pools[index].upstreams.start;
    into.pools[index].upstreams = into.upstreams.span_from(start);
    Ok(())
}

fn read_route(value: Value<'_>, into: &mut Snapshot) -> Result<(), Fault> {
    let name = keep(into, value.text("name"))?;
    let start = into.hosts.len();
    for host in items(value, "hosts") {
        let listener = unsigned(host, "listener");
        let listener = listener.ok_or(Fault::Bad("hosts need a listener index"))?;
        let hostname = keep(into, host.text("hostname"))?;
        let pushed = into.hosts.push(RouteHost { listener, hostname });
        pushed.map_err(no_room("MAX_CONFIG_HOSTS"))?;
    }
    let hosts = into.hosts.span_from(start);
    let start = into.matches.len();
    for item in items(value, "matches") {
        let m = read_match(item, into)?;
        into.matches.push(m).map_err(no_room("MAX_CONFIG_MATCHES"))?;
    }
    let matches = into.matches.span_from(start);
    let start = into.backends.len();
    for item in items(value, "backends") {
        let pool = match item.get("pool") {
            None => POOL_INVALID,
            Some(_) => unsigned(item, "pool").ok_or(Fault::Bad("pool must be an index"))?,
        };
        let weight = unsigned(item, "weight").ok_or(Fault::Bad("weight must be an integer"))?;
        let filter = read_filter(item, into)?;
        into.backends
            .push(Backend { pool, weight, filter })
            .map_err(no_room("MAX_CONFIG_BACKENDS"))?;
    }
    let backends = into.backends.span_from(start);
    let request_timeout_ms = unsigned(value, "request_timeout_ms").unwrap_or(0);
    let backend_timeout_ms = unsigned(value, "backend_timeout_ms").unwrap_or(0);
    let filter = read_filter(value, into)?;
    let route =
        Route { name, hosts, matches, backends, filter, request_timeout_ms, backend_timeout_ms };
    into.routes.push(route).map(|_| ()).map_err(no_room("MAX_CONFIG_ROUTES"))
}

pub(super) fn read_match(value: Value<'_>, into: &mut Snapshot) -> Result<Match, Fault> {
    let (path_kind, path) = match (value.get("exact"), value.get("prefix")) {
        (Some(path), None) => (PathKind::Exact, path),
        (None, Some(path)) => (PathKind::Prefix, path),
        _ => return Err(Fault::Bad("a match needs either exact or prefix")),
    };
    let path = keep(into, path.str().ok_or(Fault::Bad("a path must be a string"))?)?;
    let method = match value.text("method") {
        "" => Method::Any,
        name => Method::parse(name).ok_or(Fault::Bad("method is not known"))?,
    };
    let headers = read_conditions(value, "headers", into)?;
    let queries = read_conditions(value, "queries", into)?;
    Ok(Match { path_kind, path, method, headers, queries })
}

fn read_conditions(value: Value<'_>, key: &str, into: &mut Snapshot) -> Result<Span, Fault> {
    let start = into.conditions.len();
    for pair in items(value, key) {
        let mut texts = pair.items().filter_map(Value::str);
        let (Some(name), Some(text)) = (texts.next(), texts.next()) else {
            return Err(Fault::Bad("a condition must be a pair of strings"));
        };
        let (name, value) = (keep(into, name)?, keep(into, text)?);
        let pushed = into.conditions.push(Condition { name, value });
        pushed.map_err(no_room("MAX_CONFIG_CONDITIONS"))?;
    }
    Ok(into.conditions.span_from(start))
}

/// A bind's name in reports and logs: `tcp:10.0.0.1:80`.
pub fn bind_name(bind: &Bind) -> Short<64> {
    let Transport::Tcp = bind.transport;
    let address = core::net::SocketAddr::new(bind.address, bind.port);
    Short::truncated(format_args!("tcp:{address}"))
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
