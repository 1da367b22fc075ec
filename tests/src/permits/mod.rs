//! Users with any permissions on a real server, and what the server lets them do: what core's `why` is held against.

pub mod generate;
pub mod history;

use std::collections::BTreeMap;
use std::io;

use cim_keys_core::command::{Command, Role};
use cim_keys_core::jwt::{self, Permissions, UserRights};
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::registry::{Account, Entity, EntityId, Issued, Operator, User};
use cim_keys_core::why::{Action, Answer, Parties, Question, QuestionError, why};

use crate::identities::{AccountKeys, Identities, Login};
use crate::server::{NatsServer, Setup};
use crate::tools::Version;
use crate::wire::Client;

/// One registry, whose accounts may have been changed by hand: there is no command for default permissions.
pub struct Permits {
    /// What commands made.
    pub identities: Identities,
    changed: BTreeMap<PublicKey, Account>,
    operator: Option<Operator>,
    logins: Vec<(PublicKey, PublicKey, Login)>,
}

/// A user, by its account's key and its own.
pub type Who = (PublicKey, PublicKey);

impl Permits {
    /// A new registry with this number.
    pub fn found(number: u8) -> Permits {
        Permits {
            identities: Identities::found(number),
            changed: BTreeMap::new(),
            operator: None,
            logins: Vec::new(),
        }
    }

    /// A signing key of an account with a role.
    ///
    /// # Panics
    /// When the core refuses.
    pub fn role(&mut self, account: PublicKey, name: &str, template: UserRights) -> AccountKeys {
        let role = Some(Role { name: name.to_owned(), template });
        let command = Command::GenerateKey { kind: Kind::Account, owner: Some(account), label: None, role };
        let authority = self.identities.operator_signing();
        let keys = self.identities.run(&command, authority).expect("a role is made");
        AccountKeys { account, signing: keys[0] }
    }

    /// A user with tags, signed by that key.
    ///
    /// # Panics
    /// When the core refuses.
    pub fn user(&mut self, by: AccountKeys, name: &str, rights: Option<UserRights>, tags: &[&str]) -> Who {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let (account, name) = (by.account, name.to_owned());
        let command = Command::CreateUser { account, name, rights, expires: 0, tags, credentials: true };
        let user = self.identities.run(&command, by.signing).expect("a user is created")[0];
        let token = self.identities.token(EntityId::User { account, user });
        self.logins.push((account, user, Login::new(&token, self.identities.pair(user))));
        (account, user)
    }

    /// Changes an account's claims by hand, after the last command about it.
    ///
    /// # Panics
    /// When there is no such account, or the claims cannot be written.
    pub fn change(&mut self, account: PublicKey, change: impl FnOnce(&mut jwt::Account)) {
        self.change_claims(account, |claims| {
            let jwt::Body::Account(body) = &mut claims.body else { panic!("{account} is an account") };
            change(body);
        });
    }

    /// The same for claims that accounts share with others.
    ///
    /// # Panics
    /// See [`change`](Permits::change).
    pub fn change_claims(&mut self, account: PublicKey, change: impl FnOnce(&mut jwt::Claims)) {
        let mut entity = self.account(account);
        entity.token = self.issued_again(&entity.token, change);
        self.changed.insert(account, entity);
    }

    /// Changes the operator's claims by hand.
    ///
    /// # Panics
    /// When the claims cannot be written.
    pub fn change_operator(&mut self, change: impl FnOnce(&mut jwt::Claims)) {
        let mut entity = self.operator();
        entity.token = self.issued_again(&entity.token, change);
        self.operator = Some(entity);
    }

    fn issued_again(&self, token: &Issued, change: impl FnOnce(&mut jwt::Claims)) -> Issued {
        let mut claims = token.claims().clone();
        claims.issued_at += 1;
        change(&mut claims);
        let jwt = jwt::encode(&claims).expect("claims that can be written");
        let signature = self.identities.pair(claims.issuer).sign(jwt.as_str().as_bytes());
        Issued { jwt, signature: signature.ok() }
    }

    /// Sets what users without permissions may do.
    pub fn defaults(&mut self, account: PublicKey, permissions: Permissions) {
        self.change(account, |body| body.default_permissions = permissions);
    }

    fn entity(&self, id: EntityId) -> Entity {
        let found = self.identities.registry().entities().find(|entity| entity.id() == id);
        found.unwrap_or_else(|| panic!("{id} is there")).clone()
    }

    /// The operator.
    ///
    /// # Panics
    /// Never.
    pub fn operator(&self) -> Operator {
        if let Some(operator) = &self.operator {
            return operator.clone();
        }
        let Entity::Operator(operator) = self.entity(EntityId::Operator(self.identities.operator())) else {
            panic!("an operator")
        };
        operator
    }

    /// An account as the server knows it.
    ///
    /// # Panics
    /// When there is no such account.
    pub fn account(&self, key: PublicKey) -> Account {
        if let Some(changed) = self.changed.get(&key) {
            return changed.clone();
        }
        let Entity::Account(account) = self.entity(EntityId::Account(key)) else { panic!("an account") };
        account
    }

    /// A user.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn user_entity(&self, (account, user): Who) -> User {
        let Entity::User(user) = self.entity(EntityId::User { account, user }) else { panic!("a user") };
        user
    }

    /// What the core says.
    ///
    /// # Errors
    /// See [`QuestionError`].
    pub fn why(
        &self,
        who: Who,
        action: Action,
        subject: &str,
        queue: Option<&str>,
    ) -> Result<Answer, QuestionError> {
        let (operator, account, user) = (self.operator(), self.account(who.0), self.user_entity(who));
        let parties = Parties { operator: &operator, account: &account, user: &user };
        let (subject, queue) = (subject.to_owned(), queue.map(str::to_owned));
        // An hour behind the founding: what was made is valid by then.
        let at = self.identities.now() + 3600;
        why(&parties, &Question { action, subject, queue, at })
    }

    /// A server that knows all of it.
    pub fn serve(&self, version: Version) -> NatsServer {
        let place = "/folder-of-the-server";
        let mut text = self.identities.configuration(std::path::Path::new(place));
        let mut replace = |id, token: &Issued| {
            let before = self.identities.token(id);
            text = text.replace(before.as_str(), &token.text().unwrap_or_default());
        };
        for (key, account) in &self.changed {
            replace(EntityId::Account(*key), &account.token);
        }
        if let Some(operator) = &self.operator {
            replace(EntityId::Operator(operator.key), &operator.token);
        }
        Setup::configured(version, move |folder| text.replace(place, &folder.to_string_lossy())).start()
    }

    /// Connects as a user.
    ///
    /// # Errors
    /// The server refuses.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn connect(&self, server: &NatsServer, (account, user): Who) -> io::Result<Client> {
        let login = self.logins.iter().find(|(a, u, _)| (*a, *u) == (account, user));
        login.expect("a user of these").2.connect(server.address())
    }
}

/// Whether a message that the user publishes is delivered to the observer, who has a subscription to the subject. Refused
/// must be refused aloud.
///
/// # Panics
/// When the connection is lost, or a message is neither delivered nor refused, or both.
pub fn publishes(user: &mut Client, observer: &mut Client, subject: &str, reply: Option<&str>) -> bool {
    user.publish(subject, reply, &[], b"probe").expect("a connection");
    let (_, errors) = user.settle().expect("a connection");
    let refused = errors.iter().any(|line| line.contains("Permissions Violation for Publish"));
    let (messages, _) = observer.settle().expect("a connection");
    let delivered = messages.iter().any(|message| message.subject == subject && message.payload == b"probe");
    assert_ne!(refused, delivered, "{subject}: {errors:?} {messages:?}");
    delivered
}

/// Whether the server takes the user's subscription; the number that it has then.
///
/// # Panics
/// When the connection is lost, or it is refused for another reason.
pub fn subscribes(user: &mut Client, subject: &str, queue: Option<&str>) -> Option<String> {
    let words = queue.map_or_else(|| subject.to_owned(), |queue| format!("{subject} {queue}"));
    let sid = user.subscribe(&words).expect("a connection");
    let (_, errors) = user.settle().expect("a connection");
    let refused = errors.iter().any(|line| line.contains("Permissions Violation for Subscription"));
    assert!(refused || errors.is_empty(), "{words}: {errors:?}");
    (!refused).then_some(sid)
}

/// Which of these subjects' messages, published by the observer, reach the user.
///
/// # Panics
/// When a connection is lost.
pub fn delivered(user: &mut Client, observer: &mut Client, subjects: &[&str]) -> Vec<String> {
    for subject in subjects {
        observer.publish(subject, None, &[], b"sample").expect("a connection");
    }
    observer.settle().expect("a connection");
    let (messages, _) = user.settle().expect("a connection");
    let sample = messages.into_iter().filter(|message| message.payload == b"sample");
    let mut seen: Vec<String> = sample.map(|message| message.subject).collect();
    seen.sort();
    seen.dedup();
    seen
}
