//! The whole system as real processes under every fault: `scripts/soak` sets it up and calls this.
//!
//! In: a seed, minutes, a work folder, where the two routers' networks are. Out: the schedule, each
//! fault as it happened, a table and a line of JSON; exit code 0 when each failed request is
//! explained by a fault and nothing has grown, 1 when not, 2 when the soak itself could not go on.

#![allow(clippy::disallowed_methods, reason = "a test program with threads of its own")]

mod changes;
mod clients;
mod faults;
mod ledger;
mod places;
mod prng;
mod processes;
mod quiet;
mod relay;
mod report;
mod schedule;
mod verdict;
mod watch;

use changes::{CHURN_EVERY, Changes};
use clients::Clients;
use faults::World;
use ledger::{BACKENDS, Ledger, ROUTERS};
use places::Places;
use prng::Prng;
use processes::{Name, Processes};
use quiet::Sample;
use relay::Link;
use report::Report;
use schedule::{Event, Place, Round};
use serval_load::backend;
use serval_load::tls::Tls;
use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use watch::Watch;

const USAGE: &str = "\
usage: serval-soak --seed S --minutes N --plan only
       serval-soak --seed S --minutes N --work DIR --netns FILE,FILE --cluster SCRIPT

scripts/soak sets up what the second needs; the first prints the schedule.
";

/// Load before the first quiet point, which all others are compared with.
const WARM_UP: Duration = Duration::from_secs(5);
/// One in so many requests takes its backend so long: faults are to meet requests under way.
const SLOW_EVERY: u64 = 13;
const SLOW: Duration = Duration::from_millis(300);
/// After the last fault, before it is asked whether all is as before.
const BREATH: Duration = Duration::from_millis(1_500);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match soak(&arguments) {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(text) => {
            println!("serval-soak: {text}");
            std::process::exit(2);
        }
    }
}

fn soak(arguments: &[String]) -> Result<bool, String> {
    let flags: HashMap<&str, &str> = arguments
        .chunks(2)
        .filter_map(|pair| Some((pair[0].strip_prefix("--")?, pair.get(1)?.as_str())))
        .collect();
    let flag = |name| flags.get(name).copied().ok_or(USAGE.to_string());
    let number = |name| flag(name)?.parse::<u64>().map_err(|_| USAGE.to_string());
    let (seed, minutes) = (number("seed")?, number("minutes")?);
    let plan = schedule::plan(seed, minutes);
    print_plan(seed, &plan);
    if flags.contains_key("plan") {
        return Ok(true);
    }
    let netns: Vec<String> = flag("netns")?.split(',').map(String::from).collect();
    let places = Places {
        work: flag("work")?.into(),
        netns: netns.try_into().map_err(|_| USAGE)?,
        cluster: flag("cluster")?.into(),
    };
    Soak::start(seed, &places)?.run(&plan)
}

fn print_plan(seed: u64, plan: &[Round]) {
    println!("seed {seed}: the schedule of {} rounds (ms since a round's start)", plan.len());
    for (number, round) in plan.iter().enumerate() {
        let mut events: Vec<_> = round.iter().flatten().collect();
        events.sort_by_key(|event| event.at_ms);
        for event in events {
            println!(
                "round {number} {:>6} ms: {} for {} ms",
                event.at_ms, event.fault, event.lasts_ms
            );
        }
    }
}

struct Soak {
    world: World,
    clients: Clients,
    watches: [Arc<Watch>; ROUTERS],
    report: Report,
    samples: Vec<Sample>,
}

fn links(places: &Places, seed: u64) -> Result<Vec<(Place, Link)>, String> {
    let mut pairs = vec![(Place::Api, vec![(places.api_relay(), places.api())])];
    for n in 0..ROUTERS {
        let http = (places.http_relay(n), places.router(n, 80));
        let https = (places.https_relay(n), places.router(n, 443));
        pairs.push((Place::Client(n), vec![http, https]));
        pairs.push((Place::Admin(n), vec![(places.admin_relay(n), places.admin(n))]));
    }
    for n in 0..BACKENDS {
        pairs.push((Place::Backend(n), vec![(places.backend_relay(n), places.backend(n))]));
    }
    let start = |(place, pairs): (Place, Vec<_>)| {
        Ok((place, Link::start(&pairs, Prng::new(seed, &place.to_string()))?))
    };
    pairs.into_iter().map(start).collect()
}

impl Soak {
    /// Starts all, and waits until both routers serve.
    fn start(seed: u64, places: &Places) -> Result<Soak, String> {
        let start = Instant::now();
        let ledger = Arc::new(Ledger::default());
        let leaves: Vec<String> =
            (0..3).map(|n| format!("{}/pairs/{n}.crt", places.work)).collect();
        let tls = Tls::new("soak.example", &leaves, false)?;
        let clients = Clients::start(places, &ledger, tls, start);
        for n in 0..BACKENDS {
            let address = places.backend(n);
            let socket = TcpListener::bind(address).map_err(|e| format!("{address}: {e}"))?;
            let shared = Arc::clone(&clients.shared);
            let note = Arc::new(move |stamp: &str, method: &str| {
                shared.note(stamp, method);
                let number = stamp.rsplit('-').next().and_then(|n| n.parse::<u64>().ok());
                if number.is_some_and(|number| number % SLOW_EVERY == 0) {
                    std::thread::sleep(SLOW);
                }
            });
            backend::listen_noting(socket, format!("echo-{n}"), note);
        }
        let world = World {
            places: places.clone(),
            processes: Processes::new(places.clone()),
            links: links(places, seed)?,
            ledger: Arc::clone(&ledger),
            changes: Changes::new(places, &ledger, Prng::new(seed, "changes"), start),
            happened: Default::default(),
            start,
        };
        for name in [Name::Router(0), Name::Router(1), Name::Controller] {
            world.processes.start(name)?;
        }
        let watches = [0, 1].map(|n| Arc::new(Watch::new(n, places, &ledger, start)));
        for watch in &watches {
            let watch = Arc::clone(watch);
            std::thread::spawn(move || watch.work());
        }
        let took = world.changes.settle()?;
        println!("both routers serve, after {} ms", took.as_millis());
        let report = Report::new(seed);
        Ok(Soak { world, clients, watches, report, samples: Vec::new() })
    }

    fn run(mut self, plan: &[Round]) -> Result<bool, String> {
        self.clients.resume();
        std::thread::sleep(WARM_UP);
        let mut broken = self.quiet().err();
        for (number, round) in plan.iter().enumerate() {
            if broken.is_some() {
                break;
            }
            println!("round {number} of {}", plan.len());
            self.clients.resume();
            broken = self.faults(round).and_then(|()| self.quiet()).err();
        }
        self.finish(broken)
    }

    /// A round's faults, while routes change.
    fn faults(&self, round: &Round) -> Result<(), String> {
        let (world, began, stop) = (&self.world, Instant::now(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    // Without an API server there is no change.
                    let _ = world.changes.change_any();
                    std::thread::sleep(CHURN_EVERY);
                }
            });
            let lane = |events: &Vec<Event>| {
                let events = events.clone();
                scope.spawn(move || world.run(began, &events))
            };
            let lanes: Vec<_> = round.iter().map(lane).collect();
            let ended: Vec<Result<(), String>> =
                lanes.into_iter().map(|lane| lane.join().expect("lanes do not panic")).collect();
            std::thread::sleep(BREATH);
            stop.store(true, Ordering::SeqCst);
            ended.into_iter().collect()
        })
    }

    /// No fault, no change, then no load: all must be as at the first quiet point.
    fn quiet(&mut self) -> Result<(), String> {
        self.world.processes.check()?;
        let took = self.world.changes.settle()?;
        self.report.settled.push(took.as_millis() as u64);
        // The newest configuration meets a full disk, and is to be saved once that has room.
        (0..ROUTERS).for_each(|n| self.world.processes.fill_disk(n, true));
        let served = self.world.changes.settle();
        std::thread::sleep(BREATH);
        (0..ROUTERS).for_each(|n| self.world.processes.fill_disk(n, false));
        served?;
        // A second of load without any fault.
        std::thread::sleep(BREATH);
        self.clients.pause();
        let samples = quiet::sample(&self.world, &mut self.report.violations)?;
        for Sample { name, figures } in &samples {
            println!("{:>8} ms: quiet: {}: {figures:?}", self.clients.shared.ms(), name.text());
        }
        self.samples.extend(samples);
        Ok(())
    }

    fn finish(mut self, broken: Option<String>) -> Result<bool, String> {
        self.clients.resume();
        std::thread::sleep(BREATH);
        let shared = Arc::clone(&self.clients.shared);
        self.clients.pause();
        self.clients.finish();
        let mut confirmed = [Vec::new(), Vec::new()];
        for (place, watch) in self.watches.iter().enumerate() {
            watch.stop.store(true, Ordering::SeqCst);
            confirmed[place] = watch.confirmed.lock().expect("no panics").clone();
            let complaints = watch.violations.lock().expect("no panics");
            self.report.violations.extend(complaints.iter().cloned());
        }
        self.report.violations.extend(broken);
        let happened = self.world.happened.lock().expect("no panics").clone();
        let failed = shared.failed.lock().expect("no panics").clone();
        let report = &mut self.report;
        report.growth = quiet::growth(&self.samples, &mut report.violations);
        report.seconds = shared.ms() / 1_000;
        report.requests = shared.requests.load(Ordering::SeqCst);
        let sum = |n: usize| shared.good[n].lock().expect("no panics").iter().sum::<u32>();
        report.good = u64::from(sum(0) + sum(1));
        report.changes = self.world.changes.counts();
        report.confirmed = self.world.ledger.confirmed();
        report.judge(&happened, &failed);
        let first_since = |ms| self.world.changes.first_since(ms);
        report.recoveries(&happened, &failed, &shared, first_since, &confirmed);
        report::print_unexplained(&happened, &failed);
        println!("{}{}", report.table(), report.json());
        Ok(report.is_good())
    }
}
