//! The address modes: at which addresses Gateways are reached, and what that asks of routers.
//!
//! | mode | routers bind | status.addresses |
//! |---|---|---|
//! | manifests | as written, else any address | as bound |
//! | pool | an address of the Gateway's own | the same |
//! | node | any address, the listener's port | of the nodes with a ready router |
//! | service | any address, the Service's targetPort | of the Service |
//!
//! In the last two all Gateways share the addresses, and tell themselves apart by port and
//! hostname.

use super::gateways::GatewayProblem;
use super::status::Rollout;
use super::{Settings, Work};
use crate::limits::MAX_ADDRESSES_PER_GATEWAY;
use crate::resource::{Decoder, Gateway, Service, Stores};
use crate::stdx::{Short, Table};
use core::net::IpAddr;

/// How Gateways come by their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressMode {
    /// Manifests in a folder: as they say.
    Manifests,
    /// `--gateway-addresses`: each Gateway one of its own.
    Pool,
    /// Neither flag: the nodes' own.
    Node,
    /// `--gateway-service`: those of a Service in front of the routers.
    Service,
}

impl AddressMode {
    /// What to say when a Gateway has no address.
    pub(super) fn not_assigned(self) -> &'static str {
        match self {
            AddressMode::Node => "no router is ready by the endpoints of its Service",
            AddressMode::Service => {
                "the Service of --gateway-service is missing, or has no address"
            }
            _ => "no free address: enlarge --gateway-addresses",
        }
    }

    /// What to say when it asks for one that it cannot have.
    pub(super) fn not_usable(self) -> &'static str {
        match self {
            AddressMode::Node => {
                "an address of spec.addresses is not that of a node with a ready router"
            }
            AddressMode::Service => {
                "an address of spec.addresses is not one of the Service of --gateway-service"
            }
            _ => "an address of spec.addresses is not in --gateway-addresses or is taken",
        }
    }
}

/// The addresses a Gateway asks for.
fn wanted(gateway: &Gateway) -> impl Iterator<Item = &str> {
    let values = gateway.addresses.as_slice().iter().map(|a| gateway.text.get(a.value));
    values.filter(|value| !value.is_empty())
}

/// Whether two texts are the same address, however it is written.
fn is_same(a: &str, b: &str) -> bool {
    match (a.parse::<IpAddr>(), b.parse::<IpAddr>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// Finds the Gateways that cannot be served in the modes node and service, and leaves the Service
/// of the latter loaded. One that asks for several addresses is served while one of them is ours:
/// a node that is away for a moment must not take the Gateway from the others.
pub(super) fn judge(stores: &Stores, settings: &Settings, nodes: &[IpAddr], work: &mut Work) {
    let Decoder { gateway, service, scratch, .. } = &mut work.decoder;
    let key = &settings.gateway_service;
    let in_service = settings.address_mode() == AddressMode::Service;
    let found = stores.services.find_parts(key.namespace.as_str(), key.name.as_str());
    if let Some(handle) = found {
        stores.services.load(handle, service, scratch);
    }
    for state in work.gateways.as_mut_slice() {
        if state.problem != GatewayProblem::None {
            continue;
        }
        stores.gateways.load(state.handle, gateway, scratch);
        let is_ours = |address: &str| match in_service {
            true => is_of_service(service, address),
            false => address.parse().is_ok_and(|ip| nodes.contains(&ip)),
        };
        if in_service && found.is_none() {
            state.problem = GatewayProblem::AddressNotAssigned;
        } else if wanted(gateway).next().is_some() && !wanted(gateway).any(is_ours) {
            state.problem = GatewayProblem::AddressNotUsable;
        }
    }
}

fn is_of_service(service: &Service, address: &str) -> bool {
    let addresses = service.addresses.as_slice().iter();
    addresses.map(|a| service.text.get(a.value)).any(|own| is_same(own, address))
}

/// An address in status.addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ShownAddress {
    is_hostname: bool,
    pub(super) value: Short<253>,
}

impl ShownAddress {
    fn ip(address: IpAddr) -> ShownAddress {
        ShownAddress { is_hostname: false, value: Short::truncated(format_args!("{address}")) }
    }

    /// status.addresses[].type.
    pub(super) fn kind(&self) -> &'static str {
        if self.is_hostname { "Hostname" } else { "IPAddress" }
    }
}

/// What is said of a Gateway's addresses.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) addresses: Table<ShownAddress, { MAX_ADDRESSES_PER_GATEWAY as usize }>,
    /// What keeps the Gateway from being reached as it asks.
    pub(super) problem: GatewayProblem,
}

/// Works out status.addresses of the loaded Gateway: of `given` ones, of the nodes, or of the
/// loaded Service. Of more than fit the lowest are shown, so that they do not change by chance.
pub(super) fn shown_addresses(
    mode: AddressMode,
    gateway: &Gateway,
    problem: GatewayProblem,
    given: impl Iterator<Item = IpAddr>,
    service: &Service,
    rollout: &impl Rollout,
) -> Shown {
    let mut shown = Shown { addresses: Table::new(), problem };
    let asks = wanted(gateway).next().is_some();
    let is_wanted = |address: &ShownAddress| {
        !asks || wanted(gateway).any(|wanted| is_same(wanted, address.value.as_str()))
    };
    let mut show = |address| {
        if is_wanted(&address) {
            // Full: the others are left out.
            let _ = shown.addresses.push(address);
        }
    };
    match mode {
        AddressMode::Manifests | AddressMode::Pool => {
            given.map(ShownAddress::ip).for_each(show);
            return shown;
        }
        _ if problem != GatewayProblem::None => return shown,
        AddressMode::Node => {
            let mut last = rollout.next_node(None);
            while let Some(node) = last {
                show(ShownAddress::ip(node));
                last = rollout.next_node(Some(node));
            }
        }
        AddressMode::Service => {
            for address in service.addresses.as_slice() {
                let value = Short::truncated(format_args!("{}", service.text.get(address.value)));
                show(ShownAddress { is_hostname: address.is_hostname, value });
            }
        }
    }
    let is_shown = |wanted: &str| {
        shown.addresses.as_slice().iter().any(|shown| is_same(shown.value.as_str(), wanted))
    };
    if asks && !wanted(gateway).all(is_shown) {
        shown.problem = GatewayProblem::AddressNotUsable;
    } else if shown.addresses.is_empty() {
        shown.problem = GatewayProblem::AddressNotAssigned;
    }
    shown
}
