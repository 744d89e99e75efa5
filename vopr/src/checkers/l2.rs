//! L2, of addresses: a Gateway has those of the nodes whose routers are heard, and no others.

use super::l1::admitted;
use crate::api_server::Api;
use crate::model::placing::{is_valid, named};
use crate::model::table::ours;
use std::net::IpAddr;

/// What the statuses that the API server has lack; None when they have these addresses.
pub fn lacks(api: &Api, nodes: &[IpAddr]) -> Option<String> {
    let mut wanted = nodes.to_vec();
    wanted.sort();
    ours(&admitted(api), api.setup).iter().find_map(|gateway| {
        let addresses = gateway.addresses.iter().map(|&a| IpAddr::V4(a));
        let has: Vec<IpAddr> = addresses.collect();
        let named = named(gateway);
        let is_asked_for = |a: &IpAddr| named.is_empty() || named.iter().any(|n| a == n);
        let wanted: Vec<IpAddr> = wanted.iter().copied().filter(is_asked_for).collect();
        // What is not accepted has none.
        let wanted = if is_valid(gateway) { wanted } else { Vec::new() };
        (has != wanted).then(|| format!("{:?} has {has:?}, not {wanted:?}", gateway.key))
    })
}
