//! Requests to the API server: HTTP/1.1 heads (RFC 9112) and bodies into a fixed buffer.
//!
//! In: the server, a method, a path, a query. Out: bytes to send. The path is ours (names of
//! objects are checked by the API server and percent-encoded here all the same); what a peer chose
//! (continue tokens, resource versions) is percent-encoded.

use crate::limits::{
    KUBE_AUTHORITY_BYTES, KUBE_PREFIX_BYTES, KUBE_REQUEST_BYTES, KUBE_TARGET_BYTES,
    KUBE_TOKEN_BYTES,
};
use crate::stdx::{Full, Inline};
use core::fmt::Write;

use super::kind::Watched;

/// Where requests go, and who sends them.
#[derive(Debug)]
pub struct Server {
    authority: Inline<{ KUBE_AUTHORITY_BYTES as usize }>,
    prefix: Inline<{ KUBE_PREFIX_BYTES as usize }>,
    token: Inline<{ KUBE_TOKEN_BYTES as usize }>,
}

crate::zeroed_struct!(Server {
    authority: Inline<{ KUBE_AUTHORITY_BYTES as usize }>,
    prefix: Inline<{ KUBE_PREFIX_BYTES as usize }>,
    token: Inline<{ KUBE_TOKEN_BYTES as usize }>,
});

/// Why a server or token was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerError {
    /// It does not fit.
    TooLong,
    /// A byte that may not stand in a field value or request target.
    BadByte,
}

impl Server {
    /// Sets `host:port` and the path before `/api` and `/apis` (without a slash at its end).
    pub fn set(&mut self, authority: &str, prefix: &str) -> Result<(), ServerError> {
        if !is_visible(authority.as_bytes()) || !is_visible(prefix.as_bytes()) {
            return Err(ServerError::BadByte);
        }
        self.authority.set(authority.as_bytes()).map_err(|Full| ServerError::TooLong)?;
        let prefix = prefix.trim_end_matches('/');
        self.prefix.set(prefix.as_bytes()).map_err(|Full| ServerError::TooLong)
    }

    /// Sets the bearer token (RFC 6750 §2.1); an empty one sends none. White space around it goes.
    pub fn set_token(&mut self, token: &[u8]) -> Result<(), ServerError> {
        let token = token.trim_ascii();
        if !is_visible(token) {
            return Err(ServerError::BadByte);
        }
        self.token.wipe();
        self.token.set(token).map_err(|Full| ServerError::TooLong)
    }
}

fn is_visible(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

/// A request's method (RFC 9110 §9.3, RFC 5789).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the methods' own names")]
pub enum Method {
    #[default]
    Get,
    Post,
    Put,
    Patch,
}

crate::zeroed_enum!(Method { Get });

impl Method {
    fn token(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
        }
    }

    /// A merge patch (RFC 7386) for PATCH, else JSON.
    fn content_type(self) -> &'static str {
        match self {
            Method::Patch => "application/merge-patch+json",
            _ => "application/json",
        }
    }
}

/// Path and query of a request, in origin form.
pub type TargetText = Inline<{ KUBE_TARGET_BYTES as usize }>;

/// Names an object in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectPath<'a> {
    /// API group, empty for the core group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Resource name.
    pub plural: &'a str,
    /// Namespace, empty for cluster-scoped ones.
    pub namespace: &'a str,
    /// Name; empty names the collection.
    pub name: &'a str,
    /// Subresource (`status`), empty for none.
    pub subresource: &'a str,
}

impl<'a> ObjectPath<'a> {
    /// The collection of a watched kind in all namespaces.
    pub fn collection(kind: Watched, version: &'a str) -> Self {
        let served = kind.served();
        ObjectPath {
            group: served.group,
            version,
            plural: served.plural,
            namespace: "",
            name: "",
            subresource: "",
        }
    }

    /// An object of a watched kind, in its preferred version.
    pub fn object(kind: Watched, namespace: &'a str, name: &'a str) -> Self {
        let version = kind.served().versions[0];
        ObjectPath { namespace, name, ..ObjectPath::collection(kind, version) }
    }

    /// Appends the path: `/apis/GROUP/VERSION/namespaces/NS/PLURAL/NAME/SUB`.
    pub fn write(&self, out: &mut TargetText) -> Result<(), Full> {
        if self.group.is_empty() {
            out.push(b"/api/")?;
        } else {
            out.push(b"/apis/")?;
            percent_encode(self.group.as_bytes(), out)?;
            out.push(b"/")?;
        }
        percent_encode(self.version.as_bytes(), out)?;
        if !self.namespace.is_empty() {
            out.push(b"/namespaces/")?;
            percent_encode(self.namespace.as_bytes(), out)?;
        }
        for part in [self.plural, self.name, self.subresource] {
            if !part.is_empty() {
                out.push(b"/")?;
                percent_encode(part.as_bytes(), out)?;
            }
        }
        Ok(())
    }
}

/// Appends `bytes` with all but unreserved characters (RFC 3986 §2.3) as `%XX`.
pub fn percent_encode<const N: usize>(bytes: &[u8], out: &mut Inline<N>) -> Result<(), Full> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(&[byte])?;
        } else {
            out.push(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]])?;
        }
    }
    Ok(())
}

/// The head of one request.
pub type RequestHead = Inline<{ KUBE_REQUEST_BYTES as usize }>;

/// What a head says.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Method.
    pub method: Method,
    /// Path and query, encoded already.
    pub target: &'a [u8],
    /// Appended to the target, percent-encoded: the value of its last parameter.
    pub value: &'a [u8],
    /// Length of the body that follows; None for no body.
    pub body: Option<usize>,
}

/// Writes a head into `out`, which holds nothing useful after an error.
pub fn write_head(out: &mut RequestHead, server: &Server, head: Head<'_>) -> Result<(), Full> {
    assert!(head.target.first() == Some(&b'/') && is_visible(head.target));
    out.clear();
    out.push(head.method.token().as_bytes())?;
    out.push(b" ")?;
    out.push(server.prefix.as_bytes())?;
    out.push(head.target)?;
    percent_encode(head.value, out)?;
    out.push(b" HTTP/1.1\r\nHost: ")?;
    out.push(server.authority.as_bytes())?;
    out.push(b"\r\nUser-Agent: serval/")?;
    out.push(env!("CARGO_PKG_VERSION").as_bytes())?;
    out.push(b"\r\nAccept: application/json\r\n")?;
    if !server.token.is_empty() {
        out.push(b"Authorization: Bearer ")?;
        out.push(server.token.as_bytes())?;
        out.push(b"\r\n")?;
    }
    if let Some(len) = head.body {
        let content_type = head.method.content_type();
        let fields = format_args!("Content-Type: {content_type}\r\nContent-Length: {len}\r\n");
        out.write_fmt(fields).map_err(|_| Full)?;
    }
    out.push(b"\r\n")
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::limits::KUBE_CONTINUE_BYTES;
    use crate::shell::place::boxed_zeroed;
    use std::string::String;

    fn head(server: &Server, method: Method, target: &str, body: Option<usize>) -> String {
        let mut out = boxed_zeroed::<RequestHead>();
        let head = Head { method, target: target.as_bytes(), value: b"", body };
        write_head(&mut out, server, head).unwrap();
        out.as_str().into()
    }

    #[test]
    fn heads_as_they_are_sent() {
        let mut server = boxed_zeroed::<Server>();
        server.set("10.0.0.1:6443", "/k8s/clusters/c-1/").unwrap();
        let agent = concat!("User-Agent: serval/", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            head(&server, Method::Get, "/api/v1/services?limit=1", None),
            std::format!(
                "GET /k8s/clusters/c-1/api/v1/services?limit=1 HTTP/1.1\r\nHost: 10.0.0.1:6443\r\n\
                 {agent}\r\nAccept: application/json\r\n\r\n"
            )
        );
        server.set_token(b" abc.def\n").unwrap();
        assert_eq!(
            head(&server, Method::Patch, "/x", Some(12)),
            std::format!(
                "PATCH /k8s/clusters/c-1/x HTTP/1.1\r\nHost: 10.0.0.1:6443\r\n{agent}\r\n\
                 Accept: application/json\r\nAuthorization: Bearer abc.def\r\n\
                 Content-Type: application/merge-patch+json\r\nContent-Length: 12\r\n\r\n"
            )
        );
    }

    #[test]
    fn paths() {
        let path = |path: ObjectPath<'_>| {
            let mut out = TargetText::new();
            path.write(&mut out).map(|()| String::from(out.as_str()))
        };
        let collection = ObjectPath::collection(Watched::EndpointSlice, "v1");
        assert_eq!(path(collection).as_deref(), Ok("/apis/discovery.k8s.io/v1/endpointslices"));
        let object = ObjectPath::object(Watched::HttpRoute, "a", "b/../c?");
        assert_eq!(
            path(ObjectPath { subresource: "status", ..object }).as_deref(),
            Ok("/apis/gateway.networking.k8s.io/v1/namespaces/a/httproutes/b%2F..%2Fc%3F/status")
        );
        let class = ObjectPath::object(Watched::GatewayClass, "", "x");
        assert_eq!(
            path(class).as_deref(),
            Ok("/apis/gateway.networking.k8s.io/v1/gatewayclasses/x")
        );
        let long = "x".repeat(KUBE_TARGET_BYTES as usize);
        assert_eq!(path(ObjectPath::object(Watched::Service, "a", &long)), Err(Full));
    }

    #[test]
    fn hostile_tokens_and_servers() {
        let mut server = boxed_zeroed::<Server>();
        let max = KUBE_TOKEN_BYTES as usize;
        assert_eq!(server.set_token(&std::vec![b'a'; max]), Ok(()));
        assert_eq!(server.set_token(&std::vec![b'a'; max + 1]), Err(ServerError::TooLong));
        assert_eq!(server.set_token(b"a\r\nX: y"), Err(ServerError::BadByte));
        assert_eq!(server.set("a b", ""), Err(ServerError::BadByte));
        let long = "a".repeat(KUBE_AUTHORITY_BYTES as usize + 1);
        assert_eq!(server.set(&long, ""), Err(ServerError::TooLong));
    }

    #[test]
    fn the_longest_of_everything_fits_a_head() {
        let mut server = boxed_zeroed::<Server>();
        let prefix = std::format!("/{}", "p".repeat(KUBE_PREFIX_BYTES as usize - 1));
        server.set(&"a".repeat(KUBE_AUTHORITY_BYTES as usize), &prefix).unwrap();
        server.set_token(&std::vec![b'a'; KUBE_TOKEN_BYTES as usize]).unwrap();
        let target = std::format!("/{}", "x".repeat(KUBE_TARGET_BYTES as usize - 1));
        let value = std::vec![b'='; KUBE_CONTINUE_BYTES as usize];
        let (target, body) = (target.as_bytes(), Some(1 << 30));
        let head = Head { method: Method::Patch, target, value: &value, body };
        assert_eq!(write_head(&mut boxed_zeroed(), &server, head), Ok(()));
    }
}
