//! What the controller was told of one kind: the versions of objects that its store must hold.
//!
//! In: the same events that the controller gets. Out: the objects as the API server had them, the
//! oldest as many as are admitted, for the model; whether the store may hold others, since an
//! object went while some were refused, and those are not known until the next relist.

use crate::api_server::Api;
use crate::capacities::ADMITTED;
use crate::model::object::{Kind, Object, Spec};
use crate::model::secret::Pairs;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// One kind.
#[derive(Debug)]
pub struct Shadow {
    pub kind: Kind,
    objects: BTreeMap<(String, String), Rc<Object>>,
    /// Of Secrets.
    pub pairs: Pairs,
    /// Seen since the resync began.
    seen: Option<BTreeSet<(String, String)>>,
    /// There were more than are admitted at some time of the resync.
    over_in_resync: bool,
    /// Something went in the resync.
    gone_in_resync: bool,
    /// Something went while others were refused, and the whole state was not told since.
    pub is_behind: bool,
    /// Resyncs that ended.
    pub resyncs: u64,
    /// Rises with each change of the objects.
    pub version: u64,
}

impl Shadow {
    /// Nothing was told.
    pub fn new(kind: Kind) -> Shadow {
        Shadow {
            kind,
            objects: BTreeMap::new(),
            pairs: Pairs::default(),
            seen: None,
            over_in_resync: false,
            gone_in_resync: false,
            is_behind: false,
            resyncs: 0,
            version: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.objects.len() > ADMITTED[self.kind as usize] as usize
    }

    /// Whether a resync runs.
    pub fn is_listing(&self) -> bool {
        self.seen.is_some()
    }

    /// Something goes, and may leave a place to one that was refused.
    fn went(&mut self) {
        self.is_behind |= self.is_over();
        self.gone_in_resync = true;
    }

    /// A resync begins.
    pub fn begin(&mut self) {
        self.seen = Some(BTreeSet::new());
        (self.over_in_resync, self.gone_in_resync) = (self.is_over(), false);
    }

    /// An object is there in a version; what is wrong with that.
    pub fn upsert(
        &mut self,
        api: &Api,
        namespace: &str,
        name: &str,
        version: u64,
    ) -> Result<(), String> {
        let key = (self.kind, namespace.to_string(), name.to_string());
        let Some(object) = api.version_of(&key, version) else {
            return Err(format!("{key:?} never existed in version {version}"));
        };
        let key = (key.1, key.2);
        if let Some(seen) = &mut self.seen {
            seen.insert(key.clone());
        }
        if self.objects.get(&key).is_some_and(|old| old.uid != object.uid) {
            // Another object under the same name, a younger one.
            self.went();
        }
        self.pairs.take(&object);
        self.version += 1;
        let before = self.objects.insert(key.clone(), object);
        self.over_in_resync |= self.is_over();
        match before {
            // Unless all of it did.
            Some(old) if old.version > version && !api.is_lost(&old) => {
                Err(format!("{key:?} went back from version {} to {version}", old.version))
            }
            _ => Ok(()),
        }
    }

    /// An object is there in a version that is not taken. Its last one stays where the controller
    /// has it: what was refused has none, and is not known any more when the resync ends.
    pub fn skip(&mut self, namespace: &str, name: &str, is_kept: bool) {
        if let Some(seen) = self.seen.as_mut().filter(|_| is_kept) {
            seen.insert((namespace.to_string(), name.to_string()));
        }
    }

    /// An object is gone.
    pub fn delete(&mut self, namespace: &str, name: &str) {
        self.went();
        self.version += 1;
        self.objects.remove(&(namespace.to_string(), name.to_string()));
        self.pairs.remove(namespace, name);
    }

    /// The resync ended: what was not seen is gone.
    pub fn end(&mut self) {
        let Some(seen) = self.seen.take() else { return };
        let before = self.objects.len();
        self.version += 1;
        self.objects.retain(|key, _| seen.contains(key));
        self.pairs.retain(|key| seen.contains(key));
        self.gone_in_resync |= self.objects.len() < before;
        self.is_behind = self.over_in_resync && self.gone_in_resync;
        self.resyncs += 1;
    }

    /// Of Gateways: whether one that is admitted refers to a Secret.
    pub fn refers_to(&self, namespace: &str, name: &str) -> bool {
        self.objects().iter().any(|gateway| {
            let Spec::Gateway { listeners, .. } = &gateway.spec else { return false };
            let mut refs = listeners.iter().flat_map(|l| &l.certificates);
            refs.any(|r| {
                r.name == name && r.namespace.as_ref().unwrap_or(&gateway.key.1) == namespace
            })
        })
    }

    /// What was told, admitted or not.
    pub fn told(&self) -> impl Iterator<Item = &Rc<Object>> {
        self.objects.values()
    }

    /// What is admitted of what was told: the oldest.
    pub fn objects(&self) -> Vec<Rc<Object>> {
        let mut by_age: Vec<Rc<Object>> = self.objects.values().cloned().collect();
        by_age.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
        by_age.truncate(ADMITTED[self.kind as usize] as usize);
        by_age
    }
}
