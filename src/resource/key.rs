//! Who an object is: kind, namespace/name, uid, age.

use crate::limits::{MAX_LABEL_BYTES, MAX_NAME_BYTES};
use crate::stdx::{Full, Short, Wall, fnv::Fnv};
use core::fmt;

/// The kinds serval watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the kinds of the Kubernetes API by their names")]
pub enum Kind {
    GatewayClass,
    Gateway,
    HttpRoute,
    Service,
    EndpointSlice,
    Secret,
    Namespace,
    ReferenceGrant,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 8] = [
        Kind::GatewayClass,
        Kind::Gateway,
        Kind::HttpRoute,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::Secret,
        Kind::Namespace,
        Kind::ReferenceGrant,
    ];

    /// As `kind:` in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Kind::GatewayClass => "GatewayClass",
            Kind::Gateway => "Gateway",
            Kind::HttpRoute => "HTTPRoute",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Secret => "Secret",
            Kind::Namespace => "Namespace",
            Kind::ReferenceGrant => "ReferenceGrant",
        }
    }

    /// The API group.
    pub fn group(self) -> &'static str {
        match self {
            Kind::Service | Kind::Secret | Kind::Namespace => "",
            Kind::EndpointSlice => "discovery.k8s.io",
            _ => "gateway.networking.k8s.io",
        }
    }

    /// The API versions serval reads, the preferred one first.
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Kind::ReferenceGrant => &["v1", "v1beta1"],
            _ => &["v1"],
        }
    }

    /// Whether objects have no namespace.
    pub fn is_cluster_scoped(self) -> bool {
        matches!(self, Kind::GatewayClass | Kind::Namespace)
    }

    /// Finds the kind of a manifest; None for kinds and versions that serval does not read.
    pub fn of(api_version: &str, kind: &str) -> Option<Kind> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        Kind::ALL
            .into_iter()
            .find(|k| k.name() == kind && k.group() == group && k.versions().contains(&version))
    }
}

/// Namespace and name of an object; no namespace when cluster-scoped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// metadata.namespace.
    pub namespace: Short<{ MAX_LABEL_BYTES as usize }>,
    /// metadata.name.
    pub name: Short<{ MAX_NAME_BYTES as usize }>,
}

crate::pack_struct!(Key { namespace, name });
crate::zeroed_struct!(Key {
    namespace: Short<{ MAX_LABEL_BYTES as usize }>,
    name: Short<{ MAX_NAME_BYTES as usize }>,
});

impl Key {
    /// From its parts, unless one is longer than Kubernetes allows.
    pub fn new(namespace: &str, name: &str) -> Result<Key, Full> {
        Ok(Key { namespace: Short::new(namespace)?, name: Short::new(name)? })
    }

    /// A hash for tables.
    pub fn hash(&self) -> u64 {
        Key::hash_of(self.namespace.as_str(), self.name.as_str())
    }

    /// The hash of the key with these parts.
    pub fn hash_of(namespace: &str, name: &str) -> u64 {
        let mut hash = Fnv::new();
        hash.write(namespace.as_bytes());
        hash.write(b"/");
        hash.write(name.as_bytes());
        hash.finish()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return self.name.fmt(f);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The parts of metadata that every object has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// metadata.namespace and name.
    pub key: Key,
    /// metadata.uid; empty in standalone.
    pub uid: Short<40>,
    /// metadata.creationTimestamp; in standalone the position of the document.
    pub created: u64,
    /// metadata.generation; observedGeneration in conditions.
    pub generation: i64,
}

crate::pack_struct!(Meta { key, uid, created, generation });
crate::zeroed_struct!(Meta { key: Key, uid: Short<40>, created: u64, generation: i64 });

impl Meta {
    /// Oldest first, then by namespace/name (Gateway API: conflicts, precedence).
    pub fn age(&self) -> (u64, &Key) {
        (self.created, &self.key)
    }

    /// metadata.creationTimestamp as a moment.
    pub fn created_at(&self) -> Wall {
        Wall(self.created)
    }
}
