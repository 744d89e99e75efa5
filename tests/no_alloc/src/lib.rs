//! Links the core without an allocator; see Cargo.toml beside it.
//!
//! In: the core's entry points, by name, so that they are compiled and kept. Out: a library that
//! exists. It is never run.
#![no_std]

use core::hint::black_box;
use core::panic::PanicInfo;
use serval::config::Snapshot;
use serval::config::client::Client;
use serval::config::codec::{self, Builder, Encoder};
use serval::config::report::Report;
use serval::config::storage::ConfigStorage;
use serval::controller::Controller;
use serval::kube::exchange::Exchange;
use serval::kube::lease::LeaseEpoch;
use serval::kube::status_patch::StatusPatch;
use serval::kube::watch::Watch;
use serval::limits::{Capacities, MAX_RECORD_SIZE_BYTES};
use serval::log_ring::{LogReader, LogRing, LogWriter};
use serval::plan::{self, Plan, Role};
use serval::reconcile::status::Sink;
use serval::resource::document::Document;
use serval::resource::{Kind, Meta, Stores};
use serval::router::route_table::RouteTable;
use serval::stdx::Now;
use serval::wire::http1::{RequestHead, ResponseHead};
use serval::{admin, reconcile};

#[cfg(feature = "cheat")]
extern crate alloc;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

macro_rules! keep {
    ($($path:expr,)*) => {
        $(black_box($path as *const ());)*
    };
}

/// Takes statuses: the generic parts are compiled with it.
struct Statuses(u64);

impl Sink for Statuses {
    fn status(&mut self, _: Kind, _: &Meta, _: u64, wanted: u64, body: &str) {
        self.0 ^= wanted ^ body.len() as u64;
    }
}

/// Takes text.
struct Text(usize);

impl core::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

type Pusher = Client<{ MAX_RECORD_SIZE_BYTES as usize }>;

/// Keeps the entry points of every part of the core.
#[unsafe(no_mangle)]
pub extern "C" fn serval_entry_points(controller: &mut Controller) -> usize {
    keep! {
        Document::begin, Document::scalar, Document::root,
        Stores::init, Stores::upsert, Stores::remove, Stores::resync_begin, Stores::resync_end,
        reconcile::build,
        Controller::init, Controller::upsert, Controller::report, Controller::tick,
        Snapshot::validate, Snapshot::copy_from, Snapshot::set_caps,
        Encoder::new, Encoder::next_line, codec::checksum, Builder::record, Builder::finish,
        Report::write, Report::read,
        Pusher::begin, Pusher::output, Pusher::received,
        ConfigStorage::set_caps, ConfigStorage::writer, ConfigStorage::reader,
        RouteTable::build, RouteTable::find,
        Watch::start, Watch::input, Watch::poll_output, Watch::tick,
        Exchange::input, Exchange::poll_output, LeaseEpoch::input, StatusPatch::input,
        <admin::Connection>::step, <admin::Connection>::sent,
        RequestHead::parse, ResponseHead::parse,
        LogRing::split, LogWriter::write, LogReader::take_dropped,
    }
    let mut statuses = Statuses(0);
    controller.all_statuses(Now::default(), &mut statuses);
    let mut text = Text(0);
    let plan = Plan::of(black_box(Role::Controller), &Capacities::DEFAULT);
    let printed = plan::print(&plan, &mut text);
    #[cfg(feature = "cheat")]
    black_box(alloc::vec![1u8; 3]);
    text.0 + statuses.0 as usize + usize::from(printed.is_ok())
}
