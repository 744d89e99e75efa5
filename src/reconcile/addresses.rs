//! Which address each Gateway has (Gateway.spec.addresses, status.addresses).
//!
//! Explicit requests first, then addresses kept from status, then the oldest Gateway takes the
//! lowest free one of the pool.

use crate::limits::*;
use crate::stdx::{Span, Table};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    first: u128,
    last: u128,
    is_v4: bool,
}

crate::zeroed_struct!(Range { first: u128, last: u128, is_v4: bool });

/// Why a range was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeError {
    /// Not an address, CIDR or `first-last`.
    Syntax,
    /// The last lies before the first.
    Order,
    /// More ranges than [`AddressPool`] holds.
    TooMany,
}

impl Range {
    /// Reads `10.0.0.1`, `10.0.0.0/24` or `10.0.0.1-10.0.0.9`.
    pub fn parse(text: &str) -> Result<Range, RangeError> {
        let ip = |t: &str| t.trim().parse::<IpAddr>().map_err(|_| RangeError::Syntax);
        if let Some((address, bits)) = text.split_once('/') {
            let address = ip(address)?;
            let width = if address.is_ipv4() { 32 } else { 128 };
            let bits: u32 = bits.trim().parse().map_err(|_| RangeError::Syntax)?;
            if bits > width {
                return Err(RangeError::Syntax);
            }
            let host = if bits == width { 0 } else { (u128::MAX >> (128 - width)) >> bits };
            let first = number(address) & !host;
            return Ok(Range { first, last: first | host, is_v4: address.is_ipv4() });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (ip(first)?, ip(last)?);
        if first.is_ipv4() != last.is_ipv4() {
            return Err(RangeError::Syntax);
        }
        if number(first) > number(last) {
            return Err(RangeError::Order);
        }
        Ok(Range { first: number(first), last: number(last), is_v4: first.is_ipv4() })
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.is_v4 == address.is_ipv4() && (self.first..=self.last).contains(&number(address))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(number: u128, is_v4: bool) -> IpAddr {
    if is_v4 {
        IpAddr::V4(Ipv4Addr::from(number as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from(number))
    }
}

/// The addresses that Gateways may get (`--gateway-addresses`).
#[derive(Clone, Copy, Debug, Default)]
pub struct AddressPool {
    count: u32,
    ranges: [Range; 8],
}

crate::zeroed_struct!(AddressPool { count: u32, ranges: [Range; 8] });

impl AddressPool {
    /// Reads ranges separated by commas.
    pub fn parse(text: &str) -> Result<AddressPool, RangeError> {
        let mut pool = AddressPool::default();
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        for (index, part) in parts.enumerate() {
            let place = pool.ranges.get_mut(index).ok_or(RangeError::TooMany)?;
            *place = Range::parse(part)?;
            pool.count += 1;
        }
        Ok(pool)
    }

    /// Whether there are no addresses.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the address belongs to the pool.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges().any(|r| r.contains(address))
    }

    fn ranges(&self) -> impl Iterator<Item = &Range> {
        self.ranges[..self.count as usize].iter()
    }

    /// The lowest address, range by range, that is not taken. Network and broadcast addresses of
    /// a CIDR are not left out: in a pool routed to a node they are as good as any.
    pub fn lowest_free(&self, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        for range in self.ranges() {
            // Among one more candidates than addresses can be taken, one is free.
            let most = u128::from(MAX_GATEWAYS * MAX_ADDRESSES_PER_GATEWAY);
            let last = range.last.min(range.first.saturating_add(most));
            for candidate in range.first..=last {
                let candidate = address(candidate, range.is_v4);
                if !candidate.is_unspecified() && !taken(candidate) {
                    return Some(candidate);
                }
            }
        }
        None
    }
}

/// The addresses given to Gateways in this run.
#[derive(Debug)]
pub struct Assigned {
    table: Table<u128, { (MAX_GATEWAYS * 2) as usize }>,
    families: Table<bool, { (MAX_GATEWAYS * 2) as usize }>,
}

crate::zeroed_struct!(Assigned {
    table: Table<u128, { (MAX_GATEWAYS * 2) as usize }>,
    families: Table<bool, { (MAX_GATEWAYS * 2) as usize }>,
});

impl Assigned {
    pub(crate) fn init(&mut self, capacities: &Capacities) {
        self.table.set_cap(capacities.max_gateways * 2);
        self.families.set_cap(capacities.max_gateways * 2);
    }

    /// Bytes at these capacities, for the memory plan.
    pub(crate) fn bytes(capacities: &Capacities) -> u64 {
        u64::from(capacities.max_gateways * 2) * size_of::<(u128, bool)>() as u64
    }

    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.families.clear();
    }

    /// Gives an address; false when it is taken or there is no room to remember it.
    pub(crate) fn take(&mut self, address: IpAddr) -> bool {
        if self.is_taken(address) || self.table.push(number(address)).is_err() {
            return false;
        }
        self.families.push(address.is_ipv4()).is_ok()
    }

    pub(crate) fn is_taken(&self, address: IpAddr) -> bool {
        let all = self.table.as_slice().iter().zip(self.families.as_slice());
        all.into_iter().any(|(&n, &v4)| (n, v4) == (number(address), address.is_ipv4()))
    }

    pub(crate) fn len(&self) -> u32 {
        self.table.len()
    }

    pub(crate) fn get(&self, span: Span) -> impl Iterator<Item = IpAddr> + '_ {
        let families = self.families.span(span).iter();
        self.table.span(span).iter().zip(families).map(|(&n, &v4)| address(n, v4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let pool = AddressPool::parse("10.0.0.8/30, 10.1.0.1-10.1.0.2,fd00::1").unwrap();
        let mut taken = std::vec::Vec::new();
        while let Some(next) = pool.lowest_free(|a| taken.contains(&a)) {
            assert!(pool.contains(next));
            taken.push(next);
        }
        let text: std::vec::Vec<_> = taken.iter().map(|a| std::format!("{a}")).collect();
        let expected = ["10.0.0.8", "10.0.0.9", "10.0.0.10", "10.0.0.11", "10.1.0.1", "10.1.0.2"];
        assert_eq!(text[..6], expected);
        assert_eq!(text[6..], ["fd00::1"]);
        assert!(!pool.contains("10.0.0.12".parse().unwrap()));
        let bad = ["x", "10.0.0.1/33", "10.0.0.1-fd00::1", "10.0.0.1/"];
        bad.iter().for_each(|b| assert_eq!(Range::parse(b), Err(RangeError::Syntax), "{b}"));
        assert_eq!(Range::parse("10.0.0.2-10.0.0.1"), Err(RangeError::Order));
    }
}
