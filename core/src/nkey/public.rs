//! Public keys.

use core::fmt;
use core::str::FromStr;

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use super::{Kind, Signature, SignatureError, codec};

const TEXT_LENGTH: usize = 56;
const RAW_LENGTH: usize = 35;

/// A public nkey: its kind and 32 bytes. Text is exactly 56 characters of upper-case base32
/// (`nats-identity` §1.2).
///
/// Reading one checks length, alphabet, checksum and kind, and nothing that costs curve arithmetic: whether the bytes
/// are a point shows when a signature is verified. The order of keys is that of kind and bytes, not that of their
/// text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    kind: Kind,
    bytes: [u8; 32],
}

impl PublicKey {
    /// The key of this kind with these bytes (Ed25519, or X25519 for a curve key).
    pub const fn new(kind: Kind, bytes: [u8; 32]) -> Self {
        Self { kind, bytes }
    }

    /// What the key is for.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The 32 bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// This key, if it is of the kind asked for.
    ///
    /// # Errors
    /// [`KeyError::WrongKind`] otherwise.
    pub fn of_kind(self, expected: Kind) -> Result<Self, KeyError> {
        if self.kind == expected { Ok(self) } else { Err(KeyError::WrongKind { expected, found: self.kind }) }
    }

    /// Checks a signature strictly: no key of small order, no second form of the same signature.
    ///
    /// # Errors
    /// [`SignatureError::Kind`] for a curve key, [`SignatureError::Mismatch`] for everything that does not verify.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        if self.kind == Kind::Curve {
            return Err(SignatureError::Kind { found: self.kind });
        }
        VerifyingKey::from_bytes(&self.bytes)
            .and_then(|key| {
                key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature.as_bytes()))
            })
            .map_err(|_| SignatureError::Mismatch)
    }

    fn to_text(self) -> [u8; TEXT_LENGTH] {
        let mut raw = [0u8; RAW_LENGTH];
        let mut text = [0u8; TEXT_LENGTH];
        if let Some((data, checksum)) = raw.split_last_chunk_mut::<2>() {
            if let Some((prefix, key)) = data.split_first_mut() {
                *prefix = self.kind.prefix();
                key.copy_from_slice(&self.bytes);
            }
            *checksum = codec::crc16(data).to_le_bytes();
        }
        codec::encode(&raw, &mut text);
        text
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.len() == 58 && text.starts_with('S') {
            return Err(KeyError::Seed);
        }
        if text.len() != TEXT_LENGTH {
            return Err(KeyError::Length { expected: TEXT_LENGTH, found: text.len() });
        }
        if !text.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7')) {
            return Err(KeyError::Alphabet);
        }
        // The first character and the top bits of the second are the prefix; nkeys judges the sum first, so what is
        // left to fail in it is the checksum, or a prefix that it does not know.
        match nkeys::from_public_key(text) {
            Ok((prefix, bytes)) => match Kind::from_prefix(prefix) {
                Some(kind) => Ok(Self { kind, bytes }),
                None => Err(KeyError::Prefix { found: prefix }),
            },
            Err(_) => Err(refusal(text)),
        }
    }
}

/// Why nkeys refused a text of the right length and alphabet.
fn refusal(text: &str) -> KeyError {
    let mut raw = [0u8; RAW_LENGTH];
    if !codec::decode(text.as_bytes(), &mut raw) {
        return KeyError::Alphabet;
    }
    match raw.split_last_chunk::<2>() {
        Some((data, checksum)) if codec::crc16(data) == u16::from_le_bytes(*checksum) => {
            KeyError::Prefix { found: data.first().copied().unwrap_or_default() }
        }
        _ => KeyError::Checksum,
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(core::str::from_utf8(&self.to_text()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = PublicKey;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a public nkey of 56 characters")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PublicKey, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Why a text is no public key, or not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not 56 characters.
    #[error("a public key has {expected} characters, this text has {found}")]
    Length {
        /// Characters a key has.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A character outside `A-Z2-7`: lower case, a space, padding.
    #[error("a public key is written with A-Z and 2-7 only")]
    Alphabet,
    /// The checksum does not fit: a character was changed.
    #[error("the key's checksum does not fit: a character was changed or lost")]
    Checksum,
    /// The prefix byte is of no kind that NATS knows.
    #[error("the key's prefix {found} is of no kind that NATS knows")]
    Prefix {
        /// The prefix byte found.
        found: u8,
    },
    /// A seed where a public key belongs.
    #[error("this is a seed, which is secret: give the public key instead")]
    Seed,
    /// A key of another kind.
    #[error("expected a key of kind {expected}, found one of kind {found}")]
    WrongKind {
        /// The kind asked for.
        expected: Kind,
        /// The kind of the key given.
        found: Kind,
    },
}

impl KeyError {
    /// A stable name for this error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Length { .. } => "key.length",
            Self::Alphabet => "key.alphabet",
            Self::Checksum => "key.checksum",
            Self::Prefix { .. } => "key.prefix",
            Self::Seed => "key.seed",
            Self::WrongKind { .. } => "key.wrong_kind",
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::{String, ToString};

    use proptest::prelude::*;

    use super::*;
    use crate::nkey::KeyPair;

    fn encode_raw(prefix: u8, bytes: &[u8; 32]) -> String {
        let mut raw = [0u8; RAW_LENGTH];
        raw[0] = prefix;
        raw[1..33].copy_from_slice(bytes);
        let crc = codec::crc16(&raw[..33]);
        raw[33..].copy_from_slice(&crc.to_le_bytes());
        let mut text = [0u8; TEXT_LENGTH];
        codec::encode(&raw, &mut text);
        String::from_utf8(text.to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn text_leads_back_to_the_key(bytes: [u8; 32], kind in 0usize..6) {
            let key = PublicKey::new(Kind::ALL[kind], bytes);
            let text = key.to_string();
            prop_assert_eq!(text.len(), 56);
            prop_assert!(text.starts_with(key.kind().letter()));
            prop_assert_eq!(text.parse::<PublicKey>(), Ok(key));
            prop_assert_eq!(nkeys::from_public_key(&text).unwrap(), (key.kind().prefix(), bytes));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,80}") {
            let _ = text.parse::<PublicKey>();
        }

        #[test]
        fn base32_of_the_right_length_is_refused_or_canonical(text in "[A-Z2-7]{56}") {
            if let Ok(key) = text.parse::<PublicKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }

    #[test]
    fn each_changed_character_is_noticed() {
        let text = KeyPair::from_entropy(Kind::User, [3; 32]).public_key().to_string();
        assert_eq!(text, "UDWUSKGGFDI4FRXK5EBTRECZSVQSSWJHHJOGH6JWG3AUMFFMQ435C2U4");
        for at in 0..text.len() {
            for to in ["A", "B", "7", "a", "=", " ", "\n", "1"] {
                if &text[at..=at] == to {
                    continue;
                }
                let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
                assert!(changed.parse::<PublicKey>().is_err(), "{changed:?}");
            }
        }
    }

    #[test]
    fn refusals_say_why() {
        let length = |found| Err(KeyError::Length { expected: 56, found });
        let good = PublicKey::new(Kind::Account, [9; 32]).to_string();
        assert_eq!("".parse::<PublicKey>(), length(0));
        assert_eq!(format!("{good}\n").parse::<PublicKey>(), length(57));
        assert_eq!(good.to_lowercase().parse::<PublicKey>(), Err(KeyError::Alphabet));
        let seed = KeyPair::from_entropy(Kind::User, [3; 32]).seed();
        assert_eq!(seed.expose().parse::<PublicKey>(), Err(KeyError::Seed));
        // Module and service are known to nkeys and not to NATS; private and seed to neither.
        for prefix in [12 << 3, 21 << 3, 15 << 3, 18 << 3, 25 << 3] {
            assert_eq!(
                encode_raw(prefix, &[1; 32]).parse::<PublicKey>(),
                Err(KeyError::Prefix { found: prefix })
            );
        }
        assert_eq!(
            PublicKey::new(Kind::User, [0; 32]).of_kind(Kind::Account),
            Err(KeyError::WrongKind { expected: Kind::Account, found: Kind::User })
        );
    }

    #[test]
    fn keys_of_small_order_and_non_points_verify_nothing() {
        let signature = Signature::from_bytes([0; 64]);
        for bytes in [[0u8; 32], [255; 32], [1; 32]] {
            let key = PublicKey::new(Kind::User, bytes);
            assert_eq!(key.verify(b"", &signature), Err(SignatureError::Mismatch));
        }
        // The neutral element: a lenient verifier accepts R = identity, S = 0 under it for every message.
        let mut neutral = [0u8; 32];
        neutral[0] = 1;
        let mut forged = [0u8; 64];
        forged[0] = 1;
        let key = PublicKey::new(Kind::Operator, neutral);
        assert_eq!(key.verify(b"any", &Signature::from_bytes(forged)), Err(SignatureError::Mismatch));
    }

    #[test]
    fn serde_is_the_text() {
        let key = PublicKey::new(Kind::Server, [5; 32]);
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!("\"{key}\""));
        assert_eq!(serde_json::from_str::<PublicKey>(&json).unwrap(), key);
        assert!(serde_json::from_str::<PublicKey>("\"UABC\"").is_err());
    }
}
