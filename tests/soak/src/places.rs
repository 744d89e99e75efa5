//! Addresses of all that there is, as scripts/soak sets it up.
//!
//! In: the work folder and the network namespaces of the two Nodes. Out: addresses. Routers have a
//! Node's network each; all else is in the cluster's, where the relays are, too.

use std::net::SocketAddr;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Places {
    /// Copies of the program, identities, state folders, logs.
    pub work: String,
    /// Files of the routers' network namespaces.
    pub netns: [String; 2],
    /// scripts/cluster.
    pub cluster: String,
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

impl Places {
    /// Router n itself.
    pub fn router(&self, n: usize, port: u16) -> SocketAddr {
        address(&format!("10.244.0.1{}:{port}", n + 1))
    }

    /// Its admin port.
    pub fn admin(&self, n: usize) -> SocketAddr {
        self.router(n, 9901)
    }

    /// Its port for probes and metrics.
    pub fn health(&self, n: usize) -> SocketAddr {
        self.router(n, 9902)
    }

    /// The controller's admin port.
    pub fn controller_health(&self) -> SocketAddr {
        address("127.0.0.1:9903")
    }

    /// Where clients find router n's HTTP.
    pub fn http_relay(&self, n: usize) -> SocketAddr {
        address(&format!("10.244.0.1:{}", 8000 + n))
    }

    /// Where clients find router n's HTTPS.
    pub fn https_relay(&self, n: usize) -> SocketAddr {
        address(&format!("10.244.0.1:{}", 8400 + n))
    }

    /// Where the controller finds router n's admin port.
    pub fn admin_relay(&self, n: usize) -> SocketAddr {
        address(&format!("10.244.0.1:{}", 9910 + n))
    }

    /// Where the controller finds the API server.
    pub fn api_relay(&self) -> SocketAddr {
        address("10.244.0.1:7443")
    }

    /// The API server.
    pub fn api(&self) -> SocketAddr {
        address("10.244.0.1:6443")
    }

    /// `kubectl proxy`, through which routes are changed.
    pub fn proxy(&self) -> SocketAddr {
        address("127.0.0.1:8001")
    }

    /// Backend n itself.
    pub fn backend(&self, n: usize) -> SocketAddr {
        address(&format!("127.0.0.1:{}", 3100 + n))
    }

    /// Where routers find it: two at one address, two at one port.
    pub fn backend_relay(&self, n: usize) -> SocketAddr {
        match n {
            0 | 1 => address(&format!("10.244.0.1:{}", 3200 + n)),
            _ => address(&format!("10.240.9.{}:3300", n - 1)),
        }
    }
}
