//! The body of a user's claims (`nats-identity` §5.3, §9).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::permissions::UserRights;
use super::wire::{Members, Object, Unknown, Wire, kind_of, serde_as_wire};
use crate::json::Json;
use crate::nkey::{Kind, PublicKey};

/// A user. The default is a scoped one without tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The account's identity key, whenever a signing key signs.
    pub issuer_account: Option<PublicKey>,
    /// What the user may do, or where that is written.
    pub grant: Grant,
    /// Tags, `key:value` by convention; a template reads them as `{{tag(key)}}`.
    pub tags: Vec<String>,
    /// Members of a later version.
    pub unknown: Unknown,
}

/// Where a user's rights are written. A scoped user cannot carry any: a server refuses it if it does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// In the template of the scoped key that signs.
    #[default]
    Scoped,
    /// In the user's own token.
    Own(Box<UserRights>),
}

impl Grant {
    /// The user's own rights, if it has any.
    pub fn rights(&self) -> Option<&UserRights> {
        match self {
            Self::Scoped => None,
            Self::Own(rights) => Some(rights),
        }
    }
}

impl User {
    pub(crate) fn take_from(members: &mut Members) -> Result<Self, Box<DecodeError>> {
        let rights = UserRights::take_from(members)?;
        Ok(Self {
            issuer_account: members.take("issuer_account")?,
            grant: if rights.is_zero() { Grant::Scoped } else { Grant::Own(Box::new(rights)) },
            tags: members.take("tags")?,
            unknown: Unknown::default(),
        })
    }

    pub(crate) fn put_into(&self, object: &mut Object<'_>) {
        match &self.grant {
            Grant::Scoped => UserRights::zero().put_into(object),
            Grant::Own(rights) => rights.put_into(object),
        }
        object.omit("issuer_account", &self.issuer_account);
        if let Grant::Own(rights) = &self.grant {
            object.unknown(&rights.unknown);
        }
        object.unknown(&self.unknown);
        object.omit("tags", &self.tags);
    }

    pub(crate) fn check_kinds(&self) -> Result<(), Box<DecodeError>> {
        kind_of("issuer_account", &self.issuer_account, Kind::Account)
    }
}

impl Wire for User {
    fn absent() -> Option<Self> {
        None
    }

    fn read(json: Json) -> Result<Self, Box<DecodeError>> {
        let mut members = Members::open(json)?;
        let mut user = Self::take_from(&mut members)?;
        user.unknown = members.rest()?;
        Ok(user)
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
serde_as_wire!(User);
