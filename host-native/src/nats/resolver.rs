//! Account tokens on the servers, over the system account: who is there, what each has, an update.
//!
//! A full resolver stores what it is given: who asked must have checked it before, and read it back after.

use super::link::{Link, Trouble};
use cim_keys_core::nkey::PublicKey;
use serde_json::Value;
use std::time::Duration;

/// How long nobody may answer before all have.
const QUIET: Duration = Duration::from_millis(300);

/// A server's answer to an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Name of the server.
    pub server: String,
    /// Nothing, or why it refuses, in its words.
    pub refused: Option<String>,
}

/// Names of the servers that answer, each once.
///
/// # Errors
/// See [`Trouble`].
pub async fn servers(link: &Link) -> Result<Vec<String>, Trouble> {
    let answers = link.collect("$SYS.REQ.SERVER.PING", Vec::new(), usize::MAX, link.answer(), QUIET).await?;
    let mut found: Vec<(String, String)> = answers
        .iter()
        .filter_map(|answer| serde_json::from_slice::<Value>(answer).ok())
        .map(|answer| (text(&answer["server"]["id"]), text(&answer["server"]["name"])))
        .collect();
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

/// What each of `count` servers has for an account: its token, or nothing.
///
/// # Errors
/// See [`Trouble`]; [`Trouble::Timeout`] where fewer answer.
pub async fn lookup(link: &Link, account: PublicKey, count: usize) -> Result<Vec<Option<String>>, Trouble> {
    let subject = format!("$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP");
    let answers = link.collect(&subject, Vec::new(), count, link.answer(), link.answer()).await?;
    if answers.len() < count {
        return Err(Trouble::Timeout);
    }
    let token =
        |answer: &Vec<u8>| Some(String::from_utf8_lossy(answer).into_owned()).filter(|text| !text.is_empty());
    Ok(answers.iter().map(token).collect())
}

/// Gives each of `count` servers a token.
///
/// # Errors
/// See [`Trouble`]; [`Trouble::Timeout`] where fewer answer.
pub async fn update(link: &Link, token: &str, count: usize) -> Result<Vec<Update>, Trouble> {
    let answers = link
        .collect("$SYS.REQ.CLAIMS.UPDATE", token.as_bytes().to_vec(), count, link.answer(), link.answer())
        .await?;
    if answers.len() < count {
        return Err(Trouble::Timeout);
    }
    Ok(answers.iter().map(|answer| status(answer)).collect())
}

fn status(answer: &[u8]) -> Update {
    let value = serde_json::from_slice::<Value>(answer).unwrap_or_default();
    let server = text(&value["server"]["name"]);
    let message = value["data"]["message"].as_str();
    let refused = match (message, &value["error"]) {
        // Told apart from what is stored: a server without a full resolver skips what it has not loaded.
        (Some(message), Value::Null) if message.starts_with("jwt updated") => None,
        (Some(message), Value::Null) => Some(message.to_owned()),
        (_, error) => Some(text(&error["description"])),
    };
    Update {
        server,
        refused: refused.map(|text| text.chars().filter(|c| !c.is_control()).take(300).collect()),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let read = |text: &str| status(text.as_bytes()).refused;
        assert_eq!(
            read(r#"{"server":{"name":"a"},"data":{"account":"A","code":200,"message":"jwt updated"}}"#),
            None
        );
        let skipped = r#"{"server":{},"data":{"code":200,"message":"jwt update skipped"}}"#;
        assert_eq!(read(skipped), Some("jwt update skipped".into()));
        let failed = r#"{"server":{},"error":{"code":500,"description":"jwt update resulted in error - x"}}"#;
        assert_eq!(read(failed), Some("jwt update resulted in error - x".into()));
        assert_eq!(read("garbage"), Some(String::new()));
    }
}
