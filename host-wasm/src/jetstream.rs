//! Subjects, requests and answers of the JetStream API, judged by the core.

use crate::convert::{bytes, from_js, text, to_js, whole};
use crate::error::Fault;
use cim_keys_core::admission::StoredMessage;
use cim_keys_core::context::RegistryId;
use cim_keys_core::jetstream::{self, Endpoints};
use cim_keys_core::roles::EDGE_API_PREFIX;
use cim_keys_core::subjects::Namespace;
use cim_keys_core::sync::{Failure, StreamInfo};
use serde::Serialize;
use std::str::FromStr;
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
    #[wasm_bindgen(unchecked_param_type = "string")] api_prefix: &JsValue,
    #[wasm_bindgen(unchecked_param_type = "string")] user: &JsValue,
) -> Result<JsValue, Fault> {
    let registry: RegistryId = from_js(registry, "registry")?;
    to_js(&Endpoints::new(&registry, &text(api_prefix, "api_prefix")?, &text(user, "user")?))
}

/// Asks for up to `count` messages from sequence `first` on; answers are read by `parse_batched`.
#[wasm_bindgen]
pub fn direct_get_request(
    #[wasm_bindgen(unchecked_param_type = "number")] first: &JsValue,
    #[wasm_bindgen(unchecked_param_type = "number")] count: &JsValue,
) -> Result<String, Fault> {
    Ok(jetstream::direct_get(whole(first, "first")?, whole(count, "count")?))
}

/// Asks the leader for one message; the answer is read by `parse_message`.
#[wasm_bindgen]
pub fn message_get_request(
    #[wasm_bindgen(unchecked_param_type = "number")] sequence: &JsValue,
) -> Result<String, Fault> {
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
pub fn parse_stream_info(
    #[wasm_bindgen(unchecked_param_type = "Uint8Array")] payload: &JsValue,
    #[wasm_bindgen(unchecked_param_type = "string | null | undefined")] server_version: &JsValue,
) -> Result<JsValue, Fault> {
    let version = if server_version.is_null() || server_version.is_undefined() {
        None
    } else {
        Some(text(server_version, "server_version")?)
    };
    to_js(&match jetstream::stream_info(&bytes(payload, "payload")?) {
        Ok(info) => Info::Info(Box::new(StreamInfo {
            server: version.as_deref().and_then(jetstream::server_version),
            ..info
        })),
        Err(error) => Info::Failure(error.into()),
    })
}

/// An answer to a request for many messages, from its header block as it came over the connection.
#[wasm_bindgen(unchecked_return_type = "Batched")]
pub fn parse_batched(
    #[wasm_bindgen(unchecked_param_type = "Uint8Array")] block: &JsValue,
    #[wasm_bindgen(unchecked_param_type = "Uint8Array")] payload: &JsValue,
) -> Result<JsValue, Fault> {
    to_js(&jetstream::batched(&bytes(block, "block")?, bytes(payload, "payload")?.to_vec()))
}

/// A message of the log that came on `subject`, from its header block as it came over the connection; null where it is not
/// what the stream of this namespace stored just now.
#[wasm_bindgen(unchecked_return_type = "StoredMessage | null")]
pub fn parse_logged(
    #[wasm_bindgen(unchecked_param_type = "string")] namespace: &JsValue,
    #[wasm_bindgen(unchecked_param_type = "string")] subject: &JsValue,
    #[wasm_bindgen(unchecked_param_type = "Uint8Array")] block: &JsValue,
    #[wasm_bindgen(unchecked_param_type = "Uint8Array")] payload: &JsValue,
) -> Result<JsValue, Fault> {
    let namespace = Namespace::from_str(&text(namespace, "namespace")?)
        .map_err(|error| Fault::argument("namespace", &error.to_string()))?;
    let payload = bytes(payload, "payload")?.to_vec();
    to_js(&jetstream::logged_block(&namespace, &text(subject, "subject")?, &bytes(block, "block")?, payload))
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    Message(Option<StoredMessage>),
    Failure(Failure),
}

/// The answer of the leader; null where there is no message of this sequence.
#[wasm_bindgen(unchecked_return_type = "{ message: StoredMessage | null } | { failure: Failure }")]
pub fn parse_message(
    #[wasm_bindgen(unchecked_param_type = "Uint8Array")] payload: &JsValue,
) -> Result<JsValue, Fault> {
    to_js(&match jetstream::message(&bytes(payload, "payload")?) {
        Ok(message) => Found::Message(message),
        Err(error) => Found::Failure(error.into()),
    })
}

/// The answer to a publish, plain or the last of a batch.
#[wasm_bindgen(unchecked_return_type = "Reply")]
pub fn parse_reply(
    #[wasm_bindgen(unchecked_param_type = "Uint8Array")] payload: &JsValue,
) -> Result<JsValue, Fault> {
    to_js(&jetstream::reply(&bytes(payload, "payload")?))
}
