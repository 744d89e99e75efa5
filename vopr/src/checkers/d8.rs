//! D8: fields of one connection do not cross (RFC 9110 section 7.6.1), nor those that Connection
//! names, in either direction; what a client says of Forwarded and X-Forwarded-* does not cross
//! either, since the router says it (docs/SECURITY.md).

use crate::network::Network;
use serval::stdx::Prng;

type Fields = [(String, String)];

/// In every value that must not cross.
const MARK: &str = "hop";

/// Fields that belong to one connection, whatever Connection says.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "x-hop",
];

/// Lines of requests and responses that must not cross.
const ANY: [&str; 6] = [
    "Connection: X-Hop\r\nX-Hop: hop\r\n",
    "x-hOP: hop, hop\r\nConnection: keep-alive,x-hop , \r\nX-Hop: hop\r\n",
    "Connection: Host, content-length\r\n",
    "Keep-Alive: timeout=5, hop\r\n",
    "Proxy-Connection: keep-alive, hop\r\n",
    "Te: hop\r\n",
];

/// Those of requests.
const OF_REQUESTS: [&str; 9] = [
    "Proxy-Authorization: Basic hop\r\n",
    "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: hop\r\nUpgrade: h2c-hop\r\n",
    "X-Forwarded-For: 6.6.6.6, hop\r\nConnection: x-forwarded-for\r\n",
    "X-Forwarded-Host: hop.example.com\r\n",
    "X-Forwarded-Proto: hop\r\nX-Forwarded-Port: hop\r\n",
    "x-forwarded-Server: hop\r\n",
    "X_Forwarded_For: hop\r\n",
    "Forwarded: for=hop;host=hop\r\n",
    "Keep_Alive: hop\r\n",
];

/// Sometimes such lines, three at most: Connection may not name many.
pub fn lines(of_requests: bool, prng: &mut Prng) -> String {
    if !prng.chance(1, 3) {
        return String::new();
    }
    let own: &[&str] = if of_requests { &OF_REQUESTS } else { &[] };
    let all: Vec<&str> = ANY.iter().chain(own).copied().collect();
    let mut chosen: Vec<&str> = Vec::new();
    for _ in 0..prng.range(1, 3) {
        let line = all[prng.below(all.len() as u64) as usize];
        if !chosen.contains(&line) {
            chosen.push(line);
        }
    }
    chosen.concat()
}

/// What of a head should not be there. `framed`: in chunks; `switches`: to WebSocket.
fn wrong(fields: &Fields, switches: bool, may_close: bool) -> Option<String> {
    let allowed = |name: &str, value: &str| match name {
        "connection" if switches => value.eq_ignore_ascii_case("upgrade"),
        "upgrade" => switches && value == "websocket",
        "connection" => may_close && value == "close",
        // How the next connection frames a body is its own matter.
        "transfer-encoding" => value == "chunked",
        _ => !HOP_BY_HOP.contains(&name) && !value.contains(MARK),
    };
    let odd = fields.iter().find(|(name, value)| !allowed(name, value))?;
    Some(format!("{}: {}", odd.0, odd.1))
}

/// A backend got a request.
pub fn asked(stamp: &str, fields: &Fields, net: &mut Network) {
    let is_forwarded = |name: &str| name.starts_with("x-forwarded-") || name == "forwarded";
    let mut forwarded: Vec<&str> =
        fields.iter().map(|f| f.0.as_str()).filter(|n| is_forwarded(n)).collect();
    forwarded.sort_unstable();
    let switches = fields.iter().any(|(name, value)| name == "upgrade" && value == "websocket");
    let client = fields.iter().find(|f| f.0 == "x-forwarded-for").map(|f| f.1.as_str());
    let own = ["host", "port", "proto"].map(|word| format!("x-forwarded-{word}"));
    let wrong = wrong(fields, switches, false).or_else(|| {
        let wanted = [&["x-forwarded-for"], &own.each_ref().map(String::as_str)[..]].concat();
        let is_own = |names: &[&str]| {
            let mut wanted = wanted.clone();
            wanted.sort_unstable();
            names == wanted
        };
        (!is_own(&forwarded) || client != Some(crate::router::CLIENT_IP))
            .then(|| format!("{forwarded:?}, for {client:?}"))
    });
    if let Some(wrong) = wrong {
        net.trace.violated(net.now, "D8", format!("a backend got {stamp} with {wrong}"));
    }
}

/// A client got an answer, an interim one or the last.
pub fn answered(stamp: &str, status: u16, fields: &Fields, net: &mut Network) {
    if let Some(wrong) = wrong(fields, status == 101, true) {
        net.trace.violated(net.now, "D8", format!("{status} to {stamp} has {wrong}"));
    }
}
