//! The gate, without a server.

use std::path::Path;

use super::*;
use crate::config::{Config, hex};

fn gate(auth: &str) -> Gate {
    let text = format!("[hub]\nauth = {auth}\n[upstreams.x]\ncommand = 'x'\n");
    let (Config { hub, .. }, _) = crate::config::parse(&text, Path::new("/"), &|_| None).expect("a good file");
    Gate::new(&hub, None)
}

async fn knock(gate: &Gate, token: Option<&str>) -> Result<String, Denied> {
    let knock = Knock { token, ..Knock::default() };
    gate.admit(knock, Outline::default).await.map(|principal| principal.id().to_owned())
}

const SECRET: &str = "a-token-of-more-than-16";

fn entry(name: &str, more: &str) -> String {
    let sha256 = hex(&hash(&format!("{SECRET}-{name}")));
    format!("{{ name = '{name}', sha256 = '{sha256}'{more} }}")
}

#[tokio::test]
async fn f68_a_token_is_right_or_it_is_nobody() {
    let gate = gate(&format!("{{ tokens = [{}, {}] }}", entry("ci", ""), entry("ada", "")));
    assert!(knock(&gate, Some(&format!("{SECRET}-ci"))).await.unwrap().starts_with("token ci "));
    assert!(knock(&gate, Some(&format!("{SECRET}-ada"))).await.unwrap().starts_with("token ada "));
    assert_eq!(knock(&gate, None).await, Err(Denied::Missing));
    for wrong in ["", "ci", SECRET, &format!("{SECRET}-c"), &format!("{SECRET}-ci "), &format!("{SECRET}-CI")] {
        assert_eq!(knock(&gate, Some(wrong)).await, Err(Denied::Invalid("it is unknown")), "{wrong}");
    }
}

#[tokio::test]
async fn who_asks_nobody_lets_everybody_in_whatever_they_show() {
    let open = gate("{}");
    assert_eq!(knock(&open, None).await.unwrap(), "local");
    assert_eq!(knock(&open, Some("anything")).await.unwrap(), "local");
    let both = gate(&format!("{{ allow_unauthenticated = true, tokens = [{}] }}", entry("ci", "")));
    assert_eq!(knock(&both, None).await.unwrap(), "anyone");
    assert!(knock(&both, Some("wrong")).await.is_err(), "who shows a token means it");
}

#[tokio::test]
async fn f69_guesses_of_one_address_have_to_wait_and_the_right_token_has_not() {
    let gate = gate(&format!("{{ tokens = [{}] }}", entry("ci", "")));
    let right = format!("{SECRET}-ci");
    let at = async |token: &str, address: &str| {
        let knock = Knock { token: Some(token), address: address.parse().ok(), ..Knock::default() };
        gate.admit(knock, Outline::default).await.map(drop)
    };
    for guess in 0..20 {
        assert_eq!(at(&guess.to_string(), "10.0.0.1").await, Err(Denied::Invalid("it is unknown")));
    }
    assert!(matches!(at("20", "10.0.0.1").await, Err(Denied::TooMany(_))));
    assert_eq!(at(&right, "10.0.0.1").await, Ok(()));
    assert!(matches!(at("x", "10.0.0.2").await, Err(Denied::Invalid(_))));
}

#[tokio::test]
async fn f58_a_token_is_good_for_what_it_names_and_what_lets_it_in() {
    let gate = gate(&format!("{{ tokens = [{}, {}] }}", entry("ci", ", upstreams = ['time']"), entry("ada", "")));
    let principal = async |name: &str| {
        let token = format!("{SECRET}-{name}");
        gate.admit(Knock { token: Some(&token), ..Knock::default() }, Outline::default).await.unwrap()
    };
    let (ci, ada) = (principal("ci").await, principal("ada").await);
    let bars = |principal: &Principal, name: &str, allow: &[Grant]| gate.bars(principal, name, allow, Vec::new);
    let (all, only) = ([Grant::All], [Grant::Name("ada".into()), Grant::Subject("ci".into())]);
    assert_eq!(bars(&ci, "time", &all), None);
    assert_eq!(bars(&ci, "git", &all), Some(Barred::Others));
    assert_eq!(bars(&ci, "time", &only), Some(Barred::Others), "a subject is no token");
    assert_eq!(bars(&ada, "git", &only), None);
}

#[test]
fn f51_one_that_is_gone_or_changed_is_known_no_more() {
    let before = gate(&format!("{{ tokens = [{}, {}] }}", entry("ci", ""), entry("ada", "")));
    let ci = before.tokens.values().find(|principal| principal.name() == "ci").cloned().unwrap();
    assert!(before.knows(&ci).is_some());
    assert!(gate(&format!("{{ tokens = [{}] }}", entry("ada", ""))).knows(&ci).is_none());
    let renewed = format!("{{ name = 'ci', secret = '{SECRET}-renewed' }}");
    assert!(gate(&format!("{{ tokens = [{renewed}] }}")).knows(&ci).is_none(), "the same name, another token");
    let narrowed = gate(&format!("{{ tokens = [{}] }}", entry("ci", ", upstreams = ['x']")));
    assert!(!narrowed.knows(&ci).unwrap().is_let_to("y"), "what counts is what is written now");
    assert!(before.knows(&Principal::default()).is_none() && gate("{}").knows(&Principal::default()).is_some());
}

#[test]
fn s4_70_a_guest_of_the_program_is_let_in_where_allow_names_it() {
    let gate = gate("{}");
    let ada = gate.guest(&Guest::new("7").name("ada").scopes(["tools"]).upstreams(["x"]));
    let bars = |upstream: &str, allow: Grant| gate.bars(&ada, upstream, &[allow], Vec::new);
    for grant in [Grant::All, Grant::User("ada".into()), Grant::Scope("tools".into())] {
        assert_eq!(bars("x", grant), None);
    }
    for grant in [Grant::User("7".into()), Grant::Scope("admin".into()), Grant::Token("ada".into())] {
        assert_eq!(bars("x", grant), Some(Barred::Others));
    }
    assert_eq!(bars("y", Grant::All), Some(Barred::Others), "its upstreams are named");
    assert_eq!(gate.knows(&ada).unwrap().id(), ada.id(), "each of its requests is asked about, not its sessions");
    assert_ne!(gate.guest(&Guest::new("ada")).id(), ada.id(), "a name is no id");
    assert!(ada.is_known());
}
