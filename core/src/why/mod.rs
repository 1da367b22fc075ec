//! Why a user may publish or subscribe to a subject, or may not: the one rule that decides it, where that stands, and what
//! was looked at on the way.
//!
//! Judged as a server (2.15.1) does that has the newest tokens: [`why`] asks first whether the user is let in at all, then which
//! permissions are its own, and last what those say of the subject. What a server does where it differs from what one would
//! expect was measured and stands in the tests as a table (`tests/tests/why`).
//!
//! Tokens of accounts and users have a time; that of the operator's own token is nothing to a server (measured on 2.15.1 and
//! 2.12.1): accounts that it signed are taken although it has ended.
//!
//! The answer speaks of the user's permissions in its account. Where the account imports the subject, that is named;
//! whether the account that exports it delivers is another matter.

mod answer;
mod entry;
mod grant;
mod standing;

pub use answer::{Answer, Check, Condition, Import, Rule, Source, Step};

use crate::jwt::subject::{is_literal, valid_subject};
use crate::registry::{Account, Operator, User};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What somebody wants to do with a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Send a message to it.
    Publish,
    /// Be sent what is published to it.
    Subscribe,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Publish or subscribe.
    pub action: Action,
    /// The subject; wildcards only for a subscription.
    pub subject: String,
    /// The subscription's queue group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// When, in Unix seconds.
    pub at: i64,
}

/// Whom it concerns, each as the registry has it.
#[derive(Clone, Copy, Debug)]
pub struct Parties<'a> {
    /// The operator.
    pub operator: &'a Operator,
    /// The user's account.
    pub account: &'a Account,
    /// The user.
    pub user: &'a User,
}

/// A question that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// No subject.
    #[error("not a subject: tokens between dots, none empty, no blanks")]
    Subject,
    /// A wildcard where one publishes.
    #[error("a message is published to one subject: no wildcards")]
    Wildcard,
    /// No queue group, or not with this action.
    #[error("a queue group is a word without blanks, of a subscription")]
    Queue,
    /// The user is of another account, or a token is not that of its kind.
    #[error("the user does not belong to the account")]
    Parties,
}

impl QuestionError {
    /// Stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Wildcard => "wildcard",
            Self::Queue => "queue",
            Self::Parties => "parties",
        }
    }
}

/// Whether the user may, by which rule, and under which conditions.
///
/// # Errors
/// See [`QuestionError`].
pub fn why(parties: &Parties<'_>, question: &Question) -> Result<Answer, QuestionError> {
    check(question)?;
    let claims = standing::Claims::of(parties).ok_or(QuestionError::Parties)?;
    let mut looked = Vec::new();
    let decided = match standing::let_in(&claims, question.at, &mut looked) {
        Err(rule) => Err(rule),
        Ok(()) => grant::granted(&claims, &mut looked),
    };
    let grant = match decided {
        Ok(grant) => grant,
        // It never comes to permissions.
        Err(rule) => return Ok(Answer::refused(rule, looked)),
    };
    let judged = grant.judge(question, &mut looked);
    let mut conditions = standing::conditions(&claims, &grant, question);
    if question.action == Action::Publish && !judged.rule.allows() {
        conditions.extend(grant.replies());
    }
    Ok(Answer {
        allowed: judged.rule.allows(),
        rule: judged.rule,
        source: Some(grant.source.clone()),
        withheld: judged.withheld,
        not_by_older: judged.not_by_older,
        conditions,
        imports: entry::imports(claims.account_body, question),
        looked,
    })
}

fn check(question: &Question) -> Result<(), QuestionError> {
    if !valid_subject(&question.subject) {
        return Err(QuestionError::Subject);
    }
    if question.action == Action::Publish && !is_literal(&question.subject) {
        return Err(QuestionError::Wildcard);
    }
    match (&question.queue, question.action) {
        (None, _) => Ok(()),
        (Some(queue), Action::Subscribe) if valid_subject(queue) => Ok(()),
        (Some(_), _) => Err(QuestionError::Queue),
    }
}
