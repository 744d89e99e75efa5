//! limits.toml -> constants, and nothing else.
//!
//! In: limits.toml, the environment variable SERVAL_SHAPE (`production`, the default, or
//! `test_min`). Out: $OUT_DIR/limits.rs, included by src/limits.rs. A bound that lacks its reason
//! does not build.
#![allow(clippy::disallowed_methods, reason = "runs at build time, not in the product")]

use std::fmt::Write as _;
use std::{env, fs, path::Path};

/// A bound as the generated table has it.
struct Bound {
    name: String,
    kind: String,
    unit: String,
    why: String,
    default: i64,
    min: i64,
    max: i64,
}

impl Bound {
    fn read(entry: &toml::Value, shape: &str) -> Bound {
        let missing = |key: &str| -> ! { panic!("{entry:?}: {key} missing") };
        let text = |key: &str| match entry.get(key).and_then(|value| value.as_str()) {
            Some(text) => text.to_string(),
            None => missing(key),
        };
        let number = |key: &str| match entry.get(key).and_then(|value| value.as_integer()) {
            Some(number) => number,
            None => missing(key),
        };
        let (name, kind, why) = (text("name"), text("kind"), text("why"));
        assert!(why.len() > 8, "{name}: say why");
        let (default, min, max) = match (kind.as_str(), shape) {
            ("spec", _) => [number("value"); 3].into(),
            ("shape", shape) => [number(shape); 3].into(),
            ("capacity", "production") => (number("default"), number("min"), number("max")),
            ("capacity", _) => (number("test_min_default"), 1, number("test_min_max")),
            (other, _) => panic!("{name}: kind {other:?}; it must be spec, shape or capacity"),
        };
        let ordered = min <= default && default <= max && (kind != "capacity" || min >= 1);
        assert!(ordered, "{name}: min <= default <= max");
        Bound { name, kind, unit: text("unit"), why, default, min, max }
    }

    fn is_capacity(&self) -> bool {
        self.kind == "capacity"
    }
}

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
    let entries = file["limit"].as_array().expect("[[limit]] entries");
    let bounds: Vec<Bound> = entries.iter().map(|entry| Bound::read(entry, &shape)).collect();
    let mut out = String::new();
    constants(&bounds, &shape, &mut out).expect("a String takes everything");
    table(&bounds, &mut out).expect("a String takes everything");
    capacities(&bounds, &mut out).expect("a String takes everything");
    let path = Path::new(&env::var("OUT_DIR").unwrap()).join("limits.rs");
    fs::write(path, out).expect("OUT_DIR is writable");
}

fn constants(bounds: &[Bound], shape: &str, out: &mut String) -> std::fmt::Result {
    writeln!(out, "/// The shape this was built with (SERVAL_SHAPE).")?;
    writeln!(out, "pub const SHAPE: &str = {shape:?};")?;
    for bound in bounds {
        let Bound { name, unit, why, max, .. } = bound;
        let what = if bound.is_capacity() { "Ceiling: " } else { "" };
        writeln!(out, "/// {what}{why} ({unit}).\npub const {name}: u32 = {max};")?;
    }
    Ok(())
}

fn table(bounds: &[Bound], out: &mut String) -> std::fmt::Result {
    writeln!(out, "/// Every bound, in the order of limits.toml.")?;
    writeln!(out, "pub static LIMITS: &[Limit] = &[")?;
    for Bound { name, kind, unit, why, default, min, max } in bounds {
        write!(out, "    Limit {{ name: {name:?}, kind: {kind:?}, unit: {unit:?}, ")?;
        writeln!(out, "default: {default}, min: {min}, max: {max}, why: {why:?} }},")?;
    }
    writeln!(out, "];")
}

fn capacities(bounds: &[Bound], out: &mut String) -> std::fmt::Result {
    let all: Vec<(String, &Bound)> = bounds
        .iter()
        .filter(|bound| bound.is_capacity())
        .map(|bound| (bound.name.to_lowercase(), bound))
        .collect();
    writeln!(out, "/// The capacities in force, set once at start.")?;
    writeln!(out, "#[derive(Clone, Copy, Debug, PartialEq, Eq)]\npub struct Capacities {{")?;
    for (field, bound) in &all {
        writeln!(out, "    /// {}.\n    pub {field}: u32,", bound.why)?;
    }
    writeln!(out, "}}\nimpl Capacities {{\n    /// The defaults of limits.toml.")?;
    writeln!(out, "    pub const DEFAULT: Capacities = Capacities {{")?;
    for (field, bound) in &all {
        writeln!(out, "        {field}: {},", bound.default)?;
    }
    writeln!(
        out,
        "    }};\n    pub(crate) fn field(&mut self, name: &str) -> Option<&mut u32> {{"
    )?;
    writeln!(out, "        match name {{")?;
    for (field, bound) in &all {
        writeln!(out, "            {:?} => Some(&mut self.{field}),", bound.name)?;
    }
    writeln!(out, "            _ => None,\n        }}\n    }}\n}}")
}
