//! L8: in the final state every queue is empty: nothing waits to be pushed, written, listed, told
//! or saved.

use crate::api_server::Api;
use crate::controller::Process;
use crate::network::{Network, SECOND};
use crate::router::Router;
use serval::resource::Kind;

/// Nothing happens any more: what still waits anywhere.
pub fn at_rest(
    processes: &mut [Option<Process>],
    routers: &[Router],
    api: &Api,
    net: &mut Network,
) {
    let mut waits = Vec::new();
    for process in processes.iter_mut().flatten() {
        let holder = process.lease.holder.clone();
        let mut say = |count: usize, what: &str| {
            if count > 0 {
                waits.push(format!("{holder}: {count} {what}"));
            }
        };
        say(process.orders.len(), "statuses are to be written");
        say(process.pushes_running(), "pushes run");
        say(process.outputs_waiting(), "requests are not out");
        let stores = process.controller.stores();
        let relists = Kind::ALL.into_iter().filter(|&kind| stores.wants_relist(kind));
        say(relists.count(), "kinds are to be listed");
        if process.lease.reigns {
            let controller = &*process.controller;
            let behind = controller.routers().iter().filter(|r| controller.is_behind(r.address));
            say(behind.count(), "routers are behind");
            say(process.statuses_differing(net.now), "statuses differ from what is wanted");
        }
    }
    let unsent = api.unsent(net.now - SECOND);
    if unsent > 0 {
        waits.push(format!("the API server: {unsent} connections with something to send"));
    }
    for router in routers {
        let Some(process) = &router.process else { continue };
        if !process.is_saved() {
            waits.push(format!("router {}: its Snapshot is not saved", router.index));
        }
        if process.is_pushed_to() {
            waits.push(format!("router {}: a push runs", router.index));
        }
    }
    for text in waits {
        net.trace.violated(net.now, "L8", text);
    }
}
