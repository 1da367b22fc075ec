//! Entries of permissions and subjects of imports, against a subject.

use super::answer::Import;
use super::{Action, Question};
use crate::jwt::subject::{contains, contains_for_overlap, overlap};
use crate::jwt::{self, ShareKind};
use alloc::vec::Vec;

/// One entry of a list.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) text: &'a str,
    pub(super) subject: &'a str,
    pub(super) queue: Option<&'a str>,
}

impl<'a> Entry<'a> {
    /// `subject` or `subject queue`.
    pub(super) fn of(text: &'a str) -> Self {
        match text.split_once(' ') {
            Some((subject, queue)) => Self { text, subject, queue: Some(queue) },
            None => Self::whole(text),
        }
    }

    /// A subject and nothing else.
    pub(super) fn whole(text: &'a str) -> Self {
        Self { text, subject: text, queue: None }
    }

    /// Whether it speaks of this queue group.
    pub(super) fn takes(&self, queue: &str) -> bool {
        self.queue.is_some_and(|own| own == queue || contains(own, queue))
    }
}

/// Whether an entry has the subject of a message or subscription. For a subscription a server takes the tokens of its
/// subject as they are written: `*` of an entry has any one of them, `>` too.
pub(super) fn covers(entry: &str, subject: &str) -> bool {
    contains_for_overlap(entry, subject)
}

/// Whether what a deny entry stands for lies wholly inside a subscription's subject.
pub(super) fn inside(entry: &str, subject: &str) -> bool {
    contains(subject, entry)
}

/// Whether there is a subject that both stand for.
pub(super) fn overlaps(entry: &str, subject: &str) -> bool {
    overlap(entry, subject)
}

/// What the account imports under the subject: services for who publishes, streams for who subscribes.
pub(super) fn imports(account: &jwt::Account, question: &Question) -> Vec<Import> {
    let kind = match question.action {
        Action::Publish => ShareKind::Service,
        Action::Subscribe => ShareKind::Stream,
    };
    let of_kind = account.imports.iter().filter(|import| import.kind == kind);
    let found = of_kind.filter_map(|import| {
        let local = import.local();
        let (account, subject) = (import.account, import.exported().into());
        overlap(&local, &question.subject).then_some(Import { kind, local, account, subject })
    });
    found.collect()
}
