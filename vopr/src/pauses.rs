//! Paused processes (SIGSTOP, a suspended machine): what happens to one meanwhile is kept, and
//! happens all at once when it goes on, at a later time of both clocks.

use crate::network::{Event, Network, Node, Step};
use std::collections::BTreeMap;

/// Who is paused, and what is kept.
#[derive(Debug, Default)]
pub struct Pauses(BTreeMap<Node, Vec<Event>>);

/// Whose event it is.
pub fn node_of(event: Event, net: &Network) -> Option<Node> {
    match event {
        Event::Socket(end, _) => net.owner(end),
        Event::Timer(node, _) | Event::Step(Step::Status(node) | Step::Lease(node)) => Some(node),
        _ => None,
    }
}

impl Pauses {
    /// Whether a node is paused.
    pub fn has(&self, node: Node) -> bool {
        self.0.contains_key(&node)
    }

    /// It stops, with all that it has.
    pub fn pause(&mut self, node: Node) {
        self.0.entry(node).or_default();
    }

    /// It goes on, or is no more: what happened meanwhile.
    pub fn resume(&mut self, node: Node) -> Vec<Event> {
        self.0.remove(&node).unwrap_or_default()
    }

    /// Keeps an event that is for one that is paused; not what is at the API server already.
    pub fn keeps(&mut self, event: Event, net: &Network) -> bool {
        if self.0.is_empty() || matches!(event, Event::Step(Step::Lease(_))) {
            return false;
        }
        let kept = node_of(event, net).and_then(|node| self.0.get_mut(&node));
        kept.map(|kept| kept.push(event)).is_some()
    }
}
