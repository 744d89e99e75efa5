//! A Rust file as the rules look at it.
//!
//! In: the text. Out: the same text with comments and strings blanked (`code`), and that with the
//! tests blanked too (`product`). Lines and columns stay where they are.

/// A file.
pub struct Source {
    pub path: String,
    pub raw: String,
    pub code: String,
    pub product: String,
}

impl Source {
    pub fn new(path: &str, raw: &str) -> Source {
        let code = blank_comments_and_strings(raw);
        let is_test = path.starts_with("tests/")
            || path.ends_with("tests.rs")
            || path.starts_with("fuzz/")
            || path.contains("/tests/");
        let product = if is_test { blank(&code) } else { blank_tests(&code) };
        Source { path: path.to_string(), raw: raw.to_string(), code, product }
    }
}

fn blank(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { c } else { ' ' }).collect()
}

/// Blanks the product of files that are modules only in tests: `#[cfg(test)] mod name;`.
pub fn mark_test_files(sources: &mut [Source]) {
    let mut names = Vec::new();
    for source in &*sources {
        let lines: Vec<&str> = source.code.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            let name = pair[1].trim_start_matches("pub ").strip_prefix("mod ");
            if let Some(name) = name.and_then(|name| name.strip_suffix(';')) {
                let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let stem = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
                names.push(format!("{folder}/{name}.rs"));
                names.push(format!("{stem}/{name}.rs"));
            }
        }
    }
    for source in sources.iter_mut().filter(|source| names.contains(&source.path)) {
        source.product = blank(&source.product);
    }
}

/// Blanks what stands in comments, strings and character literals.
fn blank_comments_and_strings(raw: &str) -> String {
    let bytes = raw.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n").unwrap_or(bytes.len()),
            b'/' if bytes[at..].starts_with(b"/*") => {
                find(bytes, at + 2, b"*/").map_or(bytes.len(), |end| end + 2)
            }
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if !follows_name(bytes, at) => match raw_string_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            b'\'' => match char_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        out[at..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        at = end;
    }
    // Blanked bytes are whole characters: what is left is UTF-8.
    String::from_utf8(out).expect("UTF-8 stays UTF-8")
}

fn follows_name(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    (from..bytes.len()).find(|&at| bytes[at..].starts_with(what))
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The end of `r#"…"#`, `b"…"`, `c"…"`, `br"…"`; None when this is no string.
fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let prefix = bytes[start..].iter().take_while(|b| b"rbc".contains(b)).count();
    let hashes = bytes[start + prefix..].iter().take_while(|&&b| b == b'#').count();
    let open = start + prefix + hashes;
    if prefix > 2 || bytes.get(open) != Some(&b'"') {
        return None;
    }
    if bytes[start..start + prefix].contains(&b'r') {
        let close = format!("\"{}", "#".repeat(hashes));
        return Some(find(bytes, open + 1, close.as_bytes())? + close.len());
    }
    (hashes == 0).then(|| string_end(bytes, open))
}

/// The end of a character literal; None for a lifetime.
fn char_end(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start + 1) == Some(&b'\\') {
        return find(bytes, start + 3, b"'").map(|end| end + 1);
    }
    let text = std::str::from_utf8(&bytes[start + 1..]).ok()?;
    let len = text.chars().next()?.len_utf8();
    (bytes.get(start + 1 + len) == Some(&b'\'')).then_some(start + 2 + len)
}

/// Blanks items that only tests (or loom's) have.
fn blank_tests(code: &str) -> String {
    let mut out = code.to_string();
    // With the feature std (its name is blanked, as all strings) an item is not the core's.
    let attributes =
        ["#[cfg(test)]", "#[cfg(all(test", "#[cfg(all(loom", "#[cfg(loom)]", "#[cfg(any(feature"];
    for attribute in attributes {
        out = blank_items(&out, attribute);
    }
    out
}

fn blank_items(code: &str, attribute: &str) -> String {
    let mut out = code.to_string();
    let mut from = 0;
    while let Some(start) = out[from..].find(attribute).map(|at| from + at) {
        let open = out[start..].find('{').map(|at| start + at);
        let semicolon = out[start..].find(';').map(|at| start + at);
        let end = match (open, semicolon) {
            (Some(open), semicolon) if semicolon.is_none_or(|s| open < s) => block_end(&out, open),
            (_, Some(semicolon)) => semicolon + 1,
            _ => out.len(),
        };
        out.replace_range(start..end, &blank(&code[start..end]));
        from = start;
    }
    out
}

/// One past the brace that closes the one at `open`.
pub fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

#[test]
fn blanks_what_is_not_code() {
    let raw = "let a = \"x // {\"; // dyn\nlet b = 'a'; let c: &'a str = r#\"un\"safe\"#;\n/* b\n*/ d('\\'')";
    let code = blank_comments_and_strings(raw);
    assert_eq!(code.len(), raw.len());
    assert_eq!(code.matches('\n').count(), 3);
    for gone in ["x", "dyn", "'a';", "safe", "b\n", "\\"] {
        assert!(!code.contains(gone), "{gone:?} in {code:?}");
    }
    for kept in ["let a =", "let c: &'a str =", "d("] {
        assert!(code.contains(kept), "{kept:?} in {code:?}");
    }
}

#[test]
fn blanks_tests() {
    let product =
        Source::new("src/x.rs", "fn a() {}\n#[cfg(test)]\nmod t { fn b() {} }\nfn c() {}");
    assert!(product.product.contains("fn a") && product.product.contains("fn c"));
    assert!(!product.product.contains("fn b") && product.code.contains("fn b"));
    let mut two = [
        Source::new("src/x/mod.rs", "#[cfg(test)]\npub mod y;\nmod z;"),
        Source::new("src/x/y.rs", "fn y() {}"),
        Source::new("src/x/z.rs", "fn z() {}"),
    ];
    mark_test_files(&mut two);
    assert!(!two[1].product.contains("fn y") && two[2].product.contains("fn z"));
}
