//! One simulated router: a process with a worker, two configuration slots and an admin port, and
//! the state file that outlives it.
//!
//! In: network events. Out: the worker's calls on the network, answers of the admin port. A crash
//! drops the process; a new one begins with another boot id and what the file says.

use crate::admin_port::AdminPort;
use crate::capacities::{LESSER, lesser as lesser_of};
use crate::checkers::d2::Asked;
use crate::checkers::{d12, d13, s2};
use crate::faults::Fault;
use crate::io::{Driver, Face, Found, Told};
use crate::marks::sometimes;
use crate::model::object::{Endpoint, Kind, Port, Spec};
use crate::model::roster::SERVICE;
use crate::network::{EndId, Ended, Event, MS, Network, Node, SECOND, SocketEvent, Step, Time};
use crate::timeline::{Kind as Mark, Lane};
use serval::config::codec::{Encoder, bind_name};
use serval::config::report::{BindReport, Report};
use serval::config::storage::{ConfigStorage, Reader, Writer};
use serval::config::{Checksum, Source};
use serval::limits::{Capacities, MAX_RECORD_SIZE_BYTES};
use serval::resource::document::Document;
use serval::router::io::*;
use serval::router::update::{UpdateError, Updater};
use serval::router::{Options, Turn, Worker};
use serval::stdx::{Instant, Now, Prng, Wall, zeroed_box};
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};

/// With how many seats are left.
type Storage = (&'static ConfigStorage, u32);

thread_local! {
    /// Storages of dead processes with seats left, by what they have less room for. Their handles
    /// borrow for ever, so they are leaked, and used again until their seats are taken.
    static STORAGES: RefCell<Vec<(Option<usize>, Storage)>> = const { RefCell::new(Vec::new()) };
}

thread_local! {
    /// How far the wall clock of the node whose turn it is was stepped, in seconds.
    static STEPPED: Cell<i64> = const { Cell::new(0) };
}

/// It is the turn of a node whose wall clock was stepped so far.
pub fn set_wall(seconds: i64) {
    STEPPED.set(seconds);
}

/// Both clocks at a time of the simulator.
pub fn clocks(now: Time) -> Now {
    let wall = (1_800_000_000 + now / SECOND).saturating_add_signed(STEPPED.get());
    Now { mono: Instant(now), wall: Wall(wall) }
}

/// Parses JSON as the product does.
pub fn parse(line: &[u8], document: &mut Document) -> bool {
    serval::shell::json::parse(line, document).is_ok()
}

/// A running process.
#[expect(missing_debug_implementations, reason = "handles of the storage say nothing")]
pub struct Process {
    pub number: u64,
    pub boot_id: u64,
    pub worker: Box<Worker>,
    pub driver: Driver,
    reader: Reader<'static>,
    pub writer: Writer<'static>,
    /// What it has less room for than others.
    lesser: Option<usize>,
    storage: Storage,
    pub updater: Box<Updater>,
    admin: AdminPort,
    /// Of the worker's last turn.
    generation: u64,
    save_at: Option<Time>,
    /// When the worker is woken after a push.
    wake_at: Option<Time>,
    /// The earliest timer on its way.
    due: Time,
    /// Events so far.
    events: u64,
}

/// One router, running or not.
#[expect(missing_debug_implementations, reason = "as its process")]
pub struct Router {
    pub index: usize,
    /// The number of its node.
    pub on: u8,
    pub process: Option<Process>,
    /// Ports that its next process cannot bind at first.
    pub fails_at: Vec<u16>,
    /// Lines of the saved Snapshot.
    pub file: Vec<Vec<u8>>,
    fence: s2::Fence,
    /// What its worker served, from when on. None: a crash.
    pub adopted: Vec<(Time, Option<Checksum>)>,
    /// When it began to drain, and when that ended.
    pub drains: Vec<(Time, Time)>,
    drain_within: Time,
    pub swaps: u64,
    pub requests: u64,
    /// Nothing holds it up but its peers.
    pub is_calm: bool,
    /// Since when a drain had nothing left to do.
    rests_since: Option<Time>,
    /// The same, and no client was left.
    alone_since: Option<Time>,
    /// It was paused in its drain.
    pub was_held_up: bool,
    /// Connections that it asked for and D2 has not judged.
    pub asked: Vec<Asked>,
    prng: Prng,
    capacities: Capacities,
    /// Some of its processes have less room.
    pub is_mixed: bool,
}

/// A drain ends after one of these (`--drain-timeout-ms`); within the longest all is closed that
/// rests or does not begin.
const DRAIN_WITHIN: [Time; 3] = [500 * MS, 3 * SECOND, 14 * SECOND];

/// The address of all clients.
pub const CLIENT_IP: &str = "192.0.2.7";
/// The port of admin addresses.
pub const ADMIN_PORT: u16 = 9901;
/// Nodes that a router may be on.
pub const NODES: u8 = 2;

/// The admin address of a router on its node of that number.
pub fn admin_address(index: usize, node: u8) -> SocketAddr {
    SocketAddr::from(([10, 9, node, index as u8 + 1], ADMIN_PORT))
}

/// The router of an admin address.
pub fn router_of(address: SocketAddr) -> usize {
    let at = |index| (0..NODES).any(|node| admin_address(index, node) == address);
    (0..).find(|&index| at(index)).expect("an admin address")
}

fn storage(capacities: &Capacities, lesser: Option<usize>) -> Storage {
    let mut old = STORAGES.take();
    let found = old.iter().rposition(|(of, _)| *of == lesser).map(|place| old.remove(place).1);
    STORAGES.set(old);
    if let Some(found) = found {
        return found;
    }
    let mut storage = zeroed_box::<ConfigStorage>();
    storage.set_caps(capacities);
    (Box::leak(storage), 2)
}

/// The EndpointSlice of the routers' Service, as they are now. By publishNotReadyAddresses all are
/// ready.
pub fn slice_of(routers: &[Router]) -> ((Kind, String, String), Spec) {
    let endpoint = |r: &Router| {
        let IpAddr::V4(address) = r.address().ip() else { unreachable!("nodes have IPv4") };
        let (serving, terminating) = (r.process.is_some(), r.drain_ends().is_some());
        let (serving, terminating) = (Some(serving), Some(terminating));
        Endpoint { address, ready: Some(true), serving, terminating }
    };
    let (namespace, service, port) = SERVICE;
    let spec = Spec::Slice {
        service: service.to_string(),
        ports: vec![Port::tcp(port, ADMIN_PORT)],
        endpoints: routers.iter().map(endpoint).collect(),
    };
    ((Kind::Slice, namespace.to_string(), service.to_string()), spec)
}

impl Router {
    /// Not running.
    pub fn new(index: usize, prng: Prng, capacities: Capacities) -> Router {
        Router {
            index,
            on: 0,
            process: None,
            fails_at: Vec::new(),
            file: Vec::new(),
            fence: s2::Fence::default(),
            adopted: Vec::new(),
            drains: Vec::new(),
            drain_within: 0,
            swaps: 0,
            requests: 0,
            is_calm: false,
            rests_since: None,
            alone_since: None,
            was_held_up: false,
            asked: Vec::new(),
            prng,
            capacities,
            is_mixed: false,
        }
    }

    /// Whether its process has less room than the controller thinks.
    pub fn is_lesser(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.lesser.is_some())
    }

    /// Its admin address.
    pub fn address(&self) -> SocketAddr {
        admin_address(self.index, self.on)
    }

    fn node(&self) -> Node {
        Node::Router(self.index)
    }

    /// Starts a process, from the state file if there is one.
    pub fn start(&mut self, net: &mut Network) {
        assert!(self.process.is_none());
        let is_lesser = self.is_mixed && self.prng.chance(1, 2);
        let lesser = is_lesser.then(|| self.prng.below(LESSER as u64) as usize);
        let capacities = lesser.map_or(self.capacities, |which| lesser_of(self.capacities, which));
        if lesser.is_some() {
            net.injected.add(Fault::LesserRouters);
        }
        let storage = storage(&capacities, lesser);
        let mut writer = storage.0.writer().expect("the last process dropped it");
        writer.begin().expect("no worker yet").clear();
        writer.commit().expect("an empty Snapshot is valid");
        let mut updater = zeroed_box::<Updater>();
        let loaded = load(&self.file, &mut updater, &mut writer, clocks(net.now));
        sometimes(match (loaded, self.file.is_empty()) {
            (Ok(_), _) => "a router starts with its file",
            (Err(_), true) => "a router starts without a file",
            (Err(_), false) => "a router starts with a torn file",
        });
        let epoch = updater.served().0.epoch;
        self.fence.starts(self.index, self.file.len(), epoch, net);
        let mut worker = zeroed_box::<Worker>();
        let options = Options { allow_loopback: false, own: [Some(self.address()), None] };
        worker.init(&capacities, options, self.prng.next_u64(), Instant(net.now));
        let mut driver = Driver::new(self.node(), self.capacities.max_io_buffers);
        driver.failing_ports = self.fails_at.clone();
        let process = Process {
            number: self.prng.next_u64(),
            boot_id: self.prng.next_u64(),
            worker,
            driver,
            reader: storage.0.reader().expect("a seat is left"),
            writer,
            lesser,
            storage,
            updater,
            admin: AdminPort::new(self.node()),
            generation: u64::MAX,
            save_at: None,
            wake_at: None,
            due: Time::MAX,
            events: 0,
        };
        process.admin.listen(self.address(), net);
        let text = format!("router {} starts, boot {:x}", self.index, process.boot_id);
        net.trace.say(net.now, &text);
        self.process = Some(process);
        self.run(net);
    }

    /// The process dies.
    pub fn crash(&mut self, net: &mut Network) {
        self.end(net);
        net.crash(self.node());
    }

    fn end(&mut self, net: &mut Network) {
        let Some(process) = self.process.take() else { return };
        self.requests += process.worker.counters().requests;
        self.adopted.push((net.now, None));
        self.drains.iter_mut().for_each(|drain| drain.1 = drain.1.min(net.now));
        let (lesser, (storage, seats)) = (process.lesser, process.storage);
        drop(process);
        if seats > 0 {
            STORAGES.with(|s| s.borrow_mut().push((lesser, (storage, seats - 1))));
        }
    }

    /// Since when it drains, and until when that may take.
    pub fn drain_ends(&self) -> Option<Time> {
        let last = self.drains.last().filter(|d| d.1 == Time::MAX && self.process.is_some());
        last.map(|d| d.0 + self.drain_within)
    }

    /// SIGTERM.
    pub fn drain(&mut self, net: &mut Network) {
        assert!(self.process.is_some() && self.drain_ends().is_none());
        self.drains.push((net.now, Time::MAX));
        (self.rests_since, self.alone_since, self.was_held_up) = (None, None, false);
        self.drain_within = DRAIN_WITHIN[self.prng.below(3) as usize];
        self.turn(net, |worker, turn| worker.drain(turn));
        let backlog = self.process.as_mut().map(|p| core::mem::take(&mut p.driver.backlog));
        backlog.iter().flatten().for_each(|(_, end)| net.close(*end, true));
        self.run(net);
        self.finish_drain(net);
    }

    /// Ends the process when it has drained, or at the deadline, as `run_worker`.
    fn finish_drain(&mut self, net: &mut Network) {
        let (Some(deadline), Some(process)) = (self.drain_ends(), &self.process) else { return };
        let is_late = net.now >= deadline;
        let has_drained = process.worker.is_drained() && process.driver.events.is_empty();
        let since = |rests: bool, since: Option<Time>| rests.then(|| since.unwrap_or(net.now));
        self.rests_since = since(d13::rests(process), self.rests_since);
        self.alone_since = since(d13::is_alone(process), self.alone_since);
        if !self.was_held_up {
            d13::goes(self.index, process, (self.rests_since, self.alone_since), net);
        }
        if !is_late && !has_drained {
            return;
        }
        if is_late {
            self.turn(net, |worker, turn| worker.cut_all(turn));
        }
        sometimes(if is_late { "a drain ends late" } else { "a drain ends early" });
        let how = if is_late { "at the deadline" } else { "drained" };
        net.trace.say(net.now, &format!("router {} ends, {how}", self.index));
        self.end(net);
        net.exit(self.node());
        let at = net.now + self.prng.range(50 * MS, 3 * SECOND);
        net.schedule(at, Event::Step(Step::Restart(self.node())));
    }

    /// From now on whoever waits is served soon.
    pub fn begin_calm(&mut self) {
        self.is_calm = true;
        if let Some(process) = &mut self.process {
            process.driver.forget_waits();
        }
    }

    /// Something happened at a socket.
    pub fn on_socket(&mut self, end: EndId, what: SocketEvent, net: &mut Network) {
        let Some(process) = &mut self.process else { return };
        if what == SocketEvent::Accepted {
            let Some(at) = net.address(end) else { return };
            if at.port() == ADMIN_PORT {
                process.admin.accepted(end, net);
            } else {
                let any = |a: &SocketAddr| a.ip().is_unspecified() && a.port() == at.port();
                let bound = process.driver.bound.iter();
                let bind = bound.into_iter().find(|(_, a)| **a == at || any(a));
                match bind.map(|b| *b.0) {
                    Some(bind) => process.driver.backlog.push_back((bind, end)),
                    None => net.close(end, true),
                }
            }
        } else if process.admin.owns(end) {
            process.admin.touched(end);
        } else if let Some(id) = process.driver.conn(end) {
            match what {
                SocketEvent::Opened => {
                    process.driver.opened(end);
                    self.turn(net, |worker, turn| worker.on_connected(turn, id));
                }
                SocketEvent::Refused => {
                    self.turn(net, |w, turn| w.on_connect_failed(turn, id, Errno(111)));
                }
                SocketEvent::Readable if net.ended(end).is_none() => process.driver.waits(id),
                SocketEvent::Writable => process.driver.flush(id.index, net),
                // Of a reset behind an end in order only a write tells.
                SocketEvent::Readable if net.ended(end) == Some(Ended::Reset) => {
                    process.driver.flush(id.index, net);
                }
                _ => {}
            }
        }
        self.run(net);
        self.finish_drain(net);
    }

    /// A timer came up.
    pub fn on_timer(&mut self, number: u64, net: &mut Network) {
        let Some(process) = self.process.as_mut().filter(|p| p.number == number) else { return };
        if process.due <= net.now {
            process.due = Time::MAX;
            self.run(net);
            self.finish_drain(net);
        }
    }

    /// One turn of the worker around one event, then its checks.
    fn turn<R>(
        &mut self,
        net: &mut Network,
        event: impl FnOnce(&mut Worker, &mut Turn<'_, Face<'_>>) -> R,
    ) -> R {
        let process = self.process.as_mut().expect("it runs");
        let (worker, driver, now) = (&mut process.worker, &mut process.driver, net.now);
        let mut face = Face { driver, net };
        let (mut adopted, mut heads) = (None, 0);
        let result = process.reader.turn(|slot, generation| {
            let mut turn = Turn { io: &mut face, slot, generation, now: Instant(now) };
            worker.begin(&mut turn);
            if generation != process.generation {
                process.generation = generation;
                adopted = Some(slot.snapshot.identity.checksum);
            }
            let before = worker.counters().requests;
            let result = event(worker, &mut turn);
            heads = worker.counters().requests - before;
            worker.tick(&mut turn);
            result
        });
        process.reader.acknowledge();
        process.driver.turns += 1;
        d12::judged(self.index, heads, net);
        let connects = core::mem::take(&mut process.driver.connects);
        if let Some(checksum) = adopted {
            self.swaps += 1;
            self.adopted.push((now, Some(checksum)));
            net.trace.event(now, "adopted", self.index as u64, &checksum.0);
        }
        for to in connects {
            let served = self.adopted.last().and_then(|a| a.1);
            self.asked.push(Asked { to, served, is_own: self.listens_at(to, net) });
        }
        result
    }

    /// What its worker served at some moment of a time.
    pub fn served_between(&self, from: Time, to: Time) -> Vec<Checksum> {
        let mut served = Vec::new();
        for (at, entry) in self.adopted.iter().enumerate() {
            let until = self.adopted.get(at + 1).map_or(Time::MAX, |next| next.0);
            served.extend(entry.1.filter(|_| until >= from && entry.0 <= to));
        }
        served
    }

    /// Whether it listens there itself.
    fn listens_at(&self, to: SocketAddr, net: &Network) -> bool {
        let any = |a: &SocketAddr| a.ip().is_unspecified() && self.address().ip() == to.ip();
        let own = net.listening(self.node());
        own.iter().any(|a| *a == to || any(a) && a.port() == to.port())
    }

    /// Does all that can be done now.
    fn run(&mut self, net: &mut Network) {
        self.turn(net, |_, _| ());
        let mut turns = 0;
        while self.step(net) {
            turns += 1;
            assert!(turns < 200_000, "the router is never quiet");
        }
        self.check();
        self.admin(net);
        self.save(net.now);
        self.rearm(net);
    }

    /// One timer for all that has its time.
    fn rearm(&mut self, net: &mut Network) {
        let drain_ends = self.drain_ends();
        let process = self.process.as_mut().expect("it runs");
        process.wake_at = process.wake_at.filter(|&at| at > net.now);
        let at = process.worker.timeout(Instant(net.now)).0.min(process.admin.timeout());
        let more = process.save_at.into_iter().chain(process.wake_at).chain(drain_ends).min();
        let at = at.min(more.unwrap_or(at)).max(net.now + MS);
        if at < process.due {
            process.due = at;
            net.schedule(at, Event::Timer(Node::Router(self.index), process.number));
        }
    }

    /// One event of the driver; whether there was one.
    fn step(&mut self, net: &mut Network) -> bool {
        let process = self.process.as_mut().expect("it runs");
        if let Some((id, told)) = process.driver.events.pop_front() {
            self.turn(net, |worker, turn| match told {
                Told::Drained => worker.on_drained(turn, id),
                Told::WriteFailed => worker.on_write_failed(turn, id),
                Told::Closed => worker.on_closed(id),
            });
            return true;
        }
        if process.worker.can_accept()
            && let Some((bind, end)) = process.driver.backlog.pop_front()
        {
            let from = SocketAddr::new(CLIENT_IP.parse().expect("an address"), 40_000);
            let id = self.turn(net, |worker, turn| worker.on_accept(turn, BindId(bind), from));
            if self.drain_ends().is_some() {
                net.trace.violated(net.now, "D13", format!("router {} accepts", self.index));
            }
            let process = self.process.as_mut().expect("it runs");
            match id {
                Some(id) => {
                    process.driver.accept(bind, id, end);
                }
                None => net.close(end, true),
            }
            return true;
        }
        let most = if self.prng.chance(1, 16) { 1 + self.prng.below(40) as usize } else { 4096 };
        match process.driver.read(net, most) {
            Found::Nothing => false,
            Found::Piece => true,
            Found::Hello(id, name) => {
                self.hello(id, &name, net);
                true
            }
            Found::Data(id, chunk) => {
                let waited = core::mem::take(&mut process.driver.waited);
                d12::waited(self.index, if self.is_calm { waited } else { 0 }, net);
                self.turn(net, |worker, turn| worker.on_data(turn, id, chunk));
                true
            }
            Found::End(id, end) => {
                self.turn(net, |worker, turn| worker.on_end(turn, id, end));
                true
            }
            Found::Starved => {
                let before = self.process.as_ref().map(|p| p.driver.buffers());
                self.turn(net, |worker, turn| worker.on_starved(turn));
                let process = self.process.as_ref().expect("it runs");
                before != Some(process.driver.buffers()) || !process.driver.events.is_empty()
            }
        }
    }

    /// A hello is whole. In place of a handshake the router names the listener that it chose and
    /// its certificate.
    fn hello(&mut self, id: ConnId, name: &[u8], net: &mut Network) {
        let line = self.turn(net, |worker, turn| {
            let listener = worker.on_hello(turn, id, name)?;
            let s = &turn.slot.snapshot;
            let listener = &s.listeners[listener];
            let text = |t| s.text.get(t);
            let certificate = *s.certificate_refs.span(listener.certificates).first()?;
            let (gateway, section) = (text(listener.gateway), text(listener.section));
            // One line, also of a real chain.
            let chain = s.pem.get(s.certificates[certificate].chain).lines().next()?;
            Some(format!("{gateway} {section} {chain}\n"))
        });
        match line {
            None => self.turn(net, |worker, turn| worker.on_end(turn, id, End::Reset)),
            Some(line) => {
                self.process.as_mut().expect("it runs").driver.greet(id, &line, net);
                self.turn(net, |worker, turn| worker.on_secured(turn, id));
            }
        }
    }

    /// After all turns of an event; the invariants of the worker, which cost most, now and then.
    fn check(&mut self) {
        let process = self.process.as_mut().expect("it runs");
        process.events += 1;
        if process.events.is_multiple_of(8) {
            process.worker.check_invariants();
        }
        let (free, held, all) = process.driver.buffers();
        let core = process.worker.buffers_held() as usize;
        assert_eq!(free + held + core, all, "buffers balance");
    }

    /// Serves the admin port.
    fn admin(&mut self, net: &mut Network) {
        let process = self.process.as_mut().expect("it runs");
        if process.admin.is_idle() {
            return;
        }
        let Process { boot_id, worker, admin, updater, writer, .. } = process;
        let report =
            |updater: &Updater, writer: &Writer<'static>| report(*boot_id, worker, updater, writer);
        let done = admin.serve(&report, updater, writer, net);
        done.taken.iter().for_each(|&epoch| self.fence.took(self.index, epoch, net));
        self.fence.serves(self.index, updater.served().0.epoch, net);
        if done.refused_full {
            net.trace.event(net.now, "refused", self.index as u64, &[]);
        }
        if done.changed {
            let now = net.now;
            let text = || "a push was taken".to_string();
            net.trace.mark(now, Lane::Router(self.index), Mark::Pushed, text);
            process.save_at = Some(now + self.prng.below(SECOND));
            // The worker is woken, and comes when it comes.
            process.wake_at = Some(now + self.prng.below(20 * MS));
        }
    }

    /// Saves what is served, when it is time.
    fn save(&mut self, now: Time) {
        let process = self.process.as_mut().expect("it runs");
        if process.save_at.is_some_and(|at| at <= now) {
            process.save_at = None;
            let (identity, _) = process.updater.served();
            let snapshot = &process.writer.active().snapshot;
            let mut buffer = vec![0; MAX_RECORD_SIZE_BYTES as usize];
            let (mut encoder, mut lines) = (Encoder::with_identity(identity), Vec::new());
            while let Some(line) = encoder.next_line(snapshot, &mut buffer) {
                lines.push(line.expect("it came in such lines").to_vec());
            }
            self.fence.saves(identity.epoch, lines.len());
            self.file = lines;
        }
    }
}

impl Process {
    /// Whether the state file is written of all that is served.
    pub fn is_saved(&self) -> bool {
        self.save_at.is_none()
    }

    /// Whether a push runs.
    pub fn is_pushed_to(&self) -> bool {
        self.admin.is_pushed_to()
    }

    /// Whether nobody is at its admin port.
    pub fn is_left_alone(&self) -> bool {
        self.admin.is_idle()
    }

    /// What it serves.
    pub fn report(&self) -> Report {
        report(self.boot_id, &self.worker, &self.updater, &self.writer)
    }
}

/// What a process serves.
fn report(boot_id: u64, worker: &Worker, updater: &Updater, writer: &Writer<'static>) -> Report {
    let (identity, source) = updater.served();
    let mut report = Report {
        boot_id,
        identity,
        source,
        ready: writer.all_passed() && source != Source::None,
        ..Report::default()
    };
    report.binds.set_cap(serval::limits::MAX_CONFIG_BINDS);
    let binds = writer.active().snapshot.binds.as_slice();
    for (bind, result) in binds.iter().zip(worker.binds().results()) {
        let errno = result.err().map_or(0, |e| e.0 as u32);
        let pushed = report.binds.push(BindReport { id: bind_name(bind), errno });
        pushed.expect("as many as a Snapshot has");
    }
    report
}

/// Takes a saved Snapshot, as `state_file::load`.
fn load(
    lines: &[Vec<u8>],
    updater: &mut Updater,
    writer: &mut Writer<'static>,
    now: Now,
) -> Result<(), UpdateError> {
    let taken = (|| {
        updater.begin(writer, now)?;
        for line in lines {
            updater.line(line, writer, parse, now)?;
        }
        updater.finish(writer, |_, _| Ok(()))
    })();
    taken.inspect_err(|&error| updater.passed_over(error))?;
    updater.set_served(updater.served().0, Source::File);
    Ok(())
}
