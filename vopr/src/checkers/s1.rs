//! S1: a router applies generations in rising order within an epoch, and serves the content that
//! its checksum says. Of epochs: S2.

use crate::network::Network;
use crate::router::Process;
use serval::config::{Identity, Source, codec};
use serval::limits::MAX_RECORD_SIZE_BYTES;

/// What one router process was seen to serve.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    boot_id: u64,
    identity: Identity,
    generation: u64,
}

/// Looks at a router after something happened to it.
pub fn look(router: usize, process: &Process, seen: &mut Seen, net: &mut Network) {
    let (identity, source) = process.updater.served();
    let order = |i: &Identity| (i.epoch, i.generation);
    let fresh = seen.boot_id != process.boot_id;
    if !fresh && order(&identity) < order(&seen.identity) {
        let text = format!(
            "router {router} went from {:?} back to {:?}",
            order(&seen.identity),
            order(&identity)
        );
        net.trace.violated(net.now, "S1", text);
    }
    let same = order(&identity) == order(&seen.identity);
    if !fresh && same && identity.checksum != seen.identity.checksum {
        let text = format!("router {router}: {:?} has two contents", order(&identity));
        net.trace.violated(net.now, "S1", text);
    }
    let generation = process.writer.generation();
    let same = same && generation == seen.generation;
    if (fresh || !same) && identity.epoch > 0 {
        let mut buffer = vec![0; MAX_RECORD_SIZE_BYTES as usize];
        let snapshot = &process.writer.active().snapshot;
        // Of a saved Snapshot that did not fit only the epoch is left.
        let is_served = match source {
            Source::None => snapshot.binds.is_empty(),
            _ => codec::checksum(snapshot, &mut buffer) == Ok(identity.checksum),
        };
        if !is_served {
            let text = format!("router {router} serves other content than {:?}", order(&identity));
            net.trace.violated(net.now, "S1", text);
        }
    }
    *seen = Seen { boot_id: process.boot_id, identity, generation };
}
