//! HTTP+SSE of 2024-11-05 towards a peer: one stream for all it says, one address for all we say.
//!
//! The stream is the session: where it ends, so does the link, and all that is under way with it.

use std::time::Duration;

use reqwest::{
    Method,
    header::{ACCEPT, HeaderMap},
};
use url::Url;

use super::{
    Endpoint, Transport,
    events::{Events, Position},
    exchange::{EVENTS, kind_of},
    http::{Failure, shown},
};

/// Longest wait for the event that names the address.
const ADDRESS_MAX: Duration = Duration::from_secs(15);

/// Opens the stream, up to the event that names the address of our messages.
pub(super) async fn open(endpoint: &Endpoint) -> Result<Events, Failure> {
    let headers = HeaderMap::from_iter([(ACCEPT, EVENTS)]);
    let response = endpoint.send(Method::GET, None, headers, None).await?;
    let (status, head) = (response.status(), response.headers().clone());
    if !status.is_success() {
        let page = endpoint.body(response).await.unwrap_or_default();
        return Err(Endpoint::refusal(status, &head, &page));
    }
    if kind_of(&head) != Some("text/event-stream") {
        return Err(Failure::Odd("answered with no event stream; is the URL right?".into()));
    }
    let mut events = endpoint.events(response);
    let named = async {
        loop {
            match events.next(&mut Position::default()).await {
                Ok(event) if event.kind == "endpoint" => return Ok(event.data),
                Ok(_) => {}
                Err(_) => return Err(Failure::Odd("closed its event stream before it named an endpoint".into())),
            }
        }
    };
    let named = tokio::time::timeout(ADDRESS_MAX, named).await;
    let named = named.unwrap_or_else(|_| Err(Failure::Odd(format!("named no endpoint within {ADDRESS_MAX:?}"))))?;
    let address = address(&endpoint.url(), &named).map_err(Failure::Odd)?;
    let _ = endpoint.mailbox.set(address);
    let _ = endpoint.control.transport.set(Transport::Sse);
    Ok(events)
}

/// Reads the stream to its end, which is the link's.
pub(super) async fn read(endpoint: &Endpoint, mut events: Events) {
    let mut position = Position::default();
    loop {
        match events.next(&mut position).await {
            Ok(event) if event.kind == "message" => endpoint.hear_unasked(event.data.into()).await,
            Ok(_) => {}
            Err(_) => return endpoint.end("closed its event stream".into()),
        }
    }
}

/// Where our messages go: on the stream's own origin, or our credentials would go astray.
fn address(stream: &Url, named: &str) -> Result<Url, String> {
    let url = stream.join(named.trim()).map_err(|error| format!("named an endpoint that is no URL ({error})"))?;
    match url.origin() == stream.origin() {
        true => Ok(url),
        false => Err(format!("named an endpoint on another origin, {}", shown(&url))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f121_the_address_is_on_the_streams_own_origin() {
        let stream: Url = "https://a.example/x/sse?k=1".parse().expect("a URL");
        let check = |named: &str, expected: Option<&str>| {
            let found = address(&stream, named).ok().map(|url| url.to_string());
            assert_eq!(found.as_deref(), expected, "{named}");
        };
        check("/messages?sessionId=1", Some("https://a.example/messages?sessionId=1"));
        check("messages?s=1", Some("https://a.example/x/messages?s=1"));
        check("?s=1", Some("https://a.example/x/sse?s=1"));
        check("https://a.example:443/m", Some("https://a.example/m"));
        for bad in ["https://b.example/m", "http://a.example/m", "//b.example/m", "https://a.example:444/m", "data:x"] {
            check(bad, None);
        }
    }
}
