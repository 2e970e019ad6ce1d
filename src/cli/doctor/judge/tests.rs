//! What is seen, and what has to be said of it: a row each.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::cli::doctor::seen::{Challenge, Greeted, Page};

const NOW: i64 = 1_800_000_000;

/// A server on this machine that is well, and lets anybody in.
fn well() -> Seen {
    let answer = Answer { status: 200, version: "HTTP/1.1", is_mcp: true, ..Answer::default() };
    Seen {
        url: "http://127.0.0.1:8808/x/mcp".into(),
        host: "127.0.0.1".into(),
        port: 8808,
        path: "/x/mcp".into(),
        addresses: Some(Ok(vec![[127, 0, 0, 1].into()])),
        connected: Some(Ok(Duration::from_millis(1))),
        answer: Some(Ok(answer)),
        foreign_host: Some(403),
        foreign_origin: Some(403),
        pages: vec![Page { origin: "http://a".into(), status: 400, preflight: 204, allows: Some("http://a".into()) }],
        metadata: Some(Metadata { status: 404, ..Metadata::default() }),
        stream: Some(Stream::Open { head: Duration::ZERO, first: Some(Duration::ZERO), watched: Duration::ZERO }),
        legacy: Some("r".into()),
        greeted: Some(Ok(Greeted { name: "x".into(), revision: "r".into(), tools: Some(1) })),
        now: Some(UNIX_EPOCH + Duration::from_secs(NOW as u64)),
        ..Seen::default()
    }
}

/// The same over https, somewhere else.
fn secure() -> Seen {
    let shown = Shown {
        names: vec!["hub.example".into(), "*.wild.example".into()],
        issuer: "CN=Authority".into(),
        chain: 2,
        not_before: NOW - DAY,
        not_after: NOW + 90 * DAY,
        ..Shown::default()
    };
    Seen {
        url: "https://hub.example/x/mcp".into(),
        secure: true,
        host: "hub.example".into(),
        port: 443,
        addresses: Some(Ok(vec![[10, 0, 0, 1].into()])),
        shown: Some(Ok(shown)),
        trusted: Some(Ok(())),
        ..well()
    }
}

/// The step has this verdict, and its words hold that; nothing else is worse than all is well.
#[track_caller]
fn check(from: Seen, change: impl FnOnce(&mut Seen), step: &str, verdict: Verdict, words: &str) {
    let mut seen = from;
    change(&mut seen);
    let found = judge(&seen);
    let one = found.iter().find(|one| one.step == step).unwrap_or_else(|| panic!("no {step} in {found:#?}"));
    let said = format!("{} → {}", one.seen, one.next.as_deref().unwrap_or_default());
    assert_eq!(one.verdict, verdict, "{said}");
    assert!(said.contains(words), "{words:?} is not in {said}");
    assert_eq!(one.next.is_none(), verdict == Verdict::Ok, "what is wrong has a next step: {said}");
}

fn answer(seen: &mut Seen) -> &mut Answer {
    seen.answer.as_mut().unwrap().as_mut().unwrap()
}

fn shown(seen: &mut Seen) -> &mut Shown {
    seen.shown.as_mut().unwrap().as_mut().unwrap()
}

/// A refusal with this status and text.
fn refused(status: u16, text: &'static str) -> impl FnOnce(&mut Seen) {
    move |seen| {
        *answer(seen) = Answer { status, text: text.into(), version: "HTTP/1.1", ..Answer::default() };
        (seen.legacy, seen.greeted, seen.stream) = (None, None, None);
    }
}

#[test]
fn what_is_well_is_well() {
    for seen in [well(), secure()] {
        let found = judge(&seen);
        assert!(found.iter().all(|one| one.verdict == Verdict::Ok), "{found:#?}");
        assert!(found.len() >= 10, "{found:#?}");
    }
    assert_eq!(judge(&Seen::default()), [], "what was not looked at is not judged");
}

#[test]
fn the_way_to_the_server() {
    use Verdict::{Fail, Warn};
    check(well(), |s| s.addresses = Some(Err("unknown".into())), "name", Fail, "getent hosts 127.0.0.1");
    check(well(), |s| s.connected = Some(Err("Connection refused".into())), "tcp", Fail, "hubward serve");
    check(secure(), |s| s.connected = Some(Err("Connection refused".into())), "tcp", Fail, "127.0.0.1 only");
    check(secure(), |s| s.connected = Some(Err("no answer".into())), "tcp", Fail, "firewall");
    check(secure(), |s| (s.secure, s.shown) = (false, None), "tls", Warn, "readable");
}

#[test]
fn certificates() {
    use Verdict::{Fail, Ok, Warn};
    check(
        secure(),
        |s| s.shown = Some(Err("received corrupt message of type InvalidContentType".into())),
        "tls",
        Fail,
        "try http://hub.example/x/mcp",
    );
    check(
        secure(),
        |s| s.shown = Some(Err("unexpected end".into())),
        "tls",
        Fail,
        "openssl s_client -connect hub.example:443",
    );
    check(secure(), |s| shown(s).not_after = NOW - 3 * DAY, "tls", Fail, "ended 3 days ago");
    check(secure(), |s| shown(s).not_before = NOW + DAY, "tls", Fail, "clock");
    check(secure(), |s| shown(s).not_after = NOW + 13 * DAY, "tls", Warn, "13 days");
    check(secure(), |s| shown(s).names = vec!["other".into()], "tls", Fail, "for other, not for hub.example");
    check(secure(), |s| s.host = "a.wild.example".into(), "tls", Ok, "");
    check(secure(), |s| s.host = "a.b.wild.example".into(), "tls", Fail, "not for a.b.wild.example");
    check(secure(), |s| s.host = "wild.example".into(), "tls", Fail, "not for wild.example");
    check(
        secure(),
        |s| s.trusted = Some(Err("UnknownIssuer".into())),
        "tls",
        Fail,
        "trust its authority (CN=Authority)",
    );
    let alone = |s: &mut Seen| (s.trusted, shown(s).chain) = (Some(Err("UnknownIssuer".into())), 1);
    check(secure(), alone, "tls", Fail, "intermediate");
    let own = |s: &mut Seen| (s.trusted, shown(s).self_signed) = (Some(Err("UnknownIssuer".into())), true);
    check(secure(), own, "tls", Fail, "signed itself");
    check(
        secure(),
        |s| s.trusted = Some(Err("received fatal alert: CertificateRequired".into())),
        "tls",
        Fail,
        "client certificate",
    );
}

#[test]
fn answers() {
    use Verdict::{Fail, Ok};
    check(well(), |s| s.answer = Some(Err("closed".into())), "http", Fail, "https://127.0.0.1:8808");
    check(secure(), |s| s.answer = Some(Err("closed".into())), "http", Fail, "is it an HTTP server");
    check(well(), refused(404, ""), "http", Fail, "often ends with /mcp");
    let hub = |s: &mut Seen| {
        refused(404, "")(s);
        s.hub = true;
    };
    check(well(), hub, "http", Fail, "/NAME/mcp");
    check(well(), refused(405, ""), "http", Fail, "nobody takes a POST");
    check(well(), refused(429, ""), "http", Fail, "wait a minute");
    check(well(), refused(502, "Bad Gateway"), "http", Fail, "what stands in front");
    check(well(), refused(500, ""), "http", Fail, "hubward logs");
    check(well(), refused(418, "tea"), "http", Fail, "tea");
    check(well(), refused(200, "<html>"), "http", Fail, "something else serves");
    check(well(), refused(403, "may not"), "http", Fail, "`allow` of the upstream");
    let moved = |s: &mut Seen| {
        refused(301, "")(s);
        answer(s).location = Some("https://x/".into());
    };
    check(well(), moved, "http", Fail, "leads to https://x/");
    let older = |s: &mut Seen| {
        refused(405, "")(s);
        s.older = true;
    };
    check(well(), older, "http", Ok, "HTTP+SSE");
    check(well(), older, "era", Ok, "HTTP+SSE");
}

#[test]
fn who_else_may_ask() {
    use Verdict::{Fail, Ok, Warn};
    check(well(), refused(403, "the Host x is not served here"), "host", Fail, "allowed_hosts = [\"127.0.0.1\"]");
    check(well(), |s| s.foreign_host = Some(200), "host", Warn, "DNS rebinding");
    check(secure(), |s| s.foreign_host = Some(200), "host", Ok, "harmless");
    check(well(), |s| s.foreign_host = Some(401), "host", Warn, "401");
    check(well(), |s| s.foreign_origin = Some(200), "origin", Warn, "any site");
    check(well(), |s| s.foreign_origin = Some(401), "origin", Ok, "without a token");
    check(well(), |s| s.pages[0].status = 403, "origin", Fail, "allowed_origins = [\"http://a\"]");
    check(well(), |s| s.pages[0].preflight = 405, "cors", Warn, "pass OPTIONS on");
    check(well(), |s| s.pages[0].allows = Some("http://b".into()), "cors", Warn, "no permission");
    check(well(), |s| s.pages[0].allows = Some("*".into()), "cors", Ok, "");
}

#[test]
fn logins() {
    use Verdict::{Fail, Ok};
    let metadata = |resource: &str, issuers: &[&str], error: Option<&str>| {
        let issuers = issuers.iter().map(|issuer| (*issuer).to_owned()).collect();
        Some(Metadata { status: 200, resource: Some(resource.into()), issuers, issuer_error: error.map(str::to_owned) })
    };
    let own = "http://127.0.0.1:8808/x/mcp/";
    check(well(), |s| s.metadata = metadata(own, &["https://idp"], None), "metadata", Ok, "https://idp");
    check(well(), |s| s.metadata = metadata("http://other", &["https://idp"], None), "metadata", Fail, "public_url");
    check(well(), |s| s.metadata = metadata(own, &[], None), "metadata", Fail, "no authorization server");
    check(
        well(),
        |s| s.metadata = metadata(own, &["https://idp"], Some("404")),
        "metadata",
        Fail,
        "cannot be asked: 404",
    );
    check(well(), |s| s.metadata = Some(Metadata { status: 200, ..Metadata::default() }), "metadata", Fail, "proxy");
    check(well(), refused(401, ""), "metadata", Ok, "no client will find a login");
    check(well(), refused(401, ""), "auth", Fail, "Bearer TOKEN");
    check(well(), |_| (), "auth", Ok, "nobody is asked");
    check(well(), |s| s.credentialed = true, "auth", Ok, "are taken");
    let with = |scheme: &str, metadata: Option<&str>, error: Option<&str>| {
        let [metadata, error] = [metadata, error].map(|text| text.map(str::to_owned));
        let challenge = Challenge { scheme: scheme.into(), metadata, error };
        move |s: &mut Seen| {
            refused(401, "")(s);
            answer(s).challenges.push(challenge);
        }
    };
    check(
        well(),
        with("bearer", Some("https://x"), None),
        "auth",
        Fail,
        "hubward auth login http://127.0.0.1:8808/x/mcp",
    );
    check(well(), with("basic", None, None), "auth", Fail, "a password is asked for (401, basic)");
    let wrong = |s: &mut Seen| {
        with("bearer", None, Some("invalid_token"))(s);
        s.credentialed = true;
    };
    check(well(), wrong, "auth", Fail, "refused (401, invalid_token)");
}

#[test]
fn streams_and_what_they_are_for() {
    use Verdict::{Fail, Ok, Warn};
    let opened = |first: Option<u64>| {
        let first = first.map(Duration::from_millis);
        Some(Stream::Open { head: Duration::ZERO, first, watched: Duration::from_secs(6) })
    };
    check(well(), |s| s.stream = Some(Stream::None(405)), "stream", Ok, "405");
    check(well(), |s| s.stream = Some(Stream::Nothing(Duration::from_secs(4))), "stream", Fail, "proxy_buffering off");
    check(well(), |s| s.stream = opened(Some(2500)), "stream", Warn, "2500 ms");
    check(well(), |s| s.stream = opened(None), "stream", Ok, "silent so far");
    check(well(), |s| (s.stream, s.hub) = (opened(None), true), "stream", Fail, "no byte of it");
    check(well(), |s| s.modern = Some(vec!["n".into()]), "era", Ok, "initialize: r; server/discover: n");
    check(well(), |s| s.legacy = None, "era", Fail, "no revision");
    let tools = |count: Option<usize>| Some(Result::Ok(Greeted { tools: count, ..Greeted::default() }));
    check(well(), |s| s.greeted = tools(Some(0)), "tools", Warn, "`allow`");
    check(well(), |s| s.greeted = tools(None), "tools", Ok, "offers none");
    check(well(), |s| s.greeted = Some(Err("died".into())), "tools", Fail, "died");
}
