//! Makes a registry where there is nothing: no network, no clock, no randomness, no file. What goes in is a plan on stdin
//! and a verb; what comes out depends on nothing else, so that equal input gives equal bytes in every place.
#![forbid(unsafe_code)]

mod entropy;
mod error;
mod made;
mod plan;

use cim_keys_core::bundle;
use cim_keys_core::secret::SecretBytes;
use error::SandboxError;
use made::Made;
use plan::Plan;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

/// A plan is smaller than this, in bytes.
const LIMIT: usize = 4 * 1024 * 1024;

const HELP: &str = "\
Makes an operator, accounts and users from a plan on stdin, and from nothing else.

usage: cim-keys-sandbox VERB < plan.json

  bundle                     every command with its events: for `cim-keys bundle import`
  secret-creds ACCOUNT/USER  the creds file of one user
  secret-seeds               each seed with its public key: for `cim-keys key import`

Equal plans give equal bytes, so each is asked for by itself. Whoever has the plan has every key: it holds their entropy.
";

/// What is wanted.
enum Verb {
    Help,
    Bundle,
    SecretCreds { account: String, user: String },
    SecretSeeds,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("error: {error}\n");
            if let Some(hint) = error.hint() {
                text.push_str(&format!("  hint: {hint}\n"));
            }
            let _ = io::stderr().lock().write_all(text.as_bytes());
            ExitCode::from(error.status())
        }
    }
}

fn run() -> Result<(), SandboxError> {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    match Verb::read(&words)? {
        Verb::Help => write(HELP.as_bytes()),
        Verb::Bundle => write(&bundle::encode(made()?.bundle())?),
        Verb::SecretCreds { account, user } => {
            write(made()?.secret_creds(&account, &user)?.expose().as_bytes())
        }
        Verb::SecretSeeds => write(made()?.secret_seeds().expose().as_bytes()),
    }
}

impl Verb {
    fn read(words: &[String]) -> Result<Self, SandboxError> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["help" | "--help" | "-h"] => Ok(Self::Help),
            ["bundle"] => Ok(Self::Bundle),
            ["secret-seeds"] => Ok(Self::SecretSeeds),
            ["secret-creds", whose] => match whose.split_once('/') {
                Some((account, user)) => {
                    Ok(Self::SecretCreds { account: account.to_owned(), user: user.to_owned() })
                }
                None => Err(SandboxError::Usage),
            },
            _ => Err(SandboxError::Usage),
        }
    }
}

fn made() -> Result<Made, SandboxError> {
    let text = read()?;
    Made::of(&Plan::read(text.expose())?)
}

/// Reads stdin into one buffer, which is wiped however this ends.
fn read() -> Result<SecretBytes, SandboxError> {
    let mut bytes = vec![0; LIMIT];
    let outcome = fill(&mut bytes);
    bytes.truncate(outcome.as_ref().copied().unwrap_or(0));
    let secret = SecretBytes::new(bytes);
    outcome.map(|_| secret)
}

/// Reads to the end. Each read asks for more than the standard library's own buffer holds for as long as it can, so that
/// nothing is copied on the way.
fn fill(bytes: &mut [u8]) -> Result<usize, SandboxError> {
    let mut stdin = io::stdin().lock();
    let mut length = 0;
    while length < bytes.len() {
        match stdin.read(&mut bytes[length..]) {
            Ok(0) => return Ok(length),
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SandboxError::Stdin { reason: error.to_string() }),
        }
    }
    Err(SandboxError::TooLarge { limit: LIMIT })
}

fn write(bytes: &[u8]) -> Result<(), SandboxError> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|error| SandboxError::Stdout { reason: error.to_string() })
}
