//! YAML text into [`Document`]s: the one file that names the YAML parser (saphyr-parser).
//!
//! Manifests are YAML as Kubernetes reads it: plain scalars follow YAML 1.1 (`yes` and `on` are
//! true), several documents a file. Anchors, aliases and custom tags are refused with their line:
//! kubectl expands them before the API server sees them, and here they could only surprise.

use super::parse_slot;
use crate::limits::{MAX_YAML_DOCUMENT_BYTES, MAX_YAML_FLOW_MARKS};
use crate::resource::document::{Document, DocumentError, Kind};
use core::fmt;
use core::mem::ManuallyDrop;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};

/// Why a document was not taken, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// 1-based line.
    pub line: u32,
    /// What is wrong.
    pub what: YamlFault,
}

/// What is wrong with a YAML document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum YamlFault {
    /// Not YAML.
    Syntax,
    /// A document larger than MAX_YAML_DOCUMENT_BYTES.
    Size,
    /// A collection in brackets of more than MAX_YAML_FLOW_MARKS punctuation marks.
    Flow,
    /// Anchors, aliases, `<<` and tags are not taken.
    Alias,
    /// A key that is not a scalar.
    Key,
    /// It does not fit a [`Document`].
    Document(DocumentError),
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            YamlFault::Syntax => f.write_str("not YAML"),
            YamlFault::Size => write!(
                f,
                "larger than {MAX_YAML_DOCUMENT_BYTES} bytes (MAX_YAML_DOCUMENT_BYTES): \
                 divide it by lines of ---"
            ),
            YamlFault::Flow => write!(
                f,
                "a collection in brackets is too long (MAX_YAML_FLOW_MARKS {MAX_YAML_FLOW_MARKS}): \
                 write it in lines, or as a .json file"
            ),
            YamlFault::Alias => f.write_str("anchors, aliases and tags are not supported"),
            YamlFault::Key => f.write_str("a key must be a plain string"),
            YamlFault::Document(error) => error.fmt(f),
        }
    }
}

/// Reads the documents of one file, one after the other.
#[expect(missing_debug_implementations, reason = "the parser has none")]
pub struct Documents<'t> {
    parser: ManuallyDrop<Parser<'t, StrInput<'t>>>,
    failed: bool,
    /// Why the text is not even parsed.
    refusal: Option<YamlError>,
}

impl<'t> Documents<'t> {
    /// Begins with the first document of `text`.
    pub fn new(text: &'t str) -> Self {
        let parser = parse_slot::run(|| ManuallyDrop::new(Parser::new_from_str(text)));
        Documents { parser, failed: false, refusal: refusal(text) }
    }

    /// Fills `document` with the next one; false when there is none left (or after an error).
    pub fn next_into(&mut self, document: &mut Document) -> Result<bool, YamlError> {
        if self.failed {
            return Ok(false);
        }
        let result = parse_slot::run(|| self.fill(document));
        self.failed = result.is_err();
        result
    }

    fn fill(&mut self, document: &mut Document) -> Result<bool, YamlError> {
        if let Some(error) = self.refusal {
            return Err(error);
        }
        document.clear();
        // For each open collection: None in a sequence, Some(a key comes next) in a mapping.
        let mut open = heapless::Vec::<Option<bool>, 64>::new();
        loop {
            let Some(next) = self.parser.next() else { return Ok(false) };
            let (event, span) = next.map_err(|error: ScanError| YamlError {
                line: error.marker().line() as u32,
                what: YamlFault::Syntax,
            })?;
            let line = span.start.line() as u32;
            let fail = |what| Err(YamlError { line, what });
            let refuse = |error| YamlError { line, what: YamlFault::Document(error) };
            document.set_line(line);
            let key_comes = open.last().copied().flatten() == Some(true);
            match event {
                Event::Scalar(text, style, anchor, tag) => {
                    if anchor != 0 || tag.is_some() || (key_comes && text == "<<") {
                        return fail(YamlFault::Alias);
                    }
                    if key_comes {
                        document.key(&text).map_err(refuse)?;
                    } else {
                        scalar(document, &text, style).map_err(refuse)?;
                    }
                }
                Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag)
                    if anchor != 0 || tag.is_some() =>
                {
                    return fail(YamlFault::Alias);
                }
                Event::SequenceStart(..) | Event::MappingStart(..) if key_comes => {
                    return fail(YamlFault::Key);
                }
                Event::SequenceStart(..) => {
                    document.begin(Kind::Array).map_err(refuse)?;
                    push(&mut open, None).map_err(refuse)?;
                    continue;
                }
                Event::MappingStart(..) => {
                    document.begin(Kind::Object).map_err(refuse)?;
                    push(&mut open, Some(true)).map_err(refuse)?;
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    document.end();
                    open.pop();
                }
                Event::Alias(_) => return fail(YamlFault::Alias),
                Event::DocumentEnd => return Ok(true),
                Event::StreamEnd => return Ok(false),
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
            }
            // A whole key or value ended: the other one comes next.
            if let Some(Some(key_comes)) = open.last_mut() {
                *key_comes = !*key_comes;
            }
        }
    }
}

impl Drop for Documents<'_> {
    fn drop(&mut self) {
        // SAFETY: dropped once, here, and not used afterwards; inside the scope it was made in.
        parse_slot::run(|| unsafe { ManuallyDrop::drop(&mut self.parser) });
    }
}

/// What of a text the parser could not hold in its slot.
fn refusal(text: &str) -> Option<YamlError> {
    if let Some(line) = long_flow(text) {
        return Some(YamlError { line, what: YamlFault::Flow });
    }
    let (mut start, mut bytes) = (1, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        (start, bytes) = if line.starts_with("---") { (number, 0) } else { (start, bytes) };
        // The parser keeps every one of them.
        if line.starts_with("%TAG") {
            return Some(YamlError { line: number, what: YamlFault::Alias });
        }
        bytes += line.len();
        if bytes > MAX_YAML_DOCUMENT_BYTES as usize {
            return Some(YamlError { line: start, what: YamlFault::Size });
        }
    }
    None
}

/// The line of the first collection in brackets that is too long.
///
/// The parser keeps all tokens (104 bytes each) of a collection that might turn out to be a key:
/// what makes tokens is bounded before it begins. In brackets quotes and comments are skipped;
/// outside, brackets after a space count wherever they stand, in a text at worst too many.
fn long_flow(text: &str) -> Option<u32> {
    let (mut line, mut start, mut depth, mut marks) = (1, 1, 0u32, 0);
    let (mut before, mut quote) = (b' ', None);
    for byte in text.bytes() {
        let at_start = before.is_ascii_whitespace() || (depth > 0 && b",[]{}:?".contains(&before));
        match (quote, byte) {
            (Some(q), b) => quote = if b == q && before != b'\\' { None } else { quote },
            (None, b'[' | b'{') if at_start => {
                (start, marks) = if depth == 0 { (line, 0) } else { (start, marks) };
                depth += 1;
            }
            (None, b']' | b'}') => depth = depth.saturating_sub(1),
            (None, b'"' | b'\'') if depth > 0 && at_start => quote = Some(byte),
            (None, b'#') if depth > 0 && before.is_ascii_whitespace() => quote = Some(b'\n'),
            _ => {}
        }
        marks += u32::from(depth > 0 && quote.is_none() && b",[]{}:?".contains(&byte));
        if marks > MAX_YAML_FLOW_MARKS {
            return Some(start);
        }
        line += u32::from(byte == b'\n');
        // A backslash that is itself escaped escapes nothing.
        before = if before == b'\\' && byte == b'\\' { b' ' } else { byte };
    }
    None
}

fn push(
    open: &mut heapless::Vec<Option<bool>, 64>,
    item: Option<bool>,
) -> Result<(), DocumentError> {
    open.push(item).map_err(|_| DocumentError::TooDeep)
}

fn scalar(document: &mut Document, text: &str, style: ScalarStyle) -> Result<(), DocumentError> {
    if style != ScalarStyle::Plain {
        return document.string(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => document.scalar(Kind::Null, format_args!("")),
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            document.scalar(Kind::Bool, format_args!("true"))
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            document.scalar(Kind::Bool, format_args!("false"))
        }
        _ => {
            if let Ok(number) = text.parse::<i64>() {
                return document.scalar(Kind::Number, format_args!("{number}"));
            }
            let looks_like_a_number = text.bytes().any(|b| b.is_ascii_digit())
                && text
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
            match text.parse::<f64>() {
                Ok(number) if looks_like_a_number && number.is_finite() => {
                    document.scalar(Kind::Number, format_args!("{number:?}"))
                }
                _ => document.string(text),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::place::boxed_zeroed;
    use crate::wire::json::JsonWriter;
    use std::string::String;
    use std::vec::Vec;

    fn read(text: &str) -> Result<Vec<String>, YamlError> {
        let mut document = boxed_zeroed::<Document>();
        let mut documents = Documents::new(text);
        let mut out = Vec::new();
        while documents.next_into(&mut document)? {
            let mut buffer = std::vec![0; 4096];
            let mut json = JsonWriter::new(&mut buffer);
            document.root().write_json(&mut json);
            out.push(json.finish().unwrap().into());
        }
        Ok(out)
    }

    #[test]
    fn documents_and_scalars() {
        let text = "a: 1\nb: [x, 'y', \"z\\n\", on, ~, 1.5, v1.0, 10.0.0.1]\n---\n- k:\n    n: {m: \"1\"}\n  l: |\n    text\n---\n";
        let expected = [
            r#"{"a":1,"b":["x","y","z\n",true,null,1.5,"v1.0","10.0.0.1"]}"#,
            r#"[{"k":{"n":{"m":"1"}},"l":"text\n"}]"#,
        ];
        let documents = read(text).unwrap();
        assert_eq!(documents[..2], expected);
    }

    #[test]
    fn long_collections_in_brackets_are_refused() {
        let max = MAX_YAML_FLOW_MARKS as usize;
        let list = |items: usize| std::format!("a: 1\nb:\n  - [{}]\n", "x,".repeat(items));
        let refused = Some(3);
        assert_eq!((long_flow(&list(max - 2)), long_flow(&list(max))), (None, refused));
        let error = YamlError { line: 3, what: YamlFault::Flow };
        assert_eq!(read(&list(max)), Err(error));
        // In lines, in texts, in quotes: no token each.
        for fine in [
            "a: {b: c, d: [e]}\n".repeat(max),
            std::format!("a: '[a-z' # [\nb: \"x{}\"\n", ",:?".repeat(max)),
            std::format!("a: [\"x\\\\\", '{}'] # it's\n", ",:?".repeat(max)),
            std::format!("a[0]: 1\n{}", "b: c\n".repeat(max)),
        ] {
            assert_eq!(long_flow(&fine), None, "{fine:.40}");
        }
        let hidden = std::format!("- [\"]\", ']', # ]\n {}]\n", "x,".repeat(max));
        assert_eq!(long_flow(&hidden), Some(1));
    }

    #[test]
    fn documents_at_max_and_one_more() {
        let max = MAX_YAML_DOCUMENT_BYTES as usize;
        let document = |bytes: usize| std::format!("---\n{}", "#\n".repeat((bytes - 4) / 2));
        assert_eq!(refusal(&(document(max) + &document(max))), None);
        let line = max as u32 / 2;
        let error = YamlError { line, what: YamlFault::Size };
        assert_eq!(read(&(document(max) + &document(max + 2))), Err(error));
        let error = YamlError { line: 2, what: YamlFault::Alias };
        assert_eq!(read("%YAML 1.2\n%TAG !a! tag:x\n---\na: 1\n"), Err(error));
    }

    #[test]
    fn errors_name_the_line() {
        let at = |text, line, what| assert_eq!(read(text), Err(YamlError { line, what }), "{text}");
        at("a: 1\nb: *x\n", 2, YamlFault::Syntax);
        at("a: &x 1\nb: *x\n", 1, YamlFault::Alias);
        at("a: 1\nb:\n  <<: {}\n", 3, YamlFault::Alias);
        at("a: 1\na: 2\n", 2, YamlFault::Document(DocumentError::DuplicateKey));
        at("a: [1\nb: 2\n", 2, YamlFault::Syntax);
    }
}
