//! A digest of the status entries that serval owns: equal when nothing needs to be written.
//!
//! In: the same calls from two sides, the status read from the API server and the status wanted.
//! lastTransitionTime is not in it.

use super::document::Value;
use crate::stdx::fnv::Fnv;

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
    pub fn field(&mut self, text: &str) {
        self.0.write(&(text.len() as u32).to_le_bytes());
        self.0.write(text.as_bytes());
    }

    /// Adds a number.
    pub fn number(&mut self, value: i64) {
        self.0.write(&value.to_le_bytes());
    }

    /// Adds a condition.
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
}
