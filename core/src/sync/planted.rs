//! Mistakes for the simulator to find: without the feature `planted-bugs` there are none.

use super::contract::Reply;
use super::machine::Machine;
use crate::admission::{Admitted, Anomaly, Assembler, Complete, Group, StoredMessage};
use crate::headers::Headers;
use crate::registry::{Facts, Missing};
use alloc::vec::Vec;

/// Mistakes for the simulator to find.
#[cfg(feature = "planted-bugs")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// An acknowledgement that says *duplicate* is taken for a confirmation.
    ConfirmOnDuplicate,
    /// A conflict is taken for a failure: the command is held, although it may be what is stored there.
    ConflictIsFailure,
    /// A message gets a new `Nats-Msg-Id` when it is sent again.
    NewIdOnRetry,
    /// A message gets another time when it is sent again.
    TimesRemadeOnRetry,
    /// After a conflict the append is tried one sequence further, without reading what came between.
    RetryWithoutCatchUp,
    /// After an attempt without an answer the old connection is used on.
    OldConnectionKept,
    /// A stream that went back is not noticed.
    RegressionIgnored,
    /// Each attempt at a batch has the same id.
    BatchIdReused,
    /// Commands are not checked again although facts changed.
    RecheckSkipped,
    /// A part of a command is admitted.
    HalfAdmitted,
    /// What opened the breaker keeps it open.
    BreakerNeverCloses,
    /// What another attempt brought onto the stream is taken for ours.
    AnotherAttemptNotVoid,
    /// Whatever stands on the stream under our command's id is taken for ours.
    TickedOffByIdAlone,
    /// What must hold before an event is not looked at when it is admitted.
    PreconditionSkipped,
    /// What the log brings is taken although something is missing before it.
    TailTakenWithGap,
    /// Where a mirror ends, the stream is taken to end.
    MirrorEndTrusted,
    /// What an acknowledgement confirms is taken out of the journal: a mistake of the host, which plays it itself.
    RowDroppedAtAck,
}

#[cfg(feature = "planted-bugs")]
impl Bug {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 17] = [
        (Self::ConfirmOnDuplicate, "confirm-on-duplicate"),
        (Self::ConflictIsFailure, "conflict-is-failure"),
        (Self::NewIdOnRetry, "new-id-on-retry"),
        (Self::TimesRemadeOnRetry, "times-remade-on-retry"),
        (Self::RetryWithoutCatchUp, "retry-without-catch-up"),
        (Self::OldConnectionKept, "old-connection-kept"),
        (Self::RegressionIgnored, "regression-ignored"),
        (Self::BatchIdReused, "batch-id-reused"),
        (Self::RecheckSkipped, "recheck-skipped"),
        (Self::HalfAdmitted, "half-admitted"),
        (Self::BreakerNeverCloses, "breaker-never-closes"),
        (Self::AnotherAttemptNotVoid, "another-attempt-not-void"),
        (Self::TickedOffByIdAlone, "ticked-off-by-id-alone"),
        (Self::PreconditionSkipped, "precondition-skipped"),
        (Self::TailTakenWithGap, "tail-taken-with-gap"),
        (Self::MirrorEndTrusted, "mirror-end-trusted"),
        (Self::RowDroppedAtAck, "row-dropped-at-ack"),
    ];
}

/// Whether a mistake is planted; never without the feature.
macro_rules! planted {
    ($($(#[$doc:meta])* $name:ident => $bug:ident;)*) => {
        impl Machine {
            $(
                $(#[$doc])*
                pub(super) fn $name(&self) -> bool {
                    #[cfg(feature = "planted-bugs")]
                    return self.bug == Some(Bug::$bug);
                    #[cfg(not(feature = "planted-bugs"))]
                    false
                }
            )*
        }
    };
}

planted! {
    skips_recheck => RecheckSkipped;
    trusts_duplicate => ConfirmOnDuplicate;
    fails_on_conflict => ConflictIsFailure;
    keeps_old_connection => OldConnectionKept;
    ignores_regression => RegressionIgnored;
    reuses_batch_id => BatchIdReused;
    stays_open => BreakerNeverCloses;
    takes_other_attempts => AnotherAttemptNotVoid;
    ticks_off_by_id => TickedOffByIdAlone;
    takes_gaps => TailTakenWithGap;
    trusts_mirrors => MirrorEndTrusted;
}

impl Machine {
    /// Plants a mistake.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, bug: Bug) {
        self.bug = Some(bug);
    }

    /// Checks fewer pending commands at once than a long journal has: the simulator's are short.
    #[cfg(feature = "planted-bugs")]
    pub fn check_at_most(&mut self, commands: u32) {
        self.chunk = commands;
    }

    pub(super) fn retries_blindly(&self, _reply: &Reply) -> bool {
        #[cfg(feature = "planted-bugs")]
        return self.bug == Some(Bug::RetryWithoutCatchUp) && matches!(_reply, Reply::Error { code: 10071 });
        #[cfg(not(feature = "planted-bugs"))]
        false
    }

    pub(super) fn retried(&self, headers: Headers, _id: &str) -> Headers {
        #[cfg(feature = "planted-bugs")]
        if self.unsent > 0 {
            use alloc::string::{String, ToString};
            let changed = |name: &str, value: &str| -> Option<String> {
                match self.bug? {
                    Bug::NewIdOnRetry if name == crate::headers::NATS_MSG_ID => {
                        Some(alloc::format!("{_id}{value}"))
                    }
                    Bug::TimesRemadeOnRetry if name == crate::headers::CIM_TIMESTAMP => {
                        Some(value.replace("20", "21"))
                    }
                    _ => None,
                }
            };
            let each = headers.iter().map(|(name, value)| {
                (name.to_string(), changed(name, value).unwrap_or_else(|| value.to_string()))
            });
            return Headers::received(each.collect());
        }
        headers
    }

    pub(super) fn assemble(&self, assembler: &mut Assembler, message: StoredMessage) -> Vec<Group> {
        #[cfg(feature = "planted-bugs")]
        if self.bug == Some(Bug::HalfAdmitted) {
            let half = assembler.half();
            let mut groups = assembler.push(message);
            if let (Some(half), Some(first @ Group::Anomaly(_))) = (half, groups.first_mut()) {
                *first = Group::Command(half);
            }
            return groups;
        }
        assembler.push_as(self.known_schema, message)
    }

    pub(super) fn admitted(
        &self,
        complete: Complete,
        facts: &mut Facts,
    ) -> Result<Result<Admitted, Anomaly>, Missing> {
        #[cfg(feature = "planted-bugs")]
        if matches!(self.bug, Some(Bug::HalfAdmitted | Bug::PreconditionSkipped)) {
            return complete.admit_carelessly(facts, self.bug == Some(Bug::PreconditionSkipped));
        }
        complete.admit(facts)
    }
}
