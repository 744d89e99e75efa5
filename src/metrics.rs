//! Prometheus' text format (0.0.4) into a fixed buffer. Labels come from configuration ids only,
//! never from requests, so that their number is bounded.

use crate::stdx::text::Truncating;
use core::fmt::Write as _;

/// Writes metrics.
#[derive(Debug)]
pub struct Metrics<'a> {
    out: Truncating<'a>,
}

impl<'a> Metrics<'a> {
    /// The Content-Type.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4";

    /// Writes from the start of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Metrics { out: Truncating::new(out) }
    }

    /// Begins a family of samples.
    pub fn family(&mut self, name: &str, help: &str, kind: &str) {
        // Truncating never fails; `finish` tells.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A sample with one label.
    pub fn sample(&mut self, name: &str, label: &str, value: &str, number: u64) {
        let _ = writeln!(self.out, "{name}{{{label}=\"{value}\"}} {number}");
    }

    /// A family of one gauge.
    pub fn gauge(&mut self, name: &str, help: &str, number: u64) {
        self.family(name, help, "gauge");
        let _ = writeln!(self.out, "{name} {number}");
    }

    /// A family of one counter.
    pub fn counter(&mut self, name: &str, help: &str, number: u64) {
        self.family(name, help, "counter");
        let _ = writeln!(self.out, "{name} {number}");
    }

    /// The length, unless something did not fit.
    pub fn finish(self) -> Option<usize> {
        if self.out.truncated { None } else { Some(self.out.finish().len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_samples() {
        let mut buffer = [0; 200];
        let mut metrics = Metrics::new(&mut buffer);
        metrics.counter("a_total", "An a", 3);
        metrics.family("b", "Bs", "gauge");
        metrics.sample("b", "kind", "x", 1);
        let len = metrics.finish().unwrap();
        let text = core::str::from_utf8(&buffer[..len]).unwrap();
        let expected = "# HELP a_total An a\n# TYPE a_total counter\na_total 3\n\
            # HELP b Bs\n# TYPE b gauge\nb{kind=\"x\"} 1\n";
        assert_eq!(text, expected);
        assert_eq!(Metrics::new(&mut [0; 4]).finish(), Some(0));
        let mut small = [0; 4];
        let mut metrics = Metrics::new(&mut small);
        metrics.gauge("a", "b", 1);
        assert_eq!(metrics.finish(), None);
    }
}
