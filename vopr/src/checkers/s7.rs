//! S7: a status write touches own entries only; lastTransitionTime moves on a flip only;
//! observedGeneration never falls; nothing is written that is so already, nor because objects were
//! heard of in another way. It is written to the object that it was worked out for, as that was
//! read: not to another one of its name.

use crate::model::object::Object;
use crate::network::Network;
use crate::parsed::Parsed;
use crate::workload::CONTROLLER;
use serval::resource::document::Value;
use serval::stdx::Wall;
use serval::wire::json::JsonWriter;
use std::collections::BTreeMap;

/// A condition: status, time, generation.
type Condition = (String, String, i64);

/// What a status says: own conditions by place and type, entries of others as they are.
#[derive(Debug, Default)]
struct Said {
    own: BTreeMap<(String, String), Condition>,
    others: Vec<String>,
}

/// A status is written over that of an object (empty: none).
pub fn written(object: &Object, after: &str, wall: Wall, net: &mut Network) {
    let (before, name) = (&object.status[..], &object.key);
    let (was, is) = (said(before), said(after));
    let mut wrong = Vec::new();
    if was.others != is.others {
        wrong.push(format!("entries of others were {:?} and are {:?}", was.others, is.others));
    }
    if timeless(before) == timeless(after) {
        wrong.push("it was so already".to_string());
    }
    let stamp = String::from_utf8_lossy(&wall.rfc3339()).to_string();
    for (place, (status, time, generation)) in &is.own {
        let old = was.own.get(place);
        let stays = old.filter(|old| old.0 == *status);
        if *time != *stays.map_or(&stamp, |old| &old.1) {
            wrong.push(format!("{place:?} is {status} since {time}, was {old:?}, now {stamp}"));
        }
        // Of an object that was restored it may be one that is to come.
        let observed = old.map(|old| old.2).filter(|&old| old <= object.generation as i64);
        if observed > Some(*generation) {
            wrong.push(format!("{place:?} observed {old:?}, and now {generation}"));
        }
    }
    for text in wrong {
        net.trace.violated(net.now, "S7", format!("{name:?}: {text}"));
    }
}

/// A status that was worked out for the object of this uid, and then for what was `read`, is
/// written to an object.
pub fn is_of((uid, read): (&str, &Object), object: &Object, net: &mut Network) {
    let (is, was) = ((&object.uid[..], object.version), (&read.uid[..], read.version));
    if is.0 != uid || is != was {
        let text = format!("{:?}: of {uid}, read as {was:?}, written to {is:?}", object.key);
        net.trace.violated(net.now, "S7", text);
    }
}

/// A status is written though no object changed that it says of: nothing but what routers report
/// may follow.
pub fn without_cause(object: &Object, after: &str, net: &mut Network) {
    let before = &object.status;
    if of_objects(before) != of_objects(after) {
        let text = format!("{:?}: nothing changed but {before:?} to {after:?}", object.key);
        net.trace.violated(net.now, "S7", text);
    }
}

/// A status without its times, addresses and Programmed, which follow from what routers report.
fn of_objects(status: &str) -> String {
    let without = |text: String, begin: &str, end: char| {
        let mut parts = text.split(begin);
        let first = parts.next().unwrap_or("").to_string();
        parts.fold(first, |text, part| text + part.split_once(end).map_or("", |p| p.1))
    };
    let text = without(timeless(status), r#"{"type":"Programmed""#, '}');
    without(text, r#""addresses":["#, ']')
}

/// A status without its times.
fn timeless(status: &str) -> String {
    let mut parts = status.split(r#""lastTransitionTime":""#);
    let first = parts.next().unwrap_or("").to_string();
    parts.fold(first, |text, part| text + part.split_once('"').map_or("", |p| p.1))
}

/// What an entry says, written into a buffer first.
fn text(value: Value<'_>, buffer: &mut [u8]) -> String {
    let mut json = JsonWriter::new(buffer);
    value.write_json(&mut json);
    json.finish().expect("an entry fits").to_string()
}

fn said(status: &str) -> Said {
    let mut said = Said::default();
    if status.is_empty() {
        return said;
    }
    let document = Parsed::of(status.as_bytes()).expect("a status is JSON");
    let root = document.root();
    let mut buffer = vec![0; 1 << 14];
    let mut own = |place: &str, owner: Value<'_>| {
        for c in owner.get("conditions").into_iter().flat_map(|c| c.items()) {
            let of = |name| c.text(name).to_string();
            let generation = c.get("observedGeneration").and_then(Value::int).unwrap_or(0);
            let condition = (of("status"), of("lastTransitionTime"), generation);
            said.own.insert((place.to_string(), of("type")), condition);
        }
    };
    own("", root);
    for listener in root.get("listeners").into_iter().flat_map(|l| l.items()) {
        own(listener.text("name"), listener);
    }
    for parent in root.get("parents").into_iter().flat_map(|l| l.items()) {
        if parent.text("controllerName") == CONTROLLER {
            let place = parent.get("parentRef").map(|place| text(place, &mut buffer));
            own(&place.unwrap_or_default(), parent);
        }
    }
    let is_own = format!(r#""controllerName":"{CONTROLLER}""#);
    let parents = root.get("parents").into_iter().flat_map(|l| l.items());
    let others = parents.map(|entry| text(entry, &mut buffer));
    said.others = others.filter(|entry| !entry.contains(&is_own)).collect();
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_routers_report_is_not_of_the_objects() {
        let status = |accepted, programmed, address| {
            format!(
                r#"{{"conditions":[{{"type":"Accepted","status":"{accepted}"}},{{"type":"Programmed",
                "status":"{programmed}"}}],"addresses":[{{"value":"{address}"}}],"listeners":[]}}"#
            )
        };
        let before = of_objects(&status("True", "False", "1"));
        assert_eq!(of_objects(&status("True", "True", "2")), before);
        assert_ne!(of_objects(&status("False", "False", "1")), before);
        assert!(before.ends_with(r#","listeners":[]}"#), "{before}");
    }
}
