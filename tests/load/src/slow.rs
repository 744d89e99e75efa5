//! Readers that take a long answer slowly or not at all, on every connection there may be.
//!
//! In: a target, how many readers, how long they hold back. Out: what became of each answer once
//! they read on: whole, cut short, refused, or nothing; a byte that is wrong, or more than there
//! should be, is an error. Meanwhile, and at once when they are gone, other requests are tried.

use crate::http::{TIMEOUT, Wire};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A body longer than what sockets and buffers on the way hold.
const BODY_BYTES: usize = 1 << 20;
/// Every other reader takes one byte so often.
const DRIP: Duration = Duration::from_millis(100);
/// Requests of others, one after the other, so far apart.
const OTHERS_EVERY: Duration = Duration::from_millis(200);
/// Requests when the readers are gone.
const AFTER: usize = 200;
const LONG: &str = "/long";

/// The answer of a backend to a target, when it is the long one.
pub fn answer(target: &str) -> Option<Vec<u8>> {
    target.ends_with(LONG).then(|| (0..BODY_BYTES).map(byte).collect())
}

/// Of the long body.
fn byte(place: usize) -> u8 {
    (place % 251) as u8
}

/// How many answers ended in which way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ends {
    whole: usize,
    cut: usize,
    refused: usize,
    nothing: usize,
}

impl Ends {
    fn add(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            self.nothing += 1;
            return Ok(());
        };
        let (head, body) = bytes.split_at(at + 4);
        let head = String::from_utf8_lossy(head);
        if !head.starts_with("HTTP/1.1 200 ") {
            self.refused += 1;
            return Ok(());
        }
        // What makes a cut visible to a client.
        if !head.to_ascii_lowercase().contains(&format!("content-length: {BODY_BYTES}\r\n")) {
            return Err(format!("an answer without its length: {head:?}"));
        }
        if body.len() > BODY_BYTES || body.iter().enumerate().any(|(at, &b)| b != byte(at)) {
            return Err("an answer with bytes that nobody sent".into());
        }
        if body.len() == BODY_BYTES {
            self.whole += 1
        } else {
            self.cut += 1
        }
        Ok(())
    }
}

/// Runs all of it; a line of JSON.
pub fn run(
    address: SocketAddr,
    host: &str,
    count: usize,
    hold: Duration,
) -> Result<String, String> {
    let request = format!("GET {LONG} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let open = |number: usize| {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.write_all(request.as_bytes())?;
        stream.set_nonblocking(number.is_multiple_of(2))?;
        Ok((stream, Vec::new()))
    };
    let readers: std::io::Result<Vec<_>> = (0..count).map(open).collect();
    let mut readers = readers.map_err(|error| format!("{address}: {error}"))?;
    let others = {
        let (host, until) = (host.to_owned(), Instant::now() + hold);
        std::thread::spawn(move || {
            let (mut asked, mut answered) = (0, 0);
            while Instant::now() < until {
                asked += 1;
                answered += usize::from(is_answered(address, &host));
                std::thread::sleep(OTHERS_EVERY);
            }
            (asked, answered)
        })
    };
    let until = Instant::now() + hold;
    while Instant::now() < until {
        for (stream, seen) in readers.iter_mut().step_by(2) {
            let mut one = [0];
            if matches!(stream.read(&mut one), Ok(1)) {
                seen.push(one[0]);
            }
        }
        std::thread::sleep(DRIP);
    }
    let (asked, answered) = others.join().expect("it does not panic");
    // All at once: who still does not read keeps what the others wait for.
    let finish = |(mut stream, mut seen): (TcpStream, Vec<u8>)| {
        std::thread::spawn(move || {
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            // A reset ends it as a cut does.
            let _ = stream.read_to_end(&mut seen);
            std::io::Result::Ok(seen)
        })
    };
    let finished: Vec<_> = readers.into_iter().map(finish).collect();
    let mut ends = Ends::default();
    for reader in finished {
        let seen = reader.join().expect("it does not panic");
        ends.add(&seen.map_err(|error| error.to_string())?)?;
    }
    let after = (0..AFTER).filter(|_| is_answered(address, host)).count();
    if after < AFTER {
        return Err(format!("of {AFTER} requests after the slow readers {after} were answered"));
    }
    let Ends { whole, cut, refused, nothing } = ends;
    Ok(format!(
        r#"{{"slow":{count},"whole":{whole},"cut":{cut},"refused":{refused},"nothing":{nothing},"others":{asked},"others_answered":{answered},"after":{after}}}"#
    ))
}

/// A short request on a connection of its own gets its 200.
fn is_answered(address: SocketAddr, host: &str) -> bool {
    let one = || {
        let mut wire = Wire::connect(address)?;
        let request = format!("GET /short HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        wire.send(request.as_bytes())?;
        let head = wire.head()?;
        wire.body(&head)?;
        head.status()
    };
    matches!(one(), Ok(200))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_a_cut_and_a_wrong_byte_an_error() {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
        let body = answer("/x/long").expect("the long one");
        let whole = [head.as_bytes(), &body].concat();
        let mut ends = Ends::default();
        ends.add(&whole).expect("whole");
        ends.add(&whole[..whole.len() - 1]).expect("cut");
        ends.add(&whole[..head.len() - 1]).expect("nothing");
        ends.add(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").expect("refused");
        assert_eq!(ends, Ends { whole: 1, cut: 1, refused: 1, nothing: 1 });
        let mut wrong = whole.clone();
        wrong[head.len() + 300] ^= 1;
        assert!(ends.add(&wrong).is_err());
        assert!(ends.add(&[&whole[..], b"x"].concat()).is_err());
        assert!(ends.add(b"HTTP/1.1 200 OK\r\n\r\nshort").is_err());
        assert_eq!(answer("/short"), None);
    }
}
