//! The sync machine: the same inputs and outputs as natively, as plain objects.

use crate::convert::{bytes, from_js, to_js, whole};
use crate::error::Fault;
use cim_keys_core::journal::Progress;
use cim_keys_core::sync::{self, Moment};
use wasm_bindgen::prelude::*;

/// Brings journal and stream together, exactly once. Its contract stands with `sync::Machine` of the core.
#[wasm_bindgen]
pub struct Machine(sync::Machine);

/// Bytes of messages that are enough for `Output.gather`.
#[wasm_bindgen]
pub fn batch_bytes() -> u32 {
    sync::BATCH_BYTES as u32
}

#[wasm_bindgen]
impl Machine {
    /// A machine for one journal, as far as that has come; null for a journal that met no stream.
    #[wasm_bindgen(constructor)]
    pub fn new(
        #[wasm_bindgen(unchecked_param_type = "RegistryId")] registry: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "Progress | null")] progress: &JsValue,
    ) -> Result<Machine, Fault> {
        let progress: Option<Progress> = from_js(progress, "progress")?;
        let registry = from_js(registry, "registry")?;
        Ok(Self(sync::Machine::new(registry, progress.unwrap_or_default())))
    }

    /// Takes an input and says what to do, in order. `millis` is any clock that does not jump, `random` 16 fresh bytes.
    #[wasm_bindgen(unchecked_return_type = "Output[]")]
    pub fn handle(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "Input")] input: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "number")] millis: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "Uint8Array")] random: &JsValue,
    ) -> Result<JsValue, Fault> {
        let random = bytes(random, "random")?;
        let random =
            random.as_slice().try_into().map_err(|_| Fault::argument("random", "16 bytes are needed"))?;
        let moment = Moment { millis: whole(millis, "millis")?, random };
        to_js(&self.0.handle(from_js(input, "input")?, moment))
    }

    /// How far the journal has come.
    #[wasm_bindgen(unchecked_return_type = "Progress")]
    pub fn progress(&self) -> Result<JsValue, Fault> {
        to_js(self.0.progress())
    }
}
