//! The page, served on loopback: its files stand in this program, and what it must know of this system is public.
//!
//! No secret ever goes over HTTP: creds and keys are brought to the page by the person, out of files.

mod assets;
mod site;

#[cfg(not(feature = "page"))]
mod absent;
#[cfg(feature = "page")]
mod answer;
#[cfg(feature = "page")]
mod reports;
#[cfg(feature = "page")]
mod server;

#[cfg(not(feature = "page"))]
pub use absent::{Listener, Server};
pub use assets::{Asset, Assets};
#[cfg(feature = "page")]
pub use server::{Listener, Server};
pub use site::Site;

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// This program was built without it.
    #[error("this program was built without the page")]
    NotBuilt,
    /// Somebody else listens there.
    #[error("the page's port {port} is in use")]
    InUse {
        /// The port.
        port: u16,
    },
    /// The port cannot be had.
    #[error("the page cannot listen on 127.0.0.1:{port}: {reason}")]
    Listen {
        /// The port; 0 is any.
        port: u16,
        /// Why.
        reason: String,
    },
}

impl PageError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotBuilt => "page-not-built",
            Self::InUse { .. } => "page-port-in-use",
            Self::Listen { .. } => "page-listen",
        }
    }
}
