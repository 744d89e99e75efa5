//! The last good configuration on disk: saved by the file thread, read at start.
//!
//! In: what is served. Out: `snapshot.jsonl` in `--state-dir` (mode 0600: it holds private
//! keys), replaced as a whole, at most once a second. A full disk or a torn file never stops
//! serving: the next change tries again, and a file that cannot be read is named and passed over.

use super::served::ServedCell;
use crate::config::codec::Encoder;
use crate::config::storage::Writer;
use crate::config::{ConfigStorage, Identity, Source};
use crate::limits::{MAX_RECORD_SIZE_BYTES, STATE_FILE_PERIOD_MS};
use crate::router::update::{UpdateError, Updater};
use crate::shell::files::{FileError, Folder};
use crate::shell::log::log;
use crate::shell::place::boxed_zeroed;
use crate::shell::tls::rustls::certificates::Certificates;
use crate::shell::{clock, json};
use core::ffi::CStr;
use core::fmt;
use std::boxed::Box;
use std::sync::Arc;

const NAME: &CStr = c"snapshot.jsonl";

/// Why there is nothing to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The file cannot be read.
    File(FileError),
    /// It is torn, of another version, or does not fit.
    Content(UpdateError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::File(error) => error.fmt(f),
            LoadError::Content(error) => error.fmt(f),
        }
    }
}

/// Takes the saved configuration, before the threads start. False: there is none.
pub fn load(
    folder: &Folder,
    updater: &mut Updater,
    writer: &mut Writer<'_>,
    certificates: &Certificates,
) -> Result<bool, LoadError> {
    let stat = match folder.stat(NAME) {
        Ok(stat) => stat,
        Err(error) if error.is_missing() => return Ok(false),
        Err(error) => return Err(LoadError::File(error)),
    };
    let mut buffer = std::vec![0; stat.bytes as usize + 1];
    let text = folder.read(NAME, &mut buffer).map_err(LoadError::File)?;
    let now = clock::now();
    let parse = |line: &[u8], document: &mut _| json::parse(line, document).is_ok();
    let taken = (|| {
        updater.begin(writer, now)?;
        for line in text.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            updater.line(line, writer, parse, now)?;
        }
        updater.finish(writer, |next, served| certificates.load(next, served))
    })();
    if let Err(error) = taken {
        updater.passed_over(error);
        return Err(LoadError::Content(error));
    }
    let (identity, _) = updater.served();
    updater.set_served(identity, Source::File);
    Ok(true)
}

/// What the file thread needs, built before it starts.
#[derive(Debug)]
pub struct FileThread {
    folder: Folder,
    storage: &'static ConfigStorage,
    served: Arc<ServedCell>,
    buffer: Box<Buffer>,
}

#[derive(Debug)]
struct Buffer([u8; MAX_RECORD_SIZE_BYTES as usize]);

crate::zeroed_struct!(Buffer { 0: [u8; MAX_RECORD_SIZE_BYTES as usize] });

impl FileThread {
    /// Builds the thread's state.
    pub fn new(
        folder: Folder,
        storage: &'static ConfigStorage,
        served: Arc<ServedCell>,
    ) -> FileThread {
        FileThread { folder, storage, served, buffer: boxed_zeroed() }
    }

    /// Bytes it holds: a line of the memory plan.
    pub fn bytes() -> u64 {
        size_of::<Buffer>() as u64
    }

    /// Works until the process ends. What was read at start is `saved` already. What could not be
    /// saved is tried again, whether it changes or not: a full disk has room again some day.
    pub fn run(mut self, mut saved: u64) {
        let mut told = saved;
        loop {
            let served = self.served.wait_beyond(saved);
            if served.change != saved {
                match self.save(served.identity) {
                    Ok(()) => saved = served.change,
                    Err(error) if told != served.change => {
                        told = served.change;
                        log!(Warn, "state", "not saved, tried again: {error}");
                    }
                    Err(_) => {}
                }
            }
            if served.ending {
                return;
            }
            self.served.pause(u64::from(STATE_FILE_PERIOD_MS));
        }
    }

    /// Reads the slot for as long as write(2) takes; syncs afterwards. Between saves this thread
    /// is no reader, so that swaps need not wait for it.
    fn save(&mut self, identity: Identity) -> Result<(), FileError> {
        let mut replacement = self.folder.replace(NAME)?;
        let buffer = &mut self.buffer.0;
        // Without a seat there is no save this time: the next change tries again.
        let Some(mut reader) = self.storage.reader() else { return Ok(()) };
        let written = reader.turn(|slot, _| {
            // Another one by now: its own change follows.
            if slot.snapshot.identity.checksum != identity.checksum {
                return Ok(false);
            }
            let mut encoder = Encoder::with_identity(identity);
            while let Some(line) = encoder.next_line(&slot.snapshot, &mut buffer[..]) {
                match line {
                    Ok(line) => replacement.write(line)?,
                    Err(crate::stdx::Full) => return Ok(false),
                }
            }
            Ok(true)
        });
        drop(reader);
        if written? {
            replacement.commit()?;
        }
        Ok(())
    }
}
