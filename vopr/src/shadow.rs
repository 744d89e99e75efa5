//! What the controller was told of one kind: the versions of objects that its store must hold.
//!
//! In: the same events that the controller gets. Out: the objects as the API server had them, for
//! the model; whether the store may hold fewer, since it was or is full.

use crate::api_server::Api;
use crate::capacities::ADMITTED;
use crate::model::object::{Kind, Object};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// One kind.
#[derive(Debug)]
pub struct Shadow {
    pub kind: Kind,
    objects: BTreeMap<(String, String), Rc<Object>>,
    /// Seen since the resync began.
    seen: Option<BTreeSet<(String, String)>>,
    over_in_resync: bool,
    /// The store refused something, and was not told the whole state since.
    pub is_behind: bool,
    /// Resyncs that ended.
    pub resyncs: u64,
}

impl Shadow {
    /// Nothing was told.
    pub fn new(kind: Kind) -> Shadow {
        Shadow {
            kind,
            objects: BTreeMap::new(),
            seen: None,
            over_in_resync: false,
            is_behind: false,
            resyncs: 0,
        }
    }

    /// A resync begins.
    pub fn begin(&mut self) {
        self.seen = Some(BTreeSet::new());
        self.over_in_resync = self.objects.len() > ADMITTED[self.kind as usize] as usize;
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
        let before = self.objects.insert(key.clone(), object);
        if self.objects.len() > ADMITTED[self.kind as usize] as usize {
            self.refused();
        }
        match before {
            Some(old) if old.version > version => {
                Err(format!("{key:?} went back from version {} to {version}", old.version))
            }
            _ => Ok(()),
        }
    }

    /// The store did not take an object.
    pub fn refused(&mut self) {
        self.is_behind = true;
        self.over_in_resync = true;
    }

    /// An object is gone.
    pub fn delete(&mut self, namespace: &str, name: &str) {
        self.objects.remove(&(namespace.to_string(), name.to_string()));
    }

    /// The resync ended: what was not seen is gone.
    pub fn end(&mut self) {
        let Some(seen) = self.seen.take() else { return };
        self.objects.retain(|key, _| seen.contains(key));
        self.is_behind = self.over_in_resync;
        self.resyncs += 1;
    }

    /// What was told.
    pub fn objects(&self) -> impl Iterator<Item = &Rc<Object>> {
        self.objects.values()
    }
}
