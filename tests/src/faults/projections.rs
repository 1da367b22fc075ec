//! A process ended at any moment while it folds projections and makes them anew.

use super::kills::{killed, worker};
use super::{Invariant, NotRun, Run};
use crate::mixed::{Mixed, Variety, kept, rows};
use crate::wait;
use cim_keys_core::envelope::encode_draft;
use cim_keys_core::projection::{Memory, Projection, Record, all};
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Events that come between two kills.
const EVENTS: u64 = 40;
/// Events that there are before the first one: several transactions.
const BEFORE: u64 = 2500;

/// A fold in memory, as far as the store's.
struct Reference {
    projection: &'static dyn Projection,
    memory: Memory,
    next: usize,
    reached: u64,
}

/// Row 1b.
pub(super) fn killed_while_folding(run: &mut Run) -> Result<(), NotRun> {
    let folder = TempDir::new().expect("a folder");
    let mut mixed = Mixed::new(run.between(1, 1 << 32), Variety::Everything);
    let store = mixed.store(&folder.path().join("store.db"));
    let mut records: Vec<Record> = Vec::new();
    mixed.grow(&store, BEFORE, |part| records.extend(part.records.iter().cloned()));
    let mut references = all().map(Reference::of);
    let longest = takes(&records);
    let file = rusqlite::Connection::open(folder.path().join("store.db")).expect("the store's file");
    file.busy_timeout(Duration::from_secs(30)).expect("a file");
    let (mut between, mut building) = (0, 0);
    for place in 0..run.tries {
        // As after a step of its version: it begins again from the first event.
        if place % 3 == 0 {
            let dropped = &mut references[place / 3 % 3];
            let query = "UPDATE projections SET state = 'dropped' WHERE name = ?1 AND state = 'live'";
            file.execute(query, [dropped.projection.name()]).expect("a file that can be written");
            *dropped = Reference::of(dropped.projection);
        }
        let child = worker("project", folder.path(), "").spawn().expect("the worker starts");
        wait::pass(Duration::from_millis(run.between(0, longest)));
        let output = killed(child);
        assert_eq!(output.status.signal(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
        for reference in &mut references {
            reference.check(&store, &records);
            between += usize::from((1..mixed.head()).contains(&reference.reached));
        }
        let kept = store.projections_building().expect("a store that works");
        building += usize::from(kept > 0);
        mixed.grow(&store, EVENTS, |part| records.extend(part.records.iter().cloned()));
        run.happened(1);
    }
    let enough = run.tries < 20 || between > 0 && building > 0;
    assert!(enough, "{between} of the kills in the middle of the events, {building} in a rebuild");
    run.healed(|| store.project_all().expect("a store that works"));
    for reference in &mut references {
        reference.check(&store, &records);
        assert_eq!(reference.reached, mixed.head());
        let name = reference.projection.name();
        let rebuilt =
            store.rebuild(reference.projection, true, |difference| panic!("I5: {name}: {difference:?}"));
        assert_eq!(rebuilt.expect("a store that works").differences, 0);
    }
    run.holds(&[Invariant::I5]);
    run.did(format!(
        "{} processes ended with SIGKILL over {} events: {between} times a projection was in the middle of them, {building} times one was being made anew",
        run.tries,
        mixed.head()
    ));
    Ok(())
}

/// Milliseconds in which a process may do all of it about twice.
fn takes(records: &[Record]) -> u64 {
    let begun = Instant::now();
    for projection in all() {
        let mut memory = Memory::default();
        for record in records {
            let bytes = encode_draft(&record.event);
            assert!(!bytes.is_empty());
            memory.fold(projection, record).expect("a complete scope");
        }
    }
    // It is read, written, and done once more.
    u64::try_from(begun.elapsed().as_millis() * 8).unwrap_or(0).clamp(200, 10_000)
}

impl Reference {
    fn of(projection: &'static dyn Projection) -> Self {
        Self { projection, memory: Memory::default(), next: 0, reached: 0 }
    }

    /// What is live is the fold up to where it says that it is, which is never less than it was.
    fn check(&mut self, store: &cim_keys::store::Store, records: &[Record]) {
        let name = self.projection.name();
        let listed = store.projections().expect("a store that works");
        let reached = listed.iter().find(|kept| kept.name == name).map_or(0, |kept| kept.sequence);
        assert!(reached >= self.reached, "I5: {name} went back from {} to {reached}", self.reached);
        self.reached = reached;
        while let Some(record) = records.get(self.next).filter(|record| record.sequence <= reached) {
            self.memory.fold(self.projection, record).expect("a complete scope");
            self.next += 1;
        }
        assert!(
            kept(store, self.projection) == rows(&self.memory),
            "I5: {name} at {reached} is not the reference fold"
        );
    }
}
