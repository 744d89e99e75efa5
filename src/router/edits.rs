//! Response edits that outlive their configuration: lists as bytes, in a pool of fixed size.
//!
//! In: the filters of a routed request, when they edit its response. Out: a place that the exchange
//! carries by value. Requests of one rule and configuration share one list, so that as many lists
//! are in use as rules with such filters have requests on their way.

use crate::limits::{Capacities, MAX_EDIT_BYTES, MAX_RESPONSE_EDITS};
use crate::stdx::Table;
use crate::wire::http1::edit::{Edit, Packed, pack};

/// Whose edits a list holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The configuration.
    pub generation: u64,
    /// The route's filter.
    pub route: u32,
    /// The backend's filter.
    pub backend: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct List {
    tag: Tag,
    len: u32,
    /// Exchanges that have it; at 0 it may be written anew, and until then is found again.
    users: u32,
}

/// The pool.
#[derive(Debug)]
pub struct EditLists {
    lists: Table<List, { MAX_RESPONSE_EDITS as usize }>,
    bytes: Table<[u8; MAX_EDIT_BYTES as usize], { MAX_RESPONSE_EDITS as usize }>,
}

crate::zeroed_struct!(EditLists {
    lists: Table<List, { MAX_RESPONSE_EDITS as usize }>,
    bytes: Table<[u8; MAX_EDIT_BYTES as usize], { MAX_RESPONSE_EDITS as usize }>,
});

impl EditLists {
    /// Bytes at these capacities, for the memory plan.
    pub fn bytes(capacities: &Capacities) -> u64 {
        let each = size_of::<List>() + MAX_EDIT_BYTES as usize;
        u64::from(capacities.max_response_edits) * each as u64
    }

    /// Makes room; must be empty.
    pub fn init(&mut self, capacities: &Capacities) {
        let cap = capacities.max_response_edits;
        assert!(self.lists.is_empty() && cap <= u32::from(u16::MAX));
        self.lists.set_cap(cap);
        self.lists.resize(cap, List::default()).expect("within the cap");
        self.bytes.set_cap(cap);
        self.bytes.resize(cap, [0; MAX_EDIT_BYTES as usize]).expect("within the cap");
    }

    /// The place of a list, for one more user; None when all are in use by others.
    pub fn take<'e>(&mut self, tag: Tag, edits: impl Iterator<Item = Edit<'e>>) -> Option<u16> {
        let mut free = None;
        for (place, list) in (0u32..).zip(self.lists.as_mut_slice()) {
            if list.tag == tag && list.len > 0 {
                list.users += 1;
                return Some(place as u16);
            }
            if list.users == 0 {
                free = free.or(Some(place));
            }
        }
        let place = free?;
        let len = pack(edits, &mut self.bytes[place]).expect("a Snapshot's edits fit");
        self.lists[place] = List { tag, len: len as u32, users: 1 };
        Some(place as u16)
    }

    /// One user less.
    pub fn release(&mut self, place: u16) {
        let list = &mut self.lists[u32::from(place)];
        assert!(list.users > 0, "each user gives its list back once");
        list.users -= 1;
    }

    /// The edits of a list.
    pub fn get(&self, place: u16) -> Packed<'_> {
        let list = &self.lists[u32::from(place)];
        assert!(list.users > 0);
        Packed(&self.bytes[u32::from(place)][..list.len as usize])
    }

    /// Lists in use, for tests.
    pub fn in_use(&self) -> u32 {
        self.lists.as_slice().iter().filter(|list| list.users > 0).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::zeroed_box;
    use crate::wire::http1::edit::Action;

    #[test]
    fn shared_by_tag_full_by_tags_and_free_again() {
        let mut capacities = Capacities::DEFAULT;
        capacities.max_response_edits = 4;
        let mut lists = zeroed_box::<EditLists>();
        lists.init(&capacities);
        let edit =
            |n: u8| [Edit { action: Action::Set, name: b"x", value: &[b'a'; 9][..n.into()] }];
        let tag = |route| Tag { generation: 1, route, backend: 0 };
        for n in 1..=4u8 {
            assert_eq!(lists.take(tag(n.into()), edit(n).into_iter()), Some(u16::from(n) - 1));
        }
        assert_eq!(lists.take(tag(2), edit(2).into_iter()), Some(1));
        assert_eq!(lists.take(tag(5), edit(5).into_iter()), None);
        assert_eq!(lists.take(Tag { generation: 2, ..tag(2) }, edit(2).into_iter()), None);
        lists.release(1);
        assert_eq!(lists.take(tag(5), edit(5).into_iter()), None, "it has a user left");
        lists.release(1);
        assert_eq!(lists.in_use(), 3);
        assert_eq!(lists.take(tag(5), edit(5).into_iter()), Some(1));
        assert!(lists.get(1).eq(edit(5)));
        assert!(lists.get(0).eq(edit(1)));
    }
}
