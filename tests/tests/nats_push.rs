//! Recorded is not enforced: what `push` does to a real server, and what it leaves alone.

use cim_keys::nats::link::{Link, LinkError, Trouble};
use cim_keys::nats::resolver;
use cim_keys::nats::target::{Access, Target};
use cim_keys::push::{self, Mode, Report, State};
use cim_keys_core::command::Command;
use cim_keys_core::creds::Creds;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::registry::{Entity, EntityId, Lookup};
use cim_keys_core::roles::PipelineRole;
use cim_keys_tests::server::NatsServer;
use cim_keys_tests::site::{Site, run};
use std::sync::Arc;
use std::time::Duration;

fn entrance(url: &str, creds: Creds) -> Target {
    Target {
        access: Arc::new(Access::Creds { token: creds.token, key: creds.key }),
        api_prefix: "$JS.API".into(),
        ..Target::open(url)
    }
}

async fn push(site: &Site, url: &str, mode: Mode) -> Report {
    push::round(&site.host, &site.link(PipelineRole::Resolver, url).await, mode).await.unwrap()
}

fn state(report: &Report, account: PublicKey) -> &State {
    &report.accounts.iter().find(|found| found.account == account).unwrap().state
}

/// A site whose registry is on a server's stream, with one account there.
async fn published() -> (Site, NatsServer, PublicKey) {
    let site = Site::found();
    let app = site.account("APP");
    let server = site.server();
    site.streams(&server.url()).await;
    site.sync(&server.url()).await;
    (site, server, app)
}

fn token(site: &Site, account: PublicKey) -> String {
    let id = EntityId::Account(account);
    let (facts, _) = site.host.store().facts(&[Lookup::Entity(id)], true).unwrap();
    facts.entity(id).unwrap().and_then(Entity::token).unwrap().text().unwrap()
}

async fn on_server(site: &Site, url: &str, account: PublicKey) -> Option<String> {
    let link = site.link(PipelineRole::Resolver, url).await;
    resolver::lookup(&link, account, 1).await.unwrap().remove(0)
}

#[test]
fn a_revoked_user_is_cut_off_and_stays_out() {
    run(async {
        let (site, mut server, app) = published().await;
        let url = server.url();
        let (bob, creds) = site.user(app, "bob");
        let target = entrance(&url, creds);
        let link = Link::connect(&target, 0).await.unwrap();
        // Inside its permissions and outside.
        let inside = link.ask("app.x", None, Vec::new(), Duration::from_secs(5)).await;
        assert_eq!(inside.unwrap_err(), Trouble::NoResponders);
        let outside = link.ask("other.x", None, Vec::new(), Duration::from_secs(5)).await;
        assert_eq!(outside.unwrap_err(), Trouble::Permission { subject: "other.x".into() });

        site.run(Command::RevokeUser { account: app, user: bob });
        site.sync(&url).await;
        assert_eq!(
            state(&push(&site, &url, Mode { dry_run: true, ..Mode::default() }).await, app),
            &State::Due
        );
        assert!(!link.is_closed(), "recorded is not enforced");
        assert_eq!(state(&push(&site, &url, Mode::default()).await, app), &State::Pushed);
        assert!(matches!(link.closed().await, Trouble::Closed | Trouble::Authorization { .. }));
        let refused = Link::connect(&target, 0).await.unwrap_err();
        assert!(matches!(refused, LinkError::Refused { .. }), "{refused}");
        let noted = site.host.store().pushed(app).unwrap().unwrap();
        assert_eq!((noted.done, noted.servers), (true, 1));

        server.restart();
        assert!(matches!(Link::connect(&target, 0).await.unwrap_err(), LinkError::Refused { .. }));
        assert_eq!(state(&push(&site, &url, Mode::default()).await, app), &State::Enforced);
        assert!(matches!(Link::connect(&target, 0).await.unwrap_err(), LinkError::Refused { .. }));
    });
}

#[test]
fn only_what_is_confirmed_is_pushed() {
    run(async {
        let (site, server, app) = published().await;
        let url = server.url();
        let before = on_server(&site, &url, app).await.unwrap();
        let (bob, _) = site.user(app, "bob");
        site.run(Command::RevokeUser { account: app, user: bob });
        let fresh = site.account("FRESH");
        // Recorded here, on no stream: nobody else has seen it.
        let report = push(&site, &url, Mode::default()).await;
        assert_eq!((state(&report, app), state(&report, fresh)), (&State::Enforced, &State::Unconfirmed));
        assert!(!report.is_enforced());
        assert_eq!(on_server(&site, &url, app).await.unwrap(), before);
        // The way out, over exactly the newest confirmed token.
        let report = push(&site, &url, Mode { unconfirmed: true, ..Mode::default() }).await;
        assert_eq!((state(&report, app), state(&report, fresh)), (&State::Pushed, &State::Pushed));
        assert_eq!(on_server(&site, &url, app).await.unwrap(), token(&site, app));
        // A plain push does not take it back.
        assert_eq!(state(&push(&site, &url, Mode::default()).await, app), &State::Ahead);
        assert_eq!(on_server(&site, &url, app).await.unwrap(), token(&site, app));
        site.sync(&url).await;
        assert!(push(&site, &url, Mode::default()).await.is_enforced());
    });
}

#[test]
fn a_token_that_the_registry_does_not_know_is_drift() {
    run(async {
        let (site, server, app) = published().await;
        let url = server.url();
        // Another host, not on the stream, pushed by hand.
        let other = site.copy();
        let (bob, _) = other.user(app, "bob");
        other.run(Command::RevokeUser { account: app, user: bob });
        let foreign = token(&other, app);
        let link = site.link(PipelineRole::Resolver, &url).await;
        let answer = resolver::update(&link, &foreign, 1).await.unwrap();
        assert_eq!(answer[0].refused, None);
        for mode in [Mode::default(), Mode { unconfirmed: true, ..Mode::default() }] {
            assert!(matches!(state(&push(&site, &url, mode).await, app), State::Drift { .. }), "{mode:?}");
        }
        assert_eq!(on_server(&site, &url, app).await.unwrap(), foreign);
        let report = push(&site, &url, Mode { repair: true, ..Mode::default() }).await;
        assert_eq!(state(&report, app), &State::Pushed);
        assert_eq!(on_server(&site, &url, app).await.unwrap(), token(&site, app));
        // An older token of our own is known: no drift.
        let (eve, _) = site.user(app, "eve");
        let old = token(&site, app);
        site.run(Command::RevokeUser { account: app, user: eve });
        site.sync(&url).await;
        push(&site, &url, Mode::default()).await;
        assert_eq!(resolver::update(&link, &old, 1).await.unwrap()[0].refused, None);
        assert_eq!(state(&push(&site, &url, Mode::default()).await, app), &State::Pushed);
        assert_eq!(on_server(&site, &url, app).await.unwrap(), token(&site, app));
    });
}

#[test]
fn two_hosts_revoke_two_users_of_one_account_and_both_are_in_force() {
    run(async {
        let (one, server, app) = published().await;
        let url = server.url();
        let (bob, bob_creds) = one.user(app, "bob");
        let (eve, eve_creds) = one.user(app, "eve");
        one.sync(&url).await;
        let two = one.copy();
        one.run(Command::RevokeUser { account: app, user: bob });
        two.run(Command::RevokeUser { account: app, user: eve });
        // One name for two users: the second one to come is held.
        one.user(app, "carol");
        two.user(app, "carol");
        two.user(app, "dave");
        assert_eq!(one.sync(&url).await.held, []);
        let second = two.sync(&url).await;
        assert_eq!(second.redecided, 1, "{second:?}");
        let reasons: Vec<_> = second.held.iter().map(|hold| hold.reason.code.as_str()).collect();
        assert_eq!(reasons.len(), 1, "{second:?}");
        one.sync(&url).await;
        // Both know the same, and nothing is left.
        assert_eq!(one.host.store().counts().unwrap().users, two.host.store().counts().unwrap().users);
        assert_eq!(one.sync(&url).await.published + two.sync(&url).await.published, 0);
        for site in [&one, &two] {
            assert!(push(site, &url, Mode::default()).await.is_enforced());
        }
        for creds in [bob_creds, eve_creds] {
            let refused = Link::connect(&entrance(&url, creds), 0).await.unwrap_err();
            assert!(matches!(refused, LinkError::Refused { .. }), "{refused}");
        }
    });
}

#[test]
fn a_server_without_a_full_resolver_says_so() {
    run(async {
        let site = Site::found();
        let server = NatsServer::plain();
        let link = Link::connect(&Target::open(&server.url()), 0).await.unwrap();
        let error = push::round(&site.host, &link, Mode::default()).await.unwrap_err();
        assert_eq!(error.code(), "no-resolver");
    });
}
