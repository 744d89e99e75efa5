//! The push format: what goes in comes out, and what is wrong is refused.

use super::*;
use crate::limits::Capacities;
use crate::resource::document::Document;
use crate::shell::json;
use crate::shell::place::boxed_zeroed;
use std::boxed::Box;
use std::string::String;
use std::vec;
use std::vec::Vec;

const LINES: &[&str] = &[
    r#"{"snapshot":1,"epoch":2,"generation":9,"source":"controller"}"#,
    r#"{"bind":{"transport":"tcp","address":"::","port":80}}"#,
    r#"{"bind":{"transport":"tcp","address":"::","port":443,"tls":true}}"#,
    r#"{"certificate":{"name":"ns/c","chain":"a chain","key":"a key"}}"#,
    r#"{"listener":{"gateway":"ns/gw","section":"http","protocol":"HTTP","port":80,"hostname":"*.example.com","binds":[0]}}"#,
    r#"{"listener":{"gateway":"ns/gw","section":"https","protocol":"HTTPS","port":443,"hostname":"","binds":[1],"certificates":[0]}}"#,
    r#"{"pool":{"name":"ns/svc/80","upstreams":["10.0.0.1:3000","[fd00::1]:3000"]}}"#,
    r#"{"route":{"name":"ns/r/0","hosts":[{"listener":0,"hostname":"a.example.com"}],"matches":[{"prefix":"/a","method":"GET","headers":[["x-a","1"]],"queries":[["q","a b"]]},{"exact":"/b"}],"backends":[{"pool":0,"weight":3},{"weight":1}],"request_timeout_ms":500}}"#,
];

/// Places in [`LINES`].
const POOL: usize = 6;
const ROUTE: usize = 7;

#[test]
fn what_is_shown_has_no_keys() {
    let snapshot = decode(&with_end(LINES)).unwrap();
    let mut buffer = vec![0; MAX_RECORD_SIZE_BYTES as usize];
    let mut encoder = Encoder::with_identity(snapshot.identity).hiding_keys();
    let mut shown = String::new();
    while let Some(line) = encoder.next_line(&snapshot, &mut buffer) {
        shown += core::str::from_utf8(line.unwrap()).unwrap();
    }
    assert!(shown.contains("a chain") && !shown.contains("a key"), "{shown}");
    assert!(!std::format!("{snapshot:?}").contains("a key"));
}

fn empty() -> Box<Snapshot> {
    let mut snapshot = boxed_zeroed::<Snapshot>();
    snapshot.set_caps(&Capacities::DEFAULT);
    snapshot
}

fn decode(lines: &[String]) -> Result<Box<Snapshot>, CodecError> {
    let mut snapshot = empty();
    let mut document = boxed_zeroed::<Document>();
    let mut builder = Builder::new();
    for line in lines {
        json::parse(line.as_bytes(), &mut document).expect("the test's line is JSON");
        builder.record(document.root(), &mut snapshot)?;
    }
    builder.finish(&mut snapshot, &mut vec![0; MAX_RECORD_SIZE_BYTES as usize])?;
    Ok(snapshot)
}

fn encode(snapshot: &Snapshot) -> Vec<String> {
    let mut buffer = vec![0; MAX_RECORD_SIZE_BYTES as usize];
    let mut encoder = Encoder::new();
    let mut lines = Vec::new();
    while let Some(line) = encoder.next_line(snapshot, &mut buffer) {
        lines.push(String::from_utf8(line.unwrap().to_vec()).unwrap());
    }
    lines
}

fn with_end(lines: &[&str]) -> Vec<String> {
    let mut hash = Sha256::new();
    let content: Vec<String> = lines.iter().map(|l| std::format!("{l}\n")).collect();
    content[1..].iter().for_each(|l| hash.update(l.as_bytes()));
    let sum = Checksum(hash.finalize().into());
    let records = lines.len() - 1;
    let end = std::format!(r#"{{"end":{{"records":{records},"checksum":"{sum}"}}}}"#);
    content.into_iter().chain([end + "\n"]).collect()
}

#[test]
fn what_goes_in_comes_out() {
    let lines = with_end(LINES);
    let snapshot = decode(&lines).unwrap();
    assert_eq!(encode(&snapshot), lines);
    assert_eq!((snapshot.identity.epoch, snapshot.identity.generation), (2, 9));
}

#[test]
fn filters_come_out_as_they_went_in() {
    let filter = r#""filter":{"request":[["set","X-A","1"],["remove","X-B"]],"response":[["add","X-C","ä \\"]],"rewrite":{"hostname":"a.example","prefix":""}}"#;
    let redirect = r#""filter":{"redirect":{"scheme":"https","hostname":"b.example","port":8443,"full":"/x","status":308}}"#;
    let host = r#""hosts":[{"listener":0,"hostname":""}],"matches":[{"prefix":"/a"}]"#;
    let mut lines: Vec<&str> = LINES[..=POOL].to_vec();
    let first = std::format!(
        r#"{{"route":{{"name":"f",{host},"backends":[{{"pool":0,"weight":3,{filter}}}],{filter}}}}}"#
    );
    let second = std::format!(r#"{{"route":{{"name":"r",{host},"backends":[],{redirect}}}}}"#);
    lines.extend([&*first, &*second]);
    let whole = with_end(&lines);
    assert_eq!(encode(&decode(&whole).unwrap()), whole);
    for (from, to) in [
        (r#"X-A"#, r#"Host"#),
        (r#""1""#, r#""1\r\nEvil: 1""#),
        (r#""remove""#, r#""drop""#),
        (r#"X-B"#, r#"x-a"#),
        (r#""X-B""#, r#""X-B","x""#),
        (r#""prefix":"""#, r#""prefix":"x""#),
        (r#""rewrite":{"#, r#""rewrite":{"port":1,"#),
        (r#""rewrite":{"#, r#""redirect":{"full":"/"},"rewrite":{"#),
        (r#""response""#, r#""answer""#),
        (r#"8443"#, r#"84430"#),
        (r#"308"#, r#"304"#),
        (r#"https"#, r#"ftp"#),
        (r#""backends":[],"#, r#""backends":[{"pool":0,"weight":1}],"#),
    ] {
        let changed: Vec<_> = lines.iter().map(|line| line.replace(from, to)).collect();
        let changed: Vec<&str> = changed.iter().map(|line| line.as_str()).collect();
        assert!(decode(&with_end(&changed)).is_err(), "{from} as {to}");
    }
}

#[test]
fn a_changed_line_a_lost_line_and_a_cut_are_refused() {
    let lines = with_end(LINES);
    let mut changed = lines.clone();
    changed[POOL] = changed[POOL].replace("10.0.0.1", "10.0.0.2");
    assert_eq!(decode(&changed).unwrap_err(), CodecError::Checksum);
    let mut lost = lines.clone();
    lost.remove(POOL);
    assert!(matches!(decode(&lost), Err(CodecError::Record { .. })));
    assert_eq!(decode(&lines[..=ROUTE]).unwrap_err(), CodecError::Truncated);
    assert!(matches!(decode(&lines[1..]), Err(CodecError::Record { number: 0, .. })));
}

#[test]
fn an_index_out_of_range_is_refused() {
    let mut lines: Vec<&str> = LINES.to_vec();
    let route = lines[ROUTE].replace(r#""pool":0"#, r#""pool":1"#);
    lines[ROUTE] = &route;
    assert!(matches!(decode(&with_end(&lines)), Err(CodecError::Invalid(_))));
}

#[test]
fn pools_larger_than_a_record_go_on() {
    let mut snapshot = empty();
    let name = snapshot.text.push("ns/big/80").unwrap();
    let count = UPSTREAMS_PER_RECORD.min(snapshot.upstreams.cap() / 2) * 2;
    for i in 0..count {
        let address = core::net::Ipv4Addr::from(0x0a00_0000 + i);
        let upstream = Upstream { address: (address, 80).into() };
        snapshot.upstreams.push(upstream).unwrap();
    }
    let pool = Pool { name, upstreams: snapshot.upstreams.span_from(0) };
    snapshot.pools.push(pool).unwrap();
    let mut buffer = vec![0; MAX_RECORD_SIZE_BYTES as usize];
    snapshot.identity.checksum = checksum(&snapshot, &mut buffer).unwrap();
    let lines = encode(&snapshot);
    let decoded = decode(&lines).unwrap();
    assert_eq!(decoded.upstreams.as_slice(), snapshot.upstreams.as_slice());
    assert_eq!(decoded.pools[0].upstreams, snapshot.pools[0].upstreams);
}
