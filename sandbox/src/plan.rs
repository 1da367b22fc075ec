//! What goes in.

use crate::entropy::Entropy;
use crate::error::SandboxError;
use cim_keys_core::context::Actor;
use cim_keys_core::subjects::Namespace;
use cim_keys_core::time::Timestamp;
use serde::Deserialize;

/// Everything that the result depends on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// The time of every command, as `2026-11-23T18:00:00.000Z`.
    pub(crate) now: Timestamp,
    /// Who wants them.
    pub(crate) actor: Actor,
    /// First two tokens of every subject.
    #[serde(default)]
    pub(crate) namespace: Namespace,
    /// Hex of so many pieces of 32 random bytes as the plan needs: see [`Plan::pieces`].
    pub(crate) entropy: Entropy,
    /// The operator's name.
    pub(crate) operator: String,
    /// Accounts beside those of every registry.
    #[serde(default)]
    pub(crate) accounts: Vec<AccountPlan>,
}

/// An account with one signing key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountPlan {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) users: Vec<UserPlan>,
}

/// A user of an account.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserPlan {
    pub(crate) name: String,
    /// Subjects it may publish to; all where there is none.
    #[serde(default)]
    pub(crate) publish: Vec<String>,
    /// Subjects it may subscribe to; all where there is none.
    #[serde(default)]
    pub(crate) subscribe: Vec<String>,
    /// Unix seconds; 0 is never.
    #[serde(default)]
    pub(crate) expires: i64,
}

impl Plan {
    /// Reads a plan, and checks that it brings enough entropy.
    pub(crate) fn read(text: &[u8]) -> Result<Self, SandboxError> {
        let plan: Self = serde_json::from_slice(text).map_err(|error| SandboxError::plan(&error))?;
        let (needed, found) = (plan.pieces(), plan.entropy.pieces());
        if found < needed {
            return Err(SandboxError::TooLittle { needed, found });
        }
        plan.entropy.check()?;
        Ok(plan)
    }

    /// Pieces of entropy that it needs: one for the id of each command, one for each key.
    pub(crate) fn pieces(&self) -> usize {
        let founding = 1 + cim_keys_core::command::FOUNDING_KEYS.len();
        let account = |account: &AccountPlan| 3 + 2 * account.users.len();
        founding + self.accounts.iter().map(account).sum::<usize>()
    }
}
