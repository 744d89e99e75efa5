//! D15: a router gives up neither before the timeouts of the rule that serves a request, and its
//! own where those say nothing, nor long after them (GEP-1742). Who has time gets the answer, who
//! has none does not.
//!
//! In: outcomes, the configurations of that time. The first half is held to always, the second in
//! the calm, to requests that take their time.

use super::l3::SETTLED;
use crate::client::Outcome;
use crate::ledger::Request;
use crate::model::table::Table;
use crate::model::timeouts::{NEVER_MS, Timeouts};
use crate::network::{MS, Network, SECOND, Time};
use crate::pace::Rests;
use crate::router::Router;
use crate::tables::Tables;
use serval::limits::{CONNECT_TIMEOUT_MS, HEADER_TIMEOUT_MS};

/// Timers of routers go by steps of that length.
const EARLY: Time = 40 * MS;
/// So long after the time, at most: the rest of a request, which does not take its time.
const LATE: Time = 900 * MS;

/// A router that is paused reads within so long, where nothing stalls.
const PAUSE: Time = 6 * SECOND;

/// What may make a router give up early.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Since when all is calm, if it is.
    pub calm: Option<Time>,
    /// Connects may find nobody.
    pub may_hang: bool,
    /// Bytes may be late.
    pub may_stall: bool,
}

/// By when a router gives up a request that rests where it does; the longest, if it does not rest.
fn limit_ms(request: &Request, timeouts: &Timeouts) -> u32 {
    match request.pace.map(|pace| pace.rests) {
        Some(Rests::InTheRequest | Rests::InTheAnswer) => timeouts.rest_ms(),
        _ => timeouts.think_ms(),
    }
}

fn time(ms: u32) -> Time {
    if ms == NEVER_MS { Time::MAX / 2 } else { Time::from(ms) * MS }
}

/// Whether a request that takes its time has more than it takes; None: that is too close to say.
pub fn has_time(request: &Request, table: &Table) -> Option<bool> {
    let (Some(pace), Some(timeouts)) = (request.pace, table.timeouts(request)) else {
        return Some(true);
    };
    let (pause, limit) = (time(pace.ms), time(limit_ms(request, &timeouts)));
    if pause + LATE <= limit {
        Some(true)
    } else if limit + LATE <= pause {
        Some(false)
    } else {
        None
    }
}

/// A client's request came to its end; whether it took its time in the calm.
pub fn answered(
    outcome: &Outcome,
    router: &Router,
    tables: &Tables,
    weather: Weather,
    net: &mut Network,
) -> bool {
    let request = &outcome.request;
    let until = outcome.response.as_ref().map_or(net.now, |r| r.at);
    let served = router.served_between(request.sent_at, until);
    let all: Option<Vec<&Table>> =
        served.iter().map(|sum| tables.of(sum).map(|table| &**table)).collect();
    let Some(all) = all.filter(|all| !all.is_empty()) else { return false };
    let calm = weather.calm.is_some_and(|since| request.sent_at >= since + SETTLED);
    let wrong = blames_the_client(outcome, calm || !weather.may_stall);
    let wrong = wrong.or_else(|| too_early(outcome, &all, (calm, weather.may_hang)));
    let wrong = wrong.or_else(|| match &all[..] {
        [only] if calm && !outcome.was_told => too_late(outcome, only, net.now),
        _ => None,
    });
    if let Some(wrong) = wrong {
        let limits: Vec<_> = all.iter().map(|table| table.timeouts(request)).collect();
        let text = format!(
            "router {}: {} {} ({:?}) {wrong} of {limits:?}",
            router.index, request.method, request.stamp, request.pace,
        );
        net.trace.violated(net.now, "D15", text);
    }
    calm && request.pace.is_some()
}

/// 408 says that the client does not go on: not of one that had sent all long before.
fn blames_the_client(outcome: &Outcome, is_prompt: bool) -> Option<String> {
    let (request, response) = (&outcome.request, outcome.response.as_ref()?);
    let late = response.at.saturating_sub(request.whole_at);
    let is_lie = is_prompt && response.status == 408 && late > PAUSE;
    is_lie.then(|| format!("got 408 {} ms behind its last byte", late / MS))
}

/// A router gives up early.
fn too_early(
    outcome: &Outcome,
    tables: &[&Table],
    (calm, may_hang): (bool, bool),
) -> Option<String> {
    let (request, response) = (&outcome.request, outcome.response.as_ref()?);
    if response.backend.is_some() || !matches!(response.status, 408 | 504) {
        return None;
    }
    let mut limits = Vec::new();
    for table in tables {
        let timeouts = table.timeouts(request)?;
        let rests = if request.body.is_empty() { NEVER_MS } else { timeouts.rest_ms() };
        limits.push(rests.min(timeouts.think_ms()));
    }
    // A head that stalls, a connect that finds nobody.
    let other = match response.status {
        408 if !calm => HEADER_TIMEOUT_MS,
        504 if !calm && may_hang => CONNECT_TIMEOUT_MS,
        _ => NEVER_MS,
    };
    let limit = time(limits.into_iter().min()?.min(other));
    let took = response.at - request.sent_at;
    (took + EARLY < limit).then(|| format!("got {} after {} ms", response.status, took / MS))
}

/// In the calm a request that takes its time: who gives up, and when?
fn too_late(outcome: &Outcome, table: &Table, now: Time) -> Option<String> {
    let (request, response) = (&outcome.request, &outcome.response);
    let (pace, timeouts) = (request.pace?, table.timeouts(request)?);
    let (pause, limit) = (time(pace.ms), time(limit_ms(request, &timeouts)));
    let took = now - request.sent_at;
    if took > limit.min(pause) + LATE {
        return Some(format!("came to its end after {} ms", took / MS));
    }
    let by_backend = response.as_ref().is_some_and(|r| r.backend.is_some());
    match has_time(request, table)? {
        // L3 says whether it has to succeed.
        true => None,
        false if by_backend => Some("got an answer that had no time".to_string()),
        false if took + EARLY < limit && response.is_none() => {
            Some(format!("was cut after {} ms", took / MS))
        }
        false => None,
    }
}
