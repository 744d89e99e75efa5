//! Secret (v1) of type kubernetes.io/tls: whether it has a certificate and a key.
//!
//! TLS listeners are not served yet, so neither bytes are kept; the key never leaves its document.

use super::decode::{self, Problem};
use super::document::Value;
use super::{Kind, Meta, Object};

/// What serval reads of a Secret.
#[derive(Debug, Default)]
pub struct Secret {
    /// Who it is.
    pub meta: Meta,
    /// data["tls.crt"] is there and not empty.
    pub has_certificate: bool,
    /// data["tls.key"] is there and not empty.
    pub has_key: bool,
}

crate::pack_struct!(Secret { meta, has_certificate, has_key });
crate::zeroed_struct!(Secret { meta: Meta, has_certificate: bool, has_key: bool });

impl Object for Secret {
    const KIND: Kind = Kind::Secret;

    fn decode(&mut self, value: Value<'_>, _controller: &str) -> Result<(), Problem> {
        self.meta = decode::meta(value, false)?;
        let has = |name| {
            let of = |part| value.at(&[part, name]).and_then(Value::str);
            of("data").or(of("stringData")).is_some_and(|text| !text.is_empty())
        };
        self.has_certificate = has("tls.crt");
        self.has_key = has("tls.key");
        Ok(())
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }
}
