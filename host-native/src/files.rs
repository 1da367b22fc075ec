//! Secret files: readable by their owner alone, written durably, never over another file without a word.

use crate::crash::{self, Step};
use rustix::fs::FlockOperation;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

use cim_keys_core::digest::Digest;
use cim_keys_core::secret::SecretText;

/// Secret files larger than this are no secret files.
const LIMIT: u64 = 1024 * 1024;

/// Writes a secret file, mode 0600: a temporary file in the same folder, fsync, then given its name, then fsync of the
/// folder. A crash leaves the whole file or none.
///
/// # Errors
/// [`FileError::Exists`] where there is a file of that name: nothing is overwritten.
pub fn write_new(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let folder = folder_of(path)?;
    if path.symlink_metadata().is_ok() {
        // Where a file has two names for a moment, a process that ended then has left the other one.
        clear(path, folder);
        return Err(FileError::Exists { path: path.to_owned() });
    }
    let (temporary, mut file) = temporary_of(path, folder)?;
    crash::reach(Step::FileMade);
    let written = (|| {
        file.write_all(content)?;
        crash::reach(Step::FileWritten);
        file.sync_all()?;
        crash::reach(Step::FileSynced);
        take_name(&temporary, path)
    })();
    crash::reach(Step::FileNamed);
    let _ = fs::remove_file(&temporary);
    crash::reach(Step::FileCleared);
    match written {
        Ok(()) => sync_folder(folder).inspect(|()| crash::reach(Step::FileDone)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(FileError::Exists { path: path.to_owned() })
        }
        Err(error) => Err(FileError::io("write", path, &error)),
    }
}

/// Writes a file of ours anew, mode 0600, in one step: readers see the old content or the new.
///
/// # Errors
/// The file cannot be written.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let folder = folder_of(path)?;
    let (temporary, mut file) = temporary_of(path, folder)?;
    crash::reach(Step::ReplacementMade);
    let written = (|| {
        file.write_all(content)?;
        file.sync_all()?;
        crash::reach(Step::ReplacementSynced);
        fs::rename(&temporary, path)
    })();
    crash::reach(Step::ReplacementNamed);
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(FileError::io("write", path, &error));
    }
    sync_folder(folder)
}

/// Checks that a new file can be put here, before something is done that cannot be undone.
///
/// # Errors
/// The name is taken, or its folder does not exist and cannot be made.
pub fn check_new(path: &Path) -> Result<(), FileError> {
    if path.symlink_metadata().is_ok() {
        return Err(FileError::Exists { path: path.to_owned() });
    }
    let folder = folder_of(path)?;
    if folder.is_dir() { Ok(()) } else { Err(FileError::Folder { path: folder.to_owned() }) }
}

/// Reads a secret file that only its owner may read.
///
/// # Errors
/// It is missing, larger than 1 MiB, no UTF-8 text, or others may read it.
pub fn read_secret(path: &Path) -> Result<SecretText, FileError> {
    let (file, meta) = opened(path)?;
    match open_mode(&meta).filter(|_| meta.is_file()) {
        Some(mode) => Err(FileError::Open { path: path.to_owned(), mode }),
        None => text_of(file, &meta, path),
    }
}

/// Reads a text file that may have secrets in it, whoever else may read it.
///
/// # Errors
/// It is missing, larger than 1 MiB, or no UTF-8 text.
pub fn read_text(path: &Path) -> Result<SecretText, FileError> {
    let (file, meta) = opened(path)?;
    text_of(file, &meta, path)
}

/// The mode of a file or folder that not only its owner may use; none on systems without modes, or where there is none.
#[must_use]
pub fn open_to_others(path: &Path) -> Option<u32> {
    open_mode(&path.metadata().ok()?)
}

fn open_mode(meta: &fs::Metadata) -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = meta.permissions().mode() & 0o777;
        (mode & 0o077 != 0).then_some(mode)
    }
    #[cfg(not(unix))]
    {
        let _ = meta;
        None
    }
}

fn opened(path: &Path) -> Result<(File, fs::Metadata), FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(FileError::Missing { path: path.to_owned() });
        }
        Err(error) => return Err(FileError::io("read", path, &error)),
    };
    let meta = file.metadata().map_err(|error| FileError::io("read", path, &error))?;
    Ok((file, meta))
}

/// All of a text file of at most 1 MiB. What has no length of its own, such as a pipe, is read no further either.
fn text_of(file: File, meta: &fs::Metadata, path: &Path) -> Result<SecretText, FileError> {
    if meta.len() > LIMIT {
        return Err(FileError::Content { path: path.to_owned() });
    }
    let mut text = read_limited(file, path)?;
    Ok(SecretText::new(std::mem::take(&mut text)))
}

/// Reads a secret from stdin.
///
/// # Errors
/// It cannot be read, is larger than 1 MiB, or no UTF-8 text.
pub fn read_secret_stdin() -> Result<SecretText, FileError> {
    let mut text = read_limited(io::stdin().lock(), Path::new("stdin"))?;
    Ok(SecretText::new(std::mem::take(&mut text)))
}

/// All of a text, into a buffer that is reserved at once: a shorter one would be left behind unwiped as it grows. How long it
/// is, a pipe does not say before.
fn read_limited(from: impl io::Read, path: &Path) -> Result<Zeroizing<String>, FileError> {
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(LIMIT).unwrap_or(0) + 1));
    match from.take(LIMIT + 1).read_to_string(&mut text) {
        Ok(read) if read as u64 <= LIMIT => Ok(text),
        Ok(_) => Err(FileError::Content { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(FileError::Content { path: path.to_owned() })
        }
        Err(error) => Err(FileError::io("read", path, &error)),
    }
}

/// Reads a file that is no secret, or stdin where the path is `-`.
///
/// # Errors
/// It is missing, cannot be read, or is larger than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => FileError::Missing { path: path.to_owned() },
        _ => FileError::io("read", path, &error),
    };
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let file = File::open(path).map_err(failed)?;
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 > limit {
        return Err(FileError::Large { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Makes a folder, and those above it, that only its owner may enter.
///
/// # Errors
/// It cannot be made.
pub fn make_folder(path: &Path) -> Result<(), FileError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path).map_err(|error| FileError::io("make", path, &error))
}

/// A name as one harmless part of a path: letters, digits, `.`, `-`, `_`, and not a dot first.
#[must_use]
pub fn safe_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let text: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    match text.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if text.is_empty() => "_".to_owned(),
        None => text,
    }
}

/// The same, and another one for each name: what could not be kept of it stands behind it as a digest.
#[must_use]
pub fn own_name(name: &str) -> String {
    let safe = safe_name(name);
    if safe == name {
        return safe;
    }
    let digest = Digest::of(name.as_bytes()).to_string();
    format!("{safe}-{}", digest.get(..8).unwrap_or_default())
}

/// Options of a file that only its owner may read and write.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options
}

fn folder_of(path: &Path) -> Result<&Path, FileError> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(folder) if path.file_name().is_some() => Ok(folder),
        _ => Err(FileError::Content { path: path.to_owned() }),
    }
}

/// A file with another name in the same folder; the process's number keeps two writers apart. It is locked as long as it is
/// written: one that is not is a left-over of a process that ended before, and may hold a secret.
fn temporary_of(path: &Path, folder: &Path) -> Result<(PathBuf, File), FileError> {
    static COUNTER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    if !folder.is_dir() {
        return Err(FileError::Folder { path: folder.to_owned() });
    }
    let name = prefix_of(path);
    clear(path, folder);
    let failed = |error: io::Error| FileError::io("write", path, &error);
    loop {
        let count = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let temporary = folder.join(format!("{name}{}.{count}.tmp", std::process::id()));
        let file = match private().create_new(true).open(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            other => other.map_err(failed)?,
        };
        rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        // Somebody who clears may have been faster than the lock.
        if temporary.symlink_metadata().is_ok() {
            return Ok((temporary, file));
        }
    }
}

/// Gives a file its name, which nothing else may have: in one step where the system can, so that it never has two.
fn take_name(temporary: &Path, path: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::EXIST) => return Err(io::ErrorKind::AlreadyExists.into()),
            // A file system that cannot.
            Err(_) => {}
        }
    }
    // A hard link fails where the name is taken meanwhile; a rename would overwrite it.
    match fs::hard_link(temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) if path.symlink_metadata().is_err() => fs::rename(temporary, path),
        other => other,
    }
}

/// What other names of a file begin with.
fn prefix_of(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

/// Takes left-overs of a file away, as far as it can.
fn clear(path: &Path, folder: &Path) {
    let prefix = prefix_of(path);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let found = found.to_string_lossy();
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let middle = found.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".tmp"));
        let parts = middle.and_then(|middle| middle.split_once('.'));
        if !parts.is_some_and(|(process, count)| number(process) && number(count)) {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn sync_folder(folder: &Path) -> Result<(), FileError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| FileError::io("write", folder, &error))
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// There is one of that name.
    #[error("{} exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is none.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Its folder does not exist.
    #[error("the folder {} does not exist", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// Others than its owner may read it.
    #[error("{} is readable by others (mode {mode:o})", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// No text, too large, or no file at all.
    #[error("{} is no text file of at most 1 MiB", path.display())]
    Content {
        /// The file.
        path: PathBuf,
    },
    /// Larger than it may be.
    #[error("{} is larger than {limit} bytes", path.display())]
    Large {
        /// The file.
        path: PathBuf,
        /// Bytes.
        limit: u64,
    },
    /// This user may not.
    #[error("cannot {what} {}: permission denied", path.display())]
    Denied {
        /// `read`, `write`, `make`.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The system says no.
    #[error("cannot {what} {}: {reason}", path.display())]
    Io {
        /// `read`, `write`, `make`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// In the system's words.
        reason: String,
    },
}

impl FileError {
    pub(crate) fn io(what: &'static str, path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied { what, path },
            io::ErrorKind::IsADirectory if what == "read" => Self::Content { path },
            _ => Self::Io { what, path, reason: error.to_string() },
        }
    }

    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "file-exists",
            Self::Missing { .. } => "file-missing",
            Self::Folder { .. } => "folder-missing",
            Self::Open { .. } => "file-open",
            Self::Content { .. } => "file-content",
            Self::Large { .. } => "file-large",
            Self::Denied { .. } => "file-denied",
            Self::Io { .. } => "file-io",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_secret_file_is_private_whole_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.creds");
        check_new(&path).unwrap();
        write_new(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(write_new(&path, b"two"), Err(FileError::Exists { path: path.clone() }));
        assert_eq!(check_new(&path), Err(FileError::Exists { path: path.clone() }));
        assert_eq!(read_secret(&path).unwrap().expose(), "one");
        replace(&path, b"three").unwrap();
        assert_eq!(read_secret(&path).unwrap().expose(), "three");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read_secret(&path).unwrap_err(), FileError::Open { path, mode: 0o644 });
    }

    /// Gives a few bytes at a time, as a pipe does.
    struct Pipe(u64);

    impl io::Read for Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(4096);
            let some = usize::try_from(self.0).unwrap().min(most);
            buffer[..some].fill(b'S');
            self.0 -= some as u64;
            Ok(some)
        }
    }

    #[test]
    fn a_secret_from_a_pipe_is_read_into_one_buffer() {
        let path = Path::new("pipe");
        for length in [0, 1, 100_000, LIMIT] {
            let text = read_limited(Pipe(length), path).unwrap();
            assert_eq!(text.len() as u64, length);
            assert_eq!(text.capacity() as u64, LIMIT + 1, "it has grown to {length}");
        }
        let refused = read_limited(Pipe(LIMIT + 1), path).unwrap_err();
        assert_eq!(refused, FileError::Content { path: path.to_owned() });
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_is_read_from_a_named_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&path).status().unwrap();
        assert!(made.success());
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || fs::write(path, "x".repeat(100_000)).unwrap())
        };
        assert_eq!(read_secret(&path).unwrap().expose().len(), 100_000);
        writer.join().unwrap();
    }

    #[test]
    fn left_overs_are_taken_away_and_files_being_written_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.creds");
        for name in
            [".a.creds.4000000.0.tmp", ".a.creds.4000000.1.tmp", ".b.creds.4000000.0.tmp", ".a.creds.x.tmp"]
        {
            fs::write(folder.path().join(name), b"half").unwrap();
        }
        let (other, _writing) = temporary_of(&path, folder.path()).unwrap();
        write_new(&path, b"whole").unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        fs::write(folder.path().join(".a.creds.4000000.2.tmp"), b"half").unwrap();
        assert!(write_new(&path, b"again").is_err());
        assert!(
            !folder.path().join(".a.creds.4000000.2.tmp").exists(),
            "also where there is nothing to write"
        );
        let other = other.file_name().unwrap().to_owned();
        let mut expected: Vec<std::ffi::OsString> =
            [".a.creds.x.tmp", ".b.creds.4000000.0.tmp", "a.creds"].map(Into::into).into();
        expected.push(other);
        expected.sort();
        assert_eq!(left, expected);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no/where.creds");
        let parent = folder.path().join("no");
        assert_eq!(write_new(&missing, b""), Err(FileError::Folder { path: parent.clone() }));
        assert_eq!(check_new(&missing), Err(FileError::Folder { path: parent }));
        assert_eq!(read_secret(&missing).unwrap_err(), FileError::Missing { path: missing });
        let content = |path: &Path| FileError::Content { path: path.to_owned() };
        assert_eq!(read_secret(folder.path()).unwrap_err(), content(folder.path()));
        assert_eq!(read_text(folder.path()).unwrap_err(), content(folder.path()));
        let long = folder.path().join("long");
        fs::write(&long, "a".repeat(1024 * 1024)).unwrap();
        assert_eq!(read_text(&long).unwrap().expose().len(), 1024 * 1024);
        fs::write(&long, "a".repeat(1024 * 1024 + 1)).unwrap();
        assert_eq!(read_text(&long).unwrap_err(), content(&long));
        fs::write(&long, [0xff]).unwrap();
        assert_eq!(read_text(&long).unwrap_err(), content(&long));
    }

    #[test]
    fn names_stay_in_their_folder() {
        for (name, safe) in [("alice", "alice"), ("..", "_."), ("a/b\\c", "a_b_c"), ("", "_"), ("é x", "__x")]
        {
            assert_eq!(safe_name(name), safe);
        }
        assert_eq!(own_name("alice"), "alice");
        let names = ["日本", "中国", "__", "ä_", "_ä"].map(own_name);
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len(), "{names:?}");
        assert!(names.iter().all(|name| safe_name(name) == *name), "{names:?}");
    }
}
