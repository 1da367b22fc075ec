//! Looks for seeds where none may stand.

use base32ct::{Base32UpperUnpadded, Encoding as _};
use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding as _};
use cim_keys_core::nkey::KeyPair;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What is searched for, by its first bytes, so that one walk over a file is enough.
#[derive(Default)]
pub struct Canaries(HashMap<[u8; 8], Vec<Vec<u8>>>);

impl Canaries {
    /// This key's seed shall be found in any form.
    ///
    /// # Panics
    /// When the seed is none.
    pub fn add(&mut self, key: &KeyPair) {
        for form in forms(key) {
            let begin = form[..8].try_into().expect("eight bytes");
            self.0.entry(begin).or_default().push(form);
        }
    }

    /// How many keys are looked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum::<usize>() / FORMS
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them stands in these bytes.
    #[must_use]
    pub fn stand_in(&self, bytes: &[u8]) -> bool {
        bytes.windows(8).enumerate().any(|(at, begin)| {
            let found = <[u8; 8]>::try_from(begin).ok().and_then(|begin| self.0.get(&begin));
            found.is_some_and(|forms| forms.iter().any(|form| bytes[at..].starts_with(form)))
        })
    }
}

/// How many forms a seed has here.
const FORMS: usize = 13;

/// A seed as text, raw, in hex and in base64 at each alignment.
fn forms(key: &KeyPair) -> Vec<Vec<u8>> {
    let seed = key.seed();
    let decoded = Base32UpperUnpadded::decode_vec(seed.expose()).expect("a seed");
    let raw = &decoded[2..34];
    let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![
        // Without its first and last characters: decorations may differ.
        seed.expose().as_bytes()[4..54].to_vec(),
        raw.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
    ];
    for skip in 0..3 {
        let whole = &raw[skip..skip + 27];
        forms.push(Base64Unpadded::encode_string(whole).into_bytes());
        forms.push(Base64UrlUnpadded::encode_string(whole).into_bytes());
        let text = &seed.expose().as_bytes()[skip..skip + 54];
        forms.push(Base64Unpadded::encode_string(text).into_bytes());
    }
    forms
}

/// All files below a folder.
///
/// # Panics
/// When the folder cannot be read.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
