//! Who comes and goes, who they are, and what is answered beside the hub (S4.68, S4.69, S4.70).

use std::net::TcpListener;

use actix_web::{HttpRequest, HttpResponse, web};
use hubward::{Config, Guest, Hub, Name, Serving, Visit};
use tokio::sync::mpsc;

use super::{Outcome, client::Client, server};

/// Who asks? May be anything that can be waited for: a database, a cookie, another service.
async fn authenticate(request: HttpRequest) -> Result<Option<Guest>, HttpResponse> {
    match request.headers().get("x-person").and_then(|value| value.to_str().ok()) {
        Some("ada") => Ok(Some(Guest::new("ada").scopes(["tools"]))),
        // As it is: status, headers and body.
        Some(_) => Err(HttpResponse::PaymentRequired().insert_header(("x-why", "nobody knows you")).finish()),
        // What `hub.auth` says; here it says nothing, and nobody comes in.
        None => Ok(None),
    }
}

async fn unhandled(request: HttpRequest, _: web::Payload) -> Result<Option<HttpResponse>, Box<dyn std::error::Error>> {
    match request.path() {
        "/hello" => Ok(Some(HttpResponse::Ok().body("hello"))),
        "/broken" => Err("this goes into the log".into()),
        "/panic" => panic!("and so does this"),
        _ => Ok(None),
    }
}

pub async fn run() -> Outcome {
    let (told, mut visits) = mpsc::channel::<Visit>(16);
    let gone = told.clone();
    let hub = Hub::builder(Config::default())
        .inside(Name::new("within")?, server::start)
        .authenticate(authenticate)
        .on_unhandled(unhandled)
        .on_connect(move |visit| {
            let told = told.clone();
            // It fails, which is logged; and no call waits for it.
            async move {
                told.send(visit).await?;
                Err("a hook that fails".into())
            }
        })
        .on_close(move |visit| {
            let gone = gone.clone();
            async move { Ok(gone.send(visit).await?) }
        });
    let serving = Serving::start(hub, vec![TcpListener::bind("127.0.0.1:0")?]).await?;
    let base = serving.bases[0].clone();
    let url = format!("{base}/within/mcp");

    let ada = Client::open(url.clone(), &[("x-person", "ada")]).await?;
    let visit = visits.recv().await.ok_or("nobody came")?;
    println!("{} came to {} with {:?}", visit.principal.name(), visit.upstream, visit.client);
    println!("ada: {}", ada.shout("hello").await?);
    let eve = Client::new(url.clone(), &[("x-person", "eve")]).post(&serde_json::json!({})).await?;
    println!("eve: {} {:?}", eve.status(), eve.headers().get("x-why"));
    let nobody = Client::new(url.clone(), &[]).post(&serde_json::json!({})).await?;
    println!("nobody: {}", nobody.status());
    for path in ["/hello", "/broken", "/panic", "/nothing"] {
        let answer = reqwest::Client::new().get(format!("{base}{path}")).header("x-person", "ada").send().await?;
        println!("{path}: {}", answer.status().as_u16());
    }
    ada.close().await?;
    let over = visits.recv().await.ok_or("nobody went")?;
    println!("{} went, and it is the same: {}; {:?}", over.principal.name(), over.number == visit.number, over.why);
    Client::open(url, &[("x-person", "ada")]).await?;
    println!("{} came", visits.recv().await.ok_or("nobody came")?.principal.name());
    serving.stop().await;
    let last = visits.recv().await.ok_or("nobody went")?;
    println!("{} went; {:?}", last.principal.name(), last.why);
    Ok(())
}
