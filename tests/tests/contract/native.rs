//! The native host before a real server plays every scenario: each has a server, ports and folders of its own.

use cim_keys_tests::contract::native::Native;
use cim_keys_tests::contract::{Name, play, scenarios_for};

/// A test of each name, and one that these are all of them.
macro_rules! scenarios {
    ($($test:ident $name:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            attempt($name);
        })*

        #[test]
        fn no_scenario_is_left_out() {
            let all: Vec<String> = scenarios_for(Name::Native).into_iter().map(|scenario| scenario.name).collect();
            assert_eq!(all, [$($name),*]);
        }
    };
}

fn attempt(name: &str) {
    let scenario = scenarios_for(Name::Native).into_iter().find(|scenario| scenario.name == name).unwrap();
    let mut driver = Native::new(&scenario).unwrap();
    play(&scenario, &mut driver).unwrap_or_else(|why| panic!("{why}"));
}

scenarios! {
    append_one "append-one",
    append_what_was_made_offline "append-what-was-made-offline",
    conflict "conflict",
    conflict_of_a_batch "conflict-of-a-batch",
    conflict_over_a_name "conflict-over-a-name",
    conflict_of_two_offline_hosts "conflict-of-two-offline-hosts",
    lost_acknowledgement "lost-acknowledgement",
    lost_acknowledgement_of_a_batch "lost-acknowledgement-of-a-batch",
    cut_before_the_publish_arrives "cut-before-the-publish-arrives",
    cut_before_a_batch_arrives "cut-before-a-batch-arrives",
    cut_after_the_publish_arrived "cut-after-the-publish-arrived",
    cut_while_another_takes_the_name "cut-while-another-takes-the-name",
    late_publish "late-publish",
    server_restarts "server-restarts",
    server_restarts_with_a_publish_on_its_way "server-restarts-with-a-publish-on-its-way",
    server_away_and_back "server-away-and-back",
    server_stands_still "server-stands-still",
    killed_between_publish_and_acknowledgement "killed-between-publish-and-acknowledgement",
    killed_in_a_batch "killed-in-a-batch",
    killed_between_commit_and_connection "killed-between-commit-and-connection",
    killed_with_a_publish_on_its_way "killed-with-a-publish-on-its-way",
    blocked_by_creds_that_the_server_refuses "blocked-by-creds-that-the-server-refuses",
    blocked_by_a_revocation_while_connected "blocked-by-a-revocation-while-connected",
    blocked_by_creds_that_have_ended "blocked-by-creds-that-have-ended",
    blocked_by_a_role_that_may_not_append "blocked-by-a-role-that-may-not-append",
    blocked_by_a_role_that_may_not_append_a_batch "blocked-by-a-role-that-may-not-append-a-batch",
    blocked_by_a_missing_stream "blocked-by-a-missing-stream",
    blocked_before_the_stream_is_made "blocked-before-the-stream-is-made",
    blocked_by_settings_of_the_stream "blocked-by-settings-of-the-stream",
    blocked_by_an_old_server "blocked-by-an-old-server",
    blocked_by_a_stream_that_was_made_anew "blocked-by-a-stream-that-was-made-anew",
    blocked_by_a_stream_that_went_back "blocked-by-a-stream-that-went-back",
    blocked_by_another_message_at_head "blocked-by-another-message-at-head",
    blocked_by_another_registry "blocked-by-another-registry",
    blocked_by_its_own_store "blocked-by-its-own-store",
    two_publishers "two-publishers",
    two_publishers_over_one_name "two-publishers-over-one-name",
    second_driver_on_one_journal "second-driver-on-one-journal",
}
