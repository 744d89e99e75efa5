//! Which backends may answer a request.
//!
//! In: generations as they are begun and confirmed, requests as they are sent and answered. Out: a
//! verdict on each answer. A request belongs to the generation that was confirmed last before it
//! was sent; the one after may answer it too, if it was begun before the answer was whole, and no
//! other: the next is not begun before all requests of the last but one are answered.

use std::sync::atomic::{AtomicU64, Ordering};

/// The backends that may answer.
#[derive(Debug)]
pub enum Expected {
    /// Any of these, all the time.
    Any(Vec<String>),
    /// Generation g is answered by the backend at g modulo their number.
    Rotating(Rotation),
}

/// Generations, one backend each.
#[derive(Debug)]
pub struct Rotation {
    backends: Vec<String>,
    confirmed: AtomicU64,
    begun: AtomicU64,
    /// Unanswered requests of the generation confirmed last, and of the one before: by parity.
    unanswered: [AtomicU64; 2],
}

impl Rotation {
    /// Generation 0 is served.
    pub fn new(backends: Vec<String>) -> Rotation {
        assert!(backends.len() > 2, "else an answer that is two generations late would pass");
        let zero = || AtomicU64::new(0);
        Rotation { backends, confirmed: zero(), begun: zero(), unanswered: [zero(), zero()] }
    }

    /// The backend of a generation.
    pub fn backend(&self, generation: u64) -> &str {
        &self.backends[(generation % self.backends.len() as u64) as usize]
    }

    /// Waits until all requests of earlier generations are answered; from then on the next
    /// generation, which is returned, may be served.
    pub fn begin(&self) -> u64 {
        let confirmed = self.confirmed();
        while self.of(confirmed + 1).load(Ordering::SeqCst) > 0 {
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        let generation = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        assert_eq!(confirmed + 1, generation, "one at a time");
        generation
    }

    /// The one before is not served any more.
    pub fn confirm(&self) {
        self.confirmed.fetch_add(1, Ordering::SeqCst);
    }

    /// The newest generation that was confirmed.
    pub fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::SeqCst)
    }

    fn of(&self, generation: u64) -> &AtomicU64 {
        &self.unanswered[(generation % 2) as usize]
    }

    /// Counts a request into the generation confirmed last.
    fn send(&self) -> u64 {
        loop {
            let generation = self.confirmed();
            self.of(generation).fetch_add(1, Ordering::SeqCst);
            // Else `begin` may have looked before it was counted.
            if self.confirmed() == generation {
                return generation;
            }
            self.of(generation).fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn allows(&self, backend: &str, sent: u64) -> bool {
        let begun = self.begun.load(Ordering::SeqCst);
        assert!(begun - sent < 2, "a request meets two generations at most");
        (sent..=begun).any(|generation| self.backend(generation) == backend)
    }
}

impl Expected {
    /// Just before a request is sent; to be kept until it is answered or has failed.
    pub fn send(&self) -> Sent<'_> {
        let generation = match self {
            Expected::Any(_) => 0,
            Expected::Rotating(rotation) => rotation.send(),
        };
        Sent { expected: self, generation }
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Sent<'e> {
    expected: &'e Expected,
    generation: u64,
}

impl Sent<'_> {
    /// Once the answer is whole: whether this backend may have given it.
    pub fn allows(&self, backend: &str) -> bool {
        match self.expected {
            Expected::Any(backends) => backends.iter().any(|b| b == backend),
            Expected::Rotating(rotation) => rotation.allows(backend, self.generation),
        }
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if let Expected::Rotating(rotation) = self.expected {
            rotation.of(self.generation).fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    fn rotating() -> Expected {
        Expected::Rotating(Rotation::new(["a", "b", "c"].map(String::from).to_vec()))
    }

    fn rotation(expected: &Expected) -> &Rotation {
        let Expected::Rotating(rotation) = expected else { unreachable!("it rotates") };
        rotation
    }

    #[test]
    fn an_answer_is_of_a_generation_around_its_request() {
        let expected = rotating();
        let rotation = rotation(&expected);
        let sent = expected.send();
        assert!(sent.allows("a") && !sent.allows("b"));
        assert_eq!(rotation.begin(), 1);
        assert!(sent.allows("a") && sent.allows("b") && !sent.allows("c"));
        rotation.confirm();
        // Sent before, answered after: either. Sent after: the new one only.
        assert!(sent.allows("a"));
        let later = expected.send();
        assert!(later.allows("b") && !later.allows("a"));
        assert!(!Expected::Any(vec!["a".into()]).send().allows("b"));
    }

    #[test]
    fn the_next_but_one_waits_for_the_answer() {
        let expected = rotating();
        let rotation = rotation(&expected);
        let sent = expected.send();
        rotation.begin();
        rotation.confirm();
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || tell.send(rotation.begin()));
            let early = told.recv_timeout(Duration::from_millis(50));
            drop(sent);
            assert_eq!((early.is_err(), told.recv()), (true, Ok(2)));
        });
        assert_eq!(rotation.unanswered.each_ref().map(|n| n.load(Ordering::SeqCst)), [0, 0]);
    }
}
