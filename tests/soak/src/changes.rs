//! Routes that change all the time, each change with its number in every answer.
//!
//! In: the API server behind `kubectl proxy`; the ledger. Out: patches, each with the version that
//! it changes, so that one whose answer was lost cannot come late and undo a newer one. A change is
//! in the ledger before it is asked for, since nobody knows when a lost one was taken.

use crate::clients::TIMED_ROUTE;
use crate::ledger::{FIELD, Ledger, ROUTERS, ROUTES};
use crate::places::Places;
use crate::prng::Prng;
use serval_load::http::{Broken, Wire, message};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Between two changes.
pub const CHURN_EVERY: Duration = Duration::from_millis(250);
/// After all faults have ended, a change must be served within this: BACKOFF_ERROR_MAX_MS and then
/// some.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// Tries of one change while somebody else (the controller's status) changes the object, too.
const TRIES: u32 = 5;
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const GROUP: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes";

/// Services that a route may have, and the backends behind each.
const SERVICES: [(&str, u8); 5] = [
    ("echo-0", 0b0001),
    ("echo-1", 0b0010),
    ("echo-2", 0b0100),
    ("echo-3", 0b1000),
    ("pair", 0b1100),
];

struct Api {
    wire: Option<Wire>,
    prng: Prng,
    chain: usize,
}

/// Who changes routes.
pub struct Changes {
    places: Places,
    ledger: Arc<Ledger>,
    api: Mutex<Api>,
    begun: AtomicU64,
    accepted: AtomicU64,
    start: Instant,
    /// When which change was begun.
    times: Mutex<Vec<(u64, u64)>>,
}

impl Changes {
    /// Nothing is changed yet.
    pub fn new(places: &Places, ledger: &Arc<Ledger>, prng: Prng, start: Instant) -> Changes {
        Changes {
            places: places.clone(),
            ledger: Arc::clone(ledger),
            api: Mutex::new(Api { wire: None, prng, chain: 0 }),
            begun: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            start,
            times: Mutex::default(),
        }
    }

    /// Begun, and accepted by the API server as far as it said so.
    pub fn counts(&self) -> [u64; 2] {
        [&self.begun, &self.accepted].map(|count| count.load(Ordering::SeqCst))
    }

    /// The first change that was begun at or after this time.
    pub fn first_since(&self, ms: u64) -> Option<u64> {
        let times = self.times.lock().expect("no panics");
        let at = times.partition_point(|(begun, _)| *begun < ms);
        times.get(at).map(|(_, number)| *number)
    }

    /// Changes any route; what the API server does not take is given up.
    pub fn change_any(&self) -> Result<u64, String> {
        let route = self.api.lock().expect("no panics").prng.range(0, ROUTES as u64) as usize;
        self.change(route)
    }

    fn change(&self, route: usize) -> Result<u64, String> {
        let mut api = self.api.lock().expect("no panics");
        let (service, mask) = SERVICES[api.prng.range(0, SERVICES.len() as u64) as usize];
        let number = self.ledger.begin(route, mask);
        self.begun.fetch_add(1, Ordering::SeqCst);
        let ms = self.start.elapsed().as_millis() as u64;
        self.times.lock().expect("no panics").push((ms, number));
        for _ in 0..TRIES {
            let (status, text) = api.ask(&self.places, "GET", &format!("{GROUP}/r{route}"), "")?;
            let version = version(&text).ok_or(format!("GET: {status} {text}"))?;
            let body = patch(route, number, service, &version);
            match api.ask(&self.places, "PATCH", &format!("{GROUP}/r{route}"), &body)? {
                (200, _) => {
                    self.accepted.fetch_add(1, Ordering::SeqCst);
                    return Ok(number);
                }
                (409, _) => {}
                (status, text) => return Err(format!("PATCH: {status} {text}")),
            }
        }
        Err("somebody else was always quicker".into())
    }

    /// Changes every route, and waits until both routers serve that: how long it took.
    pub fn settle(&self) -> Result<Duration, String> {
        let from = Instant::now();
        let mut wanted = [0; ROUTES];
        for (route, wanted) in wanted.iter_mut().enumerate() {
            *wanted = loop {
                match self.change(route) {
                    Ok(number) => break number,
                    Err(text) if from.elapsed() > SETTLE_LIMIT => return Err(text),
                    Err(_) => std::thread::sleep(CHURN_EVERY),
                }
            };
        }
        for router in 0..ROUTERS {
            while self.ledger.served(router) != wanted {
                if from.elapsed() > SETTLE_LIMIT {
                    let serves = self.ledger.served(router);
                    return Err(format!(
                        "router-{router} serves changes {serves:?}, not {wanted:?}, after \
                         {SETTLE_LIMIT:?} without a fault"
                    ));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(from.elapsed())
    }

    /// Puts the next certificate into the Secret of the HTTPS listener.
    pub fn new_certificate(&self) -> Result<(), String> {
        let mut api = self.api.lock().expect("no panics");
        api.chain = (api.chain + 1) % 3;
        let read = |kind: &str| {
            let path = format!("{}/pairs/{}.{kind}", self.places.work, api.chain);
            let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
            Ok::<_, String>(text.replace('\n', "\\n"))
        };
        let (chain, key) = (read("crt")?, read("key")?);
        let body = format!(r#"{{"stringData":{{"tls.crt":"{chain}","tls.key":"{key}"}}}}"#);
        match api.ask(&self.places, "PATCH", "/api/v1/namespaces/default/secrets/soak", &body)? {
            (200, _) => Ok(()),
            (status, text) => Err(format!("PATCH of the Secret: {status} {text}")),
        }
    }
}

impl Api {
    fn ask(
        &mut self,
        places: &Places,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, String), String> {
        let lines = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
             Content-Type: application/merge-patch+json\r\n"
        );
        let bytes = message(&lines, body.as_bytes(), false);
        let mut ask = || {
            let mut wire = match self.wire.take() {
                Some(wire) => wire,
                None => Wire::connect(places.proxy())?,
            };
            wire.limit(ANSWER_LIMIT)?;
            wire.send(&bytes)?;
            let head = wire.head()?;
            let body = wire.body(&head)?;
            if !head.closes() {
                self.wire = Some(wire);
            }
            Ok((head.status()?, String::from_utf8_lossy(&body).into_owned()))
        };
        ask().map_err(|broken: Broken| format!("{method}: {broken:?}"))
    }
}

fn version(object: &str) -> Option<String> {
    let (_, rest) = object.split_once("\"resourceVersion\":\"")?;
    Some(rest.split('"').next()?.to_string())
}

fn patch(route: usize, number: u64, service: &str, version: &str) -> String {
    let timeouts = if route == TIMED_ROUTE { r#","timeouts":{"request":"4s"}"# } else { "" };
    format!(
        r#"{{"metadata":{{"resourceVersion":"{version}"}},"spec":{{"rules":[{{"matches":[{{"path":{{"type":"PathPrefix","value":"/r{route}"}}}}],"filters":[{{"type":"ResponseHeaderModifier","responseHeaderModifier":{{"set":[{{"name":"{FIELD}","value":"{number}"}}]}}}}],"backendRefs":[{{"name":"{service}","port":80}}]{timeouts}}}]}}}}"#
    )
}
