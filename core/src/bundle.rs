//! Commands as a file: made where there is no network, carried by anybody, taken in by a host that has one.
//!
//! Text, UTF-8. The first line names format, version and the SHA-256 (hex) of all bytes behind it:
//! `cim-keys-bundle 1 sha256:…`. The second is `{"registry":…}`; then comes one line of JSON for each command, in the order
//! of the journal that they come from. One bundle has one text: [`decode`] refuses any other. A bundle holds no secret.

use crate::admission::{AdmitError, Complete};
use crate::command::{Command, Rejection, decide};
use crate::context::{Context, RegistryId};
use crate::digest::Digest;
use crate::envelope::{self, Envelope, OpenError, Opened};
use crate::event::Event;
use crate::json;
use crate::nkey::PublicKey;
use crate::registry::{EntityId, Facts, Lookup};
use crate::rules;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Version of the format.
pub const VERSION: u32 = 1;
const NAME: &str = "cim-keys-bundle ";
const SUM: &str = "sha256:";

/// Commands of one registry, each signed by its authority, none of them secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Whose they are.
    pub registry: RegistryId,
    /// In the order of the journal that they come from; at least one. A founding is the first.
    pub commands: Vec<BundledCommand>,
}

/// A decided command with its messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledCommand {
    /// What was wanted.
    pub command: Command,
    /// The facts supplied with it.
    pub context: Context,
    /// Digest of its draft.
    pub draft_hash: Digest,
    /// Its messages.
    pub envelopes: Vec<Envelope>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    registry: RegistryId,
}

/// Writes a bundle.
///
/// # Errors
/// What [`decode`] would refuse.
pub fn encode(bundle: &Bundle) -> Result<Vec<u8>, BundleError> {
    bundle.check_shape()?;
    let mut body = line(&Head { registry: bundle.registry.clone() }, 2)?;
    for (number, command) in (3..).zip(&bundle.commands) {
        body.append(&mut line(command, number)?);
    }
    let mut text = format!("{NAME}{VERSION} {SUM}{}\n", hex(&Digest::of(&body))).into_bytes();
    text.append(&mut body);
    Ok(text)
}

/// Reads a bundle: its form, not what it says. See [`Bundle::verify`] for that.
///
/// # Errors
/// See [`BundleError`].
pub fn decode(bytes: &[u8]) -> Result<Bundle, BundleError> {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (first, rest) = bytes.split_at(end);
    let body = rest.strip_prefix(b"\n").unwrap_or_default();
    let (version, sum) = core::str::from_utf8(first)
        .ok()
        .and_then(|first| first.strip_prefix(NAME))
        .map(|rest| rest.split_once(' ').unwrap_or((rest, "")))
        .ok_or(BundleError::NotABundle)?;
    match version.parse::<u32>() {
        Ok(VERSION) => {}
        Ok(found) if found > VERSION => return Err(BundleError::Newer { found, supported: VERSION }),
        _ => return Err(BundleError::NotABundle),
    }
    // The one way to write it: without a sign or a leading zero.
    let expected = format!("{NAME}{VERSION} {SUM}");
    let sum = if first.starts_with(expected.as_bytes()) { sum.strip_prefix(SUM) } else { None };
    let sum = sum.ok_or(BundleError::NotABundle)?;
    if sum != hex(&Digest::of(body)) {
        return Err(BundleError::Checksum);
    }
    let mut lines = (2..).zip(body.split_inclusive(|byte| *byte == b'\n'));
    let (number, head) = lines.next().ok_or(BundleError::Empty)?;
    let Head { registry } = read(head, number)?;
    let commands: Result<Vec<BundledCommand>, _> = lines.map(|(number, line)| read(line, number)).collect();
    let bundle = Bundle { registry, commands: commands? };
    bundle.check_shape()?;
    Ok(bundle)
}

fn line<T: Serialize>(value: &T, number: usize) -> Result<Vec<u8>, BundleError> {
    let line = json::to_text(value).map_err(|_| BundleError::Line { number })?;
    Ok((line + "\n").into_bytes())
}

/// Reads a line that must be exactly what [`line`] writes.
fn read<T: Serialize + for<'de> Deserialize<'de>>(text: &[u8], number: usize) -> Result<T, BundleError> {
    let value: T = json::from_slice(text).map_err(|_| BundleError::Line { number })?;
    if line(&value, number)? == text { Ok(value) } else { Err(BundleError::Line { number }) }
}

fn hex(digest: &Digest) -> String {
    digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Bundle {
    /// Whether it founds its registry: such a bundle goes into an empty store.
    #[must_use]
    pub fn founds(&self) -> bool {
        self.commands.first().is_some_and(|first| is_founding(&first.command))
    }

    /// Verifies each command as a reader of the stream would: its messages decode, belong to the command, its context and
    /// the registry, are the draft that they say, and every signature holds.
    ///
    /// # Errors
    /// The first command that is not what it says.
    pub fn verify(&self) -> Result<Verified<'_>, VerifyError> {
        let mut commands = Vec::with_capacity(self.commands.len());
        for bundled in &self.commands {
            let command_id = bundled.context.command_id;
            let opened = bundled.opened(&self.registry).map_err(|fault| VerifyError { command_id, fault })?;
            let complete = Complete::unsent(opened);
            commands.push(VerifiedCommand {
                bundled,
                events: complete.events(),
                decision_scope: bundled.command.scope(&bundled.context, &self.registry),
                event_scope: complete.scope(),
            });
        }
        Ok(Verified { bundle: self, commands })
    }

    fn check_shape(&self) -> Result<(), BundleError> {
        let first = self.commands.first().ok_or(BundleError::Empty)?;
        let (expected, found) = (Some(self.registry.operator), first.context.keys.first().copied());
        if is_founding(&first.command) && found != expected {
            return Err(BundleError::Root { expected: self.registry.operator, found });
        }
        let mut ids = BTreeSet::new();
        for (place, bundled) in self.commands.iter().enumerate() {
            let command_id = bundled.context.command_id;
            if place > 0 && is_founding(&bundled.command) {
                return Err(BundleError::FoundingNotFirst { number: place.saturating_add(1) });
            }
            if !ids.insert(command_id) {
                return Err(BundleError::Twice { command_id });
            }
        }
        Ok(())
    }
}

fn is_founding(command: &Command) -> bool {
    matches!(command, Command::FoundRegistry { .. })
}

impl BundledCommand {
    /// Its messages, read and found genuine.
    fn opened(&self, registry: &RegistryId) -> Result<Vec<Opened>, VerifyFault> {
        // Before anything that costs work for each of them.
        if self.envelopes.len() > rules::COMMAND_LIMIT as usize {
            return Err(VerifyFault::Disagree { member: "command.count" });
        }
        let hash = self.command.hash();
        let mut opened = Vec::with_capacity(self.envelopes.len());
        for message in &self.envelopes {
            let read = envelope::decode(message.subject.as_str(), &message.headers, &message.payload)?;
            self.owns(&read.event, registry, hash, opened.len())?;
            // A reader leaves other headers out of the comparison; whoever appends would publish them.
            if envelope::headers_of(&read.event).as_ref() != Ok(&message.headers) {
                return Err(VerifyFault::Disagree { member: "headers" });
            }
            opened.push(read);
        }
        let complete = Complete::unsent(opened.clone());
        if complete.genuine(registry)? != self.draft_hash {
            return Err(VerifyFault::Disagree { member: "draft_hash" });
        }
        Ok(opened)
    }

    /// Whether an event is this command's, at this place.
    fn owns(
        &self,
        event: &Event,
        registry: &RegistryId,
        hash: Digest,
        place: usize,
    ) -> Result<(), VerifyFault> {
        let (said, context) = (&event.command, &self.context);
        let all = [
            ("registryid", event.registry == registry.operator),
            ("time", event.time == context.now),
            ("correlationid", event.correlation_id == context.correlation_id),
            ("causationid", event.causation_id == context.causation_id),
            ("command.id", said.id == context.command_id),
            ("command.attempt", said.attempt == context.attempt),
            ("command.hash", said.hash == hash),
            ("command.actor", said.actor == context.actor),
            ("command.authority", said.authority == context.authority),
            ("command.index", u32::try_from(place) == Ok(said.index)),
            ("command.count", u32::try_from(self.envelopes.len()) == Ok(said.count)),
        ];
        match all.into_iter().find(|(_, agrees)| !agrees) {
            Some((member, _)) => Err(VerifyFault::Disagree { member }),
            None => Ok(()),
        }
    }
}

/// A bundle whose commands are what they say. Whether they stand in a registry is another question.
#[derive(Clone, Debug)]
pub struct Verified<'a> {
    bundle: &'a Bundle,
    commands: Vec<VerifiedCommand<'a>>,
}

impl<'a> Verified<'a> {
    /// The bundle.
    #[must_use]
    pub fn bundle(&self) -> &'a Bundle {
        self.bundle
    }

    /// Its commands, in order.
    #[must_use]
    pub fn commands(&self) -> &[VerifiedCommand<'a>] {
        &self.commands
    }
}

/// A command of a bundle that is what it says.
#[derive(Clone, Debug)]
pub struct VerifiedCommand<'a> {
    bundled: &'a BundledCommand,
    events: Vec<Event>,
    decision_scope: Vec<Lookup>,
    event_scope: Vec<Lookup>,
}

/// A command stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Digest of the facts it stands on.
    pub facts_hash: Digest,
    /// The entities that it changed.
    pub changed: BTreeSet<EntityId>,
}

impl<'a> VerifiedCommand<'a> {
    /// The command.
    #[must_use]
    pub fn bundled(&self) -> &'a BundledCommand {
        self.bundled
    }

    /// Its events, tokens signed.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What judging it asks of the registry.
    pub fn scopes(&self) -> impl Iterator<Item = &Lookup> {
        self.decision_scope.iter().chain(&self.event_scope)
    }

    /// Decides the command again on these facts. Where it comes out as it was decided, it is folded into them; else they
    /// are left alone.
    ///
    /// # Errors
    /// Why it does not stand here.
    pub fn judge(&self, facts: &mut Facts) -> Result<Standing, Refusal> {
        let seen = facts.only(&self.decision_scope).map_err(Rejection::from)?;
        let draft = decide(&seen, &self.bundled.command, &self.bundled.context)?;
        if draft.hash() != self.bundled.draft_hash {
            return Err(Refusal::Changed);
        }
        let mut part = facts.only(&self.event_scope).map_err(Rejection::from)?;
        let changed = rules::judge(&mut part, &self.events).map_err(Rejection::from)?;
        facts.overwrite(part);
        Ok(Standing { facts_hash: seen.hash(), changed })
    }
}

/// Why bytes are no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The first line is another.
    #[error("this is no bundle: its first line is not `{NAME}{VERSION} {SUM}…`")]
    NotABundle,
    /// Written by a newer version.
    #[error("the bundle has the format {found}, this version knows up to {supported}: upgrade")]
    Newer {
        /// Its version.
        found: u32,
        /// The newest known.
        supported: u32,
    },
    /// The bytes are not those that were written.
    #[error("the bundle is damaged: its checksum does not hold")]
    Checksum,
    /// A line is not what an encoder writes.
    #[error("line {number} of the bundle cannot be read")]
    Line {
        /// From 1.
        number: usize,
    },
    /// It has no command.
    #[error("the bundle has no commands")]
    Empty,
    /// A registry begins with its founding.
    #[error("command {number} of the bundle founds a registry: only the first one may")]
    FoundingNotFirst {
        /// From 1.
        number: usize,
    },
    /// It founds another registry than it names.
    #[error("the bundle names the registry {expected} and founds {}", found.map_or_else(|| String::from("none"), |key| format!("{key}")))]
    Root {
        /// Named.
        expected: PublicKey,
        /// Founded.
        found: Option<PublicKey>,
    },
    /// A command id is one promise.
    #[error("the bundle has the command {command_id} twice")]
    Twice {
        /// The id.
        command_id: Uuid,
    },
}

impl BundleError {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotABundle => "bundle-not",
            Self::Newer { .. } => "bundle-newer",
            Self::Checksum => "bundle-checksum",
            Self::Line { .. } => "bundle-line",
            Self::Empty => "bundle-empty",
            Self::FoundingNotFirst { .. } => "bundle-founding",
            Self::Root { .. } => "bundle-root",
            Self::Twice { .. } => "bundle-twice",
        }
    }
}

/// A command of a bundle is not what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("command {command_id} of the bundle is not what it says: {fault}")]
pub struct VerifyError {
    /// Which.
    pub command_id: Uuid,
    /// Why not.
    pub fault: VerifyFault,
}

/// Why a command of a bundle is not what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyFault {
    /// A message cannot be read.
    #[error(transparent)]
    Message(#[from] OpenError),
    /// Command and messages contradict.
    #[error("command and messages disagree about {member}")]
    Disagree {
        /// What.
        member: &'static str,
    },
    /// A subject or a signature.
    #[error(transparent)]
    Genuine(#[from] AdmitError),
}

impl VerifyError {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match &self.fault {
            VerifyFault::Message(error) => error.code(),
            VerifyFault::Disagree { .. } => "bundle-disagrees",
            VerifyFault::Genuine(error) => error.code(),
        }
    }
}

/// Why a command of a bundle does not stand in a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It would not be decided.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It would be decided, and be another one.
    #[error("what it was decided on is different here, and it would be another command")]
    Changed,
}

impl Refusal {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.code(),
            Self::Changed => "facts-changed",
        }
    }
}
