//! A service of another domain: it defines its own events, publishes them with the seven headers to a stream of its own, and
//! consumes them with a projection in one file. Killed anywhere, it goes on where it was.
//!
//! ```text
//! orders setup URL                                    stream and consumer
//! orders place FOLDER URL CUSTOMER CENTS [TRACEPARENT]    publish an order
//! orders follow FOLDER URL                            keep orders by customer, until Ctrl-C
//! orders show FOLDER                                  orders by customer
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod event;
mod projection;
mod service;

use cim_keys_core::trace::{TraceError, TraceParent};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: orders setup URL | place FOLDER URL CUSTOMER CENTS [TRACEPARENT] | follow FOLDER URL | show FOLDER";

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(words: &[&str]) -> Result<(), Box<dyn Error>> {
    match words {
        ["setup", url] => service::set_up(url).await,
        ["place", folder, url, customer, cents, trace @ ..] => {
            let trace = trace.first().map(|text| text.parse::<TraceParent>());
            let trace =
                trace.transpose().map_err(|error: TraceError| format!("{}: {error}", error.code()))?;
            let published = service::place(&made(folder)?, url, customer, cents.parse()?, trace).await?;
            println!("{} {}", published.stream, published.sequence);
            Ok(())
        }
        ["follow", folder, url] => {
            let stop = async {
                let _ = tokio::signal::ctrl_c().await;
            };
            service::follow(&made(folder)?, url, stop, |told| println!("{told}")).await
        }
        ["show", folder] => {
            let shown = projection::Projection::open(&Path::new(folder).join("orders.db"))?.shown()?;
            println!("{}", serde_json::to_string_pretty(&shown)?);
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

fn made(folder: &str) -> std::io::Result<std::path::PathBuf> {
    std::fs::create_dir_all(folder)?;
    Ok(folder.into())
}
