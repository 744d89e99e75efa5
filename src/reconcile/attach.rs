//! Whether a route attaches to a listener: parentRef, allowedRoutes, hostname intersection.

use crate::resource::gateway::{From, Gateway, Listener, Operator, SelectorTerm};
use crate::resource::http_route::{HttpRoute, ParentRef};
use crate::resource::{Kind, Namespace, Stores};

/// What became of one parentRef (HTTPRoute.status.parents[].conditions Accepted).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the reasons of the Gateway API's Accepted condition")]
pub enum Attachment {
    Accepted,
    NoMatchingParent,
    NotAllowedByListeners,
    NoMatchingListenerHostname,
    UnsupportedValue,
    CapacityExceeded,
}

/// The namespace and name a parentRef means.
pub fn parent_key<'r>(route: &'r HttpRoute, parent: &ParentRef) -> (&'r str, &'r str) {
    let namespace = match route.text.get(parent.namespace) {
        "" => route.meta.key.namespace.as_str(),
        namespace => namespace,
    };
    (namespace, route.text.get(parent.name))
}

/// Whether the parentRef selects this listener by name and port.
pub fn selects(route: &HttpRoute, parent: &ParentRef, gateway: &Gateway, l: &Listener) -> bool {
    let section = route.text.get(parent.section);
    (section.is_empty() || section == gateway.text.get(l.name))
        && (parent.port == 0 || parent.port == l.port)
}

/// Whether allowedRoutes.namespaces lets routes of this namespace attach.
pub fn namespace_allowed(
    stores: &Stores,
    gateway: &Gateway,
    listener: &Listener,
    namespace: &str,
    loaded: &mut Namespace,
    scratch: &mut crate::resource::store::Scratch,
) -> bool {
    match listener.from {
        From::All => true,
        From::None => false,
        From::Same => gateway.meta.key.namespace.as_str() == namespace,
        From::Selector => {
            let Some(handle) = stores.namespaces.find_parts("", namespace) else { return false };
            stores.namespaces.load(handle, loaded, scratch);
            let terms = gateway.terms.span(listener.selector);
            terms.iter().all(|term| selector_holds(gateway, term, loaded))
        }
    }
}

fn selector_holds(gateway: &Gateway, term: &SelectorTerm, namespace: &Namespace) -> bool {
    let label = namespace.label(gateway.text.get(term.key));
    let values = gateway.text.get(term.values);
    let among = |label: &str| values.split(',').any(|v| v == label);
    match term.operator {
        Operator::In => label.is_some_and(among),
        Operator::NotIn => !label.is_some_and(among),
        Operator::Exists => label.is_some(),
        Operator::DoesNotExist => label.is_none(),
    }
}

/// Whether two hostnames have a host in common; an empty one has all.
pub fn hostnames_intersect(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        _ if a.is_empty() || b.is_empty() => true,
        (None, None) => a == b,
        (Some(suffix), None) => b.len() > suffix.len() && b.ends_with(suffix),
        (None, Some(suffix)) => a.len() > suffix.len() && a.ends_with(suffix),
        (Some(x), Some(y)) => x.ends_with(y) || y.ends_with(x),
    }
}

/// Whether any hostname of the route has a host in common with the listener.
pub fn route_intersects(route: &HttpRoute, gateway: &Gateway, listener: &Listener) -> bool {
    let hostname = gateway.text.get(listener.hostname);
    route.hostnames.is_empty()
        || route
            .hostnames
            .as_slice()
            .iter()
            .any(|&h| hostnames_intersect(route.text.get(h), hostname))
}

/// Whether an object of `from` may refer to an object of another namespace: within a namespace
/// always, else only by a ReferenceGrant there. The one place that decides it.
pub fn may_reference(
    stores: &Stores,
    from: (Kind, &str),
    to: (&str, &str),
    target: (&str, &str),
    loaded: &mut crate::resource::ReferenceGrant,
    scratch: &mut crate::resource::store::Scratch,
) -> bool {
    let (namespace, name) = target;
    if from.1 == namespace {
        return true;
    }
    stores.grants.by_age().any(|handle| {
        stores.grants.meta(handle).key.namespace.as_str() == namespace && {
            stores.grants.load(handle, loaded, scratch);
            loaded.permits((from.0.group(), from.0.name(), from.1), (to.0, to.1, name))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intersections() {
        let yes = [
            ("", "a.b"),
            ("a.b", "a.b"),
            ("*.b", "a.b"),
            ("*.b", "x.a.b"),
            ("*.a.b", "*.b"),
            ("*.b", "*.b"),
        ];
        let no = [("a.b", "b"), ("*.b", "b"), ("*.a.b", "*.c.b"), ("*.b", "ab"), ("a.b", "c.b")];
        for (a, b) in yes {
            assert!(hostnames_intersect(a, b) && hostnames_intersect(b, a), "{a} {b}");
        }
        for (a, b) in no {
            assert!(!hostnames_intersect(a, b) && !hostnames_intersect(b, a), "{a} {b}");
        }
    }
}
