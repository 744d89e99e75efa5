//! EndpointSlice (discovery.k8s.io/v1): the endpoints behind a Service.

use super::decode::{self, Problem, array, keep, port, required, string, too_large};
use super::document::Value;
use super::{Key, Kind, Meta, Object};
use crate::limits::{MAX_ENDPOINTS_PER_SLICE, MAX_PORTS_PER_SERVICE};
use crate::stdx::{Arena, Table, Text};
use core::net::{IpAddr, Ipv6Addr};

/// A port of a slice; it belongs to the Service port of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlicePort {
    /// name; empty when the Service has one port.
    pub name: Text,
    /// port; 0 when absent (all ports: not usable for a proxy).
    pub port: u16,
}

crate::pack_struct!(SlicePort { name, port });

/// An endpoint's address and conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The first address; IPv4 as IPv4-mapped IPv6.
    pub address: [u8; 16],
    /// conditions.ready; absent means true.
    pub ready: bool,
    /// conditions.serving; absent means as ready.
    pub serving: bool,
    /// conditions.terminating; absent means false.
    pub terminating: bool,
}

crate::pack_struct!(Endpoint { address, ready, serving, terminating });

impl Endpoint {
    /// The address.
    pub fn ip(&self) -> IpAddr {
        let address = Ipv6Addr::from(self.address);
        address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
    }
}

/// What serval reads of an EndpointSlice.
#[derive(Debug)]
pub struct EndpointSlice {
    /// Who it is.
    pub meta: Meta,
    /// Label kubernetes.io/service-name: the Service, in the same namespace.
    pub service: Text,
    /// ports.
    pub ports: Table<SlicePort, { MAX_PORTS_PER_SERVICE as usize }>,
    /// endpoints with an IP address.
    pub endpoints: Table<Endpoint, { MAX_ENDPOINTS_PER_SLICE as usize }>,
    /// Strings.
    pub text: Arena<4096>,
}

crate::pack_struct!(EndpointSlice { meta, service, ports, endpoints, text });
crate::zeroed_struct!(EndpointSlice {
    meta: Meta,
    service: Text,
    ports: Table<SlicePort, { MAX_PORTS_PER_SERVICE as usize }>,
    endpoints: Table<Endpoint, { MAX_ENDPOINTS_PER_SLICE as usize }>,
    text: Arena<4096>,
});

impl Object for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;

    fn decode(&mut self, value: Value<'_>, _controller: &str) -> Result<(), Problem> {
        self.ports.set_cap_cleared(MAX_PORTS_PER_SERVICE);
        self.endpoints.set_cap_cleared(MAX_ENDPOINTS_PER_SLICE);
        self.text.set_cap_cleared(self.text.ceiling());
        self.meta = decode::meta(value, false)?;
        let service = value.at(&["metadata", "labels", "kubernetes.io/service-name"]);
        self.service = keep(&mut self.text, service.and_then(Value::str).unwrap_or(""))?;
        let family = required(value, "addressType")?;
        for item in array(value, "ports", u32::MAX)? {
            if string(item, "protocol")?.is_some_and(|p| p != "TCP") {
                continue;
            }
            let name = keep(&mut self.text, string(item, "name")?.unwrap_or(""))?;
            let entry = SlicePort { name, port: port(item, "port")?.unwrap_or(0) };
            self.ports.push(entry).map_err(too_large("MAX_PORTS_PER_SERVICE"))?;
        }
        if family != "IPv4" && family != "IPv6" {
            return Ok(());
        }
        for item in array(value, "endpoints", u32::MAX)? {
            if let Some(endpoint) = endpoint(item) {
                self.endpoints.push(endpoint).map_err(too_large("MAX_ENDPOINTS_PER_SLICE"))?;
            }
        }
        Ok(())
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }

    fn tag(&self) -> u64 {
        Key::hash_of(self.meta.key.namespace.as_str(), self.text.get(self.service))
    }
}

/// The first address counts: the API calls all of an endpoint's addresses fungible.
fn endpoint(item: Value<'_>) -> Option<Endpoint> {
    let address: IpAddr = item.get("addresses")?.items().next()?.str()?.parse().ok()?;
    let condition = |name| item.at(&["conditions", name]).and_then(Value::bool);
    let ready = condition("ready").unwrap_or(true);
    Some(Endpoint {
        address: match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        },
        ready,
        serving: condition("serving").unwrap_or(ready),
        terminating: condition("terminating").unwrap_or(false),
    })
}
