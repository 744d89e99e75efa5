//! Names to addresses without getaddrinfo (it blocks, and uses C's malloc): IP literals, then
//! /etc/hosts (hosts(5)).

use crate::shell::files;
use core::net::IpAddr;

/// Bytes of /etc/hosts that are looked at: what comes first counts.
pub const HOSTS_BYTES: usize = 65_536;

/// The address of a host. For a literal nothing is read; else the hosts file into `buffer`.
pub fn resolve(host: &str, buffer: &mut [u8]) -> Option<IpAddr> {
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    let room = buffer.len().min(HOSTS_BYTES);
    let text = files::read(b"/etc/hosts", &mut buffer[..room]).ok()?;
    find(text, host)
}

/// The first address that a hosts file gives a name; IPv4 before IPv6.
fn find(text: &[u8], host: &str) -> Option<IpAddr> {
    let mut found: Option<IpAddr> = None;
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.split(|&byte| byte == b'#').next().unwrap_or(b"");
        let Ok(line) = core::str::from_utf8(line) else { continue };
        let mut words = line.split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
            continue;
        };
        if words.any(|name| name.eq_ignore_ascii_case(host)) {
            match found {
                None => found = Some(address),
                Some(first) if first.is_ipv6() && address.is_ipv4() => found = Some(address),
                Some(_) => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_files() {
        let text = b"# x\n::1 localhost api\n127.0.0.1\tlocalhost # api\n\
            10.0.0.1 API.example\nbad api2\n\xff";
        let of = |name| find(text, name).map(|address| std::string::ToString::to_string(&address));
        assert_eq!(of("localhost").as_deref(), Some("127.0.0.1"));
        assert_eq!(of("api").as_deref(), Some("::1"));
        assert_eq!(of("api.example").as_deref(), Some("10.0.0.1"));
        assert_eq!(of("api2"), None);
        assert_eq!(resolve("10.1.2.3", &mut []), Some([10, 1, 2, 3].into()));
    }
}
