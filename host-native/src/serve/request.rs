//! What is asked, as it came over the wire. What is not known is refused, never left aside.

use super::answer::Failure;
use cim_keys_core::jwt::{AccountLimits, PermissionList, ResponsePermission, UserRights};
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::trace::TraceParent;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use uuid::Uuid;

/// The largest request in bytes.
pub const LIMIT: usize = 64 * 1024;
/// How long an answer waits for what comes of a command, where nobody says otherwise.
const WAIT: u64 = 2_000;
/// How long it may wait.
const LONGEST: u64 = 10_000;

/// What can be asked: the last two tokens of the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Operation {
    /// Create an account.
    AccountCreate,
    /// Create a user for a key that was made elsewhere.
    UserCreate,
    /// Set a user's permissions anew.
    UserPermissions,
    /// Refuse a user from now on.
    UserRevoke,
    /// Sign a token that lives for minutes, for a key that was made elsewhere.
    CredentialsIssue,
    /// How a command of one's own stands.
    CommandGet,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::AccountCreate,
        Self::UserCreate,
        Self::UserPermissions,
        Self::UserRevoke,
        Self::CredentialsIssue,
        Self::CommandGet,
    ];

    /// `<entity>.<operation>`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccountCreate => "account.create",
            Self::UserCreate => "user.create",
            Self::UserPermissions => "user.permissions",
            Self::UserRevoke => "user.revoke",
            Self::CredentialsIssue => "credentials.issue",
            Self::CommandGet => "command.get",
        }
    }
}

impl From<Operation> for &'static str {
    fn from(operation: Operation) -> Self {
        operation.as_str()
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|operation| operation.as_str() == text)
            .ok_or_else(|| format!("no such operation: {}", known()))
    }
}

impl TryFrom<String> for Operation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The promise: the same id with the same content gives the same answer.
    pub command_id: Uuid,
    /// The conversation that it belongs to.
    pub correlation_id: Option<Uuid>,
    /// The trace that it belongs to, as its header `traceparent` says.
    pub trace: Option<TraceParent>,
    /// How long to wait for what comes of it.
    pub wait: Duration,
    /// What is wanted.
    pub wish: Wish,
}

/// What is wanted. Accounts by name or public key, users by public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// See [`Operation::AccountCreate`].
    AccountCreate {
        /// Its name.
        name: String,
        /// Its limits.
        limits: Box<AccountLimits>,
    },
    /// See [`Operation::UserCreate`].
    UserCreate {
        /// Its account.
        account: String,
        /// Its name.
        name: String,
        /// Its key.
        user: PublicKey,
        /// What it may do.
        grant: Grant,
        /// Unix seconds; 0 is never.
        expires: i64,
        /// Tags, as templates match them.
        tags: Vec<String>,
    },
    /// See [`Operation::UserPermissions`].
    UserPermissions {
        /// Its account.
        account: String,
        /// Its key.
        user: PublicKey,
        /// What it may do.
        rights: Box<UserRights>,
    },
    /// See [`Operation::UserRevoke`].
    UserRevoke {
        /// Its account.
        account: String,
        /// Its key.
        user: PublicKey,
    },
    /// See [`Operation::CredentialsIssue`].
    CredentialsIssue {
        /// Its account.
        account: String,
        /// The role of the scoped key that signs.
        role: String,
        /// Its key.
        user: PublicKey,
        /// Its name.
        name: String,
        /// How long it lives, in seconds.
        ttl: i64,
    },
    /// See [`Operation::CommandGet`]; the command is the request's.
    CommandGet,
}

/// What a user may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// What the scoped key of this role says.
    Role(String),
    /// What its own token says.
    Own(Box<UserRights>),
}

impl Request {
    /// Reads the payload of a request.
    ///
    /// # Errors
    /// What is wrong with it; see [`Failure`].
    pub fn read(operation: Operation, payload: &[u8]) -> Result<Self, Failure> {
        if payload.len() > LIMIT {
            return Err(Failure::new(413, "too-large", "a request has 64 KiB at most"));
        }
        Ok(match operation {
            Operation::AccountCreate => {
                let body: AccountCreate = parsed(payload)?;
                let asked = body.asked();
                let limits = Box::new(body.limits.unwrap_or_default().into());
                of(&asked, Wish::AccountCreate { name: body.name, limits })?
            }
            Operation::UserCreate => {
                let body: UserCreate = parsed(payload)?;
                let asked = body.asked();
                let grant = match (body.role, body.rights) {
                    (Some(role), None) => Grant::Role(role),
                    (None, Some(rights)) => Grant::Own(Box::new(rights.into())),
                    (Some(_), Some(_)) => {
                        return Err(invalid("permissions of a role come from its key: leave rights out"));
                    }
                    (None, None) => return Err(invalid("say what the user may do: role or rights")),
                };
                let expires = body.expires.unwrap_or_default();
                if expires < 0 {
                    return Err(invalid("expires is in Unix seconds, 0 for never"));
                }
                let wish = Wish::UserCreate {
                    account: body.account,
                    name: body.name,
                    user: user(&body.user)?,
                    grant,
                    expires,
                    tags: body.tags.unwrap_or_default(),
                };
                of(&asked, wish)?
            }
            Operation::UserPermissions => {
                let body: UserPermissions = parsed(payload)?;
                let asked = body.asked();
                let rights = Box::new(body.rights.into());
                of(&asked, Wish::UserPermissions { account: body.account, user: user(&body.user)?, rights })?
            }
            Operation::UserRevoke => {
                let body: UserRevoke = parsed(payload)?;
                let asked = body.asked();
                of(&asked, Wish::UserRevoke { account: body.account, user: user(&body.user)? })?
            }
            Operation::CredentialsIssue => {
                let body: CredentialsIssue = parsed(payload)?;
                let asked = body.asked();
                if body.ttl < 1 {
                    return Err(invalid("ttl is a number of seconds, 1 at least"));
                }
                let wish = Wish::CredentialsIssue {
                    account: body.account,
                    role: body.role,
                    user: user(&body.user)?,
                    name: body.name.unwrap_or_else(|| "issued".to_owned()),
                    ttl: body.ttl,
                };
                of(&asked, wish)?
            }
            Operation::CommandGet => of(&parsed::<CommandGet>(payload)?.asked(), Wish::CommandGet)?,
        })
    }
}

/// What every request has.
struct Asked {
    command_id: Uuid,
    correlation_id: Option<Uuid>,
    wait_ms: Option<u64>,
}

// `serde` cannot refuse unknown members beside a flattened struct, so what every request has is written into each.
macro_rules! bodies {
    ($($name:ident { $($field:ident: $type:ty),* })*) => {$(
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            command_id: Uuid,
            correlation_id: Option<Uuid>,
            wait_ms: Option<u64>,
            $($field: $type),*
        }

        impl $name {
            fn asked(&self) -> Asked {
                Asked {
                    command_id: self.command_id,
                    correlation_id: self.correlation_id,
                    wait_ms: self.wait_ms,
                }
            }
        }
    )*};
}

bodies! {
    AccountCreate { name: String, limits: Option<Limits> }
    UserCreate {
        account: String, name: String, user: String, role: Option<String>, rights: Option<Rights>,
        expires: Option<i64>, tags: Option<Vec<String>>
    }
    UserPermissions { account: String, user: String, rights: Rights }
    UserRevoke { account: String, user: String }
    CredentialsIssue { account: String, role: String, user: String, name: Option<String>, ttl: i64 }
    CommandGet {}
}

/// What is not said is unlimited.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    subs: Option<i64>,
    data: Option<i64>,
    payload: Option<i64>,
    imports: Option<i64>,
    exports: Option<i64>,
    conn: Option<i64>,
    leaf: Option<i64>,
}

impl From<Limits> for AccountLimits {
    fn from(limits: Limits) -> Self {
        let all = Self::default();
        Self {
            subs: limits.subs.unwrap_or(all.subs),
            data: limits.data.unwrap_or(all.data),
            payload: limits.payload.unwrap_or(all.payload),
            imports: limits.imports.unwrap_or(all.imports),
            exports: limits.exports.unwrap_or(all.exports),
            conn: limits.conn.unwrap_or(all.conn),
            leaf: limits.leaf.unwrap_or(all.leaf),
            ..all
        }
    }
}

/// Permissions of a user's own. Both lists must be said, so that nobody is let do everything by an oversight.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rights {
    publish: Subjects,
    subscribe: Subjects,
    responses: Option<Responses>,
    subs: Option<i64>,
    data: Option<i64>,
    payload: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subjects {
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Responses {
    max: i64,
    ttl_seconds: i64,
}

impl From<Subjects> for PermissionList {
    fn from(list: Subjects) -> Self {
        Self { allow: list.allow, deny: list.deny, ..Self::default() }
    }
}

impl From<Rights> for UserRights {
    fn from(rights: Rights) -> Self {
        let all = Self::default();
        Self {
            publish: nobody_if_empty(rights.publish.into()),
            subscribe: nobody_if_empty(rights.subscribe.into()),
            response: rights.responses.map(|responses| ResponsePermission {
                max: responses.max,
                ttl: responses.ttl_seconds.saturating_mul(1_000_000_000),
                ..ResponsePermission::default()
            }),
            subs: rights.subs.unwrap_or(all.subs),
            data: rights.data.unwrap_or(all.data),
            payload: rights.payload.unwrap_or(all.payload),
            ..all
        }
    }
}

/// To a server an empty list allows everything; whoever writes one here means nothing.
fn nobody_if_empty(mut list: PermissionList) -> PermissionList {
    if list.allow.is_empty() && !list.deny.iter().any(|subject| subject == ">") {
        list.deny.push(">".to_owned());
    }
    list
}

fn of(asked: &Asked, wish: Wish) -> Result<Request, Failure> {
    if asked.command_id.get_version_num() != 7 {
        return Err(invalid("command_id is a UUID of version 7, made new for each request"));
    }
    let wait = asked.wait_ms.unwrap_or(WAIT);
    if wait > LONGEST {
        return Err(invalid("wait_ms is 10000 at most"));
    }
    Ok(Request {
        command_id: asked.command_id,
        correlation_id: asked.correlation_id,
        trace: None,
        wait: Duration::from_millis(wait),
        wish,
    })
}

fn parsed<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Failure> {
    // A list of values would be taken for the members in their order.
    if payload.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Failure::new(400, "invalid-json", "a request is a JSON object"));
    }
    serde_json::from_slice(payload).map_err(|error| {
        let message: String = error.to_string().chars().take(300).collect();
        let code = if error.is_data() { "invalid-request" } else { "invalid-json" };
        Failure::new(400, code, &message)
    })
}

fn user(text: &str) -> Result<PublicKey, Failure> {
    let hint = "make the key where it is used, and send its public half: U…";
    let key: PublicKey =
        text.parse().map_err(|_| Failure::new(400, "invalid-key", "user is no public key").hint(hint))?;
    key.of_kind(Kind::User)
        .map_err(|_| Failure::new(400, "invalid-key", "user is another kind of key").hint(hint))
}

fn invalid(message: &str) -> Failure {
    Failure::new(400, "invalid-request", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cim_keys_core::nkey::KeyPair;

    const ID: &str = r#""command_id":"01890a5d-ac96-774b-bcce-b302099a8057""#;

    fn code(operation: Operation, text: &str) -> (u16, String) {
        let failure = Request::read(operation, text.as_bytes()).unwrap_err();
        (failure.status, failure.code)
    }

    #[test]
    fn what_is_not_known_is_refused() {
        use Operation::{CommandGet, UserRevoke};
        let refused = |text: &str| code(CommandGet, text).1;
        for text in ["", "[]", "nonsense", "{", "\u{0}", "\"x\"", "null"] {
            assert_eq!(refused(text), "invalid-json", "{text}");
        }
        let id = |members: &str| format!("{{{ID}{members}}}");
        for text in [
            "{}".to_owned(),
            id(r#","more":1"#),
            id(&format!(",{ID}")),
            id(r#","wait_ms":-1"#),
            id(r#","wait_ms":10001"#),
            r#"{"command_id":"c232ab00-9414-41ec-b3c8-9f6bdeced846"}"#.to_owned(),
            r#"{"command_id":7}"#.to_owned(),
        ] {
            assert_eq!(refused(&text), "invalid-request", "{text}");
        }
        let deep = format!("{{\"command_id\":{}", "[".repeat(10_000));
        assert_eq!(code(CommandGet, &deep).0, 400);
        assert_eq!(code(CommandGet, &" ".repeat(LIMIT + 1)), (413, "too-large".into()));
        assert_eq!(code(UserRevoke, &id(r#","account":"APP","user":"alice""#)).1, "invalid-key");
        let account = KeyPair::from_entropy(Kind::Account, [1; 32]).public_key();
        assert_eq!(
            code(UserRevoke, &id(&format!(r#","account":"APP","user":"{account}""#))).1,
            "invalid-key"
        );
    }

    #[test]
    fn a_seed_in_a_wrong_place_is_not_said_again() {
        let seed = KeyPair::from_entropy(Kind::User, [1; 32]).seed();
        for text in [
            format!(r#"{{{ID},"wait_ms":"{}"}}"#, seed.expose()),
            format!(r#"{{{ID},"{}":1}}"#, seed.expose()),
            format!(r#"{{"command_id":"{}"}}"#, seed.expose()),
        ] {
            let failure = Request::read(Operation::CommandGet, text.as_bytes()).unwrap_err();
            assert!(!failure.message.contains(&seed.expose()[10..40]), "{failure:?}");
        }
    }

    #[test]
    fn an_empty_list_allows_nothing() {
        let user = KeyPair::from_entropy(Kind::User, [1; 32]).public_key();
        let rights = r#"{"publish":{"allow":[]},"subscribe":{"allow":["a.>"]}}"#;
        let text = format!(r#"{{{ID},"account":"APP","user":"{user}","rights":{rights}}}"#);
        let read = Request::read(Operation::UserPermissions, text.as_bytes()).unwrap();
        let Wish::UserPermissions { rights, .. } = read.wish else { panic!() };
        assert_eq!((rights.publish.deny, rights.subscribe.deny), (vec![">".to_owned()], vec![]));
        assert_eq!((rights.subs, rights.payload), (-1, -1));
    }
}
