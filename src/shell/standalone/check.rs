//! `serval check`: manifests offline, with the statuses that the controller would write.
//!
//! In: a folder. Out: one JSON object a line on stdout, every error on stderr with file and line.
//! Statuses are those of a cluster in which a router serves everything.

use super::folder::Folder;
use super::manifests::Reader;
use crate::config::Report;
use crate::controller::Controller;
use crate::limits::Capacities;
use crate::reconcile::Settings;
use crate::reconcile::status::Sink;
use crate::resource::{Kind, Meta};
use crate::shell::clock;
use crate::shell::place::boxed_zeroed;
use crate::shell::tls::rustls::certificates;
use std::boxed::Box;
use std::io::Write;

/// Why nothing was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckError {
    /// The folder cannot be read.
    Folder,
    /// A manifest is wrong.
    Manifests,
}

/// A check.
#[derive(Debug)]
pub struct Check {
    capacities: Capacities,
    controller: Box<Controller>,
}

struct Print<'o> {
    out: &'o mut dyn Write,
    accepted: bool,
}

impl Sink for Print<'_> {
    fn status(&mut self, kind: Kind, meta: &Meta, _: u64, _: u64, body: &str) {
        let (kind, key) = (kind.name(), &meta.key);
        let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
        let head = r#"{"kind":""#;
        // A pipe that was closed is no error of the manifests.
        let _ = writeln!(
            self.out,
            r#"{head}{kind}","namespace":"{namespace}","name":"{name}","status":{body}}}"#
        );
        for condition in ["Accepted", "ResolvedRefs"] {
            let bad = std::format!(r#""type":"{condition}","status":"False""#);
            self.accepted &= !body.contains(&bad);
        }
    }
}

impl Check {
    /// Takes the memory it needs.
    pub fn new(settings: Settings, capacities: &Capacities) -> Check {
        let mut controller = boxed_zeroed::<Controller>();
        controller.init(settings, capacities);
        certificates::prepare_vet();
        controller.set_vet(certificates::vet);
        controller.set_epoch(0);
        Check { controller, capacities: *capacities }
    }

    /// Checks a folder; whether everything is accepted.
    pub fn run(
        &mut self,
        folder: &str,
        out: &mut dyn Write,
        errors: &mut dyn Write,
    ) -> Result<bool, CheckError> {
        let now = clock::now();
        let Some(mut manifests) = Folder::new(folder, &self.capacities) else {
            let _ = writeln!(errors, "--manifests {folder}: the path is too long");
            return Err(CheckError::Folder);
        };
        if let Err(error) = manifests.poll(now) {
            let _ = writeln!(errors, "--manifests {folder}: {error}");
            return Err(CheckError::Folder);
        }
        let mut complain = |complaint: super::manifests::Complaint<'_>| {
            let _ = writeln!(errors, "{complaint}");
        };
        let (files, text) = (manifests.files(), manifests.text());
        let summary = Reader::new().apply(files, text, &mut self.controller, &mut complain);
        if summary.errors > 0 {
            let _ = writeln!(errors, "{} error(s): nothing would be served", summary.errors);
            return Err(CheckError::Manifests);
        }
        let controller = &mut self.controller;
        controller.tick(now);
        let router = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        controller.add_router(router, now);
        let identity = controller.published().map(|p| p.identity).unwrap_or_default();
        let report = Report { identity, ready: true, ..Report::default() };
        controller.report(router, &report, now);
        let mut print = Print { out, accepted: true };
        controller.all_statuses(now, &mut print);
        let accepted = print.accepted;
        let (objects, ignored) = (summary.objects, summary.ignored);
        let verdict = if accepted { "all accepted" } else { "not all accepted" };
        let _ = writeln!(errors, "{objects} objects, {ignored} of other kinds ignored: {verdict}");
        Ok(accepted)
    }
}
