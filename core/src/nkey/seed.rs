//! Seeds as text: our own codec, constant in time and wiping (`nats-identity` §1.2).

use alloc::string::String;

use thiserror::Error;
use zeroize::Zeroizing;

use super::{Kind, codec};
use crate::secret::SecretText;

const TEXT_LENGTH: usize = 58;
const RAW_LENGTH: usize = 36;
const MARKER: u8 = 18 << 3;

/// The seed's 58 characters.
pub(super) fn encode(kind: Kind, seed: &[u8; 32]) -> SecretText {
    let mut raw = Zeroizing::new([0u8; RAW_LENGTH]);
    if let Some((data, checksum)) = raw.split_last_chunk_mut::<2>() {
        if let Some((prefix, key)) = data.split_first_chunk_mut::<2>() {
            *prefix = [MARKER | (kind.prefix() >> 5), (kind.prefix() & 31) << 3];
            key.copy_from_slice(seed);
        }
        *checksum = codec::crc16(data).to_le_bytes();
    }
    let mut text = Zeroizing::new([0u8; TEXT_LENGTH]);
    codec::encode(&raw[..], &mut text[..]);
    // Reserved at once, so that no shorter buffer is left behind unwiped.
    let mut owned = String::with_capacity(TEXT_LENGTH);
    owned.extend(text.iter().map(|byte| char::from(*byte)));
    SecretText::new(owned)
}

/// The kind and the 32 bytes of a seed. ASCII white space at the ends is trimmed, as a file has it.
pub(super) fn decode(text: &str) -> Result<(Kind, Zeroizing<[u8; 32]>), SeedError> {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace()).as_bytes();
    if text.len() != TEXT_LENGTH {
        return Err(SeedError::Length { expected: TEXT_LENGTH, found: text.len() });
    }
    let mut raw = Zeroizing::new([0u8; RAW_LENGTH]);
    if !codec::decode(text, &mut raw[..]) {
        return Err(SeedError::Alphabet);
    }
    let mut seed = Zeroizing::new([0u8; 32]);
    let Some((data, checksum)) = raw.split_last_chunk::<2>() else { return Err(SeedError::Checksum) };
    let Some(([first, second], key)) = data.split_first_chunk::<2>() else { return Err(SeedError::Checksum) };
    if codec::crc16(data) != u16::from_le_bytes(*checksum) {
        return Err(SeedError::Checksum);
    }
    // The last character has two bits to spare: four texts would else be one seed.
    let mut again = Zeroizing::new([0u8; TEXT_LENGTH]);
    codec::encode(&raw[..], &mut again[..]);
    if again[..] != *text {
        return Err(SeedError::NotCanonical);
    }
    if first & 0xf8 != MARKER {
        return Err(SeedError::Marker);
    }
    let kind = match Kind::from_prefix(((first & 7) << 5) | (second >> 3)) {
        Some(kind) if second & 7 == 0 => kind,
        _ => return Err(SeedError::Kind),
    };
    seed.copy_from_slice(key);
    Ok((kind, seed))
}

/// Why a text is no seed. Never carries any of the text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SeedError {
    /// Not 58 characters.
    #[error("a seed has {expected} characters, this text has {found}")]
    Length {
        /// Characters a seed has.
        expected: usize,
        /// Bytes found after trimming.
        found: usize,
    },
    /// A character outside `A-Z2-7`.
    #[error("a seed is written with A-Z and 2-7 only")]
    Alphabet,
    /// The checksum does not fit: a character was changed.
    #[error("the seed's checksum does not fit: a character was changed or lost")]
    Checksum,
    /// The spare bits of the last character are not zero.
    #[error("the seed's last character is not the one that an encoder writes")]
    NotCanonical,
    /// Well-formed, but not a seed (it does not start with S).
    #[error("this is no seed: a seed starts with S")]
    Marker,
    /// A seed of a kind that NATS does not know.
    #[error("the seed is of no kind that NATS knows")]
    Kind,
}

impl SeedError {
    /// A stable name for this error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Length { .. } => "seed.length",
            Self::Alphabet => "seed.alphabet",
            Self::Checksum => "seed.checksum",
            Self::NotCanonical => "seed.not_canonical",
            Self::Marker => "seed.marker",
            Self::Kind => "seed.kind",
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    fn nkeys_type(kind: Kind) -> nkeys::KeyPairType {
        match kind {
            Kind::Account => nkeys::KeyPairType::Account,
            Kind::Cluster => nkeys::KeyPairType::Cluster,
            Kind::Curve => nkeys::KeyPairType::Curve,
            Kind::Operator => nkeys::KeyPairType::Operator,
            Kind::Server => nkeys::KeyPairType::Server,
            Kind::User => nkeys::KeyPairType::User,
        }
    }

    proptest! {
        #[test]
        fn seeds_are_those_of_nkeys(bytes: [u8; 32], kind in 0usize..6) {
            let kind = Kind::ALL[kind];
            let text = encode(kind, &bytes);
            let oracle = nkeys::KeyPair::new_from_raw(nkeys_type(kind), bytes).unwrap();
            prop_assert_eq!(text.expose(), oracle.seed().unwrap());
            let (read, seed) = decode(text.expose()).unwrap();
            prop_assert_eq!((read, *seed), (kind, bytes));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,80}") {
            let _ = decode(&text);
        }
    }

    #[test]
    fn each_changed_character_is_noticed_and_not_shown() {
        let text = encode(Kind::User, &[3; 32]).expose().to_string();
        for at in 0..text.len() {
            for to in ["A", "Q", "7", "a", "=", "1", "\u{7f}"] {
                if &text[at..=at] == to {
                    continue;
                }
                let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
                let error = decode(&changed).unwrap_err();
                assert!(!format!("{error} {error:?}").contains(&text[10..20]));
            }
        }
    }

    #[test]
    fn spare_bits_must_be_zero() {
        let text = encode(Kind::User, &[3; 32]).expose().to_string();
        assert!(text.ends_with("EM"));
        for last in ["N", "O", "P"] {
            assert_eq!(decode(&format!("{}{last}", &text[..57])).unwrap_err(), SeedError::NotCanonical);
        }
    }

    #[test]
    fn white_space_is_trimmed_at_the_ends_only() {
        let text = encode(Kind::User, &[3; 32]).expose().to_string();
        assert!(decode(&format!(" {text}\r\n")).is_ok());
        assert!(decode(&format!("{}\n{}", &text[..20], &text[20..])).is_err());
        assert_eq!(decode("").unwrap_err(), SeedError::Length { expected: 58, found: 0 });
    }

    #[test]
    fn other_markers_and_kinds_are_refused() {
        let craft = |first: u8, second: u8| {
            let mut raw = [7u8; RAW_LENGTH];
            (raw[0], raw[1]) = (first, second);
            let crc = codec::crc16(&raw[..34]);
            raw[34..].copy_from_slice(&crc.to_le_bytes());
            let mut text = [0u8; TEXT_LENGTH];
            codec::encode(&raw, &mut text);
            String::from_utf8(text.to_vec()).unwrap()
        };
        assert_eq!(decode(&craft(0, 0)).unwrap_err(), SeedError::Marker);
        // Module (nkeys' own), private, and a kind with stray low bits.
        for prefix in [12u8 << 3, 15 << 3, 25 << 3] {
            let text = craft(MARKER | (prefix >> 5), (prefix & 31) << 3);
            assert_eq!(decode(&text).unwrap_err(), SeedError::Kind);
        }
        assert_eq!(decode(&craft(MARKER, 1)).unwrap_err(), SeedError::Kind);
    }
}
