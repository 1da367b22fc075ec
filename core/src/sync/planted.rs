//! Mistakes for the simulator to find: without the feature `planted-bugs` there are none.

use super::contract::Reply;
use super::machine::Machine;
use crate::headers::Headers;
#[cfg(feature = "planted-bugs")]
use alloc::string::ToString;

/// Mistakes for the simulator to find.
#[cfg(feature = "planted-bugs")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// An acknowledgement that says *duplicate* is taken for a confirmation.
    ConfirmOnDuplicate,
    /// A message gets a new `Nats-Msg-Id` when it is sent again.
    NewIdOnRetry,
    /// After a conflict the append is tried one sequence further, without reading what came between.
    RetryWithoutCatchUp,
    /// Commands are not checked again although facts changed.
    RecheckSkipped,
}

impl Machine {
    /// Plants a mistake.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, bug: Bug) {
        self.bug = Some(bug);
    }

    #[cfg(feature = "planted-bugs")]
    pub(super) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(super) fn skips_recheck(&self) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self.has(Bug::RecheckSkipped);
        #[cfg(not(feature = "planted-bugs"))]
        false
    }

    pub(super) fn trusts_duplicate(&self) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self.has(Bug::ConfirmOnDuplicate);
        #[cfg(not(feature = "planted-bugs"))]
        false
    }

    pub(super) fn retries_blindly(&self, _reply: &Reply) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self.has(Bug::RetryWithoutCatchUp) && matches!(_reply, Reply::Error { code: 10071 });
        #[cfg(not(feature = "planted-bugs"))]
        false
    }

    pub(super) fn retried(&self, headers: Headers, _id: &str) -> Headers {
        #[cfg(feature = "planted-bugs")]
        if self.has(Bug::NewIdOnRetry) && self.unsent > 0 {
            let renamed = headers.iter().map(|(name, value)| {
                let fresh = if name == crate::headers::NATS_MSG_ID { _id } else { "" };
                (name.to_string(), alloc::format!("{fresh}{value}"))
            });
            return Headers::received(renamed.collect());
        }
        headers
    }
}
