//! The program tells the clients of an upstream that something has changed (S4.74).

use std::net::TcpListener;

use hubward::{Config, Hub, Name, Serving};
use serde_json::json;

use super::{
    Outcome,
    client::{Client, until},
    server,
};

pub async fn run() -> Outcome {
    let hub = Hub::builder(Config::default()).inside(Name::new("within")?, server::start);
    let serving = Serving::start(hub, vec![TcpListener::bind("127.0.0.1:0")?]).await?;
    let notify = serving.hub.notify("within").ok_or("there is no such upstream")?;
    println!("nobody is there: {} told", notify.tools_changed());

    let client = Client::open(format!("{}/within/mcp", serving.bases[0]), &[]).await?;
    client.call("resources/subscribe", json!({ "uri": "file:///a" })).await?;
    let mut stream = client.listen(None).await?;
    let told = [notify.tools_changed(), notify.prompts_changed(), notify.resources_changed()];
    println!("lists: {told:?} told");
    println!("file:///b: {} told", notify.resource_updated("file:///b"));
    println!("file:///a: {} told", notify.resource_updated("file:///a"));
    let heard = until(&mut stream, "resources/updated").await?;
    let methods = heard.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| !data.is_empty());
    for data in methods {
        println!("heard {data}");
    }
    println!("nobody's: {}", serving.hub.notify("other").is_none());
    serving.stop().await;
    Ok(())
}
