//! Status writes and the Lease: a blocking client with a connection of its own.
//!
//! In: which object and how to compute its status, or which Lease. Out: that it is written, or an
//! error that says whether to try again. One per thread that writes; its traffic does not wait
//! behind watches, and the Lease's not behind status writes if it has one of its own
//! (shared/kube-client.md, 20).

use super::access::Access;
use super::credentials::Credentials;
use super::transport::{Happened, Transport};
use crate::kube::Trouble;
use crate::kube::exchange::{Exchange, Input, Output, Request};
use crate::kube::kind::Watched;
use crate::kube::lease::{self, Held, LeaseEpoch, Look};
use crate::kube::request::{Method, ObjectPath};
use crate::kube::status_patch::{self, StatusPatch, WriteError, Written};
use crate::limits::KUBE_BODY_BYTES;
use crate::resource::document::{Document, Value};
use crate::shell::place::boxed_zeroed;
use crate::shell::tls::rustls::{ErrorText, make_client_slot};
use crate::shell::{clock, json};
use crate::stdx::{Instant, Prng};
use crate::wire::json::JsonWriter;
use core::sync::atomic::{AtomicBool, Ordering};
use mio::Waker;
use std::boxed::Box;
use std::format;
use std::string::String;
use std::sync::Arc;

/// What a status function found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Computed {
    /// It wrote the value of `status`.
    Status,
    /// The object has it already.
    Equal,
    /// It cannot be written (too large): give up.
    Abandon,
}

/// Names an object whose status is written.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its kind.
    pub kind: Watched,
    /// Its namespace, empty when cluster-scoped.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid; empty for any.
    pub uid: &'a str,
}

/// Ends a call from another thread.
#[derive(Clone, Debug)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stop {
    /// The call at work, and every later one, fails as retryable.
    pub fn stop(&self) {
        self.flag.store(true, Ordering::Release);
        // An eventfd that is written to: it fails only when it is full of wakes.
        let _ = self.waker.wake();
    }
}

/// An answer; its body, if it is JSON, is in the caller's document.
#[derive(Clone, Copy, Debug)]
struct Reply {
    status: u16,
    retry_after_ms: u64,
    parsed: bool,
}

/// One request at a time, to its end.
struct Caller {
    credentials: Credentials,
    transport: Transport,
    exchange: Box<Exchange>,
    document: Box<Document>,
    error: ErrorText,
    stop: Arc<AtomicBool>,
}

/// What a stopped client says: whoever comes after may try again.
const STOPPED: WriteError = WriteError::Retryable(Trouble::Closed);

/// The client.
#[expect(missing_debug_implementations, reason = "rustls' connection has none")]
pub struct ApiClient {
    caller: Caller,
    patch: Box<StatusPatch>,
    lease: Box<LeaseEpoch>,
    status: Box<[u8; KUBE_BODY_BYTES as usize]>,
}

impl ApiClient {
    /// Built before the seal. Its thread prepares its parse slot and reserve itself, before that:
    /// [`prepare`](crate::shell::parse_slot::prepare).
    pub fn new(access: Arc<Access>, prng: &Prng) -> Result<ApiClient, String> {
        let slot = access.is_tls().then(make_client_slot).flatten();
        let transport = Transport::new(&access, slot).map_err(|error| format!("{error}"))?;
        let credentials = Credentials::new(access, slot, clock::now())?;
        let access = &credentials.access;
        let mut exchange = boxed_zeroed::<Exchange>();
        exchange
            .start(&access.authority, &access.prefix, credentials.token())
            .map_err(|error| format!("{error:?}"))?;
        let mut document = boxed_zeroed::<Document>();
        document.clear();
        let (mut patch, mut lease) = (boxed_zeroed::<StatusPatch>(), boxed_zeroed::<LeaseEpoch>());
        patch.start(prng.child("status"));
        lease.start(prng.child("lease"));
        let (error, stop) = (ErrorText::new(), Arc::new(AtomicBool::new(false)));
        let caller = Caller { credentials, transport, exchange, document, error, stop };
        Ok(ApiClient { caller, patch, lease, status: boxed_zeroed() })
    }

    /// Bytes it holds, without connection and credentials: for the memory plan.
    pub fn bytes() -> u64 {
        let machines = size_of::<Exchange>() + size_of::<StatusPatch>() + size_of::<LeaseEpoch>();
        (machines + size_of::<Document>() + KUBE_BODY_BYTES as usize) as u64
    }

    /// Ends calls from another thread.
    pub fn stopper(&self) -> Stop {
        Stop { flag: self.caller.stop.clone(), waker: self.caller.transport.waker() }
    }

    /// What the last connection failed of, in words; empty when there is nothing to add.
    pub fn error(&self) -> &str {
        self.caller.error.as_str()
    }

    /// Reads an object, and with `compute` makes its new status: the function sees the object as
    /// it is now, and is called again after each conflict. Blocks, at most for
    /// KUBE_WRITE_ATTEMPTS tries.
    pub fn patch_status(
        &mut self,
        target: Target<'_>,
        mut compute: impl FnMut(Value<'_>, &mut JsonWriter<'_>) -> Computed,
    ) -> Result<Written, WriteError> {
        use status_patch::{Input, Output};
        if self.caller.is_stopped() {
            return Err(STOPPED);
        }
        let Target { kind, namespace, name, uid } = target;
        let started = self.patch.input(Input::Start { kind, namespace, name, uid }, clock::now());
        assert!(started.is_ok(), "the last write came to its end");
        loop {
            let input = match self.patch.poll_output() {
                Some(Output::Done(result)) => return result,
                Some(Output::Request(request)) => match self.caller.call(request) {
                    Ok(Reply { status, retry_after_ms, parsed }) => {
                        let document = parsed.then_some(&*self.caller.document);
                        Input::Answer { status, retry_after_ms, document }
                    }
                    Err(trouble) => Input::Failed(trouble),
                },
                Some(Output::Compute) => {
                    let mut json = JsonWriter::new(&mut self.status[..]);
                    let computed = compute(self.caller.document.root(), &mut json);
                    match (computed, json.finish()) {
                        (Computed::Status, Ok(text)) => Input::Computed(text),
                        (Computed::Equal, _) => Input::Equal,
                        (Computed::Status, Err(_)) | (Computed::Abandon, _) => Input::Abandon,
                    }
                }
                // Stopped for good: the machine is not asked again.
                None if self.caller.is_stopped() => return Err(STOPPED),
                None => {
                    self.caller.sleep_until(self.patch.timeout());
                    self.patch.tick(clock::now());
                    continue;
                }
            };
            let taken = self.patch.input(input, clock::now());
            assert!(taken.is_ok(), "the machine takes the answer to what it asked");
        }
    }

    /// Takes, renews or looks at a Lease.
    pub fn look_at_lease(
        &mut self,
        (namespace, name): (&str, &str),
        holder: &str,
        look: Look,
    ) -> Result<Held, WriteError> {
        use lease::{Input, Output};
        if self.caller.is_stopped() {
            return Err(STOPPED);
        }
        let start = Input::Start { namespace, name, holder, look };
        let started = self.lease.input(start, clock::now());
        assert!(started.is_ok(), "the last one came to its end");
        loop {
            let input = match self.lease.poll_output() {
                Some(Output::Done(result)) => return result,
                Some(Output::Request(request)) => match self.caller.call(request) {
                    Ok(Reply { status, retry_after_ms, parsed }) => {
                        let document = parsed.then_some(&*self.caller.document);
                        Input::Answer { status, retry_after_ms, document }
                    }
                    Err(trouble) => Input::Failed(trouble),
                },
                // Stopped for good: the machine is not asked again.
                None if self.caller.is_stopped() => return Err(STOPPED),
                None => {
                    self.caller.sleep_until(self.lease.timeout());
                    self.lease.tick(clock::now());
                    continue;
                }
            };
            let taken = self.lease.input(input, clock::now());
            assert!(taken.is_ok(), "the machine takes the answer to what it asked");
        }
    }

    /// Reads one object: its status code, and the object when it is 200.
    pub fn get(&mut self, path: ObjectPath<'_>) -> Result<(u16, Value<'_>), Trouble> {
        self.request(Method::Get, path, b"")
    }

    /// One request: its status code, and the answer when that is JSON.
    pub fn request(
        &mut self,
        method: Method,
        path: ObjectPath<'_>,
        body: &[u8],
    ) -> Result<(u16, Value<'_>), Trouble> {
        let reply = self.caller.call(Request { method, path, body })?;
        if !reply.parsed {
            self.caller.document.clear();
        }
        Ok((reply.status, self.caller.document.root()))
    }
}

impl Caller {
    /// One request to its end; the body, if it is JSON, is in the document then.
    fn call(&mut self, request: Request<'_>) -> Result<Reply, Trouble> {
        self.refresh();
        let taken = self.exchange.input(Input::Request(request), clock::now());
        assert!(taken.is_ok(), "one call at a time");
        loop {
            if let Some(result) = self.outputs() {
                return result;
            }
            if self.is_stopped() {
                // Whatever became of it: the caller leaves.
                self.transport.disconnect();
                self.give(Input::Closed(Trouble::Closed));
                return self.outputs().unwrap_or(Err(Trouble::Closed));
            }
            if self.receive() {
                continue;
            }
            let due = self.exchange.timeout().unwrap_or(Instant::NEVER);
            self.transport.wait(Some(due.since(clock::now().mono)));
            self.exchange.tick(clock::now());
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Moves bytes; whether anything came of it.
    fn receive(&mut self) -> bool {
        let happened = self.transport.step(self.credentials.identity());
        match happened {
            Happened::Nothing => {}
            Happened::Up => self.give(Input::Connected),
            Happened::Gone(trouble) => {
                if trouble == Trouble::Tls {
                    self.credentials.suspect_identity();
                    self.error = self.transport.take_error();
                }
                self.give(Input::Closed(trouble));
            }
        }
        let bytes = self.transport.plaintext();
        if bytes.is_empty() {
            return happened != Happened::Nothing;
        }
        let used = self.exchange.input(Input::Bytes(bytes), clock::now());
        self.transport.consume(used.expect("all outputs were polled"));
        true
    }

    fn give(&mut self, input: Input<'_>) {
        let taken = self.exchange.input(input, clock::now());
        assert!(taken.is_ok(), "all outputs were polled");
    }

    /// Does what the machine wants; the call's result when there is one.
    fn outputs(&mut self) -> Option<Result<Reply, Trouble>> {
        let mut result = None;
        let mut unreachable = None;
        let mut wants_token = false;
        loop {
            while let Some(output) = self.exchange.poll_output() {
                match output {
                    Output::Connect => {
                        unreachable = self.transport.connect(&self.credentials.access).err();
                    }
                    Output::Disconnect => self.transport.disconnect(),
                    Output::Send(bytes) => self.transport.send(bytes),
                    Output::ReadToken => wants_token = true,
                    Output::Answer(answer) => {
                        let parsed = json::parse(answer.body, &mut self.document).is_ok();
                        let (status, retry_after_ms) = (answer.status, answer.retry_after_ms);
                        result = Some(Ok(Reply { status, retry_after_ms, parsed }));
                    }
                    Output::Failed(trouble) => result = Some(Err(trouble)),
                }
            }
            if let Some(trouble) = unreachable.take() {
                self.give(Input::Closed(trouble));
            } else if core::mem::take(&mut wants_token) {
                self.credentials.read_token();
                let token = Input::Token(self.credentials.token());
                let taken = self.exchange.input(token, clock::now());
                assert!(taken.is_ok(), "all outputs were polled");
            } else {
                return result;
            }
        }
    }

    /// Between calls: token, CA and certificate as they are now, and whether the idle connection
    /// is still there.
    fn refresh(&mut self) {
        let now = clock::now();
        self.transport.wait(Some(crate::stdx::Duration::ZERO));
        if let Happened::Gone(trouble) = self.transport.step(self.credentials.identity()) {
            self.give(Input::Closed(trouble));
        }
        if self.credentials.refresh_token(now) {
            let taken = self.exchange.input(Input::Token(self.credentials.token()), now);
            assert!(taken.is_ok(), "no request runs");
        }
        if self.credentials.refresh_identity(now) {
            self.transport.disconnect();
            self.give(Input::Closed(Trouble::Closed));
        }
        let left = self.outputs();
        assert!(left.is_none(), "no request runs");
    }

    fn sleep_until(&mut self, at: Option<Instant>) {
        let at = at.unwrap_or(Instant::NEVER);
        while clock::now().mono < at {
            if self.is_stopped() {
                return;
            }
            self.transport.wait(Some(at.since(clock::now().mono)));
        }
    }
}
