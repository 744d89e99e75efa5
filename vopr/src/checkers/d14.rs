//! D14: a step of the wall clock changes nothing but stamps: the same seed whose steps change no
//! clock makes the same trace, blind to the bytes that stamps are in.

use crate::seed::Options;
use crate::sim::{self, Summary};
use crate::trace::Violation;

/// Runs a seed's twin; how it is another run.
pub fn twin(options: Options, run: &Summary) -> (Summary, Option<Violation>) {
    let twin = sim::run(Options { still_clocks: true, ..options }, false);
    let text = || {
        let seed = options.seed;
        format!(
            "with wall clocks that stand still it is another run ({} events, not {}): compare \
             --seed {seed} --verbose with the same and --without clock_effects",
            twin.events, run.events
        )
    };
    let differs = twin.timeless != run.timeless;
    let violation = differs.then(|| Violation { checker: "D14", text: text() });
    (twin, violation)
}
