//! The endpoint-sync thread: asks every router for its report, every ENDPOINT_SYNC_PERIOD_MS.
//!
//! In: rosters (the routers there are) from the controller thread. Out: the routers' reports, over
//! a ring back to it; it pushes to those that are new, restarted or behind.

use super::router_socket::{Identity, RouterSockets};
use crate::config::client::{Ask, HEAD_BYTES};
use crate::limits::{
    ENDPOINT_SYNC_PERIOD_MS, MAX_REPORT_SIZE_BYTES, MAX_REPORTS_AT_ONCE, MAX_ROUTERS,
    REPORT_RING_BYTES, ROSTER_RING_BYTES,
};
use crate::shell::clock;
use crate::stdx::ring::{Consumer, Producer, Ring};
use crate::stdx::{Duration, Full, Prng};
use core::sync::atomic::{AtomicBool, Ordering};
use mio::{Events, Poll, Token, Waker};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The ring that carries reports: a record is the router's address and the report's JSON.
pub type ReportProducer = Producer<'static, { REPORT_RING_BYTES as usize }>;
/// The ring that carries rosters: a record is the addresses of all routers.
pub type RosterProducer = Producer<'static, { ROSTER_RING_BYTES as usize }>;
/// Its other end.
pub type RosterConsumer = Consumer<'static, { ROSTER_RING_BYTES as usize }>;

/// The sockets of this thread.
pub type Reporters = RouterSockets<HEAD_BYTES, { MAX_REPORTS_AT_ONCE as usize }>;

/// Bytes of an address in a record: IPv6, or IPv4 mapped into it, and the port.
const ADDRESS_BYTES: usize = 18;
const _: () = assert!(
    MAX_ROUTERS * (ADDRESS_BYTES as u32) <= Ring::<{ ROSTER_RING_BYTES as usize }>::MAX_RECORD
        && MAX_REPORT_SIZE_BYTES + (ADDRESS_BYTES as u32)
            <= Ring::<{ REPORT_RING_BYTES as usize }>::MAX_RECORD
);

fn write_address(address: SocketAddr, out: &mut [u8]) {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    out[..16].copy_from_slice(&ip.octets());
    out[16..ADDRESS_BYTES].copy_from_slice(&address.port().to_be_bytes());
}

fn read_address(record: &[u8]) -> SocketAddr {
    let mut ip = [0; 16];
    ip.copy_from_slice(&record[..16]);
    let ip = Ipv6Addr::from(ip);
    let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
    SocketAddr::new(ip, u16::from_be_bytes([record[16], record[17]]))
}

/// Sends the roster: all routers there are.
pub fn send_roster(
    rosters: &mut RosterProducer,
    routers: impl ExactSizeIterator<Item = SocketAddr>,
) -> Result<(), Full> {
    let len = routers.len() * ADDRESS_BYTES;
    rosters.push_with(len as u32, |out| {
        for (place, router) in out.chunks_exact_mut(ADDRESS_BYTES).zip(routers) {
            write_address(router, place);
        }
        len as u32
    })
}

/// Takes a record of the reports' ring apart: the router, and its report as JSON.
pub fn read_report(record: &[u8]) -> (SocketAddr, &[u8]) {
    let (address, body) = record.split_at(ADDRESS_BYTES);
    (read_address(address), body)
}

/// What the thread needs, built before it starts.
#[expect(missing_debug_implementations, reason = "sockets say nothing")]
pub struct EndpointSync {
    poll: Poll,
    events: Events,
    sockets: Reporters,
    rosters: RosterConsumer,
    reports: ReportProducer,
    notify: Arc<Waker>,
    stop: Arc<AtomicBool>,
    prng: Prng,
}

impl EndpointSync {
    /// Builds the thread's state; the waker is for whoever sends a roster.
    pub fn new(
        rosters: RosterConsumer,
        reports: ReportProducer,
        notify: Arc<Waker>,
        stop: Arc<AtomicBool>,
        prng: Prng,
        identity: Option<Identity>,
    ) -> std::io::Result<(EndpointSync, Arc<Waker>)> {
        let (poll, events) = (Poll::new()?, Events::with_capacity(256));
        let waker = Arc::new(Waker::new(poll.registry(), Token(usize::MAX))?);
        let sockets = RouterSockets::new(identity);
        let sync = EndpointSync { poll, events, sockets, rosters, reports, notify, stop, prng };
        Ok((sync, waker))
    }

    /// Works until told to stop.
    pub fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            self.take_rosters();
            for slot in 0..MAX_REPORTS_AT_ONCE as usize {
                self.drive(slot);
            }
            let now = clock::now();
            let registry = self.poll.registry();
            self.sockets.begin(Ask::Report, |_| true, registry, now, &mut self.prng);
            let wait = self.sockets.timeout(|_| true).since(now.mono);
            let wait = wait.min(Duration::from_millis(500)).max(Duration::from_millis(1));
            let wait = core::time::Duration::from_nanos(wait.0);
            // Interrupted or not: the loop looks at everything anyway.
            let _ = self.poll.poll(&mut self.events, Some(wait));
        }
    }

    fn take_rosters(&mut self) {
        while let Some(record) = self.rosters.peek() {
            let routers = record.chunks_exact(ADDRESS_BYTES).map(read_address);
            self.sockets.fleet.set(routers, clock::now()).expect("at most MAX_ROUTERS");
            self.rosters.pop();
        }
    }

    fn drive(&mut self, slot: usize) {
        let EndpointSync { sockets, reports, .. } = self;
        let now = clock::now();
        let Some(address) = sockets.fleet.address(slot) else { return };
        let Some(answer) = sockets.drive(slot, None, "", now, &mut self.prng) else { return };
        if answer.status == 200 {
            let body = sockets.body(slot);
            let len = ADDRESS_BYTES + body.len();
            // A full ring: the controller is busy; the next report says the same.
            let _ = reports.push_with(len as u32, |out| {
                write_address(address, out);
                out[ADDRESS_BYTES..len].copy_from_slice(body);
                len as u32
            });
            let _ = self.notify.wake();
        }
        let period = Duration::from_millis(u64::from(ENDPOINT_SYNC_PERIOD_MS));
        sockets.fleet.answered(slot, now.mono + period);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for text in ["10.0.0.1:9901", "[2001:db8::1]:80", "0.0.0.0:0", "[::1]:65535"] {
            let (address, mut record) = (text.parse().unwrap(), [0; ADDRESS_BYTES]);
            write_address(address, &mut record);
            assert_eq!(read_address(&record), address);
        }
    }
}
