//! Backends that say their own name and echo the stamp; any number of them in one process.
//!
//! In: connections, one thread each. Out: answers as `stamp::answer` says; at `/seen/RUN` how many
//! GETs and POSTs of a run came, each attempt counted, to be asked directly.

use crate::http::{Broken, Wire, message};
use crate::{slow, stamp};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// GETs and POSTs of each run.
type Seen = Arc<Mutex<HashMap<String, [u64; 2]>>>;

/// Serves for ever, one backend for each (address, name).
pub fn serve(listens: Vec<(SocketAddr, String)>) -> Result<(), String> {
    let mut threads = Vec::new();
    for (address, name) in listens {
        let listener = TcpListener::bind(address).map_err(|e| format!("{address}: {e}"))?;
        threads.push(listen(listener, name));
    }
    println!("ready");
    threads.into_iter().for_each(|thread| thread.join().expect("listens for ever"));
    Ok(())
}

/// Is told the stamp and the method of each request as soon as its head is there.
pub type Note = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// One backend, in threads of its own.
pub fn listen(listener: TcpListener, name: String) -> JoinHandle<()> {
    listen_noting(listener, name, Arc::new(|_, _| {}))
}

/// The same, telling what came.
pub fn listen_noting(listener: TcpListener, name: String, note: Note) -> JoinHandle<()> {
    let seen = Seen::default();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (name, seen, note) = (name.clone(), Arc::clone(&seen), Arc::clone(&note));
            std::thread::spawn(move || connection(stream, &name, &seen, &note));
        }
    })
}

fn connection(stream: TcpStream, name: &str, seen: &Seen, note: &Note) {
    match exchanges(stream, name, seen, note) {
        // A router drops a connection that it has no use for.
        Ok(()) | Err(Broken::Ended | Broken::Cut | Broken::Socket(_)) => {}
        Err(broken) => eprintln!("backend {name}: {broken:?}"),
    }
}

fn exchanges(stream: TcpStream, name: &str, seen: &Seen, note: &Note) -> Result<(), Broken> {
    let mut wire = Wire::of(stream)?;
    wire.wait_for_ever()?;
    loop {
        let head = wire.head()?;
        let mut words = head.first.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if let Some(run) = target.strip_prefix("/seen/") {
            let [gets, posts] = seen.lock().expect("no panics").get(run).copied().unwrap_or([0; 2]);
            let body = format!("{gets} {posts}\n");
            wire.send(&message("HTTP/1.1 200 OK\r\n", body.as_bytes(), false))?;
            continue;
        }
        let stamp = head.field("x-stamp").unwrap_or("-");
        note(stamp, method);
        let body = wire.body(&head)?;
        count(seen, stamp, method);
        let answer = slow::answer(target)
            .unwrap_or_else(|| stamp::answer(name, method, target, stamp, &body));
        let close = if head.closes() { "Connection: close\r\n" } else { "" };
        let lines = format!(
            "HTTP/1.1 200 OK\r\nX-Backend: {name}\r\nX-Stamp: {stamp}\r\n{close}\
             Content-Type: text/plain\r\n"
        );
        wire.send(&message(&lines, &answer, target.ends_with("reply=chunked")))?;
        if head.closes() {
            return Ok(());
        }
    }
}

fn count(seen: &Seen, stamp: &str, method: &str) {
    let mut seen = seen.lock().expect("no panics");
    let counts = seen.entry(stamp::run_of(stamp).to_string()).or_default();
    counts[usize::from(method != "GET")] += 1;
}
