//! What the sync machine relies on, and what must never be in the file.
