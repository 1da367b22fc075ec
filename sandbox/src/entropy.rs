//! Entropy that comes with the plan, in pieces of 32 bytes, each used once.

use crate::error::SandboxError;
use cim_keys_core::entropy;
use cim_keys_core::secret::SecretBytes;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeSet;
use std::fmt;

const PIECE: usize = 32;

/// Random bytes, in order. Wiped; never shown.
pub(crate) struct Entropy(SecretBytes);

impl Entropy {
    /// How many whole pieces there are.
    pub(crate) fn pieces(&self) -> usize {
        self.0.expose().len() / PIECE
    }

    /// A piece by its place, from 0.
    pub(crate) fn piece(&self, place: usize) -> Option<[u8; PIECE]> {
        self.0.expose().chunks_exact(PIECE).nth(place)?.try_into().ok()
    }

    /// Refuses what no CSPRNG gives: keys made of it could be guessed.
    pub(crate) fn check(&self) -> Result<(), SandboxError> {
        let mut seen = BTreeSet::new();
        for (place, piece) in self.0.expose().chunks_exact(PIECE).enumerate() {
            let piece = piece.try_into().map_err(|_| SandboxError::Repeated { place })?;
            entropy::check(piece).map_err(|pattern| SandboxError::Pattern { place, pattern })?;
            if !seen.insert(piece) {
                return Err(SandboxError::Repeated { place });
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Entropy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Hex)
    }
}

/// Reads the text where it lies, in the buffer that is wiped. Text with escapes would be copied first: it is refused.
struct Hex;

impl<'de> de::Visitor<'de> for Hex {
    type Value = Entropy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hex")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Entropy, E> {
        let wrong = || E::custom("entropy is hex: 64 characters 0-9 and a-f for each 32 bytes");
        let digits = text.as_bytes();
        if !digits.len().is_multiple_of(2 * PIECE) {
            return Err(wrong());
        }
        // Reserved at once, so that no shorter buffer is left behind unwiped.
        let mut bytes = Vec::with_capacity(digits.len() / 2);
        for pair in digits.chunks_exact(2) {
            let [high, low] = [pair[0], pair[1]].map(|digit| (digit as char).to_digit(16));
            match high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
                Some(byte) => bytes.push(byte),
                None => {
                    drop(SecretBytes::new(bytes));
                    return Err(wrong());
                }
            }
        }
        Ok(Entropy(SecretBytes::new(bytes)))
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Entropy, E> {
        Err(E::custom("entropy is hex, without escapes"))
    }
}
