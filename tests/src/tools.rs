//! Where the real servers are.

use std::env;
use std::path::{Path, PathBuf};

/// A version of nats-server that the tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 2.15.1: what `cargo xtask up` installs.
    Newest,
    /// 2.12.1: the oldest that writers support.
    Oldest,
    /// 2.11.11: writers must refuse it.
    TooOld,
}

impl Version {
    /// The version as the server reports it.
    pub fn number(self) -> &'static str {
        match self {
            Version::Newest => "2.15.1",
            Version::Oldest => "2.12.1",
            Version::TooOld => "2.11.11",
        }
    }

    /// The server's file: the variable that `cargo xtask test` sets, else the tool folder.
    ///
    /// # Panics
    /// When it is in neither place.
    pub fn binary(self) -> PathBuf {
        let number = self.number();
        let variable = format!("CIM_KEYS_NATS_SERVER_{}", number.replace('.', "_"));
        if let Some(path) = env::var_os(&variable) {
            return path.into();
        }
        let file = format!("nats-server{}", env::consts::EXE_SUFFIX);
        let path = workspace_root().join(".tools").join(format!("nats-server-{number}")).join(file);
        assert!(
            path.is_file(),
            "nats-server {number} is missing: run `cargo xtask install`, or set {variable}"
        );
        path
    }
}

/// The root folder of the workspace.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
