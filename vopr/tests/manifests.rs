//! `vopr --manifests`: what would fail of docs/example, of one with weaknesses, of wrong ones.

#![allow(clippy::disallowed_methods, reason = "nothing is sealed here")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs vopr in the root; exit code and output.
fn vopr(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vopr"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).args(arguments);
    let output = command.output().expect("vopr runs");
    let text = String::from_utf8_lossy(&output.stdout).to_string();
    (output.status.code().unwrap_or(-1), text)
}

/// A folder with these files.
fn folder(name: &str, files: &[(&str, String)]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder");
    for (name, text) in files {
        std::fs::write(path.join(name), text).expect("a file");
    }
    path
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/example").join(name);
    std::fs::read_to_string(path).expect("a manifest")
}

fn tried(folder: &Path) -> (i32, String) {
    vopr(&["--manifests", folder.to_str().expect("a path"), "--seeds", "2"])
}

/// What README.md shows in its block after this command, without the line of the command.
fn shown(command: &str) -> String {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(readme).expect("the README");
    let block = readme.split(&format!("$ {command}\n")).nth(1).expect("a block of it");
    block.split("```").next().expect("its end").to_string()
}

#[test]
fn the_examples_are_as_the_readme_says() {
    for (folder, code) in [("docs/example", 0), ("docs/example-weak", 7)] {
        let (found, text) = vopr(&["--manifests", folder]);
        assert_eq!(found, code, "{text}");
        let command = format!("cargo run --release -p vopr -- --manifests {folder}");
        assert_eq!(text, shown(&command));
        // And again the same.
        assert_eq!(vopr(&["--manifests", folder]).1, text);
    }
}

#[test]
fn a_lone_endpoint_is_named_with_what_it_costs() {
    let backends = example("backends.yaml").replacen("  - addresses: [127.0.0.2]\n", "", 1);
    let path = folder(
        "lone",
        &[
            ("a.yaml", example("gateway.yaml")),
            ("b.yaml", example("routes.yaml")),
            ("c.yaml", backends),
        ],
    );
    let (code, text) = tried(&path);
    assert_eq!(code, 7, "{text}");
    let (worst, rest) = text.split_once("\n2. ").expect("two events");
    assert!(worst.contains("1. Service default/red has one endpoint: while it is lost"), "{text}");
    assert!(worst.contains("http://any.example:8080/red (HTTPRoute default/colours, rule 0)"));
    assert!(rest.contains("default/red has one endpoint: while it is replaced, the new one 0.8 s"));
    assert!(!rest.contains("\n3. "), "nothing else fails: {text}");
    assert!(!text.contains("/blue ("), "{text}");
}

#[test]
fn what_is_not_accepted_is_said_and_the_rest_is_tried() {
    let routes =
        example("routes.yaml").replace("{name: blue, port: 80}", "{name: nobody, port: 80}");
    let path = folder(
        "refused",
        &[
            ("a.yaml", example("gateway.yaml")),
            ("b.yaml", routes),
            ("c.yaml", example("backends.yaml")),
        ],
    );
    let (code, text) = tried(&path);
    assert_eq!(code, 7, "{text}");
    assert!(text.starts_with("serval check: "), "{text}");
    assert!(text.contains(r#""type":"ResolvedRefs","status":"False""#), "{text}");
    assert!(text.contains("were answered 500: its backendRefs do not resolve"), "{text}");
    assert!(text.contains("Nothing fails:"), "{text}");
}

#[test]
fn what_cannot_be_tried_says_why() {
    let wrong = example("gateway.yaml").replace("port: 8080", "port: 80800");
    let path = folder("wrong", &[("a.yaml", wrong)]);
    let (code, text) = tried(&path);
    assert_eq!(code, 8, "{text}");
    assert!(text.contains("a.yaml:18: spec.listeners[0].port: is out of range"), "{text}");
    let (code, text) = tried(Path::new("/nowhere/at/all"));
    assert_eq!(code, 8, "{text}");
    assert!(text.contains("the folder cannot be read"), "{text}");
    let path = folder("empty", &[("a.yaml", example("backends.yaml"))]);
    let (code, text) = tried(&path);
    assert_eq!(code, 8, "{text}");
    assert!(text.contains("no listener is served"), "{text}");
}

/// Of the small shape, which these tests are built with.
#[test]
fn more_than_this_build_holds_names_the_number_and_the_other_build() {
    let route = |n: usize| {
        let routes = example("routes.yaml");
        format!("---\n{}", routes.replace("name: colours", &format!("name: colours{n}")))
    };
    let path = folder(
        "large",
        &[
            ("a.yaml", example("gateway.yaml")),
            ("b.yaml", (0..40).map(route).collect()),
            ("c.yaml", example("backends.yaml")),
        ],
    );
    let (code, text) = tried(&path);
    assert_eq!(code, 8, "{text}");
    assert!(text.contains("raise --max-routes") || text.contains("MAX_"), "{text}");
    assert!(text.contains("SERVAL_SHAPE=production cargo run --release -p vopr -- --manifests"));
}
