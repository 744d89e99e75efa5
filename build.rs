//! limits.toml -> constants, and nothing else.
//!
//! In: limits.toml, the environment variable SERVAL_SHAPE (`production`, the default, or `test_min`).
//! Out: $OUT_DIR/limits.rs, included by src/limits.rs. A bound that lacks its reason does not build.
#![allow(clippy::disallowed_methods, reason = "runs at build time, not in the product")]

use std::fmt::Write as _;
use std::{env, fs, path::Path};

fn main() {
    println!("cargo:rerun-if-changed=limits.toml");
    println!("cargo:rerun-if-env-changed=SERVAL_SHAPE");
    let shape = env::var("SERVAL_SHAPE").unwrap_or_else(|_| "production".into());
    assert!(
        shape == "production" || shape == "test_min",
        "SERVAL_SHAPE is {shape:?}; it must be production or test_min"
    );
    let text = fs::read_to_string("limits.toml").expect("limits.toml beside build.rs");
    let file: toml::Table = text.parse().expect("limits.toml is TOML");
    let limits = file["limit"].as_array().expect("[[limit]] entries");

    let mut out = String::new();
    let mut capacities: Vec<[String; 6]> = Vec::new();
    let mut all = String::new();
    writeln!(
        out,
        "/// The shape this was built with (SERVAL_SHAPE).\npub const SHAPE: &str = {shape:?};"
    )
    .unwrap();
    for limit in limits {
        let get = |key: &str| limit.get(key);
        let text = |key: &str| {
            get(key)
                .and_then(|v| v.as_str())
                .unwrap_or_else(|| panic!("{limit:?}: {key} missing"))
                .to_string()
        };
        let number = |key: &str| {
            get(key)
                .and_then(|v| v.as_integer())
                .unwrap_or_else(|| panic!("{limit:?}: {key} missing"))
        };
        let (name, unit, why) = (text("name"), text("unit"), text("why"));
        assert!(why.len() > 8, "{name}: say why");
        let kind = text("kind");
        match kind.as_str() {
            "spec" | "shape" => {
                let value = number(if kind == "spec" { "value" } else { &shape });
                writeln!(out, "/// {why} ({unit}).\npub const {name}: u32 = {value};").unwrap();
                writeln!(all, "    Limit {{ name: {name:?}, kind: {kind:?}, unit: {unit:?}, default: {value}, min: {value}, max: {value}, why: {why:?} }},").unwrap();
            }
            "capacity" => {
                let (default, min, max) = if shape == "production" {
                    (number("default"), number("min"), number("max"))
                } else {
                    (number("test_min_default"), 1, number("test_min_max"))
                };
                assert!(
                    min >= 1 && min <= default && default <= max,
                    "{name}: min <= default <= max"
                );
                writeln!(out, "/// Ceiling: {why} ({unit}).\npub const {name}: u32 = {max};")
                    .unwrap();
                writeln!(all, "    Limit {{ name: {name:?}, kind: {kind:?}, unit: {unit:?}, default: {default}, min: {min}, max: {max}, why: {why:?} }},").unwrap();
                capacities.push([
                    name.to_lowercase(),
                    name,
                    default.to_string(),
                    min.to_string(),
                    max.to_string(),
                    why,
                ]);
            }
            other => panic!("{name}: kind {other:?}; it must be spec, shape or capacity"),
        }
    }
    writeln!(
        out,
        "/// Every bound, in the order of limits.toml.\npub static LIMITS: &[Limit] = &[\n{all}];"
    )
    .unwrap();

    writeln!(out, "/// The capacities in force, set once at start.\n#[derive(Clone, Copy, Debug, PartialEq, Eq)]\npub struct Capacities {{").unwrap();
    for [field, _, _, _, _, why] in &capacities {
        writeln!(out, "    /// {why}.\n    pub {field}: u32,").unwrap();
    }
    writeln!(out, "}}\nimpl Capacities {{\n    /// The defaults of limits.toml.\n    pub const DEFAULT: Capacities = Capacities {{").unwrap();
    for [field, _, default, ..] in &capacities {
        writeln!(out, "        {field}: {default},").unwrap();
    }
    writeln!(out, "    }};\n    pub(crate) fn field(&mut self, name: &str) -> Option<&mut u32> {{\n        match name {{").unwrap();
    for [field, name, ..] in &capacities {
        writeln!(out, "            {name:?} => Some(&mut self.{field}),").unwrap();
    }
    writeln!(out, "            _ => None,\n        }}\n    }}\n}}").unwrap();

    let path = Path::new(&env::var("OUT_DIR").unwrap()).join("limits.rs");
    fs::write(path, out).expect("OUT_DIR is writable");
}
