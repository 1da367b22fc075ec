//! What can be wrong with a token, and with claims.

use alloc::boxed::Box;
use alloc::string::{String, ToString};

use thiserror::Error;

use crate::json::JsonError;
use crate::nkey::{KeyError, Kind, SignatureError};

/// Why a text is no JWT that NATS would take, or one that is not supported.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Larger than any server reads.
    #[error("the token has {found} bytes, more than {limit}")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// Not the number of parts between dots.
    #[error("expected {expected} parts between dots, found {found}")]
    Parts {
        /// Parts of such a text.
        expected: usize,
        /// Parts found.
        found: usize,
    },
    /// Not the header of a NATS JWT, version 2.
    #[error("the token's header is not that of a NATS JWT of version 2")]
    Header,
    /// The payload is not canonical base64url of UTF-8.
    #[error("the token's payload is not canonical base64url of UTF-8 text")]
    Encoding,
    /// The payload is not JSON.
    #[error("the token's payload is no JSON at byte {at}")]
    Json {
        /// Byte of the payload where reading stopped.
        at: usize,
    },
    /// Nested deeper than any claims.
    #[error("the token's payload is nested deeper than {limit} levels")]
    Depth {
        /// The limit in levels.
        limit: usize,
    },
    /// A member stands twice in one object.
    #[error("member {member:?} stands twice")]
    DuplicateMember {
        /// Its name.
        member: String,
    },
    /// A member that a server would take for a known one, because it ignores case.
    #[error("member {member:?} differs from a known one in case only")]
    ShadowedMember {
        /// Its name.
        member: String,
    },
    /// A member that must be there is not.
    #[error("member {member:?} is missing")]
    Missing {
        /// Path of the member.
        member: String,
    },
    /// A member of another type or value than it may have.
    #[error("member {member:?} is not {expected}")]
    Member {
        /// Path of the member.
        member: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A member that should be a public key.
    #[error("member {member:?}: {error}")]
    Key {
        /// Path of the member.
        member: String,
        /// What is wrong with the key.
        error: KeyError,
    },
    /// Not version 2.
    #[error("claims of version {found} are not supported: version 2 is")]
    Version {
        /// The version found.
        found: i64,
    },
    /// Claims of another type than operator, account and user.
    #[error("claims of another type than operator, account and user are not supported")]
    Type,
    /// Issued by a key of a kind that may not issue such claims.
    #[error("a key of kind {found} may not issue these claims")]
    IssuerKind {
        /// The kind of the issuer.
        found: Kind,
    },
    /// About a key of another kind than the claims'.
    #[error("the claims are about a key of kind {expected}, found one of kind {found}")]
    SubjectKind {
        /// The kind such claims are about.
        expected: Kind,
        /// The kind of the subject.
        found: Kind,
    },
    /// The signature cannot be read or does not hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl From<JsonError> for DecodeError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Syntax { at } => Self::Json { at },
            JsonError::Depth { limit } => Self::Depth { limit },
            JsonError::Duplicate { member } => Self::DuplicateMember { member },
            JsonError::Shape { .. } => Self::Json { at: 0 },
        }
    }
}

impl From<JsonError> for Box<DecodeError> {
    fn from(error: JsonError) -> Self {
        Self::new(error.into())
    }
}

impl From<Box<DecodeError>> for DecodeError {
    fn from(error: Box<DecodeError>) -> Self {
        *error
    }
}

impl DecodeError {
    /// A stable name for this error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "jwt.too_large",
            Self::Parts { .. } => "jwt.parts",
            Self::Header => "jwt.header",
            Self::Encoding => "jwt.encoding",
            Self::Json { .. } => "jwt.json",
            Self::Depth { .. } => "jwt.depth",
            Self::DuplicateMember { .. } => "jwt.duplicate_member",
            Self::ShadowedMember { .. } => "jwt.shadowed_member",
            Self::Missing { .. } => "jwt.missing",
            Self::Member { .. } => "jwt.member",
            Self::Key { .. } => "jwt.key",
            Self::Version { .. } => "jwt.version",
            Self::Type => "jwt.type",
            Self::IssuerKind { .. } => "jwt.issuer_kind",
            Self::SubjectKind { .. } => "jwt.subject_kind",
            Self::Signature(_) => "jwt.signature",
        }
    }

    // In a box on their way out: as each member of each struct hands one on, its size is felt.

    #[cold]
    #[inline(never)]
    pub(crate) fn expected(expected: &'static str) -> Box<Self> {
        Box::new(Self::Member { member: String::new(), expected })
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn key(error: KeyError) -> Box<Self> {
        Box::new(Self::Key { member: String::new(), error })
    }

    /// The same error, one level further out.
    #[cold]
    #[inline(never)]
    pub(crate) fn within(mut self: Box<Self>, name: &str) -> Box<Self> {
        match &mut *self {
            Self::DuplicateMember { member }
            | Self::ShadowedMember { member }
            | Self::Missing { member }
            | Self::Member { member, .. }
            | Self::Key { member, .. } => {
                let dot = if member.is_empty() || member.starts_with('[') { "" } else { "." };
                *member = alloc::format!("{name}{dot}{member}");
            }
            _ => {}
        }
        self
    }
}

/// Why claims are not encoded, or would not work on a server.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClaimsError {
    /// About a key of another kind than the claims'.
    #[error("such claims are about a key of kind {expected}, found one of kind {found}")]
    SubjectKind {
        /// The kind such claims are about.
        expected: Kind,
        /// The kind of the subject.
        found: Kind,
    },
    /// Issued by a key of a kind that may not issue such claims.
    #[error("a key of kind {found} may not issue these claims")]
    IssuerKind {
        /// The kind of the issuer.
        found: Kind,
    },
    /// The token would be larger than any server reads.
    #[error("the token would have {found} bytes, more than {limit}: move something to another account")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// Bytes it would have.
        found: usize,
    },
    /// What was encoded could not be read again: a key of the wrong kind, an unknown member with a known name.
    #[error("the claims cannot be read back: {0}")]
    Unreadable(DecodeError),
    /// A member breaks a rule.
    #[error("{member:?}: {rule}")]
    Member {
        /// Path of the member, as in the JWT.
        member: String,
        /// The rule.
        rule: Rule,
    },
}

impl ClaimsError {
    /// A stable name for this error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::SubjectKind { .. } => "claims.subject_kind",
            Self::IssuerKind { .. } => "claims.issuer_kind",
            Self::TooLarge { .. } => "claims.too_large",
            Self::Unreadable(_) => "claims.unreadable",
            Self::Member { rule, .. } => rule.code(),
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn member(member: &str, rule: Rule) -> Box<Self> {
        Box::new(Self::Member { member: member.to_string(), rule })
    }
}

impl From<Box<DecodeError>> for ClaimsError {
    fn from(error: Box<DecodeError>) -> Self {
        (*error).into()
    }
}

impl From<Box<DecodeError>> for Box<ClaimsError> {
    fn from(error: Box<DecodeError>) -> Self {
        Self::new(error.into())
    }
}

impl From<Box<ClaimsError>> for ClaimsError {
    fn from(error: Box<ClaimsError>) -> Self {
        *error
    }
}

impl From<DecodeError> for ClaimsError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::SubjectKind { expected, found } => Self::SubjectKind { expected, found },
            DecodeError::IssuerKind { found } => Self::IssuerKind { found },
            DecodeError::TooLarge { limit, found } => Self::TooLarge { limit, found },
            error => Self::Unreadable(error),
        }
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident $code:literal $text:literal,)*) => {
        /// A rule that claims must keep (`nats-identity` §6, §7, §9, §17).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
        pub enum Rule {
            $($(#[$doc])* #[error($text)] $rule,)*
        }

        impl Rule {
            /// A stable name for this rule.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$rule => concat!("claims.", $code),)*
                }
            }
        }
    };
}

rules! {
    /// Names are short and plain.
    Name "name" "a name has at most 128 bytes, no white space at its ends, no control and other unseen characters, no / and no \\, and is no seed",
    /// Texts for people are bounded.
    TooLong "too_long" "at most 8192 bytes",
    /// Tags are plain.
    Tag "tag" "a tag is not empty, has no white space at its ends, no control and other unseen characters, and is no seed",
    /// Times are Unix seconds.
    Time "time" "a time is a number of seconds since 1970, 0 for none",
    /// Claims live before they end.
    Lifetime "lifetime" "the claims would end before they begin",
    /// Addresses have a scheme.
    Url "url" "an address has a scheme, a host and no spaces",
    /// Addresses of servers.
    ServiceUrl "service_url" "a server's address is nats, tls, ws or wss, with a host, without user and path",
    /// Versions have three numbers.
    Version "version" "a version is three numbers with dots between",
    /// Keys stand once.
    DuplicateKey "duplicate_key" "the same key stands twice",
    /// Keys of the right kind.
    Key "key" "a public key of the kind that belongs here, or * where everybody may be meant",
    /// Limits that let something through.
    LockedOut "locked_out" "all limits are 0, so nobody could connect: -1 means no limit",
    /// Limits are -1 or more.
    Limit "limit" "a limit is a number, or -1 for none",
    /// JetStream limits stand in one place.
    Tiers "tiers" "JetStream limits stand either in tiers or outside, and every tier has a name",
    /// Subjects as the server takes them.
    Subject "subject" "not a subject: tokens between dots, none empty, > only at the end, no white space",
    /// Subjects without wildcards.
    Wildcard "wildcard" "a subject without wildcards belongs here",
    /// Queue groups belong to subscriptions.
    Queue "queue" "only a permission to subscribe may name a queue group: one, after one space",
    /// Template variables.
    Template "template" "a template knows name(), subject(), tag(key), account-name(), account-subject(), account-tag(key), with lower-case keys",
    /// Queue groups and templates.
    TemplateQueue "template_queue" "a permission with a template variable cannot name a queue group",
    /// Values of template variables.
    TemplateValue "template_value" "a template inserts this value into a subject: it must be one token without wildcards",
    /// Tags that a template asks for.
    TemplateTag "template_tag" "a template denies by this tag, which the user does not have: the server would refuse it",
    /// Proxies and templates.
    TemplateProxy "template_proxy" "a server does not enforce proxy_required in a template",
    /// Networks in CIDR notation.
    Cidr "cidr" "not a network in CIDR notation, like 10.0.0.0/8 or 2001:db8::/32",
    /// Times of day.
    TimeOfDay "time_of_day" "a time of day is HH:MM:SS",
    /// Time zones.
    TimeZone "time_zone" "a time zone is an IANA name like Europe/Berlin",
    /// Connection types.
    ConnectionType "connection_type" "a connection type is STANDARD, WEBSOCKET, LEAFNODE, LEAFNODE_WS, MQTT, MQTT_WS or IN_PROCESS",
    /// Reply permissions.
    Response "response" "max is -1 or more, and ttl is not negative",
    /// More than the limits say.
    TooMany "too_many" "more than the account's limits allow",
    /// Exports with wildcards.
    WildcardExport "wildcard_export" "the account's limits allow no wildcards in exports",
    /// Exports that overlap.
    Overlap "overlap" "overlaps another of the same kind",
    /// Members that only a service has.
    NotForStreams "not_for_streams" "belongs to a service, not to a stream",
    /// Members that only a stream has.
    NotForServices "not_for_services" "belongs to a stream, not to a service",
    /// Latency and answers.
    LatencyResponse "latency_response" "latency is measured for services with one answer only",
    /// Percentages.
    Percent "percent" "a percentage is 0 to 100",
    /// Durations.
    Duration "duration" "a duration is not negative",
    /// Token positions.
    TokenPosition "token_position" "must be the place of a * in the subject, counted from 1",
    /// Imports from oneself.
    SelfImport "self_import" "an account cannot import from itself",
    /// Local subjects.
    LocalSubject "local_subject" "a local subject ends in > as the subject does, and uses each of its * once, as * or $n",
    /// Deprecated and new form together.
    BothLocal "both_local" "to and local_subject exclude each other",
    /// Weights of mappings.
    Weight "weight" "the weights of one cluster are at most 100 together",
    /// Destinations stand once.
    DuplicateDestination "duplicate_destination" "a destination stands once for each source",
    /// Authorization by a service needs its users.
    Authorization "authorization" "allowed accounts need auth_users, and * stands alone",
    /// Scoped users.
    Scoped "scoped" "a scoped user has no rights of its own and names its account",
    /// Activation tokens stand in the import.
    Activation "activation" "an activation token must stand here itself, on one line",
    /// Who may sign a user.
    Signer "signer" "a user is signed by its account (unless signing keys are required) or by a signing key listed there, and names the account",
    /// Bearer tokens.
    Bearer "bearer" "the account allows no bearer tokens",
    /// Members of this account's own.
    OwnKey "own_key" "the account's own identity key cannot be one of its signing keys",
}
