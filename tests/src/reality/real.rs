//! A script on a real server.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use base64ct::{Base64, Encoding};
use cim_keys_core::stream::StreamConfig;
use serde_json::{Value, json};

use super::Flavour;
use super::script::{Barrier, Heard, Kept, Say};
use crate::cluster::{Cluster, NODES};
use crate::server::{NatsServer, Setup};
use crate::tools::Version;
use crate::wire::{Client, Message};
use crate::{streams, wait};

/// How long one look waits for an answer of the API that may not come.
const LOOK: Duration = Duration::from_millis(500);

/// One server or three, and a client.
pub struct Server {
    flavour: Flavour,
    judged: Flavour,
    nodes: Nodes,
    client: Client,
    replies: String,
    said: u64,
    names: u64,
    answers: BTreeMap<String, Message>,
    /// Whether nothing gets a majority.
    held: bool,
    /// Inboxes of messages whose answers are late.
    waiting: Vec<String>,
}

enum Nodes {
    One(Box<NatsServer>),
    Three(Cluster),
}

impl Server {
    /// Starts what the flavour says.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn start(flavour: Flavour) -> Server {
        let nodes = match flavour {
            Flavour::Newest => Nodes::One(Box::new(Setup::plain(Version::Newest).start())),
            Flavour::Oldest => Nodes::One(Box::new(Setup::plain(Version::Oldest).start())),
            Flavour::Replicated => Nodes::Three(Cluster::start(Version::Newest)),
        };
        let (client, replies) = connect(nodes.any());
        Server {
            flavour,
            judged: flavour,
            nodes,
            client,
            replies,
            said: 0,
            names: 0,
            answers: BTreeMap::new(),
            held: false,
            waiting: Vec::new(),
        }
    }

    /// By whose rules it is judged.
    pub fn judged_as(&self) -> Flavour {
        self.judged
    }

    /// Lets it be judged by the rules of another one: for a test of the comparison itself.
    pub fn judge_as(&mut self, flavour: Flavour) {
        self.judged = flavour;
    }

    /// A name that no stream had before.
    pub(super) fn next_name(&mut self) -> String {
        self.names += 1;
        format!("S{}", self.names)
    }

    /// Makes a stream, and waits until it has a leader.
    pub(super) fn create(&mut self, config: &StreamConfig) {
        let mut body = streams::to_json(config);
        body["num_replicas"] = json!(if self.flavour == Flavour::Replicated { NODES } else { 1 });
        // Scripts end with it.
        body["deny_delete"] = json!(false);
        body["deny_purge"] = json!(false);
        let made = self.api(&format!("STREAM.CREATE.{}", config.name), &body);
        assert!(made["error"].is_null(), "{made}");
        if let Nodes::Three(cluster) = &self.nodes {
            cluster.whole(&config.name);
        }
        self.is_heard_of(&config.name);
    }

    /// Our node may hear of a stream's leader later than the leader itself: until then nobody answers.
    fn is_heard_of(&mut self, stream: &str) {
        let subject = format!("{stream}.event");
        let stranger = super::say().to("nobody");
        wait::until("the stream is heard of", || {
            let inbox = self.publish(&subject, &stranger)?;
            self.answer(&inbox).status().is_none().then_some(())
        });
    }

    pub(super) fn delete(&mut self, stream: &str) {
        let gone = self.api(&format!("STREAM.DELETE.{stream}"), &json!({}));
        // Asked twice, where the first answer was late.
        assert!(gone["success"] == true || gone["error"]["err_code"] == 10059, "{gone}");
    }

    /// Says all, then listens for all answers.
    pub(super) fn say(&mut self, stream: &str, list: &[Say]) -> Vec<Heard> {
        let subject = format!("{stream}.event");
        let inboxes: Vec<Option<String>> = list.iter().map(|say| self.publish(&subject, say)).collect();
        if self.held {
            // The stream works messages off in their order: once this one is refused, all before it were looked at.
            let last = super::say().to("nobody");
            let probe = self.publish(&subject, &last).unwrap_or_default();
            self.answer(&probe);
        }
        let mut all = Vec::new();
        for inbox in inboxes {
            let Some(inbox) = inbox else {
                all.push(Heard::Unasked);
                continue;
            };
            if self.held && !self.answers.contains_key(&inbox) {
                self.waiting.push(inbox);
                all.push(Heard::Silence);
                continue;
            }
            all.push(heard(&self.answer(&inbox)));
        }
        all
    }

    /// Something happens; what is heard of messages that were held back.
    pub(super) fn barrier(&mut self, barrier: Barrier, stream: &str) -> Vec<Heard> {
        match (barrier, &mut self.nodes) {
            (Barrier::Pause(millis), _) => {
                let (begun, pause) = (Instant::now(), Duration::from_millis(millis));
                wait::until("time passes", || (begun.elapsed() >= pause).then_some(()));
            }
            (Barrier::Restart, Nodes::One(server)) => {
                server.restart();
                self.reconnect();
            }
            (Barrier::Keep, Nodes::One(server)) => {
                let (store, aside) = (server.folder().join("store"), server.folder().join("aside"));
                server.stop();
                let _ = fs::remove_dir_all(&aside);
                copy(&store, &aside).expect("the store is copied");
                server.restart();
                self.reconnect();
            }
            (Barrier::Rewind, Nodes::One(server)) => {
                let (store, aside) = (server.folder().join("store"), server.folder().join("aside"));
                server.kill();
                fs::remove_dir_all(&store).expect("the store goes away");
                copy(&aside, &store).expect("the store is copied back");
                server.restart();
                self.reconnect();
            }
            (Barrier::Hold, Nodes::Three(cluster)) => {
                let leader = cluster.whole(stream);
                self.reconnect_to(leader);
                self.others(leader, Cluster::freeze);
                self.held = true;
            }
            (Barrier::Release, Nodes::Three(cluster)) => {
                for node in 0..NODES {
                    cluster.thaw(node);
                }
                self.held = false;
                let waiting = std::mem::take(&mut self.waiting);
                return waiting.iter().map(|inbox| heard(&self.answer(inbox))).collect();
            }
            (Barrier::Isolate, Nodes::Three(cluster)) => {
                let leader = cluster.whole(stream);
                self.reconnect_to(leader);
                self.others(leader, Cluster::kill);
                self.held = true;
            }
            (Barrier::Fall, Nodes::Three(cluster)) => {
                let leader = cluster.leader(stream);
                cluster.kill(leader);
                for node in (0..NODES).filter(|node| *node != leader) {
                    if !cluster.node(node).is_running() {
                        cluster.restart(node);
                    }
                }
                self.held = false;
                self.waiting.clear();
                self.gap(stream);
                self.follow_leader(stream);
            }
            (Barrier::Topple, Nodes::Three(cluster)) => {
                let leader = cluster.leader(stream);
                wait::until("all is sent to the followers", || cluster.has_sent_all(leader).then_some(()));
                cluster.kill(leader);
                for node in (0..NODES).filter(|node| *node != leader) {
                    cluster.thaw(node);
                }
                self.held = false;
                self.waiting.clear();
                self.follow_leader(stream);
            }
            (Barrier::Back, Nodes::Three(cluster)) => {
                for node in 0..NODES {
                    if !cluster.node(node).is_running() {
                        cluster.restart(node);
                    }
                }
                cluster.whole(stream);
                self.is_heard_of(stream);
            }
            (other, _) => panic!("{other:?} is not for {:?}", self.flavour),
        }
        Vec::new()
    }

    /// All that is stored, as the leader has it.
    pub(super) fn stored(&mut self, stream: &str) -> Vec<Kept> {
        let last = self.api(&format!("STREAM.INFO.{stream}"), &json!({}))["state"]["last_seq"].as_u64();
        let mut all = Vec::new();
        for sequence in 1..=last.expect("a last sequence") {
            let got = self.api(&format!("STREAM.MSG.GET.{stream}"), &json!({ "seq": sequence }));
            let message = &got["message"];
            let bytes =
                |value: &Value| Base64::decode_vec(value.as_str().unwrap_or_default()).expect("base64");
            let headers = Message {
                subject: String::new(),
                sid: String::new(),
                reply: None,
                headers: bytes(&message["hdrs"]),
                payload: Vec::new(),
            };
            let lines = headers.header_lines().into_iter().filter(|(name, _)| !name.is_empty());
            all.push(Kept {
                sequence: message["seq"].as_u64().expect("a sequence"),
                headers: lines.collect(),
                payload: String::from_utf8_lossy(&bytes(&message["data"])).into_owned(),
            });
        }
        all
    }

    /// Nobody leads: what is published now is answered by nobody, and stored never.
    fn gap(&mut self, stream: &str) {
        self.reconnect();
        let (subject, lost) = (format!("{stream}.event"), super::say().payload("in the gap"));
        wait::until("nobody answers for the stream", || {
            let inbox = self.publish(&subject, &lost)?;
            let answer = self.listen(&inbox, LOOK)?;
            assert_eq!(heard(&answer), Heard::Nobody, "the leader is dead");
            Some(())
        });
    }

    fn follow_leader(&mut self, stream: &str) {
        if let Nodes::Three(cluster) = &self.nodes {
            let leader = cluster.leader(stream);
            self.reconnect_to(leader);
            self.is_heard_of(stream);
        }
    }

    fn others(&mut self, leader: usize, act: impl Fn(&mut Cluster, usize)) {
        if let Nodes::Three(cluster) = &mut self.nodes {
            for node in (0..NODES).filter(|node| *node != leader) {
                act(cluster, node);
            }
        }
    }

    fn reconnect(&mut self) {
        (self.client, self.replies) = connect(self.nodes.any());
        self.answers.clear();
    }

    fn reconnect_to(&mut self, node: usize) {
        if let Nodes::Three(cluster) = &self.nodes {
            (self.client, self.replies) = connect(cluster.node(node));
            self.answers.clear();
        }
    }

    fn publish(&mut self, subject: &str, say: &Say) -> Option<String> {
        let headers: Vec<(&str, &str)> = say.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let inbox = say.asks.then(|| self.inbox());
        self.client
            .publish(subject, inbox.as_deref(), &headers, say.payload.as_bytes())
            .expect("the connection takes a message");
        inbox
    }

    fn inbox(&mut self) -> String {
        self.said += 1;
        format!("{}.{}", self.replies, self.said)
    }

    /// The answer to a message: it must come.
    fn answer(&mut self, inbox: &str) -> Message {
        let found = self.listen(inbox, wait::PATIENCE);
        found.unwrap_or_else(|| panic!("{:?} does not answer", self.flavour))
    }

    fn listen(&mut self, inbox: &str, patience: Duration) -> Option<Message> {
        while !self.answers.contains_key(inbox) {
            let message = self.client.next(patience).ok()?;
            self.answers.insert(message.subject.clone(), message);
        }
        self.answers.remove(inbox)
    }

    /// An answer of the JetStream API. While a cluster finds its leader there is none: it is asked again.
    fn api(&mut self, subject: &str, body: &Value) -> Value {
        wait::until("the JetStream API answers", || {
            let inbox = self.inbox();
            let (subject, body) = (format!("$JS.API.{subject}"), body.to_string());
            self.client.publish(&subject, Some(&inbox), &[], body.as_bytes()).expect("the connection");
            let answer = self.listen(&inbox, LOOK)?;
            answer.status().is_none().then(|| answer.json())
        })
    }
}

impl Nodes {
    fn any(&self) -> &NatsServer {
        match self {
            Nodes::One(server) => server,
            Nodes::Three(cluster) => cluster.node(cluster.running().next().expect("a node that runs")),
        }
    }
}

fn connect(server: &NatsServer) -> (Client, String) {
    let mut client = Client::connect(server.address()).expect("the server takes a client");
    let replies = format!("{}.answer", client.inbox_prefix());
    client.subscribe(&format!("{replies}.>")).expect("a subscription");
    (client, replies)
}

fn heard(message: &Message) -> Heard {
    if message.status() == Some(503) {
        return Heard::Nobody;
    }
    if message.payload.is_empty() {
        return Heard::Taken;
    }
    let answer = message.json();
    if let Some(code) = answer["error"]["err_code"].as_u64() {
        return Heard::Error(u32::try_from(code).unwrap_or(u32::MAX));
    }
    let sequence = answer["seq"].as_u64().unwrap_or_else(|| panic!("no answer of a stream: {answer}"));
    Heard::Ack { sequence, duplicate: answer["duplicate"] == true }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
