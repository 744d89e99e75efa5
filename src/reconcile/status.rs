//! The status each object must have: conditions, listeners, addresses, parents.
//!
//! In: what [`super::build`] left in the working memory, and what the routers serve. Out: for each
//! object its own status entries as JSON (without lastTransitionTime, which the writer keeps from
//! the object or stamps) with their digest; equal to the observed one when nothing is to be
//! written.

use super::address_modes::{AddressMode, Shown, shown_addresses};
use super::attach::Attachment;
use super::gateways::{GatewayProblem, GatewayState, ListenerProblem, ListenerState, is_ours};
use super::resolve::{RefProblem, Resolver};
use super::translate::attached_listeners;
use super::{Settings, Work, certificates, refused};
use crate::limits::MAX_MESSAGE_BYTES;
use crate::resource::digest::Digest;
use crate::resource::gateway::Gateway;
use crate::resource::gateway_class::GatewayClass;
use crate::resource::http_route::ParentRef;
use crate::resource::store::Handle;
use crate::resource::{Kind, Meta, Stores};
use crate::stdx::Short;
use crate::wire::json::JsonWriter;
use core::fmt;
use core::net::IpAddr;

/// Extended features that are whole today (GatewayClass.status.supportedFeatures), sorted.
pub const SUPPORTED_FEATURES: [&str; 22] = [
    "GatewayAddressEmpty",
    "GatewayHTTPListenerIsolation",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
];

/// What is known of the routers when statuses are worked out.
pub trait Rollout {
    /// Whether a Gateway is served by every router that counts.
    fn gateway(&self, key: &crate::resource::Key) -> Served;

    /// Of the nodes with a ready router, the lowest address above `after`.
    fn next_node(&self, after: Option<IpAddr>) -> Option<IpAddr>;
}

/// Whether the routers serve the current Snapshot for a Gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Every ready router serves it without a bind error.
    Yes,
    /// Some router has not answered yet: nothing is said that is not known.
    Waiting,
    /// No router is there.
    NoRouter,
    /// A router could not bind (the message names router, bind and errno).
    BindFailed(Short<{ MAX_MESSAGE_BYTES as usize }>),
    /// A router did not take the configuration (the message names router, status and what to do).
    Refused(Short<{ MAX_MESSAGE_BYTES as usize }>),
}

/// Takes the wanted status of one object.
pub trait Sink {
    /// Whether the body is wanted of a status with these digests: mostly nothing is to be written.
    fn wants(&mut self, _kind: Kind, _meta: &Meta, _observed: u64, _wanted: u64) -> bool {
        true
    }

    /// `body`: the own entries as JSON; `wanted`: their digest; `observed`: the digest of what the
    /// API server has.
    fn status(&mut self, kind: Kind, meta: &Meta, observed: u64, wanted: u64, body: &str);
}

/// A status condition in the making: to the JSON and the digest at once.
pub(super) struct Writer<'j, 'b> {
    pub(super) json: &'j mut JsonWriter<'b>,
    pub(super) digest: Digest,
    pub(super) generation: i64,
}

impl Writer<'_, '_> {
    fn condition(&mut self, kind: &str, status: &str, reason: &str, message: fmt::Arguments<'_>) {
        let message = Short::<{ MAX_MESSAGE_BYTES as usize }>::truncated(message);
        self.says(kind, status, reason, message.as_str());
    }

    fn says(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        self.digest.condition(kind, status, reason, self.generation);
        self.digest.field(message);
        self.json.begin_object().member("type", kind).member("status", status);
        self.json.member("reason", reason).member("message", message);
        self.json.key("observedGeneration").number(self.generation).end_object();
    }

    pub(super) fn is(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        match message.len() <= MAX_MESSAGE_BYTES as usize {
            true => self.says(kind, status, reason, message),
            false => self.condition(kind, status, reason, format_args!("{message}")),
        }
    }
}

/// Works out every status. `buffer` holds one object's JSON.
pub fn statuses(
    stores: &Stores,
    settings: &Settings,
    work: &mut Work,
    rollout: &impl Rollout,
    buffer: &mut [u8],
    sink: &mut impl Sink,
) {
    if work.built_of != stores.version() {
        work.forget_digests();
    }
    classes(stores, settings, work, buffer, sink);
    for index in 0..work.gateways.len() {
        let state = work.gateways[index];
        gateway(stores, settings, work, &state, rollout, buffer, sink);
    }
    for route in (0..).zip(stores.routes.by_age()) {
        route_status(stores, settings, work, route, buffer, sink);
    }
    refused::statuses(stores, settings, work, buffer, sink);
}

fn classes(
    stores: &Stores,
    settings: &Settings,
    work: &mut Work,
    buffer: &mut [u8],
    sink: &mut impl Sink,
) {
    for (place, handle) in (0..).zip(stores.classes.by_age()) {
        let class = &mut work.decoder.class;
        let known = work.class_digests.get(place).copied();
        let wanted = known.unwrap_or_else(|| {
            stores.classes.load(handle, class, &mut work.decoder.scratch);
            let ours = is_ours(class, settings).then(|| class_status(&mut digest_only(), class));
            assert_eq!(work.class_digests.push(ours), Ok(place), "each in its place");
            ours
        });
        let Some(wanted) = wanted else { continue };
        let (meta, observed) = (stores.classes.meta(handle), stores.classes.observed(handle));
        if sink.wants(Kind::GatewayClass, meta, observed, wanted) {
            let mut json = JsonWriter::new(buffer);
            stores.classes.load(handle, class, &mut work.decoder.scratch);
            let written = class_status(&mut json, class);
            assert_eq!(written, wanted, "both passes say the same");
            if let Ok(body) = json.finish() {
                sink.status(Kind::GatewayClass, meta, observed, wanted, body);
            }
        }
    }
}

/// Writes the status of a class; its digest.
fn class_status(json: &mut JsonWriter<'_>, class: &GatewayClass) -> u64 {
    json.begin_object().key("conditions").begin_array();
    let generation = class.meta.generation;
    let mut writer = Writer { json, digest: Digest::new(), generation };
    if class.has_parameters {
        let message = "spec.parametersRef is not supported: remove it";
        writer.is("Accepted", false, "InvalidParameters", message);
    } else {
        writer.is("Accepted", true, "Accepted", "Gateways of this class are served by serval");
    }
    writer.json.end_array().key("supportedFeatures").begin_array();
    for feature in SUPPORTED_FEATURES {
        writer.digest.field(feature);
        writer.json.begin_object().member("name", feature).end_object();
    }
    writer.json.end_array().end_object();
    writer.digest.finish()
}

fn gateway(
    stores: &Stores,
    settings: &Settings,
    work: &mut Work,
    state: &GatewayState,
    rollout: &impl Rollout,
    buffer: &mut [u8],
    sink: &mut impl Sink,
) {
    let crate::resource::Decoder { gateway, service, scratch, .. } = &mut work.decoder;
    stores.gateways.load(state.handle, gateway, scratch);
    let served = rollout.gateway(&gateway.meta.key);
    let (mode, key) = (settings.address_mode(), &settings.gateway_service);
    if let Some(handle) = stores.services.find_parts(key.namespace.as_str(), key.name.as_str()) {
        stores.services.load(handle, service, scratch);
    }
    let given = work.addresses.get(state.addresses);
    let shown = shown_addresses(mode, gateway, state.problem, given, service, rollout);
    let listeners = &work.listeners.as_slice()[state.listeners.range()];
    let parts = (gateway as &Gateway, state.problem, listeners);
    let wanted = gateway_status(&mut digest_only(), parts, (mode, &shown), &served);
    let (meta, observed) = (&gateway.meta, gateway.observed);
    if sink.wants(Kind::Gateway, meta, observed, wanted) {
        let mut json = JsonWriter::new(buffer);
        let written = gateway_status(&mut json, parts, (mode, &shown), &served);
        assert_eq!(written, wanted, "both passes say the same");
        if let Ok(body) = json.finish() {
            sink.status(Kind::Gateway, meta, observed, wanted, body);
        }
    }
}

/// Writes the status of a Gateway; its digest.
fn gateway_status(
    json: &mut JsonWriter<'_>,
    (gateway, problem, listeners): (&Gateway, GatewayProblem, &[ListenerState]),
    (mode, shown): (AddressMode, &Shown),
    served: &Served,
) -> u64 {
    json.begin_object().key("conditions").begin_array();
    let generation = gateway.meta.generation;
    let mut writer = Writer { json, digest: Digest::new(), generation };
    gateway_accepted(&mut writer, problem, listeners);
    // True never flips to False only for waiting: what was served stays said, for its generation.
    let kept = gateway.programmed_generation;
    let waits = *served == Served::Waiting && kept >= 0;
    writer.generation = if waits { kept } else { generation };
    gateway_programmed(&mut writer, (mode, shown.problem), listeners, served, waits);
    writer.generation = generation;
    addresses(&mut writer, shown);
    writer.json.key("listeners").begin_array();
    for (listener, judged) in gateway.listeners.as_slice().iter().zip(listeners) {
        let name = gateway.text.get(listener.name);
        // What it said stays; one that is new in the Snapshot waits.
        let kept = listener.programmed_generation;
        let waits = *served == Served::Waiting && kept >= 0 && judged.index.is_some();
        let programmed = problem == GatewayProblem::None && (*served == Served::Yes || waits);
        let observed = if waits { kept } else { generation };
        let refs = gateway.certificates.span(listener.certificates);
        let wrong = judged.certificate.map(|(place, wrong)| (refs[place as usize], wrong));
        let wrong = wrong.map(|(reference, wrong)| {
            let (namespace, name) = certificates::target(gateway, &reference);
            (Short::truncated(format_args!("{namespace}/{name}")), wrong)
        });
        listener_status(&mut writer, name, judged, (programmed, observed), &wrong);
    }
    writer.json.end_array().end_object();
    writer.digest.finish()
}

fn addresses(writer: &mut Writer<'_, '_>, shown: &Shown) {
    writer.json.end_array().key("addresses").begin_array();
    for address in shown.addresses.as_slice() {
        let (kind, value) = (address.kind(), address.value.as_str());
        writer.digest.field(kind);
        writer.digest.field(value);
        writer.json.begin_object().member("type", kind).member("value", value).end_object();
    }
    writer.json.end_array();
}

fn gateway_accepted(writer: &mut Writer<'_, '_>, p: GatewayProblem, listeners: &[ListenerState]) {
    let valid = listeners.iter().filter(|l| l.problem == ListenerProblem::None).count();
    match p {
        GatewayProblem::InvalidParameters => {
            let message = "spec.infrastructure.parametersRef is not supported: remove it";
            writer.is("Accepted", false, "InvalidParameters", message);
        }
        GatewayProblem::UnsupportedAddress => {
            let message = "spec.addresses: only the type IPAddress is supported";
            writer.is("Accepted", false, "UnsupportedAddress", message);
        }
        _ if valid == listeners.len() => {
            writer.is("Accepted", true, "Accepted", "the Gateway is valid");
        }
        _ => {
            let status = if valid == 0 { "False" } else { "True" };
            let invalid = listeners.len() - valid;
            let message = format_args!("{invalid} listener(s) are not valid: see their conditions");
            writer.condition("Accepted", status, "ListenersNotValid", message);
        }
    }
}

fn gateway_programmed(
    writer: &mut Writer<'_, '_>,
    (mode, problem): (AddressMode, GatewayProblem),
    listeners: &[ListenerState],
    served: &Served,
    waits: bool,
) {
    let valid = listeners.iter().any(|l| l.index.is_some());
    let mut no = |reason, message| writer.is("Programmed", false, reason, message);
    match (problem, served) {
        (GatewayProblem::InvalidParameters | GatewayProblem::UnsupportedAddress, _) => {
            no("Invalid", "the Gateway is not accepted");
        }
        (GatewayProblem::AddressNotAssigned, Served::NoRouter) if mode == AddressMode::Node => {
            no("NoResources", "no router is ready");
        }
        (GatewayProblem::AddressNotAssigned, _) => {
            no("AddressNotAssigned", mode.not_assigned());
        }
        (GatewayProblem::AddressNotUsable, _) => no("AddressNotUsable", mode.not_usable()),
        (GatewayProblem::None, _) if !valid => no("Invalid", "no listener can be served"),
        (GatewayProblem::None, Served::NoRouter) => {
            no("NoResources", "no router is ready");
        }
        (GatewayProblem::None, Served::BindFailed(message)) => no("Invalid", message.as_str()),
        (GatewayProblem::None, Served::Refused(message)) => no("NoResources", message.as_str()),
        (GatewayProblem::None, Served::Waiting) if !waits => {
            no("Pending", "waiting until every router serves it");
        }
        (GatewayProblem::None, Served::Yes | Served::Waiting) => {
            writer.is("Programmed", true, "Programmed", "every router serves it");
        }
    }
}

fn listener_status(
    writer: &mut Writer<'_, '_>,
    name: &str,
    state: &ListenerState,
    (programmed, observed): (bool, i64),
    wrong: &Option<(Short<320>, certificates::RefProblem)>,
) {
    writer.digest.field(name);
    writer.digest.number(i64::from(state.attached));
    writer.json.begin_object().member("name", name);
    writer.json.key("attachedRoutes").number(state.attached).key("supportedKinds").begin_array();
    if state.takes_http_routes {
        writer.digest.field(Kind::HttpRoute.name());
        writer.json.begin_object().member("group", Kind::HttpRoute.group());
        writer.json.member("kind", Kind::HttpRoute.name()).end_object();
    }
    writer.json.end_array().key("conditions").begin_array();
    listener_accepted(writer, state.problem);
    listener_programmed(writer, state, (programmed, observed));
    if let Some((name, problem)) = wrong {
        let (reason, what) = certificate_problem(*problem);
        let message = format_args!("certificateRef {name} {what}");
        writer.condition("ResolvedRefs", "False", reason, message);
    } else if state.has_invalid_kinds {
        let message = "allowedRoutes.kinds names a kind that the protocol does not take";
        writer.is("ResolvedRefs", false, "InvalidRouteKinds", message);
    } else {
        writer.is("ResolvedRefs", true, "ResolvedRefs", "all references resolve");
    }
    match state.problem {
        ListenerProblem::HostnameConflict => {
            writer.is("Conflicted", true, "HostnameConflict", "see Accepted");
        }
        ListenerProblem::ProtocolConflict => {
            writer.is("Conflicted", true, "ProtocolConflict", "see Accepted");
        }
        _ => writer.is("Conflicted", false, "NoConflicts", "no conflict"),
    }
    writer.json.end_array().end_object();
}

fn listener_programmed(
    writer: &mut Writer<'_, '_>,
    state: &ListenerState,
    (programmed, observed): (bool, i64),
) {
    let is_served = state.index.is_some();
    let (reason, message) = match (programmed, is_served) {
        (true, true) => ("Programmed", "every router serves it"),
        (false, true) => ("Pending", "not served"),
        (_, false) => ("Invalid", "not served"),
    };
    let generation = core::mem::replace(&mut writer.generation, observed);
    writer.is("Programmed", programmed && is_served, reason, message);
    writer.generation = generation;
}

/// Reason and message of ResolvedRefs.
fn certificate_problem(problem: certificates::RefProblem) -> (&'static str, &'static str) {
    use certificates::RefProblem::{NotASecret, NotFound, Pair, RefNotPermitted};
    match problem {
        NotASecret => ("InvalidCertificateRef", "is not a Secret"),
        RefNotPermitted => ("RefNotPermitted", "needs a ReferenceGrant"),
        NotFound => ("InvalidCertificateRef", "is not there, or not of type kubernetes.io/tls"),
        Pair(problem) => ("InvalidCertificateRef", problem.text()),
    }
}

fn listener_accepted(writer: &mut Writer<'_, '_>, problem: ListenerProblem) {
    match problem {
        ListenerProblem::None => writer.is("Accepted", true, "Accepted", "the listener is valid"),
        ListenerProblem::UnsupportedProtocol => {
            let message = "only HTTP and HTTPS are supported in this release";
            writer.is("Accepted", false, "UnsupportedProtocol", message);
        }
        ListenerProblem::HostnameConflict => {
            let message = "another listener of this Gateway has the same port and hostname";
            writer.is("Accepted", false, "HostnameConflict", message);
        }
        ListenerProblem::ProtocolConflict => {
            let message = "another listener of this Gateway has the same port, other protocol";
            writer.is("Accepted", false, "ProtocolConflict", message);
        }
        ListenerProblem::PortUnavailable => {
            let message = "an older Gateway has this address and port, with the same hostname or \
                           another protocol";
            writer.is("Accepted", false, "PortUnavailable", message);
        }
        ListenerProblem::NotInService => {
            let message = "the Service of --gateway-service has no such port, or names its target";
            writer.is("Accepted", false, "PortUnavailable", message);
        }
        ListenerProblem::CapacityExceeded => {
            let message = "more than --max-config-listeners, --max-config-binds or -attachments";
            writer.is("Accepted", false, "CapacityExceeded", message);
        }
    }
}

/// What it depends on is in the stores: its digest stays until they change, whatever routers say.
fn route_status(
    stores: &Stores,
    settings: &Settings,
    work: &mut Work,
    (place, handle): (u32, Handle),
    buffer: &mut [u8],
    sink: &mut impl Sink,
) {
    let write = |json: &mut JsonWriter<'_>, work: &mut Work| {
        stores.routes.load(handle, &mut work.decoder.route, &mut work.decoder.scratch);
        let resolved = resolve_all(stores, settings, work);
        let parts = (work.overflowed[place], &resolved);
        write_route(json, (stores, settings), work, parts)
    };
    let known = work.route_digests.get(place).copied();
    let wanted = known.unwrap_or_else(|| {
        let digest = write(&mut digest_only(), work);
        assert_eq!(work.route_digests.push(digest), Ok(place), "each in its place");
        digest
    });
    let (meta, observed) = (stores.routes.meta(handle), stores.routes.observed(handle));
    if sink.wants(Kind::HttpRoute, meta, observed, wanted) {
        let mut json = JsonWriter::new(buffer);
        let written = write(&mut json, work);
        assert_eq!(written, wanted, "both passes say the same");
        if let Ok(body) = json.finish() {
            sink.status(Kind::HttpRoute, meta, observed, wanted, body);
        }
    }
}

/// Writes the status of the route that is loaded; its digest.
fn write_route(
    json: &mut JsonWriter<'_>,
    (stores, settings): (&Stores, &Settings),
    work: &mut Work,
    (overflowed, resolved): (bool, &Option<(RefProblem, Short<320>)>),
) -> u64 {
    json.begin_object().key("parents").begin_array();
    let mut digest = Digest::new();
    for index in 0..work.decoder.route.parents.len() {
        let parent = work.decoder.route.parents[index];
        let attachment = attached_listeners(stores, work, &parent, |_, _, _| {});
        let Some(attachment) = attachment else { continue };
        let attachment = match attachment {
            Attachment::Accepted if overflowed => Attachment::CapacityExceeded,
            other => other,
        };
        let generation = work.decoder.route.meta.generation;
        let mut writer = Writer { json: &mut *json, digest, generation };
        parent_ref(&mut writer, work, &parent);
        writer.json.member("controllerName", settings.controller.as_str());
        writer.json.key("conditions").begin_array();
        route_accepted(&mut writer, work, attachment);
        route_resolved(&mut writer, work.decoder.route.extension, resolved);
        writer.json.end_array().end_object();
        digest = writer.digest;
    }
    json.end_array().end_object();
    digest.finish()
}

/// For a pass that only wants the digest: nothing has room, so nothing is written.
fn digest_only() -> JsonWriter<'static> {
    JsonWriter::new(&mut [])
}

/// The first backendRef that does not resolve, with its name.
fn resolve_all(
    stores: &Stores,
    settings: &Settings,
    work: &mut Work,
) -> Option<(RefProblem, Short<320>)> {
    let crate::resource::Decoder { route, service, slice, grant, scratch, .. } = &mut work.decoder;
    let mut resolver = Resolver { stores, settings, service, slice, grant, scratch };
    for backend in route.backends.as_slice() {
        if let Err(problem) = resolver.check(route, backend) {
            let namespace = match route.text.get(backend.namespace) {
                "" => route.meta.key.namespace.as_str(),
                namespace => namespace,
            };
            let (kind, name) = (route.text.get(backend.kind), route.text.get(backend.name));
            let port = backend.port;
            let named = Short::truncated(format_args!("{kind} {namespace}/{name} port {port}"));
            return Some((problem, named));
        }
    }
    None
}

pub(super) fn parent_ref(writer: &mut Writer<'_, '_>, work: &Work, parent: &ParentRef) {
    let route = &work.decoder.route;
    let text = |t| route.text.get(t);
    debug_assert!(route.refers_to_gateway(parent));
    for field in [parent.group, parent.kind, parent.namespace, parent.name, parent.section] {
        writer.digest.field(text(field));
    }
    writer.digest.number(i64::from(parent.port));
    writer.json.begin_object().key("parentRef").begin_object();
    writer.json.member("group", text(parent.group)).member("kind", text(parent.kind));
    writer.json.member_unless_empty("namespace", text(parent.namespace));
    writer.json.member("name", text(parent.name));
    writer.json.member_unless_empty("sectionName", text(parent.section));
    if parent.port != 0 {
        writer.json.key("port").number(parent.port);
    }
    writer.json.end_object();
}

fn route_accepted(writer: &mut Writer<'_, '_>, work: &Work, attachment: Attachment) {
    let mut no = |reason, message| writer.is("Accepted", false, reason, message);
    match attachment {
        Attachment::Accepted => writer.is("Accepted", true, "Accepted", "the route is served"),
        Attachment::NoMatchingParent => {
            no("NoMatchingParent", "the Gateway has no listener of this sectionName and port");
        }
        Attachment::NotAllowedByListeners => {
            no("NotAllowedByListeners", "allowedRoutes of the listener does not let it attach");
        }
        Attachment::NoMatchingListenerHostname => {
            no("NoMatchingListenerHostname", "no hostname in common with the listener");
        }
        Attachment::CapacityExceeded => {
            let message = "the Snapshot is full: raise the --max-config-* flags (serval limits)";
            no("CapacityExceeded", message);
        }
        Attachment::UnsupportedValue => {
            let path = work.decoder.route.unsupported;
            let message = format_args!("{path} is not supported in this release");
            writer.condition("Accepted", "False", "UnsupportedValue", message);
        }
    }
}

fn route_resolved(
    writer: &mut Writer<'_, '_>,
    extension: Short<160>,
    problem: &Option<(RefProblem, Short<320>)>,
) {
    if !extension.is_empty() && problem.is_none() {
        let message = format_args!("ExtensionRef {extension} does not resolve: answered 500");
        writer.condition("ResolvedRefs", "False", "InvalidKind", message);
        return;
    }
    let Some((problem, name)) = problem else {
        writer.is("ResolvedRefs", true, "ResolvedRefs", "all references resolve");
        return;
    };
    let (reason, what) = match problem {
        RefProblem::InvalidKind => ("InvalidKind", "is not a Service"),
        RefProblem::RefNotPermitted => ("RefNotPermitted", "needs a ReferenceGrant"),
        RefProblem::BackendNotFound => ("BackendNotFound", "does not exist"),
        RefProblem::UnsupportedProtocol => {
            ("UnsupportedProtocol", "has an appProtocol that is not supported in this release")
        }
        RefProblem::CapacityExceeded => ("CapacityExceeded", "does not fit"),
    };
    writer.condition("ResolvedRefs", "False", reason, format_args!("{name} {what}"));
}
