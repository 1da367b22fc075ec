//! Generated users and subjects: what the server does and what the core says agree in each.

use std::collections::BTreeMap;

use cim_keys_core::why::{Action, Condition};
use cim_keys_tests::permits::{delivered, generate, publishes, subscribes};
use cim_keys_tests::tools::Version;

const USERS: u64 = 300;
/// Another one: `CIM_KEYS_WHY_SEED`.
const SEED: u64 = 1;

#[test]
fn three_hundred_users() {
    let seed = std::env::var("CIM_KEYS_WHY_SEED").ok().map(|text| text.parse().expect("a seed is a number"));
    let seed = seed.unwrap_or(SEED);
    let (permits, subjects) = generate::users(seed, USERS);
    assert_eq!(subjects.len() as u64, USERS);
    let server = permits.serve(Version::Newest);
    let mut codes: BTreeMap<(String, &'static str), u32> = BTreeMap::new();
    let (mut wrong, mut held_back, mut replied) = (Vec::new(), 0u32, 0u32);
    for subject in &subjects {
        let who = subject.who;
        let mut observer = permits.connect(&server, subject.observer).expect("the observer connects");
        subscribes(&mut observer, ">", None).expect("the observer may");
        for asked in &subject.asked {
            // Each with a connection of its own: a server keeps what an earlier subscription brought about.
            let mut user = permits.connect(&server, who).expect("a user connects");
            let queue = asked.queue.as_deref();
            let answer = permits.why(who, asked.action, &asked.subject, queue).expect("an answer");
            let words = || {
                format!(
                    "seed {seed}: {:?} {asked:?}: {answer:?}",
                    permits.user_entity(who).token.claims().body
                )
            };
            *codes.entry((format!("{:?}", asked.action), answer.rule.code())).or_default() += 1;
            if asked.action == Action::Publish {
                let sent = publishes(&mut user, &mut observer, &asked.subject, None);
                if sent != answer.allowed {
                    wrong.push(words());
                }
                let replies = answer.conditions.iter().find_map(|condition| match condition {
                    Condition::Replies { max, .. } => Some(*max),
                    _ => None,
                });
                // What is denied is allowed as an answer, to whom that is permitted, and to nobody else.
                if !answer.allowed
                    && let Some(inbox) = subject.asked.iter().find(|other| {
                        other.action == Action::Subscribe
                            && permits
                                .why(who, other.action, &other.subject, other.queue.as_deref())
                                .is_ok_and(|answer| answer.allowed && answer.withheld.is_empty())
                    })
                {
                    subscribes(&mut user, &inbox.subject, inbox.queue.as_deref()).expect("it may");
                    observer.publish(&inbox.samples[0], Some(&asked.subject), &[], b"request").expect("sent");
                    observer.settle().expect("a connection");
                    let answered = publishes(&mut user, &mut observer, &asked.subject, None);
                    replied += u32::from(answered);
                    if answered != replies.is_some() {
                        wrong.push(format!("as an answer to {inbox:?}: {}", words()));
                    }
                }
                continue;
            }
            let taken = subscribes(&mut user, &asked.subject, queue).is_some();
            if taken != answer.allowed {
                wrong.push(words());
            }
            if !taken {
                continue;
            }
            let samples: Vec<&str> = asked.samples.iter().map(String::as_str).collect();
            let seen = delivered(&mut user, &mut observer, &samples);
            for sample in samples {
                let withheld = answer.withheld.iter().any(|entry| super::measured::is_in(entry, sample));
                held_back += u32::from(withheld);
                if seen.iter().any(|subject| subject == sample) == withheld {
                    wrong.push(format!("{sample} of {}", words()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    // It must not pass by being empty: each rule decided, and often.
    let counted = |action: &str, code| codes.get(&(action.to_owned(), code)).copied().unwrap_or_default();
    for (action, code) in [
        ("Publish", "allow"),
        ("Publish", "deny"),
        ("Publish", "not-allowed"),
        ("Publish", "no-allow-list"),
        ("Publish", "replies-only"),
        ("Subscribe", "allow"),
        ("Subscribe", "deny"),
        ("Subscribe", "not-allowed"),
        ("Subscribe", "no-allow-list"),
        ("Subscribe", "other-queue"),
    ] {
        assert!(counted(action, code) >= 3, "{action} {code}: {codes:?}");
    }
    assert!(held_back >= 5 && replied >= 10, "{held_back} {replied}");
}
