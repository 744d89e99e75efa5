//! `sometimes` marks: what a run came to at least once, by name. A name of the catalogue that no
//! seed of many comes to is a hole: the simulator does not test what lies behind it.
//!
//! In: names, from anywhere in vopr, and the marks at the product's own branches
//! (`serval::stdx::marks`). Out: how often each was met since the last [`take`].

use serval::stdx::marks as product;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// How often each was met.
pub type Marks = BTreeMap<String, u64>;

thread_local! {
    static MET: RefCell<Marks> = const { RefCell::new(Marks::new()) };
}

/// This is met now.
pub fn sometimes(name: &str) {
    MET.with_borrow_mut(|met| match met.get_mut(name) {
        Some(times) => *times += 1,
        None => drop(met.insert(name.to_string(), 1)),
    });
}

/// What was met since the last call, here and at the product's own marks.
pub fn take() -> Marks {
    let mut met = MET.take();
    met.extend(product::met::take().map(|(name, times)| (name.to_string(), u64::from(times))));
    met
}

/// What must be met over many seeds: this catalogue and the product's.
pub fn expected() -> impl Iterator<Item = &'static str> {
    CATALOGUE.iter().chain(product::TEXTS).copied()
}

/// What vopr sees from outside.
const CATALOGUE: &[&str] = &[
    "Class: Accepted False InvalidParameters",
    "Class: Accepted True Accepted",
    "Gateway listener: Accepted False HostnameConflict",
    "Gateway listener: Accepted False PortUnavailable",
    "Gateway listener: Accepted False ProtocolConflict",
    "Gateway listener: Accepted False UnsupportedProtocol",
    "Gateway listener: Accepted True Accepted",
    "Gateway listener: Conflicted False NoConflicts",
    "Gateway listener: Conflicted True HostnameConflict",
    "Gateway listener: Conflicted True ProtocolConflict",
    "Gateway listener: Programmed False Invalid",
    "Gateway listener: Programmed False Pending",
    "Gateway listener: Programmed True Programmed",
    "Gateway listener: ResolvedRefs False InvalidCertificateRef",
    "Gateway listener: ResolvedRefs False InvalidRouteKinds",
    "Gateway listener: ResolvedRefs False RefNotPermitted",
    "Gateway listener: ResolvedRefs True ResolvedRefs",
    "Gateway: Accepted False CapacityExceeded",
    "Gateway: Accepted False InvalidParameters",
    "Gateway: Accepted False ListenersNotValid",
    "Gateway: Accepted False UnsupportedAddress",
    "Gateway: Accepted True Accepted",
    "Gateway: Accepted True ListenersNotValid",
    "Gateway: Programmed False AddressNotAssigned",
    "Gateway: Programmed False AddressNotUsable",
    "Gateway: Programmed False Invalid",
    "Gateway: Programmed False NoResources",
    "Gateway: Programmed False Pending",
    "Gateway: Programmed True Programmed",
    "Route parent: Accepted False CapacityExceeded",
    "Route parent: Accepted False NoMatchingListenerHostname",
    "Route parent: Accepted False NoMatchingParent",
    "Route parent: Accepted False NotAllowedByListeners",
    "Route parent: Accepted False UnsupportedValue",
    "Route parent: Accepted True Accepted",
    "Route parent: ResolvedRefs False BackendNotFound",
    "Route parent: ResolvedRefs False InvalidKind",
    "Route parent: ResolvedRefs False RefNotPermitted",
    "Route parent: ResolvedRefs False UnsupportedProtocol",
    "Route parent: ResolvedRefs True ResolvedRefs",
    "a CRD is deleted",
    "a backend closes what is idle",
    "a backend's filters follow those of its rule",
    "a chunk has an extension",
    "a continue token expires",
    "a drain ends early",
    "a drain ends late",
    "a field comes in several lines",
    "a list asks for a version that is to come",
    "a partition: all links of a node",
    "a partition: one direction",
    "a partition: one link after the other",
    "a partition: one link",
    "a peer drips",
    "a peer floods",
    "a peer hardly reads",
    "a peer sends a body without end",
    "a push is refused: Busy 409",
    "a push is refused: Codec 400",
    "a push is refused: Codec 507",
    "a push is refused: Fork 409",
    "a push is refused: Older 409",
    "a push is refused: Syntax 400",
    "a push is taken: Adopted",
    "a push is taken: Same",
    "a push is taken: Swapped",
    "a push's last line has no end of its own",
    "a request gets 401",
    "a request gets 404",
    "a request gets 410",
    "a request gets 429",
    "a request gets 500",
    "a request is cut",
    "a request is lost with a kept connection, in the calm",
    "a route does not fit a Snapshot",
    "a route is attached elsewhere",
    "a route is edited while its endpoints are gone",
    "a route moves to another listener",
    "a router answers 301",
    "a router answers 302",
    "a router answers 303",
    "a router answers 307",
    "a router answers 308",
    "a router answers 404",
    "a router answers 408",
    "a router answers 421",
    "a router answers 500",
    "a router answers 502",
    "a router answers 503",
    "a router answers 504",
    "a router starts with a torn file",
    "a router starts with its file",
    "a router starts without a file",
    "a slice leads astray",
    "a status finds its object too large",
    "a status is worked out for an object that was made anew",
    "a taking over is slow",
    "a tunnel lasts in which one side is silent",
    "a watch begins in the future",
    "a watch begins too early",
    "a watch ends in order",
    "a watch ends with its time",
    "a watch is cut in mid-line",
    "a watch tells 410",
    "a watch tells nonsense",
    "a watch tells twice",
    "a watch tells what is no UTF-8",
    "all is listed again in the calm",
    "an endpoint is owed requests",
    "an interim answer arrives",
    "an object goes while its status is worked out",
    "an object is made anew",
    "an object is refused in the end",
    "an object that is too large is skipped",
    "changes come in a flurry",
    "no more statuses go out for now",
    "routers do not serve yet what a status is written for",
    "somebody else writes while a status is worked out",
    "the Lease is answered with 403",
    "the Lease is answered with 409",
    "the Lease is answered with 429",
    "the Lease is answered with 500",
    "the Lease is not to be had",
    "the Lease is one's another's: None",
    "the Lease is one's another's: Overtaken",
    "the Lease is one's own: None",
    "the Lease is one's own: Taken",
    "the Lease's answer is lost",
    "the end of initial events is late",
    "who just began to reign loses the API server, and its epoch is given out again",
    "who reigns loses the API server until the other one takes over",
    "who stood by reigns again",
];
