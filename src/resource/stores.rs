//! One store per kind, and the way of an object from a document into its store.

use super::document::Value;
use super::store::{ResourceStore, Scratch, Upserted};
use super::*;
use crate::limits::*;

const fn blocks(objects: u32, per_object: u32) -> u32 {
    let room = objects * per_object;
    let one = MAX_OBJECT_PACKED_BYTES / STORE_BLOCK_BYTES;
    if room > one { room } else { one }
}

/// Kinds with lists in them.
const LARGE: u32 = STORE_BLOCKS_PER_OBJECT;
const SMALL: u32 = STORE_BLOCKS_PER_SMALL_OBJECT;
const PAIR: u32 = STORE_BLOCKS_PER_SECRET;

/// Of kinds without status, nothing is kept of a refused object but who it is.
macro_rules! store {
    ($ceiling:ident, $per:ident) => {
        ResourceStore<{ $ceiling as usize }, { blocks($ceiling, $per) as usize }, 0>
    };
    ($ceiling:ident, $per:ident, status) => {
        ResourceStore<
            { $ceiling as usize },
            { blocks($ceiling, $per) as usize },
            { STUB_OUTLINE_BYTES as usize },
        >
    };
}

/// The stores of all kinds.
#[derive(Debug)]
#[allow(missing_docs, reason = "one per kind")]
pub struct Stores {
    pub classes: store!(MAX_GATEWAY_CLASSES, SMALL, status),
    pub gateways: store!(MAX_GATEWAYS, LARGE, status),
    pub routes: store!(MAX_ROUTES, LARGE, status),
    pub services: store!(MAX_SERVICES, SMALL),
    pub slices: store!(MAX_ENDPOINT_SLICES, LARGE),
    pub secrets: store!(MAX_SECRETS, PAIR),
    pub namespaces: store!(MAX_NAMESPACES, SMALL),
    pub grants: store!(MAX_REFERENCE_GRANTS, SMALL),
}

crate::zeroed_struct!(Stores {
    classes: store!(MAX_GATEWAY_CLASSES, SMALL, status),
    gateways: store!(MAX_GATEWAYS, LARGE, status),
    routes: store!(MAX_ROUTES, LARGE, status),
    services: store!(MAX_SERVICES, SMALL),
    slices: store!(MAX_ENDPOINT_SLICES, LARGE),
    secrets: store!(MAX_SECRETS, PAIR),
    namespaces: store!(MAX_NAMESPACES, SMALL),
    grants: store!(MAX_REFERENCE_GRANTS, SMALL),
});

/// Runs an expression on the store of a kind.
macro_rules! on_store {
    ($stores:expr, $kind:expr, |$store:ident| $body:expr) => {
        match $kind {
            Kind::GatewayClass => {
                let $store = &mut $stores.classes;
                $body
            }
            Kind::Gateway => {
                let $store = &mut $stores.gateways;
                $body
            }
            Kind::HttpRoute => {
                let $store = &mut $stores.routes;
                $body
            }
            Kind::Service => {
                let $store = &mut $stores.services;
                $body
            }
            Kind::EndpointSlice => {
                let $store = &mut $stores.slices;
                $body
            }
            Kind::Secret => {
                let $store = &mut $stores.secrets;
                $body
            }
            Kind::Namespace => {
                let $store = &mut $stores.namespaces;
                $body
            }
            Kind::ReferenceGrant => {
                let $store = &mut $stores.grants;
                $body
            }
        }
    };
}

impl Stores {
    /// Sets the capacities of zeroed stores.
    pub fn init(&mut self, c: &Capacities) {
        let (large, small) = (|n| blocks(n, LARGE), |n| blocks(n, SMALL));
        self.classes.init(c.max_gateway_classes, small(c.max_gateway_classes));
        self.gateways.init(c.max_gateways, large(c.max_gateways));
        self.routes.init(c.max_routes, large(c.max_routes));
        self.services.init(c.max_services, small(c.max_services));
        self.slices.init(c.max_endpoint_slices, large(c.max_endpoint_slices));
        self.secrets.init(c.max_secrets, blocks(c.max_secrets, PAIR));
        self.namespaces.init(c.max_namespaces, small(c.max_namespaces));
        self.grants.init(c.max_reference_grants, small(c.max_reference_grants));
    }

    /// Bytes at these capacities: (kind, count, bytes) for the memory plan.
    pub fn plan(c: &Capacities) -> [(&'static str, u32, u64); 8] {
        fn of<const N: usize, const B: usize, const O: usize>(
            _: Option<&ResourceStore<N, B, O>>,
            name: &'static str,
            (objects, per_object): (u32, u32),
        ) -> (&'static str, u32, u64) {
            (name, objects, ResourceStore::<N, B, O>::bytes(objects, blocks(objects, per_object)))
        }
        let none = None::<&Stores>;
        [
            of(none.map(|s| &s.classes), "store GatewayClass", (c.max_gateway_classes, SMALL)),
            of(none.map(|s| &s.gateways), "store Gateway", (c.max_gateways, LARGE)),
            of(none.map(|s| &s.routes), "store HTTPRoute", (c.max_routes, LARGE)),
            of(none.map(|s| &s.services), "store Service", (c.max_services, SMALL)),
            of(none.map(|s| &s.slices), "store EndpointSlice", (c.max_endpoint_slices, LARGE)),
            of(none.map(|s| &s.secrets), "store Secret", (c.max_secrets, PAIR)),
            of(none.map(|s| &s.namespaces), "store Namespace", (c.max_namespaces, SMALL)),
            of(none.map(|s| &s.grants), "store ReferenceGrant", (c.max_reference_grants, SMALL)),
        ]
    }

    /// Decodes an object into `decoder` and stores it; says what became of it. One with a problem
    /// is remembered as refused.
    pub fn upsert(
        &mut self,
        kind: Kind,
        value: Value<'_>,
        controller: &str,
        decoder: &mut Decoder,
    ) -> Result<Upserted, Problem> {
        self.upsert_aged(kind, value, controller, None, decoder)
    }

    /// As [`Stores::upsert`]; `age` stands for the creationTimestamp where there is none.
    pub fn upsert_aged(
        &mut self,
        kind: Kind,
        value: Value<'_>,
        controller: &str,
        age: Option<u64>,
        decoder: &mut Decoder,
    ) -> Result<Upserted, Problem> {
        let Decoder { scratch, .. } = decoder;
        macro_rules! go {
            ($object:expr, $store:expr) => {{
                let object = &mut $object;
                let decoded = object.decode(value, controller);
                if let Some(age) = age {
                    object.meta_mut().created = age;
                }
                match decoded {
                    Ok(()) => Ok($store.upsert(object, scratch)),
                    Err(problem) => {
                        // Without a name there is nobody to remember.
                        if !object.meta().key.name.is_empty() {
                            $store.refuse(object, problem.refusal());
                        }
                        Err(problem)
                    }
                }
            }};
        }
        match kind {
            Kind::GatewayClass => go!(decoder.class, self.classes),
            Kind::Gateway => go!(decoder.gateway, self.gateways),
            Kind::HttpRoute => go!(decoder.route, self.routes),
            Kind::Service => go!(decoder.service, self.services),
            Kind::EndpointSlice => go!(decoder.slice, self.slices),
            Kind::Secret => go!(decoder.secret, self.secrets),
            Kind::Namespace => go!(decoder.namespace, self.namespaces),
            Kind::ReferenceGrant => go!(decoder.grant, self.grants),
        }
    }

    /// Removes an object; whether it was there.
    pub fn remove(&mut self, kind: Kind, key: &Key) -> bool {
        on_store!(self, kind, |store| store.remove(key))
    }

    /// Begins a resync of one kind.
    pub fn resync_begin(&mut self, kind: Kind) {
        on_store!(self, kind, |store| store.resync_begin());
    }

    /// Ends a resync of one kind.
    pub fn resync_end(&mut self, kind: Kind, complete: bool) {
        on_store!(self, kind, |store| store.resync_end(complete));
    }

    /// An object exists but was not taken: it is not swept.
    pub fn skipped(&mut self, kind: Kind, key: &Key) {
        on_store!(self, kind, |store| store.mark(key));
    }

    /// Whether a relist of this kind could admit a refused object.
    pub fn wants_relist(&mut self, kind: Kind) -> bool {
        on_store!(self, kind, |store| store.wants_relist())
    }

    /// Admitted and refused objects of a kind, and its capacity.
    pub fn counts(&mut self, kind: Kind) -> (u32, u32, u32) {
        on_store!(self, kind, |store| {
            let (stubs, uncounted) = store.refused();
            (store.len(), stubs.len() as u32 + uncounted, store.capacity())
        })
    }

    /// Rises with each change that reconcile must see.
    pub fn version(&self) -> u64 {
        self.classes.version()
            + self.gateways.version()
            + self.routes.version()
            + self.services.version()
            + self.slices.version()
            + self.secrets.version()
            + self.namespaces.version()
            + self.grants.version()
    }
}

/// One object of each kind to decode into, and to load into. Built in place.
#[derive(Debug)]
#[allow(missing_docs, reason = "one per kind")]
pub struct Decoder {
    pub class: GatewayClass,
    pub gateway: Gateway,
    pub route: HttpRoute,
    pub service: Service,
    pub slice: EndpointSlice,
    pub secret: Secret,
    pub namespace: Namespace,
    pub grant: ReferenceGrant,
    pub scratch: Scratch,
}

crate::zeroed_struct!(Decoder {
    class: GatewayClass,
    gateway: Gateway,
    route: HttpRoute,
    service: Service,
    slice: EndpointSlice,
    secret: Secret,
    namespace: Namespace,
    grant: ReferenceGrant,
    scratch: Scratch,
});
