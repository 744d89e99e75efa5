//! A user's manifests as objects of the simulated API server.
//!
//! In: a folder, as `serval run --manifests` takes it. Out: objects with their JSON; EndpointSlices
//! apart, since their endpoints come and go, each with an address of the simulator's own; what
//! `serval check` says.

use crate::model::object::{Key, Kind, Spec};
use crate::network::SECOND;
use serval::limits::Capacities;
use serval::reconcile::Settings;
use serval::resource::Kind as ProductKind;
use serval::resource::document::{Document, Value};
use serval::shell::clock;
use serval::shell::standalone::check::{Check, CheckError};
use serval::shell::standalone::folder::Folder;
use serval::shell::yaml::Documents;
use serval::stdx::{Short, zeroed_box};
use serval::wire::json::JsonWriter;
use std::net::Ipv4Addr;

/// What `serval check` says of a folder.
#[derive(Debug)]
pub struct Checked {
    pub result: Result<bool, CheckError>,
    /// Its errors, and the verdict.
    pub said: String,
    /// Statuses in which something is not accepted.
    pub refused: Vec<String>,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Ipv4Addr,
    pub ready: bool,
    pub terminating: bool,
}

/// An EndpointSlice.
#[derive(Clone, Debug)]
pub struct Slice {
    pub key: Key,
    /// `namespace/name` of its Service.
    pub service: String,
    meta: String,
    /// Its ports as JSON, and their numbers.
    ports_json: String,
    pub ports: Vec<u16>,
    pub endpoints: Vec<Endpoint>,
}

/// A folder's objects.
#[derive(Debug, Default)]
pub struct Manifests {
    /// All but slices, the oldest first.
    pub objects: Vec<(Key, Spec)>,
    pub slices: Vec<Slice>,
    /// Endpoints that were given an address.
    addresses: u32,
}

/// Checks a folder as `serval check` does.
pub fn check(folder: &str, controller: &str, capacities: &Capacities) -> Checked {
    let controller = Short::new(controller).expect("short enough");
    let settings = Settings { controller, standalone: true, ..Settings::default() };
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let result = Check::new(settings, capacities).run(folder, &mut out, &mut errors);
    let is_refused = |line: &&str| {
        let conditions = ["Accepted", "ResolvedRefs"];
        conditions.iter().any(|c| line.contains(&format!(r#""type":"{c}","status":"False""#)))
    };
    let out = String::from_utf8_lossy(&out).to_string();
    Checked {
        result,
        said: String::from_utf8_lossy(&errors).to_string(),
        refused: out.lines().filter(is_refused).map(str::to_string).collect(),
    }
}

impl Slice {
    /// As an object.
    pub fn spec(&self) -> Spec {
        let endpoint = |e: &Endpoint| {
            let Endpoint { address, ready, terminating } = e;
            let serving = ready | terminating;
            let conditions =
                format!(r#""ready":{ready},"serving":{serving},"terminating":{terminating}"#);
            format!(r#"{{"addresses":["{address}"],"conditions":{{{conditions}}}}}"#)
        };
        let endpoints: Vec<String> = self.endpoints.iter().map(endpoint).collect();
        let (ports, endpoints) = (&self.ports_json, endpoints.join(","));
        let rest = format!(r#","addressType":"IPv4","ports":{ports},"endpoints":[{endpoints}]"#);
        Spec::Foreign { meta: self.meta.clone(), rest }
    }
}

impl Manifests {
    /// Reads a folder that was checked.
    pub fn read(folder: &str, capacities: &Capacities) -> Manifests {
        let mut found = Manifests::default();
        let mut folder = Folder::new(folder, capacities).expect("it was checked");
        folder.poll(clock::now()).expect("it was checked");
        let mut document = zeroed_box::<Document>();
        for file in folder.files().as_slice() {
            let text = core::str::from_utf8(&folder.text()[file.start..file.end]);
            let mut documents = Documents::new(text.expect("it was checked"));
            while let Ok(true) = documents.next_into(&mut document) {
                let root = document.root();
                if root.text("kind") == "List" && root.text("apiVersion") == "v1" {
                    let items = root.get("items");
                    items.iter().flat_map(|i| i.items()).for_each(|item| found.take(item));
                } else {
                    found.take(root);
                }
            }
        }
        found
    }

    /// The next address of an endpoint.
    pub fn next_address(&mut self) -> Ipv4Addr {
        self.addresses += 1;
        let [_, _, high, low] = (self.addresses + 256).to_be_bytes();
        let [first, second] = crate::io::BACKEND_NET;
        Ipv4Addr::new(first, second, high, low)
    }

    fn take(&mut self, value: Value<'_>) {
        let kind = ProductKind::of(value.text("apiVersion"), value.text("kind"));
        let Some(kind) = kind else { return };
        let model = Kind::ALL[kind as usize];
        let Some(metadata) = value.get("metadata") else { return };
        let namespace = match metadata.text("namespace") {
            _ if kind.is_cluster_scoped() => "",
            "" => "default",
            namespace => namespace,
        };
        let key = (model, namespace.to_string(), metadata.text("name").to_string());
        let (meta, rest) = (members(metadata, &["labels", "annotations"]), all_but_meta(value));
        if model == Kind::Slice {
            self.take_slice(key, meta, value);
        } else {
            self.objects.push((key, Spec::Foreign { meta, rest }));
        }
    }

    fn take_slice(&mut self, key: Key, meta: String, value: Value<'_>) {
        let name = ["metadata", "labels", "kubernetes.io/service-name"];
        let name = value.at(&name).and_then(Value::str).unwrap_or("");
        let service = format!("{}/{name}", key.1);
        let ports = value.get("ports");
        let port = |p: Value<'_>| p.get("port")?.int().and_then(|n| u16::try_from(n).ok());
        let endpoints: Vec<Endpoint> = value
            .get("endpoints")
            .iter()
            .flat_map(|e| e.items())
            .map(|e| {
                let is = |name: &str| e.at(&["conditions", name]).and_then(Value::bool);
                let (ready, address) = (is("ready").unwrap_or(true), self.next_address());
                Endpoint { address, ready, terminating: is("terminating").unwrap_or(false) }
            })
            .collect();
        self.slices.push(Slice {
            key,
            service,
            meta,
            ports_json: ports.map_or_else(|| "[]".to_string(), json),
            ports: ports.iter().flat_map(|p| p.items()).filter_map(port).collect(),
            endpoints,
        });
    }
}

/// An object's age among those of a folder, as the API server takes it.
pub fn age(index: usize) -> u64 {
    index as u64 * 4 * SECOND
}

fn json(value: Value<'_>) -> String {
    let mut buffer = vec![0; 1 << 20];
    let mut writer = JsonWriter::new(&mut buffer);
    value.write_json(&mut writer);
    writer.finish().expect("a manifest is smaller").to_string()
}

fn members(value: Value<'_>, names: &[&str]) -> String {
    let member = |name: &&str| Some(format!(r#","{name}":{}"#, json(value.get(name)?)));
    names.iter().filter_map(member).collect()
}

fn all_but_meta(value: Value<'_>) -> String {
    let others =
        value.items().filter(|m| !["apiVersion", "kind", "metadata", "status"].contains(&m.name()));
    others.map(|m| format!(r#","{}":{}"#, m.name(), json(m))).collect()
}
