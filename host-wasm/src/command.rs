//! From a wish to a decision: the host brings facts, time, entropy and signatures.

use crate::convert::{bytes, from_js, to_js, whole};
use crate::error::Fault;
use crate::keyring::{Keyring, draw};
use base64ct::{Base64, Encoding};
use cim_keys_core::command::{self, Command};
use cim_keys_core::context::{Context, RegistryId};
use cim_keys_core::digest::Digest;
use cim_keys_core::draft;
use cim_keys_core::journal::Pending;
use cim_keys_core::nkey::{PublicKey, Signature};
use cim_keys_core::registry::{Entity, Facts};
use cim_keys_core::rules;
use js_sys::Array;
use serde::Serialize;
use uuid::{Builder, Uuid};
use wasm_bindgen::prelude::*;

/// A new UUID v7 for a command, from the time in Unix milliseconds and 32 fresh bytes. The array is zeroed.
#[wasm_bindgen]
pub fn command_id(
    #[wasm_bindgen(unchecked_param_type = "number")] now_millis: &JsValue,
    #[wasm_bindgen(unchecked_param_type = "Uint8Array")] entropy: &JsValue,
) -> Result<String, Fault> {
    let drawn = draw(entropy)?;
    let mut random = [0; 10];
    random.iter_mut().zip(drawn.iter()).for_each(|(to, from)| *to = *from);
    let now = whole(now_millis, "now_millis")?;
    Ok(Builder::from_unix_timestamp_millis(now, &random).into_uuid().to_string())
}

/// Kinds of the keys to make for a command, in the order of `Context.keys`.
#[wasm_bindgen(unchecked_return_type = "Kind[]")]
pub fn command_keys(
    #[wasm_bindgen(unchecked_param_type = "Command")] command: &JsValue,
) -> Result<JsValue, Fault> {
    to_js(&from_js::<Command>(command, "command")?.keys())
}

/// The look-ups that a command's decision depends on.
#[wasm_bindgen(unchecked_return_type = "Lookup[]")]
pub fn command_scope(
    #[wasm_bindgen(unchecked_param_type = "RegistryId")] registry: &JsValue,
    #[wasm_bindgen(unchecked_param_type = "Command")] command: &JsValue,
    #[wasm_bindgen(unchecked_param_type = "Context")] context: &JsValue,
) -> Result<JsValue, Fault> {
    let command: Command = from_js(command, "command")?;
    let context: Context = from_js(context, "context")?;
    to_js(&command.scope(&context, &from_js::<RegistryId>(registry, "registry")?))
}

/// Closed events whose signatures are missing.
#[wasm_bindgen]
pub struct Draft {
    facts: Facts,
    command: Command,
    context: Context,
    hash: Digest,
    draft: Option<draft::Draft>,
}

#[derive(Serialize)]
struct SigningRequest {
    public_key: PublicKey,
    bytes: String,
}

#[derive(Serialize)]
struct Decision {
    command_id: Uuid,
    command_hash: Digest,
    draft_hash: Digest,
    messages_hash: Digest,
    pending: Pending,
    entities: Vec<Entity>,
    tokens: Vec<String>,
}

#[wasm_bindgen]
impl Draft {
    /// Decides a command on the facts that its scope names.
    pub fn decide(
        #[wasm_bindgen(unchecked_param_type = "Facts")] facts: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "Command")] command: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "Context")] context: &JsValue,
    ) -> Result<Draft, Fault> {
        let facts: Facts = from_js(facts, "facts")?;
        let command: Command = from_js(command, "command")?;
        let context: Context = from_js(context, "context")?;
        let draft = command::decide(&facts, &command, &context)?;
        Ok(Self { facts, command, context, hash: draft.hash(), draft: Some(draft) })
    }

    /// Identifies the draft.
    pub fn hash(&self) -> String {
        self.hash.to_string()
    }

    /// What must be signed, with which keys: one request for each token, then one for the whole. Bytes in base64.
    #[wasm_bindgen(unchecked_return_type = "SigningRequest[]")]
    pub fn requests(&self) -> Result<JsValue, Fault> {
        let draft = self.draft.as_ref().ok_or_else(|| Fault::spent("draft"))?;
        let request = |request: draft::SigningRequest| SigningRequest {
            public_key: request.public_key,
            bytes: Base64::encode_string(&request.bytes),
        };
        to_js(&draft.requests().into_iter().map(request).collect::<Vec<_>>())
    }

    /// Sets signatures, 64 bytes each, in the order of the requests, and verifies them.
    #[wasm_bindgen(unchecked_return_type = "Decision")]
    pub fn complete(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "Uint8Array[]")] signatures: &JsValue,
    ) -> Result<JsValue, Fault> {
        let list: &Array =
            signatures.dyn_ref().ok_or_else(|| Fault::argument("signatures", "they are no array"))?;
        let read = |signature: JsValue| {
            let signature = bytes(&signature, "signatures")?;
            let signature = <[u8; 64]>::try_from(signature.as_slice());
            let signature =
                signature.map_err(|_| Fault::argument("signatures", "one of them is not 64 bytes"))?;
            Ok(Signature::from_bytes(signature))
        };
        let signatures = list.iter().map(read).collect::<Result<Vec<_>, Fault>>()?;
        let draft = self.take()?;
        self.decided(draft.complete(&signatures)?)
    }

    /// Signs with keys of a keyring.
    #[wasm_bindgen(unchecked_return_type = "Decision")]
    pub fn sign(&mut self, keyring: &Keyring) -> Result<JsValue, Fault> {
        let draft = self.take()?;
        self.decided(keyring.complete(draft)?)
    }
}

impl Draft {
    fn take(&mut self) -> Result<draft::Draft, Fault> {
        self.draft.take().ok_or_else(|| Fault::spent("draft"))
    }

    fn decided(&self, decision: draft::Decision) -> Result<JsValue, Fault> {
        let mut folded = self.facts.clone();
        let changed = rules::judge(&mut folded, &decision.events)
            .map_err(|_| Fault::internal("a decision does not stand on its own facts"))?;
        let entity = |id| folded.entity(id).ok().flatten().cloned();
        let tokens = decision.events.iter().filter_map(|event| event.token.as_ref());
        to_js(&Decision {
            command_id: decision.command_id,
            command_hash: self.command.hash(),
            draft_hash: decision.draft_hash,
            messages_hash: decision.messages_hash,
            tokens: tokens.filter_map(|token| cim_keys_core::registry::Issued::from(token).text()).collect(),
            entities: changed.into_iter().filter_map(entity).collect(),
            pending: Pending {
                position: 0,
                command: self.command.clone(),
                context: self.context.clone(),
                facts_hash: self.facts.hash(),
                draft_hash: decision.draft_hash,
                envelopes: decision.envelopes,
                messages_hash: Some(decision.messages_hash),
            },
        })
    }
}
