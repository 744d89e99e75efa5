//! What many seeds were together: sums, and in how many of the seeds that could have it each thing
//! was above 0.
//!
//! In: summaries. Out: a table, and what was met in too few seeds.

use crate::faults::Fault;
use crate::marks::{Marks, expected};
use crate::seed::Options;
use crate::sim::Summary;
use std::fmt::Write as _;

/// A thing must be met in so many percent of the seeds with it on.
const ENOUGH_PERCENT: u64 = 80;
/// A seed simulates at least so many seconds.
const SECONDS: u64 = 60;
/// Fewer seeds say nothing about percents.
const SEEDS: u64 = 500;

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    name: &'static str,
    sum: u64,
    /// Seeds that could have it, and that had it.
    on: u64,
    met: u64,
}

/// Sums over seeds.
#[derive(Debug, Default)]
pub struct Totals {
    pub seeds: u64,
    rows: Vec<Row>,
    /// What was met, in how many seeds.
    marks: Marks,
    /// Seconds of CPU that simulating took.
    pub cpu_seconds: f64,
    simulated: Simulated,
}

/// What was simulated, second runs of seeds among it.
#[derive(Clone, Copy, Debug, Default)]
struct Simulated {
    seconds: u64,
    requests: u64,
    deliveries: u64,
    timers: u64,
}

impl Totals {
    /// Adds a seed.
    pub fn add(&mut self, options: &Options, s: &Summary) {
        let on = |fault| options.is_on(fault);
        let crashes = on(Fault::RouterCrashes) || on(Fault::ControllerCrashes);
        let relists = on(Fault::ApiFaults) || on(Fault::OverCapacity);
        let healed = !options.abandoned;
        let long = u64::from(s.seconds >= SECONDS);
        let mut values = vec![
            ("at least 60 simulated seconds", true, long),
            ("liveness reached", true, u64::from(s.is_live)),
            ("requests", true, s.requests),
            ("answered by backends", true, s.sums.proxied),
            ("answered by backends over HTTPS", true, s.sums.secured),
            ("answered 421", true, s.sums.misdirected),
            ("answered 2xx", true, s.sums.successes),
            ("redirected", true, s.sums.redirected),
            ("answers that filters edited", true, s.sums.edited),
            ("requests with another URL", true, s.sums.rewritten),
            ("messages with trailers", true, s.sums.trailed),
            ("tunnels", true, s.sums.tunnels),
            ("tunnels that ended in order", true, s.sums.tunnels_whole),
            ("swaps", true, s.swaps),
            ("pushes", true, s.pushes),
            ("Snapshots compared with the model", true, s.compared),
            ("Secrets whose last good pair stays", healed, s.sums.pairs_kept),
            ("certificateRefs that do not resolve", true, s.sums.ref_problems),
            ("requests that take their time, in the calm", healed, s.sums.timed),
            ("clients that end their direction, in the calm", healed, s.sums.halves),
            ("requests that L3 asks for", healed, s.sums.owed),
            ("requests that SS asks for", !healed, s.sums.owed_alone),
            ("crashes", crashes, s.crashes),
            ("relists", relists, s.relists),
        ];
        let faults = Fault::ALL.into_iter();
        values.extend(faults.map(|f| (f.name(), on(f), s.injected.of(f))));
        for name in s.marks.keys() {
            *self.marks.entry(name.clone()).or_default() += 1;
        }
        self.seeds += 1;
        self.rows.resize(values.len(), Row::default());
        for (row, (name, on, value)) in self.rows.iter_mut().zip(values) {
            row.name = name;
            row.sum += value;
            row.on += u64::from(on);
            row.met += u64::from(on && value > 0);
        }
    }

    /// A run of a seed ended, the first or the second one.
    pub fn ran(&mut self, s: &Summary) {
        let Simulated { seconds, requests, deliveries, timers } = &mut self.simulated;
        *seconds += s.seconds;
        *requests += s.requests;
        *deliveries += s.deliveries;
        *timers += s.timers;
    }

    /// Marks that no seed came to.
    pub fn holes(&self) -> Vec<&'static str> {
        expected().filter(|&name| !self.marks.contains_key(name)).collect()
    }

    /// Rows that were met in too few seeds, and holes; none while there are few seeds.
    pub fn lacking(&self) -> Vec<&'static str> {
        let lacks = |r: &&Row| self.seeds >= SEEDS && r.met * 100 < r.on * ENOUGH_PERCENT;
        let rows = self.rows.iter().filter(lacks).map(|r| r.name);
        let holes = if self.seeds >= SEEDS { self.holes() } else { Vec::new() };
        rows.chain(holes).collect()
    }

    /// As text.
    pub fn text(&self) -> String {
        let mut text = format!("{} seeds\n", self.seeds);
        for row in &self.rows {
            let percent = row.met as f64 * 100.0 / row.on.max(1) as f64;
            let (name, sum) = (row.name, row.sum);
            let of = if row.on < self.seeds {
                format!("{} seeds with it on", row.on)
            } else {
                format!("{} seeds", row.on)
            };
            let _ = writeln!(text, "  {name}: {sum} (above 0 in {percent:.1} % of the {of})");
        }
        for (name, seeds) in &self.marks {
            let odd = if expected().any(|e| e == name) { "" } else { " (not in the catalogue)" };
            let _ = writeln!(text, "  {name}: in {seeds} seeds{odd}");
        }
        text + &self.speed()
    }

    /// How much was simulated in a second of CPU.
    fn speed(&self) -> String {
        let Simulated { seconds, requests, deliveries, timers } = self.simulated;
        let cpu = self.cpu_seconds;
        let of = |count: u64| count as f64 / cpu.max(1e-9);
        let (second, request) = (of(seconds), of(requests));
        let (delivery, timer) = (of(deliveries), of(timers));
        format!(
            "  {seconds} simulated seconds in {cpu:.1} CPU seconds: {second:.0}\n  \
             per CPU second: {request:.0} requests, {delivery:.0} deliveries, {timer:.0} timers\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(seed: u64) -> Options {
        Options { over_capacity: seed < SEEDS / 2, ..Options::of(seed, false) }
    }

    #[test]
    fn percents_are_of_the_seeds_with_the_fault_on() {
        let mut totals = Totals::default();
        for seed in 0..SEEDS {
            let mut summary = Summary { seconds: SECONDS, is_live: true, ..Summary::default() };
            for fault in Fault::ALL {
                summary.injected.set(fault, 1);
            }
            let refusals = u64::from(seed < SEEDS / 2 - 60);
            summary.injected.set(Fault::OverCapacity, refusals);
            totals.add(&options(seed), &summary);
        }
        assert!(
            totals.text().contains("over capacity: 190 (above 0 in 76.0 % of the 250 seeds with")
        );
        assert!(totals.lacking().contains(&Fault::OverCapacity.name()));
        assert!(totals.lacking().contains(&"requests"));
        assert!(!totals.lacking().contains(&Fault::Stalls.name()));
        assert!(!totals.lacking().contains(&"liveness reached"));
    }
}
