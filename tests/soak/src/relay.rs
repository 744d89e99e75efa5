//! A link between two ends that can be harmed: a relay in user space, two threads a connection.
//!
//! In: connections to where it listens; a mode. Out: their bytes at the target, as the mode lets
//! them. A mode looks at each piece that was read; what is about whole connections (reset, an end
//! of one direction, a refusal) is done to those there are, and to those that come.
//!
//! A relay cannot lose segments: the kernel has taken what either end sent. So a stall is what a
//! cut cable is to TCP, and a black hole what a middlebox is that forgot a connection: it stays
//! mute, and is reset when the fault ends.

use crate::prng::Prng;
use crate::schedule::Harm;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::Duration;

const READ_BYTES: usize = 16 << 10;
/// So many bytes of a piece are sent one by one, the rest at once.
const SINGLE_BYTES: usize = 256;
/// A writer that cannot write looks so often whether it shall end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const STACK_BYTES: usize = 128 << 10;
/// While connections are reset from time to time, so is the one of each of so many pieces.
const RESET_EVERY: u64 = 16;
/// One in so many pieces is corrupted.
const CORRUPT_EVERY: u64 = 4;

#[derive(Debug)]
struct State {
    harm: Option<Harm>,
    prng: Prng,
    connections: Vec<Weak<Connection>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A link.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    listens: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Connection {
    near: TcpStream,
    far: TcpStream,
    /// Bytes of it were lost.
    is_mute: AtomicBool,
    is_reset: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("relays do not panic")
    }

    fn harm(&self) -> Option<Harm> {
        self.lock().harm
    }

    /// While it is that.
    fn wait_while(&self, harm: Harm) {
        let mut state = self.lock();
        while state.harm == Some(harm) {
            state = self.changed.wait(state).expect("relays do not panic");
        }
    }
}

impl Link {
    /// Relays each (listen, target).
    pub fn start(pairs: &[(SocketAddr, SocketAddr)], prng: Prng) -> Result<Link, String> {
        let state = State { harm: None, prng, connections: Vec::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        for &(listen, target) in pairs {
            let socket = TcpListener::bind(listen).map_err(|e| format!("{listen}: {e}"))?;
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept(socket, listen, target, &shared));
        }
        Ok(Link { shared, listens: pairs.iter().map(|pair| pair.0).collect() })
    }

    /// Does it for so long.
    pub fn harm(&self, harm: Harm, lasts: Duration) {
        self.shared.lock().harm = Some(harm);
        match harm {
            Harm::Refuse => {
                // Wakes those who wait in accept; they drop their sockets.
                for &listen in &self.listens {
                    drop(TcpStream::connect_timeout(&listen, CONNECT_LIMIT));
                }
                std::thread::sleep(lasts);
            }
            Harm::Reset => {
                let pause = Duration::from_millis(300);
                let times = (lasts.as_millis() / pause.as_millis()).max(1);
                for _ in 0..times {
                    self.reset(|_| true);
                    std::thread::sleep(pause);
                }
            }
            Harm::HalfClose => {
                let connections = self.connections();
                for (place, connection) in connections.iter().enumerate() {
                    let end = if place % 2 == 0 { &connection.near } else { &connection.far };
                    let _ = end.shutdown(Shutdown::Write);
                }
                std::thread::sleep(lasts);
            }
            _ => std::thread::sleep(lasts),
        }
        self.shared.lock().harm = None;
        self.shared.changed.notify_all();
        self.reset(|connection| connection.is_mute.load(Ordering::SeqCst));
    }

    fn connections(&self) -> Vec<Arc<Connection>> {
        let mut state = self.shared.lock();
        state.connections.retain(|connection| connection.strong_count() > 0);
        state.connections.iter().filter_map(Weak::upgrade).collect()
    }

    fn reset(&self, which: impl Fn(&Connection) -> bool) {
        self.connections().iter().filter(|c| which(c)).for_each(|c| c.reset());
    }
}

fn accept(socket: TcpListener, listen: SocketAddr, target: SocketAddr, shared: &Arc<Shared>) {
    let mut socket = Some(socket);
    loop {
        let Some(open) = &socket else {
            shared.wait_while(Harm::Refuse);
            socket = TcpListener::bind(listen).ok();
            if socket.is_none() {
                std::thread::sleep(LOOK_EVERY / 10);
            }
            continue;
        };
        let accepted = open.accept();
        if shared.harm() == Some(Harm::Refuse) {
            socket = None;
            continue;
        }
        if let Ok((near, _)) = accepted {
            let shared = Arc::clone(shared);
            let relay = move || connection(near, target, &shared);
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(relay);
            drop(thread.expect("a thread"));
        }
    }
}

fn connection(near: TcpStream, target: SocketAddr, shared: &Arc<Shared>) {
    shared.wait_while(Harm::Stall);
    let Ok(far) = TcpStream::connect_timeout(&target, CONNECT_LIMIT) else {
        abort(&near);
        return;
    };
    let is_prepared = [&near, &far].iter().all(|socket| {
        socket.set_nodelay(true).is_ok() && socket.set_write_timeout(Some(LOOK_EVERY)).is_ok()
    });
    if !is_prepared {
        return;
    }
    let (is_mute, is_reset) = (AtomicBool::new(false), AtomicBool::new(false));
    let both = Arc::new(Connection { near, far, is_mute, is_reset });
    {
        let mut state = shared.lock();
        if state.connections.len() % 64 == 63 {
            state.connections.retain(|connection| connection.strong_count() > 0);
        }
        state.connections.push(Arc::downgrade(&both));
    }
    let (there, shared_too) = (Arc::clone(&both), Arc::clone(shared));
    let back = move || pump(&there, &there.far, &there.near, &shared_too, false);
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(back);
    pump(&both, &both.near, &both.far, shared, true);
    let _ = thread.expect("a thread").join();
}

/// Closing this socket sends a reset.
fn abort(socket: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the option is a whole linger that outlives the call.
    let set = unsafe {
        let option = (&raw const linger).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, option, size)
    };
    assert!(set == 0, "SO_LINGER");
}

impl Connection {
    /// Both ends get a reset, once both threads have let go.
    fn reset(&self) {
        self.is_reset.store(true, Ordering::SeqCst);
        for socket in [&self.near, &self.far] {
            abort(socket);
            // Wakes the reader, and says nothing to the peer.
            let _ = socket.shutdown(Shutdown::Read);
        }
    }

    fn is_over(&self) -> bool {
        self.is_reset.load(Ordering::SeqCst)
    }

    fn write(&self, mut to: &TcpStream, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && !self.is_over() {
            match to.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return false,
                },
            }
        }
        bytes.is_empty()
    }
}

/// One direction, until its end.
fn pump(
    both: &Connection,
    mut from: &TcpStream,
    to: &TcpStream,
    shared: &Shared,
    is_request: bool,
) {
    let mut room = vec![0; READ_BYTES];
    loop {
        match from.read(&mut room) {
            Ok(0) if both.is_over() => return,
            Ok(0) => {
                if !both.is_mute.load(Ordering::SeqCst) {
                    let _ = to.shutdown(Shutdown::Write);
                }
                return;
            }
            Ok(read) => {
                if !pass(both, &mut room[..read], to, shared, is_request) {
                    both.reset();
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => {
                both.reset();
                return;
            }
        }
    }
}

/// False: the other end has gone.
fn pass(
    both: &Connection,
    bytes: &mut [u8],
    to: &TcpStream,
    shared: &Shared,
    is_request: bool,
) -> bool {
    shared.wait_while(Harm::Stall);
    let harm = {
        // Under the lock, so that whoever ends the fault sees all that are mute.
        let state = shared.lock();
        if state.harm == Some(Harm::BlackHole) {
            both.is_mute.store(true, Ordering::SeqCst);
        }
        state.harm
    };
    if both.is_mute.load(Ordering::SeqCst) {
        return true;
    }
    match harm {
        Some(Harm::Delay) => {
            let pause = shared.lock().prng.range(2, 40);
            std::thread::sleep(Duration::from_millis(pause));
        }
        Some(Harm::OneByte) => {
            let singles = bytes.len().min(SINGLE_BYTES);
            let (singles, rest) = bytes.split_at(singles);
            return singles.chunks(1).all(|byte| both.write(to, byte)) && both.write(to, rest);
        }
        Some(Harm::Corrupt) => {
            let mut state = shared.lock();
            if state.prng.range(0, CORRUPT_EVERY) == 0 {
                let place = state.prng.range(0, bytes.len() as u64) as usize;
                bytes[place] ^= 1 << state.prng.range(0, 8);
            }
        }
        Some(Harm::Reset) if shared.lock().prng.range(0, RESET_EVERY) == 0 => return false,
        Some(Harm::HalfClose) if is_request && shared.lock().prng.range(0, 2) == 0 => {
            let is_written = both.write(to, bytes);
            let _ = to.shutdown(Shutdown::Write);
            return is_written;
        }
        _ => {}
    }
    both.write(to, bytes)
}
