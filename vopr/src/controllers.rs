//! The places of controllers: each has a process or none, which may be paused (SIGSTOP): what
//! happens to it meanwhile is kept, and happens all at once when it goes on.

use crate::controller::Process;
use crate::network::{Event, Network, Node, Step};

/// Controllers of a run at most.
pub const CONTROLLERS: usize = 2;

/// One place.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "machines are large")]
pub struct Place {
    pub process: Option<Process>,
    /// Paused: what is kept.
    kept: Option<Vec<Event>>,
}

/// All places.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "machines are large")]
pub struct Controllers(pub [Place; CONTROLLERS]);

impl Controllers {
    /// Those that run, paused or not.
    pub fn running(&self) -> Vec<usize> {
        (0..CONTROLLERS).filter(|&i| self.0[i].process.is_some()).collect()
    }

    /// Their processes.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.0.iter().filter_map(|place| place.process.as_ref())
    }

    /// The one that reigns, or the first of several.
    pub fn reigning(&self) -> Option<&Process> {
        self.processes().find(|p| p.lease.reigns)
    }

    /// Whether one of them is paused.
    pub fn is_paused(&self, i: usize) -> bool {
        self.0[i].kept.is_some()
    }

    /// It stops, with all that it has.
    pub fn pause(&mut self, i: usize) {
        self.0[i].kept.get_or_insert_default();
    }

    /// It goes on: what happened meanwhile.
    pub fn resume(&mut self, i: usize) -> Vec<Event> {
        self.0[i].kept.take().unwrap_or_default()
    }

    /// Keeps an event that is for one that is paused.
    pub fn keeps(&mut self, event: Event, net: &Network) -> bool {
        let node = match event {
            Event::Socket(end, _) => net.owner(end),
            Event::Timer(node, _) | Event::Step(Step::Status(node)) => Some(node),
            _ => None,
        };
        let Some(Node::Controller(i)) = node else { return false };
        let Some(kept) = &mut self.0[i].kept else { return false };
        kept.push(event);
        true
    }

    /// Its process is gone.
    pub fn crash(&mut self, i: usize, net: &mut Network) {
        net.trace.say(net.now, &format!("controller {i} crashes"));
        self.0[i] = Place::default();
        net.crash(Node::Controller(i));
    }
}
