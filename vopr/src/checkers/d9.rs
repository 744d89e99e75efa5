//! D9: the server name of a hello chooses the most specific listener, whose certificate is shown.

use crate::ledger::Greeting;
use crate::network::Network;
use crate::router::Router;
use crate::tables::Tables;

/// A client's hello was answered.
pub fn greeted(greeting: &Greeting, router: &Router, tables: &Tables, net: &mut Network) {
    let mut allowed = Vec::new();
    for (at, entry) in router.adopted.iter().enumerate() {
        let until = router.adopted.get(at + 1).map_or(u64::MAX, |next| next.0);
        let (Some(checksum), true) = (entry.1, until >= greeting.began) else { continue };
        let Some(table) = tables.of(&checksum) else { return };
        let Some(listener) = table.listener(greeting.address, &greeting.name) else { continue };
        let chain = listener.certificates.first().map(|pair| pair.chain.clone());
        allowed.push(((listener.gateway.clone(), listener.section.clone()), chain));
    }
    if !allowed.contains(&(greeting.listener.clone(), Some(greeting.chain.clone()))) {
        let text = format!("{greeting:?}; allowed was {allowed:?}");
        net.trace.violated(net.now, "D9", text);
    }
}
