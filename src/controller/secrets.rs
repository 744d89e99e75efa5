//! The Secrets that Gateways refer to: only those are kept, judged, and the last usable pair stays.
//!
//! In: Secrets as they come. Out: the store of Secrets; a relist when a Gateway refers to one that
//! was passed by before. Until that relist is through no Snapshot is published, for SECRET_WAIT_MS
//! at most: a listener is not said to lack what is on its way. The first Snapshot waits however
//! long that takes: routers serve the Secrets of an earlier controller, which must not be lost
//! because the API server is slow to show them again.

use super::Controller;
use crate::limits::{MAX_CERTIFICATE_DER_BYTES, MAX_SECRETS, SECRET_WAIT_MS};
use crate::reconcile::certificates::target;
use crate::resource::document::Value;
use crate::resource::secret::{PairProblem, Secret};
use crate::resource::store::Upserted;
use crate::resource::{Decoder, Key, Kind, Object, Problem};
use crate::stdx::{Duration, Instant, Now, Table, Wall};
use crate::wire::pem::{Blocks, Label};
use crate::wire::x509::Validity;

/// Whether chain and key (as PEM) belong together and can be used: the TLS stack's word.
pub type Vet = fn(chain: &str, key: &str) -> PairProblem;

/// A clock that shows less has not been set yet (boards without a battery): 2024-01-01.
const PLAUSIBLE: Wall = Wall(1_704_067_200);

/// References of Gateways to Secrets that are remembered; as many as could be kept, twice.
const MAX_REFS: usize = MAX_SECRETS as usize * 2;

/// Which Secrets are wanted. Kilobytes: built in place.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Hashes of their keys, sorted.
    refs: Table<u64, MAX_REFS>,
    /// More are referred to than are remembered: every Secret is wanted.
    is_all: bool,
    /// The version of the Gateways that was looked at.
    version: u64,
    /// A relist must begin.
    is_missing: bool,
    /// A relist that may bring them runs.
    is_relisting: bool,
    /// Nothing waits for them any more then.
    patience: Instant,
}

crate::zeroed_struct!(Wanted {
    refs: Table<u64, MAX_REFS>,
    is_all: bool,
    version: u64,
    is_missing: bool,
    is_relisting: bool,
    patience: Instant,
});

impl Wanted {
    pub(super) fn init(&mut self) {
        self.refs.set_cap(MAX_REFS as u32);
        self.version = u64::MAX;
    }

    fn has(&self, key: &Key) -> bool {
        self.is_all || self.refs.as_slice().binary_search(&key.hash()).is_ok()
    }

    /// Whether the next Snapshot waits for Secrets; `published`: it is not the first.
    pub(super) fn holds_back(&self, now: Now, published: bool) -> bool {
        (self.is_missing || self.is_relisting) && (!published || now.mono < self.patience)
    }

    /// Whether Secrets must be listed again.
    pub(super) fn wants_relist(&self) -> bool {
        self.is_missing
    }

    pub(super) fn resync_begins(&mut self) {
        (self.is_missing, self.is_relisting) = (false, true);
    }

    pub(super) fn resync_ends(&mut self) {
        self.is_relisting = false;
    }
}

impl Controller {
    /// How pairs are judged; without it all are taken as good.
    pub fn set_vet(&mut self, vet: Vet) {
        self.vet = Some(vet);
    }

    /// Looks which Secrets the Gateways refer to, when a Gateway changed.
    pub(super) fn look_for_secrets(&mut self) {
        let version = self.stores.gateways.version();
        if self.wanted.version == version {
            return;
        }
        self.wanted.version = version;
        let Controller { stores, work, wanted, settings, .. } = self;
        let Decoder { gateway, scratch, .. } = &mut work.decoder;
        let mut refs = Table::<u64, MAX_REFS>::new();
        wanted.is_all = false;
        for handle in stores.gateways.by_age() {
            stores.gateways.load(handle, gateway, scratch);
            for reference in gateway.certificates.as_slice() {
                let (namespace, name) = target(gateway, reference);
                wanted.is_all |= refs.push(Key::hash_of(namespace, name)).is_err();
            }
        }
        refs.as_mut_slice().sort_unstable();
        let is_new = |hash: &u64| wanted.refs.as_slice().binary_search(hash).is_err();
        let any_new = wanted.is_all || refs.as_slice().iter().any(is_new);
        wanted.refs.copy_from(refs.as_slice()).expect("tables of one length");
        if any_new && !settings.standalone {
            // It may have been passed by when it came.
            wanted.is_missing = true;
            wanted.patience = self.now.mono + Duration::from_millis(u64::from(SECRET_WAIT_MS));
        }
    }

    /// A Secret was added or changed: kept if a Gateway refers to it.
    pub(super) fn upsert_secret(
        &mut self,
        value: Value<'_>,
        age: Option<u64>,
    ) -> Result<Upserted, Problem> {
        self.look_for_secrets();
        let now = self.now;
        let Controller { stores, decoder, earlier, wanted, vet, .. } = self;
        let secret = &mut decoder.secret;
        secret.decode(value, "")?;
        if let Some(age) = age {
            secret.meta.created = age;
        }
        let key = secret.meta.key;
        if !wanted.has(&key) {
            stores.remove(Kind::Secret, &key);
            return Ok(Upserted::Same);
        }
        if secret.problem == PairProblem::None {
            let problem = judge(secret, *vet, now.wall);
            secret.judge(problem);
        }
        if let Some(handle) = stores.secrets.find(&key)
            && secret.problem != PairProblem::None
        {
            stores.secrets.load(handle, earlier, &mut decoder.scratch);
            let is_better = !secret.is_usable() || !is_out_of_date(earlier, now.wall);
            // Another object of the same name begins anew, also when nobody told of the end of the
            // first: its pair was taken away with it.
            let is_same = secret.meta.uid == earlier.meta.uid;
            if is_same && earlier.is_usable() && is_better {
                secret.keep_pair_of(earlier);
            }
        }
        Ok(stores.secrets.upsert(secret, &mut decoder.scratch))
    }
}

fn judge(secret: &Secret, vet: Option<Vet>, wall: Wall) -> PairProblem {
    let (chain, key) = secret.pair();
    match vet.map_or(PairProblem::None, |vet| vet(chain, key)) {
        PairProblem::None if is_out_of_date(secret, wall) => PairProblem::OutOfDate,
        problem => problem,
    }
}

/// Whether the leaf's time is over or has not come; not said by a clock that was never set, nor of
/// what is no certificate.
fn is_out_of_date(secret: &Secret, wall: Wall) -> bool {
    let mut leaf = [0; MAX_CERTIFICATE_DER_BYTES as usize];
    let mut blocks = Blocks::new(secret.pair().0.as_bytes());
    let Some(Ok((Label::Certificate, len))) = blocks.next_into(&mut leaf) else { return false };
    wall >= PLAUSIBLE && Validity::of(&leaf[..len]).is_ok_and(|validity| !validity.holds(wall))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::StatusQueue;
    use crate::limits::Capacities;
    use crate::reconcile::Settings;
    use crate::reconcile::status::Sink;
    use crate::resource::Meta;
    use crate::resource::document::Document;
    use crate::shell::place::boxed_zeroed;
    use crate::stdx::Full;
    use core::net::SocketAddr;
    use std::boxed::Box;
    use std::format;
    use std::string::String;

    /// All that does not begin with "good" is malformed.
    fn vet(chain: &str, _: &str) -> PairProblem {
        if chain.starts_with("good") { PairProblem::None } else { PairProblem::Malformed }
    }

    fn controller() -> Box<Controller> {
        let mut controller = boxed_zeroed::<Controller>();
        let controller_name = crate::stdx::Short::new("a/b").unwrap();
        let pool = crate::reconcile::addresses::AddressPool::parse("10.0.0.1").unwrap();
        let settings = Settings { controller: controller_name, pool, ..Settings::default() };
        controller.init(settings, &Capacities::DEFAULT);
        controller.set_vet(vet);
        controller.add_router(SocketAddr::from(([127, 0, 0, 1], 9901)), Now::default());
        Kind::ALL.into_iter().for_each(|kind| controller.synced(kind));
        controller.set_epoch(1);
        let class = r#"{"metadata":{"name":"c"},"spec":{"controllerName":"a/b"}}"#;
        take(&mut controller, Kind::GatewayClass, class);
        controller
    }

    fn take(controller: &mut Controller, kind: Kind, object: &str) {
        let mut document = boxed_zeroed::<Document>();
        crate::shell::json::parse(object.as_bytes(), &mut document).unwrap();
        controller.upsert(kind, document.root(), None).unwrap();
    }

    fn gateway(reference: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"g","namespace":"ns"}},"spec":{{"gatewayClassName":"c","listeners":
            [{{"name":"l","port":443,"protocol":"HTTPS","tls":{{"certificateRefs":[{reference}]}}}}]}}}}"#
        )
    }

    fn secret(namespace: &str, chain: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"s","namespace":"{namespace}"}},
            "stringData":{{"tls.crt":"{chain}","tls.key":"key"}}}}"#
        )
    }

    const GRANT: &str = r#"{"metadata":{"name":"x","namespace":"other"},"spec":{
        "from":[{"group":"gateway.networking.k8s.io","kind":"Gateway","namespace":"ns"}],
        "to":[{"group":"","kind":"Secret","name":"s"}]}}"#;

    fn at(ms: u64) -> Now {
        Now { mono: Instant::default() + Duration::from_millis(ms), wall: Wall(0) }
    }

    /// The chains in the published Snapshot.
    fn chains(controller: &Controller) -> String {
        let s = controller.published().expect("published");
        let chains = s.certificates.as_slice().iter().map(|c| s.pem.get(c.chain));
        chains.collect::<std::vec::Vec<_>>().join(" ")
    }

    fn relist(controller: &mut Controller, secrets: &[String]) {
        controller.resync_begin(Kind::Secret);
        secrets.iter().for_each(|secret| take(controller, Kind::Secret, secret));
        controller.resync_end(Kind::Secret, true);
    }

    #[test]
    fn only_what_a_gateway_refers_to_is_kept_and_a_new_reference_lists_again() {
        let mut controller = controller();
        take(&mut controller, Kind::Secret, &secret("ns", "good"));
        assert!(controller.stores().secrets.is_empty(), "nobody refers to it");
        assert!(controller.tick(at(0)));
        take(&mut controller, Kind::Gateway, &gateway(r#"{"name":"s"}"#));
        assert!(!controller.tick(at(1)), "the Secret may be on its way");
        assert_eq!(controller.wants_relist(), Some(Kind::Secret));
        controller.resync_begin(Kind::Secret);
        assert_eq!(controller.wants_relist(), None);
        assert!(!controller.tick(at(2)), "the list is not through");
        take(&mut controller, Kind::Secret, &secret("ns", "good"));
        controller.resync_end(Kind::Secret, true);
        assert!(controller.tick(at(3)));
        assert_eq!(chains(&controller), "good");
        // Another change of the Gateway refers to nothing new.
        take(&mut controller, Kind::Gateway, &gateway(r#"{"name":"s","kind":"Secret"}"#));
        assert_eq!(controller.wants_relist(), None);
    }

    #[test]
    fn what_does_not_come_is_not_waited_for_for_ever() {
        let mut controller = controller();
        assert!(controller.tick(at(0)));
        take(&mut controller, Kind::Gateway, &gateway(r#"{"name":"s"}"#));
        let patience = u64::from(SECRET_WAIT_MS);
        assert!(!controller.tick(at(1)) && !controller.tick(at(patience)));
        assert!(controller.tick(at(patience + 1)) || controller.published().is_some());
        assert_eq!(chains(&controller), "");
    }

    /// A controller that starts anew while the API server is slow takes no certificate from the
    /// routers, which serve what an earlier one has pushed.
    #[test]
    fn the_first_snapshot_waits_for_its_secrets_however_long() {
        let mut controller = controller();
        take(&mut controller, Kind::Gateway, &gateway(r#"{"name":"s"}"#));
        let late = u64::from(SECRET_WAIT_MS) * 10;
        assert!(!controller.tick(at(0)) && !controller.tick(at(late)));
        assert!(controller.published().is_none());
        controller.resync_begin(Kind::Secret);
        assert!(!controller.tick(at(late * 2)), "the list broke, and begins again");
        relist(&mut controller, &[secret("ns", "good")]);
        assert!(controller.tick(at(late * 3)));
        assert_eq!(chains(&controller), "good");
    }

    struct Names(String);

    impl StatusQueue for Names {
        fn push(&mut self, _: Kind, meta: &Meta, _: &str) -> Result<(), Full> {
            self.0 += meta.key.name.as_str();
            Ok(())
        }
    }

    /// What came since the last Snapshot has no place in what was reconciled.
    #[test]
    fn no_status_is_written_while_a_snapshot_waits_for_secrets() {
        let mut controller = controller();
        assert!(controller.tick(at(0)));
        take(&mut controller, Kind::Gateway, &gateway(r#"{"name":"s"}"#));
        let route = r#"{"metadata":{"name":"r","namespace":"ns"},
            "spec":{"parentRefs":[{"name":"g"}]}}"#;
        take(&mut controller, Kind::HttpRoute, route);
        assert!(!controller.tick(at(1)));
        let mut names = Names(String::new());
        controller.write_statuses(at(1), &mut names);
        assert_eq!(names.0, "");
        relist(&mut controller, &[secret("ns", "good")]);
        assert!(controller.tick(at(2)));
        controller.write_statuses(at(2), &mut names);
        assert_eq!(names.0, "cgr");
    }

    #[test]
    fn the_last_usable_pair_stays() {
        let mut controller = controller();
        take(&mut controller, Kind::Gateway, &gateway(r#"{"name":"s"}"#));
        relist(&mut controller, &[secret("ns", "good-1")]);
        controller.tick(at(0));
        for (chain, served) in
            [("bad", "good-1"), ("good-2", "good-2"), ("worse", "good-2"), ("", "good-2")]
        {
            take(&mut controller, Kind::Secret, &secret("ns", chain));
            controller.tick(at(1));
            assert_eq!(chains(&controller), served, "after {chain}");
        }
        // Deleted and made anew, it begins anew; also when the deletion was missed.
        let anew = secret("ns", "bad").replace(r#""name":"s""#, r#""name":"s","uid":"2""#);
        take(&mut controller, Kind::Secret, &anew);
        controller.tick(at(2));
        assert_eq!(chains(&controller), "");
        take(&mut controller, Kind::Secret, &secret("ns", "good-3"));
        controller.tick(at(2));
        controller.delete(Kind::Secret, &Key::new("ns", "s").unwrap());
        controller.tick(at(2));
        take(&mut controller, Kind::Secret, &secret("ns", "bad"));
        controller.tick(at(3));
        assert_eq!(chains(&controller), "");
    }

    struct Bodies(String);

    impl Sink for Bodies {
        fn status(&mut self, _: Kind, _: &Meta, _: u64, _: u64, body: &str) {
            self.0 += body;
        }
    }

    #[test]
    fn a_gateway_without_an_address_publishes_no_key_and_says_what_does_not_resolve() {
        let mut controller = controller();
        let older = gateway(r#"{"name":"s"}"#);
        take(&mut controller, Kind::Gateway, &older);
        let reference = r#"{"name":"s","namespace":"other"}"#;
        let younger = gateway(reference).replace(r#""name":"g""#, r#""name":"h""#);
        take(&mut controller, Kind::Gateway, &younger);
        take(&mut controller, Kind::ReferenceGrant, GRANT);
        relist(&mut controller, &[secret("ns", "good"), secret("other", "good-2")]);
        controller.tick(at(0));
        assert_eq!(chains(&controller), "good", "there is one address");
        controller.delete(Kind::ReferenceGrant, &Key::new("other", "x").unwrap());
        controller.tick(at(1));
        let mut bodies = Bodies(String::new());
        controller.all_statuses(at(1), &mut bodies);
        assert!(bodies.0.contains("RefNotPermitted"), "{}", bodies.0);
    }

    #[test]
    fn a_secret_of_another_namespace_needs_a_grant() {
        let mut controller = controller();
        let reference = r#"{"name":"s","namespace":"other"}"#;
        take(&mut controller, Kind::Gateway, &gateway(reference));
        relist(&mut controller, &[secret("other", "good")]);
        controller.tick(at(0));
        assert_eq!(chains(&controller), "");
        take(&mut controller, Kind::ReferenceGrant, GRANT);
        controller.tick(at(1));
        assert_eq!(chains(&controller), "good");
        controller.delete(Kind::ReferenceGrant, &Key::new("other", "x").unwrap());
        controller.tick(at(2));
        assert_eq!(chains(&controller), "", "a revoked grant is gone from the next Snapshot");
    }
}
