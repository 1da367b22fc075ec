//! A small seeded generator: xoshiro256** filled by splitmix64, so that a seed means the same on every machine.

/// Random numbers that a seed and a purpose determine.
#[derive(Clone, Debug)]
pub(crate) struct Rng([u64; 4]);

impl Rng {
    /// A stream of its own for each purpose: switching one thing off leaves the others as they were.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut state = seed ^ 0x6b65_7973_2d73_696d;
        for byte in purpose.bytes() {
            state = split(&mut state) ^ u64::from(byte);
        }
        Self(core::array::from_fn(|_| split(&mut state)))
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= t;
        *d = d.rotate_left(45);
        result
    }

    /// Less than `limit`; 0 where that is 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // The bias of a remainder does not matter for limits that are tiny beside 2^64.
        self.next() % limit.max(1)
    }

    /// At least `from`, at most `to`.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// True in so many of a thousand cases.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of them.
    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let place = usize::try_from(self.below(list.len() as u64)).unwrap_or(0);
        list.get(place)
    }

    /// Random bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.next().to_le_bytes()[0])
    }
}

/// One step of splitmix64.
fn split(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_purpose_determine_the_numbers() {
        let list = |seed, purpose| {
            let mut rng = Rng::new(seed, purpose);
            (0..8).map(|_| rng.next()).collect::<Vec<_>>()
        };
        assert_eq!(list(1, "a"), list(1, "a"));
        assert_ne!(list(1, "a"), list(1, "b"));
        assert_ne!(list(1, "a"), list(2, "a"));
    }

    #[test]
    fn limits_are_kept() {
        let mut rng = Rng::new(7, "limits");
        assert!((0..1000).all(|_| (3..=5).contains(&rng.between(3, 5))));
        assert_eq!((rng.below(0), rng.pick::<u8>(&[])), (0, None));
        assert!((0..1000).filter(|_| rng.chance(500)).count().abs_diff(500) < 100);
    }
}
