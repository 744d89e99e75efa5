//! D2: a router connects to endpoints of the configuration that it serves at that moment alone, so
//! to none that was removed; and never to loopback, link-local (the metadata service), multicast,
//! unspecified or broadcast addresses, or to where it listens itself, whatever a tenant writes.

use crate::model::table::may_be_reached;
use crate::network::Network;
use crate::tables::Tables;
use serval::config::Checksum;
use std::net::SocketAddr;

/// A connection that a router asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub to: SocketAddr,
    /// What its worker served then.
    pub served: Option<Checksum>,
    /// It listens there itself.
    pub is_own: bool,
}

/// A router asked for a connection.
pub fn asked(router: usize, asked: &Asked, tables: &Tables, net: &mut Network) {
    let Asked { to, served, is_own } = *asked;
    let table = served.and_then(|checksum| tables.of(&checksum));
    let wrong = if !may_be_reached(to.ip()) {
        "which nobody may be led to"
    } else if is_own {
        "where it listens itself"
    } else if table.is_some_and(|table| !table.has_endpoint(&to)) {
        "which is no endpoint of what it serves"
    } else {
        return;
    };
    net.trace.violated(net.now, "D2", format!("router {router} connects to {to}, {wrong}"));
}
