//! What can be wrong with a store.

use crate::files::FileError;
use std::path::{Path, PathBuf};

/// What goes wrong inside a transaction.
pub(crate) enum RowError {
    /// SQLite says no.
    Sqlite(rusqlite::Error),
    /// A value cannot be read back.
    Damaged(&'static str),
}

impl RowError {
    pub(crate) fn at(self, path: &Path) -> StoreError {
        match self {
            Self::Sqlite(error) => StoreError::sqlite(path, &error),
            Self::Damaged(what) => StoreError::Damaged { path: path.to_owned(), what },
        }
    }
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<rusqlite::types::FromSqlError> for RowError {
    fn from(_: rusqlite::types::FromSqlError) -> Self {
        Self::Damaged("a column")
    }
}

/// What is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is none.
    #[error("there is no registry: {} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is there and has nothing in it: one whose making has only begun, or what is left of one.
    #[error("there is no registry: {} has nothing in it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A folder, or something else that is no file.
    #[error("{} is no file", path.display())]
    NoFile {
        /// What is in its place.
        path: PathBuf,
    },
    /// The file has no registry yet.
    #[error("no registry was founded in {}", path.display())]
    NotFounded {
        /// The file.
        path: PathBuf,
    },
    /// The file is no store of ours.
    #[error("{} is no store of cim-keys", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Made by a version before the first release.
    #[error("{} has the format {found}, this cim-keys needs {supported}", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The one needed.
        supported: i64,
    },
    /// Made by a newer version.
    #[error("{} has the format {found}, this cim-keys knows up to {supported}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest known.
        supported: i64,
    },
    /// A projection's rows were made by a newer version.
    #[error("the projection {name} in {} was made by a newer cim-keys", path.display())]
    NewerProjection {
        /// The file.
        path: PathBuf,
        /// Which projection.
        name: &'static str,
    },
    /// A projection is made anew by another process as well, or its stream went back meanwhile.
    #[error("a projection in {} is made anew by another process, or its stream went back meanwhile", path.display())]
    Overtaken {
        /// The file.
        path: PathBuf,
    },
    /// A value cannot be read back.
    #[error("{} is damaged: {what} cannot be read", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which value.
        what: &'static str,
    },
    /// Another process has been writing for too long.
    #[error("{} has been in use by another process for more than 30 s", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("the disk of {} is full", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// SQLite says no.
    #[error("{}: {reason}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// In its words.
        reason: String,
    },
    /// The file or its folder cannot be made.
    #[error(transparent)]
    File(#[from] FileError),
}

impl StoreError {
    pub(crate) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        use rusqlite::{Error, ErrorCode};
        let path = path.to_owned();
        let what = match error {
            // Tables that are not as they were made.
            Error::SqliteFailure(_, Some(text)) | Error::SqlInputError { msg: text, .. }
                if text.starts_with("no such table") || text.starts_with("no such column") =>
            {
                "a table"
            }
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..)
            | Error::InvalidColumnType(..) => "a column",
            Error::QueryReturnedNoRows => "a row",
            _ if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => "its file",
            _ => "",
        };
        match error.sqlite_error_code() {
            _ if !what.is_empty() => Self::Damaged { path, what },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::NotADatabase) => Self::Foreign { path },
            _ => Self::Sqlite { path, reason: error.to_string() },
        }
    }

    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "store-missing",
            Self::Empty { .. } => "store-empty",
            Self::NoFile { .. } => "store-no-file",
            Self::NotFounded { .. } => "store-not-founded",
            Self::Foreign { .. } => "store-foreign",
            Self::Older { .. } => "store-older",
            Self::Newer { .. } => "store-newer",
            Self::NewerProjection { .. } => "projection-newer",
            Self::Overtaken { .. } => "projection-overtaken",
            Self::Damaged { .. } => "store-damaged",
            Self::Busy { .. } => "store-busy",
            Self::Full { .. } => "store-full",
            Self::Sqlite { .. } => "store-failed",
            Self::File(error) => error.code(),
        }
    }
}
