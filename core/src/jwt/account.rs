//! The body of an account's claims (`nats-identity` §5.2).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::limits::AccountLimits;
use super::permissions::{Permissions, UserRights};
use super::sharing::{Export, Import};
use super::wire::{Members, Object, Unknown, Wire, kind_of, serde_as_wire, wire_struct, wire_text};
use crate::json::Json;
use crate::nkey::{Kind, PublicKey};
use crate::order::sort_by_text;

/// The one kind of scope there is.
const SCOPE_KIND: &str = "user_scope";

/// An account. The default is that of Go for a new one: unlimited, without JetStream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// What it takes from other accounts; encoded in the order of subjects.
    pub imports: Vec<Import>,
    /// What it gives to other accounts; encoded in the order of subjects.
    pub exports: Vec<Export>,
    /// Limits.
    pub limits: AccountLimits,
    /// Account keys that sign users, and what each may grant.
    pub signing_keys: BTreeMap<PublicKey, SigningKey>,
    /// Users revoked: user key or `*` to Unix seconds; tokens issued until then are refused.
    pub revocations: BTreeMap<String, i64>,
    /// Permissions of users that have none.
    pub default_permissions: Permissions,
    /// Subjects that are renamed or split on the way in.
    pub mappings: BTreeMap<String, Vec<WeightedMapping>>,
    /// Authorization by a service of the account's own.
    pub authorization: Authorization,
    /// Where message traces go.
    pub trace: Option<Trace>,
    /// Which account pays for traffic between servers.
    pub cluster_traffic: ClusterTraffic,
    /// A description for people.
    pub description: String,
    /// An address with more about it.
    pub info_url: String,
    /// Tags, `key:value` by convention.
    pub tags: Vec<String>,
    /// Members of a later version.
    pub unknown: Unknown,
}
wire_struct!(Account {
    omit "imports" => imports,
    omit "exports" => exports,
    always "limits" => limits,
    omit "signing_keys" => signing_keys,
    omit "revocations" => revocations,
    always "default_permissions" => default_permissions,
    omit "mappings" => mappings,
    always "authorization" => authorization,
    omit "trace" => trace,
    omit "cluster_traffic" => cluster_traffic,
    omit "description" => description,
    omit "info_url" => info_url,
} then { omit "tags" => tags });

impl Account {
    pub(crate) fn check_kinds(&self) -> Result<(), Box<DecodeError>> {
        kind_of("signing_keys", self.signing_keys.keys(), Kind::Account)?;
        kind_of("imports", self.imports.iter().map(|import| &import.account), Kind::Account)?;
        kind_of("authorization.auth_users", &self.authorization.auth_users, Kind::User)?;
        kind_of("authorization.xkey", &self.authorization.xkey, Kind::Curve)
    }

    /// Whether imports and exports stand in the order in which they are encoded.
    pub(crate) fn is_sorted(&self) -> bool {
        self.imports.is_sorted_by(|a, b| a.subject <= b.subject)
            && self.exports.is_sorted_by(|a, b| a.subject <= b.subject)
    }

    pub(crate) fn sort(&mut self) {
        sort_by_text(&mut self.imports, |import| import.subject.clone());
        sort_by_text(&mut self.exports, |export| export.subject.clone());
    }
}

/// What a signing key of an account may sign.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "keys live in a map, and most have a scope")]
pub enum SigningKey {
    /// Users with rights of their own.
    #[default]
    Plain,
    /// Users that have exactly the rights of the template.
    Scoped(Scope),
}

impl SigningKey {
    /// The scope, if the key has one.
    pub const fn scope(&self) -> Option<&Scope> {
        match self {
            Self::Plain => None,
            Self::Scoped(scope) => Some(scope),
        }
    }
}

/// The role that a scoped signing key grants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The role's name.
    pub role: String,
    /// The rights of every user that the key signs; template variables in its permissions stand for each user's own.
    pub template: UserRights,
    /// A description for people.
    pub description: String,
    /// Members of a later version.
    pub unknown: Unknown,
}

impl Scope {
    fn take_from(members: &mut Members) -> Result<Self, Box<DecodeError>> {
        Ok(Self {
            role: members.take("role")?,
            template: members.take::<Template>("template")?.0,
            description: members.take("description")?,
            unknown: Unknown::default(),
        })
    }

    fn put_into(&self, object: &mut Object<'_>) {
        object.always("role", &self.role);
        object.always("template", &self.template);
        object.always("description", &self.description);
        object.unknown(&self.unknown);
    }
}

impl Wire for Scope {
    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn read(json: Json) -> Result<Self, Box<DecodeError>> {
        let mut members = Members::open(json)?;
        let mut scope = Self::take_from(&mut members)?;
        scope.unknown = members.rest()?;
        Ok(scope)
    }

    fn write(&self, out: &mut String) {
        let mut object = Object::open(out);
        self.put_into(&mut object);
        object.close();
    }

    fn blank(&self) -> bool {
        false
    }
}
serde_as_wire!(Scope);

/// A template on its way in: the one place where an absent limit is -1 and not 0.
struct Template(UserRights);

impl Wire for Template {
    fn absent() -> Option<Self> {
        Some(Self(UserRights::default()))
    }

    fn read(mut json: Json) -> Result<Self, Box<DecodeError>> {
        if let Json::Object(members) = &mut json {
            for name in ["subs", "data", "payload"] {
                let limit = members.entry(name.to_string()).or_insert(Json::Null);
                if *limit == Json::Null {
                    *limit = Json::Number((-1).into());
                }
            }
        }
        UserRights::read(json).map(Self)
    }

    fn write(&self, out: &mut String) {
        self.0.write(out);
    }

    fn blank(&self) -> bool {
        false
    }
}

/// An array in the order of the keys' text: a string for a plain key, an object for a scoped one.
impl Wire for BTreeMap<PublicKey, SigningKey> {
    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn read(json: Json) -> Result<Self, Box<DecodeError>> {
        let Json::Array(items) = json else { return Err(DecodeError::expected("an array")) };
        let mut keys = Self::new();
        for (index, item) in items.into_iter().enumerate() {
            let place = |error: Box<DecodeError>| error.within(&alloc::format!("[{index}]"));
            let (key, value) = read_signing_key(item).map_err(place)?;
            if keys.insert(key, value).is_some() {
                return Err(place(DecodeError::expected("each key once")));
            }
        }
        Ok(keys)
    }

    fn write(&self, out: &mut String) {
        let mut entries: Vec<_> = self.iter().map(|(key, value)| (key.to_string(), key, value)).collect();
        sort_by_text(&mut entries, |(text, ..)| text.clone());
        out.push('[');
        for (index, (_, key, value)) in entries.into_iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            match value {
                SigningKey::Plain => key.write(out),
                SigningKey::Scoped(scope) => {
                    let mut object = Object::open(out);
                    object.always("kind", &String::from(SCOPE_KIND));
                    object.always("key", key);
                    scope.put_into(&mut object);
                    object.close();
                }
            }
        }
        out.push(']');
    }

    fn blank(&self) -> bool {
        self.is_empty()
    }
}

fn read_signing_key(json: Json) -> Result<(PublicKey, SigningKey), Box<DecodeError>> {
    if !matches!(json, Json::Object(_)) {
        return PublicKey::read(json).map(|key| (key, SigningKey::Plain));
    }
    let mut members = Members::open(json)?;
    if members.take::<String>("kind")? != SCOPE_KIND {
        return Err(DecodeError::expected("\"user_scope\"").within("kind"));
    }
    let key = members.take("key")?;
    let mut scope = Scope::take_from(&mut members)?;
    scope.unknown = members.rest()?;
    Ok((key, SigningKey::Scoped(scope)))
}

/// One destination of a mapped subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WeightedMapping {
    /// The destination; `$1` or `{{wildcard(1)}}` is the first wildcard.
    pub subject: String,
    /// The share of messages in percent; 0 means 100.
    pub weight: u8,
    /// The cluster it holds for; empty means every other.
    pub cluster: String,
    /// Members of a later version.
    pub unknown: Unknown,
}
wire_struct!(WeightedMapping {
    always "subject" => subject,
    omit "weight" => weight,
    omit "cluster" => cluster,
});

/// Authorization by a service of the account's own (ADR-26). On when it names users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorization {
    /// The users of the service itself.
    pub auth_users: Vec<PublicKey>,
    /// Accounts that the service may place users in; `*` alone means any.
    pub allowed_accounts: Vec<String>,
    /// The curve key that requests are sealed to.
    pub xkey: Option<PublicKey>,
    /// Members of a later version.
    pub unknown: Unknown,
}
wire_struct!(Authorization {
    omit "auth_users" => auth_users,
    omit "allowed_accounts" => allowed_accounts,
    omit "xkey" => xkey,
});

/// Where message traces go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The subject, without wildcards.
    pub dest: String,
    /// The share of messages in percent; 0 means 100.
    pub sampling: i64,
    /// Members of a later version.
    pub unknown: Unknown,
}
wire_struct!(Trace { omit "dest" => dest, omit "sampling" => sampling });

/// Which account traffic between servers is counted for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterTraffic {
    /// Not said.
    #[default]
    Unset,
    /// The system account.
    System,
    /// This account.
    Owner,
}
wire_text!(ClusterTraffic absent Some(Self::Unset); Unset => "", System => "system", Owner => "owner");
