//! The users that hosts get in as.

use super::Stage;
use crate::contract::Entrance;
use crate::desk::{Desk, block_on};
use cim_keys::host::Request;
use cim_keys::nats::link::Link;
use cim_keys::nats::role;
use cim_keys::nats::target::{Access, Target};
use cim_keys::ports::{self, NewUser};
use cim_keys::push::{self, Mode};
use cim_keys_core::command::Command;
use cim_keys_core::creds;
use cim_keys_core::jwt::SigningKey;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::{Entity, EntityId};
use cim_keys_core::roles::PipelineRole;
use cim_keys_core::secret::SecretText;

impl Stage {
    /// The user that a host gets in as over this address, made now. `writer` is the role that may append.
    ///
    /// # Panics
    /// When the role's key is not there.
    pub fn target(&mut self, host: &str, entrance: Entrance, writer: PipelineRole, url: &str) -> Target {
        match entrance {
            Entrance::Named => self.named(host, writer, url),
            Entrance::Writer => self.founder.role(writer, url),
            Entrance::Reader => self.founder.role(PipelineRole::Auditor, url),
            Entrance::Expired => self.founder.ended(writer, url),
            Entrance::Stranger => self.stranger.get_or_insert_with(Desk::founded).role(writer, url),
        }
    }

    /// The same as the text of a creds file.
    ///
    /// # Panics
    /// When the role's key is not there.
    pub fn creds(&mut self, host: &str, entrance: Entrance, writer: PipelineRole) -> SecretText {
        let target = self.target(host, entrance, writer, "");
        let Access::Creds { token, key } = &*target.access else { panic!("no creds: {target:?}") };
        creds::format(token, key).expect("creds")
    }

    /// The seed of a signing key of the application account.
    ///
    /// # Panics
    /// When it is not there.
    pub fn signing_seed(&self) -> SecretText {
        let id = EntityId::Account(self.founder.app());
        let entity = self.founder.host().entity(id).expect("a store that works");
        let Some(Entity::Account(account)) = entity else { panic!("the application account is not there") };
        let keys = account.token.claims().body.as_account().into_iter().flat_map(|body| &body.signing_keys);
        let mut plain = keys.filter(|(_, role)| **role == SigningKey::Plain);
        let key = *plain.next().expect("a plain signing key").0;
        self.founder.host().key(key).expect("its private half").seed()
    }

    /// Revokes the user that a host got in as, and tells the server.
    ///
    /// # Errors
    /// It got in as no user of the registry.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn revoke(&mut self, host: &str) -> Result<(), String> {
        let user = self.named.remove(host).ok_or_else(|| format!("{host} is no user of the registry"))?;
        let account = self.edge();
        self.founder.act(Command::RevokeUser { account, user });
        self.publish();
        let resolver = self.founder.role(PipelineRole::Resolver, &self.server.url());
        block_on(async {
            let link = Link::connect(&resolver, 0).await.expect("a connection");
            push::round(self.founder.host(), &link, Mode::default()).await.expect("a push");
        });
        Ok(())
    }

    /// A user of this role that stands in the registry.
    fn named(&mut self, host: &str, role: PipelineRole, url: &str) -> Target {
        let account = self.edge();
        let request = Request::from(NewUser {
            account,
            name: format!("host {host}"),
            access: ports::Access::Role(role.to_string()),
            expires: 0,
            tags: Vec::new(),
            key: None,
            credentials: true,
            keep: false,
        });
        let user = self.founder.run(&request).expect("a user").keys[0];
        self.publish();
        self.named.insert(host.to_owned(), user);
        let mut made = None;
        let deliver = |text: &SecretText| {
            made = creds::parse(text.expose()).ok();
            Ok(())
        };
        self.founder.host().hand_out_with(account, user, deliver).expect("creds");
        let made = made.expect("creds that can be read");
        Target::of_role(url, role, made.token, made.key)
    }

    fn edge(&self) -> PublicKey {
        let name = PipelineRole::Host.account();
        role::account(self.founder.host(), name).expect("the account of the role").key
    }
}
