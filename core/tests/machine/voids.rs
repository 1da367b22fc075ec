//! Commands that are given up: their ids are used up, here and for every reader.

use crate::desk::*;
use crate::lab::*;
use cim_keys_core::command::Command;
use cim_keys_core::journal::{Pending, Progress};
use cim_keys_core::sync::{Input, Machine, Reply};

#[test]
fn what_another_host_voided_is_held_and_never_sent() {
    // Given two commands of ours,
    let mut desk = Desk::new();
    desk.user("alice");
    desk.user("bob");
    let ids: Vec<_> = desk.pending.iter().map(|pending| pending.context.command_id).collect();
    // when another host voids the first one with the operator's key, and the other with a key that has no say in it,
    let before = desk.lab.registry.clone();
    let void = |command_id, account| Command::VoidCommand { command_id, account, revoke: None };
    let other = desk.lab.account("OTHER");
    desk.lab.run(void(ids[0], None), desk.lab.founding[OPERATOR_SIGNING]).unwrap();
    desk.lab.run(void(ids[1], Some(other.0)), other.1).unwrap();
    desk.lab.registry = before;
    // then the first is held as what it is, and only the second is sent.
    let sending = desk.sent();
    let held: Vec<_> = desk.held.iter().map(|hold| (hold.command_id, hold.reason.code.as_str())).collect();
    assert_eq!(held, [(ids[0], "voided")]);
    assert_eq!(sending.messages.len(), 1);
    assert_eq!(sending.messages[0].payload, desk.pending[0].envelopes[0].payload);
    let recorded: Vec<_> = desk.persisted.iter().flat_map(|persist| &persist.recorded).collect();
    let voided = recorded.iter().filter(|r| !r.voided.is_empty()).map(|r| r.command_id).collect::<Vec<_>>();
    assert_eq!(voided, ids);
}

#[test]
fn a_void_of_ours_is_recorded_with_its_acknowledgement() {
    // Given a voiding in our journal, and the command that it is about behind it (as whoever took in a bundle has it),
    let mut desk = Desk::new();
    desk.user("alice");
    let id = desk.pending[0].context.command_id;
    let command = Command::VoidCommand { command_id: id, account: None, revoke: None };
    let context = desk.lab.context(desk.lab.founding[OPERATOR_SIGNING], Vec::new());
    desk.write(command, context);
    desk.pending.swap(0, 1);
    (desk.pending[0].position, desk.pending[1].position) = (1, 2);
    // when both are looked at, then only the voiding is sent,
    let progress = Progress { recheck_due: true, ..desk.machine.progress().clone() };
    desk.machine = Machine::new(desk.lab.registry.id().clone(), progress);
    let sending = desk.sent();
    assert_eq!(sending.messages.len(), 1);
    assert_eq!(desk.held.iter().map(|hold| hold.reason.code.as_str()).collect::<Vec<_>>(), ["voided"]);
    // and its acknowledgement is as good as reading it.
    let sequence = desk.lab.sequence + 1;
    desk.hand_in(Input::Reply(Reply::Ack { stream: "KEYS_EVENTS".into(), sequence, duplicate: false }));
    let recorded: Vec<_> = desk.persisted.iter().flat_map(|persist| &persist.recorded).collect();
    let kept: Vec<_> = recorded.iter().map(|r| (r.command_id == id, r.first, r.voided.len())).collect();
    assert_eq!(kept, [(false, sequence, 0), (true, sequence, 1)]);
}

#[test]
fn a_void_goes_alone_and_what_was_made_meanwhile_is_looked_at_behind_it() {
    // Given a voiding between other commands, and the command that it is about kept back,
    let mut desk = Desk::new();
    for name in ["alice", "bob"] {
        desk.user(name);
    }
    let (alice, bob) = (desk.pending.remove(0), desk.pending.remove(0));
    let id = alice.context.command_id;
    let command = Command::VoidCommand { command_id: id, account: None, revoke: None };
    let context = desk.lab.context(desk.lab.founding[OPERATOR_SIGNING], Vec::new());
    desk.write(command, context);
    let voiding = desk.pending.remove(0);
    let at = |position, pending: &Pending| Pending { position, ..pending.clone() };
    desk.pending = vec![at(1, &bob), at(2, &voiding)];
    // when they are sent, then the voiding waits for its own turn,
    let sending = desk.sent();
    assert_eq!((sending.messages.len(), &sending.messages[0].payload), (1, &bob.envelopes[0].payload));
    let ack =
        |sequence| Input::Reply(Reply::Ack { stream: "KEYS_EVENTS".into(), sequence, duplicate: false });
    let head = desk.lab.sequence;
    let outputs = desk.hand_in(ack(head + 1));
    let sending = send(&outputs).unwrap();
    assert_eq!((sending.messages.len(), &sending.messages[0].payload), (1, &voiding.envelopes[0].payload));
    // and what comes into the journal while it is on its way is not sent behind it.
    desk.pending.push(at(3, &alice));
    let outputs = desk.hand_in(ack(head + 2));
    assert!(send(&outputs).is_none());
    assert_eq!(desk.held.iter().map(|hold| hold.reason.code.as_str()).collect::<Vec<_>>(), ["voided"]);
}
