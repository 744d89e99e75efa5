//! S2: a Snapshot of an older epoch is refused once a newer one was taken: for as long as the
//! router's process lives, and by its next process, when the state file is whole. One
//! that is whole is not refused as broken, however its body is cut, and whoever took it says where
//! it came from.

use crate::network::Network;
use crate::parsed::Parsed;
use serval::config::Identity;
use serval::resource::document::Value;

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

/// The header line of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub epoch: u64,
    pub generation: u64,
    source: String,
}

/// What a line says when it is the header of a push.
pub fn header_of(line: &[u8]) -> Option<Header> {
    if !line.starts_with(b"{\"snapshot\"") {
        return None;
    }
    let document = Parsed::of(line)?;
    let number = |name| document.root().get(name).and_then(Value::int);
    let number = |name| u64::try_from(number(name)?).ok();
    let source = document.root().text("source").to_string();
    Some(Header { epoch: number("epoch")?, generation: number("generation")?, source })
}

/// A push of this header was taken by a router that served `before`, and says that it serves what
/// came from `source`.
pub fn came_from(header: &Header, before: Identity, source: &str, net: &mut Network) {
    if (before.epoch, before.generation) != (header.epoch, header.generation)
        && header.source != source
    {
        let text = format!("{header:?} was taken, and what is served is said to be of {source}");
        net.trace.violated(net.now, "S2", text);
    }
}

/// A push that was whole is answered, as far as that came.
pub fn answered(answer: &[u8], net: &mut Network) {
    if answer.starts_with(b"HTTP/1.1 400 ") {
        let text = String::from_utf8_lossy(answer);
        let text = format!("a whole push is answered: {text}");
        net.trace.violated(net.now, "S2", text);
    }
}
