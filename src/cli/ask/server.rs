//! A server that was greeted, and one request at a time to it: progress is shown, questions are answered.

use std::time::{Duration, Instant};

use serde_json::{Value, json, value::RawValue};

use super::{
    dial::{Opened, Ourselves, dial},
    form,
    stop::{self, Stop},
    talk::Talk,
    target::Target,
};
use crate::{
    bridge::{
        Profile,
        input::{self, Outcome, Question},
    },
    link::connection::{Caller, Connection, EVENTS_MAX, Event, queue},
    wire::{
        Id, Message,
        envelope::PROTOCOL_VERSION,
        message::{self, INVALID_REQUEST, METHOD_NOT_FOUND},
        object::Object,
    },
};

/// Pages of one list.
const PAGES_MAX: usize = 1000;
/// How often one call may ask. SDKs stop at 8 or 10.
const ROUNDS_MAX: u32 = 8;
/// Pause before a call is sent again whose server only wanted that.
const PAUSE: Duration = Duration::from_millis(250);
/// The log messages that `--verbose` asks for.
const LOG_LEVEL: &str = "info";
/// How long a server may take to accept that.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(5);

/// A server that was greeted.
pub struct Server<'a> {
    pub profile: Profile,
    connection: Connection,
    ourselves: Ourselves,
    limit: Duration,
    talk: &'a Talk,
}

/// All pages of a list.
pub struct List {
    /// The first result, with the members of all pages.
    pub json: String,
    /// Each as JSON.
    pub items: Vec<String>,
}

impl<'a> Server<'a> {
    pub async fn reach(target: &Target, talk: &'a Talk, opened: &Opened) -> Result<Server<'a>, Stop> {
        let ourselves = Ourselves::new(talk.is_interactive());
        let (connection, profile) = dial(target, &ourselves, &talk.listener(), opened).await?;
        let server = Server { profile, connection, ourselves, limit: target.config.request_timeout, talk };
        if talk.verbose && !server.profile.is_modern() && server.profile.can(&["logging"]) {
            let params = json!({ "level": LOG_LEVEL }).to_string();
            let _ = server.connection.request("logging/setLevel", Some(&params), SETTLE_WAIT_MAX).await;
        }
        Ok(server)
    }

    /// A server that is told nothing but what is asked of it.
    pub fn ungreeted(connection: Connection, profile: Profile, limit: Duration, talk: &'a Talk) -> Server<'a> {
        Server { profile, connection, ourselves: Ourselves::new(false), limit, talk }
    }

    /// The result of a request, as it came. An error ends what we do.
    pub async fn result(&self, method: &str, params: &str) -> Result<String, Stop> {
        let response = self.respond(method, params).await?;
        let result = response.result().ok_or_else(|| refusal(&response))?;
        match input::outcome(method, result) {
            Outcome::Invalid(why) if self.profile.is_modern() => Err(Stop::failed(why)),
            _ => Ok(result.to_owned()),
        }
    }

    /// The response to a request.
    async fn respond(&self, method: &str, params: &str) -> Result<Message, Stop> {
        let mut params = params.to_owned();
        if input::may_ask(method) {
            params = with_meta(&params, "progressToken", "1");
        }
        let bytes = message::request(&Id::from(1), method, Some(&params));
        self.answered(message::one(bytes).ok_or_else(|| Stop::usage("its parameters are no JSON object"))?).await
    }

    /// A request of somebody else's making, and its response, whatever that is.
    pub async fn send(&self, request: Message) -> Result<Message, Stop> {
        self.exchange(&self.enveloped(request)?).await
    }

    /// Sends a request, and again with the answers where that is how the server asks.
    async fn answered(&self, request: Message) -> Result<Message, Stop> {
        let request = self.enveloped(request)?;
        let mut next = request.clone();
        for _ in 0..=ROUNDS_MAX {
            let response = self.exchange(&next).await?;
            let outcome = response.result().map(|result| input::outcome(request.method(), result));
            let required = match outcome {
                Some(Outcome::Required(required)) if self.profile.is_modern() => required,
                _ => return Ok(response),
            };
            if required.questions.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
            let mut answers = Vec::new();
            for question in required.questions {
                let answer = self.answer(&question).await.map_err(|why| {
                    Stop::failed(format!("the call cannot go on without an answer to {}: {why}", question.method))
                })?;
                answers.push((question.key, answer));
            }
            next = input::retry(&request, &answers, required.state.as_deref())
                .ok_or_else(|| Stop::failed("its questions cannot be answered: the request has no parameters"))?;
        }
        Err(Stop::failed(format!("it asked for input more than {ROUNDS_MAX} times in one call")))
    }

    /// With what the newer revision wants in each request, unless the request brings it.
    fn enveloped(&self, request: Message) -> Result<Message, Stop> {
        let brings = |request: &Message| matches!(request.meta([PROTOCOL_VERSION]), Ok([Some(_)]));
        if !self.profile.is_modern() || brings(&request) {
            return Ok(request);
        }
        let level = self.talk.verbose.then_some(LOG_LEVEL);
        let params = self.ourselves.introduction.put_on(request.params(), level);
        let full = params.map(|params| request.with_params(&params));
        full.ok_or_else(|| Stop::usage("`params` and its `_meta` must be objects"))
    }

    /// A request and its response, with all that comes in between.
    async fn exchange(&self, request: &Message) -> Result<Message, Stop> {
        let (to, mut events) = queue::channel(EVENTS_MAX);
        let caller = Caller { key: 1, askable: true, logs: true };
        let lost = |error| stop::of_call(&error, true);
        let reply = self.connection.call(request, caller, &to).await.map_err(lost)?;
        let mut deadline = Instant::now() + self.limit;
        loop {
            let event = match tokio::time::timeout_at(deadline.into(), events.recv()).await {
                Ok(event) => event,
                Err(_) => {
                    reply.cancel("it took too long");
                    return Err(Stop::failed(format!("it did not answer within {:?} (--timeout)", self.limit)));
                }
            };
            match event {
                Some(Event::Progress(bytes)) => self.talk.progress(&bytes),
                Some(Event::Log(message)) => self.talk.log(&message),
                Some(Event::Ask(ask)) => {
                    let asked = Instant::now();
                    let params = ask.message.params().map(str::to_owned);
                    let question = Question { key: String::new(), method: ask.message.method().to_owned(), params };
                    match self.answer(&question).await {
                        Ok(answer) => {
                            let answer = message::response(&Id::from(1), &answer);
                            if let Some(answer) = message::one(answer) {
                                self.connection.answer(ask.number, &answer).await;
                            }
                        }
                        Err(why) => self.connection.refuse(ask.number, INVALID_REQUEST, &why),
                    }
                    // A person may think as long as they like.
                    deadline += asked.elapsed();
                }
                Some(Event::Withdrawn { .. } | Event::Notice(_)) => {}
                Some(Event::Response(bytes)) => {
                    self.talk.done();
                    return message::one(bytes).ok_or_else(|| Stop::failed("its answer is no response"));
                }
                Some(Event::Failed { error, .. }) => {
                    self.talk.done();
                    return Err(lost(error));
                }
                None => return Err(Stop::failed("the call was let go")),
            }
        }
    }

    /// The answer to a question, as JSON; or why there is none.
    async fn answer(&self, question: &Question) -> Result<String, String> {
        self.talk.done();
        let params = question.params.as_deref().unwrap_or("{}");
        let mode = Object::read(params).and_then(|params| params.string("mode"));
        match (question.method.as_str(), mode.as_deref().unwrap_or("form")) {
            _ if !self.talk.is_interactive() => Err("there is no terminal to ask at".to_owned()),
            ("elicitation/create", "form") => form::fill(params).await,
            ("elicitation/create", _) => Err("only forms can be answered here".to_owned()),
            _ => Err("only elicitation can be answered here".to_owned()),
        }
    }

    /// Sends a notification. Nothing says that it arrived, but an answer to what was asked after it.
    pub async fn notify(&self, notification: &Message) -> Result<(), Stop> {
        let sent = self.connection.notify(notification.bytes().clone()).await;
        sent.map_err(|error| stop::of_call(&error, true))?;
        self.sign_of_life().await
    }

    /// Asks for something that every server answers. The newer revision has no `ping`.
    pub async fn sign_of_life(&self) -> Result<(), Stop> {
        let method = if self.profile.is_modern() { "server/discover" } else { "ping" };
        self.result(method, "{}").await.map(drop)
    }

    /// A whole list. A server that does not say it has any may refuse: then it is empty.
    pub async fn list(&self, method: &str, family: &str, key: &str) -> Result<List, Stop> {
        let (mut first, mut items, mut cursor) = (None, Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let params =
                cursor.as_ref().map_or_else(|| "{}".to_owned(), |cursor| json!({ "cursor": cursor }).to_string());
            let response = self.respond(method, &params).await?;
            let Some(result) = response.result() else {
                let unheard_of = key == "resourceTemplates" && error_code(&response) == METHOD_NOT_FOUND;
                if cursor.is_none() && (unheard_of || !self.profile.can(&[family])) {
                    return Ok(List { json: format!("{{{}:[]}}", Value::from(key)), items });
                }
                return Err(refusal(&response));
            };
            let wrong = || Stop::failed(format!("its answer to {method} has no list `{key}`"));
            let page = Object::read(result).ok_or_else(wrong)?;
            let raw = page.get(key).ok_or_else(wrong)?;
            let some: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
            items.extend(some.into_iter().map(|item| item.get().to_owned()));
            let next = page.string("nextCursor");
            first.get_or_insert_with(|| result.to_owned());
            if next.is_some() && next == cursor {
                return Err(Stop::failed(format!("its answers to {method} name the same next page again and again")));
            }
            cursor = next;
            if cursor.is_none() {
                let first = first.unwrap_or_default();
                let whole = Object::read(&first).ok_or_else(wrong)?;
                let list = format!("[{}]", items.join(","));
                // Where it was one page, it stays as it came.
                let json = match whole.get("nextCursor") {
                    None => first.clone(),
                    Some(_) => whole.edit().set(key, list).remove("nextCursor").apply(),
                };
                return Ok(List { json, items });
            }
        }
        Err(Stop::failed(format!("its answer to {method} has more than {PAGES_MAX} pages")))
    }
}

/// Parameters with one more member in their `_meta`.
fn with_meta(params: &str, name: &str, json: &str) -> String {
    let Some(object) = Object::read(params) else { return params.to_owned() };
    let meta = object.get("_meta").and_then(|meta| Object::read(meta.get()));
    let meta =
        meta.map_or_else(|| format!("{{{}:{json}}}", Value::from(name)), |meta| meta.edit().set(name, json).apply());
    object.edit().set("_meta", meta).apply()
}

fn error_code(response: &Message) -> i32 {
    let error: Value = response.error().and_then(|error| serde_json::from_str(error).ok()).unwrap_or_default();
    error["code"].as_i64().and_then(|code| code.try_into().ok()).unwrap_or_default()
}

/// An error of the server's, in its words.
fn refusal(response: &Message) -> Stop {
    let error: Value = response.error().and_then(|error| serde_json::from_str(error).ok()).unwrap_or_default();
    let text = error["message"].as_str().unwrap_or("without a message");
    let data = error.get("data").map(|data| format!("\n{data}")).unwrap_or_default();
    Stop::failed(format!("it answered with error {}: {text}{data}", error["code"]))
}
