//! A router's admin port over simulated streams: the report, and pushes into the updater.
//!
//! In: bytes of controllers. Out: answers, and whether something else is served now. As
//! `shell::admin` does it with sockets, in one thread.

use crate::checkers::{s2, s9};
use crate::marks::sometimes;
use crate::network::{EndId, Ended, Network, Node, Time};
use crate::router::{clocks, parse};
use serval::admin::{Connection, Method, Step};
use serval::config::report::Report;
use serval::config::storage::Writer;
use serval::limits::{ADMIN_TIMEOUT_MS, MAX_ADMIN_CONNECTIONS};
use serval::router::update::{Taken, UpdateError, Updater};
use serval::stdx::{Now, zeroed_box};
use serval::wire::json::JsonWriter;
use std::net::SocketAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    Report,
    Push,
    Failed(UpdateError),
    Unknown,
}

struct Place {
    end: EndId,
    machine: Box<Connection>,
    doing: Doing,
    /// The push's header.
    offered: Option<s2::Header>,
    active: Time,
}

/// What serving did.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Something else is served, or under another identity.
    pub changed: bool,
    /// A push did not fit.
    pub refused_full: bool,
    /// The epochs of the pushes that were taken, by their headers.
    pub taken: Vec<u64>,
}

/// Works out the report of the process.
pub type Reporting<'a> = dyn Fn(&Updater, &Writer<'static>) -> Report + 'a;

/// The report as it was before the first push ended, once somebody asks.
struct Reported<'a> {
    work_out: &'a Reporting<'a>,
    found: Option<Report>,
}

impl Reported<'_> {
    fn get(&mut self, updater: &Updater, writer: &Writer<'static>) -> &mut Report {
        self.found.get_or_insert_with(|| (self.work_out)(updater, writer))
    }
}

/// The port.
#[expect(missing_debug_implementations, reason = "places are large")]
pub struct AdminPort {
    node: Node,
    places: Vec<Place>,
    /// Whose push runs, as `Pages` has it.
    pushing: Option<EndId>,
    waiting: Vec<EndId>,
    /// Machines of connections that ended: to zero one costs more than to serve with it.
    spare: Vec<Box<Connection>>,
}

impl AdminPort {
    /// Nobody is connected.
    pub fn new(node: Node) -> AdminPort {
        AdminPort {
            node,
            places: Vec::new(),
            pushing: None,
            waiting: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Listens.
    pub fn listen(&self, at: SocketAddr, net: &mut Network) {
        net.listen(self.node, at);
    }

    /// A controller connects.
    pub fn accepted(&mut self, end: EndId, net: &mut Network) {
        self.waiting.push(end);
        self.admit(net);
    }

    fn admit(&mut self, net: &mut Network) {
        while self.places.len() < MAX_ADMIN_CONNECTIONS as usize && !self.waiting.is_empty() {
            let end = self.waiting.remove(0);
            let mut machine = self.spare.pop().unwrap_or_else(zeroed_box::<Connection>);
            machine.clear();
            let (doing, offered, active) = (Doing::Nothing, None, net.now);
            self.places.push(Place { end, machine, doing, offered, active });
        }
    }

    /// Whether the end is one of this port.
    pub fn owns(&self, end: EndId) -> bool {
        self.waiting.contains(&end) || self.places.iter().any(|p| p.end == end)
    }

    /// Whether nobody is connected.
    pub fn is_idle(&self) -> bool {
        self.places.is_empty() && self.waiting.is_empty()
    }

    /// Whether a push runs.
    pub fn is_pushed_to(&self) -> bool {
        self.pushing.is_some()
    }

    /// Something happened at it: served at the end of the router's run.
    pub fn touched(&mut self, _end: EndId) {}

    /// When a silent connection is closed.
    pub fn timeout(&self) -> Time {
        let limit = u64::from(ADMIN_TIMEOUT_MS) * 1_000_000;
        self.places.iter().map(|p| p.active + limit).min().unwrap_or(Time::MAX)
    }

    /// Serves all connections as far as their bytes go.
    pub fn serve(
        &mut self,
        report: &Reporting<'_>,
        updater: &mut Updater,
        writer: &mut Writer<'static>,
        net: &mut Network,
    ) -> Done {
        let mut done = Done::default();
        let mut report = Reported { work_out: report, found: None };
        let limit = u64::from(ADMIN_TIMEOUT_MS) * 1_000_000;
        let mut pushes = Pushes { updater, pushing: &mut self.pushing };
        let gone = self.places.extract_if(.., |place| {
            let mut open = place.serve(&mut report, &mut pushes, writer, net, &mut done);
            open &= net.now < place.active + limit;
            if !open {
                if pushes.end(place.end) {
                    pushes.updater.abort();
                }
                net.close(place.end, false);
            }
            !open
        });
        self.spare.extend(gone.map(|place| place.machine));
        self.admit(net);
        done
    }
}

struct Pushes<'a> {
    updater: &'a mut Updater,
    pushing: &'a mut Option<EndId>,
}

impl Pushes<'_> {
    /// This connection pushes.
    fn begin(&mut self, of: EndId, writer: &mut Writer<'static>, now: Now) -> Doing {
        match self.updater.begin(writer, now) {
            Ok(()) => {
                *self.pushing = Some(of);
                Doing::Push
            }
            Err(error) => Doing::Failed(error),
        }
    }

    /// The push of this connection is over; whether it was its turn.
    fn end(&mut self, of: EndId) -> bool {
        let was_its = *self.pushing == Some(of);
        if was_its {
            *self.pushing = None;
        }
        was_its
    }
}

impl Place {
    /// False when the connection is done for.
    fn serve(
        &mut self,
        report: &mut Reported<'_>,
        pushes: &mut Pushes<'_>,
        writer: &mut Writer<'static>,
        net: &mut Network,
        done: &mut Done,
    ) -> bool {
        loop {
            while !self.machine.output().is_empty() {
                match net.write(self.end, self.machine.output()) {
                    None => return false,
                    Some(0) => return true,
                    Some(bytes) => {
                        self.machine.sent(bytes);
                        self.active = net.now;
                    }
                }
            }
            if self.machine.is_finished() {
                return false;
            }
            if self.steps(report, pushes, writer, net, done) {
                continue;
            }
            let len = net.read_into(self.end, self.machine.room());
            if len == 0 {
                return net.ended(self.end).is_none_or(|e| e == Ended::Eof && self.waits());
            }
            self.active = net.now;
            self.machine.received(len);
        }
    }

    /// An end of the peer's direction before the answer is out closes, as a socket's read says.
    fn waits(&self) -> bool {
        self.machine.is_answering()
    }

    /// Takes what was received; true when there is an answer to write.
    fn steps(
        &mut self,
        report: &mut Reported<'_>,
        pushes: &mut Pushes<'_>,
        writer: &mut Writer<'static>,
        net: &mut Network,
        done: &mut Done,
    ) -> bool {
        let now = clocks(net.now);
        loop {
            match self.machine.step() {
                Step::More => return false,
                Step::Request => {
                    let request = self.machine.request();
                    self.doing = match (request.method, request.path.as_str()) {
                        (Method::Get, "/status") => Doing::Report,
                        (Method::Post, "/routes/update") => pushes.begin(self.end, writer, now),
                        _ => Doing::Unknown,
                    };
                }
                Step::Line => {
                    if self.offered.is_none() {
                        self.offered = s2::header_of(self.machine.line());
                    }
                    let is_its = *pushes.pushing == Some(self.end);
                    if is_its
                        && let Err(error) =
                            pushes.updater.line(self.machine.line(), writer, parse, now)
                    {
                        self.doing = Doing::Failed(error);
                        pushes.end(self.end);
                    }
                    if matches!(self.doing, Doing::Failed(_)) {
                        self.answer(report.get(pushes.updater, writer), net, done);
                        return true;
                    }
                }
                Step::End => {
                    let report = report.get(pushes.updater, writer);
                    if self.doing == Doing::Push && !pushes.end(self.end) {
                        self.doing = Doing::Failed(UpdateError::Timeout);
                    }
                    if self.doing == Doing::Push {
                        let before = pushes.updater.served().0;
                        self.doing = match pushes.updater.finish(writer, |_, _| Ok(())) {
                            Ok(taken) => {
                                sometimes(&format!("a push is taken: {taken:?}"));
                                if let Some(header) = &self.offered {
                                    let source = pushes.updater.served().1.name();
                                    s2::came_from(header, before, source, net);
                                    done.taken.push(header.epoch);
                                }
                                done.changed |= taken != Taken::Same;
                                Doing::Report
                            }
                            Err(error) => Doing::Failed(error),
                        };
                        (report.identity, report.source) = pushes.updater.served();
                        report.ready = writer.all_passed();
                    }
                    self.answer(report, net, done);
                    return true;
                }
                Step::Refuse(status) => {
                    self.machine.answer_text(status, format_args!("no request for this port"));
                    return true;
                }
            }
        }
    }

    fn answer(&mut self, report: &Report, net: &mut Network, done: &mut Done) {
        match self.doing {
            Doing::Failed(error) => {
                let why = format!("{error:?}");
                let why = why.split([' ', '(']).next().unwrap_or("");
                sometimes(&format!("a push is refused: {why} {}", error.status()));
                done.refused_full |= error.status() == 507;
                net.trace.say(net.now, &format!("push refused: {error}"));
                self.machine.answer_text(error.status(), format_args!("{error}"));
            }
            Doing::Report => self.machine.answer(200, "application/json", |out| {
                let mut json = JsonWriter::new(out);
                report.write(&mut json);
                json.finish().ok().map(str::len)
            }),
            _ => self.machine.answer_text(404, format_args!("no such page")),
        }
        s9::shown("an answer of the admin port", self.machine.output(), net);
        (self.doing, self.offered) = (Doing::Nothing, None);
    }
}
