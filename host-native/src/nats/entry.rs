//! Getting in: with what, for how long it is tried, and what a server says of whoever comes.

use super::target::{Access, Target};
use super::trouble::LinkError;
use async_nats::{Auth, AuthError, ConnectErrorKind, ConnectOptions, Event, ServerError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long a connection may take to come about.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// Longer than any process lives.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// What the client reports of its connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) closed: bool,
    pub(super) authorization: Option<String>,
    pub(super) denied: Vec<String>,
}

pub(super) fn check_time(access: &Access, now: i64) -> Result<(), LinkError> {
    let Access::Creds { token, .. } = access else { return Ok(()) };
    let claims = token.claims();
    if claims.expires != 0 && claims.expires <= now {
        return Err(LinkError::Expired { at: claims.expires });
    }
    if claims.not_before > now {
        return Err(LinkError::NotYet { at: claims.not_before });
    }
    Ok(())
}

pub(super) fn options(target: &Target, tell: watch::Sender<Seen>, once: Arc<AtomicBool>) -> ConnectOptions {
    let access = Arc::clone(&target.access);
    let mut options = ConnectOptions::with_auth_callback(move |nonce| {
        let signed = sign(&access, &nonce);
        async move { signed }
    })
    .name("cim-keys")
    .connection_timeout(CONNECT)
    .ping_interval(Duration::from_secs(15))
    // The first try goes out at once; a second one, after the connection was lost, never.
    .reconnect_delay_callback(move |_| if once.load(Ordering::SeqCst) { NEVER } else { Duration::ZERO })
    .event_callback(move |event| {
        note(&tell, event);
        async {}
    });
    if let Some(prefix) = &target.inbox_prefix {
        options = options.custom_inbox_prefix(prefix.clone());
    }
    if target.needs_tls() {
        options = options.require_tls(true);
    }
    if let Some(ca) = &target.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &target.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    if target.tls_first {
        options = options.tls_first();
    }
    options
}

fn sign(access: &Access, nonce: &[u8]) -> Result<Auth, AuthError> {
    let signed = |key: &cim_keys_core::nkey::KeyPair| {
        key.sign(nonce).map(|signature| signature.as_bytes().to_vec()).map_err(AuthError::new)
    };
    let mut auth = Auth::new();
    match access {
        Access::Open => {}
        Access::Creds { token, key } => {
            auth.jwt = Some(token.as_str().to_owned());
            auth.signature = Some(signed(key)?);
        }
        Access::Nkey(key) => {
            auth.nkey = Some(key.public_key().to_string());
            auth.signature = Some(signed(key)?);
        }
        Access::User { user, password } => {
            auth.username = Some(user.clone());
            auth.password = Some(password.expose().to_owned());
        }
        Access::Token(token) => auth.token = Some(token.expose().to_owned()),
    }
    Ok(auth)
}

fn note(tell: &watch::Sender<Seen>, event: Event) {
    match event {
        Event::Disconnected | Event::Closed => {
            tell.send_modify(|seen| seen.closed = true);
        }
        Event::ServerError(ServerError::AuthorizationViolation) => {
            tell.send_modify(|seen| seen.authorization = Some("Authorization Violation".into()));
        }
        Event::ServerError(ServerError::Other(text)) => {
            if let Some(subject) = denied(&text) {
                tell.send_modify(|seen| seen.denied.push(subject.to_owned()));
            } else if is_authorization(&text) {
                tell.send_modify(|seen| seen.authorization = Some(text));
            }
        }
        _ => {}
    }
}

/// The subject of `Permissions Violation for Publish to "…"` and its like.
fn denied(text: &str) -> Option<&str> {
    let rest = text.get(..22).filter(|start| start.eq_ignore_ascii_case("permissions violation "))?;
    text.get(rest.len()..)?.split('"').nth(1)
}

/// Errors after which a server takes no more from this user.
fn is_authorization(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    [
        "authorization violation",
        "authentication expired",
        "authentication revoked",
        "authentication timeout",
        "no longer valid",
    ]
    .iter()
    .any(|known| text.contains(known))
}

pub(super) fn refused(error: &async_nats::ConnectError, target: &Target) -> LinkError {
    let mut text = error.to_string();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            LinkError::Refused { reason: text }
        }
        _ if is_authorization(&text) => LinkError::Refused { reason: text },
        _ => {
            let tls = if target.needs_tls() { "; TLS is asked for: does the server speak it?" } else { "" };
            LinkError::Unreachable { reason: format!("{} ({text}{tls})", target.shown()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_texts_are_understood() {
        assert_eq!(denied("Permissions Violation for Publish to \"a.b\""), Some("a.b"));
        assert_eq!(
            denied("Permissions Violation for Subscription to \"_INBOX.x.*\" using queue \"q\""),
            Some("_INBOX.x.*")
        );
        assert_eq!(denied("Authorization Violation"), None);
        assert!(
            is_authorization("User Authentication Expired")
                && is_authorization("User Authentication Revoked")
        );
    }
}
