//! Events of a watch as records of a ring between threads.
//!
//! In: [`Event`]s of the machine, objects encoded by whoever knows them ([`Encode`]). Out: the same
//! as [`Record`]s. Only this process writes and reads them.

use crate::kube::Trouble;
use crate::kube::kind::Watched;
use crate::kube::watch::{Event, Skip};
use crate::limits::{KUBE_RING_BYTES, MAX_LINE_SIZE_BYTES};
use crate::resource::document::Value;
use crate::stdx::Full;
use crate::stdx::pack::{Packer, Unpacker};
use crate::wire::json::JsonWriter;

/// Longest record: an object as JSON is at most about its line, plus the record's own fields.
pub const RECORD_BYTES: u32 = MAX_LINE_SIZE_BYTES + 1024;

/// The ring of one kind.
pub type EventRing = crate::stdx::ring::Ring<{ KUBE_RING_BYTES as usize }>;

/// The object is not taken; the watch goes on and says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotEncoded;

/// Turns an object into the bytes that travel.
pub trait Encode: Send {
    /// Writes `object` into `out`: how many bytes.
    fn encode(
        &mut self,
        kind: Watched,
        object: Value<'_>,
        out: &mut [u8],
    ) -> Result<usize, NotEncoded>;
}

/// Objects travel as the JSON of their pruned document.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsJson;

impl Encode for AsJson {
    fn encode(
        &mut self,
        _: Watched,
        object: Value<'_>,
        out: &mut [u8],
    ) -> Result<usize, NotEncoded> {
        let mut json = JsonWriter::new(out);
        object.write_json(&mut json);
        json.finish().map(str::len).map_err(|Full| NotEncoded)
    }
}

/// An [`Event`], with the object as its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in Event")]
pub enum Record<'a> {
    ResyncBegin {
        epoch: u64,
    },
    Upsert {
        object: &'a [u8],
    },
    Delete {
        namespace: &'a str,
        name: &'a str,
        uid: &'a str,
    },
    ResyncEnd {
        epoch: u64,
        complete: bool,
    },
    Synced,
    Bookmark,
    Skipped {
        why: Skipped,
        namespace: &'a str,
        name: &'a str,
        size: u64,
    },
    Served {
        version: &'a str,
    },
    Absent,
    Vanished,
    /// `text` says more: TLS' own words, or a file's name.
    Retrying {
        trouble: Trouble,
        wait_ms: u64,
        text: &'a str,
    },
}

/// Why an object was skipped: by the watch, or by its encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in Skip")]
pub enum Skipped {
    TooLarge,
    Refused,
    Malformed,
    /// [`Encode`] did not take it.
    NotEncoded,
}

impl From<Skip> for Skipped {
    fn from(skip: Skip) -> Skipped {
        match skip {
            Skip::TooLarge => Skipped::TooLarge,
            Skip::Refused => Skipped::Refused,
            Skip::Malformed => Skipped::Malformed,
        }
    }
}

const TAGS: usize = 11;

/// Writes one event; `text` goes with `Retrying`. An object that is not encoded becomes `Skipped`.
/// Returns the record's length; `out` has [`RECORD_BYTES`].
pub fn write<E: Encode>(
    event: &Event<'_>,
    kind: Watched,
    text: &str,
    encode: &mut E,
    out: &mut [u8],
) -> u32 {
    assert!(out.len() >= RECORD_BYTES as usize);
    if let Event::Upsert { object } = event {
        out[0] = 1;
        return match encode.encode(kind, *object, &mut out[1..]) {
            Ok(len) => 1 + len as u32,
            Err(NotEncoded) => {
                let of = |n| object.at(&["metadata", n]).and_then(Value::str).unwrap_or("");
                let (namespace, name) = (of("namespace"), of("name"));
                fields(out, 6, &[Skipped::NotEncoded as u64, 0], &[namespace, name])
            }
        };
    }
    match *event {
        Event::ResyncBegin { epoch } => fields(out, 0, &[epoch], &[]),
        Event::Upsert { .. } => unreachable!("written above"),
        Event::Delete { namespace, name, uid } => fields(out, 2, &[], &[namespace, name, uid]),
        Event::ResyncEnd { epoch, complete } => fields(out, 3, &[epoch, complete.into()], &[]),
        Event::Synced => fields(out, 4, &[], &[]),
        Event::Bookmark => fields(out, 5, &[], &[]),
        Event::Skipped { why, namespace, name, size } => {
            fields(out, 6, &[Skipped::from(why) as u64, size], &[namespace, name])
        }
        Event::Served { version } => fields(out, 7, &[], &[version]),
        Event::Absent => fields(out, 8, &[], &[]),
        Event::Vanished => fields(out, 9, &[], &[]),
        Event::Retrying { trouble, wait_ms } => {
            fields(out, 10, &[trouble.to_u32().into(), wait_ms], &[text])
        }
    }
}

/// Tag, numbers, texts with their lengths. Texts are names and short messages: what would not fit
/// is cut to nothing, which no field of the API is long enough for.
fn fields(out: &mut [u8], tag: u8, numbers: &[u64], texts: &[&str]) -> u32 {
    assert!(usize::from(tag) < TAGS);
    let mut packer = Packer::new(out);
    let mut put = |bytes: &[u8]| packer.put(bytes).expect("RECORD_BYTES is far above this");
    put(&[tag]);
    numbers.iter().for_each(|number| put(&number.to_le_bytes()));
    for text in texts {
        // Names of an object that is not encoded come from a document: bounded by the line.
        let text = if text.len() <= 4096 { text } else { "" };
        put(&(text.len() as u16).to_le_bytes());
        put(text.as_bytes());
    }
    packer.len() as u32
}

/// Reads what [`write`] wrote.
pub fn read(record: &[u8]) -> Record<'_> {
    let mut from = Unpacker::new(record);
    let tag = from.take(1)[0];
    if tag == 1 {
        return Record::Upsert { object: &record[1..] };
    }
    let number = |from: &mut Unpacker<'_>| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(from.take(8));
        u64::from_le_bytes(bytes)
    };
    fn text<'a>(from: &mut Unpacker<'a>) -> &'a str {
        let len = from.take(2);
        let len = u16::from_le_bytes([len[0], len[1]]);
        core::str::from_utf8(from.take(len.into())).unwrap_or("")
    }
    let from = &mut from;
    match tag {
        0 => Record::ResyncBegin { epoch: number(from) },
        2 => Record::Delete { namespace: text(from), name: text(from), uid: text(from) },
        3 => Record::ResyncEnd { epoch: number(from), complete: number(from) != 0 },
        4 => Record::Synced,
        5 => Record::Bookmark,
        6 => {
            let why =
                [Skipped::TooLarge, Skipped::Refused, Skipped::Malformed, Skipped::NotEncoded]
                    [number(from) as usize];
            let size = number(from);
            Record::Skipped { why, size, namespace: text(from), name: text(from) }
        }
        7 => Record::Served { version: text(from) },
        8 => Record::Absent,
        9 => Record::Vanished,
        10 => {
            let trouble = Trouble::from_u32(number(from) as u32);
            Record::Retrying { trouble, wait_ms: number(from), text: text(from) }
        }
        _ => unreachable!("only `write` writes records"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::document::Document;
    use crate::shell::{json, place::boxed_zeroed};

    struct Nothing;
    impl Encode for Nothing {
        fn encode(&mut self, _: Watched, _: Value<'_>, _: &mut [u8]) -> Result<usize, NotEncoded> {
            Err(NotEncoded)
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let mut out = std::vec![0; RECORD_BYTES as usize];
        let mut check = |event: Event<'_>, expected: Record<'_>| {
            let len = write(&event, Watched::Gateway, "why", &mut AsJson, &mut out);
            assert_eq!(read(&out[..len as usize]), expected);
        };
        let (namespace, name, uid) = ("n", "x", "u");
        check(Event::ResyncBegin { epoch: 7 }, Record::ResyncBegin { epoch: 7 });
        check(Event::Delete { namespace, name, uid }, Record::Delete { namespace, name, uid });
        check(
            Event::ResyncEnd { epoch: u64::MAX, complete: true },
            Record::ResyncEnd { epoch: u64::MAX, complete: true },
        );
        check(Event::Synced, Record::Synced);
        check(Event::Bookmark, Record::Bookmark);
        check(
            Event::Skipped { why: Skip::Malformed, namespace, name: "", size: 9 },
            Record::Skipped { why: Skipped::Malformed, namespace, name: "", size: 9 },
        );
        check(Event::Served { version: "v1" }, Record::Served { version: "v1" });
        check(Event::Absent, Record::Absent);
        check(Event::Vanished, Record::Vanished);
        for trouble in [Trouble::Status(503), Trouble::Unreachable, Trouble::AnswerTooLarge] {
            check(
                Event::Retrying { trouble, wait_ms: 5 },
                Record::Retrying { trouble, wait_ms: 5, text: "why" },
            );
        }
    }

    #[test]
    fn objects_encoded_or_skipped() {
        let mut document = boxed_zeroed::<Document>();
        json::parse(br#"{"metadata":{"name":"x","managedFields":[1]}}"#, &mut document).unwrap();
        let event = Event::Upsert { object: document.root() };
        let mut out = std::vec![0; RECORD_BYTES as usize];
        let len = write(&event, Watched::Gateway, "", &mut AsJson, &mut out) as usize;
        let object = br#"{"metadata":{"name":"x"}}"#;
        assert_eq!(read(&out[..len]), Record::Upsert { object });
        let len = write(&event, Watched::Gateway, "", &mut Nothing, &mut out) as usize;
        let why = Skipped::NotEncoded;
        let expected = Record::Skipped { why, namespace: "", name: "x", size: 0 };
        assert_eq!(read(&out[..len]), expected);
    }
}
