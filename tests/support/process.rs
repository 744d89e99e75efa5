//! The real binary as a child process, and its log.
//!
//! In: a command line. Out: whether the log says something, the exit code. It ends with the test.

#![allow(dead_code, reason = "each test binary needs some of it")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

/// The binary under test.
pub const SERVAL: &str = env!("CARGO_BIN_EXE_serval");

/// A running `serval`.
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts it; standard error is its log.
    pub fn start(arguments: &[&str]) -> Process {
        let mut child =
            Command::new(SERVAL).args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let (log, lines) = (Arc::new(Mutex::new(Vec::new())), child.stderr.take().unwrap());
        let all = Arc::clone(&log);
        spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                all.lock().unwrap().push(line);
            }
        });
        Process { child, log }
    }

    /// That it has not ended.
    pub fn runs(&mut self) -> bool {
        let ended = self.child.try_wait().unwrap();
        assert_eq!(ended, None, "{:?}", self.log);
        true
    }

    /// Whether a line of its log has this part.
    pub fn logs(&self, part: &str) -> bool {
        self.log.lock().unwrap().iter().any(|line| line.contains(part))
    }

    /// SIGTERM, and its exit code.
    pub fn end(mut self) -> Option<i32> {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: a plain call; the process is a child that nobody has waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
