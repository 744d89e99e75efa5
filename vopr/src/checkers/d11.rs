//! D11: at rest, buffers, exchanges and connections are back at the baseline.

use crate::network::Network;
use crate::router::Router;

/// All clients are gone and time has passed.
pub fn at_rest(router: &Router, net: &mut Network) {
    let Some(process) = &router.process else { return };
    let (free, held, all) = process.driver.buffers();
    let counters = process.worker.counters();
    let exchanges = process.worker.exchanges_in_use();
    if free != all || exchanges != 0 || counters.clients != 0 {
        let text = format!(
            "router {}: {free} of {all} buffers free ({held} with the driver), {exchanges} \
             exchanges, {} clients",
            router.index, counters.clients,
        );
        net.trace.violated(net.now, "D11", text);
    }
}
