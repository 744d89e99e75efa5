//! Filters as the CRD has them: what is taken, and each refusal with its path.

use super::*;
use crate::limits::{MAX_FILTERS_PER_ROUTE, MAX_HEADER_EDITS_PER_ROUTE};
use crate::resource::Object;
use crate::resource::document::Document;
use crate::shell::json;
use crate::shell::place::boxed_zeroed;
use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

fn decode(rule: &str) -> Result<Box<HttpRoute>, String> {
    let text = format!(
        r#"{{"metadata":{{"name":"r"}},"spec":{{"parentRefs":[{{"name":"g"}}],"rules":[{{{rule}}}]}}}}"#
    );
    let mut document = boxed_zeroed::<Document>();
    json::parse(text.as_bytes(), &mut document).expect("the test's rule is JSON");
    let mut route = boxed_zeroed::<HttpRoute>();
    match route.decode(document.root(), "c") {
        Ok(()) => Ok(route),
        Err(problem) => Err(problem.to_string()),
    }
}

fn filters(list: &str) -> Result<Box<HttpRoute>, String> {
    decode(&format!(r#""filters":[{list}]"#))
}

#[test]
fn header_modifiers() {
    let route = filters(
        r#"{"type":"RequestHeaderModifier","requestHeaderModifier":{
            "remove":["X-C"],"set":[{"name":"X-A","value":" 1 2\t"}],"add":[{"name":"X-B","value":"2"}]}},
           {"type":"ResponseHeaderModifier","responseHeaderModifier":{"remove":["Server"]}}"#,
    );
    let route = route.unwrap();
    let edits = |span| -> Vec<_> {
        let edits = route.edits.span(span).iter();
        edits.map(|e| (e.action, route.text.get(e.name), route.text.get(e.value))).collect()
    };
    let filter = route.filters[route.rules[0].filter];
    let expected =
        [(Action::Set, "X-A", "1 2"), (Action::Add, "X-B", "2"), (Action::Remove, "X-C", "")];
    assert_eq!(edits(filter.request), expected);
    assert_eq!(edits(filter.response), [(Action::Remove, "Server", "")]);
    assert_eq!(filter.url, UrlFilter::default());
    assert!(route.unsupported.is_empty());
}

#[test]
fn no_filter_no_row() {
    for none in ["", r#""filters":[]"#, r#""filters":[{"type":"URLRewrite","urlRewrite":{}}]"#] {
        let route = decode(none).unwrap();
        assert_eq!(route.rules[0].filter, NO_FILTER, "{none}");
        assert!(route.filters.is_empty());
    }
}

#[test]
fn redirects_and_rewrites() {
    let redirect = |members: &str| {
        let route =
            filters(&format!(r#"{{"type":"RequestRedirect","requestRedirect":{{{members}}}}}"#));
        let route = route.unwrap();
        assert!(route.unsupported.is_empty(), "{}", route.unsupported);
        let url = route.filters[route.rules[0].filter].url;
        let text = |t| route.text.get(t).to_string();
        (url.scheme, url.status, url.port, text(url.hostname), url.path_change, text(url.path))
    };
    let none = String::new;
    assert_eq!(redirect(""), (Scheme::Same, 302, 0, none(), PathChange::Keep, none()));
    let all = r#""scheme":"https","hostname":"a.b","port":8443,"statusCode":308,
        "path":{"type":"ReplaceFullPath","replaceFullPath":"/x/"}"#;
    let expected = (Scheme::Https, 308, 8443, "a.b".into(), PathChange::Full, "/x/".into());
    assert_eq!(redirect(all), expected);
    for (written, kept) in [("/xyz/", "/xyz"), ("/xyz", "/xyz"), ("/", ""), ("", "")] {
        let path =
            format!(r#""path":{{"type":"ReplacePrefixMatch","replacePrefixMatch":"{written}"}}"#);
        let (.., change, path) = redirect(&path);
        assert_eq!((change, path.as_str()), (PathChange::Prefix, kept));
    }
    let (.., change, path) = redirect(r#""path":{"type":"ReplaceFullPath","replaceFullPath":""}"#);
    assert_eq!((change, path.as_str()), (PathChange::Full, "/"));
}

#[test]
fn what_is_not_served_yet() {
    for (list, path) in [
        (r#"{"type":"CORS","cors":{}}"#, "spec.rules[0].filters[0]"),
        (r#"{"type":"RequestMirror","requestMirror":{}}"#, "spec.rules[0].filters[0]"),
        (r#"{"type":"ExternalAuth","externalAuth":{}}"#, "spec.rules[0].filters[0]"),
        (r#"{"type":"Later"}"#, "spec.rules[0].filters[0]"),
        (
            r#"{"type":"RequestRedirect","requestRedirect":{"scheme":"ftp"}}"#,
            "spec.rules[0].filters[0].requestRedirect.scheme",
        ),
        (
            r#"{"type":"RequestRedirect","requestRedirect":{"statusCode":305}}"#,
            "spec.rules[0].filters[0].requestRedirect.statusCode",
        ),
        (
            r#"{"type":"URLRewrite","urlRewrite":{"path":{"type":"Regex"}}}"#,
            "spec.rules[0].filters[0].urlRewrite.path",
        ),
    ] {
        assert_eq!(filters(list).unwrap().unsupported.as_str(), path, "{list}");
    }
    let list = r#"{"type":"ExtensionRef","extensionRef":{"group":"g","kind":"K","name":"n"}}"#;
    let route = filters(list).unwrap();
    assert!(route.unsupported.is_empty() && route.rules[0].is_broken);
    assert_eq!(route.extension.as_str(), "K.g n");
}

#[test]
fn each_error_has_its_path() {
    let modifier = |members: &str| {
        format!(r#"{{"type":"RequestHeaderModifier","requestHeaderModifier":{{{members}}}}}"#)
    };
    let full = |path: &str| {
        let path = format!(r#"{{"type":"ReplaceFullPath","replaceFullPath":"{path}"}}"#);
        format!(r#"{{"type":"URLRewrite","urlRewrite":{{"path":{path}}}}}"#)
    };
    let redirect = r#"{"type":"RequestRedirect","requestRedirect":{}}"#;
    let rewrite = r#"{"type":"URLRewrite","urlRewrite":{}}"#;
    let seventeen = (0..17).map(|n| format!(r#""x{n}""#)).collect::<Vec<_>>().join(",");
    let long = "v".repeat(4097);
    let at = "spec.rules[0].filters";
    let own = format!("{at}[0].requestHeaderModifier");
    for (list, path) in [
        (r#"{"requestRedirect":{}}"#.to_string(), format!("{at}[0].type")),
        (r#"{"type":"URLRewrite"}"#.into(), format!("{at}[0].urlRewrite")),
        (
            r#"{"type":"URLRewrite","urlRewrite":{},"cors":{}}"#.into(),
            format!("{at}[0].cors"),
        ),
        (format!("{redirect},{redirect}"), format!("{at}[1]")),
        (format!("{0},{0}", modifier("")), format!("{at}[1]")),
        (format!("{redirect},{rewrite}"), at.into()),
        (format!("{rewrite},{redirect}"), at.into()),
        (modifier(r#""set":[{"name":"Host","value":"x"}]"#), format!("{own}.set[0].name")),
        (modifier(r#""add":[{"name":"TE","value":"x"}]"#), format!("{own}.add[0].name")),
        (modifier(r#""remove":["a","Content-Length"]"#), format!("{own}.remove[1]")),
        (modifier(r#""set":[{"name":"a b","value":"x"}]"#), format!("{own}.set[0].name")),
        (modifier(r#""set":[{"name":"a","value":"x\ny"}]"#), format!("{own}.set[0].value")),
        (modifier(r#""set":[{"name":"a","value":" "}]"#), format!("{own}.set[0].value")),
        (modifier(r#""set":[{"name":"a"}]"#), format!("{own}.set[0].value")),
        (
            modifier(&format!(r#""set":[{{"name":"a","value":"{long}"}}]"#)),
            format!("{own}.set[0].value"),
        ),
        (
            modifier(r#""set":[{"name":"a","value":"x"}],"remove":["A"]"#),
            format!("{own}.remove[0]"),
        ),
        (modifier(&format!(r#""remove":[{seventeen}]"#)), format!("{own}.remove")),
        (full("a"), format!("{at}[0].urlRewrite.path.replaceFullPath")),
        (full("/a?b"), format!("{at}[0].urlRewrite.path.replaceFullPath")),
        (full("/a/../b"), format!("{at}[0].urlRewrite.path.replaceFullPath")),
        (full(&"/a".repeat(513)), format!("{at}[0].urlRewrite.path.replaceFullPath")),
        (
            r#"{"type":"URLRewrite","urlRewrite":{"hostname":"*.a"}}"#.into(),
            format!("{at}[0].urlRewrite.hostname"),
        ),
        (
            r#"{"type":"URLRewrite","urlRewrite":{"path":{"type":"ReplaceFullPath","replacePrefixMatch":"/"}}}"#.into(),
            format!("{at}[0].urlRewrite.path.replaceFullPath"),
        ),
        (
            r#"{"type":"RequestRedirect","requestRedirect":{"port":0}}"#.into(),
            format!("{at}[0].requestRedirect.port"),
        ),
    ] {
        let error = filters(&list).err().unwrap_or_else(|| panic!("taken: {list}"));
        assert_eq!(error.split(": ").next(), Some(path.as_str()), "{list}: {error}");
    }
}

#[test]
fn what_concerns_the_rule_around_the_filter() {
    let prefix = r#"{"type":"URLRewrite","urlRewrite":{"path":{"type":"ReplacePrefixMatch","replacePrefixMatch":"/x"}}}"#;
    let redirect = r#"{"type":"RequestRedirect","requestRedirect":{}}"#;
    let one = r#""matches":[{"path":{"value":"/a"}}]"#;
    let backend = |filters: &str| {
        format!(r#""backendRefs":[{{"name":"s","port":80,"filters":[{filters}]}}]"#)
    };
    for good in [
        format!(r#""filters":[{prefix}]"#),
        format!(r#"{one},"filters":[{prefix}]"#),
        format!(r#""matches":[{{"headers":[]}}],"filters":[{prefix}]"#),
        format!("{one},{}", backend(prefix)),
        format!("{one},{}", backend(redirect)),
    ] {
        assert_eq!(decode(&good).err(), None, "{good}");
    }
    for (bad, path) in [
        (format!(r#"{one},"filters":[{redirect}],{}"#, backend("")), "spec.rules[0].backendRefs"),
        (format!(r#""matches":[],"filters":[{prefix}]"#), "spec.rules[0].matches"),
        (
            format!(
                r#""matches":[{{"path":{{"type":"Exact","value":"/a"}}}}],"filters":[{prefix}]"#
            ),
            "spec.rules[0].matches",
        ),
        (
            format!(r#""matches":[{{"path":{{"value":"/a"}}}},{{}}],{}"#, backend(prefix)),
            "spec.rules[0].matches",
        ),
        (backend(&format!("{redirect},{prefix}")), "spec.rules[0].backendRefs[0].filters"),
    ] {
        let error = decode(&bad).err().unwrap_or_else(|| panic!("taken: {bad}"));
        assert_eq!(error.split(": ").next(), Some(path), "{bad}: {error}");
    }
}

/// Limits at max and one more: a list's bytes, edits and filters of a route.
#[test]
fn limits() {
    let half = "v".repeat(MAX_EDIT_BYTES as usize / 2 - 6);
    for (more, fits) in [(0, true), (1, false)] {
        let rest = "v".repeat(MAX_EDIT_BYTES as usize - half.len() - 12 + more);
        let set = |name: &str, value: &str| {
            let item = format!(r#"{{"name":"{name}","value":"{value}"}}"#);
            let own = format!(r#""requestHeaderModifier":{{"set":[{item}]}}"#);
            format!(r#""filters":[{{"type":"RequestHeaderModifier",{own}}}]"#)
        };
        let backend = format!(r#"{{"name":"s","port":80,{}}}"#, set("b", &rest));
        let result = decode(&format!(r#"{},"backendRefs":[{backend}]"#, set("a", &half)));
        let expected = (!fits).then(|| "larger than MAX_EDIT_BYTES allows".to_string());
        assert_eq!(result.err(), expected);
    }
}

/// Filters and edits of a whole route, at max and one more.
#[test]
fn a_routes_filters_and_edits_at_max_and_one_more() {
    let filter = |edits: u32| {
        let names: Vec<_> = (0..edits).map(|n| format!(r#""x{n}""#)).collect();
        let own = format!(r#""requestHeaderModifier":{{"remove":[{}]}}"#, names.join(","));
        format!(r#""filters":[{{"type":"RequestHeaderModifier",{own}}}]"#)
    };
    // Backends have the filters, 16 a rule; the edits are shared out evenly.
    let route = |filters: u32, edits: u32| {
        let (mut text, mut left) = (String::new(), edits);
        for number in 0..filters {
            let per_filter = left.div_ceil(filters - number).min(16);
            left -= per_filter;
            let end = if number % 16 == 0 { "]},{\"backendRefs\":[" } else { "," };
            let backend = format!(r#"{{"name":"s","port":80,{}}}"#, filter(per_filter));
            text += &format!("{}{backend}", if number == 0 { "" } else { end });
        }
        assert_eq!(left, 0, "the test's own");
        decode(&format!(r#""backendRefs":[{text}]"#)).map(|route| route.filters.len())
    };
    let (most, edits) = (MAX_FILTERS_PER_ROUTE, MAX_HEADER_EDITS_PER_ROUTE);
    assert_eq!(route(most, most), Ok(most));
    let error = route(most + 1, most + 1).unwrap_err();
    assert_eq!(error, "larger than MAX_FILTERS_PER_ROUTE allows");
    assert_eq!(route(most - 1, edits), Ok(most - 1));
    let error = route(most - 1, edits + 1).unwrap_err();
    assert_eq!(error, "larger than MAX_HEADER_EDITS_PER_ROUTE allows");
}
