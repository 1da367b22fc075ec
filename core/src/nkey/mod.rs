//! NATS nkeys: the kinds, public keys, signatures and key pairs of `nats-identity` §1.
//!
//! Public keys are plain values and are read by the `nkeys` crate. Seeds have a codec of their own here,
//! constant in time and wiping what it touches.

mod codec;
mod kind;
mod pair;
mod public;
mod seed;
mod signature;

pub use kind::{Kind, KindError};
pub use pair::{KeyPair, SignError};
pub use public::{KeyError, PublicKey};
pub use seed::SeedError;
pub use signature::{Signature, SignatureError};
