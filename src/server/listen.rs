//! `subscriptions/listen` of 2026-07-28.
//!
//! The stream opens with what is honoured, then carries what was asked for, each notice with the listener's own
//! id, until one side ends it (2026-07-28, basic/patterns/subscriptions). The upstream's process may die under it:
//! the stream stays, the new process is subscribed again, and because changes may have been missed, one notice of
//! each kind follows.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{modern, rescue::Refusal, stream};
use crate::{
    bridge::{
        Bridged,
        feed::{KINDS, missed},
    },
    config::Isolation,
    hub::{
        House,
        audience::Wish,
        isolation::{self, offer},
        routes::Route,
        session::{Listen, Session},
    },
    wire::{Id, Message, envelope::SUBSCRIPTION_ID, message, object::Object},
};

/// Notices that may wait for a slow listener.
const NOTICES_MAX: usize = 256;
/// Resources that one listener may name.
const URIS_MAX: usize = 1000;
/// Pause before a dead process is asked for again on behalf of a listener.
const RECONNECT: Duration = Duration::from_millis(500);

/// One open listen stream.
pub struct Listening {
    house: Arc<House>,
    route: Arc<Route>,
    session: Arc<Session>,
    number: u64,
    id: Id,
    notices: mpsc::Receiver<Message>,
    /// To be said first, or again after the upstream was lost.
    ready: Vec<Bytes>,
    methods: Vec<String>,
    uris: BTreeSet<String>,
    bridged: Option<Arc<Bridged>>,
    over: bool,
    _place: stream::Place,
    _busy: crate::hub::session::Busy,
}

/// Opens a listen stream. Dropping it ends it.
pub async fn open(
    house: &Arc<House>,
    route: &Arc<Route>,
    session: &Arc<Session>,
    message: &Message,
) -> Result<Listening, Refusal> {
    let place = stream::Place::find(house, &session.owner)?;
    let params: Value = serde_json::from_str(message.params().unwrap_or("null")).unwrap_or_default();
    let Some(filter) = params["notifications"].as_object() else {
        return Err(Refusal::Envelope("`params.notifications` must be an object".into()));
    };
    let id = message.id().cloned().unwrap_or_else(|| Id::from(0));
    let profile = modern::profile(route, session).await?;
    let capabilities = profile.capabilities(offer(route.isolation()));
    let can = |path: [&str; 2]| capabilities[path[0]][path[1]].as_bool() == Some(true);
    let wanted = |name: &str| filter.get(name).and_then(Value::as_bool) == Some(true);
    let kinds: Vec<_> = KINDS.iter().filter(|(name, path, _)| wanted(name) && can(*path)).collect();
    let named = filter.get("resourceSubscriptions").and_then(Value::as_array);
    let named = named.filter(|_| can(["resources", "subscribe"])).into_iter().flatten();
    let uris: Vec<String> = named.filter_map(|uri| uri.as_str().map(str::to_owned)).take(URIS_MAX).collect();
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    let (to, notices) = mpsc::channel(NOTICES_MAX);
    let methods: Vec<String> = kinds.iter().map(|(_, _, method)| (*method).to_owned()).collect();
    let mut listening = Listening {
        house: house.clone(),
        route: route.clone(),
        session: session.clone(),
        number: NUMBERS.fetch_add(1, Ordering::Relaxed),
        id,
        notices,
        ready: Vec::new(),
        methods: methods.clone(),
        uris: BTreeSet::new(),
        bridged: None,
        over: false,
        _place: place,
        _busy: session.busy(),
    };
    // Before the upstream is told, so that what it is told is undone where the client leaves meanwhile.
    let wishes =
        Listen { number: listening.number, methods: methods.clone(), uris: uris.iter().cloned().collect(), to };
    session.listen(wishes);
    if route.isolation() != Isolation::Call && !(methods.is_empty() && uris.is_empty()) {
        listening.bridged = Some(isolation::seat(route, session).await?.bridged().clone());
        let taken = join_all(uris.iter().map(|uri| listening.subscribe(uri))).await;
        // One that the upstream does not take is left out of the acknowledgement.
        let taken = uris.into_iter().zip(taken).filter(|(_, taken)| *taken).map(|(uri, _)| uri).collect();
        session.listens_to(listening.number, &taken);
        listening.uris = taken;
    }
    let mut honoured: serde_json::Map<String, Value> =
        kinds.iter().map(|(name, ..)| ((*name).to_owned(), true.into())).collect();
    if !listening.uris.is_empty() {
        honoured.insert("resourceSubscriptions".into(), json!(listening.uris));
    }
    let acknowledged = json!({ "notifications": honoured }).to_string();
    let acknowledged = message::notification("notifications/subscriptions/acknowledged", Some(&acknowledged));
    listening.ready.extend(message::one(acknowledged).and_then(|notice| stamped(&listening.id, &notice)));
    Ok(listening)
}

impl Listening {
    /// Subscribes the upstream; the first listener of a shared one does so for all.
    async fn subscribe(&self, uri: &str) -> bool {
        let Some(bridged) = &self.bridged else { return false };
        let apart = bridged.keeps_apart();
        let first = match self.route.isolation() {
            Isolation::Shared => self.route.audience.subscribe(&self.session, uri, true, apart) == Wish::Tell,
            _ => self.session.subscribe(uri, true),
        };
        if !first {
            return true;
        }
        let taken = bridged.subscribe(&self.session.whose(), uri, true).await;
        if !taken {
            self.route.audience.subscribe(&self.session, uri, false, apart);
            self.session.subscribe(uri, false);
        }
        taken
    }

    /// The next message of the stream; none after the last.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.ready.is_empty() {
                return Some(self.ready.remove(0));
            }
            if self.over {
                return None;
            }
            let lost = async {
                match &self.bridged {
                    Some(bridged) => bridged.connection.watch().over().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.house.draining.cancelled() => return self.end(),
                () = self.session.ended.cancelled() => return self.end(),
                notice = self.notices.recv() => {
                    if let Some(bytes) = stamped(&self.id, &notice?) {
                        return Some(bytes);
                    }
                }
                () = lost => self.reconnect().await,
            }
        }
    }

    /// The server's end of a listen is its result.
    fn end(&mut self) -> Option<Bytes> {
        self.over = true;
        let meta = format!(r#"{{"{SUBSCRIPTION_ID}":{}}}"#, self.id);
        Some(message::response(&self.id, &format!(r#"{{"resultType":"complete","_meta":{meta}}}"#)))
    }

    /// Finds the upstream again. Subscriptions come along with the session; what was missed is made up for.
    async fn reconnect(&mut self) {
        self.bridged = None;
        while self.bridged.is_none() {
            tokio::time::sleep(RECONNECT).await;
            if self.house.draining.is_cancelled() || self.session.ended.is_cancelled() {
                return;
            }
            // A reload may have put another route in place of ours, or none.
            let Some(route) = self.house.table.find(self.route.name.as_str()) else {
                let end = self.end();
                return self.ready.extend(end);
            };
            self.route = route;
            let seat = tokio::select! {
                seat = isolation::seat(&self.route, &self.session) => seat,
                () = self.house.draining.cancelled() => return,
                () = self.session.ended.cancelled() => return,
            };
            self.bridged = seat.ok().map(|seat| seat.bridged().clone());
        }
        let missed = missed(self.methods.iter().map(String::as_str), &self.uris);
        self.ready.extend(missed.filter_map(|notice| stamped(&self.id, &notice)));
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut orphans = self.session.unlisten(self.number);
        // It may have gone while its process was being replaced.
        let bridged = self.bridged.take().or_else(|| self.route.serving.connection.load_full());
        let apart = bridged.as_ref().is_some_and(|bridged| bridged.keeps_apart());
        match self.route.isolation() {
            Isolation::Shared => {
                orphans.retain(|uri| self.route.audience.subscribe(&self.session, uri, false, apart) == Wish::Tell)
            }
            _ => orphans.retain(|uri| self.session.subscribe(uri, false)),
        }
        let Some(bridged) = bridged.filter(|_| !orphans.is_empty()) else { return };
        let whose = self.session.whose();
        actix_web::rt::spawn(async move {
            join_all(orphans.iter().map(|uri| bridged.subscribe(&whose, uri, false))).await;
        });
    }
}

/// The notice with the listener's id in its `_meta`.
fn stamped(id: &Id, notice: &Message) -> Option<Bytes> {
    let own = id.as_json();
    let Some(params) = notice.params() else {
        let params = format!(r#"{{"_meta":{{"{SUBSCRIPTION_ID}":{own}}}}}"#);
        return Some(message::notification(notice.method(), Some(&params)));
    };
    let params = Object::read(params)?;
    let meta = match params.get("_meta").and_then(|meta| Object::read(meta.get())) {
        Some(meta) => meta.edit().set(SUBSCRIPTION_ID, own).apply(),
        None => format!(r#"{{"{SUBSCRIPTION_ID}":{own}}}"#),
    };
    Some(notice.with_params(&params.edit().set("_meta", meta).apply()).bytes().clone())
}
