//! A digest of the status entries that serval owns: equal when nothing needs to be written.
//!
//! In: the same calls from two sides, the status read from the API server and the status wanted.
//! lastTransitionTime is not in it.

use super::Kind;
use super::document::Value;
use crate::stdx::fnv::Fnv;

/// Digest of the own status of an object as the API server has it.
pub fn of_status(kind: Kind, status: Value<'_>, controller: &str) -> u64 {
    let mut digest = Digest::new();
    match kind {
        Kind::GatewayClass => digest.observe_class(status),
        Kind::Gateway => digest.observe_gateway(status),
        Kind::HttpRoute => digest.observe_route(status, controller),
        _ => return 0,
    }
    digest.finish()
}

/// The running digest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Digest(Fnv);

/// Condition types that serval owns on GatewayClass, Gateway and its listeners.
pub const OWN_CONDITIONS: [&str; 4] = ["Accepted", "Programmed", "ResolvedRefs", "Conflicted"];

impl Digest {
    /// The empty digest.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field.
    #[inline]
    pub fn field(&mut self, text: &str) {
        self.0.write(&(text.len() as u32).to_le_bytes());
        self.0.write(text.as_bytes());
    }

    /// Adds a number.
    #[inline]
    pub fn number(&mut self, value: i64) {
        self.0.write(&value.to_le_bytes());
    }

    /// Adds a condition.
    #[inline]
    pub fn condition(&mut self, kind: &str, status: &str, reason: &str, generation: i64) {
        self.field(kind);
        self.field(status);
        self.field(reason);
        self.number(generation);
    }

    /// The digest.
    pub fn finish(self) -> u64 {
        self.0.finish()
    }

    /// Adds conditions as the API server has them.
    pub fn observe_conditions(&mut self, owner: Value<'_>) {
        let Some(conditions) = owner.get("conditions") else { return };
        for condition in conditions.items() {
            let kind = condition.text("type");
            if !OWN_CONDITIONS.contains(&kind) {
                continue;
            }
            let generation = condition.get("observedGeneration").and_then(Value::int).unwrap_or(0);
            self.condition(kind, condition.text("status"), condition.text("reason"), generation);
            self.field(condition.text("message"));
        }
    }

    fn observe_class(&mut self, status: Value<'_>) {
        self.observe_conditions(status);
        for feature in status.get("supportedFeatures").iter().flat_map(|f| f.items()) {
            self.field(feature.text("name"));
        }
    }

    fn observe_gateway(&mut self, status: Value<'_>) {
        self.observe_conditions(status);
        for address in status.get("addresses").iter().flat_map(|a| a.items()) {
            self.field(address.text("type"));
            self.field(address.text("value"));
        }
        for listener in status.get("listeners").iter().flat_map(|l| l.items()) {
            self.field(listener.text("name"));
            self.number(listener.get("attachedRoutes").and_then(Value::int).unwrap_or(0));
            for kind in listener.get("supportedKinds").iter().flat_map(|k| k.items()) {
                self.field(kind.text("kind"));
            }
            self.observe_conditions(listener);
        }
    }

    fn observe_route(&mut self, status: Value<'_>, controller: &str) {
        for parent in status.get("parents").iter().flat_map(|p| p.items()) {
            if parent.text("controllerName") != controller {
                continue;
            }
            let parent_ref = parent.get("parentRef").unwrap_or(parent.nothing());
            for member in ["group", "kind", "namespace", "name", "sectionName"] {
                self.field(parent_ref.text(member));
            }
            self.number(parent_ref.get("port").and_then(Value::int).unwrap_or(0));
            self.observe_conditions(parent);
        }
    }
}
