//! Which certificates serve, and which are refused by name.

use std::{fs, os::unix::fs::PermissionsExt, process::Output};

use super::*;

/// A password-protected key needs no valid contents to be seen as one.
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";

fn check(folder: &Path) -> Output {
    hubward(&["check"]).arg(folder.join("hub.toml")).output().unwrap()
}

#[tokio::test]
async fn f95_t23_https_serves_both_versions_of_tls_and_of_http() {
    let authority = Authority::new();
    let hub = start_with_rogue(&authority, &[]);
    let url = format!("{}/ping", secure(&hub));
    let builders = [
        (authority.client().http1_only(), reqwest::Version::HTTP_11),
        (authority.client(), reqwest::Version::HTTP_2),
        (authority.client().tls_version_max(reqwest::tls::Version::TLS_1_2), reqwest::Version::HTTP_2),
        (authority.client().tls_version_min(reqwest::tls::Version::TLS_1_3), reqwest::Version::HTTP_2),
    ];
    for (builder, version) in builders {
        let answer = builder.build().unwrap().get(&url).send().await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (version, 200));
        assert_eq!(answer.text().await.unwrap(), "pong");
    }
    let https = secure(&hub);
    assert!(hub.urls.contains(&format!("{https}/r/mcp")), "{:?}", hub.urls);
    let stranger = Authority::new().client().build().unwrap();
    assert!(stranger.get(&url).send().await.is_err(), "somebody else's authority is not believed");
    let status = hub.status().await;
    let certificate = certificate(&status);
    assert_eq!(certificate["names"], serde_json::json!(["localhost", "127.0.0.1"]));
    assert_eq!((&certificate["days_left"], &certificate["error"]), (&90.into(), &Value::Null));
    assert!(certificate["not_after"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn f95_what_speaks_what_follows_from_the_address() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    authority.pair(90).write(folder.path());
    let mut command = hubward(&["serve", "-c"]);
    let rogue = rogue("r", &[], "");
    let toml = format!("{HUB}bind = ['127.0.0.1:0', 'http://127.0.0.1:0']\n{rogue}");
    fs::write(folder.path().join("hub.toml"), toml).unwrap();
    command.arg(folder.path().join("hub.toml"));
    let hub = Hub::run(folder, command);
    let schemes: Vec<&str> = hub.urls.iter().filter_map(|url| url.split(':').next()).collect();
    assert_eq!(schemes, ["https", "https", "http", "http"]);
}

#[test]
fn f95_a_pair_that_cannot_serve_is_refused_by_the_name_of_its_file() {
    let (authority, other) = (Authority::new(), Authority::called("another"));
    let [good, stranger] = [&authority, &other].map(|authority| authority.pair(90));
    let pem = good.key.serialize_pem();
    let bytes_of = |text: &str| text.as_bytes().to_vec();
    let cases = [
        ("mismatch", bytes_of(&good.chain), bytes_of(&stranger.key.serialize_pem()), "hub.key", "does not belong"),
        ("encrypted", bytes_of(&good.chain), bytes_of(ENCRYPTED), "hub.key", "encrypted"),
        ("no key", bytes_of(&good.chain), bytes_of("hello"), "hub.key", "no private key"),
        ("empty key", bytes_of(&good.chain), Vec::new(), "hub.key", "no private key"),
        ("empty chain", Vec::new(), bytes_of(&pem), "hub.crt", "no certificate"),
        ("DER", good.der.clone(), bytes_of(&pem), "hub.crt", "no certificate in PEM"),
        ("broken PEM", bytes_of(&good.chain[..200]), bytes_of(&pem), "hub.crt", "PEM"),
        ("order", bytes_of(&(authority.pem() + &good.chain)), bytes_of(&pem), "hub.crt", "wrong order: the key"),
        ("chain", bytes_of(&(good.chain.clone() + &other.pem())), bytes_of(&pem), "hub.crt", "did not issue"),
    ];
    for (case, cert, key, file, why) in cases {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("hub.toml"), HUB).unwrap();
        fs::write(folder.path().join("hub.crt"), cert).unwrap();
        write_key(&folder.path().join("hub.key"), "");
        fs::write(folder.path().join("hub.key"), key).unwrap();
        let checked = check(folder.path());
        let told = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert_eq!(checked.status.code(), Some(2), "{case}: {told}");
        assert!(told.contains(file) && told.contains(why) && told.contains("hub.toml:2:"), "{case}: {told}");
        assert!(!told.contains(pem.lines().nth(1).unwrap()), "{case}: the key shows itself");
        let served = hubward(&["serve", "-c"]).arg(folder.path().join("hub.toml")).output().unwrap();
        assert_eq!(served.status.code(), Some(2), "{case}");
    }
}

#[test]
fn f95_f92_the_files_must_be_there_readable_and_not_anybodys() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hub.toml"), HUB).unwrap();
    let check = |what: &str, code: i32, why: &str| {
        let checked = check(folder.path());
        let told = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert_eq!(checked.status.code(), Some(code), "{what}: {told}");
        assert!(told.contains(why), "{what}: {told}");
    };
    check("missing", 2, "hub.crt: cannot be read: it does not exist");
    authority.pair(90).write(folder.path());
    check("good", 0, "ok");
    let key = folder.path().join("hub.key");
    let mode = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o602);
    check("writable", 2, "anybody may write to it");
    check("the cure", 2, &format!("chmod o-w {}", key.display()));
    mode(0o604);
    check("readable", 0, "others on this machine can read the private key");
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    check("a folder", 2, "it is a directory");
}

#[tokio::test]
async fn f95_an_expired_certificate_is_told_of_and_served() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    authority.pair(-2).write(folder.path());
    let hub = start_in(folder, &format!("{HUB}{}", rogue("r", &[], "")));
    hub.logged("HAS EXPIRED").await;
    let trusting = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap();
    assert_eq!(trusting.get(format!("{}/ping", secure(&hub))).send().await.unwrap().status(), 200);
    let checking = authority.client().build().unwrap();
    assert!(checking.get(format!("{}/ping", secure(&hub))).send().await.is_err());
    assert_eq!(certificate(&hub.status().await)["days_left"], -2);
    let told = String::from_utf8(check(hub.folder.path()).stdout).unwrap();
    assert!(told.contains("the certificate expired on") && told.contains("ok, 1 upstream"), "{told}");
}

#[tokio::test]
async fn t23_the_end_is_warned_of_ahead() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    authority.pair(10).write(folder.path());
    let hub = start_in(folder, &format!("{HUB}{}", rogue("r", &[], "")));
    hub.logged("expires in 10 days").await;
    authority.pair(2).write(hub.folder.path());
    hub.logged("expires in 2 days").await;
}

#[test]
fn f95_names_and_times_that_do_not_fit_are_warned_of() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    authority.pair_with(90, |params| params.not_before = (SystemTime::now() + DAY * 5).into()).write(folder.path());
    fs::write(folder.path().join("hub.toml"), format!("{HUB}public_url = 'https://mcp.example.com'\n")).unwrap();
    let checked = check(folder.path());
    let told = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(0));
    assert!(told.contains("is not valid before") && told.contains("is not for mcp.example.com"), "{told}");
    assert!(told.contains("it is for localhost, 127.0.0.1"), "{told}");
}

#[test]
fn f95_https_without_a_certificate_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    fs::write(&path, rogue("r", &[], "")).unwrap();
    let served = hubward(&["serve", "--bind", "https://127.0.0.1:0", "-c"]).arg(&path).output().unwrap();
    let told = String::from_utf8(served.stderr).unwrap();
    assert_eq!(served.status.code(), Some(2), "{told}");
    assert!(told.contains("https://127.0.0.1:0 needs a certificate; add tls"), "{told}");
}

#[tokio::test]
async fn f94_tls_on_or_off_is_refused_at_a_reload_by_name() {
    let authority = Authority::new();
    let upstream = rogue("r", &[], "");
    let hub = start(&authority, &format!("{HUB}{upstream}"));
    hub.edit(&upstream);
    let rejected = |status: &Value| status["reload"]["rejected"].as_str().unwrap_or_default().to_owned();
    hub.until("off", |status| rejected(status).contains("a change of hub.tls needs a restart")).await;
    fs::write(hub.folder.path().join("ca.pem"), authority.pem()).unwrap();
    hub.edit(&format!("{}{upstream}", HUB.replace(" }", ", client_ca = 'ca.pem' }")));
    hub.until("clients", |status| rejected(status).contains("a change of hub.tls.client_ca needs")).await;
    hub.edit(&format!("{HUB}{upstream}"));
    hub.until("back", |status| status["reload"]["rejected"].is_null()).await;
    assert_eq!(hub.status().await["reload"]["generation"], 1);
    shown(&hub, &authority).await;
}
