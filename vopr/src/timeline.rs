//! The timeline of a run: what happened, when and where, as one HTML page that needs nothing else.
//!
//! In: what the trace says, and marks of `observer`. Out: the page, its data inline as JSON.
//! Nothing here is part of the trace's hash, and nothing is kept unless a page was asked for.

use crate::network::{MS, Node, Time};
use std::collections::BTreeMap;

/// The page, with `/*DATA*/null` where the data goes.
const PAGE: &str = include_str!("timeline.html");
/// Where the data goes.
const DATA: &str = "/*DATA*/null";

/// Where something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    Checkers,
    Faults,
    Controller(usize),
    Api,
    Router(usize),
    Clients,
    Backends,
}

impl Lane {
    /// Of a node.
    pub fn of(node: Node) -> Lane {
        match node {
            Node::Router(number) => Lane::Router(number),
            Node::Controller(number) => Lane::Controller(number),
            Node::Past | Node::Strangers => Lane::Faults,
            Node::Api => Lane::Api,
            Node::Clients | Node::Abuser => Lane::Clients,
            Node::Backends => Lane::Backends,
        }
    }

    fn name(self) -> String {
        match self {
            Lane::Checkers => "checkers".into(),
            Lane::Faults => "faults".into(),
            Lane::Controller(number) => format!("controller {number}"),
            Lane::Api => "API server".into(),
            Lane::Router(number) => format!("router {number}"),
            Lane::Clients => "clients".into(),
            Lane::Backends => "backends".into(),
        }
    }
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Violation,
    Fault,
    Crash,
    Start,
    Published,
    Pushed,
    Swapped,
    Relist,
    StatusWrite,
    Change,
    Answered2xx,
    Answered3xx,
    Answered4xx,
    Answered5xx,
    NoAnswer,
    Attempt,
    Said,
}

impl Kind {
    /// All, in the order of their numbers, with name and colour.
    const ALL: [(Kind, &str, &str); 17] = [
        (Kind::Violation, "violation", "#d00000"),
        (Kind::Fault, "fault", "#e8590c"),
        (Kind::Crash, "crash", "#9c0f48"),
        (Kind::Start, "start", "#2b8a3e"),
        (Kind::Published, "published", "#5f3dc4"),
        (Kind::Pushed, "pushed", "#9775fa"),
        (Kind::Swapped, "swapped", "#1864ab"),
        (Kind::Relist, "relist", "#0b7285"),
        (Kind::StatusWrite, "status write", "#66a80f"),
        (Kind::Change, "change of an object", "#868e96"),
        (Kind::Answered2xx, "answered 2xx", "#40c057"),
        (Kind::Answered3xx, "answered 3xx", "#4dabf7"),
        (Kind::Answered4xx, "answered 4xx", "#fab005"),
        (Kind::Answered5xx, "answered 5xx", "#fa5252"),
        (Kind::NoAnswer, "no whole answer", "#212529"),
        (Kind::Attempt, "request at a backend", "#74b816"),
        (Kind::Said, "other", "#adb5bd"),
    ];

    /// Of an answer.
    pub fn of_status(status: Option<u16>) -> Kind {
        match status {
            Some(200..=299) => Kind::Answered2xx,
            Some(300..=399) => Kind::Answered3xx,
            Some(400..=499) => Kind::Answered4xx,
            Some(_) => Kind::Answered5xx,
            None => Kind::NoAnswer,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    lane: Lane,
    kind: Kind,
    from: Time,
    to: Time,
    text: u32,
    is_failing: bool,
}

/// Why the seed failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The checker and what it saw.
    pub text: String,
    /// The command that does it again.
    pub reproduce: String,
}

/// All marks of a run.
#[derive(Debug, Default)]
pub struct Timeline {
    marks: Vec<Mark>,
    texts: BTreeMap<String, u32>,
    /// The time of the last event.
    pub now: Time,
    /// Whose event it is: what it says is of this lane.
    pub speaker: Option<Lane>,
}

impl Timeline {
    /// Something happened at once.
    pub fn mark(&mut self, lane: Lane, kind: Kind, at: Time, text: &str) {
        self.span(lane, kind, (at, at), text, false);
    }

    /// Something took from then to then; `is_failing`: a checker did not accept it.
    pub fn span(
        &mut self,
        lane: Lane,
        kind: Kind,
        (from, to): (Time, Time),
        text: &str,
        is_failing: bool,
    ) {
        assert!(from <= to, "time goes on");
        self.now = self.now.max(to);
        let next = self.texts.len() as u32;
        let text = *self.texts.entry(text.to_string()).or_insert(next);
        self.marks.push(Mark { lane, kind, from, to, text, is_failing });
    }

    /// A line of the trace: its first words say where it belongs.
    pub fn said(&mut self, at: Time, text: &str) {
        let (lane, kind) = place(text, self.speaker);
        self.span(lane, kind, (at, at), text, kind == Kind::Violation);
    }

    /// How many marks there are.
    pub fn marks(&self) -> usize {
        self.marks.len()
    }

    /// The whole page.
    pub fn page(&self, title: &str, failure: Option<&Failure>) -> String {
        assert_eq!(PAGE.matches(DATA).count(), 1, "the page has one place for the data");
        PAGE.replace(DATA, &self.json(title, failure))
    }

    /// Numbers are in microseconds; a mark is lane, kind, start, length, text, failing.
    fn json(&self, title: &str, failure: Option<&Failure>) -> String {
        let mut lanes: Vec<Lane> = self.marks.iter().map(|m| m.lane).collect();
        lanes.sort_unstable();
        lanes.dedup();
        let mut marks = self.marks.clone();
        marks.sort_by_key(|m| m.from);
        let micros = |time: Time| time / (MS / 1000);
        let mark = |m: &Mark| {
            let lane = lanes.binary_search(&m.lane).expect("all lanes are listed");
            let (from, length) = (micros(m.from), micros(m.to) - micros(m.from));
            let (kind, failing) = (m.kind as u8, u8::from(m.is_failing));
            format!("{lane},{kind},{from},{length},{},{failing}", m.text)
        };
        let marks: Vec<String> = marks.iter().map(mark).collect();
        let lanes: Vec<String> = lanes.iter().map(|l| quoted(&l.name())).collect();
        let kind = |k: &(Kind, &str, &str)| format!("[{},{}]", quoted(k.1), quoted(k.2));
        let kinds: Vec<String> = Kind::ALL.iter().map(kind).collect();
        let mut texts = vec![""; self.texts.len()];
        for (text, &number) in &self.texts {
            texts[number as usize] = text;
        }
        let texts: Vec<String> = texts.into_iter().map(quoted).collect();
        let failure = match failure {
            None => "null".to_string(),
            Some(f) => {
                let (text, reproduce) = (quoted(&f.text), quoted(&f.reproduce));
                format!(r#"{{"text":{text},"reproduce":{reproduce}}}"#)
            }
        };
        format!(
            "{{\"title\":{},\"end\":{},\"failure\":{failure},\n\"lanes\":[{}],\"kinds\":[{}],\n\
             \"texts\":[{}],\n\"marks\":[{}]}}",
            quoted(title),
            micros(self.now),
            lanes.join(","),
            kinds.join(","),
            texts.join(","),
            marks.join(",")
        )
    }
}

/// Where a line of the trace belongs.
fn place(text: &str, speaker: Option<Lane>) -> (Lane, Kind) {
    let number = |word: &str| {
        let rest = text.strip_prefix(word)?;
        rest.split([' ', ')', ':']).next()?.parse::<usize>().ok()
    };
    let begins = |words: &[&str]| words.iter().any(|w| text.starts_with(w));
    let kind = match text {
        _ if begins(&["VIOLATED"]) => Kind::Violation,
        _ if text.contains(" crashes") || text.ends_with(" goes") => Kind::Crash,
        _ if text.contains(" starts") => Kind::Start,
        _ if begins(&["published"]) => Kind::Published,
        _ if begins(&["relist"]) => Kind::Relist,
        _ if begins(&["status of"]) => Kind::StatusWrite,
        _ => Kind::Said,
    };
    let lane = match (number("router "), number("controller ").or(number("Controller("))) {
        _ if begins(&["VIOLATED", "healed", "converged"]) => Lane::Checkers,
        (Some(router), _) => Lane::Router(router),
        (_, Some(controller)) => Lane::Controller(controller),
        _ if begins(&["API server", "the Lease", "status of"]) => Lane::Api,
        _ => speaker.unwrap_or(Lane::Faults),
    };
    (lane, kind)
}

/// As JSON that may stand in a script.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '<' | '\u{2028}' | '\u{2029}' => out += &format!("\\u{:04x}", c as u32),
            c if c < ' ' => out += &format!("\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_in_the_order_of_their_numbers() {
        for (index, (kind, ..)) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index);
        }
    }

    #[test]
    fn lines_of_the_trace_find_their_lane() {
        let speaker = Lane::Controller(1);
        for (text, lane, kind) in [
            ("router 1 starts, boot 5", Lane::Router(1), Kind::Start),
            ("router 0 crashes", Lane::Router(0), Kind::Crash),
            ("router 10.9.0.1:9901 answered 409 to a push", speaker, Kind::Said),
            ("controller 0 crashes", Lane::Controller(0), Kind::Crash),
            ("Controller(0) starts, x", Lane::Controller(0), Kind::Start),
            ("Controller(0): None", Lane::Controller(0), Kind::Said),
            ("the Lease is again", Lane::Api, Kind::Said),
            ("status of a/b is written", Lane::Api, Kind::StatusWrite),
            ("API server goes", Lane::Api, Kind::Crash),
            ("published 1.7, compared", speaker, Kind::Published),
            ("VIOLATED D1: router 0 x", Lane::Checkers, Kind::Violation),
        ] {
            assert_eq!(place(text, Some(speaker)), (lane, kind), "{text}");
        }
    }

    #[test]
    fn a_page_holds_its_data_and_no_end_of_the_script() {
        let mut timeline = Timeline::default();
        timeline.mark(Lane::Api, Kind::Said, 3 * MS, "a \"line\" </script>");
        timeline.span(Lane::Clients, Kind::NoAnswer, (MS, 5 * MS), "GET /", true);
        let failure = Failure { text: "D1 <b>".into(), reproduce: "vopr --seed 1".into() };
        let page = timeline.page("seed 1", Some(&failure));
        assert!(page.contains(r#""marks":[1,14,1000,4000,1,1,0,16,3000,0,0,0]"#));
        assert!(page.contains(r#""a \"line\" \u003c/script>""#));
        assert_eq!(page.matches("</script>").count(), PAGE.matches("</script>").count());
        assert!(!page.contains("http:") && !page.contains("https:"), "nothing from outside");
    }
}
