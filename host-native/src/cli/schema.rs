//! `cim-keys schema`: which schema the registry asks of everybody, raising it, and the schemas themselves.

use super::entities::Done;
use super::exit::CliError;
use super::globals::Globals;
use super::user::tell;
use crate::error::KeyError;
use crate::host::Request;
use crate::store::Store;
use cim_keys_core::command::Command;
use cim_keys_core::envelope::SCHEMA_VERSION;
use cim_keys_core::registry::{EntityId, Lookup};
use cim_keys_core::schema::{asyncapi, event_schemas};
use cim_keys_core::subjects::Namespace;
use clap::Subcommand;
use serde::Serialize;
use serde_json::Value;

/// Name of the document of the whole stream.
const ASYNCAPI: &str = "asyncapi";

/// Verbs of `schema`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// The level in force, and the newest that this version knows
    Show,
    /// Raise the level, for good: every host and page that does not know it is read-only from there on, until it is upgraded
    Raise(Raise),
    /// The JSON Schema of a type of event, or the AsyncAPI document of the stream; without a name, which there are
    Print(Print),
}

/// Flags of `schema raise`.
#[derive(Debug, clap::Args)]
pub(super) struct Raise {
    /// The level: above the one in force, and known to this version
    #[arg(long, value_name = "LEVEL")]
    to: u32,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `schema print`.
#[derive(Debug, clap::Args)]
pub(super) struct Print {
    /// A type of event, such as `keys.user.created`, or `asyncapi`
    name: Option<String>,
    /// First two tokens of every subject, in the AsyncAPI document
    #[arg(long, value_name = "ORGANIZATION.UNIT", default_value_t)]
    namespace: Namespace,
}

#[derive(Serialize)]
struct Names {
    schemas: Vec<String>,
}

/// Which schema the registry asks for, pending commands included, and which this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Level {
    schema: u32,
    schema_known: u32,
}

impl Level {
    pub(super) fn of(store: &Store) -> Result<Self, CliError> {
        let operator = store.registry_id().map_err(KeyError::from)?.operator;
        let lookup = Lookup::Entity(EntityId::Operator(operator));
        let (facts, _) = store.facts(&[lookup], true).map_err(KeyError::from)?;
        let schema = facts.level().map_err(|missing| CliError::unexpected(&missing))?;
        Ok(Self { schema, schema_known: SCHEMA_VERSION })
    }

    /// What a person must know, where the two differ.
    pub(super) fn words(self, again: &str) -> Option<String> {
        let Self { schema, schema_known } = self;
        match schema.cmp(&schema_known) {
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(format!(
                "{schema}, and this version knows {schema_known}: UPGRADE cim-keys; until then it is read-only here"
            )),
            std::cmp::Ordering::Less => Some(format!(
                "{schema}, and this version knows {schema_known}: once everybody is upgraded, cim-keys{again} schema raise --to {schema_known}"
            )),
        }
    }
}

#[derive(Serialize)]
struct Raised {
    #[serde(flatten)]
    level: Level,
    #[serde(flatten)]
    done: Done,
}

pub(super) fn run(verb: &Verb, globals: &Globals) -> Result<(), CliError> {
    match verb {
        Verb::Show => {
            let level = Level::of(&globals.store()?)?;
            let words = level
                .words(&globals.again())
                .unwrap_or_else(|| format!("{}, the newest that this version knows", level.schema));
            globals.output().data(&level, |_| format!("schema     {words}"))
        }
        Verb::Raise(args) => raise(args, globals),
        Verb::Print(args) => print(args, globals),
    }
}

/// The documents are the version's own: no registry is asked.
fn print(args: &Print, globals: &Globals) -> Result<(), CliError> {
    let output = globals.output();
    let pretty = |document: &Value| serde_json::to_string_pretty(document).unwrap_or_default();
    let schemas = event_schemas();
    match args.name.as_deref() {
        Some(ASYNCAPI) => output.data(&asyncapi(&args.namespace), pretty),
        Some(name) => match schemas.into_iter().find(|schema| schema.event_type == name) {
            Some(schema) => output.data(&schema.document, pretty),
            None => Err(CliError::usage(format!("there is no schema {name:?}"))
                .hint("see which there are: cim-keys schema print")),
        },
        None => {
            let names = schemas.into_iter().map(|schema| schema.event_type).chain([ASYNCAPI.to_owned()]);
            output.data(&Names { schemas: names.collect() }, |names| names.schemas.join("\n"))
        }
    }
}

fn raise(args: &Raise, globals: &Globals) -> Result<(), CliError> {
    let host = globals.host()?;
    let command = Command::RaiseSchema { level: args.to };
    let outcome = host.run(&Request { dry_run: args.dry_run, ..Request::new(command) })?;
    let raised = Raised { level: Level::of(host.store())?, done: Done::new(&outcome, &host)? };
    let verb = if args.dry_run { "would be raised" } else { "raised" };
    globals.output().data(&raised, |_| format!("schema level {verb} to {}", args.to))?;
    tell(&raised.done, globals);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_told_who_has_to_be_upgraded() {
        let words = |schema, schema_known| Level { schema, schema_known }.words(" --registry a");
        assert_eq!(words(1, 1), None);
        let behind = words(3, 1).unwrap();
        assert_eq!(behind, "3, and this version knows 1: UPGRADE cim-keys; until then it is read-only here");
        let ahead = words(1, 2).unwrap();
        assert!(ahead.ends_with("cim-keys --registry a schema raise --to 2"), "{ahead}");
    }
}
