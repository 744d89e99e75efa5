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
const_assert!(
    MAX_HEAD_BYTES < IO_BUFFER_BYTES - IO_BUFFER_HEADROOM_BYTES - IO_BUFFER_TAILROOM_BYTES
);
// What a rebuilt head may be longer, and the line that opens a chunk behind it.
const_assert!(
    IO_BUFFER_HEADROOM_BYTES as usize
        >= crate::wire::http1::render::REQUEST_GROWTH_BYTES
            + MAX_NAME_BYTES as usize
            + crate::wire::http1::body::CHUNK_OPEN_BYTES
);
const_assert!(
    IO_BUFFER_TAILROOM_BYTES as usize
        >= crate::wire::http1::body::CHUNK_CLOSE.len() + crate::wire::http1::body::LAST_CHUNK.len()
);
const_assert!(MAX_KEPT_HEAD_BYTES < IO_BUFFER_BYTES);
const_assert!(SMALL_HEAD_BYTES < MAX_KEPT_HEAD_BYTES);
// Places of kept heads are u16.
const_assert!(MAX_LARGE_HEADS <= 65535);
const_assert!(MIN_STUBS_PER_STORE <= MAX_STUBS_PER_STORE);
const_assert!(TIMER_WHEEL_SLOTS.is_power_of_two());
const_assert!(BIND_RETRY_MIN_MS <= BIND_RETRY_MAX_MS);
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
const_assert!(ENDPOINT_SYNC_PERIOD_MS < ADDRESS_SILENT_MS && ADDRESS_SILENT_MS < ROUTER_SILENT_MS);
// The longest head of a request: everything at its longest, the continue token all escaped, and
// 256 bytes of fixed fields.
const_assert!(
    KUBE_REQUEST_BYTES
        >= KUBE_TOKEN_BYTES
            + KUBE_TARGET_BYTES
            + 3 * KUBE_CONTINUE_BYTES
            + KUBE_PREFIX_BYTES
            + KUBE_AUTHORITY_BYTES
            + 256
);
// An object that can be read can be written back.
const_assert!(KUBE_BODY_BYTES <= MAX_LINE_SIZE_BYTES);
// A continue token lies in one line's metadata; a record of the ring is at most half of it.
const_assert!(2 * (MAX_LINE_SIZE_BYTES + 1024) <= KUBE_RING_BYTES);
const_assert!(BACKOFF_SILENT_FIRST_MS <= BACKOFF_SILENT_MAX_MS);
const_assert!(BACKOFF_ERROR_FIRST_MS <= BACKOFF_ERROR_MAX_MS);
const_assert!(KUBE_WATCH_MIN_MS <= KUBE_WATCH_MAX_MS);
const_assert!(KUBE_WATCH_AFTER_FAILURE_MS <= KUBE_WATCH_MIN_MS);
// A wrong Retry-After may be longer than our own longest wait, never shorter.
const_assert!(BACKOFF_ERROR_MAX_MS <= RETRY_AFTER_MAX_MS);
// What is in use when a call begins fits beside what the call needs.
const_assert!(TLS_SLOT_SOFT_CAP_BYTES < TLS_SLOT_BYTES);
const_assert!(JSON_SLOT_BYTES + SLOT_RESERVE_BYTES >= 3 * MAX_LINE_SIZE_BYTES + 8192);
const_assert!(SLOT_RESERVE_BYTES >= 1024 * 1024);
// Traffic threads, one per watched kind (15), and controller, status, sync, admin, log, files,
// main.
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
