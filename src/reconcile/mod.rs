//! PURE: stores and settings in; a Snapshot and statuses out. Any two runs agree.
//!
//! Two passes over the objects, oldest first: [`build`] works out gateways, listeners, attachment
//! and backends and fills the Snapshot; [`status::statuses`] says what the status of each object
//! must be, once it is known what the routers serve. The second repeats the cheap decisions of the
//! first instead of keeping them.
//!
//! Architecture invariant: no IO, clock or randomness; nothing of an earlier run but what the
//! stores hold (own addresses and conditions in status).

pub mod address_modes;
pub mod addresses;
pub mod attach;
pub mod certificates;
pub mod gateways;
pub mod merge;
pub mod refused;
pub mod resolve;
pub mod status;
pub mod translate;

use crate::config::Snapshot;
use crate::limits::*;
use crate::resource::{Decoder, Key, Stores};
use crate::stdx::{Short, Table, Zeroed, touch};
use address_modes::AddressMode;
use addresses::AddressPool;
use core::net::IpAddr;
use gateways::{GatewayState, ListenerState};

/// What the operator chose.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// The controllerName whose GatewayClasses are ours.
    pub controller: Short<253>,
    /// Manifests in a folder: addresses of the Gateway bind as written, endpoints may be loopback.
    pub standalone: bool,
    /// Addresses that Gateways get, each one of its own; empty: another [`AddressMode`].
    pub pool: AddressPool,
    /// The Service in front of the routers, whose addresses Gateways get; without a name: none.
    pub gateway_service: Key,
    /// The Service whose endpoints are the routers; without a name: the routers are given.
    pub router_service: Key,
}

crate::zeroed_struct!(Settings {
    controller: Short<253>,
    standalone: bool,
    pool: AddressPool,
    gateway_service: Key,
    router_service: Key,
});

impl Settings {
    /// How Gateways come by their addresses.
    pub fn address_mode(&self) -> AddressMode {
        if self.standalone {
            AddressMode::Manifests
        } else if !self.gateway_service.name.is_empty() {
            AddressMode::Service
        } else if !self.pool.is_empty() {
            AddressMode::Pool
        } else {
            AddressMode::Node
        }
    }
}

/// Working memory of reconcile, reused by every run. Built in place.
#[derive(Debug)]
pub struct Work {
    pub(crate) decoder: Decoder,
    pub(crate) gateways: Table<GatewayState, { MAX_GATEWAYS as usize }>,
    pub(crate) listeners:
        Table<ListenerState, { (MAX_GATEWAYS * MAX_LISTENERS_PER_GATEWAY) as usize }>,
    pub(crate) addresses: addresses::Assigned,
    pub(crate) pools: resolve::PoolIndex,
    pub(crate) slices: resolve::SliceIndex,
    /// Routes that did not fit the Snapshot, by place in the order of age.
    pub(crate) overflowed: Table<bool, { MAX_ROUTES as usize }>,
    /// Digests of the statuses of routes, by the same place, as far as they were worked out since
    /// the last build. They hold for the stores of this version.
    pub(crate) route_digests: Table<u64, { MAX_ROUTES as usize }>,
    pub(crate) built_of: u64,
    /// The same of classes; None: of another controller.
    pub(crate) class_digests: Table<Option<u64>, { MAX_GATEWAY_CLASSES as usize }>,
}

crate::zeroed_struct!(Work {
    decoder: Decoder,
    gateways: Table<GatewayState, { MAX_GATEWAYS as usize }>,
    listeners: Table<ListenerState, { (MAX_GATEWAYS * MAX_LISTENERS_PER_GATEWAY) as usize }>,
    addresses: addresses::Assigned,
    pools: resolve::PoolIndex,
    slices: resolve::SliceIndex,
    overflowed: Table<bool, { MAX_ROUTES as usize }>,
    route_digests: Table<u64, { MAX_ROUTES as usize }>,
    built_of: u64,
    class_digests: Table<Option<u64>, { MAX_GATEWAY_CLASSES as usize }>,
});

impl Work {
    /// Sets the capacities of zeroed working memory.
    pub fn init(&mut self, capacities: &Capacities) {
        touch(&mut self.decoder);
        self.gateways.set_cap(capacities.max_gateways);
        self.listeners.set_cap(capacities.max_gateways * MAX_LISTENERS_PER_GATEWAY);
        self.addresses.init(capacities);
        self.pools.init(capacities);
        self.slices.init(capacities);
        self.overflowed.set_cap(capacities.max_routes);
        self.route_digests.set_cap(capacities.max_routes);
        self.class_digests.set_cap(capacities.max_gateway_classes);
    }

    /// Each status is worked out anew in the next pass.
    pub fn forget_digests(&mut self) {
        self.route_digests.clear();
        self.class_digests.clear();
    }

    /// Bytes at these capacities: the line of the memory plan.
    pub fn bytes(c: &Capacities) -> u64 {
        fn assert_zeroed<T: Zeroed>() {}
        assert_zeroed::<Work>();
        let of = |count: u32, size: usize| u64::from(count) * size as u64;
        size_of::<Decoder>() as u64
            + of(c.max_gateways, size_of::<GatewayState>())
            + of(c.max_gateways * MAX_LISTENERS_PER_GATEWAY, size_of::<ListenerState>())
            + addresses::Assigned::bytes(c)
            + resolve::PoolIndex::bytes(c)
            + resolve::SliceIndex::bytes(c)
            + of(c.max_routes, size_of::<bool>() + size_of::<u64>())
            + of(c.max_gateway_classes, size_of::<Option<u64>>())
    }
}

/// Fills the Snapshot (its identity stays empty) from the stores. `nodes`: the addresses of all
/// routers, ready or not, which are the nodes' own in the mode `node`.
pub fn build(
    stores: &Stores,
    settings: &Settings,
    nodes: &[IpAddr],
    work: &mut Work,
    out: &mut Snapshot,
) {
    out.clear();
    work.forget_digests();
    work.built_of = stores.version();
    gateways::build(stores, settings, nodes, work, out);
    resolve::index_slices(stores, work);
    translate::routes(stores, settings, work, out);
    debug_assert_eq!(out.validate(), Ok(()));
}
