//! NATS JWTs, version 2, of operators, accounts and users: byte-compatible with the Go library, strict where that is
//! lenient (`nats-identity` §3 to §9).
//!
//! [`encode`] writes [`Claims`] as an [`Unsigned`] token; with its issuer's signature that becomes a [`Token`].
//! Members of a later version survive: every struct keeps what it does not know.

mod account;
mod claims;
mod error;

mod limits;
mod operator;
mod permissions;
mod sharing;
pub mod subject;
pub mod template;
mod token;
mod user;
mod validate;
mod wire;

pub use crate::json::{Json, Number};
pub use account::{Account, Authorization, ClusterTraffic, Scope, SigningKey, Trace, WeightedMapping};
pub use claims::{Body, Claims, encode};
pub use error::{ClaimsError, DecodeError, Rule};
pub use limits::{AccountLimits, JetStreamLimits};
pub use operator::Operator;
pub use permissions::{PermissionList, Permissions, ResponsePermission, TimeRange, UserRights};
pub use sharing::{Export, Import, ResponseType, Sampling, ServiceLatency, ShareKind};
pub use token::{IssuerError, MAX_TOKEN_BYTES, Token, TokenId, TokenIdError, Unsigned};
pub use user::{Grant, User};
pub use validate::{validate, validate_user};
pub(crate) use wire::Members;
pub use wire::Unknown;

#[cfg(test)]
mod tests;
