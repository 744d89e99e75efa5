//! The router's admin pages: /healthz, /readyz, /status (the report), /metrics, /config, /limits,
//! `POST /routes/update`, and local changes under /routes and /pools ([`crate::config::local`]).
//!
//! In: requests. Out: answers; a push or a change that is taken is published, the workers are
//! woken, and the answer, the report, is given when all of them serve it.

use super::RouterOptions;
use super::served::ServedCell;
use crate::admin::{Connection, Method, Request};
use crate::config::codec::{Encoder, bind_name, write_pool};
use crate::config::local::{self, Change, Target};
use crate::config::report::BindReport;
use crate::config::storage::Writer;
use crate::config::{ConfigStorage, Report, Snapshot, Source};
use crate::limits::{ADMIN_TIMEOUT_MS, Capacities, MAX_ADMIN_CONNECTIONS, MAX_LOCAL_BODY_BYTES};
use crate::metrics::Metrics;
use crate::resource::document::Document;
use crate::router::Counters;
use crate::router::update::{Taken, UpdateError, Updater};
use crate::shell::admin::{Seen, Service, write_limits};
use crate::shell::health::{self, Health};
use crate::shell::json;
use crate::shell::log::log;
use crate::shell::net::Control;
use crate::shell::place::boxed_zeroed;
use crate::shell::tls::rustls::certificates::Certificates;
use crate::stdx::{Duration, Instant, Now, Short};
use crate::wire::json::JsonWriter;
use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

/// What other threads know of the router.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The configuration.
    pub storage: &'static ConfigStorage,
    /// One order book per worker.
    pub controls: Vec<Arc<Control>>,
    /// What is served.
    pub served: Arc<ServedCell>,
    /// Random at each start.
    pub boot_id: u64,
    /// What is seen of the admin port.
    pub admin: Seen,
}

impl Shown {
    /// Whether every worker has opened the binds of what is published.
    pub fn is_adopted(&self) -> bool {
        let generation = self.storage.generation();
        self.controls.iter().all(|c| c.status().generation() == Some(generation))
    }

    /// Makes every worker run a turn.
    pub fn wake(&self) {
        self.controls.iter().for_each(|control| control.wake());
    }

    /// The report. Without a seat among the readers (never in practice) it has no binds.
    pub fn report(&self) -> Report {
        let served = self.served.get();
        let mut report = Report {
            boot_id: self.boot_id,
            identity: served.identity,
            source: served.source,
            ready: served.source != Source::None && self.is_adopted(),
            ..Report::default()
        };
        let Some(mut reader) = self.storage.reader() else { return report };
        reader.turn(|slot, _| {
            for (index, bind) in (0..).zip(slot.snapshot.binds.as_slice()) {
                let errors = self.controls.iter().filter_map(|c| c.status().bind(index).err());
                let errno = errors.map(|e| e.0.unsigned_abs()).next().unwrap_or(0);
                // As many as the Snapshot has.
                let _ = report.binds.push(BindReport { id: bind_name(bind), errno });
            }
        });
        report
    }
}

impl Health for Shown {
    fn ready(&self) -> Result<(), &'static str> {
        let ready = self.served.get().source != Source::None && self.is_adopted();
        if ready { Ok(()) } else { Err("nothing is served yet") }
    }

    fn metrics(&self, out: &mut [u8]) -> Option<usize> {
        let mut metrics = Metrics::new(out);
        let served = self.served.get().identity;
        metrics.gauge("serval_router_epoch", "Epoch of what is served", served.epoch);
        metrics.gauge("serval_router_generation", "Its generation", served.generation);
        let what = "Admin connections without the controller's identity";
        metrics.counter("serval_router_admin_refused_total", what, self.admin.refused());
        self.admin.until().write(&mut metrics);
        for (place, name) in Counters::NAMES.iter().enumerate() {
            let all = self.controls.iter().map(|c| c.status().counter(place)).sum();
            let gauge = matches!(*name, "clients" | "upstreams");
            let suffix = if gauge { "" } else { "_total" };
            let full = Short::<64>::truncated(format_args!("serval_router_{name}{suffix}"));
            match gauge {
                true => metrics.gauge(full.as_str(), "docs/OPERATING.md", all),
                false => metrics.counter(full.as_str(), "docs/OPERATING.md", all),
            }
        }
        metrics.finish()
    }
}

/// What a connection is about.
#[derive(Clone, Copy, Debug, Default)]
struct Talk {
    /// What a streamed answer is at.
    stream: Stream,
    /// A push that failed: what to say.
    failed: Option<UpdateError>,
    /// The status of the answer that is owed.
    status: u16,
    /// The answer is owed until then at most.
    owed_until: Instant,
}

/// An answer in pieces.
#[derive(Clone, Copy, Debug, Default)]
enum Stream {
    Config(Encoder),
    /// The next of all routes, of all pools.
    Routes(u32),
    Pools(u32),
    #[default]
    Ended,
}

/// The body of a local change, of one connection at a time.
#[derive(Debug)]
struct Body {
    len: usize,
    /// It is longer than MAX_LOCAL_BODY_BYTES.
    overflowed: bool,
    bytes: [u8; MAX_LOCAL_BODY_BYTES as usize],
}

crate::zeroed_struct!(Body {
    len: usize,
    overflowed: bool,
    bytes: [u8; MAX_LOCAL_BODY_BYTES as usize],
});

impl Body {
    fn clear(&mut self) {
        (self.len, self.overflowed) = (0, false);
    }

    /// A line, of which the newline was taken.
    fn line(&mut self, line: &[u8]) -> bool {
        let end = self.len + line.len();
        match self.bytes.get_mut(self.len..end) {
            Some(place) if end < MAX_LOCAL_BODY_BYTES as usize => {
                place.copy_from_slice(line);
                self.bytes[end] = b'\n';
                self.len = end + 1;
            }
            _ => self.overflowed = true,
        }
        !self.overflowed
    }
}

/// The pages of a router.
#[derive(Debug)]
pub struct Pages {
    shown: Shown,
    /// None in standalone: the folder owns the configuration.
    writer: Option<Writer<'static>>,
    updater: Box<Updater>,
    /// The connection whose push runs.
    pushing: Option<usize>,
    /// The connection whose local change comes in, into `body`.
    changing: Option<usize>,
    body: Box<Body>,
    talks: [Talk; MAX_ADMIN_CONNECTIONS as usize],
    token: Short<512>,
    capacities: Capacities,
    certificates: &'static Certificates,
}

fn parse(line: &[u8], document: &mut Document) -> bool {
    json::parse(line, document).is_ok()
}

impl Pages {
    /// The pages. `updater` knows what was loaded at start.
    pub fn new(
        shown: Shown,
        writer: Option<Writer<'static>>,
        updater: Box<Updater>,
        token: Short<512>,
        options: &RouterOptions,
        certificates: &'static Certificates,
    ) -> Pages {
        let talks = [Talk::default(); MAX_ADMIN_CONNECTIONS as usize];
        Pages {
            shown,
            writer,
            updater,
            pushing: None,
            changing: None,
            body: boxed_zeroed(),
            talks,
            token,
            capacities: options.capacities,
            certificates,
        }
    }

    fn may(&self, request: &Request) -> bool {
        let open = matches!(request.path.as_str(), "/healthz" | "/readyz" | "/metrics" | "/status");
        // Compared in full, so that time does not tell how much of it was right.
        let given = request.token.as_str().as_bytes();
        let token = self.token.as_str().as_bytes();
        let differs = given.iter().zip(token).fold(0, |sum, (a, b)| sum | (a ^ b));
        open || (given.len() == token.len() && differs == 0)
    }

    fn begin_push(&mut self, id: usize, now: Now) -> Result<(), (u16, &'static str)> {
        let Some(writer) = &mut self.writer else {
            return Err((409, "the folder of manifests owns this configuration"));
        };
        match self.updater.begin(writer, now) {
            Ok(()) => {
                self.pushing = Some(id);
                Ok(())
            }
            Err(UpdateError::Grace) => Err((503, "the last swap is not finished")),
            Err(_) => Err((409, "another push runs")),
        }
    }

    /// A local change begins: its body follows.
    fn begin_change(&mut self, id: usize) -> Result<(), (u16, &'static str)> {
        if self.writer.is_none() {
            return Err((409, "the folder of manifests owns this configuration"));
        }
        if self.updater.served().0.epoch > 0 {
            return Err((409, "a controller owns this router's configuration"));
        }
        if self.changing.is_some() {
            return Err((503, "another change runs"));
        }
        self.body.clear();
        self.changing = Some(id);
        Ok(())
    }

    fn end_change(&mut self, id: usize, connection: &mut Connection, now: Now) {
        self.changing = None;
        let request = *connection.request();
        let change = Target::parse(request.path.as_str()).and_then(|t| change(request.method, t));
        let (Some(change), Some(writer)) = (change, &mut self.writer) else {
            return connection.answer_text(405, format_args!("no such method here"));
        };
        if self.body.overflowed {
            let text = format_args!("the body is longer than {MAX_LOCAL_BODY_BYTES} bytes");
            return connection.answer_text(413, text);
        }
        let body = &self.body.bytes[..self.body.len];
        let taken = self.updater.change(&change, body, parse, writer, now);
        let created =
            matches!(change, Change::PostRoute | Change::PostPool | Change::PostUpstream(_));
        self.taken(id, taken, if created { 201 } else { 200 }, connection, now);
    }

    fn end_push(&mut self, id: usize, connection: &mut Connection, now: Now) {
        self.pushing = None;
        let failed = self.talks[id].failed.take();
        let taken = match (failed, &mut self.writer) {
            (Some(error), _) => Err(error),
            (None, Some(writer)) => {
                let certificates = self.certificates;
                self.updater.finish(writer, |next, served| certificates.load(next, served))
            }
            (None, None) => Err(UpdateError::Busy),
        };
        self.taken(id, taken, 200, connection, now);
    }

    /// What became of a push or a change; `status`: of the answer when all is well.
    fn taken(
        &mut self,
        id: usize,
        taken: Result<Taken, UpdateError>,
        status: u16,
        connection: &mut Connection,
        now: Now,
    ) {
        let (identity, source) = self.updater.served();
        let (epoch, generation) = (identity.epoch, identity.generation);
        match taken {
            Ok(taken) => {
                if taken != Taken::Same {
                    log!(Info, "update", "{taken:?} epoch={epoch} generation={generation}");
                    self.shown.served.set(identity, source);
                }
                self.shown.wake();
                let limit = Duration::from_millis(u64::from(ADMIN_TIMEOUT_MS) / 2);
                (self.talks[id].status, self.talks[id].owed_until) = (status, now.mono + limit);
            }
            Err(error) => {
                log!(Warn, "update", "refused: {error}");
                connection.answer_text(error.status(), format_args!("{error}"));
            }
        }
    }

    fn write_report(&self, out: &mut [u8]) -> Option<usize> {
        let mut json = JsonWriter::new(out);
        self.shown.report().write(&mut json);
        json.finish().ok().map(str::len)
    }

    /// A page under /routes or /pools.
    fn show(&mut self, id: usize, target: Target<'_>, connection: &mut Connection) {
        const JSON: &str = "application/json";
        match target {
            Target::Routes | Target::Pools => {
                let all = if target == Target::Routes { Stream::Routes } else { Stream::Pools };
                self.talks[id].stream = all(0);
                return connection.answer_stream(JSON);
            }
            _ => {}
        }
        let Some(mut reader) = self.shown.storage.reader() else { return };
        reader.turn(|slot, _| {
            let s = &slot.snapshot;
            // Without room it says whether there is something to write.
            if write_target(s, target, &mut JsonWriter::new(&mut [])).is_none() {
                return connection.answer_text(404, format_args!("there is none of that name"));
            }
            connection.answer(200, JSON, |out| {
                let mut json = JsonWriter::new(out);
                write_target(s, target, &mut json)?;
                json.finish().ok().map(str::len)
            });
        });
    }

    fn page(&mut self, id: usize, connection: &mut Connection) {
        if health::answer(&self.shown, connection) {
            return;
        }
        let path = connection.request().path;
        match path.as_str() {
            "/status" => connection.answer(200, "application/json", |out| self.write_report(out)),
            "/limits" => connection
                .answer(200, "application/json", |out| write_limits(&self.capacities, out)),
            "/config" => {
                let identity = self.shown.served.get().identity;
                self.talks[id].stream =
                    Stream::Config(Encoder::with_identity(identity).hiding_keys());
                connection.answer_stream("application/x-ndjson");
            }
            path => match Target::parse(path) {
                Some(target) => self.show(id, target, connection),
                None => connection.answer_text(404, format_args!("no such page")),
            },
        }
    }
}

/// The change that a request means.
fn change(method: Method, target: Target<'_>) -> Option<Change<'_>> {
    Some(match (method, target) {
        (Method::Post, Target::Routes) => Change::PostRoute,
        (Method::Put, Target::Route(name)) => Change::PutRoute(name),
        (Method::Delete, Target::Route(name)) => Change::DeleteRoute(name),
        (Method::Post, Target::Pools) => Change::PostPool,
        (Method::Put, Target::Pool(name)) => Change::PutPool(name),
        (Method::Delete, Target::Pool(name)) => Change::DeletePool(name),
        (Method::Post, Target::Upstreams(pool)) => Change::PostUpstream(pool),
        (Method::Put, Target::Upstream(pool, address)) => Change::PutUpstream(pool, address),
        (Method::Delete, Target::Upstream(pool, address)) => Change::DeleteUpstream(pool, address),
        _ => return None,
    })
}

/// Writes what a target shows; None when there is none of that name.
fn write_target(s: &Snapshot, target: Target<'_>, json: &mut JsonWriter<'_>) -> Option<()> {
    let pool_of = |name| s.pools.as_slice().iter().find(|p| s.text.get(p.name) == name);
    match target {
        Target::Routes | Target::Pools => return None,
        Target::Route(name) => {
            let mut routes = s.routes.as_slice().iter();
            local::write_route(s, routes.find(|r| s.text.get(r.name) == name)?, json);
        }
        Target::Pool(name) => write_pool(s, pool_of(name)?, json),
        Target::Upstreams(name) => {
            let pool = pool_of(name)?;
            json.begin_array();
            s.upstreams.span(pool.upstreams).iter().for_each(|u| local::write_upstream(u, json));
            json.end_array();
        }
        Target::Upstream(name, address) => {
            let upstreams = s.upstreams.span(pool_of(name)?.upstreams);
            local::write_upstream(upstreams.iter().find(|u| u.address == address)?, json);
        }
    }
    Some(())
}

/// Writes item `at` of a list with what separates it from the one before; None after the end.
fn list_item(
    (at, len): (u32, u32),
    out: &mut [u8],
    write: impl FnOnce(&mut JsonWriter<'_>),
) -> Option<usize> {
    if at > len {
        return None;
    }
    out[0] = if at == 0 { b'[' } else { b',' };
    if at == len {
        // An empty list has its bracket still to open.
        let end: &[u8] = if len == 0 { b"[]\n" } else { b"]\n" };
        out[..end.len()].copy_from_slice(end);
        return Some(end.len());
    }
    let mut json = JsonWriter::new(&mut out[1..]);
    write(&mut json);
    json.finish().ok().map(|text| text.len() + 1)
}

impl Service for Pages {
    fn begin(&mut self, id: usize, request: &Request, now: Now) -> Result<(), (u16, &'static str)> {
        self.talks[id] = Talk::default();
        if !self.may(request) {
            return Err((401, "the admin token is needed: Authorization: Bearer"));
        }
        match (request.method, request.path.as_str()) {
            (Method::Post, "/routes/update") => self.begin_push(id, now),
            (Method::Get, _) => Ok(()),
            (method, path) => match Target::parse(path).map(|target| change(method, target)) {
                Some(Some(_)) => self.begin_change(id),
                Some(None) => Err((405, "no such method here")),
                None => Err((404, "no such page")),
            },
        }
    }

    fn line(&mut self, id: usize, line: &[u8], now: Now) -> bool {
        if self.changing == Some(id) {
            return self.body.line(line);
        }
        let (Some(pushing), Some(writer)) = (self.pushing, &mut self.writer) else { return true };
        if pushing != id {
            return true;
        }
        let taken = self.updater.line(line, writer, parse, now);
        self.talks[id].failed = taken.err();
        taken.is_ok()
    }

    fn end(&mut self, id: usize, connection: &mut Connection, now: Now) {
        if self.pushing == Some(id) {
            self.end_push(id, connection, now);
        } else if self.changing == Some(id) {
            self.end_change(id, connection, now);
        } else if connection.request().method == Method::Post {
            // A push that stalled: another one, or a change, came since.
            self.taken(id, Err(UpdateError::Timeout), 200, connection, now);
        } else {
            self.page(id, connection);
        }
    }

    fn owed(&mut self, id: usize, connection: &mut Connection, now: Now) {
        if self.shown.is_adopted() || now.mono >= self.talks[id].owed_until {
            let status = self.talks[id].status;
            connection.answer(status, "application/json", |out| self.write_report(out));
        }
    }

    fn piece(&mut self, id: usize, connection: &mut Connection) {
        let Pages { shown, talks, .. } = self;
        let Some(mut reader) = shown.storage.reader() else { return };
        let served = shown.served.get().identity.checksum;
        connection.piece(|out| {
            reader.turn(|slot, _| {
                let s = &slot.snapshot;
                // Swapped meanwhile: the end is missing, and the reader of it can tell.
                if s.identity.checksum != served {
                    return None;
                }
                match &mut talks[id].stream {
                    Stream::Config(encoder) => encoder.next_line(s, out)?.ok().map(<[u8]>::len),
                    Stream::Routes(at) => {
                        let place = (core::mem::replace(at, *at + 1), s.routes.len());
                        list_item(place, out, |j| local::write_route(s, &s.routes[place.0], j))
                    }
                    Stream::Pools(at) => {
                        let place = (core::mem::replace(at, *at + 1), s.pools.len());
                        list_item(place, out, |j| write_pool(s, &s.pools[place.0], j))
                    }
                    Stream::Ended => None,
                }
            })
        });
    }

    fn gone(&mut self, id: usize) {
        if self.pushing == Some(id) {
            self.pushing = None;
            self.updater.abort();
        }
        if self.changing == Some(id) {
            self.changing = None;
        }
    }
}
