//! The only clock and the only source of randomness of this host.

use cim_keys_core::entropy;
use cim_keys_core::sync::Moment;
use cim_keys_core::time::Timestamp;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use uuid::{Builder, Uuid};
use zeroize::{Zeroize, Zeroizing};

/// Where time and random bytes come from. A service that has its own, or a test that wants the same each time, supplies
/// one; everybody else uses [`Ambient::system`].
pub trait Source: Send + Sync {
    /// Milliseconds since 1970, UTC.
    fn unix_millis(&self) -> i64;

    /// Milliseconds of a clock that never goes back. Only differences count.
    fn steady_millis(&self) -> u64;

    /// Fills the buffer from a CSPRNG and returns how many bytes it wrote.
    ///
    /// # Errors
    /// In the source's words.
    fn fill(&self, buffer: &mut [u8]) -> Result<usize, String>;
}

/// Clock and CSPRNG, with every draw checked for what a broken source gives.
pub struct Ambient {
    source: Box<dyn Source>,
    /// Digests of the last draws: a source that repeats itself would make the same key twice.
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    order: std::collections::VecDeque<[u8; 32]>,
    digests: BTreeSet<[u8; 32]>,
}

/// Draws that are remembered to notice a repetition.
const REMEMBERED: usize = 4096;

impl Ambient {
    /// The system's clock and CSPRNG.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Box::new(System { began: Instant::now() }))
    }

    /// Another source.
    #[must_use]
    pub fn new(source: Box<dyn Source>) -> Self {
        Self { source, seen: Mutex::new(Seen::default()) }
    }

    /// The time, UTC, in milliseconds. A clock outside 1970 to 9999 is taken for its nearest end.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let millis = self.source.unix_millis();
        Timestamp::from_millis(millis)
            .or_else(|_| Timestamp::from_millis(if millis < 0 { 0 } else { 253_402_300_799_999 }))
            .unwrap_or_else(|_| unreachable!("both ends are in range"))
    }

    /// 32 fresh bytes: one draw for each key.
    ///
    /// # Errors
    /// The source failed, gave too little, or gave what no CSPRNG gives.
    pub fn entropy(&self) -> Result<[u8; 32], EntropyError> {
        let mut bytes = [0u8; 32];
        let checked = self
            .draw(&mut bytes)
            .and_then(|()| Ok(entropy::check(&bytes)?))
            .and_then(|()| self.is_new(&bytes));
        if checked.is_err() {
            bytes.zeroize();
        }
        checked.map(|()| bytes)
    }

    /// A new UUID v7 for a command.
    ///
    /// # Errors
    /// See [`entropy`](Self::entropy).
    pub fn command_id(&self) -> Result<Uuid, EntropyError> {
        let entropy = Zeroizing::new(self.entropy()?);
        let mut random = [0u8; 10];
        random.copy_from_slice(&entropy[..10]);
        Ok(Builder::from_unix_timestamp_millis(self.now().millis().unsigned_abs(), &random).into_uuid())
    }

    /// Time and randomness for one input of the sync machine.
    ///
    /// # Errors
    /// See [`entropy`](Self::entropy).
    pub fn moment(&self) -> Result<Moment, EntropyError> {
        let entropy = Zeroizing::new(self.entropy()?);
        let mut random = [0u8; 16];
        random.copy_from_slice(&entropy[..16]);
        Ok(Moment { millis: self.source.steady_millis(), random })
    }

    fn draw(&self, bytes: &mut [u8; 32]) -> Result<(), EntropyError> {
        let found = self.source.fill(bytes).map_err(|reason| EntropyError::Source { reason })?;
        if found == bytes.len() { Ok(()) } else { Err(EntropyError::Short { expected: bytes.len(), found }) }
    }

    fn is_new(&self, bytes: &[u8; 32]) -> Result<(), EntropyError> {
        // A digest, so that nothing here remembers a key.
        let digest = *cim_keys_core::digest::Digest::of(bytes).as_bytes();
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !seen.digests.insert(digest) {
            return Err(EntropyError::Repeated);
        }
        seen.order.push_back(digest);
        if seen.order.len() > REMEMBERED
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.digests.remove(&oldest);
        }
        Ok(())
    }
}

impl fmt::Debug for Ambient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ambient(..)")
    }
}

struct System {
    began: Instant,
}

impl Source for System {
    fn unix_millis(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(_) => 0,
        }
    }

    fn steady_millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn fill(&self, buffer: &mut [u8]) -> Result<usize, String> {
        getrandom::fill(buffer).map_err(|error| error.to_string())?;
        Ok(buffer.len())
    }
}

/// A source that gives the same each time: for tests and vectors. **Keys made with it are no secret.**
#[derive(Debug)]
pub struct Fixed {
    state: Mutex<(i64, u64)>,
    step: i64,
}

impl Fixed {
    /// Begins at this time, moves on by `step` milliseconds at each look at the clock, and derives its bytes from `seed`.
    #[must_use]
    pub fn new(millis: i64, step: i64, seed: u64) -> Self {
        Self { state: Mutex::new((millis, seed << 32)), step }
    }
}

impl Source for Fixed {
    fn unix_millis(&self) -> i64 {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.0 += self.step;
        state.0 - self.step
    }

    fn steady_millis(&self) -> u64 {
        self.unix_millis().unsigned_abs()
    }

    fn fill(&self, buffer: &mut [u8]) -> Result<usize, String> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in buffer.chunks_mut(32) {
            state.1 += 1;
            let digest = cim_keys_core::digest::Digest::of(&state.1.to_be_bytes());
            chunk.copy_from_slice(&digest.as_bytes()[..chunk.len()]);
        }
        Ok(buffer.len())
    }
}

/// Why no key could be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntropyError {
    /// The source failed.
    #[error("the system's random source failed: {reason}")]
    Source {
        /// In its words.
        reason: String,
    },
    /// Too few bytes.
    #[error("the random source gave {found} bytes of {expected}")]
    Short {
        /// Bytes wanted.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A pattern.
    #[error(transparent)]
    Pattern(#[from] entropy::Pattern),
    /// The same bytes again.
    #[error(
        "the random source gave the same bytes twice: it is broken, and keys made of it could be guessed"
    )]
    Repeated,
}

impl EntropyError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Source { .. } => "entropy-source",
            Self::Short { .. } => "entropy-short",
            Self::Pattern(error) => error.code(),
            Self::Repeated => "entropy-repeated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(fn(&mut [u8]) -> Result<usize, String>);

    impl Source for Broken {
        fn unix_millis(&self) -> i64 {
            -5
        }

        fn steady_millis(&self) -> u64 {
            0
        }

        fn fill(&self, buffer: &mut [u8]) -> Result<usize, String> {
            (self.0)(buffer)
        }
    }

    fn draw(fill: fn(&mut [u8]) -> Result<usize, String>) -> Result<[u8; 32], EntropyError> {
        Ambient::new(Box::new(Broken(fill))).entropy()
    }

    #[test]
    fn a_broken_source_makes_no_key() {
        assert_eq!(draw(|_| Err("no".into())), Err(EntropyError::Source { reason: "no".into() }));
        assert_eq!(draw(|_| Ok(7)), Err(EntropyError::Short { expected: 32, found: 7 }));
        assert_eq!(
            draw(|buffer| Ok(buffer.len())),
            Err(EntropyError::Pattern(entropy::Pattern { period: 1 }))
        );
        let constant = |buffer: &mut [u8]| {
            buffer.fill(9);
            Ok(buffer.len())
        };
        assert_eq!(draw(constant), Err(EntropyError::Pattern(entropy::Pattern { period: 1 })));
        let pattern = |buffer: &mut [u8]| {
            buffer.iter_mut().enumerate().for_each(|(place, byte)| *byte = (place % 8) as u8);
            Ok(buffer.len())
        };
        assert_eq!(draw(pattern), Err(EntropyError::Pattern(entropy::Pattern { period: 8 })));
        let counter = |buffer: &mut [u8]| {
            buffer.iter_mut().enumerate().for_each(|(place, byte)| *byte = place as u8);
            Ok(buffer.len())
        };
        assert_eq!(draw(counter), Err(EntropyError::Pattern(entropy::Pattern { period: 32 })));
    }

    #[test]
    fn a_source_that_repeats_itself_is_noticed() {
        let same = |buffer: &mut [u8]| {
            buffer.copy_from_slice(cim_keys_core::digest::Digest::of(b"same").as_bytes());
            Ok(buffer.len())
        };
        let ambient = Ambient::new(Box::new(Broken(same)));
        assert!(ambient.entropy().is_ok());
        assert_eq!(ambient.entropy(), Err(EntropyError::Repeated));
        assert_eq!(ambient.now().millis(), 0);
    }

    #[test]
    fn command_ids_are_version_7_and_differ() {
        let ambient = Ambient::system();
        let (a, b) = (ambient.command_id().unwrap(), ambient.command_id().unwrap());
        assert_eq!((a.get_version_num(), b.get_version_num()), (7, 7));
        assert_ne!(a, b);
        assert_ne!(ambient.moment().unwrap().random, ambient.moment().unwrap().random);
    }

    #[test]
    fn a_fixed_source_gives_the_same_again() {
        let ambient = || Ambient::new(Box::new(Fixed::new(1_795_423_807_042, 0, 7)));
        assert_eq!(ambient().entropy(), ambient().entropy());
        assert_eq!(ambient().now(), ambient().now());
    }
}
