//! Trailer fields (RFC 9110 section 6.5): which cross, and which must not.
//!
//! In: the trailer section of a chunked body as its decoder passed it, whole. Out: the lines that
//! may follow the body on the other side, together at the section's front. Dropped is what frames a
//! message, belongs to a connection, says whom a message is for, authenticates it, or controls how
//! it is handled: a recipient that merges trailers into the head must not be fooled by them.

use super::field;

/// Names that may not trail (RFC 9110 section 6.5.1), in lower case, besides conditions (`if-…`),
/// reserved ones ([`field::is_reserved`]) and X-Forwarded.
const FORBIDDEN: [&[u8]; 25] = [
    b"age",
    b"authorization",
    b"cache-control",
    b"content-disposition",
    b"content-encoding",
    b"content-location",
    b"content-range",
    b"content-type",
    b"cookie",
    b"date",
    b"expires",
    b"keep-alive",
    b"location",
    b"max-forwards",
    b"origin",
    b"pragma",
    b"proxy-authenticate",
    b"range",
    b"referer",
    b"retry-after",
    b"set-cookie",
    b"user-agent",
    b"vary",
    b"warning",
    b"www-authenticate",
];

/// Whether a field may be in a trailer section that crosses. `_` counts as `-`.
pub fn may_trail(name: &[u8]) -> bool {
    let same = |lower: &[u8]| {
        let folded = name.iter().map(|&b| if b == b'_' { b'-' } else { b.to_ascii_lowercase() });
        folded.eq(lower.iter().copied())
    };
    let is_condition = name.get(..3).is_some_and(|n| n.eq_ignore_ascii_case(b"if-"));
    !is_condition
        && !field::is_reserved(name)
        && !field::is_forwarded(name)
        && !FORBIDDEN.iter().any(|lower| same(lower))
}

/// Moves the lines that may cross to the front of the section; their bytes.
pub fn keep_allowed(section: &mut [u8]) -> usize {
    let (mut at, mut kept) = (0, 0);
    // Each round takes a line. What has no line end is the empty line's first byte, or nothing.
    while let Some(len) = section[at..].windows(2).position(|w| w == b"\r\n") {
        let line = at..at + len + 2;
        let name = section[line.clone()].split(|&b| b == b':').next().unwrap_or(b"");
        if len > 0 && may_trail(name) {
            section.copy_within(line.clone(), kept);
            kept += line.len();
        }
        at = line.end;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    fn kept(section: &str) -> String {
        let mut bytes = section.as_bytes().to_vec();
        let len = keep_allowed(&mut bytes);
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }

    #[test]
    fn what_crosses_and_what_does_not() {
        assert_eq!(kept("\r"), "");
        assert_eq!(kept("Grpc-Status: 0\r\n\r"), "Grpc-Status: 0\r\n");
        assert_eq!(kept("Host: x\r\nA:1\r\nTE: x\r\nB: \r\n\r"), "A:1\r\nB: \r\n");
        assert_eq!(kept("A: Host: b\r\nContent-Length: 3\r\n\r"), "A: Host: b\r\n");
        for name in [
            "Transfer-Encoding",
            "content_length",
            "Connection",
            "Trailer",
            "Upgrade",
            "If-Match",
            "AUTHORIZATION",
            "Set_Cookie",
            "X-Forwarded-For",
            "Forwarded",
            "Cache-Control",
            "Content-Type",
        ] {
            assert!(!may_trail(name.as_bytes()), "{name}");
        }
        for name in ["ETag", "Digest", "X-A", "Server-Timing", "Iffy", "Grpc-Message"] {
            assert!(may_trail(name.as_bytes()), "{name}");
        }
    }
}
