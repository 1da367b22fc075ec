//! Who may ask for what, beside what NATS permits: a file that a person writes. Nothing is allowed that no rule names.

use super::caller::Caller;
use super::request::{Grant, Operation};
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::roles::{EDGE_ACCOUNT, KEYS_ACCOUNT, SYSTEM_ACCOUNT};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// The version of the file's form.
const VERSION: u32 = 1;
/// Whoever or whatever it is.
const ANY: &str = "*";
/// Accounts that are meant only where they are named.
const OWN: [&str; 3] = [SYSTEM_ACCOUNT, KEYS_ACCOUNT, EDGE_ACCOUNT];

/// Rules, each allowing something. None of them takes anything away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// In the order in which they were written.
    pub rules: Vec<Rule>,
}

/// What somebody may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What a person calls it.
    pub name: String,
    /// Whom it is for.
    pub from: From,
    /// What they may ask for.
    pub operations: BTreeSet<Operation>,
    /// In which accounts, by name or public key; `*` is every one but those of the pipeline. For new ones, their names.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// With which roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Whether users may be given permissions of their own: any that there are.
    #[serde(default)]
    pub any_rights: bool,
    /// How long what is given may live, in seconds; 0 is without end.
    #[serde(default)]
    pub max_ttl: Option<i64>,
}

/// Whom a rule is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct From {
    /// The account, by name or public key; `*` is any that may ask at all.
    pub account: String,
    /// Public keys of its users; `*` is every one.
    pub users: Vec<String>,
}

/// An account as it is asked for: a new one has no key yet.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Its name, where it is known.
    pub name: Option<&'a str>,
    /// Its identity key.
    pub key: Option<PublicKey>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who asks.
    pub caller: Caller,
    /// The name of their account in this registry.
    pub from: Option<&'a str>,
    /// For what.
    pub operation: Operation,
    /// In which account.
    pub account: Option<Named<'a>>,
    /// What a user is given.
    pub grant: Option<&'a Grant>,
    /// For how long, in seconds; 0 is without end.
    pub ttl: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    rules: Vec<Rule>,
}

impl Policy {
    /// Reads a file's text, whole.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn read(text: &str) -> Result<Self, PolicyError> {
        let reason = |error: serde_json::Error| crate::redact::redacted(&error.to_string());
        if !text.trim_start().starts_with('{') {
            return Err(PolicyError::Form { reason: "a JSON object is needed".to_owned() });
        }
        let file: File =
            serde_json::from_str(text).map_err(|error| PolicyError::Form { reason: reason(error) })?;
        if file.version != VERSION {
            return Err(PolicyError::Version { found: file.version });
        }
        let mut names = BTreeSet::new();
        for rule in &file.rules {
            let wrong =
                |reason: &str| PolicyError::Rule { rule: rule.name.clone(), reason: reason.to_owned() };
            rule.check().map_err(|reason| wrong(&reason))?;
            if !names.insert(rule.name.as_str()) {
                return Err(wrong("another one has its name"));
            }
        }
        Ok(Self { rules: file.rules })
    }

    /// Which rule allows it.
    #[must_use]
    pub fn allows(&self, ask: &Ask<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.allows(ask))
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        use Operation::{
            AccountCreate, CommandGet, CredentialsIssue, UserCreate, UserPermissions, UserRevoke,
        };
        let asks = |operation| self.operations.contains(&operation);
        let key = |text: &str, kind| text.parse::<PublicKey>().is_ok_and(|key| key.kind() == kind);
        if self.name.is_empty() {
            return Err("it has no name".to_owned());
        }
        if self.from.account.is_empty() {
            return Err("from.account is empty: name one, or * for any".to_owned());
        }
        if self.from.users.is_empty() {
            return Err("from.users is empty: name their public keys, or * for every one".to_owned());
        }
        if let Some(user) = self.from.users.iter().find(|user| *user != ANY && !key(user, Kind::User)) {
            return Err(format!("{user:?} in from.users is no user's public key"));
        }
        if self.operations.is_empty() {
            return Err("it allows no operation".to_owned());
        }
        let in_accounts = [AccountCreate, UserCreate, UserPermissions, UserRevoke, CredentialsIssue];
        if in_accounts.into_iter().any(asks) && self.accounts.is_empty() {
            return Err("accounts is empty: name them, or * for every one but the pipeline's".to_owned());
        }
        if (asks(UserCreate) || asks(CredentialsIssue)) && self.max_ttl.is_none() {
            return Err("max_ttl is missing: say how many seconds what is given may live".to_owned());
        }
        if self.max_ttl.is_some_and(|ttl| ttl < 0) {
            return Err("max_ttl is a number of seconds, 0 for without end".to_owned());
        }
        if asks(CredentialsIssue) && self.max_ttl == Some(0) {
            return Err("credentials.issue is for what ends: max_ttl must be 1 or more".to_owned());
        }
        if asks(CredentialsIssue) && self.roles.is_empty() {
            return Err("credentials.issue needs roles".to_owned());
        }
        if asks(UserCreate) && self.roles.is_empty() && !self.any_rights {
            return Err("user.create needs roles or any_rights".to_owned());
        }
        if asks(UserPermissions) && !self.any_rights {
            return Err("user.permissions needs any_rights".to_owned());
        }
        let only_get = self.operations.iter().all(|operation| *operation == CommandGet);
        if only_get && !self.accounts.is_empty() {
            return Err(
                "command.get shows one's own commands, whatever the account: leave accounts out".to_owned()
            );
        }
        Ok(())
    }

    fn allows(&self, ask: &Ask<'_>) -> bool {
        let from = self.from.account == ANY
            || Some(self.from.account.as_str()) == ask.from
            || self.from.account == ask.caller.account.to_string();
        let user = ask.caller.user.to_string();
        let users = self.from.users.iter().any(|known| *known == ANY || *known == user);
        let account = ask.account.is_none_or(|account| {
            let own = account.name.is_none_or(|name| OWN.contains(&name));
            let key = account.key.map(|key| key.to_string());
            self.accounts.iter().any(|known| {
                (known == ANY && !own) || Some(known.as_str()) == account.name || Some(known) == key.as_ref()
            })
        });
        let grant = match ask.grant {
            None => true,
            Some(Grant::Role(role)) => self.roles.contains(role),
            Some(Grant::Own(_)) => self.any_rights,
        };
        let ttl = match (ask.ttl, self.max_ttl) {
            (None, _) | (Some(_), Some(0)) => true,
            (Some(ttl), Some(most)) => ttl > 0 && ttl <= most,
            (Some(_), None) => false,
        };
        from && users && account && grant && ttl && self.operations.contains(&ask.operation)
    }
}

/// In words, as `cim-keys serve --check` says it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: &[String]| items.join(", ");
        let who = match self.from.users.as_slice() {
            users if users.iter().any(|user| user == ANY) => "every user".to_owned(),
            [user] => format!("user {user}"),
            users => format!("users {}", list(users)),
        };
        let from = match self.from.account.as_str() {
            ANY => "any account that may ask".to_owned(),
            account => format!("account {account}"),
        };
        let operations: Vec<String> = self.operations.iter().map(ToString::to_string).collect();
        write!(f, "{}: {who} of {from} may ask for {}", self.name, list(&operations))?;
        if !self.accounts.is_empty() {
            let all = self.accounts.iter().any(|account| account == ANY);
            let named: Vec<String> =
                self.accounts.iter().filter(|account| *account != ANY).cloned().collect();
            match (all, named.is_empty()) {
                (true, true) => f.write_str(", in every account but the pipeline's")?,
                (true, false) => write!(f, ", in every account but the pipeline's, and in {}", list(&named))?,
                (false, _) => write!(f, ", in {}", list(&named))?,
            }
        }
        if !self.roles.is_empty() {
            write!(f, ", with the roles {}", list(&self.roles))?;
        }
        if self.any_rights {
            f.write_str(", with any permissions")?;
        }
        match self.max_ttl {
            Some(0) => f.write_str(", without end"),
            Some(ttl) => write!(f, ", for {ttl} s at most"),
            None => Ok(()),
        }
    }
}

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is not of the form.
    #[error("the policy cannot be read: {reason}")]
    Form {
        /// Why.
        reason: String,
    },
    /// Of another version.
    #[error("the policy is of version {found}, known is {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// A rule makes no sense.
    #[error("the policy's rule {rule:?}: {reason}")]
    Rule {
        /// Its name.
        rule: String,
        /// Why.
        reason: String,
    },
}

impl PolicyError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Form { .. } => "policy-form",
            Self::Version { .. } => "policy-version",
            Self::Rule { .. } => "policy-rule",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cim_keys_core::nkey::KeyPair;

    fn key(kind: Kind, number: u8) -> PublicKey {
        KeyPair::from_entropy(kind, [number; 32]).public_key()
    }

    fn policy(rule: &str) -> Result<Policy, PolicyError> {
        Policy::read(&format!(r#"{{"version":1,"rules":[{rule}]}}"#))
    }

    #[test]
    fn nothing_is_allowed_that_no_rule_names() {
        let caller = Caller { account: key(Kind::Account, 1), user: key(Kind::User, 2) };
        let role = Grant::Role("worker".into());
        let app = Named { name: Some("APP"), key: Some(key(Kind::Account, 3)) };
        let ask = Ask {
            caller,
            from: Some("KEYS_EDGE"),
            operation: Operation::UserCreate,
            account: Some(app),
            grant: Some(&role),
            ttl: Some(60),
        };
        assert!(policy("").unwrap().allows(&ask).is_none());
        let rule = format!(
            r#"{{"name":"ci","from":{{"account":"KEYS_EDGE","users":["{}"]}},"operations":["user.create"],
                "accounts":["APP"],"roles":["worker"],"max_ttl":60}}"#,
            caller.user
        );
        let policy = policy(&rule).unwrap();
        assert!(policy.allows(&ask).is_some());
        let own = Grant::Own(Box::default());
        let other = Grant::Role("other".into());
        let different = [
            Ask { caller: Caller { user: key(Kind::User, 9), ..caller }, ..ask },
            Ask { from: Some("APP"), ..ask },
            Ask { from: None, ..ask },
            Ask { operation: Operation::UserRevoke, ..ask },
            Ask { account: Some(Named { name: Some("OTHER"), key: Some(key(Kind::Account, 4)) }), ..ask },
            Ask { grant: Some(&other), ..ask },
            Ask { grant: Some(&own), ..ask },
            Ask { ttl: Some(61), ..ask },
            Ask { ttl: Some(0), ..ask },
            Ask { ttl: Some(-1), ..ask },
        ];
        for ask in different {
            assert!(policy.allows(&ask).is_none(), "{ask:?}");
        }
        assert!(policy.rules[0].to_string().ends_with("in APP, with the roles worker, for 60 s at most"));
    }

    #[test]
    fn every_account_is_not_the_pipelines() {
        let policy = policy(
            r#"{"name":"all","from":{"account":"*","users":["*"]},"operations":["user.revoke"],"accounts":["*"]}"#,
        )
        .unwrap();
        let caller = Caller { account: key(Kind::Account, 1), user: key(Kind::User, 2) };
        let ask = |name| Ask {
            caller,
            from: None,
            operation: Operation::UserRevoke,
            account: Some(Named { name, key: None }),
            grant: None,
            ttl: None,
        };
        assert!(policy.allows(&ask(Some("APP"))).is_some());
        for name in [Some("SYS"), Some("KEYS"), Some("KEYS_EDGE"), None] {
            assert!(policy.allows(&ask(name)).is_none(), "{name:?}");
        }
    }

    #[test]
    fn a_fault_refuses_the_whole() {
        let good = r#""name":"a","from":{"account":"A","users":["*"]}"#;
        for (rule, code) in [
            (format!(r#"{{{good},"operations":["user.revoke"]}}"#), "policy-rule"),
            (format!(r#"{{{good},"operations":[],"accounts":["*"]}}"#), "policy-rule"),
            (format!(r#"{{{good},"operations":["user.delete"],"accounts":["*"]}}"#), "policy-form"),
            (
                format!(r#"{{{good},"operations":["user.create"],"accounts":["*"],"roles":["r"]}}"#),
                "policy-rule",
            ),
            (
                format!(
                    r#"{{{good},"operations":["credentials.issue"],"accounts":["*"],"roles":["r"],"max_ttl":0}}"#
                ),
                "policy-rule",
            ),
            (format!(r#"{{{good},"operations":["user.permissions"],"accounts":["*"]}}"#), "policy-rule"),
            (format!(r#"{{{good},"operations":["command.get"],"more":1}}"#), "policy-form"),
            (
                r#"{"name":"a","from":{"account":"A","users":["alice"]},"operations":["command.get"]}"#
                    .into(),
                "policy-rule",
            ),
            (
                format!(r#"{{{good},"operations":["command.get"]}},{{{good},"operations":["command.get"]}}"#),
                "policy-rule",
            ),
        ] {
            assert_eq!(policy(&rule).unwrap_err().code(), code, "{rule}");
        }
        assert_eq!(Policy::read("[]").unwrap_err().code(), "policy-form");
        assert_eq!(Policy::read(r#"{"version":2,"rules":[]}"#).unwrap_err().code(), "policy-version");
    }
}
