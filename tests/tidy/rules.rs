//! The rules, each with what to do instead, and a sample that breaks it.

use super::source::{Source, block_end};

const MAX_LINES: usize = 800;
const MAX_COLUMNS: usize = 100;
const MAX_FUNCTION_LINES: usize = 70;

/// Gives (line, what to do instead) for each place that breaks it.
type Rule = fn(&Source) -> Vec<(usize, String)>;

const RULES: &[Rule] = &[
    file_length,
    columns,
    function_length,
    header,
    where_unsafe_stands,
    unsafe_says_why,
    words,
    module_names,
];

/// All complaints about one file.
pub fn complaints(source: &Source) -> Vec<String> {
    let found = RULES.iter().flat_map(|rule| rule(source));
    found.map(|(line, instead)| format!("{}:{line}: {instead}", source.path)).collect()
}

fn file_length(source: &Source) -> Vec<(usize, String)> {
    let lines = source.raw.lines().count();
    let instead = format!("{lines} lines: divide it by what it does (at most {MAX_LINES})");
    if lines > MAX_LINES { vec![(lines, instead)] } else { vec![] }
}

fn columns(source: &Source) -> Vec<(usize, String)> {
    let too_long = |&(_, (raw, code)): &(usize, (&str, &str))| {
        // A literal that is data (a JSON line, a request) stays in one piece.
        let written = code.chars().filter(|c| !c.is_whitespace()).count();
        let is_data = !raw.trim_start().starts_with("//") && written <= MAX_COLUMNS / 2;
        raw.chars().count() > MAX_COLUMNS && !is_data
    };
    let lines = (1..).zip(source.raw.lines().zip(source.code.lines())).filter(too_long);
    lines.map(|(n, _)| (n, format!("break the line (at most {MAX_COLUMNS} columns)"))).collect()
}

fn function_length(source: &Source) -> Vec<(usize, String)> {
    let code = &source.code;
    let mut found = vec![];
    for (at, _) in code.match_indices("fn ").filter(|&(at, _)| starts_word(code, at)) {
        let rest = &code[at..];
        let named = rest[3..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let (Some(open), true) = (rest.find('{'), named) else { continue };
        if rest.find(';').is_some_and(|end| end < open && !rest[..end].contains('[')) {
            continue;
        }
        let lines = code[at..block_end(code, at + open)].lines().count();
        if lines > MAX_FUNCTION_LINES {
            let instead = format!("a function of {lines} lines: divide it (at most 70)");
            found.push((line_of(code, at), instead));
        }
    }
    found
}

fn header(source: &Source) -> Vec<(usize, String)> {
    let begins = source.raw.starts_with("//! ");
    let instead = "begin with `//!`: its purpose, what flows in and out".to_string();
    if begins { vec![] } else { vec![(1, instead)] }
}

fn where_unsafe_stands(source: &Source) -> Vec<(usize, String)> {
    let allowed = ["src/stdx/", "src/shell/", "tests/", "fuzz/", "bench/"];
    if allowed.iter().any(|folder| source.path.starts_with(folder)) {
        return vec![];
    }
    let instead = "unsafe: only stdx and shell may; build on what they offer";
    word_lines(&source.code, "unsafe").map(|line| (line, instead.to_string())).collect()
}

/// Blocks and impls have `SAFETY:` close above; functions and traits `# Safety` in their docs.
fn unsafe_says_why(source: &Source) -> Vec<(usize, String)> {
    let lines: Vec<&str> = source.raw.lines().collect();
    let mut found = vec![];
    for at in word_places(&source.code, "unsafe") {
        let line = line_of(&source.code, at);
        let rest = source.code[at + 6..].trim_start();
        let declares = rest.starts_with("fn") || rest.starts_with("trait");
        // The functions inside an extern block are trusted by the one who calls them.
        if rest.starts_with("extern") || rest.starts_with('(') {
            continue;
        }
        let (why, above) = if declares { ("# Safety", 25) } else { ("SAFETY:", 8) };
        let is_told = lines[line.saturating_sub(above)..line].iter().any(|l| l.contains(why));
        // `unsafe fn` of a foreign trait has the trait's contract.
        let is_foreign = declares && source.code[..at].ends_with("    ");
        if !is_told && !is_foreign {
            found.push((line, format!("unsafe: say why it holds ({why})")));
        }
    }
    found
}

/// Words that may not stand in some places.
struct Word {
    word: &'static str,
    /// Paths it is about; all when empty.
    places: &'static [&'static str],
    /// Paths it is not about.
    except: &'static [&'static str],
    /// In tests too.
    tests: bool,
    instead: &'static str,
}

const SHELL: &[&str] = &["src/shell/", "src/main.rs", "src/cli.rs"];

const fn word(word: &'static str, instead: &'static str) -> Word {
    Word { word, places: &["src/", "vopr/"], except: &[], tests: false, instead }
}

const fn core_word(word: &'static str, instead: &'static str) -> Word {
    Word { word, places: &["src/"], except: SHELL, tests: false, instead }
}

const fn import(
    places: &'static [&'static str],
    word: &'static str,
    instead: &'static str,
) -> Word {
    Word { word, places, except: &[], tests: false, instead }
}

const WORDS: &[Word] = &[
    core_word("std::", "the core is no_std: core::, or stdx; what needs a system goes to shell"),
    core_word("alloc::", "the core does not allocate: a Table or an Arena of stdx"),
    core_word("HashMap", "the core has no maps: stdx::HashIndex, or a sorted Table"),
    core_word("BTreeMap", "the core has no maps: stdx::HashIndex, or a sorted Table"),
    core_word("dyn", "no dyn in the core: a generic parameter, or an enum"),
    core_word("async", "no async: a machine with input, poll_output, timeout, tick"),
    core_word("crate::shell", "the core does not know the shell: hand it in as input"),
    Word { except: &["src/shell/clock.rs"], ..word("SystemTime", "shell::clock reads clocks") },
    Word { except: &["src/shell/clock.rs"], ..word("Instant::now", "shell::clock reads clocks") },
    word("thread::sleep", "never sleep: wait for what you wait for (poll, a condition, an ack)"),
    word("thread::spawn", "shell::threads spawns all threads, before the seal"),
    word("todo!", "build it, or return an error that says it is not built"),
    word("unimplemented!", "build it, or return an error that says it is not built"),
    Word { tests: true, places: &[], ..word("#[ignore", "a test runs or goes") },
    Word {
        except: &["src/shell/tls/"],
        ..word("rustls::", "shell::tls is the only one to name rustls")
    },
    Word { except: &["src/shell/json.rs"], ..word("serde_json", "shell::json reads JSON") },
    Word { except: &["src/shell/yaml.rs"], ..word("saphyr_parser", "shell::yaml reads YAML") },
    import(&["src/wire"], "crate::resource", "wire knows no objects: bytes in, bytes out"),
    import(&["src/wire"], "crate::config", "wire knows no objects: bytes in, bytes out"),
    import(&["src/wire"], "crate::kube", "wire knows no objects: bytes in, bytes out"),
    import(&["src/wire"], "crate::router", "wire knows no objects: bytes in, bytes out"),
    import(&["src/wire"], "crate::reconcile", "wire knows no objects: bytes in, bytes out"),
    import(&["src/reconcile"], "crate::kube", "reconcile is pure: stores in, Snapshot out"),
    import(&["src/reconcile"], "crate::router", "reconcile is pure: stores in, Snapshot out"),
    import(&["src/reconcile"], "crate::controller", "reconcile is pure: stores in, Snapshot out"),
    import(&["src/config"], "crate::resource", "config knows no objects, only resource::document"),
    import(&["src/config"], "crate::kube", "config is what routers and controller share"),
    import(&["src/config"], "crate::reconcile", "config is what routers and controller share"),
    import(&["src/config"], "crate::controller", "config is what routers and controller share"),
    import(&["src/resource"], "crate::router", "resource is before router in the data's way"),
    import(&["src/resource"], "crate::reconcile", "resource is before reconcile in the data's way"),
    import(&["src/resource"], "crate::kube", "resource takes documents from whomever"),
    import(
        &["src/router"],
        "crate::reconcile",
        "the router knows Snapshots, not how they are made",
    ),
    import(&["src/router"], "crate::kube", "the router has no API server"),
    import(&["src/router"], "crate::controller", "the router knows Snapshots, not who made them"),
    import(&["src/stdx"], "crate::wire", "stdx knows nothing of serval"),
    import(&["src/stdx"], "crate::config", "stdx knows nothing of serval"),
    import(&["src/stdx"], "crate::resource", "stdx knows nothing of serval"),
];

fn words(source: &Source) -> Vec<(usize, String)> {
    let is_in = |folders: &[&str]| folders.iter().any(|folder| source.path.starts_with(folder));
    let mut found = vec![];
    for rule in WORDS.iter().filter(|r| r.places.is_empty() || is_in(r.places)) {
        if is_in(rule.except) {
            continue;
        }
        let text = if rule.tests { &source.code } else { &source.product };
        for line in word_lines(text, rule.word) {
            if !is_allowed(text.lines().nth(line - 1).unwrap_or(""), rule.word) {
                found.push((line, format!("{}: {}", rule.word, rule.instead)));
            }
        }
    }
    found
}

/// What the words do not mean.
fn is_allowed(line: &str, word: &str) -> bool {
    match word {
        // Our own module.
        "rustls::" => line.contains("tls::rustls::"),
        // Documents are the one form that comes before objects.
        "crate::resource" => line.contains("crate::resource::document"),
        _ => false,
    }
}

fn module_names(source: &Source) -> Vec<(usize, String)> {
    let bad = ["utils", "util", "types", "common", "manager", "helpers", "misc"];
    let stem = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
    let name = stem.rsplit('/').next().unwrap_or("");
    let instead = "name it by what it holds (a noun of the field)".to_string();
    if bad.contains(&name) { vec![(1, instead)] } else { vec![] }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn starts_word(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Where a word stands as a word.
fn word_places(text: &str, word: &str) -> Vec<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let stands = |&at: &usize| {
        let after = text[at + word.len()..].starts_with(is_name) && word.ends_with(is_name);
        !after && (!word.starts_with(is_name) || starts_word(text, at))
    };
    text.match_indices(word).map(|(at, _)| at).filter(stands).collect()
}

fn word_lines(text: &str, word: &str) -> impl Iterator<Item = usize> {
    word_places(text, word).into_iter().map(|at| line_of(text, at))
}

/// Rule, path and text that break it.
#[cfg(test)]
const BAD: &[(Rule, &str, &str)] = &[
    (file_length, "src/a.rs", "LONG FILE"),
    (columns, "src/a.rs", "LONG LINE"),
    (function_length, "src/a.rs", "LONG FUNCTION"),
    (header, "src/a.rs", "use x;\n//! Late.\n"),
    (where_unsafe_stands, "src/router/a.rs", "//! A.\nunsafe impl Send for A {}\n"),
    (unsafe_says_why, "src/shell/a.rs", "//! A.\nfn a() {\n    unsafe { b() }\n}\n"),
    (unsafe_says_why, "src/shell/a.rs", "//! A.\n/// Does it.\npub unsafe fn a() {}\n"),
    (words, "src/wire/a.rs", "//! A.\nuse std::vec;\n"),
    (words, "src/shell/a.rs", "//! A.\nfn a() { Instant::now(); }\n"),
    (words, "src/shell/a.rs", "//! A.\nuse std::thread::sleep;\n"),
    (words, "src/kube/a.rs", "//! A.\nuse x::HashMap;\n"),
    (words, "src/kube/a.rs", "//! A.\nfn a(_: &dyn B) {}\n"),
    (words, "src/kube/a.rs", "//! A.\nasync fn a() {}\n"),
    (words, "src/shell/a.rs", "//! A.\nfn a() { todo!() }\n"),
    (words, "src/wire/a.rs", "//! A.\n#[cfg(test)]\nmod t {\n#[test]\n#[ignore]\nfn a() {}\n}\n"),
    (words, "src/shell/kube/a.rs", "//! A.\nuse rustls::A;\n"),
    (words, "src/shell/a.rs", "//! A.\nuse serde_json::A;\n"),
    (words, "src/shell/a.rs", "//! A.\nuse saphyr_parser::A;\n"),
    (words, "src/kube/a.rs", "//! A.\nuse crate::shell::clock;\n"),
    (words, "src/wire/a.rs", "//! A.\nuse crate::resource::Key;\n"),
    (words, "src/reconcile/a.rs", "//! A.\nuse crate::kube::Watch;\n"),
    (words, "src/config/a.rs", "//! A.\nuse crate::resource::Stores;\n"),
    (words, "src/stdx/a.rs", "//! A.\nuse crate::wire::url;\n"),
    (words, "src/resource/a.rs", "//! A.\nuse crate::router::A;\n"),
    (module_names, "src/shell/utils.rs", "//! A.\n"),
];

/// A text in place of a sample that would be long to write.
fn sample(text: &str) -> String {
    match text {
        "LONG FILE" => "//! A.\n".repeat(MAX_LINES + 1),
        "LONG LINE" => format!("//! {}\n", "a".repeat(MAX_COLUMNS)),
        "LONG FUNCTION" => format!("//! A.\nfn a() {{\n{}}}\n", "    b();\n".repeat(70)),
        text => text.to_string(),
    }
}

#[test]
fn every_rule_notices_its_bad_sample() {
    for (rule, path, text) in BAD {
        let found = rule(&Source::new(path, &sample(text)));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].1.len() > 15, "{text}: says what to do instead");
    }
    let tried = |rule: &&Rule| BAD.iter().any(|(other, ..)| std::ptr::fn_addr_eq(*other, **rule));
    assert_eq!(RULES.iter().filter(tried).count(), RULES.len());
}

#[test]
fn every_word_is_noticed_where_it_may_not_stand() {
    for rule in WORDS {
        let folder = rule.places.first().copied().unwrap_or("src/").trim_end_matches('/');
        let path = format!("{folder}/zz/a.rs");
        let found = words(&Source::new(&path, &format!("//! A.\nx {} y\n", rule.word)));
        assert!(found.iter().any(|(line, _)| *line == 2), "{} in {path}", rule.word);
    }
}

#[test]
fn good_files_are_left_alone() {
    let good = "//! A.\n\nuse crate::resource::document::Value;\n\n/// Not async, no dyn, std::vec.\n\
                pub fn a(x: [u8; 3]) -> u8 {\n    x[0]\n}\n\n#[cfg(test)]\nmod tests {\n    \
                use std::vec;\n    fn b() {}\n}\n";
    let found = complaints(&Source::new("src/config/a.rs", good));
    assert!(found.is_empty(), "{found:?}");
    let told = "//! A.\n// SAFETY: one thread.\nunsafe impl Send for A {}\n";
    assert!(complaints(&Source::new("src/shell/a.rs", told)).is_empty());
}
