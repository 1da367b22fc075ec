//! Seeds live here and nowhere else; they are wiped when they are forgotten or the keyring is freed.

use crate::convert::{bytes, from_js, text, to_js, used};
use crate::error::Fault;
use cim_keys_core::digest::Digest;
use cim_keys_core::draft::{Decision, Draft};
use cim_keys_core::jwt::{self, Claims, Token};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey};
use cim_keys_core::{creds, entropy};
use js_sys::Uint8Array;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use wasm_bindgen::prelude::*;
use zeroize::Zeroizing;

/// What was brought in.
#[derive(Serialize)]
struct Imported {
    public_key: PublicKey,
    kind: Kind,
    token: Option<String>,
}

/// Key pairs in memory.
#[wasm_bindgen]
#[derive(Default)]
pub struct Keyring {
    keys: BTreeMap<PublicKey, KeyPair>,
    /// Digests of what was drawn: a source that repeats itself would make the same key twice.
    drawn: BTreeSet<Digest>,
}

#[wasm_bindgen]
impl Keyring {
    /// An empty one.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a key from 32 fresh bytes of `crypto.getRandomValues`, and gives its public half. The array is zeroed.
    pub fn generate(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "Kind")] kind: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "Uint8Array")] entropy: &JsValue,
    ) -> Result<String, Fault> {
        let drawn = draw(entropy)?;
        let kind: Kind = text(kind, "kind")?.parse()?;
        if !self.drawn.insert(Digest::of(&*drawn)) {
            return Err(Fault::repeated());
        }
        Ok(self.keep(KeyPair::from_entropy(kind, *drawn)).to_string())
    }

    /// Takes a seed, a seed file or a creds file. The array is zeroed. A key of creds comes with its token.
    #[wasm_bindgen(unchecked_return_type = "Imported")]
    pub fn import_secret(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "Uint8Array")] secret: &JsValue,
    ) -> Result<JsValue, Fault> {
        let (key, token) = read(&used(secret, "secret")?)?;
        let (public_key, kind) = (key.public_key(), key.kind());
        self.keep(key);
        to_js(&Imported { public_key, kind, token })
    }

    /// Whether a key is here.
    pub fn has(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] public_key: &JsValue,
    ) -> Result<bool, Fault> {
        let key = text(public_key, "public_key")?;
        Ok(key.parse().is_ok_and(|key| self.keys.contains_key(&key)))
    }

    /// Public halves of the keys that are here.
    pub fn public_keys(&self) -> Vec<String> {
        self.keys.keys().map(ToString::to_string).collect()
    }

    /// Wipes a key.
    pub fn forget(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "string")] public_key: &JsValue,
    ) -> Result<(), Fault> {
        if let Ok(key) = text(public_key, "public_key")?.parse() {
            self.keys.remove(&key);
        }
        Ok(())
    }

    /// The signature, 64 bytes, over what a server asks a client to sign.
    pub fn sign(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] public_key: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "Uint8Array")] message: &JsValue,
    ) -> Result<Uint8Array, Fault> {
        let signature = self.key(public_key)?.sign(&bytes(message, "message")?)?;
        Ok(Uint8Array::from(signature.as_bytes().as_slice()))
    }

    /// Issues a token by itself, without a registry: claims as a token has them, signed by their issuer, whose key is here.
    pub fn issue_token(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Claims")] claims: &JsValue,
    ) -> Result<String, Fault> {
        Ok(self.issued(claims)?.as_str().to_owned())
    }

    /// The same for a user whose key is here, handed out at once: its creds file with token and seed inside. Whoever has
    /// it is this user.
    pub fn secret_issue_creds(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Claims")] claims: &JsValue,
    ) -> Result<Uint8Array, Fault> {
        let token = self.issued(claims)?;
        let key = self.keys.get(&token.claims().subject);
        let key = key.ok_or_else(|| Fault::unknown_key(&token.claims().subject.to_string()))?;
        Ok(Uint8Array::from(creds::format(&token, key)?.expose().as_bytes()))
    }

    /// The seed: whoever has it is this identity.
    pub fn secret_seed(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] public_key: &JsValue,
    ) -> Result<Uint8Array, Fault> {
        Ok(Uint8Array::from(self.key(public_key)?.seed().expose().as_bytes()))
    }

    /// The creds file of a user with its seed inside: whoever has it is this user.
    pub fn secret_creds(
        &self,
        #[wasm_bindgen(unchecked_param_type = "string")] token: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "string")] public_key: &JsValue,
    ) -> Result<Uint8Array, Fault> {
        let creds = creds::format(&Token::parse(&text(token, "token")?)?, self.key(public_key)?)?;
        Ok(Uint8Array::from(creds.expose().as_bytes()))
    }
}

impl Keyring {
    fn issued(&self, claims: &JsValue) -> Result<Token, Fault> {
        let claims: Claims = from_js(claims, "claims")?;
        let key = self.keys.get(&claims.issuer);
        let key = key.ok_or_else(|| Fault::unknown_key(&claims.issuer.to_string()))?;
        Ok(jwt::encode(&claims)?.sign(key)?)
    }

    fn keep(&mut self, key: KeyPair) -> PublicKey {
        let public = key.public_key();
        self.keys.insert(public, key);
        public
    }

    fn key(&self, public_key: &JsValue) -> Result<&KeyPair, Fault> {
        let public_key = text(public_key, "public_key")?;
        self.keys.get(&public_key.parse()?).ok_or_else(|| Fault::unknown_key(&public_key))
    }

    /// Signs all that a draft asks for.
    pub(crate) fn complete(&self, draft: Draft) -> Result<Decision, Fault> {
        let mut signatures = Vec::new();
        for request in draft.requests() {
            let key = self.keys.get(&request.public_key);
            let key = key.ok_or_else(|| Fault::unknown_key(&request.public_key.to_string()))?;
            signatures.push(key.sign(&request.bytes)?);
        }
        Ok(draft.complete(&signatures)?)
    }
}

/// 32 bytes of a good source; the array that they came in is zeroed.
pub(crate) fn draw(from: &JsValue) -> Result<Zeroizing<[u8; 32]>, Fault> {
    let from = used(from, "entropy")?;
    let drawn = <[u8; 32]>::try_from(from.as_slice()).map(Zeroizing::new);
    let drawn = drawn
        .map_err(|_| Fault::argument("entropy", &format!("{} bytes, where 32 are needed", from.len())))?;
    entropy::check(&drawn)?;
    Ok(drawn)
}

/// A creds file has its labels; a seed file is a line that begins with S, comments beside it do no harm.
fn read(text: &[u8]) -> Result<(KeyPair, Option<String>), Fault> {
    let text = std::str::from_utf8(text).map_err(|_| Fault::argument("secret", "it is no text"))?;
    if text.contains("-----BEGIN NATS USER JWT-----") {
        let creds = creds::parse(text)?;
        return Ok((creds.key, Some(creds.token.as_str().to_owned())));
    }
    let line =
        text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', '-', '*']));
    Ok((KeyPair::from_seed(line.unwrap_or_default())?, None))
}
