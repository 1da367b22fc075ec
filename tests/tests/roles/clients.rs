//! A client library that people use gets along with the roles: creds, inbox prefix, API prefix, websocket.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use async_nats::jetstream::{self, stream::DirectGetErrorKind};
use async_nats::{Client, ConnectOptions, Event, HeaderMap};
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::stream::{KEYS_ARCHIVE, KEYS_EVENTS};
use cim_keys_tests::identities::Login;
use cim_keys_tests::pipeline::Pipeline;
use cim_keys_tests::wait::PATIENCE;

use super::{EDGE, P, founded};

/// A connection by creds, and what the client says about it.
async fn connect(login: &Login, url: &str) -> (Client, Receiver<Event>) {
    let (to, events) = channel();
    let to = Mutex::new(to);
    let options = ConnectOptions::with_credentials(login.creds().expose())
        .unwrap()
        .custom_inbox_prefix(login.inbox())
        .event_callback(move |event| {
            let _ = to.lock().unwrap().send(event);
            async {}
        });
    (options.connect(url).await.unwrap(), events)
}

fn url(pipeline: &Pipeline, role: PipelineRole) -> String {
    match role {
        PipelineRole::Browser => pipeline.websocket_url().to_owned(),
        _ => pipeline.server.url(),
    }
}

#[tokio::test]
async fn creds_of_every_role_connect() {
    let (pipeline, ..) = founded();
    for role in PipelineRole::ALL {
        let (client, _) = connect(pipeline.login(role), &url(&pipeline, role)).await;
        client.flush().await.unwrap();
        if role == PipelineRole::Responder {
            // It asks nothing.
            continue;
        }
        if role == PipelineRole::Client {
            let nobody = client.request("$SRV.PING", "".into()).await.unwrap_err();
            assert_eq!(nobody.kind(), async_nats::RequestErrorKind::NoResponders);
            continue;
        }
        let question = match role {
            PipelineRole::Steward => "$JS.API.STREAM.INFO.KEYS_EVENTS",
            PipelineRole::Resolver => "$SYS.REQ.CLAIMS.LIST",
            _ => "CIMKEYS.API.STREAM.INFO.KEYS_EVENTS",
        };
        let answer = client.request(question, "".into()).await.unwrap();
        assert!(answer.payload.starts_with(b"{"), "{role}");
    }
}

#[tokio::test]
async fn the_edge_is_a_jetstream_with_another_prefix() {
    let (pipeline, _host, last) = founded();
    for role in EDGE {
        let (client, _) = connect(pipeline.login(role), &url(&pipeline, role)).await;
        let jetstream = jetstream::with_prefix(client, "CIMKEYS.API");
        for name in [KEYS_EVENTS, KEYS_ARCHIVE] {
            let stream = jetstream.get_stream(name).await.unwrap();
            assert_eq!(stream.cached_info().state.last_sequence, last, "{role} {name}");
            let message = stream.direct_get(1).await.unwrap();
            assert_eq!(message.subject.as_str(), format!("{P}.operator.created"), "{role} {name}");
            assert_eq!(message.headers.get("CIM-Event-Type").unwrap().as_str(), "keys.operator.created");
            let missing = stream.direct_get(last + 1).await.unwrap_err();
            assert_eq!(missing.kind(), DirectGetErrorKind::NotFound, "{role} {name}");
        }
        let stream = jetstream.get_stream_no_info(KEYS_EVENTS).await.unwrap();
        assert_eq!(stream.get_raw_message(last).await.unwrap().sequence, last, "{role}");
    }

    let (client, _) = connect(pipeline.login(PipelineRole::Host), &pipeline.server.url()).await;
    let jetstream = jetstream::with_prefix(client, "CIMKEYS.API");
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Sequence", last.to_string());
    let subject = format!("{P}.user.created");
    let publish = jetstream.publish_with_headers(subject.clone(), headers.clone(), "{}".into());
    assert_eq!(publish.await.unwrap().await.unwrap().sequence, last + 1);
    let again = jetstream.publish_with_headers(subject, headers, "{}".into()).await.unwrap();
    let conflict = again.await.unwrap_err();
    assert_eq!(conflict.kind(), jetstream::context::PublishErrorKind::WrongLastSequence);
}

#[tokio::test]
async fn a_denial_is_an_event_that_names_the_subject() {
    let pipeline = Pipeline::start();
    let denied = "$JS.API.STREAM.DELETE.KEYS_EVENTS";
    for role in PipelineRole::ALL {
        let (client, events) = connect(pipeline.login(role), &url(&pipeline, role)).await;
        client.publish(denied, "".into()).await.unwrap();
        client.flush().await.unwrap();
        let event = tokio::task::spawn_blocking(move || {
            let mut all = std::iter::from_fn(|| events.recv_timeout(PATIENCE).ok());
            all.find(|event| matches!(event, Event::ServerError(_)))
        });
        let event = event.await.unwrap().unwrap().to_string();
        assert!(event.to_lowercase().contains("permissions violation"), "{role}: {event}");
        assert!(event.contains(denied) || event.contains(&denied.to_lowercase()), "{role}: {event}");
    }
}
