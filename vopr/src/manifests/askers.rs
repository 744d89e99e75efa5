//! Clients that ask for a user's requests, again and again, and write down what each was answered.
//!
//! In: requests and how often. Out: an answer for each that was sent. A client whose router does
//! not listen asks the other one, as behind a load balancer.

use super::requests::Request;
use crate::http::{Next, Reader};
use crate::network::{EndId, Ended, Event, MS, Network, Node, SECOND, SocketEvent, Time};
use crate::sim::ROUTERS;
use serval::stdx::Prng;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A client waits so long.
const PATIENCE: Time = 10 * SECOND;
/// A client finds a router that listens within so many attempts.
const TRIES: u32 = 4;

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Status(u16),
    /// The connection ended first.
    Closed,
    /// Nothing in [`PATIENCE`].
    Silence,
    /// No router listened.
    NoRouter,
}

/// A request that was asked.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Index of the request.
    pub request: usize,
    /// Index of what happened meanwhile.
    pub event: usize,
    pub outcome: Outcome,
    pub sent_at: Time,
    pub at: Time,
}

struct Talk {
    request: usize,
    event: usize,
    router: usize,
    tries: u32,
    reader: Reader,
    /// Over HTTPS: the answer to the hello did not come yet.
    is_greeting: bool,
    output: Vec<u8>,
    sent_at: Time,
}

/// All clients.
#[expect(missing_debug_implementations, reason = "connections say nothing")]
pub struct Askers {
    pub requests: Vec<Request>,
    pub answers: Vec<Answer>,
    /// What happens now.
    pub event: usize,
    /// Indexes of requests that are asked in turn, one every `pause`.
    plan: Vec<usize>,
    pause: Time,
    next: usize,
    next_at: Time,
    /// The addresses of their nodes.
    pub routers: [std::net::IpAddr; ROUTERS],
    talks: BTreeMap<EndId, Talk>,
    prng: Prng,
}

impl Askers {
    /// Nobody asks.
    pub fn new(prng: Prng, routers: [std::net::IpAddr; ROUTERS]) -> Askers {
        Askers {
            requests: Vec::new(),
            answers: Vec::new(),
            event: 0,
            plan: Vec::new(),
            pause: SECOND,
            next: 0,
            next_at: 0,
            routers,
            talks: BTreeMap::new(),
            prng,
        }
    }

    /// Asks for these in turn, from now on; none: rests.
    pub fn ask(&mut self, plan: Vec<usize>, pause: Time, net: &mut Network) {
        (self.plan, self.pause, self.next, self.next_at) = (plan, pause, 0, net.now);
        net.schedule(net.now, Event::Timer(Node::Clients, 0));
    }

    /// What none should take was asked at rest: where one takes all, it need not be asked again.
    pub fn leave_out_redundant(&mut self) {
        for answer in self.answers.iter().filter(|a| a.outcome != Outcome::Status(404)) {
            let request = &mut self.requests[answer.request];
            request.is_redundant |= request.route.is_empty();
        }
    }

    /// Requests that wait for their answer.
    pub fn waiting(&self) -> usize {
        self.talks.len()
    }

    /// Time passed.
    pub fn on_timer(&mut self, net: &mut Network) {
        while !self.plan.is_empty() && self.next_at <= net.now {
            let request = self.plan[self.next % self.plan.len()];
            self.next += 1;
            // Not in step with events: some requests must be under way when something ends.
            self.next_at += self.pause / 2 + self.prng.below(self.pause);
            let router = self.prng.below(ROUTERS as u64) as usize;
            self.begin((request, self.event, net.now), (router, 0), net);
        }
        let is_late = |t: &Talk| net.now >= t.sent_at + PATIENCE;
        let late: Vec<EndId> = self.talks.iter().filter(|t| is_late(t.1)).map(|t| *t.0).collect();
        for end in late {
            self.finish(end, Outcome::Silence, net);
        }
        if !self.plan.is_empty() || !self.talks.is_empty() {
            let next = if self.plan.is_empty() { net.now + 100 * MS } else { self.next_at };
            net.schedule(next, Event::Timer(Node::Clients, 0));
        }
    }

    fn begin(
        &mut self,
        (request, event, sent_at): (usize, usize, Time),
        (router, tries): (usize, u32),
        net: &mut Network,
    ) {
        let wanted = &self.requests[request];
        let to = SocketAddr::new(self.routers[router], wanted.port);
        let end = net.connect(Node::Clients, Node::Router(router), to);
        let hello = if wanted.is_secure { format!("{}\n", wanted.host) } else { String::new() };
        let (is_greeting, output) = match wanted.is_secure {
            true => (true, hello.into_bytes()),
            false => (false, bytes_of(wanted)),
        };
        let reader = Reader::new(true);
        let talk = Talk { request, event, router, tries, reader, is_greeting, output, sent_at };
        self.talks.insert(end, talk);
    }

    /// Something happened at a socket.
    pub fn on_socket(&mut self, end: EndId, what: SocketEvent, net: &mut Network) {
        if what == SocketEvent::Refused {
            let Some(talk) = self.talks.remove(&end) else { return };
            net.close(end, false);
            let Talk { request, event, router, tries, sent_at, .. } = talk;
            if tries + 1 < TRIES {
                let next = ((router + 1) % ROUTERS, tries + 1);
                return self.begin((request, event, sent_at), next, net);
            }
            let (outcome, at) = (Outcome::NoRouter, net.now);
            return self.answers.push(Answer { request, event, outcome, sent_at, at });
        }
        let Some(talk) = self.talks.get_mut(&end) else { return };
        if !talk.output.is_empty()
            && let Some(taken) = net.write(end, &talk.output)
        {
            talk.output.drain(..taken);
        }
        if let Some(outcome) = self.receive(end, net) {
            self.finish(end, outcome, net);
        }
    }

    fn receive(&mut self, end: EndId, net: &mut Network) -> Option<Outcome> {
        let Askers { talks, requests, .. } = self;
        let talk = talks.get_mut(&end)?;
        let mut bytes = net.read(end, 1 << 20);
        if talk.is_greeting
            && let Some(line) = bytes.iter().position(|&b| b == b'\n')
        {
            talk.is_greeting = false;
            bytes.drain(..=line);
            talk.output = bytes_of(&requests[talk.request]);
            let taken = net.write(end, &talk.output).unwrap_or(0);
            talk.output.drain(..taken);
        }
        if !talk.is_greeting {
            talk.reader.feed(&bytes);
        }
        let ended = net.ended(end);
        let is_head = requests[talk.request].method == "HEAD";
        loop {
            match talk.reader.next(is_head, ended == Some(Ended::Eof)) {
                Next::Done(message) if message.status() >= 200 => {
                    return Some(Outcome::Status(message.status()));
                }
                Next::Done(_) | Next::Head => {}
                Next::More => break,
                Next::Bad(_) => return Some(Outcome::Closed),
            }
        }
        ended.map(|_| Outcome::Closed)
    }

    fn finish(&mut self, end: EndId, outcome: Outcome, net: &mut Network) {
        let Some(talk) = self.talks.remove(&end) else { return };
        net.close(end, false);
        let Talk { request, event, sent_at, .. } = talk;
        self.answers.push(Answer { request, event, outcome, sent_at, at: net.now });
    }
}

fn bytes_of(request: &Request) -> Vec<u8> {
    let Request { method, host, target, .. } = request;
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in &request.fields {
        text += &format!("{name}: {value}\r\n");
    }
    if matches!(method.as_str(), "POST" | "PUT" | "PATCH") {
        text += "Content-Length: 3\r\n\r\nok\n";
    } else {
        text += "\r\n";
    }
    text.into_bytes()
}
