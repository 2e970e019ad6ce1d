//! A hub within an actix-web app, beside its own routes (S1.48, S4.34).

use actix_web::{App, HttpServer, web};
use hubward::{Config, Hub, Name};

use super::{Outcome, client::Client, server};

pub async fn run() -> Outcome {
    let token = "a-token-of-at-least-thirty-two-characters";
    let config: Config = format!("[hub.auth]\ntokens = [{{ name = 'ci', secret = '{token}' }}]\n").parse()?;
    let hub = Hub::builder(config).inside(Name::new("within")?, server::start).start().await?;

    let mounted = hub.clone();
    let app = move || {
        let own = web::get().to(|| async { "a page of the app" });
        // What no route of the app takes is the hub's.
        App::new().route("/own", own).configure(|app| mounted.mount(app))
    };
    let server = HttpServer::new(app).workers(1).h1_allow_half_closed(false).on_connect(hubward::accepted);
    let server = server.disable_signals().bind("127.0.0.1:0")?;
    let base = format!("http://{}", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);

    // The app's own routes come first: the hub's rules are not theirs.
    println!("/own: {}", reqwest::get(format!("{base}/own")).await?.text().await?);
    let refused = Client::new(format!("{base}/within/mcp"), &[]).post(&serde_json::json!({})).await?;
    println!("/within/mcp without a token: {}", refused.status());
    let client = Client::open(format!("{base}/within/mcp"), &[("x-api-key", token)]).await?;
    println!("/within/mcp: {}", client.shout("mounted").await?);

    // The hub first, so that whoever comes meanwhile is told.
    hub.stop().await;
    handle.stop(true).await;
    println!("ended");
    Ok(())
}
