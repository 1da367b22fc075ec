//! Creds for minutes: a token signed by a scoped key for a key that was made where it is used. A fact of its own stream,
//! for the registry never knows such a user.
//!
//! Everything in the token and its event comes of the request, its time included, which is that of its command id: so the
//! same request again makes the same bytes, and the outbox knows it.

use super::answer::{Answer, Failure};
use super::caller::Caller;
use super::request::{Operation, Request};
use crate::ambient::Ambient;
use crate::error::KeyError;
use crate::host::Host;
use crate::outbox::{Outbox, Receipt};
use crate::ports::JetStreamPort as _;
use cim_keys_core::context::Actor;
use cim_keys_core::headers::{CimEvent, SOURCE};
use cim_keys_core::journal::State;
use cim_keys_core::jwt::{Body, Claims, Grant, SigningKey, Unknown, User, encode};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::outbox::DomainEvent;
use cim_keys_core::registry::{Account, Entity, EntityId};
use cim_keys_core::stream::KEYS_ISSUED;
use cim_keys_core::subjects::{ISSUED_DOMAIN, Subject, Token};
use cim_keys_core::time::Timestamp;
use serde_json::json;

/// How far the time of a command id may be from this machine's, in seconds.
const AWAY: i64 = 120;
/// The largest name in bytes.
const NAME: usize = 64;

/// Issues creds, and journals each before it is given.
#[derive(Clone, Debug)]
pub struct Issuer {
    outbox: Outbox,
}

/// What is wanted.
pub(super) struct Wish<'a> {
    pub(super) account: &'a Account,
    pub(super) role: &'a str,
    pub(super) user: PublicKey,
    pub(super) name: &'a str,
    pub(super) ttl: i64,
}

impl Issuer {
    /// Over a file beside the registry's store.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn open(host: &Host) -> Result<Self, KeyError> {
        let namespace = host.store().registry_id()?.namespace.clone();
        let path = host.store().path().with_file_name("issued.db");
        let internal = |what: String| KeyError::Internal { what };
        let stream: Token = KEYS_ISSUED.parse().map_err(|error| internal(format!("{error}")))?;
        Ok(Self { outbox: Outbox::open(&path, stream, namespace, Ambient::system())? })
    }

    /// The journal, for whoever publishes it.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(super) fn issue(
        &self,
        host: &Host,
        caller: Caller,
        request: &Request,
        wish: &Wish<'_>,
    ) -> Result<(Answer, Receipt), Failure> {
        let internal =
            |what: &dyn std::fmt::Display| Failure::from(KeyError::Internal { what: what.to_string() });
        let id = request.command_id;
        let account = wish.account.key;
        if wish.name.len() > NAME || wish.name.parse::<Actor>().is_err() {
            return Err(Failure::new(400, "invalid-request", "name is 1 to 64 bytes of plain text"));
        }
        let millis = id.get_timestamp().map(|time| time.to_unix());
        let millis =
            millis.map(|(seconds, nanos)| seconds.saturating_mul(1000) + u64::from(nanos / 1_000_000));
        let made = millis.and_then(|millis| i64::try_from(millis).ok()).map(Timestamp::from_millis);
        let Some(Ok(made)) = made else { return Err(internal(&"a command id without a time")) };
        let now = host.ambient().now().seconds();
        if (made.seconds() - now).abs() > AWAY {
            let text = format!("the time of command_id is {} s from the service's", made.seconds() - now);
            return Err(Failure::new(409, "command-id-time", &text)
                .hint("take a new UUID of version 7, and set the clock right"));
        }
        let body = wish.account.token.claims().body.as_account();
        let revoked = body.is_some_and(|body| body.revocations.contains_key(&wish.user.to_string()));
        let known = host.entity(EntityId::User { account, user: wish.user })?;
        if revoked || matches!(&known, Some(Entity::User(user)) if user.revoked_at.is_some()) {
            return Err(Failure::new(409, "key-revoked", "this key was revoked in the account")
                .hint("make a new key"));
        }
        let keys = body.map(|body| &body.signing_keys);
        let named = |key: &SigningKey| key.scope().is_some_and(|scope| scope.role == wish.role);
        let signer = keys.and_then(|keys| keys.iter().find(|(_, key)| named(key)).map(|(key, _)| *key));
        let signer = signer.ok_or_else(|| KeyError::NoSigningKey {
            account,
            role: Some(wish.role.to_owned()),
            // Whoever asks need not know which others there are.
            roles: Vec::new(),
        })?;
        let all = body.and_then(|body| body.revocations.get("*")).copied().unwrap_or(i64::MIN);
        let issued_at = made.seconds().max(all.saturating_add(1));
        let expires = issued_at.saturating_add(wish.ttl);
        if expires <= now {
            return Err(
                Failure::new(409, "expired", "these creds have ended").hint("ask with a new command_id")
            );
        }
        let claims = Claims {
            audience: String::new(),
            expires,
            issued_at,
            issuer: signer,
            name: wish.name.to_owned(),
            not_before: 0,
            subject: wish.user,
            body: Body::User(User {
                issuer_account: Some(account),
                grant: Grant::Scoped,
                tags: Vec::new(),
                unknown: Unknown::default(),
            }),
            unknown: Unknown::default(),
        };
        let unsigned = encode(&claims).map_err(|error| internal(&error))?;
        let signature =
            host.key(signer)?.sign(unsigned.as_str().as_bytes()).map_err(|error| internal(&error))?;
        let token = unsigned.with_signature(signature).map_err(|error| internal(&error))?;
        let namespace = host.store().registry_id().map_err(KeyError::from)?.namespace.clone();
        let subject: Subject = format!("{namespace}.{ISSUED_DOMAIN}.credentials.issued")
            .parse()
            .map_err(|error| internal(&error))?;
        let correlation_id = request.correlation_id.unwrap_or(id);
        let payload = json!({
            "account": account,
            "role": wish.role,
            "user": wish.user,
            "jwt": token.as_str(),
            "issued_at": issued_at,
            "expires": expires,
            "caller": caller.to_string(),
        });
        let event = DomainEvent {
            event: CimEvent {
                correlation_id,
                causation_id: id,
                event_type: subject.event_type().to_owned(),
                timestamp: made,
                message_id: id,
            },
            subject,
            source: SOURCE.to_owned(),
            trace: request.trace,
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            payload: payload.to_string().into_bytes(),
            expected: None,
        };
        let receipt = self.outbox.publish_event(&event).map_err(|error| match error {
            KeyError::EventIdTaken { id } => KeyError::IdTaken { id },
            error => error,
        })?;
        let published = receipt.look()?;
        let answer = Answer {
            command_id: id,
            operation: Operation::CredentialsIssue.as_str(),
            state: if published.is_some() { State::Confirmed } else { State::Pending },
            reason: None,
            repeated: published.is_some(),
            sequence: published.map(|published| published.sequence),
            account: Some(account),
            user: Some(wish.user),
            jwt: Some(token.as_str().to_owned()),
            expires: Some(expires),
            in_force: None,
        };
        Ok((answer, receipt))
    }
}
