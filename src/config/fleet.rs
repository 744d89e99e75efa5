//! Which router is talked to now: `SLOTS` at once, each in its turn, those that failed after a
//! pause.
//!
//! In: the routers there are, who is wanted, how a talk ended. Out: a slot (a connection with its
//! buffers, of which there are few) and the router to use it for.

use crate::limits::{BACKOFF_SILENT_MAX_MS, MAX_ROUTERS, PUSH_RETRY_MIN_MS};
use crate::stdx::{Duration, Full, Instant, Now, Prng, Table};
use core::net::SocketAddr;

#[derive(Clone, Copy, Debug)]
struct Member {
    address: SocketAddr,
    /// Not talked to before then.
    next: Instant,
    failures: u32,
}

/// The routers of one thread, and who is in which slot.
#[derive(Debug)]
pub struct Fleet<const SLOTS: usize> {
    members: Table<Member, { MAX_ROUTERS as usize }>,
    slots: [Option<SocketAddr>; SLOTS],
}

impl<const SLOTS: usize> Fleet<SLOTS> {
    /// Nobody yet. Kilobytes: built once.
    pub fn new() -> Self {
        Fleet { members: Table::new(), slots: [None; SLOTS] }
    }

    /// These are the routers now. A talk with one that is gone goes on to its end.
    pub fn set(
        &mut self,
        routers: impl Iterator<Item = SocketAddr> + Clone,
        now: Now,
    ) -> Result<(), Full> {
        self.members.retain(|m| routers.clone().any(|r| r == m.address));
        for address in routers {
            if self.members.as_slice().iter().all(|m| m.address != address) {
                self.members.push(Member { address, next: now.mono, failures: 0 })?;
            }
        }
        Ok(())
    }

    /// Takes a free slot for the router that is wanted and due for longest.
    pub fn begin(
        &mut self,
        now: Now,
        wanted: impl Fn(SocketAddr) -> bool,
    ) -> Option<(usize, SocketAddr)> {
        let slot = self.slots.iter().position(Option::is_none)?;
        let due = |m: &&Member| m.next <= now.mono && !self.talks(m.address) && wanted(m.address);
        let member = self.members.as_slice().iter().filter(due).min_by_key(|m| m.next)?;
        let address = member.address;
        self.slots[slot] = Some(address);
        Some((slot, address))
    }

    fn talks(&self, address: SocketAddr) -> bool {
        self.slots.contains(&Some(address))
    }

    /// Whom a slot is used for; None when it is free.
    pub fn address(&self, slot: usize) -> Option<SocketAddr> {
        self.slots[slot]
    }

    /// A talk ended with an answer; the router is not talked to again before `until`.
    pub fn answered(&mut self, slot: usize, until: Instant) {
        if let Some(member) = self.end(slot) {
            (member.next, member.failures) = (until, 0);
        }
    }

    /// A talk failed: again after a pause that grows, up to BACKOFF_SILENT_MAX_MS.
    pub fn failed(&mut self, slot: usize, now: Now, prng: &mut Prng) {
        let Some(member) = self.end(slot) else { return };
        member.failures = member.failures.saturating_add(1);
        let longest = u64::from(BACKOFF_SILENT_MAX_MS);
        let wait = (u64::from(PUSH_RETRY_MIN_MS) << member.failures.min(10)).min(longest);
        member.next = now.mono + Duration::from_millis(wait / 2 + prng.below(wait / 2 + 1));
    }

    fn end(&mut self, slot: usize) -> Option<&mut Member> {
        let address = self.slots[slot].take().expect("a talk ends once");
        self.members.as_mut_slice().iter_mut().find(|m| m.address == address)
    }

    /// When [`Self::begin`] has something, if the same are wanted then; NEVER when all slots are
    /// in use (the end of a talk is an event).
    pub fn timeout(&self, wanted: impl Fn(SocketAddr) -> bool) -> Instant {
        if self.slots.iter().all(Option::is_some) {
            return Instant::NEVER;
        }
        let waiting = |m: &&Member| !self.talks(m.address) && wanted(m.address);
        let waiting = self.members.as_slice().iter().filter(waiting);
        waiting.map(|m| m.next).min().unwrap_or(Instant::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::Wall;
    use std::vec::Vec;

    fn router(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 9901))
    }

    fn at(ms: u64) -> Now {
        Now { mono: Instant::default() + Duration::from_millis(ms), wall: Wall(0) }
    }

    fn fleet(routers: core::ops::Range<u8>) -> Fleet<2> {
        let mut fleet = Fleet::new();
        fleet.set(routers.map(router), at(0)).unwrap();
        fleet
    }

    /// One that never answers takes one slot, and its turns, never the others'.
    #[test]
    fn everyone_gets_a_turn_beside_a_silent_one() {
        let mut fleet = fleet(0..5);
        let (silent, _) = fleet.begin(at(0), |r| r == router(0)).unwrap();
        let mut order = Vec::new();
        for ms in 1..9 {
            let (slot, address) = fleet.begin(at(ms), |_| true).unwrap();
            assert!(slot != silent && fleet.begin(at(ms), |_| true).is_none());
            order.push(address);
            fleet.answered(slot, at(ms).mono);
        }
        let expected: Vec<_> = [1, 2, 3, 4, 1, 2, 3, 4].into_iter().map(router).collect();
        assert_eq!(order, expected);
    }

    #[test]
    fn pauses_grow_and_end_with_an_answer() {
        let (mut fleet, mut prng) = (fleet(0..1), Prng::new(1));
        let mut pauses = Vec::new();
        let mut now = at(0);
        for _ in 0..12 {
            let (slot, _) = fleet.begin(now, |_| true).unwrap();
            fleet.failed(slot, now, &mut prng);
            assert!(fleet.begin(now, |_| true).is_none(), "not at once");
            let next = fleet.timeout(|_| true);
            pauses.push(next.since(now.mono).0 / 1_000_000);
            now.mono = next;
        }
        let longest = u64::from(BACKOFF_SILENT_MAX_MS);
        assert!(pauses[0] < longest / 2 && pauses[11] >= longest / 2, "{pauses:?}");
        assert!(pauses.iter().all(|&p| p <= longest), "{pauses:?}");
        let (slot, _) = fleet.begin(now, |_| true).unwrap();
        fleet.answered(slot, now.mono);
        assert_eq!(fleet.timeout(|_| true), now.mono);
    }

    #[test]
    fn one_that_is_gone_ends_its_talk_and_is_not_talked_to_again() {
        let (mut fleet, mut prng) = (fleet(0..2), Prng::new(1));
        let (slot, address) = fleet.begin(at(0), |_| true).unwrap();
        fleet.set([router(1), router(2)].into_iter(), at(0)).unwrap();
        assert_eq!((fleet.address(slot), address), (Some(router(0)), router(0)));
        fleet.failed(slot, at(0), &mut prng);
        let mut talked = Vec::new();
        while let Some((_, address)) = fleet.begin(at(9), |_| true) {
            talked.push(address);
        }
        assert_eq!(talked, [router(1), router(2)]);
        assert_eq!(fleet.timeout(|_| true), Instant::NEVER, "no slot is free");
    }
}
