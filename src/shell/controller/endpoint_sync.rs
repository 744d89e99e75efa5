//! The endpoint-sync thread: asks every router for its report, every ENDPOINT_SYNC_PERIOD_MS.
//!
//! In: the routers' addresses. Out: their reports, over a ring to the controller thread, which
//! pushes to those that are new, restarted or behind.

use super::router_socket::RouterSocket;
use crate::config::client::Ask;
use crate::limits::{ENDPOINT_SYNC_PERIOD_MS, REPORT_RING_BYTES};
use crate::shell::clock;
use crate::stdx::ring::Producer;
use crate::stdx::{Duration, Prng};
use core::sync::atomic::{AtomicBool, Ordering};
use mio::{Events, Poll, Token, Waker};
use std::net::SocketAddr;
use std::sync::Arc;
use std::vec::Vec;

/// The ring that carries reports: a record is the router's index (u32) and the report's JSON.
pub type ReportProducer = Producer<'static, { REPORT_RING_BYTES as usize }>;

/// What the thread needs, built before it starts.
#[expect(missing_debug_implementations, reason = "sockets say nothing")]
pub struct EndpointSync {
    poll: Poll,
    events: Events,
    sockets: Vec<RouterSocket>,
    reports: ReportProducer,
    notify: Arc<Waker>,
    stop: Arc<AtomicBool>,
    prng: Prng,
}

impl EndpointSync {
    /// Builds the thread's state.
    pub fn new(
        routers: &[SocketAddr],
        reports: ReportProducer,
        notify: Arc<Waker>,
        stop: Arc<AtomicBool>,
        prng: Prng,
    ) -> std::io::Result<EndpointSync> {
        let sockets = routers.iter().enumerate();
        let sockets = sockets.map(|(i, &a)| RouterSocket::new(a, Token(i))).collect();
        let (poll, events) = (Poll::new()?, Events::with_capacity(256));
        Ok(EndpointSync { poll, events, sockets, reports, notify, stop, prng })
    }

    /// Works until told to stop.
    pub fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            let now = clock::now();
            let period = Duration::from_millis(u64::from(ENDPOINT_SYNC_PERIOD_MS));
            for (index, socket) in self.sockets.iter_mut().enumerate() {
                if let Some(answer) = socket.drive(None, "", now, &mut self.prng) {
                    if answer.status == 200 {
                        let body = socket.client.body();
                        let max = 4 + body.len() as u32;
                        // A full ring: the controller is busy; the next report says the same.
                        let _ = self.reports.push_with(max, |out| {
                            out[..4].copy_from_slice(&(index as u32).to_le_bytes());
                            out[4..max as usize].copy_from_slice(body);
                            max
                        });
                        let _ = self.notify.wake();
                    }
                    socket.client.rest(now.mono + period);
                }
                if socket.client.may_begin(now) {
                    socket.begin(Ask::Report, self.poll.registry(), now, &mut self.prng);
                }
            }
            let due = self.sockets.iter().map(RouterSocket::timeout).min();
            let wait = due.map_or(period, |due| due.since(clock::now().mono));
            let wait = wait.min(Duration::from_millis(500)).max(Duration::from_millis(1));
            let wait = core::time::Duration::from_nanos(wait.0);
            // Interrupted or not: the loop looks at everything anyway.
            let _ = self.poll.poll(&mut self.events, Some(wait));
        }
    }
}
