//! An actor that panics is built anew (F108), and nobody but its own callers notices.

use super::*;
use crate::{
    bridge::Bridged,
    config::{Isolation, Text},
};

/// Answers every request in the order of our ids.
const SERVER: &str = r#"n=0; while read -r line; do case $line in *'"method":"notifications/'*) ;; *) n=$((n+1));
printf '{"jsonrpc":"2.0","id":%d,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}\n' $n;; esac; done"#;
const PATIENCE: Duration = Duration::from_secs(20);

fn config(request_timeout: Duration) -> Config {
    let upstream = |isolation| UpstreamConfig {
        args: vec![Text::secret("-c"), Text::secret(SERVER)],
        isolation,
        request_timeout,
        ..UpstreamConfig::new(Text::secret("sh"), std::env::temp_dir())
    };
    let name = |name: &str| Name::new(name).expect("a name");
    let upstreams = [(name("bad"), upstream(Isolation::Shared)), (name("good"), upstream(Isolation::Shared))].into();
    Config { upstreams, hub: HubConfig::default() }
}

async fn started() -> (Arc<House>, Addr<Hub>) {
    let first = config(PATIENCE);
    let house = House::new(&first);
    // This thread stands in for the server's workers.
    house.engine.workers.register();
    let hub = Hub::start(house.clone(), first.clone(), String::new(), None);
    hub.send(Apply(first)).await.expect("a hub").expect("a configuration");
    (house, hub)
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Calls an upstream; answers with its connection and its process.
async fn call(house: &House, name: &str) -> (Arc<Bridged>, u32) {
    let route = house.table.find(name).expect("a route");
    let session = session::Session::of_identity("somebody".into(), Default::default());
    let bridged = isolation::seat(&route, &session).await.expect("a connection").bridged().clone();
    assert!(bridged.connection.request("ping", None, PATIENCE).await.expect("an answer").result().is_some());
    (bridged, route.serving.status.load().pids[0])
}

fn state(house: &House, name: &str) -> State {
    house.table.find(name).expect("a route").serving.status.load().state
}

fn poison(house: &House) {
    house.table.find("bad").expect("a route").upstream.poison();
}

#[actix_web::test]
async fn f108_an_upstream_whose_actor_panicked_is_built_anew_and_can_be_called() {
    let (house, hub) = started().await;
    let route = house.table.find("bad").expect("a route");
    let session =
        session::Session::new(session::Transport::Streamable, Default::default(), 10, 1000).expect("random numbers");
    house.admit_session(&route, session.clone());
    let ((first, _), (_, kept)) = (call(&house, "bad").await, call(&house, "good").await);
    poison(&house);
    until("it is counted", || house.status.load().panics == 1).await;
    until("the old process is let go", || first.connection.is_over()).await;
    // The session finds its mount again.
    let route = house.table.find("bad").expect("a route");
    assert!(route.audience.get(&session.id).is_some());
    let (second, _) = call(&house, "bad").await;
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(call(&house, "good").await.1, kept, "the other upstream is undisturbed");
    hub.send(Drain::Now).await.expect("an end");
}

#[actix_web::test]
async fn f108_one_that_panics_too_often_is_left_alone_until_its_configuration_changes() {
    let (house, hub) = started().await;
    for count in 1..=REBUILDS_MAX as u64 + 1 {
        poison(&house);
        until("it is counted", || house.status.load().panics == count).await;
    }
    until("it is left alone", || state(&house, "bad") == State::Failed).await;
    let route = house.table.find("bad").expect("a route");
    assert!(
        isolation::seat(&route, &session::Session::of_identity("somebody".into(), Default::default())).await.is_err()
    );
    call(&house, "good").await;
    hub.send(Apply(config(PATIENCE * 2))).await.expect("a hub").expect("a configuration");
    call(&house, "bad").await;
    assert_eq!(state(&house, "bad"), State::Ready);
    hub.send(Drain::Now).await.expect("an end");
}
