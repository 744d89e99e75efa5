//! S3: each published Snapshot is what the model derives from objects in versions that existed,
//! and no object goes back in time (`shadow`).

use crate::model::object::{EDITED, Edit, Filters, Match, NewPath, Object, Redirect, Rewrite};
use crate::model::secret::{Pair, Pairs};
use crate::model::table::{Served, ServedRule, Setup, Table, derive};
use crate::model::timeouts::Timeouts;
use crate::network::Network;
use serval::config::Snapshot;
use serval::config::filter::{PathChange, UrlAction, UrlFilter};
use serval::config::snapshot::{self, POOL_INVALID, PathKind};
use serval::wire::http1::edit::Action;
use std::net::SocketAddr;
use std::rc::Rc;

/// A Snapshot was published from these objects and pairs; the table that it means. Not `exact`: the
/// stores may lack some of them.
pub fn published(
    snapshot: &Snapshot,
    (objects, pairs, setup): (&[Rc<Object>], &Pairs, Setup),
    exact: bool,
    net: &mut Network,
) -> Table {
    let got = normal(read(snapshot));
    let identity = snapshot.identity;
    let (epoch, generation) = (identity.epoch, identity.generation);
    let kind = if exact { "compared" } else { "not compared" };
    net.trace.say(net.now, &format!("published {epoch}.{generation}, {kind}"));
    net.trace.event(net.now, "checksum", generation, &identity.checksum.0);
    if !exact {
        return got;
    }
    let wanted = normal(derive(objects, pairs, setup));
    if got != wanted {
        let text = format!("{epoch}.{generation}: {}", difference(&got, &wanted));
        net.trace.violated(net.now, "S3", text);
    }
    wanted
}

/// What differs first.
pub fn difference(got: &Table, wanted: &Table) -> String {
    for at in 0..got.listeners.len().max(wanted.listeners.len()) {
        let (got, wanted) = (got.listeners.get(at), wanted.listeners.get(at));
        if got != wanted {
            return format!("listener {got:?}, wanted {wanted:?}");
        }
    }
    if got.certificates != wanted.certificates {
        return format!("certificates {:?}, wanted {:?}", got.certificates, wanted.certificates);
    }
    for at in 0..got.rules.len().max(wanted.rules.len()) {
        if got.rules.get(at) != wanted.rules.get(at) {
            return format!("rule {:?}, wanted {:?}", got.rules.get(at), wanted.rules.get(at));
        }
    }
    "no difference".into()
}

/// One spelling for what means the same.
pub fn normal(mut table: Table) -> Table {
    table.listeners.sort();
    table.certificates.sort();
    for rule in &mut table.rules {
        for Filters { redirect, rewrite, .. } in
            rule.backend_filters.iter_mut().chain([&mut rule.filters])
        {
            let redirect = redirect.as_mut().map(|r| &mut r.path);
            for path in [redirect, rewrite.as_mut().map(|r| &mut r.path)].into_iter().flatten() {
                if let Some(NewPath::Prefix(prefix)) = path {
                    *prefix = prefix.trim_end_matches('/').to_string();
                }
            }
        }
        rule.hosts.sort();
        for m in &mut rule.matches {
            let (exact, path) = m.path.take().unwrap_or((false, String::new()));
            let path = if exact { path } else { path.trim_end_matches('/').to_string() };
            m.path = Some((exact, path));
        }
    }
    table
}

/// The Snapshot as a table.
pub fn read(s: &Snapshot) -> Table {
    let text = |t| s.text.get(t).to_string();
    let address = |&b: &u32| SocketAddr::new(s.binds[b].address, s.binds[b].port);
    let pair = |&index: &u32| {
        let certificate = &s.certificates[index];
        Pair {
            name: text(certificate.name),
            chain: s.pem.get(certificate.chain).to_string(),
            key: s.pem.get(certificate.key).to_string(),
        }
    };
    let listener = |l: &snapshot::Listener| Served {
        gateway: text(l.gateway),
        section: text(l.section),
        hostname: text(l.hostname),
        binds: s.attachments.span(l.binds).iter().map(address).collect(),
        certificates: s.certificate_refs.span(l.certificates).iter().map(pair).collect(),
    };
    let listeners: Vec<Served> = s.listeners.as_slice().iter().map(listener).collect();
    let pairs = |span| -> Vec<(String, String)> {
        s.conditions.span(span).iter().map(|c| (text(c.name), text(c.value))).collect()
    };
    let to_match = |m: &snapshot::Match| Match {
        path: Some((m.path_kind == PathKind::Exact, text(m.path))),
        method: Some(m.method.name()).filter(|n| !n.is_empty()),
        headers: pairs(m.headers),
        queries: pairs(m.queries),
        regex: false,
    };
    let backend = |b: &snapshot::Backend| {
        let upstreams = |pool: &snapshot::Pool| {
            s.upstreams.span(pool.upstreams).iter().map(|u| u.address).collect::<Vec<_>>()
        };
        let pool = (b.pool != POOL_INVALID).then(|| upstreams(&s.pools[b.pool]));
        (pool, b.weight)
    };
    let rule = |r: &snapshot::Route| ServedRule {
        name: text(r.name),
        hosts: s
            .hosts
            .span(r.hosts)
            .iter()
            .map(|h| {
                let listener = &listeners[h.listener as usize];
                ((listener.gateway.clone(), listener.section.clone()), text(h.hostname))
            })
            .collect(),
        matches: s.matches.span(r.matches).iter().map(to_match).collect(),
        backends: s.backends.span(r.backends).iter().map(backend).collect(),
        filters: filters(s, r.filter),
        timeouts: Timeouts {
            request: timeout(r.request_timeout_ms),
            backend: timeout(r.backend_timeout_ms),
        },
        backend_filters: s.backends.span(r.backends).iter().map(|b| filters(s, b.filter)).collect(),
    };
    let rules = s.routes.as_slice().iter().map(rule).collect();
    let certificates = (0..s.certificates.len()).map(|index| pair(&index)).collect();
    Table { listeners, certificates, rules }
}

/// 0 is absent, the largest is none.
fn timeout(ms: u32) -> Option<u32> {
    match ms {
        0 => None,
        u32::MAX => Some(0),
        ms => Some(ms),
    }
}

/// The filters of a rule.
fn filters(s: &Snapshot, index: u32) -> Filters {
    let text = |t| s.text.get(t).to_string();
    let edit = |span| {
        s.edits_of(span).next().map(|edit| {
            let value = String::from_utf8_lossy(edit.value).to_string();
            assert!(edit.name.eq_ignore_ascii_case(EDITED.as_bytes()), "an edit nobody made");
            match edit.action {
                Action::Set => Edit::Set(value),
                Action::Add => Edit::Add(value),
                Action::Remove => Edit::Remove,
            }
        })
    };
    let some = |text: &str| Some(text.to_string()).filter(|t| !t.is_empty());
    let path = |f: &UrlFilter| match f.path_change {
        PathChange::Keep => None,
        PathChange::Full => Some(NewPath::Full(text(f.path))),
        PathChange::Prefix => Some(NewPath::Prefix(text(f.path))),
    };
    match s.filter(index) {
        None => Filters::default(),
        Some(f) => Filters {
            request: edit(f.request),
            response: edit(f.response),
            redirect: (f.url.action == UrlAction::Redirect).then(|| Redirect {
                scheme: some(f.url.scheme.name()),
                hostname: some(s.text.get(f.url.hostname)),
                port: Some(f.url.port).filter(|&p| p != 0),
                status: f.url.status,
                path: path(&f.url),
            }),
            rewrite: (f.url.action == UrlAction::Rewrite).then(|| Rewrite {
                hostname: some(s.text.get(f.url.hostname)),
                path: path(&f.url),
            }),
        },
    }
}
