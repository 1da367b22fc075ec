//! Plain objects in and out, by way of their JSON.

use crate::error::Fault;
use cim_keys_core::json;
use js_sys::JSON;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::*;

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

/// A whole number that is not negative, in milliseconds or sequences.
pub(crate) fn whole(value: f64, what: &str) -> Result<u64, Fault> {
    // 2^53: beyond it a number of JavaScript is not exact.
    if value.is_finite() && (0.0..=9_007_199_254_740_992.0).contains(&value) && value % 1.0 == 0.0 {
        Ok(value as u64)
    } else {
        Err(Fault::argument(what, "it is no whole number from 0 to 2^53"))
    }
}
