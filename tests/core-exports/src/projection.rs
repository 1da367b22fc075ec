//! Read models: rows that events make, and differences in words.

use std::str::FromStr;

use cim_keys_core::admission::StoredMessage;
use cim_keys_core::changes::{called, changes};
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::projection::{
    Audit, Directory, Entry, Expiry, Key, Memory, Projection, Range, Record, Rows, all, number, tree,
};
use cim_keys_core::registry::{Entity, EntityId};
use cim_keys_core::time::ServerTime;

use crate::{Failed, exports, shown};

fn record(message: &StoredMessage) -> Result<Record, Failed> {
    Ok(Record::open(message.sequence, &message.subject, &message.headers, &message.payload)?)
}

/// One of [`all`] by its name.
fn projection(name: &str) -> Result<&'static dyn Projection, Failed> {
    let found = all().into_iter().find(|projection| projection.name() == name);
    found.ok_or_else(|| Failed::from("no such projection"))
}

exports! {
    projection_time(text: String, nanos: i64) {
        (ServerTime::from_str(&text)?.to_string(), ServerTime::from_nanos(nanos)?.to_string())
    }
    projection_record(message: StoredMessage) {
        let record = Record::open(message.sequence, &message.subject, &message.headers, &message.payload)?;
        (record.since(), shown(record))
    }
    projection_key(parts: Vec<String>, next: u64, stored: String) {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (key, ranges) = (Key::of(&parts), [Range::below(&parts), Range::beginning(&parts)]);
        let numbers = Range::numbers(&parts, next, u64::MAX).after(&key);
        shown((key, number(next), ranges, numbers, Key::stored(stored)))
    }
    projection_rows(name: String, message: StoredMessage, kept: Vec<(String, Option<String>)>) {
        let (projection, record, mut rows) = (projection(&name)?, record(&message)?, Rows::default());
        for (key, value) in kept {
            rows.load(Key::stored(key), value);
        }
        let unknown = projection.scope(&record).iter().filter(|key| !rows.knows(key)).count();
        projection.apply(&mut rows, &record);
        (unknown, shown(rows.changes()?))
    }
    projection_edit(key: String, text: String) {
        let (mut rows, key) = (Rows::default(), Key::stored(key));
        rows.load(key.clone(), None);
        rows.mark(key.clone());
        rows.put(key.clone(), text.clone());
        let read = (rows.get(&key).map(str::to_owned), rows.read::<String>(&key));
        rows.write(key.clone(), &text);
        rows.remove(key);
        (read, shown(rows.changes()?))
    }
    projection_fold(name: String, messages: Vec<StoredMessage>) {
        let (projection, mut memory) = (projection(&name)?, Memory::default());
        for message in &messages {
            memory.fold(projection, &record(message)?)?;
        }
        let all = Range::beginning(&[""]);
        let first = memory.rows(&all).next().map(|(key, _)| key.clone());
        (memory.reached(), first.and_then(|key| memory.row(&key).map(str::to_owned)), memory.all().count())
    }
    projection_directory(message: StoredMessage, sequence: u64, name: String) {
        let (record, mut memory) = (record(&message)?, Memory::default());
        memory.fold(&Directory, &record)?;
        let key = PublicKey::from_str(&record.event.entity.to_string())?;
        let ids: Vec<EntityId> =
            memory.rows(&Directory::keyed(key)).filter_map(|(key, _)| Directory::entity(key)).collect();
        let at = |id: &EntityId| {
            let was = memory.rows(&Directory::was(*id, sequence)).next().map(|(_, was)| was);
            let now = memory.row(&Directory::now(*id))?;
            Some((Directory::at(sequence, now, was), Directory::version(now)))
        };
        let ranges = [Directory::named(&name), Directory::of_kind(&name), Directory::users_of(key)];
        (ids.iter().map(at).collect::<Vec<_>>(), shown(ranges))
    }
    projection_audit(messages: Vec<StoredMessage>, text: String) {
        let records = messages.iter().map(record).collect::<Result<Vec<_>, _>>()?;
        let entries: Vec<Entry> = records.iter().map(Entry::of).collect();
        let looked = [Audit::between(0, 9), Audit::by("actor", &text, 0, 9)];
        let sequences: Vec<_> = entries.iter().map(|entry| Audit::sequence(&Audit::at(entry.sequence))).collect();
        (tree(entries), sequences, Audit::entry(&text), shown(looked))
    }
    projection_expiry(from: i64, until: i64, text: String) {
        (shown(Expiry::between(from, until)), Expiry::expiring(&text))
    }
    changes_between(before: Option<Entity>, after: Option<Entity>, owner: Option<String>) {
        let name = after.as_ref().map(|entity| called(entity, owner.as_deref()));
        (changes(before.as_ref(), after.as_ref(), owner.as_deref()), name)
    }
}
