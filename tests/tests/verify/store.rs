//! A store that somebody has changed is not believed.

use cim_keys_tests::desk::Desk;
use rusqlite::Connection;

use crate::place::Place;

fn change(desk: &Desk, statement: &str) {
    let connection = Connection::open(desk.store().path()).expect("a store's file");
    let changed = connection.execute(statement, []).expect("a statement");
    assert_eq!(changed, 1, "{statement}");
}

#[test]
fn entities_are_compared_with_what_the_stream_makes() {
    let place = Place::new();
    let user = "(SELECT max(rowid) FROM entities WHERE kind = 'user' AND name = 'ann')";
    for (statement, code) in [
        (
            format!(
                "UPDATE entities SET body = replace(body, '\"credentials\":false', '\"credentials\":true') WHERE rowid = {user}"
            ),
            "entity-differs",
        ),
        (
            format!(
                "UPDATE entities SET body = replace(body, '\"revoked_at\":null', '\"revoked_at\":7') WHERE rowid = {user}"
            ),
            "entity-differs",
        ),
        (format!("DELETE FROM entities WHERE rowid = {user}"), "entity-missing"),
        (format!("UPDATE entities SET body = 'x' WHERE rowid = {user}"), "entity-unreadable"),
        (
            format!(
                "INSERT INTO entities SELECT replace(id, 'user:', 'key:'), 0, 1, 'key', key, parent, 'x', 0, body FROM entities WHERE rowid = {user}"
            ),
            "",
        ),
    ] {
        let twin = place.desk.twin();
        change(&twin, &statement);
        for stream in [false, true] {
            let found = place.verify(&twin, stream);
            assert_eq!(found.status, 8, "{statement} {:?}", found.findings);
            if !code.is_empty() {
                assert_eq!(found.codes(), [code], "{statement}");
            }
        }
    }
    let found = place.verify(&place.desk, false);
    assert_eq!((found.status, found.findings.len()), (0, 0));
}

#[test]
fn an_entity_that_nothing_made() {
    let place = Place::new();
    let (twin, stranger) = (place.desk.twin(), Desk::founded());
    let connection = Connection::open(twin.store().path()).expect("a store's file");
    connection
        .execute("ATTACH ?1 AS other", [stranger.store().path().display().to_string()])
        .expect("another");
    let statement =
        "INSERT INTO entities SELECT id, 0, 1, kind, key, parent, name, 0, body FROM other.entities
                     WHERE kind = 'account' AND name = 'APP'";
    assert_eq!(connection.execute(statement, []).expect("a statement"), 1);
    drop(connection);
    let found = place.verify(&twin, false);
    assert_eq!((found.status, found.codes()), (8, vec!["entity-unfounded"]));
}

#[test]
fn a_trail_with_a_gap() {
    let place = Place::new();
    let twin = place.desk.twin();
    // The last message of all: the user's.
    change(&twin, "DELETE FROM envelopes WHERE id = (SELECT max(id) FROM envelopes)");
    let found = place.verify(&twin, false);
    let last = place.verify(&place.desk, false).summary["head"].as_u64().expect("a sequence");
    assert_eq!(found.findings, [(last, "gap".to_owned(), last, false)]);
    assert_eq!((found.status, &found.summary["compared"]), (8, &false.into()));
    // One in the middle of the founding: its command is not whole, and all that rests on it falls.
    let twin = place.desk.twin();
    change(&twin, "DELETE FROM envelopes WHERE id = (SELECT min(id) + 3 FROM envelopes)");
    let found = place.verify(&twin, false);
    assert_eq!(
        found.by_place().get(&1).map(|(code, ..)| code.as_str()),
        Some("incomplete"),
        "{:?}",
        found.findings
    );
    assert!(found.codes().contains(&"gap") && found.codes().contains(&"not-founded"), "{:?}", found.findings);
    // The stream itself is whole.
    let found = place.verify(&twin, true);
    assert_eq!((found.status, found.findings.len()), (0, 0), "{:?}", found.findings);
}

#[test]
fn a_message_that_the_server_has_otherwise() {
    let place = Place::new();
    let twin = place.desk.twin();
    change(
        &twin,
        "UPDATE envelopes SET payload = CAST(replace(CAST(payload AS TEXT), '\"actor\":\"one\"', '\"actor\":\"two\"') AS BLOB)
         WHERE id = (SELECT max(id) FROM envelopes)",
    );
    let last = place.verify(&place.desk, false).summary["head"].as_u64().expect("a sequence");
    let here = place.verify(&twin, false);
    assert_eq!(here.by_place().get(&last).map(|(code, ..)| code.as_str()), Some("signature"));
    let there = place.verify(&twin, true);
    assert_eq!(there.findings, [(last, "message-differs".to_owned(), last, false)]);
    assert_eq!((here.status, there.status), (8, 8));
}

#[test]
fn an_anomaly_that_is_none() {
    let place = Place::new();
    let twin = place.desk.twin();
    change(
        &twin,
        "INSERT INTO anomalies (first, body) VALUES (1, '{\"sequences\":[1],\"reason\":{\"code\":\"signature\",\"text\":\"x\"}}')",
    );
    let found = place.verify(&twin, false);
    assert_eq!(found.findings, [(1, "anomaly-unfounded".to_owned(), 1, false)]);
    assert_eq!(found.status, 8);
}
