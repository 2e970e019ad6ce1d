//! Calls become JSON or an event stream.
//!
//! The first event decides, or a window that runs out: a lone response becomes plain JSON, anything else opens a
//! stream. Nothing is sent before, so the status stays open until there is something to say. The stream belongs
//! to the session: the client may lose its connection and read on elsewhere (2025-11-25, basic/transports).

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse, Responder,
    http::{StatusCode, header},
};
use actix_web_lab::sse::{Data, Event as SseEvent, Sse};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::{Stream, StreamExt, stream};

use super::{
    door,
    guard::Accepts,
    modern::answer_json,
    rescue::{self, Refusal},
};
use crate::{
    access::{Held, Permit, Principal},
    bridge::{Bridged, ask::judge, content},
    hub::{
        House,
        audience::{Level, level_of},
        dispatch::Calls,
        replay::{Reader, STANDALONE},
        session::{Busy, Session, Transport},
    },
    link::connection::{Attribution, CallError, Event},
    wire::{Message, message},
};

/// How long an answer may still become plain JSON.
const WINDOW: Duration = Duration::from_secs(1);
/// A comment this often keeps a silent stream from being cut by what stands between.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a client that lost a stream should come back.
const RETRY: Duration = Duration::from_secs(1);

/// What an event is on the wire.
enum Said {
    Message(Bytes),
    /// What a slow reader may miss.
    Note(Bytes),
    Final(Bytes),
    Nothing,
}

/// Answers a POST: JSON where the response comes first, else an event stream.
pub async fn answer(
    request: &HttpRequest,
    house: &Arc<House>,
    calls: Calls,
    batch: bool,
    accepts: Accepts,
) -> HttpResponse {
    let mut calls = KeepOn(Some(calls));
    let window = tokio::time::sleep(WINDOW);
    tokio::pin!(window);
    let (mut finals, mut first) = (Vec::new(), None);
    while let Some(waiting) = calls.0.as_mut() {
        let event = tokio::select! {
            biased;
            event = waiting.next() => event,
            // Without events in Accept the answer has to be JSON, however late.
            () = &mut window, if accepts.events => break,
        };
        let Some(event) = event else {
            return match finals.is_empty() {
                // Cancelled: there is nothing to answer (2025-11-25, basic/utilities/cancellation).
                true => HttpResponse::Accepted().finish(),
                false => answer_json(join(finals, batch), StatusCode::OK),
            };
        };
        // Nothing has begun: the status can still say what proxies should see too.
        let shed = matches!(event, Event::Failed { error: CallError::Overloaded { .. }, .. }) && !batch;
        match render(waiting, event, accepts.events) {
            Said::Final(bytes) if shed => return answer_json(bytes, StatusCode::SERVICE_UNAVAILABLE),
            Said::Final(bytes) if accepts.json => finals.push(bytes),
            Said::Nothing => {}
            said if accepts.events => {
                first = Some(said);
                break;
            }
            _ => {}
        }
        if !batch && finals.len() == 1 {
            return answer_json(join(finals, batch), StatusCode::OK);
        }
    }
    let Some(calls) = calls.0.take() else { return HttpResponse::Accepted().finish() };
    let session = calls.session().clone();
    let primes = session.revision().primes();
    let (stream, reader) = session.streams(|streams| streams.open(primes));
    let early = finals.into_iter().map(Said::Final).chain(first);
    for said in early {
        put(&session, stream, said);
    }
    actix_web::rt::spawn(pump(calls, stream));
    // Of the calls, which are counted: it takes no place among the streams that somebody opens.
    events(request, Place::take(house, None), reader, session.busy(), None)
}

/// The calls go on when the client leaves: a lost connection is no cancellation (2025-11-25, basic/transports).
struct KeepOn(Option<Calls>);

impl Drop for KeepOn {
    fn drop(&mut self) {
        if let Some(mut calls) = self.0.take().filter(Calls::is_under_way) {
            actix_web::rt::spawn(async move {
                while let Some(event) = calls.next().await {
                    // Nobody is left who could be asked.
                    render(&mut calls, event, false);
                }
            });
        }
    }
}

/// Moves what calls yield onto a stream of their session, until the last one is answered.
pub async fn pump(mut calls: Calls, stream: u64) {
    let session = calls.session().clone();
    let _end = Finish(session.clone(), stream);
    while let Some(event) = calls.next().await {
        let said = render(&mut calls, event, true);
        put(&session, stream, said);
    }
}

/// A stream ends with what fills it, however that ends.
struct Finish(Arc<Session>, u64);

impl Drop for Finish {
    fn drop(&mut self) {
        if self.1 != STANDALONE {
            self.0.streams(|streams| streams.finish(self.1));
        }
    }
}

fn put(session: &Session, stream: u64, said: Said) {
    match said {
        Said::Message(bytes) | Said::Final(bytes) => session.streams(|streams| streams.push(stream, bytes)),
        Said::Note(bytes) => session.streams(|streams| streams.offer(stream, bytes)),
        Said::Nothing => {}
    }
}

/// Puts an event into the client's words. `listening`: it can be asked something.
fn render(calls: &mut Calls, event: Event, listening: bool) -> Said {
    let session = calls.session().clone();
    match event {
        Event::Progress(bytes) => Said::Note(bytes),
        Event::Log(log) => {
            let least = calls.bridged().map_or(Level::Debug, |bridged| least_level(&session, bridged));
            match level_of(&log) {
                Some(level) if level < least => Said::Nothing,
                _ => Said::Note(log.bytes().clone()),
            }
        }
        Event::Ask(ask) => {
            let Some(bridged) = calls.bridged().cloned() else { return Said::Nothing };
            let verdict = match listening {
                true => judge(&ask.message, session.abilities()).and_then(|()| in_words_of(&session, ask.message)),
                false => Err((message::INTERNAL_ERROR, "the client cannot be reached")),
            };
            match verdict {
                Ok(question) => {
                    let id = session.asked(&bridged, ask.number);
                    Said::Message(question.with_id(&id, None))
                }
                Err((code, why)) => {
                    bridged.connection.refuse(ask.number, code, why);
                    Said::Nothing
                }
            }
        }
        Event::Withdrawn { ask } => {
            let id = calls.bridged().and_then(|bridged| session.unask(bridged, ask));
            id.map_or(Said::Nothing, |id| Said::Message(message::cancelled(&id, "the server needs no answer any more")))
        }
        Event::Notice(_) => Said::Nothing,
        Event::Response(bytes) => Said::Final(bytes),
        Event::Failed { id, error } => Said::Final(rescue::failed(&id, calls.route().name.as_str(), &error)),
    }
}

/// A question as the client's revision has it.
fn in_words_of(session: &Session, question: Message) -> Result<Message, (i32, &'static str)> {
    let Some(params) = question.params() else { return Ok(question) };
    match content::question(question.method(), params, session.revision()) {
        Ok(None) => Ok(question),
        Ok(Some(params)) => Ok(question.with_params(&params)),
        Err(why) => Err((message::INVALID_PARAMS, why)),
    }
}

/// The least severe log message this session gets of this connection.
fn least_level(session: &Session, bridged: &Arc<Bridged>) -> Level {
    match bridged.connection.attribution() {
        // The level was set on its own process.
        Attribution::OneClient => Level::Debug,
        Attribution::Strangers | Attribution::Streams => session.level().unwrap_or(Level::UNASKED),
    }
}

fn join(finals: Vec<Bytes>, batch: bool) -> Bytes {
    match (batch, finals.into_iter().collect::<Vec<_>>()) {
        (false, mut one) => one.pop().unwrap_or_default(),
        (true, all) => [b"[".as_slice(), &all.join(&b','), b"]"].concat().into(),
    }
}

/// An event stream that the client reads until it ends or the client leaves. When the hub shuts down, sessions end it.
///
/// `endpoint` opens the stream of 2024-11-05.
pub fn events(
    request: &HttpRequest,
    place: Place,
    reader: Reader,
    busy: Busy,
    endpoint: Option<String>,
) -> HttpResponse {
    let revised = busy.session().transport == Transport::Streamable;
    let retry = revised && busy.session().revision().primes();
    let counted = Counted { _place: place, busy };
    let first = endpoint.map(|path| SseEvent::Data(Data::new(path).event("endpoint")));
    let rest = stream::unfold((reader, counted), |(mut reader, counted)| async move {
        let sent = reader.recv().await?;
        // Checked when it came; without a copy.
        let mut data = Data::new(ByteString::try_from(sent.data).unwrap_or_default());
        match sent.id {
            Some(id) => data.set_id(id.to_string()),
            None => data.set_event("message"),
        }
        Some((SseEvent::Data(data), (reader, counted)))
    });
    let mut sse = Sse::from_infallible_stream(stream::iter(first).chain(rest)).with_keep_alive(KEEP_ALIVE);
    if retry {
        sse = sse.with_retry_duration(RETRY);
    }
    respond(request, sse)
}

/// An event stream of plain messages, which nobody can resume: it lives and dies with its request.
pub fn messages(request: &HttpRequest, messages: impl Stream<Item = Bytes> + 'static) -> HttpResponse {
    named(request, messages.map(|bytes| ("message", bytes)))
}

/// An event stream of the hub's own, each event with its name.
pub fn named(request: &HttpRequest, events: impl Stream<Item = (&'static str, Bytes)> + 'static) -> HttpResponse {
    let events = events.map(|(name, bytes)| {
        let data = Data::new(ByteString::try_from(bytes).unwrap_or_default());
        SseEvent::Data(data.event(name))
    });
    respond(request, Sse::from_infallible_stream(events).with_keep_alive(KEEP_ALIVE))
}

/// Neither a cache nor a buffer may hold a stream up.
fn respond(request: &HttpRequest, sse: impl Responder) -> HttpResponse {
    sse.customize()
        .insert_header(("X-Accel-Buffering", "no"))
        .insert_header((header::CACHE_CONTROL, "no-cache, no-transform"))
        .respond_to(request)
        .map_into_boxed_body()
}

/// An open stream counts against the hub's maximum.
pub struct Place {
    house: Arc<House>,
    /// And against that of whoever opened it.
    _permit: Option<Permit>,
}

impl Place {
    /// One more, if there is room.
    pub fn find(house: &Arc<House>, principal: &Principal) -> Result<Place, Refusal> {
        if house.draining.is_cancelled() {
            return Err(Refusal::Draining);
        }
        match house.engine.streams.load(Ordering::Relaxed) >= house.engine.limits.load().streams_max {
            true => Err(Refusal::Full("streams_max streams", "close one")),
            false => Ok(Place::take(house, door::hold(house, principal, Held::Streams)?)),
        }
    }

    fn take(house: &Arc<House>, permit: Option<Permit>) -> Place {
        house.engine.streams.fetch_add(1, Ordering::Relaxed);
        Place { house: house.clone(), _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.house.engine.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream of a session keeps it from being idle.
struct Counted {
    _place: Place,
    busy: Busy,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let session = self.busy.session();
        // The end of its stream is the end of a session of 2024-11-05.
        if session.transport == Transport::Sse {
            session.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, path::Path, pin::Pin};

    use actix_web::{body::MessageBody, test::TestRequest};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn p22_a_comment_keeps_each_kind_of_stream_open() {
        let parsed = crate::config::parse("[upstreams.x]\ncommand = 'x'\n", Path::new("/"), &|_| None);
        let (config, _) = parsed.unwrap_or_else(|errors| panic!("{errors:?}"));
        let house = House::new(&config);
        let request = TestRequest::default().to_http_request();
        for transport in [Transport::Streamable, Transport::Sse] {
            let session = Session::new(transport, Default::default(), 10, 1000).expect("random numbers");
            let (_, posted) = session.streams(|streams| streams.open(false));
            let standalone = session.streams(|streams| streams.attach(false)).expect("nobody reads it");
            for reader in [posted, standalone] {
                let mut body = events(&request, Place::take(&house, None), reader, session.busy(), None).into_body();
                let mut last = None;
                for _ in 0..4 {
                    let chunk = poll_fn(|context| Pin::new(&mut body).poll_next(context)).await;
                    assert_eq!(chunk.expect("no end").expect("no error"), ": keep-alive\n\n".as_bytes());
                    let now = tokio::time::Instant::now();
                    assert!(last.replace(now).is_none_or(|last| now - last == KEEP_ALIVE));
                }
            }
        }
    }
}
