//! Does the faults of a lane, one after the other, and notes when each began and ended.
//!
//! In: planned events; links, processes, the API server. Out: faults as they happened; what could
//! not be done, which ends the soak.

use crate::changes::Changes;
use crate::ledger::Ledger;
use crate::places::Places;
use crate::processes::{Name, Processes};
use crate::relay::Link;
use crate::schedule::{Event, Fault, Place};
use crate::verdict::Happened;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Descriptors that a limited router still may open: fewer than clients have connections.
const BEYOND: u64 = 3;

/// All that can be harmed.
pub struct World {
    /// Where things are.
    pub places: Places,
    /// Routers and controller.
    pub processes: Processes,
    /// Relays.
    pub links: Vec<(Place, Link)>,
    /// What is served.
    pub ledger: Arc<Ledger>,
    /// Routes.
    pub changes: Changes,
    /// What happened so far.
    pub happened: Mutex<Vec<Happened>>,
    /// When the soak began.
    pub start: Instant,
}

impl World {
    fn ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Does all of a lane's events of a round that began then.
    pub fn run(&self, began: Instant, events: &[Event]) -> Result<(), String> {
        for event in events {
            let due = began + Duration::from_millis(event.at_ms);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.note(event.fault, |world| {
                world.fault(event.fault, Duration::from_millis(event.lasts_ms))
            })?;
        }
        Ok(())
    }

    /// Does it, and notes when it began and ended.
    fn note(
        &self,
        fault: Fault,
        work: impl Fn(&World) -> Result<(), String>,
    ) -> Result<(), String> {
        let from = self.ms();
        // It explains until it is over, whenever that is.
        let place = {
            let mut happened = self.happened.lock().expect("no panics");
            happened.push(Happened { fault, from, to: u64::MAX / 2 });
            happened.len() - 1
        };
        let done = work(self);
        let to = self.ms();
        self.happened.lock().expect("no panics")[place].to = to;
        println!("{from:>8} ms: {fault} until {to} ms");
        done.map_err(|text| format!("{to} ms: {fault}: {text}"))
    }

    fn fault(&self, fault: Fault, lasts: Duration) -> Result<(), String> {
        let (processes, ledger) = (&self.processes, &*self.ledger);
        match fault {
            Fault::Link(place, harm) => {
                let link = self.links.iter().find(|(other, _)| *other == place);
                link.expect("every place has a link").1.harm(harm, lasts);
            }
            Fault::RouterStop(n) => self.stop(Name::Router(n), lasts),
            Fault::RouterKill(n) => self.kill_router(n)?,
            Fault::RouterDrain(n) => processes.restart_router(n, ledger, Processes::end)?,
            Fault::RouterDescriptors(n) => {
                processes.limit_descriptors(Name::Router(n), Some(BEYOND))?;
                std::thread::sleep(lasts);
                processes.limit_descriptors(Name::Router(n), None)?;
            }
            Fault::DiskFull(n) | Fault::DiskFullKill(n) => {
                processes.fill_disk(n, true);
                std::thread::sleep(lasts);
                let done = match fault {
                    Fault::DiskFull(_) => Ok(()),
                    _ => self.note(Fault::RouterKill(n), |world| world.kill_router(n)),
                };
                processes.fill_disk(n, false);
                done?;
            }
            Fault::ControllerStop => self.stop(Name::Controller, lasts),
            Fault::ControllerKill => {
                processes.kill(Name::Controller)?;
                std::thread::sleep(lasts);
                processes.start(Name::Controller)?;
            }
            Fault::ControllerEnd => {
                processes.end(Name::Controller)?;
                std::thread::sleep(lasts);
                processes.start(Name::Controller)?;
            }
            Fault::ApiKill | Fault::ApiRestart => {
                self.cluster("api-stop")?;
                std::thread::sleep(lasts);
                self.cluster("api-start")?;
            }
            Fault::ApiPause => {
                self.cluster("api-pause")?;
                std::thread::sleep(lasts);
                self.cluster("api-resume")?;
            }
            Fault::RouterIdentity => processes.new_identity("serval-router")?,
            Fault::ControllerIdentity => processes.new_identity("serval-controller")?,
            Fault::Certificate => self.changes.new_certificate()?,
        }
        Ok(())
    }

    fn kill_router(&self, n: usize) -> Result<(), String> {
        self.processes.restart_router(n, &self.ledger, Processes::kill)
    }

    fn stop(&self, name: Name, lasts: Duration) {
        self.processes.signal(name, libc::SIGSTOP);
        std::thread::sleep(lasts);
        self.processes.signal(name, libc::SIGCONT);
    }

    fn cluster(&self, command: &str) -> Result<(), String> {
        let (none, program) = (Stdio::null(), &self.places.cluster);
        let ended = Command::new(program).arg(command).stdin(none).stdout(Stdio::null()).status();
        match ended {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("{program} {command}: {other:?}")),
        }
    }
}
