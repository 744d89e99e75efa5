//! Service (v1): its ports, by which EndpointSlices are read, and its addresses, which Gateways get
//! that are behind it (`--gateway-service`).

use super::decode::{self, Problem, array, invalid_member, keep, port, string, too_large};
use super::document::Value;
use super::{Kind, Meta, Object};
use crate::limits::{MAX_ADDRESSES_PER_GATEWAY, MAX_PORTS_PER_SERVICE};
use crate::stdx::{Arena, Table, Text};

/// A port of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServicePort {
    /// name; empty when the Service has one port.
    pub name: Text,
    /// port.
    pub port: u16,
    /// targetPort, the port itself when absent; 0 when it is a name.
    pub target_port: u16,
    /// appProtocol; empty when absent.
    pub app_protocol: Text,
    /// protocol is TCP.
    pub is_tcp: bool,
}

crate::pack_struct!(ServicePort { name, port, target_port, app_protocol, is_tcp });

/// An address at which a Service is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceAddress {
    /// An IP address or a hostname, as written.
    pub value: Text,
    /// It is a hostname.
    pub is_hostname: bool,
}

crate::pack_struct!(ServiceAddress { value, is_hostname });

/// What serval reads of a Service.
#[derive(Debug)]
pub struct Service {
    /// Who it is.
    pub meta: Meta,
    /// spec.type is ExternalName: refused as a backend.
    pub is_external_name: bool,
    /// spec.ports.
    pub ports: Table<ServicePort, { MAX_PORTS_PER_SERVICE as usize }>,
    /// status.loadBalancer.ingress, else spec.externalIPs, else spec.clusterIPs; at most as many
    /// as a Gateway can have.
    pub addresses: Table<ServiceAddress, { MAX_ADDRESSES_PER_GATEWAY as usize }>,
    /// Strings.
    pub text: Arena<4096>,
}

crate::pack_struct!(Service { meta, is_external_name, ports, addresses, text });
crate::zeroed_struct!(Service {
    meta: Meta,
    is_external_name: bool,
    ports: Table<ServicePort, { MAX_PORTS_PER_SERVICE as usize }>,
    addresses: Table<ServiceAddress, { MAX_ADDRESSES_PER_GATEWAY as usize }>,
    text: Arena<4096>,
});

impl Service {
    /// The port at which endpoints listen for a port of the Service; None when the Service has no
    /// such TCP port, or names the target, which only an EndpointSlice resolves.
    pub fn target(&self, port: u16) -> Option<u16> {
        let found = self.ports.as_slice().iter().find(|p| p.is_tcp && p.port == port)?;
        (found.target_port != 0).then_some(found.target_port)
    }

    /// Reads the addresses. What does not fit is left out: backends do not need it.
    fn read_addresses(&mut self, value: Value<'_>, spec: Value<'_>) {
        for item in value.at(&["status", "loadBalancer", "ingress"]).iter().flat_map(|i| i.items())
        {
            match (item.text("ip"), item.text("hostname")) {
                ("", hostname) => self.add_address(hostname, true),
                (ip, _) => self.add_address(ip, false),
            }
        }
        for member in ["externalIPs", "clusterIPs"] {
            if self.addresses.is_empty() {
                for item in spec.get(member).iter().flat_map(|i| i.items()) {
                    self.add_address(item.str().unwrap_or(""), false);
                }
            }
        }
    }

    fn add_address(&mut self, value: &str, is_hostname: bool) {
        // A headless Service has the clusterIP None.
        if matches!(value, "" | "None") {
            return;
        }
        if let Ok(value) = self.text.push(value) {
            let _ = self.addresses.push(ServiceAddress { value, is_hostname });
        }
    }
}

impl Object for Service {
    const KIND: Kind = Kind::Service;

    fn decode(&mut self, value: Value<'_>, _controller: &str) -> Result<(), Problem> {
        self.ports.set_cap_cleared(MAX_PORTS_PER_SERVICE);
        self.addresses.set_cap_cleared(MAX_ADDRESSES_PER_GATEWAY);
        self.text.set_cap_cleared(self.text.ceiling());
        self.meta = decode::meta(value, false)?;
        let spec = value.get("spec").ok_or_else(|| invalid_member(value, "spec", "is required"))?;
        self.is_external_name = string(spec, "type")? == Some("ExternalName");
        for item in array(spec, "ports", u32::MAX)? {
            let number =
                port(item, "port")?.ok_or_else(|| invalid_member(item, "port", "is required"))?;
            let target_port = match item.get("targetPort") {
                Some(target) => target.int().and_then(|p| u16::try_from(p).ok()).unwrap_or(0),
                None => number,
            };
            let entry = ServicePort {
                name: keep(&mut self.text, string(item, "name")?.unwrap_or(""))?,
                port: number,
                target_port,
                app_protocol: keep(&mut self.text, string(item, "appProtocol")?.unwrap_or(""))?,
                is_tcp: string(item, "protocol")?.is_none_or(|p| p == "TCP"),
            };
            self.ports.push(entry).map_err(too_large("MAX_PORTS_PER_SERVICE"))?;
        }
        self.read_addresses(value, spec);
        Ok(())
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }
}
