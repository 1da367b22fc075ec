//! A registry with a history of all kinds, in a host of its own.

use cim_keys::host::Request;
use cim_keys::ports::{Access, NewUser};
use cim_keys_core::command::{Command, Role};
use cim_keys_core::jwt::{PermissionList, UserRights};
use cim_keys_core::nkey::{Kind, PublicKey};

use crate::desk::Desk;
use crate::simulator::rng::Rng;

const ENTRIES: [&str; 7] = ["a", "a.>", "*.b", "orders.>", "orders.*", ">", "b.c"];

/// A registry with a history as it comes, from a seed: accounts, roles, users who come, change, end and are revoked.
pub struct History {
    rng: Rng,
    /// Whose it is.
    pub desk: Desk,
    accounts: Vec<PublicKey>,
    /// Their accounts, names and keys.
    roles: Vec<(PublicKey, String, PublicKey)>,
    users: Vec<(PublicKey, PublicKey)>,
}

impl History {
    /// A founded one.
    pub fn new(seed: u64) -> History {
        let desk = Desk::founded();
        let accounts = vec![desk.app()];
        let (rng, roles, users) = (Rng::new(seed, "history"), Vec::new(), Vec::new());
        History { rng, desk, accounts, roles, users }
    }

    fn list(&mut self) -> PermissionList {
        let mut some = |most: u64| -> Vec<String> {
            let count = self.rng.below(most);
            (0..count).filter_map(|_| self.rng.pick(&ENTRIES).map(|entry| (*entry).to_owned())).collect()
        };
        PermissionList { allow: some(4), deny: some(3), ..PermissionList::default() }
    }

    fn rights(&mut self) -> UserRights {
        UserRights { publish: self.list(), subscribe: self.list(), ..UserRights::default() }
    }

    /// When a token ends: in a moment, later, or never.
    fn end(&mut self) -> i64 {
        let now = self.desk.host().ambient().now().seconds();
        [now + 2, now + 3600, 0, 0][usize::try_from(self.rng.below(4)).expect("one of these")]
    }

    fn user(&mut self, access: Access, account: PublicKey) {
        // Few names, so that a later user has the name of one who was revoked.
        let name = format!("user{}", self.rng.below(12));
        let (expires, tags) = (self.end(), Vec::new());
        let user =
            NewUser { account, name, access, expires, tags, key: None, credentials: false, keep: true };
        // Where the name is taken nothing happens.
        if let Ok(outcome) = self.desk.run(&Request::from(user)) {
            self.users.push((account, outcome.keys[0]));
        }
    }

    /// A random number below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.rng.below(limit)
    }

    /// A random number from one to another.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        self.rng.between(from, to)
    }

    /// One of the users that there are or were, its account first.
    ///
    /// # Panics
    /// When there was none.
    pub fn some_user(&mut self) -> (PublicKey, PublicKey) {
        *self.rng.pick(&self.users).expect("a user")
    }

    /// One more command; what cannot be done is left out.
    ///
    /// # Panics
    /// When the host refuses what must be possible.
    pub fn step(&mut self) {
        let account = *self.rng.pick(&self.accounts).expect("one of these");
        let user = self.rng.pick(&self.users).copied();
        let command = match (self.rng.below(12), user) {
            (0, _) if self.accounts.len() < 3 => {
                let account = self.desk.account(&format!("ACCOUNT{}", self.accounts.len()));
                return self.accounts.push(account);
            }
            (1, _) => {
                let (name, template) = (format!("role{}", self.roles.len()), self.rights());
                let role = Some(Role { name: name.clone(), template });
                let made =
                    Command::GenerateKey { kind: Kind::Account, owner: Some(account), label: None, role };
                let key = self.desk.act(made).keys[0];
                return self.roles.push((account, name, key));
            }
            (2 | 3, _) if !self.roles.is_empty() => {
                let (account, role, _) = self.rng.pick(&self.roles).cloned().expect("one of these");
                return self.user(Access::Role(role), account);
            }
            (4 | 5, Some((account, user))) => Command::RevokeUser { account, user },
            (6 | 7, Some((account, user))) => {
                Command::SetPermissions { account, user, rights: self.rights() }
            }
            (8, Some((account, user))) => Command::GenerateCredentials { account, user, expires: self.end() },
            (9, _) if self.roles.len() > 2 => {
                let place = usize::try_from(self.rng.below(self.roles.len() as u64)).expect("one of these");
                let (account, _, key) = self.roles.remove(place);
                Command::RevokeKey { key, owner: Some(account) }
            }
            _ => {
                let rights = self.rights();
                return self.user(Access::Own(Box::new(rights)), account);
            }
        };
        let _ = self.desk.run(&Request::new(command));
    }
}
