//! The time in which a certificate is valid, read from its DER (RFC 5280 §4.1.2.5).
//!
//! In: one certificate. Out: notBefore and notAfter. Nothing else is read, and nothing verified:
//! that is TLS's work.

use crate::stdx::Wall;

/// When a certificate is valid, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// notBefore.
    pub from: Wall,
    /// notAfter.
    pub until: Wall,
}

/// The bytes are not a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotDer;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT Version`.
const VERSION: u8 = 0xa0;

impl Validity {
    /// Reads a certificate.
    pub fn of(der: &[u8]) -> Result<Validity, NotDer> {
        let (mut certificate, rest) = enter(der, SEQUENCE)?;
        if !rest.is_empty() {
            return Err(NotDer);
        }
        let mut tbs = take(&mut certificate, SEQUENCE)?;
        if tbs.first() == Some(&VERSION) {
            take(&mut tbs, VERSION)?;
        }
        take(&mut tbs, INTEGER)?;
        // Signature algorithm, issuer.
        take(&mut tbs, SEQUENCE)?;
        take(&mut tbs, SEQUENCE)?;
        let mut validity = take(&mut tbs, SEQUENCE)?;
        Ok(Validity { from: time(&mut validity)?, until: time(&mut validity)? })
    }

    /// Whether a moment lies inside.
    pub fn holds(&self, now: Wall) -> bool {
        self.from <= now && now <= self.until
    }
}

/// The content of the element with this tag, and what follows it.
fn enter(der: &[u8], tag: u8) -> Result<(&[u8], &[u8]), NotDer> {
    let (&found, rest) = der.split_first().ok_or(NotDer)?;
    let (&first, rest) = rest.split_first().ok_or(NotDer)?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let bytes = usize::from(first & 0x7f);
            let (number, rest) = rest.split_at_checked(bytes).ok_or(NotDer)?;
            (number.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)), rest)
        }
        _ => return Err(NotDer),
    };
    let parts = rest.split_at_checked(len).ok_or(NotDer)?;
    if found == tag { Ok(parts) } else { Err(NotDer) }
}

/// Takes the element in front, which must have this tag.
fn take<'d>(der: &mut &'d [u8], tag: u8) -> Result<&'d [u8], NotDer> {
    let (content, rest) = enter(der, tag)?;
    *der = rest;
    Ok(content)
}

/// UTCTime (two digits for the year: 1950 to 2049) or GeneralizedTime, in UTC.
fn time(der: &mut &[u8]) -> Result<Wall, NotDer> {
    let mut text = [0u8; 20];
    let digits = match der.first() {
        Some(&UTC_TIME) => {
            let short = take(der, UTC_TIME)?;
            let century = if short.first().is_some_and(|&d| d >= b'5') { b"19" } else { b"20" };
            let all = text.get_mut(..2 + short.len()).ok_or(NotDer)?;
            all[..2].copy_from_slice(century);
            all[2..].copy_from_slice(short);
            &*all
        }
        _ => take(der, GENERALIZED_TIME)?,
    };
    // YYYYMMDDHHMMSSZ, as RFC 5280 wants it.
    let [d @ .., b'Z'] = digits else { return Err(NotDer) };
    if d.len() != 14 || !d.iter().all(u8::is_ascii_digit) {
        return Err(NotDer);
    }
    let mut stamp = *b"0000-00-00T00:00:00Z";
    for (place, range) in [0..4, 5..7, 8..10, 11..13, 14..16, 17..19].into_iter().enumerate() {
        let from = [0, 4, 6, 8, 10, 12][place];
        let len = range.len();
        stamp[range].copy_from_slice(&d[from..from + len]);
    }
    let stamp = core::str::from_utf8(&stamp).map_err(|_| NotDer)?;
    Wall::parse_rfc3339(stamp).ok_or(NotDer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match content.len() {
            len @ 0..=0x7f => out.push(len as u8),
            len => out.extend([0x82, (len >> 8) as u8, len as u8]),
        }
        out.extend(content);
        out
    }

    fn certificate(version: bool, from: (u8, &str), until: (u8, &str)) -> Vec<u8> {
        let mut tbs = Vec::new();
        if version {
            tbs.extend(element(VERSION, &element(INTEGER, &[2])));
        }
        tbs.extend(element(INTEGER, &[1; 20]));
        tbs.extend(element(SEQUENCE, &[0; 10]));
        tbs.extend(element(SEQUENCE, &[0; 200]));
        let times = [element(from.0, from.1.as_bytes()), element(until.0, until.1.as_bytes())];
        tbs.extend(element(SEQUENCE, &times.concat()));
        tbs.extend(element(SEQUENCE, &[0; 300]));
        let parts = [element(SEQUENCE, &tbs), element(SEQUENCE, &[0; 5]), element(3, &[0; 70])];
        element(SEQUENCE, &parts.concat())
    }

    #[test]
    fn both_kinds_of_time() {
        for version in [true, false] {
            let der = certificate(
                version,
                (UTC_TIME, "260102030405Z"),
                (GENERALIZED_TIME, "20510102030405Z"),
            );
            let validity = Validity::of(&der).unwrap();
            let at = |text| Wall::parse_rfc3339(text).unwrap();
            assert_eq!(validity.from, at("2026-01-02T03:04:05Z"));
            assert_eq!(validity.until, at("2051-01-02T03:04:05Z"));
            assert!(!validity.holds(at("2026-01-02T03:04:04Z")));
            assert!(validity.holds(at("2026-01-02T03:04:05Z")));
            assert!(!validity.holds(at("2051-01-02T03:04:06Z")));
        }
        let der = certificate(true, (UTC_TIME, "500101000000Z"), (UTC_TIME, "491231235959Z"));
        let validity = Validity::of(&der);
        // 1950 lies before the epoch of Unix.
        assert!(validity.is_err() || validity.unwrap().from <= validity.unwrap().until);
    }

    #[test]
    fn what_is_no_certificate_is_refused_and_nothing_crashes() {
        let good = certificate(true, (UTC_TIME, "260102030405Z"), (UTC_TIME, "270102030405Z"));
        for len in 0..good.len() {
            assert_eq!(Validity::of(&good[..len]), Err(NotDer), "{len}");
        }
        for at in 0..good.len() {
            for byte in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                let _ = Validity::of(&bad);
            }
        }
        for bad in ["260102030405", "2601020304Z", "261302030405Z", "26010203040xZ"] {
            let der = certificate(true, (UTC_TIME, bad), (UTC_TIME, "270102030405Z"));
            assert_eq!(Validity::of(&der), Err(NotDer), "{bad}");
        }
    }
}
