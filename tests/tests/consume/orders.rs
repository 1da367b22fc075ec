//! The example of README, a service with events and a projection of its own, run as it stands: killed anywhere, its projection is
//! the fold of its stream.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cim_keys::nats::consumers;
use cim_keys::nats::link::Link;
use cim_keys::nats::streams;
use cim_keys::nats::target::Target;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::consumer::ConsumerConfig;
use cim_keys_core::headers::{self, Headers};
use cim_keys_core::jetstream;
use cim_keys_core::stream::StreamConfig;
use cim_keys_tests::desk::block_on;
use cim_keys_tests::program::{Said, example, said};
use cim_keys_tests::proxy::Proxy;
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::tools::workspace_root;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

const SUBJECTS: &str = "cowboyai.security.orders.>";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A server, and a folder for the service.
struct Shop {
    server: NatsServer,
    folder: TempDir,
}

impl Shop {
    /// With stream and consumer as the example makes them, but that a killed worker's message comes again soon.
    fn new() -> Shop {
        let shop = Shop { server: NatsServer::plain(), folder: TempDir::new().unwrap() };
        block_on(async {
            let link = Link::connect(&Target::open(&shop.server.url()), 0).await.unwrap();
            let stream = StreamConfig::durable("ORDERS", vec![SUBJECTS.into()]);
            streams::ensure_one(&link, &stream, None).await.unwrap();
            let consumer =
                ConsumerConfig::durable("ORDERS", "orders-by-customer", SUBJECTS.into()).in_order();
            let consumer = ConsumerConfig { ack_wait: 300_000_000, ..consumer };
            consumers::ensure_one(&link, &consumer).await.unwrap();
        });
        shop
    }

    fn place(&self, words: &[&str]) -> Said {
        let folder = self.folder.path().to_str().unwrap();
        run(&[&["place", folder, &self.server.url()], words].concat())
    }

    /// The worker, what it tells in a file.
    fn follow(&self, url: &str, name: &str) -> Worker {
        let out = self.folder.path().join(name);
        let mut command = Command::new(example("orders"));
        let child = command
            .args(["follow", self.folder.path().to_str().unwrap(), url])
            .stdout(File::create(&out).unwrap())
            .stderr(Stdio::inherit());
        Worker { child: child.spawn().unwrap(), out }
    }

    fn shown(&self) -> Value {
        run(&["show", self.folder.path().to_str().unwrap()]).json()
    }

    /// Everything on the stream.
    fn stored(&self) -> Vec<StoredMessage> {
        let mut client = Client::connect(self.server.address()).unwrap();
        let mut api = |tail: &str, body: String| {
            client.request(&format!("$JS.API.STREAM.{tail}.ORDERS"), &[], body.as_bytes()).unwrap()
        };
        let last = api("INFO", String::new()).json()["state"]["last_seq"].as_u64().unwrap();
        let get = |sequence| {
            let answer = api("MSG.GET", jetstream::message_get(sequence));
            jetstream::message(&answer.payload).unwrap().unwrap()
        };
        (1..=last).map(get).collect()
    }

    /// What the stream comes to, folded here.
    fn folded(&self) -> Value {
        let mut customers: BTreeMap<String, [i64; 3]> = BTreeMap::new();
        let (mut unread, messages) = (0, self.stored());
        for message in &messages {
            let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
            let is_event = message.headers.only(headers::CIM_EVENT_ID).is_some();
            let Some(customer) = body["customer"].as_str().filter(|_| is_event) else {
                unread += 1;
                continue;
            };
            let sums = customers.entry(customer.to_owned()).or_default();
            match message.headers.only(headers::CIM_EVENT_TYPE) {
                Some("orders.order.placed") => {
                    sums[0] += 1;
                    sums[1] += body["cents"].as_i64().unwrap();
                }
                Some("orders.invoice.requested") => sums[2] += 1,
                other => panic!("{other:?}"),
            }
        }
        let customers = customers.into_iter().map(|(customer, [orders, cents, invoices])| {
            json!({ "customer": customer, "orders": orders, "cents": cents, "invoices": invoices })
        });
        json!({ "reached": messages.len(), "customers": customers.collect::<Vec<_>>(), "unread": unread })
    }

    /// Follows until the projection has come to the end of the stream, each order with its invoice.
    fn settled(&self) -> Value {
        let worker = self.follow(&self.server.url(), "last.out");
        let shown = wait::until("the projection is at the end of the stream", || {
            let (mut shown, folded) = (self.shown(), self.folded());
            shown["unread"] = shown["unread"].as_array().unwrap().len().into();
            let whole = |sums: &Value| sums["orders"] == sums["invoices"];
            let whole = folded["customers"].as_array().unwrap().iter().all(whole);
            (whole && shown == folded).then_some(shown)
        });
        worker.stop();
        shown
    }
}

struct Worker {
    child: Child,
    out: PathBuf,
}

impl Worker {
    /// Messages that it has told of.
    fn told(&self) -> Vec<Value> {
        told(&self.out)
    }

    fn kill(mut self) -> Vec<Value> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.told()
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

/// Messages of which a worker has told in this file.
fn told(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["sequence"].is_u64()).collect()
}

fn run(words: &[&str]) -> Said {
    said(Command::new(example("orders")).args(words).stdin(Stdio::null()).output().unwrap())
}

fn only<'a>(headers: &'a Headers, name: &str) -> &'a str {
    headers.only(name).unwrap_or_else(|| panic!("{name}: {headers:?}"))
}

#[test]
fn the_lines_of_the_readme_do_what_they_say() {
    let readme = std::fs::read_to_string(workspace_root().join("README.md")).unwrap();
    let (_, section) = readme.split_once("### A service of another domain\n").unwrap();
    let block = section.split("```").nth(1).unwrap();
    let lines: Vec<&str> = block.lines().filter(|line| !line.is_empty()).collect();
    let server = NatsServer::plain();
    let home = TempDir::new().unwrap();
    let command = |line: &str| {
        let words = line.strip_prefix("cargo run -p cim-keys --example orders -- ").unwrap();
        let words = words.split('#').next().unwrap().replace("nats://127.0.0.1:4222", &server.url());
        let mut command = Command::new(example("orders"));
        command.current_dir(home.path()).args(words.split_whitespace()).stdin(Stdio::null());
        command
    };
    let [setup, place, follow, show] = lines.as_slice() else { panic!("{lines:?}") };
    // Twice is once.
    for line in [setup, setup, place] {
        let said = said(command(line).output().unwrap());
        assert_eq!(said.status, Some(0), "{line}: {said:?}");
    }
    let out = home.path().join("out");
    let mut follow = command(follow);
    let child = follow.stdout(File::create(&out).unwrap()).spawn().unwrap();
    let worker = Worker { child, out };
    wait::until("order and invoice", || (worker.told().len() == 2).then_some(()));
    worker.stop();
    let shown = said(command(show).output().unwrap()).json();
    assert_eq!(
        (&shown["reached"], &shown["customers"]),
        (&json!(2), &json!([{ "customer": "ann", "orders": 1, "cents": 4200, "invoices": 1 }]))
    );
}

#[test]
fn what_is_published_has_the_seven_headers_and_the_trace_and_so_has_what_comes_of_it() {
    let shop = Shop::new();
    let placed = shop.place(&["ann", "4200", TRACE]);
    assert_eq!((placed.status, placed.stdout.as_str()), (Some(0), "ORDERS 1\n"), "{placed:?}");
    let worker = shop.follow(&shop.server.url(), "out");
    let told = wait::until("order and invoice", || Some(worker.told()).filter(|told| told.len() == 2));
    worker.stop();
    assert_eq!((&told[0]["traceparent"], &told[1]["traceparent"]), (&json!(TRACE), &json!(TRACE)));
    let [order, invoice] = shop.stored().try_into().unwrap();
    for message in [&order, &invoice] {
        for name in headers::ALL {
            only(&message.headers, name);
        }
        assert_eq!(only(&message.headers, "traceparent"), TRACE);
        let kind = only(&message.headers, headers::CIM_EVENT_TYPE);
        assert_eq!(message.subject, format!("cowboyai.security.{kind}"));
        assert_eq!(only(&message.headers, "Content-Type"), "application/json");
        assert_eq!(
            only(&message.headers, headers::CIM_EVENT_ID),
            only(&message.headers, headers::NATS_MSG_ID)
        );
    }
    let (order, invoice) = (order.headers, invoice.headers);
    let id = only(&order, headers::CIM_EVENT_ID);
    assert_eq!(only(&invoice, headers::CIM_EVENT_TYPE), "orders.invoice.requested");
    assert_eq!(only(&invoice, headers::CIM_CAUSATION_ID), id);
    assert_eq!(only(&invoice, headers::CIM_CORRELATION_ID), only(&order, headers::CIM_CORRELATION_ID));
}

#[test]
fn a_trace_that_is_none_is_an_error_of_who_publishes_and_nothing_to_who_reads() {
    let shop = Shop::new();
    for (trace, code) in [
        ("4711", "traceparent-form"),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "traceparent-version"),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", "traceparent-trace-id"),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "traceparent-parent-id"),
    ] {
        let refused = shop.place(&["ann", "1", trace]);
        assert_eq!((refused.status, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
        assert!(refused.stderr.starts_with(&format!("{code}: ")), "{refused:?}");
    }
    assert!(shop.stored().is_empty());
    // Somebody who is less careful, and somebody who says nothing that can be read.
    let mut client = Client::connect(shop.server.address()).unwrap();
    let id = "0199f3a0-0000-7000-8000-000000000001";
    let seven = [
        ("CIM-Correlation-Id", id),
        ("CIM-Causation-Id", id),
        ("CIM-Event-Type", "orders.order.placed"),
        ("CIM-Event-Id", id),
        ("CIM-Timestamp", "2026-11-25T14:00:00.000Z"),
        ("CIM-Source", "somebody"),
        ("Nats-Msg-Id", id),
    ];
    let order = json!({ "order": id, "customer": "bob", "cents": 7 }).to_string();
    let subject = "cowboyai.security.orders.order.placed";
    let careless = [&seven[..], &[("traceparent", "none")]].concat();
    client.request(subject, &careless, order.as_bytes()).unwrap();
    client.request(subject, &[], b"no event").unwrap();
    client.request(subject, &seven[2..3], order.as_bytes()).unwrap();
    let worker = shop.follow(&shop.server.url(), "out");
    let told = wait::until("four messages", || Some(worker.told()).filter(|told| told.len() == 4));
    worker.stop();
    let first = told.iter().find(|told| told["sequence"] == 1).unwrap();
    assert_eq!((&first["no_trace"], &first["traceparent"]), (&json!("traceparent-form"), &Value::Null));
    assert!(shop.stored()[3].headers.only("traceparent").is_none());
    let shown = shop.settled();
    assert_eq!((&shown["reached"], &shown["unread"]), (&json!(4), &json!(2)));
    assert_eq!(shown["customers"][0], json!({ "customer": "bob", "orders": 1, "cents": 7, "invoices": 1 }));
}

#[test]
fn killed_between_commit_and_acknowledgement_nothing_is_folded_twice() {
    let shop = Shop::new();
    for round in 0..3 {
        assert_eq!(shop.place(&["ann", "100"]).status, Some(0));
        let proxy = Proxy::start(shop.server.address());
        // The rows are committed, and the server hears nothing of it.
        let held = proxy.hold(1, |subject| subject.starts_with("$JS.ACK.ORDERS."));
        let worker = shop.follow(&proxy.url(), "killed.out");
        wait::until("it acknowledges", || (held.met() == 1).then_some(()));
        let sequence = round * 2 + 1;
        assert_eq!(shop.shown()["reached"], sequence);
        assert!(worker.kill().is_empty(), "it was killed before it could tell");
        // What is held back finds nobody any more.
        proxy.cut_all();
        held.let_go();
        // It comes again, changes nothing, and what stands behind it is folded.
        let shown = shop.settled();
        assert_eq!(
            (&shown["reached"], &shown["customers"][0]["orders"]),
            (&json!(sequence + 1), &json!(round + 1))
        );
        let told = told(&shop.folder.path().join("last.out"));
        assert_eq!((&told[0]["sequence"], &told[0]["folded"]), (&json!(sequence), &json!(false)), "{told:?}");
    }
}

#[test]
fn killed_again_and_again_the_projection_is_the_fold_of_the_stream() {
    let shop = Shop::new();
    let mut folded_twice = 0;
    for round in 0..20 {
        let cents = (round * 7 + 1).to_string();
        for customer in ["ann", "bob"] {
            assert_eq!(shop.place(&[customer, &cents]).status, Some(0));
        }
        let before = shop.shown()["reached"].as_u64().unwrap();
        let worker = shop.follow(&shop.server.url(), &format!("{round}.out"));
        // Not always in the same place.
        wait::until("it has begun", || {
            (shop.shown()["reached"].as_u64().unwrap() >= before + round % 3).then_some(())
        });
        let told = worker.kill();
        folded_twice += told.iter().filter(|told| told["folded"] == false).count();
    }
    let shown = shop.settled();
    assert_eq!((&shown["reached"], &shown["customers"][1]["orders"]), (&json!(80), &json!(20)));
    // Each once, however often it was handled.
    let mut ids: Vec<String> = shop
        .stored()
        .iter()
        .map(|message| only(&message.headers, headers::CIM_EVENT_ID).to_owned())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 80, "{folded_twice} came again");
}

/// Somebody who has lost the file does not go on in the middle.
#[test]
fn a_file_that_is_behind_its_consumer_is_not_gone_on_with() {
    let shop = Shop::new();
    assert_eq!(shop.place(&["ann", "1"]).status, Some(0));
    shop.settled();
    for file in std::fs::read_dir(shop.folder.path()).unwrap() {
        let file = file.unwrap();
        if file.file_name().to_string_lossy().starts_with("orders.db") {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    assert_eq!(shop.place(&["ann", "1"]).status, Some(0));
    let folder = shop.folder.path().to_str().unwrap();
    let gap = run(&["follow", folder, &shop.server.url()]);
    assert_eq!(gap.status, Some(1), "{gap:?}");
    assert!(gap.stderr.contains("the consumer is at 3, and this file has come to 0"), "{gap:?}");
}
