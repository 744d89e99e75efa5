//! What clients sent and backends saw and answered, by the stamp of the request: what the
//! data-plane checkers compare.

use crate::checkers::d16::Half;
use crate::model::lookup::Url;
use crate::network::Time;
use crate::pace::Pace;
use crate::tunnel::Ends;
use std::collections::BTreeMap;

/// A request as its client meant it.
#[derive(Clone, Debug)]
pub struct Request {
    /// `connection.number`, unique in a run.
    pub stamp: String,
    pub router: usize,
    /// Address and port the client connected to.
    pub address: std::net::SocketAddr,
    /// Over HTTPS: the listener that its connection's hello chose, Gateway and name.
    pub secured: Option<(String, String)>,
    pub method: &'static str,
    pub host: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub is_chunked: bool,
    /// Trailers follow the body.
    pub is_trailed: bool,
    /// It asks for WebSocket.
    pub is_upgrade: bool,
    /// It is of HTTP/1.0.
    pub is_old: bool,
    /// When the last byte was sent.
    pub whole_at: Time,
    /// Where it takes its time.
    pub pace: Option<Pace>,
    /// The client closes behind the answer.
    pub closes: bool,
    pub sent_at: Time,
}

/// What a backend did with a request.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The backend's address, which is its name.
    pub backend: String,
    /// What it was asked for.
    pub url: Url,
    pub status: u16,
    /// The length that an answer without a body says another one has.
    pub described: Option<u64>,
    /// The body it answered with.
    pub body: Vec<u8>,
    /// The whole request had come.
    pub is_whole: bool,
    /// It did not send all of it.
    pub truncated: bool,
    /// Trailers follow the body.
    pub is_trailed: bool,
}

/// The answer to the hello of a TLS connection.
#[derive(Clone, Debug)]
pub struct Greeting {
    pub router: usize,
    pub address: std::net::SocketAddr,
    pub began: Time,
    /// The server name asked for; empty: none.
    pub name: String,
    /// The listener: Gateway and name.
    pub listener: (String, String),
    pub chain: String,
}

/// A whole request as a backend got it.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub stamp: String,
    /// The backend's address.
    pub backend: String,
    pub url: Url,
    /// X-Forwarded-Host, -Proto and -Port.
    pub forwarded: [Option<String>; 3],
    /// The edited field.
    pub edited: Option<String>,
}

/// A response as its client got it.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Content-Length.
    pub length: Option<u64>,
    pub stamp: Option<String>,
    pub backend: Option<String>,
    /// Where it sends the client.
    pub location: Option<String>,
    /// The edited field as the backend saw it; None: it did not.
    pub seen: Option<String>,
    /// The edited field of the response.
    pub edited: Option<String>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// It says that the connection closes.
    pub closes: bool,
    /// When its head arrived.
    pub at: Time,
}

/// A kept connection that its backend ended in the calm: it may have taken one request with it.
#[derive(Clone, Debug)]
pub struct Shed {
    pub router: usize,
    /// The backend's address.
    pub backend: String,
    pub at: Time,
}

/// All requests of a run that are not forgotten.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The last number in a stamp.
    pub stamped: u64,
    pub requests: BTreeMap<String, Request>,
    pub attempts: BTreeMap<String, Vec<Attempt>>,
    /// What arrived at backends and was not judged yet.
    pub arrivals: Vec<Arrival>,
    /// Connections that ended, of those that excuse no request yet.
    pub sheds: Vec<Shed>,
    /// What the ends of tunnels did.
    pub tunnels: BTreeMap<String, Ends>,
    /// Messages that came with trailers.
    pub trailed: u64,
    /// Tunnels whose client had all that the backend sent, and its end.
    pub tunnels_whole: u64,
    /// Answers to hellos that were not judged yet.
    pub greetings: Vec<Greeting>,
    /// Clients that ended their direction, and were not judged yet.
    pub halves: Vec<Half>,
}

impl Ledger {
    /// Whether a connection of a router to one of these backends ended since then; it is taken, as
    /// one connection carries one request at a time.
    pub fn takes_shed(&mut self, router: usize, backends: &[String], since: Time) -> bool {
        let fits = |s: &Shed| s.router == router && s.at >= since && backends.contains(&s.backend);
        let found = self.sheds.iter().position(fits);
        found.map(|index| self.sheds.remove(index)).is_some()
    }
}

/// Bytes that only this stamp has.
pub fn body_of(stamp: &str, salt: &str, len: usize) -> Vec<u8> {
    let seed = format!("{stamp}/{salt}/").into_bytes();
    let mut body = seed.repeat(len.div_ceil(seed.len()));
    body.truncate(len);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_ended_excuses_one_request_of_its_own() {
        let shed = |router, at| Shed { router, backend: "b:1".into(), at };
        let mut ledger = Ledger { sheds: vec![shed(0, 5), shed(1, 9)], ..Ledger::default() };
        let names = ["a:1".to_string(), "b:1".to_string()];
        assert!(!ledger.takes_shed(0, &names, 6), "it ended before");
        assert!(!ledger.takes_shed(0, &names[..1], 5), "another backend's");
        assert!(ledger.takes_shed(0, &names, 5));
        assert!(!ledger.takes_shed(0, &names, 5), "it is taken");
        assert!(ledger.takes_shed(1, &names, 9));
    }
}
