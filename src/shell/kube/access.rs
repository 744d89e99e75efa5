//! How to reach the API server, read once at start: a kubeconfig's context, or a pod's files.
//!
//! In: `--kubeconfig`, KUBECONFIG, or the environment of a pod. Out: an [`Access`] shared by all
//! threads; each loads CA, client certificate and token through it, again and again, since tokens
//! and CAs rotate (shared/kube-client.md, 16 and 17). They take turns with the room for PEM files.

use crate::kube::config::{self, ConfigError, Material, Token};
use crate::limits::{KUBE_PEM_BYTES, KUBE_TOKEN_BYTES};
use crate::resource::document::Document;
use crate::shell::place::boxed_zeroed;
use crate::shell::tls::rustls::{ClientIdentity, ErrorText, TlsSlot};
use crate::shell::tls::source::{Source, Sources};
use crate::shell::{files, yaml};
use crate::stdx::Inline;
use crate::wire::base64;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use std::boxed::Box;
use std::string::String;
use std::sync::{Arc, Mutex};

/// Why there is no access; said once, at start.
#[derive(Debug)]
pub struct AccessError(String);

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A bearer token.
#[derive(Clone)]
enum TokenSource {
    None,
    Inline(Box<[u8]>),
    File(Box<[u8]>),
}

// Tokens are never printed.
impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenSource::None => f.write_str("none"),
            TokenSource::Inline(_) => f.write_str("inline"),
            TokenSource::File(path) => write!(f, "{:?}", core::str::from_utf8(path)),
        }
    }
}

/// A token's bytes.
pub type TokenText = Inline<{ KUBE_TOKEN_BYTES as usize }>;

/// Everything that a connection needs, as it was configured.
#[derive(Clone, Debug)]
pub struct Access {
    /// `host:port` for the Host field.
    pub authority: Box<str>,
    /// Path before `/api` and `/apis`.
    pub prefix: Box<str>,
    /// The namespace of the context or pod.
    pub namespace: Box<str>,
    host: Box<str>,
    port: u16,
    /// What a name resolved to at start, for when /etc/hosts does not know it.
    resolved: Option<IpAddr>,
    /// None: plain HTTP, to this machine.
    tls: Option<TlsSources>,
    token: TokenSource,
    /// Held while an identity is read: every few minutes for some milliseconds.
    buffers: Arc<Mutex<Box<PemBuffers>>>,
}

#[derive(Clone, Debug)]
struct TlsSources {
    sources: Sources,
    name: Box<str>,
}

/// Room for the PEM files of one identity.
#[derive(Debug)]
struct PemBuffers {
    parts: [[u8; KUBE_PEM_BYTES as usize]; 3],
    /// One block, decoded.
    scratch: [u8; KUBE_PEM_BYTES as usize],
}

crate::zeroed_struct!(PemBuffers {
    parts: [[u8; KUBE_PEM_BYTES as usize]; 3],
    scratch: [u8; KUBE_PEM_BYTES as usize],
});

impl Access {
    /// From a kubeconfig file; an empty `context` is its current one.
    pub fn from_kubeconfig(path: &str, context: &str) -> Result<Access, AccessError> {
        let fail = |what: &dyn fmt::Display| AccessError(std::format!("{path}: {what}"));
        let mut buffer = std::vec![0; KUBE_PEM_BYTES as usize];
        let text = files::read(path.as_bytes(), &mut buffer).map_err(|error| fail(&error))?;
        let text = core::str::from_utf8(text).map_err(|error| fail(&error))?;
        let mut document = boxed_zeroed::<Document>();
        let read = yaml::Documents::new(text).next_into(&mut document);
        let read = read.map_err(|error| fail(&format_args!("line {}: {error}", error.line)))?;
        if !read {
            return Err(fail(&ConfigError::NotAConfig));
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let access = config::kubeconfig(&document, context).map_err(|error| fail(&error))?;
        Access::new(&access, folder, path.starts_with('/')).map_err(|what| fail(&what))
    }

    /// From the environment and files of a pod.
    pub fn in_cluster() -> Result<Access, AccessError> {
        let fail = |what: &dyn fmt::Display| AccessError(std::format!("in-cluster: {what}"));
        let variable =
            |name: &str| std::env::var(name).map_err(|_| fail(&format_args!("{name} is not set")));
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let port = variable("KUBERNETES_SERVICE_PORT")?;
        let port = port.parse().map_err(|_| fail(&"KUBERNETES_SERVICE_PORT is no port"))?;
        let mut buffer = [0; 256];
        let namespace = files::read(config::POD_FILES[2].as_bytes(), &mut buffer);
        let namespace = namespace.ok().and_then(|text| core::str::from_utf8(text).ok());
        let namespace = namespace.map(str::trim).filter(|text| !text.is_empty());
        let access = config::in_cluster(&host, port, namespace.unwrap_or("default"));
        let access = access.map_err(|error| fail(&error))?;
        Access::new(&access, "", true).map_err(|what| fail(&what))
    }

    fn new(access: &config::Access<'_>, folder: &str, is_absolute: bool) -> Result<Access, String> {
        let place = |file: &str| -> Box<[u8]> {
            if file.starts_with('/') || (folder.is_empty() && !is_absolute) {
                return file.as_bytes().into();
            }
            std::format!("{folder}/{file}").into_bytes().into()
        };
        let source = |material: Material<'_>| -> Result<Source, String> {
            match material {
                Material::File(file) => Ok(Source::File(place(file))),
                Material::Data(text) => {
                    let mut bytes = std::vec![0; text.len() / 4 * 3 + 3];
                    let len = base64::decode(text.as_bytes(), &mut bytes)
                        .map_err(|_| String::from("a *-data field is not base64"))?;
                    bytes.truncate(len);
                    Ok(Source::Inline(bytes.into()))
                }
            }
        };
        let tls = match access.authority.filter(|_| access.server.tls) {
            None => None,
            Some(authority) => {
                let own = match access.client {
                    Some((chain, key)) => Some((source(chain)?, source(key)?)),
                    None => None,
                };
                let sources = Sources { authority: source(authority)?, own };
                Some(TlsSources { sources, name: access.server_name.into() })
            }
        };
        let token = match access.token {
            Token::None => TokenSource::None,
            Token::Inline(text) => TokenSource::Inline(text.as_bytes().into()),
            Token::File(file) => TokenSource::File(place(file)),
        };
        let (host, port) = (access.server.host, access.server.port);
        let mut buffer = std::vec![0; 65_536];
        let resolved = super::hosts::resolve(host, &mut buffer).or_else(|| ask_resolver(host));
        if resolved.is_none() {
            return Err(std::format!("the server's name {host:?} is not known"));
        }
        Ok(Access {
            authority: access.server.authority().as_str().into(),
            prefix: access.server.prefix.into(),
            namespace: access.namespace.into(),
            host: host.into(),
            port,
            resolved,
            tls,
            token,
            buffers: Arc::new(Mutex::new(boxed_zeroed())),
        })
    }

    /// Bytes it holds: a line of the memory plan.
    pub fn bytes() -> u64 {
        size_of::<PemBuffers>() as u64
    }

    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Where to connect: a literal, what /etc/hosts says now, or what the name was at start.
    pub fn address(&self, buffer: &mut [u8]) -> Option<SocketAddr> {
        let ip = super::hosts::resolve(&self.host, buffer).or(self.resolved)?;
        Some(SocketAddr::new(ip, self.port))
    }

    /// Whether the token is in a file, and so may change.
    pub fn token_changes(&self) -> bool {
        matches!(self.token, TokenSource::File(_))
    }

    /// The token as it is now; empty for none, and when its file cannot be read.
    pub fn token(&self, out: &mut TokenText) -> Result<(), files::FileError> {
        out.wipe();
        match &self.token {
            TokenSource::None => Ok(()),
            TokenSource::Inline(text) => {
                let too_large = files::FileError::TooLarge { bytes: text.len() as u64 };
                out.set(text).map_err(|_| too_large)
            }
            TokenSource::File(path) => {
                let mut buffer = [0; KUBE_TOKEN_BYTES as usize];
                let text = files::read(path, &mut buffer)?;
                // It was read into a buffer of the same size.
                let _ = out.set(text.trim_ascii());
                Ok(())
            }
        }
    }

    /// CA, client certificate and key as they are now, and a number that changes with them. Built
    /// only when that number is not `known`: None then, and without TLS.
    pub fn identity(
        &self,
        slot: TlsSlot,
        known: u64,
    ) -> Result<Option<(ClientIdentity, u64)>, ErrorText> {
        let Some(tls) = &self.tls else { return Ok(None) };
        let mut buffers = self.buffers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let PemBuffers { parts, scratch } = &mut **buffers;
        let read = tls.sources.read(parts.each_mut().map(|part| &mut part[..]), known)?;
        let Some((parts, number)) = read else { return Ok(None) };
        let identity = ClientIdentity::new(slot, parts, &tls.name, scratch)?;
        Ok(Some((identity, number)))
    }
}

/// The static binary has no resolver of the system: it would load shared libraries. In a cluster
/// the API server's address is a literal.
#[cfg(target_feature = "crt-static")]
fn ask_resolver(_: &str) -> Option<IpAddr> {
    None
}

/// At start only, before memory is sealed: the system's resolver.
#[cfg(not(target_feature = "crt-static"))]
fn ask_resolver(host: &str) -> Option<IpAddr> {
    use std::net::ToSocketAddrs;
    let mut addresses = (host, 0).to_socket_addrs().ok()?;
    addresses.next().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn data(name: &str) -> String {
        std::format!("{}/tests/data/tls/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    fn write(name: &str, text: &str) -> String {
        let name = std::format!("serval-access-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().into()
    }

    fn config(user: &str) -> String {
        std::format!(
            "current-context: a\ncontexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:1', \
             certificate-authority: {}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n",
            data("authority.crt")
        )
    }

    #[test]
    fn identity_is_built_when_its_files_change() {
        let (chain, key) = (data("client.crt"), data("client.key"));
        let user = std::format!("client-certificate: {chain}, client-key: {key}");
        let path = write("identity", &config(&user));
        let access = Access::from_kubeconfig(&path, "").unwrap();
        let (_, number) = access.identity(None, 0).unwrap().expect("new");
        assert!(access.identity(None, number).unwrap().is_none());
        assert!(access.identity(None, number ^ 1).unwrap().is_some());
        assert!(!access.token_changes());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn tokens_are_read_again() {
        let token = write("token", "one\n");
        let path = write("config", &config(&std::format!("tokenFile: {token}")));
        let access = Access::from_kubeconfig(&path, "").unwrap();
        let mut text = boxed_zeroed::<TokenText>();
        access.token(&mut text).unwrap();
        assert_eq!(text.as_str(), "one");
        std::fs::write(&token, "two").unwrap();
        access.token(&mut text).unwrap();
        assert_eq!(text.as_str(), "two");
        std::fs::write(&token, "x".repeat(KUBE_TOKEN_BYTES as usize)).unwrap();
        assert_eq!(access.token(&mut text), Ok(()));
        std::fs::write(&token, "x".repeat(KUBE_TOKEN_BYTES as usize + 1)).unwrap();
        assert!(access.token(&mut text).is_err());
        std::fs::remove_file(&token).unwrap();
        assert!(access.token(&mut text).is_err() && text.is_empty());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn errors_say_which_file_and_why() {
        let error = |path: &str| Access::from_kubeconfig(path, "").unwrap_err().to_string();
        assert!(error("/none/such").contains("/none/such: no such file"));
        let path = write("bad", "a: [\n");
        assert!(error(&path).contains("line"));
        std::fs::write(&path, config("exec: {command: x}")).unwrap();
        assert!(error(&path).contains("user \"u\": exec plugins are not supported"));
        std::fs::write(&path, config("token: x").replace("127.0.0.1", "no.such.invalid")).unwrap();
        assert!(error(&path).contains("\"no.such.invalid\" is not known"));
        std::fs::remove_file(path).unwrap();
    }
}
