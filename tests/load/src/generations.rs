//! Changes one HTTPRoute again and again, each change seen served before the next.
//!
//! In: the API server behind `kubectl proxy`, the router's admin port. Out: for each generation how
//! long it took from the PATCH to the router's /status saying that all workers serve it. Each
//! generation's backend and weight are its own, so each content, and so each checksum, is new.

use crate::expected::Rotation;
use crate::http::{Broken, Head, Wire, message};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A change must be served within this.
const CONFIRM_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at /status.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Where things are.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// `kubectl proxy`.
    pub api: SocketAddr,
    /// The router's admin port.
    pub admin: SocketAddr,
    /// The HTTPRoute, or the Secret, in the namespace `default`.
    pub route: &'a str,
}

/// Rotations are not faster than this, so that there is load between any two.
const ROTATE_EVERY: Duration = Duration::from_millis(40);

/// What the router says it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Status {
    epoch: u64,
    generation: u64,
    checksum: String,
    ready: bool,
}

/// A server that is asked again and again, over one connection as long as that lasts.
struct Asked {
    address: SocketAddr,
    wire: Option<Wire>,
}

impl Asked {
    fn new(address: SocketAddr) -> Asked {
        Asked { address, wire: None }
    }

    fn ask(&mut self, request: &[u8]) -> Result<(u16, String), Broken> {
        // A kept connection may have ended meanwhile: once more, on a new one.
        if let Some(wire) = self.wire.take()
            && let Ok(answer) = self.ask_on(wire, request)
        {
            return Ok(answer);
        }
        let wire = Wire::connect(self.address)?;
        self.ask_on(wire, request)
    }

    fn ask_on(&mut self, mut wire: Wire, request: &[u8]) -> Result<(u16, String), Broken> {
        wire.send(request)?;
        let head: Head = wire.head()?;
        let body = wire.body(&head)?;
        if !head.closes() {
            self.wire = Some(wire);
        }
        Ok((head.status()?, String::from_utf8_lossy(&body).into_owned()))
    }
}

fn status(admin: &mut Asked) -> Result<Status, String> {
    let request = "GET /status HTTP/1.1\r\nHost: router\r\n\r\n";
    let answer = admin.ask(request.as_bytes()).map_err(|broken| format!("{broken:?}"))?;
    match answer {
        (200, text) => read_status(&text).ok_or(format!("/status: {text}")),
        (code, text) => Err(format!("/status: {code} {text}")),
    }
}

fn read_status(text: &str) -> Option<Status> {
    let value = |name: &str| {
        let rest = text.split_once(&format!("\"{name}\":"))?.1;
        Some(rest.split([',', '}']).next()?.trim_matches('"').to_string())
    };
    Some(Status {
        epoch: value("epoch")?.parse().ok()?,
        generation: value("generation")?.parse().ok()?,
        checksum: value("checksum")?,
        ready: value("ready")? == "true",
    })
}

fn patch_route(api: &mut Asked, route: &str, backend: &str, weight: u64) -> Result<(), String> {
    let body = format!(
        r#"{{"spec":{{"rules":[{{"backendRefs":[{{"name":"{backend}","port":80,"weight":{weight}}}]}}]}}}}"#
    );
    let group = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes";
    patch(api, &format!("{group}/{route}"), &body)
}

/// Puts FILE.crt and FILE.key into a Secret.
fn patch_secret(api: &mut Asked, secret: &str, chain: &str) -> Result<(), String> {
    let read = |file: &str| {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        Ok::<_, String>(text.replace('\n', "\\n"))
    };
    let (chain, key) = (read(chain)?, read(&chain.replace(".crt", ".key"))?);
    let body = format!(r#"{{"stringData":{{"tls.crt":"{chain}","tls.key":"{key}"}}}}"#);
    patch(api, &format!("/api/v1/namespaces/default/secrets/{secret}"), &body)
}

fn patch(api: &mut Asked, path: &str, body: &str) -> Result<(), String> {
    let lines = format!(
        "PATCH {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
         Content-Type: application/merge-patch+json\r\n"
    );
    match api.ask(&message(&lines, body.as_bytes(), false)) {
        Ok((200, _)) => Ok(()),
        Ok((code, text)) => Err(format!("PATCH: {code} {text}")),
        Err(broken) => Err(format!("PATCH: {broken:?}")),
    }
}

/// Microseconds that the changes took, sorted.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// The API server's answer to the PATCH.
    pub patched: Vec<u64>,
    /// From before the PATCH to the confirmation.
    pub confirmed: Vec<u64>,
}

/// Runs `count` changes.
pub fn run(places: Places<'_>, rotation: &Rotation, count: u64) -> Result<Times, String> {
    let (mut api, mut admin) = (Asked::new(places.api), Asked::new(places.admin));
    let mut served = status(&mut admin)?;
    let mut checksums = HashSet::from([served.checksum.clone()]);
    let mut times = Times::default();
    for _ in 0..count {
        let from = Instant::now();
        let generation = rotation.begin();
        patch_route(&mut api, places.route, rotation.backend(generation), generation + 1)?;
        times.patched.push(from.elapsed().as_micros() as u64);
        let now = confirmed(&mut admin, &served, from)
            .map_err(|error| format!("generation {generation}: {error}"))?;
        if !checksums.insert(now.checksum.clone()) {
            return Err(format!("generation {generation}: {now:?} was served before"));
        }
        served = now;
        rotation.confirm();
        times.confirmed.push(from.elapsed().as_micros() as u64);
    }
    times.patched.sort_unstable();
    times.confirmed.sort_unstable();
    Ok(times)
}

/// Runs `count` rotations of a Secret through these chains; `shown` connects anew, and judges.
pub fn rotate(
    places: Places<'_>,
    rotation: &Rotation,
    chains: &[String],
    count: u64,
    shown: impl Fn() -> Result<(), String>,
) -> Result<Times, String> {
    let (mut api, mut admin) = (Asked::new(places.api), Asked::new(places.admin));
    let mut served = status(&mut admin)?;
    let mut times = Times::default();
    for _ in 0..count {
        let from = Instant::now();
        let generation = rotation.begin();
        patch_secret(&mut api, places.route, &chains[generation as usize % chains.len()])?;
        times.patched.push(from.elapsed().as_micros() as u64);
        let confirmed = confirmed(&mut admin, &served, from);
        served = confirmed.map_err(|error| format!("rotation {generation}: {error}"))?;
        rotation.confirm();
        shown()?;
        times.confirmed.push(from.elapsed().as_micros() as u64);
        std::thread::sleep(ROTATE_EVERY.saturating_sub(from.elapsed()));
    }
    times.patched.sort_unstable();
    times.confirmed.sort_unstable();
    Ok(times)
}

/// Waits until another generation than `old` is served by all workers.
fn confirmed(admin: &mut Asked, old: &Status, from: Instant) -> Result<Status, String> {
    loop {
        let now = status(admin)?;
        let order = |s: &Status| (s.epoch, s.generation);
        if order(&now) < order(old) {
            return Err(format!("{now:?} after {old:?}"));
        }
        if order(&now) > order(old) && now.ready && now.checksum != old.checksum {
            return Ok(now);
        }
        if from.elapsed() > CONFIRM_LIMIT {
            return Err(format!("not served: still {now:?}"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let text = r#"{"boot_id":"1","epoch":2,"generation":17,"checksum":"ab","source":"controller","ready":true,"binds":[{"id":"tcp:1.2.3.4:80","ok":true}]}"#;
        let wanted = Status { epoch: 2, generation: 17, checksum: "ab".into(), ready: true };
        assert_eq!(read_status(text), Some(wanted));
        assert_eq!(read_status("{}"), None);
    }
}
