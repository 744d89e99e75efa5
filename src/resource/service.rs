//! Service (v1): its ports, by which EndpointSlices are read.

use super::decode::{self, Problem, array, invalid_member, keep, port, string, too_large};
use super::document::Value;
use super::{Kind, Meta, Object};
use crate::limits::MAX_PORTS_PER_SERVICE;
use crate::stdx::{Arena, Table, Text};

/// A port of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServicePort {
    /// name; empty when the Service has one port.
    pub name: Text,
    /// port.
    pub port: u16,
    /// targetPort when it is a number; for standalone, where no EndpointSlice says it.
    pub target_port: u16,
    /// appProtocol; empty when absent.
    pub app_protocol: Text,
    /// protocol is TCP.
    pub is_tcp: bool,
}

crate::pack_struct!(ServicePort { name, port, target_port, app_protocol, is_tcp });

/// What serval reads of a Service.
#[derive(Debug)]
pub struct Service {
    /// Who it is.
    pub meta: Meta,
    /// spec.type is ExternalName: refused as a backend.
    pub is_external_name: bool,
    /// spec.ports.
    pub ports: Table<ServicePort, { MAX_PORTS_PER_SERVICE as usize }>,
    /// Strings.
    pub text: Arena<4096>,
}

crate::pack_struct!(Service { meta, is_external_name, ports, text });
crate::zeroed_struct!(Service {
    meta: Meta,
    is_external_name: bool,
    ports: Table<ServicePort, { MAX_PORTS_PER_SERVICE as usize }>,
    text: Arena<4096>,
});

impl Object for Service {
    const KIND: Kind = Kind::Service;

    fn decode(&mut self, value: Value<'_>, _controller: &str) -> Result<(), Problem> {
        self.ports.set_cap_cleared(MAX_PORTS_PER_SERVICE);
        self.text.set_cap_cleared(self.text.ceiling());
        self.meta = decode::meta(value, false)?;
        let spec = value.get("spec").ok_or_else(|| invalid_member(value, "spec", "is required"))?;
        self.is_external_name = string(spec, "type")? == Some("ExternalName");
        for item in array(spec, "ports", u32::MAX)? {
            let number =
                port(item, "port")?.ok_or_else(|| invalid_member(item, "port", "is required"))?;
            let target = item.get("targetPort").and_then(Value::int);
            let target_port = target.and_then(|p| u16::try_from(p).ok()).unwrap_or(number);
            let entry = ServicePort {
                name: keep(&mut self.text, string(item, "name")?.unwrap_or(""))?,
                port: number,
                target_port,
                app_protocol: keep(&mut self.text, string(item, "appProtocol")?.unwrap_or(""))?,
                is_tcp: string(item, "protocol")?.is_none_or(|p| p == "TCP"),
            };
            self.ports.push(entry).map_err(too_large("MAX_PORTS_PER_SERVICE"))?;
        }
        Ok(())
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }
}
