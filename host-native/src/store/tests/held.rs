//! Held commands: decided anew, given up here alone, or voided for all.

use super::*;
use crate::host::{Dropped, Outcome, Retried};
use cim_keys_core::bundle;
use cim_keys_core::command::HandedOut;
use cim_keys_core::event::Fact;
use cim_keys_core::registry::{EntityId, Lookup};

/// Two hosts of one published registry with the account APP, and its stream.
struct Two {
    a: Host,
    b: Host,
    app: PublicKey,
    stream: Stream,
    folders: [TempDir; 2],
}

fn two() -> Two {
    let (one, a, app) = founded();
    let mut stream = Stream::default();
    sync(&a, &mut stream);
    let (other, b) = copy(&one, 2);
    Two { a, b, app, stream, folders: [one, other] }
}

impl Two {
    /// A user of the same name by both; that of `a` is held.
    fn rivals(&mut self, name: &str) -> (Uuid, PublicKey, PublicKey) {
        let (mine, theirs) = (user(&self.a, self.app, name), user(&self.b, self.app, name));
        self.meet();
        let held = self.a.store().held().unwrap();
        let held = held.last().unwrap();
        assert_eq!((held.context.keys.as_slice(), held.reason.code.as_str()), (&[mine][..], "name-taken"));
        (held.command_id, mine, theirs)
    }

    fn meet(&mut self) {
        sync(&self.b, &mut self.stream);
        sync(&self.a, &mut self.stream);
        sync(&self.b, &mut self.stream);
    }

    /// Both know the same of an id, and of the account.
    fn agree(&self, id: Uuid) {
        let lookups = [Lookup::Command(id), Lookup::Entity(EntityId::Account(self.app))];
        let facts = |host: &Host| host.store().facts(&lookups, true).unwrap().0;
        assert_eq!(facts(&self.a), facts(&self.b));
    }

    fn take(&self, from: &Host, to: &Host) {
        let bytes = bundle::encode(&from.export(false).unwrap()).unwrap();
        to.import(&bundle::decode(&bytes).unwrap().verify().unwrap(), false).unwrap();
    }
}

fn decided(retried: Retried) -> (Outcome, u32) {
    match retried {
        Retried::Decided { outcome, attempt, .. } => (outcome, attempt),
        Retried::Settled => panic!("settled"),
    }
}

fn facts(dropped: &Dropped) -> Vec<Fact> {
    dropped.voiding.iter().flat_map(|outcome| outcome.events.iter().map(|event| event.fact.clone())).collect()
}

#[test]
fn a_retry_is_the_same_promise_with_a_later_token() {
    // Given a user whose name somebody else was first with,
    let mut two = two();
    let (id, mine, theirs) = two.rivals("alice");
    let before = two.a.store().promised(id).unwrap().unwrap();
    // when it is retried too early, then it still does not stand, and nothing has changed;
    assert_eq!(two.a.retry(id, false).unwrap_err().code(), "name-taken");
    assert_eq!(two.a.store().promised(id).unwrap().unwrap(), before);
    // when the name is free again,
    revoke(&two.b, two.app, theirs);
    two.meet();
    let (planned, _) = decided(two.a.retry(id, true).unwrap());
    assert_eq!((planned.state, state(&two.a, id)), (None, State::Held));
    let (outcome, attempt) = decided(two.a.retry(id, false).unwrap());
    // then it is the next attempt at the same command, for the same key, with another event and a later token.
    assert_eq!((attempt, outcome.command_id, outcome.keys.as_slice()), (2, id, &[mine][..]));
    let after = two.a.store().promised(id).unwrap().unwrap();
    assert_eq!((after.state, after.context.attempt), (State::Pending, 2));
    assert_eq!(after.context.keys, before.context.keys);
    let message = |promised: &crate::store::Promised| {
        promised.envelopes[0].headers.only("CIM-Event-Id").map(str::to_owned)
    };
    assert_ne!(message(&after), message(&before));
    let issued = |promised: &crate::store::Promised| {
        let m = &promised.envelopes[0];
        let opened = cim_keys_core::envelope::decode(m.subject.as_str(), &m.headers, &m.payload).unwrap();
        opened.event.claims().unwrap().issued_at
    };
    assert!(issued(&after) > issued(&before));
    two.meet();
    assert_eq!((state(&two.a, id), two.b.store().by_key(mine).unwrap().len()), (State::Confirmed, 1));
    // Its creds are made of the newest token.
    let path = two.folders[0].path().join("alice.creds");
    two.a.hand_out(two.app, mine, &path).unwrap();
    let creds = cim_keys_core::creds::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(creds.token.claims().issued_at, issued(&after));
    assert_eq!(two.a.retry(id, false), Err(KeyError::NotHeld { id, state: State::Confirmed }));
}

#[test]
fn what_was_made_behind_it_stands_again_with_it() {
    // Given a signing key that is held, because the account's token was replaced meanwhile; a user signed with it, and
    // another one behind it whose name is taken; and a user before it, also by another's word,
    let mut two = two();
    let (early, _, theirs) = two.rivals("early");
    let key = Command::GenerateKey {
        owner: Some(two.app),
        role: None,
        kind: Kind::Account,
        label: Some("daily".to_owned()),
    };
    let made = two.a.run(&Request::new(key.clone())).unwrap();
    let signed = |name: &str| {
        let user = NewUser { access: Access::Own(Box::default()), ..new_user(two.app, name) };
        Request { authority: Some(made.keys[0]), ..Request::from(user) }
    };
    let (first, second) = (two.a.run(&signed("first")).unwrap(), two.a.run(&signed("second")).unwrap());
    let other = two.b.run(&Request::new(key)).unwrap();
    user(&two.b, two.app, "second");
    two.meet();
    let code = |id| two.a.store().promised(id).unwrap().unwrap().reason.map(|reason| reason.code);
    assert_eq!(code(made.command_id).as_deref(), Some("facts-changed"));
    assert!(code(first.command_id).is_some() && code(second.command_id).is_some());
    let before = two.a.store().promised(first.command_id).unwrap().unwrap();
    // (the name that the earliest of them wants is free again)
    revoke(&two.b, two.app, theirs);
    two.meet();
    // when the key is decided anew, then the user stands again as it was decided, and nothing else does;
    let Retried::Decided { along, attempt, .. } = two.a.retry(made.command_id, false).unwrap() else {
        panic!("settled")
    };
    assert_eq!((along, attempt), (vec![first.command_id], 2));
    let after = two.a.store().promised(first.command_id).unwrap().unwrap();
    assert_eq!(
        (after.envelopes, after.draft_hash, after.context),
        (before.envelopes, before.draft_hash, before.context)
    );
    assert!(after.position > two.a.store().promised(made.command_id).unwrap().unwrap().position);
    assert_eq!((state(&two.a, early), state(&two.a, second.command_id)), (State::Held, State::Held));
    // and both reach the stream, behind what the other host did.
    two.meet();
    assert_eq!(state(&two.a, made.command_id), State::Confirmed);
    assert_eq!(state(&two.a, first.command_id), State::Confirmed);
    two.meet();
    two.agree(first.command_id);
    assert!(!two.b.store().by_key(other.keys[0]).unwrap().is_empty());
}

#[test]
fn what_never_left_is_given_up_here_alone() {
    let mut two = two();
    let (id, mine, _) = two.rivals("alice");
    let messages = two.stream.messages.len();
    assert_eq!(two.a.store().counts().unwrap().hand_outs, 1);
    let expected = Dropped { command_id: id, voiding: None, revoked: None };
    assert_eq!(two.a.drop_held(id, false, true).unwrap(), expected);
    assert_eq!(state(&two.a, id), State::Held);
    assert_eq!(two.a.drop_held(id, false, false).unwrap(), expected);
    assert_eq!((state(&two.a, id), two.a.store().counts().unwrap().hand_outs), (State::Dropped, 0));
    two.meet();
    assert_eq!(two.stream.messages.len(), messages, "nobody hears of it");
    assert!(two.a.store().by_key(mine).unwrap().is_empty());
    assert_eq!(two.a.drop_held(id, false, false), Err(KeyError::NotHeld { id, state: State::Dropped }));
    assert_eq!(two.a.retry(id, false), Err(KeyError::NotHeld { id, state: State::Dropped }));

    // The seeds of an account that never was go with it.
    let create = |host: &Host| host.create_account("SAME", AccountLimits::default()).unwrap();
    let (lost, _) = (create(&two.a), create(&two.b));
    two.meet();
    let kept = |key: &PublicKey| two.a.store().is_kept(*key).unwrap();
    assert!(lost.keys.iter().all(kept));
    two.a.drop_held(lost.command_id, false, false).unwrap();
    assert!(!lost.keys.iter().any(kept));
}

#[test]
fn creds_that_are_out_are_revoked_with_the_command() {
    let mut two = two();
    let alice = user(&two.a, two.app, "alice");
    let path = two.folders[0].path().join("alice.creds");
    two.a.hand_out(two.app, alice, &path).unwrap();
    user(&two.b, two.app, "alice");
    two.meet();
    let held = two.a.store().held().unwrap();
    let [held] = held.as_slice() else { panic!("{held:?}") };
    assert!(held.handed_out && !held.sent);
    let (id, out) = (held.command_id, two.a.drop_held(held.command_id, false, true).unwrap());
    let dropped = two.a.drop_held(id, false, false).unwrap();
    let revoked = dropped.revoked.unwrap();
    assert_eq!((out.revoked, revoked.user, revoked.account), (Some(revoked), alice, two.app));
    let [Fact::CommandVoided { command_id }, Fact::UserRevoked { account, revoked_at }, Fact::AccountUpdated] =
        facts(&dropped)[..]
    else {
        panic!("{dropped:?}")
    };
    let token = cim_keys_core::creds::parse(&std::fs::read_to_string(path).unwrap()).unwrap().token;
    assert_eq!((command_id, account), (id, two.app));
    assert!(revoked_at >= token.claims().issued_at);
    assert_eq!(dropped.voiding.unwrap().accounts_changed(), [two.app], "servers must be told");
    assert_eq!(state(&two.a, id), State::Dropped);
    two.meet();
    for host in [&two.a, &two.b] {
        let account = host.account(two.app).unwrap();
        let body = account.token.claims().body.as_account().unwrap().clone();
        assert_eq!(body.revocations, [(alice.to_string(), revoked_at)].into());
        assert!(host.store().by_key(alice).unwrap().is_empty());
    }
    two.agree(id);
}

#[test]
fn what_was_sent_before_it_was_held_takes_an_event() {
    let mut two = two();
    let host = |two: &Two| two.a.store().held().unwrap().last().cloned().unwrap();
    // Held before anything was sent, or when everything pending might have been.
    let (early, ..) = two.rivals("early");
    let late = user(&two.a, two.app, "late");
    two.a.store().note_sending().unwrap();
    // What this very store takes in while it is sending counts as sent too,
    let during = user(&two.a, two.app, "during");
    two.a.store().note_rest();
    // and what comes later does not.
    let after = user(&two.a, two.app, "after");
    for name in ["late", "during", "after"] {
        user(&two.b, two.app, name);
    }
    two.meet();
    let sent: Vec<(Vec<PublicKey>, bool)> = two
        .a
        .store()
        .held()
        .unwrap()
        .into_iter()
        .map(|held| (held.context.keys, held.sent))
        .skip(1)
        .collect();
    assert_eq!(sent, [(vec![late], true), (vec![during], true), (vec![after], false)]);
    assert!(!two.a.store().promised(early).unwrap().unwrap().sent);

    let messages = two.stream.messages.len();
    let id = two.a.store().held().unwrap()[1].command_id;
    let dropped = two.a.drop_held(id, false, false).unwrap();
    assert_eq!((facts(&dropped), dropped.revoked), (vec![Fact::CommandVoided { command_id: id }], None));
    two.meet();
    assert_eq!(two.stream.messages.len(), messages + 1);
    two.agree(id);
    // A retry does not forget it.
    let id = two.a.store().held().unwrap()[1].command_id;
    let theirs = two.b.store().by_name("during").unwrap()[0].entity.key();
    revoke(&two.b, two.app, theirs);
    two.meet();
    decided(two.a.retry(id, false).unwrap());
    user(&two.b, two.app, "during");
    two.meet();
    assert!(host(&two).command_id == id && host(&two).context.attempt == 2 && host(&two).sent);
}

#[test]
fn a_retry_that_another_host_was_first_with_is_overtaken() {
    // Given one held command on two hosts that are copies of each other, creds of the first attempt handed out on one,
    let mut two = two();
    let (id, mine, theirs) = two.rivals("alice");
    let (_c, c) = copy(&two.folders[0], 3);
    two.a.hand_out_with(two.app, mine, |_| Ok(())).unwrap_err();
    revoke(&two.b, two.app, theirs);
    two.meet();
    sync(&c, &mut two.stream);
    // when both retry,
    decided(two.a.retry(id, false).unwrap());
    two.a.hand_out_with(two.app, mine, |_| Ok(())).unwrap();
    decided(c.retry(id, false).unwrap());
    sync(&c, &mut two.stream);
    sync(&two.a, &mut two.stream);
    // then one is overtaken: it can be given up and not retried, and its user stays as it is.
    let held = two.a.store().held().unwrap();
    let [held] = held.as_slice() else { panic!("{held:?}") };
    assert_eq!((held.command_id, held.reason.code.as_str(), held.handed_out), (id, "overtaken", true));
    assert_eq!(two.a.retry(id, false).unwrap_err().code(), "used-up");
    let dropped = two.a.drop_held(id, false, false).unwrap();
    assert_eq!(dropped, Dropped { command_id: id, voiding: None, revoked: None });
    two.meet();
    assert!(two.a.store().by_key(mine).unwrap()[0].entity.revoked_at().is_none());
}

#[test]
fn whoever_took_a_command_in_may_void_it_for_its_minter() {
    // Given a command of one host that another one has from a bundle and is second with,
    let mut two = two();
    let (_c, c) = copy(&two.folders[1], 3);
    let alice = user(&two.a, two.app, "alice");
    let minted = two.a.export(false).unwrap().commands[0].context.command_id;
    two.take(&two.a, &two.b);
    user(&c, two.app, "alice");
    sync(&c, &mut two.stream);
    sync(&two.b, &mut two.stream);
    let imported = two.b.store().held().unwrap();
    assert!(imported[0].command_id == minted && imported[0].imported);
    assert_eq!(two.b.retry(minted, false), Err(KeyError::HeldImported { id: minted }));
    // when it voids one for all,
    let dropped = two.b.drop_held(minted, true, false).unwrap();
    let revoked = dropped.revoked.unwrap();
    assert_eq!((revoked.account, revoked.user), (two.app, alice), "its minter may have handed creds out");
    sync(&two.b, &mut two.stream);
    sync(&two.a, &mut two.stream);
    // then its minter knows, never publishes it, and has nothing left to void.
    let held = two.a.store().held().unwrap();
    let [held] = held.as_slice() else { panic!("{held:?}") };
    assert_eq!((held.command_id, held.reason.code.as_str()), (minted, "voided"));
    assert_eq!(two.a.retry(minted, false).unwrap_err().code(), "used-up");
    let dropped = two.a.drop_held(minted, false, false).unwrap();
    assert_eq!(dropped.voiding, None);
    assert_eq!((state(&two.a, minted), state(&two.b, minted)), (State::Dropped, State::Dropped));
    two.agree(minted);
    // The bundle is of no use any more, wherever it comes.
    let (_d, d) = copy(&two.folders[1], 4);
    d.store().connection.lock().unwrap().execute("DELETE FROM journal", []).unwrap();
    sync(&d, &mut two.stream);
    let commands = vec![bundled(&two.a, minted)];
    let bundle = bundle::Bundle { registry: two.a.store().registry_id().unwrap().clone(), commands };
    let refused = d.import(&bundle.verify().unwrap(), false).unwrap_err();
    assert_eq!(refused.code(), "voided");
}

fn bundled(host: &Host, id: Uuid) -> bundle::BundledCommand {
    let promised = host.store().promised(id).unwrap().unwrap();
    bundle::BundledCommand {
        command: promised.command,
        context: promised.context,
        draft_hash: promised.draft_hash,
        envelopes: promised.envelopes,
    }
}

#[test]
fn a_revocation_that_somebody_voided_gets_through_under_another_id() {
    let mut two = two();
    let alice = user(&two.a, two.app, "alice");
    two.meet();
    let revoked = revoke(&two.a, two.app, alice);
    // Whoever got to know its id voids it before it is published.
    let command = Command::VoidCommand { command_id: revoked, account: None, revoke: None };
    two.b.run(&Request::new(command)).unwrap();
    two.meet();
    assert_eq!((state(&two.a, revoked), two.a.store().held().unwrap()), (State::Settled, Vec::new()));
    assert_eq!((revocations(&two.a, two.app), revocations(&two.b, two.app)), (1, 1));
}

#[test]
fn what_is_handed_out_is_revoked_though_the_command_came_to_the_stream_after_all() {
    // Given a command that was sent, whose answer was lost, and that was held and given up,
    let mut two = two();
    let (id, mine, theirs) = two.rivals("alice");
    revoke(&two.b, two.app, theirs);
    two.meet();
    decided(two.a.retry(id, false).unwrap());
    two.a.hand_out_with(two.app, mine, |_| Ok(())).unwrap();
    let late = two.a.store().load(0, 10).unwrap().commands.remove(0).envelopes;
    let reason = cim_keys_core::rules::Reason { code: "server-refuses".into(), text: "no".into() };
    let persist = cim_keys_core::sync::Persist {
        expect_head: two.a.store().progress().unwrap().head,
        progress: two.a.store().progress().unwrap(),
        held: vec![cim_keys_core::journal::Hold { command_id: id, reason }],
        overlay: cim_keys_core::sync::Overlay::Replace { until: None, entities: Vec::new() },
        ..Default::default()
    };
    two.a.store().note_sending().unwrap();
    assert_eq!(two.a.store().persist(&persist), cim_keys_core::sync::Persisted::Ok);
    let dropped = two.a.drop_held(id, false, false).unwrap();
    assert_eq!(facts(&dropped).len(), 3);
    // when it turns up on the stream before the voiding does,
    for envelope in late {
        two.stream.messages.push(cim_keys_core::admission::StoredMessage {
            sequence: two.stream.messages.len() as u64 + 1,
            subject: envelope.subject.as_str().into(),
            headers: envelope.headers,
            payload: envelope.payload,
            time: None,
        });
    }
    two.meet();
    // then the journal says what is true, and the user is revoked without anybody asking.
    assert_eq!(state(&two.a, id), State::Confirmed);
    assert_eq!((two.a.store().held().unwrap(), two.a.store().counts().unwrap().pending), (Vec::new(), 0));
    for host in [&two.a, &two.b] {
        assert!(host.store().by_key(mine).unwrap()[0].entity.revoked_at().is_some());
    }
    let voiding = dropped.voiding.unwrap().command_id;
    assert_eq!(two.a.store().promised(voiding).unwrap().unwrap().context.attempt, 2);
    let HandedOut { user, .. } = dropped.revoked.unwrap();
    assert_eq!(user, mine);
}

#[test]
fn a_host_without_the_operators_key_voids_by_its_own() {
    let mut two = two();
    let operator: Vec<String> = two
        .a
        .store()
        .operators()
        .unwrap()
        .iter()
        .flat_map(|listed| {
            listed.entity.token().unwrap().claims().body.as_operator().unwrap().signing_keys.clone()
        })
        .chain([two.a.store().registry_id().unwrap().operator])
        .map(|key| key.to_string())
        .collect();
    for key in &operator {
        two.a.store().connection.lock().unwrap().execute("DELETE FROM keys WHERE key = ?1", [key]).unwrap();
    }
    // Nor does it remember it.
    two.a = open(&two.folders[0], 5);
    let (id, ..) = two.rivals("alice");
    let dropped = two.a.drop_held(id, true, false).unwrap();
    assert_eq!(facts(&dropped), [Fact::CommandVoided { command_id: id }]);
    two.meet();
    let lookups = [Lookup::Command(id)];
    let (known, _) = two.b.store().facts(&lookups, true).unwrap();
    let own = two.a.store().promised(id).unwrap().unwrap().context.authority;
    assert_eq!((known.is_void(id, own), known.is_void(id, two.app)), (Ok(true), Ok(false)));
    // To revoke what was handed out it takes the operator.
    let bob = user(&two.a, two.app, "bob");
    two.a.hand_out_with(two.app, bob, |_| Ok(())).unwrap();
    user(&two.b, two.app, "bob");
    two.meet();
    let id = two.a.store().held().unwrap()[0].command_id;
    let refused = two.a.drop_held(id, false, false).unwrap_err();
    assert!(matches!(refused, KeyError::Keyring(_)), "{refused}");
    assert_eq!(state(&two.a, id), State::Held);
}

#[test]
fn creds_under_an_id_that_somebody_took_are_named_and_end_by_hand() {
    // Given creds that are out for a command whose id another host used for something else,
    let mut two = two();
    let alice = user(&two.a, two.app, "alice");
    two.a.hand_out_with(two.app, alice, |_| Ok(())).unwrap();
    let id = two.a.store().load(0, 10).unwrap().commands[0].context.command_id;
    let command = Command::CreateAccount { name: "TAKEN".into(), limits: AccountLimits::default() };
    two.b.run(&Request { command_id: Some(id), ..Request::new(command) }).unwrap();
    two.meet();
    let held = two.a.store().held().unwrap();
    assert_eq!((held.len(), held[0].reason.code.as_str()), (1, "id-taken"));
    // then it is not given up while they are good,
    for dry_run in [true, false] {
        assert_eq!(two.a.drop_held(id, true, dry_run), Err(KeyError::CredsOut { id, user: alice }));
    }
    assert_eq!(state(&two.a, id), State::Held);
    // until that user was made known and revoked.
    let known = NewUser { key: Some(alice), credentials: false, ..new_user(two.app, "known") };
    two.a.create_user(known).unwrap();
    revoke(&two.a, two.app, alice);
    two.meet();
    let dropped = two.a.drop_held(id, false, false).unwrap();
    assert_eq!((dropped.voiding, state(&two.a, id)), (None, State::Dropped));
    assert_eq!(revocations(&two.b, two.app), 1);
}

#[test]
fn a_command_that_a_void_did_not_bind_is_known_as_admitted() {
    // Given an account with two signing keys, and a pending command that the second one vouched for;
    let (one, a, app) = founded();
    let key = Command::GenerateKey { kind: Kind::Account, owner: Some(app), label: None, role: None };
    let second = a.run(&Request::new(key)).unwrap().keys[0];
    let account = a.account(app).unwrap();
    let keys = &account.token.claims().body.as_account().unwrap().signing_keys;
    let first = keys.keys().copied().find(|key| *key != second).unwrap();
    let mut stream = Stream::default();
    sync(&a, &mut stream);
    let (other, b) = copy(&one, 2);
    let alice = Request::from(new_user(app, "alice"));
    let made = a.run(&Request { authority: Some(second), ..alice }).unwrap();
    let (id, alice) = (made.command_id, made.keys[0]);
    // when the first key voids its id, which binds that key alone, and the command comes to the stream,
    let void = Command::VoidCommand { command_id: id, account: Some(app), revoke: None };
    b.run(&Request { authority: Some(first), ..Request::new(void) }).unwrap();
    let mut two = Two { a, b, app, stream, folders: [one, other] };
    two.meet();
    // then both hosts know it as admitted,
    assert_eq!(state(&two.a, id), State::Confirmed);
    two.agree(id);
    let (known, _) = two.a.store().facts(&[Lookup::Command(id)], false).unwrap();
    assert!(known.command(id).unwrap().is_some());
    // and its id cannot be voided any more.
    let revoke = Some(HandedOut { account: app, user: alice, issued_at: NOW / 1000 + 1000 });
    let void = Command::VoidCommand { command_id: id, account: None, revoke };
    let outcome = two.a.run(&Request::new(void)).unwrap();
    assert!(!outcome.events.iter().any(|event| matches!(event.fact, Fact::CommandVoided { .. })));
    two.meet();
    let anomalies = |host: &Host| host.store().anomalies().unwrap().len();
    assert_eq!((state(&two.a, outcome.command_id), anomalies(&two.a)), (State::Confirmed, 0));
    assert_eq!((revocations(&two.b, app), anomalies(&two.b)), (1, 0));
}

#[test]
fn an_attempt_that_was_replaced_meanwhile_is_not_confirmed_by_its_id() {
    // Given a held command whose bundle another host publishes once its name is free,
    let mut two = two();
    let (id, _, theirs) = two.rivals("alice");
    let first = two.a.store().promised(id).unwrap().unwrap();
    let bytes = bundle::encode(&two.a.export(true).unwrap()).unwrap();
    revoke(&two.b, two.app, theirs);
    two.meet();
    two.b.import(&bundle::decode(&bytes).unwrap().verify().unwrap(), false).unwrap();
    sync(&two.b, &mut two.stream);
    // when it is decided anew between what the machine read of the journal and what it writes there,
    let mut retried = false;
    let status = drive(&two.a, &mut two.stream, |output| {
        let Output::Persist(persist) = output else { return };
        let confirmed = persist.confirmed.iter().any(|landed| landed.command_id == id);
        if confirmed && !retried {
            two.a.retry(id, false).unwrap();
            retried = true;
        }
    });
    // then nothing is written, and the machine begins again:
    assert!(matches!(&status, Status::Blocked { reason } if reason.code == "journal-moved"), "{status:?}");
    let after = two.a.store().promised(id).unwrap().unwrap();
    assert!(after.state == State::Pending && after.envelopes != first.envelopes);
    // the new attempt is not the one that the stream has.
    two.meet();
    let after = two.a.store().promised(id).unwrap().unwrap();
    let reason = after.reason.map(|reason| reason.code);
    assert_eq!((after.state, reason.as_deref()), (State::Held, Some("overtaken")));
    two.agree(id);
}

fn with_key(account: PublicKey, name: &str, key: Option<PublicKey>, keep: bool) -> NewUser {
    NewUser { key, credentials: false, keep, ..new_user(account, name) }
}

#[test]
fn what_is_given_up_takes_the_seeds_along_that_it_made_and_nothing_else_names() {
    let (one, a, app) = founded();
    let other = a.create_account("OTHER", AccountLimits::default()).unwrap().keys[0];
    let (folder, b) = copy(&one, 2);
    let mut two = Two { a, b, app, stream: Stream::default(), folders: [one, folder] };
    sync(&two.a, &mut two.stream);
    let alice = two.a.create_user(with_key(two.app, "alice", None, true)).unwrap().keys[0];
    let own = two.a.make_own(Kind::User).unwrap();
    two.meet();
    // Given users of keys that were there before, and users with keys of their own, one of which another user has too;
    let second = two.a.create_user(with_key(other, "alice", Some(alice), false)).unwrap();
    let brought = two.a.create_user(with_key(other, "own", Some(own), false)).unwrap();
    let bob = two.a.create_user(with_key(other, "bob", None, true)).unwrap();
    let carol = two.a.create_user(with_key(other, "carol", None, true)).unwrap();
    two.a.create_user(with_key(two.app, "bob", Some(bob.keys[0]), false)).unwrap();
    for name in ["alice", "own", "bob", "carol"] {
        user(&two.b, other, name);
    }
    two.meet();
    // when they are given up, then only the key that was made for one of them, and is nowhere else, is erased.
    for (outcome, stays) in [(second, true), (brought, true), (bob, true), (carol, false)] {
        let (id, key) = (outcome.command_id, outcome.keys[0]);
        assert!(state(&two.a, id) == State::Held && two.a.store().is_kept(key).unwrap());
        assert_eq!(two.a.drop_held(id, false, false).unwrap().voiding, None);
        assert_eq!((state(&two.a, id), two.a.store().is_kept(key).unwrap()), (State::Dropped, stays));
    }
}

#[test]
fn what_left_the_store_meanwhile_is_not_given_up_here_alone() {
    // Given a held command that never left the store,
    let mut two = two();
    let (id, ..) = two.rivals("alice");
    let read = two.a.store().promised(id).unwrap().unwrap();
    assert!(!read.sent && !read.handed_out);
    // when its creds are given to somebody behind the back of whoever gives it up,
    assert!(two.a.store().note_handed_out(id).unwrap());
    // then it stays, and is given up by an event that revokes them.
    assert!(!two.a.store().drop_held(&read, true).unwrap());
    assert_eq!(state(&two.a, id), State::Held);
    let dropped = two.a.drop_held(id, false, false).unwrap();
    assert!(dropped.voiding.is_some() && dropped.revoked.is_some(), "{dropped:?}");
    // The same for a bundle; and what is given up is handed out no more.
    let (id, ..) = two.rivals("bob");
    let read = two.a.store().promised(id).unwrap().unwrap();
    two.a.store().note_exported(&[id]).unwrap();
    assert!(!two.a.store().drop_held(&read, true).unwrap());
    let (id, mine, _) = two.rivals("carol");
    let read = two.a.store().promised(id).unwrap().unwrap();
    assert!(two.a.store().drop_held(&read, true).unwrap());
    assert!(!two.a.store().note_handed_out(id).unwrap());
    let refused = two.a.hand_out_with(two.app, mine, |_| panic!("handed out")).unwrap_err();
    assert_eq!(refused, KeyError::NoUserSeed { user: mine });
}
