//! The example of README, run as it stands.

#[allow(dead_code, unreachable_pub)]
#[path = "../../../host-native/examples/consume_events.rs"]
mod consume_events;

use super::dlq::published;
use cim_keys::consume::Told;
use tokio::sync::Notify;

#[tokio::test]
async fn a_service_handles_each_event_of_the_keys() {
    let (person, server) = tokio::task::spawn_blocking(published).await.unwrap();
    let context = person.home().join("service.json");
    let stop = Notify::new();
    let mut handled = 0;
    let tally = consume_events::greet_users(context.to_str().unwrap(), stop.notified(), |told| {
        // The founding is 14 events, each role's creds are a user.
        if matches!(told, Told::Handled(_)) {
            handled += 1;
            if handled == 17 {
                stop.notify_one();
            }
        }
    })
    .await
    .unwrap();
    assert_eq!((tally.handled, tally.failed, tally.dead), (17, 0, 0));
    drop(server);
}
