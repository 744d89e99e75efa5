//! Clients that know what they sent: stamped requests to each router at a steady pace, kept and new
//! connections, with TLS and without.
//!
//! In: where a router is reached; the ledger. Out: good answers by time, and each failure with all
//! that explains it or not: when the request was sent, over what, to whom it may have gone.

use crate::ledger::{FIELD, Ledger, ROUTERS, ROUTES};
use crate::places::Places;
use serval_load::http::{Broken, Head, Rest, Wire};
use serval_load::stamp::{Keep, Request};
use serval_load::summary::Failure;
use serval_load::tls::Tls;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No request takes so long, whatever happens: pauses of all lanes, one after the other.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Senders of a router, each with a kept connection of either kind.
const SENDERS: usize = 10;
/// Between two requests to a router.
const PACE: Duration = Duration::from_millis(10);
/// Requests that are later than this are left out, not made up for.
const LATE: Duration = Duration::from_millis(200);
/// Good answers are counted in pieces of time of this length.
pub const BIN_MS: u64 = 100;
/// The route with a timeout of its own.
pub const TIMED_ROUTE: usize = 1;

/// How a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// No connection, or no TLS on it.
    Connect,
    /// A kept connection had ended before it was used again.
    Closed,
    /// It could not be sent.
    Send,
    /// The connection ended before a byte of the answer.
    Ended,
    /// The connection ended inside the answer.
    Cut,
    /// The connection was reset.
    Reset,
    /// Nothing for [`PATIENCE`].
    Timeout,
    /// An honest refusal.
    Status(u16),
    /// An answer that may never come.
    Wrong(String),
}

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// From when on a fault may have caused it, ms since the start.
    pub since: u64,
    /// When it was sent.
    pub sent: u64,
    /// Over a connection that had served another.
    pub is_used: bool,
    /// When it was noticed.
    pub at: u64,
    /// The router it was for.
    pub router: usize,
    /// The route.
    pub route: usize,
    /// Backends that it may have gone to.
    pub mask: u8,
    /// How.
    pub class: Class,
    /// The request, in words.
    pub request: String,
}

impl Failed {
    /// Of which nothing is known.
    pub fn unknown() -> Failed {
        let (class, request) = (Class::Timeout, String::new());
        let (since, sent, at, is_used) = (0, 0, 0, false);
        Failed { since, sent, is_used, at, router: 0, route: 0, mask: 0, class, request }
    }
}

/// What all share.
#[derive(Debug)]
pub struct Shared {
    /// When the soak began.
    pub start: Instant,
    /// Which answers are right.
    pub ledger: Arc<Ledger>,
    /// Failures so far.
    pub failed: Mutex<Vec<Failed>>,
    /// Good answers of each router, by time.
    pub good: [Mutex<Vec<u32>>; ROUTERS],
    /// Requests tried.
    pub requests: AtomicU64,
    heads: Mutex<HashMap<String, u8>>,
    places: Places,
    tls: Tls,
    run: String,
    next: AtomicU64,
    due: [Mutex<Instant>; ROUTERS],
    paused: AtomicBool,
    stopped: AtomicBool,
    busy: AtomicUsize,
}

/// The clients.
#[derive(Debug)]
pub struct Clients {
    /// What they share.
    pub shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Shared {
    /// Since the start.
    pub fn ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// A backend got the head of a request. What a body may have been sent of must not come twice,
    /// anything else at most twice.
    pub fn note(&self, stamp: &str, method: &str) {
        let mut heads = self.heads.lock().expect("no panics");
        let count = heads.entry(stamp.to_string()).or_default();
        *count += 1;
        let most = if method == "POST" { 1 } else { 2 };
        if *count > most {
            let class = Class::Wrong(format!("{method} reached backends {count} times"));
            let (at, request) = (self.ms(), stamp.to_string());
            let failed = Failed { since: at, at, class, request, ..Failed::unknown() };
            self.failed.lock().expect("no panics").push(failed);
        }
    }

    fn good(&self, router: usize) {
        let bin = (self.ms() / BIN_MS) as usize;
        let mut bins = self.good[router].lock().expect("no panics");
        if bins.len() <= bin {
            bins.resize(bin + 1, 0);
        }
        bins[bin] += 1;
    }

    /// Waits for this router's next turn.
    fn wait_turn(&self, router: usize) {
        let now = Instant::now();
        let due = {
            let mut next = self.due[router].lock().expect("no panics");
            let due = (*next).max(now.checked_sub(LATE).unwrap_or(now));
            *next = due + PACE;
            due
        };
        std::thread::sleep(due.saturating_duration_since(now));
    }
}

impl Clients {
    /// They wait until they are told to go on.
    pub fn start(places: &Places, ledger: &Arc<Ledger>, tls: Tls, start: Instant) -> Clients {
        let shared = Arc::new(Shared {
            start,
            ledger: Arc::clone(ledger),
            failed: Mutex::default(),
            good: Default::default(),
            requests: AtomicU64::new(0),
            heads: Mutex::default(),
            places: places.clone(),
            tls,
            run: format!("{:x}", std::process::id()),
            next: AtomicU64::new(0),
            due: [start; ROUTERS].map(Mutex::new),
            paused: AtomicBool::new(true),
            stopped: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
        });
        let sender = |n: usize| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || Sender::new(&shared, n % ROUTERS).work())
        };
        let threads = (0..SENDERS * ROUTERS).map(sender).collect();
        Clients { shared, threads }
    }

    /// All that is under way ends, connections too.
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
        while self.shared.busy.load(Ordering::SeqCst) > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.shared.heads.lock().expect("no panics").clear();
    }

    /// They go on.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
    }

    /// They end.
    pub fn finish(self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().expect("clients do not panic"));
    }
}

/// A kept connection, and when it was used last.
struct Kept {
    wire: Wire,
    used: u64,
}

struct Sender<'s> {
    shared: &'s Shared,
    router: usize,
    /// Without TLS, with it.
    kept: [Option<Kept>; 2],
}

fn class(broken: Broken) -> Class {
    match broken {
        Broken::Ended => Class::Ended,
        Broken::Cut => Class::Cut,
        Broken::Timeout => Class::Timeout,
        Broken::Socket(_) => Class::Reset,
        Broken::Malformed(what) => Class::Wrong(format!("not HTTP: {what}")),
    }
}

/// One request as it is under way.
struct Try<'r> {
    request: &'r Request,
    number: u64,
    route: usize,
    floor: u64,
    is_tls: bool,
    is_used: bool,
}

impl Sender<'_> {
    fn new(shared: &Shared, router: usize) -> Sender<'_> {
        Sender { shared, router, kept: [None, None] }
    }

    fn work(mut self) {
        let shared = self.shared;
        while !shared.stopped.load(Ordering::SeqCst) {
            shared.busy.fetch_add(1, Ordering::SeqCst);
            if shared.paused.load(Ordering::SeqCst) {
                self.kept = [None, None];
                shared.busy.fetch_sub(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            shared.wait_turn(self.router);
            self.one();
            shared.busy.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn one(&mut self) {
        let number = self.shared.next.fetch_add(1, Ordering::SeqCst);
        self.shared.requests.fetch_add(1, Ordering::SeqCst);
        let route = (number / 24 % ROUTES as u64) as usize;
        let request = Request::number(&self.shared.run, number, &format!("/r{route}"));
        let is_tls = number / 8 % 4 == 3;
        let floor = self.shared.ledger.floor(self.router, route);
        let mut trial = Try { request: &request, number, route, floor, is_tls, is_used: false };
        let mut since = self.shared.ms();
        let kept = match request.keep {
            Keep::Kept => self.still_kept(&trial),
            Keep::Fresh | Keep::Closed => None,
        };
        if let Some(kept) = &kept {
            (since, trial.is_used) = (kept.used, true);
        }
        let sent = self.shared.ms();
        match self.exchange(&trial, kept.map(|kept| kept.wire)) {
            Ok(()) => self.shared.good(self.router),
            Err(class) => {
                // What became of the connection before is no excuse for an answer.
                let is_late = matches!(class, Class::Status(_) | Class::Timeout);
                self.fail(&trial, if is_late { sent } else { since }, sent, class);
            }
        }
    }

    /// The kept connection, if the router has not ended it; if it has, that is a failure, too.
    fn still_kept(&mut self, trial: &Try<'_>) -> Option<Kept> {
        let mut kept = self.kept[usize::from(trial.is_tls)].take()?;
        match kept.wire.rest() {
            Ok(Rest::Quiet) => return Some(kept),
            Ok(Rest::Speaks) => {
                let what = "bytes that nobody asked for".to_string();
                self.fail(trial, kept.used, self.shared.ms(), Class::Wrong(what));
            }
            Ok(Rest::Ended) | Err(_) => {
                self.fail(trial, kept.used, self.shared.ms(), Class::Closed);
            }
        }
        None
    }

    fn fail(&self, trial: &Try<'_>, since: u64, sent: u64, class: Class) {
        let Try { request, number, route, floor, is_tls, is_used } = *trial;
        let request = format!(
            "request {number} {:?} {:?} of {} bytes, {}, {}, stamp {}, route r{route} from \
             change {floor}",
            request.form,
            request.keep,
            request.body.len(),
            if is_tls { "TLS" } else { "plain" },
            if is_used { "used connection" } else { "new connection" },
            request.stamp,
        );
        let mask = self.shared.ledger.mask(route, floor);
        let (at, router) = (self.shared.ms(), self.router);
        let failed = Failed { since, sent, is_used, at, router, route, mask, class, request };
        self.shared.failed.lock().expect("no panics").push(failed);
    }

    fn connect(&self, is_tls: bool) -> Result<Wire, Class> {
        let places = &self.shared.places;
        let connected = match is_tls {
            true => self.shared.tls.connect(places.https_relay(self.router)),
            false => Wire::connect(places.http_relay(self.router)).map_err(Failure::Connect),
        };
        let wire = connected.map_err(|failure| match failure {
            Failure::Leaf(leaf) => Class::Wrong(format!("leaf {leaf}")),
            _ => Class::Connect,
        })?;
        wire.limit(PATIENCE).map_err(|_| Class::Connect)?;
        Ok(wire)
    }

    fn exchange(&mut self, trial: &Try<'_>, kept: Option<Wire>) -> Result<(), Class> {
        let mut wire = match kept {
            Some(wire) => wire,
            None => self.connect(trial.is_tls)?,
        };
        let sent = wire.send(&trial.request.bytes("serval.test"));
        let head = match (wire.head(), sent) {
            (Ok(head), _) => head,
            (Err(_), Err(_)) => return Err(Class::Send),
            (Err(broken), Ok(())) => return Err(class(broken)),
        };
        let body = wire.body(&head).map_err(class)?;
        match head.status().map_err(class)? {
            200 => {}
            status => return Err(Class::Status(status)),
        }
        self.judge(trial, &head, &body).map_err(Class::Wrong)?;
        match trial.request.keep {
            Keep::Closed => match wire.is_at_end() {
                Ok(true) => {}
                Ok(false) => return Err(Class::Wrong("more than one answer".into())),
                Err(broken) => return Err(class(broken)),
            },
            Keep::Kept | Keep::Fresh => {
                if wire.rest() == Ok(Rest::Speaks) {
                    return Err(Class::Wrong("more than one answer".into()));
                }
            }
        }
        if trial.request.keep == Keep::Kept && !head.closes() {
            let used = self.shared.ms();
            self.kept[usize::from(trial.is_tls)] = Some(Kept { wire, used });
        }
        Ok(())
    }

    fn judge(&self, trial: &Try<'_>, head: &Head, body: &[u8]) -> Result<(), String> {
        let Try { request, route, floor, .. } = *trial;
        if head.field("x-stamp") != Some(&request.stamp) {
            return Err(format!("the stamp {:?}", head.field("x-stamp")));
        }
        let name = head.field("x-backend").unwrap_or("");
        let backend = name.strip_prefix("echo-").and_then(|n| n.parse().ok());
        let Some(backend) = backend else { return Err(format!("the backend {name:?}")) };
        let change = head.field(FIELD).and_then(|number| number.parse().ok());
        let Some(change) = change else { return Err(format!("the change {change:?}")) };
        if body != request.answer(name) {
            return Err(format!("a body of {} bytes that echo-{backend} did not send", body.len()));
        }
        self.shared.ledger.judge(route, floor, change, backend)
    }
}
