//! Plain objects in and out, by way of their JSON; text, numbers and bytes as they are, looked at before they are used.
//!
//! No export takes `&str`, `f64` or `&[u8]` itself: what the bindings do with a value of another kind ends in an error
//! without a code, or in the middle of a call, with the object that was called locked for good.

use crate::error::Fault;
use cim_keys_core::json;
use js_sys::{JSON, Uint8Array};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::*;
use zeroize::Zeroizing;

/// Reads an argument; `what` names it in the error.
pub(crate) fn from_js<T: DeserializeOwned>(value: &JsValue, what: &str) -> Result<T, Fault> {
    // What has no JSON (undefined, a function, a cycle, a bigint) gives no text.
    let text = JSON::stringify(value).ok().and_then(|text| JsValue::from(text).as_string());
    let text = text.ok_or_else(|| Fault::argument(what, "it has no JSON"))?;
    json::from_text(&text).map_err(|error| Fault::argument(what, &error.to_string()))
}

/// Writes an answer.
pub(crate) fn to_js<T: Serialize>(value: &T) -> Result<JsValue, Fault> {
    let text = json::to_text(value).map_err(|error| Fault::internal(&error.to_string()))?;
    JSON::parse(&text).map_err(|_| Fault::internal("an answer is no JSON"))
}

/// Text.
pub(crate) fn text(value: &JsValue, what: &str) -> Result<String, Fault> {
    value.as_string().ok_or_else(|| Fault::argument(what, "it is no text"))
}

/// A whole number that is not negative, in milliseconds or sequences.
pub(crate) fn whole(value: &JsValue, what: &str) -> Result<u64, Fault> {
    // 2^53: beyond it a number of JavaScript is not exact.
    match value.as_f64() {
        Some(number) if (0.0..=9_007_199_254_740_992.0).contains(&number) && number % 1.0 == 0.0 => {
            Ok(number as u64)
        }
        _ => Err(Fault::argument(what, "it is no whole number from 0 to 2^53")),
    }
}

/// Bytes. They may be secret: this copy is wiped.
pub(crate) fn bytes(value: &JsValue, what: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
    Ok(Zeroizing::new(array(value, what)?.to_vec()))
}

/// Bytes that are used up: the array that they came in is zeroed.
pub(crate) fn used(value: &JsValue, what: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let array = array(value, what)?;
    let bytes = Zeroizing::new(array.to_vec());
    array.fill(0, 0, array.length());
    Ok(bytes)
}

fn array<'a>(value: &'a JsValue, what: &str) -> Result<&'a Uint8Array, Fault> {
    value.dyn_ref().ok_or_else(|| Fault::argument(what, "it is no Uint8Array"))
}
