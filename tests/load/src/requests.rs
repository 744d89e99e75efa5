//! A small load: so many requests over so many connections, every answer looked at.
//!
//! In: `serval-requests ADDRESS:PORT COUNT CONNECTIONS HELD PATH...`. HELD more connections are
//! opened first, each with one answered request, and stay open, so that tables are full while the
//! load runs. Out: one line, `requests=… failed=… reconnects=…`; exit code 1 when one failed.
//!
//! Most requests are small; some have a head of more than a kilobyte or a body of many buffers,
//! so that every pool of the router is used.

#![allow(clippy::disallowed_methods, reason = "a test program with threads of its own")]

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A peer silent for so long is a failure.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Each so many requests one has a large head, and one a large body.
const LARGE_HEAD_EVERY: u64 = 16;
const LARGE_BODY_EVERY: u64 = 64;

struct Load {
    address: SocketAddr,
    count: u64,
    paths: Vec<String>,
    next: AtomicU64,
    failed: AtomicU64,
    reconnects: AtomicU64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, count, connections, held, paths @ ..] = &arguments[..] else {
        eprintln!("usage: serval-requests ADDRESS:PORT COUNT CONNECTIONS HELD PATH...");
        std::process::exit(64);
    };
    let number = |text: &String| text.parse::<u64>().expect("a number");
    let (next, failed, reconnects) = Default::default();
    let (address, count) = (address.parse().expect("ADDRESS:PORT"), number(count));
    let load = Load { address, count, paths: paths.to_vec(), next, failed, reconnects };
    let load = Arc::new(load);
    let held: Vec<_> = (0..number(held)).map(|_| load.hold()).collect();
    let threads: Vec<_> = (0..number(connections))
        .map(|_| {
            let load = load.clone();
            std::thread::spawn(move || load.run())
        })
        .collect();
    for thread in threads {
        thread.join().expect("it does not panic");
    }
    let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    let (failed, reconnects) = (get(&load.failed), get(&load.reconnects));
    println!("requests={} failed={failed} reconnects={reconnects} held={}", load.count, held.len());
    std::process::exit(i32::from(failed > 0));
}

impl Load {
    fn connect(&self) -> Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }

    /// A connection that has had its answer.
    fn hold(&self) -> Option<BufReader<TcpStream>> {
        let connected = self.connect().and_then(|mut c| {
            let answered = self.ask(&mut c, 1)?;
            Ok((c, answered))
        });
        match connected {
            Ok((connection, 200)) => Some(connection),
            other => {
                self.fail(&format!("a connection to hold: {:?}", other.map(|(_, code)| code)));
                None
            }
        }
    }

    /// Takes numbers until all are taken.
    fn run(&self) {
        let mut connection = None;
        loop {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            if number >= self.count {
                return;
            }
            if let Err(error) = self.one(&mut connection, number) {
                self.fail(&format!("request {number}: {error}"));
                connection = None;
            }
        }
    }

    fn one(&self, connection: &mut Option<BufReader<TcpStream>>, number: u64) -> Result<()> {
        let is_reused = connection.is_some();
        let mut open = match connection.take() {
            Some(open) => open,
            None => self.connect()?,
        };
        let answer = self.ask(&mut open, number);
        // An idle connection may be closed at any time: what was not answered at all goes again.
        let code = match answer {
            Err(error) if is_reused && error.kind() == ErrorKind::ConnectionAborted => {
                self.reconnects.fetch_add(1, Ordering::SeqCst);
                open = self.connect()?;
                self.ask(&mut open, number)?
            }
            other => other?,
        };
        *connection = Some(open);
        if code == 200 { Ok(()) } else { Err(Error::other(format!("status {code}"))) }
    }

    fn fail(&self, what: &str) {
        // The first ones tell the rest.
        if self.failed.fetch_add(1, Ordering::SeqCst) < 10 {
            eprintln!("serval-requests: {what}");
        }
    }

    /// One request and its answer's status. ConnectionAborted: closed before any of it came.
    fn ask(&self, connection: &mut BufReader<TcpStream>, number: u64) -> Result<u16> {
        let path = &self.paths[number as usize % self.paths.len()];
        let cookie = if number.is_multiple_of(LARGE_HEAD_EVERY) { 1200 } else { 0 };
        let body = if number.is_multiple_of(LARGE_BODY_EVERY) { 300_000 } else { 0 };
        let method = if body > 0 { "POST" } else { "GET" };
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: load\r\n");
        if cookie > 0 {
            request += &format!("Cookie: {}\r\n", "c".repeat(cookie));
        }
        if body > 0 {
            request += &format!("Content-Length: {body}\r\n");
        }
        request += "\r\n";
        request += &"b".repeat(body);
        let aborted = |_| Error::from(ErrorKind::ConnectionAborted);
        connection.get_mut().write_all(request.as_bytes()).map_err(aborted)?;
        if connection.fill_buf().map_err(aborted)?.is_empty() {
            return Err(Error::from(ErrorKind::ConnectionAborted));
        }
        answer(connection)
    }
}

fn line(connection: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    if line.ends_with("\r\n") { Ok(line.trim_end().into()) } else { Err(cut()) }
}

fn cut() -> Error {
    Error::new(ErrorKind::UnexpectedEof, "cut short")
}

/// Reads one answer to its last byte.
fn answer(connection: &mut BufReader<TcpStream>) -> Result<u16> {
    let status = line(connection)?;
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.ok_or_else(|| Error::other(format!("no status line: {status}")))?;
    let (mut len, mut is_chunked) = (0u64, false);
    loop {
        let field = line(connection)?.to_ascii_lowercase();
        match field.split_once(':') {
            None => break,
            Some(("content-length", value)) => len = value.trim().parse().unwrap_or(0),
            Some(("transfer-encoding", _)) => is_chunked = true,
            Some(_) => {}
        }
    }
    skip(connection, len)?;
    while is_chunked {
        let size = line(connection)?;
        let size = u64::from_str_radix(&size, 16).map_err(|_| cut())?;
        skip(connection, size)?;
        line(connection)?;
        is_chunked = size > 0;
    }
    Ok(code)
}

fn skip(connection: &mut BufReader<TcpStream>, len: u64) -> Result<()> {
    let skipped = std::io::copy(&mut connection.take(len), &mut std::io::sink())?;
    if skipped == len { Ok(()) } else { Err(cut()) }
}
