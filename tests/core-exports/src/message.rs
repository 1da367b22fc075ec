//! What an event looks like on NATS: subjects, headers, roles, stream, context, event, envelope.

use std::str::FromStr;

use cim_keys_core::context::{self, Actor, Context, RegistryId};
use cim_keys_core::envelope;
use cim_keys_core::headers::{CimEvent, Headers, build_headers};
use cim_keys_core::nkey::{PublicKey, Signature};
use cim_keys_core::roles::{self, PipelineRole};
use cim_keys_core::schema;
use cim_keys_core::stream::{
    StreamConfig, keys_archive_stream_config, keys_dead_stream_config, keys_events_stream_config,
    keys_issued_stream_config,
};
use cim_keys_core::subjects::{Namespace, Subject, Token};
use cim_keys_core::time::Timestamp;
use cim_keys_core::trace::TraceParent;
use uuid::Uuid;

use crate::{exports, shown};

exports! {
    schema_events() { schema::event_schemas().into_iter().map(|schema| schema.document).collect::<Vec<_>>() }
    schema_asyncapi(namespace: Namespace) { schema::asyncapi(&namespace) }

    subjects_token(text: String) { shown(Token::from_str(&text)?) }
    subjects_subject(text: String) { Subject::from_str(&text)? }
    subjects_namespace(text: String) {
        let namespace = Namespace::from_str(&text)?;
        let user_created = namespace.subject("user", "created");
        (
            user_created,
            namespace.events(),
            namespace.event_pattern(),
            namespace.log(),
            namespace.dead(),
            namespace.dead_of("c"),
            namespace.api(),
            namespace.issued(),
        )
    }

    headers_build(event: CimEvent, source: String) { build_headers(&event, &source)? }
    headers_push(headers: Headers, name: String, value: String) {
        let mut headers = headers;
        headers.push(&name, &value)?;
        headers
    }
    headers_received(list: Vec<(String, String)>, name: String) {
        let headers = Headers::received(list);
        (headers.only(&name).map(str::to_owned), headers.count(&name))
    }
    trace_parent(list: Vec<(String, String)>, text: String, parent: [u8; 8]) {
        let read = TraceParent::from_str(&text)?;
        let made = TraceParent::new(*read.trace_id(), parent, read.is_sampled())?;
        (shown(TraceParent::of(&Headers::received(list))?), read.child(parent)?.to_string(), made.to_string())
    }
    stream_durable(name: String, subjects: Vec<String>) { StreamConfig::durable(&name, subjects) }

    roles_template(role: String, namespace: Namespace, user: String) {
        (shown(PipelineRole::from_str(&role)?.template(&namespace)), roles::inbox(&user))
    }
    roles_accounts(namespace: Namespace, keys: [PublicKey; 6]) {
        let [a, b, c, d, e, f] = keys;
        (
            shown(roles::keys_account(&namespace, a, b)),
            shown(roles::edge_account(
                &namespace,
                a,
                b,
                roles::EdgeKeys { resolver: b, host: c, auditor: d, browser: e, service: f, client: a },
            )),
            shown(roles::system_account(a)),
        )
    }

    stream_config(namespace: Namespace) {
        (
            keys_events_stream_config(&namespace),
            keys_archive_stream_config(&namespace),
            keys_dead_stream_config(&namespace),
            keys_issued_stream_config(&namespace),
        )
    }
    stream_differences(expected: StreamConfig, found: StreamConfig) { expected.differences(&found) }

    context_actor(text: String) { Actor::from_str(&text)? }
    context_event_id(context: Context, index: u32) { context.event_id(index) }
    context_event_id_of(now: Timestamp, command_id: Uuid, attempt: u32, index: u32) {
        context::event_id(now, command_id, attempt, index)
    }

    envelope_decode(subject: String, headers: Headers, payload: String) {
        shown(envelope::decode(&subject, &headers, payload.as_bytes())?)
    }
    envelope_encode(subject: String, headers: Headers, payload: String, registry: RegistryId) {
        let event = envelope::decode(&subject, &headers, payload.as_bytes())?.event;
        let draft = envelope::encode_draft(&event);
        (envelope::subject_of(&event, &registry), envelope::headers_of(&event)?, String::from_utf8(draft)?)
    }
    envelope_complete(draft: String, signatures: Vec<Signature>) {
        String::from_utf8(envelope::complete(draft.as_bytes(), &signatures))?
    }
}
