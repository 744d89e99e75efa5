//! Which of several controllers reigns: pushes and writes statuses.
//!
//! In: the routers' highest epoch, whose the Lease was at each look ([`crate::kube::lease`]), the
//! time. Out: when to look and what for, and what changed. The newest to start takes the Lease at
//! once, since what it replaces has mostly ended, and renews it; one that finds it taken stands by,
//! and takes it when it was not renewed for [`LEASE_STALE_LOOKS`] looks, if it is still as they saw
//! it. Routers are not in danger meanwhile: the epoch fences.

use crate::kube::lease::{Held, Look};
use crate::limits::{BACKOFF_SILENT_MAX_MS, LEASE_RENEW_PERIOD_MS, LEASE_STALE_LOOKS};
use crate::stdx::marks::{Mark, sometimes};
use crate::stdx::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Routers are asked for their epochs first.
    Starting,
    Reigning,
    StandingBy,
}

/// What a look changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// A new epoch is ours.
    Taken(u64),
    /// Somebody else reigns now.
    Overtaken,
}

/// One controller's part in it.
#[derive(Clone, Copy, Debug)]
pub struct Reign {
    state: State,
    /// The epoch that was taken last; 0 before.
    epoch: u64,
    is_asked: bool,
    /// The next look, at the latest.
    due: Instant,
    /// No look before, since the last one failed.
    rests_until: Instant,
    /// The Lease of somebody else as it was seen last, and in how many looks since.
    seen: u64,
    same: u32,
}

impl Reign {
    /// The Lease is taken when all routers have reported, or at `due` at the latest.
    pub fn new(due: Instant) -> Reign {
        let (epoch, rests_until) = (0, Instant::default());
        let state = State::Starting;
        Reign { state, epoch, is_asked: false, due, rests_until, seen: 0, same: 0 }
    }

    /// What to look for now, if anything; [`Reign::asked`] when that was ordered.
    pub fn look(&self, highest: u64, all_reported: bool, now: Instant) -> Option<Look> {
        let (is_urgent, take) = match self.state {
            State::Starting => (all_reported, true),
            // The Lease tells whether somebody took it, or is older than the routers.
            State::Reigning => (highest > self.epoch, false),
            State::StandingBy => (false, self.same >= LEASE_STALE_LOOKS),
        };
        if self.is_asked || now < self.rests_until || !(is_urgent || now >= self.due) {
            return None;
        }
        // Who has overtaken us has a higher epoch, even if no router and no Lease still knows it.
        let overtaken = if self.state == State::StandingBy { self.epoch + 1 } else { 0 };
        // Who starts takes it as it is; who stands by only as it grew stale.
        let stale = if take && self.state == State::StandingBy { self.seen } else { 0 };
        Some(Look { held: self.epoch, given: highest.max(overtaken), take, stale })
    }

    /// The look was ordered; [`Reign::found`] or [`Reign::failed`] follows.
    pub fn asked(&mut self) {
        assert!(!self.is_asked, "one look at a time");
        self.is_asked = true;
    }

    /// Whose the Lease is.
    pub fn found(&mut self, held: Held, now: Instant) -> Change {
        assert!(core::mem::take(&mut self.is_asked), "it was asked for");
        self.due = now + Duration::from_millis(u64::from(LEASE_RENEW_PERIOD_MS));
        let before = core::mem::replace(&mut self.state, State::Reigning);
        match held {
            Held::Own(epoch) if epoch == self.epoch => Change::None,
            Held::Own(epoch) => {
                assert!(epoch > self.epoch, "an epoch only rises");
                if before == State::StandingBy {
                    sometimes(Mark::TakesOver);
                }
                self.epoch = epoch;
                Change::Taken(epoch)
            }
            Held::Others(seen) => {
                self.state = State::StandingBy;
                let is_same = before == State::StandingBy && seen == self.seen;
                self.same = if is_same { self.same + 1 } else { 0 };
                self.seen = seen;
                if self.same >= LEASE_STALE_LOOKS {
                    self.due = now;
                }
                if before == State::StandingBy {
                    return Change::None;
                }
                sometimes(Mark::Overtaken);
                Change::Overtaken
            }
        }
    }

    /// The API server did not say. Who reigns could not renew meanwhile either.
    pub fn failed(&mut self, now: Instant) {
        assert!(core::mem::take(&mut self.is_asked), "it was asked for");
        self.same = 0;
        self.rests_until = now + Duration::from_millis(u64::from(BACKOFF_SILENT_MAX_MS) / 2);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    const PERIOD: Duration = Duration::from_millis(LEASE_RENEW_PERIOD_MS as u64);

    struct Clocked(Reign, Instant);

    impl Clocked {
        /// One that has taken epoch 1.
        fn reigning() -> Clocked {
            let mut clocked = Clocked(Reign::new(Instant::default() + PERIOD), Instant::default());
            assert_eq!(clocked.0.look(0, false, clocked.1), None, "routers first");
            assert_eq!(clocked.look(0), Some(Look { take: true, ..Look::default() }));
            assert_eq!(clocked.found(Held::Own(1)), Change::Taken(1));
            clocked
        }

        /// A look of who has taken epoch 1, and takes nothing.
        fn plain(given: u64) -> Option<Look> {
            Some(Look { held: 1, given, ..Look::default() })
        }

        fn look(&self, highest: u64) -> Option<Look> {
            self.0.look(highest, true, self.1)
        }

        fn found(&mut self, held: Held) -> Change {
            self.0.asked();
            assert_eq!(self.look(9), None, "one at a time");
            self.0.found(held, self.1)
        }

        /// The look that is due a period later finds the Lease somebody's.
        fn later(&mut self, seen: u64) -> Change {
            assert_eq!(self.look(2), None);
            self.1 = self.1 + PERIOD;
            assert_eq!(self.look(2), Clocked::plain(2));
            self.found(Held::Others(seen))
        }

        /// Nobody renews it until it may be taken.
        fn grows_stale(&mut self, seen: u64) {
            for _ in 0..LEASE_STALE_LOOKS {
                assert_eq!(self.later(seen), Change::None);
            }
        }
    }

    #[test]
    fn who_reigns_renews() {
        let mut c = Clocked::reigning();
        assert_eq!(c.look(1), None);
        c.1 = c.1 + PERIOD;
        assert_eq!(c.look(1), Clocked::plain(1));
        assert_eq!(c.found(Held::Own(1)), Change::None);
        // A router of a higher epoch: at once; the Lease was older than it.
        assert_eq!(c.look(7), Clocked::plain(7));
        assert_eq!(c.found(Held::Own(8)), Change::Taken(8));
        assert_eq!(c.look(8), None);
    }

    #[test]
    fn who_is_overtaken_stands_by_while_the_other_renews() {
        let mut c = Clocked::reigning();
        assert!(c.look(2).is_some_and(|look| !look.take));
        assert_eq!(c.found(Held::Others(1)), Change::Overtaken);
        for seen in 2..100 {
            assert_eq!(c.later(seen), Change::None);
        }
    }

    #[test]
    fn who_stands_by_takes_over_when_nobody_renews() {
        let mut c = Clocked::reigning();
        assert_eq!(c.found(Held::Others(5)), Change::Overtaken);
        c.grows_stale(5);
        assert_eq!(c.look(2), Some(Look { held: 1, given: 2, take: true, stale: 5 }));
        assert_eq!(c.found(Held::Own(3)), Change::Taken(3));
        assert_eq!(c.look(3), None);
    }

    #[test]
    fn a_lease_that_was_renewed_before_it_was_taken_is_watched_anew() {
        let mut c = Clocked::reigning();
        assert_eq!(c.found(Held::Others(5)), Change::Overtaken);
        c.grows_stale(5);
        assert_eq!(c.look(2).map(|look| look.stale), Some(5));
        assert_eq!(c.found(Held::Others(6)), Change::None, "it is another one now");
        c.grows_stale(6);
        assert_eq!(c.look(2).map(|look| (look.take, look.stale)), Some((true, 6)));
    }

    #[test]
    fn a_restored_lease_of_who_stands_by_is_taken_anew() {
        let mut c = Clocked::reigning();
        assert_eq!(c.found(Held::Others(5)), Change::Overtaken);
        c.1 = c.1 + PERIOD;
        // No router has the epoch of the other one, which is gone.
        assert_eq!(c.look(1), Clocked::plain(2));
        assert_eq!(c.found(Held::Own(3)), Change::Taken(3), "not ours as it was");
    }

    #[test]
    fn an_outage_is_nobodys_death() {
        let mut c = Clocked::reigning();
        assert_eq!(c.found(Held::Others(5)), Change::Overtaken);
        for _ in 1..LEASE_STALE_LOOKS {
            assert_eq!(c.later(5), Change::None);
        }
        c.1 = c.1 + PERIOD;
        c.0.asked();
        c.0.failed(c.1);
        assert_eq!(c.look(2), None, "it rests");
        c.1 = c.1 + PERIOD + PERIOD;
        assert!(c.look(2).is_some_and(|look| !look.take));
        assert_eq!(c.found(Held::Others(5)), Change::None);
        assert_eq!(c.later(5), Change::None, "counted from the beginning");
    }
}
