//! What a seed means: who takes part, what is wanted, what goes wrong.

use super::rng::Rng;
use cim_keys_core::sync::Bug;
use std::collections::BTreeSet;

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Processes die at any step and begin again from their journal.
    Crash,
    /// One process dies at exactly one step.
    CrashOnce,
    /// Acknowledgements get lost.
    AckLost,
    /// Messages arrive long after the client gave up on them.
    Late,
    /// Connections break.
    Cut,
    /// A host has no network for a while.
    Offline,
    /// The server restarts and forgets open batches and a part of its message ids.
    Restart,
    /// The server stands still and goes on where it stood.
    Freeze,
    /// Nobody leads the stream.
    Leaderless,
    /// Publishes get no answer while reads work: a full disk.
    DiskFull,
    /// The server refuses the creds or a subject for a while.
    Denied,
    /// The store of a host fails for a while.
    StoreFails,
    /// The stores of hosts are slow: much happens between two of their answers.
    SlowStore,
    /// The stream is created late.
    NoStream,
    /// The clocks of hosts differ and jump.
    Clock,
    /// A second host, a copy of store and keys, goes its own way.
    SecondHost,
    /// Messages that belong to nobody: garbage, old events again, half commands, forgeries.
    Garbage,
    /// Somebody else with the same keys appends without looking.
    ThirdWriter,
    /// Somebody else appends what a host has pending or had before.
    Import,
    /// A message id that a host is about to use is taken by garbage.
    Squat,
    /// The stream has three replicas: other checks first, and a time between proposal and commit.
    Replicated,
    /// The leader of the three dies: some of what was on its way is stored in silence, and nobody leads for seconds.
    LeaderLost,
    /// Nothing gets a majority for a while: what is published meanwhile is stored late, or never.
    Divided,
    /// A third host, another copy of store and keys.
    ThirdHost,
    /// The hosts are not equally far from the server.
    Unequal,
    /// The stream forgets its oldest messages: its archive has them.
    Forget,
    /// The power goes, and with it what was acknowledged and no disk had.
    TailLost,
    /// Who answers a read may be a copy that is behind, and ends before the stream does.
    MirrorBehind,
}

impl Fault {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 28] = [
        (Self::Crash, "crash"),
        (Self::CrashOnce, "crash-once"),
        (Self::AckLost, "ack-lost"),
        (Self::Late, "late"),
        (Self::Cut, "cut"),
        (Self::Offline, "offline"),
        (Self::Restart, "restart"),
        (Self::Freeze, "freeze"),
        (Self::Leaderless, "leaderless"),
        (Self::DiskFull, "disk-full"),
        (Self::Denied, "denied"),
        (Self::StoreFails, "store-fails"),
        (Self::SlowStore, "slow-store"),
        (Self::NoStream, "no-stream"),
        (Self::Clock, "clock"),
        (Self::SecondHost, "second-host"),
        (Self::Garbage, "garbage"),
        (Self::ThirdWriter, "third-writer"),
        (Self::Import, "import"),
        (Self::Squat, "squat"),
        (Self::Replicated, "replicated"),
        (Self::LeaderLost, "leader-lost"),
        (Self::Divided, "divided"),
        (Self::ThirdHost, "third-host"),
        (Self::Unequal, "unequal"),
        (Self::Forget, "forget"),
        (Self::TailLost, "tail-lost"),
        (Self::MirrorBehind, "mirror-behind"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(fault, _)| *fault == self).map_or("", |(_, name)| name)
    }
}

/// Everything that a run depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Where its random numbers come from.
    pub seed: u64,
    /// What goes wrong.
    pub faults: BTreeSet<Fault>,
    /// A planted mistake.
    pub bug: Option<Bug>,
    /// Commands that people want in all.
    pub commands: u64,
    /// When the faults stop, in milliseconds of virtual time.
    pub calm_at: u64,
    /// The server's duplicate window, in milliseconds.
    pub window: u64,
    /// One way of a message, in milliseconds, without jitter.
    pub latency: u64,
    /// The same for the second and the third host, where hosts are not equally far.
    pub far: [u64; 2],
    /// How often the server writes its disk through, in milliseconds; 0 is always.
    pub sync: u64,
    /// Likelihood of a crash at a step, in thousandths.
    pub crash_rate: u64,
    /// Step of the one crash.
    pub crash_step: u64,
}

impl Scenario {
    /// What a seed means.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "scenario");
        // From calm to wild, so that a failure often shows with little noise around it.
        let share = rng.between(0, 700);
        let mut faults: BTreeSet<Fault> =
            Fault::ALL.iter().map(|(fault, _)| *fault).filter(|_| rng.chance(share)).collect();
        if rng.chance(500) {
            faults.insert(Fault::SecondHost);
        }
        if rng.chance(300) {
            faults.insert(Fault::CrashOnce);
        }
        if rng.chance(400) {
            faults.insert(Fault::Replicated);
        }
        // Where the tail is lost most hosts stop with an alarm: too little else would happen if it were often.
        faults.remove(&Fault::TailLost);
        if rng.chance(120) {
            faults.insert(Fault::TailLost);
        }
        Self {
            seed,
            faults,
            bug: None,
            commands: rng.between(3, 40),
            calm_at: rng.between(5, 90) * 1000,
            window: rng.pick(&[1_000, 5_000, 120_000]).copied().unwrap_or(1_000),
            latency: rng.pick(&[1, 5, 25, 100]).copied().unwrap_or(1),
            far: std::array::from_fn(|_| rng.pick(&[1, 10, 50, 150, 300]).copied().unwrap_or(1)),
            sync: rng.pick(&[0, 10_000, 120_000]).copied().unwrap_or(0),
            crash_rate: rng.between(2, 60),
            crash_step: rng.between(1, 120),
        }
    }

    /// One way of a message of a host, in milliseconds, without jitter.
    #[must_use]
    pub fn latency_of(&self, host: usize) -> u64 {
        let far = host.checked_sub(1).and_then(|place| self.far.get(place)).copied();
        far.filter(|_| self.has(Fault::Unequal)).unwrap_or(self.latency)
    }

    /// Whether this goes wrong in it.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}
