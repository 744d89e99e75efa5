//! Header fields: which are ours to write, which must not cross, and what they say of the message.
//!
//! In: the fields of one head as httparse found them. Out: a [`Scan`]: what frames the body and the
//! connection, and two bit sets over the fields that the renderer and the route's matches obey.

use crate::limits::{MAX_CONNECTION_OPTIONS, MAX_HEADER_FIELDS};
pub use httparse::Header as Field;
use static_assertions::const_assert;

// The bit sets of a Scan hold every field.
const_assert!(MAX_HEADER_FIELDS <= 128);

/// What is wrong with the fields of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// A line does not end in CRLF, or something stands between lines.
    LineEnd,
    /// Content-Length is not one plain decimal number, or is there twice.
    ContentLength,
    /// Transfer-Encoding is not exactly `chunked`, or is there twice.
    TransferEncoding,
    /// Both, which is how requests are smuggled (RFC 9112 section 6.1).
    Ambiguous,
    /// A second Host.
    Host,
    /// Connection holds something that is no list of tokens, or more than
    /// [`MAX_CONNECTION_OPTIONS`] of them.
    Connection,
}

/// Which way a message goes; X-Forwarded fields mean something only in requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a client.
    Request,
    /// From an upstream.
    Response,
}

/// What the fields of one head say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan<'b> {
    /// Fields that do not cross and match nothing: hop-by-hop ones (RFC 9110 section 7.6.1), those
    /// that Connection names, and inbound X-Forwarded-* and Forwarded.
    pub stripped: u128,
    /// Fields that the renderer writes itself: Host, Content-Length.
    pub own: u128,
    /// The one Host.
    pub host: Option<&'b [u8]>,
    /// The one Content-Length.
    pub content_length: Option<u64>,
    /// Transfer-Encoding: chunked.
    pub chunked: bool,
    /// Connection: close.
    pub close: bool,
    /// Connection: upgrade.
    pub upgrade: bool,
    /// `websocket` is among what Upgrade lists.
    pub websocket: bool,
    /// The value of Expect.
    pub expect: Option<&'b [u8]>,
    /// Index of the Expect field, for a sender whose Expect must be ignored.
    pub expect_bit: u128,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Expect,
    Upgrade,
    Trailer,
    Hop,
    Forwarded,
    Lookalike,
}

/// Checks every line's end and reads the fields. `line_end` is where the start line ends, without
/// its CRLF; `head_len` where httparse says the head ends.
pub fn scan<'b>(
    bytes: &'b [u8],
    line_end: usize,
    head_len: usize,
    fields: &[Field<'b>],
    direction: Direction,
) -> Result<Scan<'b>, FieldError> {
    let mut scan = Scan::default();
    let mut at = crlf(bytes, line_end)?;
    let (mut codings, mut options, mut announced) = (0u32, 0u32, 0u128);
    for (index, field) in fields.iter().enumerate() {
        if offset(bytes, field.name.as_bytes()) != at {
            return Err(FieldError::LineEnd);
        }
        at = crlf(bytes, skip_blanks(bytes, offset(bytes, field.value) + field.value.len()))?;
        let bit = 1u128 << index;
        match kind(field.name.as_bytes()) {
            Kind::Other => {}
            Kind::Host if direction == Direction::Request => {
                scan.own |= bit;
                if scan.host.replace(field.value).is_some() {
                    return Err(FieldError::Host);
                }
            }
            Kind::ContentLength => {
                scan.own |= bit;
                let length = decimal(field.value).ok_or(FieldError::ContentLength)?;
                if scan.content_length.replace(length).is_some() {
                    return Err(FieldError::ContentLength);
                }
            }
            Kind::TransferEncoding => {
                scan.stripped |= bit;
                codings += 1;
                scan.chunked = field.value.eq_ignore_ascii_case(b"chunked");
            }
            Kind::Connection => {
                scan.stripped |= bit;
                options += connection(field.value, &mut scan)?;
            }
            Kind::Expect if direction == Direction::Request => {
                scan.expect = Some(field.value);
                scan.expect_bit |= bit;
            }
            Kind::Upgrade => {
                scan.stripped |= bit;
                scan.websocket |= lists(field.value, b"websocket");
            }
            Kind::Trailer => announced |= bit,
            Kind::Forwarded if direction == Direction::Response => {}
            Kind::Host | Kind::Expect => {}
            Kind::Hop | Kind::Forwarded | Kind::Lookalike => scan.stripped |= bit,
        }
    }
    if crlf(bytes, at)? != head_len {
        return Err(FieldError::LineEnd);
    }
    check_framing(&scan, codings)?;
    if !scan.chunked {
        // Only after chunks can there be what Trailer announces.
        scan.stripped |= announced;
    }
    if options > 0 {
        strip_nominated(fields, options, &mut scan)?;
    }
    Ok(scan)
}

/// That a body's length can be read in one way only.
fn check_framing(scan: &Scan<'_>, codings: u32) -> Result<(), FieldError> {
    if codings > 1 || (codings == 1 && !scan.chunked) {
        return Err(FieldError::TransferEncoding);
    }
    if scan.chunked && scan.content_length.is_some() {
        return Err(FieldError::Ambiguous);
    }
    Ok(())
}

/// Where `part`, a slice of `bytes`, begins in it.
fn offset(bytes: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize)
}

/// The index after the CRLF at `at`.
fn crlf(bytes: &[u8], at: usize) -> Result<usize, FieldError> {
    match bytes.get(at..at.wrapping_add(2)) {
        Some(b"\r\n") => Ok(at + 2),
        _ => Err(FieldError::LineEnd),
    }
}

fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    at
}

/// A plain decimal number: digits only, at least one, no overflow.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0u64, |n, b| n * 10 + u64::from(b - b'0')))
}

/// Whether a comma-separated list has a token.
fn lists(value: &[u8], token: &[u8]) -> bool {
    value.split(|&b| b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

/// Reads one Connection field; how many options other than `close`, `keep-alive` and `upgrade` it
/// names.
fn connection(value: &[u8], scan: &mut Scan<'_>) -> Result<u32, FieldError> {
    let mut others = 0;
    for option in value.split(|&b| b == b',') {
        let option = option.trim_ascii();
        if option.eq_ignore_ascii_case(b"close") {
            scan.close = true;
        } else if option.eq_ignore_ascii_case(b"upgrade") {
            // The Upgrade field never crosses as it came.
            scan.upgrade = true;
        } else if !option.is_empty() && !option.eq_ignore_ascii_case(b"keep-alive") {
            if !option.iter().all(|&b| is_token(b)) {
                return Err(FieldError::Connection);
            }
            others += 1;
        }
    }
    Ok(others)
}

/// Marks the fields that Connection names; those the renderer writes itself are not affected.
fn strip_nominated(
    fields: &[Field<'_>],
    options: u32,
    scan: &mut Scan<'_>,
) -> Result<(), FieldError> {
    if options > MAX_CONNECTION_OPTIONS {
        return Err(FieldError::Connection);
    }
    for field in fields.iter().filter(|f| kind(f.name.as_bytes()) == Kind::Connection) {
        for option in field.value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            for (index, named) in fields.iter().enumerate() {
                if named.name.as_bytes().eq_ignore_ascii_case(option) {
                    scan.stripped |= 1u128 << index;
                }
            }
        }
    }
    scan.stripped &= !scan.own;
    Ok(())
}

/// Whether a byte may stand in a token (RFC 9110 section 5.6.2).
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether a field frames a message, belongs to one connection, or says whom the message is for:
/// nobody but the renderer writes it. X-Forwarded fields are not among them.
pub fn is_reserved(name: &[u8]) -> bool {
    !matches!(kind(name), Kind::Other | Kind::Forwarded)
}

/// Whether a field says what a proxy knows of the client (Forwarded, X-Forwarded-*).
pub fn is_forwarded(name: &[u8]) -> bool {
    kind(name) == Kind::Forwarded
}

/// The kind of a field by its name. A name that only differs by `_` for `-` is a lookalike: CGI
/// and its heirs read both as one (CVE-2026-26308's class), so it does not cross.
fn kind(name: &[u8]) -> Kind {
    let found = match name.len() {
        2 if same(name, b"te") => Kind::Hop,
        4 if same(name, b"host") => Kind::Host,
        6 if same(name, b"expect") => Kind::Expect,
        7 if same(name, b"upgrade") => Kind::Upgrade,
        7 if same(name, b"trailer") => Kind::Trailer,
        9 if same(name, b"forwarded") => Kind::Forwarded,
        10 if same(name, b"connection") => Kind::Connection,
        10 if same(name, b"keep-alive") => Kind::Hop,
        14 if same(name, b"content-length") => Kind::ContentLength,
        14 if same(name, b"http2-settings") => Kind::Hop,
        16 if same(name, b"proxy-connection") => Kind::Hop,
        17 if same(name, b"transfer-encoding") => Kind::TransferEncoding,
        19 if same(name, b"proxy-authorization") => Kind::Hop,
        13.. if same(&name[..12], b"x-forwarded-") => Kind::Forwarded,
        _ => return Kind::Other,
    };
    if name.contains(&b'_') { Kind::Lookalike } else { found }
}

/// Equality without regard to case and with `_` taken for `-`; `lower` is in lower case.
fn same(name: &[u8], lower: &[u8]) -> bool {
    debug_assert_eq!(name.len(), lower.len());
    name.iter().zip(lower).all(|(&a, &b)| a.to_ascii_lowercase() == b || (a == b'_' && b == b'-'))
}

/// Whether all values of the field `name` (in lower case), joined by `, ` as RFC 9110 section 5.3
/// says, are `value`. Fields in `hidden` do not count; false when there is none.
pub fn joined_equals(fields: &[Field<'_>], hidden: u128, name: &[u8], value: &[u8]) -> bool {
    let mut rest = value;
    let mut found = false;
    for (index, field) in fields.iter().enumerate() {
        if hidden >> index & 1 == 1 || !field.name.as_bytes().eq_ignore_ascii_case(name) {
            continue;
        }
        if found {
            match rest.strip_prefix(b", ") {
                Some(after) => rest = after,
                None => return false,
            }
        }
        match rest.strip_prefix(field.value) {
            Some(after) => rest = after,
            None => return false,
        }
        found = true;
    }
    found && rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_joined() {
        let field = |name, value: &'static str| Field { name, value: value.as_bytes() };
        let fields = [field("A", "1"), field("b", "x"), field("a", "2, 3"), field("a", "")];
        assert!(joined_equals(&fields, 0, b"a", b"1, 2, 3, "));
        assert!(joined_equals(&fields, 0b1000, b"a", b"1, 2, 3"));
        assert!(!joined_equals(&fields, 0, b"a", b"1"));
        assert!(!joined_equals(&fields, 0b1000, b"a", b"1, 2, 3x"));
        assert!(!joined_equals(&fields, 0b1000, b"a", b"1,2, 3"));
        assert!(!joined_equals(&fields, 0, b"c", b""));
        assert!(joined_equals(&fields, 0, b"b", b"x"));
        assert!(!joined_equals(&fields, 0b10, b"b", b"x"));
    }

    #[test]
    fn decimals() {
        for (text, n) in [("0", Some(0)), ("007", Some(7)), ("9999999999999999999", None)] {
            let expected = if text.len() == 19 { Some(9_999_999_999_999_999_999) } else { n };
            assert_eq!(decimal(text.as_bytes()), expected, "{text}");
        }
        for bad in
            ["", "+1", "-1", "0x1", "1 ", "1,1", "18446744073709551616", "00000000000000000001"]
        {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn lookalikes() {
        assert!(kind(b"Transfer_Encoding") == Kind::Lookalike);
        assert!(kind(b"X_Forwarded-For") == Kind::Lookalike);
        assert!(kind(b"x-forwarded-anything") == Kind::Forwarded);
        assert!(kind(b"x-forwarded-") == Kind::Other);
        assert!(kind(b"hosts") == Kind::Other);
    }
}
