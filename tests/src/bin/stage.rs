//! `stage SCENARIO`: plays a scenario of the contract with the page as its host. Orders for the browser go to stdout, what it
//! answers comes from stdin; see `cim_keys_tests::contract::remote`. For tests of the page.

use cim_keys_tests::contract::{Name, remote, scenarios_for};
use std::io::{Write as _, stderr, stdin, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let all = scenarios_for(Name::Page);
    let found = all.into_iter().find(|scenario| words == [scenario.name.as_str()]);
    let Some(scenario) = found else {
        let _ = writeln!(stderr(), "usage: stage SCENARIO, one that is for the page");
        return ExitCode::from(2);
    };
    match remote::conduct(&scenario, stdin().lock(), stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}
