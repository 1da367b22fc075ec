//! One event from commit to confirmed, against what it cannot do without: one fdatasync of as many bytes, and one publish
//! that the server acknowledges.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use cim_keys::host::Request;
use cim_keys::nats::{role, target::Target};
use cim_keys::pump::Pump;
use cim_keys_core::command::Command;
use cim_keys_core::nkey::Kind;
use cim_keys_core::roles::{KEYS_ACCOUNT, PipelineRole};
use cim_keys_core::sync::Status;
use tokio::sync::watch;

use super::append::{make_streams, plain_message, publisher, serve};
use super::registry;
use super::rounds::Pair;

/// Bytes that a commit of one event writes, about: its page or two of the write-ahead log.
const COMMIT: usize = 16 * 1024;

/// So many events one by one, in turns with the floor: each a figure of its own.
///
/// # Panics
/// When anything fails.
pub fn measure(count: usize) -> Pair {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = registry::folder();
    let (host, _) = registry::found(folder.path());
    let owner = role::account(&host, KEYS_ACCOUNT).expect("the account of the streams").key;
    let key = Command::GenerateKey { kind: Kind::Account, owner: Some(owner), label: None, role: None };
    let signer = host.run(&Request::new(key)).expect("a signing key").keys[0];
    let server = serve(&host, folder.path(), true);
    let target = runtime.block_on(async {
        let servers = Target::open(&server.url());
        make_streams(&host, &servers).await;
        role::target(&host, PipelineRole::Host, &servers).expect("a user of the host's role")
    });
    let (tell, mut told) = watch::channel(0_u64);
    let (end, mut ended) = watch::channel(false);
    std::thread::scope(|scope| {
        let (host, url, path) = (&host, server.url(), folder.path().join("plain"));
        scope.spawn(|| {
            let mut pump = Pump::new(host, target);
            let stop = async {
                let _ = ended.wait_for(|end| *end).await;
            };
            let work = pump.stay(stop, |status| {
                if *status == Status::Idle {
                    tell.send_modify(|times| *times += 1);
                }
            });
            let done = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            done.block_on(work).expect("a pump");
        });
        // Dropped also where something fails: the pump ends then.
        let end = end;
        let context = runtime.block_on(async { jetstream::new(publisher(host, signer, &url).await) });
        let mut file = File::create_new(path).expect("a file");
        runtime.block_on(told.wait_for(|times| *times > 0)).expect("a pump");
        let mut pair = Pair::default();
        for turn in 0..count {
            let head = host.store().progress().expect("a store").head;
            let begun = Instant::now();
            registry::generate_key(host);
            runtime.block_on(async {
                while host.store().progress().expect("a store").head == head {
                    told.changed().await.expect("a pump");
                }
            });
            pair.ours.push(begun.elapsed().as_secs_f64());
            // The same message once more costs the server the same.
            let last = host.store().trail(head, 1).expect("a store").remove(0);
            let envelope = cim_keys_core::envelope::Envelope {
                subject: last.subject.parse().expect("a subject"),
                headers: last.headers,
                payload: last.payload,
            };
            pair.baseline.push(floor(&runtime, &context, &mut file, envelope, turn).as_secs_f64());
            // It is an anomaly to the pump, which has read it before the next turn.
            runtime.block_on(async {
                while host.store().progress().expect("a store").head < head + 2 {
                    let _ = tokio::time::timeout(Duration::from_millis(5), told.changed()).await;
                }
            });
        }
        end.send(true).expect("a pump");
        pair
    })
}

fn floor(
    runtime: &tokio::runtime::Runtime,
    context: &jetstream::Context,
    file: &mut File,
    envelope: cim_keys_core::envelope::Envelope,
    turn: usize,
) -> Duration {
    let (subject, mut headers, payload) = plain_message(envelope);
    // Another id, or the server takes it for the one it has.
    headers.insert("Nats-Msg-Id", format!("floor-{turn}"));
    let begun = Instant::now();
    file.write_all(&[0x5a; COMMIT]).expect("room");
    file.sync_data().expect("a disk");
    runtime.block_on(async {
        let sent = context.publish_with_headers(subject, headers, payload.into()).await;
        sent.expect("a connection").await.expect("an acknowledgement");
    });
    begun.elapsed()
}
