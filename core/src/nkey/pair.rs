//! Key pairs: the only place that holds a private key.

use alloc::boxed::Box;
use core::fmt;

use ed25519_dalek::{Signer, SigningKey};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use super::{Kind, PublicKey, SeedError, Signature, seed};
use crate::secret::{self, SecretText};

/// A private key with its public half. Wiped on drop; not `Clone`, not `Serialize`.
///
/// ```compile_fail
/// use cim_keys_core::nkey::{KeyPair, Kind};
/// let pair = KeyPair::from_entropy(Kind::User, [7; 32]);
/// let copy = pair.clone();
/// ```
pub struct KeyPair {
    public: PublicKey,
    secret: Secret,
}

// Boxed, so that moving a pair leaves no copy of the secret behind.
enum Secret {
    Edwards(Box<SigningKey>),
    Curve(Box<Zeroizing<[u8; 32]>>),
}

impl KeyPair {
    /// The pair that 32 random bytes make. Drawing them is the host's affair: once for each key, from a CSPRNG.
    pub fn from_entropy(kind: Kind, mut entropy: [u8; 32]) -> Self {
        let pair = Self::from_bytes(kind, &entropy);
        entropy.zeroize();
        secret::scrub_stack();
        pair
    }

    /// The pair of a seed's text: 58 characters, white space at the ends ignored.
    ///
    /// # Errors
    /// [`SeedError`] says what is wrong, never what the text was.
    pub fn from_seed(text: &str) -> Result<Self, SeedError> {
        let pair = Self::decoded(text);
        secret::scrub_stack();
        pair
    }

    #[inline(never)]
    fn decoded(text: &str) -> Result<Self, SeedError> {
        let (kind, seed) = seed::decode(text)?;
        Ok(Self::from_bytes(kind, &seed))
    }

    #[inline(never)]
    fn from_bytes(kind: Kind, bytes: &[u8; 32]) -> Self {
        if kind == Kind::Curve {
            let scalar = Zeroizing::new(*bytes);
            let secret = x25519_dalek::StaticSecret::from(*scalar);
            let public = PublicKey::new(kind, x25519_dalek::PublicKey::from(&secret).to_bytes());
            Self { public, secret: Secret::Curve(Box::new(scalar)) }
        } else {
            let key = Box::new(SigningKey::from_bytes(bytes));
            let public = PublicKey::new(kind, key.verifying_key().to_bytes());
            Self { public, secret: Secret::Edwards(key) }
        }
    }

    /// The public half.
    pub const fn public_key(&self) -> PublicKey {
        self.public
    }

    /// What the key is for.
    pub const fn kind(&self) -> Kind {
        self.public.kind()
    }

    /// The Ed25519 signature over these bytes, without a pre-hash; the same each time.
    ///
    /// # Errors
    /// [`SignError::Kind`] for a curve key.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        match &self.secret {
            Secret::Edwards(key) => Ok(Signature::from_bytes(key.sign(message).to_bytes())),
            Secret::Curve(_) => Err(SignError::Kind { found: self.kind() }),
        }
    }

    /// The seed's text, the form in which NATS tools keep a private key.
    pub fn seed(&self) -> SecretText {
        seed::encode(self.kind(), self.secret_bytes())
    }

    fn secret_bytes(&self) -> &[u8; 32] {
        match &self.secret {
            Secret::Edwards(key) => key.as_bytes(),
            Secret::Curve(scalar) => scalar,
        }
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({}, redacted)", self.public)
    }
}

/// Why a key pair does not sign.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignError {
    /// The key is of a kind that cannot sign.
    #[error("a key of kind {found} cannot sign: it only seals")]
    Kind {
        /// The kind of the key.
        found: Kind,
    },
}

impl SignError {
    /// A stable name for this error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Kind { .. } => "sign.kind",
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;
    use crate::nkey::SignatureError;
    use crate::secret::assert_not_impl;

    assert_not_impl!(KeyPair, Clone);
    assert_not_impl!(KeyPair, serde::Serialize);
    assert_not_impl!(KeyPair, fmt::Display);

    // Seeds and public keys as the Go library writes them, from 32 bytes of one value.
    const GO: [(Kind, u8, &str, &str); 6] = [
        (
            Kind::Operator,
            1,
            "SOAACAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIATA",
            "OCFIRY65OQE7DFP5KLNS2PF2LVZMUZYJX4OZIEQ36N2IQANUB5XVYOCS",
        ),
        (
            Kind::Account,
            2,
            "SAAAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAUN5U",
            "ACATS5YOVB6ROX2WUNKGNQ2MP3GMXDMKSG2O4N5CLX3A6W4PZGZZIL2R",
        ),
        (
            Kind::User,
            3,
            "SUAAGAYDAMBQGAYDAMBQGAYDAMBQGAYDAMBQGAYDAMBQGAYDAMBQGA6BEM",
            "UDWUSKGGFDI4FRXK5EBTRECZSVQSSWJHHJOGH6JWG3AUMFFMQ435C2U4",
        ),
        (
            Kind::Server,
            7,
            "SNAAOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOB4BGI",
            "NDVEU3DD4KOFECV66VIHWEZOYX4ZKR3WV27L464SIIPOU2IUI3JCYLVO",
        ),
        (
            Kind::Curve,
            8,
            "SXAAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCH3SQ",
            "XAY5JK3KZ3WJMEJXSFYDPE3OMBYW7LCXHL7JJWO2QSUAEBCI37AREOAX",
        ),
        (
            Kind::Curve,
            9,
            "SXAASCIJBEEQSCIJBEEQSCIJBEEQSCIJBEEQSCIJBEEQSCIJBEEQSCKESY",
            "XBL5WSZVT4R24XQUNZHCKEQFM4CHEJIGGSGBKDAUOU6QZEZ5ATKCD722",
        ),
    ];

    #[test]
    fn keys_are_those_of_the_go_library() {
        for (kind, value, seed, public) in GO {
            let pair = KeyPair::from_entropy(kind, [value; 32]);
            assert_eq!(pair.seed().expose(), seed);
            assert_eq!(pair.public_key().to_string(), public);
            assert_eq!(KeyPair::from_seed(seed).unwrap().public_key(), pair.public_key());
        }
    }

    #[test]
    fn debug_is_a_redaction() {
        for (kind, value, seed, _) in GO {
            let pair = KeyPair::from_entropy(kind, [value; 32]);
            let shown = format!("{pair:?} {pair:#?}");
            assert!(shown.contains("redacted") && !shown.contains(&seed[3..12]));
            assert!(!shown.contains(&format!("{value}, {value}")));
        }
    }

    #[test]
    fn curve_keys_neither_sign_nor_verify() {
        let pair = KeyPair::from_entropy(Kind::Curve, [8; 32]);
        assert_eq!(pair.sign(b"x"), Err(SignError::Kind { found: Kind::Curve }));
        assert_eq!(
            pair.public_key().verify(b"x", &Signature::from_bytes([0; 64])),
            Err(SignatureError::Kind { found: Kind::Curve })
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn signatures_are_those_of_nkeys(entropy: [u8; 32], message: alloc::vec::Vec<u8>) {
            let pair = KeyPair::from_entropy(Kind::User, entropy);
            let oracle = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, entropy).unwrap();
            let signature = pair.sign(&message).unwrap();
            prop_assert_eq!(pair.public_key().to_string(), oracle.public_key());
            prop_assert_eq!(signature.as_bytes().to_vec(), oracle.sign(&message).unwrap());
            prop_assert_eq!(pair.public_key().verify(&message, &signature), Ok(()));
            prop_assert!(oracle.verify(&message, signature.as_bytes()).is_ok());
            let mut other = message.clone();
            other.push(0);
            prop_assert_eq!(pair.public_key().verify(&other, &signature), Err(SignatureError::Mismatch));
        }
    }
}
