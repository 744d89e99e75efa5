//! Stamped requests at an exact rate, each answer checked.
//!
//! Request k is due at k / rate after the start, whatever became of those before: a pause of the
//! router is seen in the latencies, counted from when the request was due, and in the answers of
//! that second. Threads take the next number, wait until it is due, send it and read its answer.
//!
//! A server that is being started again may refuse connections and end those on which nothing is
//! under way. Nothing else is forgiven it: what it has accepted it must answer.

use crate::expected::Expected;
use crate::http::{Broken, Wire};
use crate::stamp::{Keep, Request};
use crate::summary::{Failure, Summary};
use crate::tls::Tls;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Failures that are printed; all are counted.
const MAX_PRINTED: u64 = 20;

/// Without a whole second there is no rate.
const RUN_MIN: Duration = Duration::from_secs(1);

/// What to ask, how often, of whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// The routers: each connection to the next one.
    pub addresses: Vec<SocketAddr>,
    /// They may be started again meanwhile: one that refuses is passed over for the next, and kept
    /// connections may end between answers.
    pub restarts: bool,
    /// Host field.
    pub host: String,
    /// Path that the requests' paths begin with.
    pub path: String,
    /// Requests a second.
    pub rate: u64,
    /// Threads, each with one kept connection: at most so many requests at once.
    pub threads: usize,
    /// With TLS, and half of the requests on new connections.
    pub tls: Option<Arc<Tls>>,
    /// The backends themselves, asked at the end how many requests came.
    pub count_at: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    run: String,
    expected: Arc<Expected>,
    start: Instant,
    next: AtomicU64,
    stop: AtomicBool,
    printed: AtomicU64,
}

impl Shared {
    fn new(target: Target, expected: Arc<Expected>) -> Shared {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let nanos = clock.expect("after 1970").as_nanos() as u64;
        Shared {
            run: format!("{:x}x{nanos:x}", std::process::id()),
            expected,
            start: Instant::now(),
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            printed: AtomicU64::new(0),
            target,
        }
    }
}

/// A run.
#[derive(Debug)]
pub struct Generator {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Summary>>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// All threads' counts.
    pub summary: Summary,
    /// Whole seconds that it ran.
    pub seconds: usize,
    /// Requests that reached a backend more than once: safe replays of GETs.
    pub replayed: u64,
    /// The backends' counts contradict ours.
    pub miscounted: Option<String>,
}

impl Generator {
    /// Begins.
    pub fn start(target: Target, expected: Arc<Expected>) -> Generator {
        let shared = Arc::new(Shared::new(target, expected));
        let thread = |_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || Sender::new(&shared).work())
        };
        let threads = (0..shared.target.threads).map(thread).collect();
        Generator { shared, threads }
    }

    /// Ends: what is under way is answered, then all is counted. Not before the first whole second:
    /// without one there is no rate to judge, however fast was what the load waited for.
    pub fn finish(self) -> Outcome {
        std::thread::sleep(RUN_MIN.saturating_sub(self.shared.start.elapsed()));
        let seconds = self.shared.start.elapsed().as_secs() as usize;
        self.shared.stop.store(true, Ordering::SeqCst);
        let mut summary = Summary::default();
        for thread in self.threads {
            summary.add(&thread.join().expect("senders do not panic"));
        }
        let mut outcome = Outcome { summary, seconds, replayed: 0, miscounted: None };
        match seen(&self.shared.target.count_at, &self.shared.run) {
            Ok(Some(seen)) => outcome.compare(seen),
            Ok(None) => {}
            Err(broken) => outcome.miscounted = Some(format!("a backend did not say: {broken:?}")),
        }
        outcome
    }
}

impl Outcome {
    /// A POST reaches exactly one backend once. A GET at least once: it may be replayed.
    fn compare(&mut self, [gets, posts]: [u64; 2]) {
        let [answered_gets, answered_posts] = self.summary.methods;
        self.replayed = gets.saturating_sub(answered_gets);
        // With failures nobody knows how far each request came, unless there was no connection.
        let exact = self.summary.failures() > self.summary.refusals() || posts == answered_posts;
        if gets < answered_gets || posts < answered_posts || !exact {
            self.miscounted = Some(format!(
                "backends saw {gets} GETs, {posts} POSTs; answered were {answered_gets}, \
                 {answered_posts}"
            ));
        }
    }
}

/// GETs and POSTs of the run that the backends saw.
fn seen(backends: &[SocketAddr], run: &str) -> Result<Option<[u64; 2]>, Broken> {
    let mut sum = None;
    for address in backends {
        let mut wire = Wire::connect(*address)?;
        wire.send(format!("GET /seen/{run} HTTP/1.1\r\nHost: backend\r\n\r\n").as_bytes())?;
        let head = wire.head()?;
        let body = String::from_utf8_lossy(&wire.body(&head)?).into_owned();
        let counts: Vec<u64> = body.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let &[gets, posts] = &counts[..] else { return Err(Broken::Malformed("/seen")) };
        let [all_gets, all_posts] = sum.unwrap_or([0; 2]);
        sum = Some([all_gets + gets, all_posts + posts]);
    }
    Ok(sum)
}

struct Sender<'s> {
    shared: &'s Shared,
    kept: Option<Wire>,
    /// Connections tried.
    turn: usize,
    summary: Summary,
}

impl Sender<'_> {
    fn new(shared: &Shared) -> Sender<'_> {
        Sender { shared, kept: None, turn: 0, summary: Summary::default() }
    }

    fn work(mut self) -> Summary {
        let Shared { target, run, start, next, .. } = self.shared;
        loop {
            let k = next.fetch_add(1, Ordering::SeqCst);
            let due = *start + Duration::from_nanos(k * 1_000_000_000 / target.rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.shared.stop.load(Ordering::SeqCst) {
                return self.summary;
            }
            let mut request = Request::number(run, k, &target.path);
            if target.tls.is_some() && k % 4 == 1 {
                request.keep = Keep::Fresh;
            }
            match self.exchange(&request) {
                Ok(backend) => {
                    let micros = due.elapsed().as_micros() as u64;
                    let at_ms = start.elapsed().as_millis() as usize;
                    self.summary.good(&request, &backend, micros, at_ms);
                }
                Err(failure) => self.fail(&request, &failure),
            }
        }
    }

    fn fail(&mut self, request: &Request, failure: &Failure) {
        self.summary.bad(failure);
        if self.shared.printed.fetch_add(1, Ordering::SeqCst) < MAX_PRINTED {
            let (ms, Request { stamp, form, keep, .. }) =
                (self.shared.start.elapsed().as_millis(), request);
            eprintln!("load: {ms} ms, {stamp} {form:?} {keep:?}: {failure:?}");
        }
    }

    /// A connection to the next router that does not refuse.
    fn connect(&mut self) -> Result<Wire, Failure> {
        let target = &self.shared.target;
        let mut tries = if target.restarts { target.addresses.len() } else { 1 };
        loop {
            let address = target.addresses[self.turn % target.addresses.len()];
            self.turn += 1;
            let connected = match &target.tls {
                Some(tls) => tls.connect(address),
                None => Wire::connect(address).map_err(Failure::Connect),
            };
            tries -= 1;
            match connected {
                Err(failure) if failure.is_refusal() && tries > 0 => self.summary.passed_over += 1,
                other => return other,
            }
        }
    }

    /// The kept connection or a new one, on which nothing came that nothing asked for: not even the
    /// end, unless the server may be started again.
    fn wire(&mut self, keep: Keep) -> Result<Wire, Failure> {
        if keep == Keep::Kept
            && let Some(mut kept) = self.kept.take()
        {
            if kept.is_quiet().map_err(Failure::Send)? {
                return Ok(kept);
            }
            if !self.shared.target.restarts || !kept.is_at_end().map_err(Failure::Send)? {
                return Err(Failure::Count);
            }
        }
        let mut wire = self.connect()?;
        if wire.is_quiet().map_err(Failure::Send)? { Ok(wire) } else { Err(Failure::Count) }
    }

    /// One request and its answer; the kept connection survives only what is good.
    fn exchange(&mut self, request: &Request) -> Result<String, Failure> {
        let target = &self.shared.target;
        let mut wire = self.wire(request.keep)?;
        let sent = self.shared.expected.send();
        wire.send(&request.bytes(&target.host)).map_err(Failure::Send)?;
        let head = wire.head().map_err(Failure::Answer)?;
        let body = wire.body(&head).map_err(Failure::Answer)?;
        match head.status().map_err(Failure::Answer)? {
            200 => {}
            status => return Err(Failure::Status(status)),
        }
        if head.field("x-stamp") != Some(&request.stamp) {
            return Err(Failure::Stamp);
        }
        let backend = head.field("x-backend").unwrap_or("").to_string();
        if !sent.allows(&backend) {
            return Err(Failure::Backend(backend));
        }
        if body != request.answer(&backend) {
            return Err(Failure::Body);
        }
        let ends = target.restarts && head.closes();
        let complete = match request.keep {
            _ if ends => wire.is_at_end().map_err(Failure::Answer)?,
            Keep::Closed => wire.is_at_end().map_err(Failure::Answer)?,
            Keep::Kept | Keep::Fresh => wire.is_quiet().map_err(Failure::Answer)?,
        };
        if !complete {
            return Err(Failure::Count);
        }
        if request.keep == Keep::Kept && !ends {
            self.kept = Some(wire);
        }
        Ok(backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend;
    use crate::http::{Head, message};
    use std::net::TcpListener;

    fn target(address: SocketAddr) -> Target {
        let (host, path, addresses) = ("h".to_string(), "/p".to_string(), vec![address]);
        let (rate, threads, restarts, tls, count_at) = (2_000, 4, false, None, vec![]);
        Target { addresses, restarts, host, path, rate, threads, tls, count_at }
    }

    fn expected(names: &[&str]) -> Arc<Expected> {
        Arc::new(Expected::Any(names.iter().map(|name| name.to_string()).collect()))
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn a_good_backend_passes_and_is_counted() {
        let (socket, address) = listener();
        backend::listen(socket, "a".into());
        let target = Target { count_at: vec![address], ..target(address) };
        let generator = Generator::start(target, expected(&["a"]));
        while generator.shared.next.load(Ordering::SeqCst) < 1_500 {
            std::thread::yield_now();
        }
        let outcome = generator.finish();
        assert_eq!((outcome.summary.failures(), &outcome.miscounted), (0, &None));
        assert_eq!(outcome.replayed, 0);
        assert!(outcome.summary.requests >= 1_490 && outcome.summary.answers.len() == 1);
        assert!(outcome.summary.keeps.iter().chain(&outcome.summary.methods).all(|n| *n > 100));
    }

    #[test]
    fn another_backend_than_allowed_fails() {
        let (socket, address) = listener();
        backend::listen(socket, "b".into());
        assert_eq!(failure(address), Some("backend"));
    }

    #[test]
    fn every_lie_is_noticed() {
        let lies = [
            ("stamp", "X-Backend: a\r\nX-Stamp: other\r\n", ""),
            ("backend", "X-Stamp: STAMP\r\n", ""),
            ("body", "X-Backend: a\r\nX-Stamp: STAMP\r\n", "a wrong body"),
        ];
        for (name, fields, body) in lies {
            let lines = format!("HTTP/1.1 200 OK\r\n{fields}");
            assert_eq!(failure(liar(message(&lines, body.as_bytes(), true))), Some(name));
        }
        let status = message("HTTP/1.1 503 Unavailable\r\n", b"", false);
        assert_eq!(failure(liar(status)), Some("status"));
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_vec();
        assert_eq!(failure(liar(cut)), Some("answer"));
    }

    /// A good answer with one more behind it.
    #[test]
    fn an_answer_too_many_is_noticed() {
        let good = |stamp: &str, head: &Head| {
            let target = head.first.split(' ').nth(1).unwrap_or("").to_string();
            let body = crate::stamp::answer("a", "GET", &target, stamp, b"");
            let lines = format!("HTTP/1.1 200 OK\r\nX-Backend: a\r\nX-Stamp: {stamp}\r\n");
            message(&lines, &body, false).repeat(2)
        };
        let (socket, address) = listener();
        std::thread::spawn(move || answer_all(&socket, good));
        assert_eq!(failure(address), Some("count"));
    }

    fn answer_all(socket: &TcpListener, answer: impl Fn(&str, &Head) -> Vec<u8>) {
        for stream in socket.incoming().flatten() {
            let mut wire = Wire::of(stream).unwrap();
            if let Ok(head) = wire.head() {
                let stamp = head.field("x-stamp").unwrap_or("").to_string();
                let _ = wire.send(&answer(&stamp, &head));
            }
        }
    }

    fn liar(answer: Vec<u8>) -> SocketAddr {
        let (socket, address) = listener();
        std::thread::spawn(move || {
            answer_all(&socket, |stamp, _| {
                let text = String::from_utf8_lossy(&answer).replace("STAMP", stamp);
                text.into_bytes()
            });
        });
        address
    }

    /// The first of two routers refuses; the other ends each connection after two answers, once
    /// with a word of it, once without.
    #[test]
    fn restarts_are_forgiven_what_they_may_do() {
        let (socket, address) = listener();
        let (answered, may_end) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for (number, stream) in socket.incoming().flatten().enumerate() {
                let mut wire = Wire::of(stream).unwrap();
                for last in [false, true] {
                    let Ok(head) = wire.head() else { break };
                    let stamp = head.field("x-stamp").unwrap_or("").to_string();
                    let target = head.first.split(' ').nth(1).unwrap_or("").to_string();
                    let body = crate::stamp::answer("a", "GET", &target, &stamp, b"");
                    let told = last && number % 2 == 0;
                    let close = if told { "Connection: close\r\n" } else { "" };
                    let lines =
                        format!("HTTP/1.1 200 OK\r\nX-Backend: a\r\nX-Stamp: {stamp}\r\n{close}");
                    let _ = wire.send(&message(&lines, &body, false));
                    // An end without a word comes later than the answer.
                    let _ = !last || told || may_end.recv().is_ok();
                }
            }
        });
        let (closed, refusing) = listener();
        drop(closed);
        let addresses = vec![refusing, address];
        let target = Target { addresses, restarts: true, ..target(address) };
        let strict = Target { restarts: false, ..target.clone() };
        let shared = Shared::new(target, expected(&["a"]));
        let mut sender = Sender::new(&shared);
        let request = |k: u64| Request { keep: Keep::Kept, ..Request::number("r", 3 * k, "/p") };
        for k in 0..8 {
            assert_eq!(sender.exchange(&request(k)), Ok("a".to_string()), "{k}");
            if k % 4 == 3 {
                answered.send(()).unwrap();
            }
            // The end has come, so that it is seen before the next request.
            while k % 2 == 1 && sender.kept.as_mut().is_some_and(|wire| wire.is_quiet() == Ok(true))
            {
                std::thread::yield_now();
            }
        }
        assert_eq!(sender.summary.passed_over, 4, "each connection was tried at both");
        let shared = Shared::new(strict, expected(&["a"]));
        let failure = Sender::new(&shared).exchange(&request(0)).err();
        assert_eq!(failure.map(|failure| failure.name()), Some("refused"));
    }

    /// What fails of one GET over a connection that the client ends.
    fn failure(address: SocketAddr) -> Option<&'static str> {
        let shared = Shared::new(target(address), expected(&["a"]));
        let request = Request { keep: Keep::Fresh, ..Request::number("r", 0, "/p") };
        Sender::new(&shared).exchange(&request).err().map(|failure| failure.name())
    }
}
