//! Quiet points: no fault, no load, no change. What was measured there must not grow.
//!
//! In: figures of the kernel and of the routers' metrics, once a round. Out: growth, and what is
//! beyond its tolerance.

use crate::faults::World;
use crate::processes::{Figures, Name};
use std::time::{Duration, Instant};

/// KiB that a process may grow from its first quiet point on: as in tests/cluster/measure, and some
/// pages of stacks that only rare errors touch.
pub const GROWTH_KIB: i64 = 128;
/// KiB by which another process of the same name may differ from the first: it started with
/// another configuration.
pub const RESTART_KIB: i64 = 512;
/// Descriptors beside those of clients and backends: admin connections come and go.
pub const DESCRIPTORS: i64 = 3;
/// Of the controller: watches and pushes that begin anew.
pub const CONTROLLER_DESCRIPTORS: i64 = 8;
/// Clients that have gone are forgotten within this (LINGER_TIMEOUT_MS and some).
const EMPTY_LIMIT: Duration = Duration::from_secs(6);
/// What is served is saved within this (STATE_FILE_PERIOD_MS and some).
const SAVE_LIMIT: Duration = Duration::from_secs(5);

/// A process at a quiet point.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Whose.
    pub name: Name,
    /// Of the kernel; descriptors without those of clients and backends.
    pub figures: Figures,
}

/// The most that a figure grew, over all processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Growth {
    /// KiB, in one process.
    pub rss: i64,
    /// KiB, in one process.
    pub pss: i64,
    /// KiB, in one process.
    pub private: i64,
    /// KiB, between processes of one name.
    pub restart: i64,
    /// Descriptors, between processes of one name.
    pub descriptors: i64,
    /// Threads, between processes of one name.
    pub threads: i64,
}

/// Measures all processes; complaints are put into `violations`.
pub fn sample(world: &World, violations: &mut Vec<String>) -> Result<Vec<Sample>, String> {
    let mut samples = Vec::new();
    for n in 0..2 {
        let empty =
            until(EMPTY_LIMIT, || world.processes.metric(n, "serval_router_clients") == Ok(0));
        if !empty {
            let left = world.processes.metric(n, "serval_router_clients");
            violations.push(format!("router-{n} has {left:?} clients, but there are none"));
        }
        for name in ["exhausted_total", "evictions_total", "edits_exhausted_total"] {
            let count = world.processes.metric(n, &format!("serval_router_{name}"))?;
            if count > 0 {
                violations.push(format!("router-{n}: {name} is {count}: slots or buffers leak"));
            }
        }
        let served = world.ledger.served(n);
        if !until(SAVE_LIMIT, || world.processes.saved(n) == Some(served)) {
            let saved = world.processes.saved(n);
            violations.push(format!("router-{n} has saved {saved:?}, it serves {served:?}"));
        }
    }
    for name in [Name::Router(0), Name::Router(1), Name::Controller] {
        let mut figures = world.processes.figures(name)?;
        if let Name::Router(n) = name {
            let upstreams = world.processes.metric(n, "serval_router_upstreams")?;
            figures.descriptors = figures.descriptors.saturating_sub(upstreams);
        }
        samples.push(Sample { name, figures });
    }
    Ok(samples)
}

fn until(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let from = Instant::now();
    while !is_so() {
        if from.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

/// Compares each sample with the first of its process, and with the first of its name.
pub fn growth(samples: &[Sample], violations: &mut Vec<String>) -> Growth {
    let mut most = Growth::default();
    for (place, now) in samples.iter().enumerate() {
        let name = now.name.text();
        let mut judge = |what: &str, by: i64, tolerance: i64, most: &mut i64| {
            if by > tolerance {
                violations.push(format!("{name}: {what} grew by {by}, more than {tolerance}"));
            }
            *most = (*most).max(by);
        };
        let grown = |now: u64, before: u64| now as i64 - before as i64;
        let earlier = samples[..place].iter().filter(|before| before.name == now.name);
        let (now, mut earlier) = (now.figures, earlier.map(|before| before.figures));
        let Some(first) = earlier.next() else { continue };
        let own = [first].into_iter().chain(earlier).find(|before| before.pid == now.pid);
        if let Some(own) = own {
            judge("Rss (KiB)", grown(now.rss, own.rss), GROWTH_KIB, &mut most.rss);
            judge("private (KiB)", grown(now.private, own.private), GROWTH_KIB, &mut most.private);
            // Shared pages are divided by processes that come and go.
            judge("Pss (KiB)", grown(now.pss, own.pss), i64::MAX, &mut most.pss);
        }
        let restart = grown(now.private, first.private);
        judge("private since the first start (KiB)", restart, RESTART_KIB, &mut most.restart);
        let tolerance = if name == "controller" { CONTROLLER_DESCRIPTORS } else { DESCRIPTORS };
        let descriptors = grown(now.descriptors, first.descriptors);
        judge("descriptors", descriptors, tolerance, &mut most.descriptors);
        judge("threads", grown(now.threads, first.threads), 0, &mut most.threads);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_of_a_process_and_of_its_successors_is_told() {
        let of = |pid, rss, descriptors| {
            let figures = Figures { pid, rss, descriptors, ..Figures::default() };
            Sample { name: Name::Router(1), figures }
        };
        let judged = |samples: &[Sample]| {
            let mut violations = Vec::new();
            (growth(samples, &mut violations).rss, violations.len())
        };
        assert_eq!(judged(&[of(1, 1_000, 9), of(1, 1_100, 12)]), (100, 0));
        assert_eq!(judged(&[of(1, 1_000, 9), of(1, 1_200, 9)]), (200, 1));
        assert_eq!(judged(&[of(1, 1_000, 9), of(2, 9_000, 9), of(2, 9_050, 9)]), (50, 0));
        assert_eq!(judged(&[of(1, 1_000, 9), of(2, 1_000, 13)]), (0, 1));
    }
}
