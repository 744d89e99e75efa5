//! What documents say: paths that exist, every limit, no registry.

use super::root;
use serval::limits::{LIMITS, Limit};
use std::fmt::Write as _;

/// Folders whose paths are looked at.
const FOLDERS: &[&str] =
    &["src/", "tests/", "vopr/", "docs/", "scripts/", "deploy/", "fuzz/", "bench/"];

/// Paths that a document mentions and that are not there.
pub fn missing_paths(document: &str, text: &str) -> Vec<String> {
    let mut missing = vec![];
    for (number, line) in (1..).zip(text.lines()) {
        for path in paths(line).filter(|path| !root().join(path).exists()) {
            missing.push(format!("{document}:{number}: {path} is not there: name what is"));
        }
    }
    missing
}

/// What looks like a path of this repository.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_alphanumeric() || "_./-".contains(c);
    line.split(move |c: char| !is_part(c))
        .map(|word| word.trim_end_matches(['.', '/']).trim_start_matches("./"))
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
}

/// docs/LIMITS.md.
pub fn limits_page() -> String {
    let mut page = String::from(
        "# Limits\n\nEvery bound of serval, from limits.toml (written by `SERVAL_BLESS=1 cargo test \
         --test tidy`).\n",
    );
    for (kind, title, what) in [
        ("capacity", "Capacities", "Set at start by flag or environment, between min and max."),
        ("shape", "Shapes", "Sizes of objects and buffers: fixed when serval is built."),
        ("spec", "Specification", "Maxima of the Gateway API's own CRDs."),
    ] {
        let _ = write!(page, "\n## {title}\n\n{what}\n\n");
        page.push_str(match kind {
            "capacity" => "| flag | default | min | max | what |\n|---|--:|--:|--:|---|\n",
            _ => "| name | value | what |\n|---|--:|---|\n",
        });
        for limit in LIMITS.iter().filter(|limit| limit.kind == kind) {
            page.push_str(&row(limit));
        }
    }
    page
}

fn row(limit: &Limit) -> String {
    let Limit { name, kind, unit, default, min, max, why } = *limit;
    let why = why.replace('|', "\\|");
    match kind {
        "capacity" => {
            let flag = name.to_lowercase().replace('_', "-");
            format!("| `--{flag}` | {default} | {min} | {max} | {why} ({unit}) |\n")
        }
        _ => format!("| {name} | {default} | {why} ({unit}) |\n"),
    }
}

/// Limits that no code names.
pub fn unused_limits(code: &str) -> Vec<&'static str> {
    let is_used = |limit: &&Limit| !code.contains(limit.name) && !uses_field(code, limit);
    LIMITS.iter().filter(is_used).map(|limit| limit.name).collect()
}

fn uses_field(code: &str, limit: &Limit) -> bool {
    limit.kind == "capacity" && code.contains(&limit.name.to_lowercase())
}

/// Registries of images and packages that a text names.
pub fn registries(path: &str, text: &str) -> Vec<String> {
    let hosts = ["docker.io", "ghcr.io", "quay.io", "gcr.io", "registry.k8s.io", "public.ecr.aws"];
    let lines = (1..).zip(text.lines());
    let named = lines.filter(|(_, line)| hosts.iter().any(|host| line.contains(host)));
    named
        .map(|(number, _)| format!("{path}:{number}: no registry: images are built here"))
        .collect()
}

#[test]
fn notices_paths_limits_and_registries() {
    let text = "see `src/lib.rs`, src/no_such.rs (and ./docs/none.md).\n";
    let missing = missing_paths("x.md", text);
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert!(missing[0].contains("src/no_such.rs") && missing[1].contains("docs/none.md"));
    let all_but_one: String = LIMITS.iter().skip(1).map(|limit| limit.name).collect();
    assert_eq!(unused_limits(&all_but_one), [LIMITS[0].name]);
    assert_eq!(registries("x", "FROM scratch\nimage: ghcr.io/a/b\n").len(), 1);
    assert!(limits_page().contains("| `--max-routes` | "));
}
