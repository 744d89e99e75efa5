//! Filters of an HTTPRoute: spec.rules[].filters and spec.rules[].backendRefs[].filters.
//!
//! In: the filters of one rule or backendRef. Out: at most one [`Filter`] row with its edits, by
//! the CRD's rules and those of [`crate::config::filter`], each error with its path. Kinds that
//! serval does not serve make the route unsupported; an ExtensionRef, which never resolves here,
//! breaks the rule or backendRef: its requests are answered 500, never passed unfiltered.

use super::decode::{
    Problem, array, int, invalid, invalid_member, keep, port, required, string, too_large,
};
use super::document::Value;
use super::http_route::HttpRoute;
use crate::config::filter::{
    Filter, HeaderEdit, NO_FILTER, PathChange, REDIRECTS, Scheme, UrlAction, UrlFilter,
    replacement_problem,
};
use crate::config::snapshot::{PathKind, hostname_valid};
use crate::limits::{MAX_EDIT_BYTES, MAX_EDITS_PER_LIST, MAX_FILTERS_PER_RULE};
use crate::limits::{MAX_PATH_MATCH_BYTES, MAX_WEIGHT};
use crate::stdx::{Short, Span};
use crate::wire::http1::edit::{Action, PACKED_EDIT_BYTES, name_problem, value_problem};

/// HTTPRouteFilter.type and the member that belongs to it.
const KINDS: [(&str, &str); 8] = [
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("CORS", "cors"),
    ("RequestMirror", "requestMirror"),
    ("ExtensionRef", "extensionRef"),
    ("ExternalAuth", "externalAuth"),
];

/// Those of [`KINDS`] that may be there once.
const ONCE: usize = 5;

/// The filters of one rule or backendRef.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters {
    /// Index into [`HttpRoute::filters`], or [`NO_FILTER`].
    pub index: u32,
    /// An ExtensionRef is among them.
    pub is_broken: bool,
}

impl HttpRoute {
    /// Reads the member `filters` of a rule or backendRef.
    pub(super) fn filters(&mut self, owner: Value<'_>) -> Result<Filters, Problem> {
        let mut seen = [0u32; KINDS.len()];
        let (mut row, mut is_broken) = (Filter::default(), false);
        for item in array(owner, "filters", MAX_FILTERS_PER_RULE)? {
            let kind = required(item, "type")?;
            let Some(place) = KINDS.iter().position(|k| k.0 == kind) else {
                self.unsupported(item);
                continue;
            };
            let value = union_member(item, KINDS[place])?;
            seen[place] += 1;
            if place < ONCE && seen[place] > 1 {
                return Err(invalid(item, "a filter of this type cannot be repeated"));
            }
            match kind {
                "RequestHeaderModifier" => row.request = self.header_edits(value)?,
                "ResponseHeaderModifier" => row.response = self.header_edits(value)?,
                "RequestRedirect" => row.url = self.redirect(value)?,
                "URLRewrite" if seen[2] == 0 => row.url = self.rewrite(value)?,
                "ExtensionRef" => {
                    is_broken = true;
                    self.extension(value);
                }
                _ => self.unsupported(item),
            }
            if seen[2] > 0 && seen[3] > 0 {
                let what = "may specify either RequestRedirect or URLRewrite, but not both";
                return Err(invalid_member(owner, "filters", what));
            }
        }
        if row == Filter::default() {
            return Ok(Filters { index: NO_FILTER, is_broken });
        }
        let index = self.filters.push(row).map_err(too_large("MAX_FILTERS_PER_ROUTE"))?;
        Ok(Filters { index, is_broken })
    }

    /// The rules of filters that concern the rule's matches and backendRefs. `first`: its first
    /// backendRef.
    pub(super) fn check_filters(
        &self,
        rule: Value<'_>,
        index: u32,
        (matches, backends): (Span, Span),
    ) -> Result<(), Problem> {
        let url = |index: u32| self.filters.get(index).map_or(UrlFilter::default(), |f| f.url);
        if url(index).action == UrlAction::Redirect && backends.len > 0 {
            let what = "must not be used together with a RequestRedirect filter";
            return Err(invalid_member(rule, "backendRefs", what));
        }
        let listed = rule.get("matches").map_or(1, |m| m.items().count());
        let one_prefix = listed == 1
            && matches!(self.matches.span(matches), [m] if m.path_kind == PathKind::Prefix);
        let mut all = self.backends.span(backends).iter().map(|b| b.filter).chain([index]);
        if !one_prefix && all.any(|index| url(index).path_change == PathChange::Prefix) {
            let what = "must be exactly one PathPrefix match, since a filter replaces the prefix";
            return Err(invalid_member(rule, "matches", what));
        }
        let own = self.edit_bytes(index);
        let its = self.backends.span(backends).iter().map(|b| self.edit_bytes(b.filter));
        for its in its.chain([(0, 0)]) {
            if own.0 + its.0 > MAX_EDIT_BYTES || own.1 + its.1 > MAX_EDIT_BYTES {
                return Err(Problem::TooLarge { limit: "MAX_EDIT_BYTES" });
            }
        }
        Ok(())
    }

    /// Bytes that a filter's request and response edits have in a packed list.
    fn edit_bytes(&self, index: u32) -> (u32, u32) {
        let Some(filter) = self.filters.get(index) else { return (0, 0) };
        let bytes = |span: Span| {
            let edits = self.edits.span(span).iter();
            edits.map(|e| PACKED_EDIT_BYTES as u32 + e.name.len + e.value.len).sum()
        };
        (bytes(filter.request), bytes(filter.response))
    }

    fn extension(&mut self, value: Value<'_>) {
        if self.extension.is_empty() {
            let (group, kind, name) = (value.text("group"), value.text("kind"), value.text("name"));
            self.extension = Short::truncated(format_args!("{kind}.{group} {name}"));
        }
    }

    fn header_edits(&mut self, value: Value<'_>) -> Result<Span, Problem> {
        let start = self.edits.len();
        for action in Action::ALL {
            for item in array(value, action.name(), MAX_EDITS_PER_LIST)? {
                let (at, name, text) = match action {
                    Action::Remove => {
                        (item, item.str().ok_or_else(|| invalid(item, "must be a string"))?, "")
                    }
                    _ => {
                        let name = required(item, "name")?;
                        // Blanks around a value are no part of it (RFC 9110 section 5.5).
                        let text = required(item, "value")?.trim_matches([' ', '\t']);
                        if let Some(what) = value_problem(text) {
                            return Err(invalid_member(item, "value", what));
                        }
                        (item.get("name").unwrap_or(item), name, text)
                    }
                };
                if let Some(what) = name_problem(name) {
                    return Err(invalid(at, what));
                }
                let known = &self.edits.as_slice()[start as usize..];
                if known.iter().any(|e| self.text.get(e.name).eq_ignore_ascii_case(name)) {
                    return Err(invalid(at, "only one action for a header name is permitted"));
                }
                let name = keep(&mut self.text, name)?;
                let value = keep(&mut self.text, text)?;
                let pushed = self.edits.push(HeaderEdit { action, name, value });
                pushed.map_err(too_large("MAX_HEADER_EDITS_PER_ROUTE"))?;
            }
        }
        Ok(self.edits.span_from(start))
    }

    fn redirect(&mut self, value: Value<'_>) -> Result<UrlFilter, Problem> {
        let scheme = match string(value, "scheme")? {
            None => Scheme::Same,
            Some(name) => Scheme::parse(name).filter(|s| *s != Scheme::Same).unwrap_or_else(|| {
                self.unsupported(value.get("scheme").unwrap_or(value));
                Scheme::Same
            }),
        };
        let status = int(value, "statusCode", 0, i64::from(MAX_WEIGHT))?.unwrap_or(302);
        let known = REDIRECTS.into_iter().find(|&s| i64::from(s) == status);
        if known.is_none() {
            self.unsupported(value.get("statusCode").unwrap_or(value));
        }
        Ok(UrlFilter {
            action: UrlAction::Redirect,
            scheme,
            status: known.unwrap_or(302),
            port: port(value, "port")?.unwrap_or(0),
            ..self.url_parts(value)?
        })
    }

    fn rewrite(&mut self, value: Value<'_>) -> Result<UrlFilter, Problem> {
        let parts = self.url_parts(value)?;
        let does_something = !parts.hostname.is_empty() || parts.path_change != PathChange::Keep;
        let action = if does_something { UrlAction::Rewrite } else { UrlAction::Keep };
        Ok(UrlFilter { action, ..parts })
    }

    /// hostname and path, which redirects and rewrites have in common.
    fn url_parts(&mut self, value: Value<'_>) -> Result<UrlFilter, Problem> {
        let hostname = string(value, "hostname")?;
        if hostname.is_some_and(|h| h.is_empty() || h.starts_with('*') || !hostname_valid(h)) {
            return Err(invalid_member(value, "hostname", "must be exact, in lower case"));
        }
        let hostname = keep(&mut self.text, hostname.unwrap_or(""))?;
        let Some(path) = value.get("path") else {
            return Ok(UrlFilter { hostname, ..UrlFilter::default() });
        };
        let (full, prefix) =
            (string(path, "replaceFullPath")?, string(path, "replacePrefixMatch")?);
        let (member, path_change, replacement) = match required(path, "type")? {
            "ReplaceFullPath" => {
                only_member(path, full, "replaceFullPath", prefix, "replacePrefixMatch")?;
                ("replaceFullPath", PathChange::Full, full.filter(|p| !p.is_empty()).unwrap_or("/"))
            }
            "ReplacePrefixMatch" => {
                only_member(path, prefix, "replacePrefixMatch", full, "replaceFullPath")?;
                let prefix = prefix.unwrap_or("");
                let short = prefix.strip_suffix('/').unwrap_or(prefix);
                ("replacePrefixMatch", PathChange::Prefix, short)
            }
            _ => {
                self.unsupported(path);
                return Ok(UrlFilter { hostname, ..UrlFilter::default() });
            }
        };
        if replacement.len() > MAX_PATH_MATCH_BYTES as usize {
            return Err(invalid_member(path, member, "must be at most 1024 bytes"));
        }
        if !replacement.is_empty()
            && let Err(what) = replacement_problem(replacement)
        {
            return Err(invalid_member(path, member, what));
        }
        let path = keep(&mut self.text, replacement)?;
        Ok(UrlFilter { hostname, path_change, path, ..UrlFilter::default() })
    }
}

/// The member that a filter's type asks for; the others must not be there.
fn union_member<'d>(
    item: Value<'d>,
    (kind, member): (&str, &'static str),
) -> Result<Value<'d>, Problem> {
    for (_, other) in KINDS.iter().filter(|k| k.0 != kind) {
        if let Some(found) = item.get(other) {
            return Err(invalid(found, "must be nil if the filter's type is another"));
        }
    }
    item.get(member).ok_or_else(|| invalid_member(item, member, "must be specified for its type"))
}

/// HTTPPathModifier: the replacement of its type must be there, the other must not.
fn only_member(
    path: Value<'_>,
    wanted: Option<&str>,
    member: &'static str,
    other: Option<&str>,
    other_member: &'static str,
) -> Result<(), Problem> {
    if wanted.is_none() {
        return Err(invalid_member(path, member, "must be specified for the path's type"));
    }
    if other.is_some() {
        return Err(invalid_member(path, other_member, "belongs to the path's other type"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "route_filter_tests.rs"]
mod tests;
