//! S5, of Gateways: a status says which listeners have what they need to be served, the reason of
//! the first certificateRef with a problem, and the addresses of the nodes with a ready router.

use crate::model::certificates::{Said, conditions};
use crate::model::object::Object;
use crate::model::placing::{is_valid, named};
use crate::model::secret::Pairs;
use crate::model::table::Setup;
use crate::network::Network;
use crate::parsed::Parsed;
use serval::resource::document::Value;
use std::rc::Rc;

/// A status of a Gateway is on its way, worked out from these objects and pairs; how many of its
/// listeners have a certificateRef with a problem, and a pair that stays.
pub fn written(
    gateway: &str,
    body: &str,
    (objects, pairs, setup): (&[Rc<Object>], &Pairs, Setup),
    net: &mut Network,
) -> (u64, u64) {
    let Some(document) = Parsed::of(body.as_bytes()) else { panic!("statuses are JSON: {body}") };
    let said = conditions(objects, pairs, setup);
    let (mut problems, mut kept) = (0, 0);
    let listeners = document.root().get("listeners");
    for listener in listeners.iter().flat_map(|l| l.items()) {
        let (section, resolved) = (listener.text("name"), condition(listener, "ResolvedRefs"));
        let programmed = condition(listener, "Programmed");
        let wanted = said.iter().find(|s| s.gateway == gateway && s.section == section);
        let fits = |wanted: &Said| {
            let holds = if wanted.resolved == "ResolvedRefs" { "True" } else { "False" };
            let invalid = ("False".to_string(), "Invalid".to_string());
            resolved == (holds.to_string(), wanted.resolved.to_string())
                && (programmed == invalid) != wanted.is_served
        };
        if !wanted.is_some_and(fits) {
            let text = format!(
                "{gateway} {section}: ResolvedRefs {resolved:?}, Programmed {programmed:?}, \
                 wanted {wanted:?}"
            );
            net.trace.violated(net.now, "S5", text);
        }
        problems += u64::from(wanted.is_some_and(|w| w.resolved != "ResolvedRefs"));
        kept += u64::from(wanted.is_some_and(|w| w.is_kept));
    }
    (problems, kept)
}

/// The same status, of its addresses: those of the nodes with a ready router, and if it names some,
/// of these.
pub fn reached(gateway: &Rc<Object>, body: &str, nodes: &[String], net: &mut Network) {
    let (named, is_valid) = (named(gateway), is_valid(gateway));
    let is_asked_for =
        |node: &&String| named.is_empty() || named.iter().any(|n| n.to_string() == **node);
    let wanted: Vec<&String> = nodes.iter().filter(|n| is_valid && is_asked_for(n)).collect();
    let Some(document) = Parsed::of(body.as_bytes()) else { panic!("statuses are JSON: {body}") };
    let addresses = document.root().get("addresses");
    let addresses = addresses.iter().flat_map(|a| a.items()).map(|a| a.text("value"));
    let addresses: Vec<&str> = addresses.collect();
    if addresses != wanted {
        let gateway = format!("{}/{}", gateway.key.1, gateway.key.2);
        let text = format!("{gateway}: addresses {addresses:?}, not {wanted:?}");
        net.trace.violated(net.now, "S5", text);
    }
}

/// Status and reason of a condition.
fn condition(listener: Value<'_>, kind: &str) -> (String, String) {
    let conditions = listener.get("conditions");
    let mut conditions = conditions.iter().flat_map(|c| c.items());
    let found = conditions.find(|c| c.text("type") == kind);
    found.map_or_else(Default::default, |c| (c.text("status").into(), c.text("reason").into()))
}
