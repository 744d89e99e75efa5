//! Marks at branches that are rarely taken: the simulator says which ones no seed came to.
//!
//! In: [`sometimes`] at the branch. Out: how often each was met, with the feature `marks` that only
//! the simulator turns on; without it a mark is nothing at all. After FoundationDB's `TEST` and
//! Antithesis's `sometimes`.

macro_rules! marks {
    ($($name:ident $text:literal)*) => {
        /// A branch, by what it means to be there.
        #[derive(Clone, Copy, Debug)]
        #[repr(u8)]
        pub enum Mark {
            $(#[doc = $text] $name,)*
        }

        /// What the marks say, in their order.
        pub const TEXTS: &[&str] = &[$($text,)*];
    };
}

marks! {
    // Router: clients.
    AnswerFindsNoBuffer "router: no buffer for an answer of its own"
    BodyBroken "router: a request's body is not well-formed"
    BodyGrowsTooLarge "router: a chunked body grows too large"
    BodyTimesOut "router: a client does not go on with its body"
    BodyTooLarge "router: a body is announced that is too large"
    ClientMakesWay "router: an idle client makes way"
    ClientDoesNotRead "router: a client does not read its answer"
    EditsFull "router: no room for what filters do to an answer"
    HeadTimesOut "router: a request's head does not end"
    Misdirected "router: a host of another listener's certificate"
    RequestRefused "router: a request's head is refused"
    RouteNotFound "router: no route matches"
    NothingToPick "router: a rule has no backend that resolves, or no endpoint"
    RequestTimesOut "router: a request takes too long"
    Starved "router: a read finds no buffer"
    StalledClientIsCut "router: a client that holds buffers is cut"
    // Router: backends.
    AnswerBroken "router: a backend's answer is not well-formed"
    AnswerCut "router: an answer that has begun is cut"
    BackendEndsEarly "router: a backend ends before it answers"
    BackendTimesOut "router: a backend does not answer"
    ConnectRefusedAtOnce "router: a connect fails at once"
    ConnectTimesOut "router: a connect takes too long"
    ConnectionsFull "router: no slot for a connection to a backend"
    EndpointGone "router: a picked endpoint is not configured any more"
    LastChunkOwed "router: no buffer for the last chunk"
    Replayed "router: a request is sent again, since a kept connection ended"
    RoutedAgain "router: a request is routed again in a new configuration"
    RoutedAgainByRule "router: a request that filters changed is routed again by its rule"
    RoutedOtherwise "router: it cannot be, since routing is another one"
    TrailersFull "router: no room for trailers"
    TunnelTimesOut "router: nothing moves in a tunnel for too long"
    UpstreamDeaf "router: a backend takes no more of a request"
    UpstreamMakesWay "router: an idle connection to a backend makes way"
    UpstreamStalls "router: no buffer for what goes to a backend"
    // Router: pushes.
    PushBroken "push: a record or the whole is not valid"
    PushBusy "push: another one runs"
    PushForks "push: this generation has other content"
    PushOlder "push: it is older than what is served"
    PushStalled "push: the last one stalled and is given up"
    PushIsNoJson "push: a line is not JSON"
    // Controller: the API server.
    LeaseAnswerWasLost "lease: what we wrote is there, though nobody said so"
    LeaseCreated "lease: there is none yet"
    LeaseDeletedMeanwhile "lease: it is gone between reading and writing"
    LeaseOfOthers "lease: somebody else's"
    ListExpired "watch: a list's version or token is too old"
    WatchBookmark "watch: a bookmark moves the version"
    WatchExpired "watch: its version is too old"
    WatchRetries "watch: the API server answers with an error"
    WatchFailsSilently "watch: a connection fails without an answer"
    WatchSkips "watch: an object is not taken"
    StreamRefused "watch: the server does not know WatchList"
    // Controller: who reigns.
    Overtaken "reign: somebody else reigns now"
    TakesOver "reign: who stood by takes over"
    // Controller: stores.
    ObjectEvicted "store: a younger object makes room"
    ObjectRefused "store: no room for an object"
    RelistWanted "store: a refused object could be admitted now"
    StubsFull "store: not even the name of a refused object has room"
}

/// This branch is taken now.
#[inline(always)]
pub fn sometimes(mark: Mark) {
    #[cfg(feature = "marks")]
    met::add(mark);
    #[cfg(not(feature = "marks"))]
    let _ = mark;
}

/// What was met.
#[cfg(feature = "marks")]
pub mod met {
    use super::{Mark, TEXTS};
    use core::sync::atomic::{AtomicU32, Ordering};

    static MET: [AtomicU32; TEXTS.len()] = [const { AtomicU32::new(0) }; TEXTS.len()];

    pub(super) fn add(mark: Mark) {
        MET[mark as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What was met since the last call, with how often.
    pub fn take() -> impl Iterator<Item = (&'static str, u32)> {
        let counts = MET.iter().map(|met| met.swap(0, Ordering::Relaxed));
        TEXTS.iter().copied().zip(counts).filter(|&(_, times)| times > 0)
    }
}
