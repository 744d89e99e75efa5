//! The model's routing tables by the checksum of the Snapshot that was published for them.

use crate::model::table::Table;
use crate::router::Router;
use serval::config::Checksum;
use std::collections::BTreeMap;
use std::rc::Rc;

/// All that were published in a run.
#[derive(Debug, Default)]
pub struct Tables {
    tables: BTreeMap<[u8; 32], Rc<Table>>,
    /// What a router without a Snapshot serves.
    empty: Rc<Table>,
}

impl Tables {
    /// What was meant by a checksum; the zero checksum is the empty table.
    pub fn of(&self, checksum: &Checksum) -> Option<&Rc<Table>> {
        match checksum.0 {
            [0, ..] if checksum.0 == [0; 32] => Some(&self.empty),
            sum => self.tables.get(&sum),
        }
    }

    /// What a router adopted last; the empty table while it does not run.
    pub fn adopted(&self, router: &Router) -> Rc<Table> {
        let checksum = router.adopted.last().and_then(|a| a.1);
        checksum.and_then(|sum| self.of(&sum)).unwrap_or(&self.empty).clone()
    }

    /// A Snapshot was published for a table.
    pub fn publish(&mut self, checksum: Checksum, table: Rc<Table>) {
        self.tables.insert(checksum.0, table);
    }
}
