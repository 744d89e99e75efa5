//! The objects of the model: what the workload creates, as the API server keeps them.
//!
//! Out: their JSON, as a real API server would send it.

use super::secret::{self, Flaw};
use super::timeouts::Timeouts;
use std::net::Ipv4Addr;

/// Kinds, in the order of the product's `Kind::ALL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Class,
    Gateway,
    Route,
    Service,
    Slice,
    Secret,
    Namespace,
    Grant,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::Class,
        Kind::Gateway,
        Kind::Route,
        Kind::Service,
        Kind::Slice,
        Kind::Secret,
        Kind::Namespace,
        Kind::Grant,
    ];
}

/// Of the annotation that makes an object too long.
const HUGE_BYTES: usize = serval::limits::MAX_LINE_SIZE_BYTES as usize;

/// Kind, namespace (empty when cluster-scoped), name.
pub type Key = (Kind, String, String);

/// An object in one version.
#[derive(Clone, Debug)]
pub struct Object {
    pub key: Key,
    pub uid: String,
    /// metadata.creationTimestamp, seconds.
    pub created: u64,
    pub generation: u64,
    pub version: u64,
    pub spec: Spec,
    /// The whole status as JSON; empty when there is none.
    pub status: String,
    /// status.addresses of a Gateway.
    pub addresses: Vec<Ipv4Addr>,
    /// It has an annotation that makes it longer than a controller takes.
    pub is_huge: bool,
}

/// What an object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    Class {
        controller: String,
        /// It has parametersRef.
        parameters: bool,
    },
    Gateway {
        class: String,
        listeners: Vec<Listener>,
        wants: Wants,
    },
    Route {
        parents: Vec<Parent>,
        hostnames: Vec<String>,
        rules: Vec<Rule>,
    },
    Service {
        ports: Vec<Port>,
    },
    Slice {
        service: String,
        ports: Vec<Port>,
        endpoints: Vec<Endpoint>,
    },
    Namespace {
        labels: Vec<(String, String)>,
    },
    /// A pair of certificate and key, and what is wrong with it.
    Secret {
        serial: u32,
        flaw: Option<Flaw>,
    },
    /// From a namespace to Services or Secrets, all or one.
    Grant {
        of: Referrer,
        from: String,
        to: Option<String>,
    },
    /// A user's own, which the model does not read: JSON members of metadata, and those beside it,
    /// each with the comma before it.
    Foreign {
        meta: String,
        rest: String,
    },
}

/// Who a ReferenceGrant lets refer to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referrer {
    /// HTTPRoutes to Services.
    Routes,
    /// Gateways to Secrets.
    Gateways,
}

/// SecretObjectReference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    pub namespace: Option<String>,
    pub name: String,
}

/// What a Gateway asks for beside listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// spec.addresses: type, and value if it has one.
    pub addresses: Vec<(&'static str, Option<Ipv4Addr>)>,
    /// It has infrastructure.parametersRef.
    pub parameters: bool,
}

/// A port of a Service or a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub number: u16,
    pub protocol: &'static str,
    /// appProtocol.
    pub app: Option<&'static str>,
}

impl Port {
    /// Of TCP.
    pub fn tcp(name: &str, number: u16) -> Port {
        Port { name: name.to_string(), number, protocol: "TCP", app: None }
    }

    fn json(&self) -> String {
        let Port { name, number, protocol, app } = self;
        let app = member("appProtocol", &app.map(str::to_string));
        format!(r#"{{"name":"{name}","port":{number},"protocol":"{protocol}"{app}}}"#)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    pub port: u16,
    pub protocol: &'static str,
    pub hostname: String,
    pub allowed: Allowed,
    /// allowedRoutes.kinds, of the Gateway API's group.
    pub kinds: Vec<&'static str>,
    /// tls.certificateRefs: of HTTPS.
    pub certificates: Vec<SecretRef>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    Same,
    All,
    /// Namespaces with this label.
    Label(String, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    pub namespace: Option<String>,
    pub name: String,
    pub section: Option<String>,
    pub port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub matches: Vec<Match>,
    pub backends: Vec<Backend>,
    pub filters: Filters,
    pub timeouts: Timeouts,
}

/// The field that all header modifiers edit.
pub const EDITED: &str = "x-edit";

/// What a header modifier does with [`EDITED`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    Set(String),
    Add(String),
    Remove,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    pub request: Option<Edit>,
    pub response: Option<Edit>,
    pub redirect: Option<Redirect>,
    pub rewrite: Option<Rewrite>,
}

/// HTTPPathModifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewPath {
    /// replaceFullPath.
    Full(String),
    /// replacePrefixMatch.
    Prefix(String),
}

/// HTTPRequestRedirectFilter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub scheme: Option<String>,
    pub hostname: Option<String>,
    pub port: Option<u16>,
    pub status: u16,
    pub path: Option<NewPath>,
}

/// HTTPURLRewriteFilter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub hostname: Option<String>,
    pub path: Option<NewPath>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Exact, and the path; None matches all.
    pub path: Option<(bool, String)>,
    pub method: Option<&'static str>,
    pub headers: Vec<(String, String)>,
    pub queries: Vec<(String, String)>,
    /// Headers match by regular expressions, which serval does not support.
    pub regex: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub kind: &'static str,
    pub namespace: Option<String>,
    pub name: String,
    pub port: u16,
    pub weight: u32,
    /// Its own, behind those of its rule: no redirect is among them.
    pub filters: Filters,
}

/// An endpoint, whose conditions may not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Ipv4Addr,
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

/// EndpointConditions: what is not known.
impl Endpoint {
    /// Interpreted as true.
    pub fn is_ready(&self) -> bool {
        self.ready.unwrap_or(true)
    }

    /// Defers to ready.
    pub fn is_serving(&self) -> bool {
        self.serving.unwrap_or(self.is_ready())
    }

    /// Interpreted as false.
    pub fn is_terminating(&self) -> bool {
        self.terminating.unwrap_or(false)
    }
}

/// `{…}` or `[…]` of items joined by commas.
fn list<T>(items: &[T], each: impl Fn(&T) -> String) -> String {
    items.iter().map(each).collect::<Vec<_>>().join(",")
}

fn member(name: &str, value: &Option<String>) -> String {
    value.as_ref().map_or(String::new(), |v| format!(r#","{name}":"{v}""#))
}

impl Object {
    /// As the API server sends it.
    pub fn json(&self) -> String {
        self.json_at(self.version)
    }

    /// The same at another version: that of its deletion.
    pub fn json_at(&self, version: u64) -> String {
        let (kind, namespace, name) = &self.key;
        let stamp = serval::stdx::Wall(self.created).rfc3339();
        let stamp = String::from_utf8_lossy(&stamp).to_string();
        let labels = match &self.spec {
            Spec::Slice { service, .. } => {
                format!(r#","labels":{{"kubernetes.io/service-name":"{service}"}}"#)
            }
            Spec::Namespace { labels } => {
                let labels = list(labels, |(k, v)| format!(r#""{k}":"{v}""#));
                format!(r#","labels":{{{labels}}}"#)
            }
            Spec::Foreign { meta, .. } => meta.clone(),
            _ => String::new(),
        };
        let notes = match self.is_huge {
            true => format!(r#","annotations":{{"note":"{}"}}"#, "x".repeat(HUGE_BYTES)),
            false => String::new(),
        };
        let place = match namespace.as_str() {
            "" => String::new(),
            namespace => format!(r#""namespace":"{namespace}","#),
        };
        let status = match self.status.as_str() {
            "" => String::new(),
            status => format!(r#","status":{status}"#),
        };
        format!(
            r#"{{"kind":"{kind:?}","metadata":{{{place}"name":"{name}","uid":"{}","resourceVersion":"{version}","generation":{},"creationTimestamp":"{stamp}"{labels}{notes}}}{}{status}}}"#,
            self.uid,
            self.generation,
            match &self.spec {
                Spec::Secret { serial, flaw } => secret::json(&self.key, *serial, *flaw),
                spec => spec.json(),
            },
        )
    }
}

impl Spec {
    /// The members beside metadata.
    fn json(&self) -> String {
        match self {
            Spec::Class { controller, parameters } => {
                let parameters = parameters_json("parametersRef", *parameters);
                format!(r#","spec":{{"controllerName":"{controller}"{parameters}}}"#)
            }
            Spec::Gateway { class, listeners, wants } => {
                let listeners = list(listeners, Listener::json);
                let wants = wants.json();
                format!(
                    r#","spec":{{"gatewayClassName":"{class}","listeners":[{listeners}]{wants}}}"#
                )
            }
            Spec::Route { parents, hostnames, rules } => {
                let parents = list(parents, Parent::json);
                let hostnames = list(hostnames, |h| format!(r#""{h}""#));
                let rules = list(rules, Rule::json);
                format!(
                    r#","spec":{{"parentRefs":[{parents}],"hostnames":[{hostnames}],"rules":[{rules}]}}"#
                )
            }
            Spec::Service { ports } => {
                format!(r#","spec":{{"ports":[{}]}}"#, list(ports, Port::json))
            }
            Spec::Slice { ports, endpoints, .. } => {
                format!(
                    r#","addressType":"IPv4","ports":[{}],"endpoints":[{}]"#,
                    list(ports, Port::json),
                    list(endpoints, Endpoint::json)
                )
            }
            Spec::Namespace { .. } => r#","spec":{}"#.to_string(),
            // What a Secret says is of its name too: `Object::json`.
            Spec::Secret { .. } => String::new(),
            Spec::Foreign { rest, .. } => rest.clone(),
            Spec::Grant { of, from, to } => {
                let (kind, target) = match of {
                    Referrer::Routes => ("HTTPRoute", "Service"),
                    Referrer::Gateways => ("Gateway", "Secret"),
                };
                format!(
                    r#","spec":{{"from":[{{"group":"gateway.networking.k8s.io","kind":"{kind}","namespace":"{from}"}}],"to":[{{"group":"","kind":"{target}"{}}}]}}"#,
                    member("name", to)
                )
            }
        }
    }
}

fn parameters_json(name: &str, are_there: bool) -> String {
    let reference = r#"{"group":"example.com","kind":"Parameters","name":"some"}"#;
    if are_there { format!(r#","{name}":{reference}"#) } else { String::new() }
}

impl Wants {
    fn json(&self) -> String {
        let address = |(kind, value): &(&str, Option<Ipv4Addr>)| {
            format!(r#"{{"type":"{kind}"{}}}"#, member("value", &value.map(|v| v.to_string())))
        };
        let mut text = String::new();
        if !self.addresses.is_empty() {
            text += &format!(r#","addresses":[{}]"#, list(&self.addresses, address));
        }
        if self.parameters {
            let parameters = parameters_json("parametersRef", true);
            text += &format!(r#","infrastructure":{{{}}}"#, &parameters[1..]);
        }
        text
    }
}

impl Listener {
    /// By protocol and allowedRoutes.kinds, where none means those of the protocol.
    pub fn takes_http_routes(&self) -> bool {
        let is_http = matches!(self.protocol, "HTTP" | "HTTPS");
        is_http && (self.kinds.is_empty() || self.kinds.contains(&"HTTPRoute"))
    }

    fn json(&self) -> String {
        let allowed = match &self.allowed {
            Allowed::Same => r#"{"from":"Same"}"#.to_string(),
            Allowed::All => r#"{"from":"All"}"#.to_string(),
            Allowed::Label(k, v) => {
                format!(r#"{{"from":"Selector","selector":{{"matchLabels":{{"{k}":"{v}"}}}}}}"#)
            }
        };
        let hostname = Some(self.hostname.clone()).filter(|h| !h.is_empty());
        let reference = |r: &SecretRef| {
            format!(r#"{{"name":"{}"{}}}"#, r.name, member("namespace", &r.namespace))
        };
        let refs = list(&self.certificates, reference);
        let tls = match self.protocol {
            "HTTPS" => format!(r#","tls":{{"certificateRefs":[{refs}]}}"#),
            "TLS" => r#","tls":{"mode":"Passthrough"}"#.to_string(),
            _ => String::new(),
        };
        let kind =
            |kind: &&str| format!(r#"{{"group":"gateway.networking.k8s.io","kind":"{kind}"}}"#);
        let kinds = match list(&self.kinds, kind).as_str() {
            "" => String::new(),
            kinds => format!(r#","kinds":[{kinds}]"#),
        };
        format!(
            r#"{{"name":"{}","port":{},"protocol":"{}"{}{tls},"allowedRoutes":{{"namespaces":{allowed}{kinds}}}}}"#,
            self.name,
            self.port,
            self.protocol,
            member("hostname", &hostname)
        )
    }
}

impl Parent {
    fn json(&self) -> String {
        let port = self.port.map_or(String::new(), |p| format!(r#","port":{p}"#));
        format!(
            r#"{{"name":"{}"{}{}{port}}}"#,
            self.name,
            member("namespace", &self.namespace),
            member("sectionName", &self.section)
        )
    }
}

impl Rule {
    fn json(&self) -> String {
        let backend = |b: &Backend| {
            let filters = match b.filters.json().as_str() {
                "" => String::new(),
                filters => format!(r#","filters":[{filters}]"#),
            };
            format!(
                r#"{{"kind":"{}","name":"{}","port":{},"weight":{}{}{filters}}}"#,
                b.kind,
                b.name,
                b.port,
                b.weight,
                member("namespace", &b.namespace)
            )
        };
        format!(
            r#"{{"matches":[{}],"backendRefs":[{}],"filters":[{}]{}}}"#,
            list(&self.matches, Match::json),
            list(&self.backends, backend),
            self.filters.json(),
            self.timeouts.json()
        )
    }
}

impl Edit {
    fn json(&self) -> String {
        match self {
            Edit::Set(value) => format!(r#""set":[{{"name":"X-Edit","value":"{value}"}}]"#),
            Edit::Add(value) => format!(r#""add":[{{"name":"X-Edit","value":"{value}"}}]"#),
            Edit::Remove => r#""remove":["x-eDIT"]"#.to_string(),
        }
    }
}

impl NewPath {
    fn json(path: &Option<NewPath>) -> String {
        let (kind, name, value) = match path {
            None => return String::new(),
            Some(NewPath::Full(value)) => ("ReplaceFullPath", "replaceFullPath", value),
            Some(NewPath::Prefix(value)) => ("ReplacePrefixMatch", "replacePrefixMatch", value),
        };
        format!(r#","path":{{"type":"{kind}","{name}":"{value}"}}"#)
    }
}

impl Filters {
    fn json(&self) -> String {
        let mut all = Vec::new();
        let of = |kind: &str, member: &str, body: String| {
            format!(r#"{{"type":"{kind}","{member}":{{{body}}}}}"#)
        };
        if let Some(edit) = &self.request {
            all.push(of("RequestHeaderModifier", "requestHeaderModifier", edit.json()));
        }
        if let Some(edit) = &self.response {
            all.push(of("ResponseHeaderModifier", "responseHeaderModifier", edit.json()));
        }
        if let Some(r) = &self.redirect {
            let port = r.port.map_or(String::new(), |p| format!(r#","port":{p}"#));
            let path = NewPath::json(&r.path);
            let (scheme, host) = (member("scheme", &r.scheme), member("hostname", &r.hostname));
            let body = format!(r#""statusCode":{}{scheme}{host}{port}{path}"#, r.status);
            all.push(of("RequestRedirect", "requestRedirect", body));
        }
        if let Some(r) = &self.rewrite {
            let body = format!("{}{}", member("hostname", &r.hostname), NewPath::json(&r.path));
            all.push(of("URLRewrite", "urlRewrite", body.trim_start_matches(',').to_string()));
        }
        all.join(",")
    }
}

impl Match {
    fn json(&self) -> String {
        let pair = |(n, v): &(String, String)| format!(r#"{{"name":"{n}","value":"{v}"}}"#);
        let mut members = Vec::new();
        if let Some((exact, path)) = &self.path {
            let kind = if *exact { "Exact" } else { "PathPrefix" };
            members.push(format!(r#""path":{{"type":"{kind}","value":"{path}"}}"#));
        }
        if let Some(method) = self.method {
            members.push(format!(r#""method":"{method}""#));
        }
        if !self.headers.is_empty() {
            let headers = list(&self.headers, pair);
            let typed = headers.replace(r#"{"#, r#"{"type":"RegularExpression","#);
            let headers = if self.regex { typed } else { headers };
            members.push(format!(r#""headers":[{headers}]"#));
        }
        if !self.queries.is_empty() {
            members.push(format!(r#""queryParams":[{}]"#, list(&self.queries, pair)));
        }
        format!("{{{}}}", members.join(","))
    }
}

impl Endpoint {
    fn json(&self) -> String {
        let known =
            [("ready", self.ready), ("serving", self.serving), ("terminating", self.terminating)];
        let known = known.iter().filter_map(|(name, value)| Some((name, (*value)?)));
        let known: Vec<_> = known.map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
        let conditions = match known.join(",").as_str() {
            "" => String::new(),
            known => format!(r#","conditions":{{{known}}}"#),
        };
        format!(r#"{{"addresses":["{}"]{conditions}}}"#, self.address)
    }
}
