//! Every error that leaves this module: a JavaScript `Error` with a stable `code`.

use cim_keys_core::bundle::{BundleError, VerifyError};
use cim_keys_core::command::Rejection;
use cim_keys_core::creds::CredsError;
use cim_keys_core::draft::CompleteError;
use cim_keys_core::entropy::Pattern;
use cim_keys_core::envelope::OpenError;
use cim_keys_core::jwt::{ClaimsError, DecodeError, IssuerError};
use cim_keys_core::nkey::{KeyError, KindError, SeedError, SignError, SignatureError};
use cim_keys_core::time::TimeError;
use js_sys::{Error, Reflect};
use std::borrow::Cow;
use wasm_bindgen::prelude::*;

/// Why an export gives nothing.
pub struct Fault {
    code: Cow<'static, str>,
    text: String,
}

impl Fault {
    fn new(code: &'static str, text: String) -> Self {
        Self { code: Cow::Borrowed(code), text }
    }

    /// An argument is not what its type says.
    pub(crate) fn argument(what: &str, why: &str) -> Self {
        Self::new("argument", format!("{what}: {why}"))
    }

    /// A key that this keyring does not hold.
    pub(crate) fn unknown_key(key: &str) -> Self {
        Self::new("key-missing", format!("the key {key} is not here: bring its seed first"))
    }

    /// The same random bytes again.
    pub(crate) fn repeated() -> Self {
        let text =
            "the random source gave the same bytes twice: it is broken, and keys made of it could be guessed";
        Self::new("entropy-repeated", text.to_owned())
    }

    /// Something that is done once was done before.
    pub(crate) fn spent(what: &str) -> Self {
        Self::new("spent", format!("this {what} was completed before: decide again"))
    }

    /// A mistake of this module.
    pub(crate) fn internal(what: &str) -> Self {
        Self::new("internal", what.to_owned())
    }
}

impl From<Fault> for JsValue {
    fn from(fault: Fault) -> Self {
        let error = Error::new(&fault.text);
        // An object of ours takes every member.
        let _ = Reflect::set(&error, &"code".into(), &JsValue::from_str(&fault.code));
        error.into()
    }
}

macro_rules! faults {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self { code: error.code().into(), text: error.to_string() }
            }
        }
    )*};
}
faults! {
    BundleError, ClaimsError, CompleteError, IssuerError, CredsError, DecodeError, KeyError, KindError, OpenError, Pattern, Rejection, SeedError,
    SignError, SignatureError, TimeError, VerifyError,
}
