//! vopr: the whole of serval in one thread, from one seed, in virtual time.
//!
//! ```text
//! workload -> api_server =http=> controller (watch, reconcile, push) =http=> router (admin port)
//! clients  =http=> router (worker, io) =http=> backends
//! ```
//!
//! `=http=>` are streams of `network`, whose faults a seed chooses (`seed`). `checkers`
//! compare what
//! happens with `model`, which is written from the Gateway API's text alone.

pub mod abuser;
pub mod admin_port;
pub mod api_server;
pub mod backend;
pub mod capacities;
pub mod checkers;
pub mod client;
pub mod controller;
pub mod controllers;
pub mod faults;
pub mod http;
pub mod io;
pub mod lease_api;
pub mod lease_client;
pub mod ledger;
pub mod manifests;
pub mod marks;
pub mod model;
pub mod network;
pub mod observer;
pub mod pace;
pub mod parsed;
pub mod pauses;
pub mod pipe;
pub mod replay;
pub mod router;
pub mod seed;
pub mod shadow;
pub mod shrink;
pub mod sim;
pub mod status_api;
pub mod strangers;
pub mod summary;
pub mod tables;
pub mod target;
pub mod timeline;
pub mod totals;
pub mod trace;
pub mod tunnel;
pub mod workload;
