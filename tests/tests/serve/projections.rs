//! It keeps the projections, and what their consumer says is done is on the disk.

use cim_keys::nats::consumers;
use cim_keys_core::consumer::KEYS_PROJECTOR;
use cim_keys_core::delivery::ConsumerInfo;
use cim_keys_core::projection::all;
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::stream::KEYS_EVENTS;
use cim_keys_tests::serve::{Service, ask, command_id, new_user, user_key};
use cim_keys_tests::site::run;
use cim_keys_tests::wait::until;
use rustix::process::Signal;

fn consumer(service: &Service) -> ConsumerInfo {
    run(async {
        let link = service.site.link(PipelineRole::Steward, &service.server.url()).await;
        consumers::info(&link, KEYS_EVENTS, KEYS_PROJECTOR).await.expect("a consumer")
    })
}

/// Up to where the projections are folded, whoever looks: that folds nothing.
fn kept(service: &Service) -> u64 {
    let kept = service.site.host.store().projections().expect("a store");
    assert!(kept.len() <= all().len());
    let folded =
        all().map(|one| kept.iter().find(|kept| kept.name == one.name()).map_or(0, |kept| kept.sequence));
    folded.into_iter().min().unwrap_or_default()
}

/// Waits until everything is acknowledged, and gives how far that is.
fn followed(service: &Service) -> u64 {
    let last = service.site.host.store().progress().expect("a store").head;
    until("everything is folded and acknowledged", || {
        let info = consumer(service);
        assert!(kept(service) >= info.ack_floor, "{info:?}");
        (info.ack_floor >= last && info.pending == 0 && info.ack_pending == 0).then_some(info.ack_floor)
    })
}

fn make_users(service: &Service, prefix: &str, count: usize) {
    let mut client = service.connect();
    for number in 0..count {
        let body = new_user(command_id(), &format!("{prefix}{number}"), user_key().public_key());
        assert_eq!(ask(&mut client, "user.create", &body).status, 200);
    }
}

#[test]
fn what_is_acknowledged_is_folded() {
    let mut service = Service::prepared(cim_keys_tests::tools::Version::Newest);
    run(service.site.consumers(&service.server.url()));
    let policy = service.all();
    service.policy(&policy);
    service.launch();
    let founded = followed(&service);
    make_users(&service, "a", 20);
    let reached = followed(&service);
    assert!(reached >= founded + 20, "{founded} {reached}");
    assert!(
        service
            .metrics()
            .contains(&format!("cim_keys_projection_sequence{{projection=\"directory\"}} {reached}")),
        "{}",
        service.metrics()
    );
    // Killed at whatever it is, four times.
    for round in 0..4 {
        make_users(&service, &format!("b{round}"), 5 + round);
        service.signal(Signal::KILL);
        assert_eq!(service.end(), None);
        service.launch();
    }
    followed(&service);
    // It stops in order, and has nothing in hand that somebody would have to wait for.
    service.signal(Signal::TERM);
    assert_eq!(service.end(), Some(0), "{}", service.log());
    let compared = service.program(&["projection", "rebuild", "--check"]);
    assert_eq!(compared.status, Some(0), "{compared:?}");
}

#[test]
fn a_consumer_that_is_not_there_is_said_and_waited_for() {
    let service = Service::start();
    let said = until("it is said", || service.logged("the projections' consumer does not deliver").pop());
    assert_eq!(said["code"], "consumer-missing", "{said}");
    // What was admitted is folded all the same.
    make_users(&service, "a", 3);
    until("it is folded", || {
        let head = service.site.host.store().progress().expect("a store").head;
        (kept(&service) == head).then_some(())
    });
    run(service.site.consumers(&service.server.url()));
    until("it delivers", || service.logged("the projections' consumer delivers").pop());
    followed(&service);
}
