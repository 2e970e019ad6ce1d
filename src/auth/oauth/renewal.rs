//! A new token without a person: by a refresh token, or for the client itself.

use super::{
    OAuth,
    discovery::{self, Found, Issuer},
    http::Fault,
    now, registration,
    scope::{self, Known},
    token::{self, Granted, Identity},
};
use crate::auth::{
    challenge::Challenge,
    store::{Lock, Origin, Record, Token},
};

impl OAuth {
    /// Exchanges the refresh token of a token that is not good any more, unless somebody has done so. `None`: there is
    /// none, or it is used up.
    pub(super) async fn refresh(&self, stale: &Token) -> Result<Option<Token>, Fault> {
        let _one = self.exchange.lock().await;
        if let Some(newer) = self.memory().token.clone()
            && newer.access != stale.access
            && newer.is_fresh(now())
        {
            return Ok(Some(newer));
        }
        let _one_of_all = self.entry.lock(Lock::Exchange).await;
        let mut tried = None;
        // Twice, if a process that takes no lock was faster.
        for _ in 0..2 {
            let mut record = self.entry.read().await;
            let from = record.token.clone().unwrap_or_else(|| stale.clone());
            if from.access != stale.access && from.is_fresh(now()) {
                self.remember(&from);
                return Ok(Some(from));
            }
            let Some(refresh) = from.refresh.clone().filter(|refresh| tried.as_ref() != Some(refresh)) else {
                break;
            };
            let (issuer, identity) = self.asks(&from, &record).await?;
            let mut form =
                vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", refresh.expose().to_owned())];
            if !from.resource.is_empty() {
                form.push(("resource", from.resource.clone()));
            }
            let endpoint = token::endpoint(&issuer)?;
            let fault = match token::ask(&self.http, endpoint, &issuer.name, &identity, form).await {
                Ok(granted) => {
                    let mut token = issued(granted, &issuer, &identity, &from.resource, &from.scopes, Origin::Refresh)?;
                    token.refresh = token.refresh.or(Some(refresh));
                    token.revocation_endpoint = token.revocation_endpoint.or(from.revocation_endpoint);
                    record.token = Some(token.clone());
                    self.entry.write(record).await;
                    self.got(&token);
                    return Ok(Some(token));
                }
                Err(fault) => fault,
            };
            if fault.is("invalid_client") || fault.is("unauthorized_client") {
                // The client is gone there: with it whatever it was given.
                record.registrations.remove(&issuer.name);
            } else if !fault.is("invalid_grant") {
                // It may work the next time, and nothing is lost until then.
                return Err(fault);
            }
            tracing::info!("the refresh token for {} is used up: {fault}", self.spec.server);
            let again = self.entry.read().await;
            let rotated = again.token.as_ref().is_some_and(|token| token.refresh.as_ref() != Some(&refresh));
            if !rotated {
                record.token = Some(Token { refresh: None, ..from });
                self.entry.write(record).await;
                break;
            }
            tried = Some(refresh);
        }
        Ok(None)
    }

    /// Whom a token is renewed by, and as which client.
    pub(super) async fn asks(&self, from: &Token, record: &Record) -> Result<(Issuer, Identity), Fault> {
        let settings = &self.spec.settings;
        let issuer = match from.token_endpoint.is_empty() {
            true => discovery::discover(&self.http, &self.spec, None, None).await?.issuer,
            false => Issuer {
                name: from.issuer.clone(),
                token: Some(self.http.checked(&from.token_endpoint).await?),
                ..Issuer::default()
            },
        };
        let known = record.registrations.get(&issuer.name).filter(|known| known.client_id == from.client_id);
        let by_hand = registration::by_hand(settings, &issuer).filter(|client| client.id == from.client_id);
        let identity = match (by_hand, known) {
            (Some(client), _) if from.token_endpoint.is_empty() => client,
            (Some(client), _) => Identity { method: from.method, ..client },
            (None, Some(known)) => registration::registered(known),
            (None, None) => registration::public(from.client_id.clone()),
        };
        Ok((issuer, identity))
    }

    /// A token for the client itself; one that another process has just got is as good. `refused` is not.
    pub(super) async fn client_credentials(
        &self,
        challenge: Option<&Challenge>,
        refused: Option<&str>,
    ) -> Result<Token, Fault> {
        let _one = self.exchange.lock().await;
        let _one_of_all = self.entry.lock(Lock::Exchange).await;
        let before = self.entry.read().await.token;
        if let Some(token) = before.clone()
            && Some(token.access.expose()) != refused
            && token.is_fresh(now())
        {
            self.remember(&token);
            return Ok(token);
        }
        let found = discovery::discover(&self.http, &self.spec, challenge, None).await?;
        let Found { resource, scopes, issuer } = &found;
        let Some(identity) = registration::by_hand(&self.spec.settings, issuer) else {
            return Err(Fault::wrong("client credentials need the id and the secret, or the key, of a client"));
        };
        let wanted = scope::wanted(Known {
            configured: self.spec.settings.scopes.as_deref(),
            challenged: challenge.and_then(|challenge| challenge.get("scope")),
            missing: challenge.is_some_and(Challenge::wants_scope),
            resource: scopes.as_deref(),
            before: before.as_ref().filter(|token| token.issuer == issuer.name).map_or(&[], |token| &token.scopes),
            // A client needs no refresh token.
            issuer: &[],
        });
        let mut form = vec![("grant_type", "client_credentials".to_owned()), ("resource", resource.clone())];
        if !wanted.is_empty() {
            form.push(("scope", wanted.join(" ")));
        }
        let granted = token::ask(&self.http, token::endpoint(issuer)?, &issuer.name, &identity, form).await?;
        let token = issued(granted, issuer, &identity, resource, &wanted, Origin::ClientCredentials)?;
        self.keep(&token).await;
        Ok(token)
    }
}

/// A token as it is kept.
pub(super) fn issued(
    granted: Granted,
    issuer: &Issuer,
    identity: &Identity,
    resource: &str,
    asked: &[String],
    origin: Origin,
) -> Result<Token, Fault> {
    let time = now();
    Ok(Token {
        issuer: issuer.name.clone(),
        access: granted.access,
        refresh: granted.refresh,
        expires_at: granted.expires_in.map(|seconds| time.saturating_add(seconds)),
        obtained_at: time,
        origin,
        scopes: granted.scopes.unwrap_or_else(|| asked.to_vec()),
        resource: resource.to_owned(),
        client_id: identity.id.clone(),
        method: identity.method,
        token_endpoint: token::endpoint(issuer)?.to_string(),
        revocation_endpoint: issuer.revocation.as_ref().map(ToString::to_string),
    })
}
