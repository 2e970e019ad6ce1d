//! What servers answer, and what comes of it.

use serde_json::json;

use super::*;

fn server() -> Url {
    Url::parse("https://t.example").unwrap()
}

fn open(wanted: Option<&str>, reply: serde_json::Value) -> Arc<Lease> {
    match judge(&server(), wanted, 200, reply.to_string().as_bytes()) {
        Verdict::Open(lease) => lease,
        other => panic!("{reply}: {other:?}"),
    }
}

#[test]
fn s4_t1_a_name_is_a_path_and_a_random_one_is_asked_for_by_a_query() {
    let asked = |server: &str, wanted| question(&Url::parse(server).unwrap(), wanted).to_string();
    assert_eq!(asked("https://t.example", None), "https://t.example/?new");
    assert_eq!(asked("https://t.example/", Some("my-name")), "https://t.example/my-name");
    assert_eq!(asked("http://t.example:3000/below/", None), "http://t.example:3000/below/?new");
    assert_eq!(asked("http://t.example/below", Some("name")), "http://t.example/below/name");
}

#[test]
fn s4_t1_what_is_a_mistake_of_ours_is_final_and_anything_else_is_not() {
    let said = json!({ "message": "Invalid subdomain.\u{1b}[2J" }).to_string();
    for (status, body, expected) in [
        (400, "", Verdict::Refused("HTTP 400".into())),
        (403, said.as_str(), Verdict::Refused("HTTP 403, Invalid subdomain.[2J".into())),
        (404, "<html>", Verdict::Refused("HTTP 404".into())),
        (408, "", Verdict::Again("HTTP 408".into())),
        (429, said.as_str(), Verdict::Again("HTTP 429, Invalid subdomain.[2J".into())),
        (302, "", Verdict::Again("HTTP 302".into())),
        (500, "{}", Verdict::Again("HTTP 500".into())),
        (503, "[]", Verdict::Again("HTTP 503".into())),
    ] {
        assert_eq!(judge(&server(), None, status, body.as_bytes()), expected, "{status}");
    }
    let long = json!({ "message": "x".repeat(9999) }).to_string();
    let Verdict::Refused(why) = judge(&server(), None, 403, long.as_bytes()) else { panic!("it is a refusal") };
    assert!(why.len() < 300);
}

#[test]
fn s4_t2_a_reply_says_where_the_connections_lead_and_how_many() {
    let least = json!({ "id": "calm-fish-32", "url": "https://calm-fish-32.t.example", "port": 4711 });
    let lease = open(None, least);
    assert_eq!((lease.host.as_str(), lease.port, lease.lanes, lease.shared), ("t.example", 4711, 1, false));
    assert_eq!(
        (lease.base().as_str(), lease.hosts().collect::<Vec<_>>()),
        ("https://calm-fish-32.t.example", vec!["calm-fish-32.t.example"])
    );
    let most = json!({ "id": "name", "url": "https://name.t.example:8443/", "domain": "t.example", "port": 1, "ip": "198.51.99.7",
        "maxConnCount": 7, "cachedUrl": "https://name.cache.example", "sharedTunnel": true, "more": [] });
    let lease = open(Some("name"), most);
    assert_eq!((lease.host.as_str(), lease.lanes, lease.shared), ("198.51.99.7", 7, true));
    assert_eq!((lease.base().as_str(), lease.hosts().count()), ("https://name.t.example:8443", 2));
    for (count, lanes) in [(0, 1), (1, 1), (10, 10), (11, 10), (1_000_000, 10)] {
        let reply = json!({ "id": "name", "url": "https://name.t.example", "port": 1, "maxConnCount": count });
        assert_eq!(open(None, reply).lanes, lanes, "{count}");
    }
}

#[test]
fn s4_t2_what_is_no_reply_is_asked_for_again() {
    let with = |key: &str, value: serde_json::Value| {
        let mut reply = json!({ "id": "name", "url": "https://name.t.example", "port": 1 });
        reply[key] = value;
        reply.to_string()
    };
    let mut ill: Vec<String> = ["", "{}", "[]", "<html>", "{\"id\":\"name\"}"].map(str::to_owned).to_vec();
    for port in [json!(0), json!(65536), json!(-1), json!("1"), json!(null)] {
        ill.push(with("port", port));
    }
    for id in [json!(""), json!("a\nGET / HTTP/1.1"), json!("x".repeat(64)), json!(7)] {
        ill.push(with("id", id));
    }
    for url in [json!(""), json!("name.t.example"), json!("file:///etc/passwd"), json!(null)] {
        ill.push(with("url", url));
    }
    // A server elsewhere does not send us to what only we can reach.
    for ip in [
        "127.0.0.1",
        "::1",
        "[::1]",
        "0.0.0.0",
        "169.254.169.254",
        "::ffff:127.0.0.1",
        "224.0.0.1",
        "fe80::1",
        "localhost",
    ] {
        ill.push(with("ip", json!(ip)));
    }
    for body in ill {
        let verdict = judge(&server(), None, 200, body.as_bytes());
        assert!(matches!(&verdict, Verdict::Again(why) if why.contains("--tunnel-host")), "{body}: {verdict:?}");
    }
    let near = Url::parse("http://tunnel.localhost:3000").unwrap();
    let verdict = judge(&near, None, 200, with("ip", json!("127.0.0.1")).as_bytes());
    assert!(matches!(verdict, Verdict::Open(lease) if lease.host == "127.0.0.1"));
}

#[test]
fn s4_t3_the_url_bears_the_name_that_was_given_and_not_the_one_that_was_wanted() {
    for (wanted, id, url, base) in [
        (Some("name"), "name", "https://name.t.example", "https://name.t.example"),
        (Some("name"), "hot-cat-5", "https://name.t.example", "https://hot-cat-5.t.example"),
        (Some("name"), "hot-cat-5", "http://name.localhost:3000", "http://hot-cat-5.localhost:3000"),
        (Some("name"), "hot-cat-5", "https://hot-cat-5.t.example", "https://hot-cat-5.t.example"),
        (None, "hot-cat-5", "https://old-dog-1.t.example", "https://hot-cat-5.t.example"),
        // Where names are no part of the host there is nothing to correct.
        (None, "hot-cat-5", "https://other.example/hot-cat-5", "https://other.example/hot-cat-5"),
        (Some("name"), "hot-cat-5", "http://127.0.0.1:3000", "http://127.0.0.1:3000"),
    ] {
        let lease = open(wanted, json!({ "id": id, "url": url, "port": 1 }));
        assert_eq!((lease.base().as_str(), lease.id.as_str()), (base, id), "{wanted:?} {url}");
    }
}
