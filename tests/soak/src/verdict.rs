//! Which fault explains which failure.
//!
//! In: faults as they happened, failures. Out: for each failure the fault that may have caused it:
//! one that met this router or backend, within its time and a bounded tolerance, and can cause this
//! kind of failure at all. A wrong answer is never explained, nor is a request that took longer
//! than the client's patience.

use crate::clients::{Class, Failed, TIMED_ROUTE};
use crate::schedule::{Fault, Harm, Place};

/// A fault as it happened, ms since the start.
#[derive(Clone, Copy, Debug)]
pub struct Happened {
    /// What.
    pub fault: Fault,
    /// Before anything was done.
    pub from: u64,
    /// When all was undone: a link as before, a process that answers again.
    pub to: u64,
}

/// limits.toml: how long a router that drains takes one more request over an idle connection.
const DRAIN_IDLE_MS: u64 = 1_000;
/// Signals, accepts and clocks take their time.
const DRAIN_MARGIN_MS: u64 = 250;

/// How long after its end a fault explains failures, in ms.
fn tolerance(fault: Fault) -> u64 {
    match fault {
        Fault::Link(..) => 500,
        // It answers probes a little before it has bound all ports.
        Fault::RouterKill(_) | Fault::RouterDrain(_) => 1_000,
        Fault::RouterStop(_) | Fault::RouterDescriptors(_) => 1_000,
        _ => 0,
    }
}

/// Whether a fault's victim lies on the way of this request.
pub fn is_on_its_way(fault: Fault, failed: &Failed) -> bool {
    match fault {
        Fault::Link(Place::Client(router), _)
        | Fault::RouterStop(router)
        | Fault::RouterKill(router)
        | Fault::RouterDrain(router)
        | Fault::RouterDescriptors(router) => failed.router == router,
        Fault::Link(Place::Backend(backend), _) => failed.mask & (1 << backend) != 0,
        _ => false,
    }
}

/// Whether a fault can cause this kind of failure. All that is not here explains nothing: slow,
/// stalled and trickling links, a full disk, the controller and its links, the API server, new
/// identities and certificates.
fn can_cause(fault: Fault, failed: &Failed) -> bool {
    use Class::{Closed, Connect, Cut, Ended, Reset, Send, Status};
    let class = &failed.class;
    let is_timed = failed.route == TIMED_ROUTE && *class == Status(504);
    match fault {
        Fault::Link(Place::Client(_), harm) => match harm {
            Harm::Reset | Harm::BlackHole => {
                matches!(class, Connect | Closed | Send | Ended | Cut | Reset)
            }
            // The router may see half a request, and say so.
            Harm::HalfClose => {
                matches!(class, Connect | Closed | Send | Ended | Cut | Reset | Status(400))
            }
            Harm::Refuse => matches!(class, Connect | Send | Ended | Reset),
            Harm::Delay | Harm::Stall | Harm::OneByte | Harm::Corrupt => false,
        },
        Fault::Link(Place::Backend(_), harm) => match harm {
            Harm::Reset | Harm::BlackHole | Harm::HalfClose => {
                is_timed || matches!(class, Status(502 | 503) | Cut | Reset | Send)
            }
            Harm::Refuse => matches!(class, Status(502 | 503) | Send),
            Harm::Stall => is_timed,
            Harm::Delay | Harm::OneByte | Harm::Corrupt => false,
        },
        Fault::RouterStop(_) => is_timed,
        Fault::RouterKill(_) => {
            matches!(class, Connect | Closed | Send | Ended | Cut | Reset)
        }
        // What was begun is finished: no answer is cut.
        Fault::RouterDrain(_) => matches!(class, Connect | Closed | Send | Ended | Reset),
        Fault::RouterDescriptors(_) => matches!(class, Status(503)),
        _ => false,
    }
}

/// Whether a fault overlaps with the time from `since` to `at`, in ms.
pub fn is_near(happened: &Happened, (since, at): (u64, u64), tolerance: u64) -> bool {
    happened.from <= at && since <= happened.to + tolerance
}

/// From when on something may have ended this connection, unnoticed: an answer that came last over
/// it may have left the router when its link began to be slow, and what ended the connection then
/// is as late.
fn held_since(all: &[Happened], failed: &Failed) -> u64 {
    use Harm::{Delay, OneByte, Stall};
    let is_slow = |h: &&Happened| match h.fault {
        Fault::Link(Place::Client(router), Delay | OneByte | Stall) => router == failed.router,
        _ => false,
    };
    let is_answer = matches!(failed.class, Class::Status(_) | Class::Timeout | Class::Wrong(_));
    let meets = |h: &&Happened| {
        !is_answer && h.from <= failed.since && failed.since <= h.to + tolerance(h.fault)
    };
    all.iter().filter(is_slow).filter(meets).map(|h| h.from).fold(failed.since, u64::min)
}

/// Whether it may have caused this failure, beside all others.
fn explains(all: &[Happened], happened: &Happened, failed: &Failed) -> bool {
    let time = (held_since(all, failed), failed.at);
    is_near(happened, time, tolerance(happened.fault))
        && is_on_its_way(happened.fault, failed)
        && can_cause(happened.fault, failed)
        && !(matches!(happened.fault, Fault::RouterDrain(_)) && is_owed(all, happened, failed))
}

/// A router that drains owes an answer to what it had before, and to what comes soon over a
/// connection that it has: unless the link held it back.
fn is_owed(all: &[Happened], drain: &Happened, failed: &Failed) -> bool {
    let is_link = |h: &&Happened| matches!(h.fault, Fault::Link(Place::Client(_), _));
    let mut links = all.iter().filter(is_link).filter(|h| is_on_its_way(h.fault, failed));
    let until = match failed.is_used {
        true => drain.from + DRAIN_IDLE_MS - DRAIN_MARGIN_MS,
        false => drain.from.saturating_sub(DRAIN_MARGIN_MS),
    };
    let time = (failed.since, failed.at);
    failed.sent < until && failed.class != Class::Closed && !links.any(|h| is_near(h, time, 0))
}

/// The fault that explains it.
pub fn explain<'h>(happened: &'h [Happened], failed: &Failed) -> Option<&'h Happened> {
    happened.iter().rev().find(|cause| explains(happened, cause, failed))
}

/// Whether another fault than this one explains it.
fn is_of_others(all: &[Happened], this: &Happened, failed: &Failed) -> bool {
    let is_other = |other: &&Happened| (other.fault, other.from) != (this.fault, this.from);
    all.iter().filter(is_other).any(|other| explains(all, other, failed))
}

/// From the end of a fault to the first second with good answers and without a failure, in ms; of
/// the requests that met its victim, without failures that other faults explain.
pub fn recovery(
    all: &[Happened],
    happened: &Happened,
    failed: &[Failed],
    is_good: impl Fn(u64, u64) -> bool,
    until: u64,
) -> Option<u64> {
    let mut from = happened.to;
    while from + 1_000 <= until {
        let second = from..from + 1_000;
        let bad = failed
            .iter()
            .filter(|f| second.contains(&f.at) && is_on_its_way(happened.fault, f))
            .filter(|f| !is_of_others(all, happened, f))
            .map(|f| f.at)
            .max();
        match bad {
            Some(at) => from = at + 1,
            None if is_good(second.start, second.end) => return Some(from - happened.to),
            None => from += 100,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(class: Class) -> Failed {
        let (since, at, mask) = (1_000, 1_500, 0b10);
        Failed { since, sent: since, at, mask, class, ..Failed::unknown() }
    }

    fn happened(fault: Fault, from: u64, to: u64) -> Vec<Happened> {
        vec![Happened { fault, from, to }]
    }

    #[test]
    fn a_fault_explains_only_what_it_can_cause_there_and_then() {
        let explains =
            |fault, from, to, class| explain(&happened(fault, from, to), &failed(class)).is_some();
        let reset = Fault::Link(Place::Client(0), Harm::Reset);
        assert!(explains(reset, 1_400, 2_000, Class::Reset), "within");
        assert!(explains(reset, 100, 600, Class::Reset), "within its tolerance");
        assert!(!explains(reset, 100, 499, Class::Reset), "long over");
        assert!(!explains(reset, 1_501, 2_000, Class::Reset), "later");
        assert!(!explains(reset, 1_000, 2_000, Class::Status(502)), "not by this link");
        let other = Fault::Link(Place::Client(1), Harm::Reset);
        assert!(!explains(other, 1_000, 2_000, Class::Reset), "the other router");
        let backend = |n| Fault::Link(Place::Backend(n), Harm::Reset);
        assert!(explains(backend(1), 1_000, 2_000, Class::Status(502)));
        assert!(!explains(backend(0), 1_000, 2_000, Class::Status(502)), "not its backend");
        assert!(!explains(backend(1), 1_000, 2_000, Class::Ended), "the router has to answer");
    }

    #[test]
    fn some_faults_explain_nothing_and_some_failures_have_no_excuse() {
        let quiet = [
            Fault::ControllerStop,
            Fault::ApiPause,
            Fault::DiskFull(0),
            Fault::RouterIdentity,
            Fault::Link(Place::Api, Harm::Reset),
            Fault::Link(Place::Client(0), Harm::Stall),
        ];
        let never = [Class::Timeout, Class::Wrong(String::new()), Class::Status(404)];
        for class in [Class::Reset, Class::Ended, Class::Status(503)].iter().chain(&never) {
            for fault in quiet {
                assert!(explain(&happened(fault, 0, 9_000), &failed(class.clone())).is_none());
            }
        }
        for class in never {
            let kill = happened(Fault::RouterKill(0), 0, 9_000);
            assert!(explain(&kill, &failed(class)).is_none());
        }
    }

    #[test]
    fn a_drain_owes_answers_to_what_it_has() {
        let explains = |from, is_used| {
            let failed = Failed { is_used, ..failed(Class::Reset) };
            explain(&happened(Fault::RouterDrain(0), from, 2_000), &failed).is_some()
        };
        assert!(explains(1_200, false), "perhaps never accepted");
        assert!(!explains(1_260, false), "sent long before");
        assert!(!explains(1_200, true) && !explains(300, true), "it had the connection");
        assert!(explains(200, true), "idle for too long");
    }

    #[test]
    fn an_end_that_a_slow_link_held_back_is_explained_by_what_happened_meanwhile() {
        let kill = Happened { fault: Fault::RouterKill(0), from: 2_200, to: 2_300 };
        let stall = |router| {
            let fault = Fault::Link(Place::Client(router), Harm::Stall);
            Happened { fault, from: 2_000, to: 4_000 }
        };
        // The answer came when the stall ended; the end of its connection right behind it.
        let failed = |class| Failed { since: 4_001, sent: 4_010, at: 4_011, ..failed(class) };
        let closed = failed(Class::Closed);
        assert!(explain(&[kill, stall(0)], &closed).is_some());
        assert!(explain(&[kill], &closed).is_none(), "over before the answer came");
        assert!(explain(&[kill, stall(1)], &closed).is_none(), "another link");
        assert!(explain(&[stall(0)], &closed).is_none(), "a stall alone closes nothing");
        assert!(explain(&[kill, stall(0)], &failed(Class::Status(502))).is_none());
        let early = Happened { from: 100, to: 200, ..kill };
        assert!(explain(&[early, stall(0)], &closed).is_none(), "over before the stall");
        // A drain may have let it rest for long enough, before the link let anybody know.
        let drain = Happened { fault: Fault::RouterDrain(0), ..kill };
        assert!(explain(&[drain, stall(0)], &closed).is_some());
    }

    #[test]
    fn recovery_is_the_first_second_without_failures() {
        let mut all = happened(Fault::RouterKill(0), 0, 1_000);
        let (over, bad) = (all[0], [failed(Class::Connect)]);
        assert_eq!(recovery(&all, &over, &bad, |_, _| true, 9_000), Some(501));
        assert_eq!(recovery(&all, &over, &[], |_, _| true, 9_000), Some(0));
        assert_eq!(recovery(&all, &over, &[], |_, _| false, 9_000), None);
        all.extend(happened(Fault::Link(Place::Client(0), Harm::Reset), 1_200, 2_000));
        assert_eq!(recovery(&all, &over, &bad, |_, _| true, 9_000), Some(0), "the other's");
    }
}
