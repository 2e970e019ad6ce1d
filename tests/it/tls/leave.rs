//! Clients that leave over HTTP/2, where nobody tells a handler: by a reset of one request, or with the connection.

use h2::{Reason, client::SendRequest};
use serde_json::json;

use super::{
    super::{
        fixture::{Client, LATEST, file_until, initialize},
        request::Request,
    },
    *,
};

/// An HTTP/2 connection, with the task that drives it.
pub async fn http2(hub: &Hub, authority: &Authority) -> (SendRequest<bytes::Bytes>, tokio::task::JoinHandle<()>) {
    let stream = connect(hub, Arc::new(authority.config(&["h2"], None))).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(async move {
        let _ = connection.await;
    });
    (sender, driver)
}

/// Sends a request of the newer era; what comes back, and the hand to reset it with.
async fn send(
    sender: &mut SendRequest<bytes::Bytes>,
    request: &Request,
) -> (h2::client::ResponseFuture, h2::SendStream<bytes::Bytes>) {
    let mut head = http::Request::post(request.url.replace("http://", "https://"))
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json");
    for (name, value) in &request.headers {
        head = head.header(*name, value);
    }
    *sender = sender.clone().ready().await.unwrap();
    let (response, mut body) = sender.send_request(head.body(()).unwrap(), false).unwrap();
    body.send_data(request.body.to_string().into(), true).unwrap();
    (response, body)
}

fn sleeping(hub: &Hub, number: u32) -> Request {
    Request::call(hub, "/r/mcp", "sleep", json!({ "ms": 60_000 + number })).id(json!(number))
}

#[tokio::test]
async fn f36_a_reset_over_http2_cancels_upstream() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let log = folder.path().join("log");
    let hub = start_with_rogue(&authority, &["--log", log.to_str().unwrap()]);
    let (mut sender, _driver) = http2(&hub, &authority).await;
    let cancelled = |count: usize| move |text: &str| text.matches("notifications/cancelled").count() == count;
    // Before anything was answered.
    let (response, mut request) = send(&mut sender, &sleeping(&hub, 1)).await;
    file_until(&log, |text| text.contains("60001")).await;
    let began = std::time::Instant::now();
    request.send_reset(Reason::CANCEL);
    file_until(&log, cancelled(1)).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    drop(response);
    // In mid stream.
    let progress = Request::call(&hub, "/r/mcp", "progress", json!({ "count": 10_000, "ms": 5 }));
    let (response, mut request) = send(&mut sender, &progress.meta("progressToken", json!("mine"))).await;
    let mut body = response.await.unwrap().into_body();
    assert!(!body.data().await.unwrap().unwrap().is_empty());
    request.send_reset(Reason::CANCEL);
    file_until(&log, cancelled(2)).await;
    // The connection goes on, and a call that nobody leaves is answered.
    let (response, _request) = send(&mut sender, &Request::call(&hub, "/r/mcp", "sleep", json!({ "ms": 700 }))).await;
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    file_until(&log, cancelled(2)).await;
}

#[tokio::test]
async fn f36_the_end_of_an_http2_connection_cancels_upstream() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let log = folder.path().join("log");
    let hub = start_with_rogue(&authority, &["--log", log.to_str().unwrap()]);
    let (mut sender, driver) = http2(&hub, &authority).await;
    let first = send(&mut sender, &sleeping(&hub, 1)).await;
    let second = send(&mut sender, &sleeping(&hub, 2)).await;
    file_until(&log, |text| text.contains("60001") && text.contains("60002")).await;
    let began = std::time::Instant::now();
    // The socket is closed under them.
    driver.abort();
    file_until(&log, |text| text.matches("notifications/cancelled").count() == 2).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    drop((first, second));
}

#[tokio::test]
async fn f35_an_older_call_goes_on_when_its_client_leaves_over_http2() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let log = folder.path().join("log");
    let hub = start_with_rogue(&authority, &["--log", log.to_str().unwrap()]);
    let session = Client::open(&hub, "/r/mcp").await;
    let (mut sender, driver) = http2(&hub, &authority).await;
    let call = |id: u32| {
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": { "name": "sleep", "arguments": { "ms": 800 + id } } });
        let headers = vec![("mcp-session-id", session.session.clone()), ("mcp-protocol-version", LATEST.to_owned())];
        Request { url: session.url.clone(), body, headers }
    };
    let (response, mut request) = send(&mut sender, &call(1)).await;
    file_until(&log, |text| text.contains("801")).await;
    request.send_reset(Reason::CANCEL);
    drop(response);
    // It would have been cancelled before the next one is answered, which takes as long.
    assert_eq!(session.call("sleep", json!({ "ms": 800 })).await.status, 200);
    assert!(!std::fs::read_to_string(&log).unwrap().contains("notifications/cancelled"));
    // A stream that is left makes room for the next one, at once and not with the next comment.
    let get = |session: &Client| {
        http::Request::get(secure(&hub) + "/r/mcp")
            .header("accept", "text/event-stream")
            .header("mcp-session-id", &session.session)
            .body(())
            .unwrap()
    };
    let (response, mut stream) = sender.send_request(get(&session), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    assert_eq!(hub.status().await["streams"], 1);
    stream.send_reset(Reason::CANCEL);
    hub.until("no stream", |status| status["streams"] == 0).await;
    let (response, _stream) = sender.send_request(get(&session), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    driver.abort();
    hub.until("no stream", |status| status["streams"] == 0).await;
}

#[tokio::test]
async fn f38_a_refusal_is_read_whole_over_http2_and_the_connection_stays() {
    let authority = Authority::new();
    let hub = start(&authority, &format!("{HUB}limits = {{ body_bytes_max = '1 KiB' }}\n{}", rogue("r", &[], "")));
    let client = authority.client().build().unwrap();
    let url = secure(&hub) + "/r/mcp";
    let post = |body: String| client.post(&url).header("content-type", "application/json").body(body);
    let answer = post("x".repeat(100_000)).send().await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (reqwest::Version::HTTP_2, 413));
    assert!(answer.text().await.unwrap().contains("body_bytes_max"));
    let answer = post(initialize(LATEST, json!({})).to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}
