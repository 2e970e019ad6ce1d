//! What the commands ask: log in, what is there, log out, and the registration of our client.

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::{Grant, OAuth, challenge, discovery, http::Fault, registration, token};
use crate::auth::{
    AuthError,
    store::{Lock, Record, Registration, Secret, Token},
};

impl OAuth {
    /// Logs in now, whatever is there. The headers are those that the server wants besides.
    pub async fn login(&self, headers: &HeaderMap) -> Result<(), AuthError> {
        let answer = self.http.probe(headers).await?;
        let challenge = challenge::bearer(&answer.headers);
        let spec = &self.spec;
        if answer.status.is_success() && !discovery::is_announced(&self.http, spec).await? {
            return Err(AuthError::needed("the server answers without a login, and names nobody to log in with"));
        }
        let known = self.stored().await;
        if spec.settings.grant == Grant::ClientCredentials {
            let refused = known.as_ref().map(|token| token.access.expose());
            self.client_credentials(challenge.as_ref(), refused).await?;
            return Ok(());
        }
        let found = discovery::discover(
            &self.http,
            spec,
            challenge.as_ref(),
            known.as_ref().map(|token| token.issuer.as_str()),
        )
        .await?;
        self.log_in(found, challenge.as_ref(), &[]).await.map(drop)
    }

    /// The login as variables of a shell, secrets included: for another program that takes them.
    pub async fn variables(&self) -> Vec<(&'static str, String)> {
        let record = self.entry.read().await;
        let Some(token) = record.token.clone().or_else(|| self.given()) else { return Vec::new() };
        let known = record.registrations.get(&token.issuer);
        let secret = |secret: &Secret| secret.expose().to_owned();
        let all = [
            ("MCP_CLIENT_ACCESS_TOKEN", Some(secret(&token.access))),
            ("MCP_CLIENT_REFRESH_TOKEN", token.refresh.as_ref().map(secret)),
            ("OAUTH_TOKEN_EXPIRES_AT", token.expires_at.map(|at| at.to_string())),
            ("MCP_CLIENT_ID", Some(token.client_id.clone())),
            ("MCP_CLIENT_SECRET", known.and_then(|known| known.client_secret.as_ref()).map(secret)),
            ("MCP_CLIENT_REGISTRATION_TOKEN", known.and_then(|known| known.access_token.as_ref()).map(secret)),
            ("MCP_CLIENT_REGISTRATION_URI", known.and_then(|known| known.uri.clone())),
        ];
        let set =
            |(name, value): (&'static str, Option<String>)| Some((name, value.filter(|value| !value.is_empty())?));
        all.into_iter().filter_map(set).collect()
    }

    /// What is there, with nothing in it that is secret.
    pub async fn status(&self) -> Value {
        let record = self.entry.read().await;
        let token = record.token.clone().or_else(|| self.given());
        let time = super::now();
        let clients: Vec<Value> = record
            .registrations
            .iter()
            .map(|(issuer, known)| {
                let managed = known.uri.is_some() && known.access_token.is_some();
                json!({"issuer": issuer, "client_id": known.client_id, "redirect_uri": known.redirect_uri,
                    "issued_at": known.issued_at, "managed": managed})
            })
            .collect();
        let state = match &token {
            None => "none",
            Some(token) if token.is_alive(time) => "valid",
            Some(token) if token.refresh.is_some() => "refreshable",
            Some(_) => "expired",
        };
        json!({
            "server": record.server,
            "state": state,
            "token": token.map(|token| json!({
                "issuer": token.issuer, "scopes": token.scopes, "resource": token.resource,
                "client_id": token.client_id, "origin": token.origin, "expires_at": token.expires_at,
                "obtained_at": token.obtained_at, "refresh_token": token.refresh.is_some(),
            })),
            "clients": clients,
            "file": self.entry.path().map(|path| path.display().to_string()),
        })
    }

    /// Forgets everything, and tells the authorization server: tokens are revoked (RFC 7009) and our client is deleted
    /// (RFC 7592), as far as it offers that. Gives what could not be done there.
    pub async fn logout(&self) -> Vec<String> {
        let _one = self.exchange.lock().await;
        let _one_of_all = self.entry.lock(Lock::Exchange).await;
        let record = self.entry.read().await;
        let mut undone = Vec::new();
        if let Some(token) = &record.token
            && let Err(fault) = self.revoke(token, &record).await
        {
            undone.push(format!("the tokens are not revoked: {fault}"));
        }
        for (issuer, known) in record.registrations.iter().filter(|(_, known)| known.uri.is_some()) {
            if let Err(fault) = registration::delete(&self.http, known).await {
                undone.push(format!("the client at {issuer} is not deleted: {fault}"));
            }
        }
        self.entry.erase().await;
        self.memory().token = None;
        undone
    }

    async fn revoke(&self, token: &Token, record: &Record) -> Result<(), Fault> {
        let Some(endpoint) = &token.revocation_endpoint else { return Ok(()) };
        let endpoint = self.http.checked(endpoint).await?;
        let (issuer, identity) = self.asks(token, record).await?;
        let both = [("refresh_token", token.refresh.as_ref()), ("access_token", Some(&token.access))];
        for (kind, secret) in both.into_iter().filter_map(|(kind, secret): (_, Option<&Secret>)| Some((kind, secret?)))
        {
            let form = vec![("token", secret.expose().to_owned()), ("token_type_hint", kind.to_owned())];
            token::post(&self.http, &endpoint, &issuer.name, &identity, form).await?;
        }
        Ok(())
    }

    /// The registration that the commands are about: that of the token, else the only one, else one from outside.
    async fn client(&self) -> Result<(String, Registration), Fault> {
        let record = self.entry.read().await;
        let issuer = record.token.as_ref().map(|token| token.issuer.clone());
        let mut all = record.registrations.into_iter();
        let of_token = |known: &(String, Registration)| issuer.as_ref().is_none_or(|issuer| *issuer == known.0);
        all.find(of_token)
            .or_else(|| Some((String::new(), registration::given(&self.spec.settings)?)))
            .ok_or_else(|| Fault::wrong("no client of ours is registered for this server"))
    }

    /// What the authorization server knows of our client (RFC 7592), without its secrets.
    pub async fn client_show(&self) -> Result<Value, AuthError> {
        let (issuer, known) = self.client().await?;
        let (told, known) = registration::read(&self.http, &known).await?;
        self.keep_own(&issuer, known).await;
        Ok(without_secrets(told))
    }

    /// Changes fields of it; see [`registration::parse_change`].
    pub async fn client_update(&self, change: &[(String, Value)]) -> Result<Value, AuthError> {
        let (issuer, known) = self.client().await?;
        let (told, known) = registration::update(&self.http, &known, change).await?;
        self.keep_own(&issuer, known).await;
        Ok(without_secrets(told))
    }

    /// Deletes it for good, and with it what it was given.
    pub async fn client_delete(&self) -> Result<(), AuthError> {
        let (issuer, known) = self.client().await?;
        registration::delete(&self.http, &known).await?;
        let _one_of_all = self.entry.lock(Lock::Exchange).await;
        let mut record = self.entry.read().await;
        record.registrations.remove(&issuer);
        record.token = record.token.filter(|token| token.client_id != known.client_id);
        self.entry.write(record).await;
        self.memory().token = None;
        Ok(())
    }

    /// What came from outside is kept there.
    async fn keep_own(&self, issuer: &str, known: Registration) {
        if !issuer.is_empty() {
            self.keep_client(issuer, known).await;
        }
    }
}

fn without_secrets(mut told: Value) -> Value {
    if let Some(fields) = told.as_object_mut() {
        fields.remove("client_secret");
        fields.remove("registration_access_token");
    }
    told
}
