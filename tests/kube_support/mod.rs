//! A cache as the controller would keep it, for tests: the consumer of watch threads.
//!
//! In: records of all feeds. Out: the objects of each kind, kept by mark and sweep, and a log.
#![allow(clippy::disallowed_methods, reason = "tests run before and beside any seal")]
#![allow(dead_code, reason = "each test uses a part")]

use mio::{Events, Poll, Token, Waker};
use serval::kube::kind::Watched;
use serval::shell::kube::access::Access;
use serval::shell::kube::record::{AsJson, Record};
use serval::shell::kube::watch_thread::{Feed, WatchThread};
use serval::stdx::Prng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// An object of the cache.
#[derive(Clone, Debug)]
pub struct Object {
    pub uid: String,
    pub version: String,
    pub epoch: u64,
    pub json: serde_json::Value,
}

/// What is known of one kind.
#[derive(Debug, Default)]
pub struct State {
    pub synced: bool,
    pub objects: BTreeMap<String, Object>,
    pub epoch: u64,
    /// In the order they came: `upsert ns/name`, `delete ns/name`, `skip …`, `retry …`.
    pub log: Vec<String>,
    pub upserts: u64,
}

pub struct Kubernetes {
    pub feeds: Vec<Feed>,
    pub states: Vec<State>,
    threads: Vec<JoinHandle<()>>,
    poll: Poll,
    events: Events,
}

impl Kubernetes {
    /// Starts a watch thread for each kind.
    pub fn start(access: Access, kinds: &[Watched]) -> Kubernetes {
        let poll = Poll::new().unwrap();
        let notify = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let access = Arc::new(access);
        let (mut feeds, mut states, mut threads) = (vec![], vec![], vec![]);
        for &kind in kinds {
            let prng = Prng::new(7).child(kind.served().name);
            let (thread, feed) =
                WatchThread::new(kind, access.clone(), AsJson, notify.clone(), prng).unwrap();
            threads.push(std::thread::spawn(move || thread.run()));
            feeds.push(feed);
            states.push(State::default());
        }
        Kubernetes { feeds, states, threads, poll, events: Events::with_capacity(8) }
    }

    pub fn state(&self, kind: Watched) -> &State {
        let at = self.feeds.iter().position(|feed| feed.kind() == kind).unwrap();
        &self.states[at]
    }

    /// Takes all records that are there; whether there were any.
    pub fn drain(&mut self) -> bool {
        let mut any = false;
        for (feed, state) in self.feeds.iter_mut().zip(&mut self.states) {
            while let Some(record) = feed.peek() {
                apply(state, record);
                feed.pop();
                any = true;
            }
        }
        any
    }

    /// Takes records until the condition holds; panics after `seconds`. Returns how long it took.
    pub fn until(
        &mut self,
        what: &str,
        seconds: u64,
        condition: impl Fn(&Kubernetes) -> bool,
    ) -> Duration {
        let began = Instant::now();
        loop {
            self.drain();
            if condition(self) {
                return began.elapsed();
            }
            let left = Duration::from_secs(seconds).checked_sub(began.elapsed());
            let Some(left) = left else {
                let logs: Vec<_> = self.states.iter().map(|s| s.log.iter().rev().take(6)).collect();
                panic!("not within {seconds} s: {what}\nlast first: {logs:#?}");
            };
            self.poll.poll(&mut self.events, Some(left)).unwrap();
        }
    }

    /// Takes records for a while.
    pub fn pass(&mut self, time: Duration) {
        let began = Instant::now();
        while let Some(left) = time.checked_sub(began.elapsed()) {
            self.drain();
            self.poll.poll(&mut self.events, Some(left)).unwrap();
        }
        self.drain();
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.feeds.iter().for_each(Feed::stop);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

fn apply(state: &mut State, record: Record<'_>) {
    match record {
        Record::ResyncBegin { epoch } => {
            state.epoch = epoch;
            state.log.push(format!("begin {epoch}"));
        }
        Record::Upsert { object } => {
            let json: serde_json::Value = serde_json::from_slice(object).unwrap();
            let of = |name: &str| json["metadata"][name].as_str().unwrap_or("").to_string();
            let key = format!("{}/{}", of("namespace"), of("name"));
            let (uid, version, epoch) = (of("uid"), of("resourceVersion"), state.epoch);
            state.upserts += 1;
            if state.log.len() < 100_000 {
                state.log.push(format!("upsert {key}"));
            }
            state.objects.insert(key, Object { uid, version, epoch, json });
        }
        Record::Delete { namespace, name, uid } => {
            let key = format!("{namespace}/{name}");
            state.log.push(format!("delete {key}"));
            if state.objects.get(&key).is_some_and(|object| object.uid == uid) {
                state.objects.remove(&key);
            }
        }
        Record::ResyncEnd { epoch, complete } => {
            state.log.push(format!("end {epoch} {complete}"));
            if complete {
                let log = &mut state.log;
                state.objects.retain(|key, object| {
                    if object.epoch < epoch {
                        log.push(format!("swept {key}"));
                    }
                    object.epoch >= epoch
                });
            }
        }
        Record::Synced => state.synced = true,
        Record::Bookmark => {}
        Record::Skipped { why, namespace, name, size } => {
            let key = format!("{namespace}/{name}");
            if let Some(object) = state.objects.get_mut(&key) {
                object.epoch = state.epoch;
            }
            state.log.push(format!("skip {why:?} {key} {size}"));
        }
        Record::Served { version } => state.log.push(format!("served {version}")),
        Record::Absent => state.log.push("absent".into()),
        Record::Vanished => state.log.push("vanished".into()),
        Record::Retrying { trouble, wait_ms, text } => {
            state.log.push(format!("retry {trouble:?} {wait_ms} {text}"));
        }
    }
}
