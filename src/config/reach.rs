//! Where endpoints may lie at all. Tenants name their addresses, so that routers could be led
//! astray by them (SSRF): refused at configuration and again at connect, by the same rule.
//!
//! In: an address. Out: whether a router may connect to it.

use core::net::IpAddr;

/// Never link-local (the cloud's metadata among them), multicast, broadcast or unspecified
/// addresses, nor those of 0.0.0.0/8; loopback only when the operator runs standalone. IPv4 in IPv6
/// counts as IPv4.
pub fn may_reach(ip: IpAddr, allow_loopback: bool) -> bool {
    let ip = ip.to_canonical();
    let special = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(special || ip.is_multicast() || ip.is_unspecified()) && (allow_loopback || !ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_refused() {
        for (text, outside, standalone) in [
            ("10.0.0.1", true, true),
            ("fd00::1", true, true),
            ("127.0.0.1", false, true),
            ("::1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("fe80::1", false, false),
            ("224.0.0.1", false, false),
            ("ff02::1", false, false),
            ("255.255.255.255", false, false),
            ("0.0.0.0", false, false),
            ("0.1.2.3", false, false),
            ("::", false, false),
        ] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(may_reach(ip, false), outside, "{text}");
            assert_eq!(may_reach(ip, true), standalone, "{text}");
        }
    }
}
