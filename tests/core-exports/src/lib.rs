//! Every public operation of the core as a wasm export: proof that it imports nothing.
//!
//! Nothing ships from here. Each export takes a JSON array of its arguments and gives a JSON object, `{"ok": …}` or
//! `{"error": "…"}`. `exports.txt` says which operations of the core each of them runs; the test `core_exports` of
//! cim-keys-tests compares that list with this crate, with the built module, and with the core's source.
//!
//! Calling one: `cim_allocate(length)` gives an address to write the arguments to; the export gives
//! `address << 32 | length` of its answer; `cim_release(address, length)` takes an answer back.

mod command;
mod consume;
mod identity;
mod message;
mod outbox;
mod projection;
mod registry;
mod sync;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Whatever went wrong, in words.
pub(crate) struct Failed(String);

impl<E: std::fmt::Display> From<E> for Failed {
    fn from(error: E) -> Self {
        Failed(error.to_string())
    }
}

/// `name(argument: type, …) { body }`: the body may use `?` and gives what is written as JSON.
macro_rules! exports {
    ($($name:ident($($argument:ident: $type:ty),*) $body:block)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(address: usize, length: usize) -> u64 {
            crate::answer(address, length, |($($argument,)*): ($($type,)*)| Ok($body))
        }
    )*};
}
pub(crate) use exports;

/// An address for `length` bytes of arguments.
#[unsafe(no_mangle)]
pub extern "C" fn cim_allocate(length: usize) -> usize {
    Box::into_raw(vec![0u8; length].into_boxed_slice()) as *mut u8 as usize
}

/// Takes back what [`cim_allocate`] or an export gave.
#[unsafe(no_mangle)]
pub extern "C" fn cim_release(address: usize, length: usize) {
    // SAFETY: the caller hands back an address and length of ours, once.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(address as *mut u8, length)) });
}

/// Reads the arguments, which it takes back, and leaves the answer.
pub(crate) fn answer<A: DeserializeOwned, T: Serialize>(
    address: usize,
    length: usize,
    run: impl FnOnce(A) -> Result<T, Failed>,
) -> u64 {
    // SAFETY: the caller hands over an address of `cim_allocate` with its length, once.
    let input = unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(address as *mut u8, length)) };
    let outcome = serde_json::from_slice(&input).map_err(Failed::from).and_then(run).and_then(ok);
    let answer = outcome.unwrap_or_else(|Failed(reason)| json!({ "error": reason })).to_string();
    let answer = answer.into_bytes().into_boxed_slice();
    let length = answer.len() as u64;
    ((Box::into_raw(answer) as *mut u8 as u64) << 32) | length
}

fn ok(value: impl Serialize) -> Result<Value, Failed> {
    Ok(json!({ "ok": serde_json::to_value(value)? }))
}

/// What has no JSON of its own is shown as Rust shows it.
pub(crate) fn shown(value: impl std::fmt::Debug) -> String {
    format!("{value:?}")
}
