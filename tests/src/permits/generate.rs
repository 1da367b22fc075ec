//! Users with permissions of all kinds, and questions about them, from a seed.

use cim_keys_core::jwt::{PermissionList, Permissions, ResponsePermission, UserRights};
use cim_keys_core::why::Action;

use super::{Permits, Who};
use crate::identities::AccountKeys;
use crate::simulator::rng::Rng;

/// Words of subjects: few, so that entries and questions meet.
const WORDS: [&str; 4] = ["a", "b", "c", "orders"];
const QUEUES: [&str; 5] = ["q", "v1.x", "v1.y", "v2.x", "workers"];
const QUEUE_ENTRIES: [&str; 5] = ["q", "v1.*", "v2.>", "*", "workers"];
const TEAMS: [&str; 3] = ["red", "blue", "a"];
const ACCOUNTS: u64 = 6;

/// What is asked of one user.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Publish or subscribe.
    pub action: Action,
    /// The subject.
    pub subject: String,
    /// The queue group.
    pub queue: Option<String>,
    /// Subjects of messages that a subscription would take.
    pub samples: Vec<String>,
}

/// One user, who looks on in its account, and the questions.
pub struct Subject {
    /// The user.
    pub who: Who,
    /// A user of the same account that may do everything.
    pub observer: Who,
    /// The questions.
    pub asked: Vec<Asked>,
}

/// A registry with so many users. Nothing but the seed decides.
pub fn users(seed: u64, count: u64) -> (Permits, Vec<Subject>) {
    let mut draw = Draw(Rng::new(seed, "permits"));
    let number = u8::try_from(seed % 200).unwrap_or_default() + 20;
    let mut permits = Permits::found(number);
    let mut subjects = Vec::new();
    for place in 0..ACCOUNTS {
        let account = permits.identities.account(&format!("ACCOUNT{place}"));
        let everything = || PermissionList { allow: vec![">".into()], ..PermissionList::default() };
        let all = UserRights { publish: everything(), subscribe: everything(), ..UserRights::default() };
        let observer = permits.user(account, "observer", Some(all), &[]);
        let roles: Vec<(AccountKeys, UserRights)> = (0..4)
            .map(|role| {
                let template = draw.rights(true);
                (permits.role(account.account, &format!("role{role}"), template.clone()), template)
            })
            .collect();
        let defaults = draw.defaults();
        for user in (place..count).step_by(usize::try_from(ACCOUNTS).unwrap_or(1)) {
            let name = format!("u{user}");
            let tags: Vec<String> = draw.some(&TEAMS, 3).iter().map(|team| format!("team:{team}")).collect();
            let mut tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            let (who, rights) = match draw.0.pick(&roles).filter(|_| draw.0.clone().chance(450)) {
                Some((role, template)) => {
                    // A tag that a deny entry of the role asks for must have a value.
                    if tags.is_empty() {
                        tags.push("team:red");
                    }
                    (permits.user(*role, &name, None, &tags), template.clone())
                }
                None => {
                    let rights = draw.rights(false);
                    (permits.user(account, &name, Some(rights.clone()), &tags), rights)
                }
            };
            let hints = Hints { rights, defaults: defaults.clone(), name, key: who.1.to_string() };
            let asked = (0..6).map(|turn| draw.question(turn % 2 == 0, &hints)).collect();
            subjects.push(Subject { who, observer, asked });
        }
        permits.defaults(account.account, defaults);
    }
    (permits, subjects)
}

/// What questions are near to.
struct Hints {
    rights: UserRights,
    defaults: Permissions,
    name: String,
    key: String,
}

struct Draw(Rng);

impl Draw {
    fn some<'a>(&mut self, list: &[&'a str], limit: u64) -> Vec<&'a str> {
        let count = self.0.below(limit);
        (0..count).filter_map(|_| self.0.pick(list).copied()).collect()
    }

    fn word(&mut self) -> String {
        self.0.pick(&WORDS).copied().unwrap_or("a").to_owned()
    }

    /// A subject, with wildcards.
    fn pattern(&mut self, templates: bool) -> String {
        if self.0.chance(80) {
            return ["_INBOX.>", "_INBOX.a.*", "_INBOX.*"][usize::try_from(self.0.below(3)).unwrap_or(0)]
                .into();
        }
        if templates && self.0.chance(300) {
            let variable = match self.0.below(6) {
                0 => "_INBOX_{{subject()}}.>",
                1 => "a.{{name()}}",
                2 => "{{account-name()}}.>",
                3 => "orders.{{tag(team)}}.>",
                4 => "{{tag(team)}}",
                _ => "a.{{ name() }}.{{tag(team)}}",
            };
            return variable.into();
        }
        let length = self.0.between(1, 3);
        let mut tokens: Vec<String> =
            (0..length).map(|_| if self.0.chance(250) { "*".to_owned() } else { self.word() }).collect();
        if self.0.chance(250) {
            if self.0.chance(500) {
                tokens.pop();
            }
            tokens.push(">".to_owned());
        }
        tokens.join(".")
    }

    fn list(&mut self, templates: bool, queues: bool) -> PermissionList {
        let allow = if self.0.chance(650) { self.0.between(1, 4) } else { 0 };
        let deny = if self.0.chance(450) { self.0.between(1, 3) } else { 0 };
        let mut entry = || {
            let mut text = self.pattern(templates);
            // Beside a template, an entry with a queue would fall away, or lock the user out: that has tests of its own.
            if queues && !templates && self.0.chance(250) {
                let queue = self.0.pick(&QUEUE_ENTRIES).copied().unwrap_or("q");
                text = format!("{text} {queue}");
            }
            text
        };
        let allow = (0..allow).map(|_| entry()).collect();
        let deny = (0..deny).map(|_| entry()).collect();
        PermissionList { allow, deny, ..PermissionList::default() }
    }

    fn response(&mut self) -> Option<ResponsePermission> {
        let max = i64::try_from(self.0.below(3)).unwrap_or(0);
        self.0.chance(200).then(|| ResponsePermission { max, ..ResponsePermission::default() })
    }

    fn rights(&mut self, templates: bool) -> UserRights {
        // Some have none, so that the account's default counts.
        if self.0.chance(200) {
            return UserRights::default();
        }
        let (publish, subscribe) = (self.list(templates, false), self.list(templates, true));
        UserRights { publish, subscribe, response: self.response(), ..UserRights::default() }
    }

    fn defaults(&mut self) -> Permissions {
        if self.0.chance(300) {
            return Permissions::default();
        }
        let (publish, subscribe) = (self.list(false, false), self.list(false, true));
        Permissions { publish, subscribe, response: self.response(), ..Permissions::default() }
    }

    /// A question about something near the permissions: half of them made of an entry.
    fn question(&mut self, publish: bool, hints: &Hints) -> Asked {
        let (own, default) = if publish {
            (&hints.rights.publish, &hints.defaults.publish)
        } else {
            (&hints.rights.subscribe, &hints.defaults.subscribe)
        };
        let entries: Vec<&String> =
            [own, default].into_iter().flat_map(|list| list.allow.iter().chain(&list.deny)).collect();
        let entry = self.0.pick(&entries).filter(|_| self.0.clone().chance(600)).copied();
        let mut pattern = match entry {
            Some(entry) => entry.split(' ').next().unwrap_or("a").to_owned(),
            None => self.pattern(false),
        };
        let team = self.0.pick(&TEAMS).copied().unwrap_or("red");
        for (variable, value) in [
            ("{{subject()}}", hints.key.as_str()),
            ("{{name()}}", hints.name.as_str()),
            ("{{ name() }}", hints.name.as_str()),
            ("{{account-name()}}", "ACCOUNT0"),
            ("{{tag(team)}}", team),
        ] {
            pattern = pattern.replace(variable, value);
        }
        if publish {
            let subject = self.literal(&pattern);
            return Asked { action: Action::Publish, subject, queue: None, samples: Vec::new() };
        }
        // Wider, narrower, or as it is.
        let subject = match self.0.below(4) {
            0 => self.literal(&pattern),
            1 => match pattern.rsplit_once('.') {
                Some((before, _)) => format!("{before}.>"),
                None => ">".to_owned(),
            },
            _ => pattern,
        };
        let queue = self.0.chance(400).then(|| self.0.pick(&QUEUES).copied().unwrap_or("q").to_owned());
        let mut samples: Vec<String> = (0..4).map(|_| self.literal(&subject)).collect();
        samples.sort();
        samples.dedup();
        Asked { action: Action::Subscribe, subject, queue, samples }
    }

    /// A subject that the pattern stands for.
    fn literal(&mut self, pattern: &str) -> String {
        let tokens = pattern.split('.').map(|token| match token {
            "*" => self.word(),
            ">" if self.0.chance(400) => format!("{}.{}", self.word(), self.word()),
            ">" => self.word(),
            token => token.to_owned(),
        });
        tokens.collect::<Vec<String>>().join(".")
    }
}
