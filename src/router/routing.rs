//! Whether two configurations route alike: each request then goes to the rule of the same number.
//!
//! In: a Snapshot. Out: a digest of its binds, listeners, hostnames, matches and filters. Backends,
//! endpoints and certificates are not in it: a rollout changes only those.

use crate::config::Snapshot;
use crate::stdx::fnv::Fnv;
use crate::stdx::{Span, Text};
use core::net::IpAddr;

/// Equal for two Snapshots that route alike.
pub fn digest(snapshot: &Snapshot) -> u64 {
    let mut routing = Routing { snapshot, hash: Fnv::new() };
    routing.listeners();
    for route in snapshot.routes.as_slice() {
        routing.text(route.name);
        routing.number(route.hosts.len);
        for host in snapshot.hosts.span(route.hosts) {
            routing.number(host.listener);
            routing.text(host.hostname);
        }
        routing.matches(route.matches);
        routing.filter(route.filter);
    }
    routing.hash.finish()
}

struct Routing<'s> {
    snapshot: &'s Snapshot,
    hash: Fnv,
}

impl Routing<'_> {
    fn number(&mut self, number: u32) {
        self.hash.write_u32(number);
    }

    fn text(&mut self, text: Text) {
        let bytes = self.snapshot.text.bytes(text);
        self.number(bytes.len() as u32);
        self.hash.write(bytes);
    }

    fn listeners(&mut self) {
        for bind in self.snapshot.binds.as_slice() {
            match bind.address {
                IpAddr::V4(v4) => self.hash.write(&v4.octets()),
                IpAddr::V6(v6) => self.hash.write(&v6.octets()),
            }
            self.number(u32::from(bind.port) << 1 | u32::from(bind.is_tls));
        }
        for listener in self.snapshot.listeners.as_slice() {
            self.text(listener.gateway);
            self.text(listener.section);
            self.text(listener.hostname);
            self.number(u32::from(listener.port));
            self.number(listener.binds.len);
            for &bind in self.snapshot.attachments.span(listener.binds) {
                self.number(bind);
            }
        }
    }

    fn matches(&mut self, matches: Span) {
        self.number(matches.len);
        for wanted in self.snapshot.matches.span(matches) {
            self.hash.write(&[wanted.path_kind as u8, wanted.method as u8]);
            self.text(wanted.path);
            for conditions in [wanted.headers, wanted.queries] {
                self.number(conditions.len);
                for condition in self.snapshot.conditions.span(conditions) {
                    self.text(condition.name);
                    self.text(condition.value);
                }
            }
        }
    }

    fn filter(&mut self, filter: u32) {
        let Some(filter) = self.snapshot.filter(filter) else { return self.number(0) };
        self.number(1);
        let url = &filter.url;
        let kinds = [url.action as u8, url.scheme as u8, url.path_change as u8];
        self.hash.write(&kinds);
        self.number(u32::from(url.status) << 16 | u32::from(url.port));
        self.text(url.hostname);
        self.text(url.path);
        for edits in [filter.request, filter.response] {
            self.number(edits.len);
            for edit in self.snapshot.edits.span(edits) {
                self.hash.write(&[edit.action as u8]);
                self.text(edit.name);
                self.text(edit.value);
            }
        }
    }
}
