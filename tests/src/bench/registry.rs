//! A registry as a person's machine has it: founded by the native host, one account, users made one command at a time.

use std::fs;
use std::path::{Path, PathBuf};

use cim_keys::ambient::Ambient;
use cim_keys::host::{Founding, Host, Request};
use cim_keys::ports::{Access, NatsPort, NewUser};
use cim_keys::store::Store;
use cim_keys::vault::Vault;
use cim_keys_core::command::Command;
use cim_keys_core::jwt::{AccountLimits, PermissionList, UserRights};
use cim_keys_core::nkey::{Kind, PublicKey};
use cim_keys_core::subjects::Namespace;
use tempfile::TempDir;

use crate::tools::workspace_root;

const STORE: &str = "store.db";
const IDENTITY: &str = "identity.age";

/// A new folder on the file system that the build is on. Where the system keeps temporary files may be memory, which
/// has no fsync to measure.
///
/// # Panics
/// When it cannot be made.
pub(super) fn folder() -> TempDir {
    let place = std::env::var_os("CIM_KEYS_BENCH_FOLDER")
        .map_or_else(|| workspace_root().join("target").join("bench"), PathBuf::from);
    fs::create_dir_all(&place).expect("a folder beside the build");
    TempDir::new_in(place).expect("a folder beside the build")
}

/// A host over a new registry in this folder, and the account that the users go into.
///
/// # Panics
/// When anything of it fails.
pub(super) fn found(folder: &Path) -> (Host, PublicKey) {
    let host = open_with(Store::create(&folder.join(STORE)).expect("a store"), folder);
    let founding = Founding { name: "BENCH".into(), namespace: Namespace::default(), escrow: Vec::new() };
    host.create_operator(&founding).expect("a founding");
    let account = host.create_account("PLANT", AccountLimits::default()).expect("an account");
    (host, account.keys[0])
}

/// A host over a copy of a registry that nobody has open.
///
/// # Panics
/// When anything of it fails.
pub(super) fn copy(from: &Path, to: &Path) -> Host {
    for file in [STORE, IDENTITY] {
        fs::copy(from.join(file), to.join(file)).expect("a copy");
    }
    open_with(Store::open(&store_of(to)).expect("a store"), to)
}

/// A host over a registry that is there.
///
/// # Panics
/// When it cannot be opened.
pub(super) fn open(folder: &Path) -> Host {
    open_with(Store::open(&store_of(folder)).expect("a store"), folder)
}

fn open_with(store: Store, folder: &Path) -> Host {
    let vault = Vault::or_create(&folder.join(IDENTITY));
    Host::new(store, vault, Ambient::system(), "bench".parse().expect("an actor"))
}

fn store_of(folder: &Path) -> PathBuf {
    folder.join(STORE)
}

/// One command: a user with creds, whose seed is sealed until they are handed out, and not kept.
///
/// # Panics
/// When the host refuses.
pub(super) fn create_user(host: &Host, account: PublicKey, number: usize) {
    let list = |subject: String| PermissionList { allow: vec![subject], ..PermissionList::default() };
    let rights = UserRights {
        publish: list(format!("plant.line.{number}.temperature")),
        subscribe: list(format!("plant.line.{number}.orders.>")),
        ..UserRights::default()
    };
    let user = NewUser {
        account,
        name: format!("sensor-{number:07}"),
        access: Access::Own(Box::new(rights)),
        expires: 0,
        tags: Vec::new(),
        key: None,
        credentials: true,
        keep: false,
    };
    host.create_user(user).expect("a user");
}

/// One command of one event, the smallest there is: a curve key that belongs to nobody, and is not kept.
///
/// # Panics
/// When the host refuses.
pub(super) fn generate_key(host: &Host) {
    let key = Command::GenerateKey { kind: Kind::Curve, owner: None, label: None, role: None };
    host.run(&Request::new(key)).expect("a key");
}
