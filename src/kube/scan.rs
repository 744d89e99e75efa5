//! A JSON structure scanner, byte by byte: depth, strings and the names on the way down.
//!
//! In: bytes, cut anywhere. Out: where containers begin and end, and which member a string belongs
//! to. It is no parser: values are not checked (shell::json does that, on whole bounded lines); it
//! finds the items of a list larger than any buffer, and the name of an object too large to keep.

use crate::stdx::Inline;

/// Names are kept for the members of this many levels.
const NAMED_LEVELS: usize = 3;

/// A name longer than this is none of those we look for.
const NAME_BYTES: usize = 24;

/// What a byte was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// Part of a scalar: a number, `true`, `false`, `null`.
    Scalar,
    /// White space, comma, colon, part of a name.
    Other,
    /// `{` or `[`; the depth has risen.
    Open {
        /// Whether it is an object.
        object: bool,
    },
    /// `}` or `]`; the depth has sunk.
    Close,
    /// The first quote of a string that is a value.
    TextStart,
    /// A byte of it.
    Text,
    /// A byte of it that begins or is part of an escape.
    TextEscape,
    /// Its last quote.
    TextEnd,
    /// It closes what is not open.
    Bad,
}

/// The scanner; zero bytes are its beginning.
#[derive(Debug)]
pub struct Scanner {
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The string at hand, or the next one, is a name.
    is_name: bool,
    /// For each of the named levels: whether it is an object.
    objects: [bool; NAMED_LEVELS],
    names: [Inline<NAME_BYTES>; NAMED_LEVELS],
}

crate::zeroed_struct!(Scanner {
    depth: u32,
    in_string: bool,
    escaped: bool,
    is_name: bool,
    objects: [bool; NAMED_LEVELS],
    names: [Inline<NAME_BYTES>; NAMED_LEVELS],
});

impl Scanner {
    /// Begins anew.
    pub fn clear(&mut self) {
        (self.depth, self.in_string, self.escaped, self.is_name) = (0, false, false, false);
        self.objects = [false; NAMED_LEVELS];
        self.names.iter_mut().for_each(Inline::clear);
    }

    /// Number of open containers.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Whether what comes next is a value of the member at the end of `path`.
    pub fn is_at(&self, path: &[&str]) -> bool {
        self.depth as usize == path.len() && self.starts_with(path)
    }

    /// Whether the scanner is somewhere below (or at) the member at the end of `path`.
    pub fn starts_with(&self, path: &[&str]) -> bool {
        assert!(path.len() <= NAMED_LEVELS);
        self.depth as usize >= path.len()
            && path.iter().zip(&self.names).all(|(want, name)| name.as_bytes() == want.as_bytes())
    }

    /// Takes one byte.
    pub fn step(&mut self, byte: u8) -> Token {
        if self.in_string {
            return self.step_string(byte);
        }
        match byte {
            b'{' | b'[' => {
                let level = self.depth as usize;
                let object = byte == b'{';
                self.depth = self.depth.saturating_add(1);
                if level < NAMED_LEVELS {
                    self.objects[level] = object;
                    self.names[level].clear();
                }
                self.is_name = object && level < NAMED_LEVELS;
                Token::Open { object }
            }
            b'}' | b']' if self.depth == 0 => Token::Bad,
            b'}' | b']' => {
                self.depth -= 1;
                self.is_name = false;
                Token::Close
            }
            b'"' => {
                self.in_string = true;
                if !self.is_name {
                    return Token::TextStart;
                }
                self.names[self.depth as usize - 1].clear();
                Token::Other
            }
            b',' => {
                let level = self.depth as usize;
                self.is_name = (1..=NAMED_LEVELS).contains(&level) && self.objects[level - 1];
                Token::Other
            }
            b':' => {
                self.is_name = false;
                Token::Other
            }
            b' ' | b'\t' | b'\r' | b'\n' => Token::Other,
            _ => Token::Scalar,
        }
    }

    fn step_string(&mut self, byte: u8) -> Token {
        let ends = byte == b'"' && !self.escaped;
        let escape = self.escaped || byte == b'\\';
        self.escaped = byte == b'\\' && !self.escaped;
        self.in_string = !ends;
        if self.is_name {
            let name = &mut self.names[self.depth as usize - 1];
            // A name that is escaped or too long becomes one that nobody asks for.
            if !ends && (escape || name.push(&[byte]).is_err()) {
                let _ = name.set(b"\\");
            }
            return Token::Other;
        }
        match (ends, escape) {
            (true, _) => Token::TextEnd,
            (_, true) => Token::TextEscape,
            _ => Token::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::shell::place::boxed_zeroed;
    use std::string::String;
    use std::vec::Vec;

    /// The strings found at a path.
    fn find(text: &str, path: &[&str]) -> Vec<String> {
        let mut scanner = boxed_zeroed::<Scanner>();
        let (mut found, mut inside) = (Vec::new(), false);
        for &byte in text.as_bytes() {
            match scanner.step(byte) {
                Token::TextStart if scanner.is_at(path) => {
                    inside = true;
                    found.push(String::new());
                }
                Token::Text | Token::TextEscape if inside => {
                    found.last_mut().unwrap().push(byte.into());
                }
                Token::TextEnd => inside = false,
                Token::Bad => found.push("bad".into()),
                _ => {}
            }
        }
        found
    }

    #[test]
    fn strings_at_paths() {
        let text = r#" {"a":"1","m":{"\u0061":"x","n":"2","x":[{"n":"3"},"4"],"n2":{"n":"5"}},
            "n":["6"],"m" : {"n" : "7\"}" , "o":null,"n":"8"}, "m":[{"n":"9"}], "m":{}} "#;
        assert_eq!(find(text, &["a"]), ["1"]);
        assert_eq!(find(text, &["m", "n"]), ["2", "7\\\"}", "8"]);
        assert_eq!(find(text, &["m", "n2", "n"]), ["5"]);
        assert_eq!(find(text, &["n"]), [""; 0]);
        assert_eq!(find(text, &["m", "a"]), [""; 0], "an escaped name is not looked into");
    }

    #[test]
    fn a_string_that_looks_like_structure_is_a_string() {
        let text = r#"{"note":"{\"metadata\":{\"name\":\"no\"}}\\","metadata":{"name":"yes"}}"#;
        assert_eq!(find(text, &["metadata", "name"]), ["yes"]);
    }

    #[test]
    fn hostile_text() {
        assert_eq!(find("]", &[]), ["bad"]);
        assert_eq!(find("{}}", &[]), ["bad"]);
        let long = std::format!("{{\"{}name\":\"x\"}}", "n".repeat(100));
        assert_eq!(find(&long, &["name"]), [""; 0]);
        let deep = "[".repeat(100_000) + &"]".repeat(100_000) + "{\"n\":\"1\"}";
        assert_eq!(find(&deep, &["n"]), ["1"]);
    }
}
