//! Claims: what a token says, and how it is written (`nats-identity` §3, §4, §5).

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;

use base32ct::{Base32UpperUnpadded, Encoding};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512_256};

use super::account::Account;
use super::operator::Operator;
use super::token::Unsigned;
use super::user::{Grant, User};
use super::wire::{Members, Object, Unknown, Wire, serde_as_wire};
use super::{ClaimsError, DecodeError, Rule};
use crate::json::Json;
use crate::nkey::{Kind, PublicKey};

const VERSION: i64 = 2;
/// Room that most payloads do with.
const USUAL_BYTES: usize = 1024;

/// What a token says: about whom, by whom, for how long, and the body.
///
/// `jti` is no part of it: it is computed when claims are encoded, and no server looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Whom it is meant for (`aud`); servers do not look at it.
    pub audience: String,
    /// When it ends, in Unix seconds; 0 never (`exp`).
    pub expires: i64,
    /// When it was issued, in Unix seconds (`iat`). A newer token for the same subject must have a larger one.
    pub issued_at: i64,
    /// Who signs (`iss`).
    pub issuer: PublicKey,
    /// A name for people, and for templates (`name`).
    pub name: String,
    /// When it begins, in Unix seconds; 0 at once (`nbf`).
    pub not_before: i64,
    /// Whom it is about (`sub`).
    pub subject: PublicKey,
    /// What it says (`nats`).
    pub body: Body,
    /// Members of a later version, beside `nats`.
    pub unknown: Unknown,
}

/// The three kinds of claims that are supported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// An operator.
    Operator(Operator),
    /// An account.
    Account(Box<Account>),
    /// A user.
    User(User),
}

impl Body {
    /// The operator, if it is one.
    pub const fn as_operator(&self) -> Option<&Operator> {
        match self {
            Self::Operator(operator) => Some(operator),
            _ => None,
        }
    }

    /// The account, if it is one.
    pub fn as_account(&self) -> Option<&Account> {
        match self {
            Self::Account(account) => Some(account),
            _ => None,
        }
    }

    /// The user, if it is one.
    pub const fn as_user(&self) -> Option<&User> {
        match self {
            Self::User(user) => Some(user),
            _ => None,
        }
    }

    /// The kind of key that such claims are about.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Operator(_) => Kind::Operator,
            Self::Account(_) => Kind::Account,
            Self::User(_) => Kind::User,
        }
    }

    /// Whether a key of this kind may issue such claims (`nats-identity` §3.1).
    const fn issued_by(&self, kind: Kind) -> bool {
        match self {
            Self::Operator(_) => matches!(kind, Kind::Operator),
            Self::Account(_) => matches!(kind, Kind::Operator | Kind::Account),
            Self::User(_) => matches!(kind, Kind::Account),
        }
    }
}

/// Writes claims as Go's library does, byte for byte: kinds of keys are checked, imports and exports sorted, `jti`
/// computed. Whether the claims make sense is [`validate`](super::validate)'s question.
///
/// # Errors
/// Keys of the wrong kind; a token above 1 MiB; rights of a user's own that are all zero, which a reader would take
/// for a scoped user's; unknown members with a known name.
pub fn encode(claims: &Claims) -> Result<Unsigned, ClaimsError> {
    check_kinds(claims)?;
    if matches!(&claims.body, Body::User(User { grant: Grant::Own(rights), .. }) if rights.is_zero()) {
        return Err(*ClaimsError::member("nats", Rule::LockedOut));
    }
    let claims = sorted(claims);
    let mut payload = String::with_capacity(USUAL_BYTES);
    write(&claims, Some(&jti(&claims)), &mut payload);
    // Read back, so that what is handed on is what everybody else will read.
    Ok(Unsigned::of_payload(&payload)?)
}

/// Reads a payload: the claims and the `jti` that came with them.
pub(super) fn decode(payload: &str) -> Result<(Claims, String), Box<DecodeError>> {
    read(Json::parse(payload)?)
}

/// base32(SHA-512/256) of the standard claims without `jti` and `nats` (`nats-identity` §4).
pub(super) fn jti(claims: &Claims) -> String {
    let mut text = String::with_capacity(USUAL_BYTES);
    let mut object = Object::open(&mut text);
    put_head(claims, &mut object);
    put_tail(claims, &mut object);
    object.close();
    Base32UpperUnpadded::encode_string(&Sha512_256::digest(text.as_bytes()))
}

fn sorted(claims: &Claims) -> Cow<'_, Claims> {
    if claims.body.as_account().is_none_or(Account::is_sorted) {
        return Cow::Borrowed(claims);
    }
    let mut claims = claims.clone();
    if let Body::Account(account) = &mut claims.body {
        account.sort();
    }
    Cow::Owned(claims)
}

fn write(claims: &Claims, jti: Option<&String>, out: &mut String) {
    let mut object = Object::open(out);
    put_head(claims, &mut object);
    if let Some(jti) = jti {
        object.omit("jti", jti);
    }
    put_tail(claims, &mut object);
    object.unknown(&claims.unknown);
    let mut nats = Object::open(object.name("nats"));
    match &claims.body {
        Body::Operator(operator) => operator.put_into(&mut nats),
        Body::Account(account) => account.put_into(&mut nats),
        Body::User(user) => user.put_into(&mut nats),
    }
    nats.always("type", &String::from(claims.body.kind().as_str()));
    nats.always("version", &VERSION);
    nats.close();
    object.close();
}

fn put_head(claims: &Claims, object: &mut Object<'_>) {
    object.omit("aud", &claims.audience);
    object.omit("exp", &claims.expires);
}

fn put_tail(claims: &Claims, object: &mut Object<'_>) {
    object.omit("iat", &claims.issued_at);
    object.omit("iss", &claims.issuer);
    object.omit("name", &claims.name);
    object.omit("nbf", &claims.not_before);
    object.omit("sub", &claims.subject);
}

fn read(json: Json) -> Result<(Claims, String), Box<DecodeError>> {
    let mut members = Members::open(json)?;
    let Nats(body) = members.take("nats")?;
    let jti = members.take("jti")?;
    let claims = Claims {
        audience: members.take("aud")?,
        expires: members.take("exp")?,
        issued_at: members.take("iat")?,
        issuer: members.take("iss")?,
        name: members.take("name")?,
        not_before: members.take("nbf")?,
        subject: members.take("sub")?,
        body,
        unknown: members.rest()?,
    };
    check_kinds(&claims)?;
    match &claims.body {
        Body::Operator(operator) => operator.check_kinds(),
        Body::Account(account) => account.check_kinds(),
        Body::User(user) => user.check_kinds(),
    }
    .map_err(|error| error.within("nats"))?;
    Ok((claims, jti))
}

pub(super) fn check_kinds(claims: &Claims) -> Result<(), Box<DecodeError>> {
    let (expected, found) = (claims.body.kind(), claims.subject.kind());
    if expected != found {
        return Err(DecodeError::SubjectKind { expected, found }.into());
    }
    if !claims.body.issued_by(claims.issuer.kind()) {
        return Err(DecodeError::IssuerKind { found: claims.issuer.kind() }.into());
    }
    Ok(())
}

/// The member `nats`, whose type decides how the rest of it is read.
struct Nats(Body);

impl Wire for Nats {
    fn absent() -> Option<Self> {
        None
    }

    fn read(json: Json) -> Result<Self, Box<DecodeError>> {
        let mut members = Members::open(json)?;
        let version: i64 = members.take("version")?;
        if version != VERSION {
            return Err(DecodeError::Version { found: version }.into());
        }
        let kind: String = members.take("type")?;
        Ok(Self(match kind.as_str() {
            "operator" => {
                let mut operator = Operator::take_from(&mut members)?;
                operator.unknown = members.rest()?;
                Body::Operator(operator)
            }
            "account" => {
                let mut account = Account::take_from(&mut members)?;
                account.unknown = members.rest()?;
                account.limits.drop_shadowed();
                Body::Account(Box::new(account))
            }
            "user" => {
                let mut user = User::take_from(&mut members)?;
                user.unknown = members.rest()?;
                Body::User(user)
            }
            _ => return Err(DecodeError::Type.into()),
        }))
    }

    // Written with the claims, member by member.
    fn write(&self, _: &mut String) {}

    fn blank(&self) -> bool {
        false
    }
}

impl Wire for Claims {
    fn absent() -> Option<Self> {
        None
    }

    fn read(json: Json) -> Result<Self, Box<DecodeError>> {
        read(json).map(|(claims, _)| claims)
    }

    fn write(&self, out: &mut String) {
        write(self, None, out);
    }

    fn blank(&self) -> bool {
        false
    }
}
serde_as_wire!(Claims);
