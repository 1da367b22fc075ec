//! What comes of a plan: commands with their events, and the keys.

use crate::error::SandboxError;
use crate::plan::{AccountPlan, Plan, UserPlan};
use cim_keys_core::bundle::{Bundle, BundledCommand};
use cim_keys_core::command::{Command, decide};
use cim_keys_core::context::{Context, RegistryId};
use cim_keys_core::creds;
use cim_keys_core::jwt::{AccountLimits, PermissionList, Token, UserRights};
use cim_keys_core::nkey::{KeyPair, PublicKey, Signature};
use cim_keys_core::registry::{Entity, EntityId, Registry};
use cim_keys_core::rules;
use cim_keys_core::secret::SecretText;
use uuid::{Builder, Uuid};

/// Place of the operator's signing key among the founding's keys.
const OPERATOR_SIGNING: usize = 1;

/// A registry that was never anywhere else.
pub(crate) struct Made {
    registry: Registry,
    bundle: Bundle,
    /// In the order in which they were made.
    keys: Vec<KeyPair>,
}

/// What is made next, and of which piece of entropy.
struct Maker<'a> {
    plan: &'a Plan,
    used: usize,
}

impl Made {
    /// Carries a plan out: the founding, then each account with its users, in the plan's order. Each command takes one
    /// piece of entropy for its id and one for each of its keys, in their order.
    pub(crate) fn of(plan: &Plan) -> Result<Self, SandboxError> {
        let mut maker = Maker { plan, used: 0 };
        let command = Command::FoundRegistry { name: plan.operator.clone() };
        let id = maker.command_id()?;
        let keys = maker.keys(&command)?;
        let operator = keys.first().map(KeyPair::public_key).ok_or_else(no_key)?;
        let signing = keys.get(OPERATOR_SIGNING).map(KeyPair::public_key).ok_or_else(no_key)?;
        let registry = RegistryId { operator, namespace: plan.namespace.clone() };
        let bundle = Bundle { registry: registry.clone(), commands: Vec::new() };
        let mut made = Self { registry: Registry::new(registry), bundle, keys: Vec::new() };
        made.run(&mut maker, command, operator, id, keys)?;
        for account in &plan.accounts {
            made.account(&mut maker, account, signing)?;
        }
        Ok(made)
    }

    /// Every command with its events. No secret.
    pub(crate) fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The creds file of one user.
    pub(crate) fn secret_creds(&self, account: &str, user: &str) -> Result<SecretText, SandboxError> {
        let unknown = || SandboxError::NoUser { account: account.to_owned(), user: user.to_owned() };
        let owner = self.entities().find(|e| matches!(e, Entity::Account(_)) && e.name() == account);
        let owner = owner.map(Entity::key).ok_or_else(unknown)?;
        let found = self.entities().find_map(|entity| match entity {
            Entity::User(found) if found.account == owner && entity.name() == user => Some(found),
            _ => None,
        });
        let found = found.ok_or_else(unknown)?;
        let pair = self.keys.iter().find(|pair| pair.public_key() == found.key).ok_or_else(unknown)?;
        let token = found.token.text().and_then(|text| Token::parse(&text).ok());
        Ok(creds::format(&token.ok_or_else(no_key)?, pair)?)
    }

    /// A line for each key: its seed, its public half, and what it is.
    pub(crate) fn secret_seeds(&self) -> SecretText {
        let lines: Vec<(SecretText, String)> = self
            .keys
            .iter()
            .map(|pair| (pair.seed(), format!(" {} # {}\n", pair.public_key(), self.what(pair.public_key()))))
            .collect();
        // Reserved at once, so that no shorter buffer is left behind unwiped.
        let mut text =
            String::with_capacity(lines.iter().map(|(seed, rest)| seed.expose().len() + rest.len()).sum());
        for (seed, rest) in &lines {
            text.push_str(seed.expose());
            text.push_str(rest);
        }
        SecretText::new(text)
    }

    fn account(
        &mut self,
        maker: &mut Maker<'_>,
        plan: &AccountPlan,
        signing: PublicKey,
    ) -> Result<(), SandboxError> {
        let command = Command::CreateAccount { name: plan.name.clone(), limits: AccountLimits::default() };
        let (id, keys) = (maker.command_id()?, maker.keys(&command)?);
        let [account, own] = keys.as_slice() else { return Err(no_key()) };
        let (account, own) = (account.public_key(), own.public_key());
        self.run(maker, command, signing, id, keys)?;
        for user in &plan.users {
            let command = create_user(account, user);
            let (id, keys) = (maker.command_id()?, maker.keys(&command)?);
            self.run(maker, command, own, id, keys)?;
        }
        Ok(())
    }

    /// Decides a command, signs it, and folds it in.
    fn run(
        &mut self,
        maker: &mut Maker<'_>,
        command: Command,
        authority: PublicKey,
        command_id: Uuid,
        keys: Vec<KeyPair>,
    ) -> Result<(), SandboxError> {
        let context = Context {
            now: maker.plan.now,
            command_id,
            attempt: 1,
            correlation_id: command_id,
            causation_id: command_id,
            actor: maker.plan.actor.clone(),
            authority,
            keys: keys.iter().map(KeyPair::public_key).collect(),
        };
        self.keys.extend(keys);
        let mut facts = self.registry.facts(&command.scope(&context, self.registry.id()), false);
        let what = || match &command {
            Command::FoundRegistry { name } => format!("operator {name:?}"),
            Command::CreateAccount { name, .. } => format!("account {name:?}"),
            Command::CreateUser { name, .. } => format!("user {name:?}"),
            other => other.name().to_owned(),
        };
        let draft = decide(&facts, &command, &context)
            .map_err(|rejection| SandboxError::Rejected { what: what(), rejection: Box::new(rejection) })?;
        let mut signatures: Vec<Signature> = Vec::new();
        for request in draft.requests() {
            let pair = self.keys.iter().find(|pair| pair.public_key() == request.public_key);
            signatures.push(pair.ok_or_else(no_key)?.sign(&request.bytes)?);
        }
        let decision = draft.complete(&signatures)?;
        for id in rules::judge(&mut facts, &decision.events)? {
            if let Ok(Some(entity)) = facts.entity(id) {
                self.registry.put(entity.clone());
            }
        }
        let (draft_hash, envelopes) = (decision.draft_hash, decision.envelopes);
        self.bundle.commands.push(BundledCommand { command, context, draft_hash, envelopes });
        Ok(())
    }

    fn entities(&self) -> impl Iterator<Item = &Entity> {
        self.registry.entities()
    }

    /// What a person calls a key.
    fn what(&self, key: PublicKey) -> String {
        let name = |key: PublicKey| {
            let ids = [EntityId::Operator(key), EntityId::Account(key)];
            self.entities().find(|entity| ids.contains(&entity.id())).map_or("", Entity::name)
        };
        match self.entities().find(|entity| entity.key() == key) {
            Some(Entity::Operator(_)) => format!("operator {}", name(key)),
            Some(Entity::Account(_)) => format!("account {}", name(key)),
            Some(entity @ Entity::User(user)) => format!("user {}/{}", name(user.account), entity.name()),
            Some(Entity::Key(found)) => {
                let label = found.label.as_deref().map(|label| format!(", {label}")).unwrap_or_default();
                format!("signing key of {}{label}", found.owner.map_or("", name))
            }
            None => String::new(),
        }
    }
}

impl Maker<'_> {
    fn piece(&mut self) -> Result<[u8; 32], SandboxError> {
        let place = self.used;
        self.used += 1;
        let too_little =
            || SandboxError::TooLittle { needed: self.plan.pieces(), found: self.plan.entropy.pieces() };
        self.plan.entropy.piece(place).ok_or_else(too_little)
    }

    fn command_id(&mut self) -> Result<Uuid, SandboxError> {
        let mut random = [0; 10];
        random.copy_from_slice(&self.piece()?[..10]);
        Ok(Builder::from_unix_timestamp_millis(self.plan.now.millis().unsigned_abs(), &random).into_uuid())
    }

    fn keys(&mut self, command: &Command) -> Result<Vec<KeyPair>, SandboxError> {
        command.keys().into_iter().map(|kind| Ok(KeyPair::from_entropy(kind, self.piece()?))).collect()
    }
}

fn create_user(account: PublicKey, plan: &UserPlan) -> Command {
    let list = |allow: &[String]| PermissionList { allow: allow.to_vec(), ..PermissionList::default() };
    let rights = UserRights {
        publish: list(&plan.publish),
        subscribe: list(&plan.subscribe),
        ..UserRights::default()
    };
    Command::CreateUser {
        account,
        name: plan.name.clone(),
        rights: Some(rights),
        expires: plan.expires,
        tags: Vec::new(),
        credentials: true,
    }
}

/// Every key is made before it is asked for.
fn no_key() -> SandboxError {
    SandboxError::Internal { reason: "a key is missing".to_owned() }
}
