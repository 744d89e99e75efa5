//! One line of the log in fixed memory, and the ring that carries lines to the log thread.
//!
//! In: level, area, a message with `key=value` pairs. Out: `2026-11-23T05:53:35Z INFO kube: …` and
//! a newline, at most MAX_LOG_LINE_BYTES. A full ring drops the line and counts it: logging never
//! waits. Control characters are escaped, so that nobody outside can write a line of his own.

use crate::limits::{LOG_RING_BYTES, MAX_LOG_LINE_BYTES};
use crate::stdx::Wall;
use crate::stdx::ring::{Consumer, Producer, Ring};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};
use static_assertions::const_assert;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Somebody must act.
    Error = 0,
    /// Served, but not as asked for.
    Warn = 1,
    /// A change of state.
    Info = 2,
    /// For whoever looks for a fault.
    Debug = 3,
}

impl Level {
    /// As in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Error => "ERROR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
        }
    }
}

/// The end of a line that was cut.
const CUT: &[u8] = b"...\n";
const_assert!(MAX_LOG_LINE_BYTES as usize > 64 + CUT.len());
const_assert!(MAX_LOG_LINE_BYTES <= Ring::<{ LOG_RING_BYTES as usize }>::MAX_RECORD);

/// A formatter into a slice that escapes control characters and notices when it is full.
struct Escaping<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() {
                let mut escaped = [0; 12];
                let mut len = 0;
                for e in c.escape_default() {
                    escaped[len] = e as u8;
                    len += 1;
                }
                self.put(&escaped[..len])?;
            } else {
                self.put(c.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
        }
        Ok(())
    }
}

impl Escaping<'_> {
    fn put(&mut self, bytes: &[u8]) -> fmt::Result {
        let end = self.len + bytes.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
}

/// Formats one line into `out` and returns its length; a longer one ends in `...`.
pub fn format_line(
    out: &mut [u8; MAX_LOG_LINE_BYTES as usize],
    wall: Wall,
    level: Level,
    area: &str,
    message: fmt::Arguments<'_>,
) -> usize {
    let room = out.len() - CUT.len();
    let mut line = Escaping { bytes: &mut out[..room], len: 0 };
    let whole = line.put(&wall.rfc3339()).is_ok()
        && write!(line, " {} {area}: ", level.name()).is_ok()
        && line.write_fmt(message).is_ok();
    let (len, end) = (line.len, if whole { &CUT[CUT.len() - 1..] } else { CUT });
    out[len..len + end.len()].copy_from_slice(end);
    len + end.len()
}

/// The ring of one thread's lines. Built in place.
#[derive(Debug)]
pub struct LogRing {
    ring: Ring<{ LOG_RING_BYTES as usize }>,
    dropped: AtomicU32,
}

crate::zeroed_struct!(LogRing { ring: Ring<{ LOG_RING_BYTES as usize }>, dropped: AtomicU32 });

/// The thread's end.
#[derive(Debug)]
pub struct LogWriter<'r> {
    producer: Producer<'r, { LOG_RING_BYTES as usize }>,
    dropped: &'r AtomicU32,
}

/// The log thread's end.
#[derive(Debug)]
pub struct LogReader<'r> {
    consumer: Consumer<'r, { LOG_RING_BYTES as usize }>,
    dropped: &'r AtomicU32,
}

impl LogRing {
    /// Both ends.
    pub fn split(&mut self) -> (LogWriter<'_>, LogReader<'_>) {
        let (producer, consumer) = self.ring.split();
        let dropped = &self.dropped;
        (LogWriter { producer, dropped }, LogReader { consumer, dropped })
    }

    /// Bytes of one ring: a line of the memory plan, per thread.
    pub const fn bytes() -> u64 {
        size_of::<LogRing>() as u64
    }
}

impl LogWriter<'_> {
    /// Writes a line, or counts it as dropped.
    pub fn write(&mut self, wall: Wall, level: Level, area: &str, message: fmt::Arguments<'_>) {
        let mut line = [0; MAX_LOG_LINE_BYTES as usize];
        let len = format_line(&mut line, wall, level, area, message);
        if self.producer.push(&line[..len]).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl LogReader<'_> {
    /// Hands the oldest line to `write`; false when there is none.
    pub fn next(&mut self, write: impl FnOnce(&[u8])) -> bool {
        let Some(line) = self.consumer.peek() else { return false };
        write(line);
        self.consumer.pop();
        true
    }

    /// Lines dropped since the last look.
    pub fn take_dropped(&self) -> u32 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;

    fn line(message: fmt::Arguments<'_>) -> String {
        let mut out = [0; MAX_LOG_LINE_BYTES as usize];
        let len = format_line(&mut out, Wall(0), Level::Warn, "kube", message);
        core::str::from_utf8(&out[..len]).unwrap().into()
    }

    #[test]
    fn shape_and_escapes() {
        let expected = "1970-01-01T00:00:00Z WARN kube: slow kind=HTTPRoute ms=12\n";
        assert_eq!(line(format_args!("slow kind={} ms={}", "HTTPRoute", 12)), expected);
        let forged = line(format_args!("name={}", "a\n1970 ERROR ü\x1b[2J\u{85}"));
        assert!(forged.ends_with("name=a\\n1970 ERROR ü\\u{1b}[2J\\u{85}\n"), "{forged:?}");
    }

    #[test]
    fn at_max_and_one_more() {
        let prefix = line(format_args!("")).len() - 1;
        let fits = MAX_LOG_LINE_BYTES as usize - CUT.len() - prefix;
        let max = line(format_args!("{}", "x".repeat(fits)));
        assert!(max.ends_with("x\n") && max.len() == MAX_LOG_LINE_BYTES as usize - 3);
        let more = line(format_args!("{}", "x".repeat(fits + 1)));
        assert!(more.ends_with("x...\n") && more.len() == MAX_LOG_LINE_BYTES as usize);
        // Never inside a character.
        assert!(line(format_args!("{}", "ä".repeat(fits))).ends_with("ä...\n"));
    }

    #[test]
    fn a_full_ring_drops_and_counts() {
        let mut place = core::mem::MaybeUninit::<LogRing>::uninit();
        let (mut writer, mut reader) = crate::stdx::zeroed_in_place(&mut place).split();
        let mut write = |n: u32| {
            writer.write(Wall(0), Level::Info, "test", format_args!("line n={n}"));
        };
        let (mut written, mut dropped) = (0, 0);
        while dropped == 0 {
            write(written);
            dropped = reader.take_dropped();
            written += 1;
        }
        assert_eq!((dropped, reader.take_dropped()), (1, 0));
        for n in 0..written - 1 {
            let expected = std::format!("line n={n}\n");
            assert!(reader.next(|line| assert!(line.ends_with(expected.as_bytes()))));
        }
        assert!(!reader.next(|_| unreachable!()));
    }
}
