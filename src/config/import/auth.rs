//! How a client logs in to a remote server, as far as the hub has the same.

use super::entry::Entry;
use super::tree::Tree;
use crate::config::edit::{NewAuth, NewUpstream};

/// What clients call the same three things.
const ID: [&str; 3] = ["clientId", "CLIENT_ID", "client_id"];
const SECRET: [&str; 3] = ["clientSecret", "CLIENT_SECRET", "client_secret"];
const SCOPES: [&str; 3] = ["scopes", "scope", "SCOPES"];

pub(super) fn read(entry: &mut Entry<'_>, new: &mut NewUpstream) {
    password(new);
    let Some(said) = entry.take(&["oauth", "auth", "authentication"]) else { return };
    let Some(table) = said.table() else {
        // `false`: it is not tried. `true`: as we do anyway.
        if said.bool() == Some(false) {
            entry.notes.push("`oauth = false` has no counterpart: where a server asks for it, the hub logs in".into());
        }
        return;
    };
    if new.url.is_none() {
        return entry.notes.push("how it logs in was left out: it is started here".into());
    }
    let text = |keys: &[&str]| keys.iter().find_map(|key| table.get(*key)?.text()).map(str::to_owned);
    let (client_id, client_secret) = (text(&ID), text(&SECRET));
    let scopes = match SCOPES.iter().find_map(|key| table.get(*key)) {
        Some(Tree::List(list)) => list.iter().filter_map(Tree::word).collect(),
        Some(Tree::Text(line)) => line.split_whitespace().map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    for key in table.keys() {
        let known = [&ID, &SECRET, &SCOPES].iter().any(|keys| keys.contains(&key.as_str()));
        if !known && !matches!(key.as_str(), "enabled" | "type") {
            let key: String = key.chars().filter(|c| !c.is_control()).take(60).collect();
            entry.notes.push(format!("`oauth.{key}` was left out: the hub finds it out by itself"));
        }
    }
    let client_secret = client_secret.filter(|_| client_id.is_some()).map(|text| entry.text(&text));
    let client_id = client_id.map(|text| entry.text(&text));
    if new.auth.is_none() && (client_id.is_some() || !scopes.is_empty()) {
        new.auth = Some(NewAuth::OAuth { client_id, client_secret, scopes });
    }
}

/// `https://user:password@host` is no URL of a hub.
fn password(new: &mut NewUpstream) {
    let Some(mut url) = new.url.as_deref().filter(|url| !url.contains("${")).and_then(|url| url::Url::parse(url).ok())
    else {
        return;
    };
    if url.username().is_empty() && url.password().is_none() {
        return;
    }
    let plain = |text: &str| {
        let decoded: String = url::form_urlencoded::parse(format!("k={}", text.replace('+', "%2B")).as_bytes())
            .map(|(_, value)| value.into_owned())
            .collect();
        super::reference::escaped(&decoded)
    };
    let (username, password) = (plain(url.username()), plain(url.password().unwrap_or_default()));
    if url.set_username("").is_ok() && url.set_password(None).is_ok() {
        new.url = Some(url.to_string());
        new.auth = Some(NewAuth::Basic { username, password });
    }
}
