//! The status to write: the own entries as wanted, foreign ones verbatim, times as they were.
//!
//! In: the object as the API server has it now, and the own entries that reconcile wants. Out: the
//! whole `status`, or that nothing differs. `lastTransitionTime` moves only when a condition's
//! status flips (metav1.Condition).

use crate::limits::MAX_PARENTS_PER_ROUTE;
use crate::resource::Kind;
use crate::resource::digest::{OWN_CONDITIONS, of_status};
use crate::resource::document::Value;
use crate::stdx::Wall;
use crate::wire::json::JsonWriter;

/// Writes the status that the object must have; false when the own part is so already.
pub fn merge(
    kind: Kind,
    object: Value<'_>,
    wanted: Value<'_>,
    controller: &str,
    now: Wall,
    out: &mut JsonWriter<'_>,
) -> bool {
    let status = object.get("status").unwrap_or(object.nothing());
    if of_status(kind, status, controller) == of_status(kind, wanted, controller) {
        return false;
    }
    if is_older(kind, object, wanted, controller) {
        // Worked out from an older object, by one of us that was paused: the next look corrects it.
        return false;
    }
    let stamp = now.rfc3339();
    let stamp = core::str::from_utf8(&stamp).unwrap_or("");
    out.begin_object();
    match kind {
        Kind::HttpRoute => route(status, wanted, controller, stamp, out),
        _ => owner(status, wanted, stamp, out),
    }
    out.end_object();
    true
}

/// Whether some observedGeneration would fall. One above the object's own is nobody's observation.
fn is_older(kind: Kind, object: Value<'_>, wanted: Value<'_>, controller: &str) -> bool {
    let generation = object.at(&["metadata", "generation"]).and_then(Value::int);
    let highest = generation.unwrap_or(i64::MAX);
    let status = items(object, "status");
    let observed =
        |c: Value<'_>| c.get("observedGeneration").and_then(Value::int).filter(|&g| g <= highest);
    let falls = |before: Value<'_>, wanted: Value<'_>| {
        list_of(wanted).items().any(|w| {
            let mut same = list_of(before).items().filter(|b| b.text("type") == w.text("type"));
            same.any(|b| observed(b) > observed(w))
        })
    };
    let is_ours = |p: &Value<'_>| p.text("controllerName") == controller;
    falls(status, wanted)
        || items(wanted, "listeners").items().any(|w| {
            let before = items(status, "listeners");
            before.items().any(|b| b.text("name") == w.text("name") && falls(b, w))
        })
        || kind == Kind::HttpRoute
            && items(wanted, "parents").items().any(|w| {
                let before = items(status, "parents");
                before.items().any(|b| is_ours(&b) && same_ref(b, w) && falls(b, w))
            })
}

/// GatewayClass and Gateway: conditions by type; the other members are ours alone.
fn owner(status: Value<'_>, wanted: Value<'_>, stamp: &str, out: &mut JsonWriter<'_>) {
    for member in wanted.items() {
        match member.name() {
            "conditions" => conditions(status, wanted, stamp, out),
            "listeners" => {
                out.key("listeners").begin_array();
                for listener in member.items() {
                    let name = listener.text("name");
                    let mut before = status.get("listeners").into_iter().flat_map(|l| l.items());
                    let before = before.find(|l| l.text("name") == name);
                    entry(before.unwrap_or(status.nothing()), listener, stamp, out);
                }
                out.end_array();
            }
            name => member.write_json(out.key(name)),
        }
    }
}

/// An object with conditions among its members: a listener, a parent.
fn entry(before: Value<'_>, wanted: Value<'_>, stamp: &str, out: &mut JsonWriter<'_>) {
    out.begin_object();
    for member in wanted.items() {
        match member.name() {
            "conditions" => conditions(before, wanted, stamp, out),
            name => member.write_json(out.key(name)),
        }
    }
    out.end_object();
}

fn conditions(before: Value<'_>, wanted: Value<'_>, stamp: &str, out: &mut JsonWriter<'_>) {
    let (before, wanted) = (list_of(before), list_of(wanted));
    out.key("conditions").begin_array();
    for condition in wanted.items() {
        let kind = condition.text("type");
        let same = before.items().find(|c| {
            c.text("type") == kind
                && c.text("status") == condition.text("status")
                && !c.text("lastTransitionTime").is_empty()
        });
        out.begin_object();
        condition.items().for_each(|member| member.write_json(out.key(member.name())));
        let time = same.map_or(stamp, |c| c.text("lastTransitionTime"));
        out.member("lastTransitionTime", time).end_object();
    }
    let foreign = |c: &Value<'_>| {
        let kind = c.text("type");
        !OWN_CONDITIONS.contains(&kind) && wanted.items().all(|w| w.text("type") != kind)
    };
    before.items().filter(foreign).for_each(|c| c.write_json(out));
    out.end_array();
}

fn list_of(owner: Value<'_>) -> Value<'_> {
    items(owner, "conditions")
}

fn items<'v>(owner: Value<'v>, name: &str) -> Value<'v> {
    owner.get(name).unwrap_or(owner.nothing())
}

/// status.parents is an atomic list: foreign entries verbatim, then ours. One per parentRef.
fn route(
    status: Value<'_>,
    wanted: Value<'_>,
    controller: &str,
    stamp: &str,
    out: &mut JsonWriter<'_>,
) {
    let parents = status.get("parents").unwrap_or(status.nothing());
    let mut room = MAX_PARENTS_PER_ROUTE;
    out.key("parents").begin_array();
    for parent in parents.items().filter(|p| p.text("controllerName") != controller) {
        parent.write_json(out);
        room = room.saturating_sub(1);
    }
    let own = wanted.get("parents").unwrap_or(wanted.nothing());
    for parent in own.items().take(room as usize) {
        let before = parents
            .items()
            .find(|p| p.text("controllerName") == controller && same_ref(*p, parent));
        entry(before.unwrap_or(status.nothing()), parent, stamp, out);
    }
    out.end_array();
}

fn same_ref(a: Value<'_>, b: Value<'_>) -> bool {
    ["group", "kind", "namespace", "name", "sectionName", "port"].iter().all(|name| {
        let (a, b) = (a.at(&["parentRef", name]), b.at(&["parentRef", name]));
        a.and_then(Value::scalar).unwrap_or("") == b.and_then(Value::scalar).unwrap_or("")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::document::Document;
    use crate::shell::json;
    use crate::shell::place::boxed_zeroed;
    use std::boxed::Box;
    use std::string::String;

    fn document(text: &str) -> Box<Document> {
        let mut document = boxed_zeroed::<Document>();
        json::parse(text.as_bytes(), &mut document).unwrap();
        document
    }

    fn merged(kind: Kind, object: &str, wanted: &str) -> Option<String> {
        let (object, wanted) = (document(object), document(wanted));
        let mut buffer = [0; 4096];
        let mut out = JsonWriter::new(&mut buffer);
        let differs = merge(kind, object.root(), wanted.root(), "our", Wall(60), &mut out);
        differs.then(|| out.finish().unwrap().into())
    }

    const WANTED: &str = r#"{"parents":[{"parentRef":{"name":"gw"},"controllerName":"our","conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"m","observedGeneration":2}]}]}"#;

    #[test]
    fn foreign_parents_stay_and_times_move_on_a_flip_only() {
        let object = |status: &str| {
            std::format!(
                r#"{{"status":{{"parents":[{{"controllerName":"x","y":[1]}},{{"parentRef":{{"name":"gw"}},"controllerName":"our","conditions":[{{"type":"Accepted","status":"{status}","reason":"r","message":"m","observedGeneration":1,"lastTransitionTime":"2020-01-01T00:00:00Z"}}]}}]}}}}"#
            )
        };
        let kept = merged(Kind::HttpRoute, &object("True"), WANTED).unwrap();
        assert!(kept.starts_with(r#"{"parents":[{"controllerName":"x","y":[1]},"#), "{kept}");
        assert!(kept.contains(r#""lastTransitionTime":"2020-01-01T00:00:00Z""#), "{kept}");
        let flipped = merged(Kind::HttpRoute, &object("False"), WANTED).unwrap();
        assert!(flipped.contains(r#""lastTransitionTime":"1970-01-01T00:01:00Z""#), "{flipped}");
        // What was written is equal the next time: nothing to do.
        let object = std::format!(r#"{{"status":{flipped}}}"#);
        assert_eq!(merged(Kind::HttpRoute, &object, WANTED), None);
    }

    #[test]
    fn what_an_older_object_says_is_not_written() {
        let object = |observed: u32| {
            let status = WANTED.replace("True", "False").replace(
                r#""observedGeneration":2"#,
                &std::format!(r#""observedGeneration":{observed}"#),
            );
            std::format!(r#"{{"status":{status}}}"#)
        };
        assert!(merged(Kind::HttpRoute, &object(2), WANTED).is_some());
        assert_eq!(merged(Kind::HttpRoute, &object(3), WANTED), None);
        let condition = |observed: u32| {
            std::format!(
                r#"{{"conditions":[{{"type":"Accepted","status":"True","observedGeneration":{observed}}}]}}"#
            )
        };
        let odd = std::format!(r#"{{"metadata":{{"generation":2}},"status":{}}}"#, condition(9));
        assert!(merged(Kind::Gateway, &odd, &condition(2)).is_some(), "nobody observed 9");
        let object = std::format!(r#"{{"status":{}}}"#, condition(3));
        assert!(merged(Kind::Gateway, &object, &condition(4)).is_some());
        assert_eq!(merged(Kind::Gateway, &object, &condition(2)), None);
    }

    #[test]
    fn foreign_conditions_of_a_gateway_stay() {
        let object = r#"{"status":{"conditions":[{"type":"Theirs","status":"True"},{"type":"Accepted","status":"Unknown"}]}}"#;
        let wanted = r#"{"conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"","observedGeneration":1}],"addresses":[]}"#;
        let text = merged(Kind::Gateway, object, wanted).unwrap();
        assert!(text.contains(r#"{"type":"Theirs","status":"True"}"#), "{text}");
        assert!(!text.contains("Unknown"), "{text}");
        assert!(text.ends_with(r#""addresses":[]}"#), "{text}");
    }
}
