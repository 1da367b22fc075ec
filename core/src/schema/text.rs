//! What our texts look like in a JSON Schema: patterns of the types whose JSON is a string.

use crate::context::Actor;
use crate::digest::Digest;
use crate::jwt::{TokenId, Unsigned};
use crate::nkey::{Kind, PublicKey};
use crate::time::Timestamp;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// 32 bytes in base64url: the last character has only four bits.
const DIGEST: &str = "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$";

/// A public key of one of these kinds: a letter, 55 characters of base32, of which the last has all its bits.
pub(super) fn key_pattern(kinds: &[Kind]) -> String {
    let letters: String = kinds.iter().map(|kind| kind.letter()).collect();
    format!("^[{letters}][A-Z2-7]{{55}}$")
}

macro_rules! texts {
    ($($type:ty, $name:literal, $schema:expr;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

texts! {
    PublicKey, "PublicKey", json_schema!({
        "type": "string",
        "description": "A public nkey: kind, 32 bytes and checksum in base32.",
        "pattern": key_pattern(&Kind::ALL),
    });
    Timestamp, "Timestamp", json_schema!({
        "type": "string",
        "description": "RFC 3339 in UTC, with milliseconds.",
        "format": "date-time",
        "pattern": "^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}\\.\\d{3}Z$",
    });
    Digest, "Digest", json_schema!({
        "type": "string",
        "description": "SHA-256 in base64url.",
        "pattern": DIGEST,
    });
    TokenId, "TokenId", json_schema!({
        "type": "string",
        "description": "SHA-256 of a token's `header.payload`, in base64url.",
        "pattern": DIGEST,
    });
    Unsigned, "Unsigned", json_schema!({
        "type": "string",
        "description": "A JWT without its signature: `header.payload`, each in base64url.",
        "pattern": "^[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+$",
    });
    Actor, "Actor", json_schema!({
        "type": "string",
        "description": "Who wanted it: a person, a service, a host. At most 128 bytes.",
        "minLength": 1,
        "maxLength": 128,
    });
}
