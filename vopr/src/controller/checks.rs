//! What the checkers are shown of a controller, when it publishes, writes statuses, and rests.

use super::*;
use crate::checkers::{s3, s5, s6, s8, s11};
use serval::reconcile::status::Sink;

/// How many statuses are not as they must be.
struct Differing(usize);

impl Sink for Differing {
    fn wants(&mut self, _: Kind, _: &Meta, observed: u64, wanted: u64) -> bool {
        observed != wanted
    }

    fn status(&mut self, _: Kind, _: &Meta, _: u64, _: u64, _: &str) {
        self.0 += 1;
    }
}

impl Process {
    /// Pushes that run, or hold their slot.
    pub fn pushes_running(&self) -> usize {
        let slots = 0..MAX_PUSHES_AT_ONCE as usize;
        slots.filter(|&slot| self.pushes.fleet.address(slot).is_some()).count()
    }

    /// Watches with something to send.
    pub fn outputs_waiting(&self) -> usize {
        self.watchers.iter().filter(|w| w.end.is_some() && !w.output.is_empty()).count()
    }

    /// Statuses that the API server does not have as they must be.
    pub fn statuses_differing(&mut self, now: Time) -> usize {
        let mut differing = Differing(0);
        self.controller.all_statuses(clocks(now), &mut differing);
        differing.0
    }

    /// Whether it was told of all objects as they are, and no list runs or is needed: of Secrets,
    /// those that a Gateway refers to.
    pub fn is_told_all(&self, api: &Api) -> bool {
        let gateways = &self.watchers[ModelKind::Gateway as usize].shadow;
        let counts =
            |o: &Rc<Object>| o.key.0 != ModelKind::Secret || gateways.refers_to(&o.key.1, &o.key.2);
        let is = |o: &Rc<Object>| api.objects.get(&o.key).is_some_and(|a| a.version == o.version);
        let told = self.watchers.iter().flat_map(|w| w.shadow.told()).filter(|o| counts(o));
        let is_whole = |shadow: &Shadow| !shadow.is_listing() && !shadow.is_behind;
        let mut is_all = self.watchers.iter().all(|w| is_whole(&w.shadow));
        let count = told.inspect(|o| is_all &= is(o)).count();
        is_all && count == api.objects.values().filter(|o| counts(o)).count()
    }

    /// Looks at the Snapshot that was just published.
    pub(super) fn check_published(&mut self, around: &mut Around<'_>) {
        around.counts.generations += 1;
        let exact = self.is_exact();
        around.counts.compared += u64::from(exact);
        let admitted = (!self.setup.is_foreign).then(|| self.check_admitted(None, around.net));
        let published = self.controller.published().expect("just published");
        if let Some(admitted) = admitted {
            admitted.published(published, around.net);
            let told = self.watchers.iter().flat_map(|w| w.shadow.told().cloned());
            s6::published(published, &told.collect::<Vec<_>>(), around.net);
        }
        let told = (&self.objects()[..], self.pairs(), self.setup);
        let table = s3::published(published, told, exact, around.net);
        around.tables.publish(published.identity.checksum, Rc::new(table));
    }

    /// Looks at what the stores admit of `objects`: those told, if there are no others.
    pub fn check_admitted(&mut self, objects: Option<&Api>, net: &mut Network) -> s8::Admitted {
        let admitted = s8::Admitted::of(self.controller.stores());
        for kind in s8::KINDS {
            let shadow = &self.watchers[kind as usize].shadow;
            match objects {
                Some(api) => admitted.check(kind, api.objects.values(), (true, false), net),
                None => {
                    let how = (!shadow.is_behind, shadow.is_listing());
                    admitted.check(kind, shadow.told(), how, net);
                }
            }
        }
        admitted
    }

    /// Looks at the statuses that were just worked out, from `first` on.
    pub(super) fn check_statuses(&self, first: usize, around: &mut Around<'_>) {
        // Of the kinds that the status of a Gateway speaks of.
        let kinds = [ModelKind::Class, ModelKind::Gateway, ModelKind::Secret, ModelKind::Grant];
        let is_exact = !self.setup.is_foreign
            && kinds.iter().all(|&kind| !self.watchers[kind as usize].shadow.is_behind);
        let objects = if is_exact { self.objects() } else { Vec::new() };
        let knows_routers = !self.watchers[ModelKind::Slice as usize].shadow.is_behind;
        let (addresses, silent) = self.routers.addresses(around.net.now);
        for order in &self.orders[first..] {
            s9::shown("a status", order.body.as_bytes(), around.net);
            self.check_verdicts(order, around.net);
            if is_exact && order.kind == Kind::Gateway {
                let (name, told) =
                    (order.key.to_string(), (&objects[..], self.pairs(), self.setup));
                let (problems, kept) = s5::written(&name, &order.body, told, around.net);
                around.counts.ref_problems += problems;
                around.counts.pairs_kept += kept;
                // Of those that are refused for their number other things are said.
                let key =
                    (ModelKind::Gateway, order.key.namespace.as_str(), order.key.name.as_str());
                let gateway =
                    objects.iter().find(|o| (o.key.0, o.key.1.as_str(), o.key.2.as_str()) == key);
                if let Some(gateway) = gateway.filter(|_| self.setup.in_nodes && knows_routers) {
                    s5::reached(gateway, &order.body, &addresses, around.net);
                    around.counts.silent += silent;
                }
            }
        }
    }

    /// What a router serves, if it is one of those that the controller knows.
    pub(super) fn note_report(&mut self, address: SocketAddr, report: &Report, now: Time) {
        if self.controller.routers().iter().any(|r| r.address == address) {
            self.reports.heard(address, report.identity.checksum.0, report.ready, now);
        }
    }

    /// Looks at what a status says of who is accepted, attached and served.
    fn check_verdicts(&self, order: &Order, net: &mut Network) {
        if !self.is_exact() || !matches!(order.kind, Kind::Gateway | Kind::HttpRoute) {
            return;
        }
        let name = (order.key.namespace.as_str(), order.key.name.as_str());
        let objects = self.objects();
        let told = (&objects[..], self.pairs(), self.setup);
        if order.kind == Kind::HttpRoute {
            return s11::of_a_route(name, &order.body, told, net);
        }
        s11::of_a_gateway(name, &order.body, told, net);
        let key = (ModelKind::Gateway, name.0, name.1);
        let mut gateways = objects.iter();
        let gateway = gateways.find(|o| (o.key.0, o.key.1.as_str(), o.key.2.as_str()) == key);
        let published = self.controller.published().map(|p| p.identity.checksum.0);
        if let (Some(gateway), Some(published)) = (gateway, published)
            && let Some(router) = self.reports.without(published, net.now)
        {
            s11::waits(gateway, &order.body, router, net);
        }
    }

    /// Whether it is known what the stores hold.
    fn is_exact(&self) -> bool {
        !self.setup.is_foreign && self.watchers.iter().all(|w| !w.shadow.is_behind)
    }

    /// What the stores must hold.
    fn objects(&self) -> Vec<Rc<Object>> {
        self.watchers.iter().flat_map(|w| w.shadow.objects()).collect()
    }

    /// The pairs of Secrets that it must serve.
    pub fn pairs(&self) -> &Pairs {
        &self.watchers[ModelKind::Secret as usize].shadow.pairs
    }
}
