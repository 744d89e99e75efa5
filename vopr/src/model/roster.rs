//! The routers as a controller must know them, and their nodes' addresses in status.addresses.
//!
//! In: the endpoints of the routers' Service, reports with their time. Out: the addresses of nodes
//! whose router is ready by its endpoint, has a configuration, and was heard within [`SILENT`]
//! (limits.toml, ADDRESS_SILENT_MS).

use super::object::{Object, Spec};
use crate::network::{SECOND, Time};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// The routers' Service: namespace, name, and that of its admin port.
pub const SERVICE: (&str, &str, &str) = ("admin", "routers", "admin");
/// Who was not heard for so long is left out.
pub const SILENT: Time = 8 * SECOND;

/// The routers by the endpoints of their Service, and whether they serve.
fn found(objects: &[Rc<Object>]) -> BTreeMap<SocketAddr, bool> {
    let mut found: BTreeMap<SocketAddr, bool> = BTreeMap::new();
    for object in objects.iter().filter(|o| o.key.1 == SERVICE.0) {
        let Spec::Slice { service, ports, endpoints } = &object.spec else { continue };
        let Some(port) = ports.iter().find(|p| service == SERVICE.1 && p.name == SERVICE.2) else {
            continue;
        };
        for endpoint in endpoints.iter().filter(|e| !e.is_terminating()) {
            let address = SocketAddr::from((endpoint.address, port.number));
            *found.entry(address).or_default() |= endpoint.is_serving();
        }
    }
    found
}

/// The nodes that routers run at, ready or not.
pub fn nodes(objects: &[Rc<Object>]) -> Vec<IpAddr> {
    found(objects).into_keys().map(|address| address.ip()).collect()
}

/// What is known of the routers.
#[derive(Debug, Default)]
pub struct Roster {
    /// By admin address: ready by its endpoint; when it last reported, and whether it had a
    /// configuration.
    routers: BTreeMap<SocketAddr, (bool, Option<(Time, bool)>)>,
}

impl Roster {
    /// Follows the endpoints; those that terminate are let go.
    pub fn follow(&mut self, objects: &[Rc<Object>]) {
        let found = found(objects);
        self.routers.retain(|address, _| found.contains_key(address));
        for (address, serving) in found {
            self.routers.entry(address).or_default().0 = serving;
        }
    }

    /// A router reported.
    pub fn heard(&mut self, address: SocketAddr, configured: bool, now: Time) {
        if let Some(router) = self.routers.get_mut(&address) {
            router.1 = Some((now, configured));
        }
    }

    /// status.addresses of a Gateway that asks for none, the lowest first, and how many were left
    /// out for their silence alone.
    pub fn addresses(&self, now: Time) -> (Vec<String>, u64) {
        let (mut shown, mut silent) = (Vec::new(), 0);
        for (address, (serving, report)) in &self.routers {
            match report {
                Some((at, true)) if *serving && now - at < SILENT => {
                    shown.push(address.ip().to_string());
                }
                Some((_, true)) if *serving => silent += 1,
                _ => {}
            }
        }
        (shown, silent)
    }
}
