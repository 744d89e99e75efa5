//! Which Gateways have which addresses, and which of their listeners are served.
//!
//! In: the world's Gateways, setup. Out: addresses, or the reason why there are none; listeners
//! with a place.

use super::object::*;
use super::roster;
use super::table::{POOL, Served, Setup, World};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

/// A Gateway of our classes.
pub(super) struct Placed {
    pub(super) gateway: Rc<Object>,
    /// Where routers bind for it.
    pub(super) at: Vec<IpAddr>,
    /// The reason why it is not served at all.
    pub(super) problem: Option<&'static str>,
}

impl Placed {
    fn of(gateway: &Rc<Object>) -> Placed {
        let problem = match &gateway.spec {
            Spec::Gateway { wants: Wants { parameters: true, .. }, .. } => {
                Some("InvalidParameters")
            }
            Spec::Gateway { wants, .. }
                if wants.addresses.iter().any(|(kind, _)| *kind != "IPAddress") =>
            {
                Some("UnsupportedAddress")
            }
            _ => None,
        };
        Placed { gateway: gateway.clone(), at: Vec::new(), problem }
    }

    /// It has no address yet, and may get one.
    fn waits(&self) -> bool {
        self.problem.is_none() && self.at.is_empty()
    }
}

/// The addresses that a Gateway asks for by name.
pub fn named(gateway: &Object) -> Vec<Ipv4Addr> {
    match &gateway.spec {
        Spec::Gateway { wants, .. } => wants.addresses.iter().filter_map(|a| a.1).collect(),
        _ => Vec::new(),
    }
}

/// Whether it asks for nothing that it cannot have at all.
pub fn is_valid(gateway: &Rc<Object>) -> bool {
    Placed::of(gateway).problem.is_none()
}

/// Why a listener is not accepted, by itself and beside the others of its Gateway: each reason that
/// may be said (GatewaySpec.listeners: those that share a port all have the same protocol, where
/// HTTPS and TLS count as one and UDP has ports of its own, and each another hostname).
pub(super) fn flaws(all: &[Listener], own: &Listener) -> Vec<&'static str> {
    if !matches!(own.protocol, "HTTP" | "HTTPS") {
        return vec!["UnsupportedProtocol"];
    }
    let group = |l: &Listener| if l.protocol == "TLS" { "HTTPS" } else { l.protocol };
    let beside = all.iter().filter(|o| o.name != own.name && o.port == own.port);
    let mut flaws = Vec::new();
    for other in beside.filter(|o| o.protocol != "UDP") {
        if group(other) != group(own) {
            flaws.push("ProtocolConflict");
        } else if other.hostname == own.hostname {
            flaws.push("HostnameConflict");
        }
    }
    flaws
}

impl World<'_> {
    /// Gateways of our classes with the addresses that they are bound at. Those that name addresses
    /// come first, then those that keep the ones they have, then the lowest free one for the
    /// oldest. Or any address of the nodes, for who names none or at least one of a node's.
    pub(super) fn gateways(&self, setup: Setup) -> Vec<Placed> {
        let name = setup.controller;
        let is_ours = |c: &Rc<Object>| match &c.spec {
            Spec::Class { controller, parameters } => *controller == name && !parameters,
            _ => false,
        };
        let ours = |o: &&Rc<Object>| match &o.spec {
            Spec::Gateway { class, .. } => self.get(Kind::Class, "", class).is_some_and(is_ours),
            _ => false,
        };
        let mut placed: Vec<Placed> = self.objects.iter().filter(ours).map(Placed::of).collect();
        match setup.in_nodes {
            true => self.place_in_nodes(&mut placed),
            false => place_in_pool(&mut placed),
        }
        placed
    }

    fn place_in_nodes(&self, placed: &mut [Placed]) {
        let nodes = roster::nodes(self.objects);
        for placed in placed.iter_mut().filter(|p| p.waits()) {
            let named = named(&placed.gateway);
            if !named.is_empty() && !named.iter().any(|&a| nodes.contains(&IpAddr::V4(a))) {
                placed.problem = Some("AddressNotUsable");
            } else {
                placed.at.push(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
            }
        }
    }

    /// Listeners that are served: all but those with a flaw, or without a certificate that they
    /// need. Where Gateways share an address the oldest has a port and hostname.
    pub(super) fn listeners(&self, gateways: &[Placed]) -> Vec<Served> {
        let mut served: Vec<Served> = Vec::new();
        for Placed { gateway, at, .. } in gateways.iter().filter(|p| p.problem.is_none()) {
            let Spec::Gateway { listeners, .. } = &gateway.spec else { continue };
            for listener in listeners.iter().filter(|l| flaws(listeners, l).is_empty()) {
                let (certificates, _) = self.certificates(&gateway.key.1, listener);
                if certificates.is_empty() && !listener.certificates.is_empty() {
                    // Nothing to serve it with.
                    continue;
                }
                let binds: Vec<SocketAddr> =
                    at.iter().map(|&a| SocketAddr::new(a, listener.port)).collect();
                let is_there = |s: &Served| {
                    s.hostname == listener.hostname && s.binds.iter().any(|b| binds.contains(b))
                };
                if served.iter().any(is_there) {
                    continue;
                }
                served.push(Served {
                    gateway: format!("{}/{}", gateway.key.1, gateway.key.2),
                    section: listener.name.clone(),
                    hostname: listener.hostname.clone(),
                    binds,
                    certificates,
                });
            }
        }
        served
    }
}

/// Each has addresses of its own. One that cannot have all it names is not served; what it has got
/// of them nobody else has.
fn place_in_pool(placed: &mut [Placed]) {
    let mut taken: Vec<Ipv4Addr> = Vec::new();
    for placed in placed.iter_mut().filter(|p| p.waits()) {
        for address in named(&placed.gateway) {
            if !POOL.contains(&address) || taken.contains(&address) {
                placed.problem = Some("AddressNotUsable");
                break;
            }
            taken.push(address);
            placed.at.push(IpAddr::V4(address));
        }
    }
    let mut give = |placed: &mut Placed, from: &[Ipv4Addr]| {
        let usable = |a: &&Ipv4Addr| POOL.contains(a) && !taken.contains(a);
        let address = from.iter().find(usable).copied();
        taken.extend(address);
        placed.at.extend(address.map(IpAddr::V4));
        address.is_some()
    };
    for placed in placed.iter_mut().filter(|p| p.waits()) {
        let kept = placed.gateway.addresses.clone();
        give(placed, &kept);
    }
    for placed in placed.iter_mut().filter(|p| p.waits()) {
        if !give(placed, &POOL) {
            placed.problem = Some("AddressNotAssigned");
        }
    }
}
