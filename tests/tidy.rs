//! The rules of the house that a program can judge (docs/STYLE.md has the others).
//!
//! In: all sources and documents. Out: a list of what breaks which rule, where, and what to do
//! instead. Every rule is itself tried on a bad sample, so that it cannot fall asleep.

#![allow(clippy::disallowed_methods, reason = "nothing is sealed here")]

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use source::Source;
use std::fs;
use std::path::{Path, PathBuf};

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files under `folder` with one of the extensions, relative to the root, in order.
pub fn files(folder: &str, extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let skipped = name.starts_with('.') || name.starts_with("target") || name == "out";
            if path.is_dir() && !skipped {
                folders.push(path);
            } else if extensions.iter().any(|e| path.extension().is_some_and(|x| x == *e)) {
                found.push(relative(&path));
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned()
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn sources() -> Vec<Source> {
    let mut sources: Vec<Source> = ["src", "vopr", "tests", "fuzz", "bench"]
        .iter()
        .flat_map(|folder| files(folder, &["rs"]))
        .chain(["build.rs".to_string()])
        .map(|path| Source::new(&path, &read(&path)))
        .collect();
    source::mark_test_files(&mut sources);
    sources
}

#[test]
fn sources_keep_the_rules() {
    let sources = sources();
    assert!(sources.len() > 100, "the walk found the sources");
    let broken: Vec<String> = sources.iter().flat_map(rules::complaints).collect();
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn documents_name_what_exists() {
    let documents = files("docs", &["md"]).into_iter().chain(files("tests", &["md"]));
    let at_root = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"];
    let at_root = at_root.iter().filter(|path| root().join(path).exists()).map(|p| p.to_string());
    let broken: Vec<String> = documents
        .chain(at_root)
        .flat_map(|path| documents::missing_paths(&path, &read(&path)))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn limits_are_documented() {
    let (wanted, path) = (documents::limits_page(), root().join("docs/LIMITS.md"));
    if std::env::var_os("SERVAL_BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, &wanted).expect("docs/ is writable");
    }
    let have = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        have == wanted || serval::limits::SHAPE != "production",
        "docs/LIMITS.md is not what limits.toml says: SERVAL_BLESS=1 cargo test --test tidy"
    );
}

#[test]
fn limits_are_used() {
    let text: String = sources()
        .iter()
        .filter(|source| !source.path.starts_with("tests/"))
        .map(|source| source.code.as_str())
        .collect();
    let unused = documents::unused_limits(&text);
    assert!(unused.is_empty(), "in limits.toml and nowhere else, remove them: {unused:?}");
}

#[test]
fn no_registry_is_named() {
    let all = ["rs", "toml", "md", "yaml", "yml", "sh", "go", "json"];
    let paths = ["src", "vopr", "tests", "docs", "scripts", "deploy"];
    let paths = paths.iter().flat_map(|folder| files(folder, &all));
    let broken: Vec<String> = paths
        .filter(|path| !path.starts_with("tests/tidy"))
        .flat_map(|path| documents::registries(&path, &read(&path)))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
