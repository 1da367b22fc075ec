//! The command line as people and scripts meet it: the real binary, each test in a home folder of its own, no server.

mod bundle;
mod crash;
mod creds;
mod keys;
mod refusals;
mod tool;
mod verbs;
mod why;
