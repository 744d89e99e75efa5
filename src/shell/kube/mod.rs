//! Drivers of the Kubernetes client: sockets, TLS, files and threads around `crate::kube`.
//!
//! In: a kubeconfig or a pod's files. Out: one [`watch_thread::WatchThread`] per kind, which hands
//! its events to the controller thread over a ring ([`record`]), and a blocking
//! [`api_client::ApiClient`] for status writes and the Lease, with a connection of its own.
//!
//! Everything is built before the threads start; after that nothing here allocates but rustls and
//! serde_json, in their slots.

pub mod access;
pub mod api_client;
pub mod credentials;
pub mod hosts;
pub mod record;
pub mod transport;
pub mod watch_thread;
