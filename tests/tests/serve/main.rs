//! The service of the keys, as a process before real servers.

mod accounts;
mod clients;
mod end;
mod identity;
mod issue;
mod packaging;
mod policy;
mod projections;
mod renew;
mod requests;
mod revoke;
