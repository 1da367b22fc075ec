//! What an account gives to others and takes from them: exports and imports (`nats-identity` §5.2, §6.1, §6.2).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;

use super::DecodeError;
use super::validate::starred;
use super::wire::{Unknown, Wire, wire_struct, wire_text};
use crate::json::Json;
use crate::nkey::PublicKey;

/// Whether messages or answers are shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShareKind {
    /// The exporter publishes, importers subscribe.
    #[default]
    Stream,
    /// Importers ask, the exporter answers.
    Service,
}
wire_text!(ShareKind absent None; Stream => "stream", Service => "service");

/// How many answers a service gives to one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResponseType {
    /// Not said, which means one. The only one possible for a stream.
    #[default]
    Unset,
    /// One answer.
    Singleton,
    /// Any number of answers.
    Stream,
    /// One answer in several parts.
    Chunked,
}
wire_text!(ResponseType absent Some(Self::Unset);
    Unset => "", Singleton => "Singleton", Stream => "Stream", Chunked => "Chunked");

/// How often the latency of a service is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sampling {
    /// When the request's headers ask for it.
    #[default]
    Headers,
    /// For this share of requests, 1 to 100 percent.
    Percent(u8),
}

impl Wire for Sampling {
    fn absent() -> Option<Self> {
        Some(Self::Headers)
    }

    fn read(json: Json) -> Result<Self, Box<DecodeError>> {
        match &json {
            Json::Text(text) if text.eq_ignore_ascii_case("headers") => Ok(Self::Headers),
            Json::Number(_) => match u8::read(json) {
                Ok(0) => Ok(Self::Headers),
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(DecodeError::expected("a percentage from 1 to 100, or \"headers\"")),
            },
            _ => Err(DecodeError::expected("a percentage from 1 to 100, or \"headers\"")),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Headers | Self::Percent(0) => out.push_str("\"headers\""),
            Self::Percent(percent) => percent.write(out),
        }
    }

    fn blank(&self) -> bool {
        false
    }
}

/// Where the latency of a service is reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceLatency {
    /// How often.
    pub sampling: Sampling,
    /// The subject of the reports.
    pub results: String,
    /// Members of a later version.
    pub unknown: Unknown,
}
wire_struct!(ServiceLatency { always "sampling" => sampling, always "results" => results });

/// What an account lets others subscribe to or ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Export {
    /// A name for people.
    pub name: String,
    /// The subject, wildcards possible.
    pub subject: String,
    /// Stream or service.
    pub kind: ShareKind,
    /// Importers need an activation token.
    pub token_req: bool,
    /// Activations revoked: account key or `*` to Unix seconds.
    pub revocations: BTreeMap<String, i64>,
    /// Answers to one request; unset for a stream.
    pub response_type: ResponseType,
    /// How long answers are waited for, in nanoseconds; 0 means two minutes.
    pub response_threshold: i64,
    /// Measurement of latency.
    pub service_latency: Option<ServiceLatency>,
    /// Which token of the subject must be the importer's key, from 1; 0 none.
    pub account_token_position: u64,
    /// Listed for others to find.
    pub advertise: bool,
    /// Message traces may pass.
    pub allow_trace: bool,
    /// A description for people.
    pub description: String,
    /// An address with more about it.
    pub info_url: String,
    /// Members of a later version.
    pub unknown: Unknown,
}
wire_struct!(Export {
    omit "name" => name,
    omit "subject" => subject,
    omit "type" => kind,
    omit "token_req" => token_req,
    omit "revocations" => revocations,
    omit "response_type" => response_type,
    omit "response_threshold" => response_threshold,
    omit "service_latency" => service_latency,
    omit "account_token_position" => account_token_position,
    omit "advertise" => advertise,
    omit "allow_trace" => allow_trace,
    omit "description" => description,
    omit "info_url" => info_url,
});

impl Export {
    /// An export of this subject and nothing special about it.
    pub fn new(kind: ShareKind, subject: impl Into<String>) -> Self {
        Self { kind, subject: subject.into(), ..Self::default() }
    }
}

/// What an account takes from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// A name for people.
    pub name: String,
    /// The exporter's subject.
    pub subject: String,
    /// The exporting account.
    pub account: PublicKey,
    /// The activation token, where the export asks for one.
    pub token: String,
    /// Deprecated form of `local_subject`: a prefix for streams, the exporter's subject for services.
    pub to: String,
    /// What the subject is called in the importing account; `$1` is the first wildcard.
    pub local_subject: String,
    /// Stream or service.
    pub kind: ShareKind,
    /// Tell the service who asks.
    pub share: bool,
    /// Message traces may pass.
    pub allow_trace: bool,
    /// Members of a later version.
    pub unknown: Unknown,
}
wire_struct!(Import {
    omit "name" => name,
    omit "subject" => subject,
    omit "account" => account,
    omit "token" => token,
    omit "to" => to,
    omit "local_subject" => local_subject,
    omit "type" => kind,
    omit "share" => share,
    omit "allow_trace" => allow_trace,
});

impl Import {
    /// An import of this subject under the same name.
    pub fn new(kind: ShareKind, account: PublicKey, subject: impl Into<String>) -> Self {
        Self {
            name: String::new(),
            subject: subject.into(),
            account,
            token: String::new(),
            to: String::new(),
            local_subject: String::new(),
            kind,
            share: false,
            allow_trace: false,
            unknown: Unknown::default(),
        }
    }

    /// What the subject is called in the importing account, with `*` for each wildcard.
    pub fn local(&self) -> String {
        match (self.kind, self.local_subject.is_empty(), self.to.is_empty()) {
            (_, false, _) => starred(&self.local_subject),
            (ShareKind::Stream, true, false) => [&self.to, ".", &self.subject].concat(),
            _ => self.subject.clone(),
        }
    }

    /// What the subject is called in the exporting account.
    pub fn exported(&self) -> &str {
        // Before there were local subjects, `to` of a service was the exporter's.
        match (self.kind, self.local_subject.is_empty(), self.to.is_empty()) {
            (ShareKind::Service, true, false) => &self.to,
            _ => &self.subject,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nkey::Kind;

    #[test]
    fn names_of_imports_on_both_sides() {
        let import = |kind, local: &str, to: &str| Import {
            local_subject: local.into(),
            to: to.into(),
            ..Import::new(kind, PublicKey::new(Kind::Account, [1; 32]), "a.*.b")
        };
        for (import, local, exported) in [
            (import(ShareKind::Stream, "", ""), "a.*.b", "a.*.b"),
            (import(ShareKind::Stream, "x.$1", ""), "x.*", "a.*.b"),
            (import(ShareKind::Stream, "", "x"), "x.a.*.b", "a.*.b"),
            (import(ShareKind::Service, "x.$1.y", ""), "x.*.y", "a.*.b"),
            (import(ShareKind::Service, "", "x.*"), "a.*.b", "x.*"),
        ] {
            assert_eq!((import.local().as_str(), import.exported()), (local, exported), "{import:?}");
        }
    }
}
