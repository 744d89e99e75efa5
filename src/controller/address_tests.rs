//! The address modes node and service, from objects and reports to statuses and binds.

use super::*;
use crate::config::{Report, codec::bind_name};
use crate::resource::document::Document;
use crate::shell::{json, place::boxed_zeroed};
use core::net::SocketAddr;
use std::boxed::Box;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

/// A controller in front of routers, with what it wrote last.
struct Cluster {
    controller: Box<Controller>,
    document: Box<Document>,
    seconds: u64,
    /// Per Gateway: name, status.
    gateways: Vec<(String, String)>,
}

impl Sink for Cluster {
    fn status(&mut self, kind: Kind, meta: &Meta, _: u64, _: u64, body: &str) {
        if kind == Kind::Gateway {
            self.gateways.push((meta.key.name.as_str().to_string(), body.to_string()));
        }
    }
}

impl Cluster {
    /// With a Service in front of the routers, or none.
    fn new(service: &str) -> Cluster {
        let mut controller = boxed_zeroed::<Controller>();
        let name = crate::stdx::Short::new("a/b").unwrap();
        let router_service = Key::new("s", "routers").unwrap();
        let gateway_service = Key::new("s", service).unwrap_or_default();
        let settings =
            Settings { controller: name, router_service, gateway_service, ..Settings::default() };
        controller.init(settings, &Capacities::DEFAULT);
        Kind::ALL.into_iter().for_each(|kind| controller.synced(kind));
        controller.set_epoch(1);
        let document = boxed_zeroed();
        let mut cluster = Cluster { controller, document, seconds: 0, gateways: vec![] };
        cluster.take(
            Kind::GatewayClass,
            r#"{"metadata":{"name":"c"},"spec":{"controllerName":"a/b"}}"#,
        );
        cluster
    }

    fn now(&self) -> Now {
        Now { mono: Instant::default() + Duration::from_secs(self.seconds), ..Now::default() }
    }

    fn take(&mut self, kind: Kind, object: &str) {
        json::parse(object.as_bytes(), &mut self.document).unwrap();
        self.controller.upsert(kind, self.document.root(), None).unwrap();
    }

    /// A Gateway of that age with an HTTP listener per (port, hostname).
    fn gateway(&mut self, name: &str, age: u8, listeners: &[(u16, &str)], addresses: &[&str]) {
        let listener = |(index, (port, hostname)): (usize, &(u16, &str))| {
            let hostname = match *hostname {
                "" => String::new(),
                name => format!(r#","hostname":"{name}""#),
            };
            format!(r#"{{"name":"l{index}","port":{port},"protocol":"HTTP"{hostname}}}"#)
        };
        let listeners: Vec<_> = listeners.iter().enumerate().map(listener).collect();
        let address = |a: &&str| format!(r#"{{"type":"IPAddress","value":"{a}"}}"#);
        let addresses: Vec<_> = addresses.iter().map(address).collect();
        let (listeners, addresses) = (listeners.join(","), addresses.join(","));
        self.take(
            Kind::Gateway,
            &format!(
                r#"{{"metadata":{{"name":"{name}","namespace":"n",
                "creationTimestamp":"2026-01-01T00:00:{age:02}Z"}},"spec":{{
                "gatewayClassName":"c","listeners":[{listeners}],"addresses":[{addresses}]}}}}"#
            ),
        );
    }

    /// The routers' slice: (last byte of the address, serving). As a Service with
    /// publishNotReadyAddresses has it, all are ready.
    fn endpoints(&mut self, endpoints: &[(u8, bool)]) {
        let endpoint = |&(host, serving): &(u8, bool)| {
            let conditions = format!(r#"{{"ready":true,"serving":{serving}}}"#);
            format!(r#"{{"addresses":["10.0.0.{host}"],"conditions":{conditions}}}"#)
        };
        let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
        let endpoints = endpoints.join(",");
        self.take(
            Kind::EndpointSlice,
            &format!(
                r#"{{"metadata":{{"name":"routers-1","namespace":"s","labels":
                {{"kubernetes.io/service-name":"routers"}}}},"addressType":"IPv4",
                "ports":[{{"name":"admin","port":9901}}],"endpoints":[{endpoints}]}}"#
            ),
        );
    }

    /// Reconciles; these routers report that they serve what is published.
    fn turn(&mut self, reporting: &[u8]) {
        self.controller.tick(self.now());
        let identity = self.controller.published().unwrap().identity;
        let source = Source::Controller;
        let report = Report { boot_id: 1, ready: true, identity, source, ..Report::default() };
        for &host in reporting {
            let address = SocketAddr::from(([10, 0, 0, host], 9901));
            self.controller.report(address, &report, self.now());
        }
        let mut controller = core::mem::replace(&mut self.controller, boxed_zeroed());
        self.gateways.clear();
        controller.all_statuses(self.now(), self);
        self.controller = controller;
    }

    fn status(&self, name: &str) -> &str {
        &self.gateways.iter().find(|g| g.0 == name).unwrap().1
    }

    /// `type=value` of status.addresses.
    fn addresses(&self, name: &str) -> Vec<String> {
        let status = self.status(name);
        let (_, rest) = status.split_once(r#""addresses":["#).unwrap();
        let (list, _) = rest.split_once(']').unwrap();
        let parts: Vec<_> = list.split('"').collect();
        parts.chunks_exact(8).map(|c| format!("{}={}", c[3], c[7])).collect()
    }

    /// The Gateway's own condition: `status/reason`.
    fn programmed(&self, name: &str) -> String {
        let (_, rest) = self.status(name).split_once(r#""type":"Programmed","status":""#).unwrap();
        let parts: Vec<_> = rest.splitn(6, '"').collect();
        format!("{}/{}", parts[0], parts[4])
    }

    fn binds(&self) -> Vec<String> {
        let binds = self.controller.published().unwrap().binds.as_slice().iter();
        binds.map(|b| bind_name(b).as_str().to_string()).collect()
    }
}

#[test]
fn node_addresses_are_those_of_ready_routers() {
    let mut cluster = Cluster::new("");
    cluster.gateway("g", 1, &[(80, "")], &[]);
    cluster.endpoints(&[(2, true), (1, true), (3, false)]);
    cluster.turn(&[]);
    assert_eq!(cluster.programmed("g"), "False/NoResources", "{}", cluster.status("g"));
    cluster.turn(&[1, 2, 3]);
    assert_eq!(cluster.binds(), ["tcp:[::]:80"]);
    assert_eq!(cluster.addresses("g"), ["IPAddress=10.0.0.1", "IPAddress=10.0.0.2"]);
    assert_eq!(cluster.programmed("g"), "True/Programmed");
    // One becomes ready, one unready, as its probe says.
    cluster.endpoints(&[(2, true), (1, false), (3, true)]);
    cluster.turn(&[1, 2, 3]);
    assert_eq!(cluster.addresses("g"), ["IPAddress=10.0.0.2", "IPAddress=10.0.0.3"]);
    // A node goes away without a word: its endpoint stays.
    cluster.seconds = 9;
    cluster.turn(&[3]);
    assert_eq!(cluster.addresses("g"), ["IPAddress=10.0.0.3"]);
    // Silent ones do not count for Programmed either, in the end.
    cluster.seconds = 16;
    cluster.turn(&[3]);
    assert_eq!(cluster.programmed("g"), "True/Programmed");
}

/// Statuses are looked at when a router falls silent and when it is heard again, not in between.
#[test]
fn silence_is_noticed_once() {
    let mut cluster = Cluster::new("");
    cluster.endpoints(&[(1, true), (2, true)]);
    cluster.turn(&[1, 2]);
    let mut due = |seconds: u64, heard: &[u8]| {
        cluster.seconds = seconds;
        cluster.controller.statuses_due = false;
        cluster.turn(heard);
        cluster.controller.statuses_due
    };
    due(1, &[1, 2]);
    assert!(!due(5, &[1, 2]), "all are heard");
    due(6, &[1, 2]);
    assert!(!due(13, &[1]), "a report is late");
    assert!(due(14, &[1]), "the second leaves the addresses");
    assert!(!due(15, &[1]), "nothing new");
    assert!(due(21, &[1]), "and then Programmed");
    assert!(!due(22, &[1]));
    due(23, &[1, 2]);
    assert!(due(24, &[1, 2]), "it is heard again");
}

#[test]
fn a_router_without_a_configuration_is_not_ready() {
    let mut cluster = Cluster::new("");
    cluster.gateway("g", 1, &[(80, "")], &[]);
    cluster.endpoints(&[(1, true)]);
    cluster.turn(&[]);
    let address = SocketAddr::from(([10, 0, 0, 1], 9901));
    let now = cluster.now();
    cluster.controller.report(address, &Report { boot_id: 1, ..Report::default() }, now);
    cluster.turn(&[]);
    assert_eq!(cluster.addresses("g"), Vec::<String>::new());
}

#[test]
fn gateways_on_one_port_share_it_by_hostname_and_the_older_keeps_it() {
    let mut cluster = Cluster::new("");
    cluster.gateway("young", 3, &[(80, ""), (81, "")], &[]);
    cluster.gateway("old", 1, &[(80, "")], &[]);
    cluster.gateway("other", 2, &[(80, "a.example.com")], &[]);
    cluster.endpoints(&[(1, true)]);
    cluster.turn(&[]);
    cluster.turn(&[1]);
    assert_eq!(cluster.binds(), ["tcp:[::]:80", "tcp:[::]:81"]);
    let snapshot = cluster.controller.published().unwrap();
    let listeners = snapshot.listeners.as_slice().iter();
    let names: Vec<_> = listeners.map(|l| snapshot.text.get(l.gateway)).collect();
    assert_eq!(names, ["n/old", "n/other", "n/young"]);
    assert!(cluster.status("young").contains("PortUnavailable"), "{}", cluster.status("young"));
    assert!(!cluster.status("old").contains("PortUnavailable"));
    assert!(!cluster.status("other").contains("PortUnavailable"));
    assert_eq!(cluster.addresses("other"), ["IPAddress=10.0.0.1"]);
}

#[test]
fn a_listener_that_is_new_waits_beside_one_that_is_served() {
    let mut cluster = Cluster::new("");
    cluster.gateway("g", 1, &[(80, "")], &[]);
    cluster.endpoints(&[(1, true)]);
    cluster.turn(&[1]);
    cluster.turn(&[1]);
    // l1 was not served before, but of the same generation.
    let programmed = |holds: &str| {
        format!(
            r#""conditions":[{{"type":"Programmed","status":"{holds}","observedGeneration":1}}]"#
        )
    };
    let (yes, no) = (programmed("True"), programmed("False"));
    cluster.take(
        Kind::Gateway,
        &format!(
            r#"{{"metadata":{{"name":"g","namespace":"n","generation":1}},"spec":{{
            "gatewayClassName":"c","listeners":[{{"name":"l0","port":80,"protocol":"HTTP"}},
            {{"name":"l1","port":81,"protocol":"HTTP"}}]}},"status":{{{yes},
            "listeners":[{{"name":"l0",{yes}}},{{"name":"l1",{no}}}]}}}}"#
        ),
    );
    cluster.turn(&[]);
    assert_eq!(cluster.programmed("g"), "True/Programmed");
    let (_, listeners) = cluster.status("g").split_once(r#""listeners""#).unwrap();
    let (first, second) = listeners.split_once(r#""name":"l1""#).unwrap();
    assert!(first.contains(r#""type":"Programmed","status":"True""#), "{first}");
    assert!(second.contains(r#""status":"False","reason":"Pending""#), "{second}");
    cluster.turn(&[1]);
    assert_eq!(cluster.status("g").matches(r#""reason":"Programmed""#).count(), 3);
}

#[test]
fn a_requested_node_must_be_one_with_a_ready_router() {
    let mut cluster = Cluster::new("");
    cluster.gateway("foreign", 1, &[(80, "")], &["192.0.2.1"]);
    cluster.gateway("one", 2, &[(81, "")], &["10.0.0.2"]);
    cluster.gateway("both", 3, &[(82, "")], &["10.0.0.1", "10.0.0.2"]);
    cluster.endpoints(&[(1, true), (2, true)]);
    cluster.turn(&[]);
    cluster.turn(&[1, 2]);
    assert_eq!(cluster.binds(), ["tcp:[::]:81", "tcp:[::]:82"]);
    assert_eq!(cluster.programmed("foreign"), "False/AddressNotUsable");
    assert_eq!(cluster.addresses("one"), ["IPAddress=10.0.0.2"]);
    assert_eq!(cluster.programmed("both"), "True/Programmed");
    // A router that is made anew: its node is away for a moment. What other nodes serve stays.
    cluster.endpoints(&[(1, true)]);
    cluster.turn(&[1]);
    cluster.turn(&[1]);
    assert_eq!(cluster.binds(), ["tcp:[::]:82"]);
    assert_eq!(cluster.programmed("both"), "False/AddressNotUsable");
    assert_eq!(cluster.addresses("both"), ["IPAddress=10.0.0.1"]);
    assert_eq!(cluster.programmed("one"), "False/AddressNotUsable");
}

/// Of more nodes than a Gateway can have addresses, always the same are shown.
#[test]
fn at_most_as_many_nodes_as_the_api_allows() {
    let mut cluster = Cluster::new("");
    cluster.gateway("g", 1, &[(80, "")], &[]);
    let all: Vec<_> = (1..=MAX_ADDRESSES_PER_GATEWAY as u8 + 1).rev().collect();
    let endpoints: Vec<_> = all.iter().map(|&host| (host, true)).collect();
    cluster.endpoints(&endpoints);
    cluster.turn(&[]);
    cluster.turn(&all);
    let shown = cluster.addresses("g");
    assert_eq!(shown.len(), MAX_ADDRESSES_PER_GATEWAY as usize);
    assert_eq!(
        (shown[0].as_str(), shown[15].as_str()),
        ("IPAddress=10.0.0.1", "IPAddress=10.0.0.16")
    );
}

const FRONT: &str = r#"{"metadata":{"name":"front","namespace":"s"},"spec":{
    "clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"ports":[
    {"name":"http","port":80,"targetPort":8080},{"name":"named","port":81,"targetPort":"http"},
    {"name":"udp","port":82,"protocol":"UDP"},{"name":"same","port":8443}]EXTERNAL},
    "status":{"loadBalancer":{"ingress":[INGRESS]}}}"#;

fn front(external: &str, ingress: &str) -> String {
    FRONT.replace("EXTERNAL", external).replace("INGRESS", ingress)
}

#[test]
fn the_addresses_of_the_service_are_copied() {
    let mut cluster = Cluster::new("front");
    cluster.gateway("g", 1, &[(80, "")], &[]);
    cluster.endpoints(&[(1, true)]);
    cluster.turn(&[]);
    cluster.turn(&[1]);
    assert_eq!(cluster.programmed("g"), "False/AddressNotAssigned");
    assert_eq!(cluster.binds(), Vec::<String>::new());
    cluster.take(Kind::Service, &front("", ""));
    cluster.turn(&[]);
    cluster.turn(&[1]);
    assert_eq!(cluster.addresses("g"), ["IPAddress=10.96.0.9"]);
    assert_eq!(cluster.programmed("g"), "True/Programmed");
    cluster.take(Kind::Service, &front(r#","externalIPs":["192.0.2.7"]"#, ""));
    cluster.turn(&[1]);
    assert_eq!(cluster.addresses("g"), ["IPAddress=192.0.2.7"]);
    let ingress = r#"{"ip":"192.0.2.8"},{"hostname":"lb.example.com"}"#;
    cluster.take(Kind::Service, &front(r#","externalIPs":["192.0.2.7"]"#, ingress));
    cluster.turn(&[1]);
    assert_eq!(cluster.addresses("g"), ["IPAddress=192.0.2.8", "Hostname=lb.example.com"]);
    cluster.gateway("g", 1, &[(80, "")], &["192.0.2.7"]);
    cluster.turn(&[1]);
    assert_eq!(cluster.programmed("g"), "False/AddressNotUsable");
}

#[test]
fn routers_bind_where_the_service_sends() {
    let mut cluster = Cluster::new("front");
    cluster.take(Kind::Service, &front("", ""));
    cluster.gateway("g", 1, &[(80, ""), (8443, ""), (81, ""), (82, ""), (83, "")], &[]);
    cluster.turn(&[]);
    assert_eq!(cluster.binds(), ["tcp:[::]:8080", "tcp:[::]:8443"]);
    let snapshot = cluster.controller.published().unwrap();
    let ports: Vec<_> = snapshot.listeners.as_slice().iter().map(|l| l.port).collect();
    assert_eq!(ports, [80, 8443], "matching, redirects and parentRef.port: the listener's port");
    let status = cluster.status("g");
    // A named target, UDP, and a port that the Service does not have.
    assert_eq!(status.matches(r#""reason":"PortUnavailable""#).count(), 3, "{status}");
    assert!(status.contains("--gateway-service"), "{status}");
}
