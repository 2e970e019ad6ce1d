//! The probes: everything that is seen of a server, in the order in which a client meets it.
//!
//! Each is bounded in time. Where one fails, those that need it are left out; a certificate that is not believed stops
//! nothing, so that what else is wrong is seen at once.

mod access;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use url::Url;

use super::{
    judge::PROMPT,
    seen::{Answer, Challenge, Greeted, Seen, Stream},
    tls,
};
use crate::{
    auth::challenge,
    cli::ask::{self, Target, plain},
    link::remote::{
        HttpSpec,
        probe::{Heard, Prober, Question},
    },
    wire::{
        Revision,
        envelope::{CLIENT_CAPABILITIES, CLIENT_INFO, PROTOCOL_VERSION},
        revision::MODERN,
    },
};

/// The longest wait for one thing.
const WITHIN: Duration = Duration::from_secs(10);
/// How long the first byte of a stream is waited for: hubs and SDKs write one at once, or not at all.
const WATCH: Duration = Duration::from_secs(4);
/// How much of a body is read, and of that, told.
const BODY_BYTES_MAX: usize = 256 << 10;
const EXCERPT_CHARS: usize = 200;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// A name and an origin that nobody has (RFC 2606).
const NOBODY: &str = "doctor.invalid";
const BOTH: (&str, &str) = ("accept", "application/json, text/event-stream");

/// One server, and how it is asked.
pub struct Patient {
    pub url: Url,
    /// With what each request is sent, and how the certificate is looked at.
    pub target: Target,
    pub http: HttpSpec,
    /// Pages that are meant to call it.
    pub origins: Vec<String>,
}

pub async fn look(patient: &Patient) -> Seen {
    let url = &patient.url;
    let remote = patient.target.config.remote.as_ref();
    let mut seen = Seen {
        url: url.to_string(),
        secure: url.scheme() == "https",
        host: url.host_str().unwrap_or_default().to_owned(),
        port: url.port_or_known_default().unwrap_or_default(),
        path: url.path().to_owned(),
        now: Some(SystemTime::now()),
        credentialed: remote.is_some_and(|remote| {
            ["authorization", "x-api-key", "cookie"].iter().any(|name| remote.headers.contains_key(*name))
        }),
        ..Seen::default()
    };
    let Some(address) = reach(&mut seen).await else { return seen };
    if seen.secure {
        let host = seen.host.clone();
        let shown = tokio::task::spawn_blocking(move || tls::look(&host, address, WITHIN)).await;
        seen.shown = Some(shown.unwrap_or_else(|error| Err(error.to_string())));
        if matches!(seen.shown, Some(Err(_))) {
            return seen;
        }
    }
    match Probes::new(patient) {
        Ok(mut probes) => probes.run(&mut seen, patient).await,
        Err(why) => seen.answer = Some(Err(why)),
    }
    seen
}

/// Its addresses, and the first that takes a connection.
async fn reach(seen: &mut Seen) -> Option<SocketAddr> {
    let host = seen.host.trim_matches(['[', ']']).to_owned();
    let looked = tokio::time::timeout(WITHIN, tokio::net::lookup_host((host, seen.port))).await;
    let found: Vec<SocketAddr> = match looked {
        Err(_) => return none(&mut seen.addresses, "the name server does not answer"),
        Ok(Err(error)) => return none(&mut seen.addresses, &error.to_string()),
        Ok(Ok(all)) => all.take(ADDRESSES_MAX).collect(),
    };
    let mut addresses: Vec<IpAddr> = found.iter().map(SocketAddr::ip).collect();
    addresses.dedup();
    seen.addresses = Some(Ok(addresses));
    let (began, mut why) = (Instant::now(), "no address".to_owned());
    for address in found {
        match tokio::time::timeout(WITHIN / 2, tokio::net::TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                seen.connected = Some(Ok(began.elapsed()));
                return Some(address);
            }
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = "no answer".into(),
        }
    }
    none(&mut seen.connected, &why)
}

fn none<T, N>(place: &mut Option<Result<T, String>>, why: &str) -> Option<N> {
    *place = Some(Err(why.to_owned()));
    None
}

/// The requests, each with the headers that were given to us.
struct Probes {
    prober: Prober,
    headers: Vec<(String, String)>,
    url: String,
}

impl Probes {
    fn new(patient: &Patient) -> Result<Probes, String> {
        let remote = patient.target.config.remote.iter();
        let headers = remote.flat_map(|remote| &remote.headers);
        Ok(Probes {
            prober: Prober::new(&patient.http, None)?.with(patient.target.credentials.clone()),
            headers: headers.map(|(name, text)| (name.clone(), text.expose().to_owned())).collect(),
            url: patient.url.to_string(),
        })
    }

    async fn ask(&self, method: &str, url: &str, more: &[(&str, &str)], body: Option<Value>) -> Result<Heard, String> {
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let headers: Vec<(&str, &str)> = own.chain(more.iter().copied()).collect();
        let body = body.map(|body| body.to_string());
        self.prober.ask(&Question { method, url, headers: &headers, body }, WITHIN).await
    }

    async fn run(&mut self, seen: &mut Seen, patient: &Patient) {
        let session = match self.initialize(seen).await {
            // Only the certificate may be in the way. What else is wrong is looked at all the same.
            Err(why) if seen.secure && !patient.http.unverified => {
                seen.trusted = Some(Err(why));
                let spec = HttpSpec { unverified: true, ..patient.http.clone() };
                let Ok(prober) = Prober::new(&spec, None) else { return };
                self.prober = prober.with(patient.target.credentials.clone());
                self.initialize(seen).await
            }
            other => {
                seen.trusted = seen.secure.then_some(Ok(()));
                other
            }
        };
        let session = match session {
            Ok(session) => session,
            Err(why) => return seen.answer = Some(Err(why)),
        };
        let base = patient.url.origin().ascii_serialization();
        seen.hub = matches!(self.text("GET", &format!("{base}/ping"), &[]).await, Some((200, word)) if word == "pong");
        let status = seen.answer.as_ref().and_then(|answer| answer.as_ref().ok()).map(|answer| answer.status);
        seen.credentialed |= status != Some(401) && self.is_closed().await;
        seen.older = matches!(status, Some(400 | 404 | 405 | 406)) && self.opens_older().await;
        self.strangers(seen, &base, patient).await;
        seen.metadata = self.metadata(&base, &seen.path).await;
        if let Some(session) = session {
            seen.stream = Some(self.stream(&session).await);
            self.leave(&session).await;
        }
        if status != Some(401) {
            seen.modern = self.discover().await;
        }
        let believed = !matches!(seen.trusted, Some(Err(_)));
        let met = seen.older || seen.modern.is_some() || seen.legacy.is_some();
        if believed && met {
            let greeted = ask::greet(&patient.target).await;
            seen.greeted =
                Some(greeted.map_err(|stop| plain::line(&stop.text)).map(|(name, revision, tools)| Greeted {
                    name: plain::line(&name),
                    revision,
                    tools,
                }));
        }
    }

    /// Is somebody who shows nothing turned away? Then what let us in was a login that is kept.
    async fn is_closed(&self) -> bool {
        let body = Some(request("ping", json!({})).to_string());
        let question = Question { method: "POST", url: &self.url, headers: &[BOTH], body };
        self.prober.bare().ask(&question, WITHIN).await.is_ok_and(|heard| heard.status == 401)
    }

    /// The session that is opened, if one is.
    async fn initialize(&self, seen: &mut Seen) -> Result<Option<String>, String> {
        let params =
            json!({ "protocolVersion": Revision::LATEST.as_str(), "capabilities": {}, "clientInfo": ourselves() });
        let began = Instant::now();
        let heard = self.ask("POST", &self.url, &[BOTH], Some(request("initialize", params))).await?;
        let after = began.elapsed();
        let session = heard.header("mcp-session-id").map(str::to_owned);
        let challenges = heard.headers.iter().filter(|(name, _)| name == "www-authenticate");
        let challenges = challenges.flat_map(|(_, value)| challenge::parse(value)).map(|challenge| Challenge {
            scheme: challenge.scheme.clone(),
            metadata: challenge.get("resource_metadata").map(str::to_owned),
            error: challenge.get("error").map(str::to_owned),
        });
        let mut answer = Answer {
            status: heard.status,
            version: heard.version,
            after,
            location: heard.header("location").map(plain::line),
            challenges: challenges.collect(),
            ..Answer::default()
        };
        let text = body(heard).await;
        let response = message(&text);
        answer.is_mcp = answer.status < 300 && response.is_some();
        answer.text = excerpt(&text);
        let settled = response.as_ref().and_then(|response| response["result"]["protocolVersion"].as_str());
        seen.legacy = settled.filter(|_| answer.is_mcp).map(plain::line);
        seen.answer = Some(Ok(answer));
        Ok(session.filter(|_| seen.legacy.is_some()).or_else(|| seen.legacy.as_ref().map(|_| String::new())))
    }

    /// Does a GET open the stream of HTTP+SSE?
    async fn opens_older(&self) -> bool {
        let Ok(heard) = self.ask("GET", &self.url, &[("accept", "text/event-stream")], None).await else {
            return false;
        };
        let first = |text: &[u8]| text.windows(2).any(|two| two == b"\n\n");
        heard.status == 200
            && String::from_utf8_lossy(&heard.body(BODY_BYTES_MAX, WATCH, first).await).contains("event: endpoint")
    }

    /// Opens the stream of a session, and waits for its first byte.
    async fn stream(&self, session: &str) -> Stream {
        let settled = Revision::LATEST.as_str();
        let headers = [("accept", "text/event-stream"), ("mcp-session-id", session), ("mcp-protocol-version", settled)];
        let headers = if session.is_empty() { &headers[..1] } else { &headers[..] };
        let began = Instant::now();
        let heard = match tokio::time::timeout(WATCH, self.ask("GET", &self.url, headers, None)).await {
            Ok(Ok(heard)) => heard,
            Ok(Err(_)) | Err(_) => return Stream::Nothing(WATCH),
        };
        let head = began.elapsed();
        if heard.status != 200 {
            return Stream::None(heard.status);
        }
        let some = heard.body(BODY_BYTES_MAX, WATCH, |_| true).await;
        let first = (!some.is_empty()).then(|| began.elapsed());
        Stream::Open { head, first, watched: head.max(PROMPT) + WATCH }
    }

    async fn leave(&self, session: &str) {
        if !session.is_empty() {
            let headers = [("mcp-session-id", session), ("mcp-protocol-version", Revision::LATEST.as_str())];
            let _ = self.ask("DELETE", &self.url, &headers, None).await;
        }
    }

    /// The revisions of a newer server.
    async fn discover(&self) -> Option<Vec<String>> {
        let meta = json!({ PROTOCOL_VERSION: MODERN, CLIENT_INFO: ourselves(), CLIENT_CAPABILITIES: {} });
        let headers = [BOTH, ("mcp-protocol-version", MODERN), ("mcp-method", "server/discover")];
        let body_ = request("server/discover", json!({ "_meta": meta }));
        let heard = self.ask("POST", &self.url, &headers, Some(body_)).await.ok()?;
        let response = message(&body(heard).await)?;
        let all = response["result"]["supportedVersions"].as_array()?;
        Some(all.iter().filter_map(|one| one.as_str().map(plain::line)).collect())
    }

    async fn text(&self, method: &str, url: &str, headers: &[(&str, &str)]) -> Option<(u16, String)> {
        let heard = self.ask(method, url, headers, None).await.ok()?;
        Some((heard.status, body(heard).await))
    }
}

fn ourselves() -> Value {
    json!({ "name": "hubward-doctor", "version": env!("CARGO_PKG_VERSION") })
}

fn request(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

/// The body of an answer; of a stream, all up to the response.
async fn body(heard: Heard) -> String {
    let stream = heard.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
    let enough = move |text: &[u8]| stream && message(&String::from_utf8_lossy(text)).is_some();
    String::from_utf8_lossy(&heard.body(BODY_BYTES_MAX, WITHIN, enough).await).into_owned()
}

/// The response in it, alone or as an event.
fn message(text: &str) -> Option<Value> {
    let is_response =
        |value: &Value| value["jsonrpc"] == "2.0" && value.get("id").is_some() && value.get("method").is_none();
    let whole = serde_json::from_str(text).ok().filter(is_response);
    let events = || text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?).ok());
    whole.or_else(|| events().find(is_response))
}

fn excerpt(text: &str) -> String {
    let response = message(text).and_then(|response| response["error"]["message"].as_str().map(str::to_owned));
    let line = plain::line(&response.unwrap_or_else(|| text.to_owned()));
    line.chars().take(EXCERPT_CHARS).collect()
}
