//! Three nats-servers as one cluster: loopback, own folders, JetStream on each.

use serde_json::Value;

use crate::server::{NatsServer, Setup, free_port};
use crate::tools::Version;
use crate::wait;

/// How many nodes there are.
pub const NODES: usize = 3;

/// The nodes, by their number.
pub struct Cluster {
    nodes: Vec<NatsServer>,
    frozen: [bool; NODES],
}

impl Cluster {
    /// Starts the nodes; returns when one leads JetStream and the others follow it.
    ///
    /// # Panics
    /// When they do not find each other, with the end of their logs.
    pub fn start(version: Version) -> Cluster {
        let ports: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
        let routes: Vec<String> = ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let routes = routes.join(", ");
        let node = |(number, port): (usize, &u16)| {
            let (routes, port) = (routes.clone(), *port);
            let configuration = move |folder: &std::path::Path| {
                format!(
                    "server_name: {}\njetstream {{ store_dir: {:?} }}\n\
                     cluster {{ name: three, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}\n",
                    name(number),
                    folder.join("store")
                )
            };
            Setup::configured(version, configuration).start()
        };
        let nodes = ports.iter().enumerate().map(node).collect();
        let cluster = Cluster { nodes, frozen: [false; NODES] };
        wait::until("the cluster has a leader that sees everybody", || {
            cluster.running().find(|node| {
                let seen = cluster.look(*node, "/jsz");
                let meta = &seen["meta_cluster"];
                meta["leader"] == name(*node) && all_follow(meta)
            })
        });
        cluster
    }

    /// A node.
    pub fn node(&self, number: usize) -> &NatsServer {
        &self.nodes[number]
    }

    /// The nodes that run and are not frozen.
    pub fn running(&self) -> impl Iterator<Item = usize> + '_ {
        (0..NODES).filter(|node| self.nodes[*node].is_running() && !self.frozen[*node])
    }

    /// The node that leads a stream and says so itself, once there is one.
    ///
    /// # Panics
    /// When none does after all patience.
    pub fn leader(&self, stream: &str) -> usize {
        wait::until(&format!("somebody leads {stream}"), || self.leader_now(stream))
    }

    /// The node that leads a stream, if one does.
    pub fn leader_now(&self, stream: &str) -> Option<usize> {
        self.running().find(|node| self.group(*node, stream)["leader"] == name(*node))
    }

    /// Waits until all replicas of a stream have what its leader has, and gives the leader.
    ///
    /// # Panics
    /// When they do not get there after all patience.
    pub fn whole(&self, stream: &str) -> usize {
        wait::until(&format!("all replicas of {stream} follow"), || {
            let leader = self.leader_now(stream)?;
            all_follow(&self.group(leader, stream)).then_some(leader)
        })
    }

    /// Whether the routes of a node wait for nothing: all that it sent is with its peers, or on its way in their sockets.
    pub fn has_sent_all(&self, node: usize) -> bool {
        let seen = self.look(node, "/routez");
        let routes = seen["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
        !routes.is_empty() && routes.iter().all(|route| route["pending_size"].as_u64().unwrap_or(0) == 0)
    }

    /// Ends a node at once (SIGKILL).
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
        self.frozen[node] = false;
    }

    /// Starts a node again, on its ports and its store.
    pub fn restart(&mut self, node: usize) {
        self.nodes[node].restart();
        self.frozen[node] = false;
    }

    /// A node stands still, its connections stay (SIGSTOP).
    pub fn freeze(&mut self, node: usize) {
        self.nodes[node].freeze();
        self.frozen[node] = true;
    }

    /// It goes on (SIGCONT).
    pub fn thaw(&mut self, node: usize) {
        self.nodes[node].thaw();
        self.frozen[node] = false;
    }

    /// What a node knows of a stream's replicas.
    fn group(&self, node: usize, stream: &str) -> Value {
        let seen = self.look(node, "/jsz?accounts=1&streams=1&config=0");
        let accounts = seen["account_details"].as_array().into_iter().flatten();
        let mut streams = accounts.flat_map(|account| account["stream_detail"].as_array()).flatten();
        streams
            .find(|detail| detail["name"] == stream)
            .map(|detail| detail["cluster"].clone())
            .unwrap_or_default()
    }

    fn look(&self, node: usize, path: &str) -> Value {
        serde_json::from_str(&self.nodes[node].monitor(path)).unwrap_or_default()
    }
}

fn name(node: usize) -> String {
    format!("node{node}")
}

/// Whether a leader sees all others, and they have what it has.
fn all_follow(group: &Value) -> bool {
    let replicas = group["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
    replicas.len() == NODES - 1
        && replicas.iter().all(|replica| replica["current"] == true && replica["lag"].is_null())
}
