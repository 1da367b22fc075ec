//! Collects the events of one command.

use super::{Command, Rejection};
use crate::context::Context;
use crate::event::{CommandRef, Event, FOUNDING_SCHEMA, Fact, IssuedToken};
use crate::jwt::{self, Body, Claims, Unknown};
use crate::nkey::PublicKey;
use crate::registry::{Account, Entity, EntityId, Facts, Issued, User};
use crate::rules::Violation;
use alloc::string::String;
use alloc::vec::Vec;

/// The events of one command while it is being decided.
pub(super) struct Plan<'a> {
    pub(super) facts: &'a Facts,
    pub(super) context: &'a Context,
    command: CommandRef,
    events: Vec<Event>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(facts: &'a Facts, command: &Command, context: &'a Context) -> Self {
        let command = CommandRef {
            id: context.command_id,
            attempt: context.attempt,
            hash: command.hash(),
            actor: context.actor.clone(),
            authority: context.authority,
            index: 0,
            count: 0,
        };
        Self { facts, context, command, events: Vec::new() }
    }

    /// Unix seconds of the context's time.
    pub(super) fn now(&self) -> i64 {
        self.context.now.seconds()
    }

    /// The key at a place of the context. [`decide`](super::decide) has checked their number and kinds.
    pub(super) fn key(&self, place: usize) -> Result<PublicKey, Rejection> {
        let none = || Rejection::Keys { expected: Vec::new(), found: Vec::new() };
        self.context.keys.get(place).copied().ok_or_else(none)
    }

    /// Adds an event without a token.
    pub(super) fn push(&mut self, entity: PublicKey, fact: Fact) {
        self.add(entity, fact, None);
    }

    /// Adds an event with the token that says it.
    pub(super) fn issue(
        &mut self,
        fact: Fact,
        claims: &Claims,
        replaces: Option<&Issued>,
    ) -> Result<(), Rejection> {
        jwt::validate(claims)?;
        let token =
            IssuedToken { jwt: jwt::encode(claims)?, replaces: replaces.map(Issued::id), signature: None };
        self.add(claims.subject, fact, Some(token));
        Ok(())
    }

    fn add(&mut self, entity: PublicKey, fact: Fact, token: Option<IssuedToken>) {
        let index = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        self.events.push(Event {
            schema: FOUNDING_SCHEMA,
            id: self.context.event_id(index),
            time: self.context.now,
            correlation_id: self.context.correlation_id,
            causation_id: self.context.causation_id,
            registry: self.facts.registry().operator,
            entity,
            command: CommandRef { index, ..self.command.clone() },
            fact,
            token,
        });
    }

    pub(super) fn finish(mut self) -> Vec<Event> {
        let count = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        for event in &mut self.events {
            event.command.count = count;
        }
        self.events
    }

    /// The account, which must exist.
    pub(super) fn account(&self, key: PublicKey) -> Result<&'a Account, Rejection> {
        let id = EntityId::Account(key);
        match self.facts.entity(id)? {
            Some(Entity::Account(account)) => Ok(account),
            _ => Err(Violation::Unknown { id }.into()),
        }
    }

    /// The user, which must exist.
    pub(super) fn user(&self, account: PublicKey, user: PublicKey) -> Result<&'a User, Rejection> {
        let id = EntityId::User { account, user };
        match self.facts.entity(id)? {
            Some(Entity::User(user)) => Ok(user),
            _ => Err(Violation::Unknown { id }.into()),
        }
    }

    /// Claims of an entity's next token: those of its newest, issued now by `issuer`, strictly later.
    pub(super) fn next(&self, token: &Issued, issuer: PublicKey) -> Claims {
        let old = token.claims();
        Claims { issuer, issued_at: self.now().max(old.issued_at.saturating_add(1)), ..old.clone() }
    }

    /// Claims of a first token.
    pub(super) fn first(&self, subject: PublicKey, issuer: PublicKey, name: &str, body: Body) -> Claims {
        Claims {
            audience: String::new(),
            expires: 0,
            issued_at: self.now(),
            issuer,
            name: name.into(),
            not_before: 0,
            subject,
            body,
            unknown: Unknown::default(),
        }
    }
}
