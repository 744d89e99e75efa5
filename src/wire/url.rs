//! Request targets: the path's one canonical form, authorities, query parameters.
//!
//! In: bytes of a request target or a Host field. Out: the path that is *both* matched and
//! forwarded, the host, or why it is refused.
//!
//! # The path policy
//!
//! A router and a backend that read a path differently are a hole (CVE-2019-9901, CVE-2021-29492).
//! So there is one form, made once, matched and forwarded byte for byte:
//!
//! - Escapes of unreserved characters are decoded (`%61` is `a`, RFC 3986 section 6.2.2.2); all
//!   other escapes stay, their digits in upper case. `%2F` therefore stays, and separates nothing.
//! - Refused: bytes outside printable ASCII, `\`, `#`, `%00`, `%5C`, an escape without two
//!   hexadecimal digits.
//! - Refused: an element that is `.` or `..`, also when written with escapes, when `%2F` is read as
//!   a separator, or when `;parameters` follow. A gateway has no business in guessing what the
//!   client meant by it; every client library resolves dots before it sends.
//! - Kept as they are: empty elements (`//`) and a trailing slash.
//!
//! The query is forwarded as it came; only comparisons decode it ([`query_value_equals`]).

use crate::limits::MAX_NAME_BYTES;

/// Why a target or an authority is refused. All of them are 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// A byte that no target may hold: outside printable ASCII, `\` or `#`.
    Byte,
    /// `%` without two hexadecimal digits, `%00` or `%5C`.
    Escape,
    /// An element that is `.` or `..` in one of its spellings.
    DotSegment,
    /// Neither `/path`, `*`, nor `http://authority/path`.
    Form,
    /// Userinfo, an empty or overlong host, a byte that no host may hold, or a bad port.
    Authority,
}

const BAD: u8 = 1;
const PERCENT: u8 = 2;
const DOT: u8 = 4;
const UNRESERVED: u8 = 8;
const HOST: u8 = 16;

/// What each byte means in a target.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [BAD; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        let b = byte as u8;
        table[byte] = match b {
            b'\\' | b'#' => BAD,
            b'%' => PERCENT,
            b'.' => DOT | UNRESERVED | HOST,
            b'-' | b'_' => UNRESERVED | HOST,
            b'~' => UNRESERVED,
            _ if b.is_ascii_alphanumeric() => UNRESERVED | HOST,
            _ => 0,
        };
        byte += 1;
    }
    table
}

/// The canonical path of `raw`: `raw` itself when it is canonical already, else written into
/// `scratch`, which must be at least as long.
pub fn canonical_path<'a>(raw: &'a [u8], scratch: &'a mut [u8]) -> Result<&'a [u8], UrlError> {
    assert!(scratch.len() >= raw.len());
    if raw.first() != Some(&b'/') {
        return Err(UrlError::Form);
    }
    let seen = raw.iter().fold(0, |seen, &b| seen | CLASS[usize::from(b)]);
    if seen & BAD != 0 {
        return Err(UrlError::Byte);
    }
    let path = if seen & PERCENT != 0 { unescape(raw, scratch)? } else { raw };
    if seen & (PERCENT | DOT) != 0 && has_dot_segment(path) {
        return Err(UrlError::DotSegment);
    }
    Ok(path)
}

/// Decodes what is unreserved, puts the other escapes in upper case.
fn unescape<'a>(raw: &[u8], out: &'a mut [u8]) -> Result<&'a [u8], UrlError> {
    let (mut from, mut to) = (0, 0);
    while from < raw.len() {
        if raw[from] != b'%' {
            out[to] = raw[from];
            (from, to) = (from + 1, to + 1);
            continue;
        }
        let byte = escape_at(raw, from).ok_or(UrlError::Escape)?;
        if byte == 0 || byte == b'\\' {
            return Err(UrlError::Escape);
        }
        if CLASS[usize::from(byte)] & UNRESERVED != 0 {
            out[to] = byte;
            to += 1;
        } else {
            out[to] = b'%';
            out[to + 1] = raw[from + 1].to_ascii_uppercase();
            out[to + 2] = raw[from + 2].to_ascii_uppercase();
            to += 3;
        }
        from += 3;
    }
    Ok(&out[..to])
}

/// The byte that the escape at `at` stands for.
fn escape_at(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |i: usize| char::from(*bytes.get(i)?).to_digit(16);
    debug_assert_eq!(bytes[at], b'%');
    Some((digit(at + 1)? * 16 + digit(at + 2)?) as u8)
}

/// Whether an element is `.` or `..`, with `%2F` as a separator too and parameters cut off.
fn has_dot_segment(path: &[u8]) -> bool {
    let mut at = 0;
    let mut start = true;
    while at < path.len() {
        if path[at] == b'/' {
            (at, start) = (at + 1, true);
            continue;
        }
        if path[at..].starts_with(b"%2F") {
            (at, start) = (at + 3, true);
            continue;
        }
        if start {
            let dots = path[at..].iter().take(3).take_while(|&&b| b == b'.').count();
            let rest = &path[at + dots..];
            let ends = matches!(rest.first(), None | Some(b'/' | b';'))
                || rest.starts_with(b"%2F")
                || rest.starts_with(b"%3B");
            if (1..=2).contains(&dots) && ends {
                return true;
            }
        }
        (at, start) = (at + 1, false);
    }
    false
}

/// A request target in its parts (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Of the absolute form, else None.
    pub authority: Option<&'a [u8]>,
    /// Before the `?`, as it came; `/` when an absolute form has none, `*` for the asterisk form.
    pub path: &'a [u8],
    /// After the `?`; None when there is none.
    pub query: Option<&'a [u8]>,
}

/// Takes a target apart. The authority form belongs to CONNECT, which nobody here serves.
pub fn split_target(target: &[u8]) -> Result<Target<'_>, UrlError> {
    let (authority, rest) = match target.first() {
        Some(b'/') => (None, target),
        Some(b'*') if target.len() == 1 => (None, target),
        _ => {
            let scheme = target.get(..7).ok_or(UrlError::Form)?;
            if !scheme.eq_ignore_ascii_case(b"http://") {
                return Err(UrlError::Form);
            }
            let rest = &target[7..];
            let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
    };
    let (path, query) = match rest.iter().position(|&b| b == b'?') {
        Some(mark) => (&rest[..mark], Some(&rest[mark + 1..])),
        None => (rest, None),
    };
    if let Some(query) = query
        && query.iter().any(|&b| !(0x21..0x7f).contains(&b) || b == b'#')
    {
        return Err(UrlError::Byte);
    }
    let path = if path.is_empty() { b"/" } else { path };
    Ok(Target { authority, path, query })
}

/// The host of an authority: without port and final dot; an address literal keeps its brackets.
pub fn host_of(authority: &[u8]) -> Result<&[u8], UrlError> {
    if authority.first() == Some(&b'[') {
        let close = authority.iter().position(|&b| b == b']').ok_or(UrlError::Authority)?;
        let inside = &authority[1..close];
        let literal = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
        if inside.is_empty() || inside.len() > 45 || !inside.iter().all(literal) {
            return Err(UrlError::Authority);
        }
        check_port(&authority[close + 1..])?;
        return Ok(&authority[..=close]);
    }
    let is_host = |b: &u8| CLASS[usize::from(*b)] & HOST != 0;
    let end = authority.iter().position(|b| !is_host(b)).unwrap_or(authority.len());
    check_port(&authority[end..])?;
    let host = authority[..end].strip_suffix(b".").unwrap_or(&authority[..end]);
    if host.is_empty() || host.len() > MAX_NAME_BYTES as usize {
        return Err(UrlError::Authority);
    }
    Ok(host)
}

/// Empty, or `:` and a decimal port, which may be empty (RFC 3986 section 3.2.3).
fn check_port(rest: &[u8]) -> Result<(), UrlError> {
    let Some(digits) = rest.strip_prefix(b":") else {
        return if rest.is_empty() { Ok(()) } else { Err(UrlError::Authority) };
    };
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(UrlError::Authority);
    }
    let port = digits.iter().fold(0u32, |port, b| port * 10 + u32::from(b - b'0'));
    if port > 65535 { Err(UrlError::Authority) } else { Ok(()) }
}

/// Whether the *first* query parameter of this name has this value (Gateway API,
/// HTTPQueryParamMatch: "match against the first value of the param").
///
/// Escapes of the request are decoded before the comparison; a broken escape stands for itself. A
/// `+` is a plus: RFC 3986 gives it no other meaning, and the form encoding is not ours to guess.
pub fn query_value_equals(query: &[u8], name: &[u8], value: &[u8]) -> bool {
    for pair in query.split(|&b| b == b'&') {
        let split = pair.iter().position(|&b| b == b'=');
        let (raw_name, raw_value) = match split {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &b""[..]),
        };
        if decoded_equals(raw_name, name) {
            return decoded_equals(raw_value, value);
        }
    }
    false
}

fn decoded_equals(raw: &[u8], plain: &[u8]) -> bool {
    let (mut from, mut matched) = (0, 0);
    while from < raw.len() {
        let escape = if raw[from] == b'%' { escape_at(raw, from) } else { None };
        let (byte, width) = escape.map_or((raw[from], 1), |byte| (byte, 3));
        if plain.get(matched) != Some(&byte) {
            return false;
        }
        (from, matched) = (from + width, matched + 1);
    }
    matched == plain.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(raw: &str) -> Result<std::string::String, UrlError> {
        let mut scratch = [0; 256];
        let path = canonical_path(raw.as_bytes(), &mut scratch)?;
        Ok(std::string::String::from_utf8(path.to_vec()).unwrap())
    }

    #[test]
    fn paths_that_pass() {
        for (raw, canonical) in [
            ("/", "/"),
            ("/a//b/", "/a//b/"),
            ("/%61dmin/%7e%2d", "/admin/~-"),
            ("/a%2fb%c3%a4", "/a%2Fb%C3%A4"),
            ("/...", "/..."),
            ("/.a/..b/c..", "/.a/..b/c.."),
            ("/a;v=1/b:c@d!$&'()*+,=", "/a;v=1/b:c@d!$&'()*+,="),
            ("/%25%32%65", "/%252e"),
        ] {
            assert_eq!(path(raw).as_deref(), Ok(canonical), "{raw}");
        }
    }

    #[test]
    fn paths_that_are_refused() {
        for (raw, error) in [
            ("", UrlError::Form),
            ("a", UrlError::Form),
            ("/a b", UrlError::Byte),
            ("/a\\b", UrlError::Byte),
            ("/a#b", UrlError::Byte),
            ("/ä", UrlError::Byte),
            ("/\x7f", UrlError::Byte),
            ("/%", UrlError::Escape),
            ("/%4", UrlError::Escape),
            ("/%4g", UrlError::Escape),
            ("/%00", UrlError::Escape),
            ("/%5c", UrlError::Escape),
            ("/..", UrlError::DotSegment),
            ("/.", UrlError::DotSegment),
            ("/a/../b", UrlError::DotSegment),
            ("/a/./b", UrlError::DotSegment),
            ("/%2e%2E/b", UrlError::DotSegment),
            ("/.%2e", UrlError::DotSegment),
            ("/a%2f..%2fb", UrlError::DotSegment),
            ("/a%2f%2e%2e", UrlError::DotSegment),
            ("/..;x=1/b", UrlError::DotSegment),
            ("/..%3bx/b", UrlError::DotSegment),
        ] {
            assert_eq!(path(raw), Err(error), "{raw}");
        }
    }

    /// A canonical path is its own canonical path: what we forward, we would route the same.
    #[test]
    fn canonical_twice_is_canonical_once() {
        let mut prng = crate::stdx::Prng::new(3);
        let alphabet = b"/a.%2Ff;e5cC;\\~-";
        for _ in 0..20_000 {
            let mut raw = [b'/'; 12];
            for byte in &mut raw[1..] {
                *byte = alphabet[prng.below(alphabet.len() as u64) as usize];
            }
            let (mut one, mut two) = ([0; 12], [0; 12]);
            if let Ok(once) = canonical_path(&raw, &mut one) {
                assert_eq!(canonical_path(once, &mut two), Ok(once));
            }
        }
    }

    #[test]
    fn targets() {
        let t = split_target(b"/a?b=c?d").unwrap();
        assert_eq!((t.authority, t.path, t.query), (None, &b"/a"[..], Some(&b"b=c?d"[..])));
        let t = split_target(b"HTTP://a.b:80?x").unwrap();
        assert_eq!((t.authority, t.path), (Some(&b"a.b:80"[..]), &b"/"[..]));
        assert_eq!(split_target(b"*").unwrap().path, b"*");
        for bad in ["", "a", "https://a/", "http:/a", "**", "?a"] {
            assert_eq!(split_target(bad.as_bytes()), Err(UrlError::Form), "{bad}");
        }
        assert_eq!(split_target(b"/a?b#c"), Err(UrlError::Byte));
    }

    #[test]
    fn authorities() {
        for (authority, host) in [
            ("a", "a"),
            ("a.b:8080", "a.b"),
            ("A.b.", "A.b"),
            ("a:", "a"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
        ] {
            assert_eq!(host_of(authority.as_bytes()), Ok(host.as_bytes()), "{authority}");
        }
        for bad in
            ["", ".", ":80", "a@b", "u:p@b", "a:65536", "a:+1", "a b", "a/b", "[::1", "[]", "a,b"]
        {
            assert_eq!(host_of(bad.as_bytes()), Err(UrlError::Authority), "{bad}");
        }
        let long = [b'a'; MAX_NAME_BYTES as usize + 1];
        assert_eq!(host_of(&long), Err(UrlError::Authority));
        assert!(host_of(&long[1..]).is_ok());
    }

    #[test]
    fn queries() {
        let check = |query: &str, name: &str, value: &str| {
            query_value_equals(query.as_bytes(), name.as_bytes(), value.as_bytes())
        };
        assert!(check("a=1&b=2", "b", "2"));
        assert!(check("a=%31%2b", "a", "1+"));
        assert!(check("a=1+2", "a", "1+2"));
        assert!(!check("a=1+2", "a", "1 2"));
        assert!(check("%61=x", "a", "x"));
        assert!(check("flag", "flag", ""));
        assert!(check("a=%zz%", "a", "%zz%"));
        assert!(check("a=b=c", "a", "b=c"));
        // The first value counts.
        assert!(!check("a=1&a=2", "a", "2"));
        assert!(!check("A=1", "a", "1"));
        assert!(!check("", "a", ""));
    }
}
