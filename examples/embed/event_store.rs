//! The events that clients come back for are kept by the program (S4.67).

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use hubward::{Config, EventStore, Hub, Kept, Name, Serving};

use super::{
    Outcome,
    client::{Client, until},
    server,
};

/// Session, stream and place.
type Key = (u64, u64, u64);

/// Events in order; another process could read them as well, were this a database.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<BTreeMap<Key, Bytes>>>);

impl Shelf {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Key, Bytes>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl EventStore for Shelf {
    fn keep(&self, event: Kept<'_>) {
        let mut all = self.all();
        all.insert((event.session, event.stream, event.place), event.data.clone());
        // What it keeps it bounds itself.
        while all.len() > 10_000 {
            all.pop_first();
        }
    }

    fn behind(&self, session: u64, stream: u64, place: u64) -> Option<Vec<(u64, Bytes)>> {
        let range = (session, stream, place + 1)..=(session, stream, u64::MAX);
        Some(self.all().range(range).map(|((.., place), data)| (*place, data.clone())).collect())
    }

    fn forget(&self, session: u64, stream: Option<u64>) {
        self.all().retain(|(own, of, _), _| *own != session || stream.is_some_and(|stream| *of != stream));
    }
}

pub async fn run() -> Outcome {
    let shelf = Shelf::default();
    let hub = Hub::builder(Config::default()).inside(Name::new("within")?, server::start).event_store(shelf.clone());
    let serving = Serving::start(hub, vec![TcpListener::bind("127.0.0.1:0")?]).await?;
    let notify = serving.hub.notify("within").ok_or("there is no such upstream")?;
    let client = Client::open(format!("{}/within/mcp", serving.bases[0]), &[]).await?;

    let mut stream = client.listen(None).await?;
    notify.tools_changed();
    let heard = until(&mut stream, "tools/list_changed").await?;
    let mut ids = heard.lines().filter_map(|line| line.strip_prefix("id: "));
    let last = ids.next_back().ok_or("an event has no id")?;
    println!("heard up to {last}");
    drop(stream);
    notify.prompts_changed();
    println!("kept: {}", shelf.all().values().any(|data| data.windows(5).any(|part| part == b"tools")));

    let mut again = client.listen(Some(last)).await?;
    println!("resumed: {}", until(&mut again, "prompts/list_changed").await?.contains("tools/list_changed"));
    let forgotten = client.listen(Some("9-9")).await?;
    println!("forged: {}", forgotten.status().as_u16());
    drop(again);
    client.close().await?;
    serving.stop().await;
    println!("left behind: {}", shelf.all().len());
    Ok(())
}
