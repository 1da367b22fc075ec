//! Identities made by the core in memory: a registry with all its keys, users who can connect, and the configuration
//! of a server that trusts them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cim_keys_core::admission::{Assembler, Group, StoredMessage};
use cim_keys_core::command::{Command, Rejection, decide};
use cim_keys_core::context::{Context, RegistryId};
use cim_keys_core::creds;
use cim_keys_core::draft::Decision;
use cim_keys_core::envelope::Envelope;
use cim_keys_core::jwt::{Token, UserRights};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey, Signature};
use cim_keys_core::registry::{Entity, EntityId, Registry};
use cim_keys_core::roles::{self, PipelineRole};
use cim_keys_core::secret::SecretText;
use cim_keys_core::subjects::Namespace;
use cim_keys_core::time::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::wire::Client;

/// How long ago a registry of [`Identities::found`] was founded, in seconds: room for users that have expired since.
const AGE: i64 = 3600;

/// Places of the founding's keys, in the order of the core's `FOUNDING_KEYS`.
const OPERATOR: usize = 0;
const OPERATOR_SIGNING: usize = 1;
const SYSTEM: usize = 2;
const SYSTEM_SIGNING: usize = 3;
const RESOLVER_ROLE: usize = 4;
const KEYS: usize = 5;
const STEWARD_ROLE: usize = 6;
const EDGE: usize = 7;
const HOST_ROLE: usize = 8;
const AUDITOR_ROLE: usize = 9;
const BROWSER_ROLE: usize = 10;
const SERVICE_ROLE: usize = 11;
const RESPONDER_ROLE: usize = 12;
const CLIENT_ROLE: usize = 13;

/// An account and the key that signs its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountKeys {
    /// Identity key.
    pub account: PublicKey,
    /// Signing key, plain or scoped.
    pub signing: PublicKey,
}

/// One registry with every key that was made for it. Keys are made from a counter: two with the same number are equal
/// but for their times.
#[derive(Debug)]
pub struct Identities {
    registry: Registry,
    keys: BTreeMap<PublicKey, KeyPair>,
    founding: Vec<PublicKey>,
    number: u8,
    drawn: u64,
    now: i64,
    envelopes: Vec<Envelope>,
    assembler: Assembler,
}

impl Identities {
    /// Founds the registry with this number, an hour ago.
    ///
    /// # Panics
    /// When the core refuses.
    pub fn found(number: u8) -> Identities {
        let operator = key(number, 0, Kind::Operator);
        let root = operator.public_key();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
        let mut identities = Identities {
            registry: Registry::new(RegistryId { operator: root, namespace: Namespace::default() }),
            keys: BTreeMap::from([(root, operator)]),
            founding: Vec::new(),
            number,
            drawn: 0,
            now: i64::try_from(now).expect("a clock of this age") - AGE * 1000,
            envelopes: Vec::new(),
            assembler: Assembler::default(),
        };
        let command = Command::FoundRegistry { name: format!("Operator {number}") };
        let mut keys = identities.draw(&command.keys()[1..]);
        keys.insert(0, root);
        identities.founding.clone_from(&keys);
        identities.run_with(&command, root, keys).expect("a registry is founded");
        identities
    }

    /// Which registry it is.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Subjects of the registry.
    pub fn namespace(&self) -> &Namespace {
        &self.registry.id().namespace
    }

    /// Every event so far, in order.
    pub fn envelopes(&self) -> &[Envelope] {
        &self.envelopes
    }

    /// The operator's identity key.
    pub fn operator(&self) -> PublicKey {
        self.founding[OPERATOR]
    }

    /// The operator's signing key.
    pub fn operator_signing(&self) -> PublicKey {
        self.founding[OPERATOR_SIGNING]
    }

    /// The system account, with its plain signing key.
    pub fn system(&self) -> AccountKeys {
        AccountKeys { account: self.founding[SYSTEM], signing: self.founding[SYSTEM_SIGNING] }
    }

    /// The account of a role, with the scoped key that grants the role.
    pub fn role_keys(&self, role: PipelineRole) -> AccountKeys {
        let (account, signing) = match role {
            PipelineRole::Host => (EDGE, HOST_ROLE),
            PipelineRole::Auditor => (EDGE, AUDITOR_ROLE),
            PipelineRole::Browser => (EDGE, BROWSER_ROLE),
            PipelineRole::Steward => (KEYS, STEWARD_ROLE),
            PipelineRole::Resolver => (EDGE, RESOLVER_ROLE),
            PipelineRole::Service => (EDGE, SERVICE_ROLE),
            PipelineRole::Responder => (KEYS, RESPONDER_ROLE),
            PipelineRole::Client => (EDGE, CLIENT_ROLE),
        };
        AccountKeys { account: self.founding[account], signing: self.founding[signing] }
    }

    /// The key pair of a public key that was made here.
    ///
    /// # Panics
    /// When it was not.
    pub fn pair(&self, key: PublicKey) -> &KeyPair {
        self.keys.get(&key).unwrap_or_else(|| panic!("{key} was not made here"))
    }

    /// Makes a key that belongs to nothing yet.
    pub fn draw_one(&mut self, kind: Kind) -> PublicKey {
        self.drawn += 1;
        let pair = key(self.number, self.drawn, kind);
        let public = pair.public_key();
        self.keys.insert(public, pair);
        public
    }

    /// Carries a command out: keys are made, tokens signed, events admitted. Gives the keys made.
    ///
    /// # Errors
    /// What the core says against it.
    pub fn run(&mut self, command: &Command, authority: PublicKey) -> Result<Vec<PublicKey>, Rejection> {
        let keys = self.draw(&command.keys());
        self.run_with(command, authority, keys.clone())?;
        Ok(keys)
    }

    /// An account without JetStream, with a plain signing key.
    ///
    /// # Panics
    /// When the core refuses.
    pub fn account(&mut self, name: &str) -> AccountKeys {
        let command = Command::CreateAccount { name: name.into(), limits: Default::default() };
        let keys = self.run(&command, self.operator_signing()).expect("an account is created");
        AccountKeys { account: keys[0], signing: keys[1] }
    }

    /// One more signing key, plain, of an account: its users may have any rights. For the pipeline's own accounts this
    /// is what nobody should ever do.
    ///
    /// # Panics
    /// When the core refuses.
    pub fn plain_key(&mut self, account: PublicKey) -> AccountKeys {
        let command =
            Command::GenerateKey { kind: Kind::Account, owner: Some(account), label: None, role: None };
        let keys = self.run(&command, self.operator_signing()).expect("a signing key is made");
        AccountKeys { account, signing: keys[0] }
    }

    /// A user with rights of its own, or with none where the key is scoped. `expires` in Unix seconds, 0 is never.
    ///
    /// # Panics
    /// When the core refuses.
    pub fn user(&mut self, by: AccountKeys, name: &str, rights: Option<UserRights>, expires: i64) -> Login {
        let command = Command::CreateUser {
            account: by.account,
            name: name.into(),
            rights,
            expires,
            tags: Vec::new(),
            credentials: true,
        };
        let user = self.run(&command, by.signing).expect("a user is created")[0];
        let token = self.token(EntityId::User { account: by.account, user });
        Login::new(&token, self.pair(user))
    }

    /// A user of the pipeline, named like its role.
    ///
    /// # Panics
    /// When the core refuses, a second one of the same name for instance.
    pub fn role(&mut self, role: PipelineRole) -> Login {
        self.user(self.role_keys(role), role.as_str(), None, 0)
    }

    /// The newest token of an entity.
    ///
    /// # Panics
    /// When there is none.
    pub fn token(&self, id: EntityId) -> Token {
        let entity = self.registry.entities().find(|entity| entity.id() == id);
        let text = entity.and_then(Entity::token).and_then(|token| token.text());
        Token::parse(&text.unwrap_or_else(|| panic!("{id} has a token"))).expect("tokens of the core parse")
    }

    /// The time of the last command, in Unix seconds.
    pub fn now(&self) -> i64 {
        self.now / 1000
    }

    /// A server's configuration: operator mode, every account preloaded into a full resolver, JetStream that syncs
    /// always, websocket on loopback. `folder` is the server's own.
    pub fn configuration(&self, folder: &Path) -> String {
        let operator = self.token(EntityId::Operator(self.operator()));
        let preload: String = self
            .registry
            .entities()
            .filter(|entity| matches!(entity, Entity::Account(_)))
            .filter_map(|entity| Some(format!("  {}: {}\n", entity.key(), entity.token()?.text()?)))
            .collect();
        format!(
            "operator: {}\n\
             system_account: {}\n\
             resolver {{ type: full, dir: {:?}, allow_delete: true, interval: \"2m\" }}\n\
             resolver_preload {{\n{preload}}}\n\
             jetstream {{ store_dir: {:?}, sync_interval: always }}\n\
             websocket {{ host: \"127.0.0.1\", port: -1, no_tls: true }}\n",
            operator.as_str(),
            self.system().account,
            folder.join("accounts"),
            folder.join("store"),
        )
    }

    fn draw(&mut self, kinds: &[Kind]) -> Vec<PublicKey> {
        kinds.iter().map(|kind| self.draw_one(*kind)).collect()
    }

    fn run_with(
        &mut self,
        command: &Command,
        authority: PublicKey,
        keys: Vec<PublicKey>,
    ) -> Result<(), Rejection> {
        self.now += 1000;
        self.drawn += 1;
        let prefix = u128::from(self.number) << 64;
        let command_id =
            Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 | prefix | u128::from(self.drawn));
        let context = Context {
            now: Timestamp::from_millis(self.now).expect("a time of this age"),
            command_id,
            attempt: 1,
            correlation_id: command_id,
            causation_id: command_id,
            actor: "tests".parse().expect("an actor"),
            authority,
            keys,
        };
        let facts = self.registry.facts(&command.scope(&context, self.registry.id()), true);
        let draft = decide(&facts, command, &context)?;
        let sign = |key: PublicKey, bytes: &[u8]| self.pair(key).sign(bytes).expect("a key that signs");
        let signatures: Vec<Signature> =
            draft.requests().iter().map(|request| sign(request.public_key, &request.bytes)).collect();
        let decision = draft.complete(&signatures).expect("signatures hold");
        self.admit(decision);
        Ok(())
    }

    fn admit(&mut self, decision: Decision) {
        for envelope in decision.envelopes {
            let message = StoredMessage {
                sequence: self.envelopes.len() as u64 + 1,
                subject: envelope.subject.as_str().into(),
                headers: envelope.headers.clone(),
                payload: envelope.payload.clone(),
                time: None,
            };
            self.envelopes.push(envelope);
            for group in self.assembler.push(message) {
                let Group::Command(complete) = group else { panic!("an anomaly: {group:?}") };
                let mut facts = self.registry.facts(&complete.scope(), false);
                let admitted = complete.admit(&mut facts).expect("all facts were named");
                let admitted = admitted.expect("what was decided is admitted");
                for id in &admitted.changed {
                    let entity = facts.entity(*id).expect("a named fact").expect("a changed entity");
                    self.registry.put(entity.clone());
                }
                self.registry.record(admitted.recorded);
                admitted.voided.into_iter().for_each(|voided| self.registry.record(voided));
            }
        }
    }
}

/// A user who can connect.
#[derive(Debug)]
pub struct Login {
    token: String,
    key: KeyPair,
}

impl Login {
    /// A token and a key; nobody checks whether they belong together.
    pub fn new(token: &Token, key: &KeyPair) -> Login {
        Login::forged(token.as_str(), key)
    }

    /// Any text where the token belongs.
    pub fn forged(token: &str, key: &KeyPair) -> Login {
        let key = KeyPair::from_seed(key.seed().expose()).expect("a seed of the core");
        Login { token: token.to_owned(), key }
    }

    /// The user's public key.
    pub fn user(&self) -> PublicKey {
        self.key.public_key()
    }

    /// Prefix of the user's inboxes.
    pub fn inbox(&self) -> String {
        roles::inbox(&self.user().to_string())
    }

    /// The text of a creds file.
    ///
    /// # Panics
    /// When token and key are no user's or not of the same.
    pub fn creds(&self) -> SecretText {
        let token = Token::parse(&self.token).expect("a token of the core");
        creds::format(&token, &self.key).expect("creds of one user")
    }

    /// Connects as this user.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect(&self, address: SocketAddr) -> io::Result<Client> {
        self.own_inbox(Client::connect_with(address, |info| self.proof(info))?)
    }

    /// Connects as this user through a websocket: `ws://127.0.0.1:PORT`.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_websocket(&self, url: &str) -> io::Result<Client> {
        let address = url.trim_start_matches("ws://").parse();
        let address = address.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.own_inbox(Client::connect_websocket(address, |info| self.proof(info))?)
    }

    fn own_inbox(&self, mut client: Client) -> io::Result<Client> {
        client.set_inbox_prefix(&self.inbox());
        Ok(client)
    }

    fn proof(&self, info: &Value) -> Value {
        let nonce = info["nonce"].as_str().unwrap_or_default();
        let signature = self.key.sign(nonce.as_bytes()).expect("a user's key signs");
        json!({ "jwt": self.token, "sig": signature.to_string() })
    }
}

fn key(number: u8, drawn: u64, kind: Kind) -> KeyPair {
    let mut entropy = [number; 32];
    entropy[..8].copy_from_slice(&drawn.to_be_bytes());
    KeyPair::from_entropy(kind, entropy)
}
