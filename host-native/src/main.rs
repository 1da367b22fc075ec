//! The `cim-keys` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    cim_keys::cli::main()
}
