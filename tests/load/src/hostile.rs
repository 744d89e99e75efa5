//! Peers that want a TLS server to fail, beside connections that it must keep.
//!
//! In: a target, how many good connections to hold, how many rounds of attacks. Out: whether every
//! held connection still answers, and as many new ones do once they are gone: no slot is lost.
//! Attacks are judged by nothing but that: the server may answer, refuse or reset as it likes.

use crate::http::Wire;
use crate::tls::Tls;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Handshake bytes of a hello: as many as the router takes.
const HELLO_BYTES: usize = 16_384;
/// An attack waits so long for an answer.
const PATIENCE: Duration = Duration::from_millis(300);

/// Runs all of it; how many attacks there were.
pub fn run(
    address: SocketAddr,
    tls: &Tls,
    name: &str,
    held: usize,
    rounds: usize,
) -> Result<usize, String> {
    let open = || -> Result<Vec<Wire>, String> {
        let one = |number| {
            let mut wire = tls.connect(address).map_err(|e| format!("held {number}: {e:?}"))?;
            ask(&mut wire, name)?;
            Ok(wire)
        };
        (0..held).map(one).collect()
    };
    let mut kept = open()?;
    let mut seed = 1;
    let mut attacks = 0;
    for round in 0..rounds {
        for kind in 0..KINDS {
            attack(address, tls, name, kind, &mut seed)
                .map_err(|error| format!("round {round}, kind {kind}: {error}"))?;
            attacks += 1;
        }
        if let Some(wire) = kept.get_mut(round % held.max(1)) {
            ask(wire, name).map_err(|error| format!("after round {round}: {error}"))?;
        }
    }
    for wire in &mut kept {
        ask(wire, name)?;
    }
    drop(kept);
    // The server may still be closing the old ones.
    let mut again = open();
    for _ in 0..50 {
        if again.is_ok() {
            break;
        }
        std::thread::sleep(PATIENCE);
        again = open();
    }
    again.map(|_| attacks)
}

fn ask(wire: &mut Wire, name: &str) -> Result<(), String> {
    let request = format!("GET /held HTTP/1.1\r\nHost: {name}\r\nX-Stamp: h-1\r\n\r\n");
    let mut answer = || {
        wire.send(request.as_bytes())?;
        let head = wire.head()?;
        wire.body(&head)?;
        head.status()
    };
    match answer() {
        Ok(200) => Ok(()),
        other => Err(format!("a held connection: {other:?}")),
    }
}

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

fn garbage(len: usize, seed: &mut u64) -> Vec<u8> {
    (0..len).map(|_| random(seed) as u8).collect()
}

const KINDS: usize = 11;

fn attack(
    address: SocketAddr,
    tls: &Tls,
    name: &str,
    kind: usize,
    seed: &mut u64,
) -> Result<(), String> {
    let refused = |error: std::io::Error| format!("no connection: {error}");
    let mut socket = TcpStream::connect(address).map_err(refused)?;
    socket.set_nodelay(true).map_err(refused)?;
    let good = tls.hello();
    let cut = 1 + random(seed) as usize % (good.len() - 1);
    let mut step = usize::MAX;
    let bytes = match kind {
        // ALPN, key shares, certificate_authorities, groups: lists of the smallest entries.
        0 => hello(name, 16, &listed(&[1, b'x'])),
        1 => hello(name, 51, &listed(&[0x7a, 0x7a, 0, 1, 9])),
        2 => hello(name, 47, &listed(&[0, 1, 9])),
        3 => hello(name, 10, &listed(&[0x7a, 0x7a])),
        4 => good[..cut].to_vec(),
        5 => garbage(20_000, seed),
        6 => {
            step = 1;
            good
        }
        // Records of one byte; behind a hello empty messages, and one without an end.
        7 => [22, 3, 1, 0, 1, 1].repeat(12_000),
        8 => [good, records(&[0; 16_000])].concat(),
        9 => [good, records(&[&[16, 0, 0xff, 0xff][..], &vec![0; 80_000]].concat())].concat(),
        _ => return after_handshake(address, tls, seed),
    };
    send(&mut socket, &bytes, step);
    if random(seed).is_multiple_of(2) {
        let _ = socket.shutdown(Shutdown::Write);
    }
    listen(&mut socket);
    Ok(())
}

/// Records of application data that were never encrypted, behind a good handshake.
fn after_handshake(address: SocketAddr, tls: &Tls, seed: &mut u64) -> Result<(), String> {
    let mut stream = tls.stream(address).map_err(|error| format!("{error:?}"))?;
    let len = 20 + random(seed) as usize % 16_000;
    let record = [&[23, 3, 3][..], &(len as u16).to_be_bytes(), &garbage(len, seed)].concat();
    let half = record.len() / (1 + random(seed) as usize % 2);
    send(&mut stream.sock, &record[..half], usize::MAX);
    if half == record.len() {
        listen(&mut stream.sock);
    }
    Ok(())
}

/// What the server no longer takes is not sent.
fn send(socket: &mut TcpStream, bytes: &[u8], step: usize) {
    let _ = socket.set_write_timeout(Some(PATIENCE));
    for piece in bytes.chunks(step) {
        if socket.write_all(piece).is_err() {
            return;
        }
    }
}

fn listen(socket: &mut TcpStream) {
    let _ = socket.set_read_timeout(Some(PATIENCE));
    let _ = socket.read(&mut [0; 4096]);
}

/// As many of these as an extension of a hello may hold, behind their length.
fn listed(entry: &[u8]) -> Vec<u8> {
    let count = (HELLO_BYTES - 400) / entry.len();
    prefixed(2, &entry.repeat(count))
}

fn prefixed(len_bytes: usize, content: &[u8]) -> Vec<u8> {
    let len = (content.len() as u32).to_be_bytes();
    [&len[4 - len_bytes..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &prefixed(2, content)].concat()
}

/// A hello for TLS 1.3 whose last extension is this.
fn hello(name: &str, kind: u16, content: &[u8]) -> Vec<u8> {
    let sni = [&[0][..], &prefixed(2, name.as_bytes())].concat();
    let mut extensions = extension(0, &prefixed(2, &sni));
    extensions.extend(extension(43, &[2, 3, 4]));
    extensions.extend(extension(13, &[0, 2, 4, 3]));
    if kind != 10 {
        extensions.extend(extension(10, &[0, 2, 0, 29]));
    }
    if kind != 51 {
        let share = [&[0, 29][..], &prefixed(2, &[9; 32])].concat();
        extensions.extend(extension(51, &prefixed(2, &share)));
    }
    extensions.extend(extension(kind, content));
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(prefixed(1, &[9; 32]));
    body.extend(prefixed(2, &[0x13, 0x01, 0x13, 0x02]));
    body.extend(prefixed(1, &[0]));
    body.extend(prefixed(2, &extensions));
    records(&[&[1][..], &prefixed(3, &body)].concat())
}

/// Handshake records of up to 16 KiB.
fn records(message: &[u8]) -> Vec<u8> {
    let record = |piece: &[u8]| [&[22, 3, 3][..], &prefixed(2, piece)].concat();
    message.chunks(1 << 14).flat_map(record).collect()
}
