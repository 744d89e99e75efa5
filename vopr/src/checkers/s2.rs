//! S2: a Snapshot of an older epoch is refused once a newer one was taken: for as long as the
//! router's process lives, and by its next process, when the state file is whole.

use crate::network::Network;

/// What one router must not go behind.
#[derive(Debug, Default)]
pub struct Fence {
    /// The highest epoch that the process has served.
    epoch: u64,
    /// Of the state file as it was saved: the epoch, and its lines.
    saved: Option<(u64, usize)>,
}

impl Fence {
    /// A state file is written while this epoch is served.
    pub fn saves(&mut self, epoch: u64, lines: usize) {
        self.saved = Some((epoch, lines));
    }

    /// A process begins, with so many lines of its file, and serves this epoch.
    pub fn starts(&mut self, router: usize, lines: usize, epoch: u64, net: &mut Network) {
        let whole = self.saved.filter(|saved| saved.1 == lines);
        self.epoch = whole.map_or(0, |saved| saved.0);
        self.serves(router, epoch, net);
    }

    /// A push was taken whose header says this epoch.
    pub fn took(&self, router: usize, epoch: u64, net: &mut Network) {
        if epoch < self.epoch {
            let text = format!("router {router} took epoch {epoch} after {}", self.epoch);
            net.trace.violated(net.now, "S2", text);
        }
    }

    /// The router serves this epoch.
    pub fn serves(&mut self, router: usize, epoch: u64, net: &mut Network) {
        if epoch < self.epoch {
            let text = format!("router {router} serves epoch {epoch} after {}", self.epoch);
            net.trace.violated(net.now, "S2", text);
        }
        self.epoch = self.epoch.max(epoch);
    }
}

/// The epoch in the header line of a push; None when it is no header.
pub fn epoch_of(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok().filter(|t| t.contains(r#""snapshot""#))?;
    let (_, rest) = text.split_once(r#""epoch":"#)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}
