//! Waiting for conditions: the only place of the tests that sleeps, between two looks, or where a fault is made of time.

use std::thread;
use std::time::{Duration, Instant};

/// What a condition may take before the test fails. Generous: only a failure ever waits so long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks.
const STEP: Duration = Duration::from_millis(2);

/// Looks until there is something to see, and gives it.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain: {what}");
        thread::sleep(STEP);
    }
}

/// Looks beside other work of a runtime, for as long as it takes: who waits has a bound of its own.
pub async fn beside(mut look: impl FnMut() -> bool) {
    while !look() {
        tokio::time::sleep(STEP).await;
    }
}

/// The same for what has to be asked.
pub async fn asking(mut look: impl AsyncFnMut() -> bool) {
    while !look().await {
        tokio::time::sleep(STEP).await;
    }
}

/// Lets time pass beside other work, where the time itself is what is tested.
pub async fn pass_beside(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Lets time pass where the time itself is what is tested.
pub fn pass(time: Duration) {
    thread::sleep(time);
}
