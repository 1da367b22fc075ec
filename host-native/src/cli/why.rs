//! `cim-keys why`.

use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::{counted, printable};
use super::parse::Expiry;
use super::{resolve, why_words};
use crate::ambient::Ambient;
use crate::error::KeyError;
use crate::store::{Listed, Store};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::{Account, Entity, EntityId, Lookup, Operator, User};
use cim_keys_core::why::{Action, Answer, Parties, Question, QuestionError, why};
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

/// Users that are in memory at once.
const PORTION: u32 = 500;

/// Flags of `why`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status of an answer: 0 allowed, 10 denied.")]
#[command(group = clap::ArgGroup::new("action").required(true).args(["publish", "subscribe"]))]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["user", "who"]))]
pub(super) struct Args {
    /// The subject; wildcards for a subscription alone
    subject: String,
    /// The user, by name or public key
    #[arg(long, short = 'u', value_name = "USER")]
    user: Option<String>,
    /// List every user that may, instead of asking for one
    #[arg(long)]
    who: bool,
    /// Its account, by name or public key; needed where users of several accounts have the name
    #[arg(long, short = 'a', value_name = "ACCOUNT")]
    account: Option<String>,
    /// Whether it may publish to the subject
    #[arg(long)]
    publish: bool,
    /// Whether it may subscribe to the subject
    #[arg(long)]
    subscribe: bool,
    /// The subscription's queue group
    #[arg(long, value_name = "QUEUE", conflicts_with = "publish")]
    queue: Option<String>,
    /// Judge as if it were this time, for tokens that end: 12h, 30d, 2027-01-31; now where this is left out
    #[arg(long, value_name = "TIME")]
    when: Option<Expiry>,
}

/// Whom a question concerns.
#[derive(Clone, Debug)]
pub(super) struct Concerned {
    operator: Operator,
    account: Account,
    user: User,
    /// Whether the stream has all of it so.
    confirmed: bool,
}

/// The answer, with names.
#[derive(Serialize)]
struct Told {
    user: String,
    user_key: PublicKey,
    account: String,
    account_key: PublicKey,
    #[serde(flatten)]
    question: Question,
    #[serde(flatten)]
    answer: Answer,
    /// Verdict and rule in words.
    text: String,
    confirmed: bool,
}

#[derive(Serialize)]
struct Who {
    #[serde(flatten)]
    question: Question,
    /// Users that were asked about.
    asked: usize,
    users: Vec<Told>,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let store = globals.store()?;
    let now = Ambient::system().now();
    let question = Question {
        action: if args.publish { Action::Publish } else { Action::Subscribe },
        subject: args.subject.clone(),
        queue: args.queue.clone(),
        at: args.when.map_or(now.seconds(), |when| when.at(now)),
    };
    if args.when == Some(Expiry::Never) {
        return Err(CliError::usage("--when is a time, such as 12h or 2027-01-31"));
    }
    match &args.user {
        Some(user) => one(&store, args, user, question, globals),
        None => who(&store, args, question, globals),
    }
}

fn one(
    store: &Store,
    args: &Args,
    user: &str,
    question: Question,
    globals: &Globals,
) -> Result<(), CliError> {
    let listed = named(store, args.account.as_deref(), user)?;
    let told = tell(&concerned(store, &listed, &mut BTreeMap::new())?, question)?;
    globals.output().data(&told, |told| why_words::text(told.parts()))?;
    if told.answer.allowed {
        return Ok(());
    }
    // The answer stands on stdout; the status says the verdict again, for scripts.
    Err(CliError::new(Exit::Denied, told.answer.rule.code(), told.text).quiet())
}

fn who(store: &Store, args: &Args, question: Question, globals: &Globals) -> Result<(), CliError> {
    let account = args.account.as_deref().map(|account| resolve::account(store, account)).transpose()?;
    let account = account.map(|account| account.key);
    let output = globals.output();
    let (mut asked, mut users, mut after) = (0, Vec::new(), None);
    let mut parents = BTreeMap::new();
    loop {
        let portion = store.users_after(account, after, PORTION).map_err(KeyError::from)?;
        let Some(last) = portion.last() else { break };
        after = Some(last.entity.id());
        asked += portion.len();
        for listed in &portion {
            let mut told = tell(&concerned(store, listed, &mut parents)?, question.clone())?;
            // What was looked at is told to who asks for one user.
            told.answer.looked.clear();
            if !told.answer.allowed {
                continue;
            }
            if !output.is_lines() {
                users.push(told);
            } else if !output.row(&told)? {
                return Ok(());
            }
        }
    }
    if output.is_lines() {
        return Ok(());
    }
    users.sort_by(|a, b| (&a.account, &a.user).cmp(&(&b.account, &b.user)));
    output.data(&Who { question, asked, users }, |who| {
        let rows = who.users.iter().map(|told| {
            let words = why_words::rule(told.parts());
            vec![told.user.clone(), told.account.clone(), words, told.but().join("; ")]
        });
        let mut text = super::output::table(&["user", "account", "by", "but"], rows.collect());
        let users = counted(who.asked as u64, "user");
        let (may, subject) = (why_words::may(&who.question), printable(&who.question.subject));
        text.push_str(&format!("{} of {users} may {may} {subject}\n", who.users.len()));
        text
    })
}

/// The one live user of this name, or of this key. Each account is asked by its index of names, so that a registry's size does
/// not matter.
fn named(store: &Store, account: Option<&str>, user: &str) -> Result<Listed, CliError> {
    let account = account.map(|account| resolve::account(store, account)).transpose()?;
    let of_account = |listed: &Listed| match &listed.entity {
        Entity::User(user) => account.as_ref().is_none_or(|account| account.key == user.account),
        _ => false,
    };
    let mut found = match resolve::parsed(user)? {
        Some(key) => store.by_key(key).map_err(KeyError::from)?,
        None => live(store, account.as_ref().map(|account| account.key), user)?,
    };
    found.retain(of_account);
    if found.is_empty() {
        // Who was revoked holds its name no more.
        found = store.by_name(user).map_err(KeyError::from)?;
        found.retain(of_account);
    }
    match (found.pop(), found.is_empty()) {
        (Some(listed), true) => Ok(listed),
        (Some(listed), false) => {
            let all: Vec<String> = found.iter().chain([&listed]).map(|l| l.entity.id().to_string()).collect();
            Err(CliError::new(Exit::Conflict, "ambiguous", format!("several users are called {user:?}"))
                .hint(format!("name the account with --account, or the user by its key: {}", all.join(", "))))
        }
        (None, _) => Err(CliError::new(Exit::NotFound, "unknown-user", format!("there is no user {user:?}"))
            .hint("`cim-keys list users` shows them")),
    }
}

/// Users who hold this name, in one account or in any.
fn live(store: &Store, account: Option<PublicKey>, name: &str) -> Result<Vec<Listed>, CliError> {
    let accounts = match account {
        Some(account) => vec![account],
        None => {
            let listed = store.accounts().map_err(KeyError::from)?;
            listed.iter().map(|listed| listed.entity.key()).collect()
        }
    };
    let lookup = |parent: &PublicKey| Lookup::Name { parent: *parent, name: name.to_owned() };
    let lookups: Vec<Lookup> = accounts.iter().map(lookup).collect();
    let (facts, _) = store.facts(&lookups, true).map_err(KeyError::from)?;
    let mut found = Vec::new();
    for account in accounts {
        if let Ok(Some(EntityId::User { account, user })) = facts.name(account, name) {
            let listed = store.by_key(user).map_err(KeyError::from)?.into_iter();
            found.extend(listed.filter(|l| l.entity.id() == EntityId::User { account, user }));
        }
    }
    Ok(found)
}

/// An account and its operator, and whether the stream has both so.
type Parents = BTreeMap<PublicKey, (Operator, Account, bool)>;

/// Operator, account and user as the registry has them now, pending commands included; what was read of accounts is kept for
/// the next one. Another time's registry is asked here, and nowhere else.
fn concerned(store: &Store, listed: &Listed, parents: &mut Parents) -> Result<Concerned, CliError> {
    let Entity::User(user) = listed.entity.clone() else {
        return Err(CliError::unexpected(&"the entity is no user"));
    };
    let (operator, account, confirmed) = match parents.entry(user.account) {
        Slot::Occupied(known) => known.into_mut(),
        Slot::Vacant(slot) => slot.insert(parent(store, user.account)?),
    }
    .clone();
    Ok(Concerned { operator, account, user, confirmed: confirmed && listed.pending.is_none() })
}

fn parent(store: &Store, account: PublicKey) -> Result<(Operator, Account, bool), CliError> {
    let operator = EntityId::Operator(resolve::operator(store)?);
    let account = EntityId::Account(account);
    let lookups = [Lookup::Entity(operator), Lookup::Entity(account)];
    let (now, _) = store.facts(&lookups, true).map_err(KeyError::from)?;
    let (stream, _) = store.facts(&lookups, false).map_err(KeyError::from)?;
    let confirmed =
        now.entity(operator) == stream.entity(operator) && now.entity(account) == stream.entity(account);
    match (now.entity(operator), now.entity(account)) {
        (Ok(Some(Entity::Operator(o))), Ok(Some(Entity::Account(a)))) => {
            Ok((o.clone(), a.clone(), confirmed))
        }
        _ => Err(CliError::new(Exit::NotFound, "unknown-account", "the user's account is not known here")),
    }
}

fn tell(concerned: &Concerned, question: Question) -> Result<Told, CliError> {
    let Concerned { operator, account, user, confirmed } = concerned;
    let answer = why(&Parties { operator, account, user }, &question).map_err(|error| {
        let told = CliError::new(Exit::Validation, error.code(), error.to_string());
        match error {
            QuestionError::Wildcard => told.hint("ask for one subject, or with --subscribe"),
            _ => told,
        }
    })?;
    let mut told = Told {
        user: user.token.claims().name.clone(),
        user_key: user.key,
        account: account.token.claims().name.clone(),
        account_key: account.key,
        question,
        answer,
        text: String::new(),
        confirmed: *confirmed,
    };
    told.text = why_words::verdict(told.parts());
    Ok(told)
}

impl Told {
    fn parts(&self) -> why_words::Parts<'_> {
        why_words::Parts {
            user: &self.user,
            account: &self.account,
            question: &self.question,
            answer: &self.answer,
            confirmed: self.confirmed,
        }
    }

    fn but(&self) -> Vec<String> {
        let withheld = why_words::withheld(&self.answer);
        self.answer.conditions.iter().map(why_words::condition).chain(withheld).collect()
    }
}
