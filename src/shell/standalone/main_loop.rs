//! Standalone's controller thread: folder to Snapshot to ConfigStorage, all in this process.
//!
//! In: the folder of manifests. Out: swaps; every error in the log, with file and line. A folder
//! that is wrong changes nothing.

use super::folder::{Folder, FolderError};
use super::manifests::{Complaint, Reader};
use crate::config::Source;
use crate::config::storage::Writer;
use crate::controller::Controller;
use crate::limits::MANIFEST_POLL_MS;
use crate::shell::clock;
use crate::shell::log::log;
use crate::shell::router::pages::Shown;
use crate::shell::tls::rustls::certificates::Certificates;
use core::sync::atomic::{AtomicBool, Ordering};
use std::boxed::Box;
use std::sync::Arc;

/// What the thread needs, built before it starts.
#[derive(Debug)]
pub struct MainLoop {
    /// The machine.
    pub controller: Box<Controller>,
    /// The folder.
    pub folder: Folder,
    /// Reads what is in it.
    pub reader: Reader,
    /// Fills ConfigStorage.
    pub writer: Writer<'static>,
    /// The loaded certificates.
    pub certificates: &'static Certificates,
    /// The router in this process.
    pub shown: Shown,
    /// Ends this thread.
    pub stop: Arc<AtomicBool>,
}

impl MainLoop {
    /// Takes the folder before the threads start; false: it is wrong, and every error was said.
    pub fn first(&mut self, complain: &mut dyn FnMut(Complaint<'_>)) -> Result<bool, FolderError> {
        self.folder.poll(clock::now())?;
        let taken = self.take(complain);
        self.publish();
        Ok(taken)
    }

    /// Works until told to stop.
    pub fn run(mut self) {
        let mut unreadable = false;
        while !self.stop.load(Ordering::Acquire) {
            match self.folder.poll(clock::now()) {
                Ok(true) => {
                    self.take(&mut |complaint| log!(Error, "manifests", "{complaint}"));
                    unreadable = false;
                }
                Ok(false) => unreadable = false,
                Err(error) => {
                    if !unreadable {
                        log!(Error, "manifests", "{error}: what is served stays");
                    }
                    unreadable = true;
                }
            }
            self.publish();
            self.shown.served.pause(u64::from(MANIFEST_POLL_MS));
        }
    }

    fn take(&mut self, complain: &mut dyn FnMut(Complaint<'_>)) -> bool {
        let MainLoop { folder, reader, controller, .. } = self;
        let summary = reader.apply(folder.files(), folder.text(), controller, complain);
        if summary.errors > 0 {
            log!(Error, "manifests", "{} error(s): nothing changed", summary.errors);
            return false;
        }
        let (objects, ignored) = (summary.objects, summary.ignored);
        log!(Info, "manifests", "taken objects={objects} ignored={ignored}");
        true
    }

    /// Puts what is wanted into ConfigStorage; while the last swap's grace lasts, at the next turn.
    fn publish(&mut self) {
        self.controller.tick(clock::now());
        let Some(published) = self.controller.published() else { return };
        if self.shown.served.get().identity == published.identity {
            return;
        }
        let Some(snapshot) = self.writer.begin() else { return };
        let copied = snapshot.copy_from(published).is_ok();
        assert!(copied, "the same capacities on both sides");
        let identity = published.identity;
        let Some((active, next)) = self.writer.begin_beside_active() else { return };
        if let Err(error) = self.certificates.load(next, &active.snapshot) {
            log!(
                Error,
                "config",
                "generation={} refused: certificate {}",
                identity.generation,
                error.index
            );
            // Not again unchanged.
            return self.shown.served.set(identity, self.shown.served.get().source);
        }
        match self.writer.commit() {
            Ok(_) => {
                log!(Info, "config", "swapped generation={}", identity.generation);
                self.shown.served.set(identity, Source::Standalone);
                self.shown.wake();
            }
            Err(refused) => {
                log!(Error, "config", "generation={} refused: {refused:?}", identity.generation);
                // Not again unchanged.
                self.shown.served.set(identity, self.shown.served.get().source);
            }
        }
    }
}
