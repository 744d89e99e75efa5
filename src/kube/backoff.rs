//! When to try again: three ladders, one for silence, one for error answers, one for versions that
//! are too old, all without an end.
//!
//! Silence (nothing listens, nothing answers) is retried within BACKOFF_SILENT_MAX_MS, since
//! recovery must be quick when the server returns; an error answer backs off to
//! BACKOFF_ERROR_MAX_MS, and `Retry-After` is obeyed (shared/kube-client.md, point 9). Who says
//! that a version is too old is well: errors before it do not delay the relist, only more of its
//! kind do.

use crate::limits::{
    BACKOFF_ERROR_FIRST_MS, BACKOFF_ERROR_MAX_MS, BACKOFF_SILENT_FIRST_MS, BACKOFF_SILENT_MAX_MS,
    RETRY_AFTER_MAX_MS,
};
use crate::stdx::{Duration, Prng};

/// How often an attempt failed since the last success.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    silent: u32,
    errors: u32,
    expired: u32,
}

crate::zeroed_struct!(Backoff { silent: u32, errors: u32, expired: u32 });

impl Backoff {
    /// Forgets all failures: something went well.
    pub fn reset(&mut self) {
        *self = Backoff::default();
    }

    /// Wait after nobody answered.
    pub fn silence(&mut self, prng: &mut Prng) -> Duration {
        let wait = ladder(self.silent, BACKOFF_SILENT_FIRST_MS, BACKOFF_SILENT_MAX_MS, prng);
        self.silent = self.silent.saturating_add(1);
        wait
    }

    /// Wait after an error answer; `retry_after_ms` is what the server asked for, 0 if it did not.
    pub fn error(&mut self, retry_after_ms: u64, prng: &mut Prng) -> Duration {
        let wait = ladder(self.errors, BACKOFF_ERROR_FIRST_MS, BACKOFF_ERROR_MAX_MS, prng);
        self.errors = self.errors.saturating_add(1);
        // An answer, so somebody is there.
        self.silent = 0;
        wait.max(Duration::from_millis(retry_after_ms.min(u64::from(RETRY_AFTER_MAX_MS))))
    }

    /// Wait before a relist, since a version was too old.
    pub fn expired(&mut self, prng: &mut Prng) -> Duration {
        let wait = ladder(self.expired, BACKOFF_ERROR_FIRST_MS, BACKOFF_ERROR_MAX_MS, prng);
        self.expired = self.expired.saturating_add(1);
        self.silent = 0;
        wait
    }
}

/// Step `n` of a doubling ladder, with jitter below the step: [half, whole).
fn ladder(n: u32, first_ms: u32, max_ms: u32, prng: &mut Prng) -> Duration {
    let step = u64::from(first_ms) << n.min(20);
    let nanos = step.min(u64::from(max_ms)) * 1_000_000;
    Duration(nanos / 2 + prng.below(nanos / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_its_cap_and_never_ends() {
        let (mut backoff, mut prng) = (Backoff::default(), Prng::new(1));
        let first = backoff.silence(&mut prng).as_millis();
        assert!((50..100).contains(&first), "{first}");
        for _ in 0..100 {
            assert!(backoff.silence(&mut prng).as_millis() < u64::from(BACKOFF_SILENT_MAX_MS));
        }
        assert!(backoff.silence(&mut prng).as_millis() >= u64::from(BACKOFF_SILENT_MAX_MS) / 2);
        for _ in 0..100 {
            assert!(backoff.error(0, &mut prng).as_millis() < u64::from(BACKOFF_ERROR_MAX_MS));
        }
        assert!(backoff.error(0, &mut prng).as_millis() >= u64::from(BACKOFF_ERROR_MAX_MS) / 2);
        let again = backoff.silence(&mut prng).as_millis();
        assert!(again < 100, "an answer ends the silence: {again}");
    }

    #[test]
    fn a_version_that_is_too_old_does_not_wait_for_errors_before_it() {
        let (mut backoff, mut prng) = (Backoff::default(), Prng::new(1));
        for _ in 0..100 {
            backoff.error(0, &mut prng);
        }
        let first = backoff.expired(&mut prng).as_millis();
        assert!(first < u64::from(BACKOFF_ERROR_FIRST_MS), "{first}");
        for _ in 0..100 {
            backoff.expired(&mut prng);
        }
        let most = backoff.expired(&mut prng).as_millis();
        assert!((u64::from(BACKOFF_ERROR_MAX_MS) / 2..).contains(&most), "no busy loop: {most}");
    }

    #[test]
    fn retry_after_is_obeyed_up_to_a_limit() {
        let (mut backoff, mut prng) = (Backoff::default(), Prng::new(1));
        assert_eq!(backoff.error(5_000, &mut prng).as_millis(), 5_000);
        let longest = backoff.error(u64::MAX, &mut prng).as_millis();
        assert_eq!(longest, u64::from(RETRY_AFTER_MAX_MS));
    }
}
