//! Where identities are kept: Secrets of a namespace, or a folder.
//!
//! In: a name. Out: certificate, key and CAs as they are there. A write names what it replaces:
//! where somebody else wrote meanwhile, it is refused, and all is done again.

use super::Pair;
use crate::kube::request::{Method, ObjectPath};
use crate::limits::IDENTITY_PEM_BYTES;
use crate::resource::document::Value;
use crate::shell::files::Folder;
use crate::shell::kube::api_client::ApiClient;
use crate::wire::base64;
use crate::wire::json::JsonWriter;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

/// Why nothing was read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Somebody else wrote meanwhile: read all again.
    Conflict,
    /// What, where and why.
    Failed(String),
}

/// Keeps pairs by name.
pub trait Store {
    /// What is there; None: nothing of that name.
    fn read(&mut self, name: &str) -> Result<Option<Pair>, StoreError>;
    /// Writes all of it.
    fn write(&mut self, name: &str, pair: &Pair) -> Result<(), StoreError>;
}

/// Secrets of the type `serval.dev/identity`: not `kubernetes.io/tls`, so that no Gateway can name
/// them and the controller's watch does not see them.
#[expect(missing_debug_implementations, reason = "holds a connection")]
pub struct Secrets {
    client: ApiClient,
    namespace: String,
    /// The resourceVersions of what was read.
    versions: BTreeMap<String, String>,
}

impl Secrets {
    /// Of a namespace.
    pub fn new(client: ApiClient, namespace: &str) -> Self {
        Secrets { client, namespace: namespace.into(), versions: BTreeMap::new() }
    }

    fn ask(
        &mut self,
        method: Method,
        name: &str,
        body: &[u8],
    ) -> Result<(u16, Value<'_>), StoreError> {
        let namespace = self.namespace.clone();
        let path = ObjectPath {
            group: "",
            version: "v1",
            plural: "secrets",
            namespace: &namespace,
            name: if method == Method::Post { "" } else { name },
            subresource: "",
        };
        let Secrets { client, .. } = self;
        match client.request(method, path, body) {
            Ok(answer) => Ok(answer),
            Err(trouble) => {
                Err(StoreError::Failed(format!("Secret {namespace}/{name}: {trouble:?}")))
            }
        }
    }

    fn unexpected(&self, name: &str, doing: &str, status: u16) -> StoreError {
        let hint = match status {
            401 | 403 => ": the ServiceAccount of this job may not (deploy/base/identity.yaml)",
            404 => ": the namespace is not there",
            // A Secret's type cannot be changed.
            422 => ": somebody else made it, of another type; delete it, or do without this job",
            _ => "",
        };
        let namespace = &self.namespace;
        StoreError::Failed(format!("{doing} Secret {namespace}/{name}: HTTP {status}{hint}"))
    }
}

impl Store for Secrets {
    fn read(&mut self, name: &str) -> Result<Option<Pair>, StoreError> {
        self.versions.remove(name);
        let (status, secret) = self.ask(Method::Get, name, b"")?;
        if status == 404 {
            return Ok(None);
        }
        if status != 200 {
            return Err(self.unexpected(name, "reading", status));
        }
        let text = |path: &[&str]| secret.at(path).and_then(|v| v.str()).unwrap_or("");
        // What is not there, or not base64, is made anew.
        let data = |file: &str| {
            let text = text(&["data", file]).as_bytes();
            let mut bytes = vec![0; text.len()];
            let len = base64::decode(text, &mut bytes).unwrap_or(0);
            bytes.truncate(len);
            String::from_utf8(bytes).unwrap_or_default()
        };
        let (certificate, key, authorities) = (data("tls.crt"), data("tls.key"), data("ca.crt"));
        let version = text(&["metadata", "resourceVersion"]).to_string();
        self.versions.insert(name.into(), version);
        Ok(Some(Pair { certificate, key, authorities }))
    }

    fn write(&mut self, name: &str, pair: &Pair) -> Result<(), StoreError> {
        let version = self.versions.get(name).cloned();
        let (method, doing) = match version {
            Some(_) => (Method::Put, "writing"),
            None => (Method::Post, "making"),
        };
        // As JSON a character of PEM takes at most two.
        let texts = [&pair.certificate, &pair.key, &pair.authorities];
        let mut out = vec![0; 1024 + 2 * texts.map(String::len).iter().sum::<usize>()];
        let mut json = JsonWriter::new(&mut out);
        json.begin_object().member("apiVersion", "v1").member("kind", "Secret");
        json.key("metadata").begin_object();
        json.member("name", name).member("namespace", &self.namespace);
        if let Some(version) = &version {
            json.member("resourceVersion", version);
        }
        json.key("labels").begin_object().member("app.kubernetes.io/name", "serval");
        json.end_object().end_object().member("type", "serval.dev/identity");
        json.key("stringData").begin_object();
        for (file, text) in FILES.into_iter().zip(texts) {
            json.member(file, text);
        }
        json.end_object().end_object();
        let body = json.finish();
        let body = body.map_err(|_| StoreError::Failed(format!("Secret {name}: too large")))?;
        let body = String::from(body);
        let (status, _) = self.ask(method, name, body.as_bytes())?;
        match status {
            200 | 201 => Ok(()),
            // Made, changed or removed meanwhile.
            409 => Err(StoreError::Conflict),
            404 if method == Method::Put => Err(StoreError::Conflict),
            status => Err(self.unexpected(name, doing, status)),
        }
    }
}

/// A folder with a folder for each name, files with mode 0600.
#[derive(Debug)]
pub struct Folders {
    root: String,
}

const FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

impl Folders {
    /// Under a path.
    pub fn new(root: &str) -> Self {
        Folders { root: root.into() }
    }

    fn failed(path: &str, error: &dyn core::fmt::Display) -> StoreError {
        StoreError::Failed(format!("{path}: {error}"))
    }
}

impl Store for Folders {
    fn read(&mut self, name: &str) -> Result<Option<Pair>, StoreError> {
        let mut texts = FILES.map(|_| String::new());
        for (text, file) in texts.iter_mut().zip(FILES) {
            let path = format!("{}/{name}/{file}", self.root);
            let mut buffer = vec![0; IDENTITY_PEM_BYTES as usize];
            match crate::shell::files::read(path.as_bytes(), &mut buffer) {
                Ok(bytes) => *text = String::from_utf8_lossy(bytes).into(),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(Self::failed(&path, &error)),
            }
        }
        let [certificate, key, authorities] = texts;
        let is_there = !(certificate.is_empty() && key.is_empty() && authorities.is_empty());
        Ok(is_there.then_some(Pair { certificate, key, authorities }))
    }

    /// The CAs first, then the key: a reader between two files sees a pair that does not fit and
    /// reads again.
    fn write(&mut self, name: &str, pair: &Pair) -> Result<(), StoreError> {
        use std::os::unix::fs::DirBuilderExt;
        let path = format!("{}/{name}", self.root);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| Self::failed(&path, &error))?;
        let folder = Folder::open(path.as_bytes()).map_err(|error| Self::failed(&path, &error))?;
        let texts: Vec<&str> = vec![&pair.authorities, &pair.key, &pair.certificate];
        for (file, text) in ["ca.crt", "tls.key", "tls.crt"].into_iter().zip(texts) {
            let name = CString::new(file).expect("no NUL");
            let written = folder.write(&name, text.as_bytes());
            written.map_err(|error| Self::failed(&format!("{path}/{file}"), &error))?;
        }
        Ok(())
    }
}
