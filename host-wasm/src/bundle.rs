//! Commands as a file.

use crate::convert::{bytes, from_js, to_js};
use crate::error::Fault;
use cim_keys_core::bundle;
use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;

/// Writes a bundle: text in UTF-8, without a secret.
#[wasm_bindgen]
pub fn bundle_encode(
    #[wasm_bindgen(unchecked_param_type = "Bundle")] bundle: &JsValue,
) -> Result<Uint8Array, Fault> {
    Ok(Uint8Array::from(bundle::encode(&from_js(bundle, "bundle")?)?.as_slice()))
}

/// Reads a bundle and verifies every signature in it.
#[wasm_bindgen(unchecked_return_type = "Bundle")]
pub fn bundle_decode(
    #[wasm_bindgen(unchecked_param_type = "Uint8Array")] file: &JsValue,
) -> Result<JsValue, Fault> {
    let bundle = bundle::decode(&bytes(file, "file")?)?;
    bundle.verify()?;
    to_js(&bundle)
}
