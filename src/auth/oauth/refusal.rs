//! What to do about a refusal: use what somebody else got, refresh, log in, ask for more; and never in a circle.

use std::{collections::BTreeSet, time::Duration};

use reqwest::header::HeaderMap;

use super::{Grant, OAuth, discovery, http::Fault, now, scope};
use crate::auth::{
    AuthError,
    challenge::Challenge,
    store::{Origin, Token},
};

/// A token that was got so lately, and was never taken, was not worth getting: nor would the next one be.
const LATELY: Duration = Duration::from_secs(60);
/// How often a bigger scope is asked for, for the same operation.
const STEPS_MAX: u8 = 3;
/// The most operations that are remembered.
const OPERATIONS_MAX: usize = 256;

/// What wanted a bigger scope: as far as the headers tell, and the scopes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Operation(String);

impl Operation {
    /// Of a request and its refusal.
    #[must_use]
    pub fn of(sent: &HeaderMap, challenge: Option<&Challenge>) -> Operation {
        let header = |name: &str| sent.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let scopes = challenge.and_then(|challenge| challenge.get("scope")).map(scope::split).unwrap_or_default();
        let scopes: BTreeSet<String> = scopes.into_iter().collect();
        let scopes = scopes.into_iter().collect::<Vec<_>>().join(" ");
        Operation(format!("{} {} {scopes}", header("mcp-method"), header("mcp-name")))
    }
}

/// What to do about a token that was refused.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Refresh,
    /// A person has to; or the client asks for itself.
    Anew,
    GiveUp,
}

/// Decides by the token, by whether its issuer is still the server's, by whether the token may have been good before
/// (it is not our newest, which was never taken), and by whether somebody has logged in a moment ago.
fn next(token: Option<&Token>, same_issuer: bool, was_good: bool, logged_in: bool) -> Next {
    let Some(token) = token else { return Next::Anew };
    if !same_issuer {
        return Next::Anew;
    }
    match (token.origin, token.refresh.is_some()) {
        (Origin::Refresh, _) if !was_good && logged_in => Next::GiveUp,
        (Origin::Refresh, _) if !was_good => Next::Anew,
        (_, true) => Next::Refresh,
        (Origin::Login | Origin::ClientCredentials, false) if !was_good => Next::GiveUp,
        (_, false) => Next::Anew,
    }
}

impl OAuth {
    /// The server wants a token, or another one.
    pub(super) async fn renew(&self, sent: Option<String>, challenge: Option<Challenge>) -> Result<bool, AuthError> {
        if let Some(got) = self.memory().got.as_mut().filter(|got| sent.as_deref() == Some(got.access.expose())) {
            got.refusals += 1;
        }
        let _one = self.settling.lock().await;
        let token = self.stored().await;
        if let Some(newer) = token.as_ref().filter(|token| is_newer(token, sent.as_deref())) {
            self.remember(newer);
            return Ok(true);
        }
        let known = token.as_ref().map(|token| token.issuer.as_str()).filter(|issuer| !issuer.is_empty());
        let found = discovery::discover(&self.http, &self.spec, challenge.as_ref(), known).await;
        let same_issuer = match &found {
            Ok(found) => known.is_none_or(|known| known == found.issuer.name),
            // It is not known better: what we have is still good for a refresh.
            Err(Fault::Unreachable(_)) => true,
            Err(_) => false,
        };
        let (was_good, logged_in) = self.history(token.as_ref());
        let next = next(token.as_ref(), same_issuer, was_good, logged_in);
        if let (Next::Refresh, Some(token)) = (&next, &token)
            && self.refresh(token).await?.is_some()
        {
            return Ok(true);
        }
        let found = found?;
        if next == Next::GiveUp {
            return Err(AuthError::needed("the server refuses a token that it has only just been given (HTTP 401)"));
        }
        if self.spec.settings.grant == Grant::ClientCredentials {
            self.client_credentials(challenge.as_ref(), sent.as_deref()).await?;
            return Ok(true);
        }
        let before = token.filter(|_| same_issuer).map(|token| token.scopes).unwrap_or_default();
        self.log_in(found, challenge.as_ref(), &before).await
    }

    /// May the token have been good before, and has somebody logged in a moment ago?
    fn history(&self, token: Option<&Token>) -> (bool, bool) {
        let memory = self.memory();
        let got = memory.got.as_ref().filter(|got| token.is_some_and(|token| token.access == got.access));
        let was_good = got.is_none_or(|got| got.uses > got.refusals || got.when.elapsed() > LATELY);
        (was_good, memory.logged_in.is_some_and(|when| when.elapsed() < LATELY))
    }

    /// The token is good, and may do too little.
    pub(super) async fn step_up(
        &self,
        sent: Option<String>,
        challenge: Option<Challenge>,
        operation: Operation,
    ) -> Result<bool, AuthError> {
        let _one = self.settling.lock().await;
        let token = self.stored().await;
        if let Some(newer) = token.as_ref().filter(|token| is_newer(token, sent.as_deref())) {
            self.remember(newer);
            return Ok(true);
        }
        let needed =
            challenge.as_ref().and_then(|challenge| challenge.get("scope")).map(scope::split).unwrap_or_default();
        let has = token.as_ref().map(|token| token.scopes.clone()).unwrap_or_default();
        let names = needed.join(" ");
        if needed.iter().all(|scope| has.contains(scope)) {
            // Asking again for what is there changes nothing.
            return Err(AuthError::needed(format!(
                "the server finds the scope insufficient (HTTP 403), though the token has what it names: {names}"
            )));
        }
        {
            let mut memory = self.memory();
            if memory.steps.len() >= OPERATIONS_MAX {
                memory.steps.clear();
            }
            let tried = memory.steps.entry(operation).or_default();
            if *tried >= STEPS_MAX {
                let why = format!("the scope is insufficient (HTTP 403), and is not granted: {names}");
                return Err(AuthError::needed(why));
            }
            *tried += 1;
        }
        if self.spec.settings.grant == Grant::ClientCredentials {
            self.client_credentials(challenge.as_ref(), sent.as_deref()).await?;
            return Ok(true);
        }
        let known = token.as_ref().map(|token| token.issuer.as_str());
        let found = discovery::discover(&self.http, &self.spec, challenge.as_ref(), known).await?;
        self.log_in(found, challenge.as_ref(), &has).await
    }
}

/// Is it another one than that which was sent, and worth sending?
fn is_newer(token: &Token, sent: Option<&str>) -> bool {
    sent != Some(token.access.expose()) && token.is_alive(now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::store::Method;

    #[test]
    fn f112_a_refusal_leads_on_and_never_round() {
        let token = |origin, refresh: bool| Token {
            issuer: "i".into(),
            access: "a".into(),
            refresh: refresh.then(|| "r".into()),
            expires_at: None,
            obtained_at: 0,
            origin,
            scopes: Vec::new(),
            resource: String::new(),
            client_id: String::new(),
            method: Method::None,
            token_endpoint: String::new(),
            revocation_endpoint: None,
        };
        let check = |token: Option<Token>, same_issuer, was_good, logged_in, expected| {
            let found = next(token.as_ref(), same_issuer, was_good, logged_in);
            assert_eq!(found, expected, "{token:?} {same_issuer} {was_good} {logged_in}");
        };
        check(None, true, true, false, Next::Anew);
        check(Some(token(Origin::Login, true)), true, true, true, Next::Refresh);
        check(Some(token(Origin::Login, true)), true, false, true, Next::Refresh);
        check(Some(token(Origin::Login, false)), true, true, true, Next::Anew);
        check(Some(token(Origin::Login, false)), true, false, true, Next::GiveUp);
        check(Some(token(Origin::Refresh, true)), true, true, true, Next::Refresh);
        check(Some(token(Origin::Refresh, true)), true, false, false, Next::Anew);
        check(Some(token(Origin::Refresh, true)), true, false, true, Next::GiveUp);
        check(Some(token(Origin::ClientCredentials, false)), true, false, false, Next::GiveUp);
        check(Some(token(Origin::ClientCredentials, false)), true, true, false, Next::Anew);
        check(Some(token(Origin::Given, false)), true, true, false, Next::Anew);
        // P66: another issuer's token is not worth a thought.
        check(Some(token(Origin::Login, true)), false, false, true, Next::Anew);
        check(Some(token(Origin::Login, false)), false, true, false, Next::Anew);
    }

    #[test]
    fn p68_an_operation_is_its_name_and_its_scopes() {
        let of = |method: &'static str, header: &str| {
            let sent = HeaderMap::from_iter([("mcp-method".parse().unwrap(), method.parse().unwrap())]);
            Operation::of(&sent, crate::auth::challenge::parse(header).first())
        };
        assert_eq!(of("a", r#"Bearer scope="x y""#), of("a", r#"Bearer scope="y x", error=z"#));
        assert_ne!(of("a", r#"Bearer scope="x""#), of("b", r#"Bearer scope="x""#));
        assert_ne!(of("a", r#"Bearer scope="x""#), of("a", r#"Bearer scope="y""#));
    }
}
