//! What happened, as a line of JSON on stderr. Never a seed, whoever put it there.

use crate::ambient::Ambient;
use crate::redact::redacted;
use serde_json::{Map, Value};
use std::io::Write as _;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Info,
    /// A person should know.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Writes a line. Members that are null are left out.
pub fn line(level: Level, message: &str, members: &[(&str, Value)]) {
    let mut line = Map::new();
    line.insert("time".into(), Ambient::system().now().to_string().into());
    line.insert("level".into(), level.as_str().into());
    line.insert("message".into(), message.into());
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        line.insert((*name).to_owned(), value.clone());
    }
    let text = redacted(&Value::Object(line).to_string());
    // Whoever reads may have gone away: that ends nothing.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
