//! Questions of a newer server to an older client.
//!
//! The server ends its call and says what it wants to know; the client is asked in mid call, as ever. In between its
//! call waits here: the questions go out in the server's name, and when all are answered the call is sent again, with
//! the answers and the state that the server gave (2026-07-28, basic/patterns/mrtr).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::session::Waiting;
use crate::{
    bridge::{
        Bridged,
        input::{self, QUESTIONS_MAX, Question, Required},
    },
    link::{
        connection::{Ask, queue},
        pending::Answer,
    },
    wire::{
        Id, Message,
        message::{self, INTERNAL_ERROR},
        trouble::{Reason, Retry, Trouble},
    },
};

/// How often one call may ask. SDKs stop at 8 or 10.
const ROUNDS_MAX: u32 = 8;
/// Pause before a call is sent again whose server only wanted that.
const PAUSE: Duration = Duration::from_millis(250);

/// The calls of one POST that wait for their client.
#[derive(Default)]
pub struct Rounds {
    rounds: Vec<Round>,
    answers: Option<(mpsc::Sender<Answer>, mpsc::Receiver<Answer>)>,
}

/// One call that asked.
struct Round {
    id: Id,
    number: u32,
    state: Option<String>,
    /// Not answered yet, by the connection's number.
    open: Vec<(u64, Question)>,
    answered: Vec<(String, String)>,
    /// When to send it again, where there was no question.
    due: Option<Instant>,
    /// Where the events of the call go; kept only while it waits, because its end is how a call is seen to end.
    to: Option<queue::Sender>,
    waiting: Option<Waiting>,
}

/// What is to be done next.
pub enum Step {
    /// Send the call again.
    Retry { id: Id, answers: Vec<(String, String)>, state: Option<String>, to: queue::Sender },
    /// It cannot go on; the JSON-RPC error of the client, where that is why.
    Stop { id: Id, why: String, error: Option<String>, unanswered: Vec<u64> },
    /// The client wants it no more.
    Cancelled { id: Id, unanswered: Vec<u64> },
}

impl Rounds {
    /// Does any call wait?
    pub fn is_waiting(&self) -> bool {
        self.rounds.iter().any(|round| round.to.is_some())
    }

    /// A call asks. Answers what the client is to be asked, or why it goes no further.
    pub fn open(
        &mut self,
        id: &Id,
        required: Required,
        bridged: &Bridged,
        to: queue::Sender,
        waiting: Waiting,
    ) -> Result<Vec<Ask>, String> {
        let at = self.rounds.iter().position(|round| round.id == *id).unwrap_or_else(|| {
            let (state, open, answered) = (None, Vec::new(), Vec::new());
            self.rounds.push(Round {
                id: id.clone(),
                number: 0,
                state,
                open,
                answered,
                due: None,
                to: None,
                waiting: None,
            });
            self.rounds.len() - 1
        });
        let round = &mut self.rounds[at];
        round.number += 1;
        if round.number > ROUNDS_MAX {
            return Err(format!("it asked for input more than {ROUNDS_MAX} times in one call"));
        }
        let (answers, _) = self.answers.get_or_insert_with(|| mpsc::channel(QUESTIONS_MAX * message::BATCH_MAX));
        let mut asks = Vec::new();
        for question in required.questions {
            let number = bridged.connection.pose(&question.method, answers);
            match input::ask(&question, number) {
                Some(message) => asks.push(Ask { number, message }),
                None => {
                    bridged.connection.retract(number);
                    asks.iter().for_each(|ask| bridged.connection.retract(ask.number));
                    self.close(id);
                    return Err("one of its questions has no object as `params`".into());
                }
            }
            round.open.push((number, question));
        }
        round.state = required.state;
        round.answered.clear();
        round.due = round.open.is_empty().then(|| Instant::now() + PAUSE);
        (round.to, round.waiting) = (Some(to), Some(waiting));
        Ok(asks)
    }

    /// Waits for the next thing to do. Nothing is lost where this is dropped and called again.
    pub async fn next(&mut self) -> Step {
        loop {
            let due =
                self.rounds.iter().filter_map(|round| Some((round.due?, round.id.clone()))).min_by_key(|(due, _)| *due);
            let pause = async {
                match &due {
                    Some((at, _)) => tokio::time::sleep_until((*at).into()).await,
                    None => std::future::pending().await,
                }
            };
            let waiting = self.rounds.iter().filter_map(|round| Some((round.waiting.as_ref()?, &round.id)));
            let cancels = waiting.map(|(waiting, id)| {
                Box::pin(async move {
                    waiting.cancelled(id).await;
                    id.clone()
                })
            });
            let cancels = cancels.collect::<Vec<_>>();
            let cancelled = async {
                match cancels.is_empty() {
                    true => std::future::pending().await,
                    false => futures_util::future::select_all(cancels).await.0,
                }
            };
            let answer = async {
                match &mut self.answers {
                    Some((_, answers)) => answers.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                id = cancelled => {
                    let unanswered = self.close(&id);
                    return Step::Cancelled { id, unanswered };
                }
                answer = answer => if let Some(step) = answer.and_then(|(number, answer)| self.answered(number, &answer)) {
                    return step;
                },
                () = pause => if let Some((_, id)) = due && let Some(step) = self.complete(&id) {
                    return step;
                },
            }
        }
    }

    fn answered(&mut self, number: u64, answer: &Message) -> Option<Step> {
        let asked = |round: &&mut Round| round.open.iter().any(|(open, _)| *open == number);
        let round = self.rounds.iter_mut().find(asked)?;
        let at = round.open.iter().position(|(open, _)| *open == number)?;
        let (_, question) = round.open.swap_remove(at);
        match (answer.result(), question.method.as_str()) {
            (Some(result), _) => round.answered.push((question.key, result.to_owned())),
            // There is no way to say "error", but there is one to say "no".
            (None, "elicitation/create") => round.answered.push((question.key, r#"{"action":"cancel"}"#.into())),
            (None, method) => {
                let error = answer.error().map(str::to_owned);
                let id = round.id.clone();
                let why = format!("the client did not answer {method}, without which the call cannot go on");
                let unanswered = self.close(&id);
                return Some(Step::Stop { id, why, error, unanswered });
            }
        }
        let id = round.id.clone();
        self.complete(&id)
    }

    /// The retry, where nothing is open any more.
    fn complete(&mut self, id: &Id) -> Option<Step> {
        let round = self.rounds.iter_mut().find(|round| round.id == *id && round.open.is_empty())?;
        (round.due, round.waiting) = (None, None);
        let to = round.to.take()?;
        let (answers, state) = (std::mem::take(&mut round.answered), round.state.take());
        Some(Step::Retry { id: id.clone(), answers, state, to })
    }

    /// Gives a call up. Answers the questions that are still open.
    fn close(&mut self, id: &Id) -> Vec<u64> {
        let closed: Vec<Round> = self.rounds.extract_if(.., |round| round.id == *id).collect();
        closed.iter().flat_map(|round| round.open.iter().map(|(number, _)| *number)).collect()
    }

    /// Questions that nobody needs an answer to any more.
    pub fn unanswered(&self) -> impl Iterator<Item = u64> {
        self.rounds.iter().flat_map(|round| round.open.iter().map(|(number, _)| *number))
    }
}

/// The answer to a call that stopped in the middle: a tool says so itself, anything else is an error.
pub fn stopped(id: &Id, method: &str, why: &str, error: Option<&str>) -> bytes::Bytes {
    if method == "tools/call" {
        let said = error.and_then(|error| serde_json::from_str::<Value>(error).ok());
        let said = said.and_then(|error| error["message"].as_str().map(|text| format!(": {text}"))).unwrap_or_default();
        let result = json!({ "content": [{ "type": "text", "text": format!("{why}{said}") }], "isError": true });
        return message::response(id, &result.to_string());
    }
    match error {
        Some(error) => message::failure(id, error),
        None => Trouble::new(INTERNAL_ERROR, Reason::Failed, Retry::No, why).response(Some(id)),
    }
}
