//! The body of an operator's claims (`nats-identity` §5.1).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::DecodeError;
use super::wire::{Unknown, kind_of, wire_struct};
use crate::nkey::{Kind, PublicKey};

/// An operator: who vouches for accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operator {
    /// Operator keys that sign accounts.
    pub signing_keys: Vec<PublicKey>,
    /// Where account JWTs are looked up: http(s), nats, tls, ws or wss.
    pub account_server_url: String,
    /// Servers to connect to: nats, tls, ws or wss, no path, no user.
    pub operator_service_urls: Vec<String>,
    /// The account of the servers themselves.
    pub system_account: Option<PublicKey>,
    /// The oldest server that may be used: `major.minor.patch`.
    pub assert_server_version: String,
    /// Accounts and users may be signed by signing keys only.
    pub strict_signing_key_usage: bool,
    /// Tags, `key:value` by convention.
    pub tags: Vec<String>,
    /// Members of a later version.
    pub unknown: Unknown,
}
wire_struct!(Operator {
    omit "signing_keys" => signing_keys,
    omit "account_server_url" => account_server_url,
    omit "operator_service_urls" => operator_service_urls,
    omit "system_account" => system_account,
    omit "assert_server_version" => assert_server_version,
    omit "strict_signing_key_usage" => strict_signing_key_usage,
} then { omit "tags" => tags });

impl Operator {
    pub(crate) fn check_kinds(&self) -> Result<(), Box<DecodeError>> {
        kind_of("signing_keys", &self.signing_keys, Kind::Operator)?;
        kind_of("system_account", &self.system_account, Kind::Account)
    }
}
