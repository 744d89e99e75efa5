//! Reading fields of a [`Document`](super::document::Document): required, optional, defaulted,
//! each error with its path and line.

use super::document::{Kind as ValueKind, Value};
use super::key::{Key, Meta};
use super::store::Refusal;
use crate::limits::{MAX_LABEL_BYTES, MAX_NAME_BYTES};
use crate::stdx::{Arena, Full, Short, Text, Wall};
use core::fmt;

/// Why an object was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A field breaks a rule of the API.
    Invalid {
        /// Path of the field: `spec.rules[0].matches`.
        path: Short<160>,
        /// Line in its source; 0 when unknown.
        line: u32,
        /// What must hold and does not.
        what: &'static str,
    },
    /// It does not fit: the limit's name in limits.toml.
    TooLarge {
        /// `MAX_OBJECT_TEXT_BYTES`, …
        limit: &'static str,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Invalid { path, what, .. } if path.is_empty() => f.write_str(what),
            Problem::Invalid { path, what, .. } => write!(f, "{path}: {what}"),
            Problem::TooLarge { limit } => write!(f, "larger than {limit} allows"),
        }
    }
}

impl Problem {
    /// Why an object with this problem is refused.
    pub fn refusal(&self) -> Refusal {
        match self {
            Problem::TooLarge { .. } => Refusal::TooLarge,
            Problem::Invalid { .. } => Refusal::Invalid,
        }
    }

    /// The line, where there is one.
    pub fn line(&self) -> u32 {
        match self {
            Problem::Invalid { line, .. } => *line,
            Problem::TooLarge { .. } => 0,
        }
    }
}

/// A problem with this value.
pub fn invalid(value: Value<'_>, what: &'static str) -> Problem {
    let path = Short::truncated(format_args!("{}", value.path()));
    Problem::Invalid { path, line: value.line(), what }
}

/// A problem with a member of this value, which may be absent.
pub fn invalid_member(value: Value<'_>, member: &str, what: &'static str) -> Problem {
    if let Some(present) = value.get(member) {
        return invalid(present, what);
    }
    let dot = if value.path_is_root() { "" } else { "." };
    let path = Short::truncated(format_args!("{}{dot}{member}", value.path()));
    Problem::Invalid { path, line: value.line(), what }
}

/// The problem of a table or arena that is full.
pub fn too_large(limit: &'static str) -> impl Fn(Full) -> Problem {
    move |Full| Problem::TooLarge { limit }
}

/// A string member; None when absent.
pub fn string<'d>(value: Value<'d>, member: &str) -> Result<Option<&'d str>, Problem> {
    let Some(found) = value.get(member) else { return Ok(None) };
    found.str().map(Some).ok_or_else(|| invalid(found, "must be a string"))
}

/// A string member that must be there and not empty.
pub fn required<'d>(value: Value<'d>, member: &str) -> Result<&'d str, Problem> {
    match string(value, member)? {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(invalid_member(value, member, "is required")),
    }
}

/// An integer member in a range; None when absent.
pub fn int(value: Value<'_>, member: &str, min: i64, max: i64) -> Result<Option<i64>, Problem> {
    let Some(found) = value.get(member) else { return Ok(None) };
    match found.int() {
        Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
        Some(_) => Err(invalid(found, "is out of range")),
        None => Err(invalid(found, "must be an integer")),
    }
}

/// A port member, 1-65535; None when absent.
pub fn port(value: Value<'_>, member: &str) -> Result<Option<u16>, Problem> {
    Ok(int(value, member, 1, 65535)?.map(|p| p as u16))
}

/// The items of an array member, at most `max` of them; nothing when absent.
pub fn array<'d>(
    value: Value<'d>,
    member: &str,
    max: u32,
) -> Result<super::document::Items<'d>, Problem> {
    match value.get(member) {
        None => Ok(Value::items(value.nothing())),
        Some(found) if found.kind() != ValueKind::Array => Err(invalid(found, "must be a list")),
        Some(found) if found.items().count() > max as usize => {
            Err(invalid(found, "has more items than the API allows"))
        }
        Some(found) => Ok(found.items()),
    }
}

/// Copies a string into an object's arena.
pub fn keep<const N: usize>(arena: &mut Arena<N>, text: &str) -> Result<Text, Problem> {
    arena.push(text).map_err(too_large("MAX_OBJECT_TEXT_BYTES"))
}

/// Copies a string into an object's arena in lower case (hostnames, header names: ASCII).
pub fn keep_lower<const N: usize>(arena: &mut Arena<N>, text: &str) -> Result<Text, Problem> {
    if !text.bytes().any(|b| b.is_ascii_uppercase()) {
        return keep(arena, text);
    }
    let lower = text.chars().map(|c| c.to_ascii_lowercase());
    let start = arena.len();
    for character in lower {
        keep(arena, character.encode_utf8(&mut [0; 4]))?;
    }
    Ok(Text { offset: start, len: arena.len() - start })
}

/// metadata: name, namespace (defaulted for namespaced kinds), uid, age, generation.
pub fn meta(object: Value<'_>, cluster_scoped: bool) -> Result<Meta, Problem> {
    let metadata =
        object.get("metadata").ok_or_else(|| invalid_member(object, "metadata", "is required"))?;
    let name = required(metadata, "name")?;
    let namespace = match string(metadata, "namespace")? {
        _ if cluster_scoped => "",
        None | Some("") => "default",
        Some(namespace) => namespace,
    };
    if name.len() > MAX_NAME_BYTES as usize || !is_subdomain(name) {
        return Err(invalid_member(metadata, "name", "must be a lower case RFC 1123 subdomain"));
    }
    if namespace.len() > MAX_LABEL_BYTES as usize || namespace.contains('.') {
        return Err(invalid_member(metadata, "namespace", "must be a lower case RFC 1123 label"));
    }
    let key = Key::new(namespace, name).map_err(too_large("MAX_NAME_BYTES"))?;
    let uid = Short::truncated(format_args!("{}", string(metadata, "uid")?.unwrap_or("")));
    let created = string(metadata, "creationTimestamp")?.and_then(Wall::parse_rfc3339);
    let generation = int(metadata, "generation", 0, i64::MAX)?.unwrap_or(0);
    Ok(Meta { key, uid, created: created.map_or(0, |w| w.0), generation })
}

/// RFC 1123 subdomain: labels of lower case letters, digits and `-`.
pub fn is_subdomain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES as usize
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// A Gateway API Duration (GEP-2257: `1h30m`, `100ms`) in milliseconds.
pub fn duration_ms(text: &str) -> Option<u32> {
    let mut rest = text.as_bytes();
    let mut total = 0u64;
    for _ in 0..4 {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || digits > 5 {
            return None;
        }
        let number: u64 = core::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        rest = &rest[digits..];
        let (scale, unit) = match rest {
            [b'm', b's', ..] => (1, 2),
            [b's', ..] => (1000, 1),
            [b'm', ..] => (60_000, 1),
            [b'h', ..] => (3_600_000, 1),
            _ => return None,
        };
        total += number * scale;
        rest = &rest[unit..];
        if rest.is_empty() {
            return Some(total.min(u64::from(u32::MAX) - 1) as u32);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [("0s", Some(0)), ("100ms", Some(100)), ("1h30m10s5ms", Some(5_410_005))];
        for (text, ms) in cases {
            assert_eq!(duration_ms(text), ms);
        }
        for bad in ["", "1", "s", "-1s", "1.5s", "123456s", "1s1s1s1s1s"] {
            assert_eq!(duration_ms(bad), None, "{bad}");
        }
    }
}
