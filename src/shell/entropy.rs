//! The kernel's random bytes: seeds of the machines' generators, boot ids. Out: bytes.

/// Fills `bytes`; waits for the kernel's pool only when it has not been seeded since boot.
pub fn fill(bytes: &mut [u8]) {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        // SAFETY: the pointer and length are those of a slice we may write.
        let n = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(n) {
            Ok(n) => done += n,
            // A signal came in between; getrandom has no other failure with these arguments.
            Err(_) => assert!(super::files::errno() == libc::EINTR, "getrandom"),
        }
    }
}

/// A seed for [`crate::stdx::Prng`].
pub fn seed() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Names one run of a process in reports; never 0.
pub fn boot_id() -> u64 {
    seed().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_are_different_and_every_byte_is_written() {
        assert_ne!(seed(), seed());
        let mut ored = [0u8; 300];
        for _ in 0..8 {
            let mut bytes = [0; 300];
            fill(&mut bytes);
            ored.iter_mut().zip(bytes).for_each(|(o, b)| *o |= b);
        }
        // A byte is 0 eight times with probability 2^-64.
        assert!(ored.iter().all(|&b| b != 0));
    }
}
