//! What each router says it serves, over mutual TLS, asked again and again.
//!
//! In: the controller's identity; a router's admin port, beside the relays. Out: what all its
//! workers serve, into the ledger, with its time; a violation when that goes back in one process.

use crate::ledger::{Ledger, ROUTES, changes};
use crate::places::Places;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serval_load::http::{Broken, Wire};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(30);
const LIMIT: Duration = Duration::from_secs(5);

/// A router served other changes from this time on, ms since the start.
pub type Confirmed = (u64, [u64; ROUTES]);

/// Watches a router.
#[derive(Debug)]
pub struct Watch {
    router: usize,
    places: Places,
    ledger: Arc<Ledger>,
    start: Instant,
    /// What it served when.
    pub confirmed: Mutex<Vec<Confirmed>>,
    /// What it must not have said.
    pub violations: Mutex<Vec<String>>,
    /// Ends it.
    pub stop: AtomicBool,
}

/// What a router says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Status {
    boot_id: String,
    epoch: u64,
    generation: u64,
    ready: bool,
}

fn read_status(text: &str) -> Option<Status> {
    let value = |name: &str| {
        let rest = text.split_once(&format!("\"{name}\":"))?.1;
        Some(rest.split([',', '}']).next()?.trim_matches('"').to_string())
    };
    Some(Status {
        boot_id: value("boot_id")?,
        epoch: value("epoch")?.parse().ok()?,
        generation: value("generation")?.parse().ok()?,
        ready: value("ready")? == "true",
    })
}

impl Watch {
    /// Of this router.
    pub fn new(router: usize, places: &Places, ledger: &Arc<Ledger>, start: Instant) -> Watch {
        Watch {
            router,
            places: places.clone(),
            ledger: Arc::clone(ledger),
            start,
            confirmed: Mutex::default(),
            violations: Mutex::default(),
            stop: AtomicBool::new(false),
        }
    }

    /// Until it is stopped.
    pub fn work(&self) {
        let mut wire = None;
        let mut last: Option<Status> = None;
        while !self.stop.load(Ordering::SeqCst) {
            if self.look(&mut wire, &mut last).is_none() {
                wire = None;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// None: it did not answer.
    fn look(&self, wire: &mut Option<Wire>, last: &mut Option<Status>) -> Option<()> {
        if wire.is_none() {
            *wire = Some(self.connect()?);
        }
        let wire = wire.as_mut()?;
        let start = self.ledger.starts(self.router);
        let status = read_status(&ask(wire, "/status").ok()?)?;
        let is_known = last.as_ref() == Some(&status);
        if let Some(before) = last
            && before.boot_id == status.boot_id
            && (before.epoch, before.generation) > (status.epoch, status.generation)
        {
            self.complain(format!("{status:?} after {before:?}"));
        }
        *last = Some(status.clone());
        if is_known || !status.ready {
            // What is not ready is looked at again.
            if !status.ready {
                *last = None;
            }
            return Some(());
        }
        let text = ask(wire, "/config").ok()?;
        let again = read_status(&ask(wire, "/status").ok()?)?;
        let Some(serves) = changes(&text) else {
            *last = None;
            return Some(());
        };
        // The same before and after, and adopted by all workers: it served this in between.
        if again != status {
            *last = None;
            return Some(());
        }
        if !self.ledger.confirm(self.router, start, serves) {
            self.complain(format!("changes {serves:?} at {status:?}, older than before"));
        }
        let ms = self.start.elapsed().as_millis() as u64;
        self.confirmed.lock().expect("no panics").push((ms, serves));
        Some(())
    }

    fn complain(&self, text: String) {
        let ms = self.start.elapsed().as_millis();
        let text = format!("{ms} ms: router-{} went back: {text}", self.router);
        self.violations.lock().expect("no panics").push(text);
    }

    fn connect(&self) -> Option<Wire> {
        let folder = format!("{}/identities/serval-controller", self.places.work);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(format!("{folder}/ca.crt")).ok()?).ok()?;
        let chain = CertificateDer::pem_file_iter(format!("{folder}/tls.crt")).ok()?;
        let chain: Vec<CertificateDer<'static>> = chain.collect::<Result<_, _>>().ok()?;
        let key = PrivateKeyDer::from_pem_file(format!("{folder}/tls.key")).ok()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().ok()?;
        let config =
            builder.with_root_certificates(roots).with_client_auth_cert(chain, key).ok()?;
        let name = ServerName::try_from("serval-router").ok()?;
        let socket = TcpStream::connect_timeout(&self.places.admin(self.router), LIMIT).ok()?;
        socket.set_read_timeout(Some(LIMIT)).ok()?;
        socket.set_write_timeout(Some(LIMIT)).ok()?;
        let client = ClientConnection::new(Arc::new(config), name).ok()?;
        Some(Wire::secure(StreamOwned::new(client, socket)))
    }
}

fn ask(wire: &mut Wire, path: &str) -> Result<String, Broken> {
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: router\r\n\r\n").as_bytes())?;
    let head = wire.head()?;
    let body = wire.body(&head)?;
    match head.status()? {
        200 => Ok(String::from_utf8_lossy(&body).into_owned()),
        _ => Err(Broken::Malformed("status")),
    }
}
