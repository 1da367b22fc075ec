//! Text that somebody wrote and that every reader of a stream sees, for ever: names, labels, tags, actors.

use crate::nkey::KeyPair;

/// Whether a text is what it looks like, and no secret: no white space at its ends, no control character, nothing
/// invisible, nothing that turns the order of what stands beside it, and no seed in it.
pub(crate) fn is_plain(text: &str) -> bool {
    text.trim() == text && !text.chars().any(|c| c.is_control() || is_hidden(c)) && !has_seed(text)
}

/// A seed that was pasted where a name belongs, alone or among other words.
fn has_seed(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| KeyPair::from_seed(word).is_ok())
}

/// Characters that show nothing or change how others are shown (Unicode's default ignorable ones, separators of lines
/// and paragraphs, the blank Braille pattern).
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nkey::Kind;
    use alloc::format;

    #[test]
    fn names_of_people_and_things_are_plain() {
        for text in ["", "alice", "Ann Bär", "a.b-c_d", "日本語", "team:blue", "😀", "SUAAAA"] {
            assert!(is_plain(text), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_as_it_looks_is_refused() {
        for text in [
            " a",
            "a ",
            "\u{a0}a",
            "a\u{3000}",
            "a\tb",
            "a\u{85}",
            "a\u{200b}b",
            "a\u{ad}b",
            "\u{202e}a",
            "a\u{2066}b",
            "\u{feff}a",
            "a\u{2028}b",
            "a\u{e0041}",
            "\u{3164}",
        ] {
            assert!(!is_plain(text), "{text:?}");
        }
    }

    #[test]
    fn seeds_are_refused() {
        for kind in [Kind::Operator, Kind::Account, Kind::User, Kind::Curve, Kind::Server, Kind::Cluster] {
            let seed = KeyPair::from_entropy(kind, *crate::digest::Digest::of(b"seed").as_bytes()).seed();
            let seed = seed.expose();
            assert!(
                !is_plain(seed)
                    && !is_plain(&format!("of alice: {seed}."))
                    && !is_plain(&format!("k={seed}"))
            );
            assert!(is_plain(&seed[1..]), "a part of one is a word like others");
        }
    }
}
