//! Journals that are old, that come twice, in parts or in another order, and that contradict each other.

use super::{NotRun, Run};
use crate::desk::{Desk, STUCK, make_streams};
use crate::ledger::Ledger;
use crate::server::NatsServer;
use crate::wait;
use crate::wire::Client;
use cim_keys::error::KeyError;
use cim_keys::nats::target::Target;
use cim_keys_core::bundle::Bundle;
use cim_keys_core::command::Command;
use cim_keys_core::headers::NATS_MSG_ID;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::EntityId;
use cim_keys_core::stream::StreamConfig;
use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// What hosts publish to, with a duplicate window of a second.
struct Place {
    server: NatsServer,
    target: Target,
    settings: StreamConfig,
    client: Client,
    foreign: BTreeSet<u64>,
}

impl Place {
    fn new() -> Place {
        let server = NatsServer::plain();
        let target = Target::open(&server.url());
        let settings = make_streams(&target, 1);
        let client = Client::connect(server.address()).expect("a connection");
        Place { server, target, settings, client, foreign: BTreeSet::new() }
    }

    fn sync(&self, desk: &Desk) {
        desk.sync_for(&self.target, Some(self.settings.clone()), STUCK).drained();
    }

    fn sync_all(&self, desks: &[&Desk]) {
        let (target, settings) = (&self.target, &self.settings);
        thread::scope(|scope| {
            for desk in desks {
                scope.spawn(|| desk.sync_for(target, Some(settings.clone()), STUCK).drained());
            }
        });
    }

    /// Waits until the server has forgotten the newest event: then a message with its id is stored, which is garbage to
    /// every reader.
    fn forget(&mut self) {
        let ledger = Ledger::of(&self.server);
        let event = ledger.at(ledger.last());
        let id = event.headers.only(NATS_MSG_ID).expect("an event id");
        let stored = wait::until("the duplicate window passes", || {
            let answer =
                self.client.request(&event.subject, &[(NATS_MSG_ID, id)], b"probe").expect("an answer");
            let answer = answer.json();
            assert!(answer["error"].is_null(), "{answer}");
            if answer["duplicate"].is_null() { answer["seq"].as_u64() } else { None }
        });
        self.foreign.insert(stored);
    }
}

/// A few commands, the last of which stands on the first.
fn work(desk: &Desk, round: usize) {
    let user = desk.user(&format!("first-{round}"));
    desk.user(&format!("second-{round}"));
    desk.permit(user, "orders.>");
    desk.account(&format!("ACCOUNT_{round}"));
    desk.revoke(user);
}

/// Row 10.
pub(super) fn published_again(run: &mut Run) -> Result<(), NotRun> {
    const A_ROUND: usize = 10;
    let mut place = Place::new();
    let founder = Desk::founded_ago(DAY);
    place.sync(&founder);
    let (mut refused, mut events) = (0, 0);
    for round in 0..run.tries.div_ceil(A_ROUND) {
        // Hosts that know nothing yet of what comes now, and copies of the journal that has it.
        let (far, near) = (founder.twin(), founder.twin());
        work(&founder, round);
        let old = [founder.twin(), founder.twin(), founder.twin()];
        let bundle = founder.host().export(false).expect("something pending");
        events += bundle.commands.iter().map(|command| command.envelopes.len()).sum::<usize>();
        let piece = |from: usize, to: usize| Bundle {
            registry: bundle.registry.clone(),
            commands: bundle.commands[from..to].to_vec(),
        };
        let whole = bundle.commands.len();
        let part = usize::try_from(run.between(1, whole as u64 - 1)).expect("a small number");

        // Every second time nobody has published before the bundles come.
        if round % 2 == 0 {
            place.sync(&founder);
            place.forget();
        }
        // One takes a part in, then all of it, then all of it again.
        assert_eq!(far.import(&piece(0, part)).expect("a part").new.len(), part);
        assert_eq!(far.import(&bundle).expect("all of it").new.len(), whole - part);
        assert_eq!(far.import(&bundle).expect("all of it again").new.len(), 0);
        // The other one has the end first: what stands on the missing part is refused, whole and by name.
        match near.import(&piece(part, whole)) {
            Ok(imported) => assert_eq!(imported.new.len(), whole - part),
            Err(error) => {
                assert!(matches!(error, KeyError::Refused { .. }), "{error}");
                refused += 1;
            }
        }
        near.import(&piece(0, part)).expect("the beginning");
        near.import(&bundle).expect("all of it");
        place.sync_all(&[&far, &near]);
        if round % 2 == 1 {
            place.forget();
        }
        // The same journal, a day old, is published by whoever has a copy.
        place.sync_all(&[&old[0], &old[1]]);
        place.sync(&old[2]);
        place.sync(&founder);
        let desks = [&founder, &far, &near, &old[0], &old[1], &old[2]];
        place.sync_all(&desks);
        let ledger = Ledger::of(&place.server);
        assert_eq!(
            ledger.last(),
            (16 + events + place.foreign.len()) as u64,
            "I2: as many messages as events"
        );
        run.judge(&ledger, &place.foreign, &desks);
        run.happened(A_ROUND);
    }
    run.did(format!(
        "{} times a day-old journal or a bundle of it (twice, in parts, from its end, by two hosts at once) was published \
         again after the duplicate window: {events} events stand once; {refused} ends were refused without their beginning",
        run.tries
    ));
    run.search(&[&founder], &[&place.server], &[]);
    Ok(())
}

/// What contradicts what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    SameUser,
    OtherRights,
    RevokedAndNewCreds,
    RevokedAndOtherRights,
    SameAccount,
    RevokedByBoth,
}

const KINDS: [Kind; 6] = [
    Kind::SameUser,
    Kind::OtherRights,
    Kind::RevokedAndNewCreds,
    Kind::RevokedAndOtherRights,
    Kind::SameAccount,
    Kind::RevokedByBoth,
];

/// Row 11.
pub(super) fn contradictions(run: &mut Run) -> Result<(), NotRun> {
    const A_ROUND: usize = 12;
    let server = NatsServer::plain();
    let target = Target::open(&server.url());
    make_streams(&target, 120);
    let one = Desk::founded();
    one.sync(&target).drained();
    let two = one.twin();
    let (mut held, mut left) = (0, run.tries);
    let mut revoked: BTreeSet<PublicKey> = BTreeSet::new();
    for round in 0.. {
        let pairs = A_ROUND.min(left);
        if pairs == 0 {
            break;
        }
        left -= pairs;
        let users: Vec<PublicKey> =
            (0..pairs).map(|number| one.user(&format!("user-{round}-{number}"))).collect();
        one.sync(&target).drained();
        two.sync(&target).drained();
        let before = one.held().len();
        let mut lost = Vec::new();
        for (number, user) in users.iter().copied().enumerate() {
            let (kind, name) = (KINDS[number % KINDS.len()], format!("same-{round}-{number}"));
            let creds = Command::GenerateCredentials { account: one.app(), user, expires: 0 };
            let ids = |a: &Desk, b: &Desk| [a, b].map(|desk| *desk.commands().last().expect("a command"));
            match kind {
                Kind::SameUser => drop((one.user(&name), two.user(&name))),
                Kind::OtherRights => drop((one.permit(user, "a.>"), two.permit(user, "b.>"))),
                Kind::RevokedAndNewCreds => drop((one.revoke(user), two.act(creds))),
                Kind::RevokedAndOtherRights => drop((two.revoke(user), one.permit(user, "c.>"))),
                Kind::SameAccount => drop((one.account(&name), two.account(&name))),
                Kind::RevokedByBoth => drop((one.revoke(user), two.revoke(user))),
            }
            if matches!(kind, Kind::RevokedAndNewCreds | Kind::RevokedAndOtherRights | Kind::RevokedByBoth) {
                revoked.insert(user);
            }
            lost.push((kind, ids(&one, &two)));
        }
        // The first, the second, or both at once.
        match run.between(0, 2) {
            0 => drop(one.sync(&target).drained()),
            1 => drop(two.sync(&target).drained()),
            _ => thread::scope(|scope| {
                for desk in [&one, &two] {
                    scope.spawn(|| desk.sync(&target).drained());
                }
            }),
        }
        for _ in 0..3 {
            two.sync(&target).drained();
            one.sync(&target).drained();
        }
        assert_eq!((one.pending(), two.pending()), (0, 0));
        let holds = |desk: &Desk, id| {
            let held = desk.held();
            held.iter().find(|held| held.command_id == id).map(|held| held.reason.code.clone())
        };
        for (kind, ids) in lost {
            let codes = [holds(&one, ids[0]), holds(&two, ids[1])];
            let count = codes.iter().flatten().count();
            let fits = match kind {
                // One of them, and not both.
                Kind::SameUser | Kind::OtherRights | Kind::SameAccount => count == 1,
                // A revocation never waits for a person; what came after it does.
                Kind::RevokedAndNewCreds => codes[0].is_none(),
                Kind::RevokedAndOtherRights => codes[1].is_none(),
                Kind::RevokedByBoth => count == 0,
            };
            assert!(fits, "I1: {kind:?}: held with {codes:?}");
            held += count;
        }
        assert!(one.held().len() >= before, "what is held stays held");
        let audit = run.judge(&Ledger::of(&server), &BTreeSet::new(), &[&one, &two]);
        for user in &revoked {
            let id = EntityId::User { account: one.app(), user: *user };
            let entity = audit.registry.entities().find(|entity| entity.id() == id);
            assert!(entity.is_some_and(|entity| entity.revoked_at().is_some()), "I1: {id} is revoked");
        }
        run.happened(pairs);
    }
    run.did(format!(
        "{} contradictions of two hosts without a network: {held} commands held by name, {} revocations in force",
        run.tries,
        revoked.len()
    ));
    run.search(&[&one], &[&server], &[]);
    Ok(())
}
