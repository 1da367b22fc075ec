//! What a NATS identity is made of: digest, secret, nkey, jwt, creds, time.

use std::str::FromStr;

use cim_keys_core::creds;
use cim_keys_core::digest::Digest;
use cim_keys_core::entropy;
use cim_keys_core::json::{self, Json};
use cim_keys_core::jwt::{
    self, AccountLimits, Export, Import, ShareKind, Token, TokenId, Unknown, Unsigned, UserRights, subject,
    template,
};
use cim_keys_core::nkey::{KeyPair, Kind, PublicKey, Signature};
use cim_keys_core::secret::{SecretBytes, SecretText};
use cim_keys_core::time::Timestamp;

use crate::{exports, shown};

exports! {
    digest_of(bytes: Vec<u8>, more: Vec<Vec<u8>>) {
        (Digest::of(&bytes), Digest::of_all(more.iter().map(Vec::as_slice)))
    }
    digest_parse(text: String) { Digest::from_str(&text)? }
    entropy_check(bytes: [u8; 32]) { entropy::check(&bytes)? }

    secret_text(text: String) { shown(SecretText::new(text)) }
    secret_bytes(bytes: Vec<u8>) { shown(SecretBytes::new(bytes)) }

    nkey_kind(text: String) { Kind::from_str(&text)?.as_str() }
    nkey_from_entropy(kind: String, entropy: [u8; 32]) {
        let pair = KeyPair::from_entropy(kind.parse()?, entropy);
        (pair.public_key(), pair.seed().expose().to_owned())
    }
    nkey_from_seed(seed: String) { KeyPair::from_seed(&seed)?.public_key() }
    nkey_sign(seed: String, message: Vec<u8>) { KeyPair::from_seed(&seed)?.sign(&message)? }
    nkey_public_key(text: String, kind: String) { PublicKey::from_str(&text)?.of_kind(kind.parse()?)? }
    nkey_public_key_of_bytes(kind: String, bytes: [u8; 32]) { PublicKey::new(kind.parse()?, bytes) }
    nkey_signature(text: String) { Signature::from_bytes(*Signature::from_str(&text)?.as_bytes()) }
    nkey_verify(key: PublicKey, message: Vec<u8>, signature: Signature) { key.verify(&message, &signature)? }

    json_text(text: String) {
        let value: Json = json::from_text(&text)?;
        (json::to_text(&value)?, shown(Json::parse(&text)?), shown(json::from_slice::<Json>(text.as_bytes())?))
    }
    jwt_encode(unsigned: String, name: String, unknown: String) {
        let mut claims = Unsigned::parse(&unsigned)?.claims().clone();
        let mut members = Unknown::default();
        members.insert(name, Json::parse(&unknown)?);
        claims.unknown = members;
        jwt::encode(&claims)?
    }
    jwt_decode_unsigned(text: String) {
        let unsigned = Unsigned::from_str(&text)?;
        (unsigned.id(), unsigned.jti(), shown(Unsigned::parse(&text)?.claims()))
    }
    jwt_decode(text: String) {
        let token = Token::from_str(&text)?;
        (token.id(), token.signature(), shown(Token::parse(&text)?.claims()))
    }
    jwt_sign(unsigned: Unsigned, seed: String) { unsigned.sign(&KeyPair::from_seed(&seed)?)? }
    jwt_with_signature(unsigned: Unsigned, signature: Signature) { unsigned.with_signature(signature)? }
    jwt_token_id(text: String) { TokenId::from_bytes(*TokenId::from_str(&text)?.as_bytes()) }
    jwt_validate(unsigned: Unsigned) { jwt::validate(unsigned.claims())? }
    jwt_validate_user(user: Unsigned, account: Unsigned, strict: bool) {
        jwt::validate_user(user.claims(), account.claims(), strict)?
    }
    jwt_zero_limits() { (shown(AccountLimits::zero()), shown(UserRights::zero())) }
    jwt_sharing(stream: bool, account: PublicKey, subject: String) {
        let kind = if stream { ShareKind::Stream } else { ShareKind::Service };
        let import = Import::new(kind, account, subject.as_str());
        let names = (import.local(), import.exported().to_owned());
        (shown(Export::new(kind, subject)), shown(&import), names)
    }
    jwt_subjects(outer: String, inner: String) {
        let both = (subject::contains(&outer, &inner), subject::overlap(&outer, &inner));
        (subject::valid_subject(&outer), subject::is_literal(&outer), both)
    }
    jwt_template_variables(entry: String) { shown(template::variables(&entry)?) }
    jwt_template_expand(list: Vec<String>, user: Unsigned, account: Unsigned) {
        shown(template::expand(&list, user.claims(), account.claims()))
    }

    creds_format(token: Token, seed: String) {
        creds::format(&token, &KeyPair::from_seed(&seed)?)?.expose().to_owned()
    }
    creds_parse(text: String) {
        let read = creds::parse(&text)?;
        (read.token.id(), read.key.public_key())
    }

    time_from_millis(millis: i64) { Timestamp::from_millis(millis)? }
    time_parse(text: String) { Timestamp::from_str(&text)?.millis() }
}
