//! Creds files: a user's token and seed as NATS clients read them (`nats-identity` §2).

use alloc::string::String;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::jwt::{DecodeError, Token};
use crate::nkey::{KeyPair, Kind, PublicKey, SeedError};
use crate::secret::SecretText;

const HEAD: &str = "-----BEGIN NATS USER JWT-----\n";
const MIDDLE: &str = "\n------END NATS USER JWT------\n\n\
    ************************* IMPORTANT *************************\n\
    NKEY Seed printed below can be used to sign and prove identity.\n\
    NKEYs are sensitive and should be treated as secrets.\n\n\
    -----BEGIN USER NKEY SEED-----\n";
const TAIL: &str = "\n------END USER NKEY SEED------\n\n\
    *************************************************************\n";

/// A user's token and the key that proves it is this user's.
#[derive(Debug)]
pub struct Creds {
    /// The user's token; its signature holds.
    pub token: Token,
    /// The user's key pair; its public key is the token's subject.
    pub key: KeyPair,
}

/// The text of a creds file, the bytes that the Go library writes.
///
/// # Errors
/// A token that is no user's, or a key that is not the token's subject.
pub fn format(token: &Token, key: &KeyPair) -> Result<SecretText, CredsError> {
    check(token, key)?;
    let seed = key.seed();
    let parts = [HEAD, token.as_str(), MIDDLE, seed.expose(), TAIL];
    // Reserved at once, so that no shorter buffer is left behind unwiped.
    let mut text = String::with_capacity(parts.iter().map(|part| part.len()).sum());
    text.extend(parts);
    Ok(SecretText::new(text))
}

/// Reads a creds file by the labels of its blocks: CRLF, a byte order mark, blank lines and white space around lines
/// do no harm. A file that another reader would take wrongly (the seed for the token) is refused.
///
/// # Errors
/// [`CredsError`], which never carries any of the text.
pub fn parse(text: &str) -> Result<Creds, CredsError> {
    let blocks = Blocks::read(text)?;
    let token = blocks.token.ok_or(CredsError::NoToken)?;
    let seed = blocks.seed.ok_or(CredsError::NoSeed)?;
    if !token.starts_with("eyJ") || token.split('.').count() != 3 {
        return Err(CredsError::NotAToken);
    }
    let key = KeyPair::from_seed(&Zeroizing::new(String::from(seed))).map_err(CredsError::Seed)?;
    let token = Token::parse(token).map_err(CredsError::Token)?;
    check(&token, &key)?;
    Ok(Creds { token, key })
}

fn check(token: &Token, key: &KeyPair) -> Result<(), CredsError> {
    let claims = token.claims();
    if claims.body.as_user().is_none() {
        return Err(CredsError::TokenKind { found: claims.body.kind() });
    }
    if key.kind() != Kind::User {
        return Err(CredsError::SeedKind { found: key.kind() });
    }
    if claims.subject != key.public_key() {
        return Err(CredsError::Mismatch { token: claims.subject, seed: key.public_key() });
    }
    Ok(())
}

#[derive(Default)]
struct Blocks<'a> {
    token: Option<&'a str>,
    seed: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Token,
    Seed,
}

enum Line<'a> {
    Begin(Label),
    End(Label),
    Rule,
    Text(&'a str),
}

impl<'a> Blocks<'a> {
    fn read(text: &'a str) -> Result<Self, CredsError> {
        let mut blocks = Self::default();
        let mut open: Option<(Label, Option<&'a str>)> = None;
        for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
            open = match (Line::of(line.trim()), open) {
                (Line::Begin(label), None) => Some((label, None)),
                (Line::End(label), Some((begun, content))) if label == begun => {
                    blocks.close(label, content)?;
                    None
                }
                (Line::Text(""), open) => open,
                (Line::Text(content), Some((label, None))) => Some((label, Some(content))),
                (Line::Text(_), Some((_, Some(_)))) => return Err(CredsError::Wrapped),
                // What stands outside of blocks is talk.
                (Line::Text(_) | Line::Rule, None) => None,
                _ => return Err(CredsError::Layout),
            };
        }
        if open.is_some() { Err(CredsError::Layout) } else { Ok(blocks) }
    }

    fn close(&mut self, label: Label, content: Option<&'a str>) -> Result<(), CredsError> {
        let place = match label {
            Label::Token if self.seed.is_some() => return Err(CredsError::SeedFirst),
            Label::Token => &mut self.token,
            Label::Seed => &mut self.seed,
        };
        if place.is_some() {
            return Err(CredsError::Twice);
        }
        *place = content;
        Ok(())
    }
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Self {
        if !(line.starts_with("---") && line.ends_with("---")) {
            return Self::Text(line);
        }
        let words = line.trim_matches('-').trim();
        let label = if words.ends_with("JWT") {
            Label::Token
        } else if words.ends_with("SEED") {
            Label::Seed
        } else {
            return Self::Rule;
        };
        match words.split_once(' ') {
            Some(("BEGIN", _)) => Self::Begin(label),
            Some(("END", _)) => Self::End(label),
            _ => Self::Rule,
        }
    }
}

/// Why a text is no creds file, or token and key make none. Never carries any of the text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CredsError {
    /// No block labelled as a JWT, or an empty one.
    #[error("the creds have no user JWT between its BEGIN and END lines")]
    NoToken,
    /// No block labelled as a seed, or an empty one.
    #[error("the creds have no user seed between its BEGIN and END lines")]
    NoSeed,
    /// BEGIN and END lines that do not pair up.
    #[error("the BEGIN and END lines of the creds do not pair up: part of the file is missing or mixed up")]
    Layout,
    /// A block of more than one line.
    #[error("the JWT and the seed must each stand on one line")]
    Wrapped,
    /// The same block twice.
    #[error("the creds hold more than one JWT or more than one seed")]
    Twice,
    /// The seed stands before the JWT: other readers would send it to the server.
    #[error(
        "the seed stands before the JWT: other programs would take it for the JWT and send it to the server"
    )]
    SeedFirst,
    /// What is labelled as a JWT is none.
    #[error("what is labelled as the JWT is none")]
    NotAToken,
    /// The token does not read or verify.
    #[error("the JWT of the creds is not valid: {0}")]
    Token(DecodeError),
    /// The seed does not read.
    #[error("the seed of the creds is not valid: {0}")]
    Seed(SeedError),
    /// The token is no user's.
    #[error("creds hold the JWT of a user, this is one of an {found}")]
    TokenKind {
        /// What the token is about.
        found: Kind,
    },
    /// The seed is no user's.
    #[error("creds hold the seed of a user, this is one of kind {found}")]
    SeedKind {
        /// The kind of the seed.
        found: Kind,
    },
    /// Token and seed belong to different users.
    #[error("the JWT is for {token}, the seed is that of {seed}")]
    Mismatch {
        /// The token's subject.
        token: PublicKey,
        /// The public key of the seed.
        seed: PublicKey,
    },
}

impl CredsError {
    /// A stable name for this error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "creds.no_token",
            Self::NoSeed => "creds.no_seed",
            Self::Layout => "creds.layout",
            Self::Wrapped => "creds.wrapped",
            Self::Twice => "creds.twice",
            Self::SeedFirst => "creds.seed_first",
            Self::NotAToken => "creds.not_a_token",
            Self::Token(_) => "creds.token",
            Self::Seed(_) => "creds.seed",
            Self::TokenKind { .. } => "creds.token_kind",
            Self::SeedKind { .. } => "creds.seed_kind",
            Self::Mismatch { .. } => "creds.mismatch",
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;
    use crate::jwt::{Body, Claims, Grant, Operator, Unknown, User, UserRights, encode};
    use crate::secret::assert_not_impl;

    assert_not_impl!(Creds, Clone);
    assert_not_impl!(Creds, serde::Serialize);

    const SEED: &str = "SUAAGAYDAMBQGAYDAMBQGAYDAMBQGAYDAMBQGAYDAMBQGAYDAMBQGA6BEM";

    fn signed(signer: &KeyPair, subject: PublicKey, body: Body) -> Token {
        let claims = Claims {
            audience: String::new(),
            expires: 0,
            issued_at: 1_795_423_807,
            issuer: signer.public_key(),
            name: "u".to_string(),
            not_before: 0,
            subject,
            body,
            unknown: Unknown::default(),
        };
        let unsigned = encode(&claims).unwrap();
        let signature = signer.sign(unsigned.as_str().as_bytes()).unwrap();
        unsigned.with_signature(signature).unwrap()
    }

    fn user() -> (Token, KeyPair) {
        let account = KeyPair::from_entropy(Kind::Account, [2; 32]);
        let user = KeyPair::from_entropy(Kind::User, [3; 32]);
        let grant = Grant::Own(UserRights::default().into());
        let body =
            Body::User(User { issuer_account: None, grant, tags: [].into(), unknown: Unknown::default() });
        (signed(&account, user.public_key(), body), user)
    }

    fn text() -> String {
        let (token, key) = user();
        format(&token, &key).unwrap().expose().to_string()
    }

    fn refusal(text: &str) -> CredsError {
        let error = parse(text).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(&SEED[4..20]) && !shown.contains(&SEED[30..50]), "{shown}");
        assert!(error.code().starts_with("creds."));
        error
    }

    #[test]
    fn text_is_that_of_the_go_library() {
        let (token, _) = user();
        let expected = [
            "-----BEGIN NATS USER JWT-----",
            token.as_str(),
            "------END NATS USER JWT------",
            "",
            "************************* IMPORTANT *************************",
            "NKEY Seed printed below can be used to sign and prove identity.",
            "NKEYs are sensitive and should be treated as secrets.",
            "",
            "-----BEGIN USER NKEY SEED-----",
            SEED,
            "------END USER NKEY SEED------",
            "",
            "*************************************************************",
            "",
        ]
        .join("\n");
        assert_eq!(text(), expected);
    }

    #[test]
    fn what_is_written_is_read() {
        let (token, key) = user();
        let creds = parse(&text()).unwrap();
        assert_eq!(creds.token, token);
        assert_eq!(creds.key.public_key(), key.public_key());
        let shown = format!("{creds:?} {creds:#?}");
        assert!(shown.contains("redacted") && !shown.contains(&SEED[4..20]));
    }

    #[test]
    fn variations_are_read() {
        let text = text();
        for other in [
            text.replace('\n', "\r\n"),
            format!("\u{feff}{text}"),
            text.replace("\n", "\n\n"),
            text.replace("\n", "\n  "),
            text.replace("\n", " \t\n"),
            text.replace("------", "---").replace("-----", "---"),
            text.trim_end().to_string(),
            text.replace("can be used to sign", "can be used sign"),
            text.split("\n\n****").next().unwrap().to_string()
                + "\n"
                + text.split("secrets.\n\n").nth(1).unwrap(),
        ] {
            assert!(parse(&other).is_ok(), "{other}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let text = text();
        let (jwt, seed) = text.split_once("*************************").unwrap();
        let swapped = format!("*{seed}\n{jwt}");
        assert_eq!(refusal(""), CredsError::NoToken);
        assert_eq!(refusal(SEED), CredsError::NoToken);
        assert_eq!(refusal(jwt), CredsError::NoSeed);
        assert_eq!(refusal(seed), CredsError::NoToken);
        assert_eq!(refusal(&swapped), CredsError::SeedFirst);
        assert_eq!(refusal(&format!("{text}{seed}")), CredsError::Twice);
        assert_eq!(refusal(&text.replacen("------END NATS", "END", 1)), CredsError::Wrapped);
        assert_eq!(refusal(text.split("\n------END USER NKEY").next().unwrap()), CredsError::Layout);
        assert_eq!(refusal(&text.replace("NATS USER JWT", "USER NKEY SEED")), CredsError::Twice);
        assert_eq!(
            refusal(&text.replace(SEED, &SEED[..57])),
            CredsError::Seed(SeedError::Length { expected: 58, found: 57 })
        );
        // A seed where the token belongs is not shown, and not taken for one.
        let (token, _) = user();
        assert_eq!(refusal(&text.replace(token.as_str(), SEED)), CredsError::NotAToken);
        let wrapped = format!("{}\n{}", &token.as_str()[..64], &token.as_str()[64..]);
        assert_eq!(refusal(&text.replace(token.as_str(), &wrapped)), CredsError::Wrapped);
        let account = KeyPair::from_entropy(Kind::Account, [3; 32]).seed();
        assert_eq!(
            refusal(&text.replace(SEED, account.expose())),
            CredsError::SeedKind { found: Kind::Account }
        );
        let other = KeyPair::from_entropy(Kind::User, [9; 32]);
        assert_eq!(
            refusal(&text.replace(SEED, other.seed().expose())),
            CredsError::Mismatch { token: token.claims().subject, seed: other.public_key() }
        );
    }

    #[test]
    fn only_a_users_token_and_key_make_creds() {
        let (token, key) = user();
        let operator = KeyPair::from_entropy(Kind::Operator, [1; 32]);
        let other = signed(&operator, operator.public_key(), Body::Operator(Operator::default()));
        assert_eq!(format(&other, &key).unwrap_err(), CredsError::TokenKind { found: Kind::Operator });
        assert_eq!(format(&token, &operator).unwrap_err(), CredsError::SeedKind { found: Kind::Operator });
        let stranger = KeyPair::from_entropy(Kind::User, [9; 32]);
        assert!(matches!(format(&token, &stranger), Err(CredsError::Mismatch { .. })));
    }

    #[test]
    fn each_changed_byte_of_token_and_seed_is_noticed() {
        let text = text();
        let (token, _) = user();
        let spans = [token.as_str(), SEED].map(|part| {
            let start = text.find(part).unwrap();
            start..start + part.len()
        });
        for (index, span) in spans.into_iter().enumerate() {
            // Each verification costs; a sample of the token's payload will do.
            for at in span.filter(|at| index == 1 || at % 5 == 0) {
                for to in ["A", "7", "-", "x", ".", "\n", "é"] {
                    if &text[at..=at] == to {
                        continue;
                    }
                    refusal(&format!("{}{to}{}", &text[..at], &text[at + 1..]));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(lines in prop::collection::vec(
            prop_oneof![
                Just("-----BEGIN NATS USER JWT-----".to_string()),
                Just("------END NATS USER JWT------".to_string()),
                Just("-----BEGIN USER NKEY SEED-----".to_string()),
                Just("------END USER NKEY SEED------".to_string()),
                Just(SEED.to_string()),
                Just("eyJ.eyJ.x".to_string()),
                ".{0,20}",
            ],
            0..12,
        )) {
            refusal(&lines.join("\n"));
        }
    }
}
