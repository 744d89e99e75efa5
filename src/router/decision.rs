//! What becomes of a routed request: it is sent elsewhere by a redirect, or rendered for a backend
//! with its filters done.
//!
//! In: a request's head, its route, the backend that was picked. Out: the rendered head in the
//! worker's scratch and a [`Verdict`] by value, so that nothing of the configuration is held.

use super::balance::Picked;
use super::exchange::Candidates;
use super::finish::reason;
use super::route_table::Found;
use crate::config::Snapshot;
use crate::config::filter::{NO_FILTER, PathChange, Scheme, UrlAction, UrlFilter};
use crate::config::snapshot::Route;
use crate::limits::REQUEST_TIMEOUT_MS;
use crate::wire::http1::render::{self, AnswerShape, Forwarded, Location, Rewritten, SplitPath};
use crate::wire::http1::{Edit, Framing, RequestHead};

/// What becomes of a request head.
pub(super) enum Verdict {
    /// Bytes are missing.
    Partial,
    /// The router answers itself.
    Answer(Answer),
    /// It goes to an upstream.
    Forward(Forward),
}

/// An answer of the router's own to a request whose head had `len` bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// The status.
    pub status: u16,
    /// The connection ends with it.
    pub close: bool,
    /// The method is HEAD.
    pub is_head: bool,
    /// Bytes of the request's head.
    pub len: u32,
    /// Bytes of the answer in `Worker::head`; 0: the usual one of its status.
    pub rendered: usize,
}

/// A routed request, by value. Its head was rendered into `Worker::head`.
pub(super) struct Forward {
    pub len: u32,
    pub rendered: usize,
    pub framing: Framing,
    pub close: bool,
    pub is_head: bool,
    pub is_websocket: bool,
    pub is_11: bool,
    pub is_idempotent: bool,
    pub request_ms: u32,
    pub backend_ms: u32,
    pub candidates: Candidates,
    /// Filters of the route, or [`NO_FILTER`].
    pub filter: u32,
    /// Filters of the backend, or [`NO_FILTER`].
    pub backend_filter: u32,
    /// The route, in the configuration of this turn.
    pub route: u32,
}

/// A routed request before its backend is picked.
pub(super) struct Decision<'d> {
    pub snapshot: &'d Snapshot,
    pub found: Found,
    pub head: &'d RequestHead<'d, 'd>,
    pub forwarded: Forwarded<'d>,
    /// An answer of our own ends the connection.
    pub close: bool,
    /// Where heads are rendered.
    pub out: &'d mut [u8],
}

impl Decision<'_> {
    fn route(&self) -> &Route {
        &self.snapshot.routes[self.found.route]
    }

    fn answer(&self, status: u16, rendered: usize) -> Verdict {
        let is_head = self.head.method == "HEAD";
        let len = self.head.len as u32;
        Verdict::Answer(Answer { status, close: self.close, is_head, len, rendered })
    }

    /// The answer of a filter that redirects; None for others.
    #[cold]
    pub(super) fn redirect(&mut self, filter: u32) -> Option<Verdict> {
        let filter =
            self.snapshot.filter(filter).filter(|f| f.url.action == UrlAction::Redirect)?;
        let url = &filter.url;
        let scheme = match (url.scheme, self.forwarded.proto) {
            (Scheme::Same, b"https") | (Scheme::Https, _) => "https",
            (Scheme::Same, _) | (Scheme::Http, _) => "http",
        };
        let location = Location {
            scheme,
            host: match self.snapshot.text.bytes(url.hostname) {
                b"" => self.head.host,
                hostname => hostname,
            },
            port: redirect_port(url, scheme, self.forwarded.port),
            path: split_path(self.snapshot, self.route(), url, self.head.path),
            query: self.head.query,
        };
        let edits = self.snapshot.edits_of(filter.response);
        let shape = AnswerShape { close: self.close, with_body: self.head.method != "HEAD" };
        let status = (url.status, reason(url.status));
        let rendered = render::redirect(status, &location, shape, edits, self.out);
        Some(match rendered {
            Some(rendered) => self.answer(url.status, rendered),
            // Longer than any head may be: the request's target was nearly that long.
            None => self.answer(414, 0),
        })
    }

    /// Renders the request for the backend that was picked. In line, so that the verdict is made
    /// where it is used: it holds the candidates.
    #[inline(always)]
    pub(super) fn forward(&mut self, picked: &Picked) -> Verdict {
        let route = &self.snapshot.routes[self.found.route];
        let rendered = if route.filter == NO_FILTER && picked.filter == NO_FILTER {
            render::request(self.head, &self.forwarded, self.out)
        } else {
            self.render_filtered(route, picked.filter)
        };
        let Some(rendered) = rendered else {
            return self.answer(431, 0);
        };
        let head = self.head;
        Verdict::Forward(Forward {
            len: head.len as u32,
            rendered,
            framing: head.framing,
            close: head.close,
            is_head: head.method == "HEAD",
            is_websocket: head.websocket,
            is_11: head.is_11,
            is_idempotent: head.is_idempotent(),
            request_ms: route.request_timeout_ms,
            backend_ms: backend_ms(route.request_timeout_ms, route.backend_timeout_ms),
            candidates: picked.candidates,
            filter: route.filter,
            backend_filter: picked.filter,
            route: self.found.route,
        })
    }

    /// The route's filters, then the backend's, whose URL comes before the route's.
    #[inline(never)]
    fn render_filtered(&mut self, route: &Route, backend: u32) -> Option<usize> {
        let (snapshot, head) = (self.snapshot, self.head);
        let path = SplitPath { front: head.path, rest: b"" };
        let mut rewritten = Rewritten { path, host: None };
        for filter in [route.filter, backend].into_iter().filter_map(|f| snapshot.filter(f)) {
            if filter.url.path_change != PathChange::Keep {
                rewritten.path = split_path(snapshot, route, &filter.url, head.path);
            }
            if !filter.url.hostname.is_empty() {
                rewritten.host = Some(snapshot.text.bytes(filter.url.hostname));
            }
        }
        let edits = both(snapshot, route.filter, backend, |f| f.request);
        render::request_edited(head, &self.forwarded, &rewritten, edits, self.out)
    }
}

/// The edits of a route's filters, then those of a backend's, in one direction.
pub(super) fn both(
    snapshot: &Snapshot,
    route: u32,
    backend: u32,
    direction: impl Fn(&crate::config::filter::Filter) -> crate::stdx::Span,
) -> impl Iterator<Item = Edit<'_>> + Clone {
    let span = |filter| snapshot.filter(filter).map_or(crate::stdx::Span::EMPTY, &direction);
    snapshot.edits_of(span(route)).chain(snapshot.edits_of(span(backend)))
}

/// HTTPRequestRedirectFilter.port: the filter's own, else the well-known one of a scheme that it
/// sets, else the listener's; 0 when it is the scheme's own, which a Location does not name.
fn redirect_port(url: &UrlFilter, scheme: &str, listener: u16) -> u16 {
    let well_known = if scheme == "https" { 443 } else { 80 };
    let port = match (url.port, url.scheme) {
        (0, Scheme::Same) => listener,
        (0, _) => well_known,
        (port, _) => port,
    };
    if port == well_known { 0 } else { port }
}

/// HTTPPathModifier: the path after its change. Prefixes are kept without their trailing slash, so
/// that what follows one is empty or begins with `/`.
fn split_path<'a>(
    snapshot: &'a Snapshot,
    route: &Route,
    url: &UrlFilter,
    path: &'a [u8],
) -> SplitPath<'a> {
    let replacement = snapshot.text.bytes(url.path);
    match url.path_change {
        PathChange::Keep => SplitPath { front: path, rest: b"" },
        PathChange::Full => SplitPath { front: replacement, rest: b"" },
        PathChange::Prefix => {
            let prefix = snapshot.matches[route.matches.start].path.len as usize;
            SplitPath { front: replacement, rest: path.get(prefix..).unwrap_or(b"") }
        }
    }
}

/// The backend's time: the route's own, else the router's default, unless the route's request
/// timeout says it all (or says that there is none).
fn backend_ms(request_ms: u32, backend_ms: u32) -> u32 {
    match (request_ms, backend_ms) {
        (0, 0) => REQUEST_TIMEOUT_MS,
        (_, 0) => u32::MAX,
        (_, own) => own,
    }
}
