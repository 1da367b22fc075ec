//! Raising the schema level: everybody who does not know it has to upgrade.

use super::Rejection;
use super::plan::Plan;
use crate::event::Fact;

pub(super) fn decide(plan: &mut Plan<'_>, level: u32, known: u32) -> Result<(), Rejection> {
    // Whoever wants this would be locked out by it.
    if level > known {
        return Err(Rejection::UnknownSchema { level, known });
    }
    plan.push(plan.facts.registry().operator, Fact::SchemaRaised { level });
    Ok(())
}
