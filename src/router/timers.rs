//! Timers of a worker: one per connection, in a wheel of fixed size.
//!
//! In: the tick by which a connection wants to be looked at. Out: the connections whose tick has
//! come. The wheel is lazy: a deadline that moves away (the common case: a request came, a byte
//! moved) leaves the connection where it is; when its old tick comes, the worker finds the deadline
//! ahead and puts it back. So a request touches the wheel almost never.
//!
//! Ticks are compared by their distance, so they may wrap: all that is alive lies within 2^31.

use super::connection::{Connections, NONE};
use crate::limits::{TIMER_TICK_MS, TIMER_WHEEL_SLOTS};
use crate::stdx::Instant;

/// A moment in units of TIMER_TICK_MS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick(pub u32);

crate::zeroed_struct!(Tick { 0: u32 });

const TICK_NS: u64 = TIMER_TICK_MS as u64 * 1_000_000;

impl Tick {
    /// The tick that this moment lies in.
    pub fn of(now: Instant) -> Tick {
        Tick((now.0 / TICK_NS) as u32)
    }

    /// The first tick that lies at least `ms` after any moment of this one.
    pub fn plus_ms(self, ms: u32) -> Tick {
        Tick(self.0.wrapping_add(ms.div_ceil(TIMER_TICK_MS)).wrapping_add(1))
    }

    /// Ticks from `earlier` to this one; negative when it lies before.
    pub fn since(self, earlier: Tick) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }

    /// Whether this one has come.
    pub fn is_due(self, now: Tick) -> bool {
        now.since(self) >= 0
    }

    /// The earlier of two.
    pub fn min(self, other: Tick) -> Tick {
        if self.since(other) <= 0 { self } else { other }
    }
}

const SLOTS: usize = TIMER_WHEEL_SLOTS as usize;
const MASK: u32 = TIMER_WHEEL_SLOTS - 1;

/// Lists of connections by tick; the links are in the connections.
#[derive(Debug)]
pub struct Wheel {
    /// The last tick whose connections were taken out.
    now: Tick,
    /// First connection of each list, plus one; 0: empty.
    heads: [u32; SLOTS],
    /// Bit per list that is not empty.
    occupied: [u64; SLOTS.div_ceil(64)],
}

crate::zeroed_struct!(Wheel {
    now: Tick,
    heads: [u32; SLOTS],
    occupied: [u64; SLOTS.div_ceil(64)],
});

impl Wheel {
    /// Starts the clock of an empty wheel.
    pub fn start(&mut self, now: Tick) {
        assert!(self.occupied.iter().all(|&w| w == 0));
        self.now = now;
    }

    /// Makes sure that the connection comes up no later than `deadline`, but after `now`: what is
    /// armed while `pop` runs through the ticks must not come up in the same run for ever.
    pub fn arm(&mut self, conns: &mut Connections, index: u32, deadline: Tick, now: Tick) {
        let soonest = Tick(now.0.wrapping_add(1));
        let deadline = if deadline.since(soonest) < 0 { soonest } else { deadline };
        let timer = &conns[index].timer;
        if timer.is_armed && timer.at.since(deadline) <= 0 {
            return;
        }
        self.disarm(conns, index);
        let ahead = deadline.since(self.now).clamp(1, MASK as i32) as u32;
        let at = Tick(self.now.0.wrapping_add(ahead));
        let slot = (at.0 & MASK) as usize;
        let next = self.heads[slot].wrapping_sub(1);
        let timer = &mut conns[index].timer;
        (timer.at, timer.is_armed, timer.prev, timer.next) = (at, true, NONE, next);
        if next != NONE {
            conns[next].timer.prev = index;
        }
        self.heads[slot] = index + 1;
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// Takes the connection out.
    pub fn disarm(&mut self, conns: &mut Connections, index: u32) {
        let timer = conns[index].timer;
        if !timer.is_armed {
            return;
        }
        conns[index].timer.is_armed = false;
        if timer.next != NONE {
            conns[timer.next].timer.prev = timer.prev;
        }
        if timer.prev != NONE {
            conns[timer.prev].timer.next = timer.next;
            return;
        }
        let slot = (timer.at.0 & MASK) as usize;
        assert!(self.heads[slot] == index + 1, "the first of its list");
        self.heads[slot] = timer.next.wrapping_add(1);
        if timer.next == NONE {
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
    }

    /// The next connection whose tick has come, taken out; None when all have been.
    pub fn pop(&mut self, conns: &mut Connections, now: Tick) -> Option<u32> {
        // After a long sleep every list is due once; no need to count each tick.
        if now.since(self.now) > TIMER_WHEEL_SLOTS as i32 {
            self.now = Tick(now.0.wrapping_sub(TIMER_WHEEL_SLOTS));
        }
        while now.since(self.now) > 0 {
            let tick = Tick(self.now.0.wrapping_add(1));
            let first = self.heads[(tick.0 & MASK) as usize];
            if first != 0 {
                self.disarm(conns, first - 1);
                return Some(first - 1);
            }
            self.now = tick;
        }
        None
    }

    /// When the next list comes up; [`Instant::NEVER`] when there is none. `now` gives the ticks
    /// their place in time.
    pub fn next(&self, now: Instant) -> Instant {
        let slot = ((self.now.0 + 1) & MASK) as usize;
        // Bounded by the number of words, plus one for the part of the first before `slot`.
        for step in 0..=self.occupied.len() {
            let word = (slot / 64 + step) % self.occupied.len();
            let bits = match step {
                0 => self.occupied[word] & (u64::MAX << (slot % 64)),
                _ => self.occupied[word],
            };
            if bits != 0 {
                let found = (word * 64) as u32 + bits.trailing_zeros();
                let ahead = found.wrapping_sub(slot as u32) & MASK;
                let ticks = i64::from(self.now.since(Tick::of(now))) + 1 + i64::from(ahead);
                let base = now.0 / TICK_NS;
                return Instant((base as i64 + ticks).max(0) as u64 * TICK_NS);
            }
        }
        Instant::NEVER
    }
}
