//! Two hubs in a chain: the second keeps a process for each client of the first, and what a client subscribes to is
//! watched by its own (P36, P55).

use std::time::Instant;

use serde_json::{Value, json};

use super::{
    fixture::{Client, Hub, LATEST, PATIENCE, Stream, hubward, rogue},
    request::{Request, tag},
};

const UPDATED: &str = "notifications/resources/updated";
const PATH: &str = "/c/mcp";

/// A hub before an older server, at this address.
fn behind(address: &str) -> Hub {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hub.toml");
    std::fs::write(&file, rogue("r", &[], "isolation = 'session'")).unwrap();
    let mut command = hubward(&["serve", "--bind", address, "--log-level", "debug", "-c"]);
    command.arg(file);
    Hub::run(folder, command)
}

/// The hub that clients know, and the one behind it.
fn chain() -> (Hub, Hub) {
    let behind = behind("127.0.0.1:0");
    (Hub::start(&format!("[upstreams.c]\nurl = {:?}\n", behind.url("/r/mcp"))), behind)
}

/// A client of either era, and what it hears.
enum Either {
    Older(Client, Stream),
    Newer(Value, Stream),
}

impl Either {
    /// An older client that is subscribed to these.
    async fn older(hub: &Hub, abilities: Value, uris: &[&str]) -> Either {
        let client = Client::open_as(hub, PATH, LATEST, abilities).await;
        let get = client.get(None).await;
        for uri in uris {
            let taken = client.request("resources/subscribe", json!({ "uri": uri })).await;
            assert_eq!(taken.last()["result"], json!({}));
        }
        Either::Older(client, get)
    }

    async fn newer(hub: &Hub, abilities: Value, uris: &[&str]) -> Either {
        let stream = listen(hub, &abilities, uris).await;
        Either::Newer(abilities, stream)
    }

    async fn call(&self, hub: &Hub, tool: &str, arguments: Value) -> super::fixture::Answer {
        match self {
            Either::Older(client, _) => client.call(tool, arguments).await,
            Either::Newer(abilities, _) => {
                Request::call(hub, PATH, tool, arguments).capable(abilities.clone()).send().await
            }
        }
    }

    /// Changes a resource in this client's process.
    async fn update(&self, hub: &Hub, uri: &str) {
        assert_eq!(self.call(hub, "updated", json!({ "uri": uri })).await.tool_text(), "ok");
    }

    /// The resource that the next update is about.
    async fn updated(&mut self) -> String {
        let (Either::Older(_, stream) | Either::Newer(_, stream)) = self;
        let next = async {
            loop {
                let message = stream.message().await.unwrap();
                if message["method"] == UPDATED {
                    return message["params"]["uri"].as_str().unwrap().to_owned();
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("an update")
    }

    /// Waits until this client's process was told this, and nothing else.
    async fn told(&self, hub: &Hub, wished: &[&str]) {
        let began = Instant::now();
        loop {
            let answer = self.call(hub, "subscriptions", json!({})).await;
            let told = answer.last()["result"]["content"][0]["text"].clone();
            if told.as_str().and_then(|told| serde_json::from_str(told).ok()) == Some(json!(wished)) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "it was told {told}, not {wished:?}\n{}", hub.log());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// Opens a listen of a newer client with these abilities.
async fn listen(hub: &Hub, abilities: &Value, uris: &[&str]) -> Stream {
    let params = json!({ "notifications": { "resourceSubscriptions": uris } });
    let request = Request::new(hub, PATH, "subscriptions/listen", params).capable(abilities.clone());
    let mut stream = request.id(json!("sub")).stream().await;
    let first = stream.message().await.unwrap();
    assert_eq!((&first["method"], tag(&first)), (&json!("notifications/subscriptions/acknowledged"), json!("sub")));
    let honoured = &first["params"]["notifications"]["resourceSubscriptions"];
    assert_eq!(honoured.as_array().cloned().unwrap_or_default(), uris);
    stream
}

#[tokio::test]
async fn p55_an_older_clients_subscription_is_where_its_calls_are() {
    let (hub, _behind) = chain();
    let mut client = Either::older(&hub, json!({ "roots": { "listChanged": true } }), &["a:/1", "a:/2"]).await;
    client.told(&hub, &["subscribe a:/1", "subscribe a:/2"]).await;
    client.update(&hub, "a:/1").await;
    assert_eq!(client.updated().await, "a:/1");
    let Either::Older(session, _) = &client else { unreachable!() };
    let gone = session.request("resources/unsubscribe", json!({ "uri": "a:/1" })).await;
    assert_eq!(gone.last()["result"], json!({}));
    client.told(&hub, &["subscribe a:/1", "subscribe a:/2", "unsubscribe a:/1"]).await;
    client.update(&hub, "a:/1").await;
    client.update(&hub, "a:/2").await;
    assert_eq!(client.updated().await, "a:/2", "no update of the other any more");
}

#[tokio::test]
async fn p36_a_newer_clients_listen_is_where_its_calls_are() {
    let (hub, _behind) = chain();
    // Not what the hub would make of them for an older client.
    let abilities = json!({ "elicitation": {}, "sampling": {}, "roots": { "listChanged": true }, "tasks": {} });
    let mut client = Either::newer(&hub, abilities.clone(), &["a:/1"]).await;
    client.update(&hub, "a:/1").await;
    assert_eq!(client.updated().await, "a:/1");
    let second = listen(&hub, &abilities, &["a:/2"]).await;
    let both = ["subscribe a:/1", "subscribe a:/2"];
    client.told(&hub, &both).await;
    drop(second);
    client.told(&hub, &[&both[..], &["unsubscribe a:/2"]].concat()).await;
    client.update(&hub, "a:/2").await;
    client.update(&hub, "a:/1").await;
    assert_eq!(client.updated().await, "a:/1", "no update of the other any more");
    let Either::Newer(abilities, stream) = client else { unreachable!() };
    drop(stream);
    let client = Either::newer(&hub, abilities, &[]).await;
    client.told(&hub, &[&both[..], &["unsubscribe a:/2", "unsubscribe a:/1"]].concat()).await;
    // What ended with its last resource begins again with the next.
    let Either::Newer(abilities, _) = client else { unreachable!() };
    let mut client = Either::newer(&hub, abilities, &["a:/1"]).await;
    client.update(&hub, "a:/1").await;
    assert_eq!(client.updated().await, "a:/1");
}

#[tokio::test]
async fn p55_each_client_hears_of_its_own_process() {
    let (hub, _behind) = chain();
    let mut clients = [
        Either::older(&hub, json!({}), &["a:/1"]).await,
        Either::older(&hub, json!({ "roots": {} }), &["a:/1"]).await,
        Either::newer(&hub, json!({ "elicitation": {} }), &["a:/1"]).await,
        Either::newer(&hub, json!({ "sampling": {} }), &["a:/1"]).await,
    ];
    for round in 0..2 {
        for (number, client) in clients.iter().enumerate() {
            client.update(&hub, &format!("a:/1/{number}/{round}")).await;
        }
    }
    for (number, client) in clients.iter_mut().enumerate() {
        for round in 0..2 {
            assert_eq!(client.updated().await, format!("a:/1/{number}/{round}"), "and no other's");
        }
    }
    // Who has the same name and can do the same has the same process, and the last one unsubscribes.
    let mut twin = Either::older(&hub, json!({ "roots": {} }), &["a:/1"]).await;
    let Either::Older(session, _) = &clients[1] else { unreachable!() };
    assert_eq!(session.request("resources/unsubscribe", json!({ "uri": "a:/1" })).await.last()["result"], json!({}));
    twin.update(&hub, "a:/1/twin").await;
    assert_eq!(twin.updated().await, "a:/1/twin");
    twin.told(&hub, &["subscribe a:/1"]).await;
    let Either::Older(last, _) = &twin else { unreachable!() };
    assert_eq!(last.delete().await, 204);
    clients[1].told(&hub, &["subscribe a:/1", "unsubscribe a:/1"]).await;
    clients[0].told(&hub, &["subscribe a:/1"]).await;
}

#[tokio::test]
async fn p55_subscriptions_outlive_the_hub_behind() {
    let (hub, first) = chain();
    let mut clients = [
        Either::older(&hub, json!({}), &["a:/1"]).await,
        Either::newer(&hub, json!({ "elicitation": {} }), &["a:/1"]).await,
    ];
    let address = first.base.trim_start_matches("http://").to_owned();
    drop(first);
    let _behind = behind(&address);
    for client in &mut clients {
        client.told(&hub, &["subscribe a:/1"]).await;
        client.update(&hub, "a:/1/again").await;
        // Changes may have been missed.
        while client.updated().await != "a:/1/again" {}
    }
}
