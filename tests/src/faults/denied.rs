//! Users that may not do everything.

use super::{Invariant, NotRun, Run};
use crate::consume;
use crate::desk::{Desk, STUCK, block_on, make_streams};
use crate::ledger::Ledger;
use crate::server::{NatsServer, Setup};
use crate::tools::Version;
use crate::wire::Client;
use cim_keys::consume::{Delivery, State, Told};
use cim_keys::nats::consumers;
use cim_keys::nats::link::Link;
use cim_keys::nats::streams;
use cim_keys::nats::target::{Access, Target};
use cim_keys_core::secret::SecretText;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a user may not do, by the permission that is denied.
const DENIED: [(&str, &str, &str); 5] = [
    ("publish", "publish", "cowboyai.security.keys.>"),
    ("JetStream API, how the stream stands", "publish", "$JS.API.STREAM.INFO.KEYS_EVENTS"),
    ("JetStream API, reading", "publish", "$JS.API.DIRECT.GET.>"),
    ("JetStream API, reading from the leader", "publish", "$JS.API.STREAM.MSG.GET.>"),
    ("inbox, where answers and acknowledgements arrive", "subscribe", "_INBOX.>"),
];

/// Row 17.
pub(super) fn denied(run: &mut Run) -> Result<(), NotRun> {
    for (what, kind, subject) in DENIED {
        let (server, admin, host) = denying(kind, subject);
        make_streams(&admin, 120);
        let desk = Desk::founded();
        let twin = desk.twin();
        twin.user("first");
        twin.sync(&admin).drained();
        desk.user("second");
        let begun = Instant::now();
        let run_of_it = desk.sync_for(&host, None, STUCK);
        let took = begun.elapsed();
        let reason = match run_of_it.end {
            cim_keys::pump::End::Blocked(reason) => reason,
            // What is needed seldom may be denied without an effect.
            cim_keys::pump::End::Drained if subject.contains("MSG.GET") => {
                run.did(format!("denied {what}: drained without it"));
                run.happened(1);
                continue;
            }
            other => panic!("I8: denied {what}: {other:?}"),
        };
        assert!(took < Duration::from_secs(6), "I8: denied {what}: blocked after {took:?}");
        assert_eq!(reason.code, "permission", "denied {what}: {}", reason.text);
        let named = subject.trim_end_matches('>');
        assert!(reason.text.contains(named), "denied {what}: no subject is named: {}", reason.text);
        assert!(desk.pending() > 0, "I1: visibly pending");
        run.did(format!("denied {what}: blocked after {} ms: {}", took.as_millis(), reason.text));
        run.healed(|| desk.sync(&admin).drained());
        twin.sync(&admin).drained();
        let mut client = Client::connect_with(server.address(), |_| json!({ "user": "admin", "pass": "a" }))
            .expect("a connection");
        let ledger = Ledger::read(&mut client, cim_keys_core::roles::API_PREFIX);
        run.judge(&ledger, &BTreeSet::new(), &[&desk, &twin]);
        run.holds(&[Invariant::I8]);
        run.happened(1);
    }
    not_acknowledged(run);
    Ok(())
}

/// A server with a user who may do everything, and one who may not do this.
fn denying(kind: &str, subject: &str) -> (NatsServer, Target, Target) {
    let text = format!(
        "authorization {{ users: [\n  {{ user: admin, password: a }}\n  {{ user: host, password: h, permissions: \
         {{ {kind}: {{ deny: [\"{subject}\"] }} }} }}\n] }}\n"
    );
    let server = Setup::configured(Version::Newest, move |folder| {
        format!("jetstream {{ store_dir: {:?} }}\n{text}", folder.join("store"))
    });
    let server = server.start();
    let user = |user: &str, password: &str| Target {
        access: Arc::new(Access::User {
            user: user.to_owned(),
            password: SecretText::new(password.to_owned()),
        }),
        ..Target::open(&server.url())
    };
    let (admin, host) = (user("admin", "a"), user("host", "h"));
    (server, admin, host)
}

/// A worker that may not acknowledge says so at once, does not work on and on for nothing, and nothing is lost.
fn not_acknowledged(run: &mut Run) {
    const DENIED: &str = "$JS.ACK.";
    const MESSAGES: usize = 50;
    let (server, admin, worker) = denying("publish", &format!("{DENIED}>"));
    block_on(async {
        let link = Link::connect(&admin, 0).await.expect("a connection");
        let wanted = consume::wanted(Duration::from_secs(1));
        streams::ensure(&link, &wanted).await.expect("the streams");
        consumers::ensure(&link, &wanted).await.expect("the consumers");
    });
    let mut client = Client::connect_with(server.address(), |_| json!({ "user": "admin", "pass": "a" }))
        .expect("a connection");
    for number in 0..MESSAGES {
        let ack = client.request(consume::SUBJECT, &[], number.to_string().as_bytes()).expect("an answer");
        assert!(ack.json()["seq"].is_u64(), "{}", ack.json());
    }
    let (mut blocked, mut handled) = (None, 0);
    let mut handler = async |_: &Delivery| {
        handled += 1;
        Ok(())
    };
    let begun = Instant::now();
    let tally = block_on(consume::until(&mut consume::processor(&worker), &mut handler, |told| {
        if let Told::State(State::Blocked { reason }) = told {
            blocked = Some((begun.elapsed(), reason.clone()));
        }
        blocked.is_some()
    }));
    let (took, reason) = blocked.expect("it was blocked");
    assert!(took < Duration::from_secs(6), "I8: denied an acknowledgement: blocked after {took:?}");
    assert_eq!(reason.code, "permission", "denied an acknowledgement: {}", reason.text);
    assert!(reason.text.contains(DENIED), "denied an acknowledgement: no subject is named: {}", reason.text);
    assert_eq!((tally.handled, handled), (0, 1), "it works on though nothing of it counts");
    run.did(format!("denied acknowledging: blocked after {} ms: {}", took.as_millis(), reason.text));
    run.healed(|| {
        let mut handled = BTreeSet::new();
        let mut handler = async |delivery: &Delivery| {
            handled.insert(delivery.sequence());
            Ok(())
        };
        let mut done = 0;
        block_on(consume::until(&mut consume::processor(&admin), &mut handler, |told| {
            done += usize::from(matches!(told, Told::Handled(_)));
            done == MESSAGES
        }));
        assert_eq!(handled.len(), MESSAGES, "I1: every message is handled by whoever may");
    });
    run.happened(1);
}
