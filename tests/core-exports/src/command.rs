//! What somebody wants: each command by its own export, drafts, their completion.

use cim_keys_core::command::{Command, HandedOut, decide};
use cim_keys_core::context::{Context, RegistryId};
use cim_keys_core::digest::Digest;
use cim_keys_core::draft::{Draft, authority_message, draft_hash, messages_hash};
use cim_keys_core::envelope::Envelope;
use cim_keys_core::journal::{Pending, State as JournalState};
use cim_keys_core::nkey::Signature;

use crate::registry::State;
use crate::{Failed, exports, shown};

fn draft(state: State, command: &Command, context: &Context, registry: &RegistryId) -> Result<Draft, Failed> {
    let facts = state.registry().facts(&command.scope(context, registry), true);
    Ok(decide(&facts, command, context)?)
}

fn decided(
    state: State,
    command: &Command,
    context: &Context,
    registry: &RegistryId,
) -> Result<String, Failed> {
    draft(state, command, context, registry).map(shown)
}

/// One export for one kind of command: anything else is an error.
macro_rules! commands {
    ($($name:ident($variant:ident))*) => { exports! {$(
        $name(state: State, command: Command, context: Context, registry: RegistryId) {
            match command {
                Command::$variant { .. } => decided(state, &command, &context, &registry)?,
                other => return Err(Failed::from(other.name())),
            }
        }
    )*} };
}

commands! {
    command_found_registry(FoundRegistry)
    command_create_account(CreateAccount)
    command_create_user(CreateUser)
    command_set_permissions(SetPermissions)
    command_revoke_user(RevokeUser)
    command_generate_credentials(GenerateCredentials)
    command_generate_key(GenerateKey)
    command_revoke_key(RevokeKey)
    command_void_command(VoidCommand)
    command_raise_schema(RaiseSchema)
}

exports! {
    command_facts(command: Command, context: Context, registry: RegistryId) {
        let keys: Vec<_> = command.keys().into_iter().map(|kind| kind.as_str()).collect();
        (command.hash(), command.in_account(), command.scope(&context, &registry), keys)
    }
    command_handed_out(command: Command, context: Context, messages: Vec<Envelope>) {
        HandedOut::by(&command, &context, &messages)?
    }
    journal_pending(pending: Pending, state: JournalState) { (pending.ready(), pending.own(state)) }
    command_decide(state: State, command: Command, context: Context, registry: RegistryId) {
        let facts = state.registry().facts(&command.scope(&context, &registry), true);
        let draft = decide(&facts, &command, &context)?;
        (draft.hash(), shown(draft.requests()))
    }
    draft_complete(
        state: State, command: Command, context: Context, registry: RegistryId, signatures: Vec<Signature>
    ) {
        draft(state, &command, &context, &registry)?.complete(&signatures)?.envelopes
    }
    draft_hash_of(events: Vec<(String, String)>) {
        draft_hash(events.iter().map(|(subject, payload)| (subject.as_str(), payload.as_bytes())))
    }
    draft_messages_hash(messages: Vec<Envelope>) { messages_hash(&messages) }
    draft_authority_message(hash: Digest) { authority_message(&hash) }
}
