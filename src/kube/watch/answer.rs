//! What a watch machine makes of answers: heads, bodies, parsed lines, ends and failures.

use super::{Ask, Body, Link, Pending, Phase, Skip, Timer, Watch};
use crate::kube::Trouble;
use crate::kube::response::Piece;
use crate::limits::{
    BACKOFF_ERROR_MAX_MS, KUBE_ABSENT_POLL_MS, KUBE_ANSWER_TIMEOUT_MS, KUBE_INITIAL_SILENCE_MS,
    KUBE_WATCH_GRACE_MS, KUBE_WATCH_SHORT_MS,
};
use crate::resource::document::{Document, Kind, Value};
use crate::stdx::marks::{Mark, sometimes};
use crate::stdx::{Duration, Instant, Now};

/// The annotation of the bookmark that ends the initial events (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

impl Watch {
    /// Takes bytes until outputs wait or a line is to be parsed.
    pub(super) fn bytes(&mut self, bytes: &[u8], now: Now) -> usize {
        let mut used = 0;
        while matches!(self.phase, Phase::Asked | Phase::Answering) && self.link == Link::Up {
            if self.line_done {
                self.line.clear(matches!(self.body, Body::Initial | Body::Live));
                self.line_done = false;
            }
            let Ok((taken, piece)) = self.response.advance(&bytes[used..]) else {
                self.failed(Trouble::BadAnswer, 0, now);
                return used;
            };
            used += taken;
            match piece {
                Piece::More => break,
                Piece::Head => self.head(now),
                Piece::Body { len } => {
                    let took = self.body(&bytes[used..used + len], now);
                    // After a failure the answer is of no interest.
                    if self.phase == Phase::Answering {
                        self.response.took(took);
                    }
                    used += took;
                }
                Piece::End => self.end_of_answer(now),
            }
            if self.has_outputs() || self.parsing {
                return used;
            }
        }
        if self.link == Link::Up && self.phase == Phase::Waiting && used < bytes.len() {
            // Nobody asked for these.
            self.hang_up();
        }
        if self.link == Link::Up { used } else { bytes.len() }
    }

    fn head(&mut self, now: Now) {
        self.phase = Phase::Answering;
        self.timers = [Instant::NEVER; 3];
        (self.fresh, self.lines, self.began) = (false, 0, now.mono);
        let status = self.response.status();
        if status != 200 {
            self.body = Body::Status;
            self.line.clear(false);
            let limit = Duration::from_millis(KUBE_ANSWER_TIMEOUT_MS.into());
            return self.set_timer(Timer::Silence, now.mono + limit);
        }
        self.token_retried = false;
        if !self.served {
            self.served = true;
            self.push(Pending::Served);
        }
        self.line.clear(self.ask != Ask::List);
        if self.ask == Ask::List {
            self.items.clear();
        }
        let resyncs = self.ask == Ask::Stream || (self.ask == Ask::List && !self.continuing);
        if resyncs {
            self.epoch += 1;
            (self.complete, self.resyncing) = (true, true);
            self.push(Pending::ResyncBegin);
        }
        self.body = match self.ask {
            Ask::Stream => Body::Initial,
            Ask::List => Body::Items,
            Ask::Watch => Body::Live,
        };
        if self.ask != Ask::List {
            let grace = Duration::from_millis(KUBE_WATCH_GRACE_MS.into());
            self.set_timer(Timer::Deadline, now.mono + self.term + grace);
        }
        self.heard(now);
    }

    /// Bytes of a body that must not pause came.
    fn heard(&mut self, now: Now) {
        let limit = match self.body {
            Body::Initial => KUBE_INITIAL_SILENCE_MS,
            Body::Items | Body::Status => KUBE_ANSWER_TIMEOUT_MS,
            Body::Live => return self.set_timer(Timer::Silence, Instant::NEVER),
        };
        self.set_timer(Timer::Silence, now.mono + Duration::from_millis(limit.into()));
    }

    /// Takes bytes of the body, up to the end of a line or item.
    fn body(&mut self, bytes: &[u8], now: Now) -> usize {
        self.heard(now);
        let (used, ended) = match self.body {
            Body::Status => {
                self.line.extend(bytes);
                (bytes.len(), false)
            }
            Body::Initial | Body::Live => self.line.extend_to_newline(bytes),
            Body::Items => match self.items.feed(bytes, &mut self.line) {
                Ok(fed) => fed,
                Err(_) => {
                    self.failed(Trouble::BadAnswer, 0, now);
                    return bytes.len();
                }
            },
        };
        if ended {
            self.line_done = true;
            if self.line.is_oversized() {
                self.skip(Skip::TooLarge, now);
            } else if !self.line.is_blank() {
                self.parse();
            }
        }
        used
    }

    fn parse(&mut self) {
        self.parsing = true;
        self.push(Pending::Parse);
    }

    /// The answer is whole; its connection may be used again.
    fn end_of_answer(&mut self, now: Now) {
        if !self.response.keep_alive() {
            self.hang_up();
        }
        // From here on nothing of this answer is expected.
        self.phase = Phase::Waiting;
        self.timers = [Instant::NEVER; 3];
        match self.body {
            Body::Status if self.line.is_oversized() || self.line.is_blank() => {
                self.status(None, now);
            }
            Body::Status => self.parse(),
            Body::Initial => self.failed(Trouble::ShortWatch, 0, now),
            Body::Live => self.watch_ended(now),
            Body::Items => self.page_ended(now),
        }
    }

    fn page_ended(&mut self, now: Now) {
        if self.items.finish().is_err() {
            return self.failed(Trouble::BadAnswer, 0, now);
        }
        match self.items.continue_token() {
            Some(b"") => {
                self.continuing = false;
                let version = *self.items.resource_version();
                self.resource_version = version;
                self.state_is_whole();
                self.ask = Ask::Watch;
            }
            Some(_) => self.continuing = true,
            None => (self.continuing, self.unpaged) = (false, true),
        }
        self.wake_at(now.mono);
    }

    fn state_is_whole(&mut self) {
        self.resyncing = false;
        self.push(Pending::ResyncEnd);
        if !self.synced {
            self.synced = true;
            self.push(Pending::Synced);
        }
    }

    /// A watch after the state was whole came to its end, by the server or by our deadline.
    fn watch_ended(&mut self, now: Now) {
        let lived = now.mono.since(self.began);
        if self.lines == 0 && lived < Duration::from_millis(KUBE_WATCH_SHORT_MS.into()) {
            return self.failed(Trouble::ShortWatch, 0, now);
        }
        // Not even a bookmark in a whole term: perhaps our version lies in the future of a server
        // that was restored to an older state. Asking for the state finds out.
        let silent = self.lines == 0 && now.mono + Duration::from_secs(5) >= self.began + self.term;
        self.ask = if silent { Ask::Stream } else { Ask::Watch };
        self.backoff.reset();
        self.after_failure = false;
        let pause = Duration(self.prng.below(100_000_000));
        self.wake_at(now.mono + pause);
    }

    /// The connection is gone.
    pub(super) fn closed(&mut self, trouble: Trouble, now: Now) {
        let was = core::mem::replace(&mut self.link, Link::Down);
        if was == Link::Down {
            return;
        }
        match self.phase {
            Phase::Waiting => {}
            Phase::Connecting => self.failed(trouble, 0, now),
            // A connection that had served before was closed while idle: simply a new one.
            Phase::Asked if !self.fresh && self.response.is_untouched() => self.wake_at(now.mono),
            Phase::Asked => self.failed(trouble, 0, now),
            Phase::Answering if self.response.closed().is_ok() => self.end_of_answer(now),
            Phase::Answering if self.body == Body::Live => self.watch_broke(trouble, now),
            Phase::Answering => self.failed(trouble, 0, now),
        }
    }

    fn watch_broke(&mut self, trouble: Trouble, now: Now) {
        let lived = now.mono.since(self.began);
        if self.lines > 0 || lived >= Duration::from_millis(KUBE_WATCH_SHORT_MS.into()) {
            self.backoff.reset();
        }
        self.failed(trouble, 0, now);
    }

    pub(super) fn deadline(&mut self, now: Now) {
        match self.phase {
            Phase::Waiting => {}
            Phase::Connecting => self.failed(Trouble::ConnectTimeout, 0, now),
            Phase::Asked => self.failed(Trouble::AnswerTimeout, 0, now),
            Phase::Answering if self.body == Body::Live => {
                self.hang_up();
                self.watch_ended(now);
            }
            Phase::Answering => self.failed(Trouble::AnswerTimeout, 0, now),
        }
    }

    pub(super) fn silence(&mut self, now: Now) {
        if self.body == Body::Initial && self.phase == Phase::Answering {
            // It took the watch but not the option: a server before WatchList ignores it.
            self.stream_refused = true;
            self.hang_up();
            self.ask = Ask::List;
            return self.wake_at(now.mono);
        }
        self.failed(Trouble::AnswerTimeout, 0, now);
    }

    /// An attempt failed: the connection is given up, the next attempt waits.
    pub(super) fn failed(&mut self, trouble: Trouble, retry_after_ms: u64, now: Now) {
        self.hang_up();
        if self.resyncing {
            // Objects of a newer state were given already: "not older than" our version could go
            // back behind them. The newest state cannot.
            self.resource_version.clear();
        }
        if self.ask == Ask::List {
            self.continuing = false;
            self.ask = Ask::Stream;
        }
        self.after_failure = true;
        let wait = if trouble.is_silence() {
            sometimes(Mark::WatchFailsSilently);
            self.backoff.silence(&mut self.prng)
        } else if trouble == Trouble::Status(410) {
            self.backoff.expired(&mut self.prng)
        } else {
            sometimes(Mark::WatchRetries);
            self.backoff.error(retry_after_ms, &mut self.prng)
        };
        (self.trouble, self.wait_ms) = (trouble.to_u32(), wait.as_millis());
        self.push(Pending::Retrying);
        self.wake_at(now.mono + wait);
    }

    /// The driver parsed a line, or could not (None).
    pub(super) fn parsed(&mut self, document: Option<&Document>, now: Now) {
        match (self.body, document) {
            (Body::Status, document) => self.status(document, now),
            (_, None) => self.skip(Skip::Refused, now),
            (Body::Items, Some(document)) => self.item(document.root(), now),
            (_, Some(document)) => self.event(document.root(), now),
        }
    }

    fn item(&mut self, object: Value<'_>, now: Now) {
        self.lines += 1;
        if has_name(object) {
            self.push(Pending::UpsertRoot)
        } else {
            self.skip(Skip::Malformed, now)
        }
    }

    /// One watch event (metav1.WatchEvent).
    fn event(&mut self, event: Value<'_>, now: Now) {
        let kind = event.get("type").and_then(Value::str).unwrap_or("");
        let object = event.get("object").filter(|object| object.kind() == Kind::Object);
        match (kind, object) {
            ("ADDED" | "MODIFIED" | "DELETED", Some(object)) if has_name(object) => {
                self.lines += 1;
                let deleted = kind == "DELETED";
                self.push(if deleted { Pending::Delete } else { Pending::UpsertMember });
                self.went_on(version_of(object).as_bytes());
            }
            ("BOOKMARK", Some(object)) => {
                self.lines += 1;
                self.bookmark(object);
            }
            ("ERROR", object) => self.error_event(object, now),
            ("ADDED" | "MODIFIED" | "DELETED", _) => self.skip(Skip::Malformed, now),
            // Types that are to come are ignored.
            _ => {}
        }
    }

    fn bookmark(&mut self, object: Value<'_>) {
        if self.body == Body::Live {
            sometimes(Mark::WatchBookmark);
            self.push(Pending::Bookmark);
            return self.went_on(version_of(object).as_bytes());
        }
        let annotation = object.at(&["metadata", "annotations", INITIAL_EVENTS_END]);
        if annotation.and_then(Value::str) == Some("true") {
            // Only now: the initial events are not in the order of their versions.
            self.body = Body::Live;
            // Failures are not forgotten yet: a server that gives the state and ends the watch at
            // once would be asked for the state again and again.
            let version = version_of(object);
            if !version.is_empty() {
                let _ = self.resource_version.set(version.as_bytes());
            }
            self.state_is_whole();
            self.ask = Ask::Watch;
            self.set_timer(Timer::Silence, Instant::NEVER);
        }
    }

    /// The live watch told something: from here the next one goes on.
    fn went_on(&mut self, version: &[u8]) {
        if self.body == Body::Live && !version.is_empty() {
            // One that does not fit leaves the last one, which is older but true.
            let _ = self.resource_version.set(version);
            self.backoff.reset();
            self.after_failure = false;
        }
    }

    /// A `Status` in the stream (410 comes like this too).
    fn error_event(&mut self, object: Option<Value<'_>>, now: Now) {
        let number = |name| object.and_then(|o| o.get(name)).and_then(Value::int);
        let code = number("code").and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
        let retry_after_ms = object.map_or(0, retry_after_ms);
        let lived = now.mono.since(self.began);
        if self.body == Body::Live && lived >= Duration::from_millis(BACKOFF_ERROR_MAX_MS.into()) {
            // As long as the longest wait: no busy loop comes of it.
            self.backoff.reset();
        }
        self.hang_up();
        if code == 410 || object.is_some_and(is_expired) {
            return self.expired(now);
        }
        self.failed(Trouble::Status(code), retry_after_ms, now);
    }

    /// An answer that is no 200, with its body when there is one.
    fn status(&mut self, document: Option<&Document>, now: Now) {
        assert!(self.phase == Phase::Waiting);
        let status = self.response.status();
        let body = document.map(Document::root);
        let wait_ms = self.response.retry_after_ms().max(body.map_or(0, retry_after_ms));
        if status == 410 || body.is_some_and(is_expired) {
            return self.expired(now);
        }
        match (status, self.ask) {
            (400 | 422, _) if self.asked_version => {
                // Perhaps it is our version that it does not understand.
                self.resource_version.clear();
                self.ask = Ask::Stream;
                self.failed(Trouble::Status(status), wait_ms, now);
            }
            (400 | 422, Ask::Stream) => {
                sometimes(Mark::StreamRefused);
                self.stream_refused = true;
                self.ask = Ask::List;
                self.wake_at(now.mono);
            }
            (401, _) if !self.token_retried => {
                (self.token_retried, self.token_wanted) = (true, true);
                self.push(Pending::ReadToken);
                // If no token comes: the ordinary way.
                self.wake_at(now.mono + Duration::from_secs(1));
            }
            (401, _) => {
                self.token_retried = false;
                self.failed(Trouble::Status(status), wait_ms, now);
            }
            (404, _) => self.not_served(now),
            // 3xx: nothing the API promises. 2xx other than 200 neither.
            (200..=399, _) => self.failed(Trouble::BadAnswer, 0, now),
            _ => self.failed(Trouble::Status(status), wait_ms, now),
        }
    }

    /// Our version is too old, or lies in the server's future: relist.
    fn expired(&mut self, now: Now) {
        if self.ask == Ask::Watch {
            sometimes(Mark::WatchExpired);
        } else {
            sometimes(Mark::ListExpired);
            // A relist at our version was refused, or a continue token: any version will do. Not
            // sooner: going straight to the newest state is a thundering herd.
            self.resource_version.clear();
        }
        self.continuing = false;
        self.ask = Ask::Stream;
        self.failed(Trouble::Status(410), 0, now);
    }

    fn not_served(&mut self, now: Now) {
        self.resource_version.clear();
        self.continuing = false;
        self.ask = Ask::Stream;
        let served = self.kind.served();
        if usize::from(self.version) + 1 < served.versions.len() {
            self.version += 1;
            return self.wake_at(now.mono);
        }
        self.version = 0;
        if core::mem::replace(&mut self.served, false) {
            self.push(Pending::Vanished);
        }
        if !served.optional {
            return self.failed(Trouble::Status(404), 0, now);
        }
        if !self.synced {
            self.synced = true;
            self.push(Pending::Absent);
            self.push(Pending::Synced);
        }
        let poll = u64::from(KUBE_ABSENT_POLL_MS);
        let wait = Duration::from_millis(self.prng.range(poll / 2, poll));
        self.wake_at(now.mono + wait);
    }

    /// The object of the line at hand is not taken; the stream goes on.
    fn skip(&mut self, why: Skip, now: Now) {
        self.lines += 1;
        self.line.find_names();
        let names = self.line.names();
        let (kind, named) = (names.event.as_str(), !names.name.is_empty());
        if self.body != Body::Items && matches!(kind, "ERROR" | "BOOKMARK") {
            return self.failed(Trouble::BadAnswer, 0, now);
        }
        let version = names.resource_version;
        if kind == "DELETED" && named {
            self.push(Pending::DeleteNamed);
        } else {
            sometimes(Mark::WatchSkips);
            self.skip = why;
            self.complete &= named;
            self.push(Pending::Skipped);
        }
        self.went_on(version.as_bytes());
    }
}

fn has_name(object: Value<'_>) -> bool {
    let name = object.at(&["metadata", "name"]).and_then(Value::str);
    name.is_some_and(|name| !name.is_empty())
}

fn version_of(object: Value<'_>) -> &str {
    object.at(&["metadata", "resourceVersion"]).and_then(Value::str).unwrap_or("")
}

/// Whether a `Status` says that our version cannot be served: too old, or too new.
fn is_expired(status: Value<'_>) -> bool {
    let reason = status.get("reason").and_then(Value::str).unwrap_or("");
    let causes = status.at(&["details", "causes"]);
    let too_large = causes.is_some_and(|causes| {
        let mut reasons = causes.items().filter_map(|cause| cause.get("reason")?.str());
        reasons.any(|reason| reason == "ResourceVersionTooLarge")
    });
    matches!(reason, "Expired" | "Gone") || too_large
}

/// `details.retryAfterSeconds` of a `Status`, 0 for none.
fn retry_after_ms(status: Value<'_>) -> u64 {
    let seconds = status.at(&["details", "retryAfterSeconds"]).and_then(Value::int).unwrap_or(0);
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}
