//! The controller's admin pages: /healthz, /readyz (after the first barrier), /metrics, /config,
//! /limits. All are read-only and hold no secret.

use super::numbers::Numbers;
use crate::admin::{Connection, Method, Request};
use crate::limits::Capacities;
use crate::metrics::Metrics;
use crate::resource::Kind;
use crate::shell::admin::{Service, write_limits};
use crate::shell::health::{self, Health};
use crate::stdx::Now;
use crate::wire::json::JsonWriter;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// The pages.
#[derive(Clone, Debug)]
pub struct AdminPages {
    numbers: Arc<Numbers>,
    capacities: Capacities,
}

impl AdminPages {
    /// Pages that show these numbers.
    pub fn new(numbers: Arc<Numbers>, capacities: Capacities) -> Self {
        AdminPages { numbers, capacities }
    }

    fn config(&self, out: &mut [u8]) -> Option<usize> {
        let get = |place: &AtomicU64| place.load(Ordering::Relaxed);
        let mut json = JsonWriter::new(out);
        json.begin_object().key("epoch").number(get(&self.numbers.epoch));
        json.key("generation").number(get(&self.numbers.generation));
        json.key("routes").number(get(&self.numbers.routes)).end_object();
        json.finish().ok().map(str::len)
    }
}

impl Health for AdminPages {
    fn ready(&self) -> Result<(), &'static str> {
        let ready = self.numbers.ready.load(Ordering::Relaxed);
        if ready { Ok(()) } else { Err("not every kind has synced") }
    }

    fn metrics(&self, out: &mut [u8]) -> Option<usize> {
        let n = &*self.numbers;
        let get = |place: &AtomicU64| place.load(Ordering::Relaxed);
        let mut metrics = Metrics::new(out);
        metrics.gauge("serval_controller_epoch", "Epoch of the published Snapshot", get(&n.epoch));
        metrics.gauge("serval_controller_generation", "Its generation", get(&n.generation));
        metrics.gauge("serval_controller_routes", "Its routes", get(&n.routes));
        metrics.gauge("serval_controller_routers", "Routers that reported", get(&n.routers));
        let what = "Endpoints of the routers' Service beyond --max-routers";
        metrics.gauge("serval_controller_routers_left_out", what, get(&n.routers_left_out));
        metrics.counter("serval_reconciles_total", "Runs of reconcile", get(&n.reconciles));
        metrics.counter("serval_status_writes_total", "Statuses handed out", get(&n.statuses));
        let what = "Objects that could not be read";
        metrics.counter("serval_invalid_objects_total", what, get(&n.invalid_objects));
        n.until.write(&mut metrics);
        let families = [
            ("serval_objects", "Objects admitted"),
            ("serval_objects_refused", "Objects refused for capacity or size"),
            ("serval_objects_capacity", "Objects that may be admitted"),
        ];
        for (index, (name, help)) in families.into_iter().enumerate() {
            metrics.family(name, help, "gauge");
            for (kind, places) in Kind::ALL.into_iter().zip(&n.objects) {
                metrics.sample(name, "kind", kind.name(), get(&places[index]));
            }
        }
        metrics.finish()
    }
}

impl Service for AdminPages {
    fn begin(&mut self, _: usize, request: &Request, _: Now) -> Result<(), (u16, &'static str)> {
        match request.method {
            Method::Get => Ok(()),
            _ => Err((405, "this port only answers GET")),
        }
    }

    fn line(&mut self, _: usize, _: &[u8], _: Now) -> bool {
        true
    }

    fn end(&mut self, _: usize, connection: &mut Connection, _: Now) {
        if health::answer(self, connection) {
            return;
        }
        let path = connection.request().path;
        match path.as_str() {
            "/config" => connection.answer(200, "application/json", |out| self.config(out)),
            "/limits" => connection
                .answer(200, "application/json", |out| write_limits(&self.capacities, out)),
            _ => connection.answer_text(404, format_args!("no such page")),
        }
    }

    fn owed(&mut self, _: usize, _: &mut Connection, _: Now) {}

    fn piece(&mut self, _: usize, connection: &mut Connection) {
        connection.piece(|_| None);
    }

    fn gone(&mut self, _: usize) {}
}
