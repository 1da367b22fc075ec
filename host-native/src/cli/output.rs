//! What goes to stdout (data) and to stderr (talk).

use super::exit::CliError;
use crate::redact::redacted;
use serde::Serialize;
use std::io::{self, IsTerminal as _, Write as _};

/// How data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object on one line.
    Json,
    /// The same; lists, and what comes bit by bit, as one object a row, a row a line.
    Jsonl,
}

/// Writes in one format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Output {
    format: Format,
    logs: bool,
}

impl Output {
    /// Writes in this format.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, logs: false }
    }

    /// The same, its talk as lines of a log.
    #[must_use]
    pub fn logging(self) -> Self {
        Self { logs: true, ..self }
    }

    /// Whether its talk is a log.
    #[must_use]
    pub fn is_log(&self) -> bool {
        self.logs
    }

    /// Whether data is JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl)
    }

    /// Whether lists are written one object a line.
    #[must_use]
    pub fn is_lines(&self) -> bool {
        self.format == Format::Jsonl
    }

    /// Writes data to stdout: as JSON, or as the text that `text` makes of it.
    ///
    /// # Errors
    /// stdout cannot be written. A reader that has gone away is no error.
    pub fn data<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        let mut line = match self.format {
            Format::Json | Format::Jsonl => {
                serde_json::to_string(value).map_err(|error| CliError::unexpected(&error))?
            }
            Format::Text => text(value),
        };
        if !line.ends_with('\n') && !line.is_empty() {
            line.push('\n');
        }
        put(&line).map(|_| ())
    }

    /// Writes one row of what comes bit by bit to stdout, as JSON on a line of its own. False where whoever reads has gone
    /// away: more is not worth making.
    ///
    /// # Errors
    /// See [`data`](Self::data).
    pub fn row<T: Serialize>(&self, row: &T) -> Result<bool, CliError> {
        let mut line = serde_json::to_string(row).map_err(|error| CliError::unexpected(&error))?;
        line.push('\n');
        put(&line)
    }

    /// Writes a list to stdout: one object a line where lines are wanted, else as [`data`](Self::data) does.
    ///
    /// # Errors
    /// See [`data`](Self::data).
    pub fn list<T: Serialize, L: Serialize>(
        &self,
        whole: &T,
        lines: &[L],
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        if self.is_lines() {
            for line in lines {
                if !self.row(line)? {
                    break;
                }
            }
            return Ok(());
        }
        self.data(whole, text)
    }

    /// Says something on stderr; never a seed, whoever put it into the text.
    pub fn say(&self, text: &str) {
        #[cfg(feature = "nats")]
        if self.logs {
            return crate::serve::log::line(crate::serve::log::Level::Info, text, &[]);
        }
        let _ = writeln!(io::stderr().lock(), "{}", redacted(text));
    }

    /// Warns on stderr.
    pub fn warn(&self, text: &str) {
        #[cfg(feature = "nats")]
        if self.logs {
            return crate::serve::log::line(crate::serve::log::Level::Warn, text, &[]);
        }
        self.say(&format!("{} {text}", paint("warning:", "33")));
    }

    /// Says on stderr why something failed, and what to do next.
    pub fn error(&self, error: &CliError) {
        if self.is_json() {
            let line = serde_json::json!({ "error": error });
            self.say(&line.to_string());
            return;
        }
        self.say(&format!("{} {}", paint("error:", "31"), error.message));
        for hint in &error.hints {
            self.say(&format!("  {} {hint}", paint("hint:", "36")));
        }
    }
}

/// False where whoever reads has gone away.
fn put(text: &str) -> Result<bool, CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::unexpected(&format!("stdout cannot be written: {error}"))),
        Ok(()) => Ok(true),
    }
}

/// Bold colour on a terminal, unless `NO_COLOR` is set.
fn paint(text: &str, colour: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !io::stderr().is_terminal() {
        text.to_owned()
    } else {
        format!("\u{1b}[1;{colour}m{text}\u{1b}[0m")
    }
}

/// So many of something: one of it, or several.
#[must_use]
pub fn counted(count: u64, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {what}{end}")
}

/// A table without lines: columns two blanks apart.
#[must_use]
pub fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head = head.iter().map(|name| name.to_uppercase()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head)
        .chain(rows.into_iter().map(|row| row.iter().map(|cell| printable(cell)).collect()))
        .collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |place: usize| rows.iter().filter_map(|row| row.get(place)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|place| width(place).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Text of others as it is, with every character written out that a terminal would not show as one: what moves its
/// cursor, turns the direction of writing or takes no room.
#[must_use]
pub fn plain(text: &str) -> String {
    let shown = |c: char| match c {
        '"' | '\'' => vec![c],
        c => c.escape_debug().collect(),
    };
    text.chars().flat_map(shown).collect()
}

/// Text of others without what would move a terminal's cursor.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
