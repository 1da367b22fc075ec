//! The example of README, run as it stands.

#[allow(dead_code, unreachable_pub)]
#[path = "../../../host-native/examples/publish_event.rs"]
mod publish_event;

use cim_keys_core::headers;
use cim_keys_tests::desk::block_on;
use cim_keys_tests::outbox::Shop;
use serde_json::json;
use std::time::Duration;

#[test]
fn a_service_publishes_its_own_event_with_the_seven_headers() {
    let shop = Shop::new(Duration::from_secs(120));
    let published = block_on(publish_event::place_order(&shop.file(), &shop.server.url())).unwrap();
    assert_eq!((published.stream.as_str(), published.sequence), ("ORDERS", 1));
    let answer = shop.api("STREAM.MSG.GET.ORDERS", &json!({ "seq": 1 })).to_string();
    let message = cim_keys_core::jetstream::message(answer.as_bytes()).unwrap().unwrap();
    assert_eq!(message.payload, br#"{"order":4711}"#);
    for name in headers::ALL {
        assert!(message.headers.only(name).is_some(), "{name}: {:?}", message.headers);
    }
    let only = |name| message.headers.only(name);
    assert_eq!(only(headers::CIM_EVENT_TYPE), Some("orders.order.placed"));
    assert_eq!(only(headers::CIM_EVENT_ID), only(headers::NATS_MSG_ID));
    assert_eq!((only("Content-Type"), only("Nats-Expected-Last-Sequence")), (Some("application/json"), None));
}
