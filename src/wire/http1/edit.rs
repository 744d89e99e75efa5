//! Edits of header fields: set, add, remove (Gateway API, HTTPHeaderFilter).
//!
//! In: the fields of a head, a list of edits in their order. Out: which fields they replace, and
//! which values they bring; a list as bytes and back, so that it can outlive its configuration.
//!
//! Where several lists follow each other (a rule's, then a backend's), a later set or remove
//! supersedes what an earlier one brought for the same name.

use super::Field;
use super::field;

/// What an edit does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// The field has this value and no other.
    #[default]
    Set,
    /// The field has this value too.
    Add,
    /// The field is not there.
    Remove,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 3] = [Action::Set, Action::Add, Action::Remove];

    /// As the push format has it.
    pub fn name(self) -> &'static str {
        match self {
            Action::Set => "set",
            Action::Add => "add",
            Action::Remove => "remove",
        }
    }
}

/// One edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit<'e> {
    /// What it does.
    pub action: Action,
    /// The field's name, as it is to be written.
    pub name: &'e [u8],
    /// The value; empty for [`Action::Remove`].
    pub value: &'e [u8],
}

impl Edit<'_> {
    /// Whether it takes away what was there under a name.
    fn replaces(&self, name: &[u8]) -> bool {
        self.action != Action::Add && self.name.eq_ignore_ascii_case(name)
    }
}

/// Bits of the fields that edits set or remove.
pub fn replaced<'e>(fields: &[Field<'_>], edits: impl Iterator<Item = Edit<'e>>) -> u128 {
    let mut bits = 0;
    for edit in edits {
        for (index, field) in fields.iter().enumerate() {
            if edit.replaces(field.name.as_bytes()) {
                bits |= 1u128 << index;
            }
        }
    }
    bits
}

/// Whether edits set or remove a field.
pub fn replaces<'e>(mut edits: impl Iterator<Item = Edit<'e>>, name: &[u8]) -> bool {
    edits.any(|edit| edit.replaces(name))
}

/// The fields that edits bring, without those that a later edit replaces.
pub fn brought<'e, E>(edits: E) -> impl Iterator<Item = Edit<'e>>
where
    E: Iterator<Item = Edit<'e>> + Clone,
{
    let mut rest = edits;
    core::iter::from_fn(move || {
        // Bounded by the number of edits.
        loop {
            let edit = rest.next()?;
            let stays = edit.action != Action::Remove && !replaces(rest.clone(), edit.name);
            if stays {
                return Some(edit);
            }
        }
    })
}

/// Why a field's name may not be edited; None when it may. What frames a message, what belongs to
/// one connection and what says whom it is for is the router's own.
pub fn name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > 256 || !name.bytes().all(field::is_token) {
        return Some("must be a token (RFC 9110) of at most 256 bytes");
    }
    if field::is_reserved(name.as_bytes()) {
        return Some(
            "must not be a field of framing, connection or host (Content-Length, \
             Transfer-Encoding, Connection, Upgrade, TE, Trailer, Expect, Host, ...)",
        );
    }
    None
}

/// Why a value may not be given to a field; None when it may (RFC 9110 section 5.5): nothing that
/// would end the line, no control characters, no blanks around it, and at least one byte.
pub fn value_problem(value: &str) -> Option<&'static str> {
    if value.is_empty() || value.len() > 4096 {
        return Some("must have 1 to 4096 bytes");
    }
    let bytes = value.as_bytes();
    if bytes.iter().any(|&b| (b < 0x20 && b != b'\t') || b == 0x7f) {
        return Some("must not hold CR, LF, NUL or other control characters");
    }
    if bytes.trim_ascii().len() != bytes.len() {
        return Some("must not begin or end with a blank");
    }
    None
}

/// Bytes of an edit in a packed list besides name and value.
pub const PACKED_EDIT_BYTES: usize = 5;

/// Bytes of an edit in a packed list; a written field needs one less.
pub fn packed_len(edit: &Edit<'_>) -> usize {
    PACKED_EDIT_BYTES + edit.name.len() + edit.value.len()
}

/// Writes edits as bytes; how many. None when they do not fit.
pub fn pack<'e>(edits: impl Iterator<Item = Edit<'e>>, out: &mut [u8]) -> Option<usize> {
    let mut at = 0;
    for edit in edits {
        let place = out.get_mut(at..at + packed_len(&edit))?;
        place[0] = edit.action as u8;
        place[1..3].copy_from_slice(&(edit.name.len() as u16).to_le_bytes());
        place[3..5].copy_from_slice(&(edit.value.len() as u16).to_le_bytes());
        let (name, value) = place[PACKED_EDIT_BYTES..].split_at_mut(edit.name.len());
        name.copy_from_slice(edit.name);
        value.copy_from_slice(edit.value);
        at += packed_len(&edit);
    }
    Some(at)
}

/// Edits that [`pack`] wrote.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packed<'e>(pub &'e [u8]);

impl<'e> Iterator for Packed<'e> {
    type Item = Edit<'e>;

    fn next(&mut self) -> Option<Edit<'e>> {
        let (head, rest) = self.0.split_at_checked(PACKED_EDIT_BYTES)?;
        let action = Action::ALL[usize::from(head[0])];
        let name = usize::from(u16::from_le_bytes([head[1], head[2]]));
        let value = usize::from(u16::from_le_bytes([head[3], head[4]]));
        let (name, rest) = rest.split_at(name);
        let (value, rest) = rest.split_at(value);
        self.0 = rest;
        Some(Edit { action, name, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn edit(action: Action, name: &'static str, value: &'static str) -> Edit<'static> {
        Edit { action, name: name.as_bytes(), value: value.as_bytes() }
    }

    #[test]
    fn names_and_values_that_may_not_be() {
        for bad in ["", "a b", "a:", "Host", "hOST", "content-length", "Transfer-Encoding", "TE"] {
            assert!(name_problem(bad).is_some(), "{bad}");
        }
        for bad in ["Connection", "Upgrade", "Trailer", "Keep-Alive", "Expect", "content_length"] {
            assert!(name_problem(bad).is_some(), "{bad}");
        }
        for good in ["X-A", "x-forwarded-for", "Forwarded", "Set-Cookie", "Host-Name", "x_a"] {
            assert_eq!(name_problem(good), None, "{good}");
        }
        let long = "a".repeat(4096);
        for good in ["a", "a b", "a\tb", "ä", &long] {
            assert_eq!(value_problem(good), None, "{good}");
        }
        for bad in ["", " a", "a ", "\ta", "a\r\nX: y", "a\n", "a\0", "a\x7f", &(long + "a")] {
            assert!(value_problem(bad).is_some(), "{bad:?}");
        }
        assert_eq!(name_problem(&"a".repeat(256)), None);
        assert!(name_problem(&"a".repeat(257)).is_some());
    }

    #[test]
    fn later_edits_supersede_earlier_ones() {
        let edits = [
            edit(Action::Set, "a", "1"),
            edit(Action::Add, "b", "2"),
            edit(Action::Set, "c", "3"),
            edit(Action::Add, "A", "4"),
            edit(Action::Remove, "B", ""),
            edit(Action::Set, "C", "5"),
        ];
        let left: Vec<_> = brought(edits.iter().copied()).map(|e| e.value).collect();
        assert_eq!(left, [b"1", b"4", b"5"]);
    }

    #[test]
    fn a_packed_list_comes_back() {
        let edits = [edit(Action::Set, "a", "1"), edit(Action::Remove, "bc", "")];
        let needed = edits.iter().map(packed_len).sum::<usize>();
        let mut bytes = [0; 64];
        assert_eq!(pack(edits.iter().copied(), &mut bytes), Some(needed));
        assert!(Packed(&bytes[..needed]).eq(edits.iter().copied()));
        assert_eq!(pack(edits.iter().copied(), &mut bytes[..needed - 1]), None);
    }
}
