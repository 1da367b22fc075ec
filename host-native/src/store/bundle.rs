//! Commands that come in bundles, and those that leave in them.

use super::commit::{self, Line, Revision};
use super::{Store, StoreError, rows};
use crate::crash::{self, Step};
use cim_keys_core::bundle::{BundledCommand, VerifiedCommand};
use cim_keys_core::context::RegistryId;
use cim_keys_core::digest::Digest;
use cim_keys_core::registry::Entity;

/// A command of a bundle that stands here, with what it leaves.
#[derive(Debug)]
pub struct Import<'a> {
    /// The command.
    pub command: &'a VerifiedCommand<'a>,
    /// Digest of the registry facts it stands on.
    pub facts_hash: Digest,
    /// The entities that it changed, as it leaves them.
    pub entities: Vec<Entity>,
}

impl Store {
    /// Writes commands of a bundle at the end of the journal, all or none. Without a revision the store must be empty, and
    /// becomes this registry's. False where it is not as it was read: read it again.
    ///
    /// # Errors
    /// See [`StoreError`]. Nothing was written then.
    pub fn import(
        &self,
        registry: &RegistryId,
        revision: Option<Revision>,
        imports: &[Import<'_>],
    ) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let as_read = match revision {
                Some(revision) => Revision::read(transaction)? == revision,
                None => commit::begin(transaction, registry)?,
            };
            if !as_read {
                return Ok(false);
            }
            for import in imports {
                let line = Line::bundled(import.command, import.facts_hash);
                commit::insert(transaction, registry, &line, &import.entities)?;
            }
            commit::moved(transaction)?;
            crash::reach(Step::BundleWritten);
            Ok(true)
        })
    }

    /// Pending commands in journal order, and held ones where they are wanted.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn bundled(&self, with_held: bool) -> Result<Vec<BundledCommand>, StoreError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT position, command, context, draft_hash FROM journal
                 WHERE state = 'pending' OR (?1 AND state = 'held') ORDER BY position",
            )?;
            let mut found = statement.query([with_held])?;
            let mut commands = Vec::new();
            while let Some(row) = found.next()? {
                commands.push(BundledCommand {
                    command: rows::json(&rows::text(row, 1)?)?,
                    context: rows::json(&rows::text(row, 2)?)?,
                    draft_hash: rows::parse(&rows::text(row, 3)?)?,
                    envelopes: commit::envelopes(transaction, row.get(0)?)?,
                });
            }
            Ok(commands)
        })
    }
}
