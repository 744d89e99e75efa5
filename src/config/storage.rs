//! ConfigStorage: the two configuration slots of a router, each a Snapshot with its lookup index.
//!
//! In: one writer (the admin thread, or the folder of `serval run`) fills the inactive slot and
//! publishes it. Out: workers turn by turn see the active slot and acknowledge. A worker keeps
//! nothing of a slot beyond its turn: a request carries its decision by value.
//!
//! ```text
//! writer:  begin -> fill snapshot -> commit (validate, build the index, publish) -> wake workers
//! worker:  turn(|slot, generation| adopt binds, serve events) -> acknowledge
//! ```

use super::snapshot::{Invalid, Snapshot};
use crate::limits::{Capacities, MAX_WORKERS};
use crate::router::route_table::RouteTable;
use crate::stdx::double_buffer::{self, DoubleBuffer};
use crate::stdx::zeroed_in_place;
use core::mem::MaybeUninit;

/// Readers that a storage has seats for: the workers, the file thread, the admin thread.
pub const MAX_READERS: usize = MAX_WORKERS as usize + 2;

/// One slot.
#[derive(Debug)]
pub struct Slot {
    /// The configuration.
    pub snapshot: Snapshot,
    /// Its index; only meaningful after [`Writer::commit`].
    table: RouteTable,
}

crate::zeroed_struct!(Slot { snapshot: Snapshot, table: RouteTable });

impl Slot {
    /// The lookup index of [`Slot::snapshot`].
    pub fn table(&self) -> &RouteTable {
        &self.table
    }
}

/// Why a filled slot was not published. Nothing changed for the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The Snapshot breaks a rule.
    Invalid(Invalid),
    /// Its index needs more than MAX_CONFIG_HOSTS or MAX_CONFIG_ENTRIES at their set values.
    IndexFull,
}

/// The two slots. Megabytes: only ever built in place.
#[derive(Debug)]
pub struct ConfigStorage {
    buffer: DoubleBuffer<Slot, MAX_READERS>,
}

crate::zeroed_struct!(ConfigStorage { buffer: DoubleBuffer<Slot, MAX_READERS> });

impl ConfigStorage {
    /// Builds an empty storage in place: two empty Snapshots at generation 0.
    pub fn new_in_place<'a>(
        place: &'a mut MaybeUninit<ConfigStorage>,
        capacities: &Capacities,
    ) -> &'a mut ConfigStorage {
        let storage = zeroed_in_place(place);
        storage.set_caps(capacities);
        storage
    }

    /// Sets the soft caps of a storage made of zeroed memory, before anybody shares it.
    pub fn set_caps(&mut self, capacities: &Capacities) {
        for slot in self.buffer.slots_mut() {
            slot.snapshot.set_caps(capacities);
            slot.table.set_caps(capacities);
        }
    }

    /// Bytes at these capacities: the line of the memory plan.
    pub fn bytes(capacities: &Capacities) -> u64 {
        2 * (Snapshot::bytes(capacities) + RouteTable::bytes(capacities))
    }

    /// The one writer; None when it is out.
    pub fn writer(&self) -> Option<Writer<'_>> {
        Some(Writer { inner: self.buffer.writer()? })
    }

    /// A reader with a seat of its own; None when all [`MAX_READERS`] are taken.
    pub fn reader(&self) -> Option<Reader<'_>> {
        Some(Reader { inner: self.buffer.reader()? })
    }

    /// Rises by one with each published Snapshot; this process's own count, no identity.
    pub fn generation(&self) -> u64 {
        self.buffer.generation()
    }

    /// Whether every worker has adopted the active Snapshot.
    pub fn all_passed(&self) -> bool {
        self.buffer.all_passed()
    }
}

/// Fills and publishes.
#[derive(Debug)]
pub struct Writer<'a> {
    inner: double_buffer::Writer<'a, Slot, MAX_READERS>,
}

impl Writer<'_> {
    /// The Snapshot being served.
    pub fn active(&self) -> &Slot {
        self.inner.active()
    }

    /// The generation being served.
    pub fn generation(&self) -> u64 {
        self.inner.generation()
    }

    /// Whether every worker has adopted the active Snapshot.
    pub fn all_passed(&self) -> bool {
        self.inner.all_passed()
    }

    /// The Snapshot of the inactive slot, to be filled; None while the last swap's grace lasts
    /// (answer 503 with Retry-After). Its content is what it was, usually the one before the
    /// active; [`Snapshot::clear`] it or copy the active one over it.
    pub fn begin(&mut self) -> Option<&mut Snapshot> {
        self.inner.inactive().map(|slot| &mut slot.snapshot)
    }

    /// The active slot to read and the inactive Snapshot to write, for a change of a part of it.
    pub fn begin_beside_active(&mut self) -> Option<(&Slot, &mut Snapshot)> {
        self.inner.both().map(|(active, inactive)| (active, &mut inactive.snapshot))
    }

    /// Validates, builds the index, publishes: all or nothing. The new generation; then wake the
    /// workers. The slot must have been given out by [`Writer::begin`].
    pub fn commit(&mut self) -> Result<u64, Refused> {
        let slot = self.inner.inactive().expect("begin gave the slot out");
        slot.snapshot.validate().map_err(Refused::Invalid)?;
        let Slot { snapshot, table } = slot;
        table.build(snapshot).map_err(|_| Refused::IndexFull)?;
        Ok(self.inner.publish())
    }
}

/// A worker's view.
#[derive(Debug)]
pub struct Reader<'a> {
    inner: double_buffer::Reader<'a, Slot, MAX_READERS>,
}

impl Reader<'_> {
    /// Runs one turn on the active slot; nothing of it can outlive the turn.
    pub fn turn<R>(&mut self, turn: impl FnOnce(&Slot, u64) -> R) -> R {
        self.inner.turn(turn)
    }

    /// After a turn: what was published before it has been adopted, binds and all.
    pub fn acknowledge(&mut self) {
        self.inner.acknowledge();
    }

    /// Whether a newer Snapshot waits.
    pub fn is_behind(&self) -> bool {
        self.inner.is_behind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::snapshot::Bind;
    use std::boxed::Box;

    fn storage() -> Box<ConfigStorage> {
        let mut storage = crate::stdx::zeroed_box::<ConfigStorage>();
        storage.set_caps(&Capacities::DEFAULT);
        storage
    }

    fn bind(port: u16) -> Bind {
        let address = core::net::IpAddr::from([127, 0, 0, 1]);
        Bind { transport: Default::default(), address, port, is_tls: false }
    }

    #[test]
    fn a_swap_waits_for_every_worker() {
        let storage = storage();
        let mut writer = storage.writer().unwrap();
        assert!(storage.writer().is_none());
        let (mut one, mut two) = (storage.reader().unwrap(), storage.reader().unwrap());
        writer.begin().unwrap().binds.push(bind(80)).unwrap();
        assert_eq!(writer.commit(), Ok(1));
        assert!(writer.begin().is_none());
        one.turn(|slot, generation| assert_eq!((slot.snapshot.binds.len(), generation), (1, 1)));
        one.acknowledge();
        assert!(two.is_behind() && writer.begin().is_none() && !storage.all_passed());
        two.turn(|_, _| ());
        two.acknowledge();
        let (active, next) = writer.begin_beside_active().unwrap();
        next.copy_from(&active.snapshot).unwrap();
        next.binds.push(bind(81)).unwrap();
        assert_eq!(writer.commit(), Ok(2));
        one.turn(|slot, _| assert_eq!(slot.snapshot.binds.len(), 2));
    }

    #[test]
    fn a_refused_snapshot_changes_nothing() {
        let storage = storage();
        let mut writer = storage.writer().unwrap();
        writer.begin().unwrap().binds.push(bind(0)).unwrap();
        let error = writer.commit().unwrap_err();
        assert!(matches!(error, Refused::Invalid(Invalid { table: "bind", index: 0, .. })));
        assert_eq!((writer.generation(), writer.active().snapshot.binds.len()), (0, 0));
        writer.begin().unwrap().clear();
        assert_eq!(writer.commit(), Ok(1));
    }
}
