//! The whole plan of a process, and how much it may be.
//!
//! In: role, capacities, the number of threads, `--max-memory`. Out: the core's plan with the
//! shell's parts, and the limit with where it comes from. Nothing is reserved here.

use crate::kube::kind::Watched;
use crate::limits::*;
use crate::plan::{Plan, Role, Size};
use crate::shell::memory::{SlotPool, cgroup, image};
use crate::shell::standalone::folder::Folder;
use crate::shell::standalone::manifests::Reader;
use core::fmt;

/// Threads of a role: main, log and admin, and its own.
pub fn threads(role: Role, c: &Capacities) -> u64 {
    // Per watched kind one; controller, status writer, endpoint sync.
    let controller = Watched::ALL.len() as u64 + 3;
    // The file thread.
    let router = u64::from(c.max_workers) + 1;
    3 + match role {
        Role::Controller => controller,
        Role::Router => router,
        // The controller thread alone: manifests need no watches.
        Role::Standalone => router + 1,
    }
}

/// The plan of a role: the core's parts and the shell's.
pub fn plan(role: Role, c: &Capacities) -> Plan {
    let mut plan = Plan::of(role, c);
    // A connection and the identity it uses, for each watch and the writer of statuses.
    let tls = 2 * (Watched::ALL.len() as u32 + 1);
    let decoders = Watched::ALL.len() as u32 + 1;
    let slots = |count: u32, bytes: u32| SlotPool::bytes(count, bytes as usize);
    if role == Role::Controller {
        plan.add("TLS slots", tls.into(), slots(tls, TLS_SLOT_BYTES));
        plan.add("JSON slots", decoders.into(), slots(decoders, JSON_SLOT_BYTES));
        plan.add("slot reserves", decoders.into(), slots(decoders, SLOT_RESERVE_BYTES));
        let buffers = TLS_INPUT_BYTES + TLS_OUTPUT_BYTES + TLS_PLAIN_BYTES + KUBE_PEM_BYTES;
        plan.add("TLS buffers", decoders.into(), slots(decoders, buffers));
    } else {
        plan.add("JSON slots", 1, slots(1, JSON_SLOT_BYTES));
        plan.add("slot reserves", 1, slots(1, SLOT_RESERVE_BYTES));
    }
    if role == Role::Standalone {
        plan.add("manifests", 1, Folder::bytes() + Reader::bytes());
        plan.add("YAML slot", 1, slots(1, YAML_SLOT_BYTES));
    }
    plan.add_threads(threads(role, c));
    plan.add("program and libraries", 1, image::bytes());
    plan.add("heap before the seal", 1, HEAP_BYTES.into());
    plan
}

/// How much memory the plan may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    /// Bytes.
    pub bytes: u64,
    /// Where the number comes from.
    pub source: Source,
}

/// Where a limit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `--max-memory`.
    Flag,
    /// 90 % of the cgroup's limit.
    Cgroup,
    /// No limit is set: the preset, never a share of the machine.
    Preset,
}

/// The limit in force; `max_memory` is the flag's value, 0 when it was not given.
pub fn available(max_memory: u64) -> Available {
    choose(max_memory, cgroup::limit())
}

fn choose(max_memory: u64, cgroup: Option<u64>) -> Available {
    match (max_memory, cgroup) {
        (0, Some(limit)) => Available { bytes: limit / 10 * 9, source: Source::Cgroup },
        (0, None) => Available { bytes: PRESET_NODE_BYTES.into(), source: Source::Preset },
        (bytes, _) => Available { bytes, source: Source::Flag },
    }
}

impl fmt::Display for Available {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", Size(self.bytes))?;
        f.write_str(match self.source {
            Source::Flag => "by --max-memory",
            Source::Cgroup => "(90 % of the cgroup's limit)",
            Source::Preset => "(preset node: no cgroup limit, no --max-memory)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};

    #[test]
    fn the_flag_wins_then_the_cgroup_then_the_preset() {
        let of = |flag, cgroup| choose(flag, cgroup).to_string();
        assert_eq!(of(1 << 30, Some(1 << 20)), "1.0 GiB by --max-memory");
        assert_eq!(of(0, Some(100 << 20)), "90.0 MiB (90 % of the cgroup's limit)");
        assert_eq!(choose(0, None).bytes, u64::from(PRESET_NODE_BYTES));
    }

    #[test]
    fn defaults_fit_the_preset_node() {
        for role in [Role::Controller, Role::Router, Role::Standalone] {
            let plan = plan(role, &Capacities::DEFAULT);
            let mut text = String::new();
            crate::plan::print(&plan, &mut text).unwrap();
            assert_eq!(plan.check(PRESET_NODE_BYTES.into()), Ok(()), "{role:?}\n{text}");
            assert!(text.contains("thread stacks") && text.contains("program and libraries"));
        }
    }

    #[test]
    fn more_capacity_than_memory_is_refused() {
        let mut capacities = Capacities::DEFAULT;
        capacities.set("MAX_CONNECTIONS", MAX_CONNECTIONS).unwrap();
        capacities.set("MAX_WORKERS", MAX_WORKERS).unwrap();
        let error = plan(Role::Router, &capacities).check(PRESET_NODE_BYTES.into()).unwrap_err();
        assert!(error.planned > error.available && error.largest.bytes > 0, "{error}");
    }
}
