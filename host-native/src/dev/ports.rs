//! The ports that a development system had: it takes them again, because what a browser keeps for the page belongs to the
//! page's address.

use super::Options;
use crate::ambient::Ambient;
use crate::files::{self, FileError};
use crate::page::{Listener, PageError};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, TcpListener};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

/// The file in the data folder.
const FILE: &str = "ports.json";
/// Larger than this, in bytes, it is not ours.
const LIMIT: u64 = 4096;

/// Ports of 127.0.0.1 that a system has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ports {
    page: Option<NonZeroU16>,
    websocket: Option<NonZeroU16>,
}

impl Ports {
    /// Those of the last run in this folder. What cannot be read is ignored, and said.
    pub(super) fn read(data: &Path, notes: &mut Vec<String>) -> Self {
        let path = file(data);
        let read = match files::read(&path, LIMIT) {
            Err(FileError::Missing { .. }) => return Self::default(),
            Err(error) => Err(error.to_string()),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        };
        read.unwrap_or_else(|reason| {
            notes.push(format!(
                "warning: {} is ignored ({reason}): page and websocket may have other addresses than before. What is \
                 pending in a browser is seen only under the page's address of that time: --page-port fixes it",
                path.display()
            ));
            Self::default()
        })
    }

    /// Keeps what this run has for the next one; a page that this program does not serve stays as it was.
    pub(super) fn keep(self, data: &Path, page: Option<u16>, websocket_url: &str, notes: &mut Vec<String>) {
        let websocket = websocket_url.rsplit(':').next().and_then(|port| port.parse().ok());
        let ports = Self {
            page: page.and_then(NonZeroU16::new).or(self.page),
            websocket: websocket.or(self.websocket),
        };
        if ports == self {
            return;
        }
        let text = serde_json::to_string(&ports).unwrap_or_default() + "\n";
        if let Err(error) = files::replace(&file(data), text.as_bytes()) {
            notes.push(format!("warning: the next start does not know the ports of this one: {error}"));
        }
    }

    /// Takes the page's port: the one that is asked for, else the one it had, else a free one. Another address than before
    /// is said.
    pub(super) async fn page(
        self,
        ambient: &Ambient,
        options: &Options,
        notes: &mut Vec<String>,
    ) -> Result<Listener, PageError> {
        let had = self.page.map(NonZeroU16::get);
        let listener = match options.page_port {
            Some(port) => Listener::bind(Some(port)).await?,
            None => first_free(had.into_iter().chain(lasting(ambient)), options).await?,
        };
        if let Some(had) = had.filter(|had| *had != listener.port()) {
            let (why, way) = match options.page_port {
                None => {
                    (format!("port {had} is in use"), format!("end what uses port {had} and start again"))
                }
                Some(port) => (format!("port {port} was asked for"), "start again".to_owned()),
            };
            notes.push(format!(
                "the page has another address than before: {why}. What is pending in a browser under \
                 http://127.0.0.1:{had}/ is seen only there: to get it back, {way} with --page-port {had}"
            ));
        }
        Ok(listener)
    }

    /// The port for the server's websocket: the one that is asked for, else the one it had, else a free one; none leaves it
    /// to the server.
    pub(super) fn websocket(
        self,
        ambient: &Ambient,
        options: &Options,
        notes: &mut Vec<String>,
    ) -> Option<u16> {
        if options.websocket_port.is_some() {
            return options.websocket_port;
        }
        let had = self.websocket.map(NonZeroU16::get);
        // The server takes it for itself a moment later: it cannot be handed a port that is held.
        let is_free =
            |port: &u16| !asked(options, *port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let found = had.into_iter().chain(lasting(ambient)).find(is_free);
        if let Some(had) = had.filter(|had| Some(*had) != found) {
            notes.push(format!("the websocket has another address than before: port {had} is in use"));
        }
        found
    }
}

/// Ports to choose an address from that is to last: below those that systems give to outgoing connections, any of which
/// could have it at the next start.
fn lasting(ambient: &Ambient) -> Vec<u16> {
    // Without randomness any free port has to do.
    let random = ambient.moment().map(|moment| moment.random).unwrap_or_default();
    random
        .chunks_exact(2)
        .map(|pair| 10_000 + pair.iter().fold(0, |sum, byte| sum * 256 + u16::from(*byte)) % 20_000)
        .collect()
}

/// Listens on the first of these that is free and that no flag names, else on any.
async fn first_free(ports: impl Iterator<Item = u16>, options: &Options) -> Result<Listener, PageError> {
    for port in ports.filter(|port| !asked(options, *port)) {
        if let Ok(listener) = Listener::bind(Some(port)).await {
            return Ok(listener);
        }
    }
    Listener::bind(None).await
}

/// Whether a flag names this port, for whatever: flags win.
fn asked(options: &Options, port: u16) -> bool {
    [options.port, options.websocket_port, options.page_port].contains(&Some(port))
}

fn file(data: &Path) -> PathBuf {
    data.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(page: Option<u16>, websocket: Option<u16>) -> Ports {
        Ports { page: page.and_then(NonZeroU16::new), websocket: websocket.and_then(NonZeroU16::new) }
    }

    #[test]
    fn ports_are_kept_also_those_of_a_page_that_is_not_served_now() {
        let folder = tempfile::tempdir().unwrap();
        let mut notes = Vec::new();
        let none = Ports::read(folder.path(), &mut notes);
        assert_eq!(none, Ports::default());
        none.keep(folder.path(), Some(7), "ws://127.0.0.1:8", &mut notes);
        let first = Ports::read(folder.path(), &mut notes);
        assert_eq!(first, ports(Some(7), Some(8)));
        first.keep(folder.path(), None, "ws://127.0.0.1:9", &mut notes);
        assert_eq!(Ports::read(folder.path(), &mut notes), ports(Some(7), Some(9)));
        assert_eq!(notes, [""; 0]);
    }

    #[test]
    fn what_is_no_file_of_ours_is_ignored_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let large = " ".repeat(5000);
        for text in ["", "{", "[]", r#"{"page":0}"#, r#"{"page":70000}"#, r#"{"port":4222}"#, &large] {
            std::fs::write(file(folder.path()), text).unwrap();
            let mut notes = Vec::new();
            assert_eq!(Ports::read(folder.path(), &mut notes), Ports::default(), "{text}");
            assert!(notes.len() == 1 && notes[0].contains("is ignored"), "{text}: {notes:?}");
        }
    }

    #[test]
    fn an_address_that_is_to_last_is_below_those_of_outgoing_connections() {
        let ambient = Ambient::system();
        let all: Vec<u16> = (0..100).flat_map(|_| lasting(&ambient)).collect();
        assert!(all.iter().all(|port| (10_000..30_000).contains(port)), "{all:?}");
        assert!(all.len() == 800 && all.iter().max() > all.iter().min());
    }

    #[test]
    fn a_place_that_cannot_be_read_or_written_is_said_and_survived() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(file(folder.path())).unwrap();
        let mut notes = Vec::new();
        let none = Ports::read(folder.path(), &mut notes);
        none.keep(folder.path(), Some(7), "ws://127.0.0.1:8", &mut notes);
        assert_eq!((none, notes.len()), (Ports::default(), 2), "{notes:?}");
    }
}
