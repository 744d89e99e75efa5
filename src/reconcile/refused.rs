//! The status of objects that are not served although they exist: the store is full, or they are
//! larger than an object may be, or break a rule of the API.
//!
//! In: the stubs that stores keep of them. Out: their own status entries, like
//! [`super::status`] for the others.

use super::gateways::is_ours;
use super::status::{Sink, Writer, parent_ref};
use super::translate::our_gateway;
use super::{Settings, Work};
use crate::resource::digest::Digest;
use crate::resource::store::{Refusal, Stub};
use crate::resource::{Kind, Meta, Stores};
use crate::stdx::Short;
use crate::wire::json::JsonWriter;

/// Works out the status of every refused object that is ours.
pub fn statuses(
    stores: &Stores,
    settings: &Settings,
    work: &mut Work,
    buffer: &mut [u8],
    sink: &mut impl Sink,
) {
    for stub in stores.classes.refused().0 {
        let class = &mut work.decoder.class;
        stub.load(class);
        if is_ours(class, settings) {
            let why = Why::of(stub, "GatewayClasses", "--max-gateway-classes");
            owner(Kind::GatewayClass, (&stub.meta, stub.observed), &why, buffer, sink);
        }
    }
    for stub in stores.gateways.refused().0 {
        if is_our_gateway(stores, settings, work, stub) {
            let why = Why::of(stub, "Gateways", "--max-gateways");
            owner(Kind::Gateway, (&stub.meta, stub.observed), &why, buffer, sink);
        }
    }
    for stub in stores.routes.refused().0 {
        stub.load(&mut work.decoder.route);
        let why = Why::of(stub, "HTTPRoutes", "--max-routes");
        route(stores, settings, work, (stub.observed, &why), buffer, sink);
    }
}

/// Reason and message of a condition.
struct Why {
    reason: &'static str,
    message: Short<160>,
}

impl Why {
    fn of<const OUTLINE: usize>(stub: &Stub<OUTLINE>, kind: &str, flag: &str) -> Why {
        let (reason, message) = match stub.refusal {
            Refusal::Capacity => (
                "CapacityExceeded",
                Short::truncated(format_args!(
                    "older {kind} fill the store: delete some, or raise {flag}"
                )),
            ),
            Refusal::TooLarge => (
                "CapacityExceeded",
                Short::truncated(format_args!(
                    "larger than an object may be (serval limits): the controller's log names the limit"
                )),
            ),
            Refusal::Invalid => (
                "UnsupportedValue",
                Short::truncated(format_args!(
                    "a field breaks a rule of the API: the controller's log names it"
                )),
            ),
        };
        Why { reason, message }
    }
}

fn is_our_gateway<const OUTLINE: usize>(
    stores: &Stores,
    settings: &Settings,
    work: &mut Work,
    stub: &Stub<OUTLINE>,
) -> bool {
    let crate::resource::Decoder { gateway, class, scratch, .. } = &mut work.decoder;
    stub.load(gateway);
    let Some(handle) = stores.classes.find_parts("", gateway.text.get(gateway.class)) else {
        return false;
    };
    stores.classes.load(handle, class, scratch);
    is_ours(class, settings) && !class.has_parameters
}

/// GatewayClass and Gateway: conditions of their own.
fn owner(
    kind: Kind,
    (meta, observed): (&Meta, u64),
    why: &Why,
    buffer: &mut [u8],
    sink: &mut impl Sink,
) {
    let mut json = JsonWriter::new(buffer);
    json.begin_object().key("conditions").begin_array();
    let generation = meta.generation;
    let mut writer = Writer { json: &mut json, digest: Digest::new(), generation };
    writer.is("Accepted", false, why.reason, why.message.as_str());
    if kind == Kind::Gateway {
        writer.is("Programmed", false, "NoResources", "the Gateway is not accepted");
    }
    let wanted = writer.digest.finish();
    json.end_array();
    for member in ["addresses", "listeners"].iter().filter(|_| kind == Kind::Gateway) {
        json.key(member).begin_array().end_array();
    }
    json.end_object();
    if let Ok(body) = json.finish()
        && sink.wants(kind, meta, observed, wanted)
    {
        sink.status(kind, meta, observed, wanted, body);
    }
}

/// The loaded outline of a route: one entry for each parentRef to a Gateway of ours.
fn route(
    stores: &Stores,
    settings: &Settings,
    work: &mut Work,
    (observed, why): (u64, &Why),
    buffer: &mut [u8],
    sink: &mut impl Sink,
) {
    let mut json = JsonWriter::new(buffer);
    json.begin_object().key("parents").begin_array();
    let (mut digest, generation) = (Digest::new(), work.decoder.route.meta.generation);
    for index in 0..work.decoder.route.parents.len() {
        let parent = work.decoder.route.parents[index];
        if our_gateway(stores, work, &parent).is_none() {
            continue;
        }
        let mut writer = Writer { json: &mut json, digest, generation };
        parent_ref(&mut writer, work, &parent);
        writer.json.member("controllerName", settings.controller.as_str());
        writer.json.key("conditions").begin_array();
        writer.is("Accepted", false, why.reason, why.message.as_str());
        writer.json.end_array().end_object();
        digest = writer.digest;
    }
    json.end_array().end_object();
    let (meta, wanted) = (&work.decoder.route.meta, digest.finish());
    if let Ok(body) = json.finish()
        && sink.wants(Kind::HttpRoute, meta, observed, wanted)
    {
        sink.status(Kind::HttpRoute, meta, observed, wanted, body);
    }
}
