//! What is said to anybody has no seed in it.

/// Text without the seeds in it: an error repeats what was typed, and a seed may have been typed in a wrong place. What
/// is only a part of one, or has a wrong checksum, counts as well.
#[must_use]
pub fn redacted(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric();
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !is_word(c)).unwrap_or(from.len()));
        shown.push_str(before);
        shown.push_str(if is_seed(word) || shown.ends_with(AGE) { REDACTED } else { word });
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// What an age identity begins with.
const AGE: &str = "AGE-SECRET-KEY-";
/// What is said in a seed's place.
const REDACTED: &str = "(a seed, not shown)";
/// A seed's letters behind the two that name its kind.
const SEED: usize = 56;
/// A word that begins like a seed and is as long as this is a part of one.
const PART: usize = 30;

fn is_seed(word: &str) -> bool {
    let base32 = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'));
    let seed = |bytes: &[u8], least: usize| match bytes {
        [b'S', b'O' | b'A' | b'U' | b'N' | b'C' | b'X', rest @ ..] => rest.len() >= least && base32(rest),
        _ => false,
    };
    let bytes = word.as_bytes();
    seed(bytes, PART) || bytes.windows(SEED + 2).any(|part| seed(part, SEED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cim_keys_core::nkey::{KeyPair, Kind};

    #[test]
    fn a_seed_is_never_said() {
        for kind in [Kind::Operator, Kind::Account, Kind::User, Kind::Server, Kind::Cluster, Kind::Curve] {
            let pair = KeyPair::from_entropy(kind, [7; 32]);
            let seed = pair.seed();
            let seed = seed.expose();
            for text in [
                seed.to_owned(),
                format!("'{seed}'"),
                format!("--label={seed}x"),
                format!("\"a\\n{seed}\\n\""),
                format!("{seed} {seed}"),
                format!("no such: {}", &seed[..40]),
            ] {
                let shown = redacted(&text);
                assert!(!shown.contains(&seed[10..30]) && shown.contains("seed"), "{shown}");
            }
            let key = pair.public_key().to_string();
            assert_eq!(redacted(&key), key);
        }
        let age = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
        assert_eq!(redacted(age), "AGE-SECRET-KEY-(a seed, not shown)");
        for text in ["", "SUAAAA", "Ständig: SOME text, 56% of it", "\u{202e}", "a.b"] {
            assert_eq!(redacted(text), text);
        }
    }
}
