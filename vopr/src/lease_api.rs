//! The Lease at the model API server: GET, POST and PUT with a resourceVersion, and older states
//! that a restored etcd brings back.
//!
//! In: requests of `kube::lease` as they arrive. Out: status and body; who wrote it when.

use crate::network::Time;
use crate::parsed::Parsed;
use serval::kube::request::Method;
use serval::resource::document::Value;
use serval::stdx::Prng;

/// What it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    pub version: u64,
    pub transitions: u64,
    pub holder: String,
}

/// The Lease, and what it was.
#[derive(Debug, Default)]
pub struct Leases {
    pub lease: Option<Lease>,
    past: Vec<Lease>,
    version: u64,
    /// Each write, by whom.
    pub writes: Vec<(Time, String)>,
}

impl Lease {
    fn json(&self) -> String {
        let Lease { version, transitions, holder } = self;
        format!(
            r#"{{"metadata":{{"resourceVersion":"{version}"}},"spec":{{"holderIdentity":"{holder}","leaseTransitions":{transitions}}}}}"#
        )
    }
}

impl Leases {
    /// One that says so, by nobody.
    pub fn set(&mut self, transitions: u64) {
        self.version += 1;
        let (version, holder) = (self.version, "nobody".to_string());
        self.lease = Some(Lease { version, transitions, holder });
    }

    /// Answers a request: HTTP status and body.
    pub fn answer(&mut self, method: Method, body: &[u8], now: Time) -> (u16, String) {
        let Some(held) = self.lease.clone() else {
            return match method {
                // "resourceVersion should not be set on objects to be created"
                Method::Post if version_in(body).is_some() => (500, String::new()),
                Method::Post => (201, self.write(body, now)),
                _ => (404, String::new()),
            };
        };
        match method {
            Method::Get => (200, held.json()),
            Method::Put if names(body, held.version) => (200, self.write(body, now)),
            _ => (409, String::new()),
        }
    }

    fn write(&mut self, body: &[u8], now: Time) -> String {
        let document = Parsed::of(body).expect("a Lease is JSON");
        let of = |name| document.root().at(&["spec", name]);
        let transitions = of("leaseTransitions").and_then(Value::int).unwrap_or(0);
        let holder = of("holderIdentity").and_then(Value::str).unwrap_or("").to_string();
        self.version += 1;
        let (version, transitions) = (self.version, transitions as u64);
        self.writes.push((now, holder.clone()));
        let lease = Lease { version, transitions, holder };
        self.past.push(lease.clone());
        let json = lease.json();
        self.lease = Some(lease);
        json
    }

    /// An older state comes back: as it was once, or none. False: there is no older one.
    pub fn restore(&mut self, prng: &mut Prng) -> bool {
        if self.past.is_empty() {
            return false;
        }
        let at = prng.below(self.past.len() as u64 + 1) as usize;
        self.lease = self.past.get(at).cloned();
        self.past.truncate(at);
        true
    }

    /// It is as before the last one took it, or was never there.
    pub fn restore_before_taken(&mut self) {
        let epoch = self.lease.as_ref().map(|lease| lease.transitions);
        self.past.retain(|past| Some(past.transitions) < epoch);
        self.lease = self.past.last().cloned();
    }
}

/// The Lease that an answer brings.
pub fn read(body: &str) -> Option<Lease> {
    let document = Parsed::of(body.as_bytes())?;
    let of = |path: &[&str]| document.root().at(path);
    Some(Lease {
        version: of(&["metadata", "resourceVersion"])?.str()?.parse().ok()?,
        transitions: of(&["spec", "leaseTransitions"])?.int()? as u64,
        holder: of(&["spec", "holderIdentity"])?.str()?.to_string(),
    })
}

/// The resourceVersion that a body has.
pub fn version_in(body: &[u8]) -> Option<String> {
    let document = Parsed::of(body).expect("a Lease is JSON");
    let named = document.root().at(&["metadata", "resourceVersion"]).and_then(Value::str);
    named.filter(|named| !named.is_empty()).map(str::to_string)
}

/// Whether a body has this resourceVersion, or none: then it is written whatever is there.
fn names(body: &[u8], version: u64) -> bool {
    version_in(body).is_none_or(|named| named == version.to_string())
}
