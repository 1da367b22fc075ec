//! A consumer's node is lost, of three.

use cim_keys::nats::consumers;
use cim_keys::nats::link::Link;
use cim_keys::nats::streams;
use cim_keys::nats::target::Target;
use cim_keys_core::consumer::KEYS_SERVICE;
use cim_keys_core::stream::KEYS_EVENTS;
use cim_keys_tests::cluster::{Cluster, NODES};
use cim_keys_tests::consume::{SUBJECT, number, subscription, wanted};
use cim_keys_tests::desk::block_on;
use cim_keys_tests::pipeline::ask;
use cim_keys_tests::tools::Version;
use cim_keys_tests::wait;
use cim_keys_tests::wire::Client;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long nothing may come after its node is lost.
const RESUMED: Duration = Duration::from_secs(15);
const MESSAGES: usize = 300;

#[test]
fn deliveries_go_on_within_15_s_after_the_node_of_the_consumer_is_lost() {
    let mut cluster = Cluster::start(Version::Newest);
    let urls: Vec<String> = (0..NODES).map(|node| cluster.node(node).url()).collect();
    let wanted = wanted(Duration::from_secs(30));
    wait::until("streams and consumers are made", || {
        block_on(async {
            let link = Link::connect(&Target::open(&urls[0]), 0).await.ok()?;
            // A young leader may refuse until it knows that every server has room.
            let made = streams::ensure(&link, &wanted).await.ok()?;
            assert_eq!(made.events.config.name, KEYS_EVENTS);
            consumers::ensure(&link, &wanted).await.ok()
        })
    });
    cluster.whole(KEYS_EVENTS);
    let mut client = Client::connect(cluster.node(0).address()).unwrap();
    for number in 0..MESSAGES {
        let ack = client.request(SUBJECT, &[], number.to_string().as_bytes()).unwrap().json();
        assert!(ack["seq"].is_u64(), "{ack}");
    }
    let name = format!("$JS.API.CONSUMER.INFO.KEYS_EVENTS.{KEYS_SERVICE}");
    let info = ask(&mut client, &name, &[], b"");
    assert_eq!(
        info["cluster"]["replicas"].as_array().unwrap().len(),
        NODES - 1,
        "as many as the stream: {info}"
    );
    let leader: usize =
        info["cluster"]["leader"].as_str().unwrap().strip_prefix("node").unwrap().parse().unwrap();
    drop(client);

    // Over another node than the one that is lost: its connection stays, and only the consumer is silent.
    let other = (leader + 1) % NODES;
    let mut seen = BTreeSet::new();
    let (mut quiet, mut last) = (Duration::ZERO, Instant::now());
    block_on(async {
        let mut consumer = subscription(Target::open(&urls[other])).batch(10);
        while seen.len() < MESSAGES {
            let next = tokio::time::timeout(wait::PATIENCE * 2, consumer.delivery()).await;
            let delivery =
                next.unwrap_or_else(|_| panic!("{} of {MESSAGES}: {:?}", seen.len(), consumer.state()));
            quiet = quiet.max(last.elapsed());
            last = Instant::now();
            // Only what was confirmed counts; all else comes again.
            if delivery.ack().await.is_ok() {
                seen.insert(number(&delivery));
            }
            if seen.len() == MESSAGES / 3 && cluster.node(leader).is_running() {
                cluster.kill(leader);
                last = Instant::now();
            }
        }
    });
    assert!(!cluster.node(leader).is_running(), "it was lost");
    assert!(quiet < RESUMED, "nothing came for {quiet:?}");
    assert_eq!(seen, (0..MESSAGES).collect());
}
