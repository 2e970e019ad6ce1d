//! A client of the official Rust SDK that uses everything of the server at a URL and says how it went, for
//! `tests/external/eras.sh`.
//!
//! ```text
//! rmcp_client http://127.0.0.1:4404 discover|auto|initialize MOUNT…
//! ```
//!
//! One line per check: `ok rmcp-MODE MOUNT CHECK` or `FAIL rmcp-MODE MOUNT CHECK: why`.

// Sampling and log levels are on their way out of the protocol, and the SDK says so; they are in use as yet.
#![allow(deprecated)]
#![allow(clippy::print_stdout, reason = "the lines are what it is for")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, ErrorData, RoleClient,
    model::{
        CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ClientRequest,
        CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult, ElicitationAction,
        Implementation, LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam, ProtocolVersion,
        Request, ResourceUpdatedNotificationParam, SamplingMessage, ServerNotification, SetLevelRequestParams,
        SubscribeRequestParams, SubscriptionFilter,
    },
    service::{NotificationContext, PeerRequestOptions, RequestContext, RunningService},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

type Outcome = Result<String, Box<dyn std::error::Error>>;
type Running = RunningService<RoleClient, Answers>;

const WATCHED: &str = "test://watched-resource";

/// What the server said without being asked.
#[derive(Default)]
struct Heard {
    progress: Vec<f64>,
    logs: usize,
    updated: Vec<String>,
}

/// A client that answers every question, and keeps what it hears.
#[derive(Clone, Default)]
struct Answers {
    name: String,
    heard: Arc<Mutex<Heard>>,
}

impl Answers {
    fn heard<T>(&self, read: impl FnOnce(&mut Heard) -> T) -> T {
        read(&mut self.heard.lock().expect("nobody panics with it"))
    }

    async fn hears(&self, what: &str, condition: impl Fn(&mut Heard) -> bool) -> Outcome {
        for _ in 0..200 {
            if self.heard(&condition) {
                return Ok(String::new());
            }
            sleep(Duration::from_millis(25)).await;
        }
        Err(format!("never heard: {what}").into())
    }
}

impl ClientHandler for Answers {
    fn get_info(&self) -> ClientConfig {
        let can = ClientCapabilities::builder().enable_sampling().enable_elicitation().build();
        ClientConfig::new(can, Implementation::new(&*self.name, "1"))
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        Ok(CreateMessageResult::new(SamplingMessage::assistant_text("sampled by the client"), "model".into()))
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "response": "Ada of the test" })))
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.heard(|heard| heard.progress.push(progress.progress));
    }

    async fn on_logging_message(&self, _: LoggingMessageNotificationParam, _: NotificationContext<RoleClient>) {
        self.heard(|heard| heard.logs += 1);
    }

    async fn on_resource_updated(&self, updated: ResourceUpdatedNotificationParam, _: NotificationContext<RoleClient>) {
        self.heard(|heard| heard.updated.push(updated.uri));
    }
}

fn params(tool: &str, arguments: Value) -> CallToolRequestParams {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments)
}

fn text(result: &CallToolResult) -> Result<String, Box<dyn std::error::Error>> {
    let result = serde_json::to_value(result)?;
    Ok(result["content"][0]["text"].as_str().ok_or_else(|| format!("no text in {result}"))?.to_owned())
}

/// A session at one mount.
struct Session {
    client: Running,
    answers: Answers,
    modern: bool,
    /// Whether somebody on the way filters log messages: a server of the older era of ours does not.
    filtered: bool,
}

impl Session {
    async fn open(base: &str, mode: &str, mount: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
        let lifecycle = match mode {
            "discover" => ClientLifecycleMode::Discover { preferred_versions },
            "auto" => ClientLifecycleMode::Auto { preferred_versions, legacy_version: None },
            "initialize" => ClientLifecycleMode::Initialize,
            _ => return Err(format!("no such mode: {mode}").into()),
        };
        let answers = Answers { name: format!("rmcp-{mode}"), ..Answers::default() };
        let transport = StreamableHttpClientTransport::from_uri(format!("{base}/{mount}/mcp"));
        let client = answers.clone().serve_with_lifecycle(transport, lifecycle).await?;
        let info = serde_json::to_string(&client.peer_info().map(|info| serde_json::to_value(&*info)).transpose()?)?;
        let modern = info.contains("2026-07-28");
        if modern == (mode == "initialize") {
            return Err(format!("the other era came out: {info}").into());
        }
        Ok(Self { client, answers, modern, filtered: modern || mount != "legacy" })
    }

    async fn call(&self, tool: &str, arguments: Value) -> Outcome {
        text(&self.client.call_tool(params(tool, arguments)).await?)
    }

    async fn contains(&self, tool: &str, arguments: Value, wished: &str) -> Outcome {
        let text = self.call(tool, arguments).await?;
        if text.contains(wished) { Ok(String::new()) } else { Err(format!("no {wished:?} in {text:?}").into()) }
    }

    async fn check(&self, what: &str) -> Outcome {
        match what {
            "connect" => Ok(format!("speaks {}", if self.modern { "2026-07-28" } else { "an older revision" })),
            "list" => {
                let tools = self.client.list_all_tools().await?;
                if tools.iter().any(|tool| tool.name == "x_echo") {
                    Ok(format!("{} tools", tools.len()))
                } else {
                    Err("no x_echo".into())
                }
            }
            "call" => self.contains("x_echo", json!({ "token": "grüße" }), "grüße").await,
            "progress" => {
                self.call("test_tool_with_progress", json!({})).await?;
                let got = self.answers.heard(|heard| heard.progress.clone());
                if got == [0., 50., 100.] { Ok(String::new()) } else { Err(format!("progress seen: {got:?}").into()) }
            }
            "cancel" => {
                let cancelled = async || Outcome::Ok(self.call("x_cancelled", json!({})).await?);
                let before: u32 = cancelled().await?.parse()?;
                let request = ClientRequest::CallToolRequest(Request::new(params("x_slow", json!({ "ms": 20_000 }))));
                let options = PeerRequestOptions::no_options();
                let hanging = self.client.send_cancellable_request(request, options).await?;
                sleep(Duration::from_millis(400)).await;
                hanging.cancel(Some("enough".into())).await?;
                for _ in 0..40 {
                    if cancelled().await?.parse::<u32>()? > before {
                        return Ok(String::new());
                    }
                    sleep(Duration::from_millis(50)).await;
                }
                Err("the server has not seen it".into())
            }
            "elicitation" => self.contains("test_elicitation", json!({ "message": "who?" }), "Ada of the test").await,
            "sampling" => self.contains("test_sampling", json!({ "prompt": "what?" }), "sampled by the client").await,
            "subscription" if self.modern => {
                let filter = SubscriptionFilter::builder().resource_subscriptions(vec![WATCHED.to_owned()]).build();
                let mut listens = self.client.listen(filter).await?;
                self.call("x_touch", json!({})).await?;
                let update = timeout(Duration::from_secs(5), listens.next()).await.map_err(|_| "no update")??;
                listens.cancel().await?;
                match update {
                    Some(ServerNotification::ResourceUpdatedNotification(note)) if note.params.uri == WATCHED => {
                        Ok(String::new())
                    }
                    other => Err(format!("another notification: {other:?}").into()),
                }
            }
            "subscription" => {
                self.client.subscribe(SubscribeRequestParams::new(WATCHED)).await?;
                self.call("x_touch", json!({})).await?;
                self.answers.hears("the update", |heard| heard.updated.contains(&WATCHED.to_owned())).await
            }
            "log level" => {
                if self.filtered && self.logs_at(LoggingLevel::Error).await? != 0 {
                    return Err("messages below the level".into());
                }
                let logs = self.logs_at(LoggingLevel::Info).await?;
                if logs == 3 { Ok(String::new()) } else { Err(format!("{logs} of 3 messages").into()) }
            }
            _ => unreachable!("not in CHECKS"),
        }
    }

    /// How many messages a call brings at a level.
    async fn logs_at(&self, level: LoggingLevel) -> Result<usize, Box<dyn std::error::Error>> {
        self.answers.heard(|heard| heard.logs = 0);
        let mut call = params("test_tool_with_logging", json!({}));
        if self.modern {
            call.meta.get_or_insert_default().set_log_level(level);
        } else {
            self.client.set_level(SetLevelRequestParams::new(level)).await?;
        }
        self.client.call_tool(call).await?;
        sleep(Duration::from_millis(200)).await;
        Ok(self.answers.heard(|heard| heard.logs))
    }
}

const CHECKS: [&str; 9] =
    ["connect", "list", "call", "progress", "log level", "elicitation", "sampling", "subscription", "cancel"];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [base, mode, mounts @ ..] = &args[..] else { panic!("rmcp_client BASE_URL MODE MOUNT…") };
    for mount in mounts {
        let session = timeout(Duration::from_secs(20), Session::open(base, mode, mount)).await;
        let session = session.unwrap_or_else(|_| Err("nothing within 20 s".into()));
        for what in CHECKS {
            let outcome = match &session {
                Err(error) => Err(format!("not connected: {error}").into()),
                Ok(session) => timeout(Duration::from_secs(20), session.check(what))
                    .await
                    .unwrap_or_else(|_| Err("nothing within 20 s".into())),
            };
            match outcome {
                Ok(note) if note.is_empty() => println!("ok rmcp-{mode} {mount} {what}"),
                Ok(note) => println!("ok rmcp-{mode} {mount} {what} ({note})"),
                Err(why) => println!("FAIL rmcp-{mode} {mount} {what}: {}", why.to_string().replace('\n', " ")),
            }
        }
    }
}
