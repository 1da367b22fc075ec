//! What the page must know of the system that it belongs to. All of it is public.

use cim_keys_core::context::RegistryId;
use serde::Serialize;

/// Facts about a system, as `/config.json` gives them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site {
    /// Which registry.
    pub registry: RegistryId,
    /// Where the page connects: `ws://127.0.0.1:PORT`.
    pub websocket_url: String,
    /// Prefix of the JetStream API for the role browser.
    pub api_prefix: String,
}
