//! `cim-keys show` in a registry of many users against the same in one of a thousand: each look-up a process of its own, from its
//! start to its end.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command as Process, ExitCode, Stdio};
use std::time::{Duration, Instant};

use cim_keys_core::projection::Directory;
use tempfile::TempDir;

use super::memory::peak;
use super::registry;
use super::rounds::Pair;
use crate::mixed::{Mixed, Variety, name};
use crate::program::{cargo, executable};

/// Users of the registry that it is compared with.
pub const FEW: u64 = 1000;
/// Look-ups before the first one that counts.
const WARM: usize = 5;

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// `show NAME` in the large registry and in the small one.
    pub now: Pair,
    /// The same with `--at`, in the middle of the stream.
    pub past: Pair,
    /// Users of the large one.
    pub users: u64,
    /// Bytes of memory that a look-up in the large one had at most.
    pub peak: u64,
}

/// This program, or where a test measures, the one that cargo builds.
fn program() -> PathBuf {
    let here = std::env::current_exe().expect("a program");
    if here.file_stem().is_some_and(|name| name == "bench") {
        return here;
    }
    let mut build = cargo();
    build.args(["build", "--quiet", "--locked", "--package", "cim-keys-tests", "--bin", "bench"]);
    executable(&mut build, "bench")
}

/// A registry of users, on the stream.
struct Users {
    program: PathBuf,
    folder: TempDir,
    count: u64,
    asked: u64,
}

impl Users {
    fn make(count: u64, progress: &mut impl FnMut(u64)) -> Users {
        let folder = registry::folder();
        let mut mixed = Mixed::new(1, Variety::Users);
        let store = mixed.store(&folder.path().join("store.db"));
        // Behind the operator and the account each event is a user.
        mixed.grow(&store, count + 2, |part| progress(part.records.last().map_or(0, |last| last.sequence)));
        store.project(&Directory).expect("a store that works");
        Users { program: program(), folder, count, asked: 0 }
    }

    /// So many look-ups, of another user each. The most memory that one of them needed is noted.
    fn look_up(&mut self, times: usize, past: bool, most: &mut u64) -> (Duration, usize) {
        let mut took = Duration::ZERO;
        for _ in 0..times {
            // Far from each other.
            self.asked += 1;
            let number = self.asked.wrapping_mul(7_919) % self.count + 1;
            // Somewhere between its creation and the end: what it is now is what it was.
            let at = (number + 2 + self.count + 2) / 2;
            let (time, memory) = self.show(number, past.then_some(at));
            took += time;
            *most = (*most).max(memory);
        }
        (took, times)
    }

    fn show(&self, number: u64, at: Option<u64>) -> (Duration, u64) {
        let mut command = Process::new(&self.program);
        command.arg("--show").arg(self.folder.path()).arg(name(number));
        command.args(at.map(|at| at.to_string())).env_clear().env("HOME", self.folder.path());
        let begun = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("this program");
        let (mut shown, mut said) = (String::new(), String::new());
        child.stdout.take().expect("its output").read_to_string(&mut shown).expect("text");
        child.stderr.take().expect("its talk").read_to_string(&mut said).expect("text");
        assert!(child.wait().expect("its end").success(), "{shown}{said}");
        let took = begun.elapsed();
        assert!(shown.contains(&format!("\"name\":\"{}\"", name(number))), "{shown}{said}");
        let memory = said.lines().last().and_then(|line| line.parse().ok());
        (took, memory.expect("how much memory it took"))
    }
}

/// Makes both registries and looks users up in turns.
///
/// # Panics
/// When anything of it fails.
pub fn measure(users: u64, lookups: usize, rounds: usize, mut progress: impl FnMut(u64)) -> Outcome {
    let mut few = Users::make(FEW, &mut |_| {});
    let mut many = Users::make(users, &mut progress);
    let (mut peak, mut unused) = (0, 0);
    let mut measured = [false, true].into_iter().map(|past| {
        few.look_up(WARM, past, &mut unused);
        many.look_up(WARM, past, &mut peak);
        Pair::measure(
            rounds,
            || many.look_up(lookups, past, &mut peak),
            || few.look_up(lookups, past, &mut unused),
        )
    });
    let (now, past) = (measured.next().expect("one"), measured.next().expect("another"));
    drop(measured);
    Outcome { now, past, users, peak }
}

/// Shows one user, and says how much memory that took at most.
///
/// # Panics
/// When the system does not tell.
#[must_use]
pub fn show(folder: &str, name: &str, at: Option<&str>) -> (ExitCode, u64) {
    let mut words: Vec<&str> = vec!["cim-keys", "--data", folder, "show", name, "--output", "json"];
    words.extend(at.map(|at| ["--at", at]).into_iter().flatten());
    let ended = cim_keys::cli::run(words.into_iter().map(Into::into));
    (ended, peak().expect("a system that tells what a process needs"))
}
