//! The core cannot allocate: a static library without an allocator links it (tests/no_alloc).
//!
//! In: that crate, built by cargo offline with its own Cargo.lock. Out: it builds and refers to
//! nothing of the malloc family; with `cheat`, which brings alloc, it must not build.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Symbols by which memory could be taken.
const FORBIDDEN: &[&str] = &["alloc", "mmap", "sbrk", "free"];

fn target() -> PathBuf {
    // …/target/debug/deps/no_alloc-…: beside it, so that both builds keep their own files.
    let test = std::env::current_exe().expect("a name");
    let target = test.ancestors().nth(3).expect("deps in a profile in the target folder");
    target.join("no_alloc")
}

fn build(features: &[&str]) -> Output {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/no_alloc/Cargo.toml");
    Command::new(env!("CARGO"))
        .args(["build", "--offline", "--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(target())
        .args(features)
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("cargo is there: it runs this test")
}

/// Undefined symbols of the library's objects.
fn undefined() -> String {
    let library = target().join("debug/libno_alloc.a");
    let output = Command::new("nm").args(["--undefined-only"]).arg(library).output();
    let output = output.expect("nm of binutils, which rustc's linker comes with");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Names by which memory could be taken; names of our own functions may hold such words.
fn taking(symbols: &str) -> Vec<&str> {
    let names = symbols.lines().filter_map(|line| line.trim().strip_prefix("U "));
    names
        .filter(|name| {
            let is_rust = name.starts_with("_ZN") || name.starts_with("_R");
            name.contains("__rust_") && name.contains("alloc")
                || !is_rust && FORBIDDEN.iter().any(|word| name.contains(word))
        })
        .collect()
}

/// One test: the two builds share a target folder, and the second must not touch the first's.
#[test]
fn the_core_links_without_an_allocator_and_the_control_does_not() {
    let honest = build(&[]);
    let text = String::from_utf8_lossy(&honest.stderr);
    assert!(honest.status.success(), "the core, or what it depends on, brings alloc:\n{text}");
    let undefined = undefined();
    assert!(undefined.contains("serval"), "nm found the core's objects");
    assert_eq!(taking(&undefined), [""; 0], "the core calls for memory");

    let cheat = build(&["--features", "cheat"]);
    let text = String::from_utf8_lossy(&cheat.stderr);
    assert!(!cheat.status.success(), "the check does not notice alloc");
    assert!(text.contains("no global memory allocator found"), "failed otherwise:\n{text}");
}

#[test]
fn symbols_that_take_memory_are_noticed() {
    let symbols = "x.o:\n         U memcpy\n         U malloc\n         U _ZN6serval4freeE\n\
                   \x20        U _RNvCs1_7___rustc12___rust_alloc\n";
    assert_eq!(taking(symbols), ["malloc", "_RNvCs1_7___rustc12___rust_alloc"]);
}
