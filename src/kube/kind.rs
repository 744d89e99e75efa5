//! The kinds that serval watches, and where the API serves them.

/// A watched kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the API's own names")]
pub enum Watched {
    GatewayClass,
    Gateway,
    HttpRoute,
    Service,
    EndpointSlice,
    Secret,
    Namespace,
    ReferenceGrant,
}

crate::zeroed_enum!(Watched { GatewayClass });

/// How the API serves a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// `kind` of its objects.
    pub name: &'static str,
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Versions, the preferred one first; the next is tried when one answers 404.
    pub versions: &'static [&'static str],
    /// Resource name in paths.
    pub plural: &'static str,
    /// Whether objects lie in namespaces.
    pub namespaced: bool,
    /// Whether the client works without it: not served counts as synced and empty.
    pub optional: bool,
    /// `fieldSelector` of list and watch, empty for none.
    pub field_selector: &'static str,
}

const GATEWAY: Served = Served {
    name: "Gateway",
    group: "gateway.networking.k8s.io",
    versions: &["v1"],
    plural: "gateways",
    namespaced: true,
    optional: false,
    field_selector: "",
};

const CORE: Served = Served {
    name: "Service",
    group: "",
    versions: &["v1"],
    plural: "services",
    namespaced: true,
    optional: false,
    field_selector: "",
};

const SERVED: [Served; 8] = [
    Served { name: "GatewayClass", plural: "gatewayclasses", namespaced: false, ..GATEWAY },
    GATEWAY,
    Served { name: "HTTPRoute", plural: "httproutes", ..GATEWAY },
    CORE,
    Served { name: "EndpointSlice", group: "discovery.k8s.io", plural: "endpointslices", ..CORE },
    // A cluster may hold thousands of large Secrets that nobody refers to (Helm releases).
    Served { name: "Secret", plural: "secrets", field_selector: "type=kubernetes.io/tls", ..CORE },
    Served { name: "Namespace", plural: "namespaces", namespaced: false, ..CORE },
    // In the standard channel as v1beta1 since 0.6, as v1 since 1.5 (GEP-709).
    Served {
        name: "ReferenceGrant",
        versions: &["v1", "v1beta1"],
        plural: "referencegrants",
        optional: true,
        ..GATEWAY
    },
];

impl Watched {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Watched; 8] = [
        Watched::GatewayClass,
        Watched::Gateway,
        Watched::HttpRoute,
        Watched::Service,
        Watched::EndpointSlice,
        Watched::Secret,
        Watched::Namespace,
        Watched::ReferenceGrant,
    ];

    /// How the API serves it.
    pub fn served(self) -> &'static Served {
        &SERVED[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_numbers() {
        let names = [
            "GatewayClass",
            "Gateway",
            "HTTPRoute",
            "Service",
            "EndpointSlice",
            "Secret",
            "Namespace",
            "ReferenceGrant",
        ];
        for (at, kind) in Watched::ALL.into_iter().enumerate() {
            assert_eq!((kind as usize, kind.served().name), (at, names[at]));
            assert!(!kind.served().versions.is_empty());
        }
    }
}
