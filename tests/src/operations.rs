//! Which operations the core has, read from its source by rules that need no markers there.
//!
//! An operation is:
//!
//! * a variant of `command::Command` (each command), of `outbox::Input` and of `sync::Input` (each machine input);
//! * an `impl FromStr` or `impl TryFrom` (a parser), named `Type::from_str` and `Type::try_from`;
//! * a public function, free or inherent, that takes anything beside `&self`, or makes a new value: text, bytes, a list,
//!   a digest, an id, a secret, or a `Result`. What is left are readers: they show a part of what is already there.
//!
//! Tests, trait implementations of other kinds, and functions that are not `pub` do not count. The names are
//! `room::Type::function` or `room::function`, where the room is the first folder or file below `core/src`.
//!
//! The source is formatted by rustfmt, which is what makes reading it by lines sound: items begin in column 0, methods
//! in column 4, and both end with a brace in the same column.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// Types whose appearance in what a function gives means that it made something.
const MADE: [&str; 8] = ["String", "Vec<", "Digest", "Uuid", "Secret", "Result<", "Signature", "TokenId"];

/// Enums each of whose variants is an operation, by room and name.
const INPUTS: [(&str, &str); 3] = [("command", "Command"), ("outbox", "Input"), ("sync", "Input")];

/// All operations of the source below a folder.
///
/// # Errors
/// When the folder cannot be read.
pub fn of_folder(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for (room, path) in rooms(folder)? {
        collect(&path, &room, &mut found)?;
    }
    Ok(found)
}

fn rooms(folder: &Path) -> io::Result<Vec<(String, std::path::PathBuf)>> {
    let mut rooms = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name != "lib" {
            rooms.push((name, path));
        }
    }
    Ok(rooms)
}

fn collect(path: &Path, room: &str, found: &mut BTreeSet<String>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), room, found)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.extend(of_source(room, &fs::read_to_string(path)?));
    }
    Ok(())
}

/// The operations of one file.
pub fn of_source(room: &str, source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut lines = source.lines().peekable();
    // What the lines in column 4 belong to.
    let mut inside = Inside::Nothing;
    let mut test = false;
    while let Some(line) = lines.next() {
        if line.starts_with('}') {
            inside = Inside::Nothing;
            test = false;
        } else if line.starts_with("#[cfg(test)]") {
            test = true;
        } else if !line.starts_with([' ', '#', '/', ')']) && !line.is_empty() {
            inside = item(line, room);
            if let Inside::Parser(name) = &inside
                && !test
            {
                found.insert(format!("{room}::{name}"));
            }
            if test && line.ends_with(';') {
                test = false;
            }
        }
        let (indent, owner) = match &inside {
            Inside::Inherent(owner) => ("    ", format!("{room}::{owner}")),
            Inside::Variants(owner) => {
                let name: String = line
                    .strip_prefix("    ")
                    .unwrap_or_default()
                    .chars()
                    .take_while(|c| c.is_alphanumeric())
                    .collect();
                if name.starts_with(char::is_uppercase) {
                    found.insert(format!("{room}::{owner}::{name}"));
                }
                continue;
            }
            _ => ("", room.to_owned()),
        };
        if test || !is_function(line, indent) {
            continue;
        }
        let mut signature = line.trim().to_owned();
        while !signature.ends_with(['{', ';', '}']) {
            let Some(more) = lines.next() else { break };
            signature.push(' ');
            signature.push_str(more.trim());
        }
        if let Some(name) = operation(&signature) {
            found.insert(format!("{owner}::{name}"));
        }
    }
    found
}

enum Inside {
    Nothing,
    Inherent(String),
    Variants(String),
    Parser(String),
}

fn item(line: &str, room: &str) -> Inside {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric()).collect::<String>();
    if let Some(rest) = line.strip_prefix("pub enum ") {
        let name = name(rest);
        return if INPUTS.contains(&(room, name.as_str())) {
            Inside::Variants(name)
        } else {
            Inside::Nothing
        };
    }
    let Some(rest) = line.strip_prefix("impl") else { return Inside::Nothing };
    // Parameters of the implementation itself come before the type.
    let rest = if rest.starts_with('<') {
        rest.split_once("> ").map_or(rest, |(_, rest)| rest)
    } else {
        rest.trim()
    };
    match rest.split_once(" for ") {
        None => Inside::Inherent(name(rest)),
        Some(("FromStr", owner)) => Inside::Parser(format!("{}::from_str", name(owner))),
        Some((of, owner)) if of.starts_with("TryFrom<") => {
            Inside::Parser(format!("{}::try_from", name(owner)))
        }
        Some(_) => Inside::Nothing,
    }
}

fn is_function(line: &str, indent: &str) -> bool {
    line.strip_prefix(indent)
        .is_some_and(|rest| rest.starts_with("pub fn ") || rest.starts_with("pub const fn "))
}

/// The function's name, where it is an operation.
fn operation(signature: &str) -> Option<&str> {
    let rest = signature.trim_start_matches("pub ").trim_start_matches("const ").strip_prefix("fn ")?;
    let name = rest.split(['(', '<']).next()?;
    // A generic parameter may hold parentheses of its own (`impl Fn(…)`): the list begins behind the name.
    let list = &rest[rest.find('(')? + 1..];
    let mut depth = 1usize;
    let end = list.find(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    let parameters: Vec<&str> = list[..end].split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
    let given = &list[end + 1..];
    let reads_only = matches!(parameters.as_slice(), ["&self" | "self"]);
    let borrowed = given.trim_start_matches(" -> ").starts_with(['&']) || given.contains("Option<&");
    let makes = !borrowed && !given.contains("impl Iterator") && MADE.iter().any(|made| given.contains(made));
    (!reads_only || makes).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<String> {
        of_source("command", source).into_iter().collect()
    }

    #[test]
    fn functions_count_when_they_take_or_make_something() {
        let source = "
pub fn free(a: u8) -> u8 {
}

pub(crate) fn hidden(a: u8) {
}

impl Thing {
    pub fn new() -> Self {
    }

    pub const fn shown(&self) -> &str {
    }

    pub fn letter(self) -> char {
    }

    pub fn text(&self) -> String {
    }

    pub fn change(&mut self) {
    }

    pub fn long(
        &self,
        other: &[(u8, u8)],
    ) -> bool {
    }

    fn private(&self, a: u8) {}

    pub fn list(&self) -> impl Iterator<Item = &String> {
    }
}
";
        let expected = ["Thing::change", "Thing::long", "Thing::new", "Thing::text", "free"];
        assert_eq!(names(source), expected.map(|name| format!("command::{name}")));
    }

    #[test]
    fn variants_and_parsers_count_and_tests_do_not() {
        let source = "
pub enum Command {
    /// Doc.
    Make {
        name: String,
    },
    Plain,
    #[serde(rename = \"x\")]
    Tuple(u8),
}

pub enum Other {
    Variant,
}

impl FromStr for Name {
    fn from_str(text: &str) -> Result<Self, E> {
    }
}

impl<'a> TryFrom<&'a str> for Short {
}

impl fmt::Display for Name {
}

#[cfg(test)]
mod tests {
    pub fn helper(a: u8) {}
}

#[cfg(test)]
pub fn tool(a: u8) {
}

pub fn after() {
}
";
        let expected = [
            "Command::Make",
            "Command::Plain",
            "Command::Tuple",
            "Name::from_str",
            "Short::try_from",
            "after",
        ];
        assert_eq!(names(source), expected.map(|name| format!("command::{name}")));
    }
}
