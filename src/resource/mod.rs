//! Typed Gateway API and core objects: decoded, defaulted, validated, stored.
//!
//! In: a [`document::Document`] (from JSON or YAML). Out: objects in a [`store::ResourceStore`].
//! Defaults and rules are the CRDs' own, so that manifests without an API server mean the same.
//!
//! Architecture invariant: an object keeps what reconcile reads and nothing else; a Secret's key
//! never gets here.

pub mod decode;
pub mod digest;
pub mod document;
pub mod endpoint_slice;
pub mod gateway;
pub mod gateway_class;
pub mod http_route;
pub mod key;
pub mod namespace;
pub mod outline;
pub mod reference_grant;
mod route_filter;
pub mod secret;
pub mod service;
pub mod store;
pub mod stores;

pub use decode::Problem;
pub use endpoint_slice::EndpointSlice;
pub use gateway::Gateway;
pub use gateway_class::GatewayClass;
pub use http_route::HttpRoute;
pub use key::{Key, Kind, Meta};
pub use namespace::Namespace;
pub use reference_grant::ReferenceGrant;
pub use secret::Secret;
pub use service::Service;
pub use stores::{Decoder, Stores};

use crate::stdx::Zeroed;
use crate::stdx::pack::{Pack, Packer, Unpacker};

/// What all kinds have in common.
pub trait Object: Pack + Zeroed {
    /// The kind.
    const KIND: Kind;

    /// Fills `self`, cleared before, from a document. `controller` is the controllerName whose
    /// status entries count as own. With a problem, metadata and own status are filled if they
    /// could be read.
    fn decode(&mut self, value: document::Value<'_>, controller: &str) -> Result<(), Problem>;

    /// Who it is.
    fn meta(&self) -> &Meta;

    /// Who it is.
    fn meta_mut(&mut self) -> &mut Meta;

    /// A hash by which reconcile finds objects other than by key (slices by their Service); 0:
    /// none.
    fn tag(&self) -> u64 {
        0
    }

    /// Digest of the own status entries as the API server has them; 0 for kinds without status.
    fn observed(&self) -> u64 {
        0
    }

    /// Packs what the status of this object needs when it is refused, as much as there is room
    /// for; nothing for kinds without status.
    fn pack_outline(&self, _out: &mut Packer<'_>) {}

    /// Reads what [`Self::pack_outline`] wrote into a cleared object.
    fn unpack_outline(&mut self, _from: &mut Unpacker<'_>) {}
}
