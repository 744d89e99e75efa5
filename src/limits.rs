//! Every bound of serval: constants made from limits.toml by build.rs, and the compile-time
//! assertions that relate them to each other.
//!
//! In: limits.toml. Out: constants (`MAX_ROUTES` is the ceiling, the array's length), the runtime
//! [`Capacities`] between their minima and ceilings, and the table that `serval limits` prints.

use static_assertions::const_assert;

include!(concat!(env!("OUT_DIR"), "/limits.rs"));

/// One bound as limits.toml has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Name in limits.toml, unit last where it is bytes or time.
    pub name: &'static str,
    /// `spec`, `shape` or `capacity`.
    pub kind: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// Value in force when nothing is set.
    pub default: u32,
    /// Smallest value that may be set.
    pub min: u32,
    /// Largest value that may be set; arrays have this length.
    pub max: u32,
    /// The reason for the number.
    pub why: &'static str,
}

/// Why a capacity was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapacityError {
    /// No capacity has this name.
    Unknown,
    /// Outside `min..=max` of limits.toml.
    OutOfRange {
        /// Smallest value allowed.
        min: u32,
        /// Largest value allowed.
        max: u32,
    },
}

impl Capacities {
    /// Sets one capacity by its name in limits.toml (`MAX_ROUTES`).
    pub fn set(&mut self, name: &str, value: u32) -> Result<(), CapacityError> {
        let limit = LIMITS.iter().find(|l| l.name == name && l.kind == "capacity");
        let limit = limit.ok_or(CapacityError::Unknown)?;
        if value < limit.min || value > limit.max {
            return Err(CapacityError::OutOfRange { min: limit.min, max: limit.max });
        }
        *self.field(name).ok_or(CapacityError::Unknown)? = value;
        Ok(())
    }

    /// The value in force of one capacity.
    pub fn get(&self, name: &str) -> Option<u32> {
        let mut copy = *self;
        copy.field(name).map(|v| *v)
    }
}

// A head, rebuilt, and something of the body must fit one buffer; headroom takes the growth.
const_assert!(MAX_HEAD_BYTES < IO_BUFFER_BYTES - IO_BUFFER_HEADROOM_BYTES);
const_assert!(MAX_URI_BYTES < MAX_HEAD_BYTES);
// A record of the push format holds the largest object's strings, escaped once.
const_assert!(MAX_RECORD_SIZE_BYTES >= 2 * MAX_OBJECT_TEXT_BYTES);
const_assert!(MAX_OBJECT_PACKED_BYTES >= MAX_OBJECT_TEXT_BYTES);
// Text handles of an object are u16 offsets, of a Snapshot u32.
const_assert!(MAX_OBJECT_TEXT_BYTES <= 65535);
// A line that was accepted can be parsed: its strings may be all of it only when it is text.
const_assert!(MAX_LINE_SIZE_BYTES >= MAX_DOCUMENT_TEXT_BYTES);
const_assert!(MAX_OBJECT_PACKED_BYTES.is_multiple_of(STORE_BLOCK_BYTES));
// One object alone always fits the block pool of the smallest store.
const_assert!(MAX_MATCHES_PER_ROUTE >= MAX_MATCHES_PER_RULE);
// An idle upstream connection is given up before the idle client that might use it.
const_assert!(UPSTREAM_IDLE_TIMEOUT_MS < IDLE_TIMEOUT_MS);
const_assert!(ENDPOINT_SYNC_PERIOD_MS * 2 < ROUTER_SILENT_MS);
// What is in use when a call begins fits beside what the call needs.
const_assert!(TLS_SLOT_SOFT_CAP_BYTES < TLS_SLOT_BYTES);
const_assert!(JSON_SLOT_BYTES >= 3 * MAX_LINE_SIZE_BYTES + 8192);
const_assert!(SLOT_RESERVE_BYTES >= 1024 * 1024);
// Traffic threads, one per watched kind (15), and controller, status, sync, admin, log, files, main.
const_assert!(MAX_THREADS >= MAX_WORKERS + 15 + 9);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_at_max_and_one_more() {
        let mut capacities = Capacities::DEFAULT;
        assert_eq!(capacities.set("MAX_ROUTES", MAX_ROUTES), Ok(()));
        assert_eq!(capacities.max_routes, MAX_ROUTES);
        let error = capacities.set("MAX_ROUTES", MAX_ROUTES + 1);
        assert!(matches!(error, Err(CapacityError::OutOfRange { max: MAX_ROUTES, .. })));
        assert_eq!(capacities.set("MAX_SIZE", 1), Err(CapacityError::Unknown));
        // A shape is not a capacity.
        assert_eq!(capacities.set("IO_BUFFER_BYTES", 1), Err(CapacityError::Unknown));
    }
}
