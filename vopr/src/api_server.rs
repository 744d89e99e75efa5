//! The model of the Kubernetes API server: objects with versions and their history, list, watch
//! and WatchList over HTTP/1.1 on simulated streams.
//!
//! In: changes of the workload, requests of the product's watch machines. Out: answers, with
//! bookmarks, stale lists, 410 as status and in the stream, 429, cuts in mid-line, duplicates.
//! Status writes and the Lease do not come over HTTP: they are calls, with conflicts and delays, of
//! the same methods and paths.

use crate::capacities::CRAMPED;
use crate::checkers::{l1, s10};
use crate::faults::{Fault, Injected};
use crate::http::{Message, Next, Reader};
use crate::lease_api::Leases;
use crate::marks::sometimes;
use crate::model::object::{Key, Kind, Object, Spec};
use crate::model::room::Room;
use crate::model::table::Setup;
use crate::network::{EndId, Event, MS, Network, Node, SECOND, SocketEvent, Step, Time};
use crate::seed::{Options, Rate};
use crate::workload::CONTROLLER;
use serval::stdx::Prng;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

/// One change.
#[derive(Clone, Debug)]
struct Change {
    version: u64,
    deleted: bool,
    added: bool,
    /// A restored server does not know it.
    is_lost: bool,
    object: Rc<Object>,
}

struct Watching {
    kind: Kind,
    /// Sent up to this version.
    at: u64,
    /// The bookmark behind the initial events is still to come.
    owes_end: bool,
    /// It ends in order then, if that is to arrive.
    until: Time,
}

struct Conn {
    reader: Reader,
    output: Vec<u8>,
    /// Bytes of it that went: what is left of long lists is not moved each time.
    sent: usize,
    /// Since when there is output that does not go.
    unsent_since: Option<Time>,
    watching: Option<Watching>,
    close: bool,
}

/// The server.
#[expect(missing_debug_implementations, reason = "connections say nothing")]
pub struct Api {
    pub objects: BTreeMap<Key, Rc<Object>>,
    history: Vec<Change>,
    pub version: u64,
    /// Rises with each change of what objects mean to the model; most statuses change nothing.
    pub meanings: u64,
    /// What `l1::wanted` found last.
    pub wanted: RefCell<l1::Found>,
    /// Watches cannot begin before.
    compacted: u64,
    /// The version that was saved, to be restored.
    backup: Option<u64>,
    /// How controllers are set up that watch it.
    pub setup: Setup,
    pub leases: Leases,
    pub running: bool,
    /// Since when it runs, or ran.
    pub since: Time,
    conns: BTreeMap<EndId, Box<Conn>>,
    prng: Prng,
    pub faults: Rate,
    /// The Lease goes between two requests.
    pub restores: Rate,
    bookmarks: Rate,
    has_watch_list: bool,
    /// The CRD of ReferenceGrants is away until then.
    no_grants_until: Time,
    uids: u64,
    pub lists: u64,
    pub status_writes: u64,
    /// All statuses are written, and no object that they say of changes any more.
    pub is_still: bool,
    /// Where a status is written before it is stored.
    pub status_buffer: Vec<u8>,
    pub injected: Injected,
}

const PATHS: [(&str, Kind); 8] = [
    ("gatewayclasses", Kind::Class),
    ("gateways", Kind::Gateway),
    ("httproutes", Kind::Route),
    ("services", Kind::Service),
    ("endpointslices", Kind::Slice),
    ("secrets", Kind::Secret),
    ("namespaces", Kind::Namespace),
    ("referencegrants", Kind::Grant),
];

/// Where the server listens.
pub fn api_address() -> SocketAddr {
    SocketAddr::from(([10, 8, 0, 1], 6443))
}

fn status_json(code: u16, reason: &str) -> String {
    format!(r#"{{"kind":"Status","status":"Failure","reason":"{reason}","code":{code}}}"#)
}

/// A list wants to be newer than the server is.
const TOO_LARGE: &str = concat!(
    r#"{"kind":"Status","status":"Failure","reason":"Timeout","code":504,"#,
    r#""message":"Too large resource version","details":{"causes":["#,
    r#"{"reason":"ResourceVersionTooLarge","message":"Too large resource version"}"#,
    r#"],"retryAfterSeconds":1}}"#
);

fn event_line(change: &Change) -> String {
    let kind = match (change.deleted, change.added) {
        (true, _) => "DELETED",
        (false, true) => "ADDED",
        (false, false) => "MODIFIED",
    };
    let object = change.object.json_at(change.version);
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn bookmark(version: u64, ends: bool) -> String {
    let mark = if ends { r#","annotations":{"k8s.io/initial-events-end":"true"}"# } else { "" };
    format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"{version}\"{mark}}}}}}}\n"
    )
}

fn chunk(out: &mut Vec<u8>, text: &str) {
    out.extend(format!("{:x}\r\n{text}\r\n", text.len()).bytes());
}

impl Api {
    /// An empty server.
    pub fn new(options: &Options) -> Api {
        Api {
            objects: BTreeMap::new(),
            history: Vec::new(),
            version: 100,
            meanings: 0,
            wanted: RefCell::default(),
            compacted: 0,
            backup: None,
            setup: Setup {
                controller: CONTROLLER,
                in_nodes: options.in_nodes,
                is_foreign: false,
                room: if options.cramped { CRAMPED } else { Room::LARGE },
            },
            leases: Leases::default(),
            running: false,
            since: 0,
            conns: BTreeMap::new(),
            prng: options.child("api"),
            faults: options.api_faults,
            restores: options.restores,
            bookmarks: options.bookmarks,
            has_watch_list: options.has_watch_list,
            no_grants_until: 0,
            uids: 0,
            lists: 0,
            status_writes: 0,
            is_still: false,
            status_buffer: Vec::new(),
            injected: Injected::default(),
        }
    }

    /// Begins to listen.
    pub fn start(&mut self, net: &mut Network) {
        net.listen(Node::Api, api_address());
        (self.running, self.since) = (true, net.now);
        if self.prng.chance(1, 2) {
            // Its cache begins anew: older versions are gone.
            self.compacted = self.version;
        }
    }

    /// etcd is compacted, and all watches end with that: who watches has to list, and to find
    /// all as it was.
    pub fn compact(&mut self) {
        self.compacted = self.version;
        for conn in self.conns.values_mut().filter(|c| c.watching.is_some() && !c.close) {
            expire(conn);
        }
    }

    /// Stops, with all its connections.
    pub fn stop(&mut self, net: &mut Network) {
        self.running = false;
        self.conns.clear();
        net.crash(Node::Api);
    }

    // ------------------------------------------------------------ objects

    /// The CRD of ReferenceGrants is deleted, and they with it; until then there can be none.
    pub fn delete_grants(&mut self, until: Time) {
        sometimes("a CRD is deleted");
        let all: Vec<Key> = self.objects.keys().filter(|k| k.0 == Kind::Grant).cloned().collect();
        all.iter().for_each(|key| self.delete(key));
        self.no_grants_until = until;
    }

    /// Their CRD is there again.
    pub fn grants_are_back(&mut self) {
        self.no_grants_until = 0;
    }

    /// Creates or changes an object.
    pub fn apply(&mut self, key: Key, spec: Spec, now: Time) {
        if key.0 == Kind::Grant && now < self.no_grants_until {
            return;
        }
        self.version += 1 + self.prng.below(3);
        let old = self.objects.get(&key).cloned();
        if old.as_ref().is_some_and(|o| o.spec == spec) {
            return;
        }
        self.uids += 1;
        let object = match &old {
            Some(old) => Object {
                spec,
                generation: old.generation + 1,
                version: self.version,
                ..old.as_ref().clone()
            },
            None => Object {
                key: key.clone(),
                uid: format!("uid-{}", self.uids),
                // Coarse, so that some are of the same age.
                created: 1_800_000_000 + now / (4 * SECOND),
                generation: 1,
                version: self.version,
                spec,
                status: String::new(),
                addresses: Vec::new(),
                is_huge: false,
            },
        };
        self.meanings += 1;
        self.put(Rc::new(object), old.is_none());
    }

    /// An object gets an annotation that makes it longer than a controller takes, or loses it.
    pub fn annotate(&mut self, key: &Key, is_huge: bool) {
        let Some(old) = self.objects.get(key).filter(|old| old.is_huge != is_huge) else { return };
        let old = old.as_ref().clone();
        self.version += 1;
        self.put(Rc::new(Object { is_huge, version: self.version, ..old }), false);
    }

    /// Whether an object was ever too long.
    pub fn was_huge(&self, key: &Key) -> bool {
        self.history.iter().any(|c| c.object.is_huge && c.object.key == *key)
    }

    /// The objects that are too long.
    pub fn huge(&self) -> Vec<Key> {
        self.objects.values().filter(|o| o.is_huge).map(|o| o.key.clone()).collect()
    }

    fn put(&mut self, object: Rc<Object>, added: bool) {
        self.objects.insert(object.key.clone(), object.clone());
        let (version, deleted, is_lost) = (self.version, false, false);
        self.history.push(Change { version, deleted, added, is_lost, object });
    }

    /// etcd is saved. What is not simulated is written often until it is restored: so its version
    /// never comes to that of today again.
    pub fn save(&mut self) {
        if self.backup.is_none() {
            self.backup = Some(self.version);
            self.version += 1_000_000;
        }
    }

    /// All is as it was saved, the versions to come, too. Whether it was saved.
    pub fn restore(&mut self) -> bool {
        let Some(version) = self.backup.take() else { return false };
        let kept = Kind::ALL.into_iter().flat_map(|kind| self.state_at(kind, version));
        self.objects = kept.map(|c| (c.object.key.clone(), c.object)).collect();
        self.history.iter_mut().for_each(|c| c.is_lost |= c.version > version);
        self.version = version;
        self.meanings += 1;
        self.compacted = self.compacted.min(version);
        true
    }

    /// Deletes an object.
    pub fn delete(&mut self, key: &Key) {
        if let Some(object) = self.objects.remove(key) {
            self.version += 1;
            self.meanings += 1;
            self.history.push(Change {
                version: self.version,
                deleted: true,
                added: false,
                is_lost: false,
                object,
            });
        }
    }

    /// Writes a status, if the object is still the one of this uid.
    pub fn write_status(&mut self, old: &Rc<Object>, status: String, addresses: Vec<[u8; 4]>) {
        self.version += 1;
        self.status_writes += 1;
        let object = Object {
            status,
            addresses: addresses.into_iter().map(Into::into).collect(),
            version: self.version,
            ..old.as_ref().clone()
        };
        self.meanings += u64::from(object.addresses != old.addresses);
        self.put(Rc::new(object), false);
    }

    /// What changed since so many changes, for a reader.
    pub fn changed_since(&self, seen: &mut usize) -> Vec<String> {
        let new = &self.history[*seen..];
        *seen = self.history.len();
        let said = |c: &Change| {
            let ((kind, namespace, name), version) = (&c.object.key, c.version);
            let what = if c.deleted { ", deleted" } else { "" };
            format!("{kind:?} {namespace}/{name}, version {version}{what}")
        };
        new.iter().map(said).collect()
    }

    /// The object in a version that existed.
    pub fn version_of(&self, key: &Key, version: u64) -> Option<Rc<Object>> {
        let found = self.history.iter().rev();
        let mut found = found.filter(|c| c.version == version && c.object.key == *key);
        found.next().map(|c| c.object.clone())
    }

    /// Whether the server was restored to an older state than this version of an object.
    pub fn is_lost(&self, object: &Object) -> bool {
        let found = self.history.iter().rev();
        let mut found = found.filter(|c| c.version == object.version && c.object.key == object.key);
        found.next().is_some_and(|c| c.is_lost)
    }

    /// The objects of a kind as they were at a version.
    fn state_at(&self, kind: Kind, version: u64) -> Vec<Change> {
        let mut state: BTreeMap<&Key, &Change> = BTreeMap::new();
        let known = self.history.iter().filter(|c| c.object.key.0 == kind && !c.is_lost);
        for change in known {
            if change.version > version {
                break;
            }
            match change.deleted {
                true => state.remove(&change.object.key),
                false => state.insert(&change.object.key, change),
            };
        }
        state.into_values().cloned().collect()
    }

    /// The kinds that a controller watches.
    pub fn watched_by(&self, node: Node, net: &Network) -> Vec<Kind> {
        let of = self.conns.iter().filter(|(end, _)| net.owner(end.peer()) == Some(node));
        of.filter_map(|(_, conn)| Some(conn.watching.as_ref().filter(|_| !conn.close)?.kind))
            .collect()
    }

    /// Connections that have had something to send since before then. (Watches end with their time,
    /// so that a list may be on its way at any moment.)
    pub fn unsent(&self, before: Time) -> usize {
        let unsent = self.conns.values().filter_map(|conn| conn.unsent_since);
        unsent.filter(|&since| since < before).count()
    }

    // ------------------------------------------------------------ requests

    /// Something happened at a socket.
    pub fn on_socket(&mut self, end: EndId, what: SocketEvent, net: &mut Network) {
        if !self.running {
            return net.close(end, true);
        }
        if what == SocketEvent::Accepted {
            let reader = Reader::new(false);
            let output = Vec::new();
            let conn =
                Conn { reader, output, sent: 0, unsent_since: None, watching: None, close: false };
            self.conns.insert(end, Box::new(conn));
        }
        let Some(mut conn) = self.conns.remove(&end) else { return };
        let bytes = net.read(end, 1 << 20);
        conn.reader.feed(&bytes);
        while conn.watching.is_none() && !conn.close {
            match conn.reader.next(false, false) {
                Next::Done(message) => self.request(&mut conn, &message, net),
                Next::Head => {}
                Next::More => break,
                Next::Bad(_) => conn.close = true,
            }
        }
        if net.ended(end).is_some() {
            conn.close = true;
            conn.output.clear();
            conn.sent = 0;
        }
        if flush(&mut conn, end, net) {
            self.conns.insert(end, conn);
        }
    }

    /// Time passed: watches go on, some are cut.
    pub fn on_timer(&mut self, net: &mut Network) {
        let mut conns = core::mem::take(&mut self.conns);
        conns.retain(|end, conn| {
            if conn.watching.is_some() && !conn.close && self.prng.chance(2, 3) {
                self.go_on(conn, net.now);
                let is_gone = net.now < self.no_grants_until && !conn.close;
                if is_gone && conn.watching.as_ref().is_some_and(|w| w.kind == Kind::Grant) {
                    // What was deleted is told; then the watch ends.
                    conn.output.extend(b"0\r\n\r\n");
                    conn.watching = None;
                }
            }
            flush(conn, *end, net)
        });
        self.conns = conns;
        let at = net.now + self.prng.range(2 * MS, 30 * MS);
        net.schedule(at, Event::Step(Step::ApiTimer));
    }

    fn request(&mut self, conn: &mut Conn, message: &Message, net: &mut Network) {
        let target = message.word(1).to_string();
        if !s10::permits(message.word(0), &target, net) {
            return answer(conn, 403, &status_json(403, "Forbidden"), "");
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let name = path.rsplit('/').next().unwrap_or("");
        let get = |name: &str| {
            let mut pairs = query.split('&').filter_map(|p| p.split_once('='));
            pairs.find(|(n, _)| *n == name).map(|(_, v)| v.to_string())
        };
        let Some(&(_, kind)) = PATHS.iter().find(|p| p.0 == name) else {
            return answer(conn, 404, &status_json(404, "NotFound"), "");
        };
        if kind == Kind::Grant && net.now < self.no_grants_until {
            sometimes("a request gets 404");
            return answer(conn, 404, "404 page not found\n", "");
        }
        if self.faults.happens(&mut self.prng) {
            self.injected.add(Fault::ApiFaults);
            let which = self.prng.below(5) as usize;
            let got = ["gets 429", "gets 500", "gets 410", "gets 401", "is cut"][which];
            sometimes(&format!("a request {got}"));
            return match which {
                0 => answer(conn, 429, &status_json(429, "TooManyRequests"), "Retry-After: 1\r\n"),
                1 => answer(conn, 500, &status_json(500, "InternalError"), ""),
                2 => answer(conn, 410, &status_json(410, "Expired"), ""),
                // The token has just been replaced.
                3 => answer(conn, 401, &status_json(401, "Unauthorized"), ""),
                _ => conn.close = true,
            };
        }
        let version = get("resourceVersion").and_then(|v| v.parse::<u64>().ok());
        let (is_watch, initial) = (get("watch").is_some(), get("sendInitialEvents").is_some());
        if initial && !self.has_watch_list {
            return answer(conn, 422, &status_json(422, "Invalid"), "");
        }
        if (!is_watch || initial) && version > Some(self.version) {
            sometimes("a list asks for a version that is to come");
            return answer(conn, 504, TOO_LARGE, "");
        }
        if is_watch {
            let seconds = get("timeoutSeconds").and_then(|s| s.parse::<u64>().ok());
            // Now and then its end does not arrive.
            let seconds = seconds.filter(|_| self.prng.chance(3, 4));
            let until = seconds.map_or(Time::MAX, |s| net.now + s * SECOND);
            return self.watch(conn, (kind, version, initial), until);
        }
        let limit = get("limit").and_then(|l| l.parse::<usize>().ok()).unwrap_or(0);
        self.list(conn, kind, version, limit, get("continue"));
    }

    /// A version not older than what was asked for, mostly the newest.
    fn stale(&mut self, version: Option<u64>) -> u64 {
        match version {
            Some(v) if v <= self.version && self.prng.chance(1, 3) => {
                // A cache that began anew has nothing older than its beginning.
                self.prng.range(v.max(self.compacted), self.version)
            }
            _ => self.version,
        }
    }

    fn list(
        &mut self,
        conn: &mut Conn,
        kind: Kind,
        version: Option<u64>,
        limit: usize,
        token: Option<String>,
    ) {
        self.lists += 1;
        let parts = token.as_deref().and_then(|t| t.split_once('-'));
        let parts = parts.and_then(|(v, o)| Some((v.parse().ok()?, o.parse().ok()?)));
        let (at, from): (u64, usize) = match parts {
            Some(parts) => parts,
            None => (self.stale(version), 0),
        };
        if token.is_some() && self.faults.happens(&mut self.prng) {
            // etcd is compacted between two pages.
            self.injected.add(Fault::ApiFaults);
            self.compacted = self.version;
        }
        if at > self.version {
            return answer(conn, 500, &status_json(500, "InternalError"), "");
        }
        if token.is_some() && at < self.compacted {
            sometimes("a continue token expires");
            return answer(conn, 410, &status_json(410, "Expired"), "");
        }
        let state = self.state_at(kind, at);
        // A page may hold fewer than were asked for.
        let limit = match limit {
            0 => usize::MAX,
            most if self.prng.chance(1, 2) => most,
            most => self.prng.range(1, most as u64) as usize,
        };
        let page: Vec<String> =
            state.iter().skip(from).take(limit).map(|c| c.object.json()).collect();
        let next = from + page.len();
        let more = match next < state.len() {
            true => format!(r#","continue":"{at}-{next}""#),
            false => String::new(),
        };
        let meta = format!(r#""metadata":{{"resourceVersion":"{at}"{more}}}"#);
        let items = format!(r#""items":[{}]"#, page.join(","));
        let body = match self.prng.chance(1, 2) {
            true => format!(r#"{{"kind":"List",{meta},{items}}}"#),
            false => format!(r#"{{{items},"kind":"List",{meta}}}"#),
        };
        answer(conn, 200, &body, "");
    }

    fn watch(
        &mut self,
        conn: &mut Conn,
        (kind, version, initial): (Kind, Option<u64>, bool),
        until: Time,
    ) {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        if initial {
            self.lists += 1;
            let at = self.stale(version);
            let mut state = self.state_at(kind, at);
            conn.output.extend(head.bytes());
            while !state.is_empty() {
                let mut change = state.swap_remove(self.prng.below(state.len() as u64) as usize);
                change.added = true;
                chunk(&mut conn.output, &event_line(&change));
            }
            let owes_end = self.faults.happens(&mut self.prng);
            if owes_end {
                self.injected.add(Fault::ApiFaults);
                sometimes("the end of initial events is late");
            } else {
                chunk(&mut conn.output, &bookmark(at, true));
            }
            conn.watching = Some(Watching { kind, at, until, owes_end });
            return;
        }
        let at = version.unwrap_or(self.version);
        if at < self.compacted {
            sometimes("a watch begins too early");
            if self.prng.chance(1, 2) {
                return answer(conn, 410, &status_json(410, "Expired"), "");
            }
            conn.output.extend(head.bytes());
            let line =
                format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", status_json(410, "Expired"));
            chunk(&mut conn.output, &line);
            conn.output.extend(b"0\r\n\r\n");
            return;
        }
        if at > self.version {
            // It stays silent until then.
            sometimes("a watch begins in the future");
        }
        conn.output.extend(head.bytes());
        conn.watching = Some(Watching { kind, at, until, owes_end: false });
    }

    /// A line of a watch was sent, and something happens to it; whether that is its end.
    fn spoil(&mut self, conn: &mut Conn, line: &str, is_initial: bool) -> bool {
        self.injected.add(Fault::ApiFaults);
        const HOW: [&str; 7] = [
            "tells twice",
            "tells twice",
            "is cut in mid-line",
            "tells 410",
            "ends in order",
            "tells nonsense",
            "tells what is no UTF-8",
        ];
        // Nonsense makes a state that is told incomplete: only behind it.
        let which = self.prng.below(if is_initial { 5 } else { 7 }) as usize;
        sometimes(&format!("a watch {}", HOW[which]));
        match which {
            0 | 1 => chunk(&mut conn.output, line),
            2 => {
                let cut = self.prng.below(line.len() as u64) as usize;
                conn.output.truncate(conn.output.len() - cut);
                conn.close = true;
            }
            3 => expire(conn),
            4 => {
                conn.output.extend(b"0\r\n\r\n");
                conn.watching = None;
            }
            // An object without a name; what was changed is told, too.
            5 => {
                let kinds = ["ADDED", "MODIFIED", "DELETED"];
                let kind = kinds[self.prng.below(3) as usize];
                let nameless = r#"{"metadata":{"uid":"x"},"spec":{}}"#;
                let line = format!("{{\"type\":\"{kind}\",\"object\":{nameless}}}\n");
                chunk(&mut conn.output, &line);
            }
            _ => {
                let line = b"{\"type\":\"MODIFIED\",\"object\":{\"kind\":\"\xf0\x9f\"}}\n";
                conn.output.extend(format!("{:x}\r\n", line.len()).bytes());
                conn.output.extend(line);
                conn.output.extend(b"\r\n");
            }
        }
        conn.close || conn.watching.is_none()
    }

    /// Sends what changed since, and does faults.
    fn go_on(&mut self, conn: &mut Conn, now: Time) {
        let Some(watching) = &mut conn.watching else { return };
        let (kind, at, is_initial) = (watching.kind, watching.at, watching.owes_end);
        if now >= watching.until {
            return end_in_time(conn);
        }
        if at > self.version {
            return;
        }
        let new = self.history.iter().rev().filter(|c| !c.is_lost).take_while(|c| c.version > at);
        let mut new: Vec<Change> = new.filter(|c| c.object.key.0 == kind).cloned().collect();
        new.reverse();
        watching.at = self.version;
        let quiet = new.is_empty();
        for change in new {
            let line = event_line(&change);
            chunk(&mut conn.output, &line);
            if self.faults.happens(&mut self.prng) && self.spoil(conn, &line, is_initial) {
                return;
            }
        }
        if let Some(watching) = &mut conn.watching
            && watching.owes_end
            && (self.faults == Rate::Off || self.prng.chance(1, 20))
        {
            watching.owes_end = false;
            return chunk(&mut conn.output, &bookmark(self.version, true));
        }
        if quiet && self.bookmarks.happens_rarely(&mut self.prng) {
            self.injected.add(Fault::Bookmarks);
            chunk(&mut conn.output, &bookmark(self.version, false));
        }
    }
}

/// A watch ends, since its version is too old.
fn expire(conn: &mut Conn) {
    let status = status_json(410, "Expired");
    let line = format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n");
    chunk(&mut conn.output, &line);
    conn.close = true;
}

/// The time that a watch was asked for is over.
fn end_in_time(conn: &mut Conn) {
    sometimes("a watch ends with its time");
    conn.output.extend(b"0\r\n\r\n");
    conn.watching = None;
}

/// Writes what fits; false when the connection is over.
fn flush(conn: &mut Conn, end: EndId, net: &mut Network) -> bool {
    if !conn.output.is_empty() {
        let Some(taken) = net.write(end, &conn.output[conn.sent..]) else {
            net.close(end, true);
            return false;
        };
        conn.sent += taken;
        if conn.sent == conn.output.len() {
            conn.output.clear();
            conn.sent = 0;
        }
    }
    let waits = !conn.output.is_empty();
    conn.unsent_since = waits.then(|| conn.unsent_since.unwrap_or(net.now));
    if conn.close && conn.output.is_empty() {
        net.close(end, false);
        return false;
    }
    true
}

fn answer(conn: &mut Conn, status: u16, body: &str, more: &str) {
    let len = body.len();
    let head = format!("HTTP/1.1 {status} Words\r\nContent-Length: {len}\r\n{more}\r\n");
    conn.output.extend(head.bytes());
    conn.output.extend(body.bytes());
}
