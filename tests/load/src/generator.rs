//! Stamped requests at an exact rate, each answer checked.
//!
//! Request k is due at k / rate after the start, whatever became of those before: a pause of the
//! router is seen in the latencies, counted from when the request was due, and in the answers of
//! that second. Threads take the next number, wait until it is due, send it and read its answer.

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

/// What to ask, how often, of whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// The router.
    pub address: SocketAddr,
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

    /// Ends: what is under way is answered, then all is counted.
    pub fn finish(self) -> Outcome {
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
        // With failures nobody knows how far each request came.
        let exact = self.summary.failures() > 0 || posts == answered_posts;
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
    summary: Summary,
}

impl Sender<'_> {
    fn new(shared: &Shared) -> Sender<'_> {
        Sender { shared, kept: None, summary: Summary::default() }
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
                    let second = start.elapsed().as_secs() as usize;
                    self.summary.good(&request, &backend, micros, second);
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

    /// One request and its answer; the kept connection survives only what is good.
    fn exchange(&mut self, request: &Request) -> Result<String, Failure> {
        let target = &self.shared.target;
        let kept = if request.keep == Keep::Kept { self.kept.take() } else { None };
        let mut wire = match kept {
            Some(wire) => wire,
            None => match &target.tls {
                Some(tls) => tls.connect(target.address)?,
                None => Wire::connect(target.address).map_err(Failure::Connect)?,
            },
        };
        // Nothing asked for it, so nothing may have come: not even the end.
        if !wire.is_quiet().map_err(Failure::Send)? {
            return Err(Failure::Count);
        }
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
        let complete = match request.keep {
            Keep::Closed => wire.is_at_end().map_err(Failure::Answer)?,
            Keep::Kept | Keep::Fresh => wire.is_quiet().map_err(Failure::Answer)?,
        };
        if !complete {
            return Err(Failure::Count);
        }
        if request.keep == Keep::Kept {
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
        let (host, path) = ("h".to_string(), "/p".to_string());
        Target { address, host, path, rate: 2_000, threads: 4, tls: None, count_at: vec![] }
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

    /// What fails of one GET over a connection that the client ends.
    fn failure(address: SocketAddr) -> Option<&'static str> {
        let shared = Shared::new(target(address), expected(&["a"]));
        let request = Request { keep: Keep::Fresh, ..Request::number("r", 0, "/p") };
        Sender::new(&shared).exchange(&request).err().map(|failure| failure.name())
    }
}
