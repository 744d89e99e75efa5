//! A parsed JSON or YAML document in fixed memory: a flat array of nodes and one text arena.
//!
//! In: begin/key/value/end calls of a parser (shell::json, shell::yaml). Out: a tree to read, each
//! value with its path and line. Parts that serval never reads are pruned while building, so that
//! `managedFields` and the like cost nothing.

use crate::limits::{MAX_DOCUMENT_DEPTH, MAX_DOCUMENT_NODES, MAX_DOCUMENT_TEXT_BYTES};
use crate::stdx::{Arena, Full, Table, Text};
use crate::wire::json::JsonWriter;
use core::fmt;

const NONE: u32 = u32::MAX;

/// Members that are dropped while building: (name of the object they are in, name).
const PRUNED: [(&str, &str); 6] = [
    ("metadata", "managedFields"),
    ("metadata", "ownerReferences"),
    ("metadata", "finalizers"),
    ("metadata", "selfLink"),
    ("", "targetRef"),
    ("", "zone"),
];

/// The one annotation that is read: it ends the initial state of a watch (KEP-3157). All others may
/// be 256 KiB of text that nobody here asks for.
const KEPT_ANNOTATION: &str = "k8s.io/initial-events-end";

/// What a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the JSON types of RFC 8259")]
pub enum Kind {
    #[default]
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: Kind,
    line: u32,
    name: Text,
    value: Text,
    parent: u32,
    child: u32,
    next: u32,
}

/// Why a document was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentError {
    /// More values than MAX_DOCUMENT_NODES.
    TooManyValues,
    /// More text than MAX_DOCUMENT_TEXT_BYTES.
    TooMuchText,
    /// Nested deeper than MAX_DOCUMENT_DEPTH.
    TooDeep,
    /// A name occurs twice in one object.
    DuplicateKey,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DocumentError::TooManyValues => {
                write!(f, "more than {MAX_DOCUMENT_NODES} values (MAX_DOCUMENT_NODES)")
            }
            DocumentError::TooMuchText => {
                write!(f, "more than {MAX_DOCUMENT_TEXT_BYTES} bytes (MAX_DOCUMENT_TEXT_BYTES)")
            }
            DocumentError::TooDeep => {
                write!(f, "nested deeper than {MAX_DOCUMENT_DEPTH} levels (MAX_DOCUMENT_DEPTH)")
            }
            DocumentError::DuplicateKey => f.write_str("a name occurs twice in one object"),
        }
    }
}

/// One document. Hundreds of kilobytes: built in place.
#[derive(Debug)]
pub struct Document {
    entries: Table<Entry, { MAX_DOCUMENT_NODES as usize }>,
    text: Arena<{ MAX_DOCUMENT_TEXT_BYTES as usize }>,
    /// Open arrays and objects: (entry, its last child).
    open: Table<(u32, u32), { MAX_DOCUMENT_DEPTH as usize }>,
    /// Name for the next value.
    name: Text,
    /// Line for the next value, 1-based; 0 when the source has none.
    line: u32,
    /// Depth inside a pruned value; 0 when not pruning.
    pruning: u32,
    /// The next value is pruned.
    prune_next: bool,
}

crate::zeroed_struct!(Document {
    entries: Table<Entry, { MAX_DOCUMENT_NODES as usize }>,
    text: Arena<{ MAX_DOCUMENT_TEXT_BYTES as usize }>,
    open: Table<(u32, u32), { MAX_DOCUMENT_DEPTH as usize }>,
    name: Text,
    line: u32,
    pruning: u32,
    prune_next: bool,
});

impl Document {
    /// Empties the document; must be called before building, the first time too.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.text.clear();
        self.open.clear();
        self.entries.set_cap(MAX_DOCUMENT_NODES);
        self.text.set_cap(MAX_DOCUMENT_TEXT_BYTES);
        self.open.set_cap(MAX_DOCUMENT_DEPTH);
        (self.name, self.line) = (Text::EMPTY, 0);
        (self.pruning, self.prune_next) = (0, false);
    }

    /// The line of what comes next.
    pub fn set_line(&mut self, line: u32) {
        self.line = line;
    }

    /// Begins an array or object; `end` closes it.
    pub fn begin(&mut self, kind: Kind) -> Result<(), DocumentError> {
        assert!(matches!(kind, Kind::Array | Kind::Object));
        if self.pruning > 0 || self.prune_next {
            self.prune_next = false;
            self.pruning += 1;
            return Ok(());
        }
        let entry = self.append(kind, Text::EMPTY)?;
        self.open.push((entry, NONE)).map_err(|Full| DocumentError::TooDeep)?;
        Ok(())
    }

    /// Closes the innermost array or object.
    pub fn end(&mut self) {
        if self.pruning > 0 {
            self.pruning -= 1;
            return;
        }
        let closed = self.open.pop();
        assert!(closed.is_some(), "end without begin");
    }

    /// The name of the next value.
    pub fn key(&mut self, name: &str) -> Result<(), DocumentError> {
        if self.pruning > 0 {
            return Ok(());
        }
        let &(object, _) = self.open.as_slice().last().expect("a key is inside an object");
        let within = self.text.get(self.entries[object].name);
        self.prune_next = PRUNED.iter().any(|&(o, n)| n == name && (o.is_empty() || o == within))
            || (within == "annotations" && name != KEPT_ANNOTATION);
        if self.prune_next {
            return Ok(());
        }
        if (Value { document: self, index: object }).get(name).is_some() {
            return Err(DocumentError::DuplicateKey);
        }
        self.name = self.text.push(name).map_err(|Full| DocumentError::TooMuchText)?;
        Ok(())
    }

    /// Whether the next value is pruned: a parser that can skip it unread does so, and says
    /// [`Document::skipped`].
    pub fn prunes_next(&self) -> bool {
        self.pruning > 0 || self.prune_next
    }

    /// The next value was skipped.
    pub fn skipped(&mut self) {
        assert!(self.prunes_next());
        self.prune_next = false;
    }

    /// A string value.
    pub fn string(&mut self, value: &str) -> Result<(), DocumentError> {
        self.scalar(Kind::String, format_args!("{value}"))
    }

    /// A number (as text), `true`, `false` or null.
    pub fn scalar(&mut self, kind: Kind, value: fmt::Arguments<'_>) -> Result<(), DocumentError> {
        assert!(!matches!(kind, Kind::Array | Kind::Object));
        if self.pruning > 0 || self.prune_next {
            self.prune_next = false;
            return Ok(());
        }
        let value = self.text.push_fmt(value).map_err(|Full| DocumentError::TooMuchText)?;
        self.append(kind, value).map(|_| ())
    }

    fn append(&mut self, kind: Kind, value: Text) -> Result<u32, DocumentError> {
        let parent = self.open.as_slice().last().map_or(NONE, |open| open.0);
        let name = core::mem::take(&mut self.name);
        let (child, next) = (NONE, NONE);
        let entry = Entry { kind, line: self.line, name, value, parent, child, next };
        let index = self.entries.push(entry).map_err(|Full| DocumentError::TooManyValues)?;
        if let Some((parent, last)) = self.open.as_mut_slice().last_mut() {
            match *last {
                NONE => self.entries[*parent].child = index,
                last => self.entries[last].next = index,
            }
            *last = index;
        }
        Ok(index)
    }

    /// The outermost value; null when there is none.
    pub fn root(&self) -> Value<'_> {
        Value { document: self, index: 0 }
    }
}

/// A value inside a [`Document`].
#[derive(Clone, Copy, Debug)]
pub struct Value<'d> {
    document: &'d Document,
    index: u32,
}

impl<'d> Value<'d> {
    #[inline]
    fn entry(self) -> Option<&'d Entry> {
        self.document.entries.get(self.index)
    }

    /// A value that is not there.
    pub fn nothing(self) -> Value<'d> {
        Value { document: self.document, index: NONE }
    }

    /// Whether this is the outermost value, whose path is empty.
    pub fn path_is_root(self) -> bool {
        self.index == 0
    }

    /// What it is.
    #[inline]
    pub fn kind(self) -> Kind {
        self.entry().map_or(Kind::Null, |e| e.kind)
    }

    /// Line in its source, 1-based; 0 when unknown.
    pub fn line(self) -> u32 {
        self.entry().map_or(0, |e| e.line)
    }

    /// Its name in the object it is in.
    pub fn name(self) -> &'d str {
        self.entry().map_or("", |e| self.document.text.get(e.name))
    }

    /// Whether it is null (or absent).
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// The member of that name, unless null.
    pub fn get(self, name: &str) -> Option<Value<'d>> {
        let is_it = |e: &Entry| self.document.text.bytes(e.name) == name.as_bytes();
        self.items().find(|v| v.entry().is_some_and(is_it) && !v.is_null())
    }

    /// The member at the end of a path of names.
    pub fn at(self, path: &[&str]) -> Option<Value<'d>> {
        path.iter().try_fold(self, |value, name| value.get(name))
    }

    /// Items of an array or members of an object, in order; nothing for scalars.
    pub fn items(self) -> Items<'d> {
        let next = self.entry().map_or(NONE, |e| e.child);
        Items { document: self.document, next }
    }

    /// The string.
    pub fn str(self) -> Option<&'d str> {
        self.entry().filter(|e| e.kind == Kind::String).map(|e| self.document.text.get(e.value))
    }

    /// The string member of that name; empty when absent or not a string.
    pub fn text(self, member: &str) -> &'d str {
        self.get(member).and_then(Value::str).unwrap_or("")
    }

    /// The text of a string, number or bool.
    pub fn scalar(self) -> Option<&'d str> {
        self.entry()
            .filter(|e| matches!(e.kind, Kind::String | Kind::Number | Kind::Bool))
            .map(|e| self.document.text.get(e.value))
    }

    /// The integer.
    pub fn int(self) -> Option<i64> {
        let entry = self.entry().filter(|e| e.kind == Kind::Number)?;
        self.document.text.get(entry.value).parse().ok()
    }

    /// The bool.
    pub fn bool(self) -> Option<bool> {
        let entry = self.entry().filter(|e| e.kind == Kind::Bool)?;
        Some(self.document.text.get(entry.value) == "true")
    }

    /// Writes it as JSON.
    pub fn write_json(self, out: &mut JsonWriter<'_>) {
        let mut value = self;
        let mut depth = 0u32;
        loop {
            if depth > 0 && self.document.kind_of_parent(value.index) == Kind::Object {
                out.key(value.name());
            }
            match value.kind() {
                Kind::Null => out.null(),
                Kind::Bool | Kind::Number => out.raw(value.scalar().unwrap_or("null")),
                Kind::String => out.string(value.str().unwrap_or("")),
                Kind::Array => out.begin_array(),
                Kind::Object => out.begin_object(),
            };
            let is_container = matches!(value.kind(), Kind::Array | Kind::Object);
            if is_container && let Some(first) = value.items().next() {
                depth += 1;
                value = first;
                continue;
            }
            if is_container {
                close(out, value.kind());
            }
            // Up until there is a sibling, at most back to where this began.
            loop {
                if depth == 0 {
                    return;
                }
                let entry = value.document.entries[value.index];
                if entry.next != NONE {
                    value.index = entry.next;
                    break;
                }
                value.index = entry.parent;
                close(out, value.kind());
                depth -= 1;
            }
        }
    }

    /// Its path from the root: `spec.rules[0].matches[1]`. Where the root is an event of a watch,
    /// from the object in it: the same whether an object was listed or watched.
    pub fn path(self) -> Path<'d> {
        Path(self)
    }
}

fn close(out: &mut JsonWriter<'_>, kind: Kind) {
    match kind {
        Kind::Array => out.end_array(),
        _ => out.end_object(),
    };
}

impl Document {
    fn kind_of_parent(&self, index: u32) -> Kind {
        self.entries.get(self.entries[index].parent).map_or(Kind::Null, |e| e.kind)
    }
}

/// Iterates over items or members.
#[derive(Clone, Debug)]
pub struct Items<'d> {
    document: &'d Document,
    next: u32,
}

impl<'d> Iterator for Items<'d> {
    type Item = Value<'d>;
    #[inline]
    fn next(&mut self) -> Option<Value<'d>> {
        let entry = self.document.entries.get(self.next)?;
        let value = Value { document: self.document, index: self.next };
        self.next = entry.next;
        Some(value)
    }
}

/// Displays a value's path.
#[derive(Clone, Copy, Debug)]
pub struct Path<'d>(Value<'d>);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let document = self.0.document;
        let mut chain = heapless::Vec::<u32, { MAX_DOCUMENT_DEPTH as usize + 1 }>::new();
        let mut index = self.0.index;
        while index != NONE && document.entries.get(index).is_some() {
            chain.push(index).map_err(|_| fmt::Error)?;
            index = document.entries[index].parent;
        }
        let root = Value { document, index: 0 };
        let is_event = root.get("type").is_some() && root.get("object").is_some();
        for (at, &index) in chain.iter().rev().skip(usize::from(is_event)).enumerate().skip(1) {
            if document.kind_of_parent(index) == Kind::Array {
                let parent = Value { document, index: document.entries[index].parent };
                let position = parent.items().position(|v| v.index == index).unwrap_or(0);
                write!(f, "[{position}]")?;
            } else {
                let dot = if at == 1 { "" } else { "." };
                write!(f, "{dot}{}", Value { document, index }.name())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::boxed::Box;
    use std::string::ToString;

    fn build(f: impl Fn(&mut Document) -> Result<(), DocumentError>) -> Box<Document> {
        let mut document = crate::stdx::zeroed_box::<Document>();
        document.clear();
        f(&mut document).unwrap();
        document
    }

    /// A list gives the object itself, a watch an event around it: a message that names a field
    /// must be the same, else each relist would change a status (vopr, L8).
    #[test]
    fn a_path_is_of_the_object_and_not_of_the_event_around_it() {
        let path = |text: &str, members: &[&str]| {
            let mut document = crate::stdx::zeroed_box::<Document>();
            crate::shell::json::parse(text.as_bytes(), &mut document).unwrap();
            document.root().at(members).unwrap().path().to_string()
        };
        let object = r#"{"kind":"HTTPRoute","spec":{"rules":[]}}"#;
        let event = std::format!(r#"{{"type":"ADDED","object":{object}}}"#);
        assert_eq!(path(object, &["spec", "rules"]), "spec.rules");
        assert_eq!(path(&event, &["object", "spec", "rules"]), "spec.rules");
        assert_eq!(path(&event, &["object"]), "");
        let backend = r#"{"type":"x","spec":{"object":1}}"#;
        assert_eq!(path(backend, &["spec", "object"]), "spec.object");
    }

    #[test]
    fn tree_with_paths_lines_and_pruning() {
        let document = build(|d| {
            d.begin(Kind::Object)?;
            d.key("metadata")?;
            d.begin(Kind::Object)?;
            d.key("managedFields")?;
            d.begin(Kind::Array)?;
            d.string("gone")?;
            d.begin(Kind::Object)?;
            d.key("k")?;
            d.string("gone")?;
            d.end();
            d.end();
            d.key("name")?;
            d.string("x")?;
            d.key("annotations")?;
            d.begin(Kind::Object)?;
            d.key("big")?;
            d.string("gone")?;
            d.key(KEPT_ANNOTATION)?;
            d.string("true")?;
            d.end();
            d.end();
            d.key("rules")?;
            d.begin(Kind::Array)?;
            d.begin(Kind::Object)?;
            d.end();
            d.begin(Kind::Object)?;
            d.key("port")?;
            d.set_line(7);
            d.scalar(Kind::Number, format_args!("{}", 80))?;
            d.end();
            d.end();
            d.end();
            Ok(())
        });
        let root = document.root();
        assert_eq!(root.at(&["metadata", "name"]).and_then(Value::str), Some("x"));
        assert!(root.at(&["metadata", "managedFields"]).is_none());
        let rule = root.get("rules").unwrap().items().nth(1).unwrap();
        let port = rule.get("port").unwrap();
        assert_eq!((port.int(), port.line()), (Some(80), 7));
        assert_eq!(port.path().to_string(), "rules[1].port");
        let mut buffer = [0; 200];
        let mut json = JsonWriter::new(&mut buffer);
        root.write_json(&mut json);
        let kept = r#""annotations":{"k8s.io/initial-events-end":"true"}"#;
        let expected =
            std::format!(r#"{{"metadata":{{"name":"x",{kept}}},"rules":[{{}},{{"port":80}}]}}"#);
        assert_eq!(json.finish(), Ok(&*expected));
    }

    #[test]
    fn limits_are_errors() {
        build(|d| {
            d.begin(Kind::Array)?;
            for _ in 1..MAX_DOCUMENT_NODES {
                d.scalar(Kind::Null, format_args!(""))?;
            }
            let over = d.scalar(Kind::Null, format_args!(""));
            assert_eq!(over, Err(DocumentError::TooManyValues));
            Ok(())
        });
        build(|d| {
            for _ in 0..MAX_DOCUMENT_DEPTH {
                d.begin(Kind::Array)?;
            }
            assert_eq!(d.begin(Kind::Array), Err(DocumentError::TooDeep));
            Ok(())
        });
        build(|d| {
            d.begin(Kind::Object)?;
            d.key("a")?;
            d.string("1")?;
            assert_eq!(d.key("a"), Err(DocumentError::DuplicateKey));
            Ok(())
        });
    }
}
