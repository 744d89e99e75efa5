//! Resolver: backendRefs to pools of endpoints.
//!
//! In: Services, EndpointSlices, ReferenceGrants. Out: pools and upstreams of the Snapshot, or the
//! reason for ResolvedRefs=False.

use super::attach::may_reference;
use super::{Settings, Work};
use crate::config::Snapshot;
use crate::config::reach::may_reach;
use crate::config::snapshot::{Pool, Upstream};
use crate::limits::*;
use crate::resource::http_route::{BackendRef, HttpRoute};
use crate::resource::store::{Handle, Scratch};
use crate::resource::{EndpointSlice, Key, Kind, ReferenceGrant, Service, Stores};
use crate::stdx::{Table, fnv::Fnv};
use core::net::SocketAddr;

const NONE: u32 = u32::MAX;

/// Why a backendRef does not resolve (ResolvedRefs reasons).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the reasons of the Gateway API's ResolvedRefs condition")]
pub enum RefProblem {
    InvalidKind,
    RefNotPermitted,
    BackendNotFound,
    UnsupportedProtocol,
    /// Not of the API: pools, upstreams or strings of the Snapshot are full.
    CapacityExceeded,
}

/// Slices by the Service they belong to: buckets of chains through the order of age.
#[derive(Debug)]
pub struct SliceIndex {
    heads: Table<u32, { MAX_ENDPOINT_SLICES as usize }>,
    next: Table<u32, { MAX_ENDPOINT_SLICES as usize }>,
    handles: Table<Option<Handle>, { MAX_ENDPOINT_SLICES as usize }>,
}

crate::zeroed_struct!(SliceIndex {
    heads: Table<u32, { MAX_ENDPOINT_SLICES as usize }>,
    next: Table<u32, { MAX_ENDPOINT_SLICES as usize }>,
    handles: Table<Option<Handle>, { MAX_ENDPOINT_SLICES as usize }>,
});

impl SliceIndex {
    pub(crate) fn init(&mut self, capacities: &Capacities) {
        self.heads.set_cap(capacities.max_endpoint_slices);
        self.next.set_cap(capacities.max_endpoint_slices);
        self.handles.set_cap(capacities.max_endpoint_slices);
    }

    /// Bytes at these capacities, for the memory plan.
    pub(crate) fn bytes(capacities: &Capacities) -> u64 {
        let each = 2 * size_of::<u32>() + size_of::<Option<Handle>>();
        u64::from(capacities.max_endpoint_slices) * each as u64
    }

    fn bucket(&self, tag: u64) -> u32 {
        (tag % u64::from(self.heads.cap())) as u32
    }
}

/// Builds the index of slices by Service for this run.
pub fn index_slices(stores: &Stores, work: &mut Work) {
    let index = &mut work.slices;
    index.heads.clear();
    index.next.clear();
    index.handles.clear();
    index.heads.resize(index.heads.cap(), NONE).expect("up to the cap");
    for handle in stores.slices.by_age() {
        let bucket = index.bucket(stores.slices.tag(handle));
        let place = index.handles.push(Some(handle)).expect("as many as the store holds");
        index.next.push(index.heads[bucket]).expect("as many as handles");
        index.heads[bucket] = place;
    }
    work.pools.clear();
}

/// Pools of this run by (namespace, service, port): open addressing over their indexes.
#[derive(Debug)]
pub struct PoolIndex {
    places: Table<u32, { (MAX_CONFIG_POOLS * 2) as usize }>,
}

crate::zeroed_struct!(PoolIndex { places: Table<u32, { (MAX_CONFIG_POOLS * 2) as usize }> });

impl PoolIndex {
    pub(crate) fn init(&mut self, capacities: &Capacities) {
        self.places.set_cap(capacities.max_config_pools * 2);
    }

    /// Bytes at these capacities, for the memory plan.
    pub(crate) fn bytes(capacities: &Capacities) -> u64 {
        u64::from(capacities.max_config_pools * 2) * size_of::<u32>() as u64
    }

    fn clear(&mut self) {
        self.places.clear();
        self.places.resize(self.places.cap(), NONE).expect("up to the cap");
    }

    /// Forgets the pools from this one on. Those before it were placed when these were not there
    /// yet, so none of them lies behind one of these.
    pub(super) fn forget_from(&mut self, first: u32) {
        let later = |place: &&mut u32| **place != NONE && **place >= first;
        self.places.as_mut_slice().iter_mut().filter(later).for_each(|place| *place = NONE);
    }

    /// The place of the pool of that name, or the free place where it belongs.
    fn place(&self, out: &Snapshot, name: (&str, &str, u16)) -> u32 {
        let mut hash = Fnv::new();
        hash.write(name.0.as_bytes());
        hash.write(b"/");
        hash.write(name.1.as_bytes());
        hash.write(&name.2.to_le_bytes());
        let len = self.places.len();
        let mut place = (hash.finish() % u64::from(len)) as u32;
        // There are twice as many places as pools, so a free one is found.
        while self.places[place] != NONE {
            if pool_is(out, self.places[place], name) {
                break;
            }
            place = (place + 1) % len;
        }
        place
    }
}

fn pool_is(out: &Snapshot, pool: u32, (namespace, service, port): (&str, &str, u16)) -> bool {
    let mut parts = out.text.get(out.pools[pool].name).split('/');
    parts.next() == Some(namespace)
        && parts.next() == Some(service)
        && parts.next().and_then(|p| p.parse().ok()) == Some(port)
}

/// What resolving needs besides the route: stores, and objects to load into.
#[derive(Debug)]
pub struct Resolver<'w> {
    /// The stores.
    pub stores: &'w Stores,
    /// The settings.
    pub settings: &'w Settings,
    /// To load into.
    pub service: &'w mut Service,
    /// To load into.
    pub slice: &'w mut EndpointSlice,
    /// To load into.
    pub grant: &'w mut ReferenceGrant,
    /// To load with.
    pub scratch: &'w mut Scratch,
}

impl Resolver<'_> {
    /// Whether a backendRef resolves, and to which port of the loaded Service (its index).
    pub fn check(&mut self, route: &HttpRoute, backend: &BackendRef) -> Result<u32, RefProblem> {
        let text = |t| route.text.get(t);
        if !text(backend.group).is_empty() || text(backend.kind) != Kind::Service.name() {
            return Err(RefProblem::InvalidKind);
        }
        let own = route.meta.key.namespace.as_str();
        let (namespace, name) = target(route, backend);
        let from = (Kind::HttpRoute, own);
        let to = ("", Kind::Service.name());
        let (grant, scratch) = (&mut *self.grant, &mut *self.scratch);
        if !may_reference(self.stores, from, to, (namespace, name), grant, scratch) {
            return Err(RefProblem::RefNotPermitted);
        }
        let found = self.stores.services.find_parts(namespace, name);
        let handle = found.ok_or(RefProblem::BackendNotFound)?;
        self.stores.services.load(handle, self.service, self.scratch);
        if self.service.is_external_name {
            return Err(RefProblem::BackendNotFound);
        }
        let ports = self.service.ports.as_slice();
        let port = ports.iter().position(|p| p.port == backend.port && p.is_tcp);
        let port = port.ok_or(RefProblem::BackendNotFound)?;
        let protocol = self.service.text.get(ports[port].app_protocol);
        if matches!(protocol, "kubernetes.io/h2c" | "kubernetes.io/wss") {
            return Err(RefProblem::UnsupportedProtocol);
        }
        Ok(port as u32)
    }

    /// The pool of a backendRef, made when it is new.
    pub fn pool(
        &mut self,
        route: &HttpRoute,
        backend: &BackendRef,
        pools: &mut PoolIndex,
        slices: &SliceIndex,
        out: &mut Snapshot,
    ) -> Result<u32, RefProblem> {
        let port = self.check(route, backend)?;
        let (namespace, name) = target(route, backend);
        let place = pools.place(out, (namespace, name, backend.port));
        if pools.places[place] != NONE {
            return Ok(pools.places[place]);
        }
        let (text, upstreams) = (out.text.len(), out.upstreams.len());
        let made = self.make(port, (namespace, name, backend.port), slices, out);
        match made {
            Ok(pool) => pools.places[place] = pool,
            Err(_) => {
                out.text.truncate(text);
                out.upstreams.truncate(upstreams);
            }
        }
        made
    }

    fn make(
        &mut self,
        port: u32,
        (namespace, name, number): (&str, &str, u16),
        slices: &SliceIndex,
        out: &mut Snapshot,
    ) -> Result<u32, RefProblem> {
        let full = |_| RefProblem::CapacityExceeded;
        let start = out.upstreams.len();
        self.endpoints(port, (namespace, name), slices, out, |e| e.0).map_err(full)?;
        if out.upstreams.len() == start {
            // None is ready: those that still serve while they terminate are better than none.
            self.endpoints(port, (namespace, name), slices, out, |e| e.1).map_err(full)?;
        }
        sort_unique(out, start);
        let name = out.text.push_fmt(format_args!("{namespace}/{name}/{number}")).map_err(full)?;
        let upstreams = out.upstreams.span_from(start);
        out.pools.push(Pool { name, upstreams }).map_err(full)
    }

    /// Adds the endpoints of all slices of the Service for which `wanted` (ready, serving) holds.
    fn endpoints(
        &mut self,
        port: u32,
        (namespace, name): (&str, &str),
        slices: &SliceIndex,
        out: &mut Snapshot,
        wanted: impl Fn((bool, bool)) -> bool,
    ) -> Result<(), crate::stdx::Full> {
        let tag = Key::hash_of(namespace, name);
        let mut place = slices.heads[slices.bucket(tag)];
        while place != NONE {
            let handle = slices.handles[place].expect("filled with each place");
            place = slices.next[place];
            if self.stores.slices.tag(handle) != tag
                || self.stores.slices.meta(handle).key.namespace.as_str() != namespace
            {
                continue;
            }
            self.stores.slices.load(handle, self.slice, self.scratch);
            if self.slice.text.get(self.slice.service) != name {
                continue;
            }
            let port_name = self.service.text.get(self.service.ports[port].name);
            let named = |p: &&crate::resource::endpoint_slice::SlicePort| {
                self.slice.text.get(p.name) == port_name && p.port != 0
            };
            let Some(slice_port) = self.slice.ports.as_slice().iter().find(named) else { continue };
            for endpoint in self.slice.endpoints.as_slice() {
                let serving = endpoint.serving && endpoint.terminating;
                let ip = endpoint.ip();
                if wanted((endpoint.ready, serving)) && may_reach(ip, self.settings.standalone) {
                    let address = SocketAddr::new(ip, slice_port.port);
                    out.upstreams.push(Upstream { address })?;
                }
            }
        }
        Ok(())
    }
}

fn target<'r>(route: &'r HttpRoute, backend: &BackendRef) -> (&'r str, &'r str) {
    let namespace = match route.text.get(backend.namespace) {
        "" => route.meta.key.namespace.as_str(),
        namespace => namespace,
    };
    (namespace, route.text.get(backend.name))
}

/// Sorted and without doubles, so that equal endpoints make an equal Snapshot.
fn sort_unique(out: &mut Snapshot, start: u32) {
    let items = &mut out.upstreams.as_mut_slice()[start as usize..];
    items.sort_unstable_by_key(|u| u.address);
    let mut kept = 0;
    for at in 0..items.len() {
        if at == 0 || items[at] != items[kept - 1] {
            items[kept] = items[at];
            kept += 1;
        }
    }
    out.upstreams.truncate(start + kept as u32);
}
