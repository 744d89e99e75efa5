//! One end of a tunnel behind a 101: it sends bytes that only its stamp and direction have, checks
//! what comes, and ends by half-closing, or by a cut.
//!
//! In: the stream. Out: bytes; what each end sent and whether it ended, for the other one's check.
//! An end of the peer that comes in order says that all its bytes are there.

use crate::ledger::Ledger;
use crate::marks::sometimes;
use crate::network::{EndId, Ended, MS, Network, SECOND, Time};
use serval::stdx::Prng;

/// Bytes of a direction at most.
const MOST: u64 = 6_000;

/// Pieces and bytes of a side that talks now and then: together for longer than a tunnel may rest.
const PIECES: usize = 26;
const PIECE: usize = 20;
/// They take so long at most.
pub const LONGEST: Time = 26 * SECOND;
/// `TUNNEL_IDLE_TIMEOUT_MS` in the small shape.
const LONG: Time = 10 * SECOND;

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Backend,
}

impl Side {
    fn peer(self) -> Side {
        match self {
            Side::Client => Side::Backend,
            Side::Backend => Side::Client,
        }
    }
}

/// What both ends did, as they know it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    /// Bytes that each sent.
    sent: [usize; 2],
    /// Whether each ended its direction in order.
    shut: [bool; 2],
    /// Backends that answered 101: one that never got its answer out may have a successor.
    pub backends: u32,
    /// The client got a 101.
    pub is_open: bool,
}

/// One end.
#[derive(Debug)]
pub struct Tunnel {
    pub stamp: String,
    side: Side,
    total: usize,
    sent: usize,
    got: usize,
    /// Bytes that it reads at once.
    pace: usize,
    /// It ends only behind the peer.
    waits: bool,
    /// One side talks, now and then: when it does so again.
    slow: Option<Time>,
    began: Time,
    /// It resets after so many bytes of its own, which is none of the peer's doing.
    cut_at: usize,
}

/// The bytes of a side from a place on; no end.
fn bytes_of(stamp: &str, side: Side, from: usize) -> impl Iterator<Item = u8> {
    let text = format!("{stamp}/{side:?}/").into_bytes();
    let mut at = from % text.len();
    core::iter::from_fn(move || {
        let byte = text[at];
        at = if at + 1 == text.len() { 0 } else { at + 1 };
        Some(byte)
    })
}

impl Tunnel {
    /// The end of one side. `is_cut`: it breaks off in the middle.
    pub fn new(stamp: &str, side: Side, is_cut: bool, prng: &mut Prng) -> Tunnel {
        let total = prng.below(MOST) as usize;
        let cut_at = if is_cut { prng.below(total as u64 + 1) as usize } else { usize::MAX };
        let pace = [40, 200, 1 << 20][prng.below(3) as usize];
        let waits = side == Side::Backend && prng.chance(1, 2);
        let (slow, began) = (None, 0);
        let stamp = stamp.to_string();
        Tunnel { stamp, side, total, sent: 0, got: 0, pace, waits, slow, began, cut_at }
    }

    /// Only one side talks, for longer than a tunnel may rest.
    pub fn only(&mut self, talker: Side, now: Time) {
        let talks = self.side == talker;
        (self.total, self.waits) = (if talks { PIECES * PIECE } else { 0 }, !talks);
        (self.slow, self.began, self.cut_at) = (Some(now), now, usize::MAX);
    }

    /// Whether it talks now and then only.
    pub fn is_slow(&self) -> bool {
        self.slow.is_some()
    }

    /// Takes bytes that came.
    pub fn take(&mut self, bytes: &[u8], net: &mut Network) {
        let stamp = &self.stamp;
        let differs = |bytes: &[u8]| {
            let wanted = bytes_of(stamp, self.side.peer(), self.got);
            bytes.iter().zip(wanted).any(|(byte, wanted)| *byte != wanted)
        };
        if !bytes.is_empty() && differs(bytes) {
            let text = format!("the {:?} of tunnel {stamp} got bytes of another", self.side);
            net.trace.violated(net.now, "D3", text);
        }
        self.got += bytes.len();
    }

    /// Reads and writes what is there; false when it is over: its connection is closed then.
    pub fn run(
        &mut self,
        end: EndId,
        ledger: &mut Ledger,
        prng: &mut Prng,
        net: &mut Network,
    ) -> bool {
        let bytes = net.read(end, self.pace);
        self.take(&bytes, net);
        let me = self.side as usize;
        let mut ends = ledger.tunnels.get(&self.stamp).copied().unwrap_or_default();
        let ended = net.ended(end);
        // A backend that ended itself is just closed then.
        let tells = self.side == Side::Client || !ends.shut[me];
        let is_whole = ended == Some(Ended::Eof) && tells && ends.backends == 1;
        ledger.tunnels_whole += u64::from(is_whole && self.side == Side::Client);
        if is_whole && self.is_slow() && net.now > self.began + LONG {
            sometimes("a tunnel lasts in which one side is silent");
        }
        if is_whole && self.is_early(&ends) {
            let text = format!(
                "the {:?} of tunnel {} got an end behind {} bytes; {ends:?}",
                self.side, self.stamp, self.got,
            );
            net.trace.violated(net.now, "D4", text);
        }
        // A router passes on the end of a client; that of a backend ends all.
        let is_over = ended == Some(Ended::Reset)
            || ended == Some(Ended::Eof) && (self.side == Side::Client || ends.shut[me]);
        let mut open = !is_over;
        let left = self.total.min(self.cut_at) - self.sent;
        if open && left > 0 && self.slow.is_some_and(|at| net.now < at) {
            // Its next piece is not due.
        } else if open && left > 0 {
            let most = if self.slow.is_some() { left.min(PIECE) } else { left.min(700) };
            self.slow = self.slow.map(|_| net.now + prng.range(300 * MS, 800 * MS));
            let len = prng.range(1, most as u64) as usize;
            let bytes = bytes_of(&self.stamp, self.side, self.sent);
            let bytes: Vec<u8> = bytes.take(len).collect();
            match net.write(end, &bytes) {
                Some(taken) => self.sent += taken,
                None => open = false,
            }
        } else if open && self.cut_at != usize::MAX {
            net.close(end, true);
            open = false;
        } else if open && !ends.shut[me] && (!self.waits || ended.is_some()) {
            net.shutdown(end);
            ends.shut[me] = true;
        }
        ends.sent[me] = self.sent;
        ledger.tunnels.insert(self.stamp.clone(), ends);
        if !open {
            net.close(end, false);
        }
        open
    }

    /// Whether the peer has not ended in order, or sent more than what came.
    fn is_early(&self, ends: &Ends) -> bool {
        let it = self.side.peer() as usize;
        // A router that gave up before the answer closes as it does behind any request.
        let is_none = !ends.is_open && self.got == 0;
        !is_none && (!ends.shut[it] || self.got != ends.sent[it])
    }
}

/// A client closes in order, in a tunnel or before it knows of one.
pub fn leave(stamp: &str, ledger: &mut Ledger) {
    let ends = ledger.tunnels.entry(stamp.to_string()).or_default();
    ends.shut[Side::Client as usize] = true;
}
