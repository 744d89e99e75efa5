//! The only reader of clocks. Out: both clocks as the machines take them.

use crate::stdx::{Duration, Instant, Now, Wall};

/// Reads the monotonic and the wall clock (two vDSO calls, no system call).
pub fn now() -> Now {
    let mono = read(libc::CLOCK_MONOTONIC);
    let wall = read(libc::CLOCK_REALTIME);
    Now {
        mono: Instant(mono.tv_sec as u64 * 1_000_000_000 + mono.tv_nsec as u64),
        // A clock before 1970 is not set; 0 is as implausible.
        wall: Wall(u64::try_from(wall.tv_sec).unwrap_or(0)),
    }
}

/// The CPU time of all threads of this process so far.
pub fn process_cpu() -> Duration {
    let time = read(libc::CLOCK_PROCESS_CPUTIME_ID);
    Duration(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec; these clocks exist on every Linux.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert!(result == 0, "clock_gettime");
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_rises_with_work() {
        let begin = process_cpu();
        while process_cpu().0 < begin.0 + 1_000_000 {
            core::hint::spin_loop();
        }
    }

    #[test]
    fn monotonic_does_not_go_back_and_wall_is_in_this_century() {
        let (a, b) = (now(), now());
        assert!(b.mono >= a.mono && a.mono.0 > 0);
        assert!(a.wall.0 > 1_700_000_000 && a.wall.0 < 4_000_000_000);
    }
}
