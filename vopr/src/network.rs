//! The network and the clock: byte streams between nodes, delivered by virtual time.
//!
//! In: connect, write, read, shutdown, close of nodes; faults (stall, reset, partition, half-open,
//! refused, pieces down to one byte). Out: events for the nodes, in order of time. Both directions
//! of a stream keep their order; nothing else does.

use crate::faults::{Fault, Injected};
use crate::pipe::Pipe;
use crate::seed::Rate;
use crate::trace::Trace;
use serval::stdx::Prng;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;

/// Nanoseconds of virtual time.
pub type Time = u64;

/// A millisecond.
pub const MS: Time = 1_000_000;
/// A second.
pub const SECOND: Time = 1000 * MS;

/// Who has sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    Router(usize),
    Controller(usize),
    /// Pushes of the past.
    Past,
    Api,
    Clients,
    Strangers,
    Backends,
    /// A peer that wants to keep a router busy.
    Abuser,
}

/// One end of a stream: side 0 connected, side 1 accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndId {
    pub stream: u32,
    pub side: u8,
}

impl EndId {
    /// The other end.
    pub fn peer(self) -> EndId {
        EndId { side: 1 - self.side, ..self }
    }
}

/// Something that is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The front of what flies to this end arrives.
    Segment(EndId),
    /// The connection of this stream reaches its listener.
    Syn(u32),
    /// For the owner of the end.
    Socket(EndId, SocketEvent),
    /// For a node, of its process with this number.
    Timer(Node, u64),
    /// For the simulator.
    Step(Step),
}

/// What happened at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SocketEvent {
    Accepted,
    Opened,
    Refused,
    Readable,
    Writable,
}

/// What the simulator does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Workload,
    Fault,
    Restart(Node),
    ApiTimer,
    /// Statuses of a controller are due.
    Status(Node),
    /// A request of a controller is due at the Lease.
    Lease(Node),
    /// A process that is paused goes on.
    Resume(Node),
    /// A router is not scheduled for a moment, so that events come together.
    Hiccup,
    Heal,
    /// The endpoints of a rule go; then a user edits its route, and others take their place.
    Outage,
    Edit,
    Respawn,
    /// The control plane ends for good.
    Abandon,
    /// All ports can be bound again.
    HealBinds,
    Check,
    /// The endpoints of the routers' Service are written.
    Endpoints,
    /// The API server's state is saved.
    Save,
    /// It is as it was saved.
    Restore,
}

/// An event on its way. Those of one time happen in the order they were scheduled in.
#[derive(Debug)]
struct Scheduled {
    at: Time,
    sequence: u64,
    event: Event,
}

impl Scheduled {
    fn order(&self) -> u128 {
        u128::from(self.at) << 64 | u128::from(self.sequence)
    }
}

/// The earliest is the greatest: a heap gives it out first.
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        other.order().cmp(&self.order())
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Scheduled {}

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Eof,
    Reset,
}

#[derive(Clone, Copy, Debug)]
enum Piece {
    /// So many bytes of the pipe.
    Bytes(usize),
    End(Ended),
}

#[derive(Debug, Default)]
struct End {
    owner: Option<Node>,
    pipe: Pipe,
    flight: VecDeque<Piece>,
    last_at: Time,
    ended: Option<Ended>,
    fin_sent: bool,
    closed: bool,
    /// Its owner died without a word: what is written to it vanishes.
    ghost: bool,
    wants_writable: bool,
}

#[derive(Debug)]
struct Stream {
    ends: [End; 2],
    to: SocketAddr,
    to_node: Node,
    /// Largest piece; 1 is one byte at a time.
    piece: usize,
}

/// Streams by number. Numbers rise and most lookups are of recent ones: a plain array is the
/// quickest, and keeps their order.
#[derive(Debug, Default)]
struct Streams {
    places: Vec<Option<Box<Stream>>>,
    open: usize,
}

impl Streams {
    fn get(&self, number: u32) -> Option<&Stream> {
        self.places.get(number as usize)?.as_deref()
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut Stream> {
        self.places.get_mut(number as usize)?.as_deref_mut()
    }

    /// The number of a new one.
    fn add(&mut self, stream: Stream) -> u32 {
        self.places.push(Some(Box::new(stream)));
        self.open += 1;
        self.places.len() as u32 - 1
    }

    fn remove(&mut self, number: u32) {
        let gone = self.places.get_mut(number as usize).and_then(Option::take);
        self.open -= usize::from(gone.is_some());
    }

    fn numbers(&self) -> Vec<u32> {
        let all = (0..).zip(&self.places);
        all.filter(|(_, place)| place.is_some()).map(|(number, _)| number).collect()
    }
}

/// What the network does to streams, until it is healed.
#[derive(Clone, Copy, Debug)]
pub struct NetworkFaults {
    pub tiny_pieces: Rate,
    pub stalls: Rate,
    pub resets: Rate,
    pub refusals: Rate,
    pub half_open: Rate,
}

/// All streams, and the queue of events.
#[derive(Debug)]
pub struct Network {
    pub now: Time,
    queue: BinaryHeap<Scheduled>,
    sequence: u64,
    streams: Streams,
    listening: BTreeSet<(Node, SocketAddr)>,
    /// Links that carry nothing (from, to) for a time.
    blocked: BTreeMap<(Node, Node), Range<Time>>,
    prng: Prng,
    pub faults: NetworkFaults,
    /// Backends where nobody listens any more.
    pub absent: BTreeSet<SocketAddr>,
    /// Backends that have gone without a word: until when nobody answers there.
    pub mute: BTreeMap<SocketAddr, Time>,
    latency: Time,
    window: usize,
    pub trace: Trace,
    /// Faults that happened.
    pub injected: Injected,
    /// Pieces and ends that arrived, and timers that came up.
    pub deliveries: u64,
    pub timers: u64,
}

impl Network {
    /// An empty network.
    pub fn new(prng: Prng, faults: NetworkFaults, trace: Trace) -> Network {
        let mut prng = prng;
        let latency = prng.range(20_000, 3 * MS);
        let window = 512 << prng.below(6);
        Network {
            now: SECOND,
            queue: BinaryHeap::new(),
            sequence: 0,
            streams: Streams::default(),
            listening: BTreeSet::new(),
            blocked: BTreeMap::new(),
            prng,
            faults,
            absent: BTreeSet::new(),
            mute: BTreeMap::new(),
            latency,
            window,
            trace,
            injected: Injected::default(),
            deliveries: 0,
            timers: 0,
        }
    }

    /// Lets something happen at a time.
    pub fn schedule(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        let (at, sequence) = (at.max(self.now), self.sequence);
        self.queue.push(Scheduled { at, sequence, event });
    }

    /// The next event of nodes or simulator; segments are delivered on the way.
    pub fn next(&mut self, until: Time) -> Option<Event> {
        loop {
            if self.queue.peek()?.at > until {
                self.now = until;
                return None;
            }
            let Scheduled { at, event, .. } = self.queue.pop()?;
            self.now = at;
            match event {
                Event::Segment(end) => {
                    self.deliveries += 1;
                    if let Some(event) = self.arrive(end) {
                        return Some(event);
                    }
                }
                Event::Syn(stream) => {
                    if let Some(event) = self.syn(stream) {
                        return Some(event);
                    }
                }
                Event::Socket(end, what) => {
                    if self.owner(end).is_some() {
                        self.trace.event(at, "socket", u64::from(end.stream), &[what as u8]);
                        return Some(event);
                    }
                }
                other => {
                    self.timers += 1;
                    return Some(other);
                }
            }
        }
    }

    /// Who has this end, while it is open.
    pub fn owner(&self, end: EndId) -> Option<Node> {
        let end = &self.streams.get(end.stream)?.ends[usize::from(end.side)];
        end.owner.filter(|_| !end.closed)
    }

    /// The address that a stream was connected to.
    pub fn address(&self, end: EndId) -> Option<SocketAddr> {
        Some(self.streams.get(end.stream)?.to)
    }

    /// Streams that some end has open.
    pub fn streams(&self) -> usize {
        self.streams.open
    }

    fn end(&mut self, id: EndId) -> Option<&mut End> {
        Some(&mut self.streams.get_mut(id.stream)?.ends[usize::from(id.side)])
    }

    fn flight_time(&mut self) -> Time {
        let jitter = self.prng.below(self.latency + 1);
        self.latency / 2 + jitter
    }

    /// Until when nothing comes from one to the other.
    fn held_until(&self, from: Node, to: Node) -> Option<Time> {
        self.blocked.get(&(from, to)).filter(|cut| cut.contains(&self.now)).map(|cut| cut.end)
    }

    /// Until when a link is cut, in one direction at least.
    pub fn blocked_until(&self, a: Node, b: Node) -> Option<Time> {
        self.held_until(a, b).max(self.held_until(b, a))
    }

    /// Cuts one direction of a link for a time, unless it is cut for longer.
    pub fn hold(&mut self, from: Node, to: Node, cut: Range<Time>) {
        let held = self.blocked.entry((from, to)).or_default();
        if held.end < cut.end {
            *held = cut;
        }
    }

    /// Cuts a link until a time.
    pub fn cut(&mut self, a: Node, b: Node, until: Time) {
        self.hold(a, b, self.now..until);
        self.hold(b, a, self.now..until);
    }

    /// All links carry again, and no more faults.
    pub fn heal(&mut self) {
        self.blocked.clear();
        self.mute.clear();
        let off = Rate::Off;
        self.faults = NetworkFaults {
            tiny_pieces: off,
            stalls: off,
            resets: off,
            refusals: off,
            half_open: off,
        };
    }

    /// A node listens.
    pub fn listen(&mut self, node: Node, at: SocketAddr) -> bool {
        self.listening.insert((node, at))
    }

    /// A node does not listen any more.
    pub fn unlisten(&mut self, node: Node, at: SocketAddr) {
        self.listening.remove(&(node, at));
    }

    /// Where a node listens.
    pub fn listening(&self, node: Node) -> Vec<SocketAddr> {
        self.listening.iter().filter(|l| l.0 == node).map(|l| l.1).collect()
    }

    /// Whether there is no local port left just now: a connect fails at once.
    pub fn lacks_ports(&mut self) -> bool {
        let lacks = self.faults.refusals.happens(&mut self.prng) && self.prng.chance(1, 4);
        if lacks {
            self.injected.add(Fault::Refusals);
        }
        lacks
    }

    /// Connects; `Opened` or `Refused` follows, or nothing for long.
    pub fn connect(&mut self, from: Node, to_node: Node, to: SocketAddr) -> EndId {
        let piece = if self.faults.tiny_pieces.happens(&mut self.prng) {
            self.injected.add(Fault::TinyPieces);
            1 + self.prng.below(3) as usize
        } else {
            1 << self.prng.range(4, 12)
        };
        let ends = [End { owner: Some(from), ..End::default() }, End::default()];
        let stream = self.streams.add(Stream { ends, to, to_node, piece });
        let at = self.now + self.flight_time();
        self.schedule(at, Event::Syn(stream));
        EndId { stream, side: 0 }
    }

    fn syn(&mut self, id: u32) -> Option<Event> {
        let stream = self.streams.get(id)?;
        let (from, to_node, to) = (stream.ends[0].owner?, stream.to_node, stream.to);
        if let Some(until) = self.blocked_until(from, to_node) {
            // Sent again, as TCP does.
            let at = until + self.prng.below(SECOND);
            self.schedule(at, Event::Syn(id));
            return None;
        }
        let client = EndId { stream: id, side: 0 };
        if stream.ends[0].closed {
            self.streams.remove(id);
            return None;
        }
        if let Some(&until) = self.mute.get(&to).filter(|_| to_node == Node::Backends)
            && self.now < until
        {
            return self.vanish(id, until);
        }
        let at = self.now + self.flight_time();
        let any = SocketAddr::new([0u16; 8].into(), to.port());
        let heard = self.listening.contains(&(to_node, to))
            || self.listening.contains(&(to_node, any))
            || to_node == Node::Backends && !self.absent.contains(&to);
        let faulty = self.faults.refusals.happens(&mut self.prng);
        if faulty {
            self.injected.add(Fault::Refusals);
        }
        if faulty && to_node == Node::Backends && self.prng.chance(1, 4) {
            // Nobody says anything.
            self.schedule(self.now + 30 * SECOND, Event::Syn(id));
            return None;
        }
        if !heard || faulty {
            // Sometimes nobody says so for a while.
            let late =
                if faulty && self.prng.chance(3, 4) { self.prng.below(2 * SECOND) } else { 0 };
            self.schedule(at + late, Event::Socket(client, SocketEvent::Refused));
            return None;
        }
        self.end(client.peer())?.owner = Some(to_node);
        self.schedule(at, Event::Socket(client, SocketEvent::Opened));
        self.trace.event(self.now, "accept", u64::from(id), &[]);
        Some(Event::Socket(client.peer(), SocketEvent::Accepted))
    }

    /// Nobody is where a connection leads to: it is asked for again later, or somebody on the way
    /// says so in the end.
    fn vanish(&mut self, id: u32, until: Time) -> Option<Event> {
        if self.prng.chance(1, 2) {
            let at = until + self.prng.below(SECOND);
            self.schedule(at, Event::Syn(id));
        } else {
            let at = self.now + self.prng.range(300 * MS, 2500 * MS);
            let client = EndId { stream: id, side: 0 };
            self.schedule(at, Event::Socket(client, SocketEvent::Refused));
        }
        None
    }

    /// Sends some of the bytes: how many fitted the window. None: the connection is broken.
    pub fn write(&mut self, id: EndId, bytes: &[u8]) -> Option<usize> {
        let window = self.window;
        let me = self.end(id)?;
        assert!(!me.closed && !me.fin_sent, "nothing is sent after the end");
        if me.ended == Some(Ended::Reset) {
            return None;
        }
        let peer = self.end(id.peer())?;
        if peer.closed && !peer.ghost {
            self.fly(id, Piece::End(Ended::Reset), 0);
            return Some(bytes.len());
        }
        let room = window.saturating_sub(peer.pipe.len());
        let taken = room.min(bytes.len());
        let ghost = peer.ghost;
        if taken < bytes.len()
            && let Some(me) = self.end(id)
        {
            me.wants_writable = true;
        }
        if ghost {
            return Some(bytes.len());
        }
        self.send_pieces(id, &bytes[..taken]);
        Some(taken)
    }

    fn send_pieces(&mut self, id: EndId, bytes: &[u8]) {
        let Some(most) = self.streams.get(id.stream).map(|s| s.piece) else { return };
        if let Some(peer) = self.end(id.peer()) {
            peer.pipe.send(bytes);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            // One byte at a time is for the beginning: it costs an event each.
            let most = if bytes.len() - rest.len() > 64 { most.max(64) } else { most };
            let len = (1 + self.prng.below(most as u64) as usize).min(rest.len());
            let stall = match self.faults.stalls.happens_rarely(&mut self.prng) {
                true => {
                    self.injected.add(Fault::Stalls);
                    self.prng.below(4 * SECOND)
                }
                false => 0,
            };
            self.fly(id.peer(), Piece::Bytes(len), stall);
            rest = &rest[len..];
        }
        if self.faults.resets.happens_rarely(&mut self.prng) {
            self.injected.add(Fault::Resets);
            self.fly(id, Piece::End(Ended::Reset), 0);
            self.fly(id.peer(), Piece::End(Ended::Reset), 0);
        }
    }

    /// Sends a piece to an end, whose pipe has its bytes.
    fn fly(&mut self, to: EndId, piece: Piece, stall: Time) {
        let at = self.now + self.flight_time() + stall;
        let Some(end) = self.end(to) else { return };
        end.flight.push_back(piece);
        end.last_at = end.last_at.max(at);
        let at = end.last_at;
        self.schedule(at, Event::Segment(to));
    }

    fn arrive(&mut self, to: EndId) -> Option<Event> {
        let stream = self.streams.get(to.stream)?;
        let owner = |side: u8| stream.ends[usize::from(side)].owner;
        if let (Some(here), Some(there)) = (owner(to.side), owner(1 - to.side))
            && let Some(until) = self.held_until(there, here)
        {
            let at = until + self.prng.below(10 * MS);
            self.schedule(at, Event::Segment(to));
            return None;
        }
        let now = self.now;
        let Network { streams, trace, .. } = self;
        let end = &mut streams.get_mut(to.stream)?.ends[usize::from(to.side)];
        let mut answer_reset = false;
        match end.flight.pop_front()? {
            Piece::Bytes(len) if end.closed || end.ended.is_some() => {
                end.pipe.lose(len);
                answer_reset = end.closed && !end.ghost;
            }
            Piece::Bytes(len) => {
                trace.event(now, "bytes", u64::from(to.stream), end.pipe.arrive(len));
            }
            Piece::End(how) => {
                if end.ended != Some(Ended::Reset) {
                    end.ended = Some(how);
                }
                if how == Ended::Reset {
                    // As in a kernel: what was not read is gone, so that a reset is seen at once.
                    end.pipe.drop_arrived();
                }
                trace.event(now, "end", u64::from(to.stream), &[how as u8]);
            }
        }
        if answer_reset {
            self.fly(to.peer(), Piece::End(Ended::Reset), 0);
        }
        self.forget(to.stream);
        self.owner(to)?;
        Some(Event::Socket(to, SocketEvent::Readable))
    }

    /// Bytes that wait to be read.
    pub fn readable(&self, id: EndId) -> usize {
        self.streams.get(id.stream).map_or(0, |s| s.ends[usize::from(id.side)].pipe.readable())
    }

    /// Whether an end has read all that its peer sent.
    pub fn has_all(&self, id: EndId) -> bool {
        let end = self.streams.get(id.stream).map(|s| &s.ends[usize::from(id.side)]);
        end.is_none_or(|end| end.pipe.readable() == 0 && end.flight.is_empty())
    }

    /// How the peer ended, once all bytes are read (at once for a reset).
    pub fn ended(&self, id: EndId) -> Option<Ended> {
        let Some(stream) = self.streams.get(id.stream) else { return Some(Ended::Reset) };
        let end = &stream.ends[usize::from(id.side)];
        end.ended.filter(|_| end.pipe.readable() == 0)
    }

    /// Bytes that wait to be read, and how the peer ended: [`Self::readable`], [`Self::ended`].
    pub fn came(&self, id: EndId) -> (usize, Option<Ended>) {
        let Some(stream) = self.streams.get(id.stream) else { return (0, Some(Ended::Reset)) };
        let end = &stream.ends[usize::from(id.side)];
        let readable = end.pipe.readable();
        (readable, end.ended.filter(|_| readable == 0))
    }

    /// Reads at most so many bytes.
    pub fn read(&mut self, id: EndId, most: usize) -> Vec<u8> {
        let bytes = self.end(id).map_or(Vec::new(), |end| end.pipe.read(most).to_vec());
        self.let_write(id);
        bytes
    }

    /// Reads into a place, at most what it takes; how many bytes.
    pub fn read_into(&mut self, id: EndId, place: &mut [u8]) -> usize {
        let Some(end) = self.end(id) else { return 0 };
        let bytes = end.pipe.read(place.len());
        let len = bytes.len();
        place[..len].copy_from_slice(bytes);
        self.let_write(id);
        len
    }

    /// Something was read, perhaps: who waited at the other end may write again.
    fn let_write(&mut self, id: EndId) {
        if self.end(id).is_none() {
            return;
        }
        let at = self.now + self.flight_time();
        if let Some(peer) = self.end(id.peer())
            && peer.wants_writable
        {
            peer.wants_writable = false;
            self.schedule(at, Event::Socket(id.peer(), SocketEvent::Writable));
        }
    }

    /// Ends our direction in order.
    pub fn shutdown(&mut self, id: EndId) {
        let Some(end) = self.end(id) else { return };
        if !end.fin_sent && !end.closed {
            end.fin_sent = true;
            self.fly(id.peer(), Piece::End(Ended::Eof), 0);
        }
    }

    /// Lets go of an end; by a reset when wanted, or when something was not read.
    pub fn close(&mut self, id: EndId, reset: bool) {
        let Some(end) = self.end(id) else { return };
        if end.closed {
            return;
        }
        end.closed = true;
        let reset = reset || end.pipe.readable() > 0;
        let fin_sent = end.fin_sent;
        end.pipe.drop_arrived();
        if reset || !fin_sent {
            let how = if reset { Ended::Reset } else { Ended::Eof };
            self.fly(id.peer(), Piece::End(how), 0);
        }
        self.forget(id.stream);
    }

    /// Drops a stream that nobody has.
    fn forget(&mut self, stream: u32) {
        let gone = self.streams.get(stream).is_some_and(|s| {
            s.ends.iter().all(|e| e.closed || e.owner.is_none())
                && s.ends.iter().all(|e| e.flight.is_empty())
        });
        if gone {
            self.streams.remove(stream);
        }
    }

    /// A process ended: the kernel closes its sockets.
    pub fn exit(&mut self, node: Node) {
        self.listening.retain(|l| l.0 != node);
        for stream in self.streams.numbers() {
            for id in (0..2).map(|side| EndId { stream, side }) {
                if self.owner(id) == Some(node) {
                    self.close(id, false);
                }
            }
        }
    }

    /// A process died: its sockets are reset, or nobody is told for a while.
    pub fn crash(&mut self, node: Node) {
        self.listening.retain(|l| l.0 != node);
        let half_open = self.faults.half_open.happens_mostly(&mut self.prng);
        if half_open {
            self.injected.add(Fault::HalfOpen);
        }
        for stream in self.streams.numbers() {
            for side in 0..2 {
                let id = EndId { stream, side };
                if self.owner(id) != Some(node) {
                    continue;
                }
                // Keepalive finds out in the end.
                let late = 10 * SECOND + self.prng.below(8 * SECOND);
                if let Some(end) = self.end(id) {
                    end.closed = true;
                    end.ghost = half_open;
                    end.pipe.drop_arrived();
                }
                self.fly(id.peer(), Piece::End(Ended::Reset), if half_open { late } else { 0 });
            }
            self.forget(stream);
        }
    }
}
