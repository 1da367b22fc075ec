//! Several processes with one outbox, and processes that end in the middle of something.

use cim_keys::crash::Step;
use cim_keys::ports::JetStreamPort;
use cim_keys_tests::outbox::{Shop, event};
use cim_keys_tests::proxy::Proxy;
use cim_keys_tests::wait;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn process(file: &Path, words: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
    command.arg(file).args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What it says at its end; whether it ended well.
fn said(child: Child) -> (bool, String) {
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
}

fn publish(file: &Path, url: &str) {
    assert_eq!(said(process(file, &["publish", url])), (true, "Drained".to_owned()));
}

/// Each number once.
fn check(shop: &Shop, count: u64) {
    let mut numbers = shop.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    assert_eq!(shop.outbox().counts().unwrap().published, count);
}

#[test]
fn two_processes_journal_while_one_publishes() {
    let shop = Shop::new(Duration::from_secs(120));
    let (file, url) = (shop.file(), shop.server.url());
    let one = process(&file, &["journal", "0", "150"]);
    let two = process(&file, &["journal", "150", "300"]);
    // Both publish; one of them at a time can.
    let outbox = shop.outbox();
    wait::until("all is published", || {
        let pumps = [process(&file, &["publish", &url]), process(&file, &["publish", &url])];
        for (well, text) in pumps.map(said) {
            assert_eq!(text, if well { "Drained" } else { "locked" });
        }
        (outbox.counts().unwrap().published == 300).then_some(())
    });
    assert!(said(one).0 && said(two).0);
    check(&shop, 300);
    // Each one's in the order in which it journalled them.
    let numbers = shop.numbers();
    for half in [0..150, 150..300] {
        let of_one: Vec<u64> = numbers.iter().copied().filter(|number| half.contains(number)).collect();
        assert!(of_one.is_sorted(), "{of_one:?}");
    }
}

#[test]
fn a_process_ends_at_each_step() {
    let shop = Shop::new(Duration::from_millis(100));
    let (file, url) = (shop.file(), shop.server.url());
    let mut count = 0;
    let steps = [
        Step::ReadBegun,
        Step::ReadCame,
        Step::PersistWritten,
        Step::PersistCommitted,
        Step::SendBegun,
        Step::ReplyCame,
    ];
    for step in steps {
        for times in ["1", "2", "3"] {
            assert_eq!(
                said(process(&file, &["journal", &count.to_string(), &(count + 3).to_string()])).1,
                "journalled"
            );
            count += 3;
            // In the middle of it, or before one of several events. A run that reads once gets through.
            let (well, text) = said(process(&file, &["publish", &url, step.name(), times]));
            let reads = matches!(step, Step::ReadBegun | Step::ReadCame);
            assert!(!well || reads && times != "1", "{step:?} {times}: {text}");
            publish(&file, &url);
            assert_eq!(shop.numbers(), (0..count).collect::<Vec<_>>(), "{step:?} {times}");
        }
    }
    check(&shop, count);
}

#[test]
fn killed_before_the_acknowledgement_and_begun_again_after_the_window() {
    let shop = Shop::new(Duration::from_millis(100));
    let proxy = Proxy::start(shop.server.address());
    let file = shop.file();
    let outbox = shop.outbox();
    let mut client = shop.client();
    for number in 0..5 {
        outbox.publish_event(&event(number)).unwrap();
        let eaten = proxy.eat_answers(1, |subject| subject.starts_with("cowboyai.security.orders."));
        let mut child = process(&file, &["publish", &proxy.url()]);
        eaten.wait(1);
        child.kill().unwrap();
        child.wait().unwrap();
        // A probe with its id is taken for it as long as the server remembers it.
        let id = event(number).event.message_id.to_string();
        wait::until("the duplicate window passes", || {
            let subject = "cowboyai.security.orders.probe.sent";
            let answer = client.request(subject, &[("Nats-Msg-Id", &id)], b"probe").unwrap().json();
            answer["duplicate"].is_null().then_some(())
        });
        publish(&file, &proxy.url());
    }
    let ours: Vec<_> = shop
        .stored()
        .into_iter()
        .filter(|stored| stored.subject.ends_with("placed"))
        .map(|s| s.payload)
        .collect();
    assert_eq!(ours, (0..5).map(|number: u64| number.to_string().into_bytes()).collect::<Vec<_>>());
    assert_eq!(outbox.counts().unwrap().published, 5);
}
