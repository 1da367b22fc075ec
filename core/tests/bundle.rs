//! Bundles: one text for each, every damage named, and nothing taken for genuine that is not.

mod lab;

use cim_keys_core::bundle::{
    Bundle, BundleError, BundledCommand, Refusal, VERSION, VerifyFault, decode, encode,
};
use cim_keys_core::command::{Command, Rejection};
use cim_keys_core::context::Context;
use cim_keys_core::digest::Digest;
use cim_keys_core::draft::Decision;
use cim_keys_core::nkey::{KeyPair, Kind};
use cim_keys_core::registry::{Lookup, Registry};
use cim_keys_core::rules::Violation;
use lab::{Lab, OPERATOR_SIGNING, create_user};
use proptest::prelude::*;
use std::sync::OnceLock;

fn bundled(command: &Command, context: &Context, decision: Decision) -> BundledCommand {
    BundledCommand {
        command: command.clone(),
        context: context.clone(),
        draft_hash: decision.draft_hash,
        envelopes: decision.envelopes,
    }
}

/// Runs a command in the lab and gives it as a bundle has it.
fn run(lab: &mut Lab, command: Command, authority: cim_keys_core::nkey::PublicKey) -> BundledCommand {
    let keys = lab.draw(&command.keys());
    let context = lab.context(authority, keys);
    let decision = lab.decide(&command, &context).unwrap();
    lab.publish(&decision).unwrap();
    bundled(&command, &context, decision)
}

/// A founding, an account and a user; and the lab that made them.
fn founding() -> (Lab, Bundle) {
    let mut lab = Lab::empty();
    let command = Command::FoundRegistry { name: "Test".into() };
    let mut keys = lab.draw(&command.keys()[1..]);
    keys.insert(0, lab.registry.id().operator);
    lab.founding = keys.clone();
    let context = lab.context(keys[0], keys);
    let decision = lab.decide(&command, &context).unwrap();
    lab.publish(&decision).unwrap();
    let mut commands = vec![bundled(&command, &context, decision)];
    let signing = lab.founding[OPERATOR_SIGNING];
    let account = Command::CreateAccount { name: "APP".into(), limits: Default::default() };
    commands.push(run(&mut lab, account, signing));
    let keys = commands[1].context.keys.clone();
    commands.push(run(&mut lab, create_user(keys[0], "alice"), keys[1]));
    let registry = lab.registry.id().clone();
    (lab, Bundle { registry, commands })
}

/// One user: small enough to look at every byte.
fn small() -> &'static (Lab, Bundle, Vec<u8>) {
    static SMALL: OnceLock<(Lab, Bundle, Vec<u8>)> = OnceLock::new();
    SMALL.get_or_init(|| {
        let mut lab = Lab::founded();
        let account = lab.account("APP");
        let before = lab.registry.clone();
        let user = run(&mut lab, create_user(account.0, "alice"), account.1);
        lab.registry = before;
        let bundle = Bundle { registry: lab.registry.id().clone(), commands: vec![user] };
        let text = encode(&bundle).unwrap();
        (lab, bundle, text)
    })
}

/// The same body under a checksum that holds.
fn sealed(text: &[u8]) -> Vec<u8> {
    let body = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let sum: String = Digest::of(&text[body..]).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    [format!("cim-keys-bundle {VERSION} sha256:{sum}\n").as_bytes(), &text[body..]].concat()
}

/// Takes a text in as a host does.
fn taken(text: &[u8], registry: &Registry) -> Result<(), String> {
    let bundle = decode(text).map_err(|error| error.code().to_owned())?;
    if bundle.registry != *registry.id() {
        return Err("registry".into());
    }
    let verified = bundle.verify().map_err(|error| error.code().to_owned())?;
    let scopes: Vec<Lookup> =
        verified.commands().iter().flat_map(|command| command.scopes()).cloned().collect();
    let mut facts = registry.facts(&scopes, true);
    for command in verified.commands() {
        command.judge(&mut facts).map_err(|refusal| refusal.code().to_owned())?;
    }
    Ok(())
}

#[test]
fn a_bundle_is_one_text_and_stands_where_it_was_made() {
    let (lab, bundle) = founding();
    let text = encode(&bundle).unwrap();
    assert!(text.starts_with(b"cim-keys-bundle 1 sha256:") && text.ends_with(b"}\n"));
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 2 + bundle.commands.len());
    assert_eq!(decode(&text), Ok(bundle.clone()));
    assert_eq!(encode(&decode(&text).unwrap()), Ok(text.clone()));
    assert!(bundle.founds() && !small().1.founds());
    let empty = Registry::new(lab.registry.id().clone());
    assert_eq!(taken(&text, &empty), Ok(()));
    // What is there already is no founding again.
    assert_eq!(taken(&text, &lab.registry), Err("command-known".into()));
    // What it leaves is what the lab has.
    let verified = bundle.verify().unwrap();
    let scopes: Vec<Lookup> = verified.commands().iter().flat_map(|c| c.scopes()).cloned().collect();
    let mut facts = empty.facts(&scopes, true);
    for command in verified.commands() {
        for id in command.judge(&mut facts).unwrap().changed {
            assert!(facts.entity(id).unwrap().is_some());
        }
    }
    assert_eq!(facts.hash(), lab.registry.facts(&scopes, true).hash());
    for key in lab.keys.values() {
        let seed = key.seed();
        let found = text.windows(58).any(|window| window == seed.expose().as_bytes());
        assert!(!found, "a seed in a bundle");
    }
}

#[test]
fn every_changed_or_missing_byte_is_named() {
    let (_, _, text) = small();
    for at in 0..text.len() {
        let header = at < 100;
        for bit in if header { 0..8 } else { at % 8..at % 8 + 1 } {
            let mut changed = text.clone();
            changed[at] ^= 1 << bit;
            let error = decode(&changed).expect_err("a damaged bundle");
            assert!(!error.to_string().is_empty());
        }
        assert!(decode(&text[..at]).is_err(), "cut after {at}");
    }
    let more = [text.as_slice(), b"\n"].concat();
    assert_eq!(decode(&more), Err(BundleError::Checksum));
}

#[test]
fn a_forger_who_mends_the_checksum_gains_nothing() {
    let (lab, _, text) = small();
    assert_eq!(taken(text, &lab.registry), Ok(()));
    let body = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for at in body..text.len() {
        let mut changed = text.clone();
        changed[at] ^= 1 << (at % 7);
        let outcome = taken(&sealed(&changed), &lab.registry);
        let place = String::from_utf8_lossy(&text[at.saturating_sub(30)..(at + 10).min(text.len())]);
        assert!(outcome.is_err(), "byte {at} is not looked at: {place}");
        assert!(taken(&sealed(&text[..at]), &lab.registry).is_err(), "cut after {at}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let (_, bundle, text) = small();
    let (_, founding) = founding();
    let head =
        |first: &str| [first.as_bytes(), &text[text.iter().position(|b| *b == b'\n').unwrap()..]].concat();
    assert_eq!(decode(b""), Err(BundleError::NotABundle));
    assert_eq!(decode(b"{}\n"), Err(BundleError::NotABundle));
    assert_eq!(
        decode(&head("cim-keys-bundle 2 anything")),
        Err(BundleError::Newer { found: 2, supported: 1 })
    );
    for other in
        ["cim-keys-bundle 0 sha256:", "cim-keys-bundle 01 sha256:", "cim-keys-bundle 1", "cim-keys-bundle"]
    {
        assert_eq!(decode(&head(other)), Err(BundleError::NotABundle), "{other}");
    }
    assert_eq!(decode(&head("cim-keys-bundle 1 sha256:00")), Err(BundleError::Checksum));
    let lines = |lines: &[&str]| sealed(format!("\n{}", lines.concat()).as_bytes());
    let texts = String::from_utf8(text.clone()).unwrap();
    let parts: Vec<&str> = texts.split_inclusive('\n').collect();
    assert_eq!(decode(&lines(&[])), Err(BundleError::Empty));
    assert_eq!(decode(&lines(&[parts[1]])), Err(BundleError::Empty));
    assert_eq!(decode(&lines(&[parts[2]])), Err(BundleError::Line { number: 2 }));
    assert_eq!(decode(&lines(&[parts[1], "{}\n"])), Err(BundleError::Line { number: 3 }));
    assert_eq!(decode(&lines(&[parts[1], parts[2], "\n"])), Err(BundleError::Line { number: 4 }));
    // The same value in other bytes.
    let spaced = parts[2].replacen(':', ": ", 1);
    assert_eq!(decode(&lines(&[parts[1], &spaced])), Err(BundleError::Line { number: 3 }));
    assert_eq!(decode(&lines(&[parts[1], parts[2].trim_end()])), Err(BundleError::Line { number: 3 }));
    let command_id = bundle.commands[0].context.command_id;
    assert_eq!(decode(&lines(&[parts[1], parts[2], parts[2]])), Err(BundleError::Twice { command_id }));

    let mut late = founding.clone();
    late.commands.swap(0, 1);
    assert_eq!(encode(&late), Err(BundleError::FoundingNotFirst { number: 2 }));
    let mut other = founding.clone();
    other.registry.operator = KeyPair::from_entropy(Kind::Operator, [201; 32]).public_key();
    let found = Some(founding.registry.operator);
    assert_eq!(encode(&other), Err(BundleError::Root { expected: other.registry.operator, found }));
    let none = Bundle { commands: Vec::new(), ..founding };
    assert_eq!(encode(&none), Err(BundleError::Empty));
}

#[test]
fn what_was_not_signed_is_not_taken() {
    let (lab, bundle, _) = small();
    let fault = |change: &dyn Fn(&mut BundledCommand)| {
        let mut bundle = bundle.clone();
        change(&mut bundle.commands[0]);
        bundle.verify().map(|_| ()).unwrap_err().fault
    };
    let disagree = |member| VerifyFault::Disagree { member };
    assert_eq!(fault(&|c| c.context.actor = "other".parse().unwrap()), disagree("command.actor"));
    assert_eq!(fault(&|c| c.context.attempt = 2), disagree("command.attempt"));
    assert_eq!(fault(&|c| c.command = Command::FoundRegistry { name: "x".into() }), disagree("command.hash"));
    assert_eq!(fault(&|c| c.draft_hash = Digest::of(b"other")), disagree("draft_hash"));
    assert_eq!(
        fault(&|c| c.envelopes[0].headers.push("Nats-Expected-Stream", "x").unwrap()),
        disagree("headers")
    );
    assert!(matches!(fault(&|c| c.envelopes.clear()), VerifyFault::Genuine(_)));
    // Keys stand in no event by themselves: deciding again notices.
    let mut others = bundle.clone();
    others.commands[0].context.keys = vec![KeyPair::from_entropy(Kind::User, [77; 32]).public_key()];
    let verified = others.verify().unwrap();
    let scopes: Vec<Lookup> = verified.commands()[0].scopes().cloned().collect();
    let mut facts = lab.registry.facts(&scopes, true);
    assert_eq!(verified.commands()[0].judge(&mut facts), Err(Refusal::Changed));
}

#[test]
fn what_does_not_stand_changes_no_facts() {
    let mut lab = Lab::founded();
    let account = lab.account("APP");
    let before = lab.registry.clone();
    let user = run(&mut lab, create_user(account.0, "alice"), account.1);
    let bundle = Bundle { registry: lab.registry.id().clone(), commands: vec![user] };
    let verified = bundle.verify().unwrap();
    let command = &verified.commands()[0];
    let scopes: Vec<Lookup> = command.scopes().cloned().collect();
    lab.registry = before;
    // Another alice was first.
    lab.user(account, "alice").unwrap();
    let mut facts = lab.registry.facts(&scopes, true);
    let untouched = facts.clone();
    let refused = command.judge(&mut facts).unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(Rejection::Violation(Violation::NameTaken { .. }))));
    assert_eq!(facts, untouched);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
        prop_assert!(decode(&bytes).is_err());
        let (_, bundle, text) = small();
        let mut changed = text.clone();
        let at = at.index(text.len());
        changed[at] = byte;
        match decode(&changed) {
            Ok(same) => prop_assert!(byte == text[at] && same == *bundle),
            Err(_) => prop_assert!(byte != text[at]),
        }
        // Behind a checksum that holds, whatever is read has this text and no other.
        if let Ok(read) = decode(&sealed(&[b"\n", bytes.as_slice()].concat())) {
            prop_assert_eq!(encode(&read).unwrap(), sealed(&[b"\n", bytes.as_slice()].concat()));
        }
    }
}
