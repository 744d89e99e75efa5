//! The memory plan: capacities in, a table of {part, count, bytes} out; printed before anything is
//! reserved, and refused when it exceeds what there is.
//!
//! Each module says what it takes (`bytes(&Capacities)`); [`Plan::of`] puts the core's parts
//! together by role, the shell adds its own (`shell::budget`). Kernel memory for sockets is a part
//! like the others: a cgroup counts it.
//!
//! ```text
//! part                             count        bytes
//! store HTTPRoute                   5120        6.2 MiB
//! …
//! total                                        91.4 MiB
//! ```

use crate::admin;
use crate::config::Snapshot;
use crate::config::storage::ConfigStorage;
use crate::controller::Controller;
use crate::kube::kind::Watched;
use crate::kube::watch::Watch;
use crate::limits::*;
use crate::resource::Stores;
use crate::router::worker::Worker;
use crate::stdx::ring::Ring;
use core::fmt;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `serval controller`.
    Controller,
    /// `serval router`.
    Router,
    /// `serval run`: both, on manifests.
    Standalone,
}

impl Role {
    /// Whether it reconciles.
    pub fn reconciles(self) -> bool {
        self != Role::Router
    }

    /// Whether it carries traffic.
    pub fn carries(self) -> bool {
        self != Role::Controller
    }

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Role::Controller => "controller",
            Role::Router => "router",
            Role::Standalone => "run",
        }
    }
}

/// A line of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub name: &'static str,
    /// How many there are.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// More lines than any role has.
const MAX_PARTS: usize = 64;

/// The lines, in the order of the data's way.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    parts: heapless::Vec<Part, MAX_PARTS>,
    /// Bytes that the kernel may hold in socket buffers besides, when all of them are full.
    waiting: u64,
}

/// The plan needs more than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Bytes planned.
    pub planned: u64,
    /// Bytes there are.
    pub available: u64,
    /// The largest part.
    pub largest: Part,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the plan needs {}, available are {}; the largest part is {} ({}): lower a capacity \
             or raise --max-memory",
            Size(self.planned),
            Size(self.available),
            self.largest.name,
            Size(self.largest.bytes)
        )
    }
}

impl Plan {
    /// The core's parts of a role.
    pub fn of(role: Role, c: &Capacities) -> Plan {
        let mut plan = Plan::default();
        if role == Role::Controller {
            plan.watches();
        }
        if role.reconciles() {
            for (name, count, bytes) in Stores::plan(c) {
                plan.add(name, u64::from(count), bytes);
            }
            plan.add("controller: reconcile, routers", 1, Controller::bytes(c));
            plan.add("controller: Snapshots", 2, 2 * Snapshot::bytes(c));
        }
        if role.carries() {
            plan.add("configuration slots", 2, ConfigStorage::bytes(c));
            plan.workers(c);
        }
        let connections = u64::from(MAX_ADMIN_CONNECTIONS);
        let connection = size_of::<admin::Connection>() as u64;
        plan.add("admin connections", connections, connections * connection);
        plan
    }

    /// One watch thread per kind, and what carries events, statuses and reports.
    fn watches(&mut self) {
        let kinds = Watched::ALL.len() as u64;
        let ring = size_of::<Ring<{ KUBE_RING_BYTES as usize }>>();
        self.add("watch machines", kinds, kinds * size_of::<Watch>() as u64);
        self.add("watch event rings", kinds, kinds * ring as u64);
        let rings = size_of::<Ring<{ REPORT_RING_BYTES as usize }>>()
            + size_of::<Ring<{ STATUS_RING_BYTES as usize }>>()
            + size_of::<Ring<{ RESULT_RING_BYTES as usize }>>();
        self.add("status and report rings", 3, rings as u64);
    }

    /// The traffic threads, and what the kernel takes for their idle sockets; its buffers come on
    /// top only while data waits in them.
    fn workers(&mut self, c: &Capacities) {
        let workers = u64::from(c.max_workers);
        self.add("workers: connections, exchanges", workers, workers * Worker::bytes(c));
        let buffers = workers * u64::from(c.max_io_buffers);
        self.add("IO buffers", buffers, buffers * u64::from(IO_BUFFER_BYTES));
        let sockets = u64::from(c.max_connections) * workers;
        self.add("kernel: sockets", sockets, sockets * u64::from(SOCKET_KERNEL_BYTES));
        // To send and to receive, and Linux doubles the number (socket(7)).
        self.waiting = sockets * 2 * 2 * u64::from(c.socket_buffer_bytes);
    }

    /// Adds a line; one of the same name grows.
    pub fn add(&mut self, name: &'static str, count: u64, bytes: u64) {
        if let Some(part) = self.parts.iter_mut().find(|part| part.name == name) {
            part.count += count;
            part.bytes += bytes;
            return;
        }
        let pushed = self.parts.push(Part { name, count, bytes });
        assert!(pushed.is_ok(), "more than {MAX_PARTS} parts");
    }

    /// The lines.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Bytes of all parts.
    pub fn total(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Bytes that come on top, in the kernel, when every socket's buffers are full.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Refuses a plan of more than `available` bytes.
    pub fn check(&self, available: u64) -> Result<(), Exceeded> {
        let planned = self.total();
        let largest = self.parts.iter().max_by_key(|part| part.bytes).copied();
        match largest {
            Some(largest) if planned > available => Err(Exceeded { planned, available, largest }),
            _ => Ok(()),
        }
    }
}

/// Writes the plan as a table for people.
pub fn print(plan: &Plan, out: &mut impl fmt::Write) -> fmt::Result {
    writeln!(out, "{:<34} {:>9} {:>14} {:>12}", "part", "count", "bytes", "")?;
    for part in plan.parts() {
        let Part { name, count, bytes } = *part;
        writeln!(out, "{name:<34} {count:>9} {bytes:>14} {:>12}", Size(bytes))?;
    }
    let total = plan.total();
    writeln!(out, "{:<34} {:>9} {total:>14} {:>12}", "total", "", Size(total))?;
    match plan.waiting() {
        0 => Ok(()),
        waiting => writeln!(
            out,
            "while data waits in the kernel's socket buffers, on top: at most {} \
             (--socket-buffer-bytes)",
            Size(waiting)
        ),
    }
}

/// Bytes for people: `6.2 MiB`.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            0..0x400 => (1, "B"),
            0x400..0x10_0000 => (1 << 10, "KiB"),
            0x10_0000..0x4000_0000 => (1 << 20, "MiB"),
            _ => (1 << 30, "GiB"),
        };
        let mut buffer = [0; 24];
        let mut text = crate::stdx::text::Truncating::new(&mut buffer);
        let tenths = u128::from(self.0) * 10 / unit;
        match unit {
            1 => fmt::Write::write_fmt(&mut text, format_args!("{} B", self.0))?,
            _ => fmt::Write::write_fmt(
                &mut text,
                format_args!("{}.{} {name}", tenths / 10, tenths % 10),
            )?,
        }
        f.pad(text.finish())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::{String, ToString};

    #[test]
    fn roles_hold_their_parts() {
        let c = Capacities::DEFAULT;
        let has = |role, name: &str| Plan::of(role, &c).parts().iter().any(|p| p.name == name);
        for (role, watches, stores, slots) in [
            (Role::Controller, true, true, false),
            (Role::Router, false, false, true),
            (Role::Standalone, false, true, true),
        ] {
            assert_eq!(has(role, "watch machines"), watches, "{role:?}");
            assert_eq!(has(role, "store HTTPRoute"), stores, "{role:?}");
            assert_eq!(has(role, "configuration slots"), slots, "{role:?}");
            assert_eq!(has(role, "kernel: sockets"), slots, "{role:?}");
        }
    }

    #[test]
    fn refused_at_one_byte_too_many() {
        let mut plan = Plan::default();
        plan.add("small", 1, 10);
        plan.add("large", 2, 80);
        plan.add("small", 1, 10);
        assert_eq!((plan.total(), plan.parts().len(), plan.check(100)), (100, 2, Ok(())));
        let largest = Part { name: "large", count: 2, bytes: 80 };
        let error = plan.check(99).unwrap_err();
        assert_eq!(error, Exceeded { planned: 100, available: 99, largest });
        assert!(error.to_string().contains("largest part is large (80 B)"));
    }

    #[test]
    fn prints_for_people() {
        let mut plan = Plan::default();
        plan.add("store HTTPRoute", 5120, 6_501_171);
        plan.add("log rings", 3, 3 << 30);
        let mut text = String::new();
        print(&plan, &mut text).unwrap();
        let expected = "\
part                                   count          bytes             
store HTTPRoute                         5120        6501171      6.1 MiB
log rings                                  3     3221225472      3.0 GiB
total                                            3227726643      3.0 GiB
";
        assert_eq!(text, expected);
    }
}
