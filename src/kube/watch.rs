//! List and watch of one kind, as a machine that never gives up.
//!
//! In: what happens to the connection, bytes, parsed lines, tokens, time. Out: connect, send, lines
//! to parse, and events of objects. The rules are those of `shared/kube-client.md` (client-go's
//! reflector and KEP-3157 where they say nothing):
//!
//! ```text
//!           400/422: not supported             initial-events-end, or the last page
//! Stream ------------------------> List ----------------------------------------> Watch
//!   ^                                                                               |
//!   +----- 410 (status or event), a whole term without a line, invalid version -----+
//! ```
//!
//! `Stream` is a watch that begins with the state (sendInitialEvents), `List` the paginated list.
//! A relist asks for "not older than" the last version; only when that is refused, for any version.
//! The driver parses lines, since a JSON parser needs a heap: it gets [`Output::Parse`], fills its
//! document, and hands back [`Input::Parsed`]; objects are then given as values of that document.

use super::backoff::Backoff;
use super::kind::Watched;
use super::lines::Line;
use super::list_items::ListItems;
use super::request::{Head, Method, ObjectPath, RequestHead, Server, ServerError, TargetText};
use super::request::{percent_encode, write_head};
use super::response::Response;
use super::{ResourceVersion, Trouble};
use crate::limits::{
    KUBE_ANSWER_TIMEOUT_MS, KUBE_CONNECT_TIMEOUT_MS, KUBE_LIST_PAGE, KUBE_WATCH_AFTER_FAILURE_MS,
    KUBE_WATCH_MAX_MS, KUBE_WATCH_MIN_MS,
};
use crate::resource::document::{Document, Value};
use crate::stdx::{Duration, Full, Instant, Now, Prng, Table};
use core::fmt::Write;

mod answer;
#[cfg(test)]
mod tests;

/// What to watch, and where.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The kind.
    pub kind: Watched,
    /// `host:port` of the API server.
    pub authority: &'a str,
    /// Path before `/api` and `/apis`, mostly empty.
    pub prefix: &'a str,
    /// Bearer token, empty for none.
    pub token: &'a [u8],
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The connection that was asked for is up, TLS included.
    Connected,
    /// There is no connection, or no longer.
    Closed(Trouble),
    /// Bytes of the connection; the number taken is returned.
    Bytes(&'a [u8]),
    /// The line of [`Output::Parse`], parsed; the same document goes into `poll_output`.
    Parsed(&'a Document),
    /// That line is not JSON, or does not fit a document, or its object does not fit the consumer.
    Refused,
    /// The token, read again: after [`Output::ReadToken`], or because its file has changed.
    Token(&'a [u8]),
    /// The consumer has room for what it refused: the whole state again, soon.
    Relist,
}

/// What to do. `'m` is the machine's memory, `'d` the document's.
#[derive(Clone, Copy, Debug)]
pub enum Output<'m, 'd> {
    /// Make a connection, then say [`Input::Connected`] or [`Input::Closed`].
    Connect,
    /// End the connection; nothing is to be said.
    Disconnect,
    /// Send all of these bytes.
    Send(&'m [u8]),
    /// Parse this line, then say [`Input::Parsed`] or [`Input::Refused`].
    Parse(&'m [u8]),
    /// Read the token again, then say [`Input::Token`].
    ReadToken,
    /// Something about objects.
    Event(Event<'d>),
}

/// Why an object was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Larger than MAX_LINE_SIZE_BYTES.
    TooLarge,
    /// Not JSON, or it does not fit a document.
    Refused,
    /// No object, or one without a name.
    Malformed,
}

/// Something about objects of the kind.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The whole state follows: mark what comes as seen in this epoch.
    ResyncBegin {
        /// Rises by one each time.
        epoch: u64,
    },
    /// The object exists, in this version. May repeat what is known: applying is idempotent.
    Upsert {
        /// The object.
        object: Value<'a>,
    },
    /// The object is gone.
    Delete {
        /// `metadata.namespace`, empty when cluster-scoped.
        namespace: &'a str,
        /// `metadata.name`
        name: &'a str,
        /// `metadata.uid`: only the object of this uid is gone.
        uid: &'a str,
    },
    /// The state is whole: what was not seen in this epoch is gone (mark and sweep).
    ResyncEnd {
        /// The epoch of its begin.
        epoch: u64,
        /// False when an object was skipped whose name could not be read: do not sweep.
        complete: bool,
    },
    /// The kind is synced for the first time (or is optional and not served).
    Synced,
    /// The server is alive and nothing happened.
    Bookmark,
    /// An object was not taken. It exists: whoever keeps its last version marks it as seen.
    Skipped {
        /// Why.
        why: Skip,
        /// `metadata.namespace`, empty when unknown.
        namespace: &'a str,
        /// `metadata.name`, empty when unknown.
        name: &'a str,
        /// Size of its line in bytes.
        size: u64,
    },
    /// The kind is served in this version.
    Served {
        /// `v1`, `v1beta1`.
        version: &'static str,
    },
    /// The optional kind is not served: it counts as synced and empty, and is asked for again.
    Absent,
    /// The kind was served and is no longer: its last state is kept.
    Vanished,
    /// An attempt failed and is repeated.
    Retrying {
        /// Why it failed.
        trouble: Trouble,
        /// When it is repeated.
        wait_ms: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Connecting,
    Up,
}

crate::zeroed_enum!(Link { Down });

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// For `Timer::Wake`.
    Waiting,
    Connecting,
    /// The request is sent.
    Asked,
    /// The head of the answer has come.
    Answering,
}

crate::zeroed_enum!(Phase { Waiting });

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Stream,
    List,
    Watch,
}

crate::zeroed_enum!(Ask { Stream });

/// What the body of the answer at hand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// Watch events before the state is whole.
    Initial,
    /// Watch events after it.
    Live,
    /// A list.
    Items,
    /// A `Status`.
    Status,
}

crate::zeroed_enum!(Body { Initial });

/// An output or event that waits to be polled; its data stands in the machine or the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Connect,
    Disconnect,
    Send,
    Parse,
    ReadToken,
    ResyncBegin,
    UpsertRoot,
    UpsertMember,
    Delete,
    DeleteNamed,
    ResyncEnd,
    Synced,
    Bookmark,
    Skipped,
    Served,
    Absent,
    Vanished,
    Retrying,
}

/// Each a moment, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// Begin the next attempt.
    Wake,
    /// Connecting, waiting for the head, or the term of a watch, ends.
    Deadline,
    /// No byte came for too long.
    Silence,
}

/// Most outputs that one input can cause: Disconnect, Retrying, Vanished, Absent, Synced, Served,
/// ResyncBegin, ResyncEnd, Bookmark, Connect, Send and one of an object; never all at once.
const PENDING_MAX: usize = 12;

/// The machine of one kind. Hundreds of kilobytes: built in place.
#[derive(Debug)]
pub struct Watch {
    kind: Watched,
    version: u8,
    link: Link,
    phase: Phase,
    ask: Ask,
    body: Body,
    /// No answer has come on this connection yet.
    fresh: bool,
    /// A line is with the driver's parser.
    parsing: bool,
    /// The line at hand is done with: clear it before the next byte.
    line_done: bool,
    /// This request carried a resource version.
    asked_version: bool,
    /// The server does not do WatchList.
    stream_refused: bool,
    /// The server's continue tokens are too long: list without pages.
    unpaged: bool,
    /// A page of the list came, the next continues it.
    continuing: bool,
    /// The connection broke since the last watch that went well.
    after_failure: bool,
    /// 401 came and the token was read again.
    token_retried: bool,
    token_wanted: bool,
    /// `Synced` was given.
    synced: bool,
    /// `Served` was given and neither `Absent` nor `Vanished` since.
    served: bool,
    /// A resync began and its state is not whole yet, perhaps over several attempts.
    resyncing: bool,
    /// Every skipped object of this resync could be named.
    complete: bool,
    /// Size and reason of the skipped line.
    skip: Skip,
    epoch: u64,
    /// Lines of the watch at hand.
    lines: u64,
    began: Instant,
    term: Duration,
    timers: [Instant; 3],
    /// `Trouble::to_u32` of the last failure.
    trouble: u32,
    wait_ms: u64,
    resource_version: ResourceVersion,
    backoff: Backoff,
    prng: Prng,
    pending: Table<Pending, PENDING_MAX>,
    /// Outputs polled already, at the front of `pending`.
    polled: u32,
    server: Server,
    head: RequestHead,
    response: Response,
    items: ListItems,
    line: Line,
}

crate::zeroed_enum!(Skip { TooLarge });

crate::zeroed_struct!(Watch {
    kind: Watched,
    version: u8,
    link: Link,
    phase: Phase,
    ask: Ask,
    body: Body,
    fresh: bool,
    parsing: bool,
    line_done: bool,
    asked_version: bool,
    stream_refused: bool,
    unpaged: bool,
    continuing: bool,
    after_failure: bool,
    token_retried: bool,
    token_wanted: bool,
    synced: bool,
    served: bool,
    resyncing: bool,
    complete: bool,
    skip: Skip,
    epoch: u64,
    lines: u64,
    began: Instant,
    term: Duration,
    timers: [Instant; 3],
    trouble: u32,
    wait_ms: u64,
    resource_version: ResourceVersion,
    backoff: Backoff,
    prng: Prng,
    pending: Table<Pending, PENDING_MAX>,
    polled: u32,
    server: Server,
    head: RequestHead,
    response: Response,
    items: ListItems,
    line: Line,
});

impl Watch {
    /// Must be called first, on zero bytes: begins with the first tick.
    pub fn start(&mut self, settings: Settings<'_>, prng: Prng) -> Result<(), ServerError> {
        self.server.set(settings.authority, settings.prefix)?;
        self.server.set_token(settings.token)?;
        self.kind = settings.kind;
        self.prng = prng;
        self.timers = [Instant::NEVER; 3];
        self.pending.set_cap(PENDING_MAX as u32);
        self.wake_at(Instant(0));
        Ok(())
    }

    /// The watched kind.
    pub fn kind(&self) -> Watched {
        self.kind
    }

    /// Whether the first state is whole.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Takes an input; for bytes, returns how many were taken. [`Full`]: outputs wait (or a line is
    /// at the parser); nothing was taken.
    pub fn input(&mut self, input: Input<'_>, now: Now) -> Result<usize, Full> {
        let answers_parse = matches!(input, Input::Parsed(_) | Input::Refused);
        if self.has_outputs() || self.parsing != answers_parse {
            return Err(Full);
        }
        let mut used = 0;
        match input {
            Input::Connected => self.connected(now),
            Input::Closed(trouble) => self.closed(trouble, now),
            Input::Bytes(bytes) => used = self.bytes(bytes, now),
            Input::Parsed(document) => {
                self.parsing = false;
                self.parsed(Some(document), now);
            }
            Input::Refused => {
                self.parsing = false;
                self.parsed(None, now);
            }
            Input::Token(token) => self.token(token, now),
            Input::Relist => self.relist(now),
        }
        self.check_invariants();
        Ok(used)
    }

    /// The next thing to do, until None. `document` is the one that was last parsed into.
    pub fn poll_output<'m: 'd, 'd>(&'m mut self, document: &'d Document) -> Option<Output<'m, 'd>> {
        let Some(&pending) = self.pending.get(self.polled) else {
            self.pending.clear();
            self.polled = 0;
            return None;
        };
        self.polled += 1;
        let names = self.line.names();
        Some(match pending {
            Pending::Connect => Output::Connect,
            Pending::Disconnect => Output::Disconnect,
            Pending::Send => Output::Send(self.head.as_bytes()),
            Pending::Parse => Output::Parse(self.line.as_bytes()),
            Pending::ReadToken => Output::ReadToken,
            Pending::ResyncBegin => Output::Event(Event::ResyncBegin { epoch: self.epoch }),
            Pending::UpsertRoot => Output::Event(Event::Upsert { object: document.root() }),
            Pending::UpsertMember => {
                let object = document.root().get("object").unwrap_or(document.root());
                Output::Event(Event::Upsert { object })
            }
            Pending::Delete => {
                let of = |name| document.root().at(&["object", "metadata", name]);
                let [namespace, name, uid] = ["namespace", "name", "uid"]
                    .map(|name| of(name).and_then(Value::str).unwrap_or(""));
                Output::Event(Event::Delete { namespace, name, uid })
            }
            Pending::DeleteNamed => Output::Event(Event::Delete {
                namespace: names.namespace.as_str(),
                name: names.name.as_str(),
                uid: names.uid.as_str(),
            }),
            Pending::ResyncEnd => {
                let (epoch, complete) = (self.epoch, self.complete);
                Output::Event(Event::ResyncEnd { epoch, complete })
            }
            Pending::Synced => Output::Event(Event::Synced),
            Pending::Bookmark => Output::Event(Event::Bookmark),
            Pending::Skipped => Output::Event(Event::Skipped {
                why: self.skip,
                namespace: names.namespace.as_str(),
                name: names.name.as_str(),
                size: self.line.size(),
            }),
            Pending::Served => Output::Event(Event::Served { version: self.api_version() }),
            Pending::Absent => Output::Event(Event::Absent),
            Pending::Vanished => Output::Event(Event::Vanished),
            Pending::Retrying => {
                let (trouble, wait_ms) = (Trouble::from_u32(self.trouble), self.wait_ms);
                Output::Event(Event::Retrying { trouble, wait_ms })
            }
        })
    }

    /// When `tick` is due; None while outputs wait.
    pub fn timeout(&self) -> Option<Instant> {
        if self.has_outputs() || self.parsing {
            return None;
        }
        self.timers.iter().copied().min().filter(|&at| at != Instant::NEVER)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        if self.has_outputs() || self.parsing {
            return;
        }
        if self.take_due(Timer::Wake, now) {
            self.begin(now);
        } else if self.take_due(Timer::Deadline, now) {
            self.deadline(now);
        } else if self.take_due(Timer::Silence, now) {
            self.silence(now);
        }
        self.check_invariants();
    }

    fn has_outputs(&self) -> bool {
        self.polled < self.pending.len()
    }

    fn take_due(&mut self, timer: Timer, now: Now) -> bool {
        let due = self.timers[timer as usize] <= now.mono;
        if due {
            self.timers[timer as usize] = Instant::NEVER;
        }
        due
    }

    fn set_timer(&mut self, timer: Timer, at: Instant) {
        self.timers[timer as usize] = at;
    }

    fn push(&mut self, pending: Pending) {
        let pushed = self.pending.push(pending);
        assert!(pushed.is_ok(), "PENDING_MAX counts what one input can cause");
    }

    fn api_version(&self) -> &'static str {
        self.kind.served().versions[usize::from(self.version)]
    }

    /// No connection is wanted until `at`; then the next attempt begins.
    fn wake_at(&mut self, at: Instant) {
        self.phase = Phase::Waiting;
        self.timers = [Instant::NEVER; 3];
        self.set_timer(Timer::Wake, at);
    }

    fn hang_up(&mut self) {
        if self.link != Link::Down {
            self.push(Pending::Disconnect);
        }
        self.link = Link::Down;
    }

    fn begin(&mut self, now: Now) {
        assert!(self.phase == Phase::Waiting && self.link != Link::Connecting);
        if self.link == Link::Up {
            return self.ask(now);
        }
        (self.link, self.phase, self.fresh) = (Link::Connecting, Phase::Connecting, true);
        self.push(Pending::Connect);
        let limit = Duration::from_millis(KUBE_CONNECT_TIMEOUT_MS.into());
        self.set_timer(Timer::Deadline, now.mono + limit);
    }

    fn connected(&mut self, now: Now) {
        if self.phase == Phase::Connecting {
            self.link = Link::Up;
            self.ask(now);
        }
    }

    /// Sends the request that `self.ask` says.
    fn ask(&mut self, now: Now) {
        assert!(self.link == Link::Up);
        if self.ask == Ask::Stream && self.stream_refused {
            self.ask = Ask::List;
        }
        let (low, high) = if self.after_failure && self.ask == Ask::Watch {
            (KUBE_WATCH_AFTER_FAILURE_MS, KUBE_WATCH_AFTER_FAILURE_MS)
        } else {
            (KUBE_WATCH_MIN_MS, KUBE_WATCH_MAX_MS)
        };
        let seconds = self.prng.range(u64::from(low) / 1000, u64::from(high) / 1000);
        self.term = Duration::from_secs(seconds);
        if self.write_request(seconds).is_err() {
            return self.failed(Trouble::RequestTooLarge, 0, now);
        }
        self.phase = Phase::Asked;
        self.response.clear();
        self.timers = [Instant::NEVER; 3];
        let limit = Duration::from_millis(KUBE_ANSWER_TIMEOUT_MS.into());
        self.set_timer(Timer::Deadline, now.mono + limit);
        self.push(Pending::Send);
    }

    fn write_request(&mut self, seconds: u64) -> Result<(), Full> {
        let mut target = TargetText::new();
        ObjectPath::collection(self.kind, self.api_version()).write(&mut target)?;
        let format = |target: &mut TargetText, text| target.write_fmt(text).map_err(|_| Full);
        match self.ask {
            Ask::List if self.unpaged => target.push(b"?limit=0")?,
            Ask::List => format(&mut target, format_args!("?limit={KUBE_LIST_PAGE}"))?,
            Ask::Stream | Ask::Watch => {
                let text = "?watch=1&allowWatchBookmarks=true&timeoutSeconds=";
                format(&mut target, format_args!("{text}{seconds}"))?;
            }
        }
        let selector = self.kind.served().field_selector;
        if !selector.is_empty() {
            target.push(b"&fieldSelector=")?;
            percent_encode(selector.as_bytes(), &mut target)?;
        }
        if self.ask == Ask::Stream {
            target.push(b"&sendInitialEvents=true&resourceVersionMatch=NotOlderThan")?;
        }
        let continued = self.ask == Ask::List && self.continuing;
        self.asked_version = !continued && !self.resource_version.is_empty();
        let mut value: &[u8] = b"";
        if continued {
            target.push(b"&continue=")?;
            value = self.items.continue_token().unwrap_or(b"");
        } else if self.asked_version {
            if self.ask == Ask::List {
                target.push(b"&resourceVersionMatch=NotOlderThan")?;
            }
            target.push(b"&resourceVersion=")?;
            value = self.resource_version.as_bytes();
        }
        let head = Head { method: Method::Get, target: target.as_bytes(), value, body: None };
        write_head(&mut self.head, &self.server, head)
    }

    fn token(&mut self, token: &[u8], now: Now) {
        // A token that cannot be sent is as good as the old one: the server will say 401.
        let _ = self.server.set_token(token);
        if self.token_wanted && self.phase == Phase::Waiting {
            self.token_wanted = false;
            self.wake_at(now.mono);
        }
    }

    /// Unless a whole state is on its way already. The jitter spreads several kinds and replicas.
    fn relist(&mut self, now: Now) {
        let live = self.phase == Phase::Answering && self.body == Body::Live;
        let asked = self.phase == Phase::Asked && self.ask == Ask::Watch;
        if self.ask == Ask::Watch {
            self.ask = Ask::Stream;
        }
        if live || asked {
            self.hang_up();
            self.ask = Ask::Stream;
            let pause = Duration(self.prng.below(500_000_000));
            self.wake_at(now.mono + pause);
        }
    }

    /// Facts that hold between any two calls.
    fn check_invariants(&self) {
        assert!(self.phase != Phase::Connecting || self.link == Link::Connecting);
        let asked = matches!(self.phase, Phase::Asked | Phase::Answering);
        assert!(!asked || self.link == Link::Up || self.parsing || self.has_outputs());
        let timed = self.timers.iter().any(|&at| at != Instant::NEVER);
        assert!(timed || self.parsing || self.has_outputs(), "a machine without a timer is dead");
    }
}
