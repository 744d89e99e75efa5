//! A controller's part in the reign: the product's `Reign` and Lease machine, as the controller and
//! status threads connect them, over a transport that delays, loses and fails.
//!
//! In: the routers' highest epoch, time. Out: requests at the Lease, and what a look changed.

use crate::api_server::Api;
use crate::checkers::{l4, s10};
use crate::controllers::CONTROLLERS;
use crate::faults::Fault;
use crate::lease_api::{self, Lease};
use crate::marks::sometimes;
use crate::network::{Event, MS, Network, Node, SECOND, Step, Time};
use crate::parsed::Parsed;
use crate::router::clocks;
use crate::seed::Rate;
use serval::controller::reign::{Change, Reign};
use serval::kube::Trouble;
use serval::kube::lease::{Held, Input, LeaseEpoch, Output};
use serval::kube::request::{Method, ObjectPath, TargetText};
use serval::limits::ENDPOINT_SYNC_PERIOD_MS;
use serval::stdx::{Duration, Prng, zeroed_box};

/// A request that may be slow is no slower.
const SLOWEST: Time = 8 * SECOND;

/// A request's way.
#[derive(Debug)]
enum Flight {
    None,
    /// Method, path and body arrive then.
    There(Time, Method, String, Vec<u8>),
    /// The answer arrives then.
    Back(Time, Result<(u16, String), Trouble>),
}

/// One controller's.
#[derive(Debug)]
pub struct LeaseClient {
    node: Node,
    /// Of the process: of its timers.
    number: u64,
    pub holder: String,
    reign: Reign,
    machine: Box<LeaseEpoch>,
    flight: Flight,
    /// It was the last to be told that the Lease is its own.
    pub reigns: bool,
    /// The epoch that it took last.
    epoch: u64,
    /// While it stands by.
    looks: Option<l4::Looks>,
    /// It stands by, and wants to take over.
    takes_over: bool,
    /// What was asked last, and what was read of the Lease last.
    asked: Method,
    read: Option<Lease>,
    prng: Prng,
}

impl LeaseClient {
    /// Of a controller that starts.
    pub fn new(node: Node, number: u64, prng: &mut Prng, net: &Network) -> LeaseClient {
        let patience = Duration::from_millis(u64::from(ENDPOINT_SYNC_PERIOD_MS) / 2);
        let mut machine = zeroed_box::<LeaseEpoch>();
        machine.start(Prng::new(prng.next_u64()));
        LeaseClient {
            node,
            number,
            holder: format!("controller-{number:x}"),
            reign: Reign::new(clocks(net.now).mono + patience),
            machine,
            flight: Flight::None,
            reigns: false,
            epoch: 0,
            looks: None,
            takes_over: false,
            asked: Method::Get,
            read: None,
            prng: Prng::new(prng.next_u64()),
        }
    }

    /// Does what is due, as `MainLoop::order_look` and the status thread; what changed.
    pub fn run(&mut self, highest: u64, all_reported: bool, net: &mut Network) -> Change {
        let now = clocks(net.now);
        if let Some(look) = self.reign.look(highest, all_reported, now.mono) {
            self.reign.asked();
            self.takes_over = look.take && self.looks.is_some();
            let holder = &self.holder;
            let (namespace, name) = ("serval-system", "serval-controller");
            let start = Input::Start { namespace, name, holder, look };
            self.machine.input(start, now).expect("one look at a time");
        }
        if let Flight::Back(at, _) = &self.flight
            && *at <= net.now
            && let Flight::Back(_, answer) = core::mem::replace(&mut self.flight, Flight::None)
        {
            self.take_answer(answer, net);
        }
        self.machine.tick(now);
        let change = self.outputs(net);
        match change {
            Change::None => {}
            Change::Taken(_) => self.reigns = true,
            Change::Overtaken => self.reigns = false,
        }
        if let Some(at) = self.machine.timeout() {
            // A machine that is late for ever must not stop the time.
            net.schedule(at.0.max(net.now + MS), Event::Timer(self.node, self.number));
        }
        change
    }

    fn take_answer(&mut self, answer: Result<(u16, String), Trouble>, net: &Network) {
        let now = clocks(net.now);
        if self.asked == Method::Get {
            self.read = answer.as_ref().ok().and_then(|(_, body)| lease_api::read(body));
        }
        let document = answer.as_ref().ok().and_then(|(_, body)| Parsed::of(body.as_bytes()));
        let input = match &answer {
            Ok((status, _)) => {
                let document = document.as_deref();
                Input::Answer { status: *status, retry_after_ms: 0, document }
            }
            Err(trouble) => Input::Failed(*trouble),
        };
        self.machine.input(input, now).expect("it was asked for");
    }

    fn outputs(&mut self, net: &mut Network) -> Change {
        let now = clocks(net.now).mono;
        let mut change = Change::None;
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Request(request) => {
                    let at = arrives_at(self.node, self.takes_over, &mut self.prng, net);
                    let (method, body) = (request.method, request.body.to_vec());
                    self.asked = method;
                    if let Some(looks) = self.looks.as_ref().filter(|_| method == Method::Put) {
                        looks.takes(&self.holder, self.epoch, self.read.as_ref(), net);
                    }
                    self.flight = Flight::There(at, method, path_of(&request.path), body);
                    net.schedule(at, Event::Step(Step::Lease(self.node)));
                }
                Output::Done(Ok(held)) => {
                    change = self.reign.found(held, now);
                    self.looked(change, net);
                    let whose = if matches!(held, Held::Own(_)) { "own" } else { "another's" };
                    let text = format!("{change:?}");
                    let what = text.split('(').next().unwrap_or("");
                    sometimes(&format!("the Lease is one's {whose}: {what}"));
                }
                Output::Done(Err(_)) => {
                    sometimes("the Lease is not to be had");
                    self.reign.failed(now);
                    self.looks.iter_mut().for_each(|looks| looks.add(None, net.now));
                }
            }
        }
        change
    }

    /// It knows whose the Lease is, by what was read last.
    fn looked(&mut self, change: Change, net: &mut Network) {
        match change {
            Change::Taken(epoch) => {
                if self.looks.take().is_some() {
                    sometimes("who stood by reigns again");
                }
                self.epoch = epoch;
            }
            Change::Overtaken => self.looks = Some(l4::Looks::default()),
            Change::None => {}
        }
        self.looks.iter_mut().for_each(|looks| looks.add(self.read.clone(), net.now));
    }

    /// A request is due at the API server, whether the process is awake or not.
    pub fn arrive(&mut self, api: &mut Api, net: &mut Network) {
        let Flight::There(at, method, path, body) = &self.flight else { return };
        if *at > net.now {
            return;
        }
        let (method, path, body) = (*method, path.clone(), body.clone());
        if let Some(until) = net.blocked_until(self.node, Node::Api) {
            if self.prng.chance(1, 2) {
                // It arrives when nobody thinks of it any more.
                let at = until + self.prng.below(SECOND);
                self.flight = Flight::There(at, method, path, body);
                return net.schedule(at, Event::Step(Step::Lease(self.node)));
            }
            return self.back(Err(Trouble::AnswerTimeout), 2 * SECOND, net);
        }
        if !api.running {
            return self.back(Err(Trouble::Unreachable), 10 * MS, net);
        }
        if !s10::permits(word(method), &path, net) {
            return self.back(Ok((403, String::new())), 30 * MS, net);
        }
        l4::asks(&self.holder, method, &body, net);
        if api.faults == Rate::Off || !self.prng.chance(1, 4) {
            let answer = api.leases.answer(method, &body, net.now);
            if method == Method::Get && api.restores.happens_rarely(&mut self.prng) {
                // Gone before it can be written.
                api.leases.lease = None;
            }
            return self.back(Ok(answer), 30 * MS, net);
        }
        net.injected.add(Fault::LeaseFaults);
        let answer = match self.prng.below(7) {
            // Who may do what is not known for a moment.
            5 | 6 => Ok((403, String::new())),
            0 => Ok((429, String::new())),
            1 => Ok((500, String::new())),
            2 => Ok((409, String::new())),
            3 => Err(Trouble::Closed),
            _ => {
                // It was done, but nobody is told.
                api.leases.answer(method, &body, net.now);
                Err(Trouble::Closed)
            }
        };
        match &answer {
            Ok((status, _)) => sometimes(&format!("the Lease is answered with {status}")),
            Err(_) => sometimes("the Lease's answer is lost"),
        }
        self.back(answer, SECOND, net);
    }

    fn back(&mut self, answer: Result<(u16, String), Trouble>, within: Time, net: &mut Network) {
        let at = net.now + self.prng.range(MS, within);
        self.flight = Flight::Back(at, answer);
        net.schedule(at, Event::Timer(self.node, self.number));
    }
}

/// When a request arrives. Who is about to take over may be as slow as it takes the other one,
/// which lost the API server, to be back, and to renew.
fn arrives_at(of: Node, takes_over: bool, prng: &mut Prng, net: &Network) -> Time {
    let at = net.now + prng.range(MS, 30 * MS);
    let others = (0..CONTROLLERS).map(Node::Controller).filter(|&node| node != of);
    let back = others.filter_map(|node| net.blocked_until(node, Node::Api)).min();
    match back.filter(|&back| takes_over && back < at + SLOWEST) {
        Some(back) if prng.chance(3, 4) => {
            sometimes("a taking over is slow");
            at.max(back) + prng.below(2 * SECOND)
        }
        _ => at,
    }
}

/// A method's name.
pub fn word(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
    }
}

/// The path of an object as it is asked for.
pub fn path_of(path: &ObjectPath<'_>) -> String {
    let mut target = TargetText::new();
    path.write(&mut target).expect("names of the model are short");
    String::from_utf8_lossy(target.as_bytes()).to_string()
}
