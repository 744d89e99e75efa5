//! Memory of the process: taken at start, then sealed.
//!
//! In: [`Allocator`] as the binary's global allocator; [`seal`] once, when all is built and all
//! threads wait. Out: after the seal an allocation outside a [`scope`] aborts, in release too, with
//! a line on descriptor 2. Code that allocates (TLS, JSON, YAML) works in a scope: its allocations
//! go to a [`SlotPool`]'s slot of fixed size, then to the thread's reserve. No call reaches libc's
//! malloc or free any more: what was allocated before and is freed after stays where it is.
//!
//! docs/MEMORY.md says what we claim and how each claim is tested.

mod allocator;
pub mod cgroup;
pub mod heap;
pub mod image;
pub mod pool;
pub mod region;
pub mod report;
pub mod scope;
pub mod slot;

pub use allocator::{Allocator, Mode, Statistics, is_sealed, seal, statistics};
pub use pool::{NotEmpty, SlotHandle, SlotPool, make_reserve, reserve_bytes, reserve_peak_bytes};
pub use region::prepare_process;
pub use report::install_panic_hook;
pub use slot::Slot;
