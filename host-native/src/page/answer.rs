//! One answer to each request: files, public facts, reports. Nothing else exists here.

use super::reports::Reports;
use super::{Asset, Assets, Site};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of one report.
const REPORT_LIMIT: usize = 16 * 1024;
/// How many reports there were, beside the list of those kept.
const REPORT_COUNT: HeaderName = HeaderName::from_static("csp-report-count");

const CONFIG: &str = "/config.json";
const REPORT: &str = "/csp-report";
const REPORTS: &str = "/csp-reports";

const FOR_EVER: &str = "public, max-age=31536000, immutable";
const NEVER: &str = "no-store";

/// On every answer, whatever it is.
const ALWAYS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), \
         microphone=(), midi=(), payment=(), publickey-credentials-get=(), usb=()",
    ),
];

/// What the answers are made of.
#[derive(Debug)]
pub(super) struct Desk {
    assets: Assets,
    config: Vec<u8>,
    policy: String,
    reports: Mutex<Reports>,
}

impl Desk {
    pub(super) fn new(assets: Assets, site: &Site) -> Self {
        // Texts and keys: nothing that JSON could refuse.
        let config = serde_json::to_vec(site).unwrap_or_default();
        Self { assets, config, policy: policy(&site.websocket_url), reports: Mutex::default() }
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers.
pub(super) async fn answer(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let mut response = if is_ours(request.uri(), request.headers()) {
        route(&desk, request).await
    } else {
        said(StatusCode::MISDIRECTED_REQUEST, "this is served to 127.0.0.1 and localhost alone")
    };
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(&desk.policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

async fn route(desk: &Desk, request: Request) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        REPORT if *request.method() == Method::POST => take_report(desk, request).await,
        REPORT => refused("POST"),
        _ if !reads => refused("GET, HEAD"),
        CONFIG => json(Cow::Owned(desk.config.clone())),
        REPORTS => {
            let reports = desk.reports();
            let mut response = json(Cow::Owned(reports.list().to_string().into_bytes()));
            response.headers_mut().insert(REPORT_COUNT, reports.count().into());
            response
        }
        path => match desk.assets.at(path) {
            Some(asset) => file(asset),
            None => said(StatusCode::NOT_FOUND, "there is no such file"),
        },
    }
}

async fn take_report(desk: &Desk, request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if !matches!(kind, "application/csp-report" | "application/reports+json" | "application/json") {
        return said(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a report is JSON");
    }
    let Ok(bytes) = to_bytes(request.into_body(), REPORT_LIMIT).await else {
        return said(StatusCode::PAYLOAD_TOO_LARGE, "a report has at most 16 KiB");
    };
    let Ok(report) = serde_json::from_slice(&bytes) else {
        return said(StatusCode::BAD_REQUEST, "a report is JSON");
    };
    desk.reports().add(report);
    answered(StatusCode::NO_CONTENT, None, NEVER, Cow::Borrowed(&[]))
}

/// Whether the request names this machine by a name that no other site can take: a page of another site whose name leads
/// to 127.0.0.1 would be of our origin otherwise.
fn is_ours(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (named.next(), named.next()) else { return false };
    let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    host.as_ref().is_some_and(is_loopback) && uri.authority().is_none_or(is_loopback)
}

fn is_loopback(authority: &Authority) -> bool {
    // A port that is none would have been taken for a part of the name.
    let whole = match authority.port() {
        Some(port) => format!("{}:{port}", authority.host()) == authority.as_str(),
        None => authority.host() == authority.as_str(),
    };
    let host = authority.host();
    whole && (host == "127.0.0.1" || host == "[::1]" || host.eq_ignore_ascii_case("localhost"))
}

/// Scripts and styles from here alone, wasm, one websocket, and no text that becomes markup unseen.
fn policy(websocket_url: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:; \
         connect-src 'self' {websocket_url}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types svelte-trusted-html; report-uri {REPORT}"
    )
}

fn file(asset: &Asset) -> Response {
    let cache = if asset.hashed { FOR_EVER } else { NEVER };
    answered(StatusCode::OK, Some(asset.media_type), cache, asset.bytes.clone())
}

fn json(bytes: Cow<'static, [u8]>) -> Response {
    answered(StatusCode::OK, Some("application/json"), NEVER, bytes)
}

fn said(status: StatusCode, words: &'static str) -> Response {
    answered(status, Some("text/plain; charset=utf-8"), NEVER, Cow::Borrowed(words.as_bytes()))
}

fn refused(allowed: &'static str) -> Response {
    let mut response = said(StatusCode::METHOD_NOT_ALLOWED, "this cannot be done here");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

fn answered(
    status: StatusCode,
    media_type: Option<&'static str>,
    cache: &'static str,
    bytes: Cow<'static, [u8]>,
) -> Response {
    let body = match bytes {
        Cow::Borrowed(bytes) => Body::from(bytes),
        Cow::Owned(bytes) => Body::from(bytes),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Some(media_type) = media_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    response
}
