//! When a question of `why` is judged, for tokens that end.

use super::at::At;
use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::why_whom::Concerned;
use crate::ambient::Ambient;
use crate::error::KeyError;
use crate::store::Store;
use cim_keys_core::time::ServerTime;
use cim_keys_core::why::{Answer, Parties, Question, QuestionError, why};

/// Judges at one time. Where a sequence is named, and nobody here knows when its message was stored, it matters only if some
/// token ended, or began, between the beginning and now: then the server is asked, and not before.
pub(super) struct Judge<'a> {
    store: &'a Store,
    globals: &'a Globals,
    at: Option<At>,
    /// Unix seconds; none where that is not known.
    when: Option<i64>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(store: &'a Store, at: Option<At>, when: Option<i64>, globals: &'a Globals) -> Self {
        Self { store, globals, at, when }
    }

    /// The moment in the past, with what was learned of it.
    pub(super) fn at(&self) -> Option<At> {
        self.at
    }

    /// The time at which it judges, in Unix seconds; none where that is not known.
    pub(super) fn when(&self) -> Option<i64> {
        self.when
    }

    /// The answer, and the question with the time at which it is the answer: where nobody knows when it was, now, and the
    /// answer is the same at any time before.
    pub(super) fn answer(
        &mut self,
        concerned: &Concerned,
        question: &Question,
    ) -> Result<(Question, Answer), CliError> {
        let Concerned { operator, account, user, .. } = concerned;
        let ask = |at: i64| {
            let question = Question { at, ..question.clone() };
            let answer = why(&Parties { operator, account, user }, &question).map_err(refused)?;
            Ok::<_, CliError>((question, answer))
        };
        if let Some(when) = self.when {
            return ask(when);
        }
        let (first, last) = (ask(0)?, ask(Ambient::system().now().seconds())?);
        if first.1 == last.1 {
            return Ok(last);
        }
        let stored = self.stored()?;
        self.at = self.at.map(|at| At { time: Some(stored), ..at });
        self.when = Some(stored.seconds());
        ask(stored.seconds())
    }

    /// When the server stored the message of the moment.
    fn stored(&self) -> Result<ServerTime, CliError> {
        let sequence = self.at.map(|at| at.sequence).unwrap_or_default();
        if let Some(time) = self.store.stored_at(sequence).map_err(KeyError::from)? {
            return Ok(time);
        }
        #[cfg(feature = "nats")]
        if let Some(time) = super::stream_times::of(sequence, self.store, self.globals)? {
            return Ok(time);
        }
        Err(super::at::times_unknown(sequence, sequence)
            .hint(format!("or say with --when at which time it is to be judged; `cim-keys{} log` shows when events were made", self.globals.again())))
    }
}

fn refused(error: QuestionError) -> CliError {
    let told = CliError::new(Exit::Validation, error.code(), error.to_string());
    match error {
        QuestionError::Wildcard => told.hint("ask for one subject, or with --subscribe"),
        _ => told,
    }
}
