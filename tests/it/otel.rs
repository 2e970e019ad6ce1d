//! One call through the hub is one connected trace, from its client to the server behind, whatever either speaks.

mod collector;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::collector::{CLIENT, Collector, SERVER, Span, hub};
use super::{
    connect::{Bridge, initialize},
    fixture::{Answer, Client, LATEST, SseClient, modern, post, rogue},
    peer,
    request::{Request, no_complaints},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const HTTP: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A strict server of the newer era, and one with `initialize`; both tell what `_meta` came.
fn servers() -> String {
    modern("new", &[], "") + &modern("old", &["--probe", "error"], "")
}

/// The `_meta` that arrived with a call of `echo`.
fn arrived(answer: &Value) -> Value {
    let text = answer["result"]["content"][1]["text"].as_str().unwrap_or_else(|| panic!("no _meta in {answer}"));
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no _meta but {text:?}"))
}

fn call(meta: Value) -> Value {
    json!({ "name": "echo", "arguments": {}, "_meta": meta })
}

/// One span below the other, and the server's below both.
fn is_tree(served: &Span, sent: &Span, meta: &Value) {
    assert_eq!((&sent.trace, &sent.parent), (&served.trace, &served.id));
    assert!(sent.parent_of(meta["traceparent"].as_str().unwrap()), "{meta} {sent:#?}");
}

/// A trace that the client began.
fn is_whole(served: &Span, sent: &Span, meta: &Value) {
    assert_eq!((served.trace.as_str(), served.parent.as_str()), (TRACE, PARENT));
    assert_eq!((&meta["tracestate"], &meta["baggage"]), (&json!("a=1,b=2"), &json!("k=v")));
    assert_eq!((served.state.as_str(), sent.state.as_str()), ("a=1,b=2", "a=1,b=2"));
    is_tree(served, sent, meta);
}

fn given() -> Value {
    json!({ "traceparent": GIVEN, "tracestate": "a=1,b=2", "baggage": "k=v" })
}

#[tokio::test]
async fn a_call_in_a_session_is_one_tree_whatever_the_server_speaks() {
    for (name, revision) in [("new", "2026-07-28"), ("old", LATEST)] {
        let collector = Collector::start();
        let hub = collector.hub(&servers(), &[]);
        let client = Client::open(&hub, &format!("/{name}/mcp")).await;
        let meta = arrived(&client.request("tools/call", call(given())).await.last());
        let (served, sent) = collector.call("echo").await;
        is_whole(&served, &sent, &meta);
        for span in [&served, &sent] {
            assert_eq!(span.name, "tools/call echo");
            assert_eq!(
                (span.get("mcp.method.name"), span.get("gen_ai.operation.name")),
                ("tools/call", "execute_tool")
            );
            assert_eq!((span.get("hubward.upstream"), span.get("error.type")), (name, ""));
            assert_eq!((span.of["service.name"].as_str(), span.is_error), ("hubward", false));
        }
        assert_eq!((served.get("mcp.protocol.version"), served.get("mcp.session.id")), (LATEST, &*client.session));
        assert_eq!((served.get("network.transport"), served.get("network.protocol.name")), ("tcp", "http"));
        assert_eq!((served.get("client.address"), served.get("jsonrpc.request.id")), ("127.0.0.1", "1"));
        assert!(!served.get("client.port").is_empty(), "{served:?}");
        assert_eq!((sent.get("mcp.protocol.version"), sent.get("network.transport")), (revision, "pipe"));
        assert!(sent.get("jsonrpc.request.id").parse::<u64>().is_ok(), "{sent:?}");
    }
}

#[tokio::test]
async fn a_call_that_stands_alone_is_one_tree_whatever_the_server_speaks() {
    for name in ["new", "old"] {
        let collector = Collector::start();
        let hub = collector.hub(&servers(), &[]);
        let mut request = Request::call(&hub, &format!("/{name}/mcp"), "echo", json!({})).id(json!("mine"));
        for (key, value) in given().as_object().unwrap() {
            request = request.meta(key, value.clone());
        }
        let meta = arrived(&request.send().await.last());
        let (served, sent) = collector.call("echo").await;
        is_whole(&served, &sent, &meta);
        assert_eq!((served.get("mcp.protocol.version"), served.get("mcp.session.id")), ("2026-07-28", ""));
        assert_eq!((served.get("jsonrpc.request.id"), served.get("client.address")), ("mine", "127.0.0.1"));
        if name == "new" {
            no_complaints(&hub, "/new/mcp").await;
        }
    }
}

#[tokio::test]
async fn a_call_over_an_event_stream_is_one_tree() {
    let collector = Collector::start();
    let hub = collector.hub(&servers(), &[]);
    let mut client = SseClient::greeted(&hub, "/old/sse", json!({})).await;
    client.send(&json!({ "jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": call(given()) })).await;
    let meta = arrived(&client.stream.message().await.unwrap());
    let (served, sent) = collector.call("echo").await;
    is_whole(&served, &sent, &meta);
    assert_eq!((served.get("mcp.protocol.version"), served.get("client.address")), ("2024-11-05", "127.0.0.1"));
}

#[tokio::test]
async fn a_call_from_stdin_through_two_hubs_is_one_tree() {
    let collector = Collector::start();
    let hub = collector.hub(&servers(), &[("OTEL_SERVICE_NAME", "behind")]);
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "60000")];
    let mut bridge = Bridge::with(&["--allow-http", &hub.url("/new/mcp")], &variables);
    bridge.ask("initialize", initialize(LATEST)).await;
    let meta = arrived(&bridge.ask("tools/call", call(given())).await);
    let (_, code, said, _) = bridge.close().await;
    assert_eq!(code, 0, "{said}");
    let of = |spans: &[Span], service: &str, kind| {
        let call = |span: &&Span| span.kind == kind && span.get("gen_ai.tool.name") == "echo";
        spans.iter().filter(call).find(|span| span.of["service.name"] == service).cloned()
    };
    let [first, second, third, fourth] = collector
        .until("four spans", |spans| {
            Some([
                of(spans, "hubward", SERVER)?,
                of(spans, "hubward", CLIENT)?,
                of(spans, "behind", SERVER)?,
                of(spans, "behind", CLIENT)?,
            ])
        })
        .await;
    assert_eq!((first.trace.as_str(), first.parent.as_str()), (TRACE, PARENT));
    assert_eq!((&second.parent, &third.parent, &fourth.parent), (&first.id, &second.id, &third.id));
    assert!(fourth.parent_of(meta["traceparent"].as_str().unwrap()), "{meta}");
    assert_eq!((first.get("network.transport"), second.get("network.transport")), ("pipe", "tcp"));
    let authority = hub.base.strip_prefix("http://").unwrap();
    assert_eq!(format!("{}:{}", second.get("server.address"), second.get("server.port")), authority);
    assert!(third.links.is_empty(), "what a hub says in two places is one thing: {third:#?}");
}

#[tokio::test]
async fn a_server_elsewhere_is_told_in_the_message_and_in_the_headers() {
    for (peer, revision) in [(peer::modern(|_| None).await, "2026-07-28"), (peer::legacy(|_| None).await, LATEST)] {
        let collector = Collector::start();
        let hub = collector.hub(&peer.upstream("a", "forward_headers = ['traceparent', 'x-a']"), &[]);
        let client = Client::open(&hub, "/a/mcp").await;
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call(given()) });
        let (session, revision_of) = (client.session.as_str(), client.revision.as_str());
        let headers = [("mcp-session-id", session), ("mcp-protocol-version", revision_of), ("traceparent", HTTP)];
        post(&client.http, &client.url, &[&headers[..], &[("x-a", "1")]].concat(), &body).await;
        let (served, sent) = collector.call("echo").await;
        let seen = &peer.of("tools/call")[0];
        is_whole(&served, &sent, &seen.body["params"]["_meta"]);
        assert!(sent.parent_of(seen.header("traceparent").unwrap()), "{seen:?}");
        assert_eq!((seen.header("tracestate"), seen.header("x-a")), (Some("a=1,b=2"), Some("1")));
        assert_eq!((sent.get("network.transport"), sent.get("server.address")), ("tcp", "127.0.0.1"));
        assert_eq!(sent.get("mcp.protocol.version"), revision);
        let http: Vec<&str> = HTTP.split('-').collect();
        assert_eq!(served.links, [(http[1].to_owned(), http[2].to_owned())], "the way it came is linked");
    }
}

#[tokio::test]
async fn headers_name_the_parent_where_the_message_does_not() {
    let collector = Collector::start();
    let hub = collector.hub(&servers(), &[]);
    let client = Client::open(&hub, "/old/mcp").await;
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "echo" } });
    let headers =
        [("mcp-session-id", client.session.as_str()), ("traceparent", HTTP), ("tracestate", "x=y"), ("baggage", "b=c")];
    let meta = arrived(&post(&client.http, &client.url, &headers, &body).await.last());
    let (served, sent) = collector.call("echo").await;
    is_tree(&served, &sent, &meta);
    assert_eq!(format!("00-{}-{}-01", served.trace, served.parent), HTTP);
    assert_eq!((meta["tracestate"].clone(), meta.get("baggage"), served.links.len()), (json!("x=y"), None, 0));
}

#[tokio::test]
async fn without_a_context_or_with_none_that_can_be_read_a_trace_begins() {
    let collector = Collector::start();
    let hub = collector.hub(&servers(), &[]);
    let client = Client::open(&hub, "/old/mcp").await;
    let bad = [
        json!({}),
        json!({ "traceparent": "00-1-2-01", "tracestate": "old=1" }),
        json!({ "traceparent": 5 }),
        json!({ "traceparent": format!("ff{}", &GIVEN[2..]) }),
    ];
    for (count, meta) in bad.into_iter().enumerate() {
        let meta = arrived(&client.request("tools/call", call(meta)).await.last());
        let both = |spans: &[Span]| {
            let of = |kind| {
                spans.iter().filter(|span| span.kind == kind && !span.get("gen_ai.tool.name").is_empty()).nth(count)
            };
            Some((of(SERVER)?.clone(), of(CLIENT)?.clone()))
        };
        let (served, sent) = collector.until("the spans", both).await;
        is_tree(&served, &sent, &meta);
        assert_eq!((served.parent.as_str(), meta.get("tracestate")), ("", None));
        assert_ne!(served.trace, TRACE);
    }
}

#[tokio::test]
async fn what_is_not_sampled_is_told_so_and_not_exported() {
    let collector = Collector::start();
    let hub = collector.hub(&servers(), &[]);
    let client = Client::open(&hub, "/new/mcp").await;
    let unsampled = GIVEN.replace("-01", "-00");
    let meta = arrived(&client.request("tools/call", call(json!({ "traceparent": unsampled }))).await.last());
    let told = meta["traceparent"].as_str().unwrap();
    assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00") && !told.contains(PARENT), "{told}");
    client.call("pid", json!({})).await;
    collector.call("pid").await;
    assert!(collector.spans().iter().all(|span| span.get("gen_ai.tool.name") != "echo"), "{:#?}", collector.spans());
    // Nor is anything where the operator wants it so.
    let hub = collector.hub(&servers(), &[("OTEL_TRACES_SAMPLER", "always_off"), ("OTEL_SERVICE_NAME", "quiet")]);
    let client = Client::open(&hub, "/new/mcp").await;
    let meta = arrived(&client.request("tools/call", call(given())).await.last());
    assert!(meta["traceparent"].as_str().unwrap().ends_with("-00"), "{meta}");
    let mut hub = hub;
    hub.signal("TERM");
    hub.ended();
    assert!(collector.spans().iter().all(|span| span.of["service.name"] != "quiet"));
}

#[tokio::test]
async fn how_a_call_went_wrong_is_told_on_both_spans() {
    let collector = Collector::start();
    let hub = collector.hub(&(servers() + &rogue("r", &[], "request_timeout = '300ms'\n")), &[]);
    let client = Client::open(&hub, "/new/mcp").await;
    client.call("fail", json!({ "code": -32099, "message": "no luck" })).await;
    let (served, sent) = collector.call("fail").await;
    for span in [served, sent] {
        assert_eq!((span.get("error.type"), span.get("rpc.response.status_code")), ("-32099", "-32099"));
        assert_eq!((span.is_error, span.why.as_str()), (true, "no luck"));
    }
    let client = Client::open(&hub, "/r/mcp").await;
    client.call("result", json!({ "json": r#"{"content":[],"isError":true}"# })).await;
    client.call("hang", json!({})).await;
    for (tool, kind) in [("result", "tool_error"), ("hang", "timeout")] {
        let (served, sent) = collector.call(tool).await;
        assert_eq!((served.get("error.type"), sent.get("error.type")), (kind, kind), "{tool}");
        assert!(served.is_error && sent.is_error);
    }
    let hung = collector.call("hang").await.0;
    assert!(hung.took >= Duration::from_millis(300) && hung.why.contains("did not answer"), "{hung:?}");
    client.call("crash", json!({ "code": 1 })).await;
    let (served, sent) = collector.call("crash").await;
    assert_eq!((served.get("error.type"), sent.get("error.type")), ("connection_lost", "connection_lost"));
}

#[tokio::test]
async fn a_client_that_leaves_or_cancels_ends_its_spans() {
    let collector = Collector::start();
    let hub = collector.hub(&servers(), &[]);
    let request =
        Request::call(&hub, "/new/mcp", "slow", json!({ "count": 1000, "ms": 20 })).meta("progressToken", json!(1));
    let mut stream = request.stream().await;
    assert_eq!(stream.message().await.unwrap()["method"], "notifications/progress");
    drop(stream);
    let (served, sent) = collector.call("slow").await;
    assert_eq!((served.get("error.type"), sent.get("error.type")), ("cancelled", "cancelled"));
    let client = Client::open(&hub, "/new/mcp").await;
    let hang =
        json!({ "jsonrpc": "2.0", "id": 77, "method": "tools/call", "params": { "name": "hang", "_meta": given() } });
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.send(&hang).await }
    });
    super::request::until_seen(&hub, "/new/mcp", |told| {
        told["inFlight"].as_u64() > Some(0) || told["inFlight"].as_array().is_some_and(|all| !all.is_empty())
    })
    .await;
    client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 77 } })).await;
    let (served, sent) = collector.call("hang").await;
    assert_eq!((served.get("error.type"), sent.get("error.type")), ("cancelled", "cancelled"));
    assert_eq!((served.trace.as_str(), served.parent.as_str()), (TRACE, PARENT));
    waiting.abort();
}

#[tokio::test]
async fn a_call_that_asks_in_between_stays_in_its_trace() {
    // A newer server asks an older client: one request, sent on twice.
    let collector = Collector::start();
    let log = tempfile::NamedTempFile::new().unwrap();
    let hub = collector.hub(&modern("m", &["--log", log.path().to_str().unwrap()], ""), &[]);
    let client = Client::open_as(&hub, "/m/mcp", LATEST, json!({ "elicitation": {} })).await;
    let params = json!({ "name": "ask", "arguments": { "message": "Who?" }, "_meta": given() });
    let asking = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params });
    let mut stream = client.stream(&asking).await;
    let question = stream.message().await.unwrap();
    client.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "decline" } })).await;
    assert!(stream.message().await.unwrap()["result"].is_object());
    let of = |spans: &[Span], kind| -> Vec<Span> {
        spans.iter().filter(|span| span.kind == kind && span.get("gen_ai.tool.name") == "ask").cloned().collect()
    };
    let (served, sent) = collector
        .until("three spans", |spans| {
            Some((of(spans, SERVER).pop()?, of(spans, CLIENT))).filter(|(_, sent)| sent.len() == 2)
        })
        .await;
    assert_eq!((served.trace.as_str(), served.parent.as_str()), (TRACE, PARENT));
    assert!(sent.iter().all(|span| span.parent == served.id && !span.is_error), "{sent:#?}");
    let log = std::fs::read_to_string(log.path()).unwrap();
    let told = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let told =
        told.filter(|line| line["params"]["name"] == "ask").map(|line| line["params"]["_meta"]["traceparent"].clone());
    let told: Vec<Value> = told.collect();
    assert_eq!(told.len(), 2, "{log}");
    for (told, sent) in told.iter().zip(&sent) {
        assert!(sent.parent_of(told.as_str().unwrap()), "{told} {sent:#?}");
    }
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn a_call_that_waits_for_its_client_is_served_twice_and_sent_on_once() {
    let collector = Collector::start();
    let hub = collector.hub(&rogue("r", &[], ""), &[]);
    let request = Request::call(&hub, "/r/mcp", "ask_elicitation", json!({ "message": "Who?" }))
        .capable(json!({ "elicitation": {} }))
        .meta("traceparent", json!(GIVEN));
    let asked = super::fixture::answer(request.build()).await.last()["result"].clone();
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let key = asked["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let retry = request.retry(&asked, json!({ key: { "action": "decline" } })).meta("traceparent", json!(HTTP));
    let done: Answer = retry.send().await;
    assert!(done.last()["result"].is_object(), "{done:?}");
    let of = |spans: &[Span], kind| -> Vec<Span> {
        spans
            .iter()
            .filter(|span| span.kind == kind && span.get("gen_ai.tool.name") == "ask_elicitation")
            .cloned()
            .collect()
    };
    let (served, sent) = collector
        .until("three spans", |spans| {
            Some((of(spans, SERVER), of(spans, CLIENT))).filter(|(served, sent)| served.len() == 2 && sent.len() == 1)
        })
        .await;
    let first = served.iter().find(|span| span.trace == TRACE).unwrap();
    assert_eq!((first.parent.as_str(), &sent[0].parent, &sent[0].trace), (PARENT, &first.id, &first.trace));
    let second = served.iter().find(|span| span.trace != TRACE).unwrap();
    assert_eq!(format!("00-{}-{}-01", second.trace, second.parent), HTTP);
    assert!([first, second, &sent[0]].iter().all(|span| !span.is_error), "{served:#?}");
}

#[tokio::test]
async fn a_collector_that_is_gone_or_silent_delays_no_call_and_no_end() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, is_gone) in [(silent.local_addr().unwrap(), false), (gone, true)] {
        let endpoint = format!("http://{address}");
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2"),
        ];
        let mut hub = hub(tempfile::tempdir().unwrap(), &servers(), &variables);
        let client = Client::open(&hub, "/old/mcp").await;
        let began = Instant::now();
        for _ in 0..50 {
            client.call("pid", json!({})).await;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        if is_gone {
            hub.logged("spans were lost").await;
        }
        let began = Instant::now();
        hub.signal("TERM");
        assert!(hub.ended().success());
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        let told = hub.log().matches("spans were lost").count();
        assert!(told <= 2, "once, and once at the end: {}", hub.log());
    }
}

#[tokio::test]
async fn the_last_spans_leave_before_the_hub_does() {
    let collector = Collector::start();
    let variables =
        [("OTEL_BSP_SCHEDULE_DELAY", "600000"), ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")];
    let mut hub = collector.hub(&servers(), &variables);
    Client::open(&hub, "/old/mcp").await.call("pid", json!({})).await;
    assert!(collector.spans().is_empty());
    hub.signal("TERM");
    assert!(hub.ended().success());
    let (served, _) = collector.call("pid").await;
    assert_eq!(served.of["deployment.environment.name"], "test");
    assert_eq!(served.of["service.version"], env!("CARGO_PKG_VERSION"));
    let greeted = collector.spans().iter().any(|span| span.name == "initialize" && span.kind == SERVER);
    assert!(greeted, "{:#?}", collector.spans());
}

#[tokio::test]
async fn what_the_environment_says_of_traces_is_a_secret_and_the_hubs_own() {
    let collector = Collector::start();
    let variables = [("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20sesame,x-team=a")];
    let mut hub = collector.hub(&rogue("r", &[], ""), &variables);
    let client = Client::open(&hub, "/r/mcp").await;
    let env: Value = serde_json::from_str(&client.call("env", json!({})).await.tool_text()).unwrap();
    assert!(env.as_object().unwrap().keys().all(|name| !name.starts_with("OTEL_")), "{env}");
    collector.call("env").await;
    let head = collector.heads()[0].to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces ") && head.contains("authorization: bearer sesame"), "{head}");
    hub.signal("TERM");
    hub.ended();
    assert!(!hub.log().contains("sesame"), "{}", hub.log());
}

#[tokio::test]
async fn nothing_is_touched_where_nothing_is_exported() {
    let off: [&[(&str, &str)]; 5] = [
        &[],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_SDK_DISABLED", "TRUE")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:sesame@[x")],
    ];
    for variables in off {
        let hub = hub(tempfile::tempdir().unwrap(), &servers(), variables);
        let client = Client::open(&hub, "/old/mcp").await;
        for meta in [json!({}), json!({ "traceparent": "00-1-2-01" }), given()] {
            assert_eq!(arrived(&client.request("tools/call", call(meta.clone())).await.last()), meta);
        }
        let is_told = hub.log().contains("only `http/protobuf` is spoken");
        assert_eq!(is_told, variables.iter().any(|(name, _)| name.ends_with("PROTOCOL")), "{}", hub.log());
        let is_wrong = is_told || variables.iter().any(|(_, value)| value.contains("sesame"));
        assert_eq!(
            hub.log().matches("no traces are exported, although").count(),
            usize::from(is_wrong),
            "{}",
            hub.log()
        );
        assert!(!hub.log().contains("sesame"), "{}", hub.log());
    }
}
