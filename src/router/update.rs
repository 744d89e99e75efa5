//! Taking a pushed Snapshot into the inactive slot, record by record (`POST /routes/update`), a
//! saved one at start, and local changes.
//!
//! In: lines of the push format, or a change of a part. Out: a swap, an adopted identity, or a
//! refusal that changed nothing. The fence: what is older than what is served, by (epoch,
//! generation), is refused; equal content under a newer identity is adopted without a swap.

use crate::config::codec::{Builder, CodecError, checksum};
use crate::config::local::{self, Change, LocalError};
use crate::config::storage::{Refused, Writer};
use crate::config::{Identity, Snapshot, Source};
use crate::limits::{ADMIN_TIMEOUT_MS, MAX_RECORD_SIZE_BYTES};
use crate::resource::document::Document;
use crate::resource::secret::PairProblem;
use crate::stdx::marks::{Mark, sometimes};
use crate::stdx::{Duration, Instant, Now};
use core::fmt;

/// Parses one line into the document; the shell's and vopr's JSON parser.
pub type Parse = fn(&[u8], &mut Document) -> bool;

/// What became of a push that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Its content is served now: wake the workers.
    Swapped,
    /// Its content was served already; only the identity is new.
    Adopted,
    /// It is what is served.
    Same,
}

/// Why a push was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// Another push runs.
    Busy,
    /// The last swap's grace lasts: a worker has not passed yet.
    Grace,
    /// It is older than what is served.
    Older {
        /// What is served.
        served: Identity,
    },
    /// The same identity with other content: two controllers share an epoch.
    Fork,
    /// A line is not JSON (counted from 0), or a change's body.
    Syntax {
        /// Which line.
        line: u32,
    },
    /// A record or the whole is not valid, or does not fit.
    Codec(CodecError),
    /// The lookup index does not fit.
    IndexFull,
    /// The push stalled.
    Timeout,
    /// A local change, but a controller has pushed here.
    Owned,
    /// A local change was not made.
    Local(LocalError),
    /// A certificate cannot be loaded here.
    Certificate(BadCertificate),
}

/// A certificate of a Snapshot that cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCertificate {
    /// Index in the Snapshot.
    pub index: u32,
    /// What is wrong with it.
    pub problem: PairProblem,
}

impl UpdateError {
    /// The HTTP status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            UpdateError::Busy
            | UpdateError::Older { .. }
            | UpdateError::Fork
            | UpdateError::Owned => 409,
            UpdateError::Local(error) => error.status(),
            UpdateError::Grace => 503,
            UpdateError::Codec(CodecError::Full { .. }) | UpdateError::IndexFull => 507,
            UpdateError::Timeout => 408,
            UpdateError::Syntax { .. } | UpdateError::Codec(_) | UpdateError::Certificate(_) => 400,
        }
    }
}

impl From<Refused> for UpdateError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(invalid) => UpdateError::Codec(CodecError::Invalid(invalid)),
            Refused::IndexFull => UpdateError::IndexFull,
        }
    }
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateError::Busy => f.write_str("another push runs"),
            UpdateError::Grace => f.write_str("the last swap is not finished"),
            UpdateError::Older { served } => {
                let (epoch, generation) = (served.epoch, served.generation);
                write!(f, "older than epoch {epoch} generation {generation}, which is served")
            }
            UpdateError::Fork => f.write_str("this generation is served with other content"),
            UpdateError::Syntax { line } => write!(f, "line {line} is not JSON"),
            UpdateError::Codec(error) => error.fmt(f),
            UpdateError::IndexFull => {
                f.write_str("more than MAX_CONFIG_HOSTS or MAX_CONFIG_ENTRIES allow here")
            }
            UpdateError::Timeout => f.write_str("the push stalled"),
            UpdateError::Owned => f.write_str("a controller owns this router's configuration"),
            UpdateError::Local(error) => error.fmt(f),
            UpdateError::Certificate(BadCertificate { index, problem }) => {
                write!(f, "certificate {index} {}", problem.text())
            }
        }
    }
}

/// Takes one push at a time. Hundreds of kilobytes: built in place.
#[derive(Debug)]
pub struct Updater {
    running: bool,
    deadline: Instant,
    lines: u32,
    builder: Builder,
    served: Identity,
    source: Source,
    document: Document,
    record: [u8; MAX_RECORD_SIZE_BYTES as usize],
}

crate::zeroed_struct!(Updater {
    running: bool,
    deadline: Instant,
    lines: u32,
    builder: Builder,
    served: Identity,
    source: Source,
    document: Document,
    record: [u8; MAX_RECORD_SIZE_BYTES as usize],
});

impl Updater {
    /// What is served, and where it came from.
    pub fn served(&self) -> (Identity, Source) {
        (self.served, self.source)
    }

    /// What the process put into the storage itself (standalone, local changes).
    pub fn set_served(&mut self, identity: Identity, source: Source) {
        assert!(!self.running);
        (self.served, self.source) = (identity, source);
    }

    /// A saved Snapshot could not be taken. One that is only too large for this process still says
    /// who reigned: nothing of an older epoch is taken.
    pub fn passed_over(&mut self, error: UpdateError) {
        assert!(!self.running && self.source == Source::None);
        if error.status() == 507 && self.builder.has_header() {
            let epoch = self.builder.identity().epoch;
            self.served = Identity { epoch, ..Identity::default() };
        }
    }

    /// Begins a push. One that stalled past its deadline makes room.
    pub fn begin(&mut self, writer: &mut Writer<'_>, now: Now) -> Result<(), UpdateError> {
        if self.running && now.mono < self.deadline {
            sometimes(Mark::PushBusy);
            return Err(UpdateError::Busy);
        }
        if self.running {
            sometimes(Mark::PushStalled);
        }
        let snapshot = writer.begin().ok_or(UpdateError::Grace)?;
        snapshot.clear();
        self.builder = Builder::new();
        (self.running, self.lines) = (true, 0);
        self.deadline = now.mono + Duration::from_millis(u64::from(ADMIN_TIMEOUT_MS));
        Ok(())
    }

    /// Takes one line; after an error the push is over. [`UpdateError::Timeout`] too when it was
    /// given up for another one, or for a change.
    pub fn line(
        &mut self,
        line: &[u8],
        writer: &mut Writer<'_>,
        parse: Parse,
        now: Now,
    ) -> Result<(), UpdateError> {
        if !self.running {
            return Err(UpdateError::Timeout);
        }
        let result = self.take(line, writer, parse, now);
        self.running = result.is_ok();
        result
    }

    fn take(
        &mut self,
        line: &[u8],
        writer: &mut Writer<'_>,
        parse: Parse,
        now: Now,
    ) -> Result<(), UpdateError> {
        if now.mono >= self.deadline {
            return Err(UpdateError::Timeout);
        }
        self.deadline = now.mono + Duration::from_millis(u64::from(ADMIN_TIMEOUT_MS));
        if !parse(line, &mut self.document) {
            sometimes(Mark::PushIsNoJson);
            return Err(UpdateError::Syntax { line: self.lines });
        }
        self.lines += 1;
        let had_header = self.builder.has_header();
        let snapshot = writer.begin().ok_or(UpdateError::Grace)?;
        self.builder.record(self.document.root(), snapshot).map_err(broken)?;
        if !had_header {
            let offered = self.builder.identity();
            let order = |i: &Identity| (i.epoch, i.generation);
            if order(&offered) < order(&self.served) {
                sometimes(Mark::PushOlder);
                return Err(UpdateError::Older { served: self.served });
            }
        }
        Ok(())
    }

    /// Makes a local change: the next generation of epoch 0. `body`: JSON that came with it, empty
    /// for none.
    pub fn change(
        &mut self,
        change: &Change<'_>,
        body: &[u8],
        parse: Parse,
        writer: &mut Writer<'_>,
        now: Now,
    ) -> Result<Taken, UpdateError> {
        if self.running && now.mono < self.deadline {
            return Err(UpdateError::Busy);
        }
        if self.served.epoch > 0 {
            return Err(UpdateError::Owned);
        }
        self.running = false;
        let body = if body.is_empty() { b"{}" } else { body };
        if !parse(body, &mut self.document) {
            return Err(UpdateError::Syntax { line: 0 });
        }
        let (active, next) = writer.begin_beside_active().ok_or(UpdateError::Grace)?;
        let applied = local::apply(change, self.document.root(), &active.snapshot, next);
        applied.map_err(UpdateError::Local)?;
        // An invalid one has no canonical records.
        let invalid = |invalid| UpdateError::Codec(CodecError::Invalid(invalid));
        next.validate().map_err(invalid)?;
        let full = CodecError::Full { capacity: "MAX_RECORD_SIZE_BYTES" };
        let sum = checksum(next, &mut self.record).map_err(|_| UpdateError::Codec(full))?;
        if sum == self.served.checksum && self.source != Source::None {
            return Ok(Taken::Same);
        }
        let generation = self.served.generation + 1;
        next.identity = Identity { epoch: 0, generation, checksum: sum };
        let identity = next.identity;
        writer.commit().map_err(UpdateError::from)?;
        (self.served, self.source) = (identity, Source::Local);
        Ok(Taken::Swapped)
    }

    /// Gives the push up (its connection broke).
    pub fn abort(&mut self) {
        self.running = false;
    }

    /// Validates the whole and swaps, adopts or refuses. `prepare` loads certificates, of the next
    /// Snapshot and the one that is served.
    pub fn finish(
        &mut self,
        writer: &mut Writer<'_>,
        prepare: impl FnOnce(&Snapshot, &Snapshot) -> Result<(), BadCertificate>,
    ) -> Result<Taken, UpdateError> {
        if !core::mem::take(&mut self.running) {
            return Err(UpdateError::Timeout);
        }
        let snapshot = writer.begin().ok_or(UpdateError::Grace)?;
        self.builder.finish(snapshot, &mut self.record).map_err(broken)?;
        let (offered, source) = (snapshot.identity, snapshot.source);
        if !self.served.precedes(&offered) && self.source != Source::None {
            return match offered == self.served {
                true => Ok(Taken::Same),
                false => {
                    sometimes(Mark::PushForks);
                    Err(UpdateError::Fork)
                }
            };
        }
        let same_content = offered.checksum == self.served.checksum;
        if same_content && self.source != Source::None {
            (self.served, self.source) = (offered, source);
            return Ok(Taken::Adopted);
        }
        let (active, next) = writer.begin_beside_active().ok_or(UpdateError::Grace)?;
        prepare(next, &active.snapshot).map_err(UpdateError::Certificate)?;
        writer.commit().map_err(UpdateError::from)?;
        assert!(self.source == Source::None || self.served.precedes(&offered));
        (self.served, self.source) = (offered, source);
        Ok(Taken::Swapped)
    }
}

/// What a push has that cannot be taken.
fn broken(error: CodecError) -> UpdateError {
    sometimes(Mark::PushBroken);
    UpdateError::Codec(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::snapshot::{Bind, Transport};
    use crate::config::{ConfigStorage, Snapshot, codec};
    use crate::limits::Capacities;
    use crate::shell::place::boxed_zeroed;
    use std::boxed::Box;
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    fn parse(line: &[u8], document: &mut Document) -> bool {
        crate::shell::json::parse(line, document).is_ok()
    }

    /// The lines of a Snapshot with one bind at `port`.
    fn lines(epoch: u64, generation: u64, port: u16) -> Vec<String> {
        let mut snapshot = boxed_zeroed::<Snapshot>();
        snapshot.set_caps(&Capacities::DEFAULT);
        let address = core::net::IpAddr::from([0, 0, 0, 0]);
        let bind = Bind { transport: Transport::Tcp, address, port, is_tls: false };
        snapshot.binds.push(bind).unwrap();
        snapshot.identity.epoch = epoch;
        snapshot.identity.generation = generation;
        snapshot.source = Source::Controller;
        let mut buffer = vec![0; MAX_RECORD_SIZE_BYTES as usize];
        snapshot.identity.checksum = codec::checksum(&snapshot, &mut buffer).unwrap();
        let (mut encoder, mut lines) = (codec::Encoder::new(), Vec::new());
        while let Some(line) = encoder.next_line(&snapshot, &mut buffer) {
            lines.push(String::from_utf8(line.unwrap().to_vec()).unwrap());
        }
        lines
    }

    struct Router {
        storage: Box<ConfigStorage>,
        updater: Box<Updater>,
    }

    impl Router {
        fn new() -> Router {
            let mut storage = boxed_zeroed::<ConfigStorage>();
            storage.set_caps(&Capacities::DEFAULT);
            Router { storage, updater: boxed_zeroed() }
        }

        fn push(&mut self, lines: &[String]) -> Result<Taken, UpdateError> {
            let mut writer = self.storage.writer().unwrap();
            self.updater.begin(&mut writer, Now::default())?;
            for line in lines {
                self.updater.line(line.as_bytes(), &mut writer, parse, Now::default())?;
            }
            self.updater.finish(&mut writer, |_, _| Ok(()))
        }

        fn port(&self) -> Option<u16> {
            let writer = self.storage.writer().unwrap();
            writer.active().snapshot.binds.as_slice().first().map(|b| b.port)
        }
    }

    #[test]
    fn newer_is_taken_older_refused_equal_adopted() {
        let mut router = Router::new();
        assert_eq!(router.push(&lines(1, 1, 80)), Ok(Taken::Swapped));
        assert_eq!(router.push(&lines(1, 1, 80)), Ok(Taken::Same));
        assert_eq!(router.push(&lines(1, 1, 81)), Err(UpdateError::Fork));
        assert_eq!(router.push(&lines(2, 1, 81)), Ok(Taken::Swapped));
        assert!(matches!(router.push(&lines(1, 9, 82)), Err(UpdateError::Older { .. })));
        assert_eq!(router.port(), Some(81));
        assert_eq!(router.push(&lines(3, 1, 81)), Ok(Taken::Adopted));
        assert_eq!(router.updater.served().0.epoch, 3);
    }

    #[test]
    fn a_saved_snapshot_that_does_not_fit_leaves_its_epoch() {
        let mut router = Router::new();
        router.storage.set_caps(&{
            let mut lesser = Capacities::DEFAULT;
            lesser.set("MAX_CONFIG_BINDS", 1).unwrap();
            lesser
        });
        let mut large = lines(4, 7, 80);
        let bind = large[1].clone();
        large.insert(2, bind);
        let full = router.push(&large).unwrap_err();
        assert_eq!(full.status(), 507);
        router.updater.passed_over(full);
        assert_eq!(
            router.updater.served(),
            (Identity { epoch: 4, ..Identity::default() }, Source::None)
        );
        assert!(matches!(router.push(&lines(3, 9, 82)), Err(UpdateError::Older { .. })));
        assert_eq!(router.push(&lines(4, 1, 81)), Ok(Taken::Swapped));
    }

    #[test]
    fn a_torn_push_changes_nothing() {
        let mut router = Router::new();
        router.push(&lines(1, 1, 80)).unwrap();
        let next = lines(1, 2, 81);
        for cut in 0..next.len() {
            let torn = router.push(&next[..cut]);
            assert_eq!(torn, Err(UpdateError::Codec(CodecError::Truncated)));
            assert_eq!((router.port(), router.updater.served().0.generation), (Some(80), 1));
        }
        let mut bad = next.clone();
        bad[1] = "{".into();
        assert_eq!(router.push(&bad), Err(UpdateError::Syntax { line: 1 }));
        assert_eq!(router.push(&next), Ok(Taken::Swapped));
    }

    #[test]
    fn one_push_at_a_time_until_it_stalls() {
        let mut router = Router::new();
        let mut writer = router.storage.writer().unwrap();
        let late = Now { mono: Instant(u64::from(ADMIN_TIMEOUT_MS) * 1_000_000), ..Now::default() };
        assert_eq!(router.updater.begin(&mut writer, Now::default()), Ok(()));
        assert_eq!(router.updater.begin(&mut writer, Now::default()), Err(UpdateError::Busy));
        assert_eq!(router.updater.begin(&mut writer, late), Ok(()));
    }

    #[test]
    fn a_push_that_stalled_and_was_overtaken_is_refused() {
        let mut router = Router::new();
        let mut writer = router.storage.writer().unwrap();
        let late = Now { mono: Instant(u64::from(ADMIN_TIMEOUT_MS) * 1_000_000), ..Now::default() };
        assert_eq!(router.updater.begin(&mut writer, Now::default()), Ok(()));
        let change = Change::PostPool;
        let body = br#"{"name": "p", "upstreams": ["10.0.0.1:80"]}"#;
        let changed = router.updater.change(&change, body, parse, &mut writer, late);
        assert_eq!(changed, Ok(Taken::Swapped));
        // The rest of it comes all the same.
        let line = router.updater.line(b"{}", &mut writer, parse, late);
        assert_eq!(line, Err(UpdateError::Timeout));
        let end = router.updater.finish(&mut writer, |_, _| Ok(()));
        assert_eq!(end, Err(UpdateError::Timeout));
    }
}
