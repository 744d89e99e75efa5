//! What request number k is, and what its answer must be: decided by k alone.
//!
//! Each request carries its stamp in a header, in its target and all through its body. The answer
//! carries it back in a header and in the body's first line, then the request's body.

use crate::http;

/// Lengths of bodies: none, less than a stamp, some, more than a segment, more than one buffer.
const LENGTHS: [usize; 5] = [0, 5, 700, 5_000, 20_000];
/// One in so many bodies is larger than any buffer of the router.
const LARGE_EVERY: u64 = 101;
const LARGE_BYTES: usize = 150_000;

/// Method, and how its body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// GET.
    Get,
    /// POST with Content-Length.
    Length,
    /// POST in chunks.
    Chunked,
}

impl Form {
    /// The method.
    pub fn method(self) -> &'static str {
        match self {
            Form::Get => "GET",
            Form::Length | Form::Chunked => "POST",
        }
    }
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The one of this thread is used, and kept.
    Kept,
    /// A new one, which the client ends.
    Fresh,
    /// A new one, which the server must end: `Connection: close`.
    Closed,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its stamp.
    pub stamp: String,
    /// Method and framing.
    pub form: Form,
    /// Its connection.
    pub keep: Keep,
    /// Path and query.
    pub target: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Request {
    /// Number `k` of the run named `run`.
    pub fn number(run: &str, k: u64, path: &str) -> Request {
        let stamp = format!("{run}-{k}");
        let form = [Form::Get, Form::Length, Form::Chunked][(k % 3) as usize];
        let keep = match k % 8 {
            3 => Keep::Fresh,
            7 => Keep::Closed,
            _ => Keep::Kept,
        };
        let len = match (form, k % LARGE_EVERY) {
            (Form::Get, _) => 0,
            (_, 0) => LARGE_BYTES,
            (..) => LENGTHS[(k / 3 % 5) as usize],
        };
        let reply = if (k / 5).is_multiple_of(2) { "length" } else { "chunked" };
        let target = format!("{path}/{k}?reply={reply}");
        let body = stamp.bytes().chain([b' ']).cycle().take(len).collect();
        Request { stamp, form, keep, target, body }
    }

    /// As it goes over the wire.
    pub fn bytes(&self, host: &str) -> Vec<u8> {
        let (method, target, stamp) = (self.form.method(), &self.target, &self.stamp);
        let mut lines =
            format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nX-Stamp: {stamp}\r\n");
        if self.keep == Keep::Closed {
            lines.push_str("Connection: close\r\n");
        }
        match self.form {
            Form::Get => format!("{lines}\r\n").into_bytes(),
            form => http::message(&lines, &self.body, form == Form::Chunked),
        }
    }

    /// The body of the backend's answer.
    pub fn answer(&self, backend: &str) -> Vec<u8> {
        answer(backend, self.form.method(), &self.target, &self.stamp, &self.body)
    }
}

/// What a backend answers.
pub fn answer(backend: &str, method: &str, target: &str, stamp: &str, body: &[u8]) -> Vec<u8> {
    [format!("{backend} {method} {target} {stamp}\n").as_bytes(), body].concat()
}

/// The name of the run in a stamp.
pub fn run_of(stamp: &str) -> &str {
    stamp.split_once('-').map_or("", |(run, _)| run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_meet_all_connections_and_lengths() {
        let of = |k| Request::number("r", k, "/p");
        let all: Vec<Request> = (0..3_000).map(of).collect();
        for form in [Form::Get, Form::Length, Form::Chunked] {
            for keep in [Keep::Kept, Keep::Fresh, Keep::Closed] {
                for len in LENGTHS.iter().chain([&LARGE_BYTES]) {
                    let wanted = if form == Form::Get { 0 } else { *len };
                    let met = |r: &&Request| (r.form, r.keep, r.body.len()) == (form, keep, wanted);
                    assert!(all.iter().any(|r| met(&r)), "{form:?} {keep:?} {len}");
                }
            }
        }
        assert!(all[1].body.starts_with(b"r-1 r-1 ") || all[1].body.len() < 8);
        assert_eq!(run_of("abc-17"), "abc");
    }
}
