//! What a source of randomness must not give. Bytes come from the host; a broken source makes keys that can be guessed.

/// Bytes that no CSPRNG gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the random source gave a pattern of {period} bytes: it is broken, and keys made of it could be guessed"
)]
pub struct Pattern {
    /// Bytes after which it repeats.
    pub period: usize,
}

impl Pattern {
    /// Stable code for hosts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "entropy-pattern"
    }
}

/// Refuses what no CSPRNG gives: all bytes equal, a short pattern again and again, or counting up or down.
///
/// # Errors
/// See [`Pattern`].
pub fn check(bytes: &[u8; 32]) -> Result<(), Pattern> {
    for period in [1, 2, 4, 8, 16] {
        let (first, rest) = bytes.split_at(period);
        if rest.chunks(period).all(|chunk| chunk == first) {
            return Err(Pattern { period });
        }
    }
    let counts = |step: u8| bytes.iter().zip(bytes.iter().skip(1)).all(|(a, b)| *b == a.wrapping_add(step));
    if counts(1) || counts(255) { Err(Pattern { period: 32 }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_refused() {
        assert_eq!(check(&[7; 32]), Err(Pattern { period: 1 }));
        for (period, step) in [(2, 1), (4, 1), (8, 1), (16, 1), (32, 1), (32, 255)] {
            let bytes = core::array::from_fn(|place| ((place % period) as u8).wrapping_mul(step));
            assert_eq!(check(&bytes), Err(Pattern { period }));
        }
        assert_eq!(check(crate::digest::Digest::of(b"any").as_bytes()), Ok(()));
    }
}
