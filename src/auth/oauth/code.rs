//! The authorization code: the page that a person visits, and the small listener that the browser comes back to.

use std::{io, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{StreamExt, stream::FuturesUnordered};
use reqwest::Url;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    discovery::Issuer,
    http::{Fault, shown},
    settings::Settings,
};

/// The largest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long a browser may take to send one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The most connections at a time. Browsers open some that they never use.
const CONNECTIONS_MAX: usize = 16;

/// Random bytes as text for URLs.
#[must_use]
pub fn random(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    // Fails only where the system has no randomness at all; an empty text is then refused by whoever reads it.
    match getrandom::fill(&mut random) {
        Ok(()) => URL_SAFE_NO_PAD.encode(random),
        Err(_) => String::new(),
    }
}

/// The challenge of a verifier (RFC 7636, S256).
#[must_use]
pub fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

/// What stands in the URL of a login.
#[derive(Debug)]
pub struct Visit<'a> {
    pub client_id: &'a str,
    pub redirect: &'a str,
    pub state: &'a str,
    pub verifier: &'a str,
    pub scopes: &'a [String],
    pub resource: &'a str,
}

/// The URL that a person visits.
pub fn visit(issuer: &Issuer, visit: &Visit<'_>) -> Result<Url, Fault> {
    let Some(endpoint) = &issuer.authorization else {
        return Err(Fault::wrong(format!("{} has no page to log in at", shown(&issuer.name))));
    };
    if !issuer.s256 {
        return Err(Fault::wrong(format!(
            "{} does not say that it supports PKCE with S256, which protects the login: refused",
            shown(&issuer.name)
        )));
    }
    let mut url = endpoint.clone();
    let scope = visit.scopes.join(" ");
    let mut query = url.query_pairs_mut();
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", visit.client_id)
        .append_pair("redirect_uri", visit.redirect)
        .append_pair("state", visit.state)
        .append_pair("code_challenge", &challenge(visit.verifier))
        .append_pair("code_challenge_method", "S256")
        .append_pair("resource", visit.resource);
    if !scope.is_empty() {
        query.append_pair("scope", &scope);
    }
    if visit.scopes.iter().any(|scope| scope == "offline_access") {
        // OpenID grants it only where the person was asked.
        query.append_pair("prompt", "consent");
    }
    drop(query);
    Ok(url)
}

/// What the browser brought back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub code: Option<String>,
    pub issuer: Option<String>,
    pub error: Option<String>,
    pub text: Option<String>,
}

/// The code of a reply, if it comes from the issuer that was asked (RFC 9207): compared letter by letter, and before
/// anything that it says is believed or shown.
pub fn judge(reply: Reply, issuer: &Issuer) -> Result<String, Fault> {
    match &reply.issuer {
        Some(named) if *named != issuer.name => {
            return Err(Fault::wrong("the answer to the login comes from another authorization server: refused"));
        }
        None if issuer.names_itself => {
            return Err(Fault::wrong("the answer to the login does not name the authorization server: refused"));
        }
        _ => {}
    }
    match (reply.error, reply.code) {
        (Some(error), _) => Err(Fault::Refused { code: shown(&error), text: reply.text.as_deref().map(shown) }),
        (None, Some(code)) if !code.is_empty() => Ok(code),
        _ => Err(Fault::wrong("the answer to the login holds no code")),
    }
}

/// Listens for the browser, on this machine only.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    path: String,
    /// Where the browser is sent back to.
    pub redirect: String,
}

impl Listener {
    /// On the configured port, else on that of an earlier login if it is free, else on any.
    pub async fn bind(settings: &Settings, before: Option<&str>) -> Result<Listener, Fault> {
        let host = settings.callback_host.as_str();
        let bound = match settings.callback_port {
            0 => {
                let before = before.and_then(|text| Url::parse(text).ok()).and_then(|url| url.port());
                match bind(host, before.unwrap_or(0)).await {
                    Err(_) if before.is_some() => bind(host, 0).await,
                    bound => bound,
                }
            }
            port => bind(host, port).await,
        };
        let port = settings.callback_port;
        let listener = bound
            .map_err(|error| Fault::wrong(format!("nothing can listen for the browser at {host}:{port}: {error}")))?;
        let address = listener.local_addr().map_err(|error| Fault::wrong(error.to_string()))?;
        if !address.ip().is_loopback() {
            return Err(Fault::wrong(format!("the browser has to come back to this machine, and {host} is elsewhere")));
        }
        let path = settings.callback_path.clone();
        let host = if host.contains(':') { format!("[{}]", host.trim_matches(['[', ']'])) } else { host.to_owned() };
        let redirect = format!("http://{host}:{}{path}", address.port());
        Ok(Listener { listener, path, redirect })
    }

    /// Waits for the one request that knows the state. Everything else is turned away, and changes nothing.
    pub async fn reply(&self, state: &str) -> Reply {
        let mut talks = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if talks.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => talks.push(talk(stream, &self.path, state)),
                    // Out of descriptors, or a connection that is gone again: others may come.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                },
                Some(talked) = talks.next() => if let Ok(Some(reply)) = talked {
                    return reply;
                },
            }
        }
    }
}

async fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((host.trim_matches(['[', ']']), port)).await
}

/// One connection of a browser.
async fn talk(mut stream: TcpStream, path: &str, state: &str) -> io::Result<Option<Reply>> {
    let mut head = Vec::new();
    let read = async {
        let mut chunk = [0; 2048];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
            match stream.read(&mut chunk).await? {
                0 => break,
                count => head.extend_from_slice(&chunk[..count]),
            }
        }
        io::Result::Ok(())
    };
    tokio::time::timeout(HEAD_TIMEOUT, read).await.map_err(io::Error::from)??;
    let line = String::from_utf8_lossy(&head);
    let (status, page, reply) = match read_target(line.lines().next().unwrap_or_default(), path, state) {
        Target::Reply(reply) if reply.error.is_some() => ("200 OK", "The login was refused.", Some(reply)),
        Target::Reply(reply) => ("200 OK", "hubward has the answer. This window can be closed.", Some(reply)),
        Target::Stale => ("400 Bad Request", "This login is over, or was another one.", None),
        Target::Elsewhere => ("404 Not Found", "There is nothing here.", None),
    };
    let page = format!("<!doctype html><meta charset=utf-8><title>hubward</title><p>{page}");
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nContent-Security-Policy: default-src 'none'\r\n\r\n{page}",
        page.len()
    );
    // The reply counts, whether or not the browser stays for the page.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    Ok(reply)
}

/// What a request to the listener is.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    Reply(Reply),
    /// Right place, wrong state.
    Stale,
    Elsewhere,
}

/// Reads the first line of a request to the listener, which is at `path` and waits for `state`.
pub fn read_target(line: &str, path: &str, state: &str) -> Target {
    let mut words = line.split(' ');
    let (Some("GET"), Some(target)) = (words.next(), words.next()) else { return Target::Elsewhere };
    let (at, query) = target.split_once('?').unwrap_or((target, ""));
    if at != path {
        return Target::Elsewhere;
    }
    let mut reply = Reply::default();
    let mut told = None;
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let place = match &*key {
            "code" => &mut reply.code,
            "iss" => &mut reply.issuer,
            "error" => &mut reply.error,
            "error_description" => &mut reply.text,
            "state" => &mut told,
            _ => continue,
        };
        *place = Some(value.into_owned());
    }
    match told.is_some_and(|told| !state.is_empty() && told == state) {
        true => Target::Reply(reply),
        false => Target::Stale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p64_the_four_rows_of_iss() {
        let issuer = |names_itself| Issuer { name: "https://as.example".into(), names_itself, ..Issuer::default() };
        let reply =
            |iss: Option<&str>| Reply { code: Some("c".into()), issuer: iss.map(str::to_owned), ..Reply::default() };
        for (advertised, iss, good) in [
            (true, Some("https://as.example"), true),
            (true, None, false),
            (false, Some("https://as.example"), true),
            (false, None, true),
            (true, Some("https://evil.example"), false),
            (false, Some("https://evil.example"), false),
            // No normalisation of any kind.
            (true, Some("https://as.example/"), false),
            (true, Some("https://AS.example"), false),
            (true, Some("https://as.example:443"), false),
            (true, Some(""), false),
        ] {
            assert_eq!(judge(reply(iss), &issuer(advertised)).is_ok(), good, "{advertised} {iss:?}");
        }
        // An error of a stranger is not shown.
        let stranger =
            Reply { error: Some("visit evil".into()), issuer: Some("https://evil".into()), ..Reply::default() };
        assert!(!judge(stranger, &issuer(false)).unwrap_err().to_string().contains("visit"));
        let denied = Reply { error: Some("access_denied".into()), ..Reply::default() };
        assert!(judge(denied, &issuer(false)).unwrap_err().is("access_denied"));
    }

    #[test]
    fn t10_only_the_exact_path_with_the_state_counts() {
        let read = |line: &str| read_target(line, "/callback", "s");
        let expected = Reply { code: Some("a b".into()), issuer: Some("https://as".into()), ..Reply::default() };
        assert_eq!(read("GET /callback?code=a+b&state=s&iss=https%3A%2F%2Fas HTTP/1.1"), Target::Reply(expected));
        for stale in
            ["GET /callback HTTP/1.1", "GET /callback?code=a HTTP/1.1", "GET /callback?code=a&state=t HTTP/1.1"]
        {
            assert_eq!(read(stale), Target::Stale, "{stale}");
        }
        for elsewhere in [
            "",
            "GET",
            "POST /callback?state=s HTTP/1.1",
            "GET /favicon.ico HTTP/1.1",
            "GET /callback/?state=s HTTP/1.1",
        ] {
            assert_eq!(read(elsewhere), Target::Elsewhere, "{elsewhere}");
        }
        assert_eq!(read_target("GET /callback?state= HTTP/1.1", "/callback", ""), Target::Stale);
    }

    #[test]
    fn p65_the_page_is_asked_for_with_pkce_and_resource() {
        let mut issuer = Issuer {
            authorization: Some("https://as.example/authorize?tenant=1".parse().unwrap()),
            s256: true,
            ..Issuer::default()
        };
        let about = Visit {
            client_id: "c",
            redirect: "http://127.0.0.1:1/callback",
            state: "s",
            // The example of RFC 7636.
            verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            scopes: &["a".into(), "b".into()],
            resource: "https://mcp.example/mcp",
        };
        assert_eq!(
            visit(&issuer, &about).unwrap().as_str(),
            "https://as.example/authorize?tenant=1&response_type=code&client_id=c\
             &redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fcallback&state=s\
             &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256\
             &resource=https%3A%2F%2Fmcp.example%2Fmcp&scope=a+b"
        );
        assert!(!visit(&issuer, &Visit { scopes: &[], ..about }).unwrap().as_str().contains("scope="));
        issuer.s256 = false;
        let about = Visit { client_id: "c", redirect: "", state: "s", verifier: "v", scopes: &[], resource: "" };
        assert!(visit(&issuer, &about).is_err());
    }

    #[test]
    fn random_texts_differ() {
        assert_ne!(random(32), random(32));
        assert_eq!(random(32).len(), 43);
    }
}
