//! What would fail, for people: worst first, by event, with the reason and what helps.
//!
//! In: answers to requests, by event. Out: text, and whether anything failed.

use super::askers::{Answer, Outcome};
use super::events::{API_AWAY, CONTROLLER_AWAY, GAP_MS, MADE_GOOD, NOTICED, What};
use super::requests::Request;
use crate::network::{SECOND, Time};
use std::collections::{BTreeMap, BTreeSet};

/// So many Services are named where nothing fails.
const NAMED: usize = 5;

/// What happened in all seeds; requests and events are the same in each.
#[derive(Debug, Default)]
pub struct Report {
    pub requests: Vec<Request>,
    /// With the ready endpoints of its Service.
    pub events: Vec<(What, usize)>,
    /// By event and request.
    tallies: BTreeMap<(usize, usize), Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    asked: u64,
    failed: BTreeMap<Outcome, u64>,
    /// From the first that failed to the last, of the seed where that is longest.
    span: Time,
}

impl Tally {
    fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

fn is_bad(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Status(..500))
}

impl Report {
    /// Takes the answers of a seed.
    pub fn take(&mut self, answers: &[Answer]) {
        let mut at_rest: BTreeSet<(usize, Outcome)> = BTreeSet::new();
        for answer in answers.iter().filter(|a| a.event == 0) {
            at_rest.insert((answer.request, answer.outcome));
        }
        let mut spans: BTreeMap<(usize, usize), (Time, Time)> = BTreeMap::new();
        let tells = |a: &&Answer| !self.requests[a.request].is_redundant;
        for answer in answers.iter().filter(tells) {
            let key = (answer.event, answer.request);
            let tally = self.tallies.entry(key).or_default();
            tally.asked += 1;
            let failed = match answer.event {
                0 => is_bad(answer.outcome),
                // What is as at rest was said there.
                _ => !at_rest.contains(&(answer.request, answer.outcome)),
            };
            if failed {
                *tally.failed.entry(answer.outcome).or_default() += 1;
                let span = spans.entry(key).or_insert((answer.sent_at, answer.at));
                *span = (span.0.min(answer.sent_at), span.1.max(answer.at));
            }
        }
        for (key, (from, to)) in spans {
            let tally = self.tallies.entry(key).or_default();
            tally.span = tally.span.max(to - from);
        }
    }

    /// Whether a request would fail.
    pub fn fails(&self) -> bool {
        self.tallies.values().any(|t| t.failures() > 0)
    }

    /// Of an event: its requests that failed, the worst first.
    fn failing(&self, event: usize) -> Vec<(&Request, &Tally)> {
        let of_event = self.tallies.range((event, 0)..(event + 1, 0));
        let failing = of_event.filter(|(_, t)| t.failures() > 0);
        let mut failing: Vec<(&Request, &Tally)> =
            failing.map(|((_, request), tally)| (&self.requests[*request], tally)).collect();
        failing.sort_by_key(|(_, t)| std::cmp::Reverse(t.failures() * 1000 / t.asked));
        failing
    }

    /// All of it.
    pub fn text(&self, folder: &str, seeds: u64) -> String {
        let requests = self.requests.iter().filter(|r| !r.is_redundant).count();
        let events = self.events.len() - 1;
        let mut text = format!("{folder}: {requests} requests, {events} events, {seeds} seeds\n");
        let mut failing: Vec<usize> =
            (0..self.events.len()).filter(|&e| !self.failing(e).is_empty()).collect();
        // At rest before all else, then by requests that failed.
        let failures = |e: usize| self.failing(e).iter().map(|f| f.1.failures()).sum::<u64>();
        failing.sort_by_key(|&e| (e != 0, std::cmp::Reverse(failures(e))));
        if failing.is_empty() {
            text += "\nNothing would fail:\n";
        } else {
            text += "\nWOULD FAIL, worst first:\n";
        }
        for (number, &event) in (1..).zip(&failing) {
            let (what, endpoints) = &self.events[event];
            text += &format!("\n{number}. {}\n", said(what, *endpoints));
            for (request, tally) in self.failing(event) {
                text += &line(what, request, tally);
            }
            if let Some(help) = help(what, *endpoints) {
                text += &format!("   Helps: {help}\n");
            }
        }
        if !failing.is_empty() {
            text += "\nNothing fails:\n";
        }
        text + &self.quiet(&failing)
    }

    /// The events of which nothing fails, those of Services together.
    fn quiet(&self, failing: &[usize]) -> String {
        let mut lines: Vec<String> = Vec::new();
        let mut services: [Vec<&str>; 3] = Default::default();
        for (event, (what, endpoints)) in self.events.iter().enumerate() {
            match (failing.contains(&event), what) {
                (true, _) => {}
                (_, What::Overlap(service)) => services[0].push(service),
                (_, What::Gap(service)) => services[1].push(service),
                (_, What::Lost(service)) => services[2].push(service),
                _ => lines.push(format!("- {}\n", said(what, *endpoints))),
            }
        }
        let ways = [
            "are replaced, each new one ready first".to_string(),
            format!("are replaced, each new one {} s later", GAP_MS as f64 / 1000.0),
            "are lost, one of each".to_string(),
        ];
        for (names, way) in services.iter().zip(ways).filter(|s| !s.0.is_empty()) {
            let more = match names.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let names = names[..names.len().min(NAMED)].join(", ");
            lines.push(format!("- while endpoints of {names}{more} {way}\n"));
        }
        lines.concat()
    }
}

/// What became of a request.
fn line(what: &What, request: &Request, tally: &Tally) -> String {
    let route = match request.route.as_str() {
        "" => "no route".to_string(),
        name => {
            let (route, rule) = name.rsplit_once('/').unwrap_or((name, ""));
            format!("HTTPRoute {route}, rule {rule}")
        }
    };
    let failed: Vec<String> =
        tally.failed.iter().map(|(outcome, times)| format!("{times} {outcome}")).collect();
    let within = match what {
        What::Nothing => String::new(),
        _ => format!(", within {:.1} s", tally.span as f64 / SECOND as f64),
    };
    let why = match what {
        What::Nothing => why(request),
        _ => String::new(),
    };
    let (url, asked) = (&request.url, tally.asked);
    format!("   {url} ({route}):\n     of {asked} requests {}{within}{why}\n", failed.join(", "))
}

/// Why a request fails at rest.
fn why(request: &Request) -> String {
    match (request.is_unresolved, request.services.as_slice()) {
        (true, []) => ": its backendRefs do not resolve".to_string(),
        (true, _) => ": one of its backendRefs does not resolve".to_string(),
        (false, []) => String::new(),
        (false, services) => format!(": no endpoint of {} is ready", services.join(" or ")),
    }
}

fn said(what: &What, endpoints: usize) -> String {
    let seconds = |time: Time| format!("{:.0} s", time as f64 / SECOND as f64);
    let has = match endpoints {
        1 => "has one endpoint".to_string(),
        more => format!("has {more} endpoints"),
    };
    let it = if endpoints == 1 { "it is" } else { "one after the other is" };
    let one = if endpoints == 1 { "it is" } else { "one of them is" };
    let gap = GAP_MS as f64 / 1000.0;
    match what {
        What::Nothing => "while nothing happens".to_string(),
        What::Overlap(service) => {
            format!("Service {service} {has}: while {it} replaced, the new one ready first")
        }
        What::Gap(service) => {
            format!("Service {service} {has}: while {it} replaced, the new one {gap} s later")
        }
        What::Lost(service) => format!(
            "Service {service} {has}: while {one} lost (noticed after {}, replaced after {})",
            seconds(NOTICED),
            seconds(MADE_GOOD)
        ),
        What::Routers => "while the routers restart, one after the other".to_string(),
        What::Controller => {
            format!("while the controller restarts ({})", seconds(CONTROLLER_AWAY))
        }
        What::Api => format!("while the API server is away ({})", seconds(API_AWAY)),
        What::ApplyAgain => "while all manifests are applied again".to_string(),
    }
}

fn help(what: &What, endpoints: usize) -> Option<&'static str> {
    match what {
        What::Gap(_) | What::Lost(_) if endpoints > 1 => Some(
            "endpoints that end what they have begun: a request that may have been carried out is \
             not sent to another",
        ),
        What::Overlap(_) => Some("endpoints that go on serving for a second when told to end"),
        What::Gap(_) => Some("a second endpoint, or maxUnavailable: 0 in the Deployment's rollout"),
        What::Lost(_) => Some("a second endpoint, on another node"),
        _ => None,
    }
}
