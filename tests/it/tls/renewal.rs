//! Renewed files: taken over as they come, without a cut connection; and what happens where they are bad.

use std::{fs, os::unix::fs::symlink};

use super::*;

/// Waits until a new client is shown this certificate.
async fn until_shown(hub: &Hub, authority: &Authority, pair: &Pair) {
    let began = std::time::Instant::now();
    while shown(hub, authority).await != pair.der {
        assert!(began.elapsed() < super::super::fixture::PATIENCE, "the old one is shown:\n{}", hub.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn f95_renewals_are_taken_over_however_they_are_written_and_nobody_is_cut_off() {
    let authority = Authority::new();
    let hub = start_with_rogue(&authority, &[]);
    let folder = hub.folder.path().to_owned();
    // Two connections that stay: one of each version.
    let clients = [authority.client().http1_only(), authority.client()].map(|builder| builder.build().unwrap());
    let url = format!("{}/ping", secure(&hub));
    let mut addresses = Vec::new();
    for client in &clients {
        addresses.push(client.get(&url).send().await.unwrap().remote_addr());
    }
    let mut old = connect(&hub, Arc::new(authority.config(&["http/1.1"], None))).await.unwrap();
    // In place.
    let pair = authority.pair(91);
    pair.write(&folder);
    until_shown(&hub, &authority, &pair).await;
    // Aside, and renamed over.
    let pair = authority.pair(92);
    let aside = tempfile::tempdir_in(&folder).unwrap();
    pair.write(aside.path());
    for name in ["hub.crt", "hub.key"] {
        fs::rename(aside.path().join(name), folder.join(name)).unwrap();
    }
    until_shown(&hub, &authority, &pair).await;
    // Links into a folder, as certbot has them: first there, then each to another file.
    let live = folder.join("archive");
    fs::create_dir(&live).unwrap();
    let relink = |number: u32, pair: &Pair| {
        let aside = tempfile::tempdir_in(&folder).unwrap();
        pair.write(aside.path());
        for name in ["hub.crt", "hub.key"] {
            let file = live.join(format!("{number}-{name}"));
            fs::rename(aside.path().join(name), &file).unwrap();
            symlink(file, aside.path().join("link")).unwrap();
            fs::rename(aside.path().join("link"), folder.join(name)).unwrap();
        }
    };
    for number in 1..3 {
        let pair = authority.pair(92 + i64::from(number));
        relink(number, &pair);
        until_shown(&hub, &authority, &pair).await;
    }
    // A whole folder swapped by its link, as Kubernetes has it: no event names the files.
    let make = |name: &str, pair: &Pair| {
        let version = folder.join(name);
        fs::create_dir(&version).unwrap();
        pair.write(&version);
        symlink(name, folder.join("..data.new")).unwrap();
        fs::rename(folder.join("..data.new"), folder.join("..data")).unwrap();
    };
    let first = authority.pair(95);
    make("..v1", &first);
    for name in ["hub.crt", "hub.key"] {
        symlink(format!("..data/{name}"), folder.join("link")).unwrap();
        fs::rename(folder.join("link"), folder.join(name)).unwrap();
    }
    until_shown(&hub, &authority, &first).await;
    let second = authority.pair(96);
    make("..v2", &second);
    until_shown(&hub, &authority, &second).await;
    assert_eq!(certificate(&hub.status().await)["days_left"], 96);
    // Those who were connected still are, by the same sockets.
    for (client, address) in clients.iter().zip(addresses) {
        let answer = client.get(&url).send().await.unwrap();
        assert_eq!((answer.remote_addr(), answer.status().as_u16()), (address, 200));
    }
    assert_eq!(super::wire::ask(&mut old, "/ping").await, "pong");
    assert_eq!(hub.status().await["reload"]["generation"], 1, "hub.toml is as it was");
}

#[tokio::test]
async fn f95_a_bad_renewal_keeps_the_old_pair_and_shows_in_the_status() {
    let authority = Authority::new();
    let hub = start_with_rogue(&authority, &[]);
    let before = shown(&hub, &authority).await;
    let key = hub.folder.path().join("hub.key");
    let [old, other] = [fs::read_to_string(&key).unwrap(), authority.pair(91).key.serialize_pem()];
    write_key(&key, &other);
    let error = |status: &Value| certificate(status)["error"].as_str().unwrap_or_default().to_owned();
    hub.until("the error", |status| error(status).contains("does not belong to the certificate")).await;
    hub.logged("the renewed certificate is not used").await;
    assert_eq!(shown(&hub, &authority).await, before);
    write_key(&key, &old);
    hub.until("no error", |status| certificate(status)["error"].is_null()).await;
    fs::remove_file(&key).unwrap();
    hub.until("gone", |status| error(status).contains("it does not exist")).await;
    assert_eq!(shown(&hub, &authority).await, before);
}

#[tokio::test]
async fn f95_a_bad_pair_is_refused_at_reload_and_the_old_one_serves() {
    let authority = Authority::new();
    let upstream = rogue("r", &[], "");
    let hub = start(&authority, &format!("{HUB}{upstream}"));
    let before = shown(&hub, &authority).await;
    let folder = hub.folder.path().to_owned();
    // The edit names a bad pair, and adds an upstream: neither counts.
    write_key(&folder.join("other.key"), &authority.pair(91).key.serialize_pem());
    let bad = HUB.replace("hub.key", "other.key");
    hub.edit(&format!("{bad}{upstream}{}", rogue("s", &[], "")));
    let rejected = |status: &Value| status["reload"]["rejected"].as_str().unwrap_or_default().to_owned();
    hub.until("rejected", |status| rejected(status).contains("other.key: the key does not belong")).await;
    assert_eq!(hub.upstream("s").await, Value::Null);
    assert_eq!(shown(&hub, &authority).await, before);
    // While that edit lies there, a renewal of what is served goes in.
    let renewed = authority.pair(93);
    renewed.write(&folder);
    until_shown(&hub, &authority, &renewed).await;
    assert_ne!(rejected(&hub.status().await), "");
    // Other names with a good pair are live, and watched from then on.
    let other = authority.pair(94);
    let aside = folder.join("other");
    fs::create_dir(&aside).unwrap();
    other.write(&aside);
    hub.edit(&format!("{}{upstream}", HUB.replace("'hub.", "'other/hub.")));
    until_shown(&hub, &authority, &other).await;
    let renewed = authority.pair(95);
    renewed.write(&aside);
    until_shown(&hub, &authority, &renewed).await;
}
