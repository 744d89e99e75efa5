//! The report: what a router serves, as `GET /status` and the answer to a push say it.
//!
//! ```text
//! {"boot_id":"…","epoch":3,"generation":17,"checksum":"…","source":"controller",
//!  "ready":true,"binds":[{"id":"tcp:10.240.0.1:80","ok":true},{"id":"…","ok":false,"errno":98}]}
//! ```

use super::identity::{Checksum, Identity, Source};
use crate::limits::MAX_CONFIG_BINDS;
use crate::resource::document::Value;
use crate::stdx::{Short, Table};
use crate::wire::json::JsonWriter;

/// How one bind is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindReport {
    /// [`super::codec::bind_name`].
    pub id: Short<64>,
    /// 0: bound; else the errno of bind(2) or listen(2).
    pub errno: u32,
}

/// What a router serves.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Random at each start of the router process; tells a restart.
    pub boot_id: u64,
    /// What it serves.
    pub identity: Identity,
    /// Where that came from.
    pub source: Source,
    /// Whether all workers serve it.
    pub ready: bool,
    /// How each of its binds is.
    pub binds: Table<BindReport, { MAX_CONFIG_BINDS as usize }>,
}

impl Report {
    /// Writes the report.
    pub fn write(&self, json: &mut JsonWriter<'_>) {
        json.begin_object().key("boot_id").format(format_args!("{:016x}", self.boot_id));
        json.key("epoch").number(self.identity.epoch);
        json.key("generation").number(self.identity.generation);
        json.key("checksum").format(format_args!("{}", self.identity.checksum));
        json.member("source", self.source.name()).key("ready").bool(self.ready);
        json.key("binds").begin_array();
        for bind in self.binds.as_slice() {
            json.begin_object().member("id", bind.id.as_str()).key("ok").bool(bind.errno == 0);
            if bind.errno != 0 {
                json.key("errno").number(bind.errno);
            }
            json.end_object();
        }
        json.end_array().end_object();
    }

    /// Reads a report; None when it is none.
    pub fn read(value: Value<'_>) -> Option<Report> {
        let number = |name| value.get(name).and_then(Value::int).map(|n| n as u64);
        let mut report = Report {
            boot_id: u64::from_str_radix(value.text("boot_id"), 16).ok()?,
            identity: Identity {
                epoch: number("epoch")?,
                generation: number("generation")?,
                checksum: Checksum::parse(value.text("checksum"))?,
            },
            source: Source::parse(value.text("source"))?,
            ready: value.get("ready").and_then(Value::bool)?,
            binds: Table::new(),
        };
        for bind in value.get("binds").iter().flat_map(|b| b.items()) {
            let ok = bind.get("ok").and_then(Value::bool)?;
            let errno = bind.get("errno").and_then(Value::int).unwrap_or(i64::from(!ok));
            let id = Short::truncated(format_args!("{}", bind.text("id")));
            report.binds.push(BindReport { id, errno: u32::try_from(errno).ok()? }).ok()?;
        }
        Some(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::document::Document;
    use crate::shell::{json, place::boxed_zeroed};

    #[test]
    fn what_goes_in_comes_out() {
        let mut report = Report { boot_id: 7, ready: true, ..Report::default() };
        report.identity = Identity { epoch: 1, generation: 2, checksum: Checksum([3; 32]) };
        report.source = Source::File;
        let id = Short::new("tcp:[::]:80").unwrap();
        report.binds.push(BindReport { id, errno: 98 }).unwrap();
        let mut buffer = [0; 1024];
        let mut out = JsonWriter::new(&mut buffer);
        report.write(&mut out);
        let mut document = boxed_zeroed::<Document>();
        json::parse(out.finish().unwrap().as_bytes(), &mut document).unwrap();
        let read = Report::read(document.root()).unwrap();
        assert_eq!((read.boot_id, read.identity, read.source), (7, report.identity, Source::File));
        assert_eq!(read.binds.as_slice(), report.binds.as_slice());
    }
}
