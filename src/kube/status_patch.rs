//! Writes the status of one object so that nobody's entries are lost.
//!
//! In: which object, answers of the API server, the status computed from the object as it is now.
//! Out: GET, then PATCH of `/status` (a merge patch, RFC 7386) with `metadata.resourceVersion` as a
//! precondition; after 409 all of it again (shared/kube-client.md, 19). Errors are told apart:
//! retryable ones are tried KUBE_WRITE_ATTEMPTS times, permanent ones not.

use super::exchange::Request;
use super::kind::Watched;
use super::request::{Method, ObjectPath};
use super::{ResourceVersion, Trouble};
use crate::kube::backoff::Backoff;
use crate::limits::{
    KUBE_BODY_BYTES, KUBE_UID_BYTES, KUBE_WRITE_ATTEMPTS, MAX_LABEL_BYTES, MAX_NAME_BYTES,
};
use crate::resource::document::{Document, Value};
use crate::stdx::{Full, Inline, Instant, Now, Prng};
use crate::wire::json::JsonWriter;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Write the status of this object; [`Full`] while another one is written.
    Start {
        /// Its kind.
        kind: Watched,
        /// Its namespace, empty when cluster-scoped.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
        /// Its uid: an object of another uid is another object. Empty: any.
        uid: &'a str,
    },
    /// The request was answered; the body as a document when it is one.
    Answer {
        /// HTTP status.
        status: u16,
        /// `Retry-After`, 0 for none.
        retry_after_ms: u64,
        /// The body, parsed.
        document: Option<&'a Document>,
    },
    /// The request was not answered.
    Failed(Trouble),
    /// The value of `status` as it shall be, JSON.
    Computed(&'a str),
    /// The object's status is already what it shall be.
    Equal,
    /// The status cannot be computed (it does not fit): give up.
    Abandon,
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub enum Output<'m> {
    /// Ask the API server this.
    Request(Request<'m>),
    /// Compute the status from the object of the last answer's document: say
    /// [`Input::Computed`], [`Input::Equal`] or [`Input::Abandon`].
    Compute,
    /// It is over.
    Done(Result<Written, WriteError>),
}

/// How a write went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The status was written.
    Patched,
    /// Nothing was to be written.
    Unchanged,
    /// The object is gone, or another one has its name.
    Gone,
}

/// How a write failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// KUBE_WRITE_ATTEMPTS were not enough; the last trouble. Worth trying again later.
    Retryable(Trouble),
    /// The server refuses it: trying again changes nothing.
    Permanent(Trouble),
}

/// Whether an answer is worth another try.
pub(super) fn is_retryable(status: u16) -> bool {
    matches!(status, 401 | 408 | 409 | 425 | 429 | 500..=599)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// For the next attempt.
    Waiting,
    Reading,
    Computing,
    Patching,
}

crate::zeroed_enum!(Phase { Idle });

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    None,
    Get,
    Patch,
    Compute,
    Done,
}

crate::zeroed_enum!(Pending { None });

/// The machine: one write at a time.
#[derive(Debug)]
pub struct StatusPatch {
    phase: Phase,
    pending: Pending,
    kind: Watched,
    attempts: u32,
    wake: Instant,
    backoff: Backoff,
    prng: Prng,
    resource_version: ResourceVersion,
    namespace: Inline<{ MAX_LABEL_BYTES as usize }>,
    name: Inline<{ MAX_NAME_BYTES as usize }>,
    uid: Inline<{ KUBE_UID_BYTES as usize }>,
    body: Inline<{ KUBE_BODY_BYTES as usize }>,
    /// 0 patched, 1 unchanged, 2 gone, 3 retryable, 4 permanent; with `trouble` for the errors.
    outcome: u8,
    trouble: u32,
}

crate::zeroed_struct!(StatusPatch {
    phase: Phase,
    pending: Pending,
    kind: Watched,
    attempts: u32,
    wake: Instant,
    backoff: Backoff,
    prng: Prng,
    resource_version: ResourceVersion,
    namespace: Inline<{ MAX_LABEL_BYTES as usize }>,
    name: Inline<{ MAX_NAME_BYTES as usize }>,
    uid: Inline<{ KUBE_UID_BYTES as usize }>,
    body: Inline<{ KUBE_BODY_BYTES as usize }>,
    outcome: u8,
    trouble: u32,
});

impl StatusPatch {
    /// Must be called first, on zero bytes.
    pub fn start(&mut self, prng: Prng) {
        self.prng = prng;
        self.wake = Instant::NEVER;
    }

    /// Takes an input. [`Full`]: not now, nothing was taken.
    pub fn input(&mut self, input: Input<'_>, now: Now) -> Result<(), Full> {
        if self.pending != Pending::None {
            return Err(Full);
        }
        match (self.phase, input) {
            (Phase::Idle, Input::Start { kind, namespace, name, uid }) => {
                let set = self.namespace.set(namespace.as_bytes());
                let set = set.and(self.name.set(name.as_bytes()));
                let set = set.and(self.uid.set(uid.as_bytes()));
                (self.kind, self.attempts) = (kind, 0);
                self.backoff.reset();
                match set {
                    Ok(()) => self.read(),
                    Err(Full) => self.refused(Trouble::RequestTooLarge),
                }
            }
            (Phase::Reading, Input::Answer { status: 200, document: Some(document), .. }) => {
                self.object(document.root(), now);
            }
            (Phase::Patching, Input::Answer { status: 200, .. }) => self.done(0),
            (Phase::Reading | Phase::Patching, Input::Answer { status: 404 | 410, .. }) => {
                self.done(2);
            }
            (Phase::Reading | Phase::Patching, Input::Answer { status, retry_after_ms, .. }) => {
                match status {
                    200..=399 => self.refused(Trouble::BadAnswer),
                    _ if is_retryable(status) => {
                        self.again(Trouble::Status(status), retry_after_ms, now);
                    }
                    _ => self.refused(Trouble::Status(status)),
                }
            }
            (Phase::Reading | Phase::Patching, Input::Failed(trouble)) => match trouble {
                Trouble::RequestTooLarge | Trouble::AnswerTooLarge => self.refused(trouble),
                _ => self.again(trouble, 0, now),
            },
            (Phase::Computing, Input::Computed(status)) => self.patch(status),
            (Phase::Computing, Input::Equal) => self.done(1),
            (Phase::Computing, Input::Abandon) => self.refused(Trouble::RequestTooLarge),
            _ => return Err(Full),
        }
        Ok(())
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        let pending = core::mem::replace(&mut self.pending, Pending::None);
        let path = ObjectPath::object(self.kind, self.namespace.as_str(), self.name.as_str());
        Some(match pending {
            Pending::None => return None,
            Pending::Get => Output::Request(Request { method: Method::Get, path, body: b"" }),
            Pending::Patch => {
                let path = ObjectPath { subresource: "status", ..path };
                let body = self.body.as_bytes();
                Output::Request(Request { method: Method::Patch, path, body })
            }
            Pending::Compute => Output::Compute,
            Pending::Done => {
                let trouble = Trouble::from_u32(self.trouble);
                Output::Done(match self.outcome {
                    0 => Ok(Written::Patched),
                    1 => Ok(Written::Unchanged),
                    2 => Ok(Written::Gone),
                    3 => Err(WriteError::Retryable(trouble)),
                    _ => Err(WriteError::Permanent(trouble)),
                })
            }
        })
    }

    /// When `tick` is due.
    pub fn timeout(&self) -> Option<Instant> {
        Some(self.wake).filter(|&at| at != Instant::NEVER)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        if self.phase == Phase::Waiting && self.wake <= now.mono {
            self.read();
        }
    }

    fn read(&mut self) {
        self.attempts += 1;
        (self.phase, self.pending, self.wake) = (Phase::Reading, Pending::Get, Instant::NEVER);
    }

    fn object(&mut self, object: Value<'_>, now: Now) {
        let of = |name| object.at(&["metadata", name]).and_then(Value::str).unwrap_or("");
        if !self.uid.is_empty() && of("uid") != self.uid.as_str() {
            return self.done(2);
        }
        let version = of("resourceVersion");
        if version.is_empty() || self.resource_version.set(version.as_bytes()).is_err() {
            return self.again(Trouble::BadAnswer, 0, now);
        }
        (self.phase, self.pending) = (Phase::Computing, Pending::Compute);
    }

    fn patch(&mut self, status: &str) {
        let mut buffer = [0; 512];
        let mut json = JsonWriter::new(&mut buffer);
        json.begin_object().key("metadata").begin_object();
        json.member("resourceVersion", self.resource_version.as_str());
        json.end_object().key("status");
        // Versions are bounded far below the buffer.
        let head = json.finish().unwrap_or("");
        assert!(!head.is_empty());
        self.body.clear();
        let pushed = self.body.push(head.as_bytes());
        let pushed = pushed.and(self.body.push(status.as_bytes())).and(self.body.push(b"}"));
        match pushed {
            Ok(()) => (self.phase, self.pending) = (Phase::Patching, Pending::Patch),
            Err(Full) => self.refused(Trouble::RequestTooLarge),
        }
    }

    fn again(&mut self, trouble: Trouble, retry_after_ms: u64, now: Now) {
        if self.attempts >= KUBE_WRITE_ATTEMPTS {
            self.trouble = trouble.to_u32();
            return self.done(3);
        }
        // Somebody else wrote: no sign of a server in trouble, so the short ladder.
        let quick = trouble.is_silence() || trouble == Trouble::Status(409);
        let wait = if quick {
            self.backoff.silence(&mut self.prng)
        } else {
            self.backoff.error(retry_after_ms, &mut self.prng)
        };
        (self.phase, self.wake) = (Phase::Waiting, now.mono + wait);
    }

    fn refused(&mut self, trouble: Trouble) {
        self.trouble = trouble.to_u32();
        self.done(4);
    }

    fn done(&mut self, outcome: u8) {
        (self.phase, self.pending, self.outcome) = (Phase::Idle, Pending::Done, outcome);
        self.wake = Instant::NEVER;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::shell::{json, place::boxed_zeroed};
    use std::boxed::Box;
    use std::format;
    use std::string::String;

    struct Writer(Box<StatusPatch>, Now);

    impl Writer {
        fn new() -> Writer {
            let mut patch = boxed_zeroed::<StatusPatch>();
            patch.start(Prng::new(1));
            let mut writer = Writer(patch, Now::default());
            let start =
                Input::Start { kind: Watched::HttpRoute, namespace: "n", name: "r", uid: "u" };
            assert_eq!(writer.input(start), GET);
            writer
        }

        fn input(&mut self, input: Input<'_>) -> String {
            self.0.input(input, self.1).expect("taken");
            self.output()
        }

        fn output(&mut self) -> String {
            match self.0.poll_output() {
                None => "waits".into(),
                Some(Output::Compute) => "compute".into(),
                Some(Output::Done(result)) => format!("{result:?}"),
                Some(Output::Request(request)) => {
                    let path = request.path;
                    let body = core::str::from_utf8(request.body).unwrap();
                    format!("{:?} {} {} {body}", request.method, path.name, path.subresource)
                }
            }
        }

        fn answer(&mut self, status: u16, body: &str) -> String {
            let mut document = boxed_zeroed::<Document>();
            let parsed = json::parse(body.as_bytes(), &mut document).ok();
            let document = parsed.map(|()| &*document);
            self.input(Input::Answer { status, retry_after_ms: 0, document })
        }

        fn wait(&mut self) -> String {
            self.1.mono = self.0.timeout().expect("a timer");
            self.0.tick(self.1);
            self.output()
        }
    }

    const GET: &str = "Get r  ";
    const OBJECT: &str = r#"{"metadata":{"uid":"u","resourceVersion":"7"}}"#;

    #[test]
    fn written_after_a_conflict() {
        let mut writer = Writer::new();
        assert_eq!(writer.answer(200, OBJECT), "compute");
        let patch = |version| {
            format!(
                r#"Patch r status {{"metadata":{{"resourceVersion":"{version}"}},"status":{{}}}}"#
            )
        };
        assert_eq!(writer.input(Input::Computed("{}")), patch("7"));
        assert_eq!(writer.answer(409, "{}"), "waits");
        assert_eq!(writer.wait(), GET);
        assert_eq!(writer.answer(200, &OBJECT.replace('7', "8")), "compute");
        assert_eq!(writer.input(Input::Computed("{}")), patch("8"));
        assert_eq!(writer.answer(200, "{}"), "Ok(Patched)");
        assert_eq!(writer.0.timeout(), None);
    }

    #[test]
    fn nothing_to_write_and_gone() {
        let mut writer = Writer::new();
        writer.answer(200, OBJECT);
        assert_eq!(writer.input(Input::Equal), "Ok(Unchanged)");
        assert_eq!(Writer::new().answer(404, ""), "Ok(Gone)");
        let other = OBJECT.replace("\"u\"", "\"v\"");
        assert_eq!(Writer::new().answer(200, &other), "Ok(Gone)");
    }

    #[test]
    fn attempts_at_max() {
        let mut writer = Writer::new();
        for _ in 1..KUBE_WRITE_ATTEMPTS {
            assert_eq!(writer.answer(503, ""), "waits");
            assert_eq!(writer.wait(), GET);
        }
        assert_eq!(writer.answer(503, ""), "Err(Retryable(Status(503)))");
    }

    #[test]
    fn permanent_errors() {
        for status in [400, 403, 405, 413, 422] {
            let expected = format!("Err(Permanent(Status({status})))");
            assert_eq!(Writer::new().answer(status, ""), expected);
        }
        assert_eq!(Writer::new().answer(200, "not json"), "Err(Permanent(BadAnswer))");
        let mut writer = Writer::new();
        writer.answer(200, OBJECT);
        let large = "x".repeat(KUBE_BODY_BYTES as usize);
        let refused = "Err(Permanent(RequestTooLarge))";
        assert_eq!(writer.input(Input::Computed(&large)), refused);
        let long = "x".repeat(MAX_NAME_BYTES as usize + 1);
        let start = Input::Start { kind: Watched::Gateway, namespace: "", name: &long, uid: "" };
        assert_eq!(writer.input(start), refused);
    }

    #[test]
    fn one_write_at_a_time() {
        let mut writer = Writer::new();
        let start = Input::Start { kind: Watched::Gateway, namespace: "", name: "x", uid: "" };
        assert_eq!(writer.0.input(start, Now::default()), Err(Full));
        assert_eq!(writer.0.input(Input::Equal, Now::default()), Err(Full));
    }
}
