//! Tokens: `header.payload` before it is signed, and with its signature (`nats-identity` §3).

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::DecodeError;
use super::claims::{self, Claims};
use crate::nkey::{KeyPair, PublicKey, SignError, Signature, SignatureError};

/// `{"typ":"JWT","alg":"ed25519-nkey"}`, the only header there is.
const HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ";

/// What the Go library's decoder reads at most, in bytes of a whole token.
pub const MAX_TOKEN_BYTES: usize = 1 << 20;

/// A dot and a signature.
const SIGNATURE_BYTES: usize = 87;

/// What identifies a token: the SHA-256 of its `header.payload`, which exists before it is signed. (`jti` does not:
/// two tokens of one second have the same.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; 32]);

impl TokenId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 43];
        f.pad(Base64UrlUnpadded::encode(&self.0, &mut text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TokenId {
    type Err = TokenIdError;

    fn from_str(text: &str) -> Result<Self, TokenIdError> {
        let mut bytes = [0u8; 32];
        match Base64UrlUnpadded::decode(text, &mut bytes) {
            Ok(read) if read.len() == 32 => Ok(Self(bytes)),
            _ => Err(TokenIdError::Encoding),
        }
    }
}

impl Serialize for TokenId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Why a text is no id of a token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenIdError {
    /// Not 43 characters of canonical base64url.
    #[error("a token's id is 43 characters of base64url")]
    Encoding,
}

impl TokenIdError {
    /// A stable name for this error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Encoding => "token_id.encoding",
        }
    }
}

/// The part of a token that is signed, `header.payload`, decoded once. Cheap to clone; equal when the text is.
#[derive(Clone)]
pub struct Unsigned(Arc<Content>);

struct Content {
    text: String,
    jti: String,
    claims: Claims,
}

impl Unsigned {
    /// Reads `header.payload`, strictly: the exact header, canonical base64url, JSON without double members, version
    /// 2, kinds that fit, at most 1 MiB with a signature.
    ///
    /// # Errors
    /// [`DecodeError`]
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        check_size(text.len().saturating_add(SIGNATURE_BYTES))?;
        let mut parts = text.split('.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(header), Some(payload), None) => Self::of_parts(header, payload, text),
            _ => Err(DecodeError::Parts { expected: 2, found: text.split('.').count() }),
        }
    }

    /// The token with this payload.
    pub(super) fn of_payload(payload: &str) -> Result<Self, DecodeError> {
        let payload_text = Base64UrlUnpadded::encode_string(payload.as_bytes());
        let text = [HEADER, ".", &payload_text].concat();
        check_size(text.len().saturating_add(SIGNATURE_BYTES))?;
        let (claims, jti) = claims::decode(payload)?;
        Ok(Self(Arc::new(Content { text, jti, claims })))
    }

    fn of_parts(header: &str, payload: &str, text: &str) -> Result<Self, DecodeError> {
        if header != HEADER {
            return Err(DecodeError::Header);
        }
        let payload = Base64UrlUnpadded::decode_vec(payload).map_err(|_| DecodeError::Encoding)?;
        let payload = String::from_utf8(payload).map_err(|_| DecodeError::Encoding)?;
        let (claims, jti) = claims::decode(&payload)?;
        Ok(Self(Arc::new(Content { text: text.into(), jti, claims })))
    }

    /// `header.payload`: the bytes to sign.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// What identifies the token.
    pub fn id(&self) -> TokenId {
        TokenId(Sha256::digest(self.as_str().as_bytes()).into())
    }

    /// The `jti` that it came with, whatever that is; empty if none. Identifies nothing.
    pub fn jti(&self) -> String {
        self.0.jti.clone()
    }

    /// What it says.
    pub fn claims(&self) -> &Claims {
        &self.0.claims
    }

    /// The whole token, signed with its issuer's key at hand. Nothing is verified: a key pair's halves belong together,
    /// so what it signs holds.
    ///
    /// # Errors
    /// [`IssuerError`]: another key than the issuer that the claims name.
    pub fn sign(self, issuer: &KeyPair) -> Result<Token, IssuerError> {
        let (expected, found) = (self.claims().issuer, issuer.public_key());
        if expected != found {
            return Err(IssuerError::Other { expected, found });
        }
        let signature = issuer.sign(self.as_str().as_bytes())?;
        Ok(self.signed(signature))
    }

    /// The whole token, if this is its issuer's signature.
    ///
    /// # Errors
    /// [`SignatureError::Mismatch`] if it is not.
    pub fn with_signature(self, signature: Signature) -> Result<Token, SignatureError> {
        self.claims().issuer.verify(self.as_str().as_bytes(), &signature)?;
        Ok(self.signed(signature))
    }

    fn signed(self, signature: Signature) -> Token {
        let text = alloc::format!("{}.{signature}", self.as_str());
        Token { unsigned: self, signature, text: text.into() }
    }
}

fn check_size(found: usize) -> Result<(), DecodeError> {
    if found > MAX_TOKEN_BYTES {
        Err(DecodeError::TooLarge { limit: MAX_TOKEN_BYTES, found })
    } else {
        Ok(())
    }
}

impl PartialEq for Unsigned {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Unsigned {}

impl fmt::Debug for Unsigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unsigned").field(&self.as_str()).finish()
    }
}

impl FromStr for Unsigned {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        Self::parse(text)
    }
}

impl Serialize for Unsigned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Unsigned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Why a key does not sign a token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IssuerError {
    /// The claims name another issuer.
    #[error("the token names {expected} as its issuer, this key is {found}")]
    Other {
        /// The issuer of the claims.
        expected: PublicKey,
        /// The key that was given.
        found: PublicKey,
    },
    /// The key cannot sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl IssuerError {
    /// A stable name for this error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Other { .. } => "issuer.other",
            Self::Sign(error) => error.code(),
        }
    }
}

/// A whole token whose signature holds: it was verified, or made with the issuer's key. Cheap to clone.
///
/// Some tokens are secrets by themselves (a bearer user's): `Debug` shows the id only.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    unsigned: Unsigned,
    signature: Signature,
    text: Arc<str>,
}

impl Token {
    /// Reads a whole token, as strictly as [`Unsigned::parse`], and verifies its signature. No white space is
    /// skipped.
    ///
    /// # Errors
    /// [`DecodeError`]
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        check_size(text.len())?;
        let parts = text.split('.').count();
        let (unsigned, signature) = match text.rsplit_once('.') {
            Some(split) if parts == 3 => split,
            _ => return Err(DecodeError::Parts { expected: 3, found: parts }),
        };
        let signature = signature.parse::<Signature>()?;
        let (header, payload) = unsigned.split_once('.').ok_or(DecodeError::Header)?;
        Ok(Unsigned::of_parts(header, payload, unsigned)?.with_signature(signature)?)
    }

    /// The whole token.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part that is signed.
    pub const fn unsigned(&self) -> &Unsigned {
        &self.unsigned
    }

    /// The issuer's signature.
    pub const fn signature(&self) -> Signature {
        self.signature
    }

    /// What it says.
    pub fn claims(&self) -> &Claims {
        self.unsigned.claims()
    }

    /// What identifies it.
    pub fn id(&self) -> TokenId {
        self.unsigned.id()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id())
    }
}

impl FromStr for Token {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        Self::parse(text)
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
