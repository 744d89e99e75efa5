//! The capacities of simulated processes: small, whatever the shape, so that full is met often.

use crate::model::room::Room;
use serval::limits::Capacities;

/// Objects that a controller admits, by kind in the order of `model::object::Kind::ALL`.
pub const ADMITTED: [u32; 8] = [3, 4, 12, 10, 16, 6, 6, 6];

/// The room for routes of [`cramped`].
pub const CRAMPED: Room = Room { rules: 9, hosts: 20, matches: 11, conditions: 4, backends: 12 };

/// As [`small`], and a Snapshot that not all routes fit, for controllers.
pub fn cramped() -> Capacities {
    let Room { rules, hosts, matches, conditions, backends } = CRAMPED;
    with(
        small(),
        &[
            ("MAX_CONFIG_ROUTES", rules as u32),
            ("MAX_CONFIG_HOSTS", hosts as u32),
            ("MAX_CONFIG_MATCHES", matches as u32),
            ("MAX_CONFIG_CONDITIONS", conditions as u32),
            ("MAX_CONFIG_BACKENDS", backends as u32),
        ],
    )
}

/// As [`small`], and little room for what runs at once.
pub fn tight() -> Capacities {
    with(
        small(),
        &[
            ("MAX_CONNECTIONS", 32),
            ("MAX_IO_BUFFERS", 16),
            ("MAX_RESPONSE_EDITS", 3),
            ("MAX_TRAILER_BLOCKS", 1),
        ],
    )
}

/// What a router may have less room for than the controller thinks.
const LESS: [(&str, u32); 6] = [
    ("MAX_CONFIG_ROUTES", 5),
    ("MAX_CONFIG_LISTENERS", 3),
    ("MAX_CONFIG_UPSTREAMS", 10),
    ("MAX_CONFIG_MATCHES", 8),
    ("MAX_CONFIG_TEXT_BYTES", 1500),
    ("MAX_CONFIG_PEM_BYTES", 60),
];

/// How many kinds of [`lesser`] there are.
pub const LESSER: usize = LESS.len();

/// These, but less room for one thing of a Snapshot: a router of another version, or set up
/// otherwise.
pub fn lesser(capacities: Capacities, which: usize) -> Capacities {
    with(capacities, &LESS[which..=which])
}

fn with(mut capacities: Capacities, values: &[(&str, u32)]) -> Capacities {
    for &(name, value) in values {
        let set = capacities.set(name, value);
        assert!(set.is_ok(), "{name} cannot be {value}: {set:?}");
    }
    capacities
}

/// Stores for few objects; a Snapshot large enough for all that they can hold.
pub fn small() -> Capacities {
    let [classes, gateways, routes, services, slices, secrets, namespaces, grants] = ADMITTED;
    let values = [
        ("MAX_GATEWAY_CLASSES", classes),
        ("MAX_GATEWAYS", gateways),
        ("MAX_ROUTES", routes),
        ("MAX_SERVICES", services),
        ("MAX_ENDPOINT_SLICES", slices),
        ("MAX_SECRETS", secrets),
        ("MAX_NAMESPACES", namespaces),
        ("MAX_REFERENCE_GRANTS", grants),
        ("MAX_CONFIG_BINDS", 8),
        ("MAX_CONFIG_LISTENERS", 16),
        ("MAX_CONFIG_ATTACHMENTS", 32),
        ("MAX_CONFIG_CERTIFICATES", 6),
        ("MAX_CONFIG_CERTIFICATE_REFS", 12),
        ("MAX_CONFIG_PEM_BYTES", 8192),
        ("MAX_CONFIG_ROUTES", 32),
        ("MAX_CONFIG_HOSTS", 64),
        ("MAX_CONFIG_MATCHES", 64),
        ("MAX_CONFIG_CONDITIONS", 64),
        ("MAX_CONFIG_FILTERS", 48),
        ("MAX_CONFIG_EDITS", 96),
        ("MAX_RESPONSE_EDITS", 12),
        ("MAX_TRAILER_BLOCKS", 4),
        ("MAX_CONFIG_BACKENDS", 64),
        ("MAX_CONFIG_ENTRIES", 192),
        ("MAX_CONFIG_POOLS", 24),
        ("MAX_CONFIG_UPSTREAMS", 96),
        ("MAX_CONFIG_TEXT_BYTES", 24_576),
        ("MAX_ROUTERS", 3),
        ("MAX_WORKERS", 1),
        ("MAX_CONNECTIONS", 12),
        ("MAX_IO_BUFFERS", 24),
        ("MAX_REQUEST_BODY_MIB", 1),
    ];
    with(Capacities::DEFAULT, &values)
}
