//! The seal, on a real process: each case runs in a process of its own with the allocator
//! installed, because most of them must die.
//!
//! In: `cargo test --test seal [-- NAME]`. This file starts itself with `--case NAME` and looks at
//! how that ended and what it wrote to descriptor 2.

#[path = "seal/cases.rs"]
mod cases;
#[path = "support/libc_malloc.rs"]
mod libc_malloc;

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, Output};

#[global_allocator]
static ALLOCATOR: serval::shell::memory::Allocator = serval::shell::memory::Allocator;

/// How a case must end.
pub enum End {
    /// Exit code 0; descriptor 2 holds the text.
    Lives(&'static str),
    /// Another exit code.
    Exits(i32),
    /// SIGABRT; descriptor 2 holds the text.
    Dies(&'static str),
}

/// A case: name, environment to set, how it must end, what it does.
pub struct Case {
    pub name: &'static str,
    pub environment: Option<(&'static str, &'static str)>,
    pub end: End,
    pub run: fn(),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &arguments[..]
        && flag == "--case"
    {
        serval::shell::memory::install_panic_hook();
        // A case that hangs ends by SIGALRM.
        // SAFETY: a plain call.
        unsafe { libc::alarm(60) };
        let case = cases::ALL.iter().find(|case| case.name == name).expect("a case");
        (case.run)();
        return ExitCode::SUCCESS;
    }
    let wanted = |case: &&Case| {
        let mut filters = arguments.iter().filter(|a| !a.starts_with("--")).peekable();
        filters.peek().is_none() || filters.any(|filter| case.name.contains(filter.as_str()))
    };
    let mut failed = 0;
    for case in cases::ALL.iter().filter(wanted) {
        let result = run(case);
        failed += u32::from(result.is_err());
        let result = result.err().unwrap_or_else(|| "ok".into());
        println!("test {} ... {result}", case.name);
    }
    let _ = std::io::stdout().flush();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(case: &Case) -> Result<(), String> {
    let mut command = Command::new(std::env::current_exe().expect("a name"));
    command.args(["--case", case.name]).envs(case.environment);
    let Output { status, stdout, stderr } = command.output().expect("this test starts itself");
    let errors = String::from_utf8_lossy(&stderr);
    let (ended, text) = match case.end {
        End::Lives(text) => (status.code() == Some(0), text),
        End::Exits(code) => (status.code() == Some(code), ""),
        End::Dies(text) => (status.signal() == Some(libc::SIGABRT), text),
    };
    if ended && errors.contains(text) {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&stdout);
    Err(format!("FAILED: {status}, wanted {text:?}\n--- 1\n{output}--- 2\n{errors}---"))
}
