//! Routers and the controller as real processes, and what the kernel says of them.
//!
//! In: the folder that scripts/soak has made: a copy of the program, identities, state folders, a
//! kubeconfig for each. Out: processes started, stopped, killed, drained, limited; their figures.

use crate::ledger::{Ledger, ROUTES, changes};
use crate::places::Places;
use serval_load::http::Wire;
use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A process that was asked to end, or started, must be there within this.
const END_LIMIT: Duration = Duration::from_secs(20);
const START_LIMIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// Router n.
    Router(usize),
    /// The controller.
    Controller,
}

impl Name {
    /// As its folder is called.
    pub fn text(self) -> String {
        match self {
            Name::Router(n) => format!("router-{n}"),
            Name::Controller => "controller".into(),
        }
    }
}

/// What the kernel says of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Its number.
    pub pid: u32,
    /// KiB.
    pub rss: u64,
    /// KiB.
    pub pss: u64,
    /// KiB that are its own alone.
    pub private: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

/// All three.
#[derive(Debug)]
pub struct Processes {
    places: Places,
    children: Mutex<[Option<Child>; 3]>,
    /// Held while identities change and while one starts, which reads them.
    identities: Mutex<()>,
}

fn seat(name: Name) -> usize {
    match name {
        Name::Router(n) => n,
        Name::Controller => 2,
    }
}

impl Processes {
    /// None runs.
    pub fn new(places: Places) -> Processes {
        Processes { places, children: Mutex::default(), identities: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, [Option<Child>; 3]> {
        self.children.lock().expect("no panics under this lock")
    }

    fn arguments(&self, name: Name) -> Vec<String> {
        let work = &self.places.work;
        let all = match name {
            Name::Router(n) => format!(
                "router --state-dir {work}/state-{n} --admin {} --health {} --identity \
                 {work}/identities/serval-router --max-connections 256 --max-io-buffers 64 \
                 --max-tls-connections 64 --drain-timeout 15",
                self.places.admin(n),
                self.places.health(n),
            ),
            Name::Controller => format!(
                "controller --kubeconfig {work}/kubeconfig --router {} --router {} --identity \
                 {work}/identities/serval-controller",
                self.places.admin_relay(0),
                self.places.admin_relay(1),
            ),
        };
        all.split_whitespace().map(String::from).collect()
    }

    /// Starts it; a router is up when it is ready, or when it answers that it has nothing yet.
    pub fn start(&self, name: Name) -> Result<(), String> {
        let work = &self.places.work;
        let path = format!("{work}/{}.log", name.text());
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| format!("{path}: {error}"))?;
        let err = log.try_clone().map_err(|error| error.to_string())?;
        let program = format!("{work}/bin-{}/serval", name.text());
        let mut command = match name {
            Name::Router(n) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", self.places.netns[n])).arg("--").arg(program);
                command
            }
            Name::Controller => Command::new(program),
        };
        command.args(self.arguments(name)).stdin(Stdio::null()).stdout(log).stderr(err);
        let guard = self.identities.lock().expect("no panics under this lock");
        let child = command.spawn().map_err(|error| format!("{}: {error}", name.text()))?;
        self.lock()[seat(name)] = Some(child);
        let health = match name {
            Name::Router(n) => self.places.health(n),
            Name::Controller => self.places.controller_health(),
        };
        let from = Instant::now();
        while get(health, "/healthz").is_err() {
            if let Some(status) = self.ended(name) {
                return Err(format!("{} has ended by itself: {status}", name.text()));
            }
            if from.elapsed() > START_LIMIT {
                return Err(format!("{} does not answer after {START_LIMIT:?}", name.text()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        drop(guard);
        Ok(())
    }

    fn ended(&self, name: Name) -> Option<String> {
        let mut children = self.lock();
        let child = children[seat(name)].as_mut()?;
        child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// Its number.
    pub fn pid(&self, name: Name) -> u32 {
        self.lock()[seat(name)].as_ref().map_or(0, Child::id)
    }

    /// Sends a signal.
    pub fn signal(&self, name: Name, signal: i32) {
        let pid = self.pid(name);
        assert!(pid > 1, "{} runs", name.text());
        // SAFETY: a system call; the process is our child and was not waited for.
        unsafe { libc::kill(pid as libc::pid_t, signal) };
    }

    /// Waits for its end; an end that nobody asked for, or by another way, is an error.
    fn wait(&self, name: Name, wanted: &str) -> Result<(), String> {
        let from = Instant::now();
        loop {
            if let Some(status) = self.ended(name) {
                self.lock()[seat(name)] = None;
                return match status == wanted {
                    true => Ok(()),
                    false => Err(format!("{} ended: {status}", name.text())),
                };
            }
            if from.elapsed() > END_LIMIT {
                return Err(format!("{} does not end within {END_LIMIT:?}", name.text()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// SIGKILL.
    pub fn kill(&self, name: Name) -> Result<(), String> {
        self.signal(name, libc::SIGKILL);
        self.wait(name, "signal: 9 (SIGKILL)")
    }

    /// SIGTERM, until it has ended by itself.
    pub fn end(&self, name: Name) -> Result<(), String> {
        self.signal(name, libc::SIGTERM);
        self.wait(name, "exit status: 0")
    }

    /// Ends a router in this way, and starts it again with what it has on disk.
    pub fn restart_router(
        &self,
        n: usize,
        ledger: &Ledger,
        end: impl Fn(&Processes, Name) -> Result<(), String>,
    ) -> Result<(), String> {
        ledger.forget(n);
        end(self, Name::Router(n))?;
        let saved = self.saved(n).ok_or(format!("router-{n}: no whole state on disk"))?;
        ledger.restart(n, saved);
        self.start(Name::Router(n))
    }

    /// The changes in a router's saved configuration.
    pub fn saved(&self, n: usize) -> Option<[u64; ROUTES]> {
        let path = format!("{}/state-{n}/snapshot.jsonl", self.places.work);
        changes(&fs::read_to_string(path).ok()?)
    }

    /// Whether none has ended by itself.
    pub fn check(&self) -> Result<(), String> {
        for name in [Name::Router(0), Name::Router(1), Name::Controller] {
            if let Some(status) = self.ended(name) {
                return Err(format!("{} has ended by itself: {status}", name.text()));
            }
        }
        Ok(())
    }

    /// Lets it have so many descriptors beyond those it has; none: as many as before.
    pub fn limit_descriptors(&self, name: Name, beyond: Option<u64>) -> Result<(), String> {
        let pid = self.pid(name);
        let have = self.figures(name)?.descriptors;
        let most = beyond.map_or(16_384, |beyond| have + beyond);
        // SAFETY: plain numbers that outlive the call.
        let set = unsafe {
            let limit = libc::rlimit { rlim_cur: most, rlim_max: 16_384 };
            let none = std::ptr::null_mut();
            libc::prlimit(pid as libc::pid_t, libc::RLIMIT_NOFILE, &raw const limit, none)
        };
        if set == 0 { Ok(()) } else { Err(format!("prlimit: {}", std::io::Error::last_os_error())) }
    }

    /// Takes all that is left of the file system of a router's state, or gives it back.
    pub fn fill_disk(&self, n: usize, full: bool) {
        let path = format!("{}/state-{n}/filler", self.places.work);
        if !full {
            let _ = fs::remove_file(path);
            return;
        }
        let Ok(mut file) = fs::File::create(path) else { return };
        // Until there is no room; what a save took and gives back meanwhile is not taken.
        while std::io::Write::write(&mut file, &[0; 4096]).is_ok() {}
    }

    /// A new certificate for a role, by the same authority.
    pub fn new_identity(&self, role: &str) -> Result<(), String> {
        let work = &self.places.work;
        let _guard = self.identities.lock().expect("no panics under this lock");
        fs::remove_dir_all(format!("{work}/identities/{role}")).map_err(|e| e.to_string())?;
        let made = Command::new(format!("{work}/bin-controller/serval"))
            .args(["identity", "--out", &format!("{work}/identities")])
            .stdout(Stdio::null())
            .status();
        match made {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("serval identity: {other:?}")),
        }
    }

    /// What the kernel says of it.
    pub fn figures(&self, name: Name) -> Result<Figures, String> {
        let pid = self.pid(name);
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
        };
        let rollup = read("smaps_rollup")?;
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
            number.unwrap_or(0)
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_err(|e| e.to_string())?;
        Ok(Figures {
            pid,
            rss: value(&rollup, "Rss:"),
            pss: value(&rollup, "Pss:"),
            private: value(&rollup, "Private_Clean:") + value(&rollup, "Private_Dirty:"),
            descriptors: descriptors.count() as u64,
            threads: value(&read("status")?, "Threads:"),
        })
    }

    /// A number of a router's metrics.
    pub fn metric(&self, n: usize, name: &str) -> Result<u64, String> {
        let text = get(self.places.health(n), "/metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.parse().ok()).ok_or(format!("router-{n}: no metric {name}"))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.lock().iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The body of a GET over a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Result<String, String> {
    let ask = || {
        let mut wire = Wire::connect(address)?;
        let close = "Connection: close\r\n";
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: soak\r\n{close}\r\n").as_bytes())?;
        let head = wire.head()?;
        Ok((head.status()?, wire.body(&head)?))
    };
    match ask().map_err(|broken: serval_load::http::Broken| format!("{path}: {broken:?}"))? {
        (200, body) => Ok(String::from_utf8_lossy(&body).into_owned()),
        (status, _) => Err(format!("{path}: {status}")),
    }
}
