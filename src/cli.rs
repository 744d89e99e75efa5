//! The command line: flags, environment and defaults into [`Options`]; every mistake named.
//!
//! A flag `--max-routes 100` may stand as `SERVAL_MAX_ROUTES=100` in the environment; the flag
//! wins. Capacities are the flags of limits.toml.

use serval::limits::{Capacities, CapacityError, LIMITS};
use serval::reconcile::addresses::{AddressPool, RangeError};
use serval::resource::Key;
use std::net::SocketAddr;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Watch the Kubernetes API and push to routers.
    Controller,
    /// Carry traffic.
    Router,
    /// Both in one process, on manifests in a folder.
    Run,
    /// Read manifests and print the statuses the controller would write.
    Check,
    /// Print every bound and the memory plan.
    Limits,
    /// Make and renew what controller and routers prove themselves with.
    Identity,
}

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to do.
    pub command: Command,
    /// `--manifests`.
    pub manifests: String,
    /// `--controller-name`.
    pub controller_name: String,
    /// `--gateway-addresses`.
    pub pool: AddressPool,
    /// `--gateway-service`; without a name: another mode.
    pub gateway_service: Key,
    /// `--admin`.
    pub admin: SocketAddr,
    /// `--health`.
    pub health: Option<SocketAddr>,
    /// `--admin-token-file`.
    pub admin_token_file: String,
    /// `--identity`; empty: none.
    pub identity: String,
    /// `--listen`, repeated.
    pub listens: Vec<SocketAddr>,
    /// `--router`, repeated.
    pub routers: Vec<String>,
    /// `--router-service`; without a name: `--router` says them.
    pub router_service: Key,
    /// `--kubeconfig`; empty: in the cluster.
    pub kubeconfig: String,
    /// `--lease-namespace`.
    pub lease_namespace: String,
    /// `--state-dir`; empty: nothing is saved.
    pub state_dir: String,
    /// `--drain-timeout`, in ms.
    pub drain_timeout_ms: u64,
    /// `--namespace`; empty: the pod's, or the kubeconfig's.
    pub namespace: String,
    /// `--out`; empty: Secrets of the namespace.
    pub out: String,
    /// `--max-memory`, in bytes; 0: by the cgroup.
    pub max_memory: u64,
    /// `--max-…`.
    pub capacities: Capacities,
}

/// The exit code of a wrong command line (sysexits' EX_USAGE).
pub const EXIT_USAGE: i32 = 64;

/// The text of `serval --help`.
pub const USAGE: &str = "\
serval: a Kubernetes Gateway API implementation with fixed memory

usage: serval COMMAND [FLAGS]

  run --manifests DIR     serve the Gateway API manifests of a folder, without a cluster
  controller              watch the Kubernetes API, push to routers, write statuses
  router                  carry traffic as a controller says
  check --manifests DIR   read manifests, print the statuses a controller would write
  limits                  print every bound with its flag, and the memory plan
  identity                make or renew the certificates by which controller and routers know each
                          other: the Secrets serval-controller, serval-router, serval-authority

flags:
  --manifests DIR             run, check: folder of *.yaml, *.yml, *.json
  --controller-name NAME      whose GatewayClasses are ours (serval.dev/gateway-controller)
  --gateway-addresses LIST    addresses for Gateways: 10.0.0.1,10.1.0.0/24,10.2.0.1-10.2.0.9
  --gateway-service NAMESPACE/NAME
                              controller: Gateways have the addresses of this Service, and routers
                              bind its targetPorts; without both flags, those of the routers' nodes
  --admin ADDRESS:PORT        admin port (router and run: 127.0.0.1:9901, controller: 127.0.0.1:9903)
  --health ADDRESS:PORT       a plain port for probes: only /healthz, /readyz, /metrics
  --admin-token-file FILE     token that a push needs (controller: that it sends)
  --identity DIR              tls.crt, tls.key, ca.crt: only mutual TLS between controller and router;
                              beyond loopback they need it; read again every 10 s
  --listen ADDRESS:PORT       router: without a controller, listen here; may be repeated; routes and
                              pools come by the admin port (docs/LOCAL.md)
  --router ADDRESS:PORT       controller: a router's admin port; may be repeated
  --router-service NAMESPACE/NAME
                              controller: or the endpoints of this Service, at its port named
                              admin (or its only port)
  --kubeconfig FILE           controller, identity: without it, in-cluster
  --namespace NAME            identity: where the Secrets are (the pod's or kubeconfig's namespace)
  --out DIR                   identity: into folders here instead, without a cluster
  --lease-namespace NAME      controller: where the Lease of the epoch lies (serval-system)
  --state-dir DIR             router, run: keep the last good configuration here
  --drain-timeout SECONDS     time to finish what runs after SIGTERM (30)
  --max-memory BYTES          refuse a plan above this (default: 90 % of the cgroup's limit; 512 MiB
                              without one)
  --max-routes N, ...         capacities: see `serval limits`

exit codes: 0 ended as asked; 1 check: something is not accepted; 64 wrong command line;
  65 wrong manifests at the start; 66 no access to a file; 69 a port or the API server's
  configuration cannot be used; 71 out of memory plan; 130, 143 second signal; 134 (SIGABRT) a bug
  of ours
";

/// Reads the command line and the environment.
pub fn parse() -> Result<Options, String> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_env();
    let mut options = None::<Options>;
    let mut flags: Vec<(String, String)> = Vec::new();
    while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
        match argument {
            Long("help") | Short('h') => return Err(USAGE.into()),
            Long("version") | Short('V') => {
                return Err(format!("serval {}\n", env!("CARGO_PKG_VERSION")));
            }
            Value(word) if options.is_none() => {
                options = Some(defaults(command(&word.to_string_lossy())?));
            }
            Long(name) => {
                let name = name.to_string();
                let value = parser.value().map_err(|e| e.to_string())?;
                let value = value.into_string().map_err(|_| format!("--{name}: not UTF-8"))?;
                flags.push((name, value));
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    let mut options = options.ok_or_else(|| USAGE.to_string())?;
    for (name, value) in std::env::vars() {
        if let Some(name) = name.strip_prefix("SERVAL_MAX_") {
            let flag = format!("max-{}", name.to_lowercase().replace('_', "-"));
            set(&mut options, &flag, &value).map_err(|e| format!("SERVAL_MAX_{name}: {e}"))?;
        }
    }
    for (name, value) in flags {
        set(&mut options, &name, &value).map_err(|e| format!("--{name} {value}: {e}"))?;
    }
    check(&options)?;
    Ok(options)
}

fn command(word: &str) -> Result<Command, String> {
    match word {
        "run" => Ok(Command::Run),
        "controller" => Ok(Command::Controller),
        "router" => Ok(Command::Router),
        "check" => Ok(Command::Check),
        "limits" => Ok(Command::Limits),
        "identity" => Ok(Command::Identity),
        "help" => Err(USAGE.into()),
        other => Err(format!("{other}: no such command (serval --help says which there are)")),
    }
}

fn defaults(command: Command) -> Options {
    let port = if command == Command::Controller { 9903 } else { 9901 };
    Options {
        command,
        manifests: String::new(),
        controller_name: "serval.dev/gateway-controller".into(),
        pool: AddressPool::default(),
        gateway_service: Key::default(),
        admin: SocketAddr::from(([127, 0, 0, 1], port)),
        health: None,
        admin_token_file: String::new(),
        identity: String::new(),
        listens: Vec::new(),
        routers: Vec::new(),
        router_service: Key::default(),
        kubeconfig: String::new(),
        lease_namespace: "serval-system".into(),
        state_dir: String::new(),
        drain_timeout_ms: 30_000,
        namespace: String::new(),
        out: String::new(),
        max_memory: 0,
        capacities: Capacities::DEFAULT,
    }
}

fn set(options: &mut Options, name: &str, value: &str) -> Result<(), String> {
    match name {
        "manifests" => options.manifests = value.into(),
        "controller-name" => options.controller_name = value.into(),
        "gateway-addresses" => {
            options.pool = AddressPool::parse(value).map_err(|error| match error {
                RangeError::Syntax => "must be addresses, CIDRs or ranges, by commas".to_string(),
                RangeError::Order => "a range's last address lies before its first".to_string(),
                RangeError::TooMany => "at most 8 ranges".to_string(),
            })?;
        }
        "admin" => options.admin = address_port(value)?,
        "health" => options.health = Some(address_port(value)?),
        "admin-token-file" => options.admin_token_file = value.into(),
        "identity" => options.identity = value.trim_end_matches('/').into(),
        "namespace" => options.namespace = value.into(),
        "out" => options.out = value.trim_end_matches('/').into(),
        "listen" => {
            options.listens.push(value.parse().map_err(|_| "must be ADDRESS:PORT")?);
        }
        "router" => options.routers.push(value.into()),
        "gateway-service" => options.gateway_service = service(value)?,
        "router-service" => options.router_service = service(value)?,
        "kubeconfig" => options.kubeconfig = value.into(),
        "lease-namespace" => options.lease_namespace = value.into(),
        "state-dir" => options.state_dir = value.into(),
        "drain-timeout" => {
            let seconds: u64 = value.parse().map_err(|_| "must be seconds")?;
            options.drain_timeout_ms = seconds.saturating_mul(1000);
        }
        "max-memory" => options.max_memory = value.parse().map_err(|_| "must be bytes")?,
        _ => return set_capacity(options, name, value),
    }
    Ok(())
}

/// An address and, after the last colon, a port. IPv6 may stand without brackets, as a manifest
/// makes it that says `--admin=$(POD_IP):9901`.
fn address_port(value: &str) -> Result<SocketAddr, String> {
    let (address, port) = value.rsplit_once(':').ok_or("must be ADDRESS:PORT")?;
    let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    match (address.parse(), port.parse()) {
        (Ok(address), Ok(port)) => Ok(SocketAddr::new(address, port)),
        _ => Err("must be ADDRESS:PORT".to_string()),
    }
}

fn service(value: &str) -> Result<Key, String> {
    let key = value.split_once('/').and_then(|(ns, name)| Key::new(ns, name).ok());
    let whole = key.filter(|k| !k.namespace.is_empty() && !k.name.is_empty());
    whole.ok_or_else(|| "must be NAMESPACE/NAME".to_string())
}

fn set_capacity(options: &mut Options, name: &str, value: &str) -> Result<(), String> {
    let limit = name.to_uppercase().replace('-', "_");
    let number: u32 = match value.parse() {
        Ok(number) => number,
        Err(_) if LIMITS.iter().any(|l| l.name == limit) => return Err("must be a number".into()),
        Err(_) => return Err("no such flag (serval --help, serval limits)".into()),
    };
    options.capacities.set(&limit, number).map_err(|error| match error {
        CapacityError::Unknown => "no such flag (serval --help, serval limits)".to_string(),
        CapacityError::OutOfRange { min, max } => format!("must be {min} to {max}"),
    })
}

fn check(options: &Options) -> Result<(), String> {
    let needs_folder = matches!(options.command, Command::Run | Command::Check);
    if needs_folder && options.manifests.is_empty() {
        return Err("--manifests DIR is needed".into());
    }
    if options.controller_name.len() > 253 || !options.controller_name.contains('/') {
        return Err("--controller-name: must be DOMAIN/PATH of at most 253 bytes".into());
    }
    if options.command == Command::Controller {
        if options.routers.is_empty() == options.router_service.name.is_empty() {
            return Err("--router ADDRESS:PORT or --router-service NAMESPACE/NAME is needed, not \
                        both"
                .into());
        }
        if !options.pool.is_empty() && !options.gateway_service.name.is_empty() {
            return Err("--gateway-addresses or --gateway-service, not both".into());
        }
    }
    for router in &options.routers {
        let Ok(router) = router.parse::<SocketAddr>() else {
            return Err(format!("--router {router}: must be ADDRESS:PORT"));
        };
        if !router.ip().is_loopback() && options.identity.is_empty() {
            return Err(format!("--router {router}: {NEEDS_IDENTITY}"));
        }
    }
    if !options.router_service.name.is_empty() && options.identity.is_empty() {
        return Err(format!("--router-service: {NEEDS_IDENTITY}"));
    }
    if options.admin.ip().is_loopback() {
        return Ok(());
    }
    // A push carries private keys. Local changes do not.
    let takes_pushes = options.command == Command::Router && options.listens.is_empty();
    if takes_pushes && options.identity.is_empty() {
        return Err(format!("--admin {}: {NEEDS_IDENTITY}", options.admin));
    }
    if options.admin_token_file.is_empty() && options.identity.is_empty() {
        return Err("--admin: beyond loopback a token is needed (--admin-token-file)".into());
    }
    Ok(())
}

const NEEDS_IDENTITY: &str = "beyond loopback an identity is needed, since private keys are pushed (--identity DIR; `serval \
     identity` makes it)";

#[cfg(test)]
mod tests {
    use super::*;

    /// Private keys are pushed over mutual TLS, or not beyond this machine.
    #[test]
    fn beyond_loopback_an_identity_is_needed() {
        let of = |command, flags: &[(&str, &str)]| {
            let mut options = defaults(command);
            flags.iter().for_each(|(name, value)| set(&mut options, name, value).unwrap());
            check(&options).err().unwrap_or_default()
        };
        let far = ("admin", "192.0.2.1:9901");
        let (token, identity) = (("admin-token-file", "/x"), ("identity", "/x/"));
        assert_eq!(of(Command::Router, &[]), "");
        assert!(of(Command::Router, &[far]).contains("an identity is needed"));
        assert!(of(Command::Router, &[far, token]).contains("an identity is needed"));
        assert_eq!(of(Command::Router, &[far, identity]), "");
        // No keys: routes and pools by hand.
        let local = ("listen", "0.0.0.0:80");
        assert!(of(Command::Router, &[far, local]).contains("a token is needed"));
        assert_eq!(of(Command::Router, &[far, local, token]), "");
        let (near, away) = (("router", "127.0.0.1:9901"), ("router", "192.0.2.1:9901"));
        assert_eq!(of(Command::Controller, &[near]), "");
        assert!(of(Command::Controller, &[near, away]).contains("--router 192.0.2.1:9901: beyond"));
        assert_eq!(of(Command::Controller, &[away, identity]), "");
        let service = ("router-service", "a/b");
        assert!(of(Command::Controller, &[service]).contains("--router-service: beyond"));
        assert_eq!(of(Command::Controller, &[service, identity]), "");
    }

    #[test]
    fn addresses_of_pods() {
        let of = |text| address_port(text).map(|address| address.to_string());
        assert_eq!(of("10.0.0.1:9901").as_deref(), Ok("10.0.0.1:9901"));
        assert_eq!(of("fd00::1:9901").as_deref(), Ok("[fd00::1]:9901"));
        assert_eq!(of("[fd00::1]:9901").as_deref(), Ok("[fd00::1]:9901"));
        for wrong in ["", "9901", ":9901", "10.0.0.1", "10.0.0.1:", "node:9901", "10.0.0.1:65536"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
