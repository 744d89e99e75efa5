//! Requests that take their time: a body that rests in the middle, of the request or of the answer,
//! or a backend that thinks. The client says so to the backend in a field; routers have timeouts.
//!
//! In: numbers. Out: the field, read again. The pauses lie between the limits that rules set
//! (`workload`) and a router has of its own.

use crate::http::Message;
use crate::tunnel::Side;
use serval::stdx::Prng;

/// Where a request rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rests {
    InTheRequest,
    BeforeTheAnswer,
    InTheAnswer,
    /// It becomes a tunnel in which only one side talks, for longer than one may rest.
    OnlyClient,
    OnlyBackend,
}

/// Where, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub rests: Rests,
    pub ms: u32,
}

/// Below, between and above 1.5, 4, 8 and 11 s.
const PAUSES_MS: [u32; 5] = [500, 2700, 6000, 9500, 12_800];

impl Pace {
    /// One for a method; not for long where `is_short`.
    pub fn pick(method: &str, is_short: bool, prng: &mut Prng) -> Pace {
        let rests = match (prng.below(3), method) {
            (0, "POST" | "PUT") => Rests::InTheRequest,
            (1, "GET" | "POST" | "PUT") => Rests::InTheAnswer,
            _ => Rests::BeforeTheAnswer,
        };
        let all = if is_short { &PAUSES_MS[..3] } else { &PAUSES_MS };
        Pace { rests, ms: all[prng.below(all.len() as u64) as usize] }
    }

    /// What tells the backend.
    pub fn line(&self) -> String {
        format!("X-Pace: {:?} {}\r\n", self.rests, self.ms)
    }

    /// One that becomes a tunnel.
    pub fn tunnel(prng: &mut Prng) -> Pace {
        let rests = if prng.chance(1, 2) { Rests::OnlyClient } else { Rests::OnlyBackend };
        Pace { rests, ms: 0 }
    }

    /// Who talks in its tunnel, when that is one side only.
    pub fn talker(&self) -> Option<Side> {
        match self.rests {
            Rests::OnlyClient => Some(Side::Client),
            Rests::OnlyBackend => Some(Side::Backend),
            _ => None,
        }
    }

    /// The same of a request that arrived.
    pub fn talker_of(message: &Message) -> Option<Side> {
        match message.field("x-pace")?.split(' ').next()? {
            "OnlyClient" => Some(Side::Client),
            "OnlyBackend" => Some(Side::Backend),
            _ => None,
        }
    }

    /// How long a backend thinks, and how long its body rests, in ms.
    pub fn of(message: &Message) -> (u32, u32) {
        let value = message.field("x-pace").unwrap_or("");
        let ms = value.split(' ').nth(1).and_then(|ms| ms.parse().ok()).unwrap_or(0);
        match value.split(' ').next() {
            Some("BeforeTheAnswer") => (ms, 0),
            Some("InTheAnswer") => (0, ms),
            _ => (0, 0),
        }
    }
}
