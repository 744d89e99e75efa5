//! What manifests may say and few do: listeners that conflict, kinds that are no HTTPRoutes,
//! addresses by name, parameters, ports of UDP, filters of backends, endpoints of which nothing is
//! known.
//!
//! Out: parts of specs. What is served in the end is plain (`Workload::mend`).

use super::*;
use crate::router::NODES;
use crate::sim::ROUTERS;

/// Whether a listener is served beside the others of its Gateway.
pub(super) fn is_plain(all: &[Listener], own: &Listener) -> bool {
    let its_port = if is_tls_port(own.port) { "HTTPS" } else { "HTTP" };
    let beside = all.iter().filter(|o| o.name != own.name && o.port == own.port);
    let conflicts = |o: &Listener| o.protocol != own.protocol && o.protocol != "UDP";
    own.protocol == its_port && own.takes_http_routes() && !beside.into_iter().any(conflicts)
}

impl Workload {
    /// Now and then a listener that cannot share the port of another one, or does not speak HTTP.
    pub(super) fn add_intruder(&mut self, listeners: &mut Vec<Listener>, refs_left: u64) {
        if listeners.is_empty() || !self.prng.chance(1, 6) {
            return;
        }
        let beside = self.of(listeners);
        let protocols = match is_tls_port(beside.port) {
            true => ["HTTP", "TLS", "TLS", "TCP", "UDP"],
            false if refs_left > 0 => ["HTTPS", "HTTPS", "TLS", "TCP", "UDP"],
            false => ["TLS", "TLS", "TLS", "TCP", "UDP"],
        };
        let protocol = self.of(&protocols);
        let certificates = match protocol {
            "HTTPS" => vec![SecretRef { namespace: None, name: "secret0".to_string() }],
            _ => Vec::new(),
        };
        let hostname = match protocol {
            "TCP" | "UDP" => String::new(),
            _ if self.prng.chance(2, 3) => beside.hostname.clone(),
            _ => "c.net".to_string(),
        };
        let intruder = Listener {
            name: "odd".to_string(),
            port: beside.port,
            protocol,
            hostname,
            allowed: Allowed::All,
            kinds: Vec::new(),
            certificates,
        };
        let place = self.below(listeners.len() + 1);
        listeners.insert(place, intruder);
    }

    /// allowedRoutes.kinds.
    pub(super) fn kinds(&mut self) -> Vec<&'static str> {
        match self.below(24) {
            0 => vec!["HTTPRoute"],
            1 => vec!["TCPRoute", "HTTPRoute"],
            2 => vec!["GRPCRoute"],
            _ => Vec::new(),
        }
    }

    /// What a Gateway asks for: mostly nothing, else mostly addresses.
    pub(super) fn wants(&mut self, in_nodes: bool) -> Wants {
        let mut wants = Wants::default();
        match self.below(24) {
            0 => wants.parameters = true,
            1 => wants.addresses.push(("Hostname", None)),
            2 => wants.addresses.push(("IPAddress", None)),
            3..8 => {
                for _ in 0..self.prng.range(1, 2) {
                    let address = ("IPAddress", Some(self.address(in_nodes)));
                    if !wants.addresses.contains(&address) {
                        wants.addresses.push(address);
                    }
                }
            }
            _ => {}
        }
        wants
    }

    /// One that a Gateway may have, or not now, or seldom never.
    fn address(&mut self, in_nodes: bool) -> Ipv4Addr {
        if self.prng.chance(1, 12) {
            return Ipv4Addr::new(10, 240, 0, 99);
        }
        if !in_nodes {
            return self.of(&POOL);
        }
        let (router, node) = (self.below(ROUTERS), self.below(usize::from(NODES)) as u8);
        match admin_address(router, node).ip() {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => unreachable!("nodes have IPv4"),
        }
    }

    /// Ports of a Service: one number may be one of TCP and one of UDP.
    pub(super) fn ports(&mut self) -> Vec<Port> {
        let udp = |name: &str, number| Port { protocol: "UDP", ..Port::tcp(name, number) };
        let mut ports = vec![Port::tcp("http", 80)];
        match self.below(12) {
            0 => ports.insert(0, udp("quic", 80)),
            1 => ports = vec![udp("quic", 80)],
            2 => ports.push(udp("alt", 81)),
            3..6 => ports.push(Port::tcp("alt", 81)),
            _ => {}
        }
        let app = self.of(&[None, None, None, None, Some("ws"), Some("h2c")]);
        let app = app.filter(|_| self.prng.chance(1, 2));
        ports[0].app =
            app.map(|app| if app == "ws" { "kubernetes.io/ws" } else { "kubernetes.io/h2c" });
        ports
    }

    /// Ports of a slice.
    pub(super) fn slice_ports(&mut self) -> Vec<Port> {
        let mut ports = vec![Port::tcp("http", 8000), Port::tcp("alt", 8001)];
        if self.prng.chance(1, 6) {
            let protocol = "UDP";
            ports.insert(self.below(2), Port { protocol, ..Port::tcp("quic", 8000) });
        }
        if self.prng.chance(1, 12) {
            ports.iter_mut().filter(|p| p.name == "alt").for_each(|p| p.protocol = "UDP");
        }
        ports
    }

    /// Filters of a backend of a rule with these matches.
    pub(super) fn backend_filters(&mut self, matches: &[Match]) -> Filters {
        // Few, and seldom all: a store of routes has room for so much.
        if !self.prng.chance(1, 3) {
            return Filters::default();
        }
        let mut filters = Filters { redirect: None, ..self.filters(matches) };
        match self.below(3) {
            0 => filters.rewrite = None,
            1 => filters.response = None,
            _ => filters.request = None,
        }
        filters
    }

    /// An endpoint: mostly it is ready, and mostly that is known.
    pub(super) fn endpoint(&mut self, address: Ipv4Addr) -> Endpoint {
        let ready = self.prng.chance(4, 5);
        let terminating = !ready && self.prng.chance(1, 2);
        let serving = ready || self.prng.chance(1, 2);
        // What would be taken for it when it is not known.
        let mut known = |value: bool, otherwise: bool| {
            Some(value).filter(|_| value != otherwise || self.prng.chance(2, 3))
        };
        Endpoint {
            address,
            ready: known(ready, true),
            serving: known(serving, ready),
            terminating: known(terminating, false),
        }
    }
}
