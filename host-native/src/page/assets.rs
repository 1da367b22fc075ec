//! The page's files, by their path.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Files that the build named after their content stand below this folder.
const HASHED: &str = "assets/";

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Its bytes.
    pub bytes: Cow<'static, [u8]>,
    /// Its media type.
    pub media_type: &'static str,
    /// Whether its name changes with its content, so that it may be kept for ever.
    pub hashed: bool,
}

/// All files: what is not among them does not exist. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Assets(Arc<BTreeMap<String, Asset>>);

impl Assets {
    /// Files by path, without a slash in front.
    pub fn new(files: impl IntoIterator<Item = (String, Cow<'static, [u8]>)>) -> Self {
        let asset = |(path, bytes): (String, _)| {
            let asset = Asset { bytes, media_type: media_type(&path), hashed: path.starts_with(HASHED) };
            (path, asset)
        };
        Self(Arc::new(files.into_iter().map(asset).collect()))
    }

    /// Those that stand in this program; none where it was built without the page.
    #[must_use]
    pub fn embedded() -> Self {
        Self::new(embedded())
    }

    /// Whether there is a page at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.0.contains_key("index.html")
    }

    /// The file at the path of a request; a slash alone is the page.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Asset> {
        match path.strip_prefix('/')? {
            "" => self.0.get("index.html"),
            name => self.0.get(name),
        }
    }
}

impl fmt::Debug for Assets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assets({} files)", self.0.len())
    }
}

#[cfg(feature = "page")]
fn embedded() -> Vec<(String, Cow<'static, [u8]>)> {
    /// Missing files are allowed, so that a checkout builds before its page does.
    #[derive(rust_embed::RustEmbed)]
    #[folder = "../www/dist"]
    #[allow_missing = true]
    struct Embedded;
    let file = |path: Cow<'static, str>| Some((path.clone().into_owned(), Embedded::get(&path)?.data));
    Embedded::iter().filter_map(file).collect()
}

#[cfg(not(feature = "page"))]
fn embedded() -> Vec<(String, Cow<'static, [u8]>)> {
    Vec::new()
}

/// By what the name ends in; browsers are told not to guess.
fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "map" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
