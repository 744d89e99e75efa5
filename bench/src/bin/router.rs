//! serval's data plane alone, one worker: 1,000 routes on 64 hosts, one upstream.
//!
//! In: `router LISTEN UPSTREAM`. Out: traffic until it is killed.

#[path = "../../../src/config/building.rs"]
mod building;

use building::MatchSpec;
use serval::config::storage::ConfigStorage;
use serval::limits::Capacities;
use serval::router::{Options, Worker};
use serval::shell::clock;
use serval::shell::net::{Traffic, run_worker};
use serval::stdx::zeroed_box;
use std::net::SocketAddr;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut address = || -> SocketAddr {
        arguments.next().and_then(|a| a.parse().ok()).expect("usage: router LISTEN UPSTREAM")
    };
    let (listen, upstream) = (address(), address());
    let capacities = Capacities::DEFAULT;
    let mut storage = zeroed_box::<ConfigStorage>();
    storage.set_caps(&capacities);
    let mut writer = storage.writer().expect("the first");
    let snapshot = writer.begin().expect("no readers yet");
    let bind = building::bind(snapshot, listen);
    let listener = building::listener(snapshot, "*.example.com", listen.port(), &[bind]);
    let pool = building::pool(snapshot, "default/backend/80", &[upstream]);
    for n in 0..1_000 {
        let (host, path) = (format!("host-{}.example.com", n % 64), format!("/service-{}", n / 64));
        let path = if n < 64 { "" } else { &path };
        let matches = [MatchSpec::prefix(path)];
        let name = format!("default/route-{n}/0");
        building::route(snapshot, &name, &[(listener, &host)], &matches, &[(pool, 1)]);
    }
    writer.commit().expect("a valid snapshot");
    let (mut traffic, control) = Traffic::new(&capacities).expect("descriptors");
    let mut reader = storage.reader().expect("a seat");
    let mut worker = zeroed_box::<Worker>();
    worker.init(&capacities, Options { allow_loopback: true }, 1, clock::now().mono);
    run_worker(&mut traffic, &mut worker, &mut reader, &control);
}
