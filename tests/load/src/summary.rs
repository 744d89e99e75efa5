//! What a run was: counted by each thread for itself, added up at the end.
//!
//! In: one result per request. Out: one line of JSON.

use crate::http::Broken;
use crate::stamp::{Form, Keep, Request};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;

/// How finely it is looked for times without a good answer.
const SLOT_MS: usize = 10;
const SLOTS_A_SECOND: usize = 1_000 / SLOT_MS;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Connect(Broken),
    /// The request could not be sent.
    Send(Broken),
    /// No whole answer.
    Answer(Broken),
    /// The certificate is not one that may be shown now.
    Leaf(String),
    /// Another status than 200.
    Status(u16),
    /// The answer has another request's stamp, or none.
    Stamp,
    /// The answer's backend is not one that may answer now.
    Backend(String),
    /// The body is not what this backend answers to this request.
    Body,
    /// Bytes or an end that nothing asked for, or no end where one was due.
    Count,
}

impl Failure {
    /// Its name in the summary.
    pub fn name(&self) -> &'static str {
        match self {
            _ if self.is_refusal() => "refused",
            Failure::Connect(_) => "connect",
            Failure::Send(_) => "send",
            Failure::Answer(Broken::Timeout) => "timeout",
            Failure::Answer(_) => "answer",
            Failure::Leaf(_) => "leaf",
            Failure::Status(_) => "status",
            Failure::Stamp => "stamp",
            Failure::Backend(_) => "backend",
            Failure::Body => "body",
            Failure::Count => "count",
        }
    }

    /// Whether nobody listened: the request was not sent.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Failure::Connect(Broken::Socket(ErrorKind::ConnectionRefused)))
    }
}

/// Counts of a run.
#[derive(Debug, Default)]
pub struct Summary {
    /// Requests sent, or tried.
    pub requests: u64,
    /// By the name of the failure.
    pub failed: BTreeMap<&'static str, u64>,
    /// Good answers by backend.
    pub answers: BTreeMap<String, u64>,
    /// GETs and POSTs with a good answer.
    pub methods: [u64; 2],
    /// Good answers on kept, fresh and closed connections.
    pub keeps: [u64; 3],
    /// From when the request was due to the end of its answer.
    micros: Vec<u32>,
    /// Connections that one router refused and another took.
    pub passed_over: u64,
    /// Good answers in each slot of the run.
    slots: Vec<u32>,
}

impl Summary {
    /// One good answer, `micros` after it was due, so many milliseconds after the run's start.
    pub fn good(&mut self, request: &Request, backend: &str, micros: u64, at_ms: usize) {
        self.requests += 1;
        match self.answers.get_mut(backend) {
            Some(count) => *count += 1,
            None => drop(self.answers.insert(backend.to_string(), 1)),
        }
        self.methods[usize::from(request.form != Form::Get)] += 1;
        let place = [Keep::Kept, Keep::Fresh, Keep::Closed].iter().position(|k| *k == request.keep);
        self.keeps[place.expect("one of three")] += 1;
        self.micros.push(u32::try_from(micros).unwrap_or(u32::MAX));
        let slot = at_ms / SLOT_MS;
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, 0);
        }
        self.slots[slot] += 1;
    }

    /// One request that failed.
    pub fn bad(&mut self, failure: &Failure) {
        self.requests += 1;
        *self.failed.entry(failure.name()).or_default() += 1;
    }

    /// Adds another thread's counts.
    pub fn add(&mut self, other: &Summary) {
        self.requests += other.requests;
        for (name, count) in &other.failed {
            *self.failed.entry(name).or_default() += count;
        }
        for (name, count) in &other.answers {
            *self.answers.entry(name.clone()).or_default() += count;
        }
        (0..2).for_each(|i| self.methods[i] += other.methods[i]);
        (0..3).for_each(|i| self.keeps[i] += other.keeps[i]);
        self.micros.extend_from_slice(&other.micros);
        self.passed_over += other.passed_over;
        if self.slots.len() < other.slots.len() {
            self.slots.resize(other.slots.len(), 0);
        }
        other.slots.iter().zip(&mut self.slots).for_each(|(from, to)| *to += from);
    }

    /// How many failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// How many of these were not sent, since nobody listened.
    pub fn refusals(&self) -> u64 {
        self.failed.get("refused").copied().unwrap_or(0)
    }

    /// Good answers in each slot of the first `whole` seconds.
    fn slots(&self, whole: usize) -> impl Iterator<Item = u64> {
        let all = self.slots.iter().map(|&count| u64::from(count));
        all.chain(std::iter::repeat(0)).take(whole * SLOTS_A_SECOND)
    }

    /// Good answers in the poorest of the first `whole` seconds; 0 when there is none.
    pub fn rate_min(&self, whole: usize) -> u64 {
        let slots: Vec<u64> = self.slots(whole).collect();
        slots.chunks(SLOTS_A_SECOND).map(|second| second.iter().sum()).min().unwrap_or(0)
    }

    /// The longest time without a good answer in the first `whole` seconds.
    pub fn gap_ms(&self, whole: usize) -> usize {
        let (mut longest, mut now) = (0, 0);
        for count in self.slots(whole) {
            now = if count == 0 { now + SLOT_MS } else { 0 };
            longest = longest.max(now);
        }
        longest
    }

    /// The line; `more` is put at its end, members of an object.
    pub fn line(&mut self, whole: usize, more: &str) -> String {
        self.micros.sort_unstable();
        let at = |percent| percentile(&self.micros, percent);
        let [get, post] = self.methods;
        let [kept, fresh, closed] = self.keeps;
        let mut line = String::new();
        let _ = write!(
            line,
            r#"{{"requests":{},"failed":{},"reasons":{},"get":{get},"post":{post},"#,
            self.requests,
            self.failures(),
            object(&self.failed),
        );
        let _ = write!(
            line,
            r#""kept":{kept},"fresh":{fresh},"closed":{closed},"seconds":{whole},"rate_min":{},"#,
            self.rate_min(whole),
        );
        let _ = write!(
            line,
            r#""p50_us":{},"p99_us":{},"max_us":{},"answers":{}{more}}}"#,
            at(50),
            at(99),
            at(100),
            object(&self.answers),
        );
        line
    }
}

/// The smallest of which so many percent are at most that large; of sorted numbers.
pub fn percentile<T: Copy + Default>(sorted: &[T], percent: usize) -> T {
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * percent / 100).min(last)).copied().unwrap_or_default()
}

fn object<K: AsRef<str>>(counts: &BTreeMap<K, u64>) -> String {
    let members: Vec<String> =
        counts.iter().map(|(name, count)| format!(r#""{}":{count}"#, name.as_ref())).collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_two_threads_become_one_line() {
        let request = Request::number("r", 0, "/");
        let (mut one, mut two) = (Summary::default(), Summary::default());
        one.good(&request, "a", 10, 0);
        one.good(&request, "b", 30, 1_000);
        two.good(&request, "b", 20, 999);
        two.good(&request, "b", 40, 2_500);
        two.bad(&Failure::Status(503));
        one.add(&two);
        assert_eq!((one.failures(), one.rate_min(2), one.rate_min(3)), (1, 1, 1));
        assert_eq!((one.rate_min(4), one.gap_ms(3), one.gap_ms(5)), (0, 1_490, 2_490));
        let line = one.line(2, r#","x":1"#);
        let wanted = r#"{"requests":5,"failed":1,"reasons":{"status":1},"get":4,"post":0,"kept":4,"fresh":0,"closed":0,"seconds":2,"rate_min":1,"p50_us":30,"p99_us":40,"max_us":40,"answers":{"a":1,"b":3},"x":1}"#;
        assert_eq!(line, wanted);
    }
}
