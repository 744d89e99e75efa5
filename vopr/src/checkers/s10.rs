//! S10: a controller asks the API server for what `deploy/base/rbac.yaml` lets it, and no more.
//!
//! In: the manifest itself, requests by method and target. Out: whether one is allowed; what is
//! not is answered 403, and a violation.

use crate::network::Network;
use serval::resource::document::{Document, Value};
use serval::shell::yaml::Documents;
use serval::stdx::zeroed_box;
use std::sync::OnceLock;

const MANIFEST: &str = include_str!("../../../deploy/base/rbac.yaml");
/// The ServiceAccount of controllers.
const ACCOUNT: &str = "serval-controller";

/// One rule of a role (rbac.authorization.k8s.io/v1 PolicyRule).
#[derive(Debug)]
struct Rule {
    /// Of a Role: where its RoleBinding's subject is. None: of a ClusterRole, everywhere.
    namespace: Option<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    /// None: all.
    names: Vec<String>,
    verbs: Vec<String>,
}

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub verb: &'static str,
    pub group: String,
    pub namespace: String,
    /// With its subresource behind a slash.
    pub resource: String,
    pub name: String,
}

/// What a method and a target ask for; None: it is no resource.
pub fn asked(method: &str, target: &str) -> Option<Asked> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut parts: Vec<&str> = path.split('/').skip(1).collect();
    let (group, before) = match *parts.first()? {
        "api" => ("", 2),
        "apis" => (*parts.get(1)?, 3),
        _ => return None,
    };
    parts.drain(..before.min(parts.len()));
    let mut found = Asked { group: group.to_string(), ..Asked::default() };
    if let ["namespaces", namespace, _, ..] = parts[..] {
        found.namespace = namespace.to_string();
        parts.drain(..2);
    }
    found.resource = parts.first()?.to_string();
    found.name = parts.get(1).unwrap_or(&"").to_string();
    if let Some(sub) = parts.get(2) {
        found.resource = format!("{}/{sub}", found.resource);
    }
    let watches = query.split('&').any(|p| matches!(p, "watch=1" | "watch=true"));
    found.verb = match (method, found.name.as_str()) {
        ("GET", "") if watches => "watch",
        ("GET", "") => "list",
        ("GET", _) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => return None,
    };
    Some(found)
}

/// A request is at the API server; false: 403.
pub fn permits(method: &str, target: &str, net: &mut Network) -> bool {
    static RULES: OnceLock<Vec<Rule>> = OnceLock::new();
    let rules = RULES.get_or_init(|| rules(MANIFEST));
    let has = |list: &[String], word: &str| list.iter().any(|w| w == word || w == "*");
    let fits = |asked: &Asked, rule: &Rule| {
        rule.namespace.as_ref().is_none_or(|n| *n == asked.namespace)
            && has(&rule.groups, &asked.group)
            && has(&rule.resources, &asked.resource)
            && has(&rule.verbs, asked.verb)
            && (rule.names.is_empty() || rule.names.contains(&asked.name))
    };
    let asked = asked(method, target);
    let may = asked.as_ref().is_some_and(|asked| rules.iter().any(|rule| fits(asked, rule)));
    if !may {
        let text = format!("{method} {target} is not for {ACCOUNT}: {asked:?}");
        net.trace.violated(net.now, "S10", text);
    }
    may
}

/// The rules of the roles that are bound to the account.
fn rules(manifest: &str) -> Vec<Rule> {
    let (mut roles, mut bound) = (Vec::new(), Vec::new());
    let mut documents = Documents::new(manifest);
    let mut document = zeroed_box::<Document>();
    document.clear();
    while documents.next_into(&mut document).expect("the manifest is YAML") {
        let root = document.root();
        let named = |place: &[&str]| {
            let word = root.at(place).and_then(Value::str).unwrap_or("");
            word.to_string()
        };
        match root.text("kind") {
            kind @ ("ClusterRole" | "Role") => {
                let rules = root.get("rules").into_iter().flat_map(Value::items).map(rule);
                let rules: Vec<Rule> = rules.collect();
                roles.push((kind.to_string(), named(&["metadata", "name"]), rules));
            }
            "ClusterRoleBinding" | "RoleBinding" => {
                let subjects = root.get("subjects").into_iter().flat_map(Value::items);
                for subject in subjects.filter(|s| s.text("name") == ACCOUNT) {
                    let namespace = subject.text("namespace").to_string();
                    bound.push((
                        named(&["roleRef", "kind"]),
                        named(&["roleRef", "name"]),
                        namespace,
                    ));
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (kind, name, rules) in roles {
        let Some((.., namespace)) = bound.iter().find(|b| b.0 == kind && b.1 == name) else {
            continue;
        };
        let namespace = (kind == "Role").then(|| namespace.clone());
        found.extend(rules.into_iter().map(|r| Rule { namespace: namespace.clone(), ..r }));
    }
    found
}

fn rule(value: Value<'_>) -> Rule {
    let list = |name| -> Vec<String> {
        let items = value.get(name).into_iter().flat_map(Value::items);
        items.map(|i| i.str().unwrap_or("").to_string()).collect()
    };
    Rule {
        namespace: None,
        groups: list("apiGroups"),
        resources: list("resources"),
        names: list("resourceNames"),
        verbs: list("verbs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NetworkFaults;
    use crate::seed::Rate;
    use crate::trace::Trace;
    use serval::stdx::Prng;

    #[test]
    fn what_the_manifest_says() {
        let off = Rate::Off;
        let faults = NetworkFaults {
            tiny_pieces: off,
            stalls: off,
            resets: off,
            refusals: off,
            half_open: off,
        };
        let mut net = Network::new(Prng::new(1), faults, Trace::new(false));
        let gateway = "/apis/gateway.networking.k8s.io/v1";
        let leases = "/apis/coordination.k8s.io/v1/namespaces/serval-system/leases";
        for (method, target, may) in [
            ("GET", format!("{gateway}/httproutes?limit=5"), true),
            ("GET", format!("{gateway}/gateways?watch=1&resourceVersion=3"), true),
            ("GET", "/api/v1/namespaces?watch=1".to_string(), true),
            ("GET", "/api/v1/namespaces/red/secrets/s".to_string(), true),
            ("PATCH", format!("{gateway}/namespaces/red/httproutes/r/status"), true),
            ("PATCH", format!("{gateway}/namespaces/red/httproutes/r"), false),
            ("PATCH", format!("{gateway}/namespaces/red/referencegrants/r/status"), false),
            ("DELETE", "/api/v1/namespaces/red/secrets/s".to_string(), false),
            ("GET", "/api/v1/pods?watch=1".to_string(), false),
            ("GET", "/api/v1/endpointslices".to_string(), false),
            ("POST", leases.to_string(), true),
            ("PUT", format!("{leases}/serval-controller"), true),
            ("PUT", format!("{leases}/another"), false),
            ("GET", leases.to_string(), false),
            ("PUT", format!("{}/serval-controller", leases.replace("-system", "")), false),
            ("GET", "/healthz".to_string(), false),
        ] {
            assert_eq!(permits(method, &target, &mut net), may, "{method} {target}");
        }
    }
}
