//! The responder's user in memory is made anew before it ends, and nobody who asks meanwhile is left without an answer.

use cim_keys::nats::target::Target;
use cim_keys::serve::metrics::Metrics;
use cim_keys::serve::policy::Policy;
use cim_keys::serve::{Responder, Setup};
use cim_keys_tests::serve::{Service, ask, command_id};
use cim_keys_tests::site::run;
use cim_keys_tests::tools::Version;
use cim_keys_tests::wait::{PATIENCE, beside};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn nobody_is_left_without_an_answer() {
    let service = Service::prepared(Version::Newest);
    let mut client = service.connect();
    let metrics = Arc::new(Metrics::default());
    let host = Arc::new(service.site.copy().host);
    let setup = Setup {
        servers: Target::open(&service.server.url()),
        policy: Policy::read(&service.all().to_string()).unwrap(),
        issuer: None,
        metrics: Arc::clone(&metrics),
        // The server cuts its user off after so many seconds.
        lifetime: 4,
        host: Arc::clone(&host),
    };
    let responder = Responder::new(setup).unwrap();
    let connections = || {
        let text = metrics.text(host.store());
        let line = text.lines().find(|line| line.starts_with("cim_keys_responder_connections_total "));
        line.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or_default()
    };
    let enough = AtomicBool::new(false);
    run(async {
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(responder.run(async { ended.await.unwrap_or_default() }));
        tokio::time::timeout(PATIENCE, beside(|| metrics.is_connected())).await.expect("it connects");
        let asking = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut count = 0;
                while !enough.load(Ordering::SeqCst) {
                    // A 503 or silence would not be an answer.
                    let answer = ask(&mut client, "command.get", &json!({ "command_id": command_id() }));
                    assert_eq!(answer.body["code"], "unknown-command", "{answer:?}");
                    count += 1;
                }
                count
            });
            let waiting = async {
                let renewed = tokio::time::timeout(PATIENCE, beside(|| connections() >= 4)).await;
                enough.store(true, Ordering::SeqCst);
                renewed.expect("it is renewed");
            };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(waiting));
            asking.join().expect("every question is answered")
        });
        assert!(asking > 100, "{asking}");
        drop(end);
        tokio::time::timeout(PATIENCE, running).await.expect("it ends").unwrap();
    });
}
