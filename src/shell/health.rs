//! The plain port (`--health`): /healthz, /readyz and /metrics for probes and scrapes, no more.
//!
//! In: what a role says of itself. Out: answers, from a thread of its own with places of its own,
//! so that whoever may reach it cannot keep the admin port from a push.

use super::admin::{Server, Service};
use super::threads::Crew;
use crate::admin::{Connection, Method, Request};
use crate::limits::{HEALTH_ANSWER_BYTES, HEALTH_INPUT_BYTES, MAX_HEALTH_CONNECTIONS};
use crate::metrics::Metrics;
use crate::stdx::{Duration, Now};
use core::sync::atomic::{AtomicBool, Ordering};
use std::format;
use std::net::SocketAddr;
use std::string::String;
use std::sync::Arc;

const INPUT: usize = HEALTH_INPUT_BYTES as usize;
const ANSWER: usize = HEALTH_ANSWER_BYTES as usize;

/// What a role says of itself, to anyone.
pub trait Health {
    /// Ready, or why not.
    fn ready(&self) -> Result<(), &'static str>;

    /// Writes the metrics; None when they do not fit.
    fn metrics(&self, out: &mut [u8]) -> Option<usize>;
}

/// Answers when the path is one of the three; whether it was.
pub fn answer<const I: usize, const R: usize>(
    health: &impl Health,
    connection: &mut Connection<I, R>,
) -> bool {
    match connection.request().path.as_str() {
        "/healthz" => connection.answer_text(200, format_args!("ok")),
        "/readyz" => match health.ready() {
            Ok(()) => connection.answer_text(200, format_args!("ok")),
            Err(why) => connection.answer_text(503, format_args!("{why}")),
        },
        "/metrics" => connection.answer(200, Metrics::CONTENT_TYPE, |out| health.metrics(out)),
        _ => return false,
    }
    true
}

struct Pages<H>(H);

impl<H: Health> Service<INPUT, ANSWER> for Pages<H> {
    fn begin(&mut self, _: usize, request: &Request, _: Now) -> Result<(), (u16, &'static str)> {
        match request.method {
            Method::Get => Ok(()),
            _ => Err((405, "this port only answers GET")),
        }
    }

    fn line(&mut self, _: usize, _: &[u8], _: Now) -> bool {
        true
    }

    fn end(&mut self, _: usize, connection: &mut Connection<INPUT, ANSWER>, _: Now) {
        if !answer(&self.0, connection) {
            connection.answer_text(404, format_args!("no such page on this port"));
        }
    }

    fn owed(&mut self, _: usize, _: &mut Connection<INPUT, ANSWER>, _: Now) {}

    fn piece(&mut self, _: usize, connection: &mut Connection<INPUT, ANSWER>) {
        connection.piece(|_| None);
    }

    fn gone(&mut self, _: usize) {}
}

/// Bytes of its connections: a line of the memory plan.
pub fn bytes() -> u64 {
    Server::<INPUT, ANSWER>::bytes(MAX_HEALTH_CONNECTIONS)
}

/// Binds, and spawns the thread into `crew`.
pub fn spawn(
    address: SocketAddr,
    health: impl Health + Send + 'static,
    stop: &Arc<AtomicBool>,
    crew: &mut Crew,
) -> Result<(), String> {
    let server = Server::<INPUT, ANSWER>::bind(address, MAX_HEALTH_CONNECTIONS, true);
    let mut server = server.map_err(|error| format!("--health {address}: {error}"))?;
    let (mut pages, stop) = (Pages(health), stop.clone());
    crew.spawn("health", move |gate| {
        gate.wait();
        while !stop.load(Ordering::Acquire) {
            server.turn(&mut pages, Duration::from_millis(500));
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    struct Busy;

    impl Health for Busy {
        fn ready(&self) -> Result<(), &'static str> {
            Err("busy")
        }
        fn metrics(&self, out: &mut [u8]) -> Option<usize> {
            out[..4].copy_from_slice(b"a 1\n");
            Some(4)
        }
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let mut out = [0; 512];
        let len = stream.read(&mut out).unwrap();
        String::from_utf8_lossy(&out[..len]).into()
    }

    /// Clients that say nothing take every place; a probe is answered all the same.
    #[test]
    fn three_pages_and_no_other_whoever_else_is_connected() {
        let address = "127.0.0.1:0".parse().unwrap();
        let bound = Server::<INPUT, ANSWER>::bind(address, MAX_HEALTH_CONNECTIONS, true);
        let mut server = bound.unwrap();
        let address = server.address().unwrap();
        let client = std::thread::Builder::new().spawn(move || {
            let silent = (0..2 * MAX_HEALTH_CONNECTIONS).map(|_| TcpStream::connect(address));
            let silent: std::vec::Vec<_> = silent.map(Result::unwrap).collect();
            let requests = ["GET /healthz", "GET /readyz", "GET /metrics", "GET /config"];
            let answers = requests.map(|request| ask(address, request));
            drop(silent);
            (answers, ask(address, "POST /healthz"))
        });
        let (client, mut pages) = (client.unwrap(), Pages(Busy));
        while !client.is_finished() {
            server.turn(&mut pages, Duration::from_millis(20));
        }
        let ([healthz, readyz, metrics, config], post) = client.join().unwrap();
        assert!(healthz.starts_with("HTTP/1.1 200") && healthz.ends_with("ok\n"), "{healthz}");
        assert!(readyz.starts_with("HTTP/1.1 503") && readyz.ends_with("busy\n"), "{readyz}");
        assert!(metrics.ends_with("\r\n\r\na 1\n"), "{metrics}");
        assert!(config.starts_with("HTTP/1.1 404"), "{config}");
        assert!(post.starts_with("HTTP/1.1 405"), "{post}");
    }
}
