//! What takes its time: who judges it, and whom it keeps busy.
//!
//! In: outcomes, clients that ended their direction. Out: violations of D15 and D16, sums.

use super::Sim;
use crate::checkers::{d15, d16, l3};
use crate::client::Outcome;
use crate::network::MS;
use crate::seed::Rate;
use crate::tunnel;

impl Sim {
    /// Judges how long a request took, and keeps whom it was with apart from L6.
    pub(super) fn check_times(&mut self, outcome: &Outcome) {
        let request = &outcome.request;
        let network = self.options.network;
        let healed = self.options.until_ms * MS + l3::SETTLED;
        // A router that was paused may find the time of a connect over before it looks at it.
        let is_cut =
            [self.options.partitions, self.options.router_pauses].iter().any(|r| *r != Rate::Off);
        let weather = d15::Weather {
            calm: self.converged,
            may_hang: (is_cut || network.refusals != Rate::Off) && request.sent_at < healed
                || self.outages.were_in(request.sent_at..self.net.now),
            may_stall: is_cut || network.stalls != Rate::Off,
        };
        let router = &self.routers[request.router];
        let is_timed = d15::answered(outcome, router, &self.tables, weather, &mut self.net);
        self.sums.timed += u64::from(is_timed);
        let Some(pace) = request.pace else { return };
        let attempts = self.ledger.attempts.get(&request.stamp).map_or(&[][..], Vec::as_slice);
        // A tunnel begins now.
        let until = self.net.now + pace.talker().map_or(0, |_| tunnel::LONGEST);
        self.tally.took_long((request.router, until), attempts);
    }

    /// Judges the clients that ended their direction.
    pub(super) fn check_halves(&mut self) {
        for half in core::mem::take(&mut self.ledger.halves) {
            let is_calm = d16::ended(&half, self.converged, &mut self.net);
            self.sums.halves += u64::from(is_calm);
        }
    }
}
