//! The way between host and server: answers lost, connections cut, publishes held back, servers that stand still.

use super::scene::{Scene, head, is_event, meanwhile, more};
use super::{NotRun, Run};
use crate::desk::STUCK;
use crate::proxy::Cut;
use crate::wait;
use std::collections::BTreeSet;
use std::time::Duration;

/// So many faults happen with the same creds: they are good for minutes.
const BLOCK: usize = 25;

/// Row 3.
pub(super) fn answers_eaten(run: &mut Run) -> Result<(), NotRun> {
    let scene = Scene::new();
    let mut published = 0;
    for block in blocks(run.tries) {
        published += meanwhile(&scene.desk, &scene.hasty(), || {
            for _ in 0..block {
                let before = head(&scene.desk);
                let eaten = scene.proxy.eat_answers(1, is_event);
                // The client may be gone before the server answers: its answer is lost as well.
                wait::until("a publish whose answer is lost", || (eaten.met() >= 1).then_some(()));
                more(&scene.desk, before);
                // Most answers arrive, or the breaker would take the server for broken.
                more(&scene.desk, head(&scene.desk));
                more(&scene.desk, head(&scene.desk));
            }
        });
        run.happened(block);
    }
    run.did(format!("{} acknowledgements eaten while {published} events were published", run.tries));
    finish(run, &scene, published);
    // Each lost answer ends one connection; each run of the pump makes one.
    let connections = scene.proxy.accepted();
    run.bounded("connections", connections, 4 * run.tries + 400);
    Ok(())
}

/// Row 4.
pub(super) fn connections_cut(run: &mut Run) -> Result<(), NotRun> {
    let scene = Scene::new();
    let (mut published, mut cuts) = (0, [0; 3]);
    let places = [Cut::Before, Cut::Inside, Cut::After];
    for block in blocks(run.tries) {
        published += meanwhile(&scene.desk, &scene.hasty(), || {
            for number in 0..block {
                let before = head(&scene.desk);
                let cut = scene.proxy.cut(places[number % 3], 1, is_event);
                cut.wait(1);
                cuts[number % 3] += 1;
                more(&scene.desk, before);
                more(&scene.desk, head(&scene.desk));
            }
        });
        run.happened(block);
    }
    run.did(format!(
        "connection cut {} times before, {} inside and {} after a publish, while {published} events were published",
        cuts[0], cuts[1], cuts[2]
    ));
    finish(run, &scene, published);
    let connections = scene.proxy.accepted();
    run.bounded("connections", connections, 4 * run.tries + 400);
    Ok(())
}

/// Row 5.
pub(super) fn publish_queued(run: &mut Run) -> Result<(), NotRun> {
    let scene = Scene::new();
    scene.desk.sync(&scene.target(STUCK)).drained();
    let (mut late, mut lost, mut frozen) = (0, 0, 0);
    let mut published = scene.ledger().last();
    for number in 0..run.tries {
        let user = scene.desk.user(&format!("user-{number}"));
        let mut events = 1;
        if number % 2 == 1 {
            scene.desk.revoke(user);
            events += 2;
        }
        let target = scene.hasty();
        let proxy = &scene.proxy;
        let before = proxy.accepted();
        std::thread::scope(|scope| {
            let work = scope.spawn(|| scene.desk.sync(&target).drained());
            let given_up = || {
                // It has one connection, and comes for another one.
                wait::until("the client comes again", || (proxy.accepted() >= before + 2).then_some(()));
            };
            match number % 3 {
                // On its way when the client gives up, and worked off later.
                0 => {
                    let held = proxy.hold(1, is_event);
                    wait::until("a publish is held back", || (held.met() == 1).then_some(()));
                    proxy.refuse(true);
                    given_up();
                    held.let_go();
                    late += 1;
                }
                // Cut off with no server to be found: what is queued in the client must not go out.
                1 => {
                    let held = proxy.hold(1, is_event);
                    wait::until("a publish is held back", || (held.met() == 1).then_some(()));
                    proxy.refuse(true);
                    proxy.cut_all();
                    held.let_go();
                    given_up();
                    lost += 1;
                }
                // In the socket of a server that stands still.
                _ => {
                    let held = proxy.hold(1, is_event);
                    wait::until("a publish is held back", || (held.met() == 1).then_some(()));
                    scene.server.freeze();
                    held.let_go();
                    given_up();
                    scene.server.thaw();
                    frozen += 1;
                }
            }
            proxy.refuse(false);
            let summary = run.healed(|| work.join().expect("a run that does not panic"));
            assert_eq!(summary.published, events, "{summary:?}");
        });
        published += events;
        run.happened(1);
    }
    run.did(format!(
        "{late} publishes worked off after the client had given up, {lost} cut off in the client with no server, \
         {frozen} in the socket of a server that stood still"
    ));
    finish(run, &scene, published);
    Ok(())
}

/// Row 9.
pub(super) fn slow_server(run: &mut Run) -> Result<(), NotRun> {
    enum Slow {
        Frozen(u64),
        Answers(u64),
    }
    use Slow::{Answers, Frozen};
    let all = [
        Frozen(5_000),
        Answers(1_000),
        Answers(6_000),
        Frozen(20_000),
        Answers(100),
        Answers(500),
        Answers(2_000),
        Answers(4_000),
        Answers(10_000),
        Frozen(5_000),
    ];
    let scene = Scene::new();
    let mut published = 0;
    for slow in all.iter().take(run.tries) {
        // With the time that an answer has where nobody says otherwise.
        let target = scene.target(cim_keys::nats::link::ANSWER);
        published += meanwhile(&scene.desk, &target, || {
            let before = head(&scene.desk);
            match slow {
                Frozen(millis) => {
                    scene.server.freeze();
                    wait::pass(Duration::from_millis(*millis));
                    scene.server.thaw();
                    run.did(format!("server frozen for {millis} ms"));
                }
                Answers(millis) => {
                    let slowed = scene.proxy.slow_answers(Duration::from_millis(*millis), 1, is_event);
                    slowed.wait(1);
                    run.did(format!("an acknowledgement {millis} ms late"));
                }
            }
            run.healed(|| more(&scene.desk, before));
        });
        run.happened(1);
    }
    finish(run, &scene, published);
    Ok(())
}

/// What each row of these ends with.
fn finish(run: &mut Run, scene: &Scene, published: u64) {
    let target = scene.target(cim_keys::nats::link::ANSWER);
    run.healed(|| scene.desk.sync(&target).drained());
    let ledger = scene.ledger();
    assert_eq!(ledger.last(), published, "I2: as many messages as events");
    run.judge(&ledger, &BTreeSet::new(), &[&scene.desk]);
    run.search(&[&scene.desk], &[&scene.server], &[]);
}

/// The tries in blocks.
fn blocks(tries: usize) -> impl Iterator<Item = usize> {
    (0..tries.div_ceil(BLOCK)).map(move |number| BLOCK.min(tries - number * BLOCK))
}
