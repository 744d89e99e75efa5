//! What the admin thread shows of the controller thread: numbers, written and read without locks.

use crate::controller::Controller;
use crate::resource::Kind;
use crate::shell::tls::identity::Until;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The numbers. Each is true by itself; together they are of about the same moment.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Every served kind has synced once.
    pub ready: AtomicBool,
    /// Epoch of the published Snapshot.
    pub epoch: AtomicU64,
    /// Its generation.
    pub generation: AtomicU64,
    /// Its routes.
    pub routes: AtomicU64,
    /// Routers that reported.
    pub routers: AtomicU64,
    /// Endpoints of their Service beyond MAX_ROUTERS.
    pub routers_left_out: AtomicU64,
    /// Runs of reconcile.
    pub reconciles: AtomicU64,
    /// Statuses handed out.
    pub statuses: AtomicU64,
    /// Objects that could not be read.
    pub invalid_objects: AtomicU64,
    /// Until when the identity for routers is valid.
    pub until: Until,
    /// Per kind: admitted, refused, capacity.
    pub objects: [[AtomicU64; 3]; Kind::ALL.len()],
}

impl Numbers {
    /// Writes all numbers.
    pub fn update(&self, controller: &mut Controller) {
        let set = |place: &AtomicU64, value: u64| place.store(value, Ordering::Relaxed);
        self.ready.store(controller.is_synced(), Ordering::Relaxed);
        if let Some(published) = controller.published() {
            set(&self.epoch, published.identity.epoch);
            set(&self.generation, published.identity.generation);
            set(&self.routes, u64::from(published.routes.len()));
        }
        let reported = controller.routers().iter().filter(|r| r.report.is_some()).count();
        set(&self.routers, reported as u64);
        let counters = controller.counters();
        set(&self.reconciles, counters.reconciles);
        set(&self.statuses, counters.statuses);
        set(&self.routers_left_out, counters.routers_left_out);
        set(&self.invalid_objects, counters.invalid_objects);
        for (kind, places) in Kind::ALL.into_iter().zip(&self.objects) {
            let (admitted, refused, capacity) = controller.stores().counts(kind);
            for (place, value) in places.iter().zip([admitted, refused, capacity]) {
                set(place, u64::from(value));
            }
        }
    }
}
