//! Status writes at the model API server: by the product's `StatusPatch` machine and its merge,
//! with conflicts, but as calls and not over HTTP.

use crate::api_server::Api;
use crate::checkers::{s7, s10};
use crate::controller::{Order, Process};
use crate::faults::Fault;
use crate::lease_client::{path_of, word};
use crate::marks::sometimes;
use crate::model::object::{Kind as ModelKind, Object};
use crate::network::{Network, Node};
use crate::parsed::Parsed;
use crate::router::clocks;
use crate::seed::Rate;
use crate::workload::CONTROLLER;
use serval::kube::kind::Watched;
use serval::kube::status_patch::{Input, Output, StatusPatch};
use serval::reconcile::merge::merge;
use serval::resource::document::Value;
use serval::stdx::{Prng, zeroed_box};
use serval::wire::json::JsonWriter;
use std::net::Ipv4Addr;
use std::rc::Rc;

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
    let mut buffer = core::mem::take(&mut api.status_buffer);
    buffer.resize(1 << 16, 0);
    for order in due {
        let is_cut = net.blocked_until(process.node, Node::Api).is_some();
        let fails = !api.running || is_cut || conflicts.happens(prng);
        if fails {
            net.injected.add(Fault::StatusConflicts);
        } else {
            write(&order, &mut buffer, api, net);
        }
        process.controller.status_written(order.kind, &order.key, !fails);
    }
    api.status_buffer = buffer;
}

fn write(order: &Order, buffer: &mut [u8], api: &mut Api, net: &mut Network) {
    let kind = ModelKind::ALL[order.kind as usize];
    let (namespace, name) = (order.key.namespace.as_str(), order.key.name.as_str());
    let key = (kind, namespace.to_string(), name.to_string());
    let Some(object) = api.objects.get(&key).cloned().filter(|o| o.uid == order.uid) else {
        return;
    };
    let before = Parsed::of(object.json().as_bytes()).expect("objects are JSON");
    let Some(wanted) = Parsed::of(order.body.as_bytes()) else {
        panic!("statuses are JSON: {}", order.body);
    };
    let mut machine = zeroed_box::<StatusPatch>();
    machine.start(Prng::new(1));
    let (place, uid) = (Watched::ALL[order.kind as usize], order.uid.as_str());
    let start = Input::Start { kind: place, namespace, name, uid };
    let answer = Input::Answer { status: 200, retry_after_ms: 0, document: Some(&before) };
    if !ask(&mut machine, start, net) || ask(&mut machine, answer, net) {
        return;
    }
    let mut json = JsonWriter::new(buffer);
    let wall = clocks(net.now).wall;
    mark(&format!("{kind:?}"), wanted.root());
    let differs = merge(order.kind, before.root(), wanted.root(), CONTROLLER, wall, &mut json);
    let what = if differs { "written" } else { "not to be written" };
    net.trace.say(net.now, &format!("status of {} {what}", order.key));
    if !differs {
        return;
    }
    let status = json.finish().expect("a status fits").to_string();
    if !ask(&mut machine, Input::Computed(&status), net) {
        return;
    }
    let written = Parsed::of(status.as_bytes()).expect("a status is JSON");
    let addresses = written.root().get("addresses");
    let addresses = addresses.iter().flat_map(|a| a.items()).filter_map(|a| {
        let text = a.get("value").and_then(Value::str)?;
        Some(text.parse::<Ipv4Addr>().ok()?.octets())
    });
    let addresses = addresses.collect();
    s7::written(&order.key.to_string(), &object.status, &status, wall, net);
    api.write_status(&object, status, addresses);
}

/// Gives the machine an input; whether it then asks for something, and may.
fn ask(machine: &mut StatusPatch, input: Input<'_>, net: &mut Network) -> bool {
    machine.input(input, clocks(net.now)).expect("all outputs were polled");
    match machine.poll_output() {
        Some(Output::Request(request)) => {
            s10::permits(word(request.method), &path_of(&request.path), net)
        }
        _ => false,
    }
}

/// Marks the conditions of a status: of the object, its listeners or parents.
fn mark(kind: &str, status: Value<'_>) {
    let of = |name: &str| status.get(name).into_iter().flat_map(|list| list.items());
    for (place, owner) in [(kind.to_string(), status)]
        .into_iter()
        .chain(of("listeners").map(|l| (format!("{kind} listener"), l)))
        .chain(of("parents").map(|p| (format!("{kind} parent"), p)))
    {
        for condition in owner.get("conditions").into_iter().flat_map(|c| c.items()) {
            let (what, status) = (condition.text("type"), condition.text("status"));
            let reason = condition.text("reason");
            sometimes(&format!("{place}: {what} {status} {reason}"));
        }
    }
}

/// Another controller writes its entry into the status of a route.
pub fn write_of_another(api: &mut Api, prng: &mut Prng) {
    let is_route = |o: &&Rc<Object>| o.key.0 == ModelKind::Route;
    let routes: Vec<Rc<Object>> = api.objects.values().filter(is_route).cloned().collect();
    if routes.is_empty() {
        return;
    }
    let route = &routes[prng.below(routes.len() as u64) as usize];
    let (other, head) = (r#""controllerName":"example.com/other""#, r#""parents":["#);
    if route.status.contains(other) {
        return;
    }
    let entry = format!(r#"{{"parentRef":{{"name":"theirs"}},{other},"conditions":[]}}"#);
    let status = match route.status.split_once(head) {
        Some((before, "]}")) => format!("{before}{head}{entry}]}}"),
        Some((before, after)) => format!("{before}{head}{entry},{after}"),
        None => format!("{{{head}{entry}]}}"),
    };
    api.write_status(route, status, Vec::new());
}
