//! A service's own events: the machine against a model from a seed ([`run`]), and a service before a real server ([`Shop`]).

mod model;
mod shop;

pub use model::{Lie, Sum, run};
pub use shop::{Shop, Stored, event, stored, target};
