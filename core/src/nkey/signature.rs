//! Ed25519 signatures.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use super::Kind;

const TEXT_LENGTH: usize = 86;

/// An Ed25519 signature of 64 bytes. Text is canonical base64url without padding, 86 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature([u8; 64]);

impl Signature {
    /// A signature as a signer gave it. Nothing is checked before it is verified.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        if text.len() != TEXT_LENGTH {
            return Err(SignatureError::Length { expected: TEXT_LENGTH, found: text.len() });
        }
        let mut bytes = [0u8; 64];
        match Base64UrlUnpadded::decode(text, &mut bytes) {
            Ok(read) if read.len() == 64 => Ok(Self(bytes)),
            _ => Err(SignatureError::Encoding),
        }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; TEXT_LENGTH];
        f.pad(Base64UrlUnpadded::encode(&self.0, &mut text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Why a signature cannot be read, or does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// Not 86 characters.
    #[error("a signature has {expected} characters of base64url, this text has {found}")]
    Length {
        /// Characters a signature has.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// Not canonical base64url without padding.
    #[error("the signature is not canonical base64url without padding")]
    Encoding,
    /// The key is of a kind that cannot sign.
    #[error("a key of kind {found} cannot sign")]
    Kind {
        /// The kind of the key.
        found: Kind,
    },
    /// The signature is not this key's over these bytes.
    #[error("the signature does not fit the key and the signed bytes")]
    Mismatch,
}

impl SignatureError {
    /// A stable name for this error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Length { .. } => "signature.length",
            Self::Encoding => "signature.encoding",
            Self::Kind { .. } => "signature.kind",
            Self::Mismatch => "signature.mismatch",
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_leads_back(bytes: [u8; 64]) {
            let signature = Signature::from_bytes(bytes);
            prop_assert_eq!(signature.to_string().parse::<Signature>(), Ok(signature));
        }

        #[test]
        fn only_canonical_text_is_read(text in "[A-Za-z0-9_-]{86}") {
            if let Ok(signature) = text.parse::<Signature>() {
                prop_assert_eq!(signature.to_string(), text);
            }
        }
    }

    #[test]
    fn slack_bits_padding_and_the_other_alphabet_are_refused() {
        let text = Signature::from_bytes([0xff; 64]).to_string();
        assert!(text.ends_with("_w"));
        assert_eq!(text.replace("_w", "_x").parse::<Signature>(), Err(SignatureError::Encoding));
        assert_eq!(text.replace('_', "/").parse::<Signature>(), Err(SignatureError::Encoding));
        assert_eq!(
            format!("{text}==").parse::<Signature>(),
            Err(SignatureError::Length { expected: 86, found: 88 })
        );
    }
}
