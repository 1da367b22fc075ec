//! An event with identity, ready for the wire: subject, seven headers, CloudEvents payload. Frozen when made.
//!
//! Payload: a CloudEvents 1.0 structured-mode JSON object whose members stand in one order; its last
//! member, the string extension `signatures`, completes it. Taking that member away gives the draft's bytes.

use crate::context::RegistryId;
use crate::event::{CommandRef, Event, FOUNDING_SCHEMA, Fact, IssuedToken};
use crate::headers::{self, CimEvent, HeaderError, Headers, build_headers};
use crate::json;
use crate::nkey::{PublicKey, Signature};
use crate::subjects::{Subject, SubjectError};
use crate::time::Timestamp;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The newest version of the payloads' schema that is known here; `dataschema` carries an event's.
pub const SCHEMA_VERSION: u32 = 1;
/// What every `dataschema` of ours begins with: the event's type and the version follow.
const SCHEMA: &str = "urn:cim-keys:schema:";
/// Type of the event whose form never changes: [`Fact::SchemaRaised`].
pub(crate) const RAISED: &str = "keys.schema.raised";
/// Payload and all headers of one message stay below this (the stream's `max_msg_size`).
pub const MESSAGE_LIMIT: usize = 1024 * 1024;
/// Room kept for the transport headers that `sync` adds and for the protocol line.
pub const TRANSPORT_ROOM: usize = 2048;

/// An event as it goes over the wire. A retry sends the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Where it is published.
    pub subject: Subject,
    /// The seven headers; transport headers are added per attempt.
    pub headers: Headers,
    /// CloudEvents JSON.
    #[serde(with = "text")]
    pub payload: Vec<u8>,
}

impl Envelope {
    /// Bytes of payload, headers and subject.
    #[must_use]
    pub fn len(&self) -> usize {
        self.payload.len() + self.headers.wire_len() + self.subject.as_str().len()
    }

    /// Never: an envelope has headers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Payloads are JSON, so text keeps them readable where an envelope is stored.
pub(crate) mod text {
    use alloc::string::String;
    use alloc::vec::Vec;
    use serde::{Deserialize, Deserializer, Serializer, ser};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(core::str::from_utf8(bytes).map_err(ser::Error::custom)?)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Ok(String::deserialize(deserializer)?.into_bytes())
    }
}

/// The payload's members in their order, without `signatures`.
#[derive(Serialize)]
struct Form<'a> {
    specversion: &'static str,
    id: Uuid,
    source: &'static str,
    r#type: String,
    subject: About,
    time: Timestamp,
    datacontenttype: &'static str,
    dataschema: String,
    correlationid: Uuid,
    causationid: Uuid,
    registryid: PublicKey,
    data: DataForm<'a>,
}

/// What an event is about: an entity by its public key, a command by its id.
#[derive(Serialize)]
#[serde(untagged)]
enum About {
    Key(PublicKey),
    Command(Uuid),
}

impl From<&Event> for About {
    fn from(event: &Event) -> Self {
        match event.fact {
            Fact::CommandVoided { command_id } => Self::Command(command_id),
            _ => Self::Key(event.entity),
        }
    }
}

#[derive(Serialize)]
struct DataForm<'a> {
    command: &'a CommandRef,
    facts: Members,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a IssuedToken>,
}

/// The same members as they are read: unknown ones are refused, [`decode`] compares the rest with what it writes.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Parsed {
    #[serde(rename = "specversion")]
    _specversion: String,
    /// UUID v7 (v5 for imports): the event's id, also `CIM-Event-Id` and `Nats-Msg-Id`.
    id: Uuid,
    #[serde(rename = "source")]
    _source: String,
    /// `keys.<entity>.<operation>`.
    r#type: String,
    /// What the event is about: an entity by its public key, a command by its id.
    subject: String,
    /// When the command was decided, by its host's clock.
    time: Timestamp,
    #[serde(rename = "datacontenttype")]
    _datacontenttype: String,
    /// Names this schema and its version.
    dataschema: String,
    /// UUID of the conversation.
    correlationid: Uuid,
    /// UUID of what caused the command.
    causationid: Uuid,
    /// Identity key of the registry's operator.
    registryid: PublicKey,
    /// What happened, and the command that it belongs to.
    data: ParsedData,
    /// The signature of the event's token, and on the command's last event the authority's: base64url, joined by dots.
    signatures: String,
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Data"))]
#[serde(deny_unknown_fields)]
struct ParsedData {
    /// The command, and the event's place in it.
    command: CommandRef,
    /// What the token does not say.
    facts: Members,
    /// The token that the event brings.
    #[serde(default)]
    token: Option<IssuedToken>,
}

/// What the facts of all event types have, each its own: a member that does not belong to a type is not written for it,
/// and so not canonical.
#[derive(Default, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Facts", description = "What the token does not say.")
)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Members {
    /// Whether creds were handed out with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<bool>,
    /// The user's account; of a voided command the account whose signing key vouches.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<PublicKey>,
    /// Unix seconds: what was issued up to here is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<i64>,
    /// The operator or account that the key signs for; none for a free key.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<PublicKey>,
    /// What a person calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// The schema level in force from here on.
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<i64>,
}

impl From<&Event> for Members {
    fn from(event: &Event) -> Self {
        let none = Self::default();
        match &event.fact {
            Fact::OperatorCreated
            | Fact::OperatorUpdated
            | Fact::AccountCreated
            | Fact::AccountUpdated
            | Fact::UserUpdated
            | Fact::CredentialsIssued => none,
            Fact::UserCreated { credentials } => Self { credentials: Some(*credentials), ..none },
            Fact::UserRevoked { account, revoked_at } => {
                Self { account: Some(*account), revoked_at: Some(*revoked_at), ..none }
            }
            Fact::KeyGenerated { owner, label } => Self { owner: *owner, label: label.clone(), ..none },
            Fact::KeyRevoked { revoked_at } => Self { revoked_at: Some(*revoked_at), ..none },
            Fact::SchemaRaised { level } => Self { level: Some(i64::from(*level)), ..none },
            // The operator's word counts for the whole registry, which the event names already.
            Fact::CommandVoided { .. } => {
                Self { account: Some(event.entity).filter(|owner| *owner != event.registry), ..none }
            }
        }
    }
}

/// Writes the payload of an event without its `signatures`: the bytes that a draft hash covers.
#[must_use]
pub fn encode_draft(event: &Event) -> Vec<u8> {
    let kind = event_type(&event.fact);
    let form = Form {
        specversion: "1.0",
        id: event.id,
        source: headers::SOURCE,
        dataschema: schema_of(&kind, event.schema),
        r#type: kind,
        subject: About::from(event),
        time: event.time,
        datacontenttype: "application/json",
        correlationid: event.correlation_id,
        causationid: event.causation_id,
        registryid: event.registry,
        data: DataForm { command: &event.command, facts: Members::from(event), token: event.token.as_ref() },
    };
    // Structs of strings and integers always serialize.
    json::to_text(&form).unwrap_or_default().into_bytes()
}

/// Sets signatures into the place kept for them: the payload's last member.
#[must_use]
pub fn complete(draft: &[u8], signatures: &[Signature]) -> Vec<u8> {
    let mut payload = draft.to_vec();
    payload.pop();
    payload.extend_from_slice(b",\"signatures\":\"");
    for (place, signature) in signatures.iter().enumerate() {
        if place > 0 {
            payload.push(b'.');
        }
        payload.extend_from_slice(signature.to_string().as_bytes());
    }
    payload.extend_from_slice(b"\"}");
    payload
}

pub(crate) fn event_type(fact: &Fact) -> String {
    let (entity, operation) = fact.name();
    format!("{}.{entity}.{operation}", crate::subjects::DOMAIN)
}

/// The headers of an event.
///
/// # Errors
/// Never for an event that [`decide`](crate::command::decide) made.
pub fn headers_of(event: &Event) -> Result<Headers, HeaderError> {
    build_headers(
        &CimEvent {
            correlation_id: event.correlation_id,
            causation_id: event.causation_id,
            event_type: event_type(&event.fact),
            timestamp: event.time,
            message_id: event.id,
        },
        headers::SOURCE,
    )
}

/// The subject of an event.
#[must_use]
pub fn subject_of(event: &Event, registry: &RegistryId) -> Subject {
    let (entity, operation) = event.fact.name();
    registry.namespace.subject(entity, operation)
}

/// A message read back: the event, its draft's bytes and the authority's signature where it is the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The event, its token with signature.
    pub event: Event,
    /// The subject it was published on.
    pub subject: Subject,
    /// Payload without `signatures`.
    pub draft: Vec<u8>,
    /// On the command's last event.
    pub authority_signature: Option<Signature>,
}

/// Reads a message strictly: the bytes must be exactly what [`encode_draft`] and [`complete`] write, and subject, headers and payload must
/// agree. Headers beyond the seven are left out of the comparison.
///
/// # Errors
/// See [`OpenError`]. No signature is verified here.
pub fn decode(subject: &str, headers: &Headers, payload: &[u8]) -> Result<Opened, OpenError> {
    decode_as(SCHEMA_VERSION, subject, headers, payload)
}

/// [`decode`], as a version reads that knows the schema up to `known`.
pub(crate) fn decode_as(
    known: u32,
    subject: &str,
    headers: &Headers,
    payload: &[u8],
) -> Result<Opened, OpenError> {
    if payload.len() > MESSAGE_LIMIT {
        return Err(OpenError::Size { found: payload.len() });
    }
    let subject: Subject = subject.parse().map_err(OpenError::Subject)?;
    let parsed: Parsed = json::from_slice(payload).map_err(|_| unreadable(known, payload))?;
    let schema = version(known, &parsed.r#type, &parsed.dataschema)?;
    let (entity, fact) = about(&parsed.r#type, &parsed.subject, parsed.registryid, parsed.data.facts)?;
    let mut event = Event {
        schema,
        id: parsed.id,
        time: parsed.time,
        correlation_id: parsed.correlationid,
        causation_id: parsed.causationid,
        registry: parsed.registryid,
        entity,
        command: parsed.data.command,
        fact,
        token: parsed.data.token,
    };
    let signatures = split(&parsed.signatures, event.signature_count())?;
    let draft = encode_draft(&event);
    if complete(&draft, &signatures) != payload {
        return Err(OpenError::NotCanonical);
    }
    if subject.event_type() != parsed.r#type {
        return Err(OpenError::Disagree { member: "type" });
    }
    let expected = headers_of(&event).map_err(OpenError::Header)?;
    for (name, value) in expected.iter() {
        if headers.only(name) != Some(value) {
            return Err(OpenError::HeaderDisagrees { name: name.to_owned() });
        }
    }
    let mut signatures = signatures.into_iter();
    if let Some(token) = &mut event.token {
        token.signature = signatures.next();
    }
    Ok(Opened { event, subject, draft, authority_signature: signatures.next() })
}

/// What cannot be read may be written in a schema that is not known. Nobody vouches for what it says: it is only told.
fn unreadable(known: u32, payload: &[u8]) -> OpenError {
    let text = core::str::from_utf8(payload).unwrap_or_default();
    let said = text.split_once("\"dataschema\":\"").and_then(|(_, rest)| rest.split_once('"'));
    let kind = said.and_then(|(said, _)| Some((said, said.strip_prefix(SCHEMA)?.rsplit_once(':')?.0)));
    kind.and_then(|(said, kind)| version(known, kind, said).err()).unwrap_or(OpenError::Json)
}

/// The schema's version, where it is known.
fn version(known: u32, kind: &str, dataschema: &str) -> Result<u32, OpenError> {
    // The form of this one never changes.
    let known = if kind == RAISED { FOUNDING_SCHEMA } else { known };
    let mut version = FOUNDING_SCHEMA;
    while version <= known {
        if dataschema == schema_of(kind, version) {
            return Ok(version);
        }
        version += 1;
    }
    Err(OpenError::Schema { found: dataschema.chars().take(120).collect() })
}

/// What `dataschema` says.
pub(crate) fn schema_of(kind: &str, version: u32) -> String {
    format!("{SCHEMA}{kind}:{version}")
}

fn split(text: &str, expected: usize) -> Result<Vec<Signature>, OpenError> {
    let parts: Vec<&str> = if text.is_empty() { Vec::new() } else { text.split('.').collect() };
    if parts.len() != expected {
        return Err(OpenError::Signatures { expected, found: parts.len() });
    }
    parts.into_iter().map(|part| part.parse().map_err(|_| OpenError::NotCanonical)).collect()
}

/// Which entity an event is about, and what happened.
fn about(
    kind: &str,
    subject: &str,
    registry: PublicKey,
    facts: Members,
) -> Result<(PublicKey, Fact), OpenError> {
    if kind == "keys.command.voided" {
        let command_id = Uuid::parse_str(subject).map_err(|_| OpenError::Json)?;
        return Ok((facts.account.unwrap_or(registry), Fact::CommandVoided { command_id }));
    }
    Ok((subject.parse().map_err(|_| OpenError::Json)?, fact_of(kind, facts)?))
}

fn fact_of(kind: &str, facts: Members) -> Result<Fact, OpenError> {
    Ok(match kind {
        "keys.operator.created" => Fact::OperatorCreated,
        "keys.operator.updated" => Fact::OperatorUpdated,
        "keys.account.created" => Fact::AccountCreated,
        "keys.account.updated" => Fact::AccountUpdated,
        "keys.user.created" => Fact::UserCreated { credentials: facts.credentials.ok_or(OpenError::Json)? },
        "keys.user.updated" => Fact::UserUpdated,
        "keys.user.revoked" => Fact::UserRevoked {
            account: facts.account.ok_or(OpenError::Json)?,
            revoked_at: facts.revoked_at.ok_or(OpenError::Json)?,
        },
        "keys.key.generated" => Fact::KeyGenerated { owner: facts.owner, label: facts.label },
        "keys.key.revoked" => Fact::KeyRevoked { revoked_at: facts.revoked_at.ok_or(OpenError::Json)? },
        "keys.credentials.issued" => Fact::CredentialsIssued,
        RAISED => {
            let level = facts.level.and_then(|level| u32::try_from(level).ok());
            Fact::SchemaRaised { level: level.ok_or(OpenError::Json)? }
        }
        other => return Err(OpenError::Type { found: other.chars().take(120).collect() }),
    })
}

/// Why a message is no event of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Larger than [`MESSAGE_LIMIT`].
    #[error("payload of {found} bytes")]
    Size {
        /// Bytes.
        found: usize,
    },
    /// The subject is not five literal tokens.
    #[error("subject: {0}")]
    Subject(SubjectError),
    /// Not the JSON object that CloudEvents and our schema ask for.
    #[error("payload is not an event of this schema")]
    Json,
    /// A type that this version does not know.
    #[error("event type {found:?} is unknown: a newer cim-keys may know it")]
    Type {
        /// The type, cut after 120 characters.
        found: String,
    },
    /// A schema version that this version does not know.
    #[error("schema {found:?} is unknown: a newer cim-keys may know it")]
    Schema {
        /// `dataschema`, cut after 120 characters.
        found: String,
    },
    /// Encoding what was decoded gives other bytes.
    #[error("payload is not in canonical form")]
    NotCanonical,
    /// Another number of signatures.
    #[error("{found} signatures where {expected} belong")]
    Signatures {
        /// Belonging.
        expected: usize,
        /// Found.
        found: usize,
    },
    /// Subject and payload contradict.
    #[error("subject and payload disagree about {member}")]
    Disagree {
        /// The CloudEvents attribute.
        member: &'static str,
    },
    /// A header that cannot be built from the payload.
    #[error("header: {0}")]
    Header(HeaderError),
    /// A header is missing, doubled, or contradicts the payload.
    #[error("header {name} is missing, doubled, or disagrees with the payload")]
    HeaderDisagrees {
        /// The header.
        name: String,
    },
}

impl OpenError {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Size { .. } => "event-size",
            Self::Subject(_) => "event-subject",
            Self::Json => "event-json",
            Self::Type { .. } => "event-type",
            Self::Schema { .. } => "event-schema",
            Self::NotCanonical => "event-not-canonical",
            Self::Signatures { .. } => "event-signatures",
            Self::Disagree { .. } => "event-disagrees",
            Self::Header(_) | Self::HeaderDisagrees { .. } => "event-headers",
        }
    }
}
