//! Creds that do not let in, or not any more, and users that may not do everything.

use super::scene::Stay;
use super::{Invariant, NotRun, Run};
use crate::desk::{Desk, block_on, make_streams};
use crate::ledger::{Ledger, connect_as};
use crate::pipeline::ask;
use crate::server::{NatsServer, Setup};
use crate::site::configuration;
use crate::tools::Version;
use crate::wait;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use cim_keys::host::Request;
use cim_keys::nats::link::Link;
use cim_keys::nats::role;
use cim_keys::nats::target::{Access, Target};
use cim_keys::ports::{self, NewUser};
use cim_keys::push::{self, Mode};
use cim_keys_core::command::Command;
use cim_keys_core::creds;
use cim_keys_core::jwt::{Body, Claims, Grant, SigningKey, Unknown, User, UserRights, encode};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use cim_keys_core::roles::{EDGE_ACCOUNT, EDGE_API_PREFIX, PipelineRole, SYSTEM_ACCOUNT};
use cim_keys_core::secret::SecretText;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a host may take to say that its creds are no good, and what a busy machine may take beside.
const SAID: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_secs(1);

/// What is wrong with creds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Expired,
    NotYet,
    ExpiresMeanwhile,
    Revoked,
    AccountDeleted,
}

const WRONG: [Wrong; 5] =
    [Wrong::Expired, Wrong::NotYet, Wrong::Revoked, Wrong::AccountDeleted, Wrong::ExpiresMeanwhile];

/// Row 16.
pub(super) fn creds_that_end(run: &mut Run) -> Result<(), NotRun> {
    for number in 0..run.tries {
        let wrong = WRONG[number % WRONG.len()];
        let desk = Desk::founded();
        let (place, text) = configuration(desk.host());
        // The account may be deleted by whoever the operator sends.
        let system = System::new(&desk);
        let text = text.replace("allow_delete: false", "allow_delete: true");
        let text = text.replace(&system.before, &system.after);
        let server =
            Setup::configured(Version::Newest, move |folder| text.replace(place, &folder.to_string_lossy()));
        let server = server.start();
        make_streams(&desk.role(PipelineRole::Steward, &server.url()), 120);
        desk.sync(&desk.role(PipelineRole::Host, &server.url())).drained();
        let service_desk = desk.twin();
        one(run, wrong, &desk, &service_desk, &server, &system);
        let host = desk.role(PipelineRole::Host, &server.url());
        desk.sync(&host).drained();
        service_desk.sync(&host).drained();
        let auditor = desk.role(PipelineRole::Auditor, &server.url());
        let ledger = Ledger::read_as(&auditor, &server, EDGE_API_PREFIX);
        run.judge(&ledger, &BTreeSet::new(), &[&desk, &service_desk]);
        run.search(&[&desk, &service_desk], &[&server], &[]);
        run.happened(1);
    }
    Ok(())
}

fn one(run: &mut Run, wrong: Wrong, desk: &Desk, service_desk: &Desk, server: &NatsServer, system: &System) {
    let now = desk.host().ambient().now().seconds();
    let fresh = || desk.role(PipelineRole::Host, &server.url());
    // A creds file has whole seconds: far enough for a host to be at work before.
    let end = now + 4;
    let (first, user) = match wrong {
        Wrong::Expired => (desk.ended(PipelineRole::Host, &server.url()), None),
        Wrong::NotYet => (changed(desk, fresh(), |claims| claims.not_before = now + 3600), None),
        Wrong::ExpiresMeanwhile => (changed(desk, fresh(), |claims| claims.expires = end), None),
        Wrong::Revoked => {
            let (target, user) = named(desk, server);
            (target, Some(user))
        }
        Wrong::AccountDeleted => (fresh(), None),
    };
    let begun = Instant::now();
    Stay::with(service_desk, first, |service| {
        let due = match wrong {
            Wrong::Expired | Wrong::NotYet => begun,
            Wrong::ExpiresMeanwhile => {
                service.idle(begun);
                let left = end * 1000 - desk.host().ambient().now().millis();
                Instant::now() + Duration::from_millis(left.try_into().unwrap_or(0))
            }
            Wrong::Revoked => {
                service.idle(begun);
                let (account, user) = (edge(desk), user.expect("a user"));
                desk.act(Command::RevokeUser { account, user });
                desk.sync(&fresh()).drained();
                push(desk, server);
                Instant::now()
            }
            Wrong::AccountDeleted => {
                service.idle(begun);
                system.delete(desk, server, edge(desk));
                Instant::now()
            }
        };
        let (at, reason) = service.blocked(begun);
        let took = at.saturating_duration_since(due);
        assert!(took < SAID + SLACK, "I8: {wrong:?}: blocked after {took:?}: {}", reason.text);
        assert!(!reason.text.is_empty(), "I1: {wrong:?} says why");
        // What is made now is visibly pending.
        service_desk.user("meanwhile");
        assert_eq!(service_desk.pending(), 1, "I1: visibly pending");
        if wrong == Wrong::AccountDeleted {
            system.restore(desk, server, edge(desk));
        }
        let renewed = Instant::now();
        service.renew(fresh());
        run.healed(|| {
            wait::until("new creds are taken up", || (service_desk.pending() == 0).then_some(()));
            service.idle(renewed);
        });
        run.did(format!(
            "{wrong:?}: blocked after {} ms (`{}`), new creds taken up after {} ms without a restart",
            took.as_millis(),
            reason.code,
            renewed.elapsed().as_millis()
        ));
        run.holds(&[Invariant::I8]);
    });
}

fn edge(desk: &Desk) -> PublicKey {
    role::account(desk.host(), EDGE_ACCOUNT).expect("the account of the roles").key
}

/// The same user with another token, signed by who signed it before.
fn changed(desk: &Desk, target: Target, change: impl FnOnce(&mut Claims)) -> Target {
    let Access::Creds { token, key } = &*target.access else { panic!("creds of a role") };
    let mut claims = token.claims().clone();
    change(&mut claims);
    let signer = desk.host().key(claims.issuer).expect("the role's key");
    let token = encode(&claims).expect("a token").sign(&signer).expect("a signature");
    let key = KeyPair::from_seed(key.seed().expose()).expect("the same key");
    Target { access: Arc::new(Access::Creds { token, key }), ..target }
}

/// A user of the registry with the role of a host.
fn named(desk: &Desk, server: &NatsServer) -> (Target, PublicKey) {
    let account = edge(desk);
    let request = Request::from(NewUser {
        account,
        name: "a service".into(),
        access: ports::Access::Role(PipelineRole::Host.to_string()),
        expires: 0,
        tags: Vec::new(),
        key: None,
        credentials: true,
        keep: false,
    });
    let user = desk.run(&request).expect("a user").keys[0];
    desk.sync(&desk.role(PipelineRole::Host, &server.url())).drained();
    let mut made = None;
    let deliver = |text: &SecretText| {
        made = creds::parse(text.expose()).ok();
        Ok(())
    };
    desk.host().hand_out_with(account, user, deliver).expect("creds");
    let made = made.expect("creds that can be read");
    (Target::of_role(&server.url(), PipelineRole::Host, made.token, made.key), user)
}

fn push(desk: &Desk, server: &NatsServer) {
    let resolver = desk.role(PipelineRole::Resolver, &server.url());
    block_on(async {
        let link = Link::connect(&resolver, 0).await.expect("a connection");
        push::round(desk.host(), &link, Mode::default()).await.expect("a push");
    });
}

/// The system account with a key that can sign users of it: what no role of the pipeline may do is done by one.
struct System {
    account: PublicKey,
    /// The operator's signing key: servers trust its identity key for nothing else.
    operator: PublicKey,
    signer: KeyPair,
    /// Its token as the registry has it, and with the key.
    before: String,
    after: String,
}

impl System {
    fn new(desk: &Desk) -> System {
        let account = role::account(desk.host(), SYSTEM_ACCOUNT).expect("the system account");
        let signer = KeyPair::from_entropy(Kind::Account, desk.host().ambient().entropy().expect("entropy"));
        let mut claims = account.token.claims().clone();
        let Body::Account(body) = &mut claims.body else { panic!("no account") };
        body.signing_keys.insert(signer.public_key(), SigningKey::Plain);
        let operator = desk.host().key(claims.issuer).expect("the operator's signing key");
        let after = encode(&claims).expect("a token").sign(&operator).expect("a signature");
        let before = account.token.text().expect("its token");
        System {
            account: account.key,
            operator: claims.issuer,
            signer,
            before,
            after: after.as_str().to_owned(),
        }
    }

    fn connect(&self, desk: &Desk, server: &NatsServer) -> crate::wire::Client {
        let key = KeyPair::from_entropy(Kind::User, desk.host().ambient().entropy().expect("entropy"));
        let claims = Claims {
            audience: String::new(),
            expires: 0,
            issued_at: desk.host().ambient().now().seconds(),
            issuer: self.signer.public_key(),
            name: "system".into(),
            not_before: 0,
            subject: key.public_key(),
            body: Body::User(User {
                issuer_account: Some(self.account),
                grant: Grant::Own(Box::<UserRights>::default()),
                tags: Vec::new(),
                unknown: Unknown::default(),
            }),
            unknown: Unknown::default(),
        };
        let token = encode(&claims).expect("a token").sign(&self.signer).expect("a signature");
        let target = Target { access: Arc::new(Access::Creds { token, key }), ..Target::open(&server.url()) };
        connect_as(&target, server)
    }

    /// Deletes an account from the server's resolver, as an operator's tool does.
    fn delete(&self, desk: &Desk, server: &NatsServer, account: PublicKey) {
        let operator = self.operator;
        let signer = desk.host().key(operator).expect("the operator's signing key");
        let claims = json!({
            "jti": "", "iat": desk.host().ambient().now().seconds(), "iss": operator.to_string(),
            "sub": operator.to_string(), "name": "delete",
            "nats": { "accounts": [account.to_string()], "type": "generic", "version": 2 },
        });
        let head = Base64UrlUnpadded::encode_string(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
        let unsigned = format!("{head}.{}", Base64UrlUnpadded::encode_string(claims.to_string().as_bytes()));
        let signature = signer.sign(unsigned.as_bytes()).expect("a signature");
        let token = format!("{unsigned}.{signature}");
        let answer = ask(&mut self.connect(desk, server), "$SYS.REQ.CLAIMS.DELETE", &[], token.as_bytes());
        assert!(answer["error"].is_null(), "{answer}");
    }

    /// Brings it back.
    fn restore(&self, desk: &Desk, server: &NatsServer, account: PublicKey) {
        let account = desk.host().account(account).expect("the account");
        // A server that has deleted an account takes no notice of the same token.
        let mut claims = account.token.claims().clone();
        claims.issued_at += 1;
        let operator = desk.host().key(claims.issuer).expect("the operator's signing key");
        let token = encode(&claims).expect("a token").sign(&operator).expect("a signature");
        let answer =
            ask(&mut self.connect(desk, server), "$SYS.REQ.CLAIMS.UPDATE", &[], token.as_str().as_bytes());
        assert!(answer["error"].is_null(), "{answer}");
    }
}
