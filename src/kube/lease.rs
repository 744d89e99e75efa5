//! An epoch from a Lease: each start of a controller takes the next number, by compare-and-set, and
//! renews the Lease for as long as nobody has taken a higher one.
//!
//! In: the Lease's name, who we are, what is wanted of it, answers. Out: GET, then POST or PUT,
//! until `spec.leaseTransitions` (coordination.k8s.io/v1, an int32) was raised by us (epoch =
//! max(leaseTransitions, given) + 1), or was renewed, or is found to be somebody else's. When to
//! want what is decided in [`crate::controller::reign`].

use super::exchange::Request;
use super::request::{Method, ObjectPath};
use super::status_patch::{WriteError, is_retryable};
use super::{ResourceVersion, Trouble};
use crate::kube::backoff::Backoff;
use crate::limits::{
    KUBE_WRITE_ATTEMPTS, LEASE_RENEW_PERIOD_MS, LEASE_STALE_LOOKS, MAX_LABEL_BYTES, MAX_NAME_BYTES,
};
use crate::resource::document::{Document, Value};
use crate::stdx::marks::{Mark, sometimes};
use crate::stdx::{Full, Inline, Instant, Now, Prng, fnv};
use crate::wire::json::JsonWriter;

/// What is wanted of the Lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The epoch that we took last; 0 for none.
    pub held: u64,
    /// The largest epoch known from elsewhere (routers); 0 for none.
    pub given: u64,
    /// Take the next epoch, whoever has the Lease. Else it is renewed when it is still ours, taken
    /// again when `given` shows that it is older than the routers, and left to who took it since.
    pub take: bool,
    /// Not 0: take it only as [`Held::Others`] of this number, which is the state that was seen to
    /// be stale; found in another one it was renewed, or somebody else was quicker.
    pub stale: u64,
}

/// Whose the Lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Ours, at this epoch.
    Own(u64),
    /// Somebody's who took it after us. The number is another one whenever it was written.
    Others(u64),
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Look at the Lease; [`Full`] while that is being done.
    Start {
        /// The Lease's namespace.
        namespace: &'a str,
        /// The Lease's name.
        name: &'a str,
        /// `spec.holderIdentity`: who takes it.
        holder: &'a str,
        /// What is wanted.
        look: Look,
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
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub enum Output<'m> {
    /// Ask the API server this.
    Request(Request<'m>),
    /// Whose it is, or nobody knows.
    Done(Result<Held, WriteError>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Waiting,
    Reading,
    Creating,
    Raising,
}

crate::zeroed_enum!(Phase { Idle });

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    None,
    Request,
    Done,
}

crate::zeroed_enum!(Pending { None });

const STAMP_BYTES: usize = "2026-11-23T05:53:35".len();

crate::zeroed_struct!(Look { held: u64, given: u64, take: bool, stale: u64 });

/// Names twice, an identity, two times, numbers.
const BODY_BYTES: usize = 2048;

/// The machine.
#[derive(Debug)]
pub struct LeaseEpoch {
    phase: Phase,
    pending: Pending,
    attempts: u32,
    wake: Instant,
    backoff: Backoff,
    prng: Prng,
    look: Look,
    epoch: u64,
    /// Not 0: somebody else's.
    others: u64,
    /// When we took it: RFC 3339, to the second.
    acquired: [u8; STAMP_BYTES],
    namespace: Inline<{ MAX_LABEL_BYTES as usize }>,
    name: Inline<{ MAX_NAME_BYTES as usize }>,
    holder: Inline<{ MAX_NAME_BYTES as usize }>,
    resource_version: ResourceVersion,
    body: Inline<BODY_BYTES>,
    /// 0 taken, 1 retryable, 2 permanent.
    outcome: u8,
    trouble: u32,
}

crate::zeroed_struct!(LeaseEpoch {
    phase: Phase,
    pending: Pending,
    attempts: u32,
    wake: Instant,
    backoff: Backoff,
    prng: Prng,
    look: Look,
    epoch: u64,
    others: u64,
    acquired: [u8; STAMP_BYTES],
    namespace: Inline<{ MAX_LABEL_BYTES as usize }>,
    name: Inline<{ MAX_NAME_BYTES as usize }>,
    holder: Inline<{ MAX_NAME_BYTES as usize }>,
    resource_version: ResourceVersion,
    body: Inline<BODY_BYTES>,
    outcome: u8,
    trouble: u32,
});

impl LeaseEpoch {
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
        let asked = matches!(self.phase, Phase::Reading | Phase::Creating | Phase::Raising);
        match (self.phase, input) {
            (Phase::Idle, Input::Start { namespace, name, holder, look }) => {
                let set = self.namespace.set(namespace.as_bytes());
                let set = set.and(self.name.set(name.as_bytes()));
                let set = set.and(self.holder.set(holder.as_bytes()));
                (self.look, self.attempts, self.others) = (look, 0, 0);
                self.backoff.reset();
                match set {
                    Ok(()) => self.read(),
                    Err(Full) => self.refused(Trouble::RequestTooLarge),
                }
            }
            (Phase::Reading, Input::Answer { status: 200, document: Some(document), .. }) => {
                self.lease(document.root(), now);
            }
            (Phase::Reading, Input::Answer { status: 404, .. }) => {
                sometimes(Mark::LeaseCreated);
                self.resource_version.clear();
                self.raise(0, Phase::Creating, now);
            }
            (Phase::Creating, Input::Answer { status: 200..=201, .. })
            | (Phase::Raising, Input::Answer { status: 200, .. }) => self.done(0),
            // Between GET and PUT the Lease was deleted: read again, like a conflict.
            (Phase::Raising, Input::Answer { status: 404, .. }) => {
                sometimes(Mark::LeaseDeletedMeanwhile);
                self.again(Trouble::Status(409), 0, now);
            }
            (_, Input::Answer { status, retry_after_ms, .. }) if asked => {
                if is_retryable(status) {
                    self.again(Trouble::Status(status), retry_after_ms, now);
                } else if status < 400 {
                    self.refused(Trouble::BadAnswer);
                } else {
                    self.refused(Trouble::Status(status));
                }
            }
            (_, Input::Failed(trouble)) if asked => self.again(trouble, 0, now),
            _ => return Err(Full),
        }
        Ok(())
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        match core::mem::replace(&mut self.pending, Pending::None) {
            Pending::None => None,
            Pending::Request => Some(Output::Request(self.request())),
            Pending::Done => {
                let trouble = Trouble::from_u32(self.trouble);
                Some(Output::Done(match self.outcome {
                    0 if self.others != 0 => Ok(Held::Others(self.others)),
                    0 => Ok(Held::Own(self.epoch)),
                    1 => Err(WriteError::Retryable(trouble)),
                    _ => Err(WriteError::Permanent(trouble)),
                }))
            }
        }
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

    fn request(&self) -> Request<'_> {
        let method = match self.phase {
            Phase::Creating => Method::Post,
            Phase::Raising => Method::Put,
            _ => Method::Get,
        };
        let path = ObjectPath {
            group: "coordination.k8s.io",
            version: "v1",
            plural: "leases",
            namespace: self.namespace.as_str(),
            // A POST goes to the collection.
            name: if method == Method::Post { "" } else { self.name.as_str() },
            subresource: "",
        };
        let body = if method == Method::Get { b"" } else { self.body.as_bytes() };
        Request { method, path, body }
    }

    fn read(&mut self) {
        self.attempts += 1;
        (self.phase, self.pending, self.wake) = (Phase::Reading, Pending::Request, Instant::NEVER);
    }

    fn lease(&mut self, lease: Value<'_>, now: Now) {
        let version = lease.at(&["metadata", "resourceVersion"]).and_then(Value::str).unwrap_or("");
        if version.is_empty() || self.resource_version.set(version.as_bytes()).is_err() {
            return self.again(Trouble::BadAnswer, 0, now);
        }
        let transitions = lease.at(&["spec", "leaseTransitions"]).and_then(Value::int).unwrap_or(0);
        let transitions = u64::try_from(transitions).unwrap_or(0);
        let holder = lease.at(&["spec", "holderIdentity"]).and_then(Value::str).unwrap_or("");
        let is_ours = holder == self.holder.as_str();
        let Look { held, given, take, stale } = self.look;
        let seen = fnv::hash(self.resource_version.as_str().as_bytes()) | 1;
        let take = take && (stale == 0 || stale == seen);
        if !take && !is_ours && held < transitions {
            sometimes(Mark::LeaseOfOthers);
            self.others = seen;
            return self.done(0);
        }
        // Above `held` when the answer to our write was lost.
        if !take && is_ours && held <= transitions && given <= transitions {
            if held < transitions {
                sometimes(Mark::LeaseAnswerWasLost);
            }
            self.epoch = transitions;
            return self.write(Phase::Raising, now);
        }
        // Somebody else may have taken our epoch from an API server that was older than it.
        self.raise(transitions, Phase::Raising, now);
    }

    /// Writes the epoch above all that are known.
    fn raise(&mut self, transitions: u64, phase: Phase, now: Now) {
        let last = transitions.max(self.look.given).max(self.look.held);
        self.epoch = last.saturating_add(1);
        if self.epoch > i32::MAX as u64 {
            // leaseTransitions is an int32: an epoch beyond it cannot be kept.
            return self.refused(Trouble::BadAnswer);
        }
        self.acquired.copy_from_slice(&now.wall.rfc3339()[..STAMP_BYTES]);
        self.write(phase, now);
    }

    /// Writes the epoch, taken or renewed.
    fn write(&mut self, phase: Phase, now: Now) {
        let mut buffer = [0; BODY_BYTES];
        let mut json = JsonWriter::new(&mut buffer);
        json.begin_object().member("apiVersion", "coordination.k8s.io/v1").member("kind", "Lease");
        json.key("metadata").begin_object().member("name", self.name.as_str());
        json.member("namespace", self.namespace.as_str());
        json.member_unless_empty("resourceVersion", self.resource_version.as_str()).end_object();
        let renewed = now.wall.rfc3339();
        let seconds = (LEASE_RENEW_PERIOD_MS * LEASE_STALE_LOOKS).div_ceil(1000);
        json.key("spec").begin_object().member("holderIdentity", self.holder.as_str());
        json.key("leaseDurationSeconds").number(i128::from(seconds));
        for (key, stamp) in [("acquireTime", &self.acquired[..]), ("renewTime", &renewed)] {
            // metav1.MicroTime wants six digits of fraction.
            let stamp = core::str::from_utf8(&stamp[..STAMP_BYTES]).unwrap_or("");
            json.key(key).format(format_args!("{stamp}.000000Z"));
        }
        json.key("leaseTransitions").number(self.epoch as i128).end_object().end_object();
        let written = json.finish().and_then(|text| self.body.set(text.as_bytes()));
        match written {
            Ok(()) => (self.phase, self.pending) = (phase, Pending::Request),
            Err(Full) => self.refused(Trouble::RequestTooLarge),
        }
    }

    fn again(&mut self, trouble: Trouble, retry_after_ms: u64, now: Now) {
        if self.attempts >= KUBE_WRITE_ATTEMPTS {
            self.trouble = trouble.to_u32();
            return self.done(1);
        }
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
        self.done(2);
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
    use crate::stdx::Wall;
    use std::boxed::Box;
    use std::format;
    use std::string::String;

    struct Taker(Box<LeaseEpoch>, Now);

    impl Taker {
        fn new(given: u64) -> Taker {
            Taker::look(Look { given, take: true, ..Look::default() })
        }

        fn look(look: Look) -> Taker {
            let mut lease = boxed_zeroed::<LeaseEpoch>();
            lease.start(Prng::new(1));
            let now = Now { wall: Wall(1_795_413_215), ..Now::default() };
            let start = Input::Start { namespace: "n", name: "l", holder: "me", look };
            lease.input(start, now).unwrap();
            let mut taker = Taker(lease, now);
            assert_eq!(taker.output(), "Get l ");
            taker
        }

        fn output(&mut self) -> String {
            match self.0.poll_output() {
                None => "waits".into(),
                Some(Output::Done(result)) => format!("{result:?}"),
                Some(Output::Request(request)) => {
                    let body = core::str::from_utf8(request.body).unwrap();
                    format!("{:?} {} {body}", request.method, request.path.name)
                }
            }
        }

        fn answer(&mut self, status: u16, body: &str) -> String {
            let mut document = boxed_zeroed::<Document>();
            let parsed = json::parse(body.as_bytes(), &mut document).ok();
            let document = parsed.map(|()| &*document);
            let answer = Input::Answer { status, retry_after_ms: 0, document };
            self.0.input(answer, self.1).expect("taken");
            self.output()
        }

        fn wait(&mut self) -> String {
            self.1.mono = self.0.timeout().expect("a timer");
            self.0.tick(self.1);
            self.output()
        }
    }

    fn lease(version: &str, transitions: i64) -> String {
        format!(
            r#"{{"metadata":{{"resourceVersion":"{version}"}},
            "spec":{{"holderIdentity":"{}","leaseTransitions":{transitions}}}}}"#,
            if transitions <= 5 { "me" } else { "other" }
        )
    }

    #[test]
    fn created_raised_and_raised_above_what_routers_know() {
        let mut taker = Taker::new(0);
        assert_eq!(
            taker.answer(404, ""),
            [
                r#"Post  {"apiVersion":"coordination.k8s.io/v1","kind":"Lease","#,
                r#""metadata":{"name":"l","namespace":"n"},"spec":{"holderIdentity":"me","#,
                r#""leaseDurationSeconds":15,"acquireTime":"2026-11-23T05:53:35.000000Z","#,
                r#""renewTime":"2026-11-23T05:53:35.000000Z","leaseTransitions":1}}"#,
            ]
            .concat()
        );
        assert_eq!(taker.answer(201, "{}"), "Ok(Own(1))");
        let mut taker = Taker::new(3);
        let put = taker.answer(200, &lease("9", 5));
        assert!(put.starts_with("Put l ") && put.contains(r#""resourceVersion":"9""#), "{put}");
        assert!(put.contains(r#""leaseTransitions":6"#));
        assert_eq!(taker.answer(200, "{}"), "Ok(Own(6))");
        let mut taker = Taker::new(8);
        assert!(taker.answer(200, &lease("9", 5)).contains(r#""leaseTransitions":9"#));
    }

    #[test]
    fn two_at_once_get_different_epochs() {
        let mut taker = Taker::new(0);
        assert!(taker.answer(404, "").starts_with("Post"));
        assert_eq!(taker.answer(409, ""), "waits");
        assert_eq!(taker.wait(), "Get l ");
        assert!(taker.answer(200, &lease("2", 1)).starts_with("Put"));
        assert_eq!(taker.answer(409, ""), "waits");
        assert_eq!(taker.wait(), "Get l ");
        assert!(taker.answer(200, &lease("3", 2)).contains(r#""leaseTransitions":3"#));
        assert_eq!(taker.answer(200, "{}"), "Ok(Own(3))");
    }

    /// What becomes of a Lease at `transitions` for whom has epoch 5 of it and hears of `given`.
    fn looked(transitions: i64, given: u64, take: bool) -> String {
        let mut taker = Taker::look(Look { held: 5, given, take, stale: 0 });
        let put = taker.answer(200, &lease("9", transitions));
        match put.split_once(r#""leaseTransitions":"#) {
            Some((_, rest)) => format!("{} {}", rest.trim_matches('}'), taker.answer(200, "{}")),
            None => put,
        }
    }

    #[test]
    fn renewed_while_it_is_ours_and_left_to_who_took_it() {
        assert_eq!(looked(5, 5, false), "5 Ok(Own(5))", "renewed");
        let others = looked(6, 6, false);
        assert!(others.starts_with("Ok(Others("), "{others}");
        // Whatever else the routers show: who took it sees it too.
        assert_eq!(looked(6, 9, false), others);
        assert_eq!(looked(6, 6, true), "7 Ok(Own(7))", "nobody renews it");
        // An API server restored to an older state.
        assert_eq!(looked(3, 5, false), "6 Ok(Own(6))");
        assert_eq!(looked(5, 40, false), "41 Ok(Own(41))");
        let mut taker = Taker::look(Look { held: 5, ..Look::default() });
        assert!(taker.answer(404, "").contains(r#""leaseTransitions":6"#), "deleted");
    }

    #[test]
    fn one_epoch_of_two_holders_is_left_by_both() {
        let mut taker = Taker::look(Look { held: 5, given: 5, ..Look::default() });
        let put = taker.answer(200, &lease("9", 5).replace(r#""me""#, r#""twin""#));
        assert!(put.contains(r#""leaseTransitions":6"#), "{put}");
        assert_eq!(taker.answer(200, "{}"), "Ok(Own(6))");
    }

    #[test]
    fn taken_though_the_answer_was_lost() {
        let mut taker = Taker::look(Look { held: 5, given: 7, ..Look::default() });
        assert!(taker.answer(200, &lease("9", 5)).contains(r#""leaseTransitions":8"#));
        taker.0.input(Input::Failed(Trouble::Closed), taker.1).unwrap();
        assert_eq!(taker.wait(), "Get l ");
        let put = taker.answer(200, &lease("10", 8).replace("other", "me"));
        assert!(put.contains(r#""leaseTransitions":8"#), "{put}");
        assert_eq!(taker.answer(200, "{}"), "Ok(Own(8))");
    }

    #[test]
    fn overtaken_while_it_renews() {
        let mut taker = Taker::look(Look { held: 5, given: 5, ..Look::default() });
        assert!(taker.answer(200, &lease("9", 5)).starts_with("Put"));
        assert_eq!(taker.answer(409, ""), "waits");
        assert_eq!(taker.wait(), "Get l ");
        assert!(taker.answer(200, &lease("10", 6)).starts_with("Ok(Others("));
    }

    #[test]
    fn only_the_stale_lease_is_taken() {
        let stale = fnv::hash(b"9") | 1;
        let look = Look { held: 5, given: 6, take: true, stale };
        let mut taker = Taker::look(look);
        let others = taker.answer(200, &lease("10", 6));
        assert!(others.starts_with("Ok(Others("), "renewed since: {others}");
        let mut taker = Taker::look(look);
        let put = taker.answer(200, &lease("9", 6));
        assert!(put.contains(r#""leaseTransitions":7"#), "{put}");
        // Another one who stood by was quicker.
        assert_eq!(taker.answer(409, ""), "waits");
        assert_eq!(taker.wait(), "Get l ");
        assert!(taker.answer(200, &lease("10", 7)).starts_with("Ok(Others("));
        // It was taken, but the answer was lost: no second epoch.
        let mut taker = Taker::look(look);
        assert!(taker.answer(200, &lease("9", 6)).starts_with("Put"));
        taker.0.input(Input::Failed(Trouble::Closed), taker.1).unwrap();
        assert_eq!(taker.wait(), "Get l ");
        let put = taker.answer(200, &lease("10", 7).replace("other", "me"));
        assert!(put.contains(r#""leaseTransitions":7"#), "{put}");
        assert_eq!(taker.answer(200, "{}"), "Ok(Own(7))");
    }

    #[test]
    fn limits_and_refusals() {
        let mut taker = Taker::new(0);
        assert_eq!(taker.answer(403, ""), "Err(Permanent(Status(403)))");
        let max = i64::from(i32::MAX);
        assert!(Taker::new(0).answer(200, &lease("1", max - 1)).contains("2147483647"));
        assert_eq!(Taker::new(0).answer(200, &lease("1", max)), "Err(Permanent(BadAnswer))");
        // A negative or missing number is none.
        assert!(Taker::new(0).answer(200, &lease("1", -5)).contains(r#""leaseTransitions":1"#));
        let mut taker = Taker::new(0);
        for _ in 1..KUBE_WRITE_ATTEMPTS {
            assert_eq!(taker.answer(500, ""), "waits");
            assert_eq!(taker.wait(), "Get l ");
        }
        assert_eq!(taker.answer(500, ""), "Err(Retryable(Status(500)))");
    }
}
