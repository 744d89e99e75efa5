//! ReferenceGrant (gateway.networking.k8s.io/v1, v1beta1): who may refer to what in a namespace.

use super::decode::{self, Problem, array, invalid_member, keep, required, string, too_large};
use super::document::Value;
use super::{Kind, Meta, Object};
use crate::limits::MAX_GRANT_ENTRIES;
use crate::stdx::{Arena, Table, Text};

/// spec.from[]: group, kind and namespace of the objects that refer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrantFrom {
    /// group.
    pub group: Text,
    /// kind.
    pub kind: Text,
    /// namespace.
    pub namespace: Text,
}

/// spec.to[]: group, kind and (or all) name of the objects referred to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrantTo {
    /// group.
    pub group: Text,
    /// kind.
    pub kind: Text,
    /// name; empty: all.
    pub name: Text,
}

crate::pack_struct!(GrantFrom { group, kind, namespace });
crate::pack_struct!(GrantTo { group, kind, name });

/// What serval reads of a ReferenceGrant.
#[derive(Debug)]
pub struct ReferenceGrant {
    /// Who it is.
    pub meta: Meta,
    /// spec.from.
    pub from: Table<GrantFrom, { MAX_GRANT_ENTRIES as usize }>,
    /// spec.to.
    pub to: Table<GrantTo, { MAX_GRANT_ENTRIES as usize }>,
    /// Strings.
    pub text: Arena<8192>,
}

crate::pack_struct!(ReferenceGrant { meta, from, to, text });
crate::zeroed_struct!(ReferenceGrant {
    meta: Meta,
    from: Table<GrantFrom, { MAX_GRANT_ENTRIES as usize }>,
    to: Table<GrantTo, { MAX_GRANT_ENTRIES as usize }>,
    text: Arena<8192>,
});

impl ReferenceGrant {
    /// Whether it lets (`group`, `kind`) of `namespace` refer to the named object beside it.
    pub fn permits(&self, from: (&str, &str, &str), to: (&str, &str, &str)) -> bool {
        let text = |t| self.text.get(t);
        let from_ok = |f: &GrantFrom| (text(f.group), text(f.kind), text(f.namespace)) == from;
        let to_ok = |t: &GrantTo| {
            (text(t.group), text(t.kind)) == (to.0, to.1)
                && (t.name.is_empty() || text(t.name) == to.2)
        };
        self.from.as_slice().iter().any(from_ok) && self.to.as_slice().iter().any(to_ok)
    }
}

impl Object for ReferenceGrant {
    const KIND: Kind = Kind::ReferenceGrant;

    fn decode(&mut self, value: Value<'_>, _controller: &str) -> Result<(), Problem> {
        self.from.set_cap_cleared(MAX_GRANT_ENTRIES);
        self.to.set_cap_cleared(MAX_GRANT_ENTRIES);
        self.text.set_cap_cleared(self.text.ceiling());
        self.meta = decode::meta(value, false)?;
        let spec = value.get("spec").ok_or_else(|| invalid_member(value, "spec", "is required"))?;
        for item in array(spec, "from", MAX_GRANT_ENTRIES)? {
            let entry = GrantFrom {
                group: keep(&mut self.text, string(item, "group")?.unwrap_or(""))?,
                kind: keep(&mut self.text, required(item, "kind")?)?,
                namespace: keep(&mut self.text, required(item, "namespace")?)?,
            };
            self.from.push(entry).map_err(too_large("MAX_GRANT_ENTRIES"))?;
        }
        for item in array(spec, "to", MAX_GRANT_ENTRIES)? {
            let entry = GrantTo {
                group: keep(&mut self.text, string(item, "group")?.unwrap_or(""))?,
                kind: keep(&mut self.text, required(item, "kind")?)?,
                name: keep(&mut self.text, string(item, "name")?.unwrap_or(""))?,
            };
            self.to.push(entry).map_err(too_large("MAX_GRANT_ENTRIES"))?;
        }
        if self.from.is_empty() || self.to.is_empty() {
            let member = if self.from.is_empty() { "from" } else { "to" };
            return Err(invalid_member(spec, member, "must have at least one item"));
        }
        Ok(())
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }
}
