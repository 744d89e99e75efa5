//! The other end of a run: the control plane is gone for good, and routers go on alone, through a
//! restart of their own.
//!
//! In: a simulation whose other faults are healed. Out: violations of SS and D11; that it is over.

use super::*;
use crate::checkers::ss;
use crate::workload::PORTS;

/// Pushes on their way arrive, and files are saved, within so long.
const SETTLES: Time = 3 * SECOND;
/// A drain ends, and its router is back, within so long.
const SETTLES_AT_LAST: Time = 25 * SECOND;
/// Routers serve so long before they go down, and afterwards.
const SERVES: Time = 10 * SECOND;
/// They go down for so long at most; then binds still fail for so long.
const DOWN: Time = 2 * SECOND;
const BINDS_FAIL: Time = 2 * SECOND;
/// A bind is tried again within so long (BIND_RETRY_MAX_MS).
const LISTENS: Time = 6 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Settling,
    Serving,
    Down,
    Again,
    /// Clients ask no more, then all are gone.
    Leaving,
    Resting,
}

/// How far it is.
#[derive(Debug)]
pub(super) struct Alone {
    phase: Phase,
    /// Of the phase.
    since: Time,
    /// What each router served when all had settled.
    last: Vec<ss::Last>,
}

impl Sim {
    /// Controllers and API server end, where all else is healed.
    pub(super) fn abandon(&mut self) {
        let now = self.net.now;
        self.net.trace.say(now, "the control plane is gone for good");
        self.net.injected.add(Fault::Abandoned);
        self.heal_binds();
        self.controllers.running().into_iter().for_each(|i| self.crash_controller(i));
        if self.api.running {
            self.api.stop(&mut self.net);
        }
        self.alone = Some(Alone { phase: Phase::Settling, since: now, last: Vec::new() });
        self.net.schedule(now + SECOND, Event::Step(Step::Check));
    }

    /// No bind fails any more.
    fn heal_binds(&mut self) {
        for router in &mut self.routers {
            router.fails_at.clear();
        }
        (0..ROUTERS).for_each(|i| self.fail_binds(i, &[]));
    }

    /// Looks whether routers go on as they must, and what comes next.
    pub(super) fn look_after(&mut self) {
        let now = self.net.now;
        let Some(mut alone) = self.alone.take() else { return };
        let spent = now - alone.since;
        let before = alone.phase;
        match alone.phase {
            Phase::Settling if spent >= SETTLES => {
                let last = self.routers.iter().filter_map(|r| ss::last(r, &self.tables));
                alone.last = last.collect();
                if alone.last.len() == ROUTERS {
                    alone.phase = Phase::Serving;
                } else if spent >= SETTLES_AT_LAST {
                    let text = "some router does not settle".to_string();
                    self.net.trace.violated(now, "SS", text);
                }
            }
            Phase::Serving | Phase::Again => {
                let is_listening = spent >= LISTENS;
                for (router, last) in self.routers.iter().zip(&alone.last) {
                    ss::serves(router, last, is_listening, &mut self.net);
                }
                if spent >= BINDS_FAIL {
                    self.heal_binds();
                }
                if spent >= SERVES && alone.phase == Phase::Serving {
                    alone.phase = Phase::Down;
                    self.go_down();
                } else if spent >= SERVES + LISTENS {
                    alone.phase = Phase::Leaving;
                    self.clients.stopped = true;
                }
            }
            Phase::Down if self.routers.iter().all(|r| r.process.is_some()) => {
                alone.phase = Phase::Again;
            }
            Phase::Leaving if self.clients.open() == 0 => alone.phase = Phase::Resting,
            // A tunnel that its client has left ends at its backend's pace.
            Phase::Resting if spent >= STAY - CLIENTS_STAY => {
                self.routers.iter().for_each(|router| d11::at_rest(router, &mut self.net));
                self.is_over = true;
            }
            _ => {}
        }
        if spent > 3 * STAY && !self.is_over {
            let text = format!("{before:?} goes on: {} clients", self.clients.open());
            self.net.trace.violated(now, "SS", text);
        }
        alone.since = if alone.phase == before { alone.since } else { now };
        self.alone = Some(alone);
        self.net.schedule(now + 500 * MS, Event::Step(Step::Check));
    }

    /// All routers lose their power. At first one of their ports is not to be had again.
    fn go_down(&mut self) {
        for i in 0..ROUTERS {
            self.net.trace.say(self.net.now, &format!("router {i} crashes"));
            self.routers[i].crash(&mut self.net);
            let port = PORTS[self.prng.below(PORTS.len() as u64) as usize];
            self.routers[i].fails_at = vec![port];
            let at = self.net.now + self.prng.range(50 * MS, DOWN);
            self.net.schedule(at, Event::Step(Step::Restart(Node::Router(i))));
        }
    }

    /// A client's request came to its end while routers are alone.
    pub(super) fn check_alone(&mut self, outcome: &Outcome) {
        let Some(alone) = &self.alone else { return };
        if matches!(alone.phase, Phase::Serving | Phase::Again) {
            let last = &alone.last[outcome.request.router];
            let owed = ss::answered(outcome, last, alone.since, &mut self.net);
            self.sums.owed_alone += u64::from(owed);
        }
    }
}
