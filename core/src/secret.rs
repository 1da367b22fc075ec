//! Values that must not be seen: wiped on drop, not `Clone`, not `Serialize`, printed as a redaction.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

/// Secret UTF-8 text: a seed, a creds file, a token that opens a door by itself.
///
/// ```compile_fail
/// let secret = cim_keys_core::secret::SecretText::new(String::from("x"));
/// let copy = secret.clone();
/// ```
/// ```compile_fail
/// let secret = cim_keys_core::secret::SecretText::new(String::from("x"));
/// println!("{secret}");
/// ```
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes the text over; the buffer is wiped when this value is dropped.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

/// Secret bytes: a sealed store's content once opened, entropy on its way to a key.
///
/// ```compile_fail
/// let secret = cim_keys_core::secret::SecretBytes::new(vec![1]);
/// let copy = secret.clone();
/// ```
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over; the buffer is wiped when this value is dropped.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(redacted)")
    }
}

/// Overwrites what calls before this one left on the stack: a secret that was moved there has a copy that nobody wipes.
#[inline(never)]
pub(crate) fn scrub_stack() {
    // Deeper than any call that handles a key.
    let mut stack = [0u64; 1024];
    zeroize::Zeroize::zeroize(&mut stack);
    core::hint::black_box(&stack);
}

/// Fails to compile when `$type` implements `$trait`: the call below is then ambiguous.
#[cfg(test)]
macro_rules! assert_not_impl {
    ($type:ty, $trait:path) => {
        const _: fn() = || {
            trait Ambiguous<A> {
                fn check() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            struct Implemented;
            impl<T: ?Sized + $trait> Ambiguous<Implemented> for T {}
            let _ = <$type as Ambiguous<_>>::check;
        };
    };
}
#[cfg(test)]
pub(crate) use assert_not_impl;

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    assert_not_impl!(SecretText, Clone);
    assert_not_impl!(SecretText, serde::Serialize);
    assert_not_impl!(SecretText, fmt::Display);
    assert_not_impl!(SecretBytes, Clone);
    assert_not_impl!(SecretBytes, serde::Serialize);

    #[test]
    fn debug_is_a_redaction() {
        assert_eq!(format!("{:?}", SecretText::new("hunter2".to_string())), "SecretText(redacted)");
        assert_eq!(format!("{:#?}", SecretBytes::new(vec![7; 32])), "SecretBytes(redacted)");
    }

    #[test]
    fn expose_gives_the_secret_back() {
        assert_eq!(SecretText::new("hunter2".to_string()).expose(), "hunter2");
        assert_eq!(SecretBytes::new(vec![7; 2]).expose(), [7, 7]);
    }
}
