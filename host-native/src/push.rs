//! Recorded is not enforced: brings account tokens to every server, and reads them back.
//!
//! Only the newest token that is confirmed on the stream is pushed, and only over a token that the registry knows: an
//! unconfirmed one would undo another host's revocation, and an unknown one is somebody's work that must be seen.

use crate::error::KeyError;
use crate::host::Host;
use crate::nats::link::{Link, Trouble};
use crate::nats::resolver;
use crate::store::{Pushed, Store, StoreError};
use cim_keys_core::envelope;
use cim_keys_core::jwt::{Token, TokenId};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::{Account, Entity, EntityId, Lookup};
use serde::Serialize;
use std::collections::BTreeSet;

/// What is pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// Also tokens that are not confirmed, over exactly the newest confirmed one: the way out for a revocation that cannot
    /// be confirmed.
    pub unconfirmed: bool,
    /// Also over tokens that the registry does not know.
    pub repair: bool,
    /// Look only.
    pub dry_run: bool,
}

/// How one account stands on the servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountPush {
    /// Identity key.
    pub account: PublicKey,
    /// Its name.
    pub name: String,
    /// The token that is or would be pushed.
    pub token: Option<TokenId>,
    /// How it stands.
    #[serde(flatten)]
    pub state: State,
}

/// How an account stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Every server had it.
    Enforced,
    /// It was pushed now, and read back from every server.
    Pushed,
    /// It would be pushed.
    Due,
    /// The account is not confirmed on the stream: `sync` first.
    Unconfirmed,
    /// A server has a token that this host has decided but that is not confirmed: left as it is.
    Ahead,
    /// A server has a token that the registry does not know.
    Drift {
        /// What it is.
        found: String,
    },
    /// A server refuses it.
    Refused {
        /// Server and its words.
        reason: String,
    },
}

/// How the servers stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Names of the servers that answered.
    pub servers: Vec<String>,
    /// Account by account.
    pub accounts: Vec<AccountPush>,
}

impl Report {
    /// Whether every account is in force on every server.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        self.accounts
            .iter()
            .all(|account| matches!(account.state, State::Enforced | State::Pushed | State::Ahead))
    }
}

/// One round over all accounts of the registry. The caller has caught up before, and does so after: a token that another
/// host replaced meanwhile needs another round.
///
/// # Errors
/// See [`PushError`].
pub async fn round(host: &Host, link: &Link, mode: Mode) -> Result<Report, PushError> {
    let listed = host.store().accounts()?;
    let listed: Vec<PublicKey> = listed.iter().map(|account| account.entity.key()).collect();
    some(host, link, &listed, mode).await
}

/// The same over these accounts alone. Those that the registry does not know are left out.
///
/// # Errors
/// See [`PushError`].
pub async fn some(host: &Host, link: &Link, keys: &[PublicKey], mode: Mode) -> Result<Report, PushError> {
    let servers =
        resolver::servers(link).await.map_err(|trouble| answerless("$SYS.REQ.SERVER.PING", trouble))?;
    let mut accounts = Vec::with_capacity(keys.len());
    for key in keys {
        let Some(known) = account(host.store(), *key, true)? else { continue };
        let mut push = one(host, link, *key, servers.len(), mode).await?;
        push.name.clone_from(&known.token.claims().name);
        accounts.push(push);
    }
    Ok(Report { servers, accounts })
}

/// Whether every server had the newest confirmed token of an account when it was looked at last.
///
/// # Errors
/// The store cannot be read.
pub fn is_in_force(store: &Store, key: PublicKey) -> Result<bool, PushError> {
    let Some(newest) = account(store, key, false)? else { return Ok(false) };
    Ok(store.pushed(key)?.is_some_and(|pushed| pushed.done && pushed.token == newest.token.id()))
}

/// Whether what a report says was pushed is still the newest that is confirmed.
///
/// # Errors
/// The store cannot be read.
pub fn is_current(store: &Store, report: &Report) -> Result<bool, PushError> {
    for pushed in &report.accounts {
        let newest = account(store, pushed.account, false)?.map(|account| account.token.id());
        if newest.is_some()
            && matches!(pushed.state, State::Enforced | State::Pushed)
            && pushed.token != newest
        {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn one(
    host: &Host,
    link: &Link,
    key: PublicKey,
    servers: usize,
    mode: Mode,
) -> Result<AccountPush, PushError> {
    let store = host.store();
    let confirmed = account(store, key, false)?;
    let decided = account(store, key, true)?;
    let newest = if mode.unconfirmed { decided.as_ref().or(confirmed.as_ref()) } else { confirmed.as_ref() };
    let told = |token: Option<&Account>, state| AccountPush {
        account: key,
        name: String::new(),
        token: token.map(|account| account.token.id()),
        state,
    };
    let Some(newest) = newest else { return Ok(told(None, State::Unconfirmed)) };
    let text = checked(store, newest)?;
    let found = look(link, key, servers).await?;
    if found.iter().all(|found| found.as_deref() == Some(text.as_str())) {
        if !mode.dry_run {
            note(host, newest, servers, true)?;
        }
        return Ok(told(Some(newest), State::Enforced));
    }
    let pending = decided.as_ref().map(|account| account.token.id()).filter(|id| *id != newest.token.id());
    let mut known = None;
    for other in found.iter().flatten().filter(|other| **other != text) {
        let id = Token::parse(other.trim()).ok().map(|token| token.id());
        if id.is_some() && id == pending {
            return Ok(told(Some(newest), State::Ahead));
        }
        let is_known = if mode.unconfirmed {
            id.is_some() && id == confirmed.as_ref().map(|account| account.token.id())
        } else {
            let known = match &known {
                Some(known) => known,
                None => known.insert(tokens(store, key)?),
            };
            id.is_some_and(|id| known.contains(&id))
        };
        if !is_known && !mode.repair {
            let found = describe(other);
            return Ok(told(Some(newest), State::Drift { found }));
        }
    }
    if mode.dry_run {
        return Ok(told(Some(newest), State::Due));
    }
    note(host, newest, 0, false)?;
    let answers = resolver::update(link, &text, servers)
        .await
        .map_err(|trouble| answerless("$SYS.REQ.CLAIMS.UPDATE", trouble))?;
    if let Some(refused) = answers.iter().find(|answer| answer.refused.is_some()) {
        let reason = format!("{}: {}", refused.server, refused.refused.as_deref().unwrap_or_default());
        return Ok(told(Some(newest), State::Refused { reason }));
    }
    let back = look(link, key, servers).await?;
    if back.iter().any(|found| found.as_deref() != Some(text.as_str())) {
        return Ok(told(Some(newest), State::Refused { reason: "a server gives another token back".into() }));
    }
    note(host, newest, servers, true)?;
    Ok(told(Some(newest), State::Pushed))
}

async fn look(link: &Link, key: PublicKey, servers: usize) -> Result<Vec<Option<String>>, PushError> {
    let subject = "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP";
    resolver::lookup(link, key, servers).await.map_err(|trouble| answerless(subject, trouble))
}

fn answerless(subject: &str, trouble: Trouble) -> PushError {
    match trouble {
        Trouble::NoResponders => PushError::NoResolver,
        trouble => PushError::NoAnswer { subject: subject.to_owned(), trouble },
    }
}

/// The token's text, if a server that trusts this operator will apply it.
fn checked(store: &Store, account: &Account) -> Result<String, PushError> {
    let untrusted = |reason: &str| PushError::Untrusted { account: account.key, reason: reason.to_owned() };
    let text = account.token.text().ok_or_else(|| untrusted("it is not signed"))?;
    let token = Token::parse(&text).map_err(|error| untrusted(&error.to_string()))?;
    let operator = store.registry_id()?.operator;
    let (facts, _) = store.facts(&[Lookup::Entity(EntityId::Operator(operator))], true)?;
    let listed = match facts.entity(EntityId::Operator(operator)) {
        Ok(Some(Entity::Operator(found))) => {
            found.token.claims().body.as_operator().map(|body| body.signing_keys.clone())
        }
        _ => None,
    };
    if !listed.unwrap_or_default().contains(&token.claims().issuer) {
        return Err(untrusted("its issuer is no signing key of the operator any more"));
    }
    Ok(text)
}

fn note(host: &Host, account: &Account, servers: usize, done: bool) -> Result<(), PushError> {
    let pushed = Pushed {
        account: account.key,
        token: account.token.id(),
        at: host.ambient().now(),
        servers: u32::try_from(servers).unwrap_or(u32::MAX),
        done,
    };
    // What is known already is not written again.
    let known = host.store().pushed(account.key)?;
    if known
        .is_some_and(|known| (known.token, known.servers, known.done) == (pushed.token, pushed.servers, done))
    {
        return Ok(());
    }
    Ok(host.store().note_pushed(&pushed)?)
}

fn account(store: &Store, key: PublicKey, with_overlay: bool) -> Result<Option<Account>, PushError> {
    let id = EntityId::Account(key);
    let (facts, _) = store.facts(&[Lookup::Entity(id)], with_overlay)?;
    Ok(match facts.entity(id) {
        Ok(Some(Entity::Account(account))) => Some(account.clone()),
        _ => None,
    })
}

/// Every token that the stream ever gave an account, by admitted events.
fn tokens(store: &Store, key: PublicKey) -> Result<BTreeSet<TokenId>, PushError> {
    const PAGE: u32 = 1000;
    let ignored: BTreeSet<u64> =
        store.anomalies()?.into_iter().flat_map(|anomaly| anomaly.sequences).collect();
    let mut known = BTreeSet::new();
    let mut after = 0;
    loop {
        let page = store.trail(after, PAGE)?;
        let Some(last) = page.last() else { return Ok(known) };
        after = last.sequence;
        for entry in page
            .iter()
            .filter(|entry| entry.subject.contains(".account.") && !ignored.contains(&entry.sequence))
        {
            if let Ok(opened) = envelope::decode(&entry.subject, &entry.headers, &entry.payload)
                && opened.event.entity == key
                && let Some(token) = &opened.event.token
            {
                known.insert(token.jwt.id());
            }
        }
    }
}

fn describe(token: &str) -> String {
    match Token::parse(token.trim()) {
        Ok(token) => format!(
            "token {} of {} issued at {}",
            token.id(),
            token.claims().issuer,
            token.claims().issued_at
        ),
        Err(error) => format!("no valid token ({error})"),
    }
}

/// Why nothing is known of the servers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// Store or keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The servers take no pushes.
    #[error("the server has no full resolver: it takes accounts from its configuration alone")]
    NoResolver,
    /// Not every server answered.
    #[error("{subject}: {trouble}")]
    NoAnswer {
        /// Asked there.
        subject: String,
        /// Why.
        trouble: Trouble,
    },
    /// A token that servers would store and not apply.
    #[error("the token of account {account} is not pushed: {reason}")]
    Untrusted {
        /// The account.
        account: PublicKey,
        /// Why.
        reason: String,
    },
}

impl From<StoreError> for PushError {
    fn from(error: StoreError) -> Self {
        Self::Key(error.into())
    }
}

impl PushError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Key(error) => error.code(),
            Self::NoResolver => "no-resolver",
            Self::NoAnswer { trouble: Trouble::Permission { .. }, .. } => "permission",
            Self::NoAnswer { trouble: Trouble::Authorization { .. }, .. } => "authorization",
            Self::NoAnswer { .. } => "no-answer",
            Self::Untrusted { .. } => "untrusted",
        }
    }
}
