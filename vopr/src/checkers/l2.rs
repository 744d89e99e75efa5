//! L2, of addresses: a Gateway has those of the nodes whose routers are heard, and no others.

use super::l1::admitted;
use crate::api_server::Api;
use crate::model::table::ours;
use crate::network::Network;
use std::net::IpAddr;

/// Looks at the statuses that the API server has.
pub fn reached(api: &Api, nodes: &[IpAddr], net: &mut Network) {
    let mut wanted = nodes.to_vec();
    wanted.sort();
    for gateway in ours(&admitted(api), api.setup) {
        let addresses = gateway.addresses.iter().map(|&a| IpAddr::V4(a));
        if !addresses.clone().eq(wanted.iter().copied()) {
            let has: Vec<IpAddr> = addresses.collect();
            let text = format!("{:?} has {has:?}, not {wanted:?}", gateway.key);
            net.trace.violated(net.now, "L2", text);
        }
    }
}
