//! The loop of one worker thread: wait, one turn, tell.
//!
//! In: a [`Traffic`] made before the seal, a worker, a reader of the configuration. Out: nothing
//! until the worker has drained or is stopped. The clock is read once a turn.

use super::driver::{Driver, WAKE};
use super::status::Control;
use crate::config::storage::Reader;
use crate::limits::{Capacities, MAX_EVENTS_PER_TURN};
use crate::router::{Turn, Worker};
use crate::shell::clock;
use crate::shell::tls::rustls::certificates::Certificates;
use crate::stdx::Instant;
use std::io;
use std::time::Duration;

/// What a worker thread waits with and drives with.
#[expect(missing_debug_implementations, reason = "TLS sessions have none")]
pub struct Traffic {
    poll: mio::Poll,
    events: mio::Events,
    driver: Driver,
}

impl Traffic {
    /// Takes all memory and descriptors that the loop needs, and makes the order book that others
    /// use. Before the seal.
    /// `certificates`: what connections with TLS show; without them they are refused.
    pub fn new(
        capacities: &Capacities,
        certificates: Option<&'static Certificates>,
    ) -> io::Result<(Traffic, Control)> {
        let poll = mio::Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), WAKE)?;
        let driver = Driver::new(capacities, certificates, poll.registry().try_clone()?);
        let events = mio::Events::with_capacity(MAX_EVENTS_PER_TURN as usize);
        Ok((Traffic { poll, events, driver }, Control::new(waker)))
    }

    /// The driver, for tests that count its buffers.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }
}

/// Serves until the worker has drained or is told to stop.
pub fn run_worker(
    traffic: &mut Traffic,
    worker: &mut Worker,
    reader: &mut Reader<'_>,
    control: &Control,
) {
    let mut seen = 0;
    // The first turn waits for nothing: it opens the binds of what is published already.
    let mut wait = Some(Duration::ZERO);
    loop {
        if let Err(error) = traffic.poll.poll(&mut traffic.events, wait) {
            assert!(error.kind() == io::ErrorKind::Interrupted, "epoll: {error}");
        }
        let now = clock::now().mono;
        let Traffic { events, driver, .. } = traffic;
        driver.set_now(now);
        let shall_stop = control.shall_stop();
        reader.turn(|slot, generation| {
            let mut turn = Turn { io: driver, slot, generation, now };
            worker.begin(&mut turn);
            if control.shall_drain() {
                worker.drain(&mut turn);
            }
            for event in &*events {
                Driver::handle(&mut turn, worker, event);
            }
            Driver::accept(&mut turn, worker);
            Driver::run_work(&mut turn, worker);
            worker.tick(&mut turn);
            if shall_stop {
                worker.cut_all(&mut turn);
            }
        });
        reader.acknowledge();
        seen = control.status().publish(worker, seen);
        if shall_stop || (worker.is_drained() && driver.is_quiet()) {
            break;
        }
        let is_busy = driver.has_work() || driver.may_accept(worker) || reader.is_behind();
        let until = worker.timeout(now).min(driver.timeout());
        wait = if is_busy { Some(Duration::ZERO) } else { duration_until(now, until) };
    }
    control.status().ended();
}

fn duration_until(now: Instant, until: Instant) -> Option<Duration> {
    if until == Instant::NEVER { None } else { Some(Duration::from_nanos(until.since(now).0)) }
}
