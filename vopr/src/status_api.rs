//! Status writes at the model API server: by the product's `StatusPatch` machine and its merge,
//! with conflicts, but as calls and not over HTTP. Between reading and writing others go on.

use crate::api_server::Api;
use crate::checkers::{s7, s10};
use crate::controller::{Order, Process};
use crate::faults::Fault;
use crate::lease_client::{path_of, word};
use crate::marks::sometimes;
use crate::model::object::{Key, Kind as ModelKind, Object};
use crate::network::{Event, MS, Network, Node, Step, Time};
use crate::parsed::Parsed;
use crate::router::clocks;
use crate::seed::Rate;
use crate::workload::CONTROLLER;
use serval::kube::Trouble;
use serval::kube::kind::Watched;
use serval::kube::status_patch::{Input, Output, StatusPatch};
use serval::reconcile::merge::merge;
use serval::resource::document::Value;
use serval::stdx::{Prng, Wall, zeroed_box};
use serval::wire::json::JsonWriter;
use std::net::Ipv4Addr;
use std::rc::Rc;

/// A status that was worked out for an object as it was read.
pub struct Worked {
    machine: Box<StatusPatch>,
    read: Rc<Object>,
    status: String,
    wall: Wall,
}

impl core::fmt::Debug for Worked {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.status)
    }
}

/// What becomes of an order.
enum Next {
    /// It goes on then.
    At(Time),
    Over(bool),
}

/// Carries out what is due, one after the other, and tells the controller.
pub fn write_due(
    process: &mut Process,
    api: &mut Api,
    conflicts: Rate,
    prng: &mut Prng,
    net: &mut Network,
) {
    let mut buffer = core::mem::take(&mut api.status_buffer);
    buffer.resize(1 << 16, 0);
    while let Some(order) = process.orders.first_mut().filter(|order| order.due <= net.now) {
        let is_cut = net.blocked_until(process.node, Node::Api).is_some();
        let next = if !api.running || is_cut || conflicts.happens(prng) {
            net.injected.add(Fault::StatusConflicts);
            Next::Over(false)
        } else if let Some(worked) = order.worked.take() {
            patch(order, worked, api, net)
        } else {
            read(order, &mut buffer, api, prng, net)
        };
        match next {
            Next::At(at) => {
                order.due = at;
                net.schedule(at, Event::Step(Step::Status(process.node)));
            }
            Next::Over(ok) => {
                let order = process.orders.remove(0);
                process.controller.status_written(order.kind, &order.key, ok);
                // The others waited for it.
                let next = process.orders.first().map(|order| order.due.max(net.now));
                if let Some(at) = next {
                    net.schedule(at, Event::Step(Step::Status(process.node)));
                }
            }
        }
    }
    api.status_buffer = buffer;
}

fn key_of(order: &Order) -> Key {
    let (namespace, name) = (order.key.namespace.as_str(), order.key.name.as_str());
    (ModelKind::ALL[order.kind as usize], namespace.to_string(), name.to_string())
}

/// The object is read, and its status worked out.
fn read(
    order: &mut Order,
    buffer: &mut [u8],
    api: &Api,
    prng: &mut Prng,
    net: &mut Network,
) -> Next {
    let mut machine = zeroed_box::<StatusPatch>();
    machine.start(Prng::new(1));
    let (place, uid) = (Watched::ALL[order.kind as usize], order.uid.as_str());
    let (namespace, name) = (order.key.namespace.as_str(), order.key.name.as_str());
    let start = Input::Start { kind: place, namespace, name, uid };
    if ask(&mut machine, start, net) != Asks::Request {
        return Next::Over(true);
    }
    let key = key_of(order);
    let Some(object) = api.objects.get(&key).cloned() else {
        ask(&mut machine, Input::Answer { status: 404, retry_after_ms: 0, document: None }, net);
        return Next::Over(true);
    };
    if object.is_huge {
        sometimes("a status finds its object too large");
        ask(&mut machine, Input::Failed(Trouble::AnswerTooLarge), net);
        return Next::Over(false);
    }
    if object.uid != order.uid {
        sometimes("a status is worked out for an object that was made anew");
    }
    let before = Parsed::of(object.json().as_bytes()).expect("objects are JSON");
    let Some(wanted) = Parsed::of(order.body.as_bytes()) else {
        panic!("statuses are JSON: {}", order.body);
    };
    let answer = Input::Answer { status: 200, retry_after_ms: 0, document: Some(&before) };
    if ask(&mut machine, answer, net) != Asks::Compute {
        return Next::Over(true);
    }
    let mut json = JsonWriter::new(buffer);
    let wall = clocks(net.now).wall;
    mark(&format!("{:?}", key.0), wanted.root());
    let differs = merge(order.kind, before.root(), wanted.root(), CONTROLLER, wall, &mut json);
    let what = if differs { "written" } else { "not to be written" };
    net.trace.say(net.now, &format!("status of {} {what}", order.key));
    if !differs {
        return Next::Over(true);
    }
    let status = json.finish().expect("a status fits").to_string();
    order.worked = Some(Worked { machine, read: object, status, wall });
    Next::At(net.now + prng.range(MS, 40 * MS))
}

/// The status is written, unless somebody else wrote meanwhile.
fn patch(order: &Order, worked: Worked, api: &mut Api, net: &mut Network) -> Next {
    let Worked { mut machine, read, status, wall } = worked;
    let named = match machine.input(Input::Computed(&status), clocks(net.now)) {
        Ok(()) => permitted(&mut machine, net),
        Err(_) => unreachable!("all outputs were polled"),
    };
    let Some(named) = named else { return Next::Over(true) };
    let object = api.objects.get(&key_of(order)).cloned();
    let Some(object) = object else {
        sometimes("an object goes while its status is worked out");
        return Next::Over(true);
    };
    if named.is_some_and(|named| named != object.version.to_string()) {
        sometimes("somebody else writes while a status is worked out");
        return Next::At(net.now);
    }
    let written = Parsed::of(status.as_bytes()).expect("a status is JSON");
    let addresses = written.root().get("addresses");
    let addresses = addresses.iter().flat_map(|a| a.items()).filter_map(|a| {
        let text = a.get("value").and_then(Value::str)?;
        Some(text.parse::<Ipv4Addr>().ok()?.octets())
    });
    let addresses = addresses.collect();
    s7::is_of((&order.uid, &read), &object, net);
    s7::written(&object, &status, wall, net);
    if api.is_still {
        s7::without_cause(&object, &status, net);
    }
    api.write_status(&object, status, addresses);
    Next::Over(true)
}

/// What a machine does next.
#[derive(Debug, PartialEq, Eq)]
enum Asks {
    /// For something that it may.
    Request,
    Compute,
    Nothing,
}

/// Gives the machine an input; what it then wants.
fn ask(machine: &mut StatusPatch, input: Input<'_>, net: &mut Network) -> Asks {
    machine.input(input, clocks(net.now)).expect("all outputs were polled");
    match machine.poll_output() {
        Some(Output::Request(request)) => {
            match s10::permits(word(request.method), &path_of(&request.path), net) {
                true => Asks::Request,
                false => Asks::Nothing,
            }
        }
        Some(Output::Compute) => Asks::Compute,
        _ => Asks::Nothing,
    }
}

/// The version that the machine's PATCH is for, if it may be sent and names one.
fn permitted(machine: &mut StatusPatch, net: &mut Network) -> Option<Option<String>> {
    let Some(Output::Request(request)) = machine.poll_output() else { return None };
    let patch = Parsed::of(request.body).expect("a patch is JSON");
    let version = patch.root().at(&["metadata", "resourceVersion"]).and_then(Value::str);
    s10::permits(word(request.method), &path_of(&request.path), net)
        .then(|| version.map(str::to_string))
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
