//! Which answers are right: changes of routes as they are begun, and as each router serves them.
//!
//! In: a change before it is asked for; what a router serves with all its workers, and what it has
//! on disk when it starts again. Out: for a request the oldest change that may still answer it, and
//! a verdict on the answer. Each change has a number that the route puts into every answer.

use std::sync::{Mutex, MutexGuard};

/// Routes that change.
pub const ROUTES: usize = 4;
/// Routers.
pub const ROUTERS: usize = 2;
/// Backends; bit n of a mask is backend n.
pub const BACKENDS: usize = 4;

/// What routes put into answers.
pub const FIELD: &str = "x-change";

#[derive(Clone, Copy, Debug)]
struct Change {
    number: u64,
    mask: u8,
}

#[derive(Debug, Default)]
struct State {
    begun: [Vec<Change>; ROUTES],
    next: u64,
    served: [[u64; ROUTES]; ROUTERS],
    /// Counts a router's starts.
    starts: [u64; ROUTERS],
    confirmed: u64,
}

/// The ledger.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<State>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panics under the ledger's lock")
    }

    /// From now on this change may be served: its number.
    pub fn begin(&self, route: usize, mask: u8) -> u64 {
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        state.begun[route].push(Change { number, mask });
        number
    }

    /// The newest change of a route that all workers of a router serve.
    pub fn floor(&self, router: usize, route: usize) -> u64 {
        self.lock().served[router][route]
    }

    /// The newest changes that this router serves.
    pub fn served(&self, router: usize) -> [u64; ROUTES] {
        self.lock().served[router]
    }

    /// Changes that were seen served, by one router or another.
    pub fn confirmed(&self) -> u64 {
        self.lock().confirmed
    }

    /// Starts of a router so far, to be handed to `confirm`.
    pub fn starts(&self, router: usize) -> u64 {
        self.lock().starts[router]
    }

    /// A router said that all its workers serve these; false when it went back.
    pub fn confirm(&self, router: usize, start: u64, serves: [u64; ROUTES]) -> bool {
        let mut state = self.lock();
        if state.starts[router] != start {
            return true;
        }
        let rises = serves.iter().zip(&state.served[router]).all(|(now, before)| now >= before);
        if state.served[router] != serves {
            state.confirmed += 1;
        }
        state.served[router] = serves;
        rises
    }

    /// A router is about to end: until it says so it may serve anything.
    pub fn forget(&self, router: usize) {
        let mut state = self.lock();
        state.starts[router] += 1;
        state.served[router] = [0; ROUTES];
    }

    /// It is about to start, with these on its disk.
    pub fn restart(&self, router: usize, saved: [u64; ROUTES]) {
        let mut state = self.lock();
        state.starts[router] += 1;
        state.served[router] = saved;
    }

    /// Backends that may answer a request that was sent at this floor.
    pub fn mask(&self, route: usize, floor: u64) -> u8 {
        let state = self.lock();
        let from = state.begun[route].partition_point(|change| change.number < floor);
        state.begun[route][from..].iter().fold(0, |mask, change| mask | change.mask)
    }

    /// Whether a backend may have answered by a change.
    pub fn judge(
        &self,
        route: usize,
        floor: u64,
        change: u64,
        backend: usize,
    ) -> Result<(), String> {
        if change < floor {
            return Err(format!("change {change}, but {floor} was served before it was sent"));
        }
        let state = self.lock();
        let begun = &state.begun[route];
        match begun.binary_search_by_key(&change, |begun| begun.number) {
            Err(_) => Err(format!("change {change}, which is none of this route")),
            Ok(at) if begun[at].mask & (1 << backend) == 0 => {
                Err(format!("echo-{backend}, which change {change} has not"))
            }
            Ok(_) => Ok(()),
        }
    }
}

/// The changes in a configuration as the router writes it: lines of JSON, one a route.
pub fn changes(text: &str) -> Option<[u64; ROUTES]> {
    let mut found = [None; ROUTES];
    for line in text.lines() {
        let Some((_, rest)) = line.split_once("\"name\":\"default/r") else { continue };
        let route = rest.split('/').next()?.parse::<usize>().ok();
        let Some((_, number)) = line.split_once(&format!("\"{FIELD}\",\"")) else { continue };
        let number = number.split('"').next()?.parse().ok()?;
        *found.get_mut(route?)? = Some(number);
    }
    let mut all = [0; ROUTES];
    for (place, number) in found.iter().enumerate() {
        all[place] = (*number)?;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_and_wrong_answers_are_told() {
        let ledger = Ledger::default();
        let (one, two) = (ledger.begin(0, 0b01), ledger.begin(0, 0b10));
        let other = ledger.begin(1, 0b01);
        assert_eq!(ledger.mask(0, one), 0b11);
        assert!(ledger.judge(0, one, one, 0).is_ok() && ledger.judge(0, one, two, 1).is_ok());
        assert!(ledger.judge(0, one, two, 0).is_err(), "another backend");
        assert!(ledger.judge(0, one, other, 0).is_err(), "another route's");
        assert!(ledger.confirm(0, 0, [two, 0, 0, 0]));
        assert_eq!((ledger.floor(0, 0), ledger.floor(1, 0)), (two, 0));
        assert!(ledger.judge(0, two, one, 0).is_err(), "stale");
        assert!(!ledger.confirm(0, 0, [one, 0, 0, 0]), "it went back");
        ledger.forget(0);
        assert!(ledger.confirm(0, 0, [two, 0, 0, 0]), "said before it ended");
        assert_eq!(ledger.floor(0, 0), 0);
    }

    #[test]
    fn a_configuration_is_read() {
        let line = |n| {
            format!(
                r#"{{"route":{{"name":"default/r{n}/0","filter":{{"response":[["set","x-change","1{n}"]]}}}}}}"#
            )
        };
        let text: Vec<String> = (0..ROUTES).map(line).collect();
        assert_eq!(changes(&text.join("\n")), Some([10, 11, 12, 13]));
        assert_eq!(changes(&text[1..].join("\n")), None);
    }
}
