//! Which Gateways and listeners are ours, valid and served: conflicts, addresses, binds.
//!
//! In: GatewayClasses and Gateways, oldest first. Out: [`GatewayState`] and [`ListenerState`] for
//! attachment and status; binds and listeners of the Snapshot.

use super::address_modes::{self, AddressMode};
use super::addresses::Assigned;
use super::certificates::{self, RefProblem};
use super::{Settings, Work};
use crate::config::Snapshot;
use crate::config::snapshot::{self, Bind, Protocol, Transport};
use crate::resource::gateway::Gateway;
use crate::resource::store::Handle;
use crate::resource::{GatewayClass, Kind, Stores};
use crate::stdx::{Full, Span, Text};
use core::net::{IpAddr, Ipv6Addr};

/// Why a Gateway is not accepted, or not programmed, before routers are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the reasons of the Gateway API's conditions")]
pub enum GatewayProblem {
    #[default]
    None,
    InvalidParameters,
    UnsupportedAddress,
    AddressNotAssigned,
    AddressNotUsable,
}

/// A Gateway of one of our classes.
#[derive(Clone, Copy, Debug)]
pub struct GatewayState {
    /// In the store of Gateways.
    pub handle: Handle,
    /// Span of [`Work::listeners`], in the order of spec.listeners.
    pub listeners: Span,
    /// Span of [`Work::addresses`].
    pub addresses: Span,
    /// What keeps it from being served.
    pub problem: GatewayProblem,
}

/// Why a listener is not accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the reasons of the Gateway API's listener conditions")]
pub enum ListenerProblem {
    #[default]
    None,
    UnsupportedProtocol,
    HostnameConflict,
    ProtocolConflict,
    PortUnavailable,
    /// PortUnavailable too: the Service of the mode `service` has no such port.
    NotInService,
    /// It does not fit the Snapshot.
    CapacityExceeded,
}

/// What was worked out about a listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenerState {
    /// Why it is not accepted.
    pub problem: ListenerProblem,
    /// allowedRoutes.kinds names a kind that its protocol does not have.
    pub has_invalid_kinds: bool,
    /// HTTPRoutes may attach: by protocol and allowedRoutes.kinds.
    pub takes_http_routes: bool,
    /// The first certificateRef with a problem: its place among the listener's, and which.
    pub certificate: Option<(u32, RefProblem)>,
    /// Index in [`Snapshot::listeners`]; None when it is not served.
    pub index: Option<u32>,
    /// Routes attached.
    pub attached: u32,
}

/// Works out all Gateways and fills binds and listeners of the Snapshot.
pub fn build(
    stores: &Stores,
    settings: &Settings,
    nodes: &[IpAddr],
    work: &mut Work,
    out: &mut Snapshot,
) {
    work.gateways.clear();
    work.listeners.clear();
    work.addresses.clear();
    for handle in stores.gateways.by_age() {
        stores.gateways.load(handle, &mut work.decoder.gateway, &mut work.decoder.scratch);
        if !class_is_ours(stores, settings, work) {
            continue;
        }
        let listeners = judge_listeners(work);
        let gateway = &work.decoder.gateway;
        let problem = if gateway.has_parameters {
            GatewayProblem::InvalidParameters
        } else if has_unsupported_address(gateway) {
            GatewayProblem::UnsupportedAddress
        } else {
            GatewayProblem::None
        };
        let addresses = Span::EMPTY;
        let state = GatewayState { handle, listeners, addresses, problem };
        work.gateways.push(state).expect("as many as the store holds");
    }
    match settings.address_mode() {
        AddressMode::Manifests | AddressMode::Pool => assign_addresses(stores, settings, work),
        AddressMode::Node | AddressMode::Service => {
            address_modes::judge(stores, settings, nodes, work);
        }
    }
    let in_service = settings.address_mode() == AddressMode::Service;
    for index in 0..work.gateways.len() {
        serve(stores, work, index, in_service, out);
    }
}

/// Whether the loaded Gateway's class is ours and accepted.
fn class_is_ours(stores: &Stores, settings: &Settings, work: &mut Work) -> bool {
    let class = work.decoder.gateway.text.get(work.decoder.gateway.class);
    let Some(handle) = stores.classes.find_parts("", class) else { return false };
    let loaded = &mut work.decoder.class;
    stores.classes.load(handle, loaded, &mut work.decoder.scratch);
    is_ours(loaded, settings) && !loaded.has_parameters
}

/// Whether the class names our controller.
pub fn is_ours(class: &GatewayClass, settings: &Settings) -> bool {
    class.text.get(class.controller) == settings.controller.as_str()
}

fn has_unsupported_address(gateway: &Gateway) -> bool {
    gateway.addresses.as_slice().iter().any(|a| gateway.text.get(a.kind) != "IPAddress")
}

/// Judges the listeners of the loaded Gateway by themselves and against each other.
fn judge_listeners(work: &mut Work) -> Span {
    let gateway = &work.decoder.gateway;
    let start = work.listeners.len();
    for listener in gateway.listeners.as_slice() {
        let protocol = gateway.text.get(listener.protocol);
        let kinds = &gateway.kinds.as_slice()[listener.kinds.range()];
        let is_http_route = |group: Text, kind: Text| {
            gateway.text.get(group) == Kind::HttpRoute.group()
                && gateway.text.get(kind) == Kind::HttpRoute.name()
        };
        let of_protocol = matches!(protocol, "HTTP" | "HTTPS");
        let named = kinds.iter().any(|k| is_http_route(k.group, k.kind));
        let invalid = kinds.iter().any(|k| !is_http_route(k.group, k.kind) || !of_protocol);
        let problem = if !of_protocol {
            ListenerProblem::UnsupportedProtocol
        } else {
            conflict(gateway, listener)
        };
        let state = ListenerState {
            problem,
            has_invalid_kinds: invalid,
            takes_http_routes: of_protocol && (kinds.is_empty() || named),
            certificate: None,
            index: None,
            attached: 0,
        };
        work.listeners.push(state).expect("as many as all Gateways can have");
    }
    work.listeners.span_from(start)
}

/// Within a Gateway no conflicting listener wins (GatewaySpec.listeners): on one port, protocols
/// that cannot share it conflict, and listeners of one protocol with the same hostname.
fn conflict(gateway: &Gateway, listener: &crate::resource::gateway::Listener) -> ListenerProblem {
    let text = |t| gateway.text.get(t);
    let layer = |p: &str| match p {
        "HTTPS" | "TLS" => 1,
        "TCP" => 2,
        "UDP" => 3,
        _ => 0,
    };
    for other in gateway.listeners.as_slice() {
        if text(other.name) == text(listener.name) || other.port != listener.port {
            continue;
        }
        let (own, its) = (layer(text(listener.protocol)), layer(text(other.protocol)));
        if own != its && own != 3 && its != 3 {
            return ListenerProblem::ProtocolConflict;
        }
        if own == its && text(other.hostname) == text(listener.hostname) {
            return ListenerProblem::HostnameConflict;
        }
    }
    ListenerProblem::None
}

/// How a Gateway asks for its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It names them.
    Explicit,
    /// It has one already.
    Kept,
    /// It takes what is free.
    Free,
}

fn assign_addresses(stores: &Stores, settings: &Settings, work: &mut Work) {
    for turn in [Turn::Explicit, Turn::Kept, Turn::Free] {
        for index in 0..work.gateways.len() {
            let state = work.gateways[index];
            let unassigned = state.addresses.len == 0 && state.problem == GatewayProblem::None;
            if unassigned {
                let Work { decoder, addresses, .. } = work;
                stores.gateways.load(state.handle, &mut decoder.gateway, &mut decoder.scratch);
                let (span, problem) = assign(&decoder.gateway, settings, addresses, turn);
                work.gateways[index].addresses = span;
                work.gateways[index].problem = problem;
            }
        }
    }
}

fn assign(
    gateway: &Gateway,
    settings: &Settings,
    assigned: &mut Assigned,
    turn: Turn,
) -> (Span, GatewayProblem) {
    let start = assigned.len();
    let text = |t| gateway.text.get(t);
    let wanted = || gateway.addresses.as_slice().iter().filter(|a| !a.value.is_empty());
    if wanted().next().is_some() {
        if turn != Turn::Explicit {
            return (Span::EMPTY, GatewayProblem::None);
        }
        for address in wanted() {
            let usable = text(address.value).parse::<IpAddr>().ok().filter(|&ip| {
                let in_pool = settings.pool.contains(ip) || settings.standalone;
                in_pool && (assigned.take(ip) || settings.standalone)
            });
            if usable.is_none() {
                return (
                    Span { start, len: assigned.len() - start },
                    GatewayProblem::AddressNotUsable,
                );
            }
        }
        return (Span { start, len: assigned.len() - start }, GatewayProblem::None);
    }
    if settings.pool.is_empty() {
        // Manifests in a folder: any address.
        return (Span::EMPTY, GatewayProblem::None);
    }
    match turn {
        Turn::Explicit => {}
        Turn::Kept => {
            let kept = gateway.assigned.as_slice().iter().find_map(|a| {
                let ip = text(a.value).parse::<IpAddr>().ok()?;
                (settings.pool.contains(ip) && assigned.take(ip)).then_some(ip)
            });
            if kept.is_some() {
                return (Span { start, len: 1 }, GatewayProblem::None);
            }
        }
        Turn::Free => {
            let Some(free) = settings.pool.lowest_free(|a| assigned.is_taken(a)) else {
                return (Span::EMPTY, GatewayProblem::AddressNotAssigned);
            };
            if assigned.take(free) {
                return (Span { start, len: 1 }, GatewayProblem::None);
            }
            return (Span::EMPTY, GatewayProblem::AddressNotAssigned);
        }
    }
    (Span::EMPTY, GatewayProblem::None)
}

/// Puts binds, listeners and certificates of one Gateway into the Snapshot. Routers `in_service`,
/// behind the loaded Service, bind where it sends them what comes to a listener's port. What a
/// listener refers to is looked at in any case, for ResolvedRefs; no key stays that none serves.
fn serve(stores: &Stores, work: &mut Work, index: u32, in_service: bool, out: &mut Snapshot) {
    let state = work.gateways[index];
    let Work { decoder, listeners, addresses, .. } = work;
    stores.gateways.load(state.handle, &mut decoder.gateway, &mut decoder.scratch);
    for offset in 0..state.listeners.len {
        let place = &mut listeners[state.listeners.start + offset];
        let listener = decoder.gateway.listeners[offset];
        let (refs, certificates) = (out.certificate_refs.len(), out.certificates.len());
        let (pem, text) = (out.pem.len(), out.text.len());
        let resolved = certificates::resolve(stores, decoder, &listener, out);
        place.certificate = resolved.ok().and_then(|resolved| resolved.problem);
        if state.problem == GatewayProblem::None && place.problem == ListenerProblem::None {
            let port = match in_service {
                true => decoder.service.target(listener.port),
                false => Some(listener.port),
            };
            let at = port.map(|port| (addresses.get(state.addresses), port));
            let served = resolved.map(|resolved| resolved.served);
            match add_listener(&decoder.gateway, &listener, at, served, out) {
                Ok(index) => place.index = index,
                Err(problem) => place.problem = problem,
            }
        }
        if place.index.is_none() {
            out.certificate_refs.truncate(refs);
            out.certificates.truncate(certificates);
            out.pem.truncate(pem);
            out.text.truncate(text);
        }
    }
}

/// None: it has nothing to be served with, as ResolvedRefs says.
fn add_listener(
    gateway: &Gateway,
    listener: &crate::resource::gateway::Listener,
    at: Option<(impl Iterator<Item = IpAddr>, u16)>,
    certificates: Result<Span, Full>,
    out: &mut Snapshot,
) -> Result<Option<u32>, ListenerProblem> {
    let (addresses, port) = at.ok_or(ListenerProblem::NotInService)?;
    let certificates = certificates.map_err(|Full| ListenerProblem::CapacityExceeded)?;
    if listener.certificates.len > 0 && certificates.len == 0 {
        return Ok(None);
    }
    let protocol = Protocol::parse(gateway.text.get(listener.protocol));
    let protocol = protocol.expect("others were judged before");
    let (binds, attachments, text) = (out.binds.len(), out.attachments.len(), out.text.len());
    let full = |Full| ListenerProblem::CapacityExceeded;
    let added = (|| {
        let mut addresses = addresses.peekable();
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let any = addresses.peek().is_none().then_some(any);
        for address in addresses.chain(any) {
            let bind = Bind { transport: Transport::Tcp, address, port, is_tls: protocol.is_tls() };
            let same = |b: &Bind| (b.address, b.port) == (address, port);
            let known = out.binds.as_slice().iter().position(same);
            if known.is_some_and(|index| out.binds[index as u32] != bind) {
                // An older Gateway speaks another protocol there.
                return Err(ListenerProblem::PortUnavailable);
            }
            let bind = match known {
                Some(index) => index as u32,
                None => out.binds.push(bind).map_err(full)?,
            };
            let hostname = gateway.text.get(listener.hostname);
            if known.is_some() && holds(out, bind, hostname) {
                return Err(ListenerProblem::PortUnavailable);
            }
            out.attachments.push(bind).map_err(full)?;
        }
        let key = &gateway.meta.key;
        let entry = snapshot::Listener {
            gateway: out.text.push_fmt(format_args!("{key}")).map_err(full)?,
            section: out.text.push(gateway.text.get(listener.name)).map_err(full)?,
            hostname: out.text.push(gateway.text.get(listener.hostname)).map_err(full)?,
            port: listener.port,
            protocol,
            binds: out.attachments.span_from(attachments),
            certificates,
        };
        out.listeners.push(entry).map(Some).map_err(full)
    })();
    if added.is_err() {
        out.binds.truncate(binds);
        out.attachments.truncate(attachments);
        out.text.truncate(text);
    }
    added
}

/// Whether an older Gateway's listener holds this hostname on the bind.
fn holds(out: &Snapshot, bind: u32, hostname: &str) -> bool {
    out.listeners.as_slice().iter().any(|l| {
        out.attachments.span(l.binds).contains(&bind) && out.text.get(l.hostname) == hostname
    })
}
