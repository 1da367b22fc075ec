//! Commands that travel as a file: taken in from a bundle, written into one.

use super::Host;
use crate::crash::{self, Step};
use crate::error::KeyError;
use crate::store::Import;
use cim_keys_core::bundle::{Bundle, Verified, VerifiedCommand};
use cim_keys_core::context::RegistryId;
use cim_keys_core::journal::Own;
use cim_keys_core::registry::{Facts, Lookup, Registry};
use uuid::Uuid;

/// Attempts before a bundle that always comes too late is given back.
const ATTEMPTS: u32 = 20;

/// What came of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Whose it is.
    pub registry: RegistryId,
    /// Whether the store was empty and has become this registry's.
    pub founded: bool,
    /// Commands that were not known here, in order.
    pub new: Vec<Uuid>,
    /// Commands that were known here with the same draft: nothing was done about them.
    pub known: Vec<Uuid>,
}

impl Host {
    /// Takes the commands of a bundle in, all of them or none, behind what is pending here; they are published like own
    /// ones. A bundle that founds its registry goes into an empty store, which becomes that registry; seeds come with no
    /// bundle. What is known already, with the same draft, is left as it is, so that a bundle may come twice.
    ///
    /// # Errors
    /// The store is another registry's ([`KeyError::Founded`], [`KeyError::BundleRegistry`]) or empty while the bundle
    /// founds none ([`KeyError::NotFounding`]); a command's id has other content here ([`KeyError::IdTaken`]); a command does
    /// not stand here ([`KeyError::Refused`]). Nothing has changed then.
    pub fn import(&self, bundle: &Verified<'_>, dry_run: bool) -> Result<Imported, KeyError> {
        let registry = &bundle.bundle().registry;
        let ids: Vec<Uuid> = bundle.commands().iter().map(id).collect();
        let lookups: Vec<Lookup> =
            bundle.commands().iter().flat_map(VerifiedCommand::scopes).cloned().collect();
        for _ in 0..ATTEMPTS {
            let founded = self.belongs(bundle.bundle())?;
            let (mut facts, revision) = if founded {
                let (facts, revision) = self.store.facts(&lookups, true)?;
                (facts, Some(revision))
            } else {
                (Registry::new(registry.clone()).facts(&lookups, true), None)
            };
            let own = self.store.own(&ids)?;
            if !founded && !own.is_empty() {
                // Another process was first, since the store was looked at.
                continue;
            }
            let mut imported = Imported {
                registry: registry.clone(),
                founded: !founded,
                new: Vec::new(),
                known: Vec::new(),
            };
            let mut imports = Vec::new();
            for command in bundle.commands() {
                if is_known(command, &own, &facts)? {
                    imported.known.push(id(command));
                    continue;
                }
                let standing = command.judge(&mut facts).map_err(|refusal| KeyError::Refused {
                    command_id: id(command),
                    command: command.bundled().command.name(),
                    refusal: Box::new(refusal),
                })?;
                let left =
                    standing.changed.into_iter().filter_map(|id| facts.entity(id).ok().flatten().cloned());
                imports.push(Import { command, facts_hash: standing.facts_hash, entities: left.collect() });
                imported.new.push(id(command));
            }
            // Another process may have been first: then everything is looked at again.
            if dry_run || imports.is_empty() || self.store.import(registry, revision, &imports)? {
                crash::reach(Step::BundleCommitted);
                return Ok(imported);
            }
        }
        Err(KeyError::Contended { attempts: ATTEMPTS })
    }

    /// Everything that is to be published, as a bundle: for a host that has a network. It stays pending here; whoever is
    /// first publishes it, and it is published once. Held commands, which stand nowhere as they are, come along where
    /// they are wanted. From now on others may have them: giving one up takes an event.
    ///
    /// # Errors
    /// [`KeyError::NothingPending`]; see [`KeyError`].
    pub fn export(&self, with_held: bool) -> Result<Bundle, KeyError> {
        let bundle = self.exported(with_held)?;
        self.note_exported(&bundle)?;
        Ok(bundle)
    }

    /// Notes that what [`exported`](Self::exported) gave is about to leave this host.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn note_exported(&self, bundle: &Bundle) -> Result<(), KeyError> {
        let ids: Vec<Uuid> = bundle.commands.iter().map(|bundled| bundled.context.command_id).collect();
        Ok(self.store.note_exported(&ids)?)
    }

    /// What [`export`](Self::export) would give, to look at: nothing of it may leave this host before [`note_exported`](Self::note_exported).
    ///
    /// # Errors
    /// See [`export`](Self::export).
    pub fn exported(&self, with_held: bool) -> Result<Bundle, KeyError> {
        let registry = self.store.registry_id()?.clone();
        let commands = self.store.bundled(with_held)?;
        if commands.is_empty() {
            return Err(KeyError::NothingPending);
        }
        Ok(Bundle { registry, commands })
    }

    /// Whether the store is this bundle's registry; false where it is empty and the bundle founds one.
    fn belongs(&self, bundle: &Bundle) -> Result<bool, KeyError> {
        if !self.store.is_founded()? {
            let registry = bundle.registry.operator;
            return if bundle.founds() { Ok(false) } else { Err(KeyError::NotFounding { registry }) };
        }
        let here = self.store.registry_id()?;
        if *here == bundle.registry {
            Ok(true)
        } else if bundle.founds() {
            Err(KeyError::Founded { path: self.store.path().to_owned() })
        } else {
            let (here, found) = (here.clone(), bundle.registry.clone());
            Err(KeyError::BundleRegistry { here: Box::new(here), found: Box::new(found) })
        }
    }
}

fn id(command: &VerifiedCommand<'_>) -> Uuid {
    command.bundled().context.command_id
}

/// Whether the journal or the stream has this very command. A command id is one promise: other content under it is an
/// error.
fn is_known(command: &VerifiedCommand<'_>, own: &[Own], facts: &Facts) -> Result<bool, KeyError> {
    let id = id(command);
    let journal = own.iter().find(|own| own.command_id == id).map(|own| own.draft_hash);
    let stream = facts.command(id).ok().flatten().map(|recorded| recorded.draft_hash);
    let found: Vec<_> = journal.into_iter().chain(stream).collect();
    if found.is_empty() || found.contains(&command.bundled().draft_hash) {
        Ok(!found.is_empty())
    } else {
        Err(KeyError::IdTaken { id })
    }
}
