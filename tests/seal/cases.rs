//! The cases of tests/seal.rs.

use super::End::{Dies, Exits, Lives};
use super::{Case, libc_malloc};
use serval::limits::THREAD_STACK_BYTES;
use serval::shell::memory::{self, Mode, SlotPool, region, scope, seal, statistics};
use serval::shell::threads::{Crew, leave};
use serval::shell::{clock, entropy, files, json, log, place, signals, yaml};
use serval::stdx::{Duration, Prng};
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

const fn case(name: &'static str, end: super::End, run: fn()) -> Case {
    Case { name, environment: None, end, run }
}

pub const ALL: &[Case] = &[
    case(
        "allocation_after_the_seal",
        Dies("allocation of 24 bytes outside a scope, thread "),
        || {
            seal(Mode::Abort);
            black_box(Box::new([1u64; 3]));
        },
    ),
    case("thread_is_named", Dies("bytes outside a scope, thread worker-7, from 0x"), || {
        in_a_thread("worker-7", || drop(black_box(Box::new(1u8))));
    }),
    case("growth_of_what_was_there_before", Dies("allocation of 2000 bytes outside"), || {
        let mut bytes = vec![0u8; 1000];
        seal(Mode::Abort);
        bytes.reserve_exact(1000);
        black_box(&bytes);
    }),
    case("zeroed_too", Dies("allocation of 4096 bytes outside"), || {
        seal(Mode::Abort);
        black_box(vec![0u8; 4096]);
    }),
    case("growth_of_a_slots_block_outside", Dies("allocation of 200 bytes outside"), || {
        let slot = slot(32 << 10);
        let (mut bytes, _) = scope::run(slot, || vec![0u8; 100]);
        seal(Mode::Abort);
        bytes.reserve_exact(100);
    }),
    case("sealed_twice", Dies("sealed once"), || {
        seal(Mode::Abort);
        seal(Mode::Abort);
    }),
    case("panic_message", Dies("panic at tests/seal/cases.rs:"), panics),
    case("panic_message_is_formatted", Dies(": seven is 7, thread worker, from 0x"), panics),
    case("freed_twice", Dies("freed twice or overwritten"), freed_twice),
    case("two_threads_in_one_slot", Dies("two threads inside one slot"), two_threads_in_one_slot),
    case("no_reserve", Dies("its thread has no reserve, bytes=5000"), || {
        scope::run(slot(4096), || black_box(vec![0u8; 5000]));
    }),
    case("reserve_full", Dies("and the thread's reserve are full, bytes=70000"), || {
        memory::make_reserve(64 << 10);
        scope::run(slot(4096), || black_box(vec![0u8; 70_000]));
    }),
    case("strict_pool", Dies("slot not empty bytes=112 blocks=1"), || {
        let mut pool = SlotPool::new(1, 4096, 4096);
        pool.set_strict(true);
        let handle = pool.take().unwrap();
        let (kept, _) = scope::run(pool.slot(handle), || Box::new([0u8; 100]));
        let _ = pool.give_back(handle);
        drop(kept);
    }),
    Case {
        name: "counting_goes_on_and_reports",
        environment: Some(("SERVAL_SEAL", "count")),
        end: Lives("sealed: allocation of 24 bytes outside a scope (counted), thread"),
        run: counting,
    },
    case("scopes_after_the_seal", Lives(""), scopes_after_the_seal),
    case("overflow_and_the_reserve", Lives(""), overflow_and_the_reserve),
    case("free_from_anywhere", Lives(""), free_from_anywhere),
    case("frees_of_earlier_memory_leak", Lives(""), frees_of_earlier_memory_leak),
    case("realloc_moves_into_the_scope", Lives(""), realloc_moves_into_the_scope),
    case("parsers_in_their_slots", Lives(""), parsers_in_their_slots),
    case("shell_without_malloc", Lives("INFO test: sealed n=99\n"), shell_without_malloc),
    case("no_page_faults", Lives(""), no_page_faults),
    case("stacks_are_resident", Lives(""), stacks_are_resident),
    case("first_sigterm_is_told", Lives(""), || assert!(terminated(1))),
    case("second_sigterm_leaves", Exits(128 + 15), || {
        terminated(2);
    }),
    case("yaml_at_its_worst", Lives(""), yaml_at_its_worst),
    case("sighup_is_told_once", Lives(""), sighup),
];

/// A slot for good.
fn slot(bytes: usize) -> &'static memory::Slot {
    let mut pool = SlotPool::new(1, bytes, bytes as u32);
    let handle = pool.take().unwrap();
    pool.slot(handle)
}

/// Runs `body` after the seal in a thread of the crew, and leaves when it is done.
fn in_a_thread(name: &'static str, body: fn()) {
    let mut crew = Crew::new();
    crew.spawn(name, move |gate| {
        gate.wait();
        body();
    });
    let running = crew.start(2, || seal(Mode::Abort));
    assert!(running.wait_finished(clock::now().mono + Duration::from_secs(50)));
    leave(0);
}

fn panics() {
    in_a_thread("worker", || panic!("seven is {}", black_box(7)));
}

fn freed_twice() {
    let slot = slot(32 << 10);
    scope::run(slot, || {
        let layout = std::alloc::Layout::new::<[u64; 8]>();
        // SAFETY: none: that is the point.
        unsafe {
            let block = black_box(std::alloc::alloc(layout));
            std::alloc::dealloc(block, layout);
            std::alloc::dealloc(black_box(block), layout);
        }
    });
}

fn two_threads_in_one_slot() {
    let slot = slot(32 << 10);
    let guard = scope::enter(slot);
    // A C thread's start would allocate in our scope: leave it for that long.
    let other = slot;
    let outside = scope::enter(self::slot(64 << 10));
    let thread = std::thread::Builder::new().spawn(move || drop(scope::enter(other)));
    drop(thread.unwrap().join());
    drop(outside);
    drop(guard);
}

fn counting() {
    let mut kept = Vec::new();
    seal(Mode::from_environment());
    for _ in 0..100 {
        kept.push(Box::new([1u64; 3]));
    }
    drop(kept);
    let counted = statistics();
    // 100 boxes, and the vector that grew: 4, 8, … 128.
    assert_eq!((counted.escapes, counted.leaks), (106, 0));
    assert!(counted.escaped_bytes > 2400);
}

fn scopes_after_the_seal() {
    let (outer, inner) = (slot(32 << 10), slot(32 << 10));
    seal(Mode::Abort);
    let calls = libc_malloc::calls();
    for round in 0..1000u64 {
        let ((), left) = scope::run(outer, || {
            let mut numbers: Vec<u64> = (0..100).map(|n| n * round).collect();
            let (text, left) = scope::run(inner, || format!("{round} {numbers:?}"));
            assert!(text.len() > 200 && !left.must_close() && !inner.is_empty());
            numbers.extend(0..100);
            // Freed outside its scope, by the same thread.
            drop(text);
            assert!(inner.is_empty());
            assert!(outer.usage().bytes >= 1600);
        });
        assert!(outer.is_empty() && !left.must_close());
    }
    assert_eq!(libc_malloc::calls(), calls);
}

fn overflow_and_the_reserve() {
    memory::make_reserve(64 << 10);
    let (slot, other) = (slot(4096), self::slot(4096));
    seal(Mode::Abort);
    let (mut kept, left) = scope::run(slot, || vec![1u8; 10_000]);
    assert!(left.must_close() && left.reserve_bytes >= 10_000);
    assert_eq!((memory::reserve_bytes(), slot.overflows()), (left.reserve_bytes, 1));
    // Another scope of this thread did not leave that.
    assert!(!scope::run(other, || ()).1.must_close());
    // Shrunk inside the scope, it comes home to the slot, and its bytes with it.
    let ((), left) = scope::run(slot, || {
        kept.truncate(100);
        kept.shrink_to_fit();
    });
    assert!(!left.must_close() && memory::reserve_bytes() == 0 && !slot.is_empty());
    assert!(kept.iter().all(|&b| b == 1));
    // A spike inside a call is gone when it returns.
    let ((), left) = scope::run(slot, || drop(black_box(vec![0u8; 50_000])));
    assert!(!left.must_close() && memory::reserve_peak_bytes() >= 50_000);
    scope::run(slot, || drop(kept));
    assert!(slot.is_empty());
}

fn free_from_anywhere() {
    #[expect(clippy::vec_box, reason = "the boxes are the blocks")]
    static GIVEN: Mutex<Vec<Box<u64>>> = Mutex::new(Vec::new());
    const GIVEN_IN_ALL: u64 = 20_000;
    GIVEN.lock().unwrap().reserve(64);
    let slot = slot(16 << 10);
    let mut crew = Crew::new();
    crew.spawn("takes", move |gate| {
        gate.wait();
        let calls = libc_malloc::calls();
        for n in 0..GIVEN_IN_ALL {
            while GIVEN.lock().unwrap().len() == 64 {
                std::thread::yield_now();
            }
            let (block, _) = scope::run(slot, || Box::new(n));
            GIVEN.lock().unwrap().push(block);
        }
        while !slot.is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(libc_malloc::calls(), calls);
    });
    crew.spawn("frees", |gate| {
        gate.wait();
        let mut freed = 0;
        while freed < GIVEN_IN_ALL {
            let block = GIVEN.lock().unwrap().pop();
            freed += u64::from(block.is_some());
        }
    });
    let running = crew.start(2, || seal(Mode::Abort));
    assert!(running.wait_finished(clock::now().mono + Duration::from_secs(50)));
    leave(0);
}

fn frees_of_earlier_memory_leak() {
    let kept: Vec<Box<u64>> = (0..100).map(Box::new).collect();
    let slot = slot(4096);
    assert!(statistics().start_bytes >= 100 * 16 && statistics().start_allocations > 100);
    seal(Mode::Abort);
    let calls = libc_malloc::calls();
    scope::run(slot, || drop(kept));
    assert_eq!(libc_malloc::calls(), calls);
    assert_eq!((statistics().leaks, statistics().leaked_bytes), (101, 100 * 16));
}

fn realloc_moves_into_the_scope() {
    let mut bytes = vec![7u8; 64];
    let slot = slot(16 << 10);
    let other = self::slot(16 << 10);
    seal(Mode::Abort);
    let calls = libc_malloc::calls();
    scope::run(slot, || bytes.resize(1000, 8));
    assert_eq!(slot.usage().blocks, 1);
    scope::run(other, || bytes.resize(2000, 9));
    assert!(slot.is_empty() && other.usage().blocks == 1);
    let expected = |at| [7, 8, 9][usize::from(at >= 64) + usize::from(at >= 1000)];
    assert!(bytes.iter().enumerate().all(|(at, &b)| b == expected(at)));
    drop(bytes);
    assert!(other.is_empty() && libc_malloc::calls() == calls);
}

/// JSON and YAML as the decoders use them: nothing left, within the sizes of limits.toml.
fn parsers_in_their_slots() {
    use serval::limits::{JSON_SLOT_BYTES, SLOT_RESERVE_BYTES, YAML_SLOT_BYTES};
    let mut document = place::boxed_zeroed::<serval::resource::document::Document>();
    memory::make_reserve(SLOT_RESERVE_BYTES as usize);
    let (json_slot, yaml_slot) = (slot(JSON_SLOT_BYTES as usize), slot(YAML_SLOT_BYTES as usize));
    let texts = [
        r#"{"metadata":{"name":"a\n\u00e4\"b"},"spec":{"x":[1,2.5,true,null,{"y":"z"}]}}"#.into(),
        format!(r#"{{"annotations":{{"last":"{}"}}}}"#, r#"\"\\\n"#.repeat(20_000)),
        format!(r#"{{"{}":1}}"#, "\\n".repeat(20_000)),
        "[".repeat(40),
        "{\"a\":".into(),
        "\"\u{7f}".into(),
    ];
    let manifest = "apiVersion: v1\nkind: Service\nspec:\n  ports:\n  - {port: 80, name: \"h\"}\n";
    let manifests = format!("{manifest}---\n").repeat(100) + "bad: [";
    seal(Mode::Abort);
    let calls = libc_malloc::calls();
    for text in &texts {
        let (result, left) = scope::run(json_slot, || json::parse(text.as_bytes(), &mut document));
        assert!(json_slot.is_empty() && !left.must_close(), "{result:?}");
    }
    let (count, left) = scope::run(yaml_slot, || {
        let mut documents = yaml::Documents::new(&manifests);
        (0..).take_while(|_| documents.next_into(&mut document) == Ok(true)).count()
    });
    assert_eq!(count, 100);
    assert!(yaml_slot.is_empty() && !left.must_close());
    assert_eq!(libc_malloc::calls(), calls);
}

/// What the shell does after the seal: clock, entropy, files, folders, log.
fn shell_without_malloc() {
    let folder = std::env::temp_dir().join(format!("serval-seal-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path: &'static [u8] = folder.to_str().unwrap().to_string().leak().as_bytes();
    let mut crew = Crew::new();
    crew.spawn("shell", move |gate| {
        gate.wait();
        let calls = libc_malloc::calls();
        let mut buffer = [0; 100];
        for n in 0..100u8 {
            let folder = files::Folder::open(path).unwrap();
            folder.write(c"state", &[n; 20]).unwrap();
            let mut names = 0;
            folder.list(|_| names += 1).unwrap();
            assert_eq!(names, 1);
            assert!(!folder.read(c"state", &mut buffer).unwrap().is_empty());
            assert!(folder.read(c"missing", &mut buffer).unwrap_err().is_missing());
            serval::log!(Info, "test", "sealed n={n}");
            black_box((entropy::boot_id(), clock::now()));
            if n % 20 == 19 {
                log::flush(5000);
            }
        }
        files::Folder::open(path).unwrap().remove(c"state").unwrap();
        log::flush(5000);
        assert_eq!(libc_malloc::calls(), calls);
    });
    let running = crew.start(2, || seal(Mode::Abort));
    assert!(running.wait_finished(clock::now().mono + Duration::from_secs(50)));
    assert_eq!(statistics().escapes, 0);
    leave(0);
}

fn minor_faults() -> i64 {
    // SAFETY: zero bytes are a rusage; the pointer is to one.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0);
        usage.ru_minflt
    }
}

/// Slots and reserve are resident from the start: their use faults no page in.
fn no_page_faults() {
    region::prepare_process();
    memory::make_reserve(1 << 20);
    let mut pool = SlotPool::new(64, 64 << 10, 56 << 10);
    let mut prng = Prng::new(1);
    seal(Mode::Abort);
    let mut work = |rounds| {
        for _ in 0..rounds {
            let handle = pool.take().unwrap();
            scope::run(pool.slot(handle), || {
                let sizes = [(); 20].map(|()| prng.range(1, 6000) as usize);
                black_box(sizes.map(|size| vec![1u8; size]));
                black_box(vec![1u8; prng.range(1, 900_000) as usize]);
            });
            pool.give_back(handle).unwrap();
        }
    };
    // The first rounds fault in code and this frame.
    work(10);
    let before = minor_faults();
    work(5000);
    let faults = minor_faults() - before;
    assert!(faults <= 16, "{faults} minor faults: 64 KiB at most");
}

/// A thread that uses its stack deeply faults nothing in.
fn stacks_are_resident() {
    #[inline(never)]
    fn deep() -> u8 {
        #[expect(clippy::large_stack_arrays, reason = "its purpose")]
        let mut frame = [1u8; THREAD_STACK_BYTES as usize * 3 / 4];
        black_box(&mut frame)[1000]
    }
    region::prepare_process();
    static FAULTS: AtomicU32 = AtomicU32::new(u32::MAX);
    let mut crew = Crew::new();
    crew.spawn("deep", |gate| {
        gate.wait();
        let before = minor_faults();
        deep();
        FAULTS.store((minor_faults() - before) as u32, Ordering::SeqCst);
    });
    let running = crew.start(2, || seal(Mode::Abort));
    assert!(running.wait_finished(clock::now().mono + Duration::from_secs(50)));
    let faults = FAULTS.load(Ordering::SeqCst);
    assert!(faults <= 8, "{faults} minor faults in 100 pages of stack");
    leave(0);
}

/// Sends itself SIGTERM `times` times; whether it was told.
fn terminated(times: u32) -> bool {
    let signals = signals::Signals::install();
    let mut crew = Crew::new();
    crew.spawn("sender", move |gate| {
        gate.wait();
        for _ in 0..times {
            // SAFETY: a plain call. To the process, as kubelet does.
            unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
            // A signal that is pending already is not queued again: wait until it was taken.
            while signals.take() == signals::Taken::default() {
                std::thread::yield_now();
            }
        }
    });
    let running = crew.start(2, || ());
    signals::listen();
    assert!(running.wait_finished(clock::now().mono + Duration::from_secs(50)));
    true
}

fn sighup() {
    let signals = signals::Signals::install();
    assert_eq!(signals.take(), signals::Taken::default());
    signals::listen();
    // SAFETY: plain calls; the signal is this thread's alone to take.
    unsafe { libc::raise(libc::SIGHUP) };
    let mut poll = libc::pollfd { fd: signals.fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 0) }, 1);
    assert_eq!(signals.take(), signals::Taken { terminate: false, reload: true });
    assert_eq!(signals.take(), signals::Taken::default());
    // SAFETY: one pollfd.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 0) }, 0);
}

/// The worst texts that the reader takes, in a slot of the size it has.
fn yaml_at_its_worst() {
    use serval::limits::{MAX_YAML_DOCUMENT_BYTES, MAX_YAML_FLOW_MARKS, YAML_SLOT_BYTES};
    let (marks, max) = (MAX_YAML_FLOW_MARKS as usize, MAX_YAML_DOCUMENT_BYTES as usize - 8);
    let mut document = place::boxed_zeroed::<serval::resource::document::Document>();
    let slot = slot(YAML_SLOT_BYTES as usize);
    let texts = [
        format!("[{}]", "a,".repeat(marks - 2)),
        format!("[{}]", "a: b,\n ".repeat(marks / 2 - 2)),
        format!("- [{}", ": ".repeat(marks - 2)),
        format!("[{}", "[],".repeat(marks / 3 - 2)),
        "[".repeat(marks),
        "{a: ".repeat(marks / 2),
        "- ".repeat(max / 2),
        "? ".repeat(max / 2),
        "a".repeat(max),
        format!("'{}", "a".repeat(max)),
        format!("\"{}\"", "\\u00e4".repeat(max / 6)),
        format!("a: |\n{}", " x\n".repeat(max / 3)),
        format!("a: >\n{}", " x\n\n".repeat(max / 4)),
        format!("&{}", "a".repeat(max)),
        format!("!<{}", "a".repeat(max)),
        (0..max / 20).map(|n| format!("%TAG !{n:06}! tag:x\n")).collect(),
        (0..max / 12).map(|n| format!("- &a{n:06} b\n")).collect(),
        (0..300).map(|n| " ".repeat(n) + "a:\n").collect(),
        "\n".repeat(max),
        "#".repeat(max),
    ];
    seal(Mode::Abort);
    for (number, text) in texts.iter().enumerate() {
        let (parsed, left) = scope::run(slot, || {
            let mut documents = yaml::Documents::new(text);
            (0..).find_map(|n| match documents.next_into(&mut document) {
                Ok(true) => None,
                other => Some((n, other)),
            })
        });
        let refused =
            matches!(parsed, Some((_, Err(error))) if error.what == yaml::YamlFault::Flow);
        assert!(!refused, "{number} was not parsed");
        assert!(slot.is_empty() && !left.must_close(), "{number}: {parsed:?}");
        let peak = slot.usage().peak_bytes;
        eprintln!("text {number}: {} bytes, peak so far {peak}, {parsed:?}", text.len());
    }
}
