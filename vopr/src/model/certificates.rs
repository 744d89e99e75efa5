//! certificateRefs of a listener: which pairs it is served with, and what is said of them.
//!
//! In: the world's Secrets and ReferenceGrants. Out: pairs in the order of the refs; the reason of
//! ResolvedRefs, by the first ref with a problem (GatewayTLSConfig.certificateRefs).

use super::object::*;
use super::secret::{Pair, Pairs};
use super::table::{Served, Setup, World, by_age};
use std::rc::Rc;

/// What must be said of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `namespace/name`.
    pub gateway: String,
    pub section: String,
    /// Reason of ResolvedRefs.
    pub resolved: &'static str,
    /// It has a place at an address of its Gateway, and a certificate or needs none.
    pub is_served: bool,
    /// A pair stays of a Secret that cannot be used any more.
    pub is_kept: bool,
}

/// The conditions of all listeners of the controller.
pub fn conditions(objects: &[Rc<Object>], pairs: &Pairs, setup: Setup) -> Vec<Said> {
    let by_age = by_age(objects);
    let world = World { objects: &by_age, pairs };
    let mut said = Vec::new();
    let gateways = world.gateways(setup);
    let served = world.listeners(&gateways);
    for placed in gateways {
        let object = placed.gateway;
        let Spec::Gateway { listeners, .. } = &object.spec else { continue };
        for listener in listeners {
            let (pairs, problem) = world.certificates(&object.key.1, listener);
            let is_odd = listener.kinds.iter().any(|&kind| kind != "HTTPRoute");
            let problem = problem.or(is_odd.then_some("InvalidRouteKinds"));
            let gateway = format!("{}/{}", object.key.1, object.key.2);
            let section = listener.name.clone();
            let is_it = |s: &Served| s.gateway == gateway && s.section == section;
            said.push(Said {
                resolved: problem.unwrap_or("ResolvedRefs"),
                is_served: served.iter().any(is_it),
                is_kept: pairs.iter().any(|pair| world.is_bad(pair)),
                gateway,
                section,
            });
        }
    }
    said
}

impl World<'_> {
    /// The pairs of a listener of a Gateway in a namespace, and its first problem.
    pub(super) fn certificates(
        &self,
        own: &str,
        listener: &Listener,
    ) -> (Vec<Pair>, Option<&'static str>) {
        let (mut pairs, mut problem) = (Vec::new(), None);
        for reference in &listener.certificates {
            let namespace = reference.namespace.as_deref().unwrap_or(own);
            let (pair, wrong) = self.certificate(own, namespace, &reference.name);
            pairs.extend(pair);
            problem = problem.or(wrong);
        }
        (pairs, problem)
    }

    fn is_bad(&self, pair: &Pair) -> bool {
        let (namespace, name) = pair.name.split_once('/').unwrap_or_default();
        let secret = self.get(Kind::Secret, namespace, name);
        secret.is_some_and(|s| matches!(s.spec, Spec::Secret { flaw: Some(_), .. }))
    }

    fn certificate(
        &self,
        own: &str,
        namespace: &str,
        name: &str,
    ) -> (Option<Pair>, Option<&'static str>) {
        if !self.permits(Referrer::Gateways, own, (namespace, name)) {
            return (None, Some("RefNotPermitted"));
        }
        let secret = self.get(Kind::Secret, namespace, name);
        let is_good = secret.is_some_and(|s| matches!(s.spec, Spec::Secret { flaw: None, .. }));
        let problem = (!is_good).then_some("InvalidCertificateRef");
        let pair = secret.and_then(|_| self.pairs.of(namespace, name));
        (pair.cloned(), problem)
    }
}
