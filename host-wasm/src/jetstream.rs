//! Subjects, requests and answers of the JetStream API, judged by the core.

use crate::convert::{from_js, to_js, whole};
use crate::error::Fault;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::context::RegistryId;
use cim_keys_core::jetstream::{self, Endpoints};
use cim_keys_core::roles::EDGE_API_PREFIX;
use cim_keys_core::sync::{Failure, StreamInfo};
use serde::Serialize;
use wasm_bindgen::prelude::*;

/// Prefix of the JetStream API for everybody who works in the account `KEYS_EDGE`.
#[wasm_bindgen]
pub fn edge_api_prefix() -> String {
    EDGE_API_PREFIX.to_owned()
}

/// Where a user asks and listens.
#[wasm_bindgen(unchecked_return_type = "Endpoints")]
pub fn endpoints(
    #[wasm_bindgen(unchecked_param_type = "RegistryId")] registry: &JsValue,
    api_prefix: &str,
    user: &str,
) -> Result<JsValue, Fault> {
    to_js(&Endpoints::new(&from_js::<RegistryId>(registry, "registry")?, api_prefix, user))
}

/// Asks for up to `count` messages from sequence `first` on; answers are read by `parse_batched`.
#[wasm_bindgen]
pub fn direct_get_request(first: f64, count: f64) -> Result<String, Fault> {
    Ok(jetstream::direct_get(whole(first, "first")?, whole(count, "count")?))
}

/// Asks the leader for one message; the answer is read by `parse_message`.
#[wasm_bindgen]
pub fn message_get_request(sequence: f64) -> Result<String, Fault> {
    Ok(jetstream::message_get(whole(sequence, "sequence")?))
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Info {
    Info(Box<StreamInfo>),
    Failure(Failure),
}

/// How the stream stands; `server_version` is what the connection says of its server.
#[wasm_bindgen(unchecked_return_type = "{ info: StreamInfo } | { failure: Failure }")]
pub fn parse_stream_info(payload: &[u8], server_version: Option<String>) -> Result<JsValue, Fault> {
    to_js(&match jetstream::stream_info(payload) {
        Ok(info) => Info::Info(Box::new(StreamInfo {
            server: server_version.as_deref().and_then(jetstream::server_version),
            ..info
        })),
        Err(error) => Info::Failure(error.into()),
    })
}

/// An answer to a request for many messages, from its header block as it came over the connection.
#[wasm_bindgen(unchecked_return_type = "Batched")]
pub fn parse_batched(block: &[u8], payload: &[u8]) -> Result<JsValue, Fault> {
    to_js(&jetstream::batched(block, payload.to_vec()))
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    Message(Option<StoredMessage>),
    Failure(Failure),
}

/// The answer of the leader; null where there is no message of this sequence.
#[wasm_bindgen(unchecked_return_type = "{ message: StoredMessage | null } | { failure: Failure }")]
pub fn parse_message(payload: &[u8]) -> Result<JsValue, Fault> {
    to_js(&match jetstream::message(payload) {
        Ok(message) => Found::Message(message),
        Err(error) => Found::Failure(error.into()),
    })
}

/// The answer to a publish, plain or the last of a batch.
#[wasm_bindgen(unchecked_return_type = "Reply")]
pub fn parse_reply(payload: &[u8]) -> Result<JsValue, Fault> {
    to_js(&jetstream::reply(payload))
}
