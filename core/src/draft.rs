//! The outcome of a decision before signatures, and after.

use crate::context::{Context, RegistryId};
use crate::digest::Digest;
use crate::envelope::{self, Envelope, MESSAGE_LIMIT, TRANSPORT_ROOM};
use crate::event::Event;
use crate::nkey::{PublicKey, Signature};
use alloc::vec::Vec;
use uuid::Uuid;

/// Envelopes of one command together stay below this.
pub const COMMAND_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of one signature in a payload, with its dot.
const SIGNATURE_ROOM: usize = 88;

/// Closed events whose signatures are missing: payload bytes, and so [`hash`](Self::hash), are final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    command_id: Uuid,
    authority: PublicKey,
    events: Vec<Event>,
    closed: Vec<Envelope>,
    hash: Digest,
}

/// Something to sign, and with which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningRequest {
    /// Whose signature is wanted.
    pub public_key: PublicKey,
    /// Over these bytes.
    pub bytes: Vec<u8>,
}

/// A completed draft, ready for the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The command.
    pub command_id: Uuid,
    /// The draft that was completed.
    pub draft_hash: Digest,
    /// Its events, tokens signed.
    pub events: Vec<Event>,
    /// The same as messages.
    pub envelopes: Vec<Envelope>,
    /// SHA-256 over the whole messages, signatures and headers included.
    pub messages_hash: Digest,
}

/// What an authority signs: the command as a whole.
#[must_use]
pub fn authority_message(draft_hash: &Digest) -> Vec<u8> {
    let mut bytes = b"cim-keys/command".to_vec();
    bytes.extend_from_slice(draft_hash.as_bytes());
    bytes
}

/// SHA-256 over each event's subject and payload without `signatures`, each preceded by its length.
#[must_use]
pub fn draft_hash<'a>(events: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Digest {
    Digest::of_all(events.into_iter().flat_map(|(subject, payload)| [subject.as_bytes(), payload]))
}

/// SHA-256 over whole messages, signatures and headers included, each piece preceded by its length. Where it is kept,
/// messages that were verified need not be verified again to know that they are still the same.
#[must_use]
pub fn messages_hash(messages: &[Envelope]) -> Digest {
    Digest::of_all(messages.iter().flat_map(|message| {
        let headers = message.headers.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        // An empty piece ends the headers: no name is empty.
        [message.subject.as_str().as_bytes()]
            .into_iter()
            .chain(headers)
            .chain([&[], message.payload.as_slice()])
    }))
}

impl Draft {
    /// Closes events that were judged good.
    pub(crate) fn close(
        registry: &RegistryId,
        context: &Context,
        events: Vec<Event>,
    ) -> Result<Self, SizeError> {
        let mut closed = Vec::with_capacity(events.len());
        let mut total = 0usize;
        for event in &events {
            let headers =
                envelope::headers_of(event).map_err(|_| SizeError { found: 0, limit: MESSAGE_LIMIT })?;
            let payload = envelope::encode_draft(event);
            let envelope = Envelope { subject: envelope::subject_of(event, registry), headers, payload };
            let found = envelope.len() + SIGNATURE_ROOM * 2 + TRANSPORT_ROOM;
            if found > MESSAGE_LIMIT {
                return Err(SizeError { found, limit: MESSAGE_LIMIT });
            }
            total = total.saturating_add(found);
            closed.push(envelope);
        }
        if total > COMMAND_BYTES {
            return Err(SizeError { found: total, limit: COMMAND_BYTES });
        }
        let hash = draft_hash(closed.iter().map(|e| (e.subject.as_str(), e.payload.as_slice())));
        Ok(Self { command_id: context.command_id, authority: context.authority, events, closed, hash })
    }

    /// Identifies the draft.
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// The events, tokens unsigned.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What must be signed: one request for each token in the order of the events, then one by the authority over the
    /// whole.
    #[must_use]
    pub fn requests(&self) -> Vec<SigningRequest> {
        let tokens =
            self.events.iter().filter_map(|event| event.token.as_ref()).map(|token| SigningRequest {
                public_key: token.jwt.claims().issuer,
                bytes: token.jwt.as_str().as_bytes().to_vec(),
            });
        let authority = SigningRequest { public_key: self.authority, bytes: authority_message(&self.hash) };
        tokens.chain([authority]).collect()
    }

    /// Sets the signatures, in the order of [`requests`](Self::requests), and verifies each.
    ///
    /// # Errors
    /// Another number of signatures, or one that does not hold.
    pub fn complete(self, signatures: &[Signature]) -> Result<Decision, CompleteError> {
        let requests = self.requests();
        if requests.len() != signatures.len() {
            return Err(CompleteError::Count { expected: requests.len(), found: signatures.len() });
        }
        for (request, signature) in requests.iter().zip(signatures) {
            request
                .public_key
                .verify(&request.bytes, signature)
                .map_err(|_| CompleteError::Signature { public_key: request.public_key })?;
        }
        let Self { command_id, mut events, closed, hash, .. } = self;
        let mut rest = signatures.iter().copied();
        let mut envelopes = Vec::with_capacity(closed.len());
        for (event, envelope) in events.iter_mut().zip(closed) {
            let own: Vec<Signature> = rest.by_ref().take(event.signature_count()).collect();
            if let Some(token) = &mut event.token {
                token.signature = own.first().copied();
            }
            envelopes.push(Envelope { payload: envelope::complete(&envelope.payload, &own), ..envelope });
        }
        let messages_hash = messages_hash(&envelopes);
        Ok(Decision { command_id, draft_hash: hash, events, envelopes, messages_hash })
    }
}

/// A message or command would be too large.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found} bytes, where {limit} are allowed")]
pub struct SizeError {
    /// Bytes.
    pub found: usize,
    /// Bytes allowed.
    pub limit: usize,
}

/// Why signatures do not complete a draft.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompleteError {
    /// One for each request is needed.
    #[error("{found} signatures for {expected} requests")]
    Count {
        /// Requests.
        expected: usize,
        /// Signatures.
        found: usize,
    },
    /// A signature does not hold.
    #[error("the signature by {public_key} does not hold")]
    Signature {
        /// Whose.
        public_key: PublicKey,
    },
}

impl CompleteError {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Count { .. } => "signature-count",
            Self::Signature { .. } => "signature",
        }
    }
}
