//! The official Rust SDK on both sides of the hub: as its client, and as a server behind it.

// Sampling and roots are on their way out of the protocol, and the SDK says so; the hub has to pass them on.
#![allow(deprecated)]

use std::time::Duration;

use rmcp::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ClientRequest,
        CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult, ElicitationAction,
        GetPromptRequestParams, Implementation, ListRootsResult, ProgressNotificationParam, ProtocolVersion,
        ReadResourceRequestParams, Request, Root, SamplingMessage, SubscribeRequestParams,
    },
    service::{NotificationContext, PeerRequestOptions, RequestContext, RunningService},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::fixture::{Client, Hub, PATIENCE, SseClient, echo, example, rogue};

const DEMO: &str = "[upstreams.demo]\ncommand = 'hubward'\nargs = ['demo']\n";

/// A client that answers every question, and says what it heard.
#[derive(Clone)]
struct Answers {
    heard: mpsc::Sender<String>,
}

type Running = RunningService<RoleClient, Answers>;
type Heard = mpsc::Receiver<String>;

impl ClientHandler for Answers {
    fn get_info(&self) -> ClientConfig {
        let can = ClientCapabilities::builder().enable_sampling().enable_elicitation().enable_roots().build();
        ClientConfig::new(can, Implementation::new("interop", "1"))
    }

    async fn create_message(
        &self,
        asked: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, rmcp::ErrorData> {
        let _ = self.heard.try_send(format!("sampling of {} messages", asked.messages.len()));
        Ok(CreateMessageResult::new(SamplingMessage::assistant_text("forty-two"), "deep-thought".into()))
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, rmcp::ErrorData> {
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "name": "Ada" })))
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, rmcp::ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///srv/shared")]))
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let _ = self.heard.try_send(format!("progress {}", progress.progress));
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        let _ = self.heard.try_send("tools changed".into());
    }

    async fn on_resource_updated(
        &self,
        updated: rmcp::model::ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        let _ = self.heard.try_send(format!("updated {}", updated.uri));
    }
}

/// Opens a session with the SDK.
async fn connect(hub: &Hub, path: &str, lifecycle: ClientLifecycleMode) -> (Running, Heard) {
    let (heard, hears) = mpsc::channel(1024);
    let transport = StreamableHttpClientTransport::from_uri(hub.url(path));
    let running = Answers { heard }.serve_with_lifecycle(transport, lifecycle);
    (tokio::time::timeout(PATIENCE, running).await.expect("no session").unwrap(), hears)
}

async fn open(hub: &Hub, path: &str) -> (Running, Heard) {
    connect(hub, path, ClientLifecycleMode::Initialize).await
}

fn call(tool: &str, arguments: Value) -> CallToolRequestParams {
    let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments)
}

/// The text of a result, whoever brought it.
fn text(result: &CallToolResult) -> String {
    let result = serde_json::to_value(result).unwrap();
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {result}")).to_owned()
}

/// Waits for something heard; what is heard before does not matter.
async fn hears(heard: &mut Heard, wished: &str) {
    let wait = async { while heard.recv().await.expect("the client has gone") != wished {} };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never heard: {wished}"));
}

/// Waits until the rogue has so many other calls.
async fn in_flight(client: &Running, wished: usize) {
    let count = async || text(&client.call_tool(call("inflight", json!({}))).await.unwrap());
    let wait = async { while count().await != wished.to_string() {} };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never {wished} calls"));
}

#[tokio::test]
async fn the_sdk_lists_calls_reads_and_gets() {
    let hub = Hub::start(DEMO);
    let (client, _heard) = open(&hub, "/demo/mcp").await;
    let info = client.peer_info().unwrap();
    assert_eq!(serde_json::to_value(&*info).unwrap()["serverInfo"]["name"], "hubward-demo");
    let tools = client.list_all_tools().await.unwrap();
    assert!(tools.iter().any(|tool| tool.name == "add"));
    assert_eq!(text(&client.call_tool(call("add", json!({ "a": 2, "b": 3 }))).await.unwrap()), "5");
    assert_eq!(client.list_all_resources().await.unwrap().len(), 2);
    assert_eq!(client.list_all_resource_templates().await.unwrap().len(), 1);
    let read = client.read_resource(ReadResourceRequestParams::new("demo://greeting/Ada")).await.unwrap();
    assert!(serde_json::to_string(&read).unwrap().contains("Hello, Ada!"));
    assert_eq!(client.list_all_prompts().await.unwrap().len(), 1);
    let Value::Object(name) = json!({ "name": "Ada" }) else { unreachable!() };
    let prompt = client.get_prompt(GetPromptRequestParams::new("introduce").with_arguments(name)).await.unwrap();
    assert!(serde_json::to_string(&prompt).unwrap().contains("introduce Ada"));
    client.cancel().await.unwrap();
    hub.until_upstream("demo", |demo| demo["sessions"] == 0 && demo["pids"] == json!([])).await;
}

#[tokio::test]
async fn the_sdk_is_asked_and_hears() {
    let hub = Hub::start(DEMO);
    let (client, mut heard) = open(&hub, "/demo/mcp").await;
    let asked = client.call_tool(call("ask_name", json!({}))).await.unwrap();
    assert!(text(&asked).contains("Hello, Ada!"), "{asked:?}");
    let asked = client.call_tool(call("ask_model", json!({ "prompt": "what is the answer?" }))).await.unwrap();
    assert_eq!(text(&asked), "deep-thought says: forty-two");
    hears(&mut heard, "sampling of 1 messages").await;
    let asked = client.call_tool(call("list_roots", json!({}))).await.unwrap();
    assert!(text(&asked).contains("file:///srv/shared"), "{asked:?}");
    client.call_tool(call("slow", json!({ "seconds": 0.2, "steps": 4 }))).await.unwrap();
    hears(&mut heard, "progress 4").await;
    client.call_tool(call("add_tool", json!({ "name": "fresh" }))).await.unwrap();
    hears(&mut heard, "tools changed").await;
    assert!(client.list_all_tools().await.unwrap().iter().any(|tool| tool.name == "fresh"));
    client.subscribe(SubscribeRequestParams::new("demo://counter")).await.unwrap();
    client.call_tool(call("tick", json!({}))).await.unwrap();
    hears(&mut heard, "updated demo://counter").await;
}

#[tokio::test]
async fn the_sdk_cancels_and_the_upstream_hears_of_it() {
    let hub = Hub::start(&rogue("rogue", &[], ""));
    let (client, _heard) = open(&hub, "/rogue/mcp").await;
    let request = ClientRequest::CallToolRequest(Request::new(call("hang", json!({}))));
    let hanging = client.send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap();
    in_flight(&client, 1).await;
    hanging.cancel(Some("enough".into())).await.unwrap();
    in_flight(&client, 0).await;
    let cancels = client.call_tool(call("received_cancels", json!({}))).await.unwrap();
    assert_eq!(serde_json::from_str::<Vec<Value>>(&text(&cancels)).unwrap().len(), 1);
    assert_eq!(text(&client.call_tool(call("echo", json!({ "text": "on" }))).await.unwrap()), "on");
}

#[tokio::test]
async fn the_sdk_gives_up_a_call_after_its_own_time() {
    let hub = Hub::start(&rogue("rogue", &[], ""));
    let (client, _heard) = open(&hub, "/rogue/mcp").await;
    let request = ClientRequest::CallToolRequest(Request::new(call("hang", json!({}))));
    let limit = PeerRequestOptions::with_timeout(Duration::from_millis(100));
    let hanging = client.send_cancellable_request(request, limit).await.unwrap();
    assert!(hanging.await_response().await.is_err());
    in_flight(&client, 0).await;
}

#[tokio::test]
async fn a_probe_for_the_newer_era_ends_in_a_session() {
    let hub = Hub::start(&echo("echo", ""));
    let auto =
        ClientLifecycleMode::Auto { preferred_versions: vec![ProtocolVersion::V_2026_07_28], legacy_version: None };
    let (client, _heard) = connect(&hub, "/echo/mcp", auto).await;
    let info = serde_json::to_value(&*client.peer_info().unwrap()).unwrap();
    assert!(info.to_string().contains("2025-11-25"), "{info}");
    assert_eq!(text(&client.call_tool(call("echo", json!({ "text": "hi" }))).await.unwrap()), "hi");
    assert_eq!(hub.upstream("echo").await["sessions"], 1);
}

#[tokio::test]
async fn many_clients_of_the_sdk_share_a_process() {
    let hub = Hub::start(&echo("echo", "isolation = 'shared'"));
    let clients = futures_util::future::join_all((0..8).map(|_| open(&hub, "/echo/mcp"))).await;
    let all = clients.iter().enumerate().map(|(number, (client, _))| async move {
        for turn in 0..50 {
            let said = format!("{number} {turn}");
            assert_eq!(text(&client.call_tool(call("echo", json!({ "text": said }))).await.unwrap()), said);
        }
    });
    futures_util::future::join_all(all).await;
    assert_eq!(hub.upstream("echo").await["pids"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_sdk_outlives_the_process_it_talks_to() {
    let hub = Hub::start(&rogue("rogue", &[], ""));
    let (client, _heard) = open(&hub, "/rogue/mcp").await;
    let first = text(&client.call_tool(call("pid", json!({}))).await.unwrap());
    let error = client.call_tool(call("crash", json!({ "code": 3 }))).await.unwrap_err();
    assert!(error.to_string().contains("exited with code 3"), "{error}");
    assert_ne!(text(&client.call_tool(call("pid", json!({}))).await.unwrap()), first);
}

/// The SDK behind the hub.
fn behind() -> String {
    format!("[upstreams.sdk]\ncommand = {:?}\n", example("rmcp_server").display().to_string())
}

#[tokio::test]
async fn a_server_of_the_sdk_serves_both_transports() {
    let hub = Hub::start(&behind());
    let client = Client::open(&hub, "/sdk/mcp").await;
    assert_eq!(client.call("sum", json!({ "a": 40, "b": 2 })).await.tool_text(), "42");
    let steps = json!({ "name": "steps", "arguments": { "steps": 3 }, "_meta": { "progressToken": "mine" } });
    let messages = client.request("tools/call", steps).await.messages();
    let progress = messages.iter().filter(|message| message["method"] == "notifications/progress");
    let progress: Vec<_> = progress.map(|message| message["params"]["progressToken"].clone()).collect();
    assert_eq!(progress, [json!("mine"), json!("mine"), json!("mine")]);
    assert_eq!(messages.last().unwrap()["result"]["content"][0]["text"], "3 steps");

    let mut older = SseClient::greeted(&hub, "/sdk/sse", json!({})).await;
    let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": "sum", "arguments": { "a": 1, "b": 1 } } });
    assert_eq!(older.send(&call).await, 202);
    assert_eq!(older.stream.message().await.unwrap()["result"]["content"][0]["text"], "2");
}

#[tokio::test]
async fn the_sdk_on_both_sides() {
    let hub = Hub::start(&behind());
    let (client, mut heard) = open(&hub, "/sdk/mcp").await;
    let result = client.call_tool(call("steps", json!({ "steps": 5 }))).await.unwrap();
    assert_eq!(text(&result), "5 steps");
    hears(&mut heard, "progress 5").await;
    let wrong = client.call_tool(call("sum", json!({ "a": "x" }))).await;
    assert!(wrong.is_err() || wrong.unwrap().is_error == Some(true));
    // What a client of the simplest kind needs.
    let plain = ().serve(StreamableHttpClientTransport::from_uri(hub.url("/sdk/mcp"))).await.unwrap();
    assert_eq!(plain.list_all_tools().await.unwrap().len(), 2);
}
