//! `cim-keys why`.

use super::at::{At, Moment};
use super::exit::{CliError, Exit};
use super::globals::Globals;
use super::output::{counted, printable};
use super::parse::Expiry;
use super::why_when::Judge;
use super::why_whom::{Concerned, Snapshot};
use super::why_words;
use crate::ambient::Ambient;
use cim_keys_core::nkey::PublicKey;
use cim_keys_core::why::{Action, Answer, Question};
use serde::Serialize;

/// Flags of `why`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status of an answer: 0 allowed, 10 denied.")]
#[command(group = clap::ArgGroup::new("action").required(true).args(["publish", "subscribe"]))]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["user", "who"]))]
pub(super) struct Args {
    /// The subject; wildcards for a subscription alone
    subject: String,
    /// The user, by name or public key
    #[arg(long, short = 'u', value_name = "USER")]
    user: Option<String>,
    /// List every user that may, instead of asking for one
    #[arg(long)]
    who: bool,
    /// Its account, by name or public key; needed where users of several accounts have the name
    #[arg(long, short = 'a', value_name = "ACCOUNT")]
    account: Option<String>,
    /// Whether it may publish to the subject
    #[arg(long)]
    publish: bool,
    /// Whether it may subscribe to the subject
    #[arg(long)]
    subscribe: bool,
    /// The subscription's queue group
    #[arg(long, value_name = "QUEUE", conflicts_with = "publish")]
    queue: Option<String>,
    /// As it was once the message of this sequence was stored, or at this time (of the server's clock, RFC 3339)
    #[arg(long, value_name = "SEQUENCE|TIME")]
    at: Option<Moment>,
    /// Judge as if it were this time, for tokens that end: 12h, 30d, 2027-01-31; where this is left out, the moment of --at, or now
    #[arg(long, value_name = "TIME")]
    when: Option<Expiry>,
}

/// The answer, with names.
#[derive(Serialize)]
struct Told {
    /// For a moment in the past.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<At>,
    user: String,
    user_key: PublicKey,
    account: String,
    account_key: PublicKey,
    #[serde(flatten)]
    question: Question,
    #[serde(flatten)]
    answer: Answer,
    /// Verdict and rule in words.
    text: String,
    confirmed: bool,
}

#[derive(Serialize)]
struct Who {
    /// For a moment in the past.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<At>,
    #[serde(flatten)]
    question: Question,
    /// Users that were asked about.
    asked: usize,
    users: Vec<Told>,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<(), CliError> {
    let store = globals.store()?;
    let now = Ambient::system().now();
    if args.when == Some(Expiry::Never) {
        return Err(CliError::usage("--when is a time, such as 12h or 2027-01-31"));
    }
    let at = args.at.map(|moment| At::find(moment, &store, globals)).transpose()?;
    let when = match (args.when, args.at, at) {
        (Some(when), ..) => Some(when.at(now)),
        (None, Some(Moment::Time(time)), _) => Some(time.seconds()),
        (None, _, Some(at)) => at.time.map(|time| time.seconds()),
        (None, _, None) => Some(now.seconds()),
    };
    let question = Question {
        action: if args.publish { Action::Publish } else { Action::Subscribe },
        subject: args.subject.clone(),
        queue: args.queue.clone(),
        at: when.unwrap_or(now.seconds()),
    };
    let mut asked = Asked {
        args,
        globals,
        question,
        snapshot: Snapshot::new(&store, at),
        judge: Judge::new(&store, at, when, globals),
    };
    match &args.user {
        Some(user) => asked.one(user),
        None => asked.who(),
    }
}

/// What is asked, and of whom.
struct Asked<'a> {
    args: &'a Args,
    globals: &'a Globals,
    question: Question,
    snapshot: Snapshot<'a>,
    judge: Judge<'a>,
}

impl Asked<'_> {
    fn one(&mut self, user: &str) -> Result<(), CliError> {
        let listed = self.snapshot.user(self.args.account.as_deref(), user, self.globals)?;
        let concerned = self.snapshot.concerned(listed)?;
        let told = tell(&concerned, &self.question, &mut self.judge)?;
        self.say();
        self.globals.output().data(&told, |told| why_words::text(told.parts()))?;
        if told.answer.allowed {
            return Ok(());
        }
        // The answer stands on stdout; the status says the verdict again, for scripts.
        Err(CliError::new(Exit::Denied, told.answer.rule.code(), told.text).quiet())
    }

    fn who(&mut self) -> Result<(), CliError> {
        let Self { args, globals, question, snapshot, judge } = self;
        let account = args.account.as_deref().map(|account| snapshot.account(account)).transpose()?;
        let output = globals.output();
        let (mut asked, mut users) = (0, Vec::new());
        snapshot.each_user(account.map(|account| account.key), |concerned| {
            asked += 1;
            let mut told = tell(concerned, question, judge)?;
            // What was looked at is told to who asks for one user.
            told.answer.looked.clear();
            if !told.answer.allowed {
                return Ok(true);
            }
            if output.is_lines() {
                return output.row(&told);
            }
            users.push(told);
            Ok(true)
        })?;
        if output.is_lines() {
            return Ok(());
        }
        users.sort_by(|a, b| (&a.account, &a.user).cmp(&(&b.account, &b.user)));
        let at = self.judge.when().unwrap_or(self.question.at);
        let question = Question { at, ..self.question.clone() };
        let who = Who { as_of: self.judge.at(), question, asked, users };
        self.say();
        output.data(&who, shown)
    }

    fn say(&self) {
        if let Some(at) = self.judge.at().filter(|_| !self.globals.output().is_json()) {
            at.say(self.globals);
        }
    }
}

fn shown(who: &Who) -> String {
    let rows = who.users.iter().map(|told| {
        let words = why_words::rule(told.parts());
        vec![told.user.clone(), told.account.clone(), words, told.but().join("; ")]
    });
    let mut text = super::output::table(&["user", "account", "by", "but"], rows.collect());
    let users = counted(who.asked as u64, "user");
    let (may, subject) = (why_words::may(&who.question), printable(&who.question.subject));
    text.push_str(&format!("{} of {users} may {may} {subject}\n", who.users.len()));
    text
}

fn tell(concerned: &Concerned, question: &Question, judge: &mut Judge<'_>) -> Result<Told, CliError> {
    let Concerned { account, user, confirmed, .. } = concerned;
    let (question, answer) = judge.answer(concerned, question)?;
    let mut told = Told {
        as_of: judge.at(),
        user: user.token.claims().name.clone(),
        user_key: user.key,
        account: account.token.claims().name.clone(),
        account_key: account.key,
        question,
        answer,
        text: String::new(),
        confirmed: *confirmed,
    };
    told.text = why_words::verdict(told.parts());
    Ok(told)
}

impl Told {
    fn parts(&self) -> why_words::Parts<'_> {
        why_words::Parts {
            user: &self.user,
            account: &self.account,
            question: &self.question,
            answer: &self.answer,
            confirmed: self.confirmed,
        }
    }

    fn but(&self) -> Vec<String> {
        let withheld = why_words::withheld(&self.answer);
        self.answer.conditions.iter().map(why_words::condition).chain(withheld).collect()
    }
}
