//! Base64 in: RFC 4648 §4 (standard alphabet, padded) into a fixed buffer.
//!
//! In: text of a PEM block or of a kubeconfig's `*-data`. Out: bytes. White space is skipped, as
//! Go's decoder and RFC 7468 do.

/// Why a text was not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base64Error {
    /// A byte outside the alphabet, padding in the middle, or a group cut short.
    Invalid,
    /// The output is too small.
    Full,
}

/// Decodes `text` into `out`; returns the number of bytes.
pub fn decode(text: &[u8], out: &mut [u8]) -> Result<usize, Base64Error> {
    let (mut group, mut count, mut padding, mut len) = (0u32, 0u32, 0usize, 0usize);
    for &byte in text.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if count >= 2 => {
                padding += 1;
                0
            }
            _ => return Err(Base64Error::Invalid),
        };
        if padding > 0 && (byte != b'=' || padding > 2) {
            return Err(Base64Error::Invalid);
        }
        group = group << 6 | u32::from(value);
        count += 1;
        if count == 4 {
            let take = 3 - padding;
            let place = out.get_mut(len..len + take).ok_or(Base64Error::Full)?;
            place.copy_from_slice(&group.to_be_bytes()[1..1 + take]);
            len += take;
            // After padding no byte of any group is valid: `padding` stays.
            (group, count) = (0, 0);
        }
    }
    if count == 0 { Ok(len) } else { Err(Base64Error::Invalid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[u8], Base64Error>) {
        let mut out = [0; 64];
        let decoded = decode(text.as_bytes(), &mut out);
        assert_eq!(decoded.map(|n| &out[..n]), expected, "{text:?}");
    }

    #[test]
    fn vectors_of_rfc_4648() {
        check("", Ok(b""));
        check("Zg==", Ok(b"f"));
        check("Zm8=", Ok(b"fo"));
        check("Zm9v", Ok(b"foo"));
        check("Zm9v\r\nYmFy \n", Ok(b"foobar"));
        check("//79", Ok(b"\xff\xfe\xfd"));
    }

    #[test]
    fn hostile_text() {
        for text in
            ["Z", "Zg", "Zg=", "=", "Z===", "Zg==Zg==", "Zg=a", "Zm9v!", "Zm-_", "Zg===", "Zm8=="]
        {
            check(text, Err(Base64Error::Invalid));
        }
    }

    #[test]
    fn output_at_max_and_one_more() {
        assert_eq!(decode(b"Zm9v", &mut [0; 3]), Ok(3));
        assert_eq!(decode(b"Zm9v", &mut [0; 2]), Err(Base64Error::Full));
    }
}
