//! A small disk of its own, so that it can be full.

use super::NotRun;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A tmpfs with a size. Dropping it takes it away.
pub(super) struct Disk {
    folder: TempDir,
}

impl Disk {
    /// Of so many mebibytes.
    ///
    /// # Errors
    /// The system lets nobody mount one here.
    ///
    /// # Panics
    /// When there is no temporary folder.
    pub(super) fn small(mebibytes: u32) -> Result<Disk, NotRun> {
        let folder = TempDir::new().expect("a temporary folder");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=0700"), "tmpfs"])
            .arg(folder.path());
        match mount.output() {
            Ok(output) if output.status.success() => Ok(Disk { folder }),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(NotRun(format!("a tmpfs with a size cannot be mounted (root may): {said}")))
            }
            Err(error) => Err(NotRun(format!("a tmpfs with a size cannot be mounted: mount: {error}"))),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes until nothing more fits, and gives how many bytes that took.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub(super) fn fill(&self) -> u64 {
        let mut file = File::create(self.filler()).expect("a file");
        for size in [65_536, 4096, 1] {
            while file.write_all(&vec![0x55; size]).is_ok() {}
        }
        file.metadata().expect("a file").len()
    }

    /// Makes room again.
    ///
    /// # Panics
    /// When the file cannot be removed.
    pub(super) fn free(&self) {
        fs::remove_file(self.filler()).expect("the file that fills the disk");
    }

    fn filler(&self) -> std::path::PathBuf {
        self.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server that was ended a moment ago may still hold a file.
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}
