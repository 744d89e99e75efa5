//! GatewayClass (gateway.networking.k8s.io/v1).

use super::decode::{self, Problem, invalid_member, keep};
use super::digest;
use super::document::Value;
use super::{Kind, Meta, Object};
use crate::stdx::pack::{Packer, Unpacker};
use crate::stdx::{Arena, Text};

/// What serval reads of a GatewayClass.
#[derive(Debug, Default)]
pub struct GatewayClass {
    /// Who it is.
    pub meta: Meta,
    /// spec.controllerName.
    pub controller: Text,
    /// Whether spec.parametersRef is set.
    pub has_parameters: bool,
    /// Digest of the own status.
    pub observed: u64,
    /// Strings.
    pub text: Arena<512>,
}

crate::pack_struct!(GatewayClass { meta, controller, has_parameters, observed, text });
crate::zeroed_struct!(GatewayClass {
    meta: Meta,
    controller: Text,
    has_parameters: bool,
    observed: u64,
    text: Arena<512>,
});

impl Object for GatewayClass {
    const KIND: Kind = Kind::GatewayClass;

    fn decode(&mut self, value: Value<'_>, _controller: &str) -> Result<(), Problem> {
        *self = Self::default();
        self.meta = decode::meta(value, true)?;
        let status = value.get("status").unwrap_or(value.nothing());
        self.observed = digest::of_status(Self::KIND, status, "");
        let spec = value.get("spec").ok_or_else(|| invalid_member(value, "spec", "is required"))?;
        let controller = decode::required(spec, "controllerName")?;
        if controller.len() > 253 || !controller.contains('/') {
            return Err(invalid_member(spec, "controllerName", "must be domain/path"));
        }
        self.controller = keep(&mut self.text, controller)?;
        self.has_parameters = spec.get("parametersRef").is_some();
        Ok(())
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }

    fn observed(&self) -> u64 {
        self.observed
    }

    fn pack_outline(&self, out: &mut Packer<'_>) {
        // Longer than an outline: then it is not ours, and gets no status.
        let _ = out.put_str(self.text.get(self.controller));
    }

    fn unpack_outline(&mut self, from: &mut Unpacker<'_>) {
        *self = Self::default();
        if from.rest() > 0 {
            self.controller = self.text.push(from.take_str()).expect("packed from one");
        }
    }
}
