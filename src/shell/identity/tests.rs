//! Years of renewals: at no time do controller and routers refuse each other.

use super::*;
use std::collections::BTreeMap;

#[derive(Default)]
struct Memory(BTreeMap<String, Pair>);

impl Store for Memory {
    fn read(&mut self, name: &str) -> Result<Option<Pair>, StoreError> {
        Ok(self.0.get(name).cloned())
    }
    fn write(&mut self, name: &str, pair: &Pair) -> Result<(), StoreError> {
        self.0.insert(name.into(), pair.clone());
        Ok(())
    }
}

const START: Wall = Wall(1_795_600_000);

fn after(seconds: u64) -> Wall {
    Wall(START.0 + seconds)
}

/// Whether one end, with what it has, takes the other, with what that has.
fn takes(judge: &Pair, role: Role, other: &Pair, now: Wall) -> bool {
    let own = Some((other.certificate.as_bytes(), other.key.as_bytes()));
    is_accepted(role, Parts { authority: judge.authorities.as_bytes(), own }, now)
}

fn take_each_other(controller: &Pair, router: &Pair, now: Wall) -> bool {
    takes(router, Role::Controller, controller, now) && takes(controller, Role::Router, router, now)
}

#[test]
fn made_once_then_left_alone() {
    let mut store = Memory::default();
    let done = renew(&mut store, START).unwrap();
    assert_eq!(done.len(), 3, "{done:?}");
    assert!(done[1].starts_with("serval-controller: new, valid until 2027-"), "{done:?}");
    for seconds in [1, 60, OVERLAP_S, 30 * DAY_S, 200 * DAY_S] {
        assert_eq!(renew(&mut store, after(seconds)).unwrap(), [""; 0]);
    }
    let done = renew(&mut store, after(250 * DAY_S)).unwrap();
    assert_eq!(done.len(), 2, "both certificates, not the CA: {done:?}");
}

/// Pods that still have what was there a run ago, on either side, and new ones.
#[test]
fn years_without_a_gap() {
    let mut store = Memory::default();
    renew(&mut store, START).unwrap();
    let mut authorities = 0;
    // Weekly, with a second run soon after, as a restarted Job makes.
    let times = (1..1200u64).flat_map(|week| [week * 7 * DAY_S, week * 7 * DAY_S + 600]);
    for seconds in times {
        let now = after(seconds);
        let before = store.0.clone();
        let done = renew(&mut store, now).unwrap();
        authorities += usize::from(done.iter().any(|line| line.starts_with(AUTHORITY)));
        for controller in [&before, &store.0] {
            for router in [&before, &store.0] {
                let pair = (&controller["serval-controller"], &router["serval-router"]);
                assert!(take_each_other(pair.0, pair.1, now), "after {seconds} s: {done:?}");
            }
        }
        assert!(store.0["serval-router"].authorities.matches(END).count() <= 2);
    }
    assert_eq!(authorities, 3, "23 years");
}

#[test]
fn what_was_lost_or_broken_is_made_anew_and_the_rest_still_fits() {
    let whole = {
        let mut store = Memory::default();
        renew(&mut store, START).unwrap();
        store.0
    };
    let now = after(DAY_S);
    type Damage = fn(&mut BTreeMap<String, Pair>);
    let damages: [(Damage, usize); 5] = [
        (|s| drop(s.remove("serval-router")), 1),
        (|s| drop(s.remove(AUTHORITY)), 3),
        (|s| s.get_mut("serval-router").unwrap().key.clear(), 1),
        (|s| s.get_mut("serval-controller").unwrap().certificate.truncate(100), 1),
        (|s| s.get_mut("serval-controller").unwrap().authorities.clear(), 1),
    ];
    for (index, (damage, changes)) in damages.into_iter().enumerate() {
        let mut store = Memory(whole.clone());
        damage(&mut store.0);
        let done = renew(&mut store, now).unwrap();
        assert_eq!(done.len(), changes, "{index}: {done:?}");
        let (controller, router) = (&store.0["serval-controller"], &store.0["serval-router"]);
        assert!(take_each_other(controller, router, now), "{index}");
        // Pods that have not seen the change yet.
        assert!(take_each_other(&whole["serval-controller"], router, now), "{index}");
        assert!(take_each_other(controller, &whole["serval-router"], now), "{index}");
    }
}

/// A router's key opens no router, a controller's serves no controller; a CA of somebody else's
/// signs for nobody.
#[test]
fn a_role_is_not_the_other() {
    let (mut ours, mut theirs) = (Memory::default(), Memory::default());
    renew(&mut ours, START).unwrap();
    renew(&mut theirs, START).unwrap();
    let (controller, router) = (&ours.0["serval-controller"], &ours.0["serval-router"]);
    assert!(take_each_other(controller, router, START));
    assert!(!takes(router, Role::Controller, router, START));
    assert!(!takes(controller, Role::Router, controller, START));
    assert!(!takes(router, Role::Controller, &theirs.0["serval-controller"], START));
    assert!(!takes(controller, Role::Router, &theirs.0["serval-router"], START));
    assert!(!takes(router, Role::Controller, controller, after(LEAF_S + 1)));
    // A clock that was never set judges by the certificate's own first day.
    assert!(takes(router, Role::Controller, controller, Wall(0)));
}
