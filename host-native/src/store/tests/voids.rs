//! A void and the command that it voids, both pending in one journal: whoever publishes them says what every reader says.

use super::*;
use cim_keys_core::bundle;

/// A command of `a` was held, handed out or not, and given up; a carrier takes both in, in either order, and publishes them.
/// `early`: before it knows what has happened since.
fn carried(handed_out: bool, early: bool, void_first: bool) {
    let case = format!("handed out {handed_out}, early {early}, void first {void_first}");
    let (one, a, app) = founded();
    let mut stream = Stream::default();
    sync(&a, &mut stream);
    let ((_two, b), (_three, carrier)) = (copy(&one, 2), copy(&one, 3));
    let alice = user(&a, app, "alice");
    if handed_out {
        a.hand_out_with(app, alice, |_| Ok(())).unwrap();
    }
    let bytes = |host: &Host| bundle::encode(&host.export(false).unwrap()).unwrap();
    let making = bytes(&a);
    let rival = user(&b, app, "alice");
    sync(&b, &mut stream);
    sync(&a, &mut stream);
    let made = a.store().held().unwrap()[0].command_id;
    let void = a.drop_held(made, false, false).unwrap().voiding.unwrap().command_id;
    let voiding = bytes(&a);
    // The name is free again: nothing but the void stands against it.
    revoke(&b, app, rival);
    sync(&b, &mut stream);
    if !early {
        sync(&carrier, &mut stream);
    }
    for bytes in if void_first { [&voiding, &making] } else { [&making, &voiding] } {
        // What would not stand any more is refused at the door.
        let taken = carrier.import(&bundle::decode(bytes).unwrap().verify().unwrap(), false);
        assert!(matches!(taken, Ok(_) | Err(KeyError::Refused { .. })), "{case}: {taken:?}");
    }
    sync(&carrier, &mut stream);
    sync(&b, &mut stream);
    assert_eq!(b.store().anomalies().unwrap(), [], "{case}");
    assert_eq!(carrier.store().anomalies().unwrap(), [], "{case}");
    assert_eq!(carrier.store().accounts().unwrap(), b.store().accounts().unwrap(), "{case}");
    let known = |host: &Host| host.store().users(Some(app)).unwrap();
    assert_eq!(known(&carrier), known(&b), "{case}");
    // One of them came to the stream, and the other is not said to have; or a revocation of its own came in place of both.
    let confirmed = |id| carrier.store().promised(id).unwrap().is_some_and(|p| p.state == State::Confirmed);
    assert!(handed_out || confirmed(made) != confirmed(void), "{case}");
    if handed_out && early {
        // Whichever came first, what was handed out is dead.
        assert_eq!(revocations(&b, app), 2, "{case}");
    }
}

#[test]
fn a_carrier_of_both_says_what_every_reader_says() {
    for handed_out in [false, true] {
        for early in [false, true] {
            for void_first in [false, true] {
                carried(handed_out, early, void_first);
            }
        }
    }
}
