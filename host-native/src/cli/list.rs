//! `cim-keys list`.

use super::at::{At, Moment};
use super::entities::{HeldView, View, Viewer, marks};
use super::exit::CliError;
use super::globals::Globals;
use super::output::{Output, table};
use super::{key, resolve};
use crate::ambient::Ambient;
use crate::error::KeyError;
use crate::store::{Listed, Store};
use cim_keys_core::nkey::PublicKey;
use serde::Serialize;

/// Flags of `list`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to list
    #[arg(value_enum, default_value_t)]
    what: What,
    /// Only users of this account, by name or public key
    #[arg(long, short = 'a', value_name = "ACCOUNT")]
    account: Option<String>,
    /// As it was once the message of this sequence was stored, or at this time (of the server's clock, RFC 3339)
    #[arg(long, value_name = "SEQUENCE|TIME")]
    at: Option<Moment>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum What {
    #[default]
    Accounts,
    Users,
    Keys,
    Operators,
}

impl What {
    fn kind(self) -> &'static str {
        match self {
            Self::Accounts => "account",
            Self::Users => "user",
            Self::Keys => "key",
            Self::Operators => "operator",
        }
    }
}

#[derive(Serialize)]
struct List {
    /// For a moment in the past.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<At>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operators: Option<Vec<View>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accounts: Option<Vec<View>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<Vec<View>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<View>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    own_keys: Vec<key::OwnKey>,
    /// Commands that are not part of the list, because they cannot be appended as they were decided.
    held: Vec<HeldView>,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let store = globals.store()?;
    let held: Vec<HeldView> = store.held().map_err(KeyError::from)?.iter().map(HeldView::from).collect();
    let mut list = List {
        at: None,
        operators: None,
        accounts: None,
        users: None,
        keys: None,
        own_keys: Vec::new(),
        held,
    };
    if let Some(moment) = args.at {
        list.held.clear();
        return past(args, &store, At::find(moment, &store, globals)?, list, globals);
    }
    let account = args.account.as_deref().map(|account| resolve::account(&store, account)).transpose()?;
    let owner = account.map(|account| account.key);
    let output = globals.output();
    if output.is_lines() {
        rows(&store, args.what, owner, output)?;
        warn(list.held.len(), globals);
        return Ok(());
    }
    let text = match args.what {
        What::Operators => {
            let views = views(&store, &store.operators().map_err(KeyError::from)?)?;
            let text = table(&["operator", "key", "state"], views.iter().map(row).collect());
            list.operators = Some(views);
            text
        }
        What::Accounts => {
            let views = views(&store, &store.accounts().map_err(KeyError::from)?)?;
            let text = table(&["account", "key", "state"], views.iter().map(row).collect());
            list.accounts = Some(views);
            text
        }
        What::Users => {
            let views = views(&store, &store.users(owner).map_err(KeyError::from)?)?;
            let text = user_table(&views);
            list.users = Some(views);
            text
        }
        What::Keys => {
            let views = key::views(&store, owner)?;
            list.own_keys = key::own_keys(&store, owner)?;
            let text = key::key_table(&views, &list.own_keys);
            list.keys = Some(views);
            text
        }
    };
    output.data(&list, |_| text)?;
    if !output.is_json() {
        warn(list.held.len(), globals);
    }
    Ok(())
}

/// The list as it was.
fn past(args: &Args, store: &Store, at: At, mut list: List, globals: &Globals) -> Result<(), CliError> {
    let account = args.account.as_deref().map(|account| at.account(store, account)).transpose()?;
    let listed = at.listed(store, args.what.kind(), account.map(|account| account.key))?;
    let viewer = Viewer::at(store, at);
    let output = globals.output();
    if output.is_lines() {
        for listed in &listed {
            if !output.row(&viewer.view(listed)?)? {
                break;
            }
        }
        return Ok(());
    }
    let views: Vec<View> = listed.iter().map(|listed| viewer.view(listed)).collect::<Result<_, _>>()?;
    if !output.is_json() {
        at.say(globals);
    }
    let text = match args.what {
        What::Operators => table(&["operator", "key", "state"], views.iter().map(row).collect()),
        What::Accounts => table(&["account", "key", "state"], views.iter().map(row).collect()),
        What::Users => user_table(&views),
        What::Keys => key::key_table(&views, &[]),
    };
    list.at = Some(at);
    let place = match args.what {
        What::Operators => &mut list.operators,
        What::Accounts => &mut list.accounts,
        What::Users => &mut list.users,
        What::Keys => &mut list.keys,
    };
    *place = Some(views);
    output.data(&list, |_| text)
}

/// One object a line, each made when it is its turn.
fn rows(store: &Store, what: What, owner: Option<PublicKey>, output: Output) -> Result<(), CliError> {
    let listed = match what {
        What::Operators => store.operators(),
        What::Accounts => store.accounts(),
        What::Users => store.users(owner),
        What::Keys => store.keys(owner),
    };
    let viewer = Viewer::new(store, Ambient::system().now());
    for listed in listed.map_err(KeyError::from)? {
        if !output.row(&viewer.view(&listed)?)? {
            return Ok(());
        }
    }
    let own = if what == What::Keys { key::own_keys(store, owner)? } else { Vec::new() };
    for own in &own {
        if !output.row(own)? {
            break;
        }
    }
    Ok(())
}

fn warn(held: usize, globals: &Globals) {
    if held > 0 {
        globals.output().warn(&format!("{held} held and not listed: cim-keys{} status", globals.again()));
    }
}

fn views(store: &Store, listed: &[Listed]) -> Result<Vec<View>, CliError> {
    let viewer = Viewer::new(store, Ambient::system().now());
    listed.iter().map(|listed| viewer.view(listed)).collect()
}

fn row(view: &View) -> Vec<String> {
    vec![view.name.clone(), view.public_key.to_string(), marks(view)]
}

fn user_table(views: &[View]) -> String {
    let rows = views.iter().map(|view| {
        vec![
            view.name.clone(),
            view.parent_name.clone().unwrap_or_default(),
            view.public_key.to_string(),
            view.role.clone().unwrap_or_else(|| "-".to_owned()),
            view.expires.map_or_else(|| "never".to_owned(), super::entities::day),
            marks(view),
        ]
    });
    table(&["user", "account", "key", "role", "ends", "state"], rows.collect())
}
