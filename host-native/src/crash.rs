//! Named steps at which a test lets the process end at once, as if somebody had pulled its plug. Nothing of it is there without
//! the feature `crash-points`.

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident => $name:literal,)+) => {
        /// A step between two things that reach the disk or the network.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Step {
            $($(#[$doc])* $step,)+
        }

        #[cfg(feature = "crash-points")]
        impl Step {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$step),+];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $name,)+
                }
            }
        }
    };
}

steps! {
    /// The seeds of a command's keys are sealed, and in memory.
    SeedsSealed => "seeds-sealed",
    /// A command's rows are written, in a transaction that is not committed.
    CommandWritten => "command-written",
    /// A command is committed; nobody has been told.
    CommandCommitted => "command-committed",
    /// A bundle's rows are written, in a transaction that is not committed.
    BundleWritten => "bundle-written",
    /// A bundle is committed; nobody has been told.
    BundleCommitted => "bundle-committed",
    /// What the sync machine wants kept is written, in a transaction that is not committed.
    PersistWritten => "persist-written",
    /// The same, committed; the machine has not been told.
    PersistCommitted => "persist-committed",
    /// Rows of a projection and the sequence they reach are written, in a transaction that is not committed.
    ProjectionWritten => "projection-written",
    /// The same, committed; nothing was acknowledged.
    ProjectionCommitted => "projection-committed",
    /// A projection's new rows are compared with the live ones, beside which they are.
    ProjectionRebuilt => "projection-rebuilt",
    /// They have taken those ones' place, in a transaction that is not committed.
    ProjectionSwapped => "projection-swapped",
    /// A new file has its temporary name, and is empty.
    FileMade => "file-made",
    /// It has its content, in memory of the system.
    FileWritten => "file-written",
    /// It has its content on the disk.
    FileSynced => "file-synced",
    /// It has its name; where the system cannot do it in one step, the other one as well.
    FileNamed => "file-named",
    /// It has its own name alone; the folder is not on the disk.
    FileCleared => "file-cleared",
    /// It is there for good.
    FileDone => "file-done",
    /// What shall replace a file has its temporary name, and is empty.
    ReplacementMade => "replacement-made",
    /// It has its content on the disk.
    ReplacementSynced => "replacement-synced",
    /// It has taken the other's place; the folder is not on the disk.
    ReplacementNamed => "replacement-named",
    /// Creds are in their file; their seed is still in the store.
    CredsDelivered => "creds-delivered",
    /// Their seed is erased.
    HandOutErased => "hand-out-erased",
    /// The stream is about to be read.
    ReadBegun => "read-begun",
    /// Messages have come and are in memory.
    ReadCame => "read-came",
    /// Messages are about to be published.
    SendBegun => "send-begun",
    /// A part of an atomic batch is on its way.
    BatchBegun => "batch-begun",
    /// All of it is, but the message that commits it.
    BatchQueued => "batch-queued",
    /// The answer to a publish has come, and is in memory.
    ReplyCame => "reply-came",
}

/// The process ends here, if a test wants it.
#[cfg(not(feature = "crash-points"))]
pub(crate) const fn reach(_: Step) {}

#[cfg(feature = "crash-points")]
pub use armed::arm;
#[cfg(feature = "crash-points")]
pub(crate) use armed::reach;

#[cfg(feature = "crash-points")]
mod armed {
    use super::Step;
    use std::sync::{Mutex, PoisonError};

    static ARMED: Mutex<Option<(Step, u32)>> = Mutex::new(None);

    /// Lets this process end when it comes to this step for the `count`th time from now on.
    pub fn arm(step: Step, count: u32) {
        *ARMED.lock().unwrap_or_else(PoisonError::into_inner) = Some((step, count));
    }

    /// The process ends here, if it is armed so.
    pub(crate) fn reach(step: Step) {
        let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, left)) = armed.as_mut()
            && *at == step
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                std::process::abort();
            }
        }
    }
}
