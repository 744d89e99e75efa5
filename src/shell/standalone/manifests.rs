//! Manifests as one transaction: all documents of all files, or nothing.
//!
//! In: the files' text. Out: objects in the controller, or every error with file, line and path.
//! Age is (file name, position): the order of the folder stands for creationTimestamp.

use crate::controller::Controller;
use crate::limits::{MAX_MANIFEST_OBJECTS, MAX_MANIFESTS};
use crate::resource::document::{Document, Value};
use crate::resource::{Decoder, Kind, Object, Problem, decode};
use crate::shell::place::boxed_zeroed;
use crate::shell::yaml::{Documents, YamlError};
use crate::stdx::{Short, Table};
use core::fmt;
use std::boxed::Box;

/// A file of the folder; its text is a range of one buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct File {
    /// Name without the folder.
    pub name: Short<255>,
    /// First byte of its text.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
}

/// The files in order of name.
pub type Files = Table<File, { MAX_MANIFESTS as usize }>;

/// What is wrong, for people: `gateway.yaml:12: spec.listeners[0].port: is required`.
#[expect(missing_debug_implementations, reason = "Display says it")]
pub struct Complaint<'c> {
    /// The file.
    pub file: &'c str,
    /// 1-based; 0 when unknown.
    pub line: u32,
    /// What.
    pub what: &'c dyn fmt::Display,
}

impl fmt::Display for Complaint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// What a folder held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Objects taken.
    pub objects: u32,
    /// Documents of kinds that serval does not read.
    pub ignored: u32,
    /// Errors; when there is one, nothing was taken.
    pub errors: u32,
}

/// An object seen: to find doubles. Sorted by hash afterwards.
#[derive(Clone, Copy, Debug)]
struct Seen {
    hash: u64,
    file: u32,
    line: u32,
}

/// Reads manifests; holds what parsing needs.
#[derive(Debug)]
pub struct Reader {
    document: Box<Document>,
    decoder: Box<Decoder>,
    seen: Box<Table<Seen, { MAX_MANIFEST_OBJECTS as usize }>>,
}

impl Reader {
    /// Takes the memory it needs for good.
    pub fn new() -> Self {
        let mut seen = boxed_zeroed::<Table<Seen, { MAX_MANIFEST_OBJECTS as usize }>>();
        seen.set_cap(MAX_MANIFEST_OBJECTS);
        Reader { document: boxed_zeroed(), decoder: boxed_zeroed(), seen }
    }

    /// Bytes it holds: a line of the memory plan.
    pub fn bytes() -> u64 {
        (size_of::<Document>()
            + size_of::<Decoder>()
            + size_of::<Table<Seen, { MAX_MANIFEST_OBJECTS as usize }>>()) as u64
    }

    /// Checks every document, then gives all of them to the controller, or none.
    pub fn apply(
        &mut self,
        files: &Files,
        text: &[u8],
        controller: &mut Controller,
        complain: &mut dyn FnMut(Complaint<'_>),
    ) -> Summary {
        let name = controller.settings().controller;
        let mut summary = self.check(files, text, name.as_str(), complain);
        if summary.errors > 0 {
            return summary;
        }
        Kind::ALL.into_iter().for_each(|kind| controller.resync_begin(kind));
        // Secrets are kept when a Gateway refers to them: so after the Gateways.
        summary.objects += self.give(files, text, controller, |kind| kind != Kind::Secret);
        summary.objects += self.give(files, text, controller, |kind| kind == Kind::Secret);
        Kind::ALL.into_iter().for_each(|kind| controller.resync_end(kind, true));
        summary
    }

    /// Gives the objects of some kinds to the controller: how many it read.
    fn give(
        &mut self,
        files: &Files,
        text: &[u8],
        controller: &mut Controller,
        wanted: impl Fn(Kind) -> bool,
    ) -> u32 {
        let (mut position, mut objects) = (0, 0);
        for file in files.as_slice() {
            let text = core::str::from_utf8(&text[file.start..file.end]).unwrap_or("");
            let mut documents = Documents::new(text);
            while let Ok(true) = documents.next_into(&mut self.document) {
                for_each_object(self.document.root(), &mut |value| {
                    position += 1;
                    if let Some(kind) = kind_of(value).filter(|&kind| wanted(kind)) {
                        let taken = controller.upsert(kind, value, Some(position));
                        objects += u32::from(taken.is_ok());
                    }
                });
            }
        }
        objects
    }

    fn check(
        &mut self,
        files: &Files,
        text: &[u8],
        controller: &str,
        complain: &mut dyn FnMut(Complaint<'_>),
    ) -> Summary {
        let mut summary = Summary::default();
        self.seen.clear();
        for (index, file) in (0..).zip(files.as_slice()) {
            let name = file.name;
            let Ok(text) = core::str::from_utf8(&text[file.start..file.end]) else {
                summary.errors += 1;
                complain(Complaint { file: name.as_str(), line: 0, what: &"is not UTF-8" });
                continue;
            };
            let mut documents = Documents::new(text);
            loop {
                match documents.next_into(&mut self.document) {
                    Ok(false) => break,
                    Ok(true) => {
                        self.check_document(
                            index,
                            name.as_str(),
                            controller,
                            &mut summary,
                            complain,
                        );
                    }
                    Err(error) => {
                        summary.errors += 1;
                        let YamlError { line, .. } = error;
                        complain(Complaint { file: name.as_str(), line, what: &error });
                    }
                }
            }
        }
        self.check_doubles(files, &mut summary, complain);
        summary
    }

    fn check_document(
        &mut self,
        file: u32,
        name: &str,
        controller: &str,
        summary: &mut Summary,
        complain: &mut dyn FnMut(Complaint<'_>),
    ) {
        let Reader { document, decoder, seen } = self;
        for_each_object(document.root(), &mut |value| {
            if value.is_null() {
                return;
            }
            let line = value.line();
            let mut fail = |line, what: &dyn fmt::Display| {
                summary.errors += 1;
                complain(Complaint { file: name, line, what });
            };
            if value.text("kind").is_empty() || value.text("apiVersion").is_empty() {
                return fail(line, &"needs apiVersion and kind");
            }
            let Some(kind) = kind_of(value) else {
                summary.ignored += 1;
                return;
            };
            match decode_any(decoder, kind, value, controller) {
                Err(problem) => fail(problem.line().max(line), &problem),
                Ok(hash) => {
                    if seen.push(Seen { hash, file, line }).is_err() {
                        fail(line, &"more objects than MAX_MANIFEST_OBJECTS allows");
                    }
                }
            }
        });
    }

    /// An object may stand in one place only: which one would count?
    fn check_doubles(
        &mut self,
        files: &Files,
        summary: &mut Summary,
        complain: &mut dyn FnMut(Complaint<'_>),
    ) {
        self.seen.as_mut_slice().sort_unstable_by_key(|s| (s.hash, s.file, s.line));
        for pair in self.seen.as_slice().windows(2) {
            if pair[0].hash == pair[1].hash {
                let (first, line) = (files[pair[0].file].name, pair[0].line);
                let what = format_args!("the same object is in {first}:{line} already");
                let file = files[pair[1].file].name;
                summary.errors += 1;
                complain(Complaint { file: file.as_str(), line: pair[1].line, what: &what });
            }
        }
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

/// The document itself, or the items of a List.
fn for_each_object(root: Value<'_>, each: &mut dyn FnMut(Value<'_>)) {
    if root.text("kind") == "List" && root.text("apiVersion") == "v1" {
        root.get("items").iter().flat_map(|i| i.items()).for_each(each);
    } else {
        each(root);
    }
}

fn kind_of(value: Value<'_>) -> Option<Kind> {
    Kind::of(value.text("apiVersion"), value.text("kind"))
}

/// Decodes an object to see whether it is valid; a hash of its kind and key.
fn decode_any(
    decoder: &mut Decoder,
    kind: Kind,
    value: Value<'_>,
    controller: &str,
) -> Result<u64, Problem> {
    fn go<T: Object>(object: &mut T, value: Value<'_>, controller: &str) -> Result<u64, Problem> {
        object.decode(value, controller)?;
        Ok(object.meta().key.hash().wrapping_add(T::KIND as u64))
    }
    match kind {
        Kind::GatewayClass => go(&mut decoder.class, value, controller),
        Kind::Gateway => go(&mut decoder.gateway, value, controller),
        Kind::HttpRoute => {
            let hash = go(&mut decoder.route, value, controller)?;
            match decoder.route.parents.is_empty() {
                true => Err(decode::invalid_member(value, "spec", "parentRefs must not be empty")),
                false => Ok(hash),
            }
        }
        Kind::Service => go(&mut decoder.service, value, controller),
        Kind::EndpointSlice => go(&mut decoder.slice, value, controller),
        Kind::Secret => go(&mut decoder.secret, value, controller),
        Kind::Namespace => go(&mut decoder.namespace, value, controller),
        Kind::ReferenceGrant => go(&mut decoder.grant, value, controller),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::codec::Encoder;
    use crate::limits::{Capacities, MAX_RECORD_SIZE_BYTES};
    use crate::reconcile::Settings;
    use crate::stdx::{Instant, Now, Wall};
    use std::format;
    use std::string::{String, ToString};
    use std::vec;
    use std::vec::Vec;

    const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: serval}
spec: {controllerName: serval.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: serval
  listeners:
  - {name: http, port: 8080, protocol: HTTP}
";
    const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: gw}]
  hostnames: [a.example]
  rules:
  - matches: [{path: {value: /x/}}]
    backendRefs: [{name: svc, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: svc}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: svc-1, labels: {kubernetes.io/service-name: svc}}
addressType: IPv4
ports: [{port: 3000}]
endpoints: [{addresses: [127.0.0.1]}]
";

    fn controller() -> Box<Controller> {
        controller_of(&Capacities::DEFAULT)
    }

    fn controller_of(capacities: &Capacities) -> Box<Controller> {
        let mut controller = boxed_zeroed::<Controller>();
        let name = Short::new("serval.dev/gateway-controller").unwrap();
        let settings = Settings { controller: name, standalone: true, ..Settings::default() };
        controller.init(settings, capacities);
        controller.set_epoch(0);
        controller
    }

    fn apply(controller: &mut Controller, texts: &[(&str, &str)]) -> (Summary, Vec<String>) {
        let (mut files, mut bytes) = (Files::new(), Vec::new());
        for (name, text) in texts {
            let start = bytes.len();
            bytes.extend_from_slice(text.as_bytes());
            let name = Short::new(name).unwrap();
            files.push(File { name, start, end: bytes.len() }).unwrap();
        }
        let mut complaints = Vec::new();
        let mut complain = |c: Complaint<'_>| complaints.push(c.to_string());
        let summary = Reader::new().apply(&files, &bytes, controller, &mut complain);
        (summary, complaints)
    }

    fn lines(controller: &Controller) -> String {
        let mut buffer = vec![0; MAX_RECORD_SIZE_BYTES as usize];
        let (mut encoder, mut out) = (Encoder::new(), String::new());
        let snapshot = controller.published().unwrap();
        while let Some(line) = encoder.next_line(snapshot, &mut buffer) {
            out += core::str::from_utf8(line.unwrap()).unwrap();
        }
        out
    }

    const NOW: Now = Now { mono: Instant(0), wall: Wall(0) };

    #[test]
    fn a_folder_becomes_a_snapshot() {
        let mut controller = controller();
        let (summary, complaints) = apply(&mut controller, &[("a", GATEWAY), ("b", ROUTE)]);
        assert_eq!((summary.objects, complaints), (5, vec![]));
        assert!(controller.tick(NOW));
        assert!(!controller.tick(NOW), "nothing changed");
        let text = lines(&controller);
        for part in [
            r#"{"bind":{"transport":"tcp","address":"::","port":8080}}"#,
            r#"{"pool":{"name":"default/svc/80","upstreams":["127.0.0.1:3000"]}}"#,
            r#""hosts":[{"listener":0,"hostname":"a.example"}],"matches":[{"prefix":"/x"}]"#,
            r#""backends":[{"pool":0,"weight":1}]"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn one_error_and_nothing_changes() {
        let mut controller = controller();
        apply(&mut controller, &[("a", GATEWAY), ("b", ROUTE)]);
        controller.tick(NOW);
        let broken = ROUTE.replace("port: 80}", "port: 99999}");
        let (summary, complaints) = apply(&mut controller, &[("a", GATEWAY), ("b", &broken)]);
        assert_eq!(summary.errors as usize, complaints.len());
        assert_eq!(complaints[0], "b:10: spec.rules[0].backendRefs[0].port: is out of range");
        assert!(!controller.tick(NOW));
        let (_, complaints) = apply(&mut controller, &[("a", GATEWAY), ("b", GATEWAY)]);
        assert_eq!(complaints.len(), 2);
        assert!(complaints[0].contains("the same object is in a:"), "{complaints:?}");
    }

    /// The statuses of a kind: (name, body).
    fn statuses(controller: &mut Controller, kind: Kind) -> Vec<(String, String)> {
        struct Collect(Kind, Vec<(String, String)>);
        impl crate::reconcile::status::Sink for Collect {
            fn status(&mut self, kind: Kind, m: &crate::resource::Meta, _: u64, _: u64, b: &str) {
                if kind == self.0 {
                    self.1.push((m.key.name.to_string(), b.into()));
                }
            }
        }
        controller.tick(NOW);
        let mut all = Collect(kind, Vec::new());
        controller.all_statuses(NOW, &mut all);
        all.1
    }

    /// Age decides, not the name; the refused ones say so on the objects, at the Gateway's parent
    /// only, and do not count as attached.
    #[test]
    fn refused_objects_say_so_in_their_status() {
        let mut capacities = Capacities::DEFAULT;
        capacities.set("MAX_ROUTES", 16).unwrap();
        let mut controller = controller_of(&capacities);
        let mut folder = vec![("a".to_string(), GATEWAY.to_string())];
        for number in 0..18 {
            let name = format!("r{:02}", 99 - number);
            let file = format!("b{number:02}");
            let other = "parentRefs: [{name: elsewhere}, {name: gw, sectionName: http}]";
            let text =
                ROUTE.split("---").next().unwrap().replace("name: r}", &format!("name: {name}}}"));
            folder.push((file, text.replace("parentRefs: [{name: gw}]", other)));
        }
        let files: Vec<_> = folder.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        let (_, complaints) = apply(&mut controller, &files);
        assert_eq!(complaints.len(), 0, "{complaints:?}");
        let routes = statuses(&mut controller, Kind::HttpRoute);
        let refused: Vec<_> =
            routes.iter().filter(|(_, b)| b.contains("CapacityExceeded")).collect();
        assert_eq!(routes.len(), 18);
        assert_eq!(refused.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["r83", "r82"]);
        for (_, body) in refused {
            assert!(body.contains("raise --max-routes"), "{body}");
            assert!(body.contains(r#""name":"gw","sectionName":"http"}"#), "{body}");
            assert!(!body.contains("elsewhere"), "not our parent: {body}");
        }
        let gateway = &statuses(&mut controller, Kind::Gateway)[0].1;
        assert!(gateway.contains(r#""attachedRoutes":16"#), "{gateway}");
    }

    /// Not even its pools: they would take the room of what fits, and lead requests astray.
    #[test]
    fn a_route_that_does_not_fit_leaves_nothing() {
        let mut capacities = Capacities::DEFAULT;
        capacities.set("MAX_CONFIG_MATCHES", 16).unwrap();
        let mut controller = controller_of(&capacities);
        let named = |name: &str| {
            ROUTE
                .replace("name: r}", &format!("name: {name}}}"))
                .replace("svc", &format!("s{name}"))
        };
        let matches = "{path: {value: /x/}}";
        let many = vec![matches; 16].join(", ");
        let many = named("b").replace(matches, &many);
        apply(
            &mut controller,
            &[("g", GATEWAY), ("a", &named("a")), ("b", &many), ("c", &named("c"))],
        );
        let routes = statuses(&mut controller, Kind::HttpRoute);
        let text = lines(&controller);
        for (name, body) in routes {
            let fits = name != "b";
            assert_eq!(body.contains("CapacityExceeded"), !fits, "{body}");
            assert_eq!(text.contains(&format!("default/s{name}/80")), fits, "{name} in {text}");
        }
        assert!(text.contains(r#""backends":[{"pool":1,"weight":1}]"#), "{text}");
    }

    #[test]
    fn a_route_that_is_not_accepted_counts_as_attached() {
        let mut controller = controller();
        let odd = "[{path: {value: /x/}, headers: [{type: RegularExpression, name: a, value: b}]}]";
        let odd = ROUTE.replace("[{path: {value: /x/}}]", odd);
        apply(&mut controller, &[("a", GATEWAY), ("b", &odd)]);
        let route = statuses(&mut controller, Kind::HttpRoute).remove(0).1;
        assert!(route.contains(r#""reason":"UnsupportedValue""#), "{route}");
        let gateway = statuses(&mut controller, Kind::Gateway).remove(0).1;
        assert!(gateway.contains(r#""attachedRoutes":1"#), "{gateway}");
    }

    #[test]
    fn statuses_say_what_is_served() {
        let mut controller = controller();
        apply(&mut controller, &[("a", GATEWAY), ("b", ROUTE)]);
        let mut of = |kind| statuses(&mut controller, kind).remove(0).1;
        assert!(of(Kind::GatewayClass).contains(r#""type":"Accepted","status":"True""#));
        let gateway = of(Kind::Gateway);
        assert!(gateway.contains(r#""attachedRoutes":1"#), "{gateway}");
        assert!(gateway.contains(r#""reason":"NoResources""#), "{gateway}");
        let route = of(Kind::HttpRoute);
        assert!(route.contains(r#""controllerName":"serval.dev/gateway-controller""#), "{route}");
        assert_eq!(route.matches(r#""status":"True""#).count(), 2, "{route}");
        assert_eq!(format!("{:?}", Kind::Gateway), "Gateway");
    }
}
