//! In the place of the server, where this program was built without the page.

use super::{Assets, PageError, Site};
use std::convert::Infallible;

/// Never there.
#[derive(Debug)]
pub struct Listener(Infallible);

/// Never there.
#[derive(Debug)]
pub struct Server(Infallible);

impl Listener {
    /// Says that there is no page.
    ///
    /// # Errors
    /// Always [`PageError::NotBuilt`].
    #[allow(clippy::unused_async)]
    pub async fn bind(_: Option<u16>) -> Result<Self, PageError> {
        Err(PageError::NotBuilt)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self.0 {}
    }

    /// Serves.
    #[must_use]
    pub fn serve(self, _: Assets, _: &Site) -> Server {
        match self.0 {}
    }
}

impl Server {
    /// Ends it.
    #[allow(clippy::unused_async)]
    pub async fn stop(self) {
        match self.0 {}
    }
}
