//! Bundles: taken in once, refused whole, and given up where they do not stand.

use super::*;
use crate::host::Imported;
use crate::keyring::KeyringError;
use cim_keys_core::bundle::{self, Bundle, Refusal};
use cim_keys_core::command::Rejection;
use cim_keys_core::rules::Violation;

fn take(host: &Host, bundle: &Bundle) -> Result<Imported, KeyError> {
    // As it travels.
    let read = bundle::decode(&bundle::encode(bundle).unwrap()).unwrap();
    host.import(&read.verify().unwrap(), false)
}

/// A host with nothing.
fn empty(seed: u64) -> (TempDir, Host) {
    let folder = tempfile::tempdir().unwrap();
    let host = open(&folder, seed);
    (folder, host)
}

/// Everything that a journal and its overlay say.
fn all(host: &Host) -> (Vec<Listed>, Vec<PendingEvent>, u64) {
    let store = host.store();
    let lists = [store.operators(), store.accounts(), store.users(None), store.keys(None)];
    let entities = lists.into_iter().flat_map(Result::unwrap).collect();
    (entities, store.pending_events(10_000).unwrap(), store.revision().unwrap())
}

#[test]
fn an_empty_store_becomes_the_registry_that_a_bundle_founds() {
    let (_a, a, app) = founded();
    let alice = user(&a, app, "alice");
    let bundle = a.export(false).unwrap();
    assert_eq!((bundle.founds(), bundle.commands.len()), (true, 3));
    let (_b, b) = empty(2);
    let verified = bundle.verify().unwrap();
    let planned = b.import(&verified, true).unwrap();
    assert!(planned.founded && !b.store().is_founded().unwrap(), "a dry run writes nothing");
    let imported = take(&b, &bundle).unwrap();
    assert_eq!(imported, planned);
    assert_eq!((imported.new.len(), imported.known.len()), (3, 0));
    assert_eq!(b.store().registry_id().unwrap(), a.store().registry_id().unwrap());
    let (here, there) = (all(&b), all(&a));
    assert_eq!((here.0, here.1), (there.0, there.1));
    let loaded = b.store().load(0, 10).unwrap().commands;
    assert!(
        loaded.iter().all(|pending| pending.messages_hash.is_none()),
        "signatures are verified before sending"
    );
    // It has no seeds, and says which it misses.
    assert_eq!(b.store().counts().unwrap().kept_keys, 0);
    let error = b.create_account("MORE", AccountLimits::default()).unwrap_err();
    assert!(matches!(error, KeyError::Keyring(KeyringError::Missing { .. })), "{error}");
    // What it exports is the same bundle.
    assert_eq!(b.export(false).unwrap(), bundle);

    let before = all(&b);
    let again = take(&b, &bundle).unwrap();
    assert_eq!((again.new.len(), again.known.len(), again.founded), (0, 3, false));
    assert_eq!(all(&b), before);
    let mut stream = Stream::default();
    sync(&a, &mut stream);
    let count = stream.messages.len();
    sync(&b, &mut stream);
    assert_eq!(stream.messages.len(), count, "published once");
    assert_eq!(take(&b, &bundle).unwrap().known.len(), 3);
    sync(&b, &mut stream);
    assert_eq!(stream.messages.len(), count);
    assert_eq!((b.store().counts().unwrap().pending, b.store().anomalies().unwrap().len()), (0, 0));
    assert!(b.store().by_key(alice).unwrap().iter().all(|listed| listed.pending.is_none()));
    assert_eq!(b.export(false), Err(KeyError::NothingPending));
}

#[test]
fn whoever_is_first_publishes_and_a_reader_knows_it() {
    let (folder, a, app) = founded();
    let mut stream = Stream::default();
    sync(&a, &mut stream);
    let (_b, b) = copy(&folder, 2);
    user(&a, app, "alice");
    user(&a, app, "bob");
    let bundle = a.export(false).unwrap();
    assert!(!bundle.founds());
    take(&b, &bundle).unwrap();
    let carol = user(&b, app, "carol");
    sync(&b, &mut stream);
    sync(&a, &mut stream);
    sync(&b, &mut stream);
    let ids = bundle.commands.iter().map(|command| command.context.command_id);
    for id in ids {
        assert_eq!((state(&a, id), state(&b, id)), (State::Confirmed, State::Confirmed));
    }
    assert_eq!(a.store().by_key(carol).unwrap().len(), 1);
    // One that only read the stream knows the commands as well.
    let (_c, c) = copy(&folder, 3);
    let lookups = bundle.commands.iter().map(|command| Lookup::Command(command.context.command_id));
    let (facts, _) = c.store().facts(&lookups.collect::<Vec<_>>(), false).unwrap();
    let recorded = bundle
        .commands
        .iter()
        .filter_map(|command| facts.command(command.context.command_id).unwrap().cloned());
    let recorded: Vec<_> = recorded.collect();
    assert_eq!(recorded.len(), 2);
    c.store().connection.lock().unwrap().execute("DELETE FROM journal", []).unwrap();
    let head = c.store().progress().unwrap().head;
    let progress = c.store().progress().unwrap();
    let read = Persist { expect_head: head, progress, recorded, ..Persist::default() };
    assert_eq!(c.store().persist(&read), Persisted::Ok);
    assert_eq!(take(&c, &bundle).unwrap().known.len(), 2);
}

#[test]
fn processes_that_take_the_same_bundle_in_at_once_take_it_in_once() {
    let (_a, a, app) = founded();
    user(&a, app, "alice");
    let bundle = a.export(false).unwrap();
    let (folder, first) = empty(2);
    let (folder, bundle) = (&folder, &bundle);
    let work = move |seed: u64| take(&open(folder, seed), bundle).unwrap();
    let outcomes: Vec<Imported> = std::thread::scope(|scope| {
        let threads: Vec<_> = (3..7).map(|seed| scope.spawn(move || work(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.founded && outcome.new.len() == 3).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| !outcome.founded && outcome.known.len() == 3).count(), 3);
    assert_eq!(&first.export(false).unwrap(), bundle);
}

#[test]
fn a_bundle_goes_to_its_own_registry_alone() {
    let (_a, a, app) = founded();
    let founding = a.export(false).unwrap();
    let mut stream = Stream::default();
    sync(&a, &mut stream);
    user(&a, app, "alice");
    let more = a.export(false).unwrap();
    let (_other, other) = {
        let (folder, host) = empty(5);
        let founding = Founding { name: "OTHER".into(), namespace: Namespace::default(), escrow: Vec::new() };
        host.create_operator(&founding).unwrap();
        (folder, host)
    };
    let before = all(&other);
    let (here, found) = (other.store().registry_id().unwrap().clone(), more.registry.clone());
    assert_eq!(
        take(&other, &more),
        Err(KeyError::BundleRegistry { here: Box::new(here), found: Box::new(found) })
    );
    let path = other.store().path().to_owned();
    assert_eq!(take(&other, &founding), Err(KeyError::Founded { path }));
    assert_eq!(all(&other), before);
    let (_empty, empty) = empty(6);
    let registry = more.registry.operator;
    assert_eq!(take(&empty, &more), Err(KeyError::NotFounding { registry }));
    assert!(!empty.store().is_founded().unwrap());
}

#[test]
fn what_does_not_stand_refuses_the_whole_bundle() {
    let (folder, a, app) = founded();
    let mut stream = Stream::default();
    sync(&a, &mut stream);
    let (_b, b) = copy(&folder, 2);
    user(&a, app, "alice");
    user(&a, app, "bob");
    let bundle = a.export(false).unwrap();
    // Only pending at the importer: what is taken in stands behind it.
    user(&b, app, "bob");
    let before = all(&b);
    let error = take(&b, &bundle).unwrap_err();
    let KeyError::Refused { command_id, command: "create-user", refusal } = error else { panic!("{error}") };
    assert_eq!(command_id, bundle.commands[1].context.command_id);
    assert!(matches!(*refusal, Refusal::Rejected(Rejection::Violation(Violation::NameTaken { .. }))));
    assert_eq!(all(&b), before, "nothing of it was taken in");

    // The same id with other content.
    let (_c, c) = copy(&folder, 3);
    let id = bundle.commands[0].context.command_id;
    let request = NewUser { credentials: false, ..new_user(app, "mallory") };
    c.store().connection.lock().unwrap().execute("DELETE FROM journal WHERE state = 'pending'", []).unwrap();
    c.run(&Request { command_id: Some(id), ..Request::from(request) }).unwrap();
    let before = all(&c);
    assert_eq!(take(&c, &bundle), Err(KeyError::IdTaken { id }));
    assert_eq!(all(&c), before);
}

#[test]
fn a_held_imported_revocation_is_made_anew_under_an_id_of_its_own() {
    let (folder, a, app) = founded();
    let (alice, bob) = (user(&a, app, "alice"), user(&a, app, "bob"));
    let mut stream = Stream::default();
    sync(&a, &mut stream);
    let ((_b, b), (_c, c)) = (copy(&folder, 2), copy(&folder, 3));
    // The minter's clock is ahead: its next attempt will reach further.
    let (_d, minter) = copy(&folder, 50);
    let minted = revoke(&minter, app, alice);
    take(&b, &minter.export(false).unwrap()).unwrap();
    // The account's token is another one before it comes to the stream.
    revoke(&c, app, bob);
    sync(&c, &mut stream);
    sync(&b, &mut stream);
    assert_eq!(state(&b, minted), State::Dropped);
    assert_eq!((b.store().held().unwrap(), b.store().counts().unwrap().pending), (Vec::new(), 0));
    assert_eq!(revocations(&b, app), 2);
    let last = String::from_utf8(stream.messages.last().unwrap().payload.clone()).unwrap();
    assert!(last.contains(&format!("\"causationid\":\"{minted}\"")), "{last}");
    assert!(!last.contains(&format!("\"id\":\"{minted}\"")), "only the minter uses its id: {last}");

    // Whoever minted it makes its own next attempt, and what was dropped here is not held again.
    sync(&minter, &mut stream);
    sync(&b, &mut stream);
    assert!(matches!(state(&minter, minted), State::Confirmed | State::Settled));
    assert_eq!((state(&b, minted), b.store().held().unwrap()), (State::Dropped, Vec::new()));
    let ids = [EntityId::Account(app), EntityId::User { account: app, user: alice }].map(Lookup::Entity);
    assert_eq!(b.store().facts(&ids, true).unwrap().0, minter.store().facts(&ids, true).unwrap().0);
}

#[test]
fn a_held_imported_command_is_given_up_by_hand() {
    let (folder, a, app) = founded();
    let founding = a.export(false).unwrap();
    let (_b, b) = empty(2);
    take(&b, &founding).unwrap();
    let mut stream = Stream::default();
    sync(&a, &mut stream);
    let (_c, c) = copy(&folder, 3);
    let alice = user(&a, app, "alice");
    user(&c, app, "alice");
    let bundle = a.export(false).unwrap();
    take(&b, &bundle).unwrap();
    sync(&c, &mut stream);
    sync(&b, &mut stream);
    let held = b.store().held().unwrap();
    let [held] = held.as_slice() else { panic!("{held:?}") };
    assert!(held.imported && held.reason.code == "name-taken");
    let id = held.command_id;
    assert_eq!(b.export(false), Err(KeyError::NothingPending));
    assert_eq!(b.exported(true).unwrap(), bundle);
    b.drop_held(id, false, true).unwrap();
    assert_eq!(state(&b, id), State::Held);
    b.drop_held(id, false, false).unwrap();
    assert_eq!((state(&b, id), b.store().held().unwrap()), (State::Dropped, Vec::new()));
    assert_eq!(b.drop_held(id, false, false), Err(KeyError::NotHeld { id, state: State::Dropped }));
    // It stays given up.
    assert_eq!(take(&b, &bundle).unwrap().known, [id]);
    sync(&b, &mut stream);
    assert_eq!(state(&b, id), State::Dropped);
    assert!(b.store().by_key(alice).unwrap().is_empty());

    // A revocation waits for a person where no key is at hand. Its minter goes on, and nothing is held again.
    let taken = c.store().users(Some(app)).unwrap()[0].entity.key();
    let revoked = revoke(&c, app, taken);
    take(&b, &c.export(false).unwrap()).unwrap();
    let bob = user(&a, app, "bob");
    revoke(&a, app, bob);
    sync(&a, &mut stream);
    sync(&b, &mut stream);
    assert_eq!(state(&b, revoked), State::Held);
    b.drop_held(revoked, false, false).unwrap();
    sync(&c, &mut stream);
    assert_eq!(c.store().promised(revoked).unwrap().unwrap().context.attempt, 2);
    sync(&b, &mut stream);
    assert_eq!((state(&c, revoked), state(&b, revoked)), (State::Confirmed, State::Dropped));
    assert_eq!((b.store().held().unwrap(), revocations(&b, app)), (Vec::new(), 2));

    // Its minter let it out of its hands: giving it up takes an event.
    sync(&a, &mut stream);
    assert_eq!(state(&a, id), State::Held);
    let dropped = a.drop_held(id, false, false).unwrap();
    assert_eq!((dropped.voiding.unwrap().events.len(), dropped.revoked), (1, None));
    assert_eq!(state(&a, id), State::Dropped);
    sync(&a, &mut stream);
    sync(&b, &mut stream);
    let (facts, _) = b.store().facts(&[Lookup::Command(id)], true).unwrap();
    assert_eq!(facts.is_void(id, held.context.authority), Ok(true));
    let nobody = Uuid::from_u128(7);
    assert_eq!(a.drop_held(nobody, false, false), Err(KeyError::NoCommand { id: nobody }));
}
