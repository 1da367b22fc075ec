//! What can be wrong. No error shows anything of the entropy.

use cim_keys_core::bundle::BundleError;
use cim_keys_core::command::Rejection;
use cim_keys_core::creds::CredsError;
use cim_keys_core::draft::CompleteError;
use cim_keys_core::entropy::Pattern;
use cim_keys_core::nkey::SignError;
use cim_keys_core::rules::Fault;

/// Why nothing was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error("the words make no sense")]
    Usage,
    #[error("stdin cannot be read: {reason}")]
    Stdin { reason: String },
    #[error("stdout cannot be written: {reason}")]
    Stdout { reason: String },
    #[error("the plan is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the plan cannot be read: {reason}, in line {line}, column {column}")]
    Plan { reason: String, line: usize, column: usize },
    #[error("the plan brings {found} pieces of entropy and needs {needed}")]
    TooLittle { needed: usize, found: usize },
    #[error("piece {} of the entropy: {pattern}", place + 1)]
    Pattern { place: usize, pattern: Pattern },
    #[error("piece {} of the entropy is a repetition of another one", place + 1)]
    Repeated { place: usize },
    #[error("{what}: {rejection}")]
    Rejected { what: String, rejection: Box<Rejection> },
    #[error("there is no user {user:?} in the account {account:?} of this plan")]
    NoUser { account: String, user: String },
    #[error("internal: {reason}")]
    Internal { reason: String },
}

impl SandboxError {
    /// What serde says of a plan. What it would quote of a value may be a secret in the wrong place.
    pub(crate) fn plan(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let said = text.rsplit_once(" at line ").map_or(text.as_str(), |(said, _)| said);
        let quotes = said.starts_with("invalid type") || said.starts_with("invalid value");
        let reason = if quotes { "another kind of value belongs there" } else { said };
        Self::Plan { reason: reason.to_owned(), line, column }
    }

    /// Exit status: 2 for wrong words, 3 for a plan that breaks a rule, 1 for what should not happen.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Stdin { .. } | Self::Stdout { .. } | Self::Internal { .. } => 1,
            Self::TooLarge { .. }
            | Self::Plan { .. }
            | Self::TooLittle { .. }
            | Self::Pattern { .. }
            | Self::Repeated { .. }
            | Self::Rejected { .. }
            | Self::NoUser { .. } => 3,
        }
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Usage => "`cim-keys-sandbox help` shows the verbs".to_owned(),
            Self::TooLittle { needed, .. } => {
                format!(
                    "give {} hex characters: `openssl rand -hex {}`, or what your CSPRNG is",
                    needed * 64,
                    needed * 32
                )
            }
            Self::Pattern { .. } | Self::Repeated { .. } => {
                "no key was made: take entropy from a CSPRNG, and each piece once".to_owned()
            }
            Self::Plan { .. } => "README shows a plan: \"Made in a sandbox, without a network\"".to_owned(),
            Self::NoUser { .. } => "name it as the plan does: ACCOUNT/USER".to_owned(),
            Self::Internal { .. } => "this is a fault of cim-keys-sandbox: please report it".to_owned(),
            Self::Rejected { .. } => "change the plan there".to_owned(),
            Self::TooLarge { .. } | Self::Stdin { .. } | Self::Stdout { .. } => return None,
        })
    }

    fn internal(error: &dyn std::fmt::Display) -> Self {
        Self::Internal { reason: error.to_string() }
    }
}

/// Errors that no plan can bring about.
macro_rules! internal {
    ($($error:ty)*) => {$(
        impl From<$error> for SandboxError {
            fn from(error: $error) -> Self {
                Self::internal(&error)
            }
        }
    )*};
}

internal!(BundleError CompleteError CredsError Fault SignError);
