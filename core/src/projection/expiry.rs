//! What ends by itself, and when.
//!
//! | key | value |
//! | --- | --- |
//! | `until`, Unix seconds, entity | the token that ends then |
//! | `of`, entity | the same Unix seconds |

use super::{Key, Projection, Range, Record, Rows, number};
use crate::event::Fact;
use crate::json;
use crate::jwt::TokenId;
use crate::registry::{EntityId, entity_of};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What ends, and when. Tokens that end before they do so by themselves, by a revocation or a newer one, are left out.
#[derive(Clone, Copy, Debug)]
pub struct Expiry;

/// An entity's newest token, which ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiring {
    /// Whose.
    pub entity: EntityId,
    /// What a person calls it.
    pub name: String,
    /// Which token.
    pub token: TokenId,
    /// Unix seconds.
    pub expires: i64,
}

impl Expiry {
    /// Rows of what ends from one time on and until another, in Unix seconds, soonest first.
    #[must_use]
    pub fn between(from: i64, until: i64) -> Range {
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        Range::numbers(&["until"], seconds(from), seconds(until))
    }

    /// A row's text.
    #[must_use]
    pub fn expiring(text: &str) -> Option<Expiring> {
        json::from_text(text).ok()
    }

    fn of(id: EntityId) -> Key {
        Key::of(&["of", &id.to_string()])
    }

    fn until(id: EntityId, expires: i64) -> Key {
        Key::of(&["until", &number(u64::try_from(expires).unwrap_or(0)), &id.to_string()])
    }
}

impl Projection for Expiry {
    fn name(&self) -> &'static str {
        "expiry"
    }

    fn version(&self) -> u32 {
        1
    }

    fn scope(&self, record: &Record) -> Vec<Key> {
        entity_of(&record.event).map(Self::of).into_iter().collect()
    }

    fn apply(&self, rows: &mut Rows, record: &Record) {
        let event = &record.event;
        let Some(id) = entity_of(event) else { return };
        let revoked = matches!(event.fact, Fact::UserRevoked { .. });
        if event.token.is_none() && !revoked {
            return;
        }
        if let Some(before) = rows.read::<i64>(&Self::of(id)) {
            rows.remove(Self::until(id, before));
            rows.remove(Self::of(id));
        }
        let Some(token) = &event.token else { return };
        let claims = token.jwt.claims();
        if claims.expires > 0 {
            rows.write(Self::of(id), &claims.expires);
            let (name, expires) = (claims.name.clone(), claims.expires);
            rows.write(
                Self::until(id, expires),
                &Expiring { entity: id, name, token: token.jwt.id(), expires },
            );
        }
    }
}
