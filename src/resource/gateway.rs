//! Gateway (gateway.networking.k8s.io/v1).

use super::decode::{
    self, Problem, array, invalid, invalid_member, keep, port, required, string, too_large,
};
use super::digest;
use super::document::Value;
use super::{Kind, Meta, Object};
use crate::config::snapshot::hostname_valid;
use crate::limits::*;
use crate::stdx::pack::{Packer, Unpacker};
use crate::stdx::{Arena, Span, Table, Text};

/// allowedRoutes.namespaces.from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the values of the API field")]
pub enum From {
    #[default]
    Same,
    All,
    Selector,
    None,
}

crate::pack_enum!(From { Same, All, Selector, None });

/// One requirement of a label selector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelectorTerm {
    /// Label key.
    pub key: Text,
    /// Operator; matchLabels are `In` with one value.
    pub operator: Operator,
    /// Values, joined by `,` (no label value holds one).
    pub values: Text,
}

/// matchExpressions[].operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the values of the API field")]
pub enum Operator {
    #[default]
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

crate::pack_enum!(Operator { In, NotIn, Exists, DoesNotExist });
crate::pack_struct!(SelectorTerm { key, operator, values });

/// A kind in allowedRoutes.kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteKind {
    /// group; defaulted.
    pub group: Text,
    /// kind.
    pub kind: Text,
}

crate::pack_struct!(RouteKind { group, kind });

/// spec.listeners[].tls.certificateRefs[].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CertificateRef {
    /// group; empty: core.
    pub group: Text,
    /// kind; defaulted to Secret.
    pub kind: Text,
    /// namespace as written; empty: the Gateway's own.
    pub namespace: Text,
    /// name.
    pub name: Text,
}

crate::pack_struct!(CertificateRef { group, kind, namespace, name });

/// spec.listeners[].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// name.
    pub name: Text,
    /// hostname in lower case; empty: all.
    pub hostname: Text,
    /// port.
    pub port: u16,
    /// protocol as written.
    pub protocol: Text,
    /// allowedRoutes.namespaces.from.
    pub from: From,
    /// allowedRoutes.namespaces.selector: span of [`Gateway::terms`].
    pub selector: Span,
    /// allowedRoutes.kinds: span of [`Gateway::kinds`]; empty: all kinds of the protocol.
    pub kinds: Span,
    /// tls.certificateRefs: span of [`Gateway::certificates`].
    pub certificates: Span,
    /// observedGeneration of its own Programmed=True condition; -1 when it is not True.
    pub programmed_generation: i64,
}

crate::pack_struct!(Listener {
    name,
    hostname,
    port,
    protocol,
    from,
    selector,
    kinds,
    certificates,
    programmed_generation,
});

/// spec.addresses[] and status.addresses[].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// type; IPAddress when absent.
    pub kind: Text,
    /// value; empty: assign one.
    pub value: Text,
}

crate::pack_struct!(Address { kind, value });

/// What serval reads of a Gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Who it is.
    pub meta: Meta,
    /// spec.gatewayClassName.
    pub class: Text,
    /// Whether spec.infrastructure.parametersRef is set.
    pub has_parameters: bool,
    /// spec.listeners.
    pub listeners: Table<Listener, { MAX_LISTENERS_PER_GATEWAY as usize }>,
    /// Selector requirements of all listeners.
    pub terms: Table<SelectorTerm, { MAX_SELECTOR_TERMS as usize * 4 }>,
    /// Route kinds of all listeners.
    pub kinds: Table<RouteKind, { MAX_LISTENERS_PER_GATEWAY as usize * 2 }>,
    /// certificateRefs of all listeners.
    pub certificates: Table<CertificateRef, { MAX_CERTIFICATE_REFS_PER_GATEWAY as usize }>,
    /// spec.addresses.
    pub addresses: Table<Address, { MAX_ADDRESSES_PER_GATEWAY as usize }>,
    /// status.addresses: the addresses it has, which it keeps.
    pub assigned: Table<Address, { MAX_ADDRESSES_PER_GATEWAY as usize }>,
    /// Digest of the own status.
    pub observed: u64,
    /// observedGeneration of the own Programmed=True condition; -1 when it is not True.
    pub programmed_generation: i64,
    /// Strings.
    pub text: Arena<{ MAX_OBJECT_TEXT_BYTES as usize }>,
}

crate::pack_struct!(Gateway {
    meta,
    class,
    has_parameters,
    listeners,
    terms,
    kinds,
    certificates,
    addresses,
    assigned,
    observed,
    programmed_generation,
    text,
});
crate::zeroed_struct!(Gateway {
    meta: Meta,
    class: Text,
    has_parameters: bool,
    listeners: Table<Listener, { MAX_LISTENERS_PER_GATEWAY as usize }>,
    terms: Table<SelectorTerm, { MAX_SELECTOR_TERMS as usize * 4 }>,
    kinds: Table<RouteKind, { MAX_LISTENERS_PER_GATEWAY as usize * 2 }>,
    certificates: Table<CertificateRef, { MAX_CERTIFICATE_REFS_PER_GATEWAY as usize }>,
    addresses: Table<Address, { MAX_ADDRESSES_PER_GATEWAY as usize }>,
    assigned: Table<Address, { MAX_ADDRESSES_PER_GATEWAY as usize }>,
    observed: u64,
    programmed_generation: i64,
    text: Arena<{ MAX_OBJECT_TEXT_BYTES as usize }>,
});

impl Gateway {
    fn clear(&mut self) {
        self.meta = Meta::default();
        (self.class, self.has_parameters) = (Text::EMPTY, false);
        self.listeners.set_cap_cleared(MAX_LISTENERS_PER_GATEWAY);
        self.terms.set_cap_cleared(MAX_SELECTOR_TERMS * 4);
        self.kinds.set_cap_cleared(MAX_LISTENERS_PER_GATEWAY * 2);
        self.certificates.set_cap_cleared(MAX_CERTIFICATE_REFS_PER_GATEWAY);
        self.addresses.set_cap_cleared(MAX_ADDRESSES_PER_GATEWAY);
        self.assigned.set_cap_cleared(MAX_ADDRESSES_PER_GATEWAY);
        (self.observed, self.programmed_generation) = (0, -1);
        self.text.set_cap_cleared(MAX_OBJECT_TEXT_BYTES);
    }

    fn listener(&mut self, item: Value<'_>) -> Result<(), Problem> {
        let name = required(item, "name")?;
        if !decode::is_subdomain(name) {
            return Err(invalid_member(item, "name", "must be a lower case RFC 1123 subdomain"));
        }
        let known = self.listeners.as_slice().iter().any(|l| self.text.get(l.name) == name);
        if known {
            return Err(invalid_member(item, "name", "must be unique within the Gateway"));
        }
        let number = port(item, "port")?;
        let number = number.ok_or_else(|| invalid_member(item, "port", "is required"))?;
        let protocol = required(item, "protocol")?;
        let hostname = string(item, "hostname")?.unwrap_or("");
        if !hostname_valid(hostname) {
            return Err(invalid_member(item, "hostname", "must be exact or *.suffix, lower case"));
        }
        if matches!(protocol, "TCP" | "UDP") && !hostname.is_empty() {
            return Err(invalid_member(item, "hostname", "must not be set for TCP and UDP"));
        }
        match (protocol, item.get("tls")) {
            ("HTTPS" | "TLS", None) => {
                return Err(invalid_member(item, "tls", "must be set for HTTPS and TLS"));
            }
            ("HTTP" | "TCP" | "UDP", Some(tls)) => {
                return Err(invalid(tls, "must not be set for HTTP, TCP and UDP"));
            }
            _ => {}
        }
        let twin = |l: &Listener| {
            l.port == number
                && self.text.get(l.protocol) == protocol
                && self.text.get(l.hostname) == hostname
        };
        if self.listeners.as_slice().iter().any(twin) {
            let what = "port, protocol and hostname must be unique within the Gateway";
            return Err(invalid(item, what));
        }
        let allowed = item.get("allowedRoutes").unwrap_or(item.nothing());
        let (from, selector) = self.namespaces(allowed)?;
        let kinds = self.route_kinds(allowed)?;
        let certificates = match item.get("tls") {
            Some(tls) => self.certificate_refs(tls, protocol)?,
            None => Span::EMPTY,
        };
        let listener = Listener {
            name: keep(&mut self.text, name)?,
            hostname: keep(&mut self.text, hostname)?,
            port: number,
            protocol: keep(&mut self.text, protocol)?,
            from,
            selector,
            kinds,
            certificates,
            programmed_generation: -1,
        };
        let pushed = self.listeners.push(listener);
        pushed.map(|_| ()).map_err(too_large("MAX_LISTENERS_PER_GATEWAY"))
    }

    fn certificate_refs(&mut self, tls: Value<'_>, protocol: &str) -> Result<Span, Problem> {
        let start = self.certificates.len();
        let is_terminated = match string(tls, "mode")? {
            None | Some("Terminate") => true,
            Some("Passthrough") => false,
            Some(_) => return Err(invalid_member(tls, "mode", "must be Terminate or Passthrough")),
        };
        if protocol == "HTTPS" && !is_terminated {
            return Err(invalid_member(tls, "mode", "must be Terminate for HTTPS"));
        }
        for item in array(tls, "certificateRefs", MAX_CERTIFICATE_REFS_PER_LISTENER)? {
            let entry = CertificateRef {
                group: keep(&mut self.text, string(item, "group")?.unwrap_or(""))?,
                kind: keep(&mut self.text, string(item, "kind")?.unwrap_or("Secret"))?,
                namespace: keep(&mut self.text, string(item, "namespace")?.unwrap_or(""))?,
                name: keep(&mut self.text, required(item, "name")?)?,
            };
            let pushed = self.certificates.push(entry);
            pushed.map_err(too_large("MAX_CERTIFICATE_REFS_PER_GATEWAY"))?;
        }
        let has_options = tls.get("options").is_some_and(|o| o.items().next().is_some());
        if is_terminated && self.certificates.len() == start && !has_options {
            let what = "must have at least one item, or options must be set, for Terminate";
            return Err(invalid_member(tls, "certificateRefs", what));
        }
        Ok(self.certificates.span_from(start))
    }

    fn namespaces(&mut self, allowed: Value<'_>) -> Result<(From, Span), Problem> {
        let Some(namespaces) = allowed.get("namespaces") else {
            return Ok((From::Same, Span::EMPTY));
        };
        let from = match string(namespaces, "from")? {
            None | Some("Same") => From::Same,
            Some("All") => From::All,
            Some("Selector") => From::Selector,
            Some("None") => From::None,
            Some(_) => {
                let what = "must be All, Selector, Same or None";
                return Err(invalid_member(namespaces, "from", what));
            }
        };
        let Some(selector) = namespaces.get("selector") else { return Ok((from, Span::EMPTY)) };
        let start = self.terms.len();
        for label in selector.get("matchLabels").iter().flat_map(|l| l.items()) {
            let key = keep(&mut self.text, label.name())?;
            let values = keep(&mut self.text, label.str().unwrap_or(""))?;
            let term = SelectorTerm { key, operator: Operator::In, values };
            self.terms.push(term).map_err(too_large("MAX_SELECTOR_TERMS"))?;
        }
        for expression in array(selector, "matchExpressions", u32::MAX)? {
            self.expression(expression)?;
        }
        Ok((from, self.terms.span_from(start)))
    }

    fn expression(&mut self, expression: Value<'_>) -> Result<(), Problem> {
        let operator = match required(expression, "operator")? {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => {
                let what = "must be In, NotIn, Exists or DoesNotExist";
                return Err(invalid_member(expression, "operator", what));
            }
        };
        let key = keep(&mut self.text, required(expression, "key")?)?;
        let start = self.text.len();
        for (index, value) in array(expression, "values", u32::MAX)?.enumerate() {
            if index > 0 {
                keep(&mut self.text, ",")?;
            }
            keep(&mut self.text, value.str().unwrap_or(""))?;
        }
        let values = Text { offset: start, len: self.text.len() - start };
        let term = SelectorTerm { key, operator, values };
        self.terms.push(term).map(|_| ()).map_err(too_large("MAX_SELECTOR_TERMS"))
    }

    fn route_kinds(&mut self, allowed: Value<'_>) -> Result<Span, Problem> {
        let start = self.kinds.len();
        for item in array(allowed, "kinds", 8)? {
            let group = string(item, "group")?.unwrap_or(Kind::Gateway.group());
            let entry = RouteKind {
                group: keep(&mut self.text, group)?,
                kind: keep(&mut self.text, required(item, "kind")?)?,
            };
            self.kinds.push(entry).map_err(too_large("MAX_LISTENERS_PER_GATEWAY"))?;
        }
        Ok(self.kinds.span_from(start))
    }

    fn observe(&mut self, status: Value<'_>) -> Result<(), Problem> {
        for address in status.get("addresses").iter().flat_map(|a| a.items()) {
            let kind = keep(&mut self.text, address.text("type"))?;
            let value = keep(&mut self.text, address.text("value"))?;
            // More than the API allows cannot come; what does not fit is not history.
            let _ = self.assigned.push(Address { kind, value });
        }
        self.observed = digest::of_status(Self::KIND, status, "");
        self.programmed_generation = programmed_generation(status);
        Ok(())
    }

    fn observe_listeners(&mut self, status: Value<'_>) {
        let Gateway { listeners, text, .. } = self;
        for said in status.get("listeners").iter().flat_map(|l| l.items()) {
            let mut own = listeners.as_mut_slice().iter_mut();
            if let Some(own) = own.find(|l| text.get(l.name) == said.text("name")) {
                own.programmed_generation = programmed_generation(said);
            }
        }
    }
}

/// Of a Gateway's status or a listener's: -1 when it is not programmed.
fn programmed_generation(status: Value<'_>) -> i64 {
    let programmed = status
        .get("conditions")
        .iter()
        .flat_map(|c| c.items())
        .find(|c| (c.text("type"), c.text("status")) == ("Programmed", "True"));
    let generation = programmed.and_then(|c| c.get("observedGeneration")).and_then(Value::int);
    generation.unwrap_or(-1)
}

impl Object for Gateway {
    const KIND: Kind = Kind::Gateway;

    fn decode(&mut self, value: Value<'_>, _controller: &str) -> Result<(), Problem> {
        self.clear();
        self.meta = decode::meta(value, false)?;
        let status = value.get("status").unwrap_or(value.nothing());
        self.observe(status)?;
        let spec = value.get("spec").ok_or_else(|| invalid_member(value, "spec", "is required"))?;
        self.class = keep(&mut self.text, required(spec, "gatewayClassName")?)?;
        self.has_parameters = spec.at(&["infrastructure", "parametersRef"]).is_some();
        for item in array(spec, "listeners", MAX_LISTENERS_PER_GATEWAY)? {
            self.listener(item)?;
        }
        if self.listeners.is_empty() {
            return Err(invalid_member(spec, "listeners", "must have at least one item"));
        }
        self.observe_listeners(status);
        for item in array(spec, "addresses", MAX_ADDRESSES_PER_GATEWAY)? {
            let kind = keep(&mut self.text, string(item, "type")?.unwrap_or("IPAddress"))?;
            let value = keep(&mut self.text, string(item, "value")?.unwrap_or(""))?;
            let pushed = self.addresses.push(Address { kind, value });
            pushed.map_err(too_large("MAX_ADDRESSES_PER_GATEWAY"))?;
        }
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
        // Names of classes are shorter than an outline.
        let _ = out.put_str(self.text.get(self.class));
    }

    fn unpack_outline(&mut self, from: &mut Unpacker<'_>) {
        self.clear();
        if from.rest() > 0 {
            self.class = self.text.push(from.take_str()).expect("packed from one");
        }
    }
}
