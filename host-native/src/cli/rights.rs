//! Permissions and limits of users and roles, named as nsc names them.

use super::exit::CliError;
use super::parse::{Limit, Nanos, Size};
use cim_keys_core::jwt::{PermissionList, ResponsePermission, UserRights};

/// What a user or a role may do.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Permissions and limits")]
pub(super) struct RightsArgs {
    /// Subjects to publish to; several with commas
    #[arg(long, value_name = "SUBJECT", value_delimiter = ',')]
    allow_pub: Vec<String>,
    /// Subjects not to publish to
    #[arg(long, value_name = "SUBJECT", value_delimiter = ',')]
    deny_pub: Vec<String>,
    /// Subjects to subscribe to; `subject queue` for a queue group
    #[arg(long, value_name = "SUBJECT", value_delimiter = ',')]
    allow_sub: Vec<String>,
    /// Subjects not to subscribe to
    #[arg(long, value_name = "SUBJECT", value_delimiter = ',')]
    deny_sub: Vec<String>,
    /// Subjects to publish and subscribe to
    #[arg(long, value_name = "SUBJECT", value_delimiter = ',')]
    allow_pubsub: Vec<String>,
    /// Subjects neither to publish nor to subscribe to
    #[arg(long, value_name = "SUBJECT", value_delimiter = ',')]
    deny_pubsub: Vec<String>,
    /// Answer requests: so many replies to each, 1 where no number is given
    #[arg(long, value_name = "COUNT", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    allow_pub_response: Option<Limit>,
    /// How long after a request it may be answered
    #[arg(long, value_name = "DURATION")]
    response_ttl: Option<Nanos>,
    /// Ways to connect: STANDARD, WEBSOCKET, LEAFNODE, LEAFNODE_WS, MQTT, MQTT_WS, IN_PROCESS
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    conn_type: Vec<String>,
    /// Networks to connect from, such as 10.0.0.0/8
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    source_network: Vec<String>,
    /// Subscriptions at most; -1 for no limit
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    subs: Option<Limit>,
    /// Bytes of one message at most; -1 for no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    payload: Option<Size>,
    /// Bytes at most; -1 for no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    data_limit: Option<Size>,
    /// Refused: a bearer token is a secret, and tokens stand in events
    #[arg(long, hide = true)]
    bearer: bool,
}

impl RightsArgs {
    /// Whether anything was typed.
    pub(super) fn is_empty(&self) -> bool {
        let lists = [&self.allow_pub, &self.deny_pub, &self.allow_sub, &self.deny_sub, &self.allow_pubsub];
        let more = [&self.deny_pubsub, &self.conn_type, &self.source_network];
        lists.into_iter().chain(more).all(Vec::is_empty)
            && self.allow_pub_response.is_none()
            && self.response_ttl.is_none()
            && self.subs.is_none()
            && self.payload.is_none()
            && self.data_limit.is_none()
            && !self.bearer
    }

    /// What was typed, as rights. What is not said is unlimited.
    pub(super) fn rights(&self) -> Result<UserRights, CliError> {
        if self.bearer {
            return Err(CliError::usage("bearer tokens are refused: whoever reads one is that user, and every token stands in an event that others read")
                .hint("leave --bearer out: the user proves itself with its key"));
        }
        if self.response_ttl.is_some() && self.allow_pub_response.is_none() {
            return Err(CliError::usage("--response-ttl says how long after a request it may be answered, and answering is not allowed")
                .hint("add --allow-pub-response"));
        }
        let list = |one: &[String], both: &[String]| one.iter().chain(both).cloned().collect::<Vec<_>>();
        let response = self.allow_pub_response.map(|max| ResponsePermission {
            max: max.0,
            ttl: self.response_ttl.map_or(0, |ttl| ttl.0),
            ..ResponsePermission::default()
        });
        Ok(UserRights {
            publish: PermissionList {
                allow: list(&self.allow_pub, &self.allow_pubsub),
                deny: list(&self.deny_pub, &self.deny_pubsub),
                ..PermissionList::default()
            },
            subscribe: PermissionList {
                allow: list(&self.allow_sub, &self.allow_pubsub),
                deny: list(&self.deny_sub, &self.deny_pubsub),
                ..PermissionList::default()
            },
            response,
            src: self.source_network.clone(),
            subs: self.subs.map_or(-1, |limit| limit.0),
            payload: self.payload.map_or(-1, |size| size.0),
            data: self.data_limit.map_or(-1, |size| size.0),
            allowed_connection_types: self.conn_type.iter().map(|kind| kind.to_uppercase()).collect(),
            ..UserRights::default()
        })
    }
}
