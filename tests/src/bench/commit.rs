//! One local commit against writing as many bytes and one fdatasync.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use super::registry;
use super::rounds::Pair;

/// Where the baseline's file begins anew: about where SQLite's write-ahead log does.
const WRAP: u64 = 4 * 1024 * 1024;

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Commits, and writes with one fdatasync.
    pub pair: Pair,
    /// Bytes that one commit writes, everything included: the mean.
    pub bytes: u64,
}

/// Creates users one command at a time, in turns with writes of as many bytes, `count` a round.
///
/// # Panics
/// When the store or the file system refuses.
pub fn measure(count: usize, rounds: usize) -> Outcome {
    let folder = registry::folder();
    let (host, account) = registry::found(folder.path());
    let mut number = 0;
    let mut commits = |count: usize| {
        let start = Instant::now();
        for _ in 0..count {
            registry::create_user(&host, account, number);
            number += 1;
        }
        (start.elapsed(), count)
    };
    // Until the log has come round once: from then on it is written over, as in a registry of some age.
    let warm = count.max(2) * 4;
    let before = written(folder.path());
    commits(warm);
    let bytes = (written(folder.path()).saturating_sub(before) / warm as u64).max(1);
    let mut plain = Plain::new(folder.path(), bytes);
    let pair = Pair::measure(rounds, || commits(count), || plain.write(count));
    Outcome { pair, bytes }
}

/// Bytes that this thread has handed to the system for writing, or the size of the files where that is not known.
fn written(folder: &Path) -> u64 {
    let counted = fs::read_to_string("/proc/thread-self/io")
        .ok()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("wchar: ")?.trim().parse().ok()));
    counted.unwrap_or_else(|| {
        let files = fs::read_dir(folder).expect("a folder");
        files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
    })
}

struct Plain {
    file: File,
    block: Vec<u8>,
}

impl Plain {
    fn new(folder: &Path, bytes: u64) -> Plain {
        let mut file = File::create_new(folder.join("plain")).expect("a file");
        file.write_all(&vec![0; usize::try_from(WRAP + bytes).expect("a few megabytes")]).expect("room");
        file.sync_all().expect("a disk");
        file.rewind().expect("a file");
        Plain { file, block: vec![0x5a; usize::try_from(bytes).expect("a few kilobytes")] }
    }

    fn write(&mut self, count: usize) -> (Duration, usize) {
        let start = Instant::now();
        for _ in 0..count {
            self.file.write_all(&self.block).expect("room");
            // On Linux this is fdatasync.
            self.file.sync_data().expect("a disk");
            if self.file.stream_position().expect("a file") > WRAP {
                self.file.seek(SeekFrom::Start(0)).expect("a file");
            }
        }
        (start.elapsed(), count)
    }
}
