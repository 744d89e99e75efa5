//! Where the API server is and how to prove who we are: a kubeconfig, or a pod's files.
//!
//! In: a kubeconfig as a document (the YAML reader's), or KUBERNETES_SERVICE_HOST and _PORT. Out:
//! server, CA, client certificate, token, each as inline data or a file's name; reading files is
//! the shell's. What would weaken the connection or run programs is refused with a clear word:
//! insecure-skip-tls-verify, exec, auth-provider, plain HTTP to other machines.

use crate::limits::KUBE_AUTHORITY_BYTES;
use crate::resource::document::{Document, Value};
use crate::stdx::Inline;
use core::fmt::{self, Write};
use core::net::IpAddr;

/// Data of a kubeconfig: inline, or in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Material<'d> {
    /// Base64 of PEM (`certificate-authority-data` and the like).
    Data(&'d str),
    /// A file's name, relative to the kubeconfig's folder.
    File(&'d str),
}

/// A bearer token, or none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Token<'d> {
    /// No token is sent.
    None,
    /// This one, always.
    Inline(&'d str),
    /// What this file holds at the time.
    File(&'d str),
}

// Keys and tokens are never printed: their length says whether they are the ones expected.
impl fmt::Debug for Material<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Material::Data(text) => write!(f, "Data({} bytes)", text.len()),
            Material::File(file) => write!(f, "File({file:?})"),
        }
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::None => f.write_str("None"),
            Token::Inline(text) => write!(f, "Inline({} bytes)", text.len()),
            Token::File(file) => write!(f, "File({file:?})"),
        }
    }
}

/// The server's URL, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerUrl<'d> {
    /// Whether TLS is spoken; without it only to this machine.
    pub tls: bool,
    /// Name or address, IPv6 without brackets.
    pub host: &'d str,
    /// Port.
    pub port: u16,
    /// Path before `/api` and `/apis`, without a slash at its end.
    pub prefix: &'d str,
}

/// All that a client needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access<'d> {
    /// Where.
    pub server: ServerUrl<'d>,
    /// The name that the server's certificate must have.
    pub server_name: &'d str,
    /// Who may have signed it; always present with TLS.
    pub authority: Option<Material<'d>>,
    /// Our certificate chain and its key.
    pub client: Option<(Material<'d>, Material<'d>)>,
    /// Our token.
    pub token: Token<'d>,
    /// The namespace of the context, or `default`.
    pub namespace: &'d str,
}

/// What is wrong with a kubeconfig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError<'d> {
    /// Not a kubeconfig: no object, or a member of the wrong type.
    NotAConfig,
    /// There is no `current-context`, and none was named.
    NoContext,
    /// The context of that name is missing.
    UnknownContext(&'d str),
    /// The cluster of that name is missing.
    UnknownCluster(&'d str),
    /// The user of that name is missing.
    UnknownUser(&'d str),
    /// `server` is missing or is no URL that can be used.
    BadServer(&'d str),
    /// `http://` to another machine.
    PlainHttp(&'d str),
    /// `insecure-skip-tls-verify: true`
    Insecure(&'d str),
    /// `proxy-url`
    Proxy(&'d str),
    /// TLS without a CA: the system's CAs are not used.
    NoAuthority(&'d str),
    /// A certificate without its key, or the other way round.
    HalfCertificate(&'d str),
    /// The user runs a program (`exec`).
    Exec(&'d str),
    /// The user has an `auth-provider`.
    AuthProvider(&'d str),
    /// The user has `username` and `password`.
    Basic(&'d str),
    /// The user impersonates (`as`).
    Impersonation(&'d str),
}

impl fmt::Display for ConfigError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::NotAConfig => f.write_str("not a kubeconfig"),
            ConfigError::NoContext => f.write_str("the kubeconfig has no current-context"),
            ConfigError::UnknownContext(name) => write!(f, "there is no context {name:?}"),
            ConfigError::UnknownCluster(name) => write!(f, "there is no cluster {name:?}"),
            ConfigError::UnknownUser(name) => write!(f, "there is no user {name:?}"),
            ConfigError::BadServer(name) => {
                write!(f, "cluster {name:?}: server is not an https URL with a host")
            }
            ConfigError::PlainHttp(name) => write!(
                f,
                "cluster {name:?}: http:// is only taken for this machine (127.0.0.1, ::1)"
            ),
            ConfigError::Insecure(name) => write!(
                f,
                "cluster {name:?}: insecure-skip-tls-verify is refused; give certificate-authority"
            ),
            ConfigError::Proxy(name) => write!(f, "cluster {name:?}: proxy-url is not supported"),
            ConfigError::NoAuthority(name) => write!(
                f,
                "cluster {name:?}: certificate-authority is missing (the system's are not used)"
            ),
            ConfigError::HalfCertificate(name) => {
                write!(f, "user {name:?}: client-certificate and client-key belong together")
            }
            ConfigError::Exec(name) => write!(
                f,
                "user {name:?}: exec plugins are not supported; use a token or a certificate"
            ),
            ConfigError::AuthProvider(name) => write!(
                f,
                "user {name:?}: auth-provider is not supported; use a token or a certificate"
            ),
            ConfigError::Basic(name) => {
                write!(f, "user {name:?}: username and password are not supported")
            }
            ConfigError::Impersonation(name) => {
                write!(f, "user {name:?}: impersonation (as) is not supported")
            }
        }
    }
}

/// Where a pod finds its CA, token and namespace (projected service account volume).
pub const POD_FILES: [&str; 3] = [
    "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
    "/var/run/secrets/kubernetes.io/serviceaccount/token",
    "/var/run/secrets/kubernetes.io/serviceaccount/namespace",
];

/// The access that a pod has; `namespace` is what its file says.
pub fn in_cluster<'d>(
    host: &'d str,
    port: u16,
    namespace: &'d str,
) -> Result<Access<'d>, ConfigError<'d>> {
    if host.is_empty() || port == 0 {
        return Err(ConfigError::BadServer("in-cluster"));
    }
    Ok(Access {
        server: ServerUrl { tls: true, host, port, prefix: "" },
        server_name: host,
        authority: Some(Material::File(POD_FILES[0])),
        client: None,
        token: Token::File(POD_FILES[1]),
        namespace,
    })
}

/// The access that a context of a kubeconfig describes; an empty `context` is `current-context`.
pub fn kubeconfig<'d>(
    document: &'d Document,
    context: &'d str,
) -> Result<Access<'d>, ConfigError<'d>> {
    let root = document.root();
    if root.get("clusters").is_none() && root.get("contexts").is_none() {
        return Err(ConfigError::NotAConfig);
    }
    let current = root.get("current-context").and_then(Value::scalar).unwrap_or("");
    let wanted = if context.is_empty() { current } else { context };
    if wanted.is_empty() {
        return Err(ConfigError::NoContext);
    }
    let context = named(root, "contexts", wanted, "context");
    let context = context.ok_or(ConfigError::UnknownContext(wanted))?;
    let of = |member| context.get(member).and_then(Value::scalar).unwrap_or("");
    let (cluster_name, user_name) = (of("cluster"), of("user"));
    let cluster = named(root, "clusters", cluster_name, "cluster");
    let cluster = cluster.ok_or(ConfigError::UnknownCluster(cluster_name))?;
    let user = named(root, "users", user_name, "user");
    let user = user.ok_or(ConfigError::UnknownUser(user_name))?;

    let server = server(cluster, cluster_name)?;
    refuse_user(user, user_name)?;
    let authority = material(cluster, "certificate-authority-data", "certificate-authority");
    if server.tls && authority.is_none() {
        return Err(ConfigError::NoAuthority(cluster_name));
    }
    let certificate = material(user, "client-certificate-data", "client-certificate");
    let client = match (certificate, material(user, "client-key-data", "client-key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err(ConfigError::HalfCertificate(user_name)),
    };
    let tls_name = text(cluster, "tls-server-name");
    let namespace = text(context, "namespace").unwrap_or("default");
    let server_name = tls_name.unwrap_or(server.host);
    Ok(Access { server, server_name, authority, client, token: token(user), namespace })
}

/// A member's text, None when empty.
fn text<'d>(object: Value<'d>, member: &str) -> Option<&'d str> {
    object.get(member).and_then(Value::scalar).filter(|text| !text.is_empty())
}

/// The `member` of the entry of that name in a list of `{name, member}`.
fn named<'d>(root: Value<'d>, list: &str, name: &str, member: &str) -> Option<Value<'d>> {
    let mut entries = root.get(list)?.items();
    entries.find(|entry| text(*entry, "name").unwrap_or("") == name)?.get(member)
}

/// Data wins over a file, as in client-go.
fn material<'d>(object: Value<'d>, data: &str, file: &str) -> Option<Material<'d>> {
    let data = text(object, data).map(Material::Data);
    data.or_else(|| text(object, file).map(Material::File))
}

/// A file wins over an inline token, as in client-go.
fn token(user: Value<'_>) -> Token<'_> {
    match (text(user, "tokenFile"), text(user, "token")) {
        (Some(file), _) => Token::File(file),
        (None, Some(token)) => Token::Inline(token),
        (None, None) => Token::None,
    }
}

fn refuse_user<'d>(user: Value<'d>, name: &'d str) -> Result<(), ConfigError<'d>> {
    let has = |member: &str| user.get(member).is_some();
    match () {
        () if has("exec") => Err(ConfigError::Exec(name)),
        () if has("auth-provider") => Err(ConfigError::AuthProvider(name)),
        () if has("username") || has("password") => Err(ConfigError::Basic(name)),
        () if has("as") || has("as-uid") || has("as-groups") => {
            Err(ConfigError::Impersonation(name))
        }
        () => Ok(()),
    }
}

fn server<'d>(cluster: Value<'d>, name: &'d str) -> Result<ServerUrl<'d>, ConfigError<'d>> {
    if cluster.get("insecure-skip-tls-verify").and_then(Value::bool) == Some(true) {
        return Err(ConfigError::Insecure(name));
    }
    if text(cluster, "proxy-url").is_some() {
        return Err(ConfigError::Proxy(name));
    }
    let url = text(cluster, "server").and_then(parse_url).ok_or(ConfigError::BadServer(name))?;
    if !url.tls && !is_this_machine(url.host) {
        return Err(ConfigError::PlainHttp(name));
    }
    Ok(url)
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `https://host[:port][/prefix]`; None for user names, queries, fragments and other schemes.
pub fn parse_url(url: &str) -> Option<ServerUrl<'_>> {
    let (tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return None,
    };
    if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains(['?', '#', '@', '\\']) {
        return None;
    }
    let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed.split_once(']')?;
            host.parse::<core::net::Ipv6Addr>().ok()?;
            (host, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|&port| port > 0)?,
        None if port.is_empty() => {
            if tls {
                443
            } else {
                80
            }
        }
        None => return None,
    };
    let good = !host.is_empty() && host.len() <= 253;
    good.then_some(ServerUrl { tls, host, port, prefix: prefix.trim_end_matches('/') })
}

impl ServerUrl<'_> {
    /// `host:port` as the Host field has it: IPv6 in brackets, always with the port.
    pub fn authority(&self) -> Inline<{ KUBE_AUTHORITY_BYTES as usize }> {
        let mut out = Inline::new();
        let written = match self.host.contains(':') {
            true => write!(out, "[{}]:{}", self.host, self.port),
            false => write!(out, "{}:{}", self.host, self.port),
        };
        assert!(written.is_ok(), "a host of at most 253 bytes and a port fit");
        out
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::shell::{place::boxed_zeroed, yaml};
    use std::format;
    use std::string::{String, ToString};

    fn read(text: &str, context: &str) -> Result<String, String> {
        let mut document = boxed_zeroed::<Document>();
        assert_eq!(yaml::Documents::new(text).next_into(&mut document), Ok(true));
        let access = kubeconfig(&document, context).map_err(|error| error.to_string())?;
        let Access { server, server_name, authority, client, token, namespace } = access;
        let address = server.authority();
        Ok(format!(
            "{} {:?} {server_name} {authority:?} {client:?} {token:?} {namespace}",
            address.as_str(),
            server.prefix,
        ))
    }

    const CONFIG: &str = "\
apiVersion: v1
kind: Config
current-context: a
contexts:
- {name: a, context: {cluster: c, user: u}}
- {name: b, context: {cluster: d, user: v, namespace: ns}}
clusters:
- {name: c, cluster: {server: 'https://10.0.0.1:6443', certificate-authority-data: QQ==}}
- name: d
  cluster:
    server: https://[fd00::1]/k8s/
    certificate-authority: ca.crt
    tls-server-name: kubernetes
users:
- {name: u, user: {client-certificate-data: QQ==, client-key: k.pem}}
- {name: v, user: {token: 12345, tokenFile: /run/token}}
";

    #[test]
    fn contexts() {
        assert_eq!(
            read(CONFIG, "").as_deref(),
            Ok("10.0.0.1:6443 \"\" 10.0.0.1 Some(Data(4 bytes)) \
                Some((Data(4 bytes), File(\"k.pem\"))) None default")
        );
        assert_eq!(
            read(CONFIG, "b").as_deref(),
            Ok("[fd00::1]:443 \"/k8s\" kubernetes Some(File(\"ca.crt\")) None \
                File(\"/run/token\") ns")
        );
        let inline = CONFIG.replace(", tokenFile: /run/token", "");
        assert!(read(&inline, "b").unwrap().ends_with("Inline(5 bytes) ns"));
    }

    #[test]
    fn errors_name_their_entry() {
        let error = |from: &str, to: &str, expected: &str| {
            assert!(CONFIG.contains(from));
            let error = read(&CONFIG.replace(from, to), "").unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        error("current-context: a", "current-context: ''", "no current-context");
        error("current-context: a", "current-context: x", "no context \"x\"");
        error("cluster: c,", "cluster: x,", "no cluster \"x\"");
        error("user: u}", "user: x}", "no user \"x\"");
        error("'https://10.0.0.1:6443'", "ftp://x", "cluster \"c\": server");
        error("'https://10.0.0.1:6443'", "http://10.0.0.1", "http:// is only");
        error(
            "certificate-authority-data: QQ==",
            "x: y",
            "\"c\": certificate-authority is missing",
        );
        error(
            "certificate-authority-data: QQ==",
            "insecure-skip-tls-verify: true",
            "insecure-skip-tls-verify is refused",
        );
        error("certificate-authority-data: QQ==", "proxy-url: x", "proxy-url");
        error(", client-key: k.pem", "", "user \"u\": client-certificate and client-key");
        let user = "client-certificate-data: QQ==, client-key: k.pem";
        error(user, "exec: {command: aws}", "user \"u\": exec plugins");
        error(user, "auth-provider: {name: gcp}", "user \"u\": auth-provider");
        error(user, "username: x, password: y", "user \"u\": username");
        error(user, "token: x, as: admin", "user \"u\": impersonation");
        assert_eq!(read("a: b", "").unwrap_err(), "not a kubeconfig");
        assert_eq!(read("[]", "").unwrap_err(), "not a kubeconfig");
        assert_eq!(
            read("contexts: 1\ncurrent-context: a", "").unwrap_err(),
            "there is no context \"a\""
        );
    }

    #[test]
    fn urls() {
        let ok = |url, tls, host, port, prefix| {
            assert_eq!(parse_url(url), Some(ServerUrl { tls, host, port, prefix }), "{url}");
        };
        ok("https://a", true, "a", 443, "");
        ok("https://a/", true, "a", 443, "");
        ok("http://127.0.0.1:8001", false, "127.0.0.1", 8001, "");
        ok("https://[::1]:6443/x/y", true, "::1", 6443, "/x/y");
        let long = format!("https://{}", "a".repeat(254));
        for url in [
            "",
            "https://",
            "https://:1",
            "https://a:",
            "https://a:0",
            "https://a:65536",
            "https://a:b",
            "https://u@a",
            "https://a?x",
            "https://a/#x",
            "https://[::1",
            "a:443",
            "https://[x]:1",
            "https://[::1]x",
            "https://a b",
            "https://a\r\nX: y",
            &long,
        ] {
            assert_eq!(parse_url(url), None, "{url}");
        }
        let max = format!("https://{}:65535", "a".repeat(253));
        assert_eq!(parse_url(&max).unwrap().authority().len(), 259);
        let v6 = parse_url("https://[::1]").unwrap();
        assert_eq!(v6.authority().as_str(), "[::1]:443");
    }

    #[test]
    fn in_a_pod() {
        let access = in_cluster("fd00::1", 443, "x").unwrap();
        assert_eq!(access.server.authority().as_str(), "[fd00::1]:443");
        assert_eq!(access.token, Token::File(POD_FILES[1]));
        assert!(in_cluster("", 443, "x").is_err());
    }
}
