//! The driver of a router's worker over simulated streams: the simulator's `Io`.
//!
//! In: calls of the worker. Out: the same on the network, and events that the router delivers.
//! Partial writes, back-pressure and backlogs are as with sockets.

use crate::checkers::d6::{Head, Strict};
use crate::faults::Fault;
use crate::network::{EndId, Network, Node};
use serval::config::snapshot::Bind;
use serval::limits::{IO_BUFFER_BYTES, IO_BUFFER_HEADROOM_BYTES, IO_BUFFER_TAILROOM_BYTES};
use serval::router::io::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

/// Endpoints lie here; everything else is refused.
pub const BACKEND_NET: [u8; 2] = [10, 1];

/// Whether something is there.
pub fn is_backend(address: &SocketAddr) -> bool {
    matches!(address, SocketAddr::V4(v4) if v4.ip().octets()[..2] == BACKEND_NET)
}

/// One connection of the worker.
#[derive(Debug)]
pub struct Wire {
    pub generation: u32,
    pub end: EndId,
    queue: VecDeque<Chunk>,
    more: Option<Chunk>,
    is_paused: bool,
    shut_wanted: bool,
    is_shut: bool,
    is_end_told: bool,
    is_broken: bool,
    is_open: bool,
    /// The hello of a TLS connection as far as it came: a server name and the end of its line.
    hello: Option<Vec<u8>>,
    /// Reads along what goes to a backend.
    strict: Option<Strict>,
    /// The turn in which its bytes came, while they are not read.
    waits_since: Option<u64>,
}

impl Wire {
    /// A connection that is being made.
    pub fn new(generation: u32, end: EndId) -> Wire {
        Wire {
            generation,
            end,
            queue: VecDeque::new(),
            more: None,
            is_paused: false,
            shut_wanted: false,
            is_shut: false,
            is_end_told: false,
            is_broken: false,
            is_open: false,
            hello: None,
            strict: None,
            waits_since: None,
        }
    }

    /// A connection that was accepted.
    pub fn accepted(generation: u32, end: EndId, is_tls: bool) -> Wire {
        let hello = is_tls.then(Vec::new);
        Wire { is_open: true, hello, ..Wire::new(generation, end) }
    }
}

/// The connections by the worker's index, which is small: an array is the quickest.
#[derive(Debug, Default)]
struct Wires(Vec<Option<Wire>>);

impl Wires {
    fn get(&self, index: u32) -> Option<&Wire> {
        self.0.get(index as usize)?.as_ref()
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut Wire> {
        self.0.get_mut(index as usize)?.as_mut()
    }

    /// What had the index before.
    fn insert(&mut self, index: u32, wire: Wire) -> Option<Wire> {
        let len = self.0.len().max(index as usize + 1);
        self.0.resize_with(len, || None);
        self.0[index as usize].replace(wire)
    }

    fn remove(&mut self, index: u32) -> Option<Wire> {
        self.0.get_mut(index as usize)?.take()
    }

    /// Those that there are, in the order of their indices.
    fn all(&self) -> impl Iterator<Item = (u32, &Wire)> {
        (0..).zip(&self.0).filter_map(|(index, wire)| Some((index, wire.as_ref()?)))
    }

    /// The first one from `from` on that is wanted, or the first one before it.
    fn in_turn(&self, from: u32, wanted: impl Fn(&Wire) -> bool) -> Option<u32> {
        let is_wanted = |wire: &Option<Wire>| wire.as_ref().is_some_and(&wanted);
        let from = self.0.len().min(from as usize);
        let (before, behind) = self.0.split_at(from);
        let found = behind.iter().position(is_wanted).map(|at| from + at);
        Some(found.or_else(|| before.iter().position(is_wanted))? as u32)
    }
}

/// What is to be told to the worker.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    Drained,
    WriteFailed,
    Closed,
}

/// What a read found.
#[derive(Debug)]
pub enum Found {
    Nothing,
    Data(ConnId, Chunk),
    End(ConnId, End),
    /// A piece of a hello.
    Piece,
    /// A hello for this server name.
    Hello(ConnId, Vec<u8>),
    /// Data, but no buffer.
    Starved,
}

/// The driver's state.
#[derive(Debug)]
pub struct Driver {
    pub node: Node,
    memory: Vec<Vec<u8>>,
    free: Vec<Buf>,
    wires: Wires,
    pub events: VecDeque<(ConnId, Told)>,
    pub bound: BTreeMap<u16, SocketAddr>,
    /// Binds whose connections begin with a hello.
    tls: BTreeSet<u16>,
    /// Connections that wait to be accepted, by bind.
    pub backlog: VecDeque<(u16, EndId)>,
    /// Where the worker asked to connect to in this turn.
    pub connects: Vec<SocketAddr>,
    /// Requests that went to backends and D6 has not judged.
    pub heads: Vec<Head>,
    /// Bytes that went to backends.
    pub sent_up: u64,
    /// Turns of the worker.
    pub turns: u64,
    /// For how many of them the bytes of a client waited that were read last.
    pub waited: u64,
    /// Ports that cannot be bound now.
    pub failing_ports: Vec<u16>,
    /// Next wire to be looked at.
    turn: u32,
}

impl Driver {
    /// With so many buffers.
    pub fn new(node: Node, buffers: u32) -> Driver {
        Driver {
            node,
            memory: (0..buffers).map(|_| vec![0xee; IO_BUFFER_BYTES as usize]).collect(),
            free: (0..buffers).rev().map(Buf::new).collect(),
            wires: Wires::default(),
            events: VecDeque::new(),
            bound: BTreeMap::new(),
            tls: BTreeSet::new(),
            backlog: VecDeque::new(),
            connects: Vec::new(),
            heads: Vec::new(),
            sent_up: 0,
            turns: 0,
            waited: 0,
            failing_ports: Vec::new(),
            turn: 0,
        }
    }

    /// Buffers in the pool, in the driver's hands, and all.
    pub fn buffers(&self) -> (usize, usize, usize) {
        let held = self.wires.all().map(|(_, w)| w.queue.len() + usize::from(w.more.is_some()));
        (self.free.len(), held.sum(), self.memory.len())
    }

    /// Who waits begins to wait now.
    pub fn forget_waits(&mut self) {
        self.wires.0.iter_mut().flatten().for_each(|wire| wire.waits_since = None);
    }

    /// The connection of an end.
    pub fn conn(&self, end: EndId) -> Option<ConnId> {
        let found = self.wires.all().find(|(_, w)| w.end == end);
        found.map(|(index, w)| ConnId { index, generation: w.generation })
    }

    /// A connection that was asked for is open; whether the worker is to be told.
    pub fn opened(&mut self, end: EndId) -> Option<ConnId> {
        let id = self.conn(end)?;
        self.wires.get_mut(id.index)?.is_open = true;
        Some(id)
    }

    /// Bytes came.
    pub fn waits(&mut self, id: ConnId) {
        let turns = self.turns;
        let wire = self.wires.get_mut(id.index).filter(|w| !w.is_paused && w.strict.is_none());
        if let Some(wire) = wire {
            wire.waits_since.get_or_insert(turns);
        }
    }

    /// Puts back what the driver holds for a wire.
    fn release(&mut self, wire: &mut Wire) {
        let chunks = wire.queue.drain(..).chain(wire.more.take());
        self.free.extend(chunks.map(|c| c.buf));
    }

    /// Writes what waits, as far as the window lets it.
    pub fn flush(&mut self, index: u32, net: &mut Network) {
        let Some(wire) = self.wires.get_mut(index) else { return };
        let id = ConnId { index, generation: wire.generation };
        let had = !wire.queue.is_empty();
        while let Some(chunk) = wire.queue.front_mut() {
            let bytes = &self.memory[chunk.buf.index() as usize][chunk.range()];
            let Some(taken) = net.write(wire.end, bytes) else {
                wire.is_broken = true;
                break;
            };
            (chunk.start, chunk.len) = (chunk.start + taken as u32, chunk.len - taken as u32);
            if chunk.len > 0 {
                break;
            }
            let done = wire.queue.pop_front().map(|c| c.buf);
            self.free.extend(done);
        }
        if wire.is_broken && had {
            let chunks = core::mem::take(&mut wire.queue);
            self.free.extend(chunks.into_iter().map(|c| c.buf));
            self.events.push_back((id, Told::WriteFailed));
        } else if had && wire.queue.is_empty() {
            self.events.push_back((id, Told::Drained));
        }
        if wire.shut_wanted && wire.queue.is_empty() && !wire.is_shut && !wire.is_broken {
            wire.is_shut = true;
            net.shutdown(wire.end);
        }
    }

    /// Accepts a connection on a bind.
    pub fn accept(&mut self, bind: u16, id: ConnId, end: EndId) {
        let wire = Wire::accepted(id.generation, end, self.tls.contains(&bind));
        self.wires.insert(id.index, wire);
    }

    /// Answers a hello; nothing was sent before, so that the window takes it.
    pub fn greet(&mut self, id: ConnId, line: &str, net: &mut Network) {
        let Some(wire) = self.wires.get(id.index) else { return };
        let taken = net.write(wire.end, line.as_bytes());
        assert!(taken.is_none_or(|taken| taken == line.len()), "a window has room for a line");
    }

    /// Data or an end for some connection, each in turn.
    pub fn read(&mut self, net: &mut Network, most: usize) -> Found {
        let waits = |w: &Wire| {
            let (readable, ended) = if w.is_open { net.came(w.end) } else { (0, None) };
            let end = ended.is_some() && !w.is_end_told;
            let reset = ended == Some(crate::network::Ended::Reset);
            (readable > 0 || end) && !w.is_paused || end && reset
        };
        let Some(index) = self.wires.in_turn(self.turn, waits) else { return Found::Nothing };
        self.turn = index + 1;
        let Some(wire) = self.wires.get_mut(index) else { return Found::Nothing };
        let id = ConnId { index, generation: wire.generation };
        if net.readable(wire.end) == 0 {
            wire.is_end_told = true;
            let reset = net.ended(wire.end) == Some(crate::network::Ended::Reset);
            return Found::End(id, if reset { End::Reset } else { End::Eof });
        }
        let waited = wire.waits_since.take().map_or(0, |since| self.turns - since);
        if let Some(hello) = &mut wire.hello {
            hello.extend(net.read(wire.end, most));
            if hello.pop_if(|last| *last == b'\n').is_none() {
                return Found::Piece;
            }
            return Found::Hello(id, wire.hello.take().expect("just looked at"));
        }
        let fresh = |buf| Chunk { buf, start: IO_BUFFER_HEADROOM_BYTES, len: 0 };
        let chunk = wire.more.take().or_else(|| self.free.pop().map(fresh));
        let Some(mut chunk) = chunk else {
            wire.waits_since = Some(self.turns - waited);
            return Found::Starved;
        };
        let at = chunk.range().end;
        let room = (IO_BUFFER_BYTES - IO_BUFFER_TAILROOM_BYTES) as usize - at;
        assert!(room > 0, "the core left no room to read into");
        self.waited = waited;
        let place = &mut self.memory[chunk.buf.index() as usize][at..at + room.min(most)];
        let len = net.read_into(wire.end, place);
        if let Some(strict) = &mut wire.strict {
            strict.heard(&place[..len]);
        }
        chunk.len += len as u32;
        Found::Data(id, chunk)
    }
}

/// What the worker sees during a turn.
#[derive(Debug)]
pub struct Face<'a> {
    pub driver: &'a mut Driver,
    pub net: &'a mut Network,
}

impl Face<'_> {
    fn wire(&mut self, id: ConnId) -> &mut Wire {
        let wire = self.driver.wires.get_mut(id.index).expect("a connection of the driver");
        assert_eq!(wire.generation, id.generation, "the core uses live handles");
        wire
    }
}

impl Face<'_> {
    /// Reads along what goes to a backend.
    fn read_along(&mut self, id: ConnId, chunk: &Chunk) {
        let Driver { wires, memory, heads, sent_up, .. } = &mut *self.driver;
        let wire = wires.get_mut(id.index).expect("a connection of the driver");
        let Some(strict) = &mut wire.strict else { return };
        let bytes = &memory[chunk.buf.index() as usize][chunk.range()];
        *sent_up += bytes.len() as u64;
        if let Err(wrong) = strict.sent(bytes, heads) {
            let text = format!("{:?} sent {wrong}", self.driver.node);
            self.net.trace.violated(self.net.now, "D6", text);
        }
    }
}

impl Io for Face<'_> {
    fn bytes(&self, buf: &Buf) -> &[u8] {
        &self.driver.memory[buf.index() as usize]
    }

    fn bytes_mut(&mut self, buf: &mut Buf) -> &mut [u8] {
        &mut self.driver.memory[buf.index() as usize]
    }

    fn take(&mut self) -> Option<Buf> {
        self.driver.free.pop()
    }

    fn put(&mut self, buf: Buf) {
        self.driver.free.push(buf);
    }

    fn send(&mut self, id: ConnId, chunk: Chunk) -> Sent {
        assert!(chunk.len > 0, "nothing is sent");
        let wire = self.wire(id);
        assert!(!wire.shut_wanted, "nothing is sent after shutdown");
        self.read_along(id, &chunk);
        let wire = self.wire(id);
        if wire.is_broken {
            self.driver.free.push(chunk.buf);
            return Sent::Out;
        }
        let waited = !wire.queue.is_empty();
        wire.queue.push_back(chunk);
        if waited {
            return Sent::Queued;
        }
        self.driver.flush(id.index, self.net);
        let drained = matches!(self.driver.events.back(), Some((i, Told::Drained)) if *i == id);
        if drained {
            self.driver.events.pop_back();
        }
        if self.wire(id).queue.is_empty() { Sent::Out } else { Sent::Queued }
    }

    fn shutdown(&mut self, id: ConnId) {
        self.wire(id).shut_wanted = true;
        self.driver.flush(id.index, self.net);
    }

    fn read_more(&mut self, id: ConnId, chunk: Chunk) {
        let wire = self.wire(id);
        assert!(wire.more.is_none(), "one chunk at a time");
        wire.more = Some(chunk);
    }

    fn connect(&mut self, id: ConnId, to: SocketAddr) -> Result<(), Errno> {
        self.driver.connects.push(to);
        if !is_backend(&to) {
            return Err(Errno(101));
        }
        if self.net.lacks_ports() {
            return Err(Errno(99));
        }
        let end = self.net.connect(self.driver.node, Node::Backends, to);
        let wire = Wire { strict: Some(Strict::default()), ..Wire::new(id.generation, end) };
        let before = self.driver.wires.insert(id.index, wire);
        assert!(before.is_none(), "the index was in use");
        Ok(())
    }

    fn close(&mut self, id: ConnId, how: Close) {
        self.wire(id);
        let mut wire = self.driver.wires.remove(id.index).expect("just looked at");
        self.driver.release(&mut wire);
        self.driver.events.retain(|(i, _)| *i != id);
        self.net.close(wire.end, how == Close::Reset);
        self.driver.events.push_back((id, Told::Closed));
    }

    fn pause(&mut self, id: ConnId) {
        let wire = self.wire(id);
        assert!(!wire.is_paused);
        (wire.is_paused, wire.waits_since) = (true, None);
    }

    fn resume(&mut self, id: ConnId) {
        let wire = self.wire(id);
        assert!(wire.is_paused);
        wire.is_paused = false;
    }

    fn listen(&mut self, bind: BindId, at: &Bind) -> Result<(), Errno> {
        // As the worker has it, whether it can listen or not.
        match at.is_tls {
            true => self.driver.tls.insert(bind.0),
            false => self.driver.tls.remove(&bind.0),
        };
        let at = SocketAddr::new(at.address, at.port);
        if self.driver.failing_ports.contains(&at.port()) {
            self.net.injected.add(Fault::BindFailures);
            return Err(Errno(98));
        }
        assert!(self.net.listen(self.driver.node, at), "listens twice at {at}");
        assert!(self.driver.bound.insert(bind.0, at).is_none());
        Ok(())
    }

    fn unlisten(&mut self, bind: BindId) {
        let at = self.driver.bound.remove(&bind.0).expect("was listening");
        self.net.unlisten(self.driver.node, at);
        // As the kernel: who was not accepted yet is reset.
        let (gone, waits) = self.driver.backlog.drain(..).partition(|(b, _)| *b == bind.0);
        self.driver.backlog = waits;
        let gone: VecDeque<(u16, EndId)> = gone;
        gone.into_iter().for_each(|(_, end)| self.net.close(end, true));
    }
}
