//! Carries a scenario out, step by step.

use super::judge::{self, Cast};
use super::{Driver, Scenario, Seen, Standing, Step};
use std::collections::BTreeMap;

/// Plays a scenario to its end: every step, and then what must hold after each scenario.
///
/// # Errors
/// What did not hold or could not be done, with the step.
pub fn play(scenario: &Scenario, driver: &mut impl Driver) -> Result<(), String> {
    let mut cast = Cast::new(&scenario.hosts);
    for (number, step) in scenario.steps.iter().enumerate() {
        perform(step, driver, &mut cast)
            .map_err(|why| format!("{}, step {} {step:?}: {why}", scenario.name, number + 1))?;
    }
    finish(driver, &mut cast).map_err(|why| format!("{}, at the end: {why}", scenario.name))
}

fn perform(step: &Step, driver: &mut impl Driver, cast: &mut Cast) -> Result<(), String> {
    match step {
        Step::Make(users) => {
            for (host, user) in users.iter().flat_map(|(host, users)| users.iter().map(move |u| (host, u))) {
                cast.made.push(driver.make(host, user)?);
            }
        }
        Step::Together(users) => cast.made.extend(driver.together(users)?),
        Step::Connect(hosts) => {
            for (host, entrance) in hosts {
                driver.connect(host, *entrance)?;
            }
        }
        Step::Revoke(hosts) => hosts.iter().try_for_each(|host| driver.revoke(host))?,
        Step::Disconnect(hosts) => {
            for host in hosts {
                driver.disconnect(host)?;
                cast.seen.insert(host.clone(), Seen::plain("offline"));
            }
        }
        Step::Arm(hosts) => {
            for (host, fault) in hosts {
                driver.arm(host, *fault)?;
            }
        }
        Step::OnItsWay(hosts) => hosts.iter().try_for_each(|host| driver.on_its_way(host))?,
        Step::LetGo(hosts) => hosts.iter().try_for_each(|host| driver.let_go(host))?,
        Step::Kill(hosts) => {
            for host in hosts {
                driver.kill(host)?;
                cast.seen.insert(host.clone(), Seen::plain("dead"));
            }
        }
        Step::Start(hosts) => {
            for host in hosts {
                driver.start(host)?;
                cast.seen.insert(host.clone(), Seen::plain("offline"));
            }
        }
        Step::Beside(hosts) => {
            for (host, of) in hosts {
                driver.beside(host, of)?;
                cast.beside(host, of);
            }
        }
        Step::Store(hosts) => {
            for (host, disk) in hosts {
                driver.store(host, *disk)?;
            }
        }
        Step::Server(order) => driver.server(*order)?,
        Step::Stream(order) => driver.stream(order)?,
        Step::Stands(wanted) => stand(driver, wanted, cast)?,
        Step::Expect(expectation) => judge::expect(expectation, driver, cast)?,
    }
    Ok(())
}

fn stand(
    driver: &mut impl Driver,
    wanted: &BTreeMap<String, Standing>,
    cast: &mut Cast,
) -> Result<(), String> {
    let seen = driver.stands(wanted)?;
    for (host, standing) in wanted {
        let found = seen.get(host).ok_or_else(|| format!("nobody looked at {host}"))?;
        if !standing.fits(found) {
            return Err(format!("{host} stands so: {found:?}"));
        }
        cast.seen.insert(host.clone(), found.clone());
    }
    Ok(())
}

fn finish(driver: &mut impl Driver, cast: &mut Cast) -> Result<(), String> {
    let unmet = driver.unmet()?;
    if !unmet.is_empty() {
        return Err(format!("armed, and never happened: {}", unmet.join(", ")));
    }
    judge::invariants(driver, cast)
}
