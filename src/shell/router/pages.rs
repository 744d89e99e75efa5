//! The router's admin pages: /healthz, /readyz, /status (the report), /metrics, /config, /limits,
//! and `POST /routes/update`.
//!
//! In: requests. Out: answers; a push that is taken is published, the workers are woken, and the
//! answer, the report, is given when all of them serve it.

use super::served::ServedCell;
use crate::admin::{Connection, Method, Request};
use crate::config::codec::{Encoder, bind_name};
use crate::config::report::BindReport;
use crate::config::storage::Writer;
use crate::config::{ConfigStorage, Report, Source};
use crate::limits::{ADMIN_TIMEOUT_MS, Capacities, MAX_ADMIN_CONNECTIONS};
use crate::metrics::Metrics;
use crate::resource::document::Document;
use crate::router::Counters;
use crate::router::update::{Taken, UpdateError, Updater};
use crate::shell::admin::{Service, write_limits};
use crate::shell::json;
use crate::shell::log::log;
use crate::shell::net::Control;
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

/// What a connection is about.
#[derive(Clone, Copy, Debug, Default)]
struct Talk {
    encoder: Encoder,
    /// A push that failed: what to say.
    failed: Option<UpdateError>,
    /// The answer is owed until then at most.
    owed_until: Instant,
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
    talks: [Talk; MAX_ADMIN_CONNECTIONS as usize],
    token: Short<512>,
    capacities: Capacities,
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
        capacities: Capacities,
    ) -> Pages {
        let talks = [Talk::default(); MAX_ADMIN_CONNECTIONS as usize];
        Pages { shown, writer, updater, pushing: None, talks, token, capacities }
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

    fn end_push(&mut self, id: usize, connection: &mut Connection, now: Now) {
        self.pushing = None;
        let failed = self.talks[id].failed.take();
        let taken = match (failed, &mut self.writer) {
            (Some(error), _) => Err(error),
            (None, Some(writer)) => self.updater.finish(writer),
            (None, None) => Err(UpdateError::Busy),
        };
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
                self.talks[id].owed_until = now.mono + limit;
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

    fn metrics(&self, out: &mut [u8]) -> Option<usize> {
        let mut metrics = Metrics::new(out);
        let served = self.shown.served.get().identity;
        metrics.gauge("serval_router_epoch", "Epoch of what is served", served.epoch);
        metrics.gauge("serval_router_generation", "Its generation", served.generation);
        for (place, name) in Counters::NAMES.iter().enumerate() {
            let all = self.shown.controls.iter().map(|c| c.status().counter(place)).sum();
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

    fn page(&mut self, id: usize, connection: &mut Connection) {
        let path = connection.request().path;
        let ready = self.shown.served.get().source != Source::None && self.shown.is_adopted();
        match path.as_str() {
            "/healthz" => connection.answer_text(200, format_args!("ok")),
            "/readyz" if ready => connection.answer_text(200, format_args!("ok")),
            "/readyz" => connection.answer_text(503, format_args!("nothing is served yet")),
            "/status" => connection.answer(200, "application/json", |out| self.write_report(out)),
            "/metrics" => connection.answer(200, Metrics::CONTENT_TYPE, |out| self.metrics(out)),
            "/limits" => connection
                .answer(200, "application/json", |out| write_limits(&self.capacities, out)),
            "/config" => {
                let identity = self.shown.served.get().identity;
                self.talks[id].encoder = Encoder::with_identity(identity);
                connection.answer_stream("application/x-ndjson");
            }
            _ => connection.answer_text(404, format_args!("no such page")),
        }
    }
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
            _ => Err((405, "no such method here")),
        }
    }

    fn line(&mut self, id: usize, line: &[u8], now: Now) -> bool {
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
        } else {
            self.page(id, connection);
        }
    }

    fn owed(&mut self, id: usize, connection: &mut Connection, now: Now) {
        if self.shown.is_adopted() || now.mono >= self.talks[id].owed_until {
            connection.answer(200, "application/json", |out| self.write_report(out));
        }
    }

    fn piece(&mut self, id: usize, connection: &mut Connection) {
        let Pages { shown, talks, .. } = self;
        let Some(mut reader) = shown.storage.reader() else { return };
        let same = |checksum| checksum == shown.served.get().identity.checksum;
        connection.piece(|out| {
            reader.turn(|slot, _| {
                // Swapped meanwhile: the end is missing, and the reader of it can tell.
                if !same(slot.snapshot.identity.checksum) {
                    return None;
                }
                talks[id].encoder.next_line(&slot.snapshot, out)?.ok().map(<[u8]>::len)
            })
        });
    }

    fn gone(&mut self, id: usize) {
        if self.pushing == Some(id) {
            self.pushing = None;
            self.updater.abort();
        }
    }
}
