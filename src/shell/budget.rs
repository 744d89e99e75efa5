//! The whole plan of a process, and how much it may be.
//!
//! In: role, capacities, the number of threads, `--max-memory`. Out: the core's plan with the
//! shell's parts, and the limit with where it comes from. Nothing is reserved here.

use crate::kube::kind::Watched;
use crate::limits::*;
use crate::log_ring::LogRing;
use crate::plan::{Plan, Role, Size};
use crate::resource::document::Document;
use crate::router::update::Updater;
use crate::shell::admin::Server;
use crate::shell::controller::endpoint_sync::Reporters;
use crate::shell::controller::main_loop::Pushers;
use crate::shell::controller::status_writer::StatusWriter;
use crate::shell::health;
use crate::shell::kube::access::Access;
use crate::shell::kube::credentials::Credentials;
use crate::shell::kube::transport::Transport;
use crate::shell::memory::{SlotPool, cgroup, image};
use crate::shell::net::Driver;
use crate::shell::router::state_file::FileThread;
use crate::shell::standalone::folder::Folder;
use crate::shell::standalone::manifests::Reader;
use crate::shell::threads::MAIN_STACK_BYTES;
use crate::shell::tls::rustls::certificates;
use core::fmt;

/// What of the command line the plan depends on, besides capacities.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// What the process does.
    pub role: Role,
    /// The configuration is kept in a folder.
    pub keeps_state: bool,
    /// There is a plain port for probes.
    pub has_health: bool,
    /// Controller and routers speak mutual TLS.
    pub has_identity: bool,
}

/// Threads that are spawned: the log thread, the admin thread, the health thread if there is one,
/// and the role's own.
pub fn threads(wanted: Wanted, c: &Capacities) -> u64 {
    // Per watched kind one; controller, status writer, endpoint sync.
    let controller = Watched::ALL.len() as u64 + 3;
    // The file thread saves the state.
    let router = u64::from(c.max_workers) + u64::from(wanted.keeps_state);
    2 + u64::from(wanted.has_health)
        + match wanted.role {
            Role::Controller => controller,
            Role::Router => router,
            // The controller thread alone: manifests need no watches.
            Role::Standalone => router + 1,
        }
}

/// The whole plan: the core's parts and the shell's.
pub fn plan(wanted: Wanted, c: &Capacities) -> Plan {
    let role = wanted.role;
    let mut plan = Plan::of(role, c);
    if role.reconciles() {
        plan.add("certificates being judged", 1, certificates::vet_bytes());
    }
    match role {
        Role::Controller => add_controller(&mut plan, wanted.has_identity),
        Role::Router => {}
        Role::Standalone => {
            plan.add("manifests", 1, Folder::bytes(c) + Reader::bytes());
            add_parser(&mut plan, "YAML slot", 1, YAML_SLOT_BYTES);
        }
    }
    if role.carries() {
        let workers = u64::from(c.max_workers);
        plan.add("workers: sockets", workers, workers * Driver::tables_bytes(c));
        let sessions = workers * u64::from(c.max_tls_connections);
        plan.add("TLS sessions", sessions, workers * Driver::secure_bytes(c));
        let reserve = SlotPool::bytes(1, SLOT_RESERVE_BYTES as usize);
        plan.add("slot reserves", workers, workers * reserve);
        let count = c.max_config_certificates;
        plan.add("certificates", count.into(), certificates::room_bytes(count));
        plan.add("push taker", 1, size_of::<Updater>() as u64);
        if wanted.keeps_state {
            plan.add("state file", 1, FileThread::bytes());
        }
        add_parser(&mut plan, "JSON slots", 1, JSON_SLOT_BYTES);
        if wanted.has_identity {
            let count = MAX_ADMIN_CONNECTIONS;
            plan.add("admin port: TLS", count.into(), <Server>::secure_bytes(count));
        }
    }
    if wanted.has_health {
        plan.add("health connections", MAX_HEALTH_CONNECTIONS.into(), health::bytes());
    }
    let threads = threads(wanted, c);
    plan.add("thread stacks", threads, threads * u64::from(THREAD_STACK_BYTES));
    plan.add("main thread's stack", 1, MAIN_STACK_BYTES as u64);
    plan.add("log rings", threads + 1, (threads + 1) * LogRing::bytes());
    plan.add("program and libraries", 1, image::bytes());
    plan.add("heap before the seal", 1, HEAP_BYTES.into());
    plan
}

/// What the controller's connections take: one per watched kind, and the status writer's.
fn add_controller(plan: &mut Plan, has_identity: bool) {
    let kinds = Watched::ALL.len() as u32;
    let connections = kinds + 1;
    let of = |count: u32, bytes: u64| (u64::from(count), u64::from(count) * bytes);
    for (name, (count, bytes)) in [
        ("documents", of(kinds + 1, size_of::<Document>() as u64)),
        ("status writer", of(1, StatusWriter::bytes())),
        ("connections: buffers", of(connections, Transport::bytes())),
        ("connections: credentials", of(connections, Credentials::bytes())),
        ("certificates being read", of(1, Access::bytes())),
        ("TLS slots", of(connections, SlotPool::bytes(1, KUBE_TLS_SLOT_BYTES as usize))),
        ("clients that push", (MAX_PUSHES_AT_ONCE.into(), Pushers::bytes())),
        ("clients that ask", (MAX_REPORTS_AT_ONCE.into(), Reporters::bytes())),
    ] {
        plan.add(name, count, bytes);
    }
    if has_identity {
        let count = MAX_PUSHES_AT_ONCE + MAX_REPORTS_AT_ONCE;
        let bytes = Pushers::secure_bytes() + Reporters::secure_bytes();
        plan.add("routers: TLS", count.into(), bytes);
        // Of the endpoint-sync thread; the controller thread has one to parse with.
        plan.add("slot reserves", 1, SlotPool::bytes(1, SLOT_RESERVE_BYTES as usize));
    }
    // The controller thread parses reports.
    add_parser(plan, "JSON slots", connections + 1, JSON_SLOT_BYTES);
}

/// Threads with a parser have a slot and a reserve each.
fn add_parser(plan: &mut Plan, name: &'static str, count: u32, bytes: u32) {
    let slots = |bytes: u32| SlotPool::bytes(count, bytes as usize);
    plan.add(name, count.into(), slots(bytes));
    plan.add("slot reserves", count.into(), slots(SLOT_RESERVE_BYTES));
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
            let wanted = Wanted { role, keeps_state: true, has_health: true, has_identity: true };
            let plan = plan(wanted, &Capacities::DEFAULT);
            let mut text = String::new();
            crate::plan::print(&plan, &mut text).unwrap();
            assert_eq!(plan.check(PRESET_NODE_BYTES.into()), Ok(()), "{role:?}\n{text}");
            assert!(text.contains("thread stacks") && text.contains("program and libraries"));
        }
    }

    #[test]
    fn every_capacity_counts_somewhere() {
        let total = |c: &Capacities| {
            let roles = [Role::Controller, Role::Router, Role::Standalone];
            let wanted =
                |role| Wanted { role, keeps_state: true, has_health: true, has_identity: true };
            roles.map(|role| plan(wanted(role), c).total()).iter().sum::<u64>()
        };
        let least = total(&Capacities::DEFAULT);
        // Bodies are never held as a whole; socket buffers are the kernel's, while data waits.
        let elsewhere = ["MAX_REQUEST_BODY_MIB", "SOCKET_BUFFER_BYTES"];
        for limit in LIMITS.iter().filter(|l| l.kind == "capacity" && l.max > l.default) {
            let mut c = Capacities::DEFAULT;
            c.set(limit.name, limit.max).unwrap();
            let counts = total(&c) > least;
            assert!(counts || elsewhere.contains(&limit.name), "{} costs nothing", limit.name);
        }
    }

    #[test]
    fn more_capacity_than_memory_is_refused() {
        let mut capacities = Capacities::DEFAULT;
        capacities.set("MAX_CONNECTIONS", MAX_CONNECTIONS).unwrap();
        capacities.set("MAX_WORKERS", MAX_WORKERS).unwrap();
        let wanted = Wanted {
            role: Role::Router,
            keeps_state: false,
            has_health: false,
            has_identity: false,
        };
        let error = plan(wanted, &capacities).check(PRESET_NODE_BYTES.into()).unwrap_err();
        assert!(error.planned > error.available && error.largest.bytes > 0, "{error}");
    }
}
