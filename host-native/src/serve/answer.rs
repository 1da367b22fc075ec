//! What goes back: an answer, or what is wrong and what to do next.

use crate::error::KeyError;
use crate::redact::redacted;
use cim_keys_core::journal::State;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::rules::Reason;
use serde::Serialize;
use uuid::Uuid;

/// How a command stands, and what it made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The command's id.
    pub command_id: Uuid,
    /// What was asked, as `user.create`; what was asked then, where a command is asked for.
    pub operation: &'static str,
    /// Where it stands.
    pub state: State,
    /// Why it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Whether this is an earlier request again.
    pub repeated: bool,
    /// Sequence of its first event on its stream, once it is confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The account that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<PublicKey>,
    /// The user that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<PublicKey>,
    /// The user's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<String>,
    /// When that ends, in Unix seconds; 0 is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// Of what changes an account: whether every server has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force: Option<bool>,
}

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// As HTTP counts.
    #[serde(skip)]
    pub status: u16,
    /// Stable code.
    pub code: String,
    /// In words.
    pub message: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    /// With these words, a seed in them left out.
    #[must_use]
    pub fn new(status: u16, code: &str, message: &str) -> Self {
        Self { status, code: code.to_owned(), message: redacted(message), hint: None }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }

    /// The words on one line, for a header.
    #[must_use]
    pub fn line(&self) -> String {
        let line = self.message.chars().map(|c| if c.is_control() || !c.is_ascii() { ' ' } else { c });
        format!("{}: {}", self.code, line.take(200).collect::<String>().trim())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        use crate::exit::{CliError, Exit};
        let told = CliError::from(error);
        let status = match told.exit {
            Exit::Usage | Exit::Validation => 400,
            Exit::NotFound => 404,
            Exit::Conflict | Exit::Partial => 409,
            // A key that this host lacks is nothing that whoever asks could bring.
            Exit::Permission | Exit::Network | Exit::Interrupted => 503,
            Exit::Denied => 403,
            Exit::Unexpected | Exit::Verification => 500,
        };
        let failure = Self::new(status, &told.code, &told.message);
        match told.hints.first() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
