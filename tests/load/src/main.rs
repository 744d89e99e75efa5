//! Load that judges every answer, and the backends that it needs.
//!
//! In: a command line. Out: one line of JSON on stdout; failures on stderr; exit code 0 when no
//! request failed, no count differs and no second had fewer answers than asked for; else 1.

#![allow(clippy::disallowed_methods, reason = "nothing is sealed here")]

use serval_load::expected::{Expected, Rotation};
use serval_load::generator::{Generator, Outcome, Target};
use serval_load::summary::percentile;
use serval_load::tls::Tls;
use serval_load::{backend, generations, hostile, slow};
use std::collections::HashMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;

const USAGE: &str = "\
usage: serval-load backend ADDRESS=NAME...
       serval-load run --target ADDRESS [FLAGS]           until its standard input ends
       serval-load generations --target ADDRESS --api ADDRESS --admin ADDRESS --route NAME
                               --count N [FLAGS]
       serval-load rotations --target ADDRESS --tls NAME --leaves LIST --api ADDRESS
                             --admin ADDRESS --secret NAME --count N [FLAGS]
       serval-load hostile --target ADDRESS --tls NAME --held N --rounds N
       serval-load slow --target ADDRESS --count N --hold S

  --target ADDRESS     the router; in `run` also several, ADDRESS,...: connections in turn
  --restarts yes       it may be started again meanwhile: another router is asked when it refuses,
                       and kept connections may end between answers
  --host NAME          Host field (serval.test)
  --path PATH          what paths begin with (empty)
  --backends LIST      ADDRESS=NAME,...: may answer, and are asked what came; in `generations` the
                       route's backend at generation g is the one at g modulo their number
  --tls NAME           with TLS and this server name; half of the requests on new connections
  --leaves LIST        PEM files: the leaf shown is one of these; in `rotations` FILE.crt with its
                       FILE.key, the Secret's at rotation g is the one at g modulo their number
  --held N             connections that must be kept through all attacks
  --rounds N           so often each kind of attack
  --secret NAME        Secret in the namespace default
  --rate N             requests a second (600)
  --rate-min N         fewest good answers in any whole second (500)
  --threads N          requests at once at most (32)
  --api, --admin       `kubectl proxy`; the router's admin port
  --route NAME         HTTPRoute in the namespace default
  --count N            changes; in `slow` readers
  --hold S             seconds for which they do not read, or a byte at a time
";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.split_first() {
        Some((mode, rest)) if mode == "backend" => listens(rest).and_then(backend::serve),
        Some((mode, rest)) if mode == "run" => flags(rest).and_then(|flags| run(&flags)),
        Some((mode, rest)) if mode == "generations" => flags(rest).and_then(|f| generations(&f)),
        Some((mode, rest)) if mode == "rotations" => flags(rest).and_then(|f| rotations(&f)),
        Some((mode, rest)) if mode == "hostile" => flags(rest).and_then(|f| hostile(&f)),
        Some((mode, rest)) if mode == "slow" => flags(rest).and_then(|flags| slow(&flags)),
        _ => Err(USAGE.to_string()),
    };
    if let Err(text) = ended {
        eprintln!("serval-load: {text}");
        std::process::exit(1);
    }
}

type Flags = HashMap<String, String>;

fn flags(arguments: &[String]) -> Result<Flags, String> {
    let known = |name: &str| USAGE.contains(&format!("{name} ")) || name == "--api";
    let mut flags = Flags::new();
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name.starts_with("--") && known(name) => {
                flags.insert(name.clone(), value.clone());
            }
            other => return Err(format!("{other:?}\n{USAGE}")),
        }
    }
    Ok(flags)
}

fn listens(words: &[String]) -> Result<Vec<(SocketAddr, String)>, String> {
    let listen = |word: &String| {
        let (address, name) = word.split_once('=').ok_or(format!("{word}: ADDRESS=NAME"))?;
        let address = address.parse().map_err(|error| format!("{word}: {error}"))?;
        Ok((address, name.to_string()))
    };
    words.iter().map(listen).collect()
}

fn parsed<T: std::str::FromStr>(flags: &Flags, name: &str, default: &str) -> Result<T, String> {
    let text = flags.get(name).map_or(default, String::as_str);
    text.parse().map_err(|_| format!("{name} '{text}'\n{USAGE}"))
}

fn list(flags: &Flags, name: &str) -> Vec<String> {
    let list = flags.get(name).map(String::as_str).unwrap_or_default();
    list.split(',').filter(|w| !w.is_empty()).map(String::from).collect()
}

fn target(flags: &Flags, is_rotating: bool) -> Result<(Target, Vec<String>), String> {
    let tls = flags.get("--tls").map(|name| Tls::new(name, &list(flags, "--leaves"), is_rotating));
    let (count_at, names) = listens(&list(flags, "--backends"))?.into_iter().unzip();
    let address = |text: &String| text.parse().map_err(|_| format!("--target '{text}'\n{USAGE}"));
    let addresses = list(flags, "--target").iter().map(address).collect::<Result<Vec<_>, _>>()?;
    if addresses.is_empty() {
        return Err(format!("--target is missing\n{USAGE}"));
    }
    let target = Target {
        addresses,
        restarts: flags.get("--restarts").is_some_and(|word| word == "yes"),
        host: parsed(flags, "--host", "serval.test")?,
        path: parsed(flags, "--path", "")?,
        rate: parsed(flags, "--rate", "600")?,
        threads: parsed(flags, "--threads", "32")?,
        tls: tls.transpose()?.map(Arc::new),
        count_at,
    };
    if target.rate == 0 || target.threads == 0 {
        return Err("--rate and --threads must be more than 0".into());
    }
    Ok((target, names))
}

fn run(flags: &Flags) -> Result<(), String> {
    let (target, names) = target(flags, false)?;
    let generator = Generator::start(target, Arc::new(Expected::Any(names)));
    // Whoever started us ends the run by closing our standard input.
    let read = std::io::stdin().read_to_end(&mut Vec::new());
    read.map_err(|error| format!("standard input: {error}"))?;
    judge(flags, generator.finish(), "")
}

fn generations(flags: &Flags) -> Result<(), String> {
    let (target, names) = target(flags, false)?;
    if names.len() < 3 {
        return Err("--backends: at least three".into());
    }
    let (api, admin) = (parsed(flags, "--api", "")?, parsed(flags, "--admin", "")?);
    let route: String = parsed(flags, "--route", "")?;
    let count = parsed(flags, "--count", "")?;
    let expected = Arc::new(Expected::Rotating(Rotation::new(names)));
    let Expected::Rotating(rotation) = &*expected else { unreachable!("just made") };
    let generator = Generator::start(target, Arc::clone(&expected));
    let places = generations::Places { api, admin, route: &route };
    let changed = generations::run(places, rotation, count);
    let outcome = generator.finish();
    let times = changed.clone().unwrap_or_default();
    let [p50, p99, max] = [50, 99, 100].map(|percent| percentile(&times.confirmed, percent));
    let patch = percentile(&times.patched, 50);
    let more = format!(
        r#","generations":{},"patch_p50_us":{patch},"change_p50_us":{p50},"change_p99_us":{p99},"change_max_us":{max}"#,
        rotation.confirmed(),
    );
    let judged = judge(flags, outcome, &more);
    changed.map(drop).and(judged)
}

fn rotations(flags: &Flags) -> Result<(), String> {
    let leaves = list(flags, "--leaves");
    if leaves.len() < 3 {
        return Err("--leaves: at least three".into());
    }
    let (target, names) = target(flags, true)?;
    let Some(tls) = target.tls.clone() else { return Err("--tls is missing".into()) };
    let rotation = tls.rotation().ok_or("it rotates")?;
    let (api, admin) = (parsed(flags, "--api", "")?, parsed(flags, "--admin", "")?);
    let secret: String = parsed(flags, "--secret", "")?;
    let count = parsed(flags, "--count", "")?;
    let address = target.addresses[0];
    let generator = Generator::start(target, Arc::new(Expected::Any(names)));
    let places = generations::Places { api, admin, route: &secret };
    let shown = || tls.connect(address).map(drop).map_err(|failure| format!("{failure:?}"));
    let changed = generations::rotate(places, rotation, &leaves, count, shown);
    let outcome = generator.finish();
    let times = changed.clone().unwrap_or_default();
    let [p50, p99, max] = [50, 99, 100].map(|percent| percentile(&times.confirmed, percent));
    let confirmed = rotation.confirmed();
    let more = format!(
        r#","rotations":{confirmed},"change_p50_us":{p50},"change_p99_us":{p99},"change_max_us":{max}"#,
    );
    let judged = judge(flags, outcome, &more);
    changed.map(drop).and(judged)
}

fn hostile(flags: &Flags) -> Result<(), String> {
    let name: String = parsed(flags, "--tls", "")?;
    let (held, rounds) = (parsed(flags, "--held", "")?, parsed(flags, "--rounds", "")?);
    let tls = Tls::new(&name, &[], false)?;
    let attacks = hostile::run(parsed(flags, "--target", "")?, &tls, &name, held, rounds)?;
    println!(r#"{{"attacks":{attacks},"held":{held}}}"#);
    Ok(())
}

fn slow(flags: &Flags) -> Result<(), String> {
    let host: String = parsed(flags, "--host", "serval.test")?;
    let hold = std::time::Duration::from_secs(parsed(flags, "--hold", "")?);
    let (target, count) = (parsed(flags, "--target", "")?, parsed(flags, "--count", "")?);
    println!("{}", slow::run(target, &host, count, hold)?);
    Ok(())
}

fn judge(flags: &Flags, mut outcome: Outcome, more: &str) -> Result<(), String> {
    let (seconds, replayed) = (outcome.seconds, outcome.replayed);
    let rate_min: u64 = parsed(flags, "--rate-min", "500")?;
    let (gap_ms, passed_over) = (outcome.summary.gap_ms(seconds), outcome.summary.passed_over);
    let more =
        format!(r#","replayed":{replayed},"gap_ms":{gap_ms},"passed_over":{passed_over}{more}"#);
    println!("{}", outcome.summary.line(seconds, &more));
    let (failed, rate) = (outcome.summary.failures(), outcome.summary.rate_min(seconds));
    match outcome.miscounted {
        _ if failed > 0 => Err(format!("{failed} requests failed")),
        Some(text) => Err(text),
        None if rate < rate_min => Err(format!("{rate} answers in one second, not {rate_min}")),
        None => Ok(()),
    }
}
