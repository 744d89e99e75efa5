//! Filters of the Snapshot: what a rule or one of its backends changes of requests and responses.
//!
//! In: rows that reconcile, the push format or a local change fills. Out: rows that were checked
//! (nothing in them can end a header line, frame a message, or leave a path relative), edits for
//! the renderer. A route or backend without filters has no row here.

use super::codec::{Fault, items, keep, no_room, unsigned};
use super::snapshot::{PathKind, Route, Snapshot, hostname_valid};
use crate::limits::{MAX_EDIT_BYTES, MAX_PATH_MATCH_BYTES};
use crate::resource::document::{Kind, Value};
use crate::stdx::{Full, Span, Text};
use crate::wire::http1::edit::{Action, Edit, name_problem, packed_len, value_problem};
use crate::wire::json::JsonWriter;
use crate::wire::url;

/// The filter index of a route or backend that has none.
pub const NO_FILTER: u32 = u32::MAX;

/// One edit of a header field (HTTPHeaderFilter).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdit {
    /// Set, add or remove.
    pub action: Action,
    /// As it is to be written; compared without regard to case.
    pub name: Text,
    /// Empty for remove.
    pub value: Text,
}

/// What a filter does with the request's URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UrlAction {
    /// Nothing.
    #[default]
    Keep,
    /// The client is sent elsewhere (HTTPRequestRedirectFilter).
    Redirect,
    /// The backend gets another URL (HTTPURLRewriteFilter).
    Rewrite,
}

/// HTTPRequestRedirectFilter.scheme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// That of the request.
    #[default]
    Same,
    /// `http`.
    Http,
    /// `https`.
    Https,
}

impl Scheme {
    /// As in a URL; empty for [`Scheme::Same`].
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Same => "",
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// Reads what [`Scheme::name`] gives.
    pub fn parse(name: &str) -> Option<Scheme> {
        [Scheme::Same, Scheme::Http, Scheme::Https].into_iter().find(|s| s.name() == name)
    }
}

/// HTTPPathModifier.type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathChange {
    /// The path stays.
    #[default]
    Keep,
    /// ReplaceFullPath.
    Full,
    /// ReplacePrefixMatch: in place of the prefix of the route's one match.
    Prefix,
}

/// What becomes of the request's URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UrlFilter {
    /// Whether anything does.
    pub action: UrlAction,
    /// Of a redirect.
    pub scheme: Scheme,
    /// How `path` is meant.
    pub path_change: PathChange,
    /// Status of a redirect: 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Port of a redirect; 0: by the API's rules.
    pub port: u16,
    /// In place of the request's host; empty: that stays.
    pub hostname: Text,
    /// In place of the path or its prefix, without its trailing slash in the latter case.
    pub path: Text,
}

/// The filters of one route or backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Span of [`Snapshot::edits`]: RequestHeaderModifier.
    pub request: Span,
    /// Span of [`Snapshot::edits`]: ResponseHeaderModifier.
    pub response: Span,
    /// RequestRedirect or URLRewrite.
    pub url: UrlFilter,
}

crate::pack_enum!(Action { Set, Add, Remove });
crate::pack_enum!(UrlAction { Keep, Redirect, Rewrite });
crate::pack_enum!(Scheme { Same, Http, Https });
crate::pack_enum!(PathChange { Keep, Full, Prefix });
crate::pack_struct!(HeaderEdit { action, name, value });
crate::pack_struct!(UrlFilter { action, scheme, path_change, status, port, hostname, path });
crate::pack_struct!(Filter { request, response, url });

/// The status codes of redirects (HTTPRequestRedirectFilter.statusCode).
pub const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

impl Snapshot {
    /// The filters at an index; None for [`NO_FILTER`].
    pub fn filter(&self, index: u32) -> Option<&Filter> {
        if index == NO_FILTER { None } else { Some(&self.filters[index]) }
    }

    /// Edits as the renderer takes them.
    pub fn edits_of(&self, span: Span) -> impl Iterator<Item = Edit<'_>> + Clone {
        self.edits.span(span).iter().map(|edit| Edit {
            action: edit.action,
            name: self.text.bytes(edit.name),
            value: self.text.bytes(edit.value),
        })
    }

    /// Checks the filters of a route and of its backends. The spans of the route were checked.
    pub(super) fn validate_filters(&self, route: &Route) -> Result<(), &'static str> {
        let own = self.validate_filter(route.filter, route)?;
        for backend in self.backends.span(route.backends) {
            let its = self.validate_filter(backend.filter, route)?;
            if own.0 + its.0 > MAX_EDIT_BYTES as usize || own.1 + its.1 > MAX_EDIT_BYTES as usize {
                return Err("its header edits are larger than MAX_EDIT_BYTES");
            }
        }
        if own.0 > MAX_EDIT_BYTES as usize || own.1 > MAX_EDIT_BYTES as usize {
            return Err("its header edits are larger than MAX_EDIT_BYTES");
        }
        let filter = self.filter(route.filter);
        let redirects = filter.is_some_and(|f| f.url.action == UrlAction::Redirect);
        if redirects && route.backends.len > 0 {
            return Err("a route that redirects has no backends");
        }
        Ok(())
    }

    /// Bytes of its request and response edits.
    fn validate_filter(&self, index: u32, route: &Route) -> Result<(usize, usize), &'static str> {
        if index == NO_FILTER {
            return Ok((0, 0));
        }
        let filter = self.filters.get(index).ok_or("names a filter that is not there")?;
        let url = &filter.url;
        if !self.text.contains(url.hostname) || !self.text.contains(url.path) {
            return Err("a filter's string is out of range");
        }
        url_problem(url, self.text.get(url.hostname), self.text.get(url.path))?;
        let one_prefix =
            matches!(self.matches.span(route.matches), [m] if m.path_kind == PathKind::Prefix);
        if url.path_change == PathChange::Prefix && !one_prefix {
            return Err("replacing a prefix needs exactly one match, by prefix");
        }
        Ok((self.validate_edits(filter.request)?, self.validate_edits(filter.response)?))
    }

    fn validate_edits(&self, span: Span) -> Result<usize, &'static str> {
        if !self.edits.contains(span) {
            return Err("edits out of range");
        }
        let edits = self.edits.span(span);
        for (place, edit) in edits.iter().enumerate() {
            if !self.text.contains(edit.name) || !self.text.contains(edit.value) {
                return Err("an edit's string is out of range");
            }
            let (name, value) = (self.text.get(edit.name), self.text.get(edit.value));
            if let Some(what) = name_problem(name) {
                return Err(what);
            }
            let value_what = match edit.action {
                Action::Remove if value.is_empty() => None,
                Action::Remove => Some("remove has no value"),
                _ => value_problem(value),
            };
            if let Some(what) = value_what {
                return Err(what);
            }
            let same = |e: &HeaderEdit| self.text.get(e.name).eq_ignore_ascii_case(name);
            if edits[..place].iter().any(same) {
                return Err("only one action for a header name is permitted");
            }
        }
        Ok(self.edits_of(span).map(|edit| packed_len(&edit)).sum())
    }

    /// Copies the filters at an index of another Snapshot; the index here.
    pub(super) fn copy_filter(&mut self, from: &Snapshot, index: u32) -> Result<u32, Fault> {
        let Some(filter) = from.filter(index).copied() else { return Ok(NO_FILTER) };
        let mut copy = filter;
        copy.url.hostname = keep(self, from.text.get(filter.url.hostname))?;
        copy.url.path = keep(self, from.text.get(filter.url.path))?;
        for (span, own) in
            [(filter.request, &mut copy.request), (filter.response, &mut copy.response)]
        {
            let start = self.edits.len();
            for edit in from.edits.span(span) {
                let name = keep(self, from.text.get(edit.name))?;
                let value = keep(self, from.text.get(edit.value))?;
                let row = HeaderEdit { name, value, ..*edit };
                self.edits.push(row).map_err(no_room("MAX_CONFIG_EDITS"))?;
            }
            *own = self.edits.span_from(start);
        }
        self.filters.push(copy).map_err(no_room("MAX_CONFIG_FILTERS"))
    }

    /// Adds a filter whose strings are in another arena; the index here.
    pub fn add_filter<'t>(
        &mut self,
        filter: &Filter,
        edits: &[HeaderEdit],
        text: impl Fn(Text) -> &'t str,
    ) -> Result<u32, Full> {
        let mut row = *filter;
        row.url.hostname = self.text.push(text(filter.url.hostname))?;
        row.url.path = self.text.push(text(filter.url.path))?;
        for (span, own) in
            [(filter.request, &mut row.request), (filter.response, &mut row.response)]
        {
            let start = self.edits.len();
            for edit in &edits[span.range()] {
                let name = self.text.push(text(edit.name))?;
                let value = self.text.push(text(edit.value))?;
                self.edits.push(HeaderEdit { name, value, ..*edit })?;
            }
            *own = self.edits.span_from(start);
        }
        self.filters.push(row)
    }
}

/// The rules of a redirect or rewrite, whose path is meant as it would be kept.
fn url_problem(url: &UrlFilter, hostname: &str, path: &str) -> Result<(), &'static str> {
    if hostname.starts_with('*') || !hostname_valid(hostname) {
        return Err("a filter's hostname must be exact, in lower case");
    }
    match url.action {
        UrlAction::Redirect if !REDIRECTS.contains(&url.status) => {
            return Err("a redirect's status must be 301, 302, 303, 307 or 308");
        }
        UrlAction::Keep | UrlAction::Rewrite
            if url.status != 0 || url.port != 0 || url.scheme != Scheme::Same =>
        {
            return Err("only a redirect has status, port and scheme");
        }
        UrlAction::Keep if url.path_change != PathChange::Keep || !hostname.is_empty() => {
            return Err("hostname and path belong to a redirect or rewrite");
        }
        _ => {}
    }
    match url.path_change {
        PathChange::Keep if !path.is_empty() => Err("a path that stays has no replacement"),
        PathChange::Keep => Ok(()),
        PathChange::Full if path.is_empty() => Err("a replaced path must begin with /"),
        PathChange::Full => replacement_problem(path),
        PathChange::Prefix if path.is_empty() => Ok(()),
        PathChange::Prefix if path.ends_with('/') => {
            Err("a replaced prefix is kept without its trailing slash")
        }
        PathChange::Prefix => replacement_problem(path),
    }
}

/// Why a path may not take the place of a request's: what a router would not take from a client it
/// does not send to a backend.
pub fn replacement_problem(path: &str) -> Result<(), &'static str> {
    let mut scratch = [0; MAX_PATH_MATCH_BYTES as usize];
    if path.len() > scratch.len() {
        return Err("a path must have at most 1024 bytes");
    }
    if !path.starts_with('/') {
        return Err("a replacement path must begin with /");
    }
    if path.contains('?') || path.starts_with("//") {
        return Err("a replacement path must not hold ?, nor begin with //");
    }
    match url::canonical_path(path.as_bytes(), &mut scratch) {
        Ok(canonical) if canonical == path.as_bytes() => Ok(()),
        Ok(_) => Err("a replacement path must be in its canonical form (RFC 3986 section 6.2.2)"),
        Err(_) => Err("a replacement path must hold only path characters, and no dot segments"),
    }
}

// ---------------------------------------------------------------- the push format

/// Writes `"filter":{…}` when there is one.
pub(super) fn write_filter(s: &Snapshot, index: u32, json: &mut JsonWriter<'_>) {
    let Some(filter) = s.filter(index) else { return };
    json.key("filter").begin_object();
    write_edits(s, "request", filter.request, json);
    write_edits(s, "response", filter.response, json);
    let url = &filter.url;
    if url.action != UrlAction::Keep {
        let is_redirect = url.action == UrlAction::Redirect;
        json.key(if is_redirect { "redirect" } else { "rewrite" }).begin_object();
        json.member_unless_empty("scheme", url.scheme.name());
        json.member_unless_empty("hostname", s.text.get(url.hostname));
        if url.port != 0 {
            json.key("port").number(url.port);
        }
        match url.path_change {
            PathChange::Keep => {}
            PathChange::Full => drop(json.member("full", s.text.get(url.path))),
            PathChange::Prefix => drop(json.member("prefix", s.text.get(url.path))),
        }
        if is_redirect {
            json.key("status").number(url.status);
        }
        json.end_object();
    }
    json.end_object();
}

fn write_edits(s: &Snapshot, key: &str, span: Span, json: &mut JsonWriter<'_>) {
    if span.len == 0 {
        return;
    }
    json.key(key).begin_array();
    for edit in s.edits.span(span) {
        json.begin_array().string(edit.action.name()).string(s.text.get(edit.name));
        if edit.action != Action::Remove {
            json.string(s.text.get(edit.value));
        }
        json.end_array();
    }
    json.end_array();
}

/// Reads the member `filter`, when there is one.
pub(super) fn read_filter(value: Value<'_>, into: &mut Snapshot) -> Result<u32, Fault> {
    let Some(value) = value.get("filter") else { return Ok(NO_FILTER) };
    only(value, &["request", "response", "redirect", "rewrite"])?;
    let request = read_edits(value, "request", into)?;
    let response = read_edits(value, "response", into)?;
    let url = match (value.get("redirect"), value.get("rewrite")) {
        (None, None) => UrlFilter::default(),
        (Some(item), None) => read_redirect(item, into)?,
        (None, Some(item)) => {
            only(item, &["hostname", "full", "prefix"])?;
            read_url(item, UrlAction::Rewrite, into)?
        }
        _ => return Err(Fault::Bad("a filter has either redirect or rewrite")),
    };
    let row = Filter { request, response, url };
    into.filters.push(row).map_err(no_room("MAX_CONFIG_FILTERS"))
}

/// That a value is an object with no members but these.
fn only(value: Value<'_>, members: &[&str]) -> Result<(), Fault> {
    if value.kind() != Kind::Object || value.items().any(|m| !members.contains(&m.name())) {
        return Err(Fault::Bad(
            "a filter is an object of request, response, and redirect (scheme, hostname, port, \
             full or prefix, status) or rewrite (hostname, full or prefix)",
        ));
    }
    Ok(())
}

fn read_redirect(item: Value<'_>, into: &mut Snapshot) -> Result<UrlFilter, Fault> {
    only(item, &["scheme", "hostname", "port", "full", "prefix", "status"])?;
    let small = |member: &str, default: u16| match item.get(member) {
        None => Ok(default),
        Some(_) => unsigned(item, member)
            .and_then(|n| u16::try_from(n).ok())
            .ok_or(Fault::Bad("port and status must be numbers")),
    };
    let scheme = Scheme::parse(item.text("scheme"));
    Ok(UrlFilter {
        scheme: scheme.ok_or(Fault::Bad("scheme must be http or https"))?,
        port: small("port", 0)?,
        status: small("status", 302)?,
        ..read_url(item, UrlAction::Redirect, into)?
    })
}

fn read_url(item: Value<'_>, action: UrlAction, into: &mut Snapshot) -> Result<UrlFilter, Fault> {
    let (path_change, path) = match (item.get("full"), item.get("prefix")) {
        (None, None) => (PathChange::Keep, ""),
        (Some(path), None) => (PathChange::Full, path.str().unwrap_or("")),
        (None, Some(path)) => {
            let path = path.str().ok_or(Fault::Bad("prefix must be a string"))?;
            (PathChange::Prefix, path)
        }
        _ => return Err(Fault::Bad("a path is replaced by either full or prefix")),
    };
    let hostname = keep(into, item.text("hostname"))?;
    let path = keep(into, path)?;
    Ok(UrlFilter { action, path_change, hostname, path, ..UrlFilter::default() })
}

fn read_edits(value: Value<'_>, key: &str, into: &mut Snapshot) -> Result<Span, Fault> {
    const WHAT: &str = "an edit must be [\"set\" or \"add\", name, value] or [\"remove\", name]";
    let start = into.edits.len();
    for item in items(value, key) {
        let mut texts = item.items().map(Value::str);
        let mut next = || texts.next().flatten();
        let (verb, name) = (next().unwrap_or(""), next().ok_or(Fault::Bad(WHAT))?);
        let action = Action::ALL.into_iter().find(|a| a.name() == verb);
        let action = action.ok_or(Fault::Bad(WHAT))?;
        let text = match action {
            Action::Remove => "",
            _ => next().ok_or(Fault::Bad(WHAT))?,
        };
        if texts.next().is_some() {
            return Err(Fault::Bad(WHAT));
        }
        let (name, value) = (keep(into, name)?, keep(into, text)?);
        let row = HeaderEdit { action, name, value };
        into.edits.push(row).map_err(no_room("MAX_CONFIG_EDITS"))?;
    }
    Ok(into.edits.span_from(start))
}
