//! What a soak was: a table to read, a line of JSON to compare.
//!
//! In: faults as they happened, failures, when routers served what. Out: counts per kind of fault,
//! with the failures that it explains and its recovery; what nothing explains, with all around it.

use crate::clients::{BIN_MS, Class, Failed, Shared};
use crate::quiet::Growth;
use crate::verdict::{Happened, explain, is_near, recovery};
use crate::watch::Confirmed;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Unexplained failures that are printed with all around them.
const PRINTED: usize = 20;
/// Faults so near are around a failure.
const AROUND_MS: u64 = 2_000;

/// One kind of fault.
#[derive(Clone, Debug, Default)]
struct Row {
    happened: u64,
    explained: u64,
    recovery: Vec<u64>,
    config: Vec<u64>,
    never: u64,
}

/// All that was found out.
#[derive(Debug, Default)]
pub struct Report {
    /// `--seed`.
    pub seed: u64,
    /// Whole run, in s.
    pub seconds: u64,
    /// Requests tried.
    pub requests: u64,
    /// Good answers.
    pub good: u64,
    /// Changes begun, and accepted.
    pub changes: [u64; 2],
    /// Configurations seen served.
    pub confirmed: u64,
    /// ms until every route's newest change was served, after each round.
    pub settled: Vec<u64>,
    /// At quiet points.
    pub growth: Growth,
    /// Failures that nothing explains.
    pub unexplained: u64,
    /// Everything else that must not be.
    pub violations: Vec<String>,
    failed: u64,
    classes: BTreeMap<String, u64>,
    rows: BTreeMap<String, Row>,
}

fn class_name(class: &Class) -> String {
    match class {
        Class::Wrong(_) => "wrong".into(),
        Class::Status(status) => status.to_string(),
        other => format!("{other:?}").to_lowercase(),
    }
}

impl Report {
    /// Nothing yet.
    pub fn new(seed: u64) -> Report {
        Report { seed, ..Report::default() }
    }

    /// Matches failures with faults; those that nothing explains are printed.
    pub fn judge(&mut self, happened: &[Happened], failed: &[Failed]) {
        self.failed = failed.len() as u64;
        for failed in failed {
            *self.classes.entry(class_name(&failed.class)).or_default() += 1;
            match explain(happened, failed) {
                Some(cause) => {
                    self.rows.entry(cause.fault.kind()).or_default().explained += 1;
                }
                None => self.unexplained += 1,
            }
        }
        for happened in happened {
            self.rows.entry(happened.fault.kind()).or_default().happened += 1;
        }
    }

    /// How long requests and configurations took to be as before.
    pub fn recoveries(
        &mut self,
        happened: &[Happened],
        failed: &[Failed],
        shared: &Shared,
        first_since: impl Fn(u64) -> Option<u64>,
        confirmed: &[Vec<Confirmed>; 2],
    ) {
        let until = shared.ms();
        let good = [0, 1].map(|n| shared.good[n].lock().expect("no panics").clone());
        // Pauses of ours have no answers: what comes before one is judged by what comes after.
        let is_good = |from: u64, to: u64| {
            good.iter().all(|bins| {
                let from = (from / BIN_MS) as usize;
                let to = (to.div_ceil(BIN_MS) as usize).min(bins.len());
                bins.get(from..to).is_some_and(|bins| bins.iter().any(|count| *count > 0))
            })
        };
        let all = happened;
        for happened in all {
            let row = self.rows.entry(happened.fault.kind()).or_default();
            match recovery(all, happened, failed, is_good, until) {
                Some(ms) => row.recovery.push(ms),
                None => row.never += 1,
            }
            if !happened.fault.is_of_control() {
                continue;
            }
            let Some(first) = first_since(happened.to) else { continue };
            let when = |confirmed: &Vec<Confirmed>| {
                let found = confirmed.iter().find(|(ms, serves)| {
                    *ms >= happened.to && serves.iter().any(|number| *number >= first)
                });
                found.map(|(ms, _)| ms - happened.to)
            };
            if let [Some(one), Some(two)] = confirmed.each_ref().map(when) {
                row.config.push(one.max(two));
            }
        }
    }

    /// Whether all is as it must be.
    pub fn is_good(&self) -> bool {
        self.unexplained == 0 && self.violations.is_empty()
    }

    /// To read.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:<28} {:>6} {:>9}  {:>21}  {:>21}",
            "fault", "times", "explained", "requests back (ms)", "changes back (ms)"
        );
        let _ = writeln!(
            text,
            "{:<28} {:>6} {:>9}  {:>10} {:>10}  {:>10} {:>10}",
            "", "", "", "median", "most", "median", "most"
        );
        for (kind, row) in &self.rows {
            let [median, most] = median_and_most(&row.recovery);
            let [config, config_most] = median_and_most(&row.config);
            let _ = writeln!(
                text,
                "{kind:<28} {:>6} {:>9}  {median:>10} {most:>10}  {config:>10} {config_most:>10}",
                row.happened, row.explained
            );
        }
        let Growth { rss, pss, private, restart, descriptors, threads } = self.growth;
        let _ = writeln!(
            text,
            "requests {} in {} s, good {}, failed {} ({}), unexplained {}\n\
             changes begun {}, accepted {}, configurations seen served {}\n\
             after a round all changes were served within {:?} ms\n\
             growth: Rss {rss} KiB, Pss {pss} KiB, private {private} KiB ({restart} KiB from one \
             process to another), {descriptors} descriptors, {threads} threads",
            self.requests,
            self.seconds,
            self.good,
            self.failed,
            counts(&self.classes, " "),
            self.unexplained,
            self.changes[0],
            self.changes[1],
            self.confirmed,
            self.settled,
        );
        for violation in &self.violations {
            let _ = writeln!(text, "VIOLATION: {violation}");
        }
        text
    }

    /// One line.
    pub fn json(&self) -> String {
        let rows: Vec<String> = self.rows.iter().map(|(kind, row)| row.json(kind)).collect();
        let Growth { rss, pss, private, restart, descriptors, threads } = self.growth;
        let violations: Vec<String> =
            self.violations.iter().map(|v| format!("{:?}", v.replace(['{', '}'], ""))).collect();
        format!(
            r#"{{"seed":{},"seconds":{},"requests":{},"good":{},"failed":{},"classes":{{{}}},"unexplained":{},"violations":[{}],"changes":{},"accepted":{},"confirmed":{},"settled_ms":{:?},"growth":{{"rss_kib":{rss},"pss_kib":{pss},"private_kib":{private},"restart_kib":{restart},"descriptors":{descriptors},"threads":{threads}}},"faults":{{{}}}}}"#,
            self.seed,
            self.seconds,
            self.requests,
            self.good,
            self.failed,
            counts(&self.classes, ","),
            self.unexplained,
            violations.join(","),
            self.changes[0],
            self.changes[1],
            self.confirmed,
            self.settled,
            rows.join(","),
        )
    }
}

impl Row {
    fn json(&self, kind: &str) -> String {
        let [median, most] = median_and_most(&self.recovery);
        let [config, config_most] = median_and_most(&self.config);
        format!(
            r#""{kind}":{{"happened":{},"explained":{},"recovery_ms":{median},"recovery_max_ms":{most},"config_ms":{config},"config_max_ms":{config_most},"open":{}}}"#,
            self.happened, self.explained, self.never,
        )
    }
}

fn median_and_most(all: &[u64]) -> [u64; 2] {
    let mut all = all.to_vec();
    all.sort_unstable();
    [all.get(all.len() / 2), all.last()].map(|value| value.copied().unwrap_or_default())
}

fn counts(classes: &BTreeMap<String, u64>, between: &str) -> String {
    let all: Vec<String> =
        classes.iter().map(|(name, count)| format!("\"{name}\":{count}")).collect();
    all.join(between)
}

/// Prints what nothing explains, with the faults around.
pub fn print_unexplained(happened: &[Happened], failed: &[Failed]) {
    let unexplained = failed.iter().filter(|failed| explain(happened, failed).is_none());
    for failed in unexplained.take(PRINTED) {
        println!(
            "UNEXPLAINED at {} ms (from {} ms): {:?}\n    router-{}, backends {:04b}, {}",
            failed.at, failed.since, failed.class, failed.router, failed.mask, failed.request
        );
        let time = (failed.since, failed.at);
        for happened in happened.iter().filter(|h| is_near(h, time, AROUND_MS)) {
            println!("    around: {} from {} to {} ms", happened.fault, happened.from, happened.to);
        }
    }
}
