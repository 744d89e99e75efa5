//! Status writes at the model API server: merged as `kube::status_patch` merges them, with
//! conflicts, but as calls and not over HTTP.

use crate::api_server::Api;
use crate::controller::{Order, Process};
use crate::faults::Fault;
use crate::model::object::Kind as ModelKind;
use crate::network::Network;
use crate::router::{clocks, parse};
use crate::seed::Rate;
use crate::workload::CONTROLLER;
use serval::reconcile::merge::merge;
use serval::resource::document::{Document, Value};
use serval::stdx::{Prng, zeroed_box};
use serval::wire::json::JsonWriter;
use std::net::Ipv4Addr;

/// Carries out what is due and tells the controller.
pub fn write_due(
    process: &mut Process,
    api: &mut Api,
    conflicts: Rate,
    prng: &mut Prng,
    net: &mut Network,
) {
    let (due, rest): (Vec<Order>, Vec<Order>) =
        core::mem::take(&mut process.orders).into_iter().partition(|o| o.due <= net.now);
    process.orders = rest;
    for order in due {
        let fails = !api.running || conflicts.happens(prng);
        if fails {
            net.injected.add(Fault::StatusConflicts);
        } else {
            write(&order, api, net);
        }
        process.controller.status_written(order.kind, &order.key, !fails);
    }
}

fn write(order: &Order, api: &mut Api, net: &Network) {
    let kind = ModelKind::ALL[order.kind as usize];
    let (namespace, name) = (order.key.namespace.as_str(), order.key.name.as_str());
    let key = (kind, namespace.to_string(), name.to_string());
    let Some(object) = api.objects.get(&key).cloned().filter(|o| o.uid == order.uid) else {
        return;
    };
    let (mut before, mut wanted) = (zeroed_box::<Document>(), zeroed_box::<Document>());
    assert!(parse(object.json().as_bytes(), &mut before), "objects are JSON");
    assert!(parse(order.body.as_bytes(), &mut wanted), "statuses are JSON: {}", order.body);
    let mut buffer = vec![0; 1 << 16];
    let mut json = JsonWriter::new(&mut buffer);
    let wall = clocks(net.now).wall;
    if !merge(order.kind, before.root(), wanted.root(), CONTROLLER, wall, &mut json) {
        return;
    }
    let status = json.finish().expect("a status fits").to_string();
    assert!(parse(status.as_bytes(), &mut before), "a status is JSON");
    let addresses = before.root().get("addresses");
    let addresses = addresses.iter().flat_map(|a| a.items()).filter_map(|a| {
        let text = a.get("value").and_then(Value::str)?;
        Some(text.parse::<Ipv4Addr>().ok()?.octets())
    });
    let addresses = addresses.collect();
    api.write_status(&object, status, addresses);
}
