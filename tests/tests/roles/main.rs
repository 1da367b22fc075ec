//! The pipeline's roles on a real server, in both directions: what each can do, and that it can do nothing else.
//!
//! What a role may do stands here once more, in the tests' own words: nothing is read from the core's tables.

mod allowed;
mod clients;
mod cluster;
mod forbidden;
mod replies;
mod resolver;
mod settings;
mod strangers;
mod target;

use cim_keys_core::roles::PipelineRole;
use cim_keys_tests::pipeline::{Pipeline, append};
use cim_keys_tests::wire::Client;

/// `organization.unit.keys` of the registries here.
const P: &str = "cowboyai.security.keys";
/// Where stored messages appear again.
const LOG: &str = "cowboyai.security.keys-log";
/// The roles that work with the streams from the edge.
const EDGE: [PipelineRole; 4] =
    [PipelineRole::Host, PipelineRole::Auditor, PipelineRole::Browser, PipelineRole::Service];

/// A pipeline with the events of its own founding on the stream; the host's connection, and the last sequence.
fn founded() -> (Pipeline, Client, u64) {
    let pipeline = Pipeline::start();
    let mut host = pipeline.connect(PipelineRole::Host);
    let events = pipeline.identities.envelopes();
    let ack = append(&mut host, events, 0);
    let last = events.len() as u64;
    assert_eq!(ack["seq"], last, "{ack}");
    pipeline.holdings();
    (pipeline, host, last)
}
