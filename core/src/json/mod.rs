//! JSON: text to values and back, in one way on every host.
//!
//! A tree ([`Json`]) where nobody has a type for what comes, and serde's data model ([`from_slice`], [`to_text`]) where
//! somebody has. Written is what serde_json writes, byte for byte. What serde_json has and nobody here needs is left
//! out (fractions, readers, pretty text): each typed value costs a browser little, since all that is not about its type
//! is compiled once.

mod de;
mod scan;
mod ser;
#[cfg(test)]
mod tests;
mod tree;

use alloc::string::String;
use serde::{Deserialize, Serialize};

pub(crate) use tree::write_text;
pub use tree::{Json, Number};

/// Levels of a typed value: deeper than any of ours, shallow enough for the smallest stack.
const TYPED_DEPTH: usize = 128;

/// A text is no JSON, or not of the shape that is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// No JSON, or another kind of value than is expected.
    #[error("unexpected from byte {at} on")]
    Syntax {
        /// Offset in bytes.
        at: usize,
    },
    /// Nested too deeply.
    #[error("deeper than {limit} levels")]
    Depth {
        /// Levels allowed.
        limit: usize,
    },
    /// A member stands twice.
    #[error("member {member} stands twice")]
    Duplicate {
        /// Its name.
        member: String,
    },
    /// JSON of another shape.
    #[error("{text}")]
    Shape {
        /// What is expected, or what is too much.
        text: String,
    },
}

/// Reads a value from JSON text in UTF-8, and nothing behind it.
///
/// # Errors
/// See [`JsonError`].
pub fn from_slice<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, JsonError> {
    let read = || {
        let mut scanner = scan::Scanner::utf8(text, TYPED_DEPTH)?;
        let value = T::deserialize(&mut scanner)?;
        scanner.end()?;
        Ok(value)
    };
    read().map_err(|fault: de::Fault| *fault.0)
}

/// The same from a string.
///
/// # Errors
/// See [`JsonError`].
pub fn from_text<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, JsonError> {
    from_slice(text.as_bytes())
}

/// Writes a value as JSON without white space.
///
/// # Errors
/// The value holds what has no place here: a fraction, bytes, a map whose keys are no texts.
pub fn to_text<T: Serialize + ?Sized>(value: &T) -> Result<String, JsonError> {
    let mut writer = ser::Writer::default();
    value.serialize(&mut writer).map_err(|fault| *fault.0)?;
    Ok(writer.into_text())
}
